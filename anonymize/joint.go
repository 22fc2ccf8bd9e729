package anonymize

import (
	"encoding/json"
	"slices"

	"sallyport"
)

// joint measures what earlier releases and this one say together.
type joint struct {
	earlier    [][]filter // of each earlier release, its row filters
	treatments []*treatment
	// blind says that not all of what left before could be made again: a column,
	// a verb or a hierarchy is gone.
	blind bool
}

// treatment is a column as one or more releases gave it away.
type treatment struct {
	id       string
	column   *column // of the plan
	bound    *column // with the treatment's verb
	releases []int   // earlier ones that it is part of
	leaving  bool    // it is part of this release
	now      int     // then its place in what leaves
}

// treatmentOf names a treatment: equal names, equal values. What a Preparer does
// depends on the records that it was shown.
func treatmentOf(o sallyport.Obligation, prepares bool, rows []sallyport.RowFilter) string {
	if !prepares || len(rows) == 0 {
		rows = nil
	}
	// Args went into the plan's canonical JSON before, so this cannot fail.
	b, _ := json.Marshal(struct {
		O sallyport.Obligation
		R []sallyport.RowFilter
	}{o, rows})
	return string(b)
}

// joint binds what the plan's earlier releases said of their quasi-identifiers.
func (r *Runner) joint(e *editor) {
	if len(e.plan.Earlier) == 0 {
		return
	}
	j := &joint{}
	by := map[string]*treatment{}
	find := func(c *column, o sallyport.Obligation, prepares bool, rows []sallyport.RowFilter) *treatment {
		id := treatmentOf(o, prepares, rows)
		if by[id] == nil {
			by[id] = &treatment{id: id, column: c, now: -1}
			j.treatments = append(j.treatments, by[id])
		}
		return by[id]
	}
	seen := map[string]bool{}
	for _, past := range e.plan.Earlier {
		rows, err := filters(past.Rows, e.known)
		if err != nil {
			j.blind = true
			continue
		}
		key, err := json.Marshal(Earlier{Obligations: past.Obligations, Rows: past.Rows})
		if err != nil || seen[string(key)] {
			j.blind = j.blind || err != nil
			continue // the same again says nothing more
		}
		seen[string(key)] = true
		for _, o := range past.Obligations {
			base := e.known[o.Column]
			if base == nil {
				j.blind = true
				continue
			}
			c := &column{name: base.name, role: base.role}
			if err := r.bind(e, c, o, past.Rows); err != nil {
				j.blind = true
				continue
			}
			if !c.counted() {
				continue
			}
			t := find(base, o, c.prepares, past.Rows)
			if t.bound == nil {
				t.bound = c
				if c.watch != nil {
					c.watch.filters, c.watch.past = rows, true
					e.watched = append(e.watched, c.watch)
				}
			}
			t.releases = append(t.releases, len(j.earlier))
		}
		j.earlier = append(j.earlier, rows)
	}
	for _, o := range e.plan.Obligations {
		if c := e.known[o.Column]; c.counted() {
			find(c, o, c.prepares, e.plan.Rows).leaving = true
		}
	}
	e.joint = j
}

// locate tells the treatments their places in what leaves, and the filters
// theirs in the file.
func (j *joint) locate(out []*column) {
	if j == nil {
		return
	}
	for _, rows := range j.earlier {
		locate(rows)
	}
	for _, t := range j.treatments {
		if t.leaving {
			t.now = slices.Index(out, t.column)
		}
	}
}

// names returns the columns that are counted over, in file order.
func (j *joint) names(columns []*column) []string {
	out := []string{}
	for _, c := range columns {
		if slices.ContainsFunc(j.treatments, func(t *treatment) bool { return t.column == c }) {
			out = append(out, c.name)
		}
	}
	return out
}

// jointHand is the part of a hand that works for a joint.
type jointHand struct {
	j       *joint
	apply   []Apply // by treatment
	in      []bool  // by earlier release: the record is in it
	buf     []byte
	value   []byte
	item    []byte
	records int64 // that are in any release
}

// first is the hand that works with the verbs as they were bound first.
func (j *joint) first() *jointHand {
	if j == nil {
		return nil
	}
	h := &jointHand{j: j, apply: make([]Apply, len(j.treatments)), in: make([]bool, len(j.earlier))}
	for i, t := range j.treatments {
		if t.bound != nil {
			h.apply[i] = t.bound.apply
		}
	}
	return h
}

// fork is one more hand, with verbs of its own where they keep state.
func (j *joint) fork() (*jointHand, error) {
	h := j.first()
	if h == nil {
		return nil, nil
	}
	for i, t := range j.treatments {
		if t.bound == nil || t.bound.apply == nil || t.bound.traits.Shared {
			continue
		}
		var err error
		if h.apply[i], err = t.bound.rebind(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// tuple returns what all releases say of a record; nil if it is in none. now
// says that it leaves in this one, as what.
func (h *jointHand) tuple(fields, what [][]byte, subject []byte, now bool) []byte {
	any := now
	t := h.buf[:0]
	for i, rows := range h.j.earlier {
		h.in[i] = pass(rows, fields)
		any = any || h.in[i]
		t = append(t, bit(h.in[i]))
	}
	if !any {
		return nil
	}
	h.records++
	t = append(t, bit(now))
	for i, tr := range h.j.treatments {
		switch {
		case now && tr.now >= 0:
			t = appendValue(append(t, 1), what[tr.now])
		case slices.ContainsFunc(tr.releases, func(r int) bool { return h.in[r] }):
			v := fields[tr.column.in]
			if h.apply[i] == nil {
				t = appendValue(append(t, 1), v)
			} else if w, err := h.transform(i, v, subject); err == nil {
				t = appendValue(append(t, 1), w)
			} else {
				// A release that had this record would have failed: the record is
				// new, or the verb's files are. Its own value tells it apart best.
				t = appendValue(append(t, 2), v)
			}
		default:
			t = append(t, 0)
		}
	}
	h.buf = t
	return t
}

func (h *jointHand) transform(i int, v, subject []byte) (w []byte, err error) {
	apply := h.apply[i]
	h.value = h.value[:0]
	if !h.j.treatments[i].column.list {
		h.value, err = apply(h.value, v, subject)
		return h.value, err
	}
	for item := range Items(v) {
		if h.item, err = apply(h.item[:0], item, subject); err != nil {
			return nil, err
		}
		h.value = AppendItem(h.value, h.item)
	}
	return h.value, nil
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
