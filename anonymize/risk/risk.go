// Package risk measures how easily the people in a table are recognized. It is
// pure: class sizes go in, figures come out.
//
// The three attackers and their figures are those of K. El Emam, Guide to the
// De-Identification of Personal Health Information (2013), chapter 16. The
// prosecutor knows that a person is in the table and looks for that person. The
// journalist knows only the population that the table was drawn from, and wants
// to recognize anyone. The marketer links as many records as possible and does
// not mind mistakes.
//
// Figures hold for the quasi-identifiers counted over: a column that nobody
// declared is not in them.
package risk

import (
	"math"

	"sallyport"
)

// Size is how many equivalence classes have the same number of records in the
// table, and in the population it was drawn from.
type Size struct {
	Records    int64 // in the table, at least 1
	Population int64 // in the population, at least Records; 0: the table is the population
	Classes    int64
}

// Attacker is what one of the three can do.
type Attacker struct {
	Highest float64 `json:"highest"` // chance of the most exposed record
	Average float64 `json:"average"` // expected share of records recognized
	// ShareAbove is the share of records whose chance is above the threshold.
	ShareAbove float64 `json:"share_above"`
}

// Report holds the figures of a table.
type Report struct {
	Records       int64    `json:"records"`
	Classes       int64    `json:"classes"`
	SmallestClass int64    `json:"smallest_class"` // k; 0 for an empty table
	UniqueShare   float64  `json:"unique_share"`   // records alone in their class
	Prosecutor    Attacker `json:"prosecutor"`
	Journalist    Attacker `json:"journalist"`
	Marketer      Attacker `json:"marketer"`
}

// Measure computes the figures from class sizes. Without a population the table
// is its own, and the journalist is as strong as the prosecutor: the cautious
// reading. A threshold is a chance, 0 to 1.
func Measure(sizes []Size, threshold float64) (Report, error) {
	r, err := count(sizes, threshold)
	if err != nil {
		return Report{}, err
	}
	chance := func(s Size) float64 {
		if s.Population == 0 {
			return 1 / float64(s.Records)
		}
		return 1 / float64(s.Population)
	}
	r.Prosecutor = attack(sizes, r.Records, threshold, func(s Size) float64 { return 1 / float64(s.Records) })
	r.Marketer = attack(sizes, r.Records, threshold, chance)
	r.Journalist = r.Marketer
	// A journalist who may choose whom to look for does at least as well as one
	// who draws from the population of the table's classes at random.
	var classes, people float64
	for _, s := range sizes {
		classes += float64(s.Classes)
		people += float64(s.Classes) * max(float64(s.Records), float64(s.Population))
	}
	if people > 0 {
		r.Journalist.Average = max(r.Journalist.Average, classes/people)
	}
	return r, nil
}

// MeasureSample is Measure for a table that is a random sample of a population
// of which only the size is known. The chance 1/F of a class with f records is
// then estimated by its expectation, F following the negative binomial law with
// the sampling fraction (R. Benedetti and L. Franconi, Statistical and
// technological solutions for controlled data dissemination, 1998). The
// prosecutor's figures stay exact.
func MeasureSample(sizes []Size, population int64, threshold float64) (Report, error) {
	r, err := count(sizes, threshold)
	if err != nil {
		return Report{}, err
	}
	if population < r.Records {
		return Report{}, sallyport.Errorf("risk", sallyport.Invalid, "Give the size of the population that the table was drawn from.",
			"a population of %d is smaller than the table of %d", population, r.Records)
	}
	fraction := 1.0
	if r.Records > 0 {
		fraction = float64(r.Records) / float64(population)
	}
	r.Prosecutor = attack(sizes, r.Records, threshold, func(s Size) float64 { return 1 / float64(s.Records) })
	r.Marketer = attack(sizes, r.Records, threshold, func(s Size) float64 { return expected(s.Records, fraction) })
	r.Journalist = r.Marketer
	return r, nil
}

func count(sizes []Size, threshold float64) (Report, error) {
	if math.IsNaN(threshold) || threshold < 0 || threshold > 1 {
		return Report{}, sallyport.Errorf("risk", sallyport.Invalid, "Give a chance, such as 0.2.", "a threshold must be from 0 to 1")
	}
	var r Report
	var unique int64
	for _, s := range sizes {
		if s.Records < 1 || s.Classes < 1 || s.Population != 0 && s.Population < s.Records {
			return Report{}, sallyport.Errorf("risk", sallyport.Invalid, "The population must hold every record of the table.",
				"%d classes of %d records and %d of the population cannot be", s.Classes, s.Records, s.Population)
		}
		r.Records += s.Records * s.Classes
		r.Classes += s.Classes
		if r.SmallestClass == 0 || s.Records < r.SmallestClass {
			r.SmallestClass = s.Records
		}
		if s.Records == 1 {
			unique += s.Classes
		}
	}
	if r.Records > 0 {
		r.UniqueShare = float64(unique) / float64(r.Records)
	}
	return r, nil
}

func attack(sizes []Size, records int64, threshold float64, chance func(Size) float64) Attacker {
	var a Attacker
	if records == 0 {
		return a
	}
	sizes = ordered(sizes)
	var sum float64
	var above, classes int64
	own := true // a class is one expected hit
	for _, s := range sizes {
		c := chance(s)
		a.Highest = max(a.Highest, c)
		sum += float64(s.Classes) * float64(s.Records) * c
		classes += s.Classes
		own = own && c == 1/float64(s.Records)
		if c > threshold {
			above += s.Classes * s.Records
		}
	}
	a.Average = sum / float64(records)
	if own {
		a.Average = float64(classes) / float64(records) // to the last digit
	}
	a.ShareAbove = float64(above) / float64(records)
	return a
}

// expected returns E[1/F | f] for the sampling fraction p: the integral of
// (ps/(1-qs))^f / s over s from 0 to 1, q = 1-p.
func expected(f int64, p float64) float64 {
	q := 1 - p
	if q <= 0 {
		return 1 / float64(f)
	}
	if p <= 0.5 && f <= 1000 {
		r := p / q * -math.Log(p)
		for i := int64(1); i < f; i++ {
			r = p / q * (1/float64(i) - r)
		}
		return r
	}
	// (p/f) times the hypergeometric series 2F1(1, 1; f+1; q): all its terms are
	// positive, and it converges fast for small q or large f.
	term, sum := 1.0, 1.0
	for k := 0.0; term > 1e-17*sum; k++ {
		term *= (k + 1) * q / (float64(f) + 1 + k)
		sum += term
	}
	return p / float64(f) * sum
}
