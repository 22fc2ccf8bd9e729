package model

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
)

// anyHierarchy has up to three levels above its values, the top with one.
func anyHierarchy(t *rapid.T, name string) *Hierarchy {
	n := rapid.IntRange(1, 6).Draw(t, name+" values")
	levels := rapid.IntRange(1, 3).Draw(t, name+" levels")
	lines := make([][]string, n)
	for v := range lines {
		lines[v] = []string{fmt.Sprint("v", v)}
	}
	group := make([]int, n) // of the level below
	for v := range group {
		group[v] = v
	}
	for l := 1; l <= levels; l++ {
		parent := map[int]int{}
		for v := range lines {
			p, ok := parent[group[v]]
			if !ok {
				if l < levels {
					p = rapid.IntRange(0, 2).Draw(t, "parent")
				}
				parent[group[v]] = p
			}
			group[v] = p
			lines[v] = append(lines[v], fmt.Sprint("l", l, "g", p))
		}
	}
	h, err := NewHierarchy(name, lines)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func anyTable(t *rapid.T) *Table {
	quasi := make([]*Hierarchy, rapid.IntRange(1, 4).Draw(t, "quasi"))
	for i := range quasi {
		quasi[i] = anyHierarchy(t, fmt.Sprint("q", i))
	}
	secret := []*Hierarchy{anyHierarchy(t, "s")}
	table, err := NewTable(quasi, secret)
	if err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(1, 40).Draw(t, "rows") {
		q := make([]int32, len(quasi))
		for i, h := range quasi {
			q[i] = int32(rapid.IntRange(0, h.Size(0)-1).Draw(t, "value"))
		}
		s := []int32{int32(rapid.IntRange(0, secret[0].Size(0)-1).Draw(t, "secret"))}
		if err := table.Add(q, s, int64(rapid.IntRange(1, 3).Draw(t, "records"))); err != nil {
			t.Fatal(err)
		}
	}
	return table
}

func anyCriteria(t *rapid.T, table *Table) []Criterion {
	counts := table.SensitiveCounts(0)
	order := make([]int, len(counts))
	for i := range order {
		order[i] = i
	}
	all := []Criterion{
		KAnonymity{int64(rapid.IntRange(1, 8).Draw(t, "k"))},
		DistinctDiversity{0, int64(rapid.IntRange(1, 3).Draw(t, "l"))},
		EntropyDiversity{0, rapid.Float64Range(1, 3).Draw(t, "entropy l")},
		RecursiveDiversity{0, rapid.Float64Range(0.5, 3).Draw(t, "c"), int64(rapid.IntRange(1, 3).Draw(t, "recursive l"))},
		Closeness{0, rapid.Float64Range(0, 1).Draw(t, "t"), NewEqualDistance(counts)},
		Closeness{0, rapid.Float64Range(0, 1).Draw(t, "t"), NewOrderedDistance(counts, order)},
		Closeness{0, rapid.Float64Range(0, 1).Draw(t, "t"), NewHierarchicalDistance(counts, table.sensitive[0])},
	}
	var some []Criterion
	for _, c := range all {
		if rapid.IntRange(0, 2).Draw(t, "use") == 0 {
			some = append(some, c)
		}
	}
	if len(some) == 0 {
		some = all[:1]
	}
	return some
}

func anyLoss(t *rapid.T, table *Table) Loss {
	return rapid.SampledFrom([]Loss{NewEntropyLoss(table, false), NewEntropyLoss(table, true),
		NewDiscernibilityLoss(table, false), NewDiscernibilityLoss(table, true), NewShareLoss(table)}).Draw(t, "loss")
}

// The search finds what trying every node finds, twice the same.
func TestSearchEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		goal := Goal{anyCriteria(t, table), rapid.SampledFrom([]float64{0, .1, .3, 1}).Draw(t, "limit"), anyLoss(t, table)}
		l, err := newLattice(table.Height())
		if err != nil {
			t.Fatal(err)
		}
		var best Solution
		found := false
		for n := range l.nodes {
			levels := make([]int, len(l.top))
			l.levels(n, levels)
			s, _, ok, err := Check(table, goal, levels)
			if err != nil {
				t.Fatal(err)
			}
			if ok && (!found || s.Loss.Less(best.Loss)) {
				best, found = s, true
			}
		}
		got, err := Search(t.Context(), table, goal)
		if !found {
			if sallyport.KindOf(err) != sallyport.NotFound {
				t.Fatalf("no node reaches the goal, but: %+v, %v", got, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := Search(t.Context(), table, goal)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("not the same twice: %+v, %+v, %v", got, again, err)
		}
		if got.Checks > l.nodes {
			t.Fatalf("%d checks of %d nodes", got.Checks, l.nodes)
		}
		best.Checks, best.Nodes = got.Checks, got.Nodes
		if !reflect.DeepEqual(got, best) {
			t.Fatalf("%+v, but trying every node finds %+v", got, best)
		}
	})
}

// Large lattices are searched along paths only; the answer is the same.
func TestPathsFindWhatCoveringFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		goal := Goal{anyCriteria(t, table), rapid.SampledFrom([]float64{0, .1, .3}).Draw(t, "limit"), anyLoss(t, table)}
		a, errA := searchWith(t.Context(), table, goal, 0)
		b, errB := searchWith(t.Context(), table, goal, maxCovered)
		a.Checks, b.Checks = 0, 0
		if sallyport.KindOf(errA) != sallyport.KindOf(errB) || !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v %v, %+v %v", a, errA, b, errB)
		}
	})
}

// What the search relies on: the union of classes that hold holds, and a class
// that absorbs holds whatever joins it; no class that holds is below Least.
func TestCriteriaAreMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		size := table.sensitive[0].Size(0)
		class := func(label string) Class {
			c := Class{Counts: [][]int64{make([]int64, size)}}
			for i := range size {
				c.Counts[0][i] = int64(rapid.IntRange(0, 5).Draw(t, label))
			}
			c.Counts[0][0]++
			c.Records = sum(c.Counts[0])
			return c
		}
		a, b := class("a"), class("b")
		both := Class{a.Records + b.Records, [][]int64{make([]int64, size)}}
		for i := range size {
			both.Counts[0][i] = a.Counts[0][i] + b.Counts[0][i]
		}
		for _, m := range anyCriteria(t, table) {
			if m.Holds(a) && (m.Holds(b) || m.Absorbs()) && !m.Holds(both) {
				t.Fatalf("%s holds for %v and %v, but not for both", m.Name(), a, b)
			}
			if m.Holds(a) && a.Records < m.Least() {
				t.Fatalf("%s holds for %d records", m.Name(), a.Records)
			}
		}
	})
}

// A loss never falls as levels rise, its bound is never above it, and a fixed
// loss is its bound.
func TestLossesAreMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		loss := anyLoss(t, table)
		low, high := make([]int, len(table.quasi)), table.Height()
		for i, top := range high {
			low[i] = rapid.IntRange(0, top).Draw(t, "low")
			high[i] = rapid.IntRange(low[i], top).Draw(t, "high")
		}
		a, bound := loss.Of(low, table.Group(low))
		b, _ := loss.Of(high, table.Group(high))
		nearly := func(v Value) Value {
			w := slices.Clone(v)
			for i := range w {
				w[i] += 1e-9 * (1 + math.Abs(w[i]))
			}
			return w
		}
		if nearly(b).Less(a) || nearly(b).Less(bound) || nearly(a).Less(bound) {
			t.Fatalf("%s at %v is %v (bound %v), at %v %v", loss.Name(), low, a, bound, high, b)
		}
		if free := loss.Bound(low); free != nil && nearly(a).Less(free) || loss.Fixed() && !slices.Equal(a, free) {
			t.Fatalf("%s at %v is %v, its bound %v", loss.Name(), low, a, free)
		}
	})
}

// Distances are metrics' first half: 0 for the table itself, at most 1, equal
// distance never below the hierarchical one.
func TestDistances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		counts := table.SensitiveCounts(0)
		order := make([]int, len(counts))
		for i := range order {
			order[i] = i
		}
		equal, tree := NewEqualDistance(counts), NewHierarchicalDistance(counts, table.sensitive[0])
		part := make([]int64, len(counts))
		for i := range part {
			part[i] = int64(rapid.IntRange(0, 4).Draw(t, "count"))
		}
		part[0]++
		for _, d := range []Distance{equal, tree, NewOrderedDistance(counts, order)} {
			if own := d.Of(counts); own > 1e-12 {
				t.Fatalf("%s of the table is %v", d.Name(), own)
			}
			if v := d.Of(part); v < 0 || v > 1+1e-12 {
				t.Fatalf("%s of %v from %v is %v", d.Name(), part, counts, v)
			}
		}
		if tree.Of(part) > equal.Of(part)+1e-12 {
			t.Fatalf("%v above %v", tree.Of(part), equal.Of(part))
		}
	})
}

// The worked example of Li et al. 2007, section 4: salaries 3k to 11k.
func TestOrderedDistanceOfThePaper(t *testing.T) {
	all := []int64{1, 1, 1, 1, 1, 1, 1, 1, 1}
	d := NewOrderedDistance(all, []int{0, 1, 2, 3, 4, 5, 6, 7, 8})
	for _, c := range []struct {
		counts []int64
		want   float64
	}{
		{[]int64{1, 1, 1, 0, 0, 0, 0, 0, 0}, 0.375},               // 3k 4k 5k
		{[]int64{0, 0, 0, 1, 0, 1, 0, 0, 1}, 0.16666666666666666}, // 6k 8k 11k
	} {
		if got := d.Of(c.counts); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v: %v, want %v", c.counts, got, c.want)
		}
	}
}

// What leaves after local suppression meets the criteria, read as it leaves.
func TestSuppressReachesTheGoal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := anyTable(t)
		goal := Goal{Criteria: anyCriteria(t, table), Limit: rapid.SampledFrom([]float64{0, .2, 1}).Draw(t, "limit")}
		levels := table.Height()
		for i, top := range levels {
			levels[i] = rapid.IntRange(0, top).Draw(t, "level")
		}
		plain, _, ok, err := Check(table, goal, levels)
		if err != nil {
			t.Fatal(err)
		}
		local, err := Suppress(table, goal, levels)
		if err != nil {
			if ok || sallyport.KindOf(err) != sallyport.NotFound {
				t.Fatal(err)
			}
			return
		}
		if ok && local.Suppressed > plain.Suppressed {
			t.Fatalf("%d records suppressed, without rescue %d", local.Suppressed, plain.Suppressed)
		}
		classes := map[string]*Class{}
		var dropped, values int64
		for r := range table.Rows() {
			n := table.count[r]
			if local.Dropped[r] {
				dropped += n
				continue
			}
			key := ""
			for i, h := range table.quasi {
				level := levels[i]
				if local.Cells[r]&(1<<i) != 0 {
					level = h.Levels() - 1
					values += n
				}
				key += h.Value(table.at(r, i), level) + "|"
			}
			c := classes[key]
			if c == nil {
				c = &Class{Counts: [][]int64{make([]int64, table.sensitive[0].Size(0))}}
				classes[key] = c
			}
			c.Records += n
			c.Counts[0][table.at(r, len(table.quasi))] += n
		}
		if dropped != local.Suppressed || dropped > allowed(table.records, goal.Limit) || values != local.Values {
			t.Fatalf("%d dropped, %d values: %+v", dropped, values, local)
		}
		for key, c := range classes {
			for _, m := range goal.Criteria {
				if !m.Holds(*c) {
					t.Fatalf("%s does not hold for %s", m.Name(), key)
				}
			}
		}
	})
}

func TestHierarchyRefusesWhatIsNoTree(t *testing.T) {
	for name, lines := range map[string][][]string{
		"empty":       {},
		"ragged":      {{"a", "*"}, {"b"}},
		"twice":       {{"a", "*"}, {"a", "*"}},
		"two parents": {{"a", "x", "1"}, {"b", "x", "2"}},
	} {
		if _, err := NewHierarchy("h", lines); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoalsThatMeanNothingAreRefused(t *testing.T) {
	h, err := Flat("a", []string{"x", "y"})
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable([]*Hierarchy{h}, nil)
	if err != nil {
		t.Fatal(err)
	}
	loss := NewEntropyLoss(table, false)
	for name, goal := range map[string]Goal{
		"no criterion": {nil, 0, loss},
		"no loss":      {[]Criterion{KAnonymity{2}}, 0, nil},
		"k":            {[]Criterion{KAnonymity{0}}, 0, loss},
		"limit":        {[]Criterion{KAnonymity{2}}, 1.1, loss},
		"not a limit":  {[]Criterion{KAnonymity{2}}, math.NaN(), loss},
		"no sensitive": {[]Criterion{DistinctDiversity{0, 2}}, 0, loss},
		"no distance":  {[]Criterion{Closeness{0, .1, nil}}, 0, loss},
	} {
		if _, err := Search(t.Context(), table, goal); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
