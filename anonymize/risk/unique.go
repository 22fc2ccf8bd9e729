package risk

import (
	"math"

	"sallyport"
)

// Uniqueness estimates which share of a population is alone in its class, by
// the classes of a sample. NaN is an estimate that the data do not allow.
type Uniqueness struct {
	Pitman float64 // Hoshino, Journal of Official Statistics 17(4), 2001
	Zayatz float64 // Zayatz, Census/SRD/RR-91/08, 1991
	SNB    float64 // slide negative binomial: Chen and Keller-McNulty, JOS 14(1), 1998
	// Chosen is the estimate of the rule of F. Dankar et al., BMC Medical
	// Informatics and Decision Making 12:66, 2012: Pitman for fractions of 0.1
	// and less, else the lesser of Zayatz and SNB, or whichever there is.
	Chosen float64
	Model  string // whose estimate Chosen is
}

// Unique estimates a population's uniqueness from a sample that is the given
// fraction of it, above 0 to 1. All figures are shares of the population.
func Unique(sizes []Size, fraction float64) (Uniqueness, error) {
	r, err := count(sizes, 0)
	if err != nil {
		return Uniqueness{}, err
	}
	if !(fraction > 0 && fraction <= 1) {
		return Uniqueness{}, sallyport.Errorf("risk", sallyport.Invalid, "Give the share of the population that the table holds.", "a sampling fraction must be above 0 and at most 1")
	}
	h := newHistogram(sizes)
	population := float64(r.Records) / fraction
	if fraction == 1 || h.of(1) == 0 {
		u := r.UniqueShare
		return Uniqueness{u, u, u, u, "sample"}, nil
	}
	u := Uniqueness{Pitman: h.pitman(population) / population, Zayatz: h.zayatz(population), SNB: h.snb(fraction, h.shlosser(fraction)) / population}
	for _, e := range []*float64{&u.Pitman, &u.Zayatz, &u.SNB} {
		if !(*e >= 0 && *e <= 1) {
			*e = math.NaN()
		}
	}
	u.Chosen, u.Model = u.Pitman, "pitman"
	if fraction > 0.1 || math.IsNaN(u.Pitman) {
		u.Chosen, u.Model = u.Zayatz, "zayatz"
		if u.SNB < u.Zayatz || math.IsNaN(u.Zayatz) {
			u.Chosen, u.Model = u.SNB, "snb"
		}
	}
	return u, nil
}

// histogram is classes by size, as floats for the models' formulas.
type histogram struct {
	size, classes []float64
	n, u          float64 // records and classes
}

func newHistogram(sizes []Size) histogram {
	by := map[int64]int64{}
	for _, s := range sizes {
		by[s.Records] += s.Classes
	}
	var h histogram
	for _, size := range sortedKeys(by) {
		c := float64(by[size])
		h.size, h.classes = append(h.size, float64(size)), append(h.classes, c)
		h.n += float64(size) * c
		h.u += c
	}
	return h
}

func (h histogram) of(size float64) float64 {
	for i, s := range h.size {
		if s == size {
			return h.classes[i]
		}
	}
	return 0
}

// pitman returns the expected number of uniques in a population under Pitman's
// sampling formula: theta and alpha by maximum likelihood, Newton's method
// from Hoshino's moment estimates.
func (h histogram) pitman(population float64) float64 {
	c1, c2 := h.of(1), max(1, h.of(2))
	n, u := h.n, h.u
	c := c1 * (c1 - 1) / c2
	t := (n*u*c - c1*(n-1)*(2*u+c)) / (2*c1*u + c1*c - n*c)
	a := (t*(c1-n) + (n-1)*c1) / (n * u)
	ft, fa, _, _, _ := h.likelihood(t, a)
	for range 500 {
		if !(math.Abs(ft) > 1e-9 || math.Abs(fa) > 1e-9) {
			break
		}
		_, _, tt, ta, aa := h.likelihood(t, a)
		det := tt*aa - ta*ta
		dt, da := (ft*aa-fa*ta)/det, (fa*tt-ft*ta)/det
		// Half steps keep the estimate where the formula means something, and
		// the gradient shrinking.
		step := 1.0
		for ; step > 1e-6; step /= 2 {
			t2, a2 := t-step*dt, a-step*da
			if a2 <= 0 || a2 >= 1 || t2 <= -a2 {
				continue
			}
			gt, ga, _, _, _ := h.likelihood(t2, a2)
			if gt*gt*t2*t2+ga*ga < (ft*ft*t*t+fa*fa)*(1+1e-9) || step < 1e-5 {
				t, a, ft, fa = t2, a2, gt, ga
				break
			}
		}
		if !(step > 1e-6) {
			break
		}
	}
	if math.IsNaN(t) || math.IsNaN(a) || a <= 0 || a >= 1 || math.Abs(ft*t) > 1e-3*h.u || math.Abs(fa) > 1e-3*h.u {
		return math.NaN()
	}
	g1, _ := math.Lgamma(t + 1)
	g2, _ := math.Lgamma(t + a)
	return math.Exp(g1-g2) * math.Pow(population, a)
}

// likelihood returns the gradient and the second derivatives of the logarithm
// of Pitman's likelihood.
func (h histogram) likelihood(t, a float64) (dt, da, tt, ta, aa float64) {
	along(1, h.u, func(i, w float64) {
		v := 1 / (t + i*a)
		dt += w * v
		da += w * i * v
		tt -= w * v * v
		ta -= w * i * v * v
		aa -= w * i * i * v * v
	})
	along(1, h.n, func(i, w float64) {
		v := 1 / (t + i)
		dt -= w * v
		tt += w * v * v
	})
	var s1, s2 float64 // sums of 1/(j-a) and its square, j from 1 to size-1
	from := 1.0
	for k, size := range h.size {
		along(from, size, func(j, w float64) {
			v := 1 / (j - a)
			s1 += w * v
			s2 += w * v * v
		})
		from = size
		da -= h.classes[k] * s1
		aa -= h.classes[k] * s2
	}
	return dt, da, tt, ta, aa
}

// along calls add for the whole numbers from a up to but not b, with weight 1;
// far out, where sums of smooth functions are as good as integrals, for a few
// weighted points instead (five-point Gauss-Legendre on growing intervals), so
// that a table of 10^9 records costs no more than one of 10^5.
func along(a, b float64, add func(x, weight float64)) {
	const far = 1 << 16
	for ; a < b && (a < far || b-a < 64); a++ {
		add(a, 1)
	}
	points := [...]struct{ at, weight float64 }{
		{0, 128. / 225},
		{0.5384693101056831, 0.47862867049936647}, {-0.5384693101056831, 0.47862867049936647},
		{0.9061798459386640, 0.23692688505618908}, {-0.9061798459386640, 0.23692688505618908},
	}
	for a < b {
		end := min(b, math.Floor(a*1.125))
		half := (end - a) / 2
		for _, p := range points {
			add(a-0.5+half*(1+p.at), half*p.weight)
		}
		a = end
	}
}

// zayatz returns the share of the sample's records that are estimated to be
// unique in the population, which by the sampling is the population's share.
func (h histogram) zayatz(population float64) float64 {
	// The chance that a class of some size leaves exactly one record in the
	// sample, taking the sample's sizes as the population's.
	var one float64
	for i, size := range h.size {
		one += h.classes[i] / h.u * hypergeometricOne(population, size, h.n)
	}
	c1 := h.of(1)
	return c1 * (c1 / h.u * (h.n / population) / one) / h.n
}

// hypergeometricOne returns the chance that n draws of N without putting back
// hold exactly one of K.
func hypergeometricOne(population, k, n float64) float64 {
	if population-k < n-1 {
		return 0
	}
	return math.Exp(math.Log(k) + choose(population-k, n-1) - choose(population, n))
}

func choose(n, k float64) float64 {
	a, _ := math.Lgamma(n + 1)
	b, _ := math.Lgamma(k + 1)
	c, _ := math.Lgamma(n - k + 1)
	return a - b - c
}

// snb returns the expected number of uniques in the population under the slide
// negative binomial model, size-1 of a class following NB(a, b): the sample's
// classes of one and of two records are met, given the number k of the
// population's classes. Where the two cannot be met it is NaN.
func (h histogram) snb(f, k float64) float64 {
	c1, c2 := h.of(1), h.of(2)
	// For each b, a follows from the ones; what is left is one equation in b.
	ones := func(a, b float64) float64 {
		d := (1 - f) * (1 - b)
		return k*f*math.Pow(b/(1-d), a)*(a*d/(1-d)+1) - c1
	}
	twos := func(a, b float64) float64 {
		d := (1 - f) * (1 - b)
		return k*a*math.Pow(b, a)*f*f*(1-b)/(2*math.Pow(1-d, a+2))*(2-(1-a)*d) - c2
	}
	// As a grows the ones rise to a mode, and then fall to nothing; only the
	// falling side is searched. A solution on the other would have the uniques
	// grow with a.
	alpha := func(b float64) float64 {
		d := (1 - f) * (1 - b)
		lo, hi := max(1e-9, -1/math.Log(b/(1-d))-(1-d)/d), 1e6
		if !(ones(lo, b) > 0) || !(ones(hi, b) < 0) {
			return math.NaN()
		}
		for range 100 {
			mid := math.Sqrt(lo * hi)
			if ones(mid, b) > 0 {
				lo = mid
			} else {
				hi = mid
			}
		}
		return math.Sqrt(lo * hi)
	}
	left := func(b float64) float64 { return twos(alpha(b), b) }
	b := root(left)
	if !(math.Abs(left(b)) <= 1e-3*max(1, c2)) {
		return math.NaN()
	}
	return k * math.Pow(b, alpha(b))
}

// root looks for a change of sign of f between 0 and 1, evenly by the odds, and
// halves it; NaN if it sees none.
func root(f func(float64) float64) float64 {
	const steps = 400
	before, prev := math.NaN(), math.NaN()
	for i := range steps {
		odds := math.Exp((float64(i)/(steps-1)*2 - 1) * math.Log(1e6))
		x := odds / (1 + odds)
		now := f(x)
		if before*now <= 0 {
			for range 60 {
				mid := (prev + x) / 2
				if f(mid)*before > 0 {
					prev = mid
				} else {
					x = mid
				}
			}
			return (prev + x) / 2
		}
		before, prev = now, x
	}
	return math.NaN()
}

// shlosser estimates the number of classes in the population (P. Haas and
// L. Stokes, JASA 93(444), 1998: the modified estimator).
func (h histogram) shlosser(f float64) float64 {
	var a, b, c, d float64
	for i, size := range h.size {
		n := h.classes[i]
		a += size * f * f * math.Pow(1-f*f, size-1) * n
		b += math.Pow(1-f, size) * (math.Pow(1+f, size) - 1) * n
		c += math.Pow(1-f, size) * n
		d += size * f * math.Pow(1-f, size-1) * n
	}
	return h.u + h.of(1)*(a/b)*(c/d)*(c/d)
}
