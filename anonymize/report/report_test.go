package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/risk"
	"sallyport/anonymize/transform"
)

var update = flag.Bool("update", false, "write the golden files anew")

func ptr[T any](v T) *T { return &v }

// release is a release with something to say in every part of the report.
func release() Input {
	columns := []sallyport.Column{
		{Name: "patient_id", Role: sallyport.Direct, Identifier: "record"},
		{Name: "name", Role: sallyport.Direct, Identifier: "name"},
		{Name: "born", Role: sallyport.Quasi, Identifier: "date"},
		{Name: "age", Role: sallyport.Quasi, Identifier: "age"},
		{Name: "zip", Role: sallyport.Quasi, Identifier: "geographic"},
		{Name: "sex", Role: sallyport.Quasi, Identifier: "none"},
		{Name: "diagnosis", Role: sallyport.Sensitive, Identifier: "none"},
		{Name: "note", Role: sallyport.Insensitive},
		{Name: "internal", Role: sallyport.Insensitive},
	}
	field := func(i int, verb string, leaves bool, values, changed, distinct int64, args map[string]any) anonymize.Field {
		c := columns[i]
		return anonymize.Field{Column: c.Name, Role: c.Role, Identifier: c.Identifier, Verb: verb, Args: args, Leaves: leaves,
			Values: values, Changed: changed, Distinct: distinct, Estimated: c.Name == "note"}
	}
	attackers := func(high, mean, above float64) risk.Report {
		a := risk.Attacker{Highest: high, Average: mean, ShareAbove: above}
		return risk.Report{Records: 30162, Prosecutor: a, Journalist: a, Marketer: a}
	}
	return Input{
		Plan: anonymize.Plan{Dataset: "ward-7", Format: "csv", Columns: columns, Subject: "patient_id",
			Rows:     []sallyport.RowFilter{{Column: "site", In: []string{"canary-site"}}},
			Suppress: &anonymize.Suppression{K: 5, L: 2, T: 0.25, Limit: 0.04},
			Earlier:  []anonymize.Earlier{{Job: "job-1"}, {Job: "job-2"}}},
		Report: anonymize.Report{
			Plan: sallyport.DigestOf([]byte("plan")), Source: sallyport.DigestOf([]byte("source")), Output: sallyport.DigestOf([]byte("output")),
			BytesIn: 4_000_000, BytesOut: 2_500_000,
			Before: sallyport.Risk{Records: 30162, Classes: 19502, SmallestClass: 1, Unique: 0.5142895033485844, Highest: 1,
				Average: 0.6465751607983555, Exact: true, Quasi: []string{"born", "age", "zip", "sex"}},
			After: sallyport.Risk{Records: 30162, Classes: 1046, SmallestClass: 5, Unique: 0, Highest: 0.2,
				Average: 0.0346794, Exact: true, Quasi: []string{"born", "age", "zip", "sex"}, Diversity: ptr(int64(2)), Closeness: ptr(0.2345)},
			Combined: &sallyport.Risk{Records: 31000, Classes: 2000, SmallestClass: 1, Unique: 0.00001, Highest: 1, Average: 0.06, Exact: true},
			Filtered: 1200, Suppressed: 906,
			Residual:   map[string]int64{"phone": 3, "email": 1, "iban": 0},
			Undeclared: []anonymize.Undeclared{{Column: "note", Unique: 0.97, Estimated: true}},
			Attackers:  anonymize.Attackers{Before: attackers(1, 0.6465751607983555, 0.91), After: attackers(0.2, 0.0346794, 0)},
			Sizes: anonymize.SizePair{
				Before: []anonymize.SizeCount{{Least: 1, Most: 1, Classes: 15512, Records: 15512}, {Least: 2, Most: 2, Classes: 2000, Records: 4000}, {Least: 3, Most: 4, Classes: 1990, Records: 10650}, {Least: 5, Most: 9}, {Least: 10, Most: 0}},
				After:  []anonymize.SizeCount{{Least: 1, Most: 1}, {Least: 2, Most: 2}, {Least: 3, Most: 4}, {Least: 5, Most: 9, Classes: 400, Records: 2600}, {Least: 10, Most: 0, Classes: 646, Records: 27562}},
			},
			Contribution: []risk.Contribution{{Column: "age", Average: 0.021, Unique: 0, Classes: 800}, {Column: "sex", Average: -0.001, Unique: 0, Classes: 12}},
			Fields: []anonymize.Field{
				field(0, "pseudonym", true, 30162, 30162, 0, nil),
				field(1, "drop", false, 30162, 0, 0, nil),
				field(2, "date", true, 30000, 30000, 0, map[string]any{"to": "year"}),
				field(3, "cap", true, 30162, 310, 0, map[string]any{"top": 90, "label": "90+"}),
				field(4, "prefix", true, 30162, 30162, 0, map[string]any{"length": 3}),
				field(5, "keep", true, 30162, 0, 0, nil),
				field(6, "hierarchy", true, 30162, 12000, 40, map[string]any{"file": "diagnosis.csv", "level": 1}),
				field(7, "keep", true, 30162, 0, 29000, nil),
				field(8, "", false, 30162, 0, 0, nil),
			},
		},
		Transforms: []anonymize.Transform{transform.Drop{}, transform.Pseudonym{}, transform.Date{}, transform.Cap{}, transform.Prefix{}, transform.Hierarchy{}},
		Rules:      map[string]string{"patient_id": "columns.leaving.direct: pseudonym"},
		Source:     "plan file ward.yaml",
		About:      []Fact{{"Job", "job-3"}, {"Project", "pilot"}},
		Time:       time.Date(2027, 3, 1, 12, 30, 15, 999, time.FixedZone("", 3600)),
	}
}

// bare is a release that nothing can be said of.
func bare() Input {
	return Input{Plan: anonymize.Plan{Dataset: "bare", Format: "csv"}, Report: anonymize.Report{
		Fields: []anonymize.Field{{Column: "a", Role: sallyport.Insensitive, Verb: "keep", Leaves: true}}}}
}

func written(t *testing.T, d Document) (page, text string) {
	t.Helper()
	var h, j bytes.Buffer
	a, err := HTML(&h, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := JSON(&j, d)
	if err != nil {
		t.Fatal(err)
	}
	if a != b || b != sallyport.DigestOf(j.Bytes()) || !strings.Contains(h.String(), string(b)) {
		t.Errorf("digests: page %s, JSON %s, its bytes %s; the page must show it", a, b, sallyport.DigestOf(j.Bytes()))
	}
	return h.String(), j.String()
}

func TestGolden(t *testing.T) {
	for name, in := range map[string]Input{"release": release(), "bare": bare()} {
		page, text := written(t, New(in))
		for file, got := range map[string]string{name + ".golden.html": page, name + ".golden.json": text} {
			file = filepath.Join("testdata", file)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
			}
		}
	}
}

// TestJSONReadsBack: what the audit log names can be read by a program.
func TestJSONReadsBack(t *testing.T) {
	_, text := written(t, New(release()))
	var d Document
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.Version != Version || d.Records != (Records{Read: 32268, Left: 30162, Filtered: 1200, Suppressed: 906}) {
		t.Errorf("version %d, records %+v", d.Version, d.Records)
	}
	if strings.Contains(text, "canary-site") {
		t.Error("a row filter's value, which is the dataset's, is in the report")
	}
	if strings.Contains(text, ": null") && strings.Count(text, ": null") != 2 {
		t.Errorf("null but where a column does not leave:\n%s", text)
	}
}

// TestPageNeedsNothing: no request, no script, tags that balance, and every
// drawing and table has a name.
func TestPageNeedsNothing(t *testing.T) {
	for _, in := range []Input{release(), bare()} {
		page, _ := written(t, New(in))
		for _, bad := range []string{"http:", "https:", "<script", "src=", "url(", "@import", "<link", "<iframe", "javascript:"} {
			if strings.Contains(page, bad) {
				t.Errorf("the page holds %q", bad)
			}
		}
		dec := xml.NewDecoder(strings.NewReader(page))
		dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
		var open []string
		ids := map[string]bool{}
		var refs []string
		tables, captions := 0, 0
		for {
			tok, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("the page is not well-formed: %v", err)
			}
			switch tok := tok.(type) {
			case xml.StartElement:
				open = append(open, tok.Name.Local)
				switch tok.Name.Local {
				case "table":
					tables++
				case "caption":
					captions++
				}
				for _, a := range tok.Attr {
					switch a.Name.Local {
					case "id":
						if ids[a.Value] {
							t.Errorf("id %q twice", a.Value)
						}
						ids[a.Value] = true
					case "href":
						refs = append(refs, strings.TrimPrefix(a.Value, "#"))
					case "aria-labelledby":
						refs = append(refs, strings.Fields(a.Value)...)
					}
				}
			case xml.EndElement:
				if len(open) == 0 || open[len(open)-1] != tok.Name.Local {
					t.Fatalf("</%s> closes %v", tok.Name.Local, open)
				}
				open = open[:len(open)-1]
			}
		}
		if tables == 0 || tables != captions {
			t.Errorf("%d tables, %d captions", tables, captions)
		}
		for _, r := range refs {
			if !ids[r] {
				t.Errorf("nothing has the id %q", r)
			}
		}
	}
}

// TestContrast holds every colour to WCAG 2.1, success criterion 1.4.3 (4.5 to
// 1 for text), on both grounds, in all three palettes.
func TestContrast(t *testing.T) {
	palettes := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(page, -1)
	if len(palettes) != 3 {
		t.Fatalf("%d palettes: light, dark and print are expected", len(palettes))
	}
	for i, p := range palettes {
		c := map[string]float64{}
		for _, m := range regexp.MustCompile(`--(\w+): #([0-9a-f]{6});`).FindAllStringSubmatch(p[1], -1) {
			c[m[1]] = luminance(t, m[2])
		}
		for _, name := range []string{"text", "quiet", "before", "after", "alert", "good"} {
			for _, ground := range []string{"ground", "panel"} {
				a, b := max(c[name], c[ground]), min(c[name], c[ground])
				if ratio := (a + 0.05) / (b + 0.05); ratio < 4.5 {
					t.Errorf("palette %d: --%s on --%s has contrast %.2f", i, name, ground, ratio)
				}
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(v uint64) float64 {
		s := float64(v&0xff) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(n>>16) + 0.7152*linear(n>>8) + 0.0722*linear(n)
}

// TestNamesAreText: column names come from files that others wrote.
func TestNamesAreText(t *testing.T) {
	in := release()
	hostile := `"><img src=x onerror=alert(1)></style><script>`
	in.Plan.Dataset = hostile
	in.Report.Fields[0].Column = hostile
	in.Report.Undeclared[0].Column = hostile
	page, _ := written(t, New(in))
	if strings.Contains(page, "<img") || strings.Contains(page, "<script") || strings.Count(page, "</style>") != 1 {
		t.Error("a name became markup")
	}
}

// TestWhatIsNeverSaid: a pseudonymized release is not called anonymous, and a
// row without a column is no claim that nothing is there.
func TestWhatIsNeverSaid(t *testing.T) {
	for name, in := range map[string]Input{"release": release(), "bare": bare()} {
		page, text := written(t, New(in))
		for _, s := range []string{page, text} {
			for _, m := range regexp.MustCompile(`(?i).{24}\banonymous\b`).FindAllString(s, -1) {
				if !strings.HasSuffix(m, "makes nothing anonymous") {
					t.Errorf("%s: %q", name, m)
				}
			}
		}
		d := New(in)
		if len(d.SafeHarbor.Rows) != 18 {
			t.Fatalf("%d rows", len(d.SafeHarbor.Rows))
		}
		empty := 0
		for i, r := range d.SafeHarbor.Rows {
			if r.Letter != string(rune('A'+i)) {
				t.Errorf("row %d is (%s)", i, r.Letter)
			}
			if len(r.Columns) == 0 {
				empty++
			}
		}
		if n := strings.Count(page, "no column is declared to fall under it"); n != empty {
			t.Errorf("%s: %d rows say that no column is declared, %d are empty", name, n, empty)
		}
	}
	d := New(release())
	if diff := cmp.Diff([]string{"patient_id"}, d.Pseudonyms.Keyed); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"Column patient_id leaves", "Article 4(5)", "recital 26", "stay personal data"} {
		if !strings.Contains(d.Pseudonyms.Note, want) {
			t.Errorf("the note lacks %q: %s", want, d.Pseudonyms.Note)
		}
	}
	if diff := cmp.Diff([]string{"note"}, d.SafeHarbor.Unsaid); diff != "" {
		t.Error(diff)
	}
}

// TestSafeHarborAsThePolicyHasIt holds our reading of the standard to the
// default policy's table: what that accepts, this does, and nothing of a
// category is accepted that the table lacks.
func TestSafeHarborAsThePolicyHasIt(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "policies", "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Rules struct {
			Standards map[string]map[string]struct {
				Verbs map[string]map[string]map[string]any
			}
		}
	}
	if err := json.Unmarshal(b, &data); err != nil {
		t.Fatal(err)
	}
	table := data.Rules.Standards["safe_harbor"]
	for id, row := range table {
		judge := func(f anonymize.Field) (bool, string) {
			f.Column, f.Identifier = "c", id
			for _, r := range New(Input{Report: anonymize.Report{Fields: []anonymize.Field{f}}}).SafeHarbor.Rows {
				if len(r.Columns) == 1 {
					return r.Columns[0].Satisfies, r.Columns[0].Mind
				}
			}
			t.Fatalf("no row for category %q", id)
			return false, ""
		}
		if id == "none" {
			continue
		}
		for verb, bounds := range row.Verbs {
			f := anonymize.Field{Verb: verb, Leaves: verb != "drop", Args: map[string]any{}}
			for arg, bound := range bounds {
				for _, v := range bound {
					if list, ok := v.([]any); ok {
						v = list[0]
					}
					f.Args[arg] = v
				}
			}
			if ok, mind := judge(f); !ok {
				t.Errorf("%s for %s: the policy accepts it, the report does not: %s", verb, id, mind)
			}
		}
		for _, verb := range []string{"keep", "mask", "shift_date", "prefix", "generalize", "pseudonym"} {
			if ok, _ := judge(anonymize.Field{Verb: verb, Leaves: true}); ok {
				t.Errorf("%q for %s is accepted", verb, id)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0 %", 1: "100 %", 0.5: "50 %", 0.125: "12.5 %", 0.00001: "<0.01 %", 0.999999: ">99.99 %", 0.1: "10 %"} {
		if got := percent(share); got != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestWriteFails(t *testing.T) {
	if _, err := JSON(broken{}, New(bare())); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("JSON: %v", err)
	}
	if _, err := HTML(broken{}, New(bare())); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("HTML: %v", err)
	}
}
