package planning

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"sallyport"
)

// KeepWeight is how many times the information of a column that is to be kept
// useful counts, where nobody says otherwise.
const KeepWeight = 10

// DefaultLimit is the share of the records that may stay behind where nobody
// says otherwise: as in ARX's examples. Without any, a handful of outliers
// decides how coarse all others become.
const DefaultLimit = 0.04

// Target is what a plan must reach, and what it should spare.
type Target struct {
	K int64   `json:"k"` // records a class has at least; 0 or 1: not asked
	L int64   `json:"l,omitempty"`
	T float64 `json:"t,omitempty"` // 0: not asked
	// Entropy and recursive (C, L)-diversity; an L of 0 or 1 is not asked. They
	// are reached by generalizing alone, whatever the limit: the pass keeps
	// records back by k, l and t.
	EntropyL   float64 `json:"entropy_l,omitempty"`
	RecursiveC float64 `json:"recursive_c,omitempty"`
	RecursiveL int64   `json:"recursive_l,omitempty"`
	Limit      float64 `json:"limit"` // share of records that may stay behind
	SafeHarbor bool    `json:"safe_harbor,omitempty"`
	Keep       []Keep  `json:"keep,omitempty"`
}

// Keep says that a column is to stay useful: what it loses counts Weight times.
type Keep struct {
	Column string  `json:"column"`
	Weight float64 `json:"weight"`
}

const targetHint = `Write clauses with commas between: k=5, l=2, t=0.3, entropy l=2.5, recursive c=3 l=2, limit=4%, Safe Harbor, keep COLUMN useful.`

var (
	assigned = regexp.MustCompile(`^(?i)(k|l|t|limit)(?:\s*=\s*|\s+)(\S+(?:\s*%)?)$`)
	entropic = regexp.MustCompile(`^(?i)entropy\s+l\s*=\s*(\S+)$`)
	recurs   = regexp.MustCompile(`^(?i)recursive\s+c\s*=\s*(\S+)\s+l\s*=\s*(\S+)$`)
	named    = regexp.MustCompile(`^(?i)(\S+)-(anonymity|anonymous|diversity|diverse|closeness|close)$`)
	harbor   = regexp.MustCompile(`^(?i)(?:hipaa\s+)?safe[ _-]?harbou?r$`)
	kept     = regexp.MustCompile(`^(?i)keep\s+(.+?)(?:\s+useful)?$`)
)

// ParseTarget reads a target as a steward says it: "k=5, Safe Harbor, keep age
// useful". What it does not know is a sallyport.Invalid that says what it does.
// A column's name that holds a comma stands in double quotes. The limit is
// [DefaultLimit] if none is given, k 1.
func ParseTarget(text string) (Target, error) {
	t := Target{K: 1, Limit: DefaultLimit}
	bad := func(format string, args ...any) (Target, error) {
		return Target{}, sallyport.Errorf("target", sallyport.Invalid, targetHint, format, args...)
	}
	clauses, ok := cut(text)
	if !ok {
		return bad("a quote is not closed")
	}
	said := map[string]bool{}
	for _, clause := range clauses {
		if clause = strings.TrimSpace(clause); clause == "" {
			return bad("a clause is empty")
		}
		what, value, second := "", "", ""
		if m := assigned.FindStringSubmatch(clause); m != nil {
			what, value = strings.ToLower(m[1]), m[2]
		} else if m := named.FindStringSubmatch(clause); m != nil {
			what, value = map[byte]string{'a': "k", 'd': "l", 'c': "t"}[strings.ToLower(m[2])[0]], m[1]
		} else if m := entropic.FindStringSubmatch(clause); m != nil {
			what, value = "entropy l", m[1]
		} else if m := recurs.FindStringSubmatch(clause); m != nil {
			what, value, second = "recursive", m[1], m[2]
		} else if harbor.MatchString(clause) {
			what = "Safe Harbor"
		} else if m := kept.FindStringSubmatch(clause); m != nil {
			k, err := ParseKeep(m[1])
			if err != nil {
				return Target{}, err
			}
			for _, old := range t.Keep {
				if old.Column == k.Column {
					return bad("column %q is to be kept twice", k.Column)
				}
			}
			t.Keep = append(t.Keep, k)
			continue
		} else {
			return bad("%q is no clause that is known", clip(clause))
		}
		if said[what] {
			return bad("%s is given twice", what)
		}
		said[what] = true
		var err error
		switch what {
		case "k":
			t.K, err = count(value)
		case "l":
			t.L, err = count(value)
		case "t":
			t.T, err = share(value)
		case "entropy l":
			t.EntropyL, err = positive(value)
		case "recursive":
			if t.RecursiveC, err = positive(value); err == nil {
				t.RecursiveL, err = count(second)
			}
		case "limit":
			t.Limit, err = share(value)
		default:
			t.SafeHarbor = true
		}
		if err != nil {
			return bad("%s: %v", what, err)
		}
	}
	return t, t.check()
}

// ParseKeep reads a column's name, in double quotes or not, and after = its
// weight if it has one: "age", "age=3".
func ParseKeep(text string) (Keep, error) {
	k := Keep{Column: strings.TrimSpace(text), Weight: KeepWeight}
	bad := func(format string, args ...any) (Keep, error) {
		return Keep{}, sallyport.Errorf("target", sallyport.Invalid, "Name a column, and after = how many times it counts: age=3.", format, args...)
	}
	if i := strings.LastIndexByte(k.Column, '='); i >= 0 && !strings.HasSuffix(k.Column, `"`) {
		w, err := strconv.ParseFloat(strings.TrimSpace(k.Column[i+1:]), 64)
		if err != nil || !(w > 0 && w <= 1e6) {
			return bad("a weight is a number above 0, and at most a million")
		}
		k.Column, k.Weight = strings.TrimSpace(k.Column[:i]), w
	}
	if n := len(k.Column); n >= 2 && k.Column[0] == '"' && k.Column[n-1] == '"' {
		k.Column = k.Column[1 : n-1]
	}
	if k.Column == "" {
		return bad("a column to keep has no name")
	}
	return k, nil
}

// cut splits at commas and semicolons outside of quotes.
func cut(text string) ([]string, bool) {
	var clauses []string
	quoted, start := false, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case (c == ',' || c == ';') && !quoted:
			clauses = append(clauses, text[start:i])
			start = i + 1
		}
	}
	return append(clauses, text[start:]), !quoted
}

func count(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("a whole number from 1 on is expected")
	}
	return n, nil
}

func positive(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f <= 1e9) {
		return 0, fmt.Errorf("a number above 0 is expected")
	}
	return f, nil
}

// share reads 0.04 or 4%.
func share(s string) (float64, error) {
	digits, percent := strings.CutSuffix(s, "%")
	digits = strings.TrimSpace(digits)
	f, err := strconv.ParseFloat(digits, 64)
	if percent {
		f /= 100
	}
	if err != nil || math.IsNaN(f) || f < 0 || f > 1 {
		return 0, fmt.Errorf("a share is expected, from 0 to 1 or in %%")
	}
	return f, nil
}

// check refuses a target that means nothing.
func (t Target) check() error {
	bad := func(format string, args ...any) error {
		return sallyport.Errorf("target", sallyport.Invalid, targetHint, format, args...)
	}
	switch {
	case t.K < 0 || t.L < 0:
		return bad("k and l are at least 1")
	case !(t.EntropyL >= 0 && t.EntropyL <= 1e9) || !(t.RecursiveC >= 0 && t.RecursiveC <= 1e9) || t.RecursiveL < 0:
		return bad("entropy and recursive diversity are asked for by numbers above 0")
	case math.IsNaN(t.T) || t.T < 0 || t.T > 1:
		return bad("t is above 0, and at most 1")
	case math.IsNaN(t.Limit) || t.Limit < 0 || t.Limit > 1:
		return bad("limit is a share of the records, from 0 to 1")
	}
	for _, k := range t.Keep {
		if !(k.Weight > 0 && k.Weight <= 1e6) {
			return bad("a weight is above 0, and at most a million")
		}
	}
	return nil
}

// classes says that the target asks something of classes.
func (t Target) classes() bool { return t.K > 1 || t.diversity() }

// diversity says that the target asks something of sensitive columns.
func (t Target) diversity() bool { return t.L > 1 || t.T > 0 && t.T < 1 || t.strict() }

// strict says that the target asks for what only generalizing reaches.
func (t Target) strict() bool { return t.EntropyL > 1 || t.RecursiveL > 1 }

// String is the target as [ParseTarget] reads it.
func (t Target) String() string {
	var s []string
	if t.K > 1 {
		s = append(s, fmt.Sprintf("k=%d", t.K))
	}
	if t.L > 1 {
		s = append(s, fmt.Sprintf("l=%d", t.L))
	}
	if t.T > 0 && t.T < 1 {
		s = append(s, "t="+float(t.T))
	}
	if t.EntropyL > 1 {
		s = append(s, "entropy l="+float(t.EntropyL))
	}
	if t.RecursiveL > 1 {
		s = append(s, fmt.Sprintf("recursive c=%s l=%d", float(t.RecursiveC), t.RecursiveL))
	}
	s = append(s, "limit="+float(t.Limit))
	if t.SafeHarbor {
		s = append(s, "Safe Harbor")
	}
	for _, k := range t.Keep {
		name := k.Column
		if !plain(name) {
			name = `"` + name + `"`
		}
		if k.Weight != KeepWeight {
			name += "=" + float(k.Weight)
		}
		s = append(s, "keep "+name+" useful")
	}
	return strings.Join(s, ", ")
}

func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
