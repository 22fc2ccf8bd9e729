package report

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"sallyport"
)

// argument writes a verb's argument as JSON does, words without quotes.
func argument(v any) string {
	if s, ok := v.(string); ok && s != "" && !strings.ContainsAny(s, ",:(){}[]\" ") {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}

// pseudonyms says what keyed tokens are in law. GDPR Article 4(5) defines
// pseudonymisation; recital 26 says that pseudonymised data which could be
// attributed to a natural person by the use of additional information are
// information on an identifiable natural person.
func pseudonyms(fields []Field) Pseudonyms {
	p := Pseudonyms{Keyed: []string{}, Reversible: []string{}}
	for _, f := range fields {
		if f.Keyed || f.Reversible {
			p.Keyed = append(p.Keyed, f.Column)
		}
		if f.Reversible {
			p.Reversible = append(p.Reversible, f.Column)
		}
	}
	const law = "under the GDPR this is pseudonymisation (Article 4(5)), and the data stay personal data (recital 26)."
	switch {
	case len(p.Reversible) > 0:
		p.Note = columns(p.Keyed) + "; the holder of the key can turn " + list(p.Reversible) + " back into what was there: " + law
	case len(p.Keyed) > 0:
		p.Note = columns(p.Keyed) + ". Who holds the key, or knows one value and its token, can tell who it is: " + law
	default:
		p.Note = "No column leaves as a keyed pseudonym. That alone makes nothing anonymous: recital 26 of the GDPR asks for all the means reasonably likely to be used to identify a person."
	}
	return p
}

func columns(names []string) string {
	if len(names) == 1 {
		return "Column " + names[0] + " leaves as a keyed pseudonym"
	}
	return "Columns " + list(names) + " leave as keyed pseudonyms"
}

// list joins names as people do.
func list(names []string) string {
	switch len(names) {
	case 0:
		return "none"
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// notMeasured says what the figures do not cover.
func notMeasured(d Document) []string {
	n := []string{
		"The risk is over the columns that were declared to be quasi-identifiers" + over(d.Risk.After) + ". A column that can recognize a person and was declared otherwise is not in the figures.",
		"Without a table of the population, the table is taken to be its own: the journalist is as strong as the prosecutor, which is the cautious reading.",
		"Likely identifiers are looked for value by value. That none was seen is no proof that none is there.",
	}
	if d.Risk.After.Diversity == nil && d.Risk.After.Closeness == nil {
		n = append(n, "How well sensitive values are hidden within a class (l-diversity, t-closeness) was not measured: no column that leaves was declared to be sensitive, or nothing asked for it.")
	}
	if d.Risk.Combined == nil {
		n = append(n, "No earlier release of the dataset was given to compare with. Two releases that are safe alone can be unsafe together.")
	}
	if !d.Risk.Before.Exact {
		n = append(n, "The figures before are not exact: counting stopped where its memory ended.")
	}
	if !d.Risk.After.Exact {
		n = append(n, "The figures after are not exact: counting stopped where its memory ended. They cannot support a release.")
	}
	return n
}

func over(r sallyport.Risk) string {
	if len(r.Quasi) == 0 {
		return " (none of them leaves)"
	}
	return " (" + list(r.Quasi) + ")"
}

// attention lists what a reader should look at first.
func attention(d Document) []string {
	n := []string{}
	for _, r := range d.Residual {
		n = append(n, fmt.Sprintf("Identifiers may remain in what leaves: %s of type %s.", plural(r.Values, "value", "values"), r.Type))
	}
	for _, u := range d.Undeclared {
		n = append(n, fmt.Sprintf("Column %s singles out %s of the records by itself, and is not declared to be a quasi-identifier.", u.Column, percent(u.Unique)))
	}
	for _, f := range d.Fields {
		if f.Role == sallyport.Direct && f.Leaves && (f.Verb == "" || f.Verb == "keep") {
			n = append(n, fmt.Sprintf("Column %s is a direct identifier and leaves as it is.", f.Column))
		}
	}
	if r := d.Risk.After; r.Records > 0 && r.Unique > 0 {
		n = append(n, fmt.Sprintf("%s of the records that leave are alone in their class.", percent(r.Unique)))
	}
	if c := d.Risk.Combined; c != nil && c.Records > 0 && c.SmallestClass < d.Risk.After.SmallestClass {
		n = append(n, fmt.Sprintf("Together with earlier releases the smallest class has %s; alone it has %s.",
			plural(c.SmallestClass, "record", "records"), thousands(d.Risk.After.SmallestClass)))
	}
	if !d.Risk.After.Exact {
		n = append(n, "The risk of what leaves was not counted exactly.")
	}
	return n
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// thousands groups digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent writes a share; what is not quite nothing or all does not look so.
func percent(share float64) string {
	s := strconv.FormatFloat(100*share, 'f', 2, 64)
	switch {
	case share > 0 && s == "0.00":
		return "<0.01 %"
	case share < 1 && s == "100.00":
		return ">99.99 %"
	}
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + " %"
}
