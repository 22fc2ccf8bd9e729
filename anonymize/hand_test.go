package anonymize

import (
	"hash/maphash"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"sallyport/anonymize/risk"
)

// Classes and tuples of strings are told apart alike, also where values run
// into each other ("ab","c" and "a","bc"), and with one value left out.
func TestClassesAreTuples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &hand{e: &editor{session: newSession(PassEnv{})}}
		places := []int{2, 0}
		skip := rapid.IntRange(-1, 1).Draw(t, "skip")
		classes, model := map[risk.Key]int{}, map[[2]string]int{}
		for _, record := range rapid.SliceOf(rapid.SliceOfN(rapid.StringMatching(`[ab,]{0,3}`), 3, 3)).Draw(t, "records") {
			fields := [][]byte{[]byte(record[0]), []byte(record[1]), []byte(record[2])}
			tuple := [2]string{record[2], record[0]}
			if skip >= 0 {
				tuple[skip] = ""
			}
			classes[h.class(fields, places, skip)]++
			model[tuple]++
		}
		if len(classes) != len(model) {
			t.Fatalf("%d classes, want %d", len(classes), len(model))
		}
		if got, want := risk.Sizes(widen(maps.Values(classes))), risk.Sizes(widen(maps.Values(model))); len(got) != len(want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func widen(seq func(func(int) bool)) func(func(int64) bool) {
	return func(yield func(int64) bool) { seq(func(n int) bool { return yield(int64(n)) }) }
}

// A sample of parts, merged, is the sample of the whole, and exact while it fits.
func TestSampleMerges(t *testing.T) {
	seed := maphash.MakeSeed()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int{64, 100, 1 << 15}).Draw(t, "most")
		whole, parts := newSample(most), []*sample{newSample(most), newSample(most), newSample(most)}
		model := map[int]int{}
		n := rapid.SampledFrom([]int{0, 10, 60, 500, 3000}).Draw(t, "values")
		spread := rapid.SampledFrom([]int{1, 50, 64, 65, 5000}).Draw(t, "spread")
		state := rapid.Uint64().Draw(t, "state")
		for range n {
			state = state*6364136223846793005 + 1442695040888963407
			v := int(state>>33) % spread
			model[v]++
			hash := maphash.Comparable(seed, v)
			whole.add(hash)
			parts[state>>60%3].add(hash)
		}
		if rapid.Bool().Draw(t, "into an empty one") {
			parts = append([]*sample{newSample(most)}, parts...)
		}
		for _, p := range parts[1:] {
			parts[0].merge(p)
		}
		distinct, unique, estimated := whole.counts()
		if d, u, e := parts[0].counts(); d != distinct || u != unique || e != estimated {
			t.Fatalf("merged %d %d %t, whole %d %d %t", d, u, e, distinct, unique, estimated)
		}
		once := 0
		for _, k := range model {
			if k == 1 {
				once++
			}
		}
		if estimated != (len(model) > most) {
			t.Fatalf("%d values of %d: estimated %t", len(model), most, estimated)
		}
		if !estimated && (distinct != int64(len(model)) || unique != int64(once)) {
			t.Fatalf("%d, %d once; want %d, %d", distinct, unique, len(model), once)
		}
	})
}
