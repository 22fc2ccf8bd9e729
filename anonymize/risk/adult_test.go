package risk_test

import (
	"encoding/csv"
	"maps"
	"math"
	"os"
	"strings"
	"testing"

	"sallyport/anonymize/risk"
)

// adultFile is the UCI Adult census, outside the repository.
const adultFile = "../../../shared/data/adult/adult.csv"

func adultSizes(t *testing.T) []risk.Size {
	t.Helper()
	f, err := os.Open(adultFile)
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatal("data/adult is absent, and CI needs it")
		}
		t.Skip("data/adult is absent: known answers of ARX not checked")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = ';'
	lines, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]int64{}
	for _, line := range lines[1:] {
		classes[strings.Join(line, "\x00")]++
	}
	return risk.Sizes(maps.Values(classes))
}

// The figures are those that ARX's TestRiskMetrics pins; it compares
// population uniqueness to four digits.
func TestAdultRiskEqualsARX(t *testing.T) {
	sizes := adultSizes(t)
	r, err := risk.Measure(sizes, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	if r.Records != 30162 || r.Classes != 19502 || r.SmallestClass != 1 || r.UniqueShare != 0.5142895033485844 ||
		r.Prosecutor.Highest != 1 || r.Prosecutor.Average != 0.6465751607983555 || r.Marketer.Average != 0.6465751607983555 {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		fraction float64
		model    string
		want     float64
	}{
		{0.01, "", 0.1446083531167384},
		{0.1, "pitman", 0.27684993883653597},
		{0.1, "zayatz", 0.3207402393466189},
		{0.2, "", 0.3577099234829125},
		{1, "", 0.5142895033485844},
	} {
		u, err := risk.Unique(sizes, c.fraction)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{"": u.Chosen, "pitman": u.Pitman, "zayatz": u.Zayatz}[c.model]
		t.Logf("fraction %g %s: off by %g (%+v)", c.fraction, c.model, got-c.want, u)
		if math.Abs(got-c.want) > 1e-4 {
			t.Errorf("fraction %g %s: %v, want %v", c.fraction, c.model, got, c.want)
		}
	}
}
