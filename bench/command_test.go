package bench_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCommand builds the program and runs the command that people run, small:
// every figure of the passage is there, in the shape that scripts read.
func TestCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("the program is not built with -short")
	}
	bin := filepath.Join(t.TempDir(), "sallyport.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "sallyport/cmd/sallyport")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"bench", "passage", "--quick", "--size=1", "--big=2", "--runs=1", "--dir", dir}, args...)...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		return out
	}
	var figures []map[string]any
	out := run("--json")
	if err := json.Unmarshal(out, &figures); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keys := []string{"figure", "value", "unit", "peer", "peer_value", "ratio", "note"}
	var names []string
	for _, f := range figures {
		for k := range f {
			if !slices.Contains(keys, k) {
				t.Errorf("unknown key %q in %v", k, f)
			}
		}
		name, _ := f["figure"].(string)
		if v, ok := f["value"].(float64); !ok || v < 0 || name == "" {
			t.Errorf("%v", f)
		}
		_, ratio := f["ratio"].(float64)
		if _, peer := f["peer"].(string); peer != ratio {
			t.Errorf("a peer and a ratio come together: %v", f)
		}
		names = append(names, name)
	}
	for _, want := range []string{
		"pass, sealed into the hold", "pass, not sealed, to memory", "peak memory at 2 MB, few raw classes",
		"step admit", "step hold", "step release", "step place", "step hand over", "step run", "step verify", "step keep", "whole job",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no figure %q in %q", want, names)
		}
	}
	if text := string(run()); !strings.HasPrefix(text, "FIGURE") || !strings.Contains(text, "\n(1) ") {
		t.Errorf("no table with notes:\n%s", text)
	}
}
