//go:build !linux

package sandbox

import (
	"os"
	"syscall"
)

// Off Linux a module is still confined by its interpreter, which gives it no
// file and no socket, and by the parent's clock; the kernel's own limits and
// namespaces are Linux's. Native programs are refused.

func levels() []uintptr { return []uintptr{0} }

func refused(error) bool { return false }

func attributes(uintptr) *syscall.SysProcAttr { return nil }

// Isolation says how a child of this process is kept apart on this machine,
// for people.
func Isolation() string {
	if !Child() && probe(0) {
		return "own process; limits and namespaces of the system are used on Linux only"
	}
	return "unknown"
}

func self() (string, error) { return os.Executable() }

func waitUnreaped(*os.Process) bool { return false }

func killGroup(p *os.Process) { _ = p.Kill() }

func signaled(s *os.ProcessState) string {
	if s.Exited() {
		return ""
	}
	return s.String()
}

func limitWasm(order) error { return nil }

func sealWasm() error { return nil }

func closeInherited(...int) {}

func native(order) report {
	return report{Fault: "module", Detail: "native programs are run on Linux only"}
}
