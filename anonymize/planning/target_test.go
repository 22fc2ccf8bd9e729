package planning_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize/planning"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]planning.Target{
		"k=5, Safe Harbor, keep age useful": {K: 5, Limit: .04, SafeHarbor: true, Keep: []planning.Keep{{Column: "age", Weight: 10}}},
		"K = 10; l 2; 0.3-closeness":        {K: 10, L: 2, T: .3, Limit: .04},
		"5-anonymity, 3-diversity":          {K: 5, L: 3, Limit: .04},
		"k=2,limit=2.5 %":                   {K: 2, Limit: .025},
		"limit 0, hipaa safe_harbor":        {K: 1, SafeHarbor: true},
		`keep "Year, of birth", keep zip=3`: {K: 1, Limit: .04, Keep: []planning.Keep{{Column: "Year, of birth", Weight: 10}, {Column: "zip", Weight: 3}}},
		`keep "a=b"=0.5 useful`:             {K: 1, Limit: .04, Keep: []planning.Keep{{Column: "a=b", Weight: .5}}},
	} {
		got, err := planning.ParseTarget(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		keep := slices.Equal(got.Keep, want.Keep)
		got.Keep, want.Keep = nil, nil
		if !keep || got.String() != want.String() || got.K != want.K {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestParseTargetSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "a clause is empty",
		"k=5,":                          "a clause is empty",
		"k=five":                        "k: a whole number",
		"k=0":                           "k: a whole number",
		"k=5, k=6":                      "k is given twice",
		"k=5, 6-anonymity":              "k is given twice",
		"t=2":                           "t: a share",
		"entropy l=0":                   "entropy l: a number",
		"recursive c=x l=2":             "recursive: a number",
		"recursive c=3 l=0":             "recursive: a whole number",
		"limit=-1":                      "limit: a share",
		"t=NaN":                         "t: a share",
		"make it safe":                  `"make it safe" is no clause`,
		"keep age, keep age":            "kept twice",
		"keep age=0":                    "a weight",
		"keep age=x":                    "a weight",
		`keep ""`:                       "no name",
		`keep "age`:                     "a quote is not closed",
		"Safe Harbor, safe-harbour":     "Safe Harbor is given twice",
		strings.Repeat("x", 100) + ", ": "no clause",
	} {
		_, err := planning.ParseTarget(text)
		if err == nil || !strings.Contains(err.Error(), want) || sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// What a target prints as is read as the same target.
func TestTargetReadsWhatItPrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := planning.Target{
			K: rapid.Int64Range(1, 1000).Draw(t, "k"), L: rapid.SampledFrom([]int64{0, 2, 5}).Draw(t, "l"),
			T: rapid.SampledFrom([]float64{0, .1, .25}).Draw(t, "t"), Limit: rapid.Float64Range(0, 1).Draw(t, "limit"), SafeHarbor: rapid.Bool().Draw(t, "harbor"),
			EntropyL: rapid.SampledFrom([]float64{0, 2, 2.5}).Draw(t, "entropy"),
		}
		if rapid.Bool().Draw(t, "recursive") {
			want.RecursiveC, want.RecursiveL = .5, 3
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zA-Z_,;= ]{0,6}[a-z]`), 0, 3, rapid.ID).Draw(t, "keep") {
			want.Keep = append(want.Keep, planning.Keep{Column: name, Weight: rapid.SampledFrom([]float64{10, .5, 3}).Draw(t, "weight")})
		}
		got, err := planning.ParseTarget(want.String())
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got.K != want.K || got.L != want.L || got.T != want.T || got.Limit != want.Limit || got.SafeHarbor != want.SafeHarbor || got.EntropyL != want.EntropyL || got.RecursiveC != want.RecursiveC || got.RecursiveL != want.RecursiveL || !slices.Equal(got.Keep, want.Keep) {
			t.Fatalf("%s: got %+v, want %+v", want, got, want)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"k=5, Safe Harbor, keep age useful", `keep "a,b"=2`, "limit=4 %", "0.3-closeness;", "\"", "keep =", "k==5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := planning.ParseTarget(text)
		if err != nil {
			return
		}
		if a.K < 1 || a.Limit < 0 || a.Limit > 1 || a.T < 0 || a.T > 1 {
			t.Errorf("%+v", a)
		}
	})
}
