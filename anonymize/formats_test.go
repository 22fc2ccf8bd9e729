package anonymize_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/transform"
)

// listed is a format of lines: fields apart by a tab (or its option), items of a
// list by a comma. Its first bytes are #listed and nothing names the columns.
type listed struct {
	apart string
	typed map[string]bool // what the editor said of each leaving column
	size  int64
}

var (
	_ anonymize.Lister = (*listed)(nil)
	_ anonymize.Tuned  = (*listed)(nil)
)

func (*listed) Name() string            { return "listed" }
func (*listed) Sniff(head []byte) bool  { return bytes.HasPrefix(head, []byte("#listed")) }
func (*listed) List(column string) bool { return strings.HasSuffix(column, "[]") }
func (l *listed) With(options map[string]string) (anonymize.Format, error) {
	for name, value := range options {
		if name != "apart" {
			return nil, sallyport.Errorf("listed", sallyport.Invalid, "Options: apart.", "unknown option %q", name)
		}
		return &listed{apart: value, typed: l.typed}, nil
	}
	return l, nil
}

func (l *listed) Rewrite(_ context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	if sized, ok := src.(anonymize.Sized); ok {
		l.size = sized.Size()
	}
	names := edit.(anonymize.Knower).Columns()
	leaving, err := edit.Header(names)
	if err != nil {
		return err
	}
	for _, name := range leaving {
		l.typed[name] = edit.(anonymize.Typer).SameType(name)
	}
	lines := bufio.NewScanner(src)
	lines.Scan()
	for lines.Scan() {
		var fields [][]byte
		for i, f := range strings.Split(lines.Text(), l.apart) {
			if l.List(names[i]) {
				var list []byte
				for item := range strings.SplitSeq(f, ",") {
					if f != "" {
						list = anonymize.AppendItem(list, []byte(item))
					}
				}
				fields = append(fields, list)
				continue
			}
			fields = append(fields, []byte(f))
		}
		answer, err := edit.Record(fields)
		if err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		var out []string
		for i, name := range leaving {
			if !l.List(name) {
				out = append(out, string(answer[i]))
				continue
			}
			var items []string
			for item := range anonymize.Items(answer[i]) {
				items = append(items, string(item))
			}
			out = append(out, strings.Join(items, ","))
		}
		if _, err := fmt.Fprintln(dst, strings.Join(out, l.apart)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// often is a verb that must see its column first: a value becomes how often it
// is there.
type often struct{}

var _ anonymize.Preparer = often{}

type seen map[string]int

func (often) Name() string { return "often" }
func (often) Doc() string  { return "how often the value is there" }
func (often) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	if len(args) > 0 {
		return nil, sallyport.Errorf("often", sallyport.Invalid, "", "it has no arguments")
	}
	return func(dst, _, _ []byte) ([]byte, error) { return dst, io.ErrUnexpectedEOF }, nil
}
func (often) Prepare(map[string]any, anonymize.Env) (anonymize.Preparation, error) {
	return seen{}, nil
}
func (s seen) Observe(value []byte) error { s[string(value)]++; return nil }
func (s seen) Bind() (anonymize.Apply, error) {
	return func(dst, v, _ []byte) ([]byte, error) { return strconv.AppendInt(dst, int64(s[string(v)]), 10), nil }, nil
}

func listRunner() (*anonymize.Runner, *listed) {
	l := &listed{apart: "\t", typed: map[string]bool{}}
	return anonymize.NewRunner([]anonymize.Format{csv.New(), l}, []anonymize.Transform{often{}, transform.Prefix{}, transform.Drop{}, transform.Generalize{}}), l
}

func TestListsItemByItem(t *testing.T) {
	r, l := listRunner()
	plan := anonymize.Plan{Format: "listed;apart=%3B",
		Columns: []sallyport.Column{{Name: "who", Role: sallyport.Direct}, {Name: "towns[]", Role: sallyport.Quasi}, {Name: "notes[]", Role: sallyport.Insensitive}, {Name: "age", Role: sallyport.Insensitive}},
		Obligations: []sallyport.Obligation{{Column: "towns[]", Verb: "prefix", Args: map[string]any{"length": 2}}, {Column: "notes[]"},
			{Column: "age", Verb: "generalize", Args: map[string]any{"width": 10}}},
		Rows: []sallyport.RowFilter{{Column: "towns[]", In: []string{"rome", "rovigo", "ba", ""}}}}
	file := "#listed\nann;rome,ba,rovigo;well,ann@example.org,ann@example.org;41\nbo;;;42\ncy;rome,oslo;x;43\n"
	var out bytes.Buffer
	report, err := r.Run(t.Context(), plan, anonymize.PassEnv{}, &out, strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if want := "ro,ba,ro;well,ann@example.org,ann@example.org;[40,50)\n;;[40,50)\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if d := cmp.Diff(map[string]int64{"towns[]": 2, "age": 2}, report.Changed); d != "" {
		t.Error(d)
	}
	if report.Residual["email"] != 2 || report.Filtered != 1 || report.After.Classes != 2 {
		t.Errorf("%+v", report)
	}
	f := report.Fields[2]
	if f.Values != 3 || f.Distinct != 2 || !cmp.Equal(report.Undeclared, []anonymize.Undeclared{{Column: "notes[]", Unique: 0.5}}) {
		t.Errorf("%+v, %+v", f, report.Undeclared)
	}
	if !cmp.Equal(l.typed, map[string]bool{"towns[]": false, "notes[]": true, "age": false}) {
		t.Errorf("types: %v", l.typed)
	}
	_ = l.size
}

func TestPreparer(t *testing.T) {
	r, _ := listRunner()
	plan := anonymize.Plan{Format: "csv", Columns: generatedColumns,
		Obligations: []sallyport.Obligation{{Column: "town", Verb: "often"}, {Column: "job"}},
		Rows:        []sallyport.RowFilter{{Column: "ward", In: []string{"n"}}},
		Suppress:    &anonymize.Suppression{K: 2, Limit: 1},
		Earlier:     []anonymize.Earlier{{Job: "all", Obligations: []sallyport.Obligation{{Column: "town", Verb: "often"}}}}}
	file := "town,job,ward,ill\na,x,n,1\na,x,n,1\nb,x,n,1\nb,x,s,1\nb,x,s,1\n"
	var out bytes.Buffer
	report, err := r.Run(t.Context(), plan, anonymize.PassEnv{}, &out, strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != "town,job\n2,x\n2,x\n" || report.Suppressed != 1 || report.Filtered != 2 {
		t.Errorf("%q, %+v", out.String(), report)
	}
	// Before: a is 2, b is 3, since it was over all rows. Now two of a left, none of b.
	if c := report.Combined; c.Records != 5 || c.Classes != 2 || c.SmallestClass != 2 {
		t.Errorf("%+v", c)
	}
	plan.Obligations[0].Args = map[string]any{"x": 1}
	if err := r.Check(plan, anonymize.PassEnv{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("%v", err)
	}
}

// drifting is another file each time that it is read anew.
type drifting struct {
	io.Reader
	other *strings.Reader
}

func (d drifting) ReadAt(b []byte, off int64) (int, error) { return d.other.ReadAt(b, off) }

func TestSourceThatChanges(t *testing.T) {
	plan := small()
	plan.Suppress = &anonymize.Suppression{K: 2, Limit: 1}
	_, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, drifting{strings.NewReader("id,v\n1,2\n1,2\n"), strings.NewReader("id,v\n1,2\n1,3\n")})
	if sallyport.KindOf(err) != sallyport.Unavailable || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("%v", err)
	}
	_, err = runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, source{strings.NewReader("id,v\n1,2\n1,2\n")})
	if err == nil {
		t.Error("a source that can be read once was read twice")
	}
}

func TestDeclaredAndSniffedFormatAgree(t *testing.T) {
	r, _ := listRunner()
	plan := small()
	_, err := r.Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader("#listed\n1\t2\n"))
	if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "declared to be csv and looks like listed") {
		t.Errorf("csv that is listed: %v", err)
	}
	plan.Format = "listed"
	_, err = r.Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader("id,v\n1,2\n"))
	if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "declared to be listed and looks like csv") {
		t.Errorf("listed that is csv: %v", err)
	}
	// A head that nobody knows is no contradiction.
	plan = anonymize.Plan{Format: "csv", Columns: []sallyport.Column{{Name: "v", Role: sallyport.Insensitive}}, Obligations: []sallyport.Obligation{{Column: "v"}}}
	if _, err = r.Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader("v\n1\n2\n")); err != nil {
		t.Errorf("one column: %v", err)
	}
}

func TestFormatOptions(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"csv": nil, "csv;delimiter=|": {"delimiter": "|"}, "csv;delimiter=%3B;encoding=utf-16": {"delimiter": ";", "encoding": "utf-16"}, "csv;x==": {"x": "="}, "csv;x=": {"x": ""},
	} {
		name, options, err := anonymize.SplitFormat(text)
		if err != nil || name != "csv" || !cmp.Equal(options, want) {
			t.Errorf("%q: %q, %v, %v", text, name, options, err)
		}
		if back := anonymize.JoinFormat(name, options); back != text {
			t.Errorf("%q came back as %q", text, back)
		}
	}
	r, _ := listRunner()
	for _, bad := range []string{"csv;", "csv;x", "csv;=1", "csv;delimiter=;", "csv;a=1;a=2", "csv;a=%", "listed;tune=1", "xls;a=1", "", ";a=1"} {
		if _, err := r.Format(bad); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	var names []string
	for _, f := range r.Formats() {
		names = append(names, f.Name())
	}
	if f, err := r.Format("listed;apart=,"); err != nil || f.(*listed).apart != "," || !slices.Equal(names, []string{"csv", "listed"}) {
		t.Errorf("%v, %v", f, err)
	}
}
