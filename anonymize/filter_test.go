package anonymize_test

import (
	"bytes"
	"encoding/csv"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
)

func TestRowFilter(t *testing.T) {
	file := "id,v\n1,a\n1,\"a\"\n2,A\n1,a \n1,\n3,\"x,\"\"y\"\"\"\n"
	for _, c := range []struct {
		name   string
		rows   []sallyport.RowFilter
		leaves string
		before int64 // records of the smallest class
	}{
		{"none", nil, "1,a\n1,a\n2,A\n1,a \n1,\n3,\"x,\"\"y\"\"\"\n", 1},
		{"one value", []sallyport.RowFilter{{Column: "v", In: []string{"a"}}}, "1,a\n1,a\n", 2},
		{"quoted in the file", []sallyport.RowFilter{{Column: "v", In: []string{`x,"y"`}}}, "3,\"x,\"\"y\"\"\"\n", 1},
		{"the empty value", []sallyport.RowFilter{{Column: "v", In: []string{""}}}, "1,\n", 1},
		{"a value more", []sallyport.RowFilter{{Column: "v", In: []string{"A", "a", "absent"}}}, "1,a\n1,a\n2,A\n", 1},
		{"both must hold", []sallyport.RowFilter{{Column: "v", In: []string{"A", "a"}}, {Column: "id", In: []string{"2"}}}, "2,A\n", 1},
		{"no value", []sallyport.RowFilter{{Column: "v"}}, "", 0},
		{"no value beside one", []sallyport.RowFilter{{Column: "v", In: []string{"a"}}, {Column: "id", In: []string{}}}, "", 0},
	} {
		plan := small()
		plan.Rows = c.rows
		var out bytes.Buffer
		r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, &out, strings.NewReader(file))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := strings.TrimPrefix(out.String(), "id,v\n"); got != c.leaves {
			t.Errorf("%s: %q left, want %q", c.name, got, c.leaves)
		}
		left := int64(strings.Count(c.leaves, "\n"))
		if r.Filtered != 6-left || r.After.Records != left || r.Before.Records != left || r.Before.SmallestClass != c.before || !r.After.Exact {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// A record that does not leave is not touched: it cannot stop the pass by a
// value that its verb refuses, nor light the warning light.
func TestFilteredRecordIsNotTransformed(t *testing.T) {
	plan := small()
	plan.Obligations[0] = sallyport.Obligation{Column: "id", Verb: "generalize", Args: map[string]any{"width": 10}}
	plan.Rows = []sallyport.RowFilter{{Column: "v", In: []string{"in"}}}
	r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader("id,v\nno number,out\n7,in\n8,m@ward.example\n"))
	if err != nil || len(r.Residual) != 0 || r.Changed["id"] != 1 || r.Filtered != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Filtering in the pass is filtering the file first: the same leaves, and the
// same is measured, on one processor and on two.
func TestFilterIsFilteringFirst(t *testing.T) {
	columns := []string{"id", "ward", "town", "v"}
	base := anonymize.Plan{Format: "csv", Subject: "id",
		Columns: []sallyport.Column{{Name: "id", Role: sallyport.Direct}, {Name: "ward", Role: sallyport.Quasi},
			{Name: "town", Role: sallyport.Quasi}, {Name: "v", Role: sallyport.Sensitive}},
		Obligations: []sallyport.Obligation{{Column: "id", Verb: "pseudonym"},
			{Column: "town", Verb: "prefix", Args: map[string]any{"length": 1}}, {Column: "v"}}} // ward does not leave
	write := func(records [][]string, times int) []byte {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		_ = w.Write(columns)
		for range times {
			_ = w.WriteAll(records) // it flushes
		}
		w.Flush()
		return b.Bytes()
	}
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.SampledFrom([]string{"a", "A", "a ", "b", "", "x,y", `"q"`, "two\nlines", "é", "m@ward.example"})
		records := rapid.SliceOfN(rapid.SliceOfN(value, len(columns), len(columns)), 0, 40).Draw(rt, "records")
		times := rapid.SampledFrom([]int{1, 1, 1, 1500}).Draw(rt, "times") // the file then is in many blocks
		plan := base
		for _, c := range rapid.SliceOfNDistinct(rapid.SampledFrom(columns), 0, 2, rapid.ID[string]).Draw(rt, "columns") {
			plan.Rows = append(plan.Rows, sallyport.RowFilter{Column: c, In: rapid.SliceOfN(value, 0, 8).Draw(rt, "in")})
		}
		var kept [][]string
		for _, r := range records {
			ok := true
			for _, f := range plan.Rows {
				ok = ok && slices.Contains(f.In, r[slices.Index(columns, f.Column)])
			}
			if ok {
				kept = append(kept, r)
			}
		}
		run := func(plan anonymize.Plan, file []byte) (anonymize.Report, []byte) {
			var out bytes.Buffer
			r, err := runner().Run(t.Context(), plan, testEnv(), &out, bytes.NewReader(file))
			if err != nil {
				rt.Fatal(err)
			}
			r.Plan, r.Source, r.BytesIn = "", "", 0
			return r, out.Bytes()
		}
		want, wantOut := run(base, write(kept, times))
		want.Filtered = int64((len(records) - len(kept)) * times)
		for _, processors := range []int{1, 2} {
			func() {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
				got, gotOut := run(plan, write(records, times))
				if !bytes.Equal(wantOut, gotOut) {
					rt.Fatalf("%d processors: other output", processors)
				}
				if d := cmp.Diff(want, got); d != "" {
					rt.Fatalf("%d processors: -first +pass:\n%s", processors, d)
				}
			}()
		}
	})
}
