package anonymize

import (
	"slices"
	"strings"
	"testing"
)

func TestResidual(t *testing.T) {
	for value, want := range map[string]string{
		"ann@example.org":                     "email",
		"write to a.b+c@sub.example.co today": "email",
		"ends with x@example.org.":            "email",
		"@example.org":                        "", "user@host": "", "a @ b.org": "", "1@2.3": "",
		"555-234-5678": "phone", "(555) 234-5678": "phone", "+49 30 1234567": "phone", "call 030/12345678 now": "phone",
		"01 23 45 67 89": "phone", "+15552345678": "phone", "1-555-234-5678": "phone", "079 123 45 67": "phone",
		"123-45-6789": "ssn", "ssn 219-09-9999.": "ssn", "000-12-3456": "", "666-12-3456": "", "912-34-5678": "",
		"2021-03-04": "", "2021-03-04 10:20:30": "", "2021-03-04T10:20:30.123456": "", "04.03.2021 10:20": "", "01/02/2021 10": "",
		"1234567890": "", "12345678901234": "", "3.14159265358979": "", "0.123456789012": "", "-12345.678901": "", "1e-1234567890": "",
		"[30,40)": "", "192.168.100.200": "ip", "10.0.0.1": "", "A123-456-7890": "", "*": "", "": "", "12 345 678": "",
		"0123456789012345678901234567890": "", "stable after day 39": "", "99999999999999999999-9": "",
		"Dr. Meier: born 1984-03-12, IBAN DE89 3704 0044 0532 0130 00": "date iban name",
		"a@example.org or b@example.org from 192.168.100.200":          "email ip",
	} {
		var r residual
		r.look([]byte(value))
		got := make([]string, 0, 1)
		for name := range r.counts() {
			got = append(got, name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%q: saw %q, want %q", value, got, want)
		}
	}
}
