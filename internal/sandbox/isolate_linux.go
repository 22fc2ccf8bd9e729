package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is the user that a child is inside its own user namespace.
const nobody = 65534

const namespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// levels are the ways to start a child, strongest first. A user namespace
// comes first even for root: it leaves the child without any capability over
// the machine.
func levels() []uintptr {
	return []uintptr{syscall.CLONE_NEWUSER | namespaces, namespaces, 0}
}

// refused reports whether a start failed because the system does not permit
// those namespaces.
func refused(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSYS, syscall.ENOSPC, syscall.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func attributes(level uintptr) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: level}
	if level&syscall.CLONE_NEWUSER != 0 {
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// Isolation says how a child of this process is kept apart on this machine,
// for people. It starts one to see; without a usable main it says "unknown".
func Isolation() string {
	if Child() {
		return "unknown"
	}
	for _, level := range levels() {
		if !probe(level) {
			continue
		}
		switch {
		case level&syscall.CLONE_NEWUSER != 0:
			return "own process with limits, no privileges, in its own user, network, process and IPC namespaces"
		case level != 0:
			return "own process with limits, in its own network, process and IPC namespaces"
		default:
			return "own process with limits; the system permits no namespaces"
		}
	}
	return "unknown"
}

// self is the running binary, also if its file was replaced since.
func self() (string, error) {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// waitUnreaped waits for the end of p and leaves its number in use. False
// means that it cannot.
func waitUnreaped(p *os.Process) bool {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// signaled names the signal that ended the process, or is empty.
func signaled(s *os.ProcessState) string {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return unix.SignalName(w.Signal())
	}
	return ""
}

// limitWasm limits this process for a module: no core dump with data in it,
// bounded processor time and address space. The address space allows, beside
// the module's memory, what compiling takes.
func limitWasm(o order) error {
	// Only hygiene: nothing that a module can reach asks for privileges.
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	return limits(map[int]uint64{
		unix.RLIMIT_CORE: 0,
		unix.RLIMIT_CPU:  o.CPU,
		unix.RLIMIT_AS:   mapped() + 2*uint64(o.MemoryMB)<<20 + 2<<30,
	})
}

// sealWasm forbids writing to files, once the cache is written.
func sealWasm() error { return limits(map[int]uint64{unix.RLIMIT_FSIZE: 0}) }

// mapped is the address space in use, bytes: a race-detecting build has
// terabytes of it.
func mapped() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	pages, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

func limits(want map[int]uint64) error {
	for what, n := range want {
		var old unix.Rlimit
		if err := unix.Getrlimit(what, &old); err != nil {
			return err
		}
		n = min(n, old.Max)
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	return nil
}

// closeInherited closes what was inherited from whoever started the parent
// and was not marked to close. What the Go runtime opened for itself
// (anonymous inodes, the processor quota of its control group) stays.
func closeInherited(keep ...int) {
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return
	}
next:
	for _, name := range names {
		fd, err := strconv.Atoi(filepath.Base(name))
		if err != nil || fd <= 2 {
			continue
		}
		for _, k := range keep {
			if fd == k {
				continue next
			}
		}
		to, err := os.Readlink(name)
		if err != nil || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") || strings.HasPrefix(to, "/proc/") {
			continue
		}
		_ = unix.Close(fd)
	}
}

// native becomes the program. It limits what the kernel counts as data
// (private writable memory, since Linux 4.7) to MemoryMB; the address space
// gets four gibibytes more, because runtimes reserve what they never use: Go's
// reserves more than one. No file can be written.
func native(o order) report {
	runtime.LockOSThread() // no_new_privs is a thread's
	argv := append([]string{filepath.Base(o.Path)}, o.Args...)
	env := []string{"PATH=/usr/bin:/bin"}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return report{Fault: "crash", Detail: "setting limits: " + err.Error()}
	}
	for fd := statusFD; fd <= moduleFD; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := unix.CloseRange(statusFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		closeInherited(statusFD, moduleFD) // before Linux 5.11
	}
	memory := uint64(o.MemoryMB) << 20
	err := limits(map[int]uint64{
		unix.RLIMIT_CORE:   0,
		unix.RLIMIT_CPU:    o.CPU,
		unix.RLIMIT_FSIZE:  0,
		unix.RLIMIT_NOFILE: 256,
		unix.RLIMIT_DATA:   memory,
		unix.RLIMIT_AS:     memory + 4<<30,
	})
	if err != nil {
		return report{Fault: "crash", Detail: "setting limits: " + err.Error()}
	}
	err = syscall.Exec(o.Path, argv, env)
	return report{Fault: "module", Detail: fmt.Sprintf("it cannot be executed: %v", err)}
}
