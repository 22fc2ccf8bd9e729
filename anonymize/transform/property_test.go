package transform_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/anonymize/transform"
)

// decimalText draws a plain decimal number.
func decimalText(t *rapid.T, label string) string {
	return rapid.StringMatching(`-?[0-9]{1,9}(\.[0-9]{1,6})?`).Draw(t, label)
}

func rat(t *rapid.T, s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r
}

// A range holds its value, is as wide as asked, starts at a multiple of the
// width from the origin, and is written the same for all values in it.
func TestGeneralizeHoldsItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom([]float64{1, 10, 2.5, 0.1, 0.25, 365, 1000}).Draw(t, "width")
		o := rapid.SampledFrom([]float64{0, 5, -0.5, 1900, 0.05}).Draw(t, "origin")
		apply := bind(t, transform.Generalize{}, args{"width": w, "origin": o})
		value := decimalText(t, "value")
		got, err := apply(nil, []byte(value), nil)
		if err != nil {
			t.Fatal(err)
		}
		low, high, ok := strings.Cut(strings.Trim(string(got), "[)"), ",")
		if !ok {
			t.Fatalf("%q is no range", got)
		}
		v, l, h := rat(t, value), rat(t, low), rat(t, high)
		width, origin := rat(t, fmt.Sprint(w)), rat(t, fmt.Sprint(o))
		if l.Cmp(v) > 0 || v.Cmp(h) >= 0 {
			t.Fatalf("%s is not in %s", value, got)
		}
		if new(big.Rat).Sub(h, l).Cmp(width) != 0 {
			t.Fatalf("%s is not %v wide", got, w)
		}
		if steps := new(big.Rat).Quo(new(big.Rat).Sub(l, origin), width); !steps.IsInt() {
			t.Fatalf("%s does not start at a multiple of %v from %v", got, w, o)
		}
		// The class of its lower bound is the class itself.
		if again, err := apply(nil, []byte(low), nil); err != nil || string(again) != string(got) {
			t.Fatalf("lower bound of %s lies in %s (%v)", got, again, err)
		}
	})
}

func TestGeneralizeIsMonotone(t *testing.T) {
	apply := bind(t, transform.Generalize{}, args{"width": 2.5})
	low := func(t *rapid.T, value string) *big.Rat {
		got, err := apply(nil, []byte(value), nil)
		if err != nil {
			t.Fatal(err)
		}
		l, _, _ := strings.Cut(strings.TrimPrefix(string(got), "["), ",")
		return rat(t, l)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := decimalText(t, "a"), decimalText(t, "b")
		if c := rat(t, a).Cmp(rat(t, b)); c != 0 && c*low(t, a).Cmp(low(t, b)) < 0 {
			t.Fatalf("order of %s and %s is turned round", a, b)
		}
	})
}

// Dates of one subject keep their distance, move by at least one day and at
// most as many as asked, and in another column by the same number.
func TestShiftKeepsIntervals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 2000).Draw(t, "days")
		first := bind(t, transform.ShiftDate{}, args{"days": most})
		other := bind(t, transform.ShiftDate{}, args{"days": most, "layout": "02.01.2006 15:04"})
		subject := rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "subject")
		day := func(label string) time.Time {
			return time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 80000).Draw(t, label))
		}
		move := func(d time.Time) time.Time {
			got, err := first(nil, []byte(d.Format(time.DateOnly)), subject)
			if err != nil {
				t.Fatal(err)
			}
			moved, err := time.Parse(time.DateOnly, string(got))
			if err != nil {
				t.Fatal(err)
			}
			return moved
		}
		a, b := day("a"), day("b")
		ma := move(a)
		if _, err := first(nil, []byte("2000-01-01"), []byte("somebody else")); err != nil {
			t.Fatal(err)
		}
		mb := move(b)
		if ma.Sub(mb) != a.Sub(b) {
			t.Fatalf("%v and %v moved to %v and %v", a, b, ma, mb)
		}
		days := int(ma.Sub(a).Hours() / 24)
		if days == 0 || days > most || days < -most {
			t.Fatalf("moved by %d days, at most %d were allowed", days, most)
		}
		got, err := other(nil, []byte(a.Format("02.01.2006")+" 13:45"), subject)
		if err != nil || string(got) != ma.Format("02.01.2006")+" 13:45" {
			t.Fatalf("other column: %q, %v", got, err)
		}
	})
}

// Every offset occurs, zero never.
func TestShiftDrawsAllOffsets(t *testing.T) {
	apply := bind(t, transform.ShiftDate{}, args{"days": 3})
	seen := map[string]int{}
	for i := range 600 {
		got, err := apply(nil, []byte("2021-01-10T08:00Z"), fmt.Append(nil, i))
		if err != nil {
			t.Fatal(err)
		}
		seen[string(got)]++
	}
	for _, day := range []string{"07", "08", "09", "11", "12", "13"} {
		if n := seen["2021-01-"+day+"T08:00Z"]; n < 50 {
			t.Errorf("January %s: %d of 600", day, n)
		}
	}
	if len(seen) != 6 {
		t.Errorf("offsets: %v", seen)
	}
}

// Our calendar and that of package time agree on every ISO date.
func TestDatesAgreeWithTime(t *testing.T) {
	apply := bind(t, transform.Date{}, args{"to": "month"})
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[0-9]{4}-[01][0-9]-[0-3][0-9]`).Draw(t, "date")
		want, wantErr := time.Parse(time.DateOnly, s)
		got, err := apply(nil, []byte(s), nil)
		if strings.HasPrefix(s, "0000") {
			return // no such year
		}
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != want.Format("2006-01") {
			t.Fatalf("%s: %s, %v; time says %v, %v", s, got, err, want, wantErr)
		}
	})
}

// A masked value keeps its length and shows no more than it may.
func TestMaskShowsNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, last := rapid.IntRange(0, 5).Draw(t, "first"), rapid.IntRange(0, 5).Draw(t, "last")
		value := []rune(rapid.StringMatching(`[a-zäß日]{0,14}`).Draw(t, "value"))
		got, err := bind(t, transform.Mask{}, args{"keep_first": first, "keep_last": last})(nil, []byte(string(value)), nil)
		if err != nil {
			t.Fatal(err)
		}
		masked := []rune(string(got))
		if len(masked) != len(value) {
			t.Fatalf("%q became %q", string(value), got)
		}
		for i, r := range masked {
			shown := len(value) > first+last && (i < first || i >= len(value)-last)
			if shown && r != value[i] || !shown && r != '*' {
				t.Fatalf("%q became %q", string(value), got)
			}
		}
	})
}
