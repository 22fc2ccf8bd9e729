package model

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/internal/testkit"
)

const pycanonScript = `
import json, sys
import pandas as pd
from pycanon import anonymity as a
d = pd.read_csv(sys.argv[1], dtype=str, keep_default_na=False)
q, s = list(d.columns[:-1]), list(d.columns[-1:])
print(json.dumps({"k": int(a.k_anonymity(d, q)), "l": int(a.l_diversity(d, q, s)),
  "entropy": float(a.entropy_l_diversity(d, q, s)), "t": float(a.t_closeness(d, q, s))}))
`

// What the search answers is measured by a program that is not ours.
func TestPycanonAgrees(t *testing.T) {
	python := testkit.Python(t, "pandas", "pycanon")
	table := adult(t, true)
	counts := table.SensitiveCounts(0)
	equal := NewEqualDistance(counts)
	for i, goal := range []Goal{
		{[]Criterion{KAnonymity{20}, DistinctDiversity{0, 5}}, 0, NewEntropyLoss(table, false)},
		{[]Criterion{EntropyDiversity{0, 6}}, 0, NewEntropyLoss(table, false)},
		{[]Criterion{Closeness{0, .3, equal}}, 0, NewEntropyLoss(table, false)},
	} {
		s, err := Search(t.Context(), table, goal)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "out.csv")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w := csv.NewWriter(f)
		row := make([]string, 0, 9)
		for i := range len(table.quasi) + 1 {
			row = append(row, fmt.Sprint("c", i))
		}
		_ = w.Write(row)
		for r := range table.Rows() {
			row = row[:0]
			for i, h := range table.quasi {
				row = append(row, h.Value(table.at(r, i), s.Levels[i]))
			}
			row = append(row, table.sensitive[0].Value(table.at(r, len(table.quasi)), 0))
			for range table.count[r] {
				_ = w.Write(row)
			}
		}
		w.Flush()
		if err := f.Close(); err != nil || w.Error() != nil {
			t.Fatal(err, w.Error())
		}
		out, err := exec.Command(python, "-c", pycanonScript, file).Output()
		if err != nil {
			t.Fatal(err)
		}
		var theirs struct {
			K, L       int64
			Entropy, T float64
		}
		if err := json.Unmarshal(out, &theirs); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		least, bits, away := int64(math.MaxInt64), math.Inf(1), 0.0
		table.Group(s.Levels).each(nil, func(_ int, c Class) {
			least = min(least, Distinct(c.Counts[0]))
			bits = min(bits, Entropy(c.Counts[0]))
			away = max(away, equal.Of(c.Counts[0]))
		})
		// pycanon rounds entropy l down to a whole number.
		if theirs.K != s.Smallest || theirs.L != least || theirs.Entropy != math.Floor(math.Exp2(bits)+1e-9) || math.Abs(theirs.T-away) > 1e-9 {
			t.Errorf("goal %d: pycanon %+v; ours k=%d l=%d entropy l=%v t=%v", i, theirs, s.Smallest, least, math.Exp2(bits), away)
		}
		t.Logf("goal %d: k=%d l=%d entropy l=%v t=%v, t off by %g", i, s.Smallest, least, math.Exp2(bits), away, theirs.T-away)
	}
}
