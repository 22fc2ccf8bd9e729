package model

import "math"

// Distance is the earth mover's distance from a table's distribution of one
// sensitive attribute, 0 to 1 (Li et al. 2007, section 4). Each is made for the
// counts of the whole table and then measures classes.
type Distance interface {
	Name() string
	Of(counts []int64) float64
}

// EqualDistance treats all values as equally far apart: half the sum of the
// differences of their shares.
type EqualDistance struct{ table []float64 }

var _ Distance = (*EqualDistance)(nil)

// NewEqualDistance takes the whole table's counts.
func NewEqualDistance(table []int64) *EqualDistance { return &EqualDistance{shares(table)} }

func (d *EqualDistance) Name() string { return "equal distance" }
func (d *EqualDistance) Of(counts []int64) float64 {
	var sum float64
	for i, p := range shares(counts) {
		sum += math.Abs(p - d.table[i])
	}
	return sum / 2
}

// OrderedDistance takes values as equally spaced along a line.
type OrderedDistance struct {
	table []float64
	order []int
}

var _ Distance = (*OrderedDistance)(nil)

// NewOrderedDistance takes the whole table's counts and the values' numbers in
// their order, each that occurs once.
func NewOrderedDistance(table []int64, order []int) *OrderedDistance {
	return &OrderedDistance{shares(table), order}
}

func (d *OrderedDistance) Name() string { return "ordered distance" }
func (d *OrderedDistance) Of(counts []int64) float64 {
	if len(d.order) < 2 {
		return 0
	}
	p := shares(counts)
	var moved, sum float64
	for _, v := range d.order {
		moved += p[v] - d.table[v]
		sum += math.Abs(moved)
	}
	return sum / float64(len(d.order)-1)
}

// HierarchicalDistance takes two values as far apart as the height of their
// lowest common ancestor, as a share of the hierarchy's height.
type HierarchicalDistance struct {
	table     []float64
	hierarchy *Hierarchy
	parent    [][]int32 // level → value → its parent
}

var _ Distance = (*HierarchicalDistance)(nil)

// NewHierarchicalDistance takes the whole table's counts and the hierarchy of
// the attribute, whose top level has one value.
func NewHierarchicalDistance(table []int64, h *Hierarchy) *HierarchicalDistance {
	d := &HierarchicalDistance{table: shares(table), hierarchy: h, parent: make([][]int32, h.Levels()-1)}
	for l := range d.parent {
		d.parent[l] = make([]int32, h.Size(l))
		for v, a := range h.up[l] {
			d.parent[l][a] = h.up[l+1][v]
		}
	}
	return d
}

func (d *HierarchicalDistance) Name() string { return "hierarchical distance" }

// Of sums, over the inner nodes, what must move between their children: the
// lesser of the surpluses and the deficits, times the node's height.
func (d *HierarchicalDistance) Of(counts []int64) float64 {
	extra := shares(counts)
	for i := range extra {
		extra[i] -= d.table[i]
	}
	var cost float64
	for l, parent := range d.parent {
		size := d.hierarchy.Size(l + 1)
		plus, minus := make([]float64, size), make([]float64, size)
		for v, e := range extra {
			if e > 0 {
				plus[parent[v]] += e
			} else {
				minus[parent[v]] -= e
			}
		}
		extra = make([]float64, size)
		for i := range extra {
			cost += float64(l+1) * min(plus[i], minus[i])
			extra[i] = plus[i] - minus[i]
		}
	}
	// A hierarchy without one root cannot bring everything together; what is
	// left moves across its whole height.
	var left float64
	for _, e := range extra {
		left += math.Abs(e) / 2
	}
	height := float64(max(1, len(d.parent)))
	return (cost + left*height) / height
}

func shares(counts []int64) []float64 {
	p := make([]float64, len(counts))
	total := float64(sum(counts))
	if total == 0 {
		return p
	}
	for i, c := range counts {
		p[i] = float64(c) / total
	}
	return p
}

// SensitiveCounts returns how many records have each value of a sensitive
// attribute: what a [Distance] measures from.
func (t *Table) SensitiveCounts(attribute int) []int64 {
	n := make([]int64, t.sensitive[attribute].Size(0))
	for r := range t.count {
		n[t.at(r, len(t.quasi)+attribute)] += t.count[r]
	}
	return n
}
