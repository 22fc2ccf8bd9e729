package risk

import (
	"math"
	"testing"
)

// The chance of a class, by adding up the negative binomial law it is the
// expectation of.
func TestExpectedIsTheLawsMean(t *testing.T) {
	for _, p := range []float64{0.02, 0.1, 0.3, 0.5, 0.51, 0.9, 1} {
		for _, f := range []int64{1, 2, 3, 10, 200, 5000} {
			var mean, total float64
			n := float64(f)
			for extra := 0.0; extra < 40*(n/p+100/p); extra++ {
				a, _ := math.Lgamma(n + extra)
				b, _ := math.Lgamma(n)
				c, _ := math.Lgamma(extra + 1)
				log := a - b - c + n*math.Log(p)
				if extra > 0 {
					log += extra * math.Log(1-p)
				}
				w := math.Exp(log)
				total += w
				mean += w / (n + extra)
				if extra > n/p && w < 1e-18 {
					break
				}
			}
			if got := expected(f, p); math.Abs(total-1) > 1e-8 || math.Abs(got-mean) > 1e-8*mean {
				t.Errorf("f=%d p=%g: %v, want %v (of %v)", f, p, got, mean, total)
			}
		}
	}
}

// Weighted points add up to what all points do.
func TestAlongIsTheSum(t *testing.T) {
	for _, c := range []struct{ a, b float64 }{{1, 10}, {1, 65536}, {1, 3e6}, {65000, 70000}, {1e6, 2e6 + 7}, {100000, 100001}} {
		for name, f := range map[string]func(float64) float64{
			"1/x":      func(x float64) float64 { return 1 / x },
			"1/x²":     func(x float64) float64 { return 1 / (x * x) },
			"x/(x+c)²": func(x float64) float64 { return x / ((x + 12345) * (x + 12345)) },
			"1":        func(float64) float64 { return 1 },
		} {
			var want, got float64
			for x := c.a; x < c.b; x++ {
				want += f(x)
			}
			along(c.a, c.b, func(x, w float64) { got += w * f(x) })
			if math.Abs(got-want) > 1e-10*want {
				t.Errorf("%s from %g to %g: %v, want %v", name, c.a, c.b, got, want)
			}
		}
	}
}

// A population drawn from the slide negative binomial law, and the sample that
// is expected of it, lead SNB back to the population's uniques.
func TestSNBFindsItsOwnLaw(t *testing.T) {
	const alpha, beta, classes, f = 1.5, 0.3, 1e6, 0.3
	var sizes []Size
	chance := func(i int) float64 { // of a class of i+1 in the population
		a, _ := math.Lgamma(alpha + float64(i))
		b, _ := math.Lgamma(alpha)
		c, _ := math.Lgamma(float64(i) + 1)
		return math.Exp(a - b - c + alpha*math.Log(beta) + float64(i)*math.Log(1-beta))
	}
	var people float64
	for i := range 200 {
		people += classes * chance(i) * float64(i+1)
	}
	for s := 1; s < 60; s++ {
		var n float64
		for i := s - 1; i < 200; i++ {
			n += classes * chance(i) * math.Exp(choose(float64(i+1), float64(s))+float64(s)*math.Log(f)+float64(i+1-s)*math.Log(1-f))
		}
		if n >= 0.5 {
			sizes = append(sizes, Size{Records: int64(s), Classes: int64(math.Round(n))})
		}
	}
	u, err := Unique(sizes, f)
	if err != nil {
		t.Fatal(err)
	}
	want := classes * chance(0) / people
	t.Logf("%+v, want %v", u, want)
	// Shlosser's estimate of the number of classes is some percent off.
	if !(math.Abs(u.SNB-want) < 0.25*want) {
		t.Errorf("SNB %v, want about %v", u.SNB, want)
	}
	if got := newHistogram(sizes).snb(f, classes) / people; !(math.Abs(got-want) < 1e-3*want) {
		t.Errorf("with the right number of classes: SNB %v, want %v", got, want)
	}
}

// No estimate is better than a wrong one: degenerate samples.
func TestUniqueOfDegenerateSamples(t *testing.T) {
	for name, sizes := range map[string][]Size{
		"none": nil, "no uniques": {{5, 0, 3}}, "all unique": {{1, 0, 100}}, "one": {{1, 0, 1}}, "huge": {{1, 0, 1e8}, {1e8, 0, 3}},
	} {
		for _, f := range []float64{1e-9, 0.1, 0.5, 1} {
			u, err := Unique(sizes, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []float64{u.Pitman, u.Zayatz, u.SNB, u.Chosen} {
				if v < 0 || v > 1 {
					t.Errorf("%s at %g: %+v", name, f, u)
				}
			}
		}
	}
}
