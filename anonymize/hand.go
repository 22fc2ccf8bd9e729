package anonymize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"sallyport"
)

// tallySize is how many records a hand notes before it takes the lock of the
// censuses.
const tallySize = 512

// class is the hash of a record's quasi-identifiers.
type class struct{ hi, lo uint64 }

// hand transforms records for one goroutine and notes their classes.
type hand struct {
	e     *editor
	apply []Apply // by place in what leaves; nil keeps the value

	fields [][]byte // what Record answers with
	buf    []byte   // holds transformed values
	tuple  []byte   // holds the quasi-identifiers while they are hashed

	before, after []class // not yet in the censuses
	changed       []int64 // by place in what leaves
	residual      residual
	filtered      int64  // records that did not leave
	warmed        uint64 // keeps the compiler from leaving census.warm out
}

func newHand(e *editor) *hand {
	h := &hand{e: e, apply: make([]Apply, len(e.out)), fields: make([][]byte, len(e.out)), changed: make([]int64, len(e.out)),
		before: make([]class, 0, tallySize), after: make([]class, 0, tallySize)}
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
	for i := range e.filters {
		if !e.filters[i].passes(fields) {
			h.filtered++
			return nil, nil
		}
	}
	var subject []byte
	if e.subject >= 0 {
		subject = fields[e.subject]
	}
	h.buf = h.buf[:0]
	for i, c := range e.out {
		v := fields[c.in]
		apply := h.apply[i]
		if apply == nil {
			h.fields[i] = v
			continue
		}
		start := len(h.buf)
		var err error
		if h.buf, err = apply(h.buf, v, subject); err != nil {
			return nil, sallyport.E(fmt.Sprintf("column %q", c.name), sallyport.KindOf(err), err, "")
		}
		// If buf moves when it grows, earlier values stay where they were.
		w := h.buf[start:len(h.buf):len(h.buf)]
		h.fields[i] = w
		if !bytes.Equal(v, w) {
			h.changed[i]++
		}
	}
	h.before = append(h.before, h.class(fields, e.rawIn))
	h.after = append(h.after, h.class(h.fields, e.leaveIn))
	for _, i := range e.look {
		h.residual.look(h.fields[i])
	}
	if len(h.after) == tallySize {
		if err := h.empty(); err != nil {
			return nil, err
		}
	}
	return h.fields, nil
}

// empty counts what the hand has noted.
func (h *hand) empty() error {
	e := h.e
	e.mu.Lock()
	defer e.mu.Unlock()
	h.warmed = e.after.warm(h.after)
	if !e.before.stopped {
		h.warmed += e.before.warm(h.before)
	}
	for _, c := range h.before {
		if e.before.stopped {
			break
		}
		if !e.before.add(c) {
			e.before.stop()
		}
	}
	for _, c := range h.after {
		for !e.after.add(c) {
			if e.before.stopped {
				return sallyport.Errorf("anonymize", sallyport.Exhausted, "Generalize the quasi-identifiers more, or raise the gateway's census limit.",
					"the equivalence classes of what leaves do not fit in the memory allowed for counting them")
			}
			e.before.stop() // what leaves matters more than what was there
		}
	}
	e.records.Add(int64(len(h.after)))
	h.before, h.after = h.before[:0], h.after[:0]
	return nil
}

// class hashes the quasi-identifiers of a record to 128 bits under a key drawn
// for this pass. Each value is preceded by its length, so that ("ab","c") and
// ("a","bc") differ.
//
// Two classes that collide would be counted as one, and k too large. If both
// 64-bit halves behave as independent random functions, the chance of any
// collision among n classes is below n²/2^129: 2e-23 for a hundred million.
// maphash is no cryptographic hash, but its seeds are secret and drawn anew,
// so nobody can prepare data for it.
func (h *hand) class(fields [][]byte, places []int) class {
	t := h.tuple[:0]
	for _, i := range places {
		f := fields[i]
		if len(f) < 0xff {
			t = append(t, byte(len(f)))
		} else {
			t = append(t, 0xff)
			t = binary.LittleEndian.AppendUint64(t, uint64(len(f)))
		}
		t = append(t, f...)
	}
	h.tuple = t
	return class{maphash.Bytes(h.e.seeds[0], t), maphash.Bytes(h.e.seeds[1], t)}
}
