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
