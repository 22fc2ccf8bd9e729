package anonymize_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
)

func scan(t *testing.T, file string, limit int64) anonymize.Profile {
	t.Helper()
	p, err := anonymize.Scan(t.Context(), csv.New(), strings.NewReader(file), limit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestScanProposes(t *testing.T) {
	var b strings.Builder
	b.WriteString("subjectId;full_name;contact;date of birth;Age;gender;PLZ;icd10;bmi;smoker;visit_time;sample;remark;empty;lab\n")
	for i := range 400 {
		fmt.Fprintf(&b, "S%05d;Person %d;p%d@example.org;19%02d-03-04;%d;%s;%05d;I%d;%.2f;%t;2021-03-04T10:%02d;%d;%s;;%.9f\n",
			i/2, i, i, i%70+20, i%70+20, []string{"f", "m"}[i%2], i*7%100, i%9, 20+float64(i%100)/7, i%3 == 0, i%60, 700000+i,
			"the patient told us a story which is number "+fmt.Sprint(i), float64(i)/7)
	}
	p := scan(t, b.String(), 0)
	if p.Records != 400 || !p.Whole || p.Format != "csv" {
		t.Errorf("%+v", p)
	}
	for i, want := range []struct {
		kind     string
		role     sallyport.Role
		verb     string
		evidence string
	}{
		{"text", sallyport.Direct, "pseudonym", `name contains "subject"`},
		{"text", sallyport.Direct, "drop", `name contains "name"`},
		{"text", sallyport.Direct, "drop", "100.0 % of values look like e-mail addresses"},
		{"date", sallyport.Quasi, "date", `name contains "birth"`},
		{"integer", sallyport.Quasi, "generalize", `name contains "age"`},
		{"text", sallyport.Quasi, "keep", `name contains "gender"`},
		{"text", sallyport.Quasi, "prefix", `name contains "plz"`},
		{"text", sallyport.Sensitive, "", `name contains "icd"`},
		{"number", sallyport.Insensitive, "", ""},
		{"boolean", sallyport.Insensitive, "", ""},
		{"time", sallyport.Quasi, "shift_date", `name contains "visit"`},
		{"integer", sallyport.Direct, "pseudonym", "100.0 % of values are unique"},
		{"text", sallyport.Direct, "drop", "texts of several words"},
		{"text", sallyport.Insensitive, "", "all values are empty"},
		{"number", sallyport.Sensitive, "", "100.0 % of values are unique"},
	} {
		c := p.Columns[i]
		verb := ""
		if c.Mask != nil {
			verb = c.Mask.Verb
		}
		if c.Type != want.kind || c.Role != want.role || verb != want.verb || !strings.Contains(strings.Join(c.Evidence, "; "), want.evidence) {
			t.Errorf("%s: type %s, role %s, mask %+v, evidence %q", c.Name, c.Type, c.Role, c.Mask, c.Evidence)
		}
	}
	if p.Columns[14].Warning == "" {
		t.Error("a unique sensitive column has no warning")
	}
	if p.Columns[13].Empty != 400 || p.Columns[13].MinLength != 0 || p.Columns[0].Distinct != 200 || p.Columns[0].Unique != 0 || p.Columns[0].Pattern != "A99999" {
		t.Errorf("%+v\n%+v", p.Columns[13], p.Columns[0])
	}

	// The proposal is a plan that runs.
	d := p.Propose("study", "steward", sallyport.Ref{Store: "s", Key: "k"})
	if d.Subject != "subjectId" || d.Format != "csv" || len(d.Columns) != 15 || d.ID != "study" || d.Owner != "steward" {
		t.Errorf("%+v", d)
	}
	plan := anonymize.Plan{Dataset: d.ID, Format: d.Format, Columns: d.Columns, Subject: d.Subject}
	for _, c := range d.Columns {
		o := sallyport.Obligation{Column: c.Name}
		if c.Mask != nil && c.Mask.Verb != "keep" { // policy says "keep" with an empty verb
			o.Verb, o.Args = c.Mask.Verb, c.Mask.Args
		}
		plan.Obligations = append(plan.Obligations, o)
	}
	var out bytes.Buffer
	r, err := runner().Run(t.Context(), plan, testEnv(), &out, strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Residual) > 0 || strings.Contains(out.String(), "Person") || strings.Contains(out.String(), "S00001") {
		t.Errorf("%+v", r)
	}
}

// What a profile says can be shown to anybody: no value is in it.
func TestProfileHoldsNoValue(t *testing.T) {
	p := scan(t, "a,b,c\nXsecretX,7654321,1984-05-06\nYhiddenY,8765432,1985-06-07\n", 0)
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"secret", "hidden", "7654321", "8765432", "1984", "1985"} {
		if bytes.Contains(text, []byte(value)) {
			t.Errorf("the profile holds %q: %s", value, text)
		}
	}
}

func TestScanStopsAtItsLimit(t *testing.T) {
	p := scan(t, "id,v\n"+strings.Repeat("1,2\n", 100_000), 4000)
	if p.Whole || p.Records != 1000 {
		t.Errorf("%+v", p)
	}
}

// Beyond what fits, the number of distinct values is estimated, within five
// standard errors of 1.2/√room.
func TestScanEstimatesManyDistinctValues(t *testing.T) {
	const columns, lines = 2000, 3000
	var b strings.Builder
	for i := range columns {
		fmt.Fprintf(&b, "c%d,", i)
	}
	b.WriteString("last\n")
	for i := range lines {
		b.WriteString(strings.Repeat("x,", columns))
		fmt.Fprintf(&b, "%d\n", i)
	}
	last := scan(t, b.String(), 0).Columns[columns]
	room := float64(64<<20) / 48 / (columns + 1)
	if !last.Estimated || math.Abs(float64(last.Distinct)/lines-1) > 5*1.2/math.Sqrt(room) {
		t.Errorf("%+v", last)
	}
	if first := scan(t, b.String(), 0).Columns[0]; first.Estimated || first.Distinct != 1 {
		t.Errorf("%+v", first)
	}
}
