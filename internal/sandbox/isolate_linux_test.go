package sandbox

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A killed parent takes its child with it. The pidfd becomes readable when the
// child has ended, so nothing is polled.
func TestChildDiesWithItsParent(t *testing.T) {
	s, _ := spec(t, "wasm")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(exe)
	parent.Env = append(os.Environ(), envParent+"="+s.Path)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { parent.Process.Kill(); parent.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err == nil && !strings.HasPrefix(line, "spinning") {
		t.Fatalf("%q, %v", line, err)
	}
	pid := onlyChild(t, parent.Process.Pid)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skipf("no pidfd on this kernel: %v", err)
	}
	defer unix.Close(fd)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(poll, 0); n != 0 {
		t.Fatal("the child ended by itself")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child outlived its parent")
		}
		return
	}
}

// onlyChild finds the sandbox child of a process.
func onlyChild(t *testing.T, parent int) int {
	t.Helper()
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		rest := b[bytes.LastIndexByte(b, ')')+1:] // after the name: state, parent
		if f := strings.Fields(string(rest)); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	t.Fatal("the parent has no child")
	return 0
}

func TestIsolation(t *testing.T) {
	got := Isolation()
	t.Log(got)
	if got == "unknown" {
		t.Fatal("a child could not be started in any way")
	}
	if os.Geteuid() == 0 && !probe(0) {
		t.Fatal("a plain child could not be started")
	}
}

// The levels are really tried one after the other.
func TestRefusedNamespacesFallBack(t *testing.T) {
	impossible := uintptr(syscall.CLONE_NEWUSER | syscall.CLONE_FS) // the kernel refuses the pair
	p, err := startChild(order{Runner: "probe"}, nil, []uintptr{impossible, 0})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if rep, err := listen(p.status); err != nil || !rep.Done {
		t.Fatalf("%+v, %v", rep, err)
	}
	p.wait()
}
