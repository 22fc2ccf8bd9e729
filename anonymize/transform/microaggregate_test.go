package transform_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/transform"
)

// prepared shows microaggregate a column and binds it.
func prepared(t interface {
	Helper()
	Fatal(...any)
}, a args, values ...string) anonymize.Apply {
	t.Helper()
	p, err := transform.Microaggregate{}.Prepare(a, env())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := p.Observe([]byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	apply, err := p.Bind()
	if err != nil {
		t.Fatal(err)
	}
	return apply
}

func TestMicroaggregate(t *testing.T) {
	values := []string{"1", "2", "3", "10", "11", "12", "", "30.0"}
	for _, c := range []struct {
		args args
		want []string
	}{
		{args{"k": 2}, []string{"2", "2", "2", "10", "10", "21", "", "21"}}, // 10.5 goes to the even 10
		{args{"k": 3}, []string{"2", "2", "2", "16", "16", "16", "", "16"}},
		{args{"k": 3, "places": 2}, []string{"2.00", "2.00", "2.00", "15.75", "15.75", "15.75", "", "15.75"}},
		{args{"k": 4}, []string{"10", "10", "10", "10", "10", "10", "", "10"}},
	} {
		apply := prepared(t, c.args, values...)
		for i, v := range values {
			got, err := apply([]byte("b"), []byte(v), nil)
			if err != nil || string(got) != "b"+c.want[i] {
				t.Errorf("%v: %q became %q (%v), want %q", c.args, v, got, err, c.want[i])
			}
		}
	}
}

// Every group has at least k records, each result is its group's mean, and no
// cut into runs of k has a smaller squared error: all of them are tried.
func TestMicroaggregateIsOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(2, 4).Draw(t, "k")
		values := rapid.SliceOfN(rapid.IntRange(-40, 40), k, 14).Draw(t, "values")
		scale := rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "scale")
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = strconv.FormatFloat(float64(v)/float64(scale), 'f', -1, 64)
		}
		apply := prepared(t, args{"k": k, "places": 12}, texts...)
		members := map[string][]int{}
		for i, v := range values {
			got, err := apply(nil, []byte(texts[i]), nil)
			if err != nil {
				t.Fatal(err)
			}
			members[string(got)] = append(members[string(got)], v)
		}
		got := 0.0
		for mean, m := range members {
			if len(m) < k {
				t.Fatalf("%v, k %d: a group of %d", values, k, len(m))
			}
			sum := 0
			for _, v := range m {
				sum += v
			}
			if want := big.NewRat(int64(sum), int64(len(m)*scale)); rat(t, mean).Cmp(rat(t, want.FloatString(12))) != 0 && !closeTo(t, mean, want) {
				t.Fatalf("%v have the mean %s, got %s", m, want, mean)
			}
			got += squares(m)
		}
		slices.Sort(values)
		if want := cheapest(values, k); got > want+1e-6 {
			t.Fatalf("%v, k %d: squared error %g, the least is %g", values, k, got, want)
		}
	})
}

func closeTo(t *rapid.T, got string, want *big.Rat) bool {
	d := new(big.Rat).Sub(rat(t, got), want)
	return d.Abs(d).Cmp(big.NewRat(1, 1e12)) <= 0
}

// cheapest tries every cut of sorted values into runs of at least k that keep
// equal values together.
func cheapest(values []int, k int) float64 {
	if len(values) == 0 {
		return 0
	}
	best := math.Inf(1)
	for n := k; n <= len(values); n++ {
		if n < len(values) && values[n] == values[n-1] {
			continue
		}
		best = min(best, squares(values[:n])+cheapest(values[n:], k))
	}
	return best
}

func squares(values []int) float64 {
	mean, sum := 0.0, 0.0
	for _, v := range values {
		mean += float64(v) / float64(len(values))
	}
	for _, v := range values {
		sum += (float64(v) - mean) * (float64(v) - mean)
	}
	return sum
}

// The order of the records does not matter, nor do many goroutines' bindings.
func TestMicroaggregateIsDeterministic(t *testing.T) {
	var values []string
	for i := range 2000 {
		values = append(values, fmt.Sprintf("%d.%d", i*i%997, i%7))
	}
	one := prepared(t, args{"k": 5}, values...)
	slices.Reverse(values)
	other := prepared(t, args{"k": 5}, values...)
	for _, v := range values {
		x, err1 := one(nil, []byte(v), nil)
		y, err2 := other(nil, []byte(v), nil)
		if err1 != nil || err2 != nil || string(x) != string(y) {
			t.Fatalf("%s became %s and %s (%v, %v)", v, x, y, err1, err2)
		}
	}
}

func TestMicroaggregateRefuses(t *testing.T) {
	prepare := func(a args) anonymize.Preparation {
		p, err := transform.Microaggregate{}.Prepare(a, env())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prepare(args{"k": 3})
	if err := p.Observe([]byte("secret")); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("no number: %v", err)
	}
	for _, v := range []string{"1", "2", ""} {
		if err := p.Observe([]byte(v)); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Bind(); sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
		t.Errorf("two values for k = 3: %v", err)
	}
	apply := prepared(t, args{"k": 3, "otherwise": "suppress"}, "1", "2", "n/a")
	for _, v := range []string{"1", "n/a"} {
		if got, err := apply(nil, []byte(v), nil); err != nil || string(got) != transform.Suppressed {
			t.Errorf("%s: %q, %v", v, got, err)
		}
	}
	if got, err := prepared(t, args{"k": 3})(nil, nil, nil); err != nil || len(got) > 0 {
		t.Errorf("a column without values: %q, %v", got, err)
	}
	far := prepare(args{"k": 2})
	for _, v := range []string{"99999999999999999", "0.001"} {
		if err := far.Observe([]byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := far.Bind(); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("values too far apart: %v", err)
	}
	// Without a reading, nothing leaves.
	if got, err := bind(t, transform.Microaggregate{}, args{"k": 3})(nil, []byte("1"), nil); err == nil || len(got) > 0 {
		t.Errorf("unprepared: %q, %v", got, err)
	}
}

func TestMicroaggregateMemoryIsBounded(t *testing.T) {
	p, err := transform.Microaggregate{}.Prepare(args{"k": 3}, env())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(1 << 20) {
		if err = p.Observe(strconv.AppendInt(nil, i, 10)); err != nil {
			break
		}
	}
	if sallyport.KindOf(err) != sallyport.Exhausted || sallyport.HintOf(err) == "" {
		t.Errorf("a million values: %v", err)
	}
}

func BenchmarkVerbs(b *testing.B) {
	for _, c := range []struct {
		name   string
		verb   anonymize.Transform
		args   args
		values []string
	}{
		{"ff1 10 digits", transform.FF1{}, args{"alphabet": "digits"}, []string{"0123456789", "0123456788"}},
		{"ff1 36 hex", transform.FF1{}, args{"alphabet": "hex", "keep": "-"}, []string{"123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174001"}},
		{"encrypt", transform.Encrypt{}, nil, []string{"M000017", "M000018"}},
		{"pseudonym", transform.Pseudonym{}, nil, []string{"M000017", "M000018"}},
		{"round", transform.Round{}, args{"to": 5}, []string{"72.4", "72.6"}},
		{"age90", transform.Age90{}, nil, []string{"41", "94"}},
		{"zip3", transform.ZIP3{}, args{"vintage": 2020}, []string{"02139", "82190"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			apply := bind(b, c.verb, c.args)
			var dst []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var err error
				if dst, err = apply(dst[:0], []byte(c.values[i%2]), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("microaggregate", func(b *testing.B) {
		var values []string
		for i := range 10000 {
			values = append(values, fmt.Sprint(i*7919%99991))
		}
		apply := prepared(b, args{"k": 5}, values...)
		var dst []byte
		for i := 0; b.Loop(); i++ {
			var err error
			if dst, err = apply(dst[:0], []byte(values[i%len(values)]), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMicroaggregatePartition(b *testing.B) {
	for _, k := range []int{5, 100} {
		b.Run(fmt.Sprintf("100000 values k=%d", k), func(b *testing.B) {
			for b.Loop() {
				p, err := transform.Microaggregate{}.Prepare(args{"k": k}, env())
				if err != nil {
					b.Fatal(err)
				}
				for i := range int64(100_000) {
					if err := p.Observe(strconv.AppendInt(nil, i*i, 10)); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := p.Bind(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
