package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/audit"
)

// Officers review the log in ranges: they note, flag, and sign off from where
// the last sign-off ended. What nobody signed for is a number that everybody
// may ask for.

const (
	noteStep   = "note record"
	flagStep   = "flag record"
	unflagStep = "unflag record"
	signStep   = "sign off log"
)

// Mark is what a reviewer said of one record.
type Mark struct {
	Seq    uint64    `json:"seq"` // of the record that says so
	Record uint64    `json:"record"`
	Kind   string    `json:"kind"` // note, flag, unflag
	By     string    `json:"by"`
	Text   string    `json:"text"`
	Time   time.Time `json:"time"`
	Open   bool      `json:"open,omitempty"` // a flag that nobody took back
}

type marked struct {
	Record uint64 `json:"record"`
}

// SignedOff is a sign-off with its place in the log.
type SignedOff struct {
	Seq uint64 `json:"seq"` // of the record that says so
	audit.SignOff
	Signed audit.SignedRange `json:"signed"`
	Own    uint64            `json:"own"` // records of the range that are of who signed it
}

// signedOff is the detail of a sign-off's record.
type signedOff struct {
	Signed  audit.SignedRange `json:"signed"`
	SignOff audit.SignOff     `json:"sign_off"`
	Counts  LogCounts         `json:"counts"`
	Own     uint64            `json:"own"`
}

// LogCounts is what a range of the log holds. An act counts once, by its
// outcome. A record can count more than once.
type LogCounts struct {
	Records   uint64 `json:"records"`
	Denied    uint64 `json:"denied"`
	Failed    uint64 `json:"failed"`
	Overrides uint64 `json:"overrides"`      // exceptions asked for, approved and ended; keys destroyed by hand
	Exports   uint64 `json:"exports"`        // keys handed over, results given out
	Policy    uint64 `json:"policy_changes"` // of rules, and of the data that they decide by
	Looks     uint64 `json:"looks"`          // at data, and at results that wait for review
	Reads     uint64 `json:"log_reads"`
	Unread    uint64 `json:"unreadable"` // sealed or erased: only step and time are known
}

// count adds a record.
func (c *LogCounts) count(r audit.Record) {
	e := r.Entry
	c.Records++
	if r.Sealed || r.Erased != nil {
		c.Unread++
	}
	if e.Phase == audit.Intent {
		return
	}
	switch e.Decision {
	case "deny":
		c.Denied++
	case "error":
		c.Failed++
	}
	switch step := e.Step; {
	case strings.Contains(step, "exception"), step == "destroy key":
		c.Overrides++
	case e.Decision != "error" && (strings.HasPrefix(step, "hand over") || step == "keep"):
		c.Exports++
	case strings.Contains(step, "policy"), strings.HasSuffix(step, "grant"), strings.HasSuffix(step, "consent"):
		c.Policy++
	case step == "look", step == "list", step == "prepare", strings.HasPrefix(step, "look at "):
		c.Looks++
	case step == readStep:
		c.Reads++
	}
}

// LogReview is how the review of the log stands.
type LogReview struct {
	From   uint64    `json:"from"`           // first record that nobody signed for
	To     uint64    `json:"to"`             // one more than the last
	Since  time.Time `json:"since,omitzero"` // of the last sign-off
	Counts LogCounts `json:"unreviewed"`     // of the records between
	// What follows is for those who may read the log.
	People map[string]uint64 `json:"people,omitempty"` // records of each
	Flags  []Mark            `json:"flags,omitempty"`  // open ones, over the whole log
	Notes  []Mark            `json:"notes,omitempty"`  // on records that nobody signed for
	Last   *SignedOff        `json:"last,omitempty"`
	Key    string            `json:"key,omitempty"` // verifies sign-offs
}

// unreviewed is what was counted of the records since the last sign-off: a look
// at it reads only what came since the look before.
type unreviewed struct {
	mu       sync.Mutex // also held while somebody signs
	from, to uint64
	counts   LogCounts
	people   map[string]uint64
}

// countTo goes on with the count. u.mu is held.
func (u *unreviewed) countTo(ctx context.Context, l *audit.Log, from, to uint64) error {
	if u.people == nil || u.from != from || u.to > to {
		u.from, u.to, u.counts, u.people = from, from, LogCounts{}, map[string]uint64{}
	}
	if u.to >= to {
		return nil
	}
	for r, err := range l.Records(ctx, audit.Filter{From: u.to, Before: to}) {
		if err != nil {
			return err
		}
		u.counts.count(r)
		if r.Entry.Subject != "" {
			u.people[r.Entry.Subject]++
		}
		u.to = r.Seq + 1
	}
	return nil
}

// forget has the next look count anew.
func (u *unreviewed) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.people = nil
}

// LogReview returns how the review of the log stands: for everybody in numbers,
// for those who may read the log with who and what.
func (g *Gateway) LogReview(ctx context.Context, reader bool) (LogReview, error) {
	l := g.parts.Audit
	g.unreviewed.mu.Lock()
	defer g.unreviewed.mu.Unlock()
	last, err := lastSignOff(ctx, l)
	if err != nil {
		return LogReview{}, err
	}
	var out LogReview
	if last != nil {
		out.From, out.Since = last.To, last.Time
	}
	out.To = l.Size()
	u := &g.unreviewed
	if err := u.countTo(ctx, l, out.From, out.To); err != nil {
		return LogReview{}, err
	}
	out.Counts = u.counts
	if !reader {
		return out, nil
	}
	out.People, out.Last = maps.Clone(u.people), last
	all, err := marks(ctx, l, 0)
	if err != nil {
		return LogReview{}, err
	}
	for _, m := range all {
		if m.Open {
			out.Flags = append(out.Flags, m)
		}
		if m.Kind == "note" && m.Record >= out.From {
			out.Notes = append(out.Notes, m)
		}
	}
	if g.mayBeSigned() == nil {
		if out.Key, err = g.reviewKey(); err != nil {
			return LogReview{}, err
		}
	}
	return out, nil
}

// marks returns notes and flags in the order in which they were made, from a
// record on.
func marks(ctx context.Context, l *audit.Log, from uint64) (out []Mark, err error) {
	for _, step := range []string{noteStep, flagStep, unflagStep} {
		for r, err := range l.Records(ctx, audit.Filter{Step: step, From: from}) {
			if err != nil {
				return nil, err
			}
			if r.Sealed || r.Erased != nil {
				continue
			}
			var d marked
			if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
				return nil, sallyport.E("review log", sallyport.Damaged, err, "Run `sallyport audit verify`.")
			}
			kind, _, _ := strings.Cut(step, " ")
			out = append(out, Mark{Seq: r.Seq, Record: d.Record, Kind: kind, By: r.Entry.Subject, Text: strings.Join(r.Entry.Reasons, "; "), Time: r.Entry.Time})
		}
	}
	slices.SortFunc(out, func(a, b Mark) int { return int(int64(a.Seq) - int64(b.Seq)) })
	open := map[uint64]int{} // by record: the flag that is open
	for i, m := range out {
		switch m.Kind {
		case "flag":
			if _, ok := open[m.Record]; !ok {
				open[m.Record], out[i].Open = i, true
			}
		case "unflag":
			if j, ok := open[m.Record]; ok {
				out[j].Open = false
				delete(open, m.Record)
			}
		}
	}
	return out, nil
}

// MarkRecord puts a reviewer's note, flag or unflag on a record.
func (g *Gateway) MarkRecord(ctx context.Context, by Subject, kind string, seq uint64, text string) (audit.Receipt, error) {
	step, ok := map[string]string{"note": noteStep, "flag": flagStep, "unflag": unflagStep}[kind]
	if !ok {
		return audit.Receipt{}, sallyport.Errorf("review log", sallyport.Invalid, "", "a record can be noted, flagged and unflagged, not %q", kind)
	}
	if err := g.officerMay(ctx, by, "audit:read", step); err != nil {
		return audit.Receipt{}, err
	}
	if err := checkReason(step, text); err != nil {
		return audit.Receipt{}, err
	}
	l := g.parts.Audit
	if size := l.Size(); seq >= size {
		return audit.Receipt{}, sallyport.Errorf(step, sallyport.NotFound, "`sallyport audit ls` shows the numbers.", "there is no record %d: the log has %d", seq, size)
	}
	g.unreviewed.mu.Lock() // so that a record is flagged and unflagged in turn
	defer g.unreviewed.mu.Unlock()
	if kind != "note" {
		all, err := marks(ctx, l, 0)
		if err != nil {
			return audit.Receipt{}, err
		}
		flagged := slices.ContainsFunc(all, func(m Mark) bool { return m.Open && m.Record == seq })
		switch {
		case kind == "flag" && flagged:
			return audit.Receipt{}, sallyport.Errorf(step, sallyport.Conflict, "Add a note to it.", "record %d is flagged already", seq)
		case kind == "unflag" && !flagged:
			return audit.Receipt{}, sallyport.Errorf(step, sallyport.NotFound, "`sallyport audit review` lists the flags.", "record %d is not flagged", seq)
		}
	}
	b, err := json.Marshal(marked{seq})
	if err != nil {
		return audit.Receipt{}, sallyport.E(step, sallyport.Internal, err, "")
	}
	return l.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: step, Phase: audit.Note, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Reasons: []string{text}, Trace: newTrace(), Detail: b})
}

// signOffs yields the log's sign-offs.
func signOffs(ctx context.Context, l *audit.Log, f audit.Filter) ([]SignedOff, error) {
	var out []SignedOff
	f.Step = signStep
	for r, err := range l.Records(ctx, f) {
		if err != nil {
			return nil, err
		}
		if r.Sealed || r.Erased != nil {
			continue
		}
		var d signedOff
		if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
			return nil, sallyport.E("review log", sallyport.Damaged, err, "Run `sallyport audit verify`.")
		}
		out = append(out, SignedOff{Seq: r.Seq, SignOff: d.SignOff, Signed: d.Signed, Own: d.Own})
	}
	return out, nil
}

func lastSignOff(ctx context.Context, l *audit.Log) (*SignedOff, error) {
	all, err := signOffs(ctx, l, audit.Filter{Newest: true, Limit: 1})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// signedOver returns the sign-off whose range a record is in, nil for none.
func signedOver(ctx context.Context, l *audit.Log, seq uint64) (*SignedOff, error) {
	all, err := signOffs(ctx, l, audit.Filter{From: seq + 1})
	for _, s := range all {
		if s.From <= seq && seq < s.To {
			return &s, err
		}
	}
	return nil, err
}

// SignOffs returns every sign-off, oldest first.
func (g *Gateway) SignOffs(ctx context.Context) ([]SignedOff, error) {
	return signOffs(ctx, g.parts.Audit, audit.Filter{})
}

// SignRequest asks to sign off what follows the last sign-off.
type SignRequest struct {
	// To is the last record of the range; nil: the last one there is.
	To      *uint64 `json:"to,omitempty"`
	Meaning string  `json:"meaning"` // what the signature says, e.g. "reviewed, nothing to object to"
}

// SignOffLog signs for the records since the last sign-off, and records that.
// Nobody may sign for a range in which only they acted.
func (g *Gateway) SignOffLog(ctx context.Context, by Subject, in SignRequest) (SignedOff, error) {
	const op = "sign off"
	if err := g.mayBeSigned(); err != nil {
		return SignedOff{}, err
	}
	if err := g.officerMay(ctx, by, "audit:read", signStep); err != nil {
		return SignedOff{}, err
	}
	if err := checkReason(op, in.Meaning); err != nil {
		return SignedOff{}, err
	}
	l := g.parts.Audit
	g.unreviewed.mu.Lock()
	defer g.unreviewed.mu.Unlock()
	last, err := lastSignOff(ctx, l)
	if err != nil {
		return SignedOff{}, err
	}
	s := audit.SignOff{To: l.Size(), Time: g.now(), Name: by.ID, Meaning: strings.TrimSpace(in.Meaning)}
	if last != nil {
		s.From, s.Previous = last.To, audit.DigestOfSignOff(last.Signed.SignOff)
	}
	if in.To != nil {
		if *in.To >= s.To {
			return SignedOff{}, sallyport.Errorf(op, sallyport.Invalid, "", "there is no record %d: the log has %d", *in.To, s.To)
		}
		s.To = *in.To + 1
	}
	if s.To <= s.From {
		return SignedOff{}, sallyport.Errorf(op, sallyport.Invalid, "Name a later record with --to, or leave it out.", "the records up to %d are signed off already", s.From-1)
	}
	var counted unreviewed // the count of everything would start anew
	if err := counted.countTo(ctx, l, s.From, s.To); err != nil {
		return SignedOff{}, err
	}
	own := counted.people[by.ID]
	if own > 0 && len(counted.people) == 1 {
		return SignedOff{}, sallyport.Errorf(op, sallyport.Denied, "Have another officer sign for it.", "in the records %d to %d only %s acted, and nobody reviews themselves", s.From, s.To-1, by.ID)
	}
	signed, err := l.SignRange(g.parts.Reviews, s)
	if err != nil {
		return SignedOff{}, err
	}
	key, err := g.reviewKey()
	if err != nil {
		return SignedOff{}, err
	}
	out := SignedOff{Signed: signed, Own: own}
	if out.SignOff, err = signed.Check(key, l.VerifierKey()); err != nil {
		return SignedOff{}, sallyport.E(op, sallyport.Internal, err, "")
	}
	b, err := json.Marshal(signedOff{Signed: signed, SignOff: out.SignOff, Counts: counted.counts, Own: own})
	if err != nil {
		return SignedOff{}, sallyport.E(op, sallyport.Internal, err, "")
	}
	rec, err := l.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: signStep, Phase: audit.Note, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Reasons: []string{out.Meaning}, Trace: newTrace(), Detail: b})
	if err != nil { // what cannot be recorded was not signed: nobody gets to see it
		return SignedOff{}, sallyport.E(op, sallyport.KindOf(err), errors.Join(errors.New("no record, no act"), err), sallyport.HintOf(err))
	}
	out.Seq = rec.Seq
	return out, nil
}

func (g *Gateway) mayBeSigned() error {
	if k := g.parts.Reviews; k.Seed == nil && k.Sign == nil {
		return sallyport.Errorf("sign off", sallyport.Unsupported, "Make the signing key named review with the issuer, and restart: docs/vault.md.", "this gateway has no key that signs reviews")
	}
	return nil
}

// reviewKey is the public key of sign-offs.
func (g *Gateway) reviewKey() (string, error) {
	signed, err := g.parts.Audit.Checkpoint()
	if err != nil {
		return "", err
	}
	cp, err := audit.ParseCheckpoint(signed, g.parts.Audit.VerifierKey())
	if err != nil {
		return "", err
	}
	return audit.ReviewKey(g.parts.Reviews, cp.Origin)
}

// Retire erases contents that are older than the site's rules of retention say.
// by is who asked for it; nobody, where it is the gateway's daily round.
func (g *Gateway) Retire(ctx context.Context, by Subject) (audit.Erased, error) {
	const step = "apply retention"
	if len(g.parts.Retention) == 0 {
		return audit.Erased{}, sallyport.Errorf(step, sallyport.Unsupported, "Set `retention:` in the configuration.", "this site keeps every record for good")
	}
	if by.ID != "" {
		if _, err := g.parts.Audit.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: step, Phase: audit.Note, Subject: by.ID, Credential: by.Credential,
			Roles: by.Roles, Trace: newTrace()}); err != nil {
			return audit.Erased{}, err
		}
	}
	return g.parts.Audit.Retain(ctx, g.parts.Retention)
}
