package anonymize

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"sallyport"
)

// The words by which a column's name gives away what it holds, English and
// German. A word matches a whole part of the name ("birth" in "date_of_birth"),
// or its start or end where it is marked with *.
var (
	nameWords    = []string{"name*", "surname", "firstname", "lastname", "forename", "vorname", "nachname"}
	contactWords = []string{"email*", "mail", "phone*", "tel", "telephone", "telefon", "mobile", "fax", "address", "street", "adresse", "strasse", "url", "ip", "iban"}
	idWords      = []string{"id", "ids", "uid", "uuid", "guid", "mrn", "ssn", "pid", "nhs", "patientid", "personid", "subject", "patient", "case", "record", "account", "insurance", "licence", "license", "passport", "serial", "code", "number", "nr", "no"}
	birthWords   = []string{"birth*", "dob", "born", "geburt*"}
	placeWords   = []string{"zip*", "postal", "postcode", "plz", "city", "town", "county", "state", "region", "country", "place", "district", "ort", "land", "latitude", "longitude", "lat", "lon"}
	personWords  = []string{"age", "alter", "sex", "gender", "geschlecht", "race", "ethnic*", "marital", "education", "occupation", "profession", "job", "workclass", "nationality", "religion", "language", "height", "native", "employer", "hospital", "ward", "admission", "admitted", "discharge*", "visit", "death"}
	secretWords  = []string{"diagnos*", "icd*", "disease", "condition", "hiv", "drug", "medication", "treatment", "procedure", "outcome", "salary", "income", "wage", "debt", "score", "result", "lab", "genotype", "crime", "therapy"}
)

// parts cuts a column name into lower-case words.
func parts(name string) []string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		upper := r >= 'A' && r <= 'Z'
		if upper && lower {
			b.WriteByte(' ')
		}
		lower = r >= 'a' && r <= 'z'
		b.WriteRune(r)
	}
	return strings.FieldsFunc(strings.ToLower(b.String()), func(r rune) bool { return strings.ContainsRune(" _-.:/()[]#", r) })
}

// named returns the word of list that name contains, "" if none.
func named(name string, list []string) string {
	for _, part := range parts(name) {
		for _, word := range list {
			stem, open := strings.CutSuffix(word, "*")
			if part == stem || open && (strings.HasPrefix(part, stem) || strings.HasSuffix(part, stem)) {
				return stem
			}
		}
	}
	return ""
}

// proposeRole proposes a role with the evidence for it, and for identifiers
// how to treat them. It errs toward identifiers: that a person corrects a
// cautious proposal costs a minute, the other error a leak.
func proposeRole(p *ColumnProfile, c *scanned) {
	say := func(format string, args ...any) { p.Evidence = append(p.Evidence, fmt.Sprintf(format, args...)) }
	word := func(list []string) bool {
		w := named(p.Name, list)
		if w != "" {
			say("name contains %q", w)
		}
		return w != ""
	}
	looks := func(n int64, what string) bool {
		if c.share(n) < 0.05 {
			return false
		}
		say("%s of values look like %s", percent(c.share(n)), what)
		return true
	}
	const nearly = 0.95
	high := c.n >= 20 && p.Unique >= nearly
	if high {
		say("%s of values are unique", percent(p.Unique))
	}
	if c.n == 0 {
		say("all values are empty")
	}
	text := p.Type == "text"
	switch {
	case looks(c.residual.email, "e-mail addresses"), looks(c.residual.phone, "phone numbers"), looks(c.residual.ssn, "social security numbers"),
		text && word(nameWords), word(contactWords):
		p.Role, p.Mask = sallyport.Direct, &sallyport.Mask{Verb: "drop"}
	case text && c.share(c.spaces) > 0.5 && c.maxLength > 40:
		say("%s of values are texts of several words", percent(c.share(c.spaces)))
		p.Role, p.Mask = sallyport.Direct, &sallyport.Mask{Verb: "drop"}
	case word(birthWords), word(placeWords), word(personWords) && !(high && named(p.Name, idWords) != ""):
		p.Role = sallyport.Quasi
	case (text || p.Type == "integer") && (high || p.Distinct > 20 && p.Unique > 0.05 || p.Distinct > 100) && word(idWords),
		text && high, p.Type == "integer" && high && sequential(p, c):
		p.Role, p.Mask = sallyport.Direct, &sallyport.Mask{Verb: "pseudonym"}
	case word(secretWords):
		p.Role = sallyport.Sensitive
	case p.Type == "date" || p.Type == "time":
		say("values are dates or times")
		p.Role = sallyport.Quasi
	case text && c.n > 0:
		say("text with %d distinct values; others may know it", p.Distinct)
		p.Role = sallyport.Quasi
	default:
		p.Role = sallyport.Insensitive
	}
	if high && p.Role != sallyport.Direct && p.Role != sallyport.Quasi {
		p.Warning = "nearly every value is unique: if others can know these values, declare the column a quasi-identifier"
	}
}

// sequential reports whether integers look like numbers that were given out
// rather than measured: of equal length and nearly all different.
func sequential(p *ColumnProfile, c *scanned) bool {
	return p.PatternShare > 0.9 && c.maxLength >= 5 || c.max-c.min < 2*float64(c.n) && c.n >= 20
}

// proposeMask completes the proposal for columns other than direct identifiers.
func proposeMask(p *ColumnProfile, c *scanned, subject bool) {
	if p.Mask != nil {
		return
	}
	if p.Role != sallyport.Quasi {
		return // nothing is proposed: policy decides by the role
	}
	defer func() {
		if p.Mask == nil { // few values: they may leave as they are, if the classes allow it
			p.Mask = &sallyport.Mask{Verb: "keep"}
		}
	}()
	if c.n == 0 {
		return
	}
	suppress := func(args map[string]any) map[string]any {
		args["otherwise"] = "suppress"
		return args
	}
	switch birth := named(p.Name, birthWords) != ""; {
	case p.Type == "date" || p.Type == "time" && c.shapes[shapeDate]+c.shapes[shapeTime] == c.n && iso(p.Pattern):
		if !iso(p.Pattern) {
			p.Mask = &sallyport.Mask{Verb: "drop"}
			p.Evidence = append(p.Evidence, "dates are not ISO 8601: give the verb date their layout")
			return
		}
		if birth || !subject {
			p.Mask = &sallyport.Mask{Verb: "date", Args: suppress(map[string]any{"to": "year"})}
			return
		}
		p.Mask = &sallyport.Mask{Verb: "shift_date", Args: suppress(map[string]any{"days": 365})}
	case p.Type == "integer" || p.Type == "number":
		if named(p.Name, placeWords) != "" && p.Type == "integer" && c.maxLength >= 4 {
			p.Mask = &sallyport.Mask{Verb: "prefix", Args: map[string]any{"length": max(1, c.maxLength-2), "fill": "0"}}
			return
		}
		if p.Distinct > 5 {
			p.Mask = &sallyport.Mask{Verb: "generalize", Args: suppress(map[string]any{"width": width(c.max - c.min)})}
		}
	case p.Type == "text" && strings.Contains(p.Pattern, "9") && named(p.Name, placeWords) != "":
		p.Mask = &sallyport.Mask{Verb: "prefix", Args: map[string]any{"length": min(3, max(1, c.maxLength-2)), "fill": "0"}}
	case p.Type == "text" && p.Distinct > 50:
		p.Mask = &sallyport.Mask{Verb: "drop"}
		p.Evidence = append(p.Evidence, "too many values to release as they are: give the verb hierarchy a file")
	case p.Type == "time":
		p.Mask = &sallyport.Mask{Verb: "drop"}
	}
}

// iso reports whether a pattern is that of an ISO 8601 date.
func iso(pattern string) bool { return strings.HasPrefix(pattern, "9999-99-99") }

// width is a round number, about a tenth of spread.
func width(spread float64) float64 {
	if spread <= 0 || math.IsInf(spread, 0) || math.IsNaN(spread) {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(spread/10)))
	unit = min(max(unit, 1e-6), 1e12)
	i := slices.IndexFunc([]float64{1, 2, 5, 10}, func(f float64) bool { return f*unit >= spread/10 })
	if i < 0 {
		i = 3
	}
	return []float64{1, 2, 5, 10}[i] * unit
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
