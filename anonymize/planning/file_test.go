package planning_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize/planning"
)

const example = `# sallyport plan: what becomes of each column
version: 1
format: csv
subject: patient_id
columns:
  patient_id: {role: direct, identifier: record, do: {pseudonym: {}}}
  age: {role: quasi, do: {generalize: {width: 10}}}
  sex: {role: quasi, do: keep}
  diagnosis: {role: sensitive, do: {hierarchy: {file: diagnosis.csv, level: 1}}}
  name: {role: direct, do: drop}
suppress: {k: 5, limit: 0.04}
hierarchies: ./hierarchies
safe_harbor: true
`

func TestReadMakesAPlan(t *testing.T) {
	f, err := planning.Read(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	p := f.Plan("ward")
	if p.Dataset != "ward" || p.Format != "csv" || p.Subject != "patient_id" || p.Suppress.K != 5 || p.Suppress.Limit != .04 || !f.SafeHarbor || f.Hierarchies != "./hierarchies" {
		t.Errorf("%+v %+v", f, p)
	}
	verbs := map[string]string{}
	for i, o := range p.Obligations {
		if p.Columns[i].Name != o.Column {
			t.Error(p.Columns[i].Name, o.Column)
		}
		verbs[o.Column] = o.Verb
	}
	if want := map[string]string{"patient_id": "pseudonym", "age": "generalize", "sex": "", "diagnosis": "hierarchy", "name": "drop"}; !reflect.DeepEqual(verbs, want) {
		t.Error(verbs)
	}
}

func TestReadRefuses(t *testing.T) {
	cut := func(old, new string) string {
		if !strings.Contains(example, old) {
			t.Fatal(old)
		}
		return strings.Replace(example, old, new, 1)
	}
	for _, c := range []struct{ src, want string }{
		{cut("version: 1", "version: 2"), "plan:2: version is 2"},
		{cut("version: 1\n", ""), "version is 0"},
		{cut("subject:", "subjct:"), `unknown field "subjct"`},
		{cut("do: keep", "dew: keep"), `unknown field "dew"`},
		{cut("role: quasi, do: keep", "role: odd, do: keep"), `has role "odd"`},
		{cut("identifier: record", "identifier: rekord"), `identifier "rekord"`},
		{cut("do: keep", "do: [keep]"), "do is keep, drop, or one verb"},
		{cut("do: keep", "do: {a: {}, b: {}}"), "do is keep, drop, or one verb"},
		{cut("do: keep", "do: {keep: {a: 1}}"), "keep takes no arguments"},
		{cut(", do: keep", ""), "do is keep, drop, or one verb"},
		{cut("subject: patient_id", "subject: nobody"), "not among the columns"},
		{cut("k: 5", "k: 0"), "k is 0"},
		{cut("limit: 0.04", "limit: 4"), "limit is 4"},
		{cut("k: 5", "k: 5, t: 2"), "t is 2"},
		{cut("safe_harbor: true", "others: keep"), `others is "keep"`},
		{cut("  sex:", "  age:"), "plan:"},
		{"version: 1\n", "columns is empty"},
		{"", "version is 0"},
		{"\x00", "plan"},
	} {
		_, err := planning.Read(strings.NewReader(c.src))
		if err == nil || !strings.Contains(err.Error(), c.want) || sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestComplete(t *testing.T) {
	f, err := planning.Read(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	table := []string{"sex", "name", "age", "patient_id", "diagnosis", "more"}
	if _, err := f.Complete(table); err == nil || !strings.Contains(err.Error(), `a column "more"`) {
		t.Error(err)
	}
	if _, err := f.Complete(table[1:]); err == nil {
		t.Error("a column that the table lacks")
	}
	f.DropOthers = true
	full, err := f.Complete(table)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range full.Columns {
		names = append(names, c.Name)
	}
	if last := full.Columns[5]; !slices.Equal(names, table) || !last.Drops() || last.Role != sallyport.Direct {
		t.Errorf("%+v", full.Columns)
	}
	if _, err := f.Complete(table[1:]); err == nil || !strings.Contains(err.Error(), `column "sex", which the table lacks`) {
		t.Error(err)
	}
	if _, err := f.Complete(append(table, "sex")); err == nil || !strings.Contains(err.Error(), "two columns") {
		t.Error(err)
	}
}

// What is written is read back as the same, whatever the columns are called.
func TestFileReadsWhatItWrites(t *testing.T) {
	name := rapid.OneOf(rapid.StringMatching(`[a-z_]{1,6}`), rapid.StringN(1, 8, -1), rapid.SampledFrom([]string{"no", "1", "~", "{a: b}", "- x", "# y", " ", "Größe", "a\nb", "a: b", `"`, `\`, "null", "*", "&a", "!t", "%", "0x1F", "1e3", ".5", "=", "<<"}))
	value := rapid.OneOf(rapid.Map(name, func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Uint64Range(0, 1e15), func(n uint64) any { return n }), rapid.Map(rapid.SampledFrom([]float64{.5, 1.25, 0.1}), func(f float64) any { return f }))
	rapid.Check(t, func(t *rapid.T) {
		f := planning.File{Format: rapid.SampledFrom([]string{"", "csv", "csv;delimiter=|"}).Draw(t, "format"), DropOthers: rapid.Bool().Draw(t, "others"),
			SafeHarbor: rapid.Bool().Draw(t, "harbor"), Hierarchies: rapid.SampledFrom([]string{"", "./h", "../a b"}).Draw(t, "hierarchies")}
		for _, n := range rapid.SliceOfNDistinct(name, 1, 5, rapid.ID).Draw(t, "names") {
			c := planning.Column{Name: n, Role: rapid.SampledFrom([]sallyport.Role{"direct", "quasi", "sensitive", "insensitive"}).Draw(t, "role"),
				Identifier: rapid.SampledFrom(append(planning.Identifiers(), "")).Draw(t, "identifier"), Verb: rapid.SampledFrom([]string{"", "drop", "date", "odd verb"}).Draw(t, "verb")}
			if c.Verb != "" && c.Verb != "drop" {
				if c.Args = rapid.MapOfN(name, value, 0, 3).Draw(t, "args"); len(c.Args) == 0 {
					c.Args = nil
				}
			}
			f.Columns = append(f.Columns, c)
		}
		if rapid.Bool().Draw(t, "suppress") {
			f.Suppress = &planning.Suppress{K: rapid.Int64Range(1, 99).Draw(t, "k"), L: rapid.Int64Range(0, 9).Draw(t, "l"), T: rapid.SampledFrom([]float64{0, .3}).Draw(t, "t"), Limit: rapid.Float64Range(0, 1).Draw(t, "limit")}
			f.Subject = f.Columns[0].Name
		}
		var b bytes.Buffer
		if err := f.Write(&b); err != nil {
			t.Fatal(err)
		}
		got, err := planning.Read(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		slices.SortFunc(f.Columns, func(a, b planning.Column) int { return strings.Compare(a.Name, b.Name) })
		if !reflect.DeepEqual(got, f) {
			t.Fatalf("got  %+v\nwant %+v\n%s", got, f, b.String())
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("version: 1\ncolumns: {a: {role: quasi, do: {x: {y: [1, {z: 2}]}}}}\n"))
	f.Add([]byte("version: 1\ncolumns: &a {b: *a}\n"))
	f.Add([]byte("version: 1\ncolumns: {1: {role: quasi, do: keep}, ? [x] : {}}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		a, err := planning.Read(bytes.NewReader(src))
		if err != nil {
			return
		}
		a.SafeHarborRows()
		a.Plan("x")
		var b bytes.Buffer
		if err := a.Write(&b); err != nil {
			return // an argument that no plan writes
		}
		if _, err := planning.Read(&b); err != nil {
			t.Errorf("written, but not read back: %v", fmt.Sprint(err))
		}
	})
}
