package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAnonymizeKilled kills the real process while it works on a folder, by
// signal 9, as soon as some tables are done. What is there then is whole, and
// nothing else is; run again, it does them all.
func TestAnonymizeKilled(t *testing.T) {
	dir := t.TempDir()
	in, out, want := filepath.Join(dir, "in"), filepath.Join(dir, "out"), filepath.Join(dir, "want")
	const files = 24
	for i := range files {
		var b bytes.Buffer
		b.WriteString("id,age,sex\n")
		for n := range 40_000 {
			fmt.Fprintf(&b, "P%07d,%d,%c\n", n*files+i, 20+n%60, "FM"[n%2])
		}
		p := filepath.Join(in, fmt.Sprint(i%3), fmt.Sprintf("%02d.csv", i))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plan, key := filepath.Join(dir, "plan.yaml"), filepath.Join(dir, "key")
	if err := os.WriteFile(plan, []byte("version: 1\ncolumns:\n  id: {role: direct, do: {pseudonym: {}}}\n"+
		"  age: {role: quasi, do: {generalize: {width: 10}}}\n  sex: {role: quasi, do: keep}\nsuppress: {k: 5, limit: 0.1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newTableKey(key); err != nil {
		t.Fatal(err)
	}
	process := func(to string, more ...string) *exec.Cmd {
		p := exec.Command(os.Args[0], append([]string{"anonymize", in, to, "--plan", plan, "--key", key, "--jobs", "4"}, more...)...)
		p.Env = append(os.Environ(), "SALLYPORT_TEST_RUN=1")
		dieWithParent(p)
		return p
	}
	if b, err := process(want).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}

	p := process(out)
	lines, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(lines)
	for range 3 {
		if line, err := r.ReadString('\n'); err != nil || !strings.HasSuffix(line, " done\n") {
			t.Fatalf("it said %q, %v", line, err)
		}
	}
	if err := p.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r)
	_ = p.Wait()
	whole := compareTrees(t, want, out)
	if whole < 3 || whole >= files {
		t.Fatalf("%d of %d outputs: it was not killed in the middle", whole, files)
	}

	if b, err := process(out, "--force").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if n := compareTrees(t, want, out); n != files {
		t.Errorf("%d of %d outputs after the second run", n, files)
	}
	err = filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), tempPrefix) {
			t.Errorf("%s was left", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// compareTrees counts the files below got. Each must be in want too, and equal;
// only a temporary file may be besides, whose name says what it is.
func compareTrees(t *testing.T, want, got string) (n int) {
	t.Helper()
	err := filepath.WalkDir(got, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), tempPrefix) && strings.HasSuffix(d.Name(), tempSuffix) {
			return err
		}
		rel, err := filepath.Rel(got, p)
		if err != nil {
			return err
		}
		a, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(want, rel))
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not whole: %d bytes of %d", rel, len(a), len(b))
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others", rel)
		}
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
