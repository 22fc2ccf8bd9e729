package transform_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/transform"
)

func env() anonymize.Env {
	return anonymize.Env{
		Column: "c",
		Key:    func(purpose string) []byte { return []byte(purpose + strings.Repeat("k", 32)) },
		Hierarchy: func(name string) (io.ReadCloser, error) {
			text, ok := map[string]string{
				"jobs":      "nurse;care;*\n\"cook;chef\";kitchen;*\n",
				"ragged":    "a;b;*\nc;*\n",
				"ambiguous": "a;b\na;c\n",
				"empty":     "",
				"quotes":    "a;\"b\n",
			}[name]
			if !ok {
				return nil, sallyport.Errorf("hierarchy", sallyport.NotFound, "", "no hierarchy %q", name)
			}
			return io.NopCloser(strings.NewReader(text)), nil
		},
	}
}

type args = map[string]any

func TestVerbs(t *testing.T) {
	const failed = "\x00" // an error is expected
	for _, c := range []struct {
		verb anonymize.Transform
		args args
		want map[string]string
	}{
		{transform.Replace{}, args{"value": "x"}, map[string]string{"a": "x", "": ""}},
		{transform.Mask{}, nil, map[string]string{"abc": "***", "日本": "**", "": ""}},
		{transform.Mask{}, args{"keep_first": 1, "keep_last": 2, "char": "•"}, map[string]string{
			"abcdef": "a•••ef", "abcd": "a•cd", "abc": "•••", "ab": "••", "äöüß": "ä•üß", "": ""}},
		{transform.Prefix{}, args{"length": 3}, map[string]string{"12345": "123", "12": "12", "日本語だ": "日本語", "": ""}},
		{transform.Prefix{}, args{"length": uint64(3), "fill": "0"}, map[string]string{"12345": "12300", "123": "123", "": ""}},
		{transform.Generalize{}, args{"width": 10}, map[string]string{
			"0": "[0,10)", "9": "[0,10)", "10": "[10,20)", "-1": "[-10,0)", "-10": "[-10,0)", "9.999": "[0,10)", "-0.001": "[-10,0)",
			"+5": "[0,10)", "007": "[0,10)", "": "", "abc": failed, "1e3": failed, "1,000": failed, " 1": failed, "-": failed, ".": failed,
			"99999999999999999": "[99999999999999990,100000000000000000)", "9999999999999999999": failed}},
		{transform.Generalize{}, args{"width": 0.1, "origin": 0.05}, map[string]string{
			"0.3": "[0.25,0.35)", "0.35": "[0.35,0.45)", "0.05": "[0.05,0.15)", "0.04999": "[-0.05,0.05)", "1": "[0.95,1.05)"}},
		{transform.Generalize{}, args{"width": json.Number("2.5"), "otherwise": "suppress"}, map[string]string{"2.5": "[2.5,5)", "n/a": "*", "": ""}},
		{transform.Date{}, args{"to": "year"}, map[string]string{
			"2021-03-04": "2021", "2021-03-04T10:20:30.5+02:00": "2021", "2021-03-04 10:20": "2021", "": "",
			"2021-02-29": failed, "2020-02-29": "2020", "2021-13-01": failed, "2021-3-4": failed, "04.03.2021": failed, "2021-03-04x": failed}},
		{transform.Date{}, args{"to": "quarter"}, map[string]string{"2021-03-31": "2021-Q1", "2021-04-01": "2021-Q2", "0987-12-01": "0987-Q4"}},
		{transform.Date{}, args{"to": "month"}, map[string]string{"2021-03-31": "2021-03", "2021-12-01": "2021-12"}},
		{transform.Date{}, args{"to": "week"}, map[string]string{"2021-01-03": "2020-W53", "2021-01-04": "2021-W01"}},
		{transform.Date{}, args{"to": "year", "layout": "02.01.2006", "otherwise": "suppress"}, map[string]string{"04.03.2021": "2021", "2021-03-04": "*"}},
		{transform.Cap{}, args{"top": 90, "label": "90+"}, map[string]string{"89": "89", "89.9": "89.9", "90": "90+", "104": "90+", "": "", "x": failed}},
		{transform.Cap{}, args{"top": 9.5, "bottom": -1}, map[string]string{"9.49": "9.49", "9.5": ">=9.5", "-1": "<=-1", "-0.99": "-0.99", "-1.01": "<=-1", "-7": "<=-1"}},
		{transform.Cap{}, args{"bottom": 18.0, "bottom_label": "minor", "otherwise": "suppress"}, map[string]string{"18": "minor", "19": "19", "x": "*"}},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 0}, map[string]string{"nurse": "nurse", "": "", "pilot": failed}},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 1}, map[string]string{"nurse": "care", "cook;chef": "kitchen"}},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 2, "unknown": "?"}, map[string]string{"nurse": "*", "pilot": "?", "": ""}},
	} {
		apply, err := c.verb.Bind(c.args, env())
		if err != nil {
			t.Errorf("%s %v: %v", c.verb.Name(), c.args, err)
			continue
		}
		for in, want := range c.want {
			got, err := apply([]byte("before "), []byte(in), nil)
			switch {
			case want == failed && err == nil:
				t.Errorf("%s %v: %q became %q, want an error", c.verb.Name(), c.args, in, got)
			case want == failed:
				if k := sallyport.KindOf(err); k != sallyport.Invalid || sallyport.HintOf(err) == "" || len(in) > 1 && strings.Contains(err.Error(), in) {
					t.Errorf("%s %v: %q gives %v (%s)", c.verb.Name(), c.args, in, err, k)
				}
			case err != nil:
				t.Errorf("%s %v: %q: %v", c.verb.Name(), c.args, in, err)
			case string(got) != "before "+want:
				t.Errorf("%s %v: %q became %q, want %q", c.verb.Name(), c.args, in, got, "before "+want)
			}
		}
	}
}

func TestBindRefuses(t *testing.T) {
	for _, c := range []struct {
		verb anonymize.Transform
		args args
		says string
	}{
		{transform.Drop{}, args{"x": 1}, "unknown argument"},
		{transform.Replace{}, nil, `"value" is missing`},
		{transform.Replace{}, args{"value": 3}, "must be a string"},
		{transform.Mask{}, args{"keep_first": -1}, "whole number"},
		{transform.Mask{}, args{"keep_first": 1.5}, "whole number"},
		{transform.Mask{}, args{"keep_first": "1"}, "whole number"},
		{transform.Mask{}, args{"keepfirst": 1}, "unknown argument"},
		{transform.Mask{}, args{"char": "ab"}, "one character"},
		{transform.Prefix{}, nil, "is missing"},
		{transform.Prefix{}, args{"length": 0}, "whole number"},
		{transform.Generalize{}, nil, "is missing"},
		{transform.Generalize{}, args{"width": 0}, "greater than zero"},
		{transform.Generalize{}, args{"width": "10"}, "must be a number"},
		{transform.Generalize{}, args{"width": 10, "otherwise": "keep"}, "one of"},
		{transform.Generalize{}, args{"width": 1e300}, "must be a number"},
		{transform.Generalize{}, args{"width": 1e-15, "origin": 1e17}, "too far apart"},
		{transform.Date{}, args{"to": "decade"}, "one of"},
		{transform.Date{}, args{"to": "year", "layout": "2006"}, "must show year, month and day"},
		{transform.Cap{}, nil, "is needed"},
		{transform.Cap{}, args{"top": 1, "bottom": 1}, "less than top"},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 3}, "levels 0 to 2"},
		{transform.Hierarchy{}, args{"file": "ragged", "level": 1}, "line 2: 1 levels"},
		{transform.Hierarchy{}, args{"file": "ambiguous", "level": 1}, "line 2: a value has a second"},
		{transform.Hierarchy{}, args{"file": "empty", "level": 1}, "is empty"},
		{transform.Hierarchy{}, args{"file": "quotes", "level": 1}, "line 1"},
		{transform.Hierarchy{}, args{"file": "jobs", "level": 1, "unknown": ""}, "must not be empty"},
		{transform.Pseudonym{}, args{"length": 25}, "26 to 51"},
		{transform.ShiftDate{}, args{"days": 0}, "whole number"},
		{transform.ShiftDate{}, nil, "is missing"},
	} {
		_, err := c.verb.Bind(c.args, env())
		if err == nil || sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %v: got %v, want an invalid that says %q", c.verb.Name(), c.args, err, c.says)
		}
	}
	if _, err := (transform.Hierarchy{}).Bind(args{"file": "none", "level": 1}, env()); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("absent hierarchy: %v", err)
	}
	for _, verb := range []anonymize.Transform{transform.Pseudonym{}, transform.ShiftDate{}} {
		_, err := verb.Bind(args{"days": 3}, anonymize.Env{Key: func(string) []byte { return []byte("short") }})
		if err == nil {
			t.Errorf("%s accepts a short key", verb.Name())
		}
	}
}

// A dropped column must be stopped even if the pass forgets that it is.
func TestDropNeverGivesAValue(t *testing.T) {
	apply, err := transform.Drop{}.Bind(nil, env())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := apply(nil, []byte("x"), nil); err == nil || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

// The token was computed with Python's hmac and base64:
// HMAC-SHA256("pseudonym" + 32×"k", 0x00 + "alice").
func TestPseudonymKnownAnswer(t *testing.T) {
	apply := bind(t, transform.Pseudonym{}, nil)
	got, err := apply(nil, []byte("alice"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "itgp5nmafdbihudwmmfdpkpz6v"; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPseudonymScopes(t *testing.T) {
	one := func(a args, value string) string {
		got, err := bind(t, transform.Pseudonym{}, a)(nil, []byte(value), nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	for _, a := range []args{nil, {"scope": "s"}} {
		if first, second := one(a, "a"), one(a, "a"); first != second {
			t.Errorf("%v: not stable: %s, %s", a, first, second)
		}
	}
	seen := map[string]bool{one(nil, "a"): true, one(nil, "A"): true, one(args{"scope": "s"}, "a"): true, one(args{"scope": "sa"}, ""): true, one(nil, "\x01sa"): true}
	if len(seen) != 5 {
		t.Errorf("different inputs share a token: %v", seen)
	}
	if got := one(args{"prefix": "P-", "length": 51}, "a"); !strings.HasPrefix(got, "P-") || len(got) != 53 {
		t.Errorf("got %s", got)
	}
	if got := one(nil, ""); got != "" {
		t.Errorf("an empty value became %q", got)
	}
}

func bind(t interface {
	Helper()
	Fatal(...any)
}, verb anonymize.Transform, a args) anonymize.Apply {
	t.Helper()
	apply, err := verb.Bind(a, env())
	if err != nil {
		t.Fatal(err)
	}
	return apply
}

func TestShiftDateNeedsASubject(t *testing.T) {
	if _, err := bind(t, transform.ShiftDate{}, args{"days": 3})(nil, []byte("2021-01-01"), nil); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("got %v", err)
	}
	got, err := bind(t, transform.ShiftDate{}, args{"days": 3, "otherwise": "suppress"})(nil, []byte("2021-01-01"), nil)
	if err != nil || string(got) != transform.Suppressed {
		t.Errorf("got %q, %v", got, err)
	}
	var e *sallyport.Error
	if _, err := bind(t, transform.ShiftDate{}, args{"days": 3})(nil, []byte("secret"), []byte("s")); !errors.As(err, &e) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}
