//go:build linux

package dir_test

import (
	"os/signal"
	"syscall"
	"testing"
)

// limitFiles makes the kernel refuse (EFBIG) to let a file of this process
// grow beyond n bytes.
func limitFiles(t *testing.T, n uint64) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ) // or the first refused write ends the process
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		t.Fatal(err)
	}
}
