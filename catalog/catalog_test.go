package catalog

import (
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

func TestParseThenFormatThenParse(t *testing.T) {
	d, err := Parse("patients.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
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
