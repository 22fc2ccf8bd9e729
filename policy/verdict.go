package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"sallyport"
)

// fields are the names that a verdict document may have.
type fields []string

var (
	admitFields   = fields{"allow", "destination", "limits", "masks", "reasons", "rows", "rules"}
	releaseFields = fields{"allow", "reasons", "rules"}
)

// decodeVerdict reads the document that a door's verdict rule gave. It is
// decoded by hand and not by encoding/json, which would take "Allow" for
// "allow", null for false and a missing limit for zero.
func decodeVerdict(doc any, known fields) (Verdict, error) {
	m, ok := doc.(map[string]any)
	if !ok {
		return Verdict{}, fmt.Errorf("the verdict is %s, not an object", typeName(doc))
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, name) {
			return Verdict{}, fmt.Errorf("the verdict has an unknown field %q; known are %s", name, strings.Join(known, ", "))
		}
	}
	var v Verdict
	var err error
	if v.Allow, ok = m["allow"].(bool); !ok {
		return Verdict{}, fmt.Errorf("the verdict's allow is %s, not true or false", typeName(m["allow"]))
	}
	if v.Reasons, err = texts(m, "reasons"); err != nil {
		return Verdict{}, err
	}
	if v.Rules, err = texts(m, "rules"); err != nil {
		return Verdict{}, err
	}
	slices.Sort(v.Rules)
	v.Rules = slices.Compact(v.Rules)
	if !v.Allow {
		// What a denial says beside its reasons has no use, and is not passed on.
		if len(v.Reasons) == 0 {
			v.Reasons = []string{"policy says no and gives no reason"}
		}
		return v, nil
	}
	if len(v.Reasons) > 0 {
		return Verdict{}, fmt.Errorf("the verdict allows and yet has %d reasons against it", len(v.Reasons))
	}
	if len(v.Rules) == 0 {
		return Verdict{}, errors.New("the verdict allows and names no rule that does")
	}
	if !slices.Contains(known, "masks") {
		return v, nil
	}
	s, _ := m["destination"].(string)
	if v.Destination = sallyport.Destination(s); v.Destination != sallyport.Local && v.Destination != sallyport.Outside {
		return Verdict{}, fmt.Errorf("the verdict's destination is neither %q nor %q", sallyport.Local, sallyport.Outside)
	}
	if v.Obligations, err = obligations(m["masks"]); err != nil {
		return Verdict{}, err
	}
	if v.Rows, err = rows(m); err != nil {
		return Verdict{}, err
	}
	if v.Limits, err = limits(m["limits"]); err != nil {
		return Verdict{}, err
	}
	return v, nil
}

// obligations turns {column: {verb: {argument: value}}} into a sorted list.
// Numbers among the arguments become float64, as encoding/json has them.
func obligations(doc any) ([]sallyport.Obligation, error) {
	masks, ok := doc.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the verdict's masks are %s, not an object", typeName(doc))
	}
	var out []sallyport.Obligation
	for _, column := range slices.Sorted(maps.Keys(masks)) {
		mask, ok := masks[column].(map[string]any)
		switch {
		case column == "":
			return nil, errors.New("the verdict masks a column without a name")
		case !ok:
			return nil, fmt.Errorf("the mask of column %q is %s, not an object", column, typeName(masks[column]))
		case len(mask) > 1:
			return nil, fmt.Errorf("column %q has %d masks (%s); one is allowed", column, len(mask),
				strings.Join(slices.Sorted(maps.Keys(mask)), ", "))
		}
		o := sallyport.Obligation{Column: column}
		for verb, args := range mask {
			if !isVerb(verb) {
				return nil, fmt.Errorf("the mask of column %q has %q for a verb; a verb is a lower-case word, and to keep the value is {}", column, verb)
			}
			a, ok := args.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("the arguments of %s for column %q are %s, not an object", verb, column, typeName(args))
			}
			o.Verb = verb
			if len(a) > 0 {
				v, err := plain(a)
				if err != nil {
					return nil, fmt.Errorf("the arguments of %s for column %q: %w", verb, column, err)
				}
				o.Args = v.(map[string]any)
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// rows reads the row filters, which may be left out but not be null.
func rows(m map[string]any) ([]sallyport.RowFilter, error) {
	doc, ok := m["rows"]
	if !ok {
		return nil, nil
	}
	list, ok := doc.([]any)
	if !ok {
		return nil, fmt.Errorf("the verdict's rows are %s, not a set or array of filters", typeName(doc))
	}
	var out []sallyport.RowFilter
	for _, x := range list {
		filter, ok := x.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("the verdict's rows hold %s where a filter belongs", typeName(x))
		}
		for _, name := range slices.Sorted(maps.Keys(filter)) {
			if name != "column" && name != "in" {
				return nil, fmt.Errorf("a row filter has an unknown field %q; known are column, in", name)
			}
		}
		column, ok := filter["column"].(string)
		if !ok || column == "" {
			return nil, fmt.Errorf("a row filter's column is %s, not a column's name", typeName(filter["column"]))
		}
		in, err := texts(filter, "in")
		if err != nil {
			return nil, fmt.Errorf("the row filter of column %q: %w", column, err)
		}
		slices.Sort(in)
		out = append(out, sallyport.RowFilter{Column: column, In: slices.Compact(in)})
	}
	slices.SortFunc(out, func(a, b sallyport.RowFilter) int { return strings.Compare(a.Column, b.Column) })
	for i := 1; i < len(out); i++ {
		if out[i].Column == out[i-1].Column {
			return nil, fmt.Errorf("column %q has two row filters; one is allowed", out[i].Column)
		}
	}
	return out, nil
}

func isVerb(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c == '_' && i > 0) {
			return false
		}
	}
	return s != "" && s != "keep"
}

// limits wants every field: an absent list of regions would mean "anywhere".
func limits(doc any) (Limits, error) {
	m, ok := doc.(map[string]any)
	if !ok {
		return Limits{}, fmt.Errorf("the verdict's limits are %s, not an object", typeName(doc))
	}
	known := fields{"budget", "copies", "key_ttl", "max_unique", "min_class", "price", "regions", "reviews"}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, name) {
			return Limits{}, fmt.Errorf("the verdict's limits have an unknown field %q; known are %s", name, strings.Join(known, ", "))
		}
	}
	var l Limits
	var errs [9]error
	whole := func(i int, name string, least, most int64) int64 {
		n, ok := m[name].(json.Number)
		v, err := n.Int64()
		if !ok || err != nil || v < least || v > most {
			errs[i] = fmt.Errorf("the verdict's limits.%s must be a whole number from %d to %d", name, least, most)
		}
		return v
	}
	l.KeyTTL = int(whole(0, "key_ttl", 1, math.MaxInt32))
	l.Price = sallyport.Money(whole(1, "price", 0, math.MaxInt64))
	l.Budget = sallyport.Money(whole(2, "budget", 0, math.MaxInt64))
	l.Copies = int(whole(3, "copies", 1, math.MaxInt32))
	l.MinClass = whole(4, "min_class", 0, math.MaxInt64)
	l.Reviews = int(whole(8, "reviews", 0, 9))
	n, ok := m["max_unique"].(json.Number)
	share, err := n.Float64()
	if !ok || err != nil || !(share >= 0 && share <= 1) {
		errs[5] = errors.New("the verdict's limits.max_unique must be a share from 0 to 1")
	}
	l.MaxUnique = share
	l.Regions, errs[6] = texts(m, "regions")
	if slices.Contains(l.Regions, "") {
		errs[7] = errors.New("the verdict's limits.regions have one without a name")
	}
	return l, errors.Join(errs[:]...)
}

// texts reads a list of strings, which must be there. A Rego set arrives as a
// sorted list.
func texts(m map[string]any, name string) ([]string, error) {
	list, ok := m[name].([]any)
	if !ok {
		return nil, fmt.Errorf("the verdict's %s is %s, not a set or array of strings", name, typeName(m[name]))
	}
	out := make([]string, 0, len(list))
	for _, x := range list {
		s, ok := x.(string)
		if !ok {
			return nil, fmt.Errorf("the verdict's %s hold %s where strings belong", name, typeName(x))
		}
		out = append(out, s)
	}
	return out, nil
}

// plain converts the evaluator's numbers, in place.
func plain(x any) (any, error) {
	var err error
	switch v := x.(type) {
	case json.Number:
		return v.Float64()
	case map[string]any:
		for k := range v {
			if v[k], err = plain(v[k]); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = plain(v[i]); err != nil {
				return nil, err
			}
		}
	}
	return x, nil
}

// typeName says what a value is without quoting it.
func typeName(x any) string {
	switch x.(type) {
	case nil:
		return "missing or null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", x)
}
