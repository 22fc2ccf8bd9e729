package transform_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/transform"
)

func reverse(t interface {
	Helper()
	Fatal(...any)
}, verb transform.Reverser, a args) anonymize.Apply {
	t.Helper()
	apply, err := verb.Reverse(a, env())
	if err != nil {
		t.Fatal(err)
	}
	return apply
}

// The result has the form of the value, separators where they were, and comes
// back; the same value gives the same result from another binding.
func TestFF1KeepsFormAndComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]struct{ alphabet, class string }{
			{"digits", "0-9"}, {"hex", "0-9a-f"}, {"lower", "a-z"}, {"upper", "A-Z"}, {"letters", "A-Za-z"},
			{"lower_alnum", "0-9a-z"}, {"upper_alnum", "0-9A-Z"}, {"alnum", "0-9A-Za-z"},
		}).Draw(t, "alphabet")
		a := args{"alphabet": c.alphabet, "keep": "-/ é", "tweak": rapid.SampledFrom([]string{"", "column", "text"}).Draw(t, "tweak"),
			"scope": rapid.SampledFrom([]string{"", "ward"}).Draw(t, "scope")}
		value := rapid.StringMatching(`[`+c.class+`]{6}([-/ é][`+c.class+`]{1,9}){0,6}`).Draw(t, "value")
		got, err := bind(t, transform.FF1{}, a)([]byte("before "), []byte(value), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, ok := bytes.CutPrefix(got, []byte("before "))
		if !ok || len(body) != len(value) {
			t.Fatalf("%q became %q", value, got)
		}
		for i := range body {
			separator := !strings.ContainsRune(expand(c.class), rune(value[i]))
			if separator && body[i] != value[i] || !separator && !strings.ContainsRune(expand(c.class), rune(body[i])) {
				t.Fatalf("%q became %q", value, body)
			}
		}
		if again, err := bind(t, transform.FF1{}, a)(nil, []byte(value), nil); err != nil || string(again) != string(body) {
			t.Fatalf("%q became %q, then %q (%v)", value, body, again, err)
		}
		if back, err := reverse(t, transform.FF1{}, a)([]byte("x"), body, nil); err != nil || string(back) != "x"+value {
			t.Fatalf("%q became %q and %q (%v)", value, body, back, err)
		}
	})
}

// expand lists the characters of a class such as "0-9a-z".
func expand(class string) string {
	var b strings.Builder
	for i := 0; i < len(class); i += 3 {
		for c := class[i]; c <= class[i+2]; c++ {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Alphabet, tweak, column, scope and key each make another mapping; what does
// not belong to them does not.
func TestFF1Separates(t *testing.T) {
	seen := map[string]string{}
	one := func(label string, a args, e anonymize.Env) string {
		apply, err := transform.FF1{}.Bind(a, e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := apply(nil, []byte("00000000000001"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	for label, a := range map[string]args{
		"plain": {"alphabet": "digits"}, "hex": {"alphabet": "hex"}, "scope": {"alphabet": "digits", "scope": "column"},
		"text": {"alphabet": "digits", "tweak": "c"}, "column": {"alphabet": "digits", "tweak": "column"},
	} {
		got := one(label, a, env())
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s are alike", label, other)
		}
		seen[got] = label
	}
	e := env()
	e.Column = "d"
	if one("", args{"alphabet": "digits"}, e) != one("", args{"alphabet": "digits"}, env()) {
		t.Error("without a tweak, columns differ")
	}
	if one("", args{"alphabet": "digits", "tweak": "column"}, e) == one("", args{"alphabet": "digits", "tweak": "column"}, env()) {
		t.Error("with the column as tweak, columns are alike")
	}
	e.Key = func(string) []byte { return bytes.Repeat([]byte{1}, 32) }
	if one("", args{"alphabet": "digits"}, e) == one("", args{"alphabet": "digits"}, env()) {
		t.Error("the key does not matter")
	}
}

func TestFF1Refuses(t *testing.T) {
	const failed = "\x00"
	for _, c := range []struct {
		args args
		want map[string]string
	}{
		{args{"alphabet": "digits"}, map[string]string{"12345": failed, "12345x": failed, "123-456": failed, "1234567\xff": failed, strings.Repeat("1", 257): failed, "": ""}},
		{args{"alphabet": "digits", "length": 7}, map[string]string{"123456": failed, "12345678": failed, "": ""}},
		{args{"alphabet": "digits", "keep": "-"}, map[string]string{"1-2-3-4-5": failed, "------": failed}},
		{args{"alphabet": "alnum"}, map[string]string{"aB1": failed}},
		{args{"alphabet": "digits", "otherwise": "suppress"}, map[string]string{"12345": "*", "n/a": "*", "": ""}},
	} {
		apply := bind(t, transform.FF1{}, c.args)
		for in, want := range c.want {
			got, err := apply([]byte("b"), []byte(in), nil)
			if want == failed {
				if sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" || strings.Contains(err.Error(), in) {
					t.Errorf("%v: %q gives %q, %v", c.args, in, got, err)
				}
			} else if err != nil || string(got) != "b"+want {
				t.Errorf("%v: %q gives %q, %v", c.args, in, got, err)
			}
		}
	}
	back := reverse(t, transform.FF1{}, args{"alphabet": "digits", "otherwise": "suppress"})
	if got, err := back(nil, []byte("*"), nil); err != nil || string(got) != "*" {
		t.Errorf("a suppressed value: %q, %v", got, err)
	}
	if _, err := back(nil, []byte("n/a"), nil); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("a value that was never written: %v", err)
	}
}

// The tokens were computed with Python's hmac and hashlib (HKDF-Expand by hand)
// and OpenSSL's aes-256-ctr.
func TestEncryptKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		args        args
		value, want string
	}{
		{nil, "alice", "cxsvt6csrj6fagjvxzls56i3dmjd37bdykg4mrxu7dubkr5ouofa"},
		{args{"scope": "ward", "prefix": "w:"}, "M000017-0123456789", "w:h2t4tg7oi3wcrmztpdrny45wnqzctrsizffscsb3rvo6q2c462hqj6cbkiuirfmxxolcjborhtqhi"},
		{args{"encoding": "base64url"}, "alice", "FeVZ-FKKfFAZNb5XLvkbGxI9_CPCjcZG9PjoFUeuo4o"},
	} {
		got, err := bind(t, transform.Encrypt{}, c.args)(nil, []byte(c.value), nil)
		if err != nil || string(got) != c.want {
			t.Errorf("%v: %s, %v, want %s", c.args, got, err, c.want)
		}
	}
}

// A token comes back, is the same each time, tells the length only in steps of
// 16, and any change of it is refused, by name and without its text.
func TestEncryptComesBackAndRefusesTampering(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := args{"prefix": rapid.SampledFrom([]string{"", "t:"}).Draw(t, "prefix"),
			"encoding": rapid.SampledFrom([]string{"base32", "base64url"}).Draw(t, "encoding")}
		value := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "value")
		apply, back := bind(t, transform.Encrypt{}, a), reverse(t, transform.Encrypt{}, a)
		token, err := apply(nil, value, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := apply([]byte("b"), value, nil)
		if err != nil || string(again) != "b"+string(token) {
			t.Fatalf("%q, then %q (%v)", token, again, err)
		}
		same, err := apply(nil, bytes.Repeat([]byte("x"), len(value)/16*16+15), nil)
		if err != nil || len(same) != len(token) {
			t.Fatalf("lengths %d and %d (%v)", len(token), len(same), err)
		}
		got, err := back([]byte("b"), token, nil)
		if err != nil || string(got) != "b"+string(value) {
			t.Fatalf("%q came back as %q (%v)", value, got, err)
		}
		bad := bytes.Clone(token)
		switch rapid.SampledFrom([]string{"change", "cut", "add", "break"}).Draw(t, "tamper") {
		case "change":
			i := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
			bad[i] = rapid.ByteRange('2', 'z').Filter(func(c byte) bool { return c != token[i] }).Draw(t, "to")
		case "cut":
			bad = bad[:rapid.IntRange(1, len(bad)-1).Draw(t, "to")]
		case "add":
			bad = append(bad, rapid.SampledFrom([]string{"a", "A", "\n", "=", "aaaaaaaa"}).Draw(t, "more")...)
		case "break":
			i := rapid.IntRange(0, len(bad)).Draw(t, "at")
			bad = append(bad[:i:i], append([]byte{'\n'}, bad[i:]...)...)
		}
		got, err = back(nil, bad, nil)
		if sallyport.KindOf(err) != sallyport.Damaged || len(got) != 0 || len(bad) > 8 && strings.Contains(err.Error(), string(bad)) {
			t.Fatalf("%q, which was %q, came back as %q (%v)", bad, token, got, err)
		}
	})
}

func TestEncryptRefusesOtherKeysAndScopes(t *testing.T) {
	token, err := bind(t, transform.Encrypt{}, args{"scope": "a"})(nil, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	other := env()
	other.Key = func(string) []byte { return bytes.Repeat([]byte{1}, 32) }
	for label, f := range map[string]func() (anonymize.Apply, error){
		"scope": func() (anonymize.Apply, error) { return transform.Encrypt{}.Reverse(nil, env()) },
		"key":   func() (anonymize.Apply, error) { return transform.Encrypt{}.Reverse(args{"scope": "a"}, other) },
		"encoding": func() (anonymize.Apply, error) {
			return transform.Encrypt{}.Reverse(args{"scope": "a", "encoding": "base64url"}, env())
		},
		"prefix": func() (anonymize.Apply, error) {
			return transform.Encrypt{}.Reverse(args{"scope": "a", "prefix": "p"}, env())
		},
	} {
		apply, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := apply(nil, token, nil); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("another %s: %q, %v", label, got, err)
		}
	}
}

// The offset is the subject's, whatever a file's dates look like.
func TestShiftIsTheSubjectsInEveryLayout(t *testing.T) {
	for i := range 50 {
		subject := fmt.Append(nil, "P", i)
		want := ""
		for _, layout := range []string{"", "02.01.2006", "01/02/2006", "20060102", "2 January 2006", "Jan 2, 2006 15:04 MST", "2006-01-02T15:04:05.000Z07:00"} {
			shown := layout
			a := args{"days": 365, "layout": layout}
			if layout == "" {
				shown, a = "2006-01-02", args{"days": 365}
			}
			got, err := bind(t, transform.ShiftDate{}, a)(nil, []byte(noon.Format(shown)), subject)
			if err != nil {
				t.Fatalf("%s: %v", shown, err)
			}
			moved, err := parseTime(shown, string(got))
			if err != nil {
				t.Fatal(err)
			}
			if day := moved.Format("2006-01-02"); want == "" {
				want = day
			} else if day != want {
				t.Errorf("%s: %s moves to %s in %s, to %s elsewhere", subject, noon.Format(shown), day, shown, want)
			}
		}
	}
}
