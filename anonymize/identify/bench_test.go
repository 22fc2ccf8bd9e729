package identify_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"

	"sallyport/anonymize/identify"
)

// patterns are regular expressions for what the matcher finds, as one would
// write them for Go, without check digits and without words around.
var patterns = []string{
	`[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`,        // email
	`(?:\+\d{1,3}[ -]?)?(?:\(\d{1,4}\)[ -]?)?\d{2,5}[ /.-]\d{2,4}[ .-]?\d{2,8}`, // phone
	`\b\d{3}-\d{2}-\d{4}\b`,                                                             // ssn
	`\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b`,                             // date
	`\b[A-Z]{2}\d{2} ?(?:[A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}\b`,                            // IBAN
	`\b(?:\d{4}[ -]?){3}\d{1,7}\b`,                                                      // card
	`\b\d{1,3}(?:[ .-]?\d{3}){2,3}(?:-?\d{2})?\b`,                                       // national numbers of digits
	`\b[XYZ]?\d{7,8}-?[A-Z]\b`,                                                          // DNI
	`\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b`,                                        // codice fiscale
	`\b\d{6}[-+A]\d{3}[0-9A-Z]\b`,                                                       // HETU, personnummer
	`\b(?:\d{1,3}\.){3}\d{1,3}\b`,                                                       // IPv4
	`\b(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}\b|(?:[0-9a-fA-F]{1,4}:)+:[0-9a-fA-F:]+`, // IPv6
	`\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b`,                                       // MAC
	`\b(?:https?|ftp|s3)://[^\s"<>]+|\bwww\.[^\s"<>]+`,                                  // URL
	`-----BEGIN [A-Z ]*PRIVATE KEY-----|AGE-SECRET-KEY-1[A-Z0-9]+|\b(?:AKIA|ASIA)[A-Z2-7]{16}\b|\bgh[pousr]_\w{36}|\bxox[abprs]-[\w-]{20,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+`, // secrets
	`\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|Avenue|Road|Lane|St|Ave|Rd)\b|[A-ZÄÖÜ][a-zäöü]+(?:straße|str\.) \d+`,                                                      // address
	`\b(?:Mr|Mrs|Ms|Dr|Prof|Herr|Frau)\.? [A-Z]\p{L}+`, // names
}

func corpora() map[string][][]byte {
	r := rand.New(rand.NewPCG(3, 4))
	text := func(with bool) [][]byte {
		var all [][]byte
		for i := range 2000 {
			s := fmt.Sprintf("The patient was seen on day %d after the operation and reported mild pain; blood pressure was %d/%d, heart rate %d, and the wound had healed "+
				"without signs of infection. Paracetamol %d mg was continued, the dressing renewed, and a control of the laboratory values (Hb %.1f g/dL, CRP %d) was planned in %d weeks.",
				i, 100+r.IntN(60), 60+r.IntN(30), 50+r.IntN(60), 500*(1+r.IntN(2)), 8+r.Float64()*8, r.IntN(90), r.IntN(8))
			if with && i%5 == 0 {
				s += fmt.Sprintf(" Mrs Weber (born 12.03.19%02d) can be reached at 030/%08d or by e-mail, p%d@example.org.", i%100, r.IntN(1e8), i)
			}
			all = append(all, []byte(s))
		}
		return all
	}
	column := func(format string, value func() any) [][]byte {
		var all [][]byte
		for range 20_000 {
			all = append(all, fmt.Appendf(nil, format, value()))
		}
		return all
	}
	return map[string][][]byte{
		"text clean":    text(false),
		"text mixed":    text(true),
		"integers":      column("%d", func() any { return r.IntN(1e9) }),
		"floats":        column("%.6f", func() any { return r.NormFloat64() * 1e3 }),
		"dates":         column("2021-03-%02d", func() any { return 1 + r.IntN(28) }),
		"codes":         column("ABC-%05d", func() any { return r.IntN(1e5) }),
		"words":         column("Married-%s-spouse", func() any { return []string{"civ", "AF"}[r.IntN(2)] }),
		"number lists ": column("%v", func() any { return r.Perm(30) }),
	}
}

func BenchmarkFind(b *testing.B) {
	var each []*regexp.Regexp
	union := ""
	for _, p := range patterns {
		each = append(each, regexp.MustCompile(p))
		union += "|" + p
	}
	one := regexp.MustCompile(union[1:])
	hits := make([]identify.Hit, 0, 64)
	for name, values := range corpora() {
		size := int64(len(bytes.Join(values, nil)))
		for way, look := range map[string]func([]byte){
			"matcher": func(v []byte) { hits = find.Find(hits[:0], v) },
			"previous": func() func([]byte) {
				var p previous
				return p.look
			}(),
			"regexps": func(v []byte) {
				for _, re := range each {
					re.FindAllIndex(v, -1)
				}
			},
			"regexp union": func(v []byte) { one.FindAllIndex(v, -1) },
		} {
			b.Run(name+"/"+way, func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					for _, v := range values {
						look(v)
					}
				}
			})
		}
	}
}
