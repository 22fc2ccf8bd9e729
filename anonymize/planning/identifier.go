package planning

import (
	"slices"
	"strings"

	"sallyport"
	"sallyport/anonymize"
)

// hints are the words by which a column's name tells its category of the Safe
// Harbor, English and German; the first category with a word wins, so the
// narrow ones come first. A word that ends in * matches a part's start or end.
var hints = []struct {
	identifier string
	words      []string
}{
	{"fax", []string{"fax*"}},
	{"email", []string{"email*", "mail"}},
	{"ssn", []string{"ssn", "socialsecurity", "sozialversicherung*", "svnr"}},
	{"ip", []string{"ip", "ipaddress", "ipv4", "ipv6"}},
	{"url", []string{"url", "uri", "website", "homepage", "link"}},
	{"telephone", []string{"phone*", "tel", "telephone", "telefon", "mobile", "mobil", "handy"}},
	{"beneficiary", []string{"insurance", "insured", "beneficiary", "policy", "member", "nhs", "medicare", "medicaid", "krankenkasse", "kvnr"}},
	{"account", []string{"account", "iban", "konto", "creditcard", "card"}},
	{"license", []string{"licence", "license", "passport", "certificate", "ausweis", "pass"}},
	{"vehicle", []string{"vin", "plate", "vehicle", "kennzeichen"}},
	{"device", []string{"device", "imei", "udi", "mac", "serial"}},
	{"biometric", []string{"fingerprint", "iris", "retina", "voice", "biometric*"}},
	{"photo", []string{"photo*", "image", "picture", "portrait", "foto"}},
	{"record", []string{"mrn", "record", "patientid", "chart", "fallnummer"}},
	{"date", []string{"dob", "birth*", "geburt*", "date*", "datum"}},
	{"age", []string{"age", "alter"}},
	{"geographic", []string{"zip*", "postal", "postcode", "plz", "city", "town", "county", "district", "place", "ort", "address", "street", "strasse", "adresse", "latitude", "longitude", "lat", "lon", "parish"}},
	{"name", []string{"name*", "surname", "firstname", "lastname", "forename", "vorname", "nachname"}},
}

// words cuts a column's name into lower-case words.
func words(name string) []string {
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

func has(name string, list ...string) bool {
	return slices.ContainsFunc(words(name), func(part string) bool {
		return slices.ContainsFunc(list, func(word string) bool {
			stem, open := strings.CutSuffix(word, "*")
			return part == stem || open && (strings.HasPrefix(part, stem) || strings.HasSuffix(part, stem))
		})
	})
}

func isBirth(name string) bool { return has(name, "dob", "birth*", "born", "geburt*") }
func isPostal(name string) bool {
	return has(name, "zip*", "postal", "postcode", "plz", "postleitzahl")
}

// identify proposes a column's category of the Safe Harbor, and says why.
func identify(p anonymize.ColumnProfile, role sallyport.Role) (identifier, why string) {
	for _, e := range p.Evidence { // what the values look like weighs more than a name
		for word, id := range map[string]string{"e-mail": "email", "phone": "telephone", "social security": "ssn"} {
			if strings.Contains(e, "look like") && strings.Contains(e, word) {
				return id, "its values look like it"
			}
		}
	}
	if p.Type == "date" || p.Type == "time" {
		return "date", "its values are dates or times"
	}
	for _, h := range hints {
		if !has(p.Name, h.words...) {
			continue
		}
		switch {
		case h.identifier == "date" && p.Type == "integer" && p.MaxLength == 4:
			return "none", "years alone are no dates to the Safe Harbor"
		case h.identifier == "date" && p.Type == "boolean", h.identifier == "age" && p.Type == "text" && p.MaxLength > 12:
			continue
		}
		return h.identifier, "its name says so"
	}
	if has(p.Name, "admission", "admitted", "discharge*", "visit", "death", "died", "seen") && !has(p.Name, "id", "nr", "no", "number") && strings.Contains(p.Pattern, "9") {
		return "date", "its name says so, and its values hold digits"
	}
	if role == sallyport.Direct && has(p.Name, "patient", "subject", "case", "visit") {
		return "record", "it tells cases apart"
	}
	if role == sallyport.Direct {
		return "other", "it names one person, and no other category fits"
	}
	return "none", "nothing speaks for a category: check it"
}
