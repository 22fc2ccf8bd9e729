package replay

import (
	"strings"
	"testing"

	"sallyport"
	"sallyport/policy"
)

// m is a mask of a verb and its arguments; numbers are as JSON has them.
func m(verb string, args ...any) mask {
	if verb == "withheld" || verb == "drop" {
		return maskOf(&sallyport.Obligation{Verb: "drop"})
	}
	out := mask{verb: verb}
	for i := 0; i+1 < len(args); i += 2 {
		if out.args == nil {
			out.args = map[string]any{}
		}
		v := args[i+1]
		if n, ok := v.(int); ok {
			v = float64(n)
		}
		out.args[args[i].(string)] = v
	}
	return out
}

func TestOrderOfMasks(t *testing.T) {
	for _, c := range []struct {
		before, after mask
		want          Direction
		back          Direction // after to before
	}{
		{maskOf(nil), m("drop"), Same, Same},
		{maskOf(nil), m("keep"), Weaker, Stronger},
		{m("drop"), m("replace", "value", "x"), Weaker, Stronger},
		{m("replace", "value", "x"), m("replace", "value", "y"), Neutral, Neutral},
		{m("replace", "value", "x"), m("pseudonym"), Weaker, Stronger},
		{m("pseudonym"), m("keep"), Weaker, Stronger},
		{m("pseudonym"), m("mask"), Changed, Changed},
		{m("unheard_of"), m("keep"), Weaker, Stronger},
		{m("unheard_of"), m("drop"), Stronger, Weaker},
		{m("unheard_of", "x", 1), m("unheard_of", "x", 2), Changed, Changed},
		{m("unheard_of", "x", 1), m("unheard_of", "x", 1), Same, Same},

		{m("generalize", "width", 10), m("generalize", "width", 20), Stronger, Weaker},
		{m("generalize", "width", 10), m("generalize", "width", 15), Changed, Weaker},
		{m("generalize", "width", 0.1), m("generalize", "width", 0.3), Stronger, Weaker},
		{m("generalize", "width", 10), m("generalize", "width", 10, "origin", 0), Neutral, Neutral},
		{m("generalize", "width", 10), m("generalize", "width", 10, "origin", 5), Changed, Changed},
		{m("generalize", "width", 10), m("generalize", "width", "wide"), Changed, Changed},
		{m("generalize", "width", 10), m("generalize", "width", 10, "fuzz", 1), Changed, Changed},
		{m("generalize", "width", 10), m("generalize", "width", 10, "otherwise", "suppress"), Weaker, Stronger},
		{m("generalize", "width", 10), m("generalize", "width", 20, "otherwise", "suppress"), Changed, Changed},

		{m("date", "to", "month"), m("date", "to", "year"), Stronger, Weaker},
		{m("date", "to", "month"), m("date", "to", "quarter"), Stronger, Weaker},
		{m("date", "to", "week"), m("date", "to", "year"), Changed, Changed},
		{m("date", "to", "year"), m("date", "to", "year", "layout", "02.01.2006"), Changed, Changed},

		{m("prefix", "length", 3), m("prefix", "length", 2), Stronger, Weaker},
		{m("prefix", "length", 3, "fill", "0"), m("prefix", "length", 3), Stronger, Weaker},
		{m("prefix", "length", 3), m("prefix", "length", 2, "fill", "0"), Changed, Changed},
		{m("prefix", "length", 3, "fill", "0"), m("prefix", "length", 3, "fill", "x"), Neutral, Neutral},

		{m("cap", "top", 90), m("cap", "top", 85), Stronger, Weaker},
		{m("cap", "bottom", 10), m("cap", "bottom", 15), Stronger, Weaker},
		{m("cap", "top", 90), m("cap", "top", 90, "bottom", 1), Stronger, Weaker},
		{m("cap", "top", 90), m("cap", "top", 80, "bottom", 1), Stronger, Weaker},
		{m("cap", "top", 90, "bottom", 1), m("cap", "top", 80), Changed, Changed},
		{m("cap", "top", 90), m("cap", "top", 90, "label", "90+"), Neutral, Neutral},

		{m("hierarchy", "file", "a", "level", 1), m("hierarchy", "file", "a", "level", 2), Stronger, Weaker},
		{m("hierarchy", "file", "a", "level", 1), m("hierarchy", "file", "b", "level", 2), Changed, Changed},
		{m("hierarchy", "file", "a", "level", 1), m("hierarchy", "file", "a", "level", 1, "unknown", "*"), Weaker, Stronger},

		{m("shift_date", "days", 30), m("shift_date", "days", 365), Stronger, Weaker},

		{m("mask", "keep_last", 4), m("mask"), Stronger, Weaker},
		{m("mask", "keep_last", 4), m("mask", "keep_last", 2), Changed, Weaker},
		{m("mask"), m("mask", "char", "#"), Neutral, Neutral},

		{m("pseudonym"), m("pseudonym", "length", 30), Neutral, Neutral},
		{m("pseudonym"), m("pseudonym", "scope", "visit"), Stronger, Weaker},
		{m("pseudonym", "scope", "a"), m("pseudonym", "scope", "b"), Changed, Changed},

		// Tokens of different kinds join with other columns.
		{m("pseudonym"), m("encrypt"), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("encrypt"), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("keep"), Weaker, Stronger},
		{m("encrypt"), m("encrypt", "encoding", "base64url", "prefix", "e-"), Neutral, Neutral},
		{m("encrypt"), m("encrypt", "scope", "visit"), Stronger, Weaker},

		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "alnum"), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "length", 9), Stronger, Weaker},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "length", 0), Neutral, Neutral},
		{m("ff1", "alphabet", "digits", "length", 8), m("ff1", "alphabet", "digits", "length", 9), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "keep", "-"), Weaker, Stronger},
		{m("ff1", "alphabet", "digits", "keep", "-/"), m("ff1", "alphabet", "digits", "keep", "/-"), Neutral, Neutral},
		{m("ff1", "alphabet", "digits", "keep", "-"), m("ff1", "alphabet", "digits", "keep", "/"), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "keep", ""), Neutral, Neutral},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "tweak", "column"), Stronger, Weaker},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "scope", "visit"), Stronger, Weaker},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "otherwise", "suppress"), Weaker, Stronger},
		{m("ff1", "alphabet", "digits", "tweak", "a"), m("ff1", "alphabet", "digits", "tweak", "b"), Changed, Changed},
		{m("ff1", "alphabet", "digits"), m("ff1", "alphabet", "digits", "fuzz", 1), Changed, Changed},

		{m("round", "to", 10), m("round", "to", 50), Stronger, Weaker},
		{m("round", "to", 10), m("round", "to", 90), Stronger, Weaker},
		{m("round", "to", 0.1), m("round", "to", 0.5), Stronger, Weaker},
		{m("round", "to", 10), m("round", "to", 20), Changed, Weaker},
		{m("round", "to", 10), m("round", "to", 30), Changed, Weaker},
		{m("round", "to", 10), m("round", "to", 25), Changed, Weaker},
		{m("round", "to", 1), m("round", "places", 0), Neutral, Neutral},
		{m("round", "places", 2), m("round", "to", 0.05), Stronger, Weaker},
		{m("round", "places", 2), m("round", "places", 1), Changed, Weaker},
		{m("round", "places", 2), m("round", "to", 0.01, "places", 3), Neutral, Neutral},
		{m("round", "to", 10), m("round", "to", 10, "otherwise", "suppress"), Weaker, Stronger},
		{m("round", "to", 10), m("round", "to", "ten"), Changed, Changed},
		{m("round", "to", 10), m("round"), Changed, Changed},
		{m("round", "to", 10), m("keep"), Weaker, Stronger},

		{m("microaggregate", "k", 5), m("microaggregate", "k", 4), Weaker, Changed},
		{m("microaggregate", "k", 5), m("microaggregate", "groups", []any{}), Changed, Changed},
		{m("microaggregate", "k", 5), m("microaggregate", "k", 5, "places", 1), Changed, Changed},
		{m("microaggregate", "k", 5), m("microaggregate", "k", 5, "otherwise", "suppress"), Weaker, Stronger},

		{m("zip3", "vintage", 2010), m("zip3", "vintage", 2020), Neutral, Neutral},
		{m("zip3", "vintage", 2020), m("zip3", "vintage", "2020"), Neutral, Neutral},
		{m("zip3", "vintage", 2000), m("zip3", "vintage", "2020"), Changed, Changed},
		{m("zip3", "vintage", 2020), m("zip3"), Changed, Changed},
		{m("zip3", "vintage", 2020), m("zip3", "vintage", 2020, "otherwise", "suppress"), Weaker, Stronger},
		{m("zip3", "vintage", 2020), m("keep"), Weaker, Stronger},

		{m("age90"), m("age90", "otherwise", "suppress"), Weaker, Stronger},
		{m("age90"), m("age90", "otherwise", "error"), Neutral, Neutral},
		{m("age90"), m("age90", "top", 90), Changed, Changed},
		{m("age90"), m("keep"), Weaker, Stronger},
	} {
		if got := compareMasks(c.before, c.after); got.Direction != c.want {
			t.Errorf("%v → %v: %v, want %s", c.before, c.after, got, c.want)
		}
		if got := compareMasks(c.after, c.before); got.Direction != c.back {
			t.Errorf("%v → %v: %v, want %s", c.after, c.before, got, c.back)
		}
	}
}

func TestOrderOfLimits(t *testing.T) {
	base := policy.Verdict{Destination: sallyport.Outside, Rows: []sallyport.RowFilter{{Column: "ward", In: []string{"a", "b"}}},
		Limits: policy.Limits{KeyTTL: 60, Price: 5, Budget: 50, Copies: 2, Regions: []string{"de", "fr"}, MinClass: 5, MaxUnique: 0.1, Reviews: 1}}
	for _, c := range []struct {
		what   string
		change func(v *policy.Verdict)
		want   Direction
		text   string
	}{
		{"longer keys", func(v *policy.Verdict) { v.Limits.KeyTTL = 90 }, Weaker, "1m 1m30s"},
		{"shorter keys", func(v *policy.Verdict) { v.Limits.KeyTTL = 30 }, Stronger, ""},
		{"higher price", func(v *policy.Verdict) { v.Limits.Price = 6 }, Weaker, ""},
		{"higher budget", func(v *policy.Verdict) { v.Limits.Budget = 60 }, Weaker, ""},
		{"lower budget", func(v *policy.Verdict) { v.Limits.Budget = 40 }, Stronger, ""},
		{"fewer copies", func(v *policy.Verdict) { v.Limits.Copies = 1 }, Weaker, "2 1"},
		{"more copies", func(v *policy.Verdict) { v.Limits.Copies = 3 }, Stronger, ""},
		{"smaller classes", func(v *policy.Verdict) { v.Limits.MinClass = 4 }, Weaker, ""},
		{"more unique", func(v *policy.Verdict) { v.Limits.MaxUnique = 0.2 }, Weaker, "0.1 0.2"},
		{"fewer unique", func(v *policy.Verdict) { v.Limits.MaxUnique = 0 }, Stronger, ""},
		{"no review", func(v *policy.Verdict) { v.Limits.Reviews = 0 }, Weaker, ""},
		{"two reviews", func(v *policy.Verdict) { v.Limits.Reviews = 2 }, Stronger, ""},
		{"fewer regions", func(v *policy.Verdict) { v.Limits.Regions = []string{"fr"} }, Stronger, "de, fr fr"},
		{"more regions", func(v *policy.Verdict) { v.Limits.Regions = []string{"fr", "de", "at"} }, Weaker, ""},
		{"other regions", func(v *policy.Verdict) { v.Limits.Regions = []string{"de", "at"} }, Changed, ""},
		{"anywhere", func(v *policy.Verdict) { v.Limits.Regions = nil }, Weaker, "de, fr anywhere"},
		{"regions in another order", func(v *policy.Verdict) { v.Limits.Regions = []string{"fr", "de"} }, Same, ""},
		{"inside", func(v *policy.Verdict) { v.Destination, v.Limits.Regions = sallyport.Local, nil }, Stronger, "outside local"},
		{"fewer rows", func(v *policy.Verdict) { v.Rows = []sallyport.RowFilter{{Column: "ward", In: []string{"a"}}} }, Stronger, "in a, b in a"},
		{"other rows", func(v *policy.Verdict) { v.Rows = []sallyport.RowFilter{{Column: "ward", In: []string{"a", "c"}}} }, Changed, ""},
		{"all rows", func(v *policy.Verdict) { v.Rows = nil }, Weaker, "in a, b all"},
		{"a further filter", func(v *policy.Verdict) {
			v.Rows = append([]sallyport.RowFilter{{Column: "sex", In: nil}}, v.Rows...)
		}, Stronger, ""},
	} {
		after := base
		c.change(&after)
		got := compare(base, after)
		if c.want == Same {
			if len(got) > 0 {
				t.Errorf("%s: %+v", c.what, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Direction != c.want || c.text != "" && got[0].before+" "+got[0].after != c.text {
			t.Errorf("%s: %+v, want %s %s", c.what, got, c.want, c.text)
		}
	}
	if a, b := filterText(strings.Split("abcdefghij", ""), true), filterText(strings.Split("abcdefghik", ""), true); a == b || len(a) > 40 {
		t.Errorf("%q %q", a, b)
	}
}
