package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// Acts on the log itself are records as others are, at steps that nobody else
// can use. The act bucket lists them, so that what they amount to (holds,
// erased records, the signing key) is known without reading the whole log;
// [Verify] checks that the list is complete.
const (
	stepHold    = "hold records"
	stepRelease = "release hold"
	stepErase   = "erase records"      // intent: who and why; outcome: the tombstone
	stepRetire  = "retire records"     // the same, by age
	stepKey     = "change signing key" // the next checkpoint is signed by another key
)

var actRow = []byte{1}

func reserved(step string) bool {
	switch step {
	case stepHold, stepRelease, stepErase, stepRetire, stepKey:
		return true
	}
	return false
}

// holdDetail is what a hold says in its record. Subject is a key name.
type holdDetail struct {
	Subject  string `json:"subject,omitempty"`
	Dataset  string `json:"dataset,omitempty"`
	Project  string `json:"project,omitempty"`
	Approved string `json:"approved,omitempty"`
	Hold     uint64 `json:"hold,omitempty"` // of a release: the hold's number
}

// erasureDetail is what an erasure says before it is done: enough to finish it.
type erasureDetail struct {
	Subject  string   `json:"subject,omitempty"` // a key name
	Gen      string   `json:"generation,omitempty"`
	Approved string   `json:"approved,omitempty"`
	Basis    string   `json:"basis,omitempty"`
	Rules    []cutoff `json:"rules,omitempty"`
}

// cutoff is a rule of retention come to its day.
type cutoff struct {
	Step   string    `json:"step,omitempty"`
	Before time.Time `json:"before"`
}

// tombstone says which records an erasure took. It is kept clear, so that
// everybody can tell an erased record from a removed one.
type tombstone struct {
	Act     uint64 `json:"act"`               // the erasure's intent
	Subject string `json:"subject,omitempty"` // a key name
	Records uint64 `json:"records"`
	Ranges  string `json:"ranges"` // of numbers: 0-4,7
	More    bool   `json:"more,omitempty"`
}

// keyChange names the key that signs from the next checkpoint on.
type keyChange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// acts is what the acts on the log so far amount to. It is never changed, but
// replaced.
type acts struct {
	keys     []string // verifier keys, first to latest
	changed  []uint64 // the records that changed them
	erased   spans
	holds    map[uint64]holdDetail // in force, by number
	unclear  bool                  // an act that says what is held or begun cannot be read
	begun    *erasureDetail        // an erasure that has no tombstone yet
	begunSeq uint64
	last     uint64 // one more than the number of the last tombstone; 0: none
}

func (a *acts) key() string { return a.keys[len(a.keys)-1] }

func (a *acts) clone() *acts {
	b := *a
	b.keys, b.changed, b.erased, b.holds = slices.Clone(a.keys), slices.Clone(a.changed), slices.Clone(a.erased), maps.Clone(a.holds)
	return &b
}

// note takes the next act. js is nil where the content cannot be read.
func (a *acts) note(seq uint64, step string, phase Phase, js []byte) error {
	var e struct {
		Detail json.RawMessage `json:"detail"`
	}
	if js != nil {
		if err := json.Unmarshal(js, &e); err != nil {
			return err
		}
	}
	read := func(v any) error {
		if js == nil {
			return errNoKey
		}
		return strictJSON(e.Detail, v)
	}
	switch {
	case step == stepKey && phase == Intent: // who and why
	case step == stepKey:
		var k keyChange
		if err := read(&k); err != nil {
			return err
		}
		if k.From != a.key() || !readableKey(k.To) {
			return errors.New("it does not follow the key before")
		}
		a.keys, a.changed = append(a.keys, k.To), append(a.changed, seq)
	case step == stepHold || step == stepRelease:
		var h holdDetail
		if err := read(&h); errors.Is(err, errNoKey) {
			a.unclear = true
		} else if err != nil {
			return err
		} else if step == stepRelease {
			delete(a.holds, h.Hold)
		} else {
			a.holds[seq] = h
		}
	case phase == Intent:
		var d erasureDetail
		if err := read(&d); errors.Is(err, errNoKey) {
			a.begun, a.begunSeq, a.unclear = nil, seq, true
		} else if err != nil {
			return err
		} else {
			a.begun, a.begunSeq = &d, seq
		}
	default:
		var t tombstone
		if err := read(&t); err != nil {
			return err
		}
		found, err := parseRanges(t.Ranges, seq)
		if err != nil || t.Records != found.count() || t.Act >= seq {
			return errors.New("it does not say which records it stands for")
		}
		if a.erased, err = a.erased.with(found); err != nil {
			return err
		}
		if !t.More {
			a.begun = nil
		}
		a.last = seq + 1
	}
	return nil
}

func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// noteActs takes the acts of a batch that the writer made durable.
func (l *Log) noteActs(first uint64, batch []pending) {
	var a *acts
	for i, p := range batch {
		if !reserved(p.leaf.Step) {
			continue
		}
		if a == nil {
			a = l.acts.Load().clone()
		}
		if err := a.note(first+uint64(i), p.leaf.Step, p.leaf.Phase, p.plain[saltSize:]); err != nil {
			// The log wrote it a moment ago: a mistake in this program. What is
			// held is not known then.
			a.unclear = true
		}
	}
	if a != nil {
		l.acts.Store(a)
	}
}

// readActs reads the acts that the file lists, each held against its leaf.
func readActs(tx *bbolt.Tx, r rows, keys *keyring) (*acts, *fault) {
	a := &acts{keys: []string{text(tx, bucketAbout, keyVerifier)}, holds: map[uint64]holdDetail{}}
	cur := r.act.Cursor()
	for k, v := cur.First(); k != nil; k, v = cur.Next() {
		if len(k) != 8 || !bytes.Equal(v, actRow) {
			return a, &fault{damage: Added, explain: "a row among the log's own acts is none that this version writes"}
		}
		seq := binary.BigEndian.Uint64(k)
		l, err := parseLeaf(r.leaf.Get(k))
		if err != nil || l.Seq != seq || !reserved(l.Step) {
			return a, faultAt(seq, Changed, "record %d is listed as an act on the log, which its leaf does not say", seq)
		}
		body := r.body.Get(k)
		if body == nil {
			return a, faultAt(seq, Removed, "the content of record %d is missing", seq)
		}
		if sha256.Sum256(body) != l.Sealed {
			return a, faultAt(seq, Changed, "the content of record %d is not what its leaf commits to", seq)
		}
		salt, js, err := openBody(keys, body)
		if errors.Is(err, errNoKey) {
			js, err = nil, nil
		} else if err == nil && commitment(salt, js) != l.Body {
			err = errBody
		}
		if err == nil {
			err = a.note(seq, l.Step, l.Phase, js)
		}
		if err != nil {
			return a, faultAt(seq, Changed, "the content of record %d, an act on the log, makes no sense: %v", seq, err)
		}
	}
	return a, nil
}

// span is records from to to, both included, that the record tomb says are erased.
type span struct{ from, to, tomb uint64 }

// spans are in order and apart from each other. Memory: 24 bytes a span.
type spans []span

// find returns the tombstone of an erased record.
func (s spans) find(seq uint64) (tomb uint64, ok bool) {
	i, _ := slices.BinarySearchFunc(s, seq, func(x span, seq uint64) int { return cmp.Compare(x.to, seq) })
	if i < len(s) && s[i].from <= seq {
		return s[i].tomb, true
	}
	return 0, false
}

// add takes the next number, larger than all before.
func (s spans) add(seq uint64) spans {
	if n := len(s); n > 0 && s[n-1].to+1 == seq {
		s[n-1].to = seq
		return s
	}
	return append(s, span{from: seq, to: seq})
}

func (s spans) count() (n uint64) {
	for _, x := range s {
		n += x.to - x.from + 1
	}
	return n
}

// with returns s and t together: nothing is erased twice.
func (s spans) with(t spans) (spans, error) {
	out := slices.Concat(s, t)
	slices.SortFunc(out, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(out); i++ {
		if out[i-1].to >= out[i].from {
			return nil, fmt.Errorf("record %d would be erased twice", out[i].from)
		}
	}
	return out, nil
}

// meets says whether a record of [from, to) is among those erased by
// tombstones from number since on.
func (s spans) meets(from, to, since uint64) bool {
	i, _ := slices.BinarySearchFunc(s, from, func(x span, seq uint64) int { return cmp.Compare(x.to, seq) })
	for ; i < len(s) && s[i].from < to; i++ {
		if s[i].tomb >= since {
			return true
		}
	}
	return false
}

func (s spans) String() string {
	var b strings.Builder
	for i, x := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(x.from, 10))
		if x.to > x.from {
			b.WriteByte('-')
			b.WriteString(strconv.FormatUint(x.to, 10))
		}
	}
	return b.String()
}

// parseRanges takes exactly what String makes, of numbers below tomb.
func parseRanges(text string, tomb uint64) (spans, error) {
	var out spans
	bad := errors.New("not ranges of numbers")
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		a, b, two := strings.Cut(part, "-")
		from, err := strconv.ParseUint(a, 10, 64)
		if err != nil {
			return nil, bad
		}
		to := from
		if two {
			if to, err = strconv.ParseUint(b, 10, 64); err != nil || to <= from {
				return nil, bad
			}
		}
		if n := len(out); to >= tomb || n > 0 && from <= out[n-1].to+1 {
			return nil, bad
		}
		out = append(out, span{from, to, tomb})
	}
	if out.String() != text {
		return nil, bad
	}
	return out, nil
}
