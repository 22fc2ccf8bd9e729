package transform

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"sallyport"
)

// arguments decodes a verb's arguments strictly, whether they came from YAML,
// JSON or Rego. The first problem is kept; unknown names are found at the end.
type arguments struct {
	verb string
	args map[string]any
	used map[string]bool
	err  error
}

func read(verb string, args map[string]any) *arguments {
	return &arguments{verb: verb, args: args, used: map[string]bool{}}
}

// done returns the first problem met.
func (a *arguments) done() error {
	if a.err != nil {
		return a.err
	}
	known := slices.Sorted(maps.Keys(a.used))
	for _, name := range slices.Sorted(maps.Keys(a.args)) {
		if !a.used[name] {
			hint := "It takes none."
			if len(known) > 0 {
				hint = "It takes: " + strings.Join(known, ", ") + "."
			}
			return invalid(hint, "%s: unknown argument %q", a.verb, name)
		}
	}
	return nil
}

func (a *arguments) fail(name, format string, args ...any) {
	if a.err == nil {
		a.err = invalid("", "%s: argument %q %s", a.verb, name, fmt.Sprintf(format, args...))
	}
}

func (a *arguments) get(name string, required bool) (any, bool) {
	a.used[name] = true
	v, ok := a.args[name]
	if !ok && required {
		a.fail(name, "is missing")
	}
	return v, ok
}

// text reads a string; missing is what an absent one means, and nil there
// makes it required.
func (a *arguments) text(name string, missing *string) string {
	v, ok := a.get(name, missing == nil)
	if !ok {
		if missing == nil {
			return ""
		}
		return *missing
	}
	s, ok := v.(string)
	if !ok {
		a.fail(name, "must be a string")
	}
	return s
}

// choice reads one of several words.
func (a *arguments) choice(name string, missing *string, words ...string) string {
	s := a.text(name, missing)
	if a.err == nil && !slices.Contains(words, s) {
		a.fail(name, "must be one of: %s", strings.Join(words, ", "))
	}
	return s
}

// suppress reads the argument otherwise.
func (a *arguments) suppress() bool {
	return a.choice("otherwise", ptr("error"), "error", "suppress") == "suppress"
}

// integer reads a whole number from least to most.
func (a *arguments) integer(name string, missing *int, least, most int) int {
	v, ok := a.get(name, missing == nil)
	if !ok {
		if missing == nil {
			return 0
		}
		return *missing
	}
	d, ok := decimalOf(v)
	if n, exact := d.whole(); ok && exact && n >= int64(least) && n <= int64(most) {
		return int(n)
	}
	a.fail(name, "must be a whole number from %d to %d", least, most)
	return 0
}

// number reads a decimal; the second result says whether it is there.
func (a *arguments) number(name string, required bool) (decimal, bool) {
	v, ok := a.get(name, required)
	if !ok {
		return decimal{}, false
	}
	d, ok := decimalOf(v)
	if !ok {
		a.fail(name, "must be a number of at most %d digits", maxDigits)
	}
	return d, ok
}

// decimalOf reads a number of any type that a decoder may have made. A float
// counts as the shortest decimal that denotes it.
func decimalOf(v any) (decimal, bool) {
	switch v := v.(type) {
	case int:
		return parseDecimal(strconv.AppendInt(nil, int64(v), 10))
	case int64:
		return parseDecimal(strconv.AppendInt(nil, v, 10))
	case uint64:
		return parseDecimal(strconv.AppendUint(nil, v, 10))
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return decimal{}, false
		}
		return parseDecimal(strconv.AppendFloat(nil, v, 'f', -1, 64))
	case json.Number:
		if f, err := strconv.ParseFloat(string(v), 64); err == nil && strings.ContainsAny(string(v), "eE") {
			return decimalOf(f)
		}
		return parseDecimal([]byte(v))
	}
	return decimal{}, false
}

func ptr[T any](v T) *T { return &v }

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("", sallyport.Invalid, hint, format, args...)
}
