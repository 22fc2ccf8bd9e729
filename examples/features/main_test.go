package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func features(t *testing.T, in string, args ...string) map[string]string {
	t.Helper()
	var out strings.Builder
	if err := run(args, strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil || !reflect.DeepEqual(rows[0], []string{"feature", "column", "group", "value"}) {
		t.Fatalf("%v, %v", rows, err)
	}
	m := map[string]string{}
	for _, r := range rows[1:] {
		k := strings.TrimRight(r[0]+" "+r[1]+" "+r[2], " ")
		if _, twice := m[k]; twice {
			t.Fatalf("%s comes twice", k)
		}
		m[k] = r[3]
	}
	return m
}

const small = "\xef\xbb\xbf" + `sex,age,born,seen,bmi,note
F,"[30,40)",1984,1999-12,20.5,"a, ""b"""
M,"[20,30)",1990,2000-01,22.25,c
F,"[100,inf)",1984,2000-01,,d
M,"[40,50)",1971,1999-02,25,c
`

func TestSmallTable(t *testing.T) {
	got := features(t, small)
	for k, want := range map[string]string{
		"records": "4", "columns": "6",
		"kind sex": "category", "share sex sex=F": "0.5000",
		"kind age": "ordered", "median age": "[30,40)", "share age age=[100,inf)": "0.2500",
		"kind born": "ordered", "median born": "1984",
		"kind seen": "ordered", "median seen": "1999-12",
		// 20.5, 22.25, 25: mean 22.58333…, sample sd 2.268443…
		"kind bmi": "numeric", "filled bmi": "3", "empty bmi": "1", "mean bmi": "22.5833", "sd bmi": "2.26844",
		"min bmi": "20.5", "quartile_1 bmi": "20.5", "median bmi": "22.25", "quartile_3 bmi": "25", "max bmi": "25",
		`share note note=a, "b"`: "0.2500", "share note note=c": "0.5000",
		"group_records sex sex=F": "2", "group_mean bmi sex=F": "20.5", "group_values bmi sex=F": "1", "group_mean bmi sex=M": "23.625",
	} {
		if got[k] != want {
			t.Errorf("%s = %q, want %q", k, got[k], want)
		}
	}
}

func TestGroupByName(t *testing.T) {
	got := features(t, small, "--group", "born")
	if got["group_mean bmi born=1990"] != "22.25" || got["group_records born born=1984"] != "2" || got["group_records sex sex=F"] != "" {
		t.Fatalf("%v", got)
	}
}

func TestBounds(t *testing.T) {
	var in strings.Builder
	in.WriteString("id,group,x,odd\n")
	for i := range 5000 {
		odd := "7"
		if i == 4999 {
			odd = "x"
		}
		fmt.Fprintf(&in, "p%d,g%02d,%d,%s\n", i, i%60, i, odd)
	}
	got := features(t, in.String(), "--group", "group")
	if got["kind id"] != "text" || got["distinct_at_least id"] != "1001" || got["kind odd"] != "category" {
		t.Errorf("%s, %s, %s", got["kind id"], got["distinct_at_least id"], got["kind odd"])
	}
	if got["group_records group group=g49"] == "" || got["group_records group group=g50"] != "" || got["group_records group other"] == "" {
		t.Error("not 50 groups and the rest")
	}
	if got["group_mean odd group=g00"] != "" {
		t.Error("a mean of a column that is not numeric")
	}
	if len(got) > 300 {
		t.Errorf("%d rows", len(got))
	}
}

func TestBadInput(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "empty",
		"a,b\n1\n":                               "line 2: 1 fields, but the header has 2",
		"a,b\n1,2\n\"x\ny\",2,3":                 "line 3: 3 fields",
		"a\n\"x":                                 "line 2: a quote is not closed",
		"a\n\"x\"y\n":                            "line 2: text after a closing quote",
		"a\nx\"y\n":                              "line 2: a quote in an unquoted field",
		"a\n" + strings.Repeat("x", maxRecord+2): "longer than 1 MiB",
		strings.Repeat(",", maxColumns):          "more than 4096 columns",
	} {
		if err := run(nil, strings.NewReader(in), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", in, err)
		}
	}
	for _, args := range [][]string{{"--group"}, {"--lie"}, {"--group", "absent"}} {
		if err := run(args, strings.NewReader("a\n1\n"), io.Discard); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	broken := errors.New("broken")
	if err := run(nil, io.MultiReader(strings.NewReader("a\n1\n"), failing{broken}), io.Discard); !errors.Is(err, broken) {
		t.Errorf("a torn input: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestRank(t *testing.T) {
	order := []string{"(-inf,10)", "[10,20)", "[20, 30)", "1984", "1984-02", "1984-11", "1985", "(3000,)"}
	for i, v := range order {
		x, ok := rank(v)
		if !ok {
			t.Errorf("%s has no place", v)
		}
		if i > 0 {
			if before, _ := rank(order[i-1]); before >= x {
				t.Errorf("%s is not before %s", order[i-1], v)
			}
		}
	}
	for _, v := range []string{"", "12", "1700", "198x", "1984-13", "[1;2)", "[a,2)", "[1,b)", "1,2", "[", "()"} {
		if _, ok := rank(v); ok {
			t.Errorf("%q has a place", v)
		}
	}
}

func TestParse(t *testing.T) {
	for _, v := range []string{"", "NaN", "inf", "0x10", "1_000", "1e999", "1,5", "e", "-"} {
		if _, ok := parse(v); ok {
			t.Errorf("%q is a number", v)
		}
	}
	if x, ok := parse("-0"); !ok || math.Signbit(x) {
		t.Error("minus zero stays")
	}
}

// Against sorting all the numbers.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20_000).Draw(t, "n")
		wide := rapid.Float64Range(0, 300).Draw(t, "exponents")
		rng := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		xs := make([]float64, n)
		for i := range xs {
			xs[i] = (rng.Float64() - 0.3) * math.Pow(10, (rng.Float64()-0.5)*wide)
		}
		a, b := newSketch(), newSketch()
		for i := range xs {
			a.add(xs[i])
			b.add(xs[n-1-i])
		}
		if len(a.exact) > maxExact+1 || len(a.cells) > maxCells {
			t.Fatalf("%d and %d kept", len(a.exact), len(a.cells))
		}
		slices.Sort(xs)
		for part := range int64(5) {
			got := a.quantile(part, 4)
			if got != b.quantile(part, 4) {
				t.Fatal("the order of the numbers matters")
			}
			want := xs[max(1, (int64(n)*part+3)/4)-1]
			tolerance := 0.0
			if a.exact == nil {
				tolerance = math.Abs(want) / 256 * math.Pow(2, float64(a.cut-firstCut))
			}
			if math.Abs(got-want) > tolerance {
				t.Fatalf("quantile %d/4 of %d numbers: %g, want %g", part, n, got, want)
			}
		}
	})
}

func TestMoments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 2, 200).Draw(t, "xs")
		var m moments
		var sum, squares float64
		for _, x := range xs {
			m.add(x)
			sum += x
		}
		mean := sum / float64(len(xs))
		for _, x := range xs {
			squares += (x - mean) * (x - mean)
		}
		sd := math.Sqrt(squares / float64(len(xs)-1))
		if math.Abs(m.mean-mean) > 1e-6 || math.Abs(m.sd()-sd) > 1e-6*(1+sd) || m.min != slices.Min(xs) || m.max != slices.Max(xs) {
			t.Fatalf("%+v, want %g and %g", m, mean, sd)
		}
	})
}

// What is written is the number.
func TestNumbersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64().Draw(t, "x")
		back, err := strconv.ParseFloat(exact(x), 64)
		if err != nil || back != x {
			t.Fatalf("%g is written as %s", x, exact(x))
		}
		if near, err := strconv.ParseFloat(number(x), 64); err != nil || math.Abs(near-x) > math.Abs(x)*5.1e-6 {
			t.Fatalf("%g is written as %s", x, number(x))
		}
	})
}

// Whatever we read, encoding/csv reads the same way.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "\"a\"\"b\",\"\n\"\r\n", "\n\n\"\"\n", "a\rb,c", "a,\"\"", "\"\r\n\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		std := csv.NewReader(strings.NewReader(strings.TrimPrefix(s, "\xef\xbb\xbf")))
		std.FieldsPerRecord = -1
		r := newReader(strings.NewReader(s))
		for {
			got, err := r.read()
			want, stdErr := std.Read()
			if err == io.EOF && stdErr == io.EOF {
				return
			}
			if err != nil || stdErr != nil {
				if (err == nil) != (stdErr == nil) && !strings.Contains(s, "\r") {
					t.Fatalf("we say %q, %v; encoding/csv says %q, %v", got, err, want, stdErr)
				}
				return
			}
			if !slices.Equal(got, want) && !strings.Contains(s, "\r") { // encoding/csv also changes line ends inside quotes
				t.Fatalf("we say %q, encoding/csv says %q", got, want)
			}
		}
	})
}
