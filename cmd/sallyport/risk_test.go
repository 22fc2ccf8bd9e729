package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/anonymize/risk"
)

// A table with more classes than fit in the least memory is counted exactly,
// with every option, and nothing is left of what was spilled.
func TestRiskSpills(t *testing.T) {
	if testing.Short() {
		t.Skip("a table of a million classes")
	}
	const rows, pairs = 1_000_000, 200_000 // as many classes of two records, the rest of one
	dir, spill := t.TempDir(), t.TempDir()
	write := func(name string, times int) string {
		file := filepath.Join(dir, name)
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := bufio.NewWriter(f)
		fmt.Fprintln(w, "a,b,s")
		for range times {
			for i := range rows {
				k := i % (rows - pairs)
				fmt.Fprintf(w, "%d,%d,%d\n", k/1000, k%1000, i%3)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return file
	}
	table, people := write("table.csv", 1), write("people.csv", 2)
	var out, errs bytes.Buffer
	if code := run([]string{"risk", table, "--quasi", "a,b", "--sensitive", "s", "--contribution", "--population", people,
		"--memory", "64MiB", "--spill", spill, "--json"}, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatal(code, errs.String())
	}
	var m measured
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	const classes = rows - pairs
	if m.Records != rows || m.Classes != classes || m.SmallestClass != 1 || m.UniqueShare != float64(classes-pairs)/rows ||
		m.Prosecutor != (risk.Attacker{Highest: 1, Average: float64(classes) / rows, ShareAbove: 1}) ||
		m.Marketer.Highest != 0.5 || math.Abs(m.Marketer.Average-float64(classes)/rows/2) > 1e-12 {
		t.Errorf("%+v", m.Report)
	}
	if p := m.Population; p.Records != 2*rows || p.Missing != 0 || p.Estimated {
		t.Errorf("%+v", p)
	}
	if s := m.Sensitive; s.Values != 3 || s.Distinct != 1 || s.Entropy != 1 || math.Abs(s.Closeness-2./3) > 1e-5 {
		t.Errorf("%+v", s)
	}
	for i, n := range []int64{1000, 800} { // without a: the values of b
		if got := m.Contribution[i].Classes; got != classes-n {
			t.Errorf("column %d adds %d classes, want %d", i, got, classes-n)
		}
	}
	if left, err := os.ReadDir(spill); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{"512MiB": 512 << 20, "2 GiB": 2 << 30, "64KiB": 64 << 10, "3GB": 3e9, "1TiB": 1 << 40,
		"": -1, "512": -1, "MiB": -1, "-1MiB": -1, "1.5GiB": -1, "9999999999TiB": -1, "5 apples": -1} {
		var b byteSize
		if err := b.UnmarshalText([]byte(text)); (err != nil) != (want < 0) || err == nil && int64(b) != want {
			t.Errorf("%q: %d %v", text, b, err)
		}
	}
}

// What is written to no terminal is whole lines, and few of them.
func TestRiskProgress(t *testing.T) {
	var out strings.Builder
	clock := time.Unix(0, 0)
	p := newRiskProgress(&out, func() time.Time { return clock })
	src := &countedFile{size: 4e6}
	p.begin("x.csv", src)
	for range 70 {
		clock = clock.Add(time.Second)
		src.read.Add(50_000)
		p.at(src.read.Load() / 10)
	}
	p.wipe()
	if want := "x.csv: 150000 records, 2 of 4 MB (37 %)\nx.csv: 300000 records, 3 of 4 MB (75 %)\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestRiskRefusesAnInterruptedCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.csv")
	if err := os.WriteFile(file, []byte("a\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &riskTable{quasi: []string{"a"}, hash: risk.NewHasher(), progress: newRiskProgress(&bytes.Buffer{}, time.Now)}
	r.census = risk.NewCensus(risk.Options{Memory: risk.NewMemory(1)}) // and no folder
	if err := errors.Join(r.read(t.Context(), file), r.close()); err == nil {
		t.Error("a count without memory ends well")
	}
}
