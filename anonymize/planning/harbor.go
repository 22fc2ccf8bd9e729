package planning

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sallyport"
)

// HarborRow is one of the 18 categories of identifiers that the Safe Harbor of
// 45 CFR 164.514(b)(2)(i) wants removed, and what a plan does with the columns
// in it.
type HarborRow struct {
	Letter    string         `json:"letter"` // (A) to (R)
	Title     string         `json:"title"`
	Satisfied bool           `json:"satisfied"` // also where no column is in it
	Columns   []HarborColumn `json:"columns"`
}

// HarborColumn is one column in a category.
type HarborColumn struct {
	Column    string `json:"column"`
	Treatment string `json:"treatment"` // keep, drop, or the verb with its arguments
	Satisfied bool   `json:"satisfied"`
	Why       string `json:"why,omitempty"` // what would satisfy it, or what to mind
}

// harborRows are the categories in the rule's order, with the words of
// [Identifiers] that fall into each.
var harborRows = []struct {
	letter, title string
	words         []string
}{
	{"A", "names", []string{"name"}},
	{"B", "geographic subdivisions smaller than a state", []string{"geographic"}},
	{"C", "elements of dates except the year, and ages over 89", []string{"date", "age"}},
	{"D", "telephone numbers", []string{"telephone"}},
	{"E", "fax numbers", []string{"fax"}},
	{"F", "e-mail addresses", []string{"email"}},
	{"G", "social security numbers", []string{"ssn"}},
	{"H", "medical record numbers", []string{"record"}},
	{"I", "health plan beneficiary numbers", []string{"beneficiary"}},
	{"J", "account numbers", []string{"account"}},
	{"K", "certificate and license numbers", []string{"license"}},
	{"L", "vehicle identifiers and plates", []string{"vehicle"}},
	{"M", "device identifiers and serial numbers", []string{"device"}},
	{"N", "web addresses", []string{"url"}},
	{"O", "IP addresses", []string{"ip"}},
	{"P", "biometric identifiers", []string{"biometric"}},
	{"Q", "full-face photographs", []string{"photo"}},
	{"R", "any other unique number, characteristic or code", []string{"other"}},
}

// SafeHarborRows checks the plan's columns against the 18 categories, one by
// one. Columns of which nobody has said what they are make a last row without a
// letter, which nothing but dropping them satisfies. That the rows are satisfied
// is not all that the rule asks: whoever releases may not know of another way to
// recognize somebody.
func (f File) SafeHarborRows() []HarborRow {
	var rows []HarborRow
	for _, h := range harborRows {
		row := HarborRow{Letter: h.letter, Title: h.title, Satisfied: true, Columns: []HarborColumn{}}
		for _, c := range f.Columns {
			if !slices.Contains(h.words, c.Identifier) {
				continue
			}
			hc := HarborColumn{Column: c.Name, Treatment: treatment(c.Verb, c.Args)}
			hc.Satisfied, hc.Why = satisfies(c)
			row.Satisfied = row.Satisfied && hc.Satisfied
			row.Columns = append(row.Columns, hc)
		}
		rows = append(rows, row)
	}
	rest := HarborRow{Title: "columns of which nobody has said what they are", Satisfied: true, Columns: []HarborColumn{}}
	for _, c := range f.Columns {
		if c.Identifier == "" {
			hc := HarborColumn{Column: c.Name, Treatment: treatment(c.Verb, c.Args), Satisfied: c.Drops()}
			if !hc.Satisfied {
				hc.Why, rest.Satisfied = "say which category it is in, or none", false
			}
			rest.Columns = append(rest.Columns, hc)
		}
	}
	if len(rest.Columns) > 0 {
		rows = append(rows, rest)
	}
	return rows
}

// CheckSafeHarbor is an error that names the columns whose treatment does not
// satisfy the Safe Harbor.
func (f File) CheckSafeHarbor() error {
	var bad []string
	for _, r := range f.SafeHarborRows() {
		for _, c := range r.Columns {
			if !c.Satisfied {
				bad = append(bad, fmt.Sprintf("%s (%s): %s", c.Column, r.Title, c.Why))
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return sallyport.Errorf("Safe Harbor", sallyport.Invalid, "Change what the plan does with them, or take safe_harbor out of it.",
		"the plan does not satisfy it: %s", strings.Join(bad, "; "))
}

// satisfies says whether what is done to a column satisfies its category, as the
// default policy does, and what would or what to mind.
func satisfies(c Column) (bool, string) {
	word := func(name string) string { s, _ := c.Args[name].(string); return s }
	number := func(name string) (float64, bool) {
		n, err := strconv.ParseFloat(fmt.Sprint(c.Args[name]), 64)
		return n, err == nil
	}
	if c.Verb == "drop" || c.Verb == "replace" {
		return true, ""
	}
	switch c.Identifier {
	case "geographic":
		level, ok := number("level")
		if c.Verb == "zip3" || c.Verb == "hierarchy" && word("file") == zip3File && ok && level >= 1 {
			return true, ""
		}
		return false, "drop it, or zip3 for ZIP codes"
	case "date":
		if to := word("to"); c.Verb == "date" && (to == "year" || to == "decade") {
			if isBirth(c.Name) {
				return true, "the years of birth of people over 89 must not be in it"
			}
			return true, ""
		}
		return false, "drop it, or date to the year"
	case "age":
		top, ok := number("top")
		level, leveled := number("level")
		if c.Verb == "age90" || c.Verb == "cap" && ok && top <= 90 || c.Verb == "hierarchy" && word("file") == ageFile && leveled && level >= 1 {
			return true, ""
		}
		return false, "drop it, or age90"
	case "none":
		return true, ""
	}
	return false, "drop it, or replace it"
}

// treatment is a verb with its arguments, for people.
func treatment(verb string, args map[string]any) string {
	if verb == "" {
		return "keep"
	}
	if len(args) == 0 {
		return verb
	}
	return verb + " " + arguments(args)
}
