package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"time"

	"sallyport"
	"sallyport/audit"
)

// Reading the log is itself recorded: who read what, how much and why, before
// the first byte of the answer. What a reading records is not in its answer, so
// reading one's own readings comes to an end.

// OperatorID is who runs the gateway, where no person is named.
const OperatorID = "operator"

const readStep = "read log"

// MaxWhat bounds what the log is said to be read for, in bytes.
const MaxWhat = 1000

// An answer of at most this size is put together before it is recorded, so that
// its record holds how many records it has. A larger one is recorded as begun
// and, with the number, as ended.
const (
	readAhead      = 256
	readAheadBytes = 4 << 20 // of details, give or take one
)

// LogQuery is what somebody asks of the log.
type LogQuery struct {
	Filter audit.Filter `json:"filter"`
	What   string       `json:"what,omitempty"` // what it is for: ls, policy replay, export csv
	Why    string       `json:"why,omitempty"`  // in the reader's words
	// Openings: what opens the records' commitments goes along, to prove to others
	// what they say.
	Openings bool `json:"openings,omitempty"`
}

// logRead is the detail of a reading's records.
type logRead struct {
	What    string         `json:"what"`
	Filter  map[string]any `json:"filter"`
	Size    uint64         `json:"size"`              // of the log then
	Records *uint64        `json:"records,omitempty"` // that were read
	Opened  bool           `json:"openings,omitempty"`
	Cut     string         `json:"cut,omitempty"` // why it ended early
}

// filterWords is a filter as a record states it. Nothing: all records.
func filterWords(f audit.Filter) map[string]any {
	out := map[string]any{}
	for name, v := range map[string]string{"job": string(f.Job), "dataset": f.Dataset, "subject": f.Subject, "project": f.Project,
		"node": f.Node, "step": f.Step, "decision": f.Decision, "rule": f.Rule, "purpose": f.Purpose, "lease": f.Lease, "text": f.Text} {
		if v != "" {
			out[name] = v
		}
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			out[name] = t.UTC()
		}
	}
	for name, n := range map[string]uint64{"from": f.From, "before": f.Before, "limit": uint64(max(0, f.Limit))} {
		if n != 0 {
			out[name] = n
		}
	}
	if f.Newest {
		out["newest_first"] = true
	}
	return out
}

// ReadLog yields the records that somebody asked for, once it is on record that
// they did: nothing is answered that could not be recorded. An answer that is
// long has its end recorded too, however it ends. Whether they may is the
// caller's to decide.
func ReadLog(ctx context.Context, l *audit.Log, now func() time.Time, by Subject, q LogQuery) (iter.Seq2[audit.Record, error], error) {
	f, size := q.Filter, l.Size()
	e, err := readEntry(now, by, q)
	if err != nil {
		return nil, err
	}
	said := logRead{What: q.What, Filter: filterWords(f), Size: size, Opened: q.Openings}
	var first []audit.Record
	short := true
	if f.Before == 0 || f.Before > size {
		f.Before = size // 0 would be no bound; an empty log has nothing to read
	}
	if size > 0 {
		bytes := 0
		for r, err := range l.Records(ctx, f) {
			if err != nil {
				return nil, err
			}
			if len(first) == readAhead || bytes > readAheadBytes {
				short = false
				break
			}
			first, bytes = append(first, r), bytes+len(r.Entry.Detail)
		}
	}
	if short {
		n := uint64(len(first))
		said.Records = &n
		if err := appendRead(ctx, l, e, said); err != nil {
			return nil, err
		}
		return func(yield func(audit.Record, error) bool) {
			for _, r := range first {
				if !yield(r, nil) {
					return
				}
			}
		}, nil
	}
	e.Phase = audit.Intent
	if err := appendRead(ctx, l, e, said); err != nil {
		return nil, err
	}
	return func(yield func(audit.Record, error) bool) {
		var n uint64
		end := func(cut string) error {
			e.Time, e.Phase, said.Records, said.Cut = now().UTC(), audit.Outcome, &n, cut
			return appendRead(context.WithoutCancel(ctx), l, e, said)
		}
		for r, err := range l.Records(ctx, f) {
			if err != nil {
				yield(r, errors.Join(err, end(string(sallyport.KindOf(err)))))
				return
			}
			n++
			if !yield(r, nil) {
				// The reader went away; nobody is there to be told of an error.
				_ = end("the reader ended it")
				return
			}
		}
		if err := end(""); err != nil {
			yield(audit.Record{}, err)
		}
	}, nil
}

func readEntry(now func() time.Time, by Subject, q LogQuery) (audit.Entry, error) {
	e := audit.Entry{Time: now().UTC(), Step: readStep, Phase: audit.Note, Subject: by.ID, Credential: by.Credential, Roles: by.Roles, Trace: newTrace()}
	if by.ID == "" {
		return e, sallyport.Errorf(readStep, sallyport.Denied, "", "nobody may read the log unnamed")
	}
	if q.Why != "" {
		if err := checkReason(readStep, q.Why); err != nil {
			return e, err
		}
		e.Reasons = []string{q.Why}
	}
	if len(q.What) > MaxWhat {
		return e, sallyport.Errorf(readStep, sallyport.Invalid, "", "what the log is read for is said in at most %d bytes", MaxWhat)
	}
	return e, nil
}

func appendRead(ctx context.Context, l *audit.Log, e audit.Entry, said logRead) error {
	b, err := json.Marshal(said)
	if err != nil {
		return sallyport.E(readStep, sallyport.Internal, err, "")
	}
	e.Detail = b
	if _, err := l.Append(ctx, e); err != nil {
		return sallyport.E(readStep, sallyport.KindOf(err), errors.Join(errors.New("no record, no answer"), err), sallyport.HintOf(err))
	}
	return nil
}

// newTrace returns a fresh W3C trace ID.
func newTrace() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// timelineSide bounds a timeline before and after its record.
const timelineSide = 100

// Shown is one record with what explains it.
type Shown struct {
	Record audit.Record `json:"record"`
	// Timeline is what the log has of the same job, oldest first, this record
	// among it, without details. Earlier and Later say that there is more.
	Timeline []audit.Record `json:"timeline,omitempty"`
	Earlier  bool           `json:"earlier,omitempty"`
	Later    bool           `json:"later,omitempty"`
	Leaf     string         `json:"leaf"`       // canonical, as the tree holds it
	Path     []string       `json:"path"`       // inclusion proof, RFC 6962, 2.1.1
	Signed   string         `json:"checkpoint"` // that it leads to
	Key      string         `json:"key"`        // the log's verifier key
	Reviewed *SignedOff     `json:"reviewed,omitempty"`
	Marks    []Mark         `json:"marks,omitempty"` // notes and flags on it
}

// ShowRecord returns one record with its job's timeline, its proof, and what
// reviewers said of it; the look is on record.
func ShowRecord(ctx context.Context, l *audit.Log, now func() time.Time, by Subject, seq uint64, why string) (Shown, error) {
	if size := l.Size(); seq >= size {
		return Shown{}, sallyport.Errorf("show record", sallyport.NotFound, "`sallyport audit ls` shows the numbers.", "there is no record %d: the log has %d", seq, size)
	}
	if _, err := ReadLog(ctx, l, now, by, LogQuery{Filter: audit.Filter{From: seq, Before: seq + 1}, What: "show", Why: why}); err != nil {
		return Shown{}, err
	}
	return ExplainRecord(ctx, l, seq)
}

// ExplainRecord is [ShowRecord] of a log that nobody keeps, such as a copy.
func ExplainRecord(ctx context.Context, l *audit.Log, seq uint64) (out Shown, err error) {
	if out.Record, err = l.Get(seq); err != nil {
		return Shown{}, err
	}
	if job := out.Record.Entry.Job; job != "" {
		var before, after []audit.Record
		if seq > 0 {
			if before, out.Earlier, err = some(ctx, l, audit.Filter{Job: job, Before: seq, Newest: true, Limit: timelineSide + 1}); err != nil {
				return Shown{}, err
			}
			slices.Reverse(before)
		}
		if after, out.Later, err = some(ctx, l, audit.Filter{Job: job, From: seq + 1, Limit: timelineSide + 1}); err != nil {
			return Shown{}, err
		}
		this := out.Record
		this.Entry.Detail = nil
		out.Timeline = slices.Concat(before, []audit.Record{this}, after)
	}
	if out.Reviewed, err = signedOver(ctx, l, seq); err != nil {
		return Shown{}, err
	}
	marks, err := marks(ctx, l, 0)
	if err != nil {
		return Shown{}, err
	}
	for _, m := range marks {
		if m.Record == seq {
			out.Marks = append(out.Marks, m)
		}
	}
	return out, out.prove(l, seq)
}

// prove fills in what shows that the record is in the log.
func (s *Shown) prove(l *audit.Log, seq uint64) error {
	p, err := ProveRecord(l, seq)
	s.Leaf, s.Path, s.Signed, s.Key = string(p.Extra), audit.FormatHashes(p.Path), p.Checkpoint, l.VerifierKey()
	return err
}

// ProveRecord proves that a record is in the log as its checkpoint has it now.
// A proof holds nothing of the record's content.
func ProveRecord(l *audit.Log, seq uint64) (audit.Proof, error) { return l.Prove(seq, "") }

// some returns what matches without its details, and whether there is more than
// [timelineSide].
func some(ctx context.Context, l *audit.Log, f audit.Filter) (out []audit.Record, more bool, err error) {
	for r, err := range l.Records(ctx, f) {
		if err != nil {
			return nil, false, err
		}
		r.Entry.Detail = nil
		out = append(out, r)
	}
	if len(out) > timelineSide {
		return out[:timelineSide], true, nil
	}
	return out, false, nil
}

// OpenRecord returns what opens the commitment of a record; the look is on record.
func OpenRecord(ctx context.Context, l *audit.Log, now func() time.Time, by Subject, seq uint64, what, why string) (audit.Opening, error) {
	o, err := l.Opening(seq)
	if err != nil {
		return o, err
	}
	_, err = ReadLog(ctx, l, now, by, LogQuery{Filter: audit.Filter{From: seq, Before: seq + 1}, What: what, Why: why})
	return o, err
}

// MayReadLog refuses who may not read the log, and records that they tried.
func (g *Gateway) MayReadLog(ctx context.Context, by Subject) error {
	return g.officerMay(ctx, by, "audit:read", readStep)
}

// ReadLog is [ReadLog] of the gateway's log.
func (g *Gateway) ReadLog(ctx context.Context, by Subject, q LogQuery) (iter.Seq2[audit.Record, error], error) {
	return ReadLog(ctx, g.parts.Audit, g.parts.Now, by, q)
}

// ShowRecord is [ShowRecord] of the gateway's log.
func (g *Gateway) ShowRecord(ctx context.Context, by Subject, seq uint64, why string) (Shown, error) {
	return ShowRecord(ctx, g.parts.Audit, g.parts.Now, by, seq, why)
}

// OpenRecord is [OpenRecord] of the gateway's log.
func (g *Gateway) OpenRecord(ctx context.Context, by Subject, seq uint64, what, why string) (audit.Opening, error) {
	return OpenRecord(ctx, g.parts.Audit, g.parts.Now, by, seq, what, why)
}
