package model

import (
	"fmt"
	"math"
	"slices"

	"sallyport"
)

// Class is one equivalence class: its records, and for each sensitive attribute
// of the table how many of them have each value.
type Class struct {
	Records int64
	Counts  [][]int64
}

// Criterion is a privacy model: what a class must be like to leave. Every
// criterion here holds for the union of two classes for which it holds.
type Criterion interface {
	Name() string
	Holds(c Class) bool
	// Least is the fewest records that a class can have for which it holds.
	Least() int64
	// Absorbs says that a class for which it holds still holds when any other
	// class joins it. Then suppression does not disturb the lattice's order.
	Absorbs() bool
}

// KAnonymity holds for classes of at least K records.
type KAnonymity struct{ K int64 }

var _ Criterion = KAnonymity{}

func (m KAnonymity) Name() string       { return fmt.Sprintf("%d-anonymity", m.K) }
func (m KAnonymity) Holds(c Class) bool { return c.Records >= m.K }
func (m KAnonymity) Least() int64       { return m.K }
func (m KAnonymity) Absorbs() bool      { return true }

// DistinctDiversity holds for classes with at least L distinct values of the
// sensitive attribute numbered Attribute.
type DistinctDiversity struct {
	Attribute int
	L         int64
}

var _ Criterion = DistinctDiversity{}

func (m DistinctDiversity) Name() string       { return fmt.Sprintf("distinct %d-diversity", m.L) }
func (m DistinctDiversity) Holds(c Class) bool { return Distinct(c.Counts[m.Attribute]) >= m.L }
func (m DistinctDiversity) Least() int64       { return m.L }
func (m DistinctDiversity) Absorbs() bool      { return true }

// EntropyDiversity holds for classes whose entropy of the sensitive attribute
// is at least log L: as much as that of L equally frequent values.
type EntropyDiversity struct {
	Attribute int
	L         float64
}

var _ Criterion = EntropyDiversity{}

func (m EntropyDiversity) Name() string { return fmt.Sprintf("entropy %g-diversity", m.L) }
func (m EntropyDiversity) Holds(c Class) bool {
	// Equally frequent values reach the bound exactly; rounding must not fail them.
	return Entropy(c.Counts[m.Attribute]) >= math.Log2(m.L)-1e-12
}
func (m EntropyDiversity) Least() int64  { return int64(math.Ceil(m.L - 1e-9)) }
func (m EntropyDiversity) Absorbs() bool { return false }

// RecursiveDiversity is recursive (C, L)-diversity: the most frequent sensitive
// value is less frequent than C times the sum of the L-th and all rarer ones.
type RecursiveDiversity struct {
	Attribute int
	C         float64
	L         int64
}

var _ Criterion = RecursiveDiversity{}

func (m RecursiveDiversity) Name() string {
	return fmt.Sprintf("recursive (%g, %d)-diversity", m.C, m.L)
}
func (m RecursiveDiversity) Holds(c Class) bool {
	most, tail := recursive(c.Counts[m.Attribute], m.L)
	return float64(most) < m.C*float64(tail)
}
func (m RecursiveDiversity) Least() int64  { return m.L }
func (m RecursiveDiversity) Absorbs() bool { return false }

// recursive returns the count of the most frequent value and the sum of the
// counts from the l-th most frequent on.
func recursive(counts []int64, l int64) (most, tail int64) {
	var present []int64
	for _, n := range counts {
		if n > 0 {
			present = append(present, n)
		}
	}
	slices.SortFunc(present, func(a, b int64) int { return int(min(1, max(-1, b-a))) })
	if len(present) > 0 {
		most = present[0]
	}
	for i := max(0, l-1); i < int64(len(present)); i++ {
		tail += present[i]
	}
	return most, tail
}

// Closeness is t-closeness: the distance between a class's distribution of the
// sensitive attribute and the table's is at most T. The distance measures from
// the table's distribution.
type Closeness struct {
	Attribute int
	T         float64
	Distance  Distance
}

var _ Criterion = Closeness{}

func (m Closeness) Name() string       { return fmt.Sprintf("%g-closeness (%s)", m.T, m.Distance.Name()) }
func (m Closeness) Holds(c Class) bool { return m.Distance.Of(c.Counts[m.Attribute]) <= m.T+1e-12 }
func (m Closeness) Least() int64       { return 1 }
func (m Closeness) Absorbs() bool      { return false }

// Distinct returns how many values have a count.
func Distinct(counts []int64) (n int64) {
	for _, c := range counts {
		if c > 0 {
			n++
		}
	}
	return n
}

// Entropy returns the Shannon entropy of counts in bits.
func Entropy(counts []int64) (bits float64) {
	total := sum(counts)
	for _, c := range counts {
		if c > 0 {
			p := float64(c) / float64(total)
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

func sum(counts []int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// check refuses criteria that mean nothing for a table.
func check(t *Table, criteria []Criterion, limit float64) error {
	bad := func(hint, format string, args ...any) error {
		return sallyport.Errorf("model", sallyport.Invalid, hint, format, args...)
	}
	if math.IsNaN(limit) || limit < 0 || limit > 1 {
		return bad("Give a share of the records.", "a suppression limit must be from 0 to 1")
	}
	if len(criteria) == 0 {
		return bad("Name at least k-anonymity.", "there is no privacy model")
	}
	for _, c := range criteria {
		attribute, ok := 0, true
		sensitive := true
		switch m := c.(type) {
		case KAnonymity:
			ok, sensitive = m.K >= 1, false
		case DistinctDiversity:
			attribute, ok = m.Attribute, m.L >= 1
		case EntropyDiversity:
			attribute, ok = m.Attribute, m.L >= 1
		case RecursiveDiversity:
			attribute, ok = m.Attribute, m.L >= 1 && m.C > 0
		case Closeness:
			attribute, ok = m.Attribute, m.T >= 0 && m.T <= 1 && m.Distance != nil
		}
		if !ok {
			return bad("k and l are at least 1, c is above 0, t is from 0 to 1.", "a privacy model has an argument out of its range")
		}
		if sensitive && (attribute < 0 || attribute >= len(t.sensitive)) {
			return bad("Name the sensitive column.", "%s needs a sensitive attribute that the table lacks", c.Name())
		}
	}
	return nil
}
