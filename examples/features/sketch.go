package main

import (
	"math"
	"slices"
)

// moments is a running mean and variance (Welford, Technometrics 4(3), 1962).
type moments struct {
	n        int64
	mean, m2 float64
	min, max float64
}

func (m *moments) add(x float64) {
	if m.n == 0 {
		m.min, m.max = x, x
	}
	m.n++
	d := x - m.mean
	m.mean += d / float64(m.n)
	m.m2 += d * (x - m.mean)
	m.min, m.max = min(m.min, x), max(m.max, x)
}

// sd is the sample standard deviation, 0 for fewer than two values.
func (m *moments) sd() float64 {
	if m.n < 2 {
		return 0
	}
	return math.Sqrt(m.m2 / float64(m.n-1))
}

const (
	maxExact = 2048 // different numbers kept as they are
	maxCells = 8192 // cells of the histogram
	firstCut = 45   // bits cut from a float64: 7 of 52 mantissa bits stay
)

// sketch counts numbers to find quantiles. Up to maxExact different numbers it
// is exact. Beyond, numbers fall into cells by the leading bits of their float64:
// with 7 mantissa bits a cell is 1/128 of its number wide, and its middle off by
// at most 1/256. Where even these are more than maxCells, cells are paired. What
// it holds depends on the numbers only, not on their order.
type sketch struct {
	n     int64
	exact map[float64]int64 // nil once there were too many
	cells map[int64]int64
	cut   uint
}

func newSketch() *sketch { return &sketch{exact: map[float64]int64{}, cut: firstCut} }

func (s *sketch) add(x float64) {
	s.n++
	if s.exact != nil {
		if s.exact[x]++; len(s.exact) <= maxExact {
			return
		}
		s.cells = map[int64]int64{}
		for x, n := range s.exact {
			s.cells[cell(x, s.cut)] += n
		}
		s.exact = nil
	} else {
		s.cells[cell(x, s.cut)]++
	}
	for len(s.cells) > maxCells {
		s.cut++
		wider := make(map[int64]int64, len(s.cells))
		for k, n := range s.cells {
			wider[pair(k)] += n
		}
		s.cells = wider
	}
}

// cell numbers the cells in the order of their numbers: the bits of a positive
// float64 grow with it. 0 and 1 up are positive, -1 down are negative numbers.
func cell(x float64, cut uint) int64 {
	k := int64(math.Float64bits(math.Abs(x)) >> cut)
	if x < 0 {
		return -1 - k
	}
	return k
}

// pair is the cell that holds cell k when one bit more is cut.
func pair(k int64) int64 {
	if k < 0 {
		return -1 - (-1-k)>>1
	}
	return k >> 1
}

// middle is the number in the middle of a cell.
func middle(k int64, cut uint) float64 {
	sign := 1.0
	if k < 0 {
		k, sign = -1-k, -1
	}
	if k == 0 {
		return 0
	}
	low := math.Float64frombits(uint64(k) << cut)
	high := math.Float64frombits(uint64(k+1) << cut)
	if math.IsInf(high, 0) {
		return sign * low
	}
	return sign * (low + (high-low)/2)
}

// quantile returns the number at part/whole of the records, by nearest rank.
func (s *sketch) quantile(part, whole int64) float64 {
	if s.n == 0 {
		return 0
	}
	want := max(1, (s.n*part+whole-1)/whole)
	if s.exact != nil {
		return nth(s.exact, want)
	}
	return middle(nth(s.cells, want), s.cut)
}

// nth is the key of the want-th record in key order, counting from 1.
func nth[K int64 | float64](counts map[K]int64, want int64) K {
	ks := make([]K, 0, len(counts))
	for k := range counts {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	for _, k := range ks {
		if want -= counts[k]; want <= 0 {
			return k
		}
	}
	return ks[len(ks)-1]
}
