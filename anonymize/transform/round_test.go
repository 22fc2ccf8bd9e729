package transform_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/transform"
)

var noon = time.Date(2021, 2, 27, 12, 0, 0, 0, time.UTC)

func parseTime(layout, s string) (time.Time, error) { return time.Parse(layout, s) }

func TestNumbersAndPlaces(t *testing.T) {
	const failed = "\x00"
	for _, c := range []struct {
		verb anonymize.Transform
		args args
		want map[string]string
	}{
		{transform.Round{}, args{"to": 10}, map[string]string{"14": "10", "15": "20", "25": "20", "25.0000001": "30", "24.999": "20", "-25": "-20", "-35": "-40",
			"-4": "0", "007": "10", "": "", "1e3": failed, "abc": failed, "99999999999999999": "100000000000000000", "999999999999999999": failed}},
		{transform.Round{}, args{"to": 0.5}, map[string]string{"1.25": "1", "1.75": "2", "1.3": "1.5", "7": "7"}},
		{transform.Round{}, args{"to": 5}, map[string]string{"2.5": "0", "7.5": "10", "2.50000000001": "5", "12": "10", "13": "15"}},
		{transform.Round{}, args{"places": 1}, map[string]string{"0.25": "0.2", "0.35": "0.4", "7": "7.0", "-0.04": "0.0", "-1.26": "-1.3"}},
		{transform.Round{}, args{"places": 0}, map[string]string{"0.5": "0", "1.5": "2", "-0.6": "-1"}},
		{transform.Round{}, args{"to": 0.5, "places": 2, "otherwise": "suppress"}, map[string]string{"1.3": "1.50", "-1.3": "-1.50", "x": "*", "": ""}},
		{transform.Age90{}, nil, map[string]string{"0": "0", "89": "89", "89.0": "89.0", "89.5": "90+", "90": "90+", "117": "90+", "90+": "90+", "": "", "-1": failed, "old": failed, "1e2": failed}},
		{transform.Age90{}, args{"otherwise": "suppress"}, map[string]string{"old": "*", "-3": "*", "": ""}},
		{transform.ZIP3{}, args{"vintage": "2000"}, map[string]string{"02139": "021", "02139-4307": "021", "021394307": "021", "021": "021", "03601": "000", "06320": "000", "89001": "000",
			"20201": "202", "73301": "000", "00000": "000", "09012": "000", "": "", "2139": failed, "0213": failed, "02139-": failed, "02139-43o7": failed, "O2139": failed, "02139 4307": failed}},
		{transform.ZIP3{}, args{"vintage": 2010}, map[string]string{"03601": "000", "06320": "063", "89001": "890", "20201": "000", "36901": "000", "77201": "000"}},
		{transform.ZIP3{}, args{"vintage": 2020.0, "otherwise": "suppress"}, map[string]string{"82190": "000", "83001": "830", "2139": "*", "": ""}},
		{transform.Microaggregate{}, args{"groups": []any{[]any{10, 20, 14.5}, []any{21, 30.5, 25}}}, map[string]string{
			"10": "14.5", "20": "14.5", "15.25": "14.5", "20.5": failed, "21": "25", "30.5": "25", "30.51": failed, "9": failed, "31": failed, "": "", "x": failed}},
		{transform.Microaggregate{}, args{"groups": []any{[]any{21, 30, 25}, []any{10, 20, 14.5}}, "places": 2, "otherwise": "suppress"}, map[string]string{
			"10": "14.50", "30": "25.00", "31": "*", "x": "*", "": ""}},
	} {
		apply := bind(t, c.verb, c.args)
		for in, want := range c.want {
			got, err := apply([]byte("before "), []byte(in), nil)
			switch {
			case want == failed:
				if sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" || len(in) > 1 && strings.Contains(err.Error(), in) {
					t.Errorf("%s %v: %q gives %q, %v", c.verb.Name(), c.args, in, got, err)
				}
			case err != nil || string(got) != "before "+want:
				t.Errorf("%s %v: %q became %q (%v), want %q", c.verb.Name(), c.args, in, got, err, want)
			}
		}
	}
}

func TestNewVerbsRefuseArguments(t *testing.T) {
	for _, c := range []struct {
		verb anonymize.Transform
		args args
		says string
	}{
		{transform.Round{}, nil, "is needed"},
		{transform.Round{}, args{"to": 0}, "greater than zero"},
		{transform.Round{}, args{"to": -5}, "greater than zero"},
		{transform.Round{}, args{"to": 0.25, "places": 1}, "must not be fewer"},
		{transform.Round{}, args{"to": 1e17}, "too large"},
		{transform.Round{}, args{"to": 10, "half": "up"}, "unknown argument"},
		{transform.Age90{}, args{"top": 80}, "unknown argument"},
		{transform.ZIP3{}, nil, "one of: 2000, 2010, 2020"},
		{transform.ZIP3{}, args{"vintage": 1990}, "one of: 2000, 2010, 2020"},
		{transform.ZIP3{}, args{"vintage": "2020.0"}, "one of: 2000, 2010, 2020"},
		{transform.ZIP3{}, args{"vintage": []any{2020}}, "one of: 2000, 2010, 2020"},
		{transform.FF1{}, nil, "is missing"},
		{transform.FF1{}, args{"alphabet": "greek"}, "one of"},
		{transform.FF1{}, args{"alphabet": "digits", "length": 5}, "fewer than 1,000,000"},
		{transform.FF1{}, args{"alphabet": "alnum", "length": 3}, "fewer than 1,000,000"},
		{transform.FF1{}, args{"alphabet": "digits", "keep": "-0"}, "outside the alphabet"},
		{transform.FF1{}, args{"alphabet": "digits", "tweak": strings.Repeat("x", 129)}, "128"},
		{transform.Encrypt{}, args{"encoding": "hex"}, "one of"},
		{transform.Encrypt{}, args{"length": 3}, "unknown argument"},
		{transform.Microaggregate{}, nil, "is missing"},
		{transform.Microaggregate{}, args{"k": 1}, "2 to 1000"},
		{transform.Microaggregate{}, args{"k": 1001}, "2 to 1000"},
		{transform.Microaggregate{}, args{"groups": []any{}}, "list of"},
		{transform.Microaggregate{}, args{"groups": "x"}, "list of"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1, 2}}}, "list of"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1, 2, "x"}}}, "list of"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{2, 1, 1}}}, "overlap"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1, 5, 3}, []any{5, 6, 5}}}, "overlap"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1, 5, 3.5}}, "places": 0}, "more decimals"},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1e17, 2e17, 1e17}, []any{0.0001, 1, 1}}}, "too far apart"},
	} {
		_, err := c.verb.Bind(c.args, env())
		if sallyport.KindOf(err) != sallyport.Invalid || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %v: got %v, want an invalid that says %q", c.verb.Name(), c.args, err, c.says)
		}
	}
	for _, verb := range []anonymize.Transform{transform.FF1{}, transform.Encrypt{}} {
		a := args{"alphabet": "digits"}
		if verb.Name() == "encrypt" {
			a = nil
		}
		for label, key := range map[string]func(string) []byte{"none": nil, "a short one": func(string) []byte { return []byte("short") }} {
			if _, err := verb.Bind(a, anonymize.Env{Key: key}); sallyport.KindOf(err) != sallyport.Unavailable {
				t.Errorf("%s with %s: %v", verb.Name(), label, err)
			}
		}
	}
}

// A rounded number is a multiple, no multiple is nearer, and of two that are as
// near it is the even one.
func TestRoundIsNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		to := rapid.SampledFrom([]float64{1, 10, 5, 25, 0.5, 0.25, 0.1, 7, 1000, 0.003}).Draw(t, "to")
		value := decimalText(t, "value")
		got, err := bind(t, transform.Round{}, args{"to": to})(nil, []byte(value), nil)
		if err != nil {
			t.Fatal(err)
		}
		width, v := rat(t, fmt.Sprint(to)), rat(t, value)
		n := new(big.Rat).Quo(rat(t, string(got)), width)
		if !n.IsInt() {
			t.Fatalf("%s is no multiple of %v", got, to)
		}
		off := new(big.Rat).Sub(new(big.Rat).Quo(v, width), n)
		off.Abs(off)
		if c := off.Cmp(big.NewRat(1, 2)); c > 0 || c == 0 && n.Num().Bit(0) == 1 {
			t.Fatalf("%s to %v became %s", value, to, got)
		}
	})
}

// Every verb says truthfully whether it keeps the type and can be undone, and
// leaves empty values empty.
func TestTraits(t *testing.T) {
	for _, c := range []struct {
		verb       anonymize.Transform
		args       args
		same       bool
		reversible bool
	}{
		{transform.Drop{}, nil, false, false},
		{transform.Replace{}, args{"value": "x"}, false, false},
		{transform.Mask{}, nil, false, false},
		{transform.Pseudonym{}, nil, false, false},
		{transform.FF1{}, args{"alphabet": "digits"}, false, true},
		{transform.Encrypt{}, nil, false, true},
		{transform.Generalize{}, args{"width": 10}, false, false},
		{transform.Cap{}, args{"top": 90}, false, false},
		{transform.Age90{}, nil, false, false},
		{transform.Round{}, args{"to": 10}, true, false},
		{transform.Microaggregate{}, args{"groups": []any{[]any{1, 2, 1.5}}}, true, false},
		{transform.Date{}, args{"to": "year"}, false, false},
		{transform.ShiftDate{}, args{"days": 9}, true, false},
		{transform.Prefix{}, args{"length": 3}, false, false},
		{transform.ZIP3{}, args{"vintage": 2020}, false, false},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 1}, false, false},
	} {
		verb, ok := c.verb.(interface{ Traits() anonymize.Traits })
		if !ok {
			t.Errorf("%s says nothing of itself", c.verb.Name())
			continue
		}
		traits := verb.Traits()
		_, reverses := c.verb.(transform.Reverser)
		if traits.SameType != c.same || traits.Reversible != c.reversible || reverses != c.reversible {
			t.Errorf("%s: %+v, reverses %v", c.verb.Name(), traits, reverses)
		}
		if traits.Reversible && !traits.Keyed {
			t.Errorf("%s can be undone without a key", c.verb.Name())
		}
		if traits.Drops {
			continue
		}
		for _, subject := range [][]byte{nil, []byte("s")} {
			if got, err := bind(t, c.verb, c.args)([]byte("b"), nil, subject); err != nil || string(got) != "b" {
				t.Errorf("%s makes %q of an empty value (%v)", c.verb.Name(), got, err)
			}
		}
	}
}
