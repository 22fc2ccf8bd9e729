package anonymize_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"sallyport"
	"sallyport/anonymize"
)

// adultDir is where the UCI Adult census and ARX's hierarchies lie, outside
// the repository (arx-deidentifier/arx, data/).
const adultDir = "../../shared/data/adult"

var adultColumns = []string{"sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation", "salary-class"}

func adult(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(adultDir, "adult.csv"))
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatal("data/adult is absent, and CI needs it")
		}
		t.Skip("data/adult is absent: known answers of ARX not checked")
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func adultPlan() anonymize.Plan {
	plan := anonymize.Plan{Dataset: "adult", Format: "csv"}
	for _, name := range adultColumns {
		plan.Columns = append(plan.Columns, sallyport.Column{Name: name, Role: sallyport.Quasi})
	}
	return plan
}

// The figures are those that ARX's TestRiskMetrics pins for this file
// (lowest and average risk, share of sample uniques).
func TestAdultRiskEqualsARX(t *testing.T) {
	data := adult(t)
	plan := adultPlan()
	for _, name := range adultColumns {
		plan.Obligations = append(plan.Obligations, sallyport.Obligation{Column: name})
	}
	report, err := runner().Run(t.Context(), plan, anonymize.PassEnv{}, io.Discard, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for when, r := range map[string]sallyport.Risk{"before": report.Before, "after": report.After} {
		if r.Records != 30162 || r.Classes != 19502 || r.SmallestClass != 1 || r.Highest != 1 ||
			r.Average != 0.6465751607983555 || r.Unique != 0.5142895033485844 || !r.Exact {
			t.Errorf("%s: %+v", when, r)
		}
	}
}

// The vectors are optimal solutions that ARX's tests pin for Adult, as levels
// of the hierarchies in column order; without suppression every class then
// has k records. Class counts were recomputed independently.
func TestAdultHierarchiesReachARXsClasses(t *testing.T) {
	data := adult(t)
	for _, c := range []struct {
		levels            []int
		classes, smallest int64
	}{
		{[]int{1, 2, 1, 1, 3, 2, 2, 1, 1}, 48, 5},
		{[]int{0, 4, 1, 1, 3, 2, 2, 1, 1}, 12, 397},
	} {
		plan := adultPlan()
		for i, name := range adultColumns {
			plan.Obligations = append(plan.Obligations, sallyport.Obligation{Column: name, Verb: "hierarchy",
				Args: map[string]any{"file": "adult_hierarchy_" + name + ".csv", "level": c.levels[i]}})
		}
		env := anonymize.PassEnv{Hierarchy: func(name string) (io.ReadCloser, error) {
			return os.Open(filepath.Join(adultDir, filepath.Base(name)))
		}}
		report, err := runner().Run(t.Context(), plan, env, io.Discard, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if r := report.After; r.Records != 30162 || r.Classes != c.classes || r.SmallestClass != c.smallest {
			t.Errorf("levels %v: %+v", c.levels, r)
		}
		if report.Before.Classes != 19502 {
			t.Errorf("levels %v: before %+v", c.levels, report.Before)
		}
	}
}
