package jsonl_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport/anonymize/formattest"
	"sallyport/anonymize/jsonl"
)

// The resources in testdata are made up, in the shape of a FHIR R4 bulk export
// (HL7, FHIR Bulk Data Access: one file a type, one resource a line).

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What leaves unchanged leaves byte for byte, numbers with their last zero too.
func TestFHIRUnchanged(t *testing.T) {
	for _, name := range []string{"Patient", "Observation"} {
		data := read(t, name+".ndjson")
		if !jsonl.New().Sniff(data[:4096]) {
			t.Errorf("%s is not recognized", name)
		}
		f, err := jsonl.New().With(map[string]string{"resource": name})
		if err != nil {
			t.Fatal(err)
		}
		r := &formattest.Recorder{}
		var out bytes.Buffer
		if err := f.Rewrite(t.Context(), &out, bytes.NewReader(data), r); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%s: other bytes", name)
		}
		for _, column := range map[string][]string{
			"Patient":     {"id", "name[].family", "name[].given[]", "name[]._given[].extension[].valueCode", "address[].postalCode", "extension[].valueString", "extension[].extension[].valueCoding.code", "birthDate", "multipleBirthBoolean"},
			"Observation": {"subject.reference", "code.coding[].code", "valueQuantity.value", "component[].valueQuantity.value", "effectiveDateTime"},
		}[name] {
			if !slices.Contains(r.Columns, column) {
				t.Errorf("%s lacks column %s: %q", name, column, r.Columns)
			}
		}
		if slices.Contains(r.Columns, "name[]._given[]") {
			t.Error("null beside objects is a column")
		}
	}
}

// A patient leaves with a pseudonym, the year of birth and a short ZIP code.
func TestFHIRPatient(t *testing.T) {
	data := read(t, "Patient.ndjson")
	same := func(s string) string { return s }
	l := release{leaving: map[string]func(string) string{
		"resourceType":                          same,
		"id":                                    func(s string) string { return "p" + s[len(s)-3:] },
		"gender":                                same,
		"birthDate":                             func(s string) string { return s[:4] },
		"address[].postalCode":                  func(s string) string { return s[:3] },
		"address[].state":                       same,
		"maritalStatus.text":                    same,
		"multipleBirthBoolean":                  same,
		"name[].given[]":                        func(s string) string { return s[:1] },
		"identifier[].type.coding[].code":       same,
		"name[]._given[].extension[].valueCode": same,
	}}
	var out bytes.Buffer
	if err := jsonl.New().Rewrite(t.Context(), &out, bytes.NewReader(data), typed{&editor{release: l}}); err != nil {
		t.Fatal(err)
	}
	if want := read(t, "Patient.golden.ndjson"); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got %s", out.String())
	}
	for _, gone := range []string{"Family", "Given", "Maiden", "Street", "Sampletown", "555-", "MRN-", "valueDecimal", "http", "2019"} {
		if strings.Contains(out.String(), gone) {
			t.Errorf("%q left", gone)
		}
	}
}
