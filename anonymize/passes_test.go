package anonymize_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
)

// generated is a table of four columns: two quasi-identifiers, a ward that
// filters go by and a sensitive value.
var generatedColumns = []sallyport.Column{{Name: "town", Role: sallyport.Quasi}, {Name: "job", Role: sallyport.Quasi},
	{Name: "ward", Role: sallyport.Insensitive}, {Name: "ill", Role: sallyport.Sensitive}}

func generated(t *rapid.T, most int) [][]string {
	letters := func(values ...string) *rapid.Generator[string] { return rapid.SampledFrom(values) }
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []string {
		return []string{letters("aa", "ab", "ba", "bb", "").Draw(t, "town"), letters("x1", "x2", "y1", "y2").Draw(t, "job"),
			letters("n", "s", "e").Draw(t, "ward"), letters("p", "q", "r", "s").Draw(t, "ill")}
	}), 1, most).Draw(t, "records")
}

func tableOf(records [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	var names []string
	for _, c := range generatedColumns {
		names = append(names, c.Name)
	}
	_ = w.Write(names)
	_ = w.WriteAll(records) // it flushes
	return b.Bytes()
}

func rowsOf(t *rapid.T, table []byte) [][]string {
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

// figuresOf recomputes k, l and t over columns 0 and 1 and the last one.
func figuresOf(rows [][]string) (k, l int64, t float64) {
	classes, all := map[string]map[string]int{}, map[string]int{}
	for _, r := range rows {
		key, secret := r[0]+"\x00"+r[1], r[len(r)-1]
		if classes[key] == nil {
			classes[key] = map[string]int{}
		}
		classes[key][secret]++
		all[secret]++
	}
	k, l = math.MaxInt64, math.MaxInt64
	for _, c := range classes {
		n := 0
		for _, m := range c {
			n += m
		}
		var far float64
		for secret, m := range all {
			far += math.Abs(float64(c[secret])/float64(n)-float64(m)/float64(len(rows))) / 2
		}
		k, l, t = min(k, int64(n)), min(l, int64(len(c))), max(t, far)
	}
	return k, l, t
}

func generatedPlan() anonymize.Plan {
	return anonymize.Plan{Format: "csv", Columns: generatedColumns, Obligations: []sallyport.Obligation{
		{Column: "town", Verb: "prefix", Args: map[string]any{"length": 1}}, {Column: "job"}, {Column: "ill"}}}
}

// What is left after suppression is as asked, recomputed from the output; no
// more is kept back than must be; and nothing depends on the processors.
func TestSuppression(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		records := generated(rt, 60)
		plan := generatedPlan()
		s := &anonymize.Suppression{K: rapid.Int64Range(0, 4).Draw(rt, "k"), L: rapid.Int64Range(0, 3).Draw(rt, "l"),
			T: rapid.SampledFrom([]float64{0, 0.3, 0.5, 1}).Draw(rt, "t"), Limit: 1}
		plan.Suppress = s
		if rapid.Bool().Draw(rt, "filtered") {
			plan.Rows = []sallyport.RowFilter{{Column: "ward", In: []string{"n", "s"}}}
		}
		run := func(plan anonymize.Plan) (anonymize.Report, []byte, error) {
			var out bytes.Buffer
			r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{Diversity: true}, &out, bytes.NewReader(tableOf(records)))
			return r, out.Bytes(), err
		}
		r, out, err := run(plan)
		if err != nil {
			rt.Fatal(err)
		}
		rows := rowsOf(rt, out)
		if int64(len(rows)) != r.After.Records || r.After.Records+r.Filtered+r.Suppressed != int64(len(records)) {
			rt.Fatalf("%d rows left: %+v", len(rows), r)
		}
		if len(rows) > 0 {
			k, l, far := figuresOf(rows)
			if k < s.K || l < s.L || s.T > 0 && far > s.T+1e-12 {
				rt.Fatalf("k %d, l %d, t %v left, asked for %+v", k, l, far, *s)
			}
			if k != r.After.SmallestClass || l != *r.After.Diversity || math.Abs(far-*r.After.Closeness) > 1e-12 {
				rt.Fatalf("k %d, l %d, t %v, measured %+v", k, l, far, r.After)
			}
		}
		// Without t, exactly the classes that fail are kept back.
		if s.T == 0 || s.T == 1 {
			all := plan
			all.Suppress = nil
			_, whole, err := run(all)
			if err != nil {
				rt.Fatal(err)
			}
			var want [][]string
			members := map[string][][]string{}
			for _, row := range rowsOf(rt, whole) {
				members[row[0]+row[1]] = append(members[row[0]+row[1]], row)
			}
			for _, row := range rowsOf(rt, whole) {
				if k, l, _ := figuresOf(members[row[0]+row[1]]); k >= s.K && l >= s.L {
					want = append(want, row)
				}
			}
			if len(want)+len(rows) > 0 && !cmp.Equal(want, rows) {
				rt.Fatalf("left %v, want %v", rows, want)
			}
		}
		if back := float64(r.Suppressed); back > 0 {
			share := back / float64(int64(len(records))-r.Filtered)
			tight := *s
			tight.Limit = share * 0.999
			plan.Suppress = &tight
			if _, out, err := run(plan); sallyport.KindOf(err) != sallyport.Invalid || len(out) > 0 {
				rt.Fatalf("over the limit: %v, %q", err, out)
			}
			tight.Limit = share
			if _, _, err := run(plan); err != nil {
				rt.Fatalf("at the limit: %v", err)
			}
		}
	})
}

func TestSuppressionIsChecked(t *testing.T) {
	for _, s := range []anonymize.Suppression{{K: -1, Limit: 1}, {L: -1, Limit: 1}, {T: -1, Limit: 1}, {T: math.NaN(), Limit: 1}, {K: 2, Limit: -1}, {K: 2, Limit: 2}, {K: 2, Limit: math.NaN()}} {
		plan := small()
		plan.Suppress = &s
		if err := runner().Check(plan, anonymize.PassEnv{}); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// One hand or many, one census or spilled runs: the same.
func TestEveryWayMeasuresTheSame(t *testing.T) {
	data := patients(2 << 20)
	plan := patientPlan()
	plan.Obligations[2] = sallyport.Obligation{Column: "birth_date", Verb: "drop"}
	plan.Obligations[6].Args = map[string]any{"length": 2}
	plan.Suppress = &anonymize.Suppression{K: 3, L: 2, T: 0.87, Limit: 1}
	plan.Earlier = []anonymize.Earlier{{Job: "one", Obligations: []sallyport.Obligation{{Column: "sex"}, {Column: "zip"}}},
		{Job: "two", Obligations: []sallyport.Obligation{{Column: "birth_date", Verb: "date", Args: map[string]any{"to": "month"}}}, Rows: []sallyport.RowFilter{{Column: "sex", In: []string{"F"}}}}}
	var want anonymize.Report
	var wantOut []byte
	for i, c := range []struct {
		processors int
		limit      int64
		spill      bool
	}{{1, 0, false}, {2, 0, false}, {5, 0, false}, {2, 4 << 20, true}} {
		env := testEnv()
		env.Contribution, env.Diversity, env.CensusLimit = true, true, c.limit
		if c.spill {
			env.SpillDir = t.TempDir()
		}
		var out bytes.Buffer
		r, err := func() (anonymize.Report, error) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.processors))
			return runner().Run(t.Context(), plan, env, &out, bytes.NewReader(data))
		}()
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if i == 0 {
			want, wantOut = r, out.Bytes()
			if r.Suppressed == 0 || r.After.Records == 0 || len(r.Contribution) != 3 || r.After.Diversity == nil || !r.Combined.Exact {
				t.Fatalf("the plan is no test: %+v", r)
			}
			continue
		}
		if !bytes.Equal(out.Bytes(), wantOut) {
			t.Errorf("%+v: other output", c)
		}
		if d := cmp.Diff(want, r); d != "" {
			t.Errorf("%+v: -want +got:\n%s", c, d)
		}
	}
}

// release is what the brute force knows of one release.
type release struct {
	prefix map[string]int // counted column → characters that leave; -1: all
	wards  []string       // nil: all
}

func (r release) obligations() (out []sallyport.Obligation) {
	for _, name := range []string{"town", "job"} {
		if n, ok := r.prefix[name]; ok && n < 0 {
			out = append(out, sallyport.Obligation{Column: name})
		} else if ok {
			out = append(out, sallyport.Obligation{Column: name, Verb: "prefix", Args: map[string]any{"length": n}})
		}
	}
	return append(out, sallyport.Obligation{Column: "ill"})
}

func (r release) rows() []sallyport.RowFilter {
	if r.wards == nil {
		return nil
	}
	return []sallyport.RowFilter{{Column: "ward", In: r.wards}}
}

func (r release) has(record []string) bool {
	return r.wards == nil || slices.Contains(r.wards, record[2])
}

// What all releases together say is what a brute force over whole tables finds:
// two people are in one class if they are in the same releases, and each of
// these says the same of both.
func TestCombinedIsBruteForce(t *testing.T) {
	anyRelease := rapid.Custom(func(t *rapid.T) release {
		r := release{prefix: map[string]int{}}
		for _, name := range []string{"town", "job"} {
			if n := rapid.SampledFrom([]int{-2, -1, 1}).Draw(t, name); n > -2 {
				r.prefix[name] = n
			}
		}
		r.wards = rapid.SampledFrom([][]string{nil, {"n"}, {"n", "s"}, {"s", "e"}, {}}).Draw(t, "wards")
		return r
	})
	rapid.Check(t, func(rt *rapid.T) {
		records := generated(rt, 40)
		releases := rapid.SliceOfN(anyRelease, 2, 4).Draw(rt, "releases")
		plan := anonymize.Plan{Format: "csv", Columns: generatedColumns, Obligations: releases[0].obligations(), Rows: releases[0].rows()}
		for i, r := range releases[1:] {
			plan.Earlier = append(plan.Earlier, anonymize.Earlier{Job: sallyport.JobID(fmt.Sprint("j", i)), Obligations: r.obligations(), Rows: r.rows()})
		}
		suppressed := rapid.Bool().Draw(rt, "suppress")
		if suppressed {
			plan.Suppress = &anonymize.Suppression{K: 2, Limit: 1}
		}
		says := func(r release, record []string) string {
			said := ""
			for i, name := range []string{"town", "job"} {
				if n, ok := r.prefix[name]; ok {
					v := record[i]
					if n >= 0 && len(v) > n {
						v = v[:n]
					}
					said += fmt.Sprintf("%q", v)
				}
			}
			return said
		}
		now := map[string]int{}
		for _, record := range records {
			if releases[0].has(record) {
				now[says(releases[0], record)]++
			}
		}
		classes := map[string]int64{}
		for _, record := range records {
			key, any := "", false
			for i, r := range releases {
				in := r.has(record)
				if i == 0 && suppressed && now[says(r, record)] < 2 {
					in = false
				}
				any = any || in
				if in {
					key += says(r, record)
				} else {
					key += "-"
				}
				key += "\n"
			}
			if any {
				classes[key]++
			}
		}
		want := sallyport.Risk{Classes: int64(len(classes)), Exact: true}
		var unique int64
		for _, n := range classes {
			want.Records += n
			if n == 1 {
				unique++
			}
			if want.SmallestClass == 0 || n < want.SmallestClass {
				want.SmallestClass = n
			}
		}
		if want.Records > 0 {
			want.Unique, want.Highest = float64(unique)/float64(want.Records), 1/float64(want.SmallestClass)
			want.Average = float64(want.Classes) / float64(want.Records)
		}
		r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, bytes.NewReader(tableOf(records)))
		if err != nil {
			rt.Fatal(err)
		}
		got := *r.Combined
		got.Quasi = nil
		if d := cmp.Diff(want, got); d != "" {
			rt.Fatalf("%v\n-brute force +pass:\n%s", releases, d)
		}
	})
}

// Two releases of which each is safe: the second leaves one person out.
func TestDifferencingIsSeen(t *testing.T) {
	file := "town,job,ward,ill\na,x,n,p\na,x,n,q\na,x,n,r\na,x,s,p\n"
	plan := anonymize.Plan{Format: "csv", Columns: generatedColumns, Rows: []sallyport.RowFilter{{Column: "ward", In: []string{"n"}}},
		Obligations: []sallyport.Obligation{{Column: "town"}, {Column: "job"}, {Column: "ill"}}}
	run := func() anonymize.Report {
		r, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := run(); r.After.SmallestClass != 3 || r.Combined != nil {
		t.Errorf("alone: %+v, %+v", r.After, r.Combined)
	}
	plan.Earlier = []anonymize.Earlier{{Job: "before", Obligations: plan.Obligations}}
	r := run()
	if c := r.Combined; c == nil || c.SmallestClass != 1 || c.Records != 4 || !c.Exact || !slices.Equal(c.Quasi, []string{"town", "job"}) || r.After.SmallestClass != 3 {
		t.Errorf("with the earlier release: %+v", r.Combined)
	}
	// What cannot be made again cannot be measured, and is not called exact.
	for _, e := range []anonymize.Earlier{
		{Obligations: []sallyport.Obligation{{Column: "gone"}}},
		{Obligations: []sallyport.Obligation{{Column: "town", Verb: "shred"}}},
		{Obligations: plan.Obligations, Rows: []sallyport.RowFilter{{Column: "gone"}}},
	} {
		plan.Earlier = []anonymize.Earlier{e}
		if r := run(); r.Combined.Exact {
			t.Errorf("%+v: %+v", e, r.Combined)
		}
	}
	// A value that an earlier release's verb refuses does not end the pass.
	plan.Earlier = []anonymize.Earlier{{Obligations: []sallyport.Obligation{{Column: "town", Verb: "generalize", Args: map[string]any{"width": 10}}}}}
	if r := run(); r.Combined.Records != 4 || r.Combined.Classes != 2 {
		t.Errorf("%+v", r.Combined)
	}
}

func TestUndeclaredColumnsAreFlagged(t *testing.T) {
	var b strings.Builder
	b.WriteString("town,job,ward,ill\n")
	for i := range 6000 {
		fmt.Fprintf(&b, "a,x,%d,%d\n", i, i%2)
	}
	plan := anonymize.Plan{Format: "csv", Columns: generatedColumns,
		Obligations: []sallyport.Obligation{{Column: "town"}, {Column: "job"}, {Column: "ward"}, {Column: "ill"}}}
	run := func(file string) anonymize.Report {
		r, err := runner().Run(t.Context(), plan, testEnv(), io.Discard, strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	u := run(b.String()).Undeclared
	if len(u) != 1 || u[0].Column != "ward" || !u[0].Estimated || math.Abs(u[0].Unique-1) > 5*1.2/math.Sqrt(4096) {
		t.Errorf("%+v", u)
	}
	file := b.String()[:strings.Index(b.String(), "a,x,1000,")]
	if u := run(file).Undeclared; !cmp.Equal(u, []anonymize.Undeclared{{Column: "ward", Unique: 1}}) {
		t.Errorf("%+v", u)
	}
	plan.Obligations[2] = sallyport.Obligation{Column: "ward", Verb: "pseudonym"}
	if u := run(file).Undeclared; len(u) != 0 {
		t.Errorf("a keyed pseudonym: %+v", u)
	}
}
