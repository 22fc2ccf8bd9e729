package jsonl_test

import (
	"bytes"
	"strings"
	"testing"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/jsonl"
)

// short is a verb that keeps the first three characters.
type short struct{}

func (short) Name() string             { return "short" }
func (short) Doc() string              { return "three characters" }
func (short) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }
func (short) Bind(map[string]any, anonymize.Env) (anonymize.Apply, error) {
	return func(dst, value, _ []byte) ([]byte, error) { return append(dst, value[:min(3, len(value))]...), nil }, nil
}

// The pass as the gateway runs it: it knows the columns, treats lists item by
// item, and measures what leaves.
func TestThroughRunner(t *testing.T) {
	data := read(t, "Patient.ndjson")
	profile, err := anonymize.Scan(t.Context(), jsonl.New(), bytes.NewReader(data), 0)
	if err != nil {
		t.Fatal(err)
	}
	if profile.Records != 6 {
		t.Errorf("%d records scanned", profile.Records)
	}
	plan := anonymize.Plan{Dataset: "patients", Format: "jsonl;resource=Patient"}
	for _, c := range profile.Columns {
		role := sallyport.Insensitive
		if c.Name == "gender" || c.Name == "birthDate" || c.Name == "address[].postalCode" {
			role = sallyport.Quasi
		}
		plan.Columns = append(plan.Columns, sallyport.Column{Name: c.Name, Role: role})
	}
	plan.Obligations = []sallyport.Obligation{
		{Column: "gender"}, {Column: "address[].postalCode", Verb: "short"}, {Column: "birthDate", Verb: "short"}, {Column: "multipleBirthBoolean", Verb: "short"},
	}
	r := anonymize.NewRunner([]anonymize.Format{jsonl.New()}, []anonymize.Transform{short{}})
	var out bytes.Buffer
	report, err := r.Run(t.Context(), plan, anonymize.PassEnv{}, &out, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if want := `{"gender":"other","birthDate":"197","address":[{"postalCode":"021"},{"postalCode":"010"}],"multipleBirthBoolean":"fal"}`; len(lines) != 7 || lines[4] != want {
		t.Errorf("got %s", out.String())
	}
	if report.After.Records != 6 || report.Changed["address[].postalCode"] != 7 {
		t.Errorf("measured %+v, changed %v", report.After, report.Changed)
	}

	plan.Format = "jsonl;resource=Observation"
	if _, err := r.Run(t.Context(), plan, anonymize.PassEnv{}, &out, bytes.NewReader(data)); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("another resource: %v", err)
	}
}
