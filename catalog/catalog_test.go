package catalog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport"
)

const good = `# The ward's own table.
id: patients
owner: cardiology
location: {store: data, key: patients.csv}
format: csv
sensitivity: confidential
residency: [eu]
purposes: [research]
subject: patient_id
columns:
  - {name: patient_id, role: direct, mask: {pseudonym: {}}}
  - name: age
    role: quasi
    type: integer
    mask:
      generalize: {width: 10}
  - {name: diagnosis, role: sensitive}
`

// held is good with what a standard and a consent ask for.
var held = strings.NewReplacer("subject: patient_id", "subject: patient_id\nstandard: safe_harbor\nconsent: true",
	"type: integer\n", "type: integer\n    identifier: age\n", "role: sensitive}", "role: sensitive, identifier: none}").Replace(good)

func TestParseThenFormatThenParse(t *testing.T) {
	d, err := Parse("patients.yaml", []byte(held))
	if err != nil {
		t.Fatal(err)
	}
	if d.Standard != "safe_harbor" || !d.Consent || d.Columns[0].Identifier != "" || d.Columns[1].Identifier != "age" || d.Columns[2].Identifier != "none" {
		t.Errorf("%+v", d)
	}
	if d.Columns[1].Mask.Verb != "generalize" || d.Columns[2].Mask != nil || d.Columns[0].Role != sallyport.Direct {
		t.Errorf("columns: %+v", d.Columns)
	}
	src, err := Format(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("patients.yaml", src)
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	if diff := cmp.Diff(d, again); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrorsNameTheLine(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"unknown key", "owner:", "ownr:", "patients.yaml:3: "},
		{"bad class", "sensitivity: confidential", "sensitivity: secret", `patients.yaml:6: sensitivity "secret"`},
		{"bad role", "role: quasi", "role: maybe", `patients.yaml:13: column "age" has role "maybe"`},
		{"no purposes", "purposes: [research]", "purposes: []", "patients.yaml:8: purposes is empty"},
		{"two masks", "generalize: {width: 10}", "generalize: {width: 10}\n      drop: {}", "2 masks (drop, generalize)"},
		{"twice", "name: diagnosis", "name: age", `column "age" is listed twice`},
		{"subject", "subject: patient_id", "subject: pid", "patients.yaml:9: subject"},
		{"id", "id: patients", "id: ../patients", "patients.yaml:2: id"},
		{"bad standard", "subject: patient_id", "subject: patient_id\nstandard: Safe Harbor", `patients.yaml:10: standard "Safe Harbor"`},
		{"bad identifier", "type: integer", "identifier: dob", `patients.yaml:14: column "age" has identifier "dob": it is one of name, geographic`},
		{"identifier no word", "type: integer", "identifier: [age]", "patients.yaml:14: "},
		{"consent no flag", "subject: patient_id", "subject: patient_id\nconsent: written", "patients.yaml:10: "},
		{"no location", "location: {store: data, key: patients.csv}", "location: {store: data}", "location.key is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("patients.yaml", []byte(strings.Replace(good, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Errorf("kind %s", sallyport.KindOf(err))
			}
		})
	}
}

func TestABadEditLeavesTheLastGoodState(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "patients.yaml")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(good+"nope: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Refresh(); err == nil {
		t.Error("a bad edit was taken into force")
	}
	if _, err := c.Get("patients"); err != nil {
		t.Error(err)
	}
}

func TestAdd(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse("patients.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(d); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(d); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("adding twice: %v", err)
	}
	if _, err := c.Get("patients"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get("nobody"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("absent: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "absent")); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("absent folder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(held))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse("x.yaml", src)
		if err != nil {
			return
		}
		out, err := Format(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("x.yaml", out); err != nil {
			t.Errorf("what Format wrote does not parse: %v\n%s", err, out)
		}
	})
}

// TestIdentifiersAreTheSchemas: the words that an entry may use are those that
// rules are checked against.
func TestIdentifiersAreTheSchemas(t *testing.T) {
	src, err := os.ReadFile("../policies/schema/v1/catalog.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Definitions struct {
			Column struct {
				Properties struct{ Identifier struct{ Enum []string } }
			}
		}
	}
	if err := json.Unmarshal(src, &schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(identifiers(), schema.Definitions.Column.Properties.Identifier.Enum); diff != "" {
		t.Error(diff)
	}
}

func TestSuppress(t *testing.T) {
	const entry = `id: ward
owner: steward
location: {store: data, key: ward.csv}
format: csv
sensitivity: confidential
purposes: [research]
suppress: {k: 5, l: 2, limit: 0.04}
columns: [{name: a, role: quasi}]
`
	d, err := Parse("ward.yaml", []byte(entry))
	if err != nil || d.Suppress == nil || *d.Suppress != (sallyport.Suppression{K: 5, L: 2, Limit: .04}) {
		t.Fatalf("%+v, %v", d.Suppress, err)
	}
	b, err := Format(d)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse("ward.yaml", b); err != nil || *again.Suppress != *d.Suppress {
		t.Errorf("written and read: %+v, %v", again.Suppress, err)
	}
	for _, bad := range []string{"{k: 5}", "{k: 5, limit: 0}", "{k: 5, limit: 1}", "{k: 1, limit: 0.1}", "{k: -5, limit: 0.1}", "{t: 2, limit: 0.1}", "{limit: 0.1}", "{k: 5, limit: .nan}", "{k: 5, limit: 0.1, n: 1}"} {
		if _, err := Parse("ward.yaml", []byte(strings.Replace(entry, "{k: 5, l: 2, limit: 0.04}", bad, 1))); err == nil {
			t.Errorf("suppress: %s is taken", bad)
		}
	}
}
