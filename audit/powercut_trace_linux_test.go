package audit

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// strace's names for what may change a file or make it safe.
const tracedCalls = "?open,openat,?creat,close,write,pwrite64,writev,pwritev,?pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,msync,lseek," +
	"?rename,?renameat,renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?symlink,symlinkat,?dup2,dup,dup3,copy_file_range,sendfile,splice"

// call is one system call of the trace; it enters and returns, and others may
// do so in between.
type call struct {
	name   string
	args   string
	result string
	undo   func()
	finish func() // when it returns well
}

// tracer plays a trace into a disk.
type tracer struct {
	disk *disk
	open map[string]*openFileOf // by descriptor
	said func(line string)
}

type openFileOf struct {
	node *node
	path string
	at   int64
}

func quoted(s string) (text, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, fmt.Errorf("no string: %.40s", s)
	}
	body, rest, ok := strings.Cut(s[1:], `"`)
	if !ok || strings.HasPrefix(rest, "...") {
		return "", s, fmt.Errorf("a string that is cut off: %.40s", s)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(body, `\x`, ""))
	return string(b), strings.TrimPrefix(rest, ", "), err
}

// enter plays the beginning of a call.
func (t *tracer) enter(c *call) error {
	inside := func(path string) bool { return path == t.disk.root || strings.HasPrefix(path, t.disk.root+"/") }
	arg, rest, _ := strings.Cut(c.args, ", ")
	// The *at calls: a folder, always AT_FDCWD here, then a path.
	path := func() (p string, err error) {
		p, rest, err = quoted(strings.TrimPrefix(rest, "AT_FDCWD, "))
		return p, err
	}
	f := t.open[arg]
	switch c.name {
	case "openat":
		p, err := path()
		if err != nil || !inside(p) {
			return err
		}
		created := strings.Contains(rest, "O_CREAT") && t.disk.nodes[p] == nil
		if strings.Contains(rest, "O_TRUNC") || strings.Contains(rest, "O_APPEND") {
			return errors.New("opened in a way that the model does not know")
		}
		var n *node
		var made *change
		if created {
			n = &node{}
			made = t.disk.name(n, "", p)
			c.undo = func() { t.disk.undo(made) }
		}
		c.finish = func() {
			if created {
				made.done = true
			}
			if n = cmp.Or(n, t.disk.nodes[p]); n != nil {
				t.open[c.result] = &openFileOf{node: n, path: p}
			}
		}
	case "close":
		delete(t.open, arg)
	case "write", "pwrite64":
		data, rest, err := quoted(rest)
		if arg == "1" && err == nil {
			for line := range strings.Lines(data) {
				t.said(strings.TrimSuffix(line, "\n"))
			}
		}
		if f == nil || err != nil {
			if f == nil {
				return nil
			}
			return err
		}
		at := f.at
		if c.name == "pwrite64" {
			_, off, _ := strings.Cut(rest, ", ")
			if at, err = strconv.ParseInt(off, 10, 64); err != nil {
				return err
			}
		} else {
			f.at += int64(len(data))
		}
		w := &change{data: []byte(data), at: at, node: f.node}
		f.node.pending = append(f.node.pending, w)
		c.undo = func() { f.node.pending = slices.DeleteFunc(f.node.pending, func(c *change) bool { return c == w }) }
		c.finish = func() {
			w.done = true
			if c.result != strconv.Itoa(len(data)) {
				panic("a write fell short: " + c.result)
			}
		}
	case "ftruncate":
		if f == nil {
			return nil
		}
		size, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return err
		}
		w := &change{size: size, node: f.node}
		f.node.pending = append(f.node.pending, w)
		c.finish = func() { w.done = true }
	case "fsync", "fdatasync":
		if f != nil {
			c.finish = t.disk.sync(f.node, f.path)
		}
	case "mkdirat":
		p, err := path()
		if err != nil || !inside(p) || p == t.disk.root {
			return err
		}
		if t.disk.nodes[p] == nil {
			made := t.disk.name(&node{folder: true}, "", p)
			c.undo, c.finish = func() { t.disk.undo(made) }, func() { made.done = true }
		}
	case "unlinkat":
		p, err := path()
		if err != nil || !inside(p) {
			return err
		}
		if n := t.disk.nodes[p]; n != nil {
			made := t.disk.name(nil, p, "")
			c.undo = func() { t.disk.undo(made); t.disk.nodes[p] = n }
			c.finish = func() { made.done = true }
		}
	case "renameat", "renameat2", "linkat":
		from, err := path()
		if err != nil || !inside(from) {
			return err
		}
		to, err := path()
		n := t.disk.nodes[from]
		if err != nil || n == nil || !inside(to) {
			return fmt.Errorf("%s of %q to %q: %w", c.name, from, to, err)
		}
		if c.name == "linkat" {
			if t.disk.nodes[to] != nil { // it will fail
				return nil
			}
			from = ""
		}
		made := t.disk.name(n, from, to)
		c.undo = func() { panic(c.name + " failed") }
		c.finish = func() { made.done = true }
	case "lseek", "msync", "sync_file_range":
		if f != nil {
			return errors.New("a call that the model does not know")
		}
	default:
		if f != nil || strings.Contains(c.args, hexOf(t.disk.root)) {
			return errors.New("a call that the model does not know")
		}
	}
	return nil
}

func hexOf(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return b.String()
}

// undo takes back a change of names whose call failed.
func (d *disk) undo(c *change) {
	d.names = slices.DeleteFunc(d.names, func(x *change) bool { return x == c })
	if c.to != "" && d.nodes[c.to] == c.node {
		delete(d.nodes, c.to)
	}
}

// play plays a trace, and calls before each line.
func (t *tracer) play(trace io.Reader, before func(line int)) error {
	in := bufio.NewReaderSize(trace, 1<<20)
	pending := map[string]*call{} // by thread
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		thread, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = strings.TrimLeft(text, " ")
		if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
			continue
		}
		before(n)
		c := pending[thread]
		if rest, ok := strings.CutPrefix(text, "<... "); ok {
			if c == nil {
				return fmt.Errorf("line %d: resumed, never begun", n)
			}
			_, text, _ = strings.Cut(rest, " resumed>")
		} else {
			name, args, ok := strings.Cut(text, "(")
			if !ok {
				return fmt.Errorf("line %d: %.80s", n, text)
			}
			c = &call{name: name}
			begun, unfinished := strings.CutSuffix(args, " <unfinished ...>")
			// The last ") = " ends the arguments: none of them has one, since
			// strings are in hexadecimal.
			i := strings.LastIndex(args, ") ")
			if unfinished {
				c.args = strings.TrimSuffix(begun, ",")
			} else if i >= 0 {
				c.args = args[:i]
			} else {
				return fmt.Errorf("line %d: %.80s", n, text)
			}
			if err := t.enter(c); err != nil {
				return fmt.Errorf("line %d: %s: %w", n, name, err)
			}
			if unfinished {
				pending[thread] = c
				continue
			}
			text = args[i:]
		}
		delete(pending, thread)
		_, result, ok := strings.Cut(text, "= ")
		if !ok {
			return fmt.Errorf("line %d: no result: %.80s", n, text)
		}
		c.result, _, _ = strings.Cut(result, " ")
		if strings.HasPrefix(c.result, "-") || c.result == "?" {
			if c.undo != nil && c.result != "?" {
				c.undo()
			}
		} else if c.finish != nil {
			c.finish()
		}
	}
}

// traceForPowerCut has the process write, on a disk that holds files, and
// returns the trace.
func traceForPowerCut(t *testing.T, files map[string][]byte, env ...string) (root string, trace []byte) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is not installed")
		}
		t.Skip("needs strace (Debian package strace)")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root = filepath.Join(dir, "disk")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	writeState(t, files, root)
	out := filepath.Join(dir, "trace")
	// strace refuses where a sandbox forbids ptrace.
	if b, err := exec.Command(strace, "-f", "-o", os.DevNull, "-e", "trace=fsync", "true").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("strace: %v: %s", err, b)
		}
		t.Skipf("strace may not trace here: %s", b)
	}
	cmd := exec.Command(strace, "-f", "-o", out, "-xx", "-s", strconv.Itoa(1<<24), "-e", "signal=none", "-e", "trace="+tracedCalls, self)
	cmd.Env = append(append(os.Environ(), "AUDIT_TEST_CHILD=power", "AUDIT_TEST_LOG="+filepath.Join(root, "audit.db")), env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if trace, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	return root, trace
}
