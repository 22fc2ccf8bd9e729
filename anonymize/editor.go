package anonymize

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport"
)

// column is one column of the plan, bound to its verb and its place in the file.
type column struct {
	name   string
	role   sallyport.Role
	verb   string
	traits Traits
	apply  Apply                 // nil keeps the value
	rebind func() (Apply, error) // binds the verb once more
	bound  bool                  // an obligation names it
	leaves bool
	in     int // place in the file, -1 until the header is known
}

// counted reports whether c belongs to the quasi-identifiers of what leaves.
// A direct identifier that leaves other than as a keyed pseudonym singles out
// at least as well as any quasi-identifier, so it is counted with them.
func (c *column) counted() bool {
	return c.leaves && (c.role == sallyport.Quasi || c.role == sallyport.Direct && !c.traits.Keyed)
}

// editor is the pass's Editor: it knows the plan and counts the equivalence
// classes before and after. The work on records is done by its hands, one for
// each goroutine.
type editor struct {
	plan    Plan
	known   map[string]*column
	columns []*column // in file order
	out     []*column // those that leave, in file order
	filters []filter  // all of them must let a record pass
	subject int       // place of the subject column in the file, -1: none
	begun   bool

	seeds          [2]maphash.Seed
	rawIn, leaveIn []int // quasi-identifiers: places in the file, places in what leaves
	rawQ, leaveQ   []string
	look           []int // places in what leaves where identifiers may have remained

	records atomic.Int64 // counted so far
	mu      sync.Mutex   // held while a hand empties its tally into the censuses
	before  *census
	after   *census

	first *hand
	hands []*hand // all of them; of the goroutine that calls Header and Fork
}

var _ Forker = (*editor)(nil)

func (e *editor) Header(names []string) ([]string, error) {
	if e.begun {
		return nil, sallyport.Errorf("anonymize", sallyport.Internal, "", "format %s gave two headers", e.plan.Format)
	}
	e.begun = true
	var leaving []string
	for i, name := range names {
		c := e.known[name]
		if c == nil {
			// The name is not quoted: in a file without a header it is a value.
			return nil, invalid("Scan the dataset again and describe the column in the catalog.", "unknown column: column %d of the file is not among those that the catalog lists", i+1)
		}
		if c.in >= 0 {
			return nil, invalid("Rename one of the two.", "the file has column %q twice", name)
		}
		c.in = i
		e.columns = append(e.columns, c)
		if name == e.plan.Subject {
			e.subject = i
		}
		if c.role == sallyport.Quasi {
			e.rawIn, e.rawQ = append(e.rawIn, i), append(e.rawQ, name)
		}
		if !c.leaves {
			continue
		}
		if c.counted() {
			e.leaveIn, e.leaveQ = append(e.leaveIn, len(e.out)), append(e.leaveQ, name)
		}
		if !c.traits.Opaque {
			e.look = append(e.look, len(e.out))
		}
		e.out = append(e.out, c)
		leaving = append(leaving, name)
	}
	var absent []string
	for _, c := range e.plan.Columns {
		if e.known[c.Name].in < 0 {
			absent = append(absent, fmt.Sprintf("%q", c.Name))
		}
	}
	if absent != nil {
		return nil, invalid("Scan the dataset again; its columns have changed.", "the catalog lists columns that the file lacks: %s", strings.Join(absent, ", "))
	}
	for i := range e.filters {
		e.filters[i].in = e.filters[i].column.in
	}
	e.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	e.first = newHand(e)
	for i, c := range e.out {
		e.first.apply[i] = c.apply
	}
	return leaving, nil
}

// Record lets the first hand work.
func (e *editor) Record(fields [][]byte) ([][]byte, error) { return e.first.Record(fields) }

// Fork returns one more hand, with verbs of its own where they keep state.
func (e *editor) Fork() (Editor, error) {
	h := newHand(e)
	for i, c := range e.out {
		h.apply[i] = c.apply
		if c.apply != nil && !c.traits.Shared {
			var err error
			if h.apply[i], err = c.rebind(); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// report says what the editor saw, once no hand works any more; the caller
// adds digests and sizes.
func (e *editor) report() (Report, error) {
	changed := make([]int64, len(e.out))
	var seen residual
	var filtered int64
	for _, h := range e.hands {
		if err := h.empty(); err != nil {
			return Report{}, err
		}
		for i, n := range h.changed {
			changed[i] += n
		}
		seen.add(h.residual)
		filtered += h.filtered
	}
	records := e.records.Load()
	r := Report{
		Before:   e.before.risk(records, e.rawQ),
		After:    e.after.risk(records, e.leaveQ),
		Columns:  []string{},
		Dropped:  []string{},
		Actions:  map[string]string{},
		Changed:  map[string]int64{},
		Residual: seen.counts(),
		Filtered: filtered,
	}
	for _, c := range e.columns {
		if !c.leaves {
			r.Dropped = append(r.Dropped, c.name)
		}
	}
	for i, c := range e.out {
		r.Columns = append(r.Columns, c.name)
		if c.apply == nil {
			r.Actions[c.name] = "keep"
			continue
		}
		r.Actions[c.name] = c.verb
		r.Changed[c.name] = changed[i]
	}
	return r, nil
}
