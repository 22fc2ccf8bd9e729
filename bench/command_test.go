package bench_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCommand builds the program and runs the commands that people run, small:
// every figure is there, in the shape that scripts read.
func TestCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("the program is not built with -short")
	}
	bin := filepath.Join(t.TempDir(), "sallyport.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "sallyport/cmd/sallyport")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"passage": {[]string{"--quick", "--size=1", "--big=2", "--runs=1"}, []string{
			"pass, sealed into the hold", "pass, not sealed, to memory", "peak memory at 2 MB, few raw classes",
			"step admit", "step hold", "step release", "step place", "step hand over", "step run", "step verify", "step keep", "whole job",
		}},
		"seal": {[]string{"--size=1", "--reads=10", "--keys=2", "--runs=2"}, []string{
			"seal, hybrid, on 1 core", "open, X25519, on 1 core", "random reads of 64 KiB, hybrid",
			"key issue, key file issuer", "key fetch, key file issuer", "key wrap to a node, key file issuer", "key destroy, key file issuer",
		}},
		"s3": {[]string{"--quick", "--size=1", "--small=2", "--streams=2", "--runs=2"}, []string{
			"raw view made", "masked view made", "masked view, first read in full", "GET of 1 MB through the door, a raw view", "GET of 1 MB through the door, a masked view", "GET of 4 KiB through the door, p50",
			"PUT of 1 MB into scratch", "PUT of 4 KiB into scratch, p50", "memory a stream, the door",
		}},
		"tables": {[]string{"--quick", "--size=1", "--big=2", "--census=20000", "--runs=1", "--python=none"}, []string{
			"CSV, the pass", "CSV, the pass, sealed", "CSV, gzip, the pass", "CSV, zstd, the pass", "JSON Lines, the pass", "Parquet, zstd, the pass",
			"census in memory", "matcher of identifiers", "peak memory at 2 MB, few raw classes", "peak memory, Parquet, zstd, 1 MB as CSV",
		}},
		"audit": {[]string{"--quick", "--records=3000", "--burst=20ms", "--ask=3", "--runs=2"}, []string{
			"fdatasync", "append, 1 writer", "append, 256 writers, p99", "filling a log, 64 writers", "search by person, p99", "search by text, p50", "search without a condition, p99",
			"proof of a record, made", "bytes a record, log", "bytes a record, keys", "bytes a record, search index", "restart, until it takes records", "verify, with keys", "verify, without keys",
		}},
	} {
		t.Run(name, func(t *testing.T) { testCommand(t, bin, name, c.args, c.want) })
	}
}

func testCommand(t *testing.T, bin, name string, args, wanted []string) {
	dir := t.TempDir()
	run := func(more ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin, slices.Concat([]string{"bench", name, "--dir", dir}, args, more)...)
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
	for _, want := range wanted {
		if !slices.Contains(names, want) {
			t.Errorf("no figure %q in %q", want, names)
		}
	}
	if text := string(run()); !strings.HasPrefix(text, "FIGURE") || !strings.Contains(text, "\n(1) ") {
		t.Errorf("no table with notes:\n%s", text)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
