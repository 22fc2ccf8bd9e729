package risk

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

func sortedKeys(m map[int64]int64) []int64 { return slices.Sorted(maps.Keys(m)) }

// Sizes turns the record counts of classes into sizes, smallest first.
func Sizes(classes iter.Seq[int64]) []Size {
	by := map[int64]int64{}
	for n := range classes {
		by[n]++
	}
	out := make([]Size, 0, len(by))
	for _, n := range sortedKeys(by) {
		out = append(out, Size{Records: n, Classes: by[n]})
	}
	return out
}

// ordered sorts sizes, so that sums do not depend on the order they came in.
func ordered(sizes []Size) []Size {
	return slices.SortedFunc(slices.Values(sizes), func(a, b Size) int {
		return cmp.Or(cmp.Compare(a.Records, b.Records), cmp.Compare(a.Population, b.Population))
	})
}
