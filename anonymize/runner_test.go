package anonymize_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/risk"
)

var update = flag.Bool("update", false, "write the golden files anew")

// source gives a Source to a reader that cannot be read at.
type source struct{ io.Reader }

func (source) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

func TestGoldenPass(t *testing.T) {
	in, err := os.ReadFile("testdata/patients.csv")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	report, err := runner().Run(t.Context(), patientPlan(), testEnv(), &out, bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "patients.golden.csv")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	report.Plan = "" // pinned by TestPlanDigestIsStable
	fields := report.Fields
	report.Fields, report.Attackers, report.Sizes = nil, anonymize.Attackers{}, anonymize.SizePair{} // pinned by TestFieldsAndAttackers
	l, closeness := int64(1), 1-1.0/6                                                                // of the woman alone
	if d := cmp.Diff(anonymize.Report{
		Source: sallyport.DigestOf(in), Output: sallyport.DigestOf(want), BytesIn: int64(len(in)), BytesOut: int64(len(want)),
		Before: sallyport.Risk{Records: 6, Classes: 6, SmallestClass: 1, Unique: 1, Highest: 1, Average: 1, Exact: true,
			Quasi: []string{"birth_date", "age", "sex", "zip"}},
		After: sallyport.Risk{Records: 6, Classes: 3, SmallestClass: 1, Unique: 1.0 / 6, Highest: 1, Average: 0.5, Exact: true,
			Quasi: []string{"birth_date", "age", "sex", "zip"}, Diversity: &l, Closeness: &closeness},
		Columns: []string{"patient_id", "visit_id", "birth_date", "admitted", "age", "sex", "zip", "diagnosis", "weight"},
		Dropped: []string{"note"},
		Actions: map[string]string{"patient_id": "pseudonym", "visit_id": "pseudonym", "birth_date": "date", "admitted": "shift_date",
			"age": "generalize", "sex": "keep", "zip": "prefix", "diagnosis": "keep", "weight": "keep"},
		Residual: map[string]int64{"email": 1, "phone": 1},
		Changed:  map[string]int64{"patient_id": 6, "visit_id": 6, "birth_date": 6, "admitted": 5, "age": 6, "zip": 4},
		Undeclared: []anonymize.Undeclared{{Column: "admitted", Unique: 1}, {Column: "diagnosis", Unique: 4.0 / 6},
			{Column: "weight", Unique: 4.0 / 6}},
		Contribution: []risk.Contribution{},
	}, report); d != "" {
		t.Errorf("report: -want +got:\n%s", d)
	}
	if len(fields) != 10 || !cmp.Equal(fields[3], anonymize.Field{Column: "admitted", Role: sallyport.Insensitive, Verb: "shift_date",
		Args: map[string]any{"days": 365}, Leaves: true, Values: 6, Changed: 5, Distinct: 6}) ||
		!cmp.Equal(fields[5], anonymize.Field{Column: "sex", Role: sallyport.Quasi, Verb: "keep", Leaves: true, Values: 6}) ||
		!cmp.Equal(fields[9], anonymize.Field{Column: "note", Role: sallyport.Insensitive, Verb: "drop"}) {
		t.Errorf("fields: %+v", fields)
	}
}

func TestAttackersSizesAndContribution(t *testing.T) {
	env := testEnv()
	env.Contribution = true
	in, err := os.ReadFile("testdata/patients.csv")
	if err != nil {
		t.Fatal(err)
	}
	r, err := runner().Run(t.Context(), patientPlan(), env, io.Discard, bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := risk.Report{Records: 6, Classes: 3, SmallestClass: 1, UniqueShare: 1.0 / 6, Prosecutor: risk.Attacker{Highest: 1, Average: 0.5, ShareAbove: 1},
		Journalist: risk.Attacker{Highest: 1, Average: 0.5, ShareAbove: 1}, Marketer: risk.Attacker{Highest: 1, Average: 0.5, ShareAbove: 1}}
	if d := cmp.Diff(want, r.Attackers.After); d != "" {
		t.Errorf("attackers: -want +got:\n%s", d)
	}
	if r.Attackers.Before.Classes != 6 {
		t.Errorf("%+v", r.Attackers.Before)
	}
	var sizes []anonymize.SizeCount
	for i, least := range []int64{1, 2, 3, 5, 10, 20, 50, 100, 1000} {
		c := anonymize.SizeCount{Least: least, Most: []int64{1, 2, 4, 9, 19, 49, 99, 999, 0}[i]}
		if i < 3 {
			c.Classes, c.Records = 1, int64(i+1)
		}
		sizes = append(sizes, c)
	}
	if d := cmp.Diff(sizes, r.Sizes.After); d != "" {
		t.Errorf("sizes: -want +got:\n%s", d)
	}
	without := 2.0
	if d := cmp.Diff([]risk.Contribution{{Column: "birth_date"}, {Column: "age"},
		{Column: "sex", Average: 0.5 - without/6, Unique: 1.0 / 6, Classes: 1}, {Column: "zip"}}, r.Contribution); d != "" {
		t.Errorf("contribution: -want +got:\n%s", d)
	}
}

// The number of processors changes neither what leaves nor what is measured.
func TestWorkersChangeNothing(t *testing.T) {
	data := patients(3 << 20)
	run := func(processors int) (anonymize.Report, []byte) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
		var out bytes.Buffer
		report, err := runner().Run(t.Context(), patientPlan(), testEnv(), &out, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return report, out.Bytes()
	}
	report, out := run(1)
	if report.Output != sallyport.DigestOf(out) || report.BytesOut != int64(len(out)) || report.Source != sallyport.DigestOf(data) {
		t.Errorf("digests or sizes are wrong: %+v", report)
	}
	for _, processors := range []int{2, 5} {
		other, otherOut := run(processors)
		if !bytes.Equal(out, otherOut) {
			t.Errorf("%d processors: other output", processors)
		}
		if d := cmp.Diff(report, other); d != "" {
			t.Errorf("%d processors: -one +more:\n%s", processors, d)
		}
	}
}

func TestFormatsAreFound(t *testing.T) {
	r := runner()
	if f, err := r.Format("csv"); err != nil || f.Name() != "csv" {
		t.Errorf("%v, %v", f, err)
	}
	if f, err := r.Sniff([]byte("a,b\n1,2\n")); err != nil || f.Name() != "csv" {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := r.Sniff([]byte("\x7fELF")); sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(sallyport.HintOf(err), "csv") {
		t.Errorf("%v", err)
	}
	if len(r.Formats()) != 1 || len(r.Transforms()) != 10 {
		t.Errorf("%v, %v", r.Formats(), r.Transforms())
	}
	for _, verb := range r.Transforms() {
		if verb.Name() == "" || verb.Doc() == "" || strings.Contains(verb.Doc(), "\n") {
			t.Errorf("%q: %q: want one line of documentation", verb.Name(), verb.Doc())
		}
	}
}

func TestPlanDigestIsStable(t *testing.T) {
	digest := func(plan anonymize.Plan) sallyport.Digest {
		r, err := runner().Run(t.Context(), plan, testEnv(), io.Discard, bytes.NewReader(patients(1000)))
		if err != nil {
			t.Fatal(err)
		}
		return r.Plan
	}
	if first, second := digest(patientPlan()), digest(patientPlan()); first != second {
		t.Error("one plan has two digests")
	}
	other := patientPlan()
	other.Obligations[3].Args = map[string]any{"days": 364}
	filtered := patientPlan()
	filtered.Rows = []sallyport.RowFilter{{Column: "sex", In: []string{"F"}}}
	if digest(patientPlan()) == digest(other) || digest(patientPlan()) == digest(filtered) {
		t.Error("two plans have one digest")
	}
}

// untouched fails the test when it is read or written.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) { u.t.Error("a byte was read"); return 0, io.EOF }
func (u untouched) ReadAt([]byte, int64) (int, error) {
	u.t.Error("a byte was read")
	return 0, io.EOF
}
func (u untouched) Write(b []byte) (int, error) { u.t.Error("a byte was written"); return len(b), nil }

func TestPlanIsCheckedFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*anonymize.Plan)
		says   string
	}{
		{"format", func(p *anonymize.Plan) { p.Format = "xls" }, `unknown format "xls"`},
		{"verb", func(p *anonymize.Plan) { p.Obligations[5].Verb = "shred" }, `unknown verb "shred"`},
		{"column", func(p *anonymize.Plan) { p.Obligations[5].Column = "gender" }, `"gender"`},
		{"two obligations", func(p *anonymize.Plan) { p.Obligations[5].Column = "age" }, `two obligations for column "age"`},
		{"arguments", func(p *anonymize.Plan) { p.Obligations[4].Args = map[string]any{"widht": 10} }, `column "age": generalize: argument "width" is missing`},
		{"arguments of keep", func(p *anonymize.Plan) { p.Obligations[5].Args = map[string]any{"x": 1} }, "arguments without a verb"},
		{"role", func(p *anonymize.Plan) { p.Columns[2].Role = "" }, `role ""`},
		{"catalog twice", func(p *anonymize.Plan) { p.Columns[2].Name = "age" }, "twice"},
		{"nameless", func(p *anonymize.Plan) { p.Columns[2].Name = "" }, "without a name"},
		{"subject", func(p *anonymize.Plan) { p.Subject = "person" }, `"person"`},
		{"no subject", func(p *anonymize.Plan) { p.Subject = "" }, "works per subject"},
		{"row filter of an unknown column", func(p *anonymize.Plan) {
			p.Rows = []sallyport.RowFilter{{Column: "gender", In: []string{"F"}}}
		}, `a row filter names column "gender"`},
		{"two row filters", func(p *anonymize.Plan) {
			p.Rows = []sallyport.RowFilter{{Column: "sex", In: []string{"F"}}, {Column: "age"}, {Column: "sex", In: []string{"F"}}}
		}, `two row filters of column "sex"`},
		{"nothing leaves", func(p *anonymize.Plan) { p.Obligations = nil }, "no column would leave"},
		{"all dropped", func(p *anonymize.Plan) {
			for i := range p.Obligations {
				p.Obligations[i] = sallyport.Obligation{Column: p.Obligations[i].Column, Verb: "drop"}
			}
		}, "no column would leave"},
	} {
		plan := patientPlan()
		c.change(&plan)
		_, err := runner().Run(t.Context(), plan, testEnv(), untouched{t}, untouched{t})
		if err == nil || sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an invalid that says %q", c.name, err, c.says)
		}
		if e := runner().Check(plan, testEnv()); e == nil || err == nil || e.Error() != err.Error() {
			t.Errorf("%s: Check says %v, Run %v", c.name, e, err)
		}
	}
	if err := runner().Check(patientPlan(), testEnv()); err != nil {
		t.Error(err)
	}
	if err := runner().Check(patientPlan(), anonymize.PassEnv{}); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("without a key: %v", err)
	}
}

// small is a plan over the columns id and v, both leaving as they are.
func small() anonymize.Plan {
	return anonymize.Plan{Format: "csv",
		Columns:     []sallyport.Column{{Name: "id", Role: sallyport.Quasi}, {Name: "v", Role: sallyport.Insensitive}},
		Obligations: []sallyport.Obligation{{Column: "id"}, {Column: "v"}}}
}

func TestFileMustMatchTheCatalog(t *testing.T) {
	for _, c := range []struct{ file, says string }{
		{"id,v,Eve Secret\n1,2,3\n", "unknown column: column 3"},
		{"id\n1\n", `lacks: "v"`},
		{"", "empty"},
	} {
		var out bytes.Buffer
		_, err := runner().Run(t.Context(), small(), anonymize.PassEnv{}, &out, strings.NewReader(c.file))
		if err == nil || sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "Secret") {
			t.Errorf("%q: got %v, want an invalid that says %q", c.file, err, c.says)
		}
		if out.Len() > 0 {
			t.Errorf("%q: %q was written", c.file, out.Bytes())
		}
	}
}

func TestFailedValueNamesRecordAndColumn(t *testing.T) {
	plan := small()
	plan.Obligations[1] = sallyport.Obligation{Column: "v", Verb: "generalize", Args: map[string]any{"width": 10}}
	_, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader("id,v\n1,2\n2,hidden\n"))
	if err == nil || !strings.Contains(err.Error(), `line 3: column "v"`) || strings.Contains(err.Error(), "hidden") ||
		sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
		t.Errorf("got %v (%s)", err, sallyport.HintOf(err))
	}
}

// Direct identifiers that leave other than as pseudonyms are counted.
func TestWhatIsCounted(t *testing.T) {
	file := "name,sex,salary\nann,f,1\nanna,f,2\nbob,m,3\nbo,m,4\n"
	for _, c := range []struct {
		name    sallyport.Obligation
		quasi   []string
		classes int64
	}{
		{sallyport.Obligation{Column: "name"}, []string{"name", "sex"}, 4},
		{sallyport.Obligation{Column: "name", Verb: "prefix", Args: map[string]any{"length": 2}}, []string{"name", "sex"}, 2},
		{sallyport.Obligation{Column: "name", Verb: "pseudonym"}, []string{"sex"}, 2},
		{sallyport.Obligation{Column: "name", Verb: "drop"}, []string{"sex"}, 2},
	} {
		plan := anonymize.Plan{Format: "csv",
			Columns:     []sallyport.Column{{Name: "name", Role: sallyport.Direct}, {Name: "sex", Role: sallyport.Quasi}, {Name: "salary", Role: sallyport.Sensitive}},
			Obligations: []sallyport.Obligation{c.name, {Column: "sex"}, {Column: "salary"}}}
		r, err := runner().Run(t.Context(), plan, testEnv(), io.Discard, strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(r.After.Quasi, c.quasi) || r.After.Classes != c.classes || !cmp.Equal(r.Before.Quasi, []string{"sex"}) || r.Before.SmallestClass != 2 {
			t.Errorf("%q: before %+v, after %+v", c.name.Verb, r.Before, r.After)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	var out bytes.Buffer
	r, err := runner().Run(t.Context(), small(), anonymize.PassEnv{}, &out, strings.NewReader("id,v\n"))
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != "id,v\n" || r.After.Records != 0 || r.After.SmallestClass != 0 || !r.After.Exact {
		t.Errorf("%q, %+v", out.String(), r.After)
	}
}

// The census stops within its memory: before leaving gives way first, after
// leaving fails the pass.
func TestCensusLimit(t *testing.T) {
	file := func() io.Reader { return rows(20_000, func(i int) string { return fmt.Sprintf("%d,x\n", i) }) }
	plan := small()
	_, err := runner().Run(t.Context(), plan, anonymize.PassEnv{CensusLimit: 200 << 10}, io.Discard, source{file()})
	if sallyport.KindOf(err) != sallyport.Exhausted {
		t.Errorf("got %v", err)
	}
	plan.Obligations[0] = sallyport.Obligation{Column: "id", Verb: "generalize", Args: map[string]any{"width": 1000}}
	r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{CensusLimit: 200 << 10}, io.Discard, source{file()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Before.Exact || r.Before.Classes == 0 || !r.After.Exact || r.After.Classes != 20 || r.After.SmallestClass != 1000 {
		t.Errorf("before %+v, after %+v", r.Before, r.After)
	}
}

func TestErrorsComeThrough(t *testing.T) {
	mark := errors.New("mark")
	_, err := runner().Run(t.Context(), small(), anonymize.PassEnv{}, io.Discard,
		source{io.MultiReader(strings.NewReader("id,v\n1,2\n"), iotest.ErrReader(mark))})
	if !errors.Is(err, mark) {
		t.Errorf("source: %v", err)
	}
	// An end that comes too early is no end.
	_, err = runner().Run(t.Context(), small(), anonymize.PassEnv{}, io.Discard,
		source{io.MultiReader(strings.NewReader("id,v\n1,2\n"), iotest.ErrReader(io.ErrUnexpectedEOF))})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated source: %v", err)
	}
	for _, after := range []int{0, 1, 5} {
		_, err = runner().Run(t.Context(), small(), anonymize.PassEnv{}, &failing{after, mark}, source{rows(1_000_000, func(int) string { return "1,2\n" })})
		if !errors.Is(err, mark) {
			t.Errorf("sink after %d writes: %v", after, err)
		}
	}
}

type failing struct {
	after int
	err   error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, f.err
	}
	return len(b), nil
}

func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	env := anonymize.PassEnv{Progress: func(read, _ int64) {
		if read > 4<<20 {
			cancel()
		}
	}}
	_, err := runner().Run(ctx, small(), env, io.Discard, source{rows(50_000_000, func(int) string { return "1,2\n" })})
	if sallyport.KindOf(err) != sallyport.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// One that has said that it is done may still be on its way out.
	for began := time.Now(); runtime.NumGoroutine() > before && time.Since(began) < 10*time.Second; {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines before, %d after", before, n)
	}
}

// TestMemoryIsBounded passes 200 MB that are made as they are read.
func TestMemoryIsBounded(t *testing.T) {
	const blocks, bound = 200, 64 << 20
	plan := patientPlan()
	plan.Obligations = plan.Obligations[2:]
	head, rest, _ := strings.Cut(string(patients(1<<20)), "\n")
	var most uint64
	env := testEnv()
	env.Progress = func(_, _ int64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	parts := []io.Reader{strings.NewReader(head + "\n")}
	for range blocks {
		parts = append(parts, strings.NewReader(rest))
	}
	r, err := runner().Run(t.Context(), plan, env, io.Discard, source{io.MultiReader(parts...)})
	if err != nil {
		t.Fatal(err)
	}
	if r.BytesIn < 200e6 || r.After.Records != int64(blocks*strings.Count(rest, "\n")) {
		t.Errorf("%d bytes, %d records", r.BytesIn, r.After.Records)
	}
	if most > bound {
		t.Errorf("the heap held %d bytes, bound %d", most, bound)
	}
}

// rows is a file with the header id,v and n lines, made as it is read.
func rows(n int, line func(i int) string) io.Reader {
	return &rowReader{n: n, line: line, buf: []byte("id,v\n")}
}

type rowReader struct {
	i, n int
	line func(i int) string
	buf  []byte
}

func (r *rowReader) Read(b []byte) (int, error) {
	for len(r.buf) < len(b) && r.i < r.n {
		r.buf = append(r.buf, r.line(r.i)...)
		r.i++
	}
	if len(r.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.buf)
	r.buf = append(r.buf[:0], r.buf[n:]...)
	return n, nil
}
