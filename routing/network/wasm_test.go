package network_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/node"
)

// useWasm gives the lab a real module.
func (l *lab) useWasm() {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "upper.wasm")
	build := exec.CommandContext(l.t.Context(), "go", "build", "-trimpath", "-o", path, "./testdata/upper")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	var err error
	if l.wasm, err = os.ReadFile(path); err != nil {
		l.t.Fatal(err)
	}
}

// TestWasm runs a real module in the real sandbox, on a megabyte.
func TestWasm(t *testing.T) {
	l := newLab(t)
	l.useWasm()
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

// TestProcessIsKilled runs sallyport-node as a process, kills it while its
// module runs, and starts it again without a token.
func TestProcessIsKilled(t *testing.T) {
	l := newLab(t)
	l.useWasm()
	token, err := l.net.Token(t.Context(), "op", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	launch := func(args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"run", "--dir", dir, "--memory", "512"}, args...)...)
		cmd.Env = append(os.Environ(), envNode+"=1")
		cmd.Stdout, cmd.Stderr = io.Discard, &testWriter{t: t, who: "process"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	cmd := launch("--token", token, "--name", "n1")
	n := l.seen("op-n1")
	f := &far{t: t, cfg: node.Config{Dir: dir}}
	a := l.assignment("j1-1-op-n1", n, strings.Repeat("a row of a table\n", 1<<16))
	a.Task.MemoryMB, a.Task.Walltime = 256, 5*time.Minute
	run := l.start(a)
	eventually(t, "the module runs", func() bool { s, _ := f.count(a.ID); return s == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	cmd = launch()
	oc := l.done(run)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupted node ends with %v", err)
	}
	if oc.Failure != "" || oc.Claim != sallyport.DigestOf([]byte(l.result(oc))) || !strings.HasPrefix(l.result(oc), "A ROW OF") {
		t.Fatalf("outcome %+v", oc)
	}
	if s, e := f.count(a.ID); s > 2 || e != 1 {
		t.Fatalf("started %d times, finished %d", s, e)
	}
}
