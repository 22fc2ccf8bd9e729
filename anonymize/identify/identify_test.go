package identify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sallyport/anonymize/identify"
)

var find identify.Matcher

// seen says what is found in text, as type=text.
func seen(text string) string {
	var b []string
	for _, h := range find.Find(nil, []byte(text)) {
		b = append(b, fmt.Sprintf("%s=%s", h.Type, text[h.Start:h.End]))
	}
	return strings.Join(b, " | ")
}

// Where a comment names an origin, the number is that body's published example;
// the others are common specimens or were computed from the rule that check.go
// names. Persons are invented.
var found = []struct {
	kind identify.Type
	in   string
	want string // the identifier; "": all of in
}{
	{identify.Email, "ann@example.org", ""},
	{identify.Email, "write to a.b+c@sub.example.co today", "a.b+c@sub.example.co"},
	{identify.Email, "<x_y@example.museum>", "x_y@example.museum"},
	{identify.Email, "ends with x@example.org.", "x@example.org"},
	{identify.Email, `"mail":"o'neil@example.org",`, "o'neil@example.org"},

	{identify.Phone, "555-234-5678", ""},
	{identify.Phone, "(555) 234-5678", ""},
	{identify.Phone, "1-555-234-5678", ""},
	{identify.Phone, "555.234.5678", ""},
	{identify.Phone, "+49 30 1234567", ""},
	{identify.Phone, "+49 (0)30 123456", ""},
	{identify.Phone, "+15552345678", ""},
	{identify.Phone, "call 030/12345678 now", "030/12345678"},
	{identify.Phone, "030 / 12345678", ""},
	{identify.Phone, "01 23 45 67 89", ""},
	{identify.Phone, "079 123 45 67", ""},
	{identify.Phone, "020 7946 0958", ""},
	{identify.Phone, "0041 79 123 45 67", ""},
	{identify.Phone, "Tel. 5552345", "5552345"},
	{identify.Phone, "fax: 555-0199 (office)", "555-0199"},
	{identify.Phone, "seen 2021-03-04 079 123 45 67", "079 123 45 67"},
	{identify.Phone, "room 12 555-234-5678", "555-234-5678"},

	{identify.SSN, "123-45-6789", ""},
	{identify.SSN, "ssn 219-09-9999.", "219-09-9999"},
	{identify.SSN, "SSN: 219099999", "219099999"},
	{identify.SSN, "Social Security No. 219 09 9999", "219 09 9999"},
	{identify.SSN, "1 2 3 4 5 6 7 8 9 10 11 12 13 123-45-6789 7", "123-45-6789"},

	{identify.Date, "born 12.03.1984", "12.03.1984"},
	{identify.Date, "DOB: 03/12/1984", "03/12/1984"},
	{identify.Date, "DOB 1984-03-12, male", "1984-03-12"},
	{identify.Date, `{"birthDate":"1984-03-12"}`, "1984-03-12"},
	{identify.Date, "geb. am 4. Mai 1984", "4. Mai 1984"},
	{identify.Date, "was born on March 12, 1984.", "March 12, 1984"},
	{identify.Date, "died 12 March 2001", "12 March 2001"},
	{identify.Date, "né le 12/03/84", "12/03/84"},
	{identify.Date, "admitted on 2021-03-04 with fever", "2021-03-04"},

	{identify.IBAN, "DE89370400440532013000", ""}, // SWIFT IBAN registry's examples
	{identify.IBAN, "DE89 3704 0044 0532 0130 00", ""},
	{identify.IBAN, "GB29 NWBK 6016 1331 9268 19", ""},
	{identify.IBAN, "pay FR1420041010050500013M02606 now", "FR1420041010050500013M02606"},
	{identify.IBAN, "NL91ABNA0417164300", ""},
	{identify.IBAN, "CH9300762011623852957", ""},
	{identify.IBAN, "NO9386011117947", ""},
	{identify.IBAN, "ES91 2100 0418 4502 0005 1332", ""},
	{identify.IBAN, "MT84MALT011000012345MTLCAST001S", ""},

	{identify.Card, "4111 1111 1111 1111", ""}, // the networks' test numbers
	{identify.Card, "5555-5555-5555-4444", ""},
	{identify.Card, "3782 822463 10005", ""},
	{identify.Card, "3056 930902 5904", ""},
	{identify.Card, "card no 6011111111111117 ok", "6011111111111117"},
	{identify.Card, "visa 4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111"},
	{identify.Card, "2223 0031 2200 3222", ""},

	{identify.NHS, "NHS number 943 476 5919", "943 476 5919"}, // NHS Digital's specimen
	{identify.NHS, "nhs:4010232137;", "4010232137"},
	{identify.SteuerID, "Steuer-ID 86 095 742 719", "86 095 742 719"}, // BZSt's test number
	{identify.SteuerID, "IdNr. 47036892816", "47036892816"},
	{identify.NIR, "1 85 05 78 006 084 91", ""},
	{identify.NIR, "NIR 255108116802507", "255108116802507"},
	{identify.NIR, "185052A00608435", ""},
	{identify.DNI, "DNI 12345678Z", "12345678Z"},
	{identify.DNI, "DNI: 12345678-Z.", "12345678-Z"},
	{identify.DNI, "NIE X1234567L", "X1234567L"},
	{identify.CodiceFisc, "MRTMTT25D09F205Z", ""},
	{identify.CodiceFisc, "CF RSSMRA85T10A562S.", "RSSMRA85T10A562S"},
	{identify.BSN, "BSN 111222333", "111222333"},
	{identify.Personnummer, "personnummer 811218-9876", "811218-9876"}, // Skatteverket's example
	{identify.Personnummer, "personnummer: 198112189876", "198112189876"},
	{identify.HETU, "131052-308T", ""}, // the agency's example
	{identify.HETU, "hetu 131052A308T ok", "131052A308T"},
	{identify.CPR, "CPR-nr. 070761-4285", "070761-4285"},
	{identify.CPF, "111.444.777-35", ""},
	{identify.CPF, "cpf 11144477735", "11144477735"},
	{identify.Aadhaar, "Aadhaar 2341 2341 2346", "2341 2341 2346"},
	{identify.SIN, "SIN 130 692 544", "130 692 544"},
	{identify.Medicare, "Medicare 2950 10120 1", ""},
	{identify.TFN, "TFN 123 456 782", "123 456 782"}, // the ATO's test number

	{identify.IP, "192.168.100.200", ""},
	{identify.IP, "from host 10.0.0.1:8080", "10.0.0.1"},
	{identify.IP, "at 8.8.8.8, 203.0.113.9 and", "203.0.113.9"},
	{identify.IP, "2001:db8::1", ""}, // RFC 3849's documentation prefix
	{identify.IP, "[fe80::1ff:fe23:4567:890a]:443", "fe80::1ff:fe23:4567:890a"},
	{identify.IP, "2001:0db8:85a3:0000:0000:8a2e:0370:7334", ""},
	{identify.MAC, "00:1a:2b:3c:4d:5e", ""},
	{identify.MAC, "ac:de:48:00:11:22 up", "ac:de:48:00:11:22"},
	{identify.MAC, "00-1A-2B-3C-4D-5E", ""},
	{identify.MAC, "MAC 00:11:22:33:44:55", "00:11:22:33:44:55"},
	{identify.URL, "https://portal.example.org/p?id=7", ""},
	{identify.URL, "see http://example.org/a.", "http://example.org/a"},
	{identify.URL, "www.example.org/p/7", ""},
	{identify.URL, "s3://lab/private/scan.dcm", ""},

	{identify.Secret, "-----BEGIN OPENSSH PRIVATE KEY-----", ""},
	{identify.Secret, "key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"}, // AWS's example
	{identify.Secret, "AGE-SECRET-KEY-1" + strings.Repeat("QPZRY9X8", 7) + "GF", ""},
	{identify.Secret, "ghp_" + strings.Repeat("aB3d", 9), ""},
	{identify.Secret, "github_pat_" + strings.Repeat("aB3d", 9), ""},
	{identify.Secret, "xoxb-" + strings.Repeat("123456-", 3) + "abcdef", ""},
	{identify.Secret, "AIza" + strings.Repeat("aB3dE", 7), ""},
	// RFC 7519, section 3.1
	{identify.Secret, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", ""},

	{identify.Address, "lives at 221 Baker Street.", "221 Baker Street"},
	{identify.Address, "12 Old Mill Rd, Springfield", "12 Old Mill Rd"},
	{identify.Address, "wohnt Hauptstraße 12a, Berlin", "Hauptstraße 12a"},
	{identify.Address, "Berliner Str. 5", ""},
	{identify.Address, "Musterstr. 17", ""},
	{identify.Address, "12, rue de la Paix", ""},
	{identify.Name, "seen by Dr. Meier today", "Dr. Meier"},
	{identify.Name, "Mrs O'Brien came", "Mrs O'Brien"},
	{identify.Name, "Prof. Dr. med. Anna Weber-Klein", ""},
	{identify.Name, "Frau Müller klagt", "Frau Müller"},
	{identify.Name, "Patient: John Smith, 54", "John Smith"},
	{identify.Name, "name: Smith, John", "Smith, John"},
	{identify.Name, `{"name":"Maria Rossi"}`, "Maria Rossi"},
}

func TestFound(t *testing.T) {
	covered := map[identify.Type]bool{}
	for _, x := range found {
		want := x.want
		if want == "" {
			want = x.in
			if x.kind == identify.Medicare {
				want = strings.TrimPrefix(x.in, "Medicare ")
			}
		}
		hits := find.Find(nil, []byte(x.in))
		if !slices.ContainsFunc(hits, func(h identify.Hit) bool { return h.Type == x.kind && x.in[h.Start:h.End] == want }) {
			t.Errorf("%q: want %s=%s, saw %s", x.in, x.kind, want, seen(x.in))
		}
		if n := len(hits); n != 1 {
			t.Errorf("%q: %d hits: %s", x.in, n, seen(x.in))
		}
		covered[x.kind] = true
	}
	for _, kind := range identify.Types() {
		if !covered[kind] {
			t.Errorf("no example of %s", kind)
		}
	}
}

// What a release must not be denied for.
var notFound = map[string][]string{
	"ISO dates and times": {"2021-03-04", "2021-03-04 10:20:30", "2021-03-04T10:20:30.123456", "2021-03-04T10:20:30+01:00", "04.03.2021 10:20", "01/02/2021 10",
		"20210304", "2021-03-04,2021-04-05", "2021-W09-4", "1984-03-12 1985-04-13", "from 2021-03-04 to 2021-03-09", "10:20:30:40:50:60", "1609459200", "1609459200000"},
	"ICD and other codes": {"I10", "E11.9", "C50.911", "M54.5", "Z99.89", "F32.1;F41.1", "250.00", "V91.07XD", "LOINC 2345-7", "8480-6", "SNOMED 386661006", "22298006 |Myocardial infarction|",
		"ATC N02BE01", "CPT 99213", "NDC 0781-1506-10", "0002-8215-01", "50242-0040-62", "CAS 7732-18-5", "EC 1.1.1.1", "EC 2.7.11.22", "rs1801133", "ENSG00000139618.15",
		"chr1:12345-67890", "HLA-A*02:01:01:01", "NM_000546.6:c.215C>G", "GO:0008150", "HP:0001250", "DOI 10.1000/182", "10.1038/s41586-020-2649-2",
		"ISBN 978-3-16-148410-0", "0-306-40615-2", "ORCID 0000-0002-1825-0097", "1.2.840.10008.1.2.1", "1.2.840.113619.2.55.3.604688119.868.1234567890.123",
		"v1.2.3.4", "section 3.2.1.4", "1.10.2.3", "S00001", "A123-456-7890", "ABC-2021-00123", "P0000001", "V00000012", "C0027051"},
	"laboratory values": {"70.5", "140/90", "120 / 80", "12 345 678", "1,234,567.89", "3.14159265358979", "0.123456789012", "-12345.678901", "1e-1234567890", "+1.5e+10", "[30,40)",
		"98.6 F", "5.4 mmol/L (3.9-6.1)", "Na 140 K 4.2 Cl 102", "4.5-11.0 10^9/L", "1:160", "<0.01", "12 13 14 15 16 17 18 19 20 21 22", "2010 2011 2012", "1999 2000 2001 2002",
		"100 200 300 400", "0.1 0.2 0.3 0.4 0.5 0.6", "01 02 03 04 05 06 07 08", "99999999999999999999-9", "+1234567.25", "1000 2000 3000 4000", "512x512x128", "7.5 x 10.2 cm", "1/2/3/4/5/6/7/8",
		"400 mg 1-0-1", "1234567890", "12345678901234", "0123456789012345678901234567890", "4111111111111111", "9434765919", "111222333", "219099999", "39053344705", "86095742719"},
	"UUIDs": {"123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000", "550e8400-e29b-41d4-a716-446655440000", "12345678-1234-1234-1234-123456789012",
		"urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
	"hashes": {"d41d8cd98f00b204e9800998ecf8427e", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
		"k5uexmk6neql6u4jeov4m55p2t", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "e99a18c428cb38d5f260853678922e03"},
	"wrong or filler numbers": {"000-12-3456", "666-12-3456", "912-34-5678", "123-00-4567", "123-45-0000", "4111 1111 1111 1112", "DE89 3704 0044 0532 0130 01", "DE00370400440532013000",
		"111.444.777-36", "RSSMRA85T10A562X", "131052-308U", "12345678Z", "12345678A", "DNI 12345678A", "NHS 4010232138", "BSN 111222334", "SIN 130 692 545", "1 85 05 78 006 084 92",
		"000.000.000-00", "0000 0000 0000 0000", "call 111-111-1111"},
	"machines": {"127.0.0.1", "255.255.255.0", "0.0.0.0", "256.100.100.100", "std::string::npos", "a::b", "::1", "10:20:30", "http://loinc.org", "http://snomed.info/sct/900000000000207008",
		"https://terminology.hl7.org/CodeSystem/v3-ActCode", "https://doi.org/10.1000/182", "-----BEGIN CERTIFICATE-----", "eyJ.eyJ.x", "AKIA12", "ghp_short", "snake_case_word"},
	"words": {"Married-civ-spouse", "Prof-specialty", "MS and MR imaging", "MR Angiography", "DR Congo", "Dr Who", "Mr. and so on", "Patient: stable", "Patient: Stable since", "name: Aspirin",
		"Miss Rate", "5 Patients", "12 Main results", "3 Way Crossover", "2 Drive", "Phase 2 Study", "stage 3 Cancer of the", "born in 1984", "born at term", "admitted 3 times", "@example.org",
		"user@host", "a @ b.org", "1@2.3", "x@y.1", "stable after day 39", "*", "", "Type 2 Diabetes", "Via 3 Ports", "Frau", "Herr ", "Mrs. ", "visited on 4 May 2019"},
}

func TestNotFound(t *testing.T) {
	for kind, texts := range notFound {
		t.Run(kind, func(t *testing.T) {
			for _, text := range texts {
				if got := seen(text); got != "" {
					t.Errorf("%q: saw %s", text, got)
				}
			}
		})
	}
}
