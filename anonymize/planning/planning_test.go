package planning_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport"
	formatcsv "sallyport/anonymize/csv"
	"sallyport/anonymize/planning"
)

// ward is a made-up table of n records.
func ward(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	var b strings.Builder
	b.WriteString("patient_id,name,birth_date,age,sex,zip,admitted,diagnosis,weight,email\n")
	for i := range n {
		age := 20 + r.IntN(60)
		if i%20 == 0 {
			age = 93
		}
		fmt.Fprintf(&b, "MRN%d,%s %s,%d-%02d-%02d,%d,%s,%05d,20%d-0%d-1%d,%s,%d.5,p%d@example.org\n", 10000+7*i, pick("Ann", "Bo", "Cy"), pick("Ash", "Birch"),
			2021-age, 1+r.IntN(12), 1+r.IntN(28), age, pick("F", "M"), 12300+100*r.IntN(3)+r.IntN(20), 19+r.IntN(3), 1+r.IntN(9), r.IntN(10), pick("I10", "E11", "C50", "J45"), 50+r.IntN(40), i)
	}
	return b.String()
}

func source(text string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
}

func plan(t *testing.T, table, target string, set func(*planning.Options)) (*planning.Result, error) {
	t.Helper()
	g, err := planning.ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	o := planning.Options{Target: g, Transforms: verbs(), Now: at(2026)}
	if set != nil {
		set(&o)
	}
	return planning.Make(t.Context(), formatcsv.New(), source(table), o)
}

func mustPlan(t *testing.T, table, target string, set func(*planning.Options)) *planning.Result {
	t.Helper()
	r, err := plan(t, table, target, set)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func choice(r *planning.Result, column string) planning.Choice {
	return r.Columns[slices.IndexFunc(r.Columns, func(c planning.Choice) bool { return c.Column == column })]
}

func none(string) (io.ReadCloser, error) { return nil, io.EOF }

// A plan's classes, made by the pass itself, are counted anew here.
func TestPlanDoesWhatItSays(t *testing.T) {
	for _, target := range []string{"k=2", "k=5, keep age useful", "k=10, l=2, limit=0", "k=3, t=0.4, limit=10%", "k=5, l=2, Safe Harbor, keep age useful",
		"k=3, entropy l=2.5", "recursive c=2 l=2, keep age useful"} {
		t.Run(target, func(t *testing.T) {
			table := ward(400)
			r := mustPlan(t, table, target, nil)
			out, report := pass(t, r, source(table), none)
			quasi := []int{}
			for _, c := range r.File.Columns {
				if i := slices.Index(out[0], c.Name); c.Role == sallyport.Quasi && i >= 0 {
					quasi = append(quasi, i)
				}
			}
			classes, secrets := map[string]int64{}, map[string]map[string]float64{}
			secret := slices.Index(out[0], "diagnosis")
			for _, line := range out[1:] {
				var key strings.Builder
				for _, i := range quasi {
					key.WriteString(line[i] + "\x00")
				}
				classes[key.String()]++
				if secrets[key.String()] == nil {
					secrets[key.String()] = map[string]float64{}
				}
				secrets[key.String()][line[secret]]++
			}
			for key, n := range classes {
				if n < r.Target.K || int64(len(secrets[key])) < r.Target.L {
					t.Errorf("a class of %d records and %d diagnoses", n, len(secrets[key]))
				}
				entropy, rest, most := 0.0, 0.0, 0.0
				for _, m := range secrets[key] {
					entropy -= m / float64(n) * math.Log(m/float64(n))
					rest, most = rest+m, max(most, m)
				}
				if math.Exp(entropy) < r.Target.EntropyL-1e-9 {
					t.Errorf("a class of entropy %g-diversity", math.Exp(entropy))
				}
				// For L = 2, all but the most frequent are the tail.
				if r.Target.RecursiveL == 2 && !(most < r.Target.RecursiveC*(rest-most)) {
					t.Errorf("a class with %g of %g records of one diagnosis", most, rest)
				}
			}
			if int64(len(classes)) != r.Chosen.Classes || report.Suppressed != r.Chosen.Suppressed || report.After.SmallestClass != r.Chosen.SmallestClass {
				t.Errorf("%d classes, %d kept back, smallest %d; the plan said %+v", len(classes), report.Suppressed, report.After.SmallestClass, r.Chosen)
			}
			if r.Chosen.Share > r.Target.Limit {
				t.Errorf("%g kept back", r.Chosen.Share)
			}
			for _, name := range []string{"name", "email"} {
				if slices.Contains(out[0], name) {
					t.Errorf("%s left", name)
				}
			}
		})
	}
}

func TestPlanningIsDeterministic(t *testing.T) {
	set := func(o *planning.Options) { o.Curve = planning.Curve() }
	text := func() string {
		r := mustPlan(t, ward(300), "k=5, l=2, keep zip useful", set)
		var b bytes.Buffer
		if err := r.File.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := r.Draw(&b); err != nil {
			t.Fatal(err)
		}
		if err := r.Page(&b, "ward"); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if a, b := text(), text(); a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

// What is to be kept useful is not worse than without.
func TestKeepIsHeard(t *testing.T) {
	plain := mustPlan(t, ward(400), "k=5", nil)
	for _, name := range []string{"age", "zip", "sex", "admitted"} {
		kept := mustPlan(t, ward(400), "k=5, keep "+name+"=1000 useful", nil)
		before, after := choice(plain, name).Utility, choice(kept, name).Utility
		t.Logf("%s: %.2f, and %.2f when it is to be kept", name, before, after)
		if after < before-1e-9 || after < .3 {
			t.Errorf("%s: %.3f before, %.3f kept", name, before, after)
		}
	}
}

// The more is asked, the less is left, and the risk follows what is asked.
func TestCurveFalls(t *testing.T) {
	r := mustPlan(t, ward(400), "k=5, limit=0", func(o *planning.Options) { o.Curve = planning.Curve() })
	last := r.Curve[0]
	for i, p := range r.Curve {
		if !p.Reached {
			t.Fatalf("k=%d is not reached", p.K)
		}
		if p.Prosecutor.Highest > 1/float64(p.K)+1e-12 || p.Loss < last.Loss-1e-6 || p.Utility > last.Utility+1e-9 || p.Utility < 0 || p.Utility > 1 {
			t.Errorf("point %d: %+v after %+v", i, p, last)
		}
		last = p
	}
	if r.Before.Utility != 1 || r.Before.Prosecutor.Highest != 1 {
		t.Errorf("%+v", r.Before)
	}
}

func TestSafeHarborPlan(t *testing.T) {
	r := mustPlan(t, ward(400), "k=15, Safe Harbor, keep age useful", nil)
	if len(r.SafeHarbor) != 18 {
		t.Fatalf("%d rows", len(r.SafeHarbor))
	}
	for i, row := range r.SafeHarbor {
		if row.Letter != string(rune('A'+i)) || !row.Satisfied {
			t.Errorf("%+v", row)
		}
	}
	want := map[string]string{"patient_id": "H", "name": "A", "birth_date": "C", "age": "C", "zip": "B", "admitted": "C", "email": "F"}
	got := map[string]string{}
	for _, row := range r.SafeHarbor {
		for _, c := range row.Columns {
			got[c.Column] = row.Letter
		}
	}
	if !maps.Equal(got, want) {
		t.Error(got)
	}
	if a := choice(r, "age"); a.Treatment == "keep" || a.Treatment == "drop" || r.Generated["age90.csv"] == nil {
		t.Errorf("%+v", a)
	}
	if z := choice(r, "zip"); z.Treatment != "drop" { // these verbs lack zip3
		t.Errorf("%+v", z)
	}
	out, _ := pass(t, r, source(ward(400)), none)
	age := slices.Index(out[0], "age")
	ninety := 0
	for _, line := range out[1:] {
		if line[age] == "90+" {
			ninety++
		} else if strings.Contains(line[age], "9") && line[age] > "89" {
			t.Errorf("an age of %s left", line[age])
		}
	}
	if ninety == 0 {
		t.Error("no 90+")
	}
}

// A year of birth tells that somebody is over 89, and so does not leave.
func TestSafeHarborOldBirthYears(t *testing.T) {
	set := func(year int) func(*planning.Options) { return func(o *planning.Options) { o.Now = at(year) } }
	r := mustPlan(t, ward(400), "k=2, Safe Harbor", set(2018)) // born 1928: 90
	if c := choice(r, "birth_date"); c.Treatment != "drop" || len(c.Ladder) != 1 {
		t.Errorf("%+v", c)
	}
	r = mustPlan(t, ward(400), "k=2, Safe Harbor", set(2017)) // 89 at most
	if c := choice(r, "birth_date"); len(c.Ladder) < 2 {
		t.Errorf("%+v", c)
	}
}

func TestSafeHarborRows(t *testing.T) {
	args := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	for _, c := range []struct {
		identifier, verb string
		args             map[string]any
		want             bool
	}{
		{"name", "", nil, false}, {"name", "pseudonym", nil, false}, {"name", "drop", nil, true}, {"name", "replace", args("with", "x"), true},
		{"date", "date", args("to", "year"), true}, {"date", "date", args("to", "month"), false}, {"date", "shift_date", args("days", 9), false}, {"date", "", nil, false},
		{"age", "", nil, false}, {"age", "generalize", args("width", 10), false}, {"age", "cap", args("top", 90), true}, {"age", "cap", args("top", uint64(89)), true},
		{"age", "cap", args("top", 95.0), false}, {"age", "cap", args("bottom", 3), false}, {"age", "age90", nil, true},
		{"age", "hierarchy", args("file", "age90.csv", "level", 2), true}, {"age", "hierarchy", args("file", "age90.csv", "level", 0), false}, {"age", "hierarchy", args("file", "x.csv", "level", 2), false},
		{"geographic", "prefix", args("length", 3), false}, {"geographic", "zip3", args("vintage", 2020), true}, {"geographic", "hierarchy", args("file", "zip3.csv", "level", uint64(1)), true},
		{"geographic", "hierarchy", args("file", "zip3.csv", "level", 0), false}, {"geographic", "hierarchy", args("file", "zip3.csv"), false},
		{"none", "", nil, true}, {"", "", nil, false}, {"", "replace", nil, false}, {"", "drop", nil, true},
		{"other", "pseudonym", nil, false}, {"ip", "mask", nil, false},
	} {
		f := planning.File{Columns: []planning.Column{{Name: "x", Role: sallyport.Quasi, Identifier: c.identifier, Verb: c.verb, Args: c.args}}}
		if err := f.CheckSafeHarbor(); (err == nil) != c.want {
			t.Errorf("%q treated by %s %v: %v", c.identifier, c.verb, c.args, err)
		}
	}
	words := map[string]bool{}
	for _, id := range planning.Identifiers() {
		f := planning.File{Columns: []planning.Column{{Name: "x", Role: sallyport.Quasi, Identifier: id}}}
		for _, row := range f.SafeHarborRows() {
			if len(row.Columns) > 0 {
				words[id] = true
			}
		}
	}
	if len(words) != len(planning.Identifiers())-1 || words["none"] {
		t.Errorf("categories without a row: %v", words)
	}
}

func TestLadders(t *testing.T) {
	var b strings.Builder
	b.WriteString("plain,odd,iso,dots,stamp,slash,postcode,colour,many\n")
	for i := range 200 {
		odd := fmt.Sprint(i % 50)
		if i == 7 {
			odd = "n/a"
		}
		fmt.Fprintf(&b, "%d,%s,20%02d-%02d-11,%02d.%02d.2001,2001-%02d-%02d 10:%02d,%02d/%02d/2001,%05d,%s,w%dx\n", 17+i%73, odd, i%30, 1+i%12, 1+i%28, 1+i%12, 1+i%12, 1+i%28, i%60, 1+i%12, 1+i%12, 10000+i, []string{"red", "green", "blue"}[i%3], i/2)
	}
	all := strings.Split(strings.SplitN(b.String(), "\n", 2)[0], ",")
	r := mustPlan(t, b.String(), "k=2, limit=100%", func(o *planning.Options) { o.Quasi = all[:5] })
	steps := func(column string) (s []string) {
		for _, st := range choice(r, column).Ladder {
			s = append(s, st.Text)
		}
		return s
	}
	for column, want := range map[string][]string{
		"plain": {"as it is", "ranges of 5", "ranges of 10", "ranges of 20", "ranges of 40", "dropped"},
		"odd":   {"as it is", "ranges of 5", "ranges of 10", "ranges of 20", "ranges of 40", "dropped"},
		"dots":  {"as it is", "month", "quarter", "dropped"}, // one year
		"stamp": {"as it is", "day", "month", "quarter", "dropped"},
	} {
		if got := steps(column); !slices.Equal(got, want) {
			t.Errorf("%s: %q", column, got)
		}
	}
	if got := steps("iso"); !slices.Contains(got, "year") {
		t.Errorf("iso: %q", got)
	}
	r = mustPlan(t, b.String(), "k=2, limit=100%", func(o *planning.Options) { o.Quasi = all[5:] })
	for column, want := range map[string][]string{
		"slash":    {"as it is", "dropped"}, // day and month cannot be told apart
		"postcode": {"as it is", "first 4 of 5 characters", "first 3 of 5 characters", "dropped"},
		"colour":   {"as it is", "dropped"},
		"many":     {"as it is", "dropped"},
	} {
		if got := steps(column); !slices.Equal(got, want) {
			t.Errorf("%s: %q", column, got)
		}
	}
}

func TestHierarchyFiles(t *testing.T) {
	files := map[string]string{"colour.csv": "red;warm;*\norange;warm;*\nblue;cold;*\n", "x_hierarchy_size.csv": "S;small\nM;large\nL;large\n"}
	open := func(name string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(files[name])), nil }
	var b strings.Builder
	b.WriteString("colour,size\n")
	for i := range 60 {
		b.WriteString([]string{"red", "blue", "orange"}[i%3] + "," + []string{"S", "M", "L"}[i/20] + "\n")
	}
	set := func(o *planning.Options) {
		o.Hierarchies, o.Hierarchy = slices.Sorted(maps.Keys(files)), open
	}
	r := mustPlan(t, b.String(), "k=10, limit=0", set)
	if c := choice(r, "colour"); len(c.Ladder) != 3 || c.Ladder[1].Verb != "hierarchy" || c.Ladder[2].Verb != "drop" { // * is as good as dropped
		t.Errorf("%+v", c)
	}
	if s := choice(r, "size"); len(s.Ladder) != 3 || s.Ladder[1].Args["file"] != "x_hierarchy_size.csv" {
		t.Errorf("%+v", s)
	}
	out, _ := pass(t, r, source(b.String()), open)
	if len(out) != 61 {
		t.Errorf("%d lines", len(out))
	}
	files["colour.csv"] = "red;warm\nblue;cold\n"
	if _, err := plan(t, b.String(), "k=10", set); err == nil || !strings.Contains(err.Error(), `"colour"`) || sallyport.KindOf(err) != sallyport.Invalid || strings.Contains(err.Error(), "orange") {
		t.Errorf("a value that the hierarchy lacks: %v", err)
	}
	delete(files, "colour.csv")
	files["y_hierarchy_size.csv"] = files["x_hierarchy_size.csv"]
	if _, err := plan(t, b.String(), "k=10", set); err == nil || !strings.Contains(err.Error(), "two hierarchies") {
		t.Error(err)
	}
	// A level that splits what the one below joins is left out, and said.
	files = map[string]string{"colour.csv": "red;a;p\nblue;b;q\norange;a;q\n"}
	r = mustPlan(t, b.String(), "k=2", set)
	if c := choice(r, "colour"); len(c.Ladder) != 3 || !strings.Contains(strings.Join(c.Evidence, " "), "without level 2 of colour.csv") {
		t.Errorf("%+v", c)
	}
}

// What somebody said goes before what the scan proposes, and what nobody named
// does not leave.
func TestRoles(t *testing.T) {
	r := mustPlan(t, ward(100), "k=2", func(o *planning.Options) {
		o.Quasi = []string{"age", "sex"}
		o.Columns = []planning.Column{{Name: "weight", Role: sallyport.Sensitive, Verb: "generalize", Args: map[string]any{"width": 10}}, {Name: "email", Role: sallyport.Direct}}
	})
	for column, want := range map[string]string{"zip": "drop", "birth_date": "drop", "admitted": "drop", "email": "drop", "diagnosis": "keep", "weight": "generalize width: 10"} {
		if c := choice(r, column); c.Treatment != want {
			t.Errorf("%s: %+v", column, c)
		}
	}
	if c := choice(r, "zip"); c.Warning == "" || c.Role != sallyport.Quasi {
		t.Errorf("%+v", c)
	}
	if w := choice(r, "weight"); w.Role != sallyport.Sensitive {
		t.Errorf("%+v", w)
	}
	if r.File.Subject != "patient_id" {
		t.Error(r.File.Subject)
	}
}

func TestPlanRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		table, target, want string
		kind                sallyport.Kind
		set                 func(*planning.Options)
	}{
		"no such column":     {ward(30), "k=2", `no column "height"`, sallyport.Invalid, func(o *planning.Options) { o.Quasi = []string{"height"} }},
		"two roles":          {ward(30), "k=2", "under two roles", sallyport.Invalid, func(o *planning.Options) { o.Quasi, o.Direct = []string{"age"}, []string{"age"} }},
		"twice":              {ward(30), "k=2", "named twice", sallyport.Invalid, func(o *planning.Options) { o.Quasi = []string{"age", "age"} }},
		"keep what is not":   {ward(30), "k=2, keep height useful", `no column "height"`, sallyport.Invalid, nil},
		"keep names":         {ward(30), "k=2, keep name useful", "cannot be kept useful", sallyport.Invalid, nil},
		"keep what drops":    {ward(30), "k=2, keep zip useful", "but is dropped", sallyport.Invalid, func(o *planning.Options) { o.Quasi = []string{"age"} }},
		"nothing sensitive":  {ward(30), "l=2", "--sensitive", sallyport.Invalid, func(o *planning.Options) { o.Insensitive = []string{"diagnosis"} }},
		"too many asked":     {ward(30), "k=31, limit=0", "no treatment", sallyport.NotFound, nil},
		"too many diagnoses": {ward(30), "k=2, l=9, limit=0", "no treatment", sallyport.NotFound, nil},
		"no records":         {ward(0), "k=2", "empty", sallyport.Invalid, func(o *planning.Options) { o.Quasi = []string{"age"} }},
		"little memory":      {ward(300), "k=2", "do not fit", sallyport.Exhausted, func(o *planning.Options) { o.Memory = 20 << 10 }},
		"no such subject":    {ward(30), "k=2", `no column "who"`, sallyport.Invalid, func(o *planning.Options) { o.Subject = "who" }},
	} {
		_, err := plan(t, c.table, c.target, c.set)
		if err == nil || !strings.Contains(err.Error()+sallyport.HintOf(err), c.want) || sallyport.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A table with more treatments than can be searched loses rungs, aloud.
func TestLongLaddersAreThinned(t *testing.T) {
	var head []string
	var b strings.Builder
	for c := range 7 {
		head = append(head, fmt.Sprintf("c%d", c))
	}
	b.WriteString(strings.Join(head, ",") + "\n")
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		for c := range 7 {
			if c > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, r.IntN(80))
		}
		b.WriteByte('\n')
	}
	res := mustPlan(t, b.String(), "k=4, limit=0", func(o *planning.Options) { o.Quasi = head })
	if res.Nodes > 1<<15 || len(res.Notes) == 0 || !strings.Contains(res.Notes[0], "was left out") {
		t.Errorf("%d nodes, notes %q", res.Nodes, res.Notes)
	}
}

func TestPage(t *testing.T) {
	r := mustPlan(t, ward(400), "k=5, Safe Harbor", func(o *planning.Options) { o.Curve = planning.Curve() })
	var b bytes.Buffer
	if err := r.Page(&b, `<ward> & "co"`); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{"&lt;ward&gt;", "<title id=\"plot-title\">", "<desc id=\"plot-desc\">", `tabindex="0"`, "prefers-color-scheme", "@media print", `lang="en"`, `scope="row"`, "(R) any other"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, not := range []string{"<script", "http://", "https://", "@import", "url(", "<ward>", "Birch", "MRN10", "example.org", "ZgotmplZ", "NaN", "Inf"} {
		if strings.Contains(page, not) {
			t.Errorf("the page holds %s", not)
		}
	}
	// The drawing is well-formed, inside its frame, and has a point for each number.
	svg := page[strings.Index(page, "<svg") : strings.Index(page, "</svg>")+6]
	type circle struct {
		X float64 `xml:"cx,attr"`
		Y float64 `xml:"cy,attr"`
	}
	var drawn struct {
		Circles []circle `xml:"circle"`
	}
	if err := xml.Unmarshal([]byte(svg), &drawn); err != nil {
		t.Fatal(err)
	}
	if len(drawn.Circles) != len(r.Curve)+1 {
		t.Errorf("%d points for %d", len(drawn.Circles), len(r.Curve)+1)
	}
	for i, c := range drawn.Circles {
		if c.X < 0 || c.X > 720 || c.Y < 0 || c.Y > 400 || i > 0 && c.X < drawn.Circles[i-1].X {
			t.Errorf("a point at %v", c)
		}
	}
}

func TestDraw(t *testing.T) {
	r := mustPlan(t, ward(400), "k=5", func(o *planning.Options) { o.Curve = []int64{2, 20} })
	var b bytes.Buffer
	if err := r.Draw(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[3], "▸ 5 ") {
		t.Fatalf("%q", lines)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n != len([]rune(lines[0])) || n > 88 {
			t.Errorf("%d characters: %s", n, l)
		}
	}
	if r := mustPlan(t, "weight\n1.5\n2.5\n", "k=2", nil); r.Chosen != nil || !reflect.DeepEqual(r.Curve, []planning.Point{}) || len(r.Notes) == 0 {
		t.Errorf("%+v", r)
	}
}
