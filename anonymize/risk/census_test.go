package risk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
)

// model counts as plainly as can be.
type model struct {
	classes map[string]int64
	pairs   []map[string]map[string]int64 // column, class, value
	values  []map[string]int64
	records int64
}

func newModel(columns int) *model {
	m := &model{classes: map[string]int64{}}
	for range columns {
		m.pairs, m.values = append(m.pairs, map[string]map[string]int64{}), append(m.values, map[string]int64{})
	}
	return m
}

func (m *model) add(class string, values []string) {
	m.records++
	m.classes[class]++
	for i, v := range values {
		if m.pairs[i][class] == nil {
			m.pairs[i][class] = map[string]int64{}
		}
		m.pairs[i][class][v]++
		m.values[i][v]++
	}
}

func (m *model) profile(column int, class string) profile {
	n := float64(m.classes[class])
	var entropy, away float64
	for v, c := range m.pairs[column][class] {
		p := float64(c) / n
		entropy -= p * math.Log2(p)
		away += max(0, p-float64(m.values[column][v])/float64(m.records))
	}
	return profile{int64(len(m.pairs[column][class])), math.Exp2(entropy), away}
}

func (m *model) sensitive(column int) Sensitive {
	if m.records == 0 {
		return Sensitive{}
	}
	s := Sensitive{Values: int64(len(m.values[column])), Distinct: math.MaxInt64, Entropy: math.Inf(1)}
	for class := range m.classes {
		p := m.profile(column, class)
		s.Distinct, s.Entropy, s.Closeness = min(s.Distinct, p.distinct), min(s.Entropy, p.entropy), max(s.Closeness, p.closeness)
	}
	return s
}

func hashed(h *Hasher, s string) Key { return h.key([]byte(s)) }

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12*max(1, math.Abs(b)) }

// A census gives what a map of strings gives, whatever was spilled in between,
// and leaves nothing behind.
func TestCensusCountsAsAMapDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "census")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		columns := rapid.IntRange(0, 2).Draw(t, "columns")
		memory := NewMemory(int64(rapid.SampledFrom([]int{6 << 10, 20 << 10, 200 << 10, 64 << 20}).Draw(t, "memory")))
		whole := memory.left
		c := NewCensus(Options{Memory: memory, Dir: dir, Sensitive: columns})
		other := NewCensus(Options{Memory: memory, Dir: dir}) // competes for the memory
		want := newModel(columns)
		h := NewHasher()
		count := func(what string) {
			n := rapid.IntRange(0, 300).Draw(t, what)
			classes := rapid.SampledFrom([]int{1, 5, 100, 100000}).Draw(t, "classes")
			values := rapid.SampledFrom([]int{1, 4, 60, 100000}).Draw(t, "values")
			seed := rapid.Uint32().Draw(t, "seed")
			batch := rapid.Bool().Draw(t, "batch")
			var keys, vals []Key
			for range n {
				seed = seed*1664525 + 1013904223
				class := fmt.Sprint("c", int(seed>>8)%classes)
				var v []string
				var k []Key
				for i := range columns {
					seed = seed*1664525 + 1013904223
					v = append(v, fmt.Sprint(i, int(seed>>8)%values))
					k = append(k, hashed(h, v[i]))
				}
				want.add(class, v)
				keys, vals = append(keys, hashed(h, class)), append(vals, k...)
				if !batch {
					if err := c.AddSensitive(keys[len(keys)-1], k); err != nil {
						t.Fatal(err)
					}
				}
				if err := other.Add(hashed(h, fmt.Sprint("o", seed%500))); err != nil {
					t.Fatal(err)
				}
			}
			if batch {
				if err := c.AddBatch(keys, vals); err != nil {
					t.Fatal(err)
				}
			}
		}
		check := func() {
			ctx := t.Context()
			sizes, err := c.Sizes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sizes, Sizes(maps.Values(want.classes))) || c.Records() != want.records {
				t.Fatalf("sizes %v, want %v", sizes, Sizes(maps.Values(want.classes)))
			}
			got, err := c.Sensitive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range got {
				w := want.sensitive(i)
				if s.Values != w.Values || s.Distinct != w.Distinct || !near(s.Entropy, w.Entropy) || !near(s.Closeness, w.Closeness) {
					t.Fatalf("column %d: %+v, want %+v", i, s, w)
				}
			}
			k, l, close := int64(rapid.IntRange(0, 6).Draw(t, "k")), int64(0), 0.0
			if columns > 0 {
				l, close = int64(rapid.IntRange(0, 4).Draw(t, "l")), float64(rapid.IntRange(0, 5).Draw(t, "t"))/5.001
			}
			set, records, err := c.Failing(ctx, k, l, close)
			if sallyport.KindOf(err) == sallyport.Exhausted {
				if memory.limit > 200<<10 {
					t.Fatal(err)
				}
				return // the set itself must fit
			} else if err != nil {
				t.Fatal(err)
			}
			var failing, in int64
			for class, n := range want.classes {
				fails := n < k
				for i := range columns {
					p := want.profile(i, class)
					fails = fails || p.distinct < l || close > 0 && p.closeness > close
				}
				if set.Has(hashed(h, class)) != fails {
					t.Fatalf("class of %d: in the set %v, fails %v (k %d, l %d, t %v)", n, !fails, fails, k, l, close)
				}
				if fails {
					failing, in = failing+1, in+n
				}
			}
			if set.Len() != failing || records != in {
				t.Fatalf("%d classes of %d records fail, want %d of %d", set.Len(), records, failing, in)
			}
			if set.Has(hashed(h, "none of them")) {
				t.Fatal("a strange class is in the set")
			}
			set.Close()
		}
		count("records")
		check()
		count("more records")
		check()
		if spilled := c.Spilled() > 0; memory.limit == 64<<20 && columns == 0 && spilled {
			t.Fatal("spilled without need")
		}
		if err := errors.Join(c.Close(), other.Close()); err != nil {
			t.Fatal(err)
		}
		if memory.left != whole || len(memory.members) != 0 {
			t.Fatalf("%d bytes are not given back", whole-memory.left)
		}
		nothingLeft(t, dir)
		if err := c.AddSensitive(Key{}, make([]Key, columns)); sallyport.KindOf(err) != sallyport.Internal {
			t.Fatal("a closed census counts")
		}
	})
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func nothingLeft(t fataler, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 0 {
		t.Fatalf("left behind: %v %v", files, err)
	}
}

// Key distinguishes tuples that run into each other.
func TestHasherKeepsFieldsApart(t *testing.T) {
	h := NewHasher()
	f := func(fields ...string) Key {
		var b [][]byte
		var places []int
		for i, s := range fields {
			b, places = append(b, []byte(s)), append(places, i)
		}
		return h.Key(b, places, -1)
	}
	seen := map[Key]bool{f("ab", "c"): true, f("a", "bc"): true, f("", "abc"): true, f("abc", ""): true, f("abc"): true, f("abc", "", ""): true}
	if len(seen) != 6 {
		t.Errorf("%d keys of 6 tuples", len(seen))
	}
	if h.Key([][]byte{[]byte("x"), []byte("y")}, []int{0, 1}, 0) != f("y") {
		t.Error("a skipped place is in the key")
	}
}

func spread64(i int) Key {
	return KeyOf(uint64(i)*0x9e3779b97f4a7c15, uint64(i)*0xd1342543de82ef95)
}

// Without a folder the census ends where its memory does; what it counted
// until then can be measured, and classes that it knows still be counted.
func TestCensusWithoutAFolder(t *testing.T) {
	for _, columns := range []int{0, 2} {
		memory := NewMemory(1 << 20)
		c := NewCensus(Options{Memory: memory, Sensitive: columns})
		values := []Key{spread64(7), spread64(8)}[:columns]
		var n int
		var err error
		for ; err == nil; n++ {
			err = c.AddSensitive(spread64(n), values)
		}
		if sallyport.KindOf(err) != sallyport.Exhausted || c.Records() != int64(n-1) || n < 1000 {
			t.Fatalf("%v after %d of %d", err, c.Records(), n)
		}
		if err := c.AddSensitive(spread64(0), values); err != nil {
			t.Fatalf("a known class: %v", err)
		}
		sizes, err := c.Sizes(t.Context())
		if err != nil || !slices.Equal(sizes, []Size{{Records: 1, Classes: int64(n - 2)}, {Records: 2, Classes: 1}}) {
			t.Fatalf("%v %v", sizes, err)
		}
		if columns == 0 {
			if _, records, err := c.Failing(t.Context(), 2, 0, 0); sallyport.KindOf(err) != sallyport.Exhausted || records != int64(n-2) {
				t.Errorf("%v, %d records fail of %d", err, records, n-2)
			}
		}
		if err := c.Close(); err != nil || memory.left != 1<<20 {
			t.Errorf("%v, %d bytes left", err, memory.left)
		}
	}
}

// In memory, a class costs at most 32 bytes.
func TestMemoryOfAClass(t *testing.T) {
	memory := NewMemory(1 << 30)
	c := NewCensus(Options{Memory: memory})
	worst := 0.0
	for i := range 4_000_000 {
		if err := c.Add(spread64(i)); err != nil {
			t.Fatal(err)
		}
		if i >= 3_000_000 {
			worst = max(worst, float64(c.taken)/float64(i+1))
		}
	}
	if worst > 32 {
		t.Errorf("%.1f bytes a class", worst)
	}
	if used, _ := c.classes.load(); used != 4_000_000 || c.taken != c.classes.bytes() {
		t.Errorf("%d classes, %d bytes of %d", used, c.taken, c.classes.bytes())
	}
}

// Keys that are not spread at all are counted right, if slowly.
func TestKeysThatAreNotSpread(t *testing.T) {
	for name, key := range map[string]func(i uint64) Key{
		"low":   func(i uint64) Key { return KeyOf(0, i) },
		"small": func(i uint64) Key { return KeyOf(i, 0) },
		"high":  func(i uint64) Key { return KeyOf(math.MaxUint64, i) },
		"last":  func(i uint64) Key { return KeyOf(math.MaxUint64-i, math.MaxUint64) },
	} {
		c := NewCensus(Options{Memory: NewMemory(1 << 30), Sensitive: 1})
		for i := range uint64(6000) {
			if err := c.AddSensitive(key(i%3000), []Key{key(i % 3000)}); err != nil {
				t.Fatal(name, err)
			}
		}
		sizes, err := c.Sizes(t.Context())
		if err != nil || !slices.Equal(sizes, []Size{{Records: 2, Classes: 3000}}) {
			t.Errorf("%s: %v %v", name, sizes, err)
		}
		s, err := c.Sensitive(t.Context())
		if err != nil || s[0].Values != 3000 || s[0].Distinct != 1 {
			t.Errorf("%s: %v %v", name, s, err)
		}
		c.Close()
	}
}

// The population may be spilled and the table not, or the other way round.
func TestSizesIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "census")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		draw := func(name string) (*Census, map[int]int64) {
			memory := NewMemory(int64(rapid.SampledFrom([]int{8 << 10, 64 << 20}).Draw(t, name+" memory")))
			c, m := NewCensus(Options{Memory: memory, Dir: dir}), map[int]int64{}
			for _, i := range rapid.SliceOf(rapid.IntRange(0, 60)).Draw(t, name) {
				if err := c.Add(spread64(i)); err != nil {
					t.Fatal(err)
				}
				m[i]++
			}
			return c, m
		}
		table, inTable := draw("table")
		people, inPeople := draw("people")
		defer table.Close()
		defer people.Close()
		want := map[[2]int64]int64{}
		var lacking int64
		for i, n := range inTable {
			p := inPeople[i]
			if p < n {
				lacking += n
				p = n
			}
			want[[2]int64{n, p}]++
		}
		got, missing, err := table.SizesIn(t.Context(), people)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range got {
			if want[[2]int64{s.Records, s.Population}] != s.Classes {
				t.Fatalf("%v, want %v", got, want)
			}
		}
		if len(got) != len(want) || missing != lacking {
			t.Fatalf("%v %d, want %v %d", got, missing, want, lacking)
		}
	})
}

// The figures do not depend on the order of the records, nor on the seeds: not
// in their last bit.
func TestSensitiveIsTheSameEachTime(t *testing.T) {
	measure := func(order []int, memory int64) Sensitive {
		c := NewCensus(Options{Memory: NewMemory(memory), Dir: t.TempDir(), Sensitive: 1})
		defer c.Close()
		h := NewHasher()
		for _, i := range order {
			if err := c.AddSensitive(hashed(h, fmt.Sprint(i%7)), []Key{hashed(h, fmt.Sprint(i*i%97))}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := c.Sensitive(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s[0]
	}
	var order []int
	for i := range 5000 {
		order = append(order, i)
	}
	want := measure(order, 64<<20)
	slices.Reverse(order)
	for range 3 {
		if got := measure(order, 64<<20); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if got := measure(order, 16<<10); got != want {
			t.Errorf("spilled %+v, want %+v", got, want)
		}
	}
}

// A class of very many different counts is folded.
func TestWeigherFolds(t *testing.T) {
	var w, folded weigher
	const n = 40000
	var class uint64
	for i := range uint64(n) {
		class += i%300 + 1
	}
	w.begin(class, 2*class)
	folded.begin(class, 2*class)
	for i := range uint64(n) {
		w.add(pair{n: i%300 + 1, total: 1, values: 1})
	}
	for i := range uint64(300) {
		times := uint64(n / 300)
		if i < n%300 {
			times++
		}
		folded.add(pair{n: i + 1, total: 1, values: times})
	}
	if a, b := w.end(), folded.end(); a != b || a.distinct != n {
		t.Errorf("%+v, folded %+v", a, b)
	}
}
