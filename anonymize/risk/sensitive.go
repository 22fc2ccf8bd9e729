package risk

import (
	"context"
	"errors"
	"math"
	"math/bits"
	"slices"

	"sallyport"
)

// Sensitive is how well a sensitive column's values are hidden in the classes.
type Sensitive struct {
	Values    int64   `json:"values"`    // distinct in the table
	Distinct  int64   `json:"distinct"`  // distinct l-diversity: the fewest values in a class
	Entropy   float64 `json:"entropy"`   // entropy l-diversity: 2 to the least entropy of a class
	Closeness float64 `json:"closeness"` // t-closeness with equal distances: the largest of a class
}

// Sensitive measures the sensitive columns; zero values for an empty table. It
// needs memory for the distinct values of one column at a time; where they do
// not fit, it joins them through disk. Only a census that may spill can go on
// counting afterwards.
func (c *Census) Sensitive(ctx context.Context) ([]Sensitive, error) {
	if err := c.read(); err != nil {
		return nil, err
	}
	out := make([]Sensitive, len(c.pairs))
	for i := range out {
		if c.records == 0 {
			continue
		}
		s := Sensitive{Distinct: math.MaxInt64, Entropy: math.Inf(1)}
		var err error
		s.Values, err = c.profiles(ctx, i, func(_ *[3]uint64, p profile) error {
			s.Distinct = min(s.Distinct, p.distinct)
			s.Entropy = min(s.Entropy, p.entropy)
			s.Closeness = max(s.Closeness, p.closeness)
			return nil
		})
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}

// profile is how one class hides a column's values.
type profile struct {
	distinct           int64
	entropy, closeness float64
}

// pair is a value in a class: n records there, of total in the table; or
// several values with the same figures.
type pair struct{ hi, lo, n, total, values uint64 }

// profiles measures a column class by class, and returns the number of its
// distinct values.
func (c *Census) profiles(ctx context.Context, column int, each func(*[3]uint64, profile) error) (values int64, err error) {
	if err := c.memory.free(c.memory.limit / 2); err != nil {
		return 0, err
	}
	c.settle()
	c.pinned++
	defer func() { c.pinned-- }()
	j := &join{c: c, column: column, memory: NewMemory(c.memory.left / 2)}
	c.memory.left -= j.memory.limit
	defer func() {
		c.memory.left += j.memory.limit
		err = errors.Join(err, j.close())
	}()
	next, err := j.pairs(ctx)
	if err != nil {
		return 0, err
	}
	classes, err := c.stream(ctx)
	if err != nil {
		return 0, err
	}
	var w weigher
	p, more, err := next()
	for err == nil {
		var class [3]uint64
		var ok bool
		if class, ok, err = classes.next(); err != nil || !ok {
			break
		}
		w.begin(class[0], uint64(c.records))
		for more && err == nil && p.hi == class[1] && p.lo == class[2] {
			w.add(p)
			p, more, err = next()
		}
		if err != nil {
			break
		}
		if w.seen != class[0] {
			return 0, sallyport.Errorf("census", sallyport.Internal, "", "a class of %d records has %d sensitive values", class[0], w.seen)
		}
		err = each(&class, w.end())
	}
	return j.distinct, err
}

// join attaches to each pair of a column how often its value is in the table.
type join struct {
	c        *Census
	column   int
	memory   *Memory
	distinct int64

	values          *Census
	byValue, joined *sorter
}

func (j *join) stream(ctx context.Context) (*merged[[5]uint64], error) {
	t := &j.c.pairs[j.column]
	return merge(append(t.sources(ctx, false), t.runs.sources(ctx)...))
}

func (j *join) pairs(ctx context.Context) (next func() (pair, bool, error), err error) {
	j.values = &Census{memory: j.memory, vault: j.c.vault}
	j.memory.members = append(j.memory.members, j.values)
	m, err := j.stream(ctx)
	if err != nil {
		return nil, err
	}
	t := &j.values.classes
	for {
		p, ok, err := m.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if err := add(j.values, &t.table, &[3]uint64{p[0], p[3], p[4]}); err != nil {
			return nil, err
		}
	}
	if t.runs.none() {
		used, _ := t.load()
		j.distinct = int64(used)
		if m, err = j.stream(ctx); err != nil {
			return nil, err
		}
		return func() (pair, bool, error) {
			p, ok, err := m.next()
			if !ok {
				return pair{}, false, err
			}
			return pair{hi: p[1], lo: p[2], n: p[0], total: t.get(&[3]uint64{0, p[3], p[4]}), values: 1}, true, nil
		}, nil
	}
	if err := j.values.spill(false); err != nil {
		return nil, err
	}
	return j.outside(ctx)
}

// outside joins where the distinct values do not fit in memory: the pairs are
// sorted by value and read beside the values' totals, and the outcome is sorted
// by class again.
func (j *join) outside(ctx context.Context) (func() (pair, bool, error), error) {
	m, err := j.stream(ctx)
	if err != nil {
		return nil, err
	}
	j.byValue = newSorter(j.c.vault, j.memory.left)
	if m, err = j.byValue.sort(ctx, func() ([5]uint64, bool, error) {
		p, ok, err := m.next()
		return [5]uint64{p[0], p[3], p[4], p[1], p[2]}, ok, err
	}); err != nil {
		return nil, err
	}
	totals, err := j.values.stream(ctx)
	if err != nil {
		return nil, err
	}
	var total [3]uint64
	j.joined = newSorter(j.c.vault, j.memory.left)
	m, err = j.joined.sort(ctx, func() (out [5]uint64, ok bool, err error) {
		p, ok, err := m.next()
		if !ok {
			return out, false, err
		}
		if p[1] != total[1] || p[2] != total[2] || j.distinct == 0 {
			if total, ok, err = totals.next(); err != nil {
				return out, false, err
			}
			j.distinct++
		}
		if !ok || p[1] != total[1] || p[2] != total[2] {
			return out, false, sallyport.Errorf("census", sallyport.Internal, "", "a sensitive value has no total")
		}
		return [5]uint64{1, p[3], p[4], total[0], p[0]}, true, nil
	})
	if err != nil {
		return nil, err
	}
	return func() (pair, bool, error) {
		p, ok, err := m.next()
		return pair{hi: p[1], lo: p[2], n: p[4], total: p[3], values: p[0]}, ok, err
	}, nil
}

func (j *join) close() error {
	var err error
	if j.values != nil {
		err = j.values.Close()
	}
	for _, s := range []*sorter{j.byValue, j.joined} {
		if s != nil {
			err = errors.Join(err, s.runs.close())
		}
	}
	return err
}

// sorter sorts more than fits in memory.
type sorter struct {
	vault *vault
	buf   [][5]uint64
	runs  runs[[5]uint64]
}

func newSorter(v *vault, memory int64) *sorter {
	return &sorter{vault: v, buf: make([][5]uint64, 0, max(256, memory/bytesOf[[5]uint64]()))}
}

// sort returns what next gives, in order.
func (s *sorter) sort(ctx context.Context, next func() ([5]uint64, bool, error)) (*merged[[5]uint64], error) {
	for {
		p, ok, err := next()
		if err != nil {
			return nil, err
		}
		if ok {
			s.buf = append(s.buf, p)
		}
		if len(s.buf) == cap(s.buf) || !ok && len(s.buf) > 0 {
			slices.SortFunc(s.buf, compare[[5]uint64])
			m, err := merge([]*source[[5]uint64]{memorySource(ctx, s.buf)})
			if err != nil {
				return nil, err
			}
			r, err := write(s.vault, m.next)
			if err != nil {
				return nil, err
			}
			if err := s.runs.add(r); err != nil {
				return nil, err
			}
			s.buf = s.buf[:0]
		}
		if !ok {
			s.buf = nil
			return merge(s.runs.sources(ctx))
		}
	}
}

// weigher computes the figures of one class. The distance is exact in whole
// numbers, and the entropy is summed in the order of its parts, so that the
// order of the pairs, which differs from run to run, does not show.
type weigher struct {
	class, records uint64
	seen           uint64 // records of the pairs so far
	distinct       int64
	hi, lo         uint64      // sum of what the class has too much, times class*records
	counts         [][2]uint64 // records of a value, and values with as many
}

func (w *weigher) begin(class, records uint64) {
	*w = weigher{class: class, records: records, counts: w.counts[:0]}
}

func (w *weigher) add(p pair) {
	w.seen += p.n * p.values
	w.distinct += int64(p.values)
	// What is too much in the class is too little elsewhere.
	ah, al := bits.Mul64(p.n, w.records)
	bh, bl := bits.Mul64(p.total, w.class)
	dl, borrow := bits.Sub64(al, bl, 0)
	dh, borrow := bits.Sub64(ah, bh, borrow)
	if borrow == 0 {
		mh, ml := bits.Mul64(dl, p.values)
		var carry uint64
		w.lo, carry = bits.Add64(w.lo, ml, 0)
		w.hi += mh + dh*p.values + carry
	}
	if w.counts = append(w.counts, [2]uint64{p.n, p.values}); len(w.counts) > 1<<15 {
		w.fold()
	}
}

// fold adds up equal counts: of a class of N records there are at most sqrt(2N).
func (w *weigher) fold() {
	slices.SortFunc(w.counts, func(a, b [2]uint64) int {
		switch {
		case a[0] < b[0]:
			return -1
		case a[0] > b[0]:
			return 1
		}
		return 0
	})
	out := w.counts[:0]
	for _, c := range w.counts {
		if n := len(out); n > 0 && out[n-1][0] == c[0] {
			out[n-1][1] += c[1]
		} else {
			out = append(out, c)
		}
	}
	w.counts = out
}

func (w *weigher) end() profile {
	p := profile{distinct: w.distinct, entropy: 1}
	if w.distinct > 1 {
		w.fold()
		var entropy float64
		for _, c := range w.counts {
			share := float64(c[0]) / float64(w.class)
			entropy -= float64(c[1]) * share * math.Log2(share)
		}
		p.entropy = math.Exp2(entropy)
	}
	float := func(hi, lo uint64) float64 { return float64(hi)*(1<<64) + float64(lo) }
	p.closeness = float(w.hi, w.lo) / float(bits.Mul64(w.class, w.records))
	return p
}
