package model

import (
	"math"
	"slices"

	"sallyport"
)

// Value is an amount of lost information; amounts are compared element by
// element, the first that differs deciding. Most losses have one element.
type Value []float64

// Less compares amounts made by the same [Loss].
func (v Value) Less(w Value) bool { return slices.Compare(v, w) < 0 }

// Loss says how much information a grouping has lost.
type Loss interface {
	Name() string
	// Bound is the least that these levels, and all above them, can cost; it
	// needs no grouping. nil if nothing is known.
	Bound(levels []int) Value
	// Of returns the loss of a grouping with its suppressed classes, and a
	// bound like Bound's that may be better for knowing the grouping.
	Of(levels []int, g *Grouping) (loss, bound Value)
	// Fixed says that the loss is its Bound: it depends on the levels only.
	Fixed() bool
}

// EntropyLoss is non-uniform entropy (Gionis and Tassa): for each value, the
// bits that knowing its generalization leaves open, summed over all records and
// columns. With suppression counted, the records that do not leave cost, above
// their generalization, the entropy of each column among them; without (ARX's
// monotonic variant) the loss depends on the levels only.
type EntropyLoss struct {
	table       *Table
	weight      []float64   // by column
	level       [][]float64 // column → level → weighted bits
	suppression bool
}

var _ Loss = (*EntropyLoss)(nil)

// NewEntropyLoss measures the table once; add no records to it afterwards.
func NewEntropyLoss(t *Table, suppression bool) *EntropyLoss {
	weight := make([]float64, len(t.quasi))
	for i := range weight {
		weight[i] = 1
	}
	return newEntropyLoss(t, weight, suppression)
}

// NewWeightedEntropyLoss is [NewEntropyLoss] with each column's bits times a
// weight of its own, above 0: what is lost of a column of weight 10 counts ten
// times. One weight for each quasi-identifier, in order.
func NewWeightedEntropyLoss(t *Table, weight []float64, suppression bool) (*EntropyLoss, error) {
	ok := len(weight) == len(t.quasi)
	for _, w := range weight {
		ok = ok && w > 0 && !math.IsInf(w, 0)
	}
	if !ok {
		return nil, sallyport.Errorf("model", sallyport.Invalid, "Give every quasi-identifier a weight above 0.", "%d weights do not fit %d columns", len(weight), len(t.quasi))
	}
	return newEntropyLoss(t, slices.Clone(weight), suppression), nil
}

func newEntropyLoss(t *Table, weight []float64, suppression bool) *EntropyLoss {
	l := &EntropyLoss{table: t, weight: weight, suppression: suppression, level: make([][]float64, len(t.quasi))}
	for col, h := range t.quasi {
		leaves := t.leaves(col)
		for lev := range h.Levels() {
			sum := make([]int64, h.Size(lev))
			for v, n := range leaves {
				sum[h.up[lev][v]] += n
			}
			var bits float64
			for v, n := range leaves {
				if n > 0 {
					bits -= float64(n) * math.Log2(float64(n)/float64(sum[h.up[lev][v]]))
				}
			}
			l.level[col] = append(l.level[col], weight[col]*bits)
		}
	}
	return l
}

func (l *EntropyLoss) Name() string { return "entropy" }
func (l *EntropyLoss) Fixed() bool  { return !l.suppression }
func (l *EntropyLoss) Bound(levels []int) Value {
	var bits float64
	for col, lev := range levels {
		bits += l.level[col][lev]
	}
	return Value{bits}
}

func (l *EntropyLoss) Of(levels []int, g *Grouping) (loss, bound Value) {
	bound = l.Bound(levels)
	if !l.suppression {
		return bound, bound
	}
	t := l.table
	bits := bound[0]
	for col, h := range t.quasi {
		counts := make([]int64, h.Size(levels[col]))
		for r, class := range g.Class {
			if g.Suppressed[class] {
				counts[h.up[levels[col]][t.at(r, col)]] += t.count[r]
			}
		}
		bits += l.weight[col] * Entropy(counts) * float64(sum(counts))
	}
	return Value{bits}, bound
}

// Kept returns what a grouping leaves of the information in each
// quasi-identifier, in bits, without weights: for each record that is not
// suppressed what its value at the level tells, -log2 of the value's share of the
// table.
func (l *EntropyLoss) Kept(levels []int, g *Grouping) []float64 {
	t := l.table
	kept := make([]float64, len(t.quasi))
	for col, h := range t.quasi {
		all := make([]int64, h.Size(levels[col])) // value at the level → records
		for v, n := range t.leaves(col) {
			all[h.up[levels[col]][v]] += n
		}
		stay := make([]int64, len(all)) // of them, those that leave
		for r, class := range g.Class {
			if !g.Suppressed[class] {
				stay[h.up[levels[col]][t.at(r, col)]] += t.count[r]
			}
		}
		for a, n := range stay {
			if n > 0 {
				kept[col] -= float64(n) * math.Log2(float64(all[a])/float64(t.records))
			}
		}
	}
	return kept
}

// DiscernibilityLoss charges each record with the size of its class, and a
// suppressed record with the size of the table (Bayardo and Agrawal). Without
// suppression counted (ARX's monotonic DM*) a suppressed record is charged like
// any other.
type DiscernibilityLoss struct {
	records     int64
	suppression bool
}

var _ Loss = (*DiscernibilityLoss)(nil)

// NewDiscernibilityLoss is for groupings of t.
func NewDiscernibilityLoss(t *Table, suppression bool) *DiscernibilityLoss {
	return &DiscernibilityLoss{t.records, suppression}
}

func (l *DiscernibilityLoss) Name() string      { return "discernibility" }
func (l *DiscernibilityLoss) Fixed() bool       { return false }
func (l *DiscernibilityLoss) Bound([]int) Value { return nil }
func (l *DiscernibilityLoss) Of(_ []int, g *Grouping) (loss, bound Value) {
	var cost, least float64
	for class, n := range g.Records {
		square := float64(n) * float64(n)
		least += square
		if l.suppression && g.Suppressed[class] {
			square = float64(n) * float64(l.records)
		}
		cost += square
	}
	return Value{cost}, Value{least}
}

// ShareLoss is Iyengar's loss: a value costs the share of its column's domain
// that its generalization covers, a suppressed one 1; a column's mean, brought
// to 0 for the original values and 1 for none left. Columns are compared worst
// first, as ARX's "rank" does, so that no column is given up for the others.
type ShareLoss struct {
	table *Table
	level [][]float64 // column → level → sum over all records
	share [][][]float64
}

var _ Loss = (*ShareLoss)(nil)

// NewShareLoss measures the table once; add no records to it afterwards.
func NewShareLoss(t *Table) *ShareLoss {
	l := &ShareLoss{table: t, level: make([][]float64, len(t.quasi)), share: make([][][]float64, len(t.quasi))}
	for col, h := range t.quasi {
		leaves := t.leaves(col)
		for lev := range h.Levels() {
			share := make([]float64, h.Size(lev))
			for _, a := range h.up[lev] {
				share[a] += 1 / float64(h.Size(0))
			}
			if h.Size(lev) == 1 {
				share[0] = 1
			}
			var all float64
			for v, n := range leaves {
				all += float64(n) * share[h.up[lev][v]]
			}
			l.level[col] = append(l.level[col], all)
			l.share[col] = append(l.share[col], share)
		}
	}
	return l
}

func (l *ShareLoss) Name() string { return "loss" }
func (l *ShareLoss) Fixed() bool  { return false }
func (l *ShareLoss) Bound(levels []int) Value {
	v := make(Value, len(levels))
	for col, lev := range levels {
		v[col] = l.normal(col, l.level[col][lev])
	}
	return ranked(v)
}

func (l *ShareLoss) Of(levels []int, g *Grouping) (loss, bound Value) {
	t := l.table
	v := make(Value, len(levels))
	for col, h := range t.quasi {
		v[col] = l.level[col][levels[col]]
		share := l.share[col][levels[col]]
		for r, class := range g.Class {
			if g.Suppressed[class] {
				v[col] += float64(t.count[r]) * (1 - share[h.up[levels[col]][t.at(r, col)]])
			}
		}
		v[col] = l.normal(col, v[col])
	}
	return ranked(v), l.Bound(levels)
}

// normal brings a column's sum to 0 to 1.
func (l *ShareLoss) normal(col int, sum float64) float64 {
	size := float64(l.table.quasi[col].Size(0))
	if n := float64(l.table.records); size > 1 && n > 0 {
		return max(0, (sum-n/size)/(n-n/size))
	}
	return 0
}

func ranked(v Value) Value {
	slices.SortFunc(v, func(a, b float64) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	return v
}
