package model

import (
	"math/bits"
	"slices"

	"sallyport"
)

// maxLocal bounds the columns that local suppression combines.
const maxLocal = 16

// Local is the outcome of local suppression.
type Local struct {
	Levels []int
	// Cells says, for each row of the table, which quasi-identifiers are
	// suppressed in it: bit i for the i-th. Dropped rows do not leave at all.
	Cells   []uint32
	Dropped []bool

	Suppressed int64 // records that do not leave
	Touched    int64 // records that leave with suppressed values
	Values     int64 // suppressed values in records that leave
	Classes    int64 // that leave
	Smallest   int64 // records of the smallest; 0 if none leaves
}

// Suppress rescues records of the classes that miss the criteria at some
// levels: single values of theirs are brought to the top of their hierarchy, as
// few as possible, until they share a class with enough others like them.
// Combinations of columns are tried from few to many, those that lose least
// entropy first; what none rescues is dropped, and that must be within the
// goal's limit, or the answer is a sallyport.NotFound. Every class that leaves,
// with its suppressed values, meets all criteria; should two of them read the
// same, so does their union.
func Suppress(t *Table, goal Goal, levels []int) (Local, error) {
	if err := check(t, goal.Criteria, goal.Limit); err != nil {
		return Local{}, err
	}
	if err := t.fits(levels); err != nil {
		return Local{}, err
	}
	top := t.Height()
	var free []int // columns that can be suppressed further
	for i := range top {
		if levels[i] < top[i] {
			free = append(free, i)
		}
	}
	if len(t.quasi) > 32 || len(free) > maxLocal {
		return Local{}, sallyport.Errorf("model", sallyport.Exhausted, "Generalize some columns to the top first.",
			"local suppression combines at most %d columns, not %d", maxLocal, len(free))
	}
	out := Local{Levels: slices.Clone(levels), Cells: make([]uint32, t.Rows()), Dropped: make([]bool, t.Rows())}
	loss := NewEntropyLoss(t, false)
	cost := make([]float64, 1<<len(free))
	masks := make([]uint32, 1<<len(free))
	for m := range masks {
		masks[m] = uint32(m)
		for i, col := range free {
			if m&(1<<i) != 0 {
				cost[m] += loss.level[col][top[col]] - loss.level[col][levels[col]]
			}
		}
	}
	slices.SortFunc(masks, func(a, b uint32) int {
		if c := bits.OnesCount32(a) - bits.OnesCount32(b); c != 0 {
			return c
		}
		switch {
		case cost[a] < cost[b]:
			return -1
		case cost[a] > cost[b]:
			return 1
		}
		return int(a) - int(b)
	})
	rest := make([]int32, t.Rows())
	for i := range rest {
		rest[i] = int32(i)
	}
	for _, mask := range masks {
		if len(rest) == 0 {
			break
		}
		at := slices.Clone(levels)
		var cells uint32
		for i, col := range free {
			if mask&(1<<i) != 0 {
				at[col] = top[col]
				cells |= 1 << col
			}
		}
		g := t.group(rest, at)
		c := examine(g, rest, goal.Criteria, t.records)
		if c.classes > 0 && (out.Classes == 0 || c.smallest < out.Smallest) {
			out.Smallest = c.smallest
		}
		out.Classes += c.classes
		var left []int32
		for i, r := range rest {
			if g.Suppressed[g.Class[i]] {
				left = append(left, r)
				continue
			}
			out.Cells[r] = cells
			if cells != 0 {
				out.Touched += t.count[r]
				out.Values += t.count[r] * int64(bits.OnesCount32(cells))
			}
		}
		rest = left
	}
	for _, r := range rest {
		out.Dropped[r] = true
		out.Suppressed += t.count[r]
	}
	if out.Suppressed > allowed(t.records, goal.Limit) {
		return Local{}, sallyport.Errorf("model", sallyport.NotFound, "Allow more suppression, ask for less, or generalize first.",
			"%d of %d records share a class with too few others, whatever is suppressed", out.Suppressed, t.records)
	}
	return out, nil
}
