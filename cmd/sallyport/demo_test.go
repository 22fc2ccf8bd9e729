package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/gateway"
)

// adult is the UCI Adult census (30,162 rows), which is not part of the project.
func adult(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../shared/data/adult/adult.csv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the Adult census is absent: %v", err)
		}
		t.Skip("needs the Adult census at ../shared/data/adult/adult.csv")
	}
	return path
}

// TestDemoOnRealData takes a real census through both doors.
func TestDemoOnRealData(t *testing.T) {
	p := exec.CommandContext(t.Context(), os.Args[0], "demo", "--json", "--data", adult(t))
	p.Env = append(os.Environ(), "SALLYPORT_TEST_RUN=1")
	p.Stderr = os.Stderr
	out, err := p.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r demoReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if !r.AllRight || !r.Audit.Whole || len(r.Jobs) != 1 || r.Jobs[0].State != gateway.Done {
		t.Errorf("%s", out)
	}
	var allowed int
	for _, rec := range r.Records {
		if rec.Entry.Step == "release" && rec.Entry.Decision == "allow" {
			allowed++
		}
	}
	if allowed != 1 {
		t.Errorf("door 2 allowed %d times", allowed)
	}
	if rows := featureRows(r.Results["burst"]); len(rows) == 0 {
		t.Error("no features came back")
	}
}
