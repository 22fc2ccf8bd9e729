package network_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/node"
)

// TestWasm runs a real module in the real sandbox, on a megabyte.
func TestWasm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upper.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./testdata/upper")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := newLab(t)
	var err error
	if l.wasm, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	f, n := l.node("n1", func(c *node.Config) { c.Run = nil })
	input := strings.Repeat("a row of a table\n", 1<<16)
	a := l.assignment("j1-1-op-n1", n, input)
	a.Task.MemoryMB, a.Task.Walltime = 256, 5*time.Minute
	oc := l.done(l.start(a))
	if oc.Failure != "" || oc.Exit != 0 || l.result(oc) != strings.ToUpper(input) || oc.Claim != claim(strings.ToUpper(input)) || oc.Seconds <= 0 {
		t.Fatalf("outcome %+v", oc)
	}
	if s, e := f.count(a.ID); s != 1 || e != 1 {
		t.Fatalf("started %d times, finished %d", s, e)
	}
}
