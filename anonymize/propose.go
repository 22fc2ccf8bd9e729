package anonymize

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"sallyport"
	"sallyport/anonymize/identify"
)

// The words by which a column's name gives away what it holds, English and
// German. A word matches a whole part of the name ("birth" in "date_of_birth"),
// or its start or end where it is marked with *.
var (
	nameWords    = []string{"name*", "surname", "firstname", "lastname", "forename", "vorname", "nachname"}
	contactWords = []string{"email*", "mail", "phone*", "tel", "telephone", "telecom", "telefon", "mobile", "fax", "address", "street", "adresse", "strasse", "url", "ip", "iban"}
	traceWords   = []string{"vin", "vehicle", "plate", "kennzeichen", "imei", "udi", "biometric*", "fingerprint", "voiceprint", "iris", "photo", "picture", "foto", "passport", "mac", "website", "homepage"}
	idWords      = []string{"id", "ids", "identifier", "uid", "uuid", "guid", "mrn", "ssn", "pid", "nhs", "patientid", "personid", "subject", "patient", "case", "record", "account", "insurance", "licence", "license", "passport", "serial", "code", "number", "nr", "no"}
	birthWords   = []string{"birth*", "dob", "born", "geburt*"}
	placeWords   = []string{"zip*", "postal", "postcode", "plz", "city", "town", "county", "state", "region", "country", "place", "district", "ort", "land", "latitude", "longitude", "lat", "lon"}
	personWords  = []string{"age", "alter", "sex", "gender", "geschlecht", "race", "ethnic*", "marital", "education", "occupation", "profession", "job", "workclass", "nationality", "religion", "language", "height", "native", "employer", "hospital", "ward", "admission", "admitted", "discharge*", "visit", "death"}
	secretWords  = []string{"diagnos*", "icd*", "disease", "condition", "hiv", "drug", "medication", "treatment", "procedure", "outcome", "salary", "income", "wage", "debt", "score", "result", "lab", "genotype", "crime", "therapy"}
)

// categories are the words of names for the categories of 45 CFR
// 164.514(b)(2)(i); the first that a name has is its category.
var categories = []struct {
	identifier string
	words      []string
}{
	{"email", []string{"email*", "mail"}},
	{"fax", []string{"fax", "telefax"}},
	{"telephone", []string{"phone*", "tel", "telephone", "telefon", "mobile"}},
	{"url", []string{"url", "website", "homepage"}},
	{"ip", []string{"ip"}},
	{"ssn", []string{"ssn"}},
	{"account", []string{"iban", "account", "konto"}},
	{"beneficiary", []string{"insurance", "beneficiary", "versicherung*"}},
	{"vehicle", []string{"vin", "vehicle", "plate", "kennzeichen"}},
	{"device", []string{"device", "imei", "udi", "mac", "serial"}},
	{"license", []string{"licence", "license", "passport", "certificate"}},
	{"biometric", []string{"biometric*", "fingerprint", "voiceprint", "iris"}},
	{"photo", []string{"photo", "picture", "foto"}},
	{"geographic", []string{"address", "street", "adresse", "strasse", "zip*", "postal", "postcode", "plz", "city", "town", "county", "region", "place", "district", "ort", "latitude", "longitude", "lat", "lon"}},
	{"name", nameWords},
	{"date", []string{"birth*", "dob", "born", "geburt*", "admission", "admitted", "discharge*", "death", "visit"}},
	{"age", []string{"age", "alter"}},
	{"record", []string{"mrn", "nhs", "pid", "patientid", "personid", "patient", "subject", "case", "record"}},
}

// harmless are words for what no category names: facts about a person, and
// places as large as a state.
var harmless = []string{"sex", "gender", "geschlecht", "race", "ethnic*", "marital", "education", "occupation", "profession", "job", "workclass", "nationality", "religion",
	"language", "height", "native", "state", "country", "land"}

// looksLike are the types of identifiers with their words for people and their
// categories, in the order in which a column is judged.
var looksLike = []struct {
	kind       identify.Type
	what       string
	identifier string
}{
	{identify.Email, "e-mail addresses", "email"},
	{identify.Phone, "phone numbers", "telephone"},
	{identify.SSN, "social security numbers", "ssn"},
	{identify.IBAN, "bank account numbers", "account"},
	{identify.Card, "payment card numbers", "account"},
	{identify.NHS, "NHS numbers", "record"},
	{identify.Medicare, "Medicare numbers", "beneficiary"},
	{identify.SteuerID, "German tax numbers", "other"},
	{identify.NIR, "French social security numbers", "ssn"},
	{identify.DNI, "Spanish identity numbers", "other"},
	{identify.CodiceFisc, "Italian tax codes", "other"},
	{identify.BSN, "Dutch citizen service numbers", "other"},
	{identify.Personnummer, "Swedish personal numbers", "other"},
	{identify.HETU, "Finnish personal identity codes", "other"},
	{identify.CPR, "Danish civil registration numbers", "other"},
	{identify.CPF, "Brazilian taxpayer numbers", "other"},
	{identify.Aadhaar, "Aadhaar numbers", "other"},
	{identify.SIN, "Canadian social insurance numbers", "ssn"},
	{identify.TFN, "Australian tax file numbers", "other"},
	{identify.IP, "IP addresses", "ip"},
	{identify.MAC, "hardware addresses", "device"},
	{identify.URL, "URLs", "url"},
	{identify.Secret, "keys or access tokens", "other"},
	{identify.Address, "street addresses", "geographic"},
	{identify.Name, "names of people", "name"},
}

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
	looks := func() bool {
		for _, l := range looksLike {
			// Values that show by themselves what they are need be few. Where it
			// takes the column's name to see it, one number in ten has the right
			// check digit by chance.
			own, called := c.share(*c.residual.of(l.kind)), c.calledShare(l.kind)
			switch {
			case own >= 0.05:
				say("%s of values look like %s", percent(own), l.what)
			case called >= 0.5:
				say("%s of values look like %s, by the column's name", percent(called), l.what)
			default:
				continue
			}
			p.Identifier = l.identifier
			return true
		}
		return false
	}
	dated := func() bool {
		share := max(c.share(*c.residual.of(identify.Date)), c.calledShare(identify.Date))
		if share < 0.5 || p.Type != "text" {
			return false
		}
		say("%s of values hold dates of a life", percent(share))
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
	case looks(), text && word(nameWords), word(contactWords), word(traceWords):
		p.Role, p.Mask = sallyport.Direct, &sallyport.Mask{Verb: "drop"}
	case text && c.share(c.spaces) > 0.5 && c.maxLength > 40:
		say("%s of values are texts of several words", percent(c.share(c.spaces)))
		p.Role, p.Mask = sallyport.Direct, &sallyport.Mask{Verb: "drop"}
	case word(birthWords), dated(), word(placeWords), word(personWords) && !(high && named(p.Name, idWords) != ""):
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
	if p.Identifier == "" {
		p.Identifier = proposeIdentifier(p)
	}
	if high && p.Role != sallyport.Direct && p.Role != sallyport.Quasi {
		p.Warning = "nearly every value is unique: if others can know these values, declare the column a quasi-identifier"
	}
}

// proposeIdentifier returns the Safe Harbor category of a column: by its name,
// by its type, or because it is an identifier of some kind. It says "none" only
// of what is known to be none of them.
func proposeIdentifier(p *ColumnProfile) string {
	dates := p.Type == "date" || p.Type == "time"
	for _, c := range categories {
		switch {
		case named(p.Name, c.words) == "":
		case c.identifier == "name" && p.Type != "text", c.identifier == "age" && dates:
		case (c.identifier == "record" || c.identifier == "device" || c.identifier == "license") && p.Role != sallyport.Direct: // a number of them, or a kind
		case c.identifier == "date" && !dates && named(p.Name, birthWords) == "" && p.Role != sallyport.Quasi:
		default:
			return c.identifier
		}
	}
	switch {
	case dates:
		return "date"
	case p.Role == sallyport.Direct:
		return "other"
	case p.Role == sallyport.Quasi && named(p.Name, harmless) != "",
		p.Type == "boolean", (p.Role == sallyport.Sensitive || p.Role == sallyport.Insensitive) && p.Unique < 0.5 && p.Distinct > 0:
		return "none"
	}
	return ""
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
