package risk_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize/risk"
)

func anySizes(t *rapid.T) []risk.Size {
	sizes := make([]risk.Size, rapid.IntRange(0, 8).Draw(t, "sizes"))
	for i := range sizes {
		sizes[i] = risk.Size{Records: rapid.Int64Range(1, 50).Draw(t, "records"), Classes: rapid.Int64Range(1, 40).Draw(t, "classes")}
	}
	return sizes
}

// Two classes of 3 and one of 1, in a population with 6, 4 and 10 of them.
func TestAttackersByHand(t *testing.T) {
	r, err := risk.Measure([]risk.Size{{3, 6, 1}, {3, 4, 1}, {1, 10, 1}}, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-15 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("prosecutor highest", r.Prosecutor.Highest, 1)
	near("prosecutor average", r.Prosecutor.Average, 3./7)
	near("prosecutor above", r.Prosecutor.ShareAbove, 1)
	near("journalist highest", r.Journalist.Highest, 1./4)
	near("marketer average", r.Marketer.Average, (3./6+3./4+1./10)/7)
	near("journalist average", r.Journalist.Average, max((3./6+3./4+1./10)/7, 3./20))
	near("journalist above", r.Journalist.ShareAbove, 3./7)
	near("unique", r.UniqueShare, 1./7)
	if r.SmallestClass != 1 || r.Classes != 3 || r.Records != 7 {
		t.Errorf("%+v", r)
	}
}

// Shares are shares, a population only lowers the risk, and generalizing, which
// joins classes, raises none of a prosecutor's figures.
func TestRisksAreOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := anySizes(t)
		threshold := rapid.Float64Range(0, 1).Draw(t, "threshold")
		own, err := risk.Measure(sizes, threshold)
		if err != nil {
			t.Fatal(err)
		}
		if own.Prosecutor != own.Marketer || own.Prosecutor != own.Journalist {
			t.Fatalf("%+v", own)
		}
		for _, v := range []float64{own.UniqueShare, own.Prosecutor.Highest, own.Prosecutor.Average, own.Prosecutor.ShareAbove} {
			if v < 0 || v > 1 {
				t.Fatalf("%+v", own)
			}
		}
		sample, err := risk.MeasureSample(sizes, own.Records+rapid.Int64Range(0, 1e9).Draw(t, "more"), threshold)
		if err != nil {
			t.Fatal(err)
		}
		if sample.Prosecutor != own.Prosecutor || sample.Journalist.Highest > own.Prosecutor.Highest+1e-12 ||
			sample.Marketer.Average > own.Prosecutor.Average+1e-12 || sample.Marketer.Average < 0 {
			t.Fatalf("%+v in a population, %+v alone", sample, own)
		}
		if len(sizes) >= 2 {
			joined := append([]risk.Size{{Records: sizes[0].Records + sizes[1].Records, Classes: 1}}, sizes[2:]...)
			for _, s := range sizes[:2] {
				if s.Classes--; s.Classes > 0 {
					joined = append(joined, s)
				}
			}
			less, err := risk.Measure(joined, threshold)
			if err != nil {
				t.Fatal(err)
			}
			if less.Prosecutor.Average > own.Prosecutor.Average || less.Prosecutor.Highest > own.Prosecutor.Highest ||
				less.Prosecutor.ShareAbove > own.Prosecutor.ShareAbove || less.UniqueShare > own.UniqueShare {
				t.Fatalf("%+v joined, %+v before", less, own)
			}
		}
	})
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	for name, try := range map[string]func() error{
		"threshold":  func() error { _, err := risk.Measure(nil, 1.5); return err },
		"nan":        func() error { _, err := risk.Measure(nil, math.NaN()); return err },
		"no records": func() error { _, err := risk.Measure([]risk.Size{{0, 0, 1}}, 0); return err },
		"population": func() error { _, err := risk.Measure([]risk.Size{{3, 2, 1}}, 0); return err },
		"size":       func() error { _, err := risk.MeasureSample([]risk.Size{{3, 0, 1}}, 2, 0); return err },
		"fraction":   func() error { _, err := risk.Unique([]risk.Size{{3, 0, 1}}, 0); return err },
	} {
		if err := try(); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
