package anonymize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"

	"sallyport"
	"sallyport/anonymize/risk"
)

// tallySize is how many records a hand notes before it takes the lock of the
// censuses.
const tallySize = 512

// hand transforms records for one goroutine and notes their classes.
type hand struct {
	e     *editor
	apply []Apply // by place in what leaves; nil keeps the value
	joint *jointHand

	fields [][]byte // what Record answers with
	buf    []byte   // holds transformed values
	item   []byte   // holds the transformed item of a list
	tuple  []byte   // holds the quasi-identifiers while they are hashed

	before, after []risk.Key // not yet in the censuses
	secret        []risk.Key // of after's records, one for each sensitive column
	both          []risk.Key
	parts         [][]risk.Key // of after's records, for each quasi-identifier that is left out

	// By place in what leaves.
	values  []int64
	changed []int64
	saved   [2][]int64 // values and changed, before a record that may be kept back
	samples []*sample

	residual   residual
	filtered   int64 // records that did not leave
	suppressed int64
	deaf       bool // sensitive values are not counted any more
}

func newHand(e *editor) *hand {
	n := len(e.out)
	h := &hand{e: e, apply: make([]Apply, n), fields: make([][]byte, n), values: make([]int64, n), changed: make([]int64, n),
		samples: make([]*sample, n), before: make([]risk.Key, 0, tallySize), after: make([]risk.Key, 0, tallySize),
		parts: make([][]risk.Key, len(e.parts))}
	for i := range h.samples {
		h.samples[i] = newSample(e.room)
	}
	for i := range h.saved {
		h.saved[i] = make([]int64, n)
	}
	e.hands = append(e.hands, h)
	return h
}

// Header is for the editor alone.
func (h *hand) Header([]string) ([]string, error) {
	return nil, sallyport.Errorf("anonymize", sallyport.Internal, "", "format %s gave two headers", h.e.plan.Format)
}

func (h *hand) Record(fields [][]byte) ([][]byte, error) {
	e := h.e
	if len(fields) != len(e.columns) {
		return nil, sallyport.Errorf("anonymize", sallyport.Internal, "", "format %s gave a record of %d fields, the header has %d", e.plan.Format, len(fields), len(e.columns))
	}
	if e.purpose == toPrepare {
		return nil, e.observe(fields)
	}
	leaves := pass(e.filters, fields)
	if !leaves {
		h.filtered++
		if h.joint == nil {
			return nil, nil
		}
	} else if err := h.transform(fields); err != nil {
		return nil, err
	}
	var class risk.Key
	if leaves {
		class = h.class(h.fields, e.leaveIn, -1)
		for _, set := range e.failing {
			if set.Has(class) {
				leaves = false
				h.suppressed++
				copy(h.values, h.saved[0])
				copy(h.changed, h.saved[1])
				break
			}
		}
	}
	if e.purpose == toCount {
		if !leaves {
			return nil, nil
		}
		h.note(class)
		return nil, h.flush()
	}
	if h.joint != nil {
		if tuple := h.joint.tuple(fields, h.fields, e.subjectOf(fields), leaves); tuple != nil {
			h.both = append(h.both, h.key(tuple))
		}
	}
	if !leaves {
		return nil, h.flush()
	}
	h.before = append(h.before, h.class(fields, e.rawIn, -1))
	h.note(class)
	for i := range h.parts {
		h.parts[i] = append(h.parts[i], h.class(h.fields, e.leaveIn, i))
	}
	for _, i := range e.sampled {
		if !e.out[i].list {
			h.samples[i].add(spread(h.fields[i]))
			continue
		}
		for item := range Items(h.fields[i]) {
			h.samples[i].add(spread(item))
		}
	}
	for _, i := range e.look {
		if !e.out[i].list {
			h.residual.look(h.fields[i])
			continue
		}
		for item := range Items(h.fields[i]) {
			h.residual.look(item)
		}
	}
	return h.fields, h.flush()
}

// transform makes h.fields what the plan says of fields.
func (h *hand) transform(fields [][]byte) error {
	e := h.e
	if e.failing != nil {
		copy(h.saved[0], h.values)
		copy(h.saved[1], h.changed)
	}
	subject := e.subjectOf(fields)
	h.buf = h.buf[:0]
	for i, c := range e.out {
		v := fields[c.in]
		apply := h.apply[i]
		if c.list {
			if err := h.transformList(i, v, subject); err != nil {
				return err
			}
			continue
		}
		h.values[i]++
		if apply == nil {
			h.fields[i] = v
			continue
		}
		start := len(h.buf)
		var err error
		if h.buf, err = apply(h.buf, v, subject); err != nil {
			return inColumn(c, err)
		}
		// If buf moves when it grows, earlier values stay where they were.
		w := h.buf[start:len(h.buf):len(h.buf)]
		h.fields[i] = w
		if !bytes.Equal(v, w) {
			h.changed[i]++
		}
	}
	return nil
}

// subjectOf returns whom the record is about, nil if the plan does not say how
// to tell.
func (e *editor) subjectOf(fields [][]byte) []byte {
	if e.subject < 0 {
		return nil
	}
	return fields[e.subject]
}

// transformList changes the items of a list one by one.
func (h *hand) transformList(i int, v, subject []byte) error {
	start := len(h.buf)
	for item := range Items(v) {
		h.values[i]++
		w := item
		if apply := h.apply[i]; apply != nil {
			var err error
			if h.item, err = apply(h.item[:0], item, subject); err != nil {
				return inColumn(h.e.out[i], err)
			}
			if w = h.item; !bytes.Equal(item, w) {
				h.changed[i]++
			}
		}
		h.buf = AppendItem(h.buf, w)
	}
	h.fields[i] = h.buf[start:len(h.buf):len(h.buf)]
	return nil
}

func inColumn(c *column, err error) error {
	return sallyport.E(fmt.Sprintf("column %q", c.name), sallyport.KindOf(err), err, "")
}

// note notes the class of a record that leaves, and its sensitive values.
func (h *hand) note(class risk.Key) {
	h.after = append(h.after, class)
	if h.e.purpose == toWrite && h.deaf {
		return
	}
	for _, i := range h.e.secretIn {
		h.secret = append(h.secret, h.key(h.fields[i]))
	}
}

// empty counts what the hand has noted.
func (h *hand) empty() error {
	e := h.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, part := range h.parts {
		if err := e.add(e.parts[i], part, nil); err != nil {
			return err
		}
		h.parts[i] = part[:0]
	}
	var secret []risk.Key
	if e.purpose == toCount {
		secret = h.secret
	}
	if err := errors.Join(e.add(e.before, h.before, nil), e.add(e.secret, h.after, h.secret), e.add(e.both, h.both, nil), e.add(e.after, h.after, secret)); err != nil {
		return err
	}
	e.records.Add(int64(len(h.after)))
	h.deaf = e.secret == nil || e.secret.stopped
	h.before, h.after, h.secret, h.both = h.before[:0], h.after[:0], h.secret[:0], h.both[:0]
	return nil
}

// flush empties the hand when it has noted enough.
func (h *hand) flush() error {
	if len(h.after) < tallySize && len(h.both) < tallySize {
		return nil
	}
	return h.empty()
}

// class hashes the quasi-identifiers of a record to 128 bits under a key drawn
// for this pass, less the one at skip (-1: none). Each value is preceded by its
// length, so that ("ab","c") and ("a","bc") differ.
//
// Two classes that collide would be counted as one, and k too large. If both
// 64-bit halves behave as independent random functions, the chance of any
// collision among n classes is below n²/2^129: 2e-23 for a hundred million.
// maphash is no cryptographic hash, but its seeds are secret and drawn anew,
// so nobody can prepare data for it.
func (h *hand) class(fields [][]byte, places []int, skip int) risk.Key {
	t := h.tuple[:0]
	for i, p := range places {
		if i != skip {
			t = appendValue(t, fields[p])
		}
	}
	h.tuple = t
	return h.key(t)
}

func (h *hand) key(b []byte) risk.Key {
	return risk.KeyOf(maphash.Bytes(h.e.seeds[0], b), maphash.Bytes(h.e.seeds[1], b))
}

// appendValue appends a value's length and the value.
func appendValue(t, f []byte) []byte {
	if len(f) < 0xff {
		t = append(t, byte(len(f)))
	} else {
		t = append(t, 0xff)
		t = binary.LittleEndian.AppendUint64(t, uint64(len(f)))
	}
	return append(t, f...)
}
