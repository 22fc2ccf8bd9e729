package anonymize

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport"
	"sallyport/anonymize/risk"
)

// column is one column of the plan, bound to its verb and its place in the file.
type column struct {
	name       string
	role       sallyport.Role
	identifier string
	verb       string
	args       map[string]any
	traits     Traits
	apply      Apply                 // nil keeps the value
	rebind     func() (Apply, error) // binds the verb once more
	bound      bool                  // an obligation names it
	leaves     bool
	list       bool   // its fields are lists of values
	prepares   bool   // its verb is a Preparer
	watch      *watch // what it must be shown; nil once it was, or is not to
	in         int    // place in the file, -1 until the header is known
}

// counted reports whether c belongs to the quasi-identifiers of what leaves.
// A direct identifier that leaves other than as a keyed pseudonym singles out
// at least as well as any quasi-identifier, so it is counted with them.
func (c *column) counted() bool {
	return c.leaves && (c.role == sallyport.Quasi || c.role == sallyport.Direct && !c.traits.Keyed)
}

// undeclared reports whether c leaves without being counted, though it may
// single people out. A keyed pseudonym tells nothing to those without the key.
func (c *column) undeclared() bool {
	return c.leaves && c.role != sallyport.Direct && c.role != sallyport.Quasi && !c.traits.Keyed
}

// purpose is what a reading of the source is for.
type purpose int

const (
	toWrite   purpose = iota // the last reading
	toPrepare                // Preparers are shown their columns
	toCount                  // classes are counted, to find those that do not leave
)

// editor is one reading's Editor: it knows the plan and counts the equivalence
// classes before and after. The work on records is done by its hands, one for
// each goroutine.
type editor struct {
	*session
	purpose purpose
	plan    Plan
	known   map[string]*column
	columns []*column // in file order
	out     []*column // those that leave, in file order
	lists   Lister    // nil: the format has no lists
	filters []filter  // all of them must let a record pass
	subject int       // place of the subject column in the file, -1: none
	begun   bool

	rawIn, leaveIn []int // quasi-identifiers: places in the file, places in what leaves
	rawQ, leaveQ   []string
	secretIn       []int // sensitive columns: places in what leaves
	look           []int // places in what leaves where identifiers may have remained
	sampled        []int // places in what leaves whose distinct values are counted
	room           int   // distinct values that a sample may hold

	joint   *joint // nil: there are no earlier releases
	watched []*watch

	records atomic.Int64 // counted so far
	mu      sync.Mutex   // held while a hand empties its tally into the censuses, and by Preparations
	before  *meter
	after   *meter
	secret  *meter // nil: no sensitive column leaves
	both    *meter // with earlier releases; nil: there are none
	parts   []*meter
	yields  []*meter // in the order in which they give way to after

	first *hand
	hands []*hand // all of them; of the goroutine that calls Header and Fork
}

var (
	_ Forker = (*editor)(nil)
	_ Knower = (*editor)(nil)
	_ Typer  = (*editor)(nil)
)

// session is what the readings of one pass share.
type session struct {
	env      PassEnv
	seeds    [2]maphash.Seed
	memory   *risk.Memory
	prepared map[string]Preparation // by treatment
	failing  []*risk.Set            // classes that do not leave
}

// Columns are those of the plan, for formats without a header.
func (e *editor) Columns() []string {
	names := make([]string, len(e.plan.Columns))
	for i, c := range e.plan.Columns {
		names[i] = c.Name
	}
	return names
}

// SameType reports whether what leaves of a column is of the type that came.
func (e *editor) SameType(name string) bool {
	c := e.known[name]
	return c != nil && c.leaves && (c.verb == "" || c.traits.SameType)
}

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
		c.list = e.lists != nil && e.lists.List(name)
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
		if c.role == sallyport.Sensitive {
			e.secretIn = append(e.secretIn, len(e.out))
		}
		if c.undeclared() {
			e.sampled = append(e.sampled, len(e.out))
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
	e.place()
	e.meters()
	e.first = newHand(e)
	for i, c := range e.out {
		e.first.apply[i] = c.apply
	}
	e.first.joint = e.joint.first()
	return leaving, nil
}

// place tells the filters, and whatever else works on raw values, where their
// columns are.
func (e *editor) place() {
	locate(e.filters)
	for _, w := range e.watched {
		locate(w.filters)
	}
	e.joint.locate(e.out)
	e.room = max(64, min(1<<12, 1<<20/max(1, len(e.sampled))))
}

// fewPairs is the memory, in bytes, that counting the sensitive values in each
// class may take where nobody asked for it.
const fewPairs = 4 << 20

// meters makes the censuses that the reading needs.
func (e *editor) meters() {
	shared := func(sensitive int) *meter { return newMeter(e.memory, e.env.SpillDir, sensitive) }
	few := func(sensitive int) *meter { return newMeter(risk.NewMemory(fewPairs), "", sensitive) }
	switch e.purpose {
	case toPrepare:
	case toCount:
		e.secretIn = e.plan.Suppress.over(e.secretIn)
		e.after = shared(len(e.secretIn))
	case toWrite:
		e.before, e.after = shared(0), shared(0)
		if e.env.Contribution {
			for range e.leaveIn {
				e.parts = append(e.parts, shared(0))
			}
		}
		e.yields = append(append(e.yields, e.parts...), e.before)
		switch n := len(e.secretIn); {
		case n == 0:
		case e.env.Diversity:
			e.secret = shared(n)
			e.yields = append(e.yields, e.secret)
		default:
			e.secret = few(n)
		}
		if e.joint != nil {
			e.both = shared(0)
			e.yields = append(e.yields, e.both)
		}
	}
}

// close gives back what the censuses hold.
func (e *editor) close() {
	for _, m := range append(e.yields, e.secret, e.after) {
		if m != nil && !m.stopped {
			m.stopped = true
			_ = m.census.Close() // nothing of it is needed any more
		}
	}
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
	var err error
	h.joint, err = e.joint.fork()
	return h, err
}

// settle empties the hands once none works any more.
func (e *editor) settle() error {
	for _, h := range e.hands {
		if err := h.empty(); err != nil {
			return err
		}
	}
	return nil
}

// report says what the editor saw, once no hand works any more; the caller
// adds digests and sizes.
func (e *editor) report(ctx context.Context) (Report, error) {
	if err := e.settle(); err != nil {
		return Report{}, err
	}
	r := Report{
		Columns:      []string{},
		Dropped:      []string{},
		Actions:      map[string]string{},
		Changed:      map[string]int64{},
		Undeclared:   []Undeclared{},
		Contribution: []risk.Contribution{},
		Fields:       []Field{},
	}
	var seen residual
	for _, h := range e.hands {
		seen.add(h.residual)
		r.Filtered += h.filtered
		r.Suppressed += h.suppressed
	}
	r.Residual = seen.counts()
	if err := e.measure(ctx, &r); err != nil {
		return Report{}, err
	}
	next := 0
	for _, c := range e.columns {
		f := Field{Column: c.name, Role: c.role, Identifier: c.identifier, Verb: c.verb, Args: c.args, Leaves: c.leaves}
		if c.bound && c.verb == "" {
			f.Verb = "keep"
		}
		if c.leaves {
			e.field(&f, next)
			next++
			r.Columns = append(r.Columns, c.name)
			r.Actions[c.name] = f.Verb
			if c.apply != nil {
				r.Changed[c.name] = f.Changed
			}
		} else {
			r.Dropped = append(r.Dropped, c.name)
		}
		if unique := e.unique(c, next-1); unique != nil {
			r.Undeclared = append(r.Undeclared, *unique)
		}
		r.Fields = append(r.Fields, f)
	}
	return r, nil
}

// field gathers what the hands saw of a leaving column, and leaves the first
// hand's sample with what all of them saw.
func (e *editor) field(f *Field, place int) {
	all := e.first.samples[place]
	for _, h := range e.hands {
		f.Values += h.values[place]
		f.Changed += h.changed[place]
		if h != e.first {
			all.merge(h.samples[place])
		}
	}
	f.Distinct, _, f.Estimated = all.counts()
	f.Distinct = min(f.Distinct, f.Values)
}

// unique says whether people are singled out by a column that is not counted.
func (e *editor) unique(c *column, place int) *Undeclared {
	records := e.records.Load()
	if !c.undeclared() || records == 0 {
		return nil
	}
	_, unique, estimated := e.first.samples[place].counts()
	if unique == 0 {
		return nil
	}
	return &Undeclared{Column: c.name, Unique: min(1, float64(unique)/float64(records)), Estimated: estimated}
}

// measure computes the report's figures of risk.
func (e *editor) measure(ctx context.Context, r *Report) error {
	records := e.records.Load()
	take := func(m *meter, records int64, quasi []string) (risk.Report, sallyport.Risk, []risk.Size, error) {
		sizes, exact, err := m.sizes(ctx, records)
		if err != nil {
			return risk.Report{}, sallyport.Risk{}, nil, err
		}
		figures, err := risk.Measure(sizes, Threshold)
		return figures, riskOf(figures, exact, quasi), sizes, err
	}
	var sizes []risk.Size
	var err error
	if r.Attackers.Before, r.Before, sizes, err = take(e.before, records, e.rawQ); err != nil {
		return err
	}
	r.Sizes.Before = histogram(sizes)
	if r.Attackers.After, r.After, sizes, err = take(e.after, records, e.leaveQ); err != nil {
		return err
	}
	r.Sizes.After = histogram(sizes)
	if e.secret != nil && !e.secret.stopped && records > 0 {
		columns, err := e.secret.census.Sensitive(ctx)
		if err != nil && sallyport.KindOf(err) != sallyport.Exhausted {
			return err
		}
		for _, s := range columns {
			if r.After.Diversity == nil || s.Distinct < *r.After.Diversity {
				r.After.Diversity = &s.Distinct
			}
			if r.After.Closeness == nil || s.Closeness > *r.After.Closeness {
				r.After.Closeness = &s.Closeness
			}
		}
	}
	if e.both != nil {
		var left int64
		for _, h := range e.hands {
			left += h.joint.records
		}
		_, combined, _, err := take(e.both, left, e.joint.names(e.columns))
		if err != nil {
			return err
		}
		combined.Exact = combined.Exact && !e.joint.blind
		r.Combined = &combined
	}
	for i, m := range e.parts {
		without, exact, err := m.sizes(ctx, records)
		if err != nil {
			return err
		}
		if !exact {
			continue // it gave way: half a figure is none
		}
		figures, err := risk.Measure(without, Threshold)
		if err != nil {
			return err
		}
		r.Contribution = append(r.Contribution, risk.Contributes(e.leaveQ[i], r.Attackers.After, figures))
	}
	return nil
}
