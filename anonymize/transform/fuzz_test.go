package transform

import (
	"bytes"
	"io"
	"math/big"
	"strings"
	"testing"

	"sallyport/anonymize"
)

// FuzzNumbers holds the decimal arithmetic against math/big.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"0", "-1.5", "+.5", "5.", "1e3", "..", "-", "999999999999999999", "9999999999999999999", "-0.0000000000000000001", "000000000000000000000001"} {
		f.Add([]byte(s), uint8(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, s uint8) {
		scale := int(s % (maxDigits + 1))
		units, exact, ok := parseFloor(b, scale)
		if !ok {
			return
		}
		v, valid := new(big.Rat).SetString(string(b))
		if !valid || bytes.ContainsAny(b, "eE_/xXpPoO") {
			t.Fatalf("accepted %q", b)
		}
		v.Mul(v, new(big.Rat).SetInt64(pow10[scale]))
		floor := new(big.Int).Div(v.Num(), v.Denom()) // Euclidean, and the denominator is positive
		if !floor.IsInt64() || floor.Int64() != units || exact != v.IsInt() {
			t.Fatalf("%q at scale %d: got %d, %v, want %v", b, scale, units, exact, floor)
		}
		back, _, ok := parseFloor(appendDecimal(nil, units, scale), scale)
		if !ok || back != units {
			t.Fatalf("%d at scale %d is written as %s", units, scale, appendDecimal(nil, units, scale))
		}
	})
}

// FuzzHierarchy reads hierarchy files of any bytes: what a value becomes is
// always a field of the file.
func FuzzHierarchy(f *testing.F) {
	f.Add([]byte("a;b;*\nc;d;*\n"), uint8(1))
	f.Add([]byte("\"a;\"\"x\";b\n"), uint8(0))
	f.Add([]byte("a;b\n\"c"), uint8(1))
	f.Fuzz(func(t *testing.T, file []byte, level uint8) {
		env := anonymize.Env{Hierarchy: func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil }}
		apply, err := Hierarchy{}.Bind(map[string]any{"file": "f", "level": int(level % 4)}, env)
		if err != nil {
			return
		}
		value, _, _ := strings.Cut(string(file), ";")
		got, err := apply(nil, []byte(value), nil)
		if err == nil && !bytes.Contains(bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n")), bytes.ReplaceAll(got, []byte(`"`), []byte(`""`))) && !bytes.Contains(file, got) {
			t.Fatalf("%q became %q, which is not in the file", value, got)
		}
	})
}

// FuzzReversible turns values of any bytes into tokens and back. What is
// refused is refused without a value; a token of any bytes is refused or undone
// to something that makes it again.
func FuzzReversible(f *testing.F) {
	f.Add([]byte("0123456789"), []byte("-"))
	f.Add([]byte("12-34-56"), []byte("n/a"))
	f.Add([]byte("\x80\x00"), []byte("cxsvt6csrj6fagjvxzls56i3dmjd37bdykg4mrxu7dubkr5ouofa"))
	env := anonymize.Env{Key: func(p string) []byte { return []byte(p + strings.Repeat("k", 32)) }}
	f.Fuzz(func(t *testing.T, value, token []byte) {
		for _, verb := range []interface {
			anonymize.Transform
			Reverser
		}{FF1{}, Encrypt{}} {
			args := map[string]any{}
			if verb.Name() == "ff1" {
				args = map[string]any{"alphabet": "digits", "keep": "-/ "}
			}
			apply, err1 := verb.Bind(args, env)
			back, err2 := verb.Reverse(args, env)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if got, err := apply(nil, value, nil); err == nil {
				if again, err := back(nil, got, nil); err != nil || !bytes.Equal(again, value) {
					t.Fatalf("%s: %q became %q and %q (%v)", verb.Name(), value, got, again, err)
				}
			} else if len(got) > 0 {
				t.Fatalf("%s: %q with an error", verb.Name(), got)
			}
			if got, err := back(nil, token, nil); err == nil {
				if again, err := apply(nil, got, nil); err != nil || !bytes.Equal(again, token) {
					t.Fatalf("%s: token %q is %q and then %q (%v)", verb.Name(), token, got, again, err)
				}
			} else if len(got) > 0 {
				t.Fatalf("%s: %q with an error", verb.Name(), got)
			}
		}
	})
}

// FuzzNumberVerbs gives numbers of any spelling to the verbs that read some: what
// they make is short, and they agree with the exact arithmetic of math/big.
func FuzzNumberVerbs(f *testing.F) {
	for _, s := range []string{"25", "-0.5", "89.99999999999999999999", "90+", "02139-4307", "1e9", "+.5", "999999999999999999"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []struct {
			verb anonymize.Transform
			args map[string]any
		}{{Round{}, map[string]any{"to": 0.5, "places": 1}}, {Age90{}, nil}, {ZIP3{}, map[string]any{"vintage": 2020}}} {
			apply, err := c.verb.Bind(c.args, anonymize.Env{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := apply(nil, b, nil)
			if err != nil || len(b) == 0 {
				if len(got) > 0 {
					t.Fatalf("%s: %q became %q with %v", c.verb.Name(), b, got, err)
				}
				continue
			}
			switch c.verb.(type) {
			case Round:
				v, ok := new(big.Rat).SetString(string(b))
				r, fine := new(big.Rat).SetString(string(got))
				if !ok || !fine || v.Sub(v, r).Abs(v).Cmp(big.NewRat(1, 4)) > 0 {
					t.Fatalf("%q was rounded to %q", b, got)
				}
			case Age90:
				if string(got) != Over89 && !bytes.Equal(got, b) {
					t.Fatalf("age %q became %q", b, got)
				}
			case ZIP3:
				if string(got) != "000" && !bytes.Equal(got, b[:3]) || len(got) != 3 {
					t.Fatalf("ZIP %q became %q", b, got)
				}
			}
		}
	})
}
