package anonymize_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport"
)

// Every kind of identifier is proposed as one, with its Safe Harbor category:
// by what its values look like, or by the name that says what they are. The
// numbers are published examples, or made so that their check digits are right.
func TestScanProposesIdentifiers(t *testing.T) {
	for _, c := range []struct {
		column     string
		value      func(i int) string
		role       sallyport.Role
		identifier string
		evidence   string
	}{
		{"konto", func(int) string { return "DE89 3704 0044 0532 0130 00" }, sallyport.Direct, "account", "look like bank account numbers"},
		{"paid_by", func(int) string { return "4111 1111 1111 1111" }, sallyport.Direct, "account", "look like payment card numbers"},
		{"source", func(i int) string { return fmt.Sprintf("192.168.%d.%d", i%200+20, 100+i%150) }, sallyport.Direct, "ip", "look like IP addresses"},
		{"seen_at", func(i int) string { return fmt.Sprintf("https://ward.example.org/p/%d", i) }, sallyport.Direct, "url", "look like URLs"},
		{"nhs", func(int) string { return "9434765919" }, sallyport.Direct, "record", "look like NHS numbers, by the column's name"},
		{"CPF", func(int) string { return "52998224725" }, sallyport.Direct, "other", "look like Brazilian taxpayer numbers, by the column's name"},
		{"contact", func(i int) string { return fmt.Sprintf("p%d@example.org", i) }, sallyport.Direct, "email", "look like e-mail addresses"},
		{"who", func(i int) string { return []string{"Mr. Miller", "Dr. Baker", "Frau Weber"}[i%3] }, sallyport.Direct, "name", "look like names of people"},
		{"ssn", func(i int) string { return fmt.Sprintf("219-09-%04d", 1000+i) }, sallyport.Direct, "ssn", "look like social security numbers"},
		{"plate", func(i int) string { return fmt.Sprintf("B XY %d", i) }, sallyport.Direct, "vehicle", `name contains "plate"`},
		{"birth date", func(i int) string { return fmt.Sprintf("19%02d-03-04", i%70+20) }, sallyport.Quasi, "date", `name contains "birth"`},
		{"age", func(i int) string { return fmt.Sprint(i%70 + 20) }, sallyport.Quasi, "age", `name contains "age"`},
		{"zip", func(i int) string { return fmt.Sprintf("%05d", i*7%100) }, sallyport.Quasi, "geographic", `name contains "zip"`},
		{"sex", func(i int) string { return []string{"f", "m"}[i%2] }, sallyport.Quasi, "none", `name contains "sex"`},
		{"tax", func(i int) string { return fmt.Sprint(100000000 + i*7919) }, sallyport.Direct, "other", "values are unique"},
		{"tax_paid", func(i int) string { return fmt.Sprint(100 + i%50) }, sallyport.Insensitive, "none", ""},
		{"record", func(i int) string { return fmt.Sprintf("R%05d", i) }, sallyport.Direct, "record", `name contains "record"`},
		{"smoker", func(i int) string { return fmt.Sprint(i%3 == 0) }, sallyport.Insensitive, "none", ""},
		{"town", func(i int) string { return []string{"rome", "ulm", "york"}[i%3] }, sallyport.Quasi, "geographic", `name contains "town"`},
	} {
		var b strings.Builder
		fmt.Fprintf(&b, "filler,%s\n", c.column)
		for i := range 400 {
			fmt.Fprintf(&b, "x,%s\n", c.value(i))
		}
		p := scan(t, b.String(), 0)
		got := p.Columns[1]
		if got.Role != c.role || got.Identifier != c.identifier || !strings.Contains(strings.Join(got.Evidence, "; "), c.evidence) {
			t.Errorf("%s: role %s, identifier %q, evidence %q", c.column, got.Role, got.Identifier, got.Evidence)
		}
		if d := p.Propose("d", "o", sallyport.Ref{}); d.Columns[1].Identifier != c.identifier {
			t.Errorf("%s: the entry has identifier %q", c.column, d.Columns[1].Identifier)
		}
	}
}
