package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// unnamedFile makes a file without a name in a folder: it goes with its
// process, however that ends. Not every file system can.
func unnamedFile(dir string) (*os.File, bool) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false
	}
	f := os.NewFile(uintptr(fd), dir)
	if _, err := os.Stat(procName(f)); err != nil { // no /proc, by which it would be named
		f.Close()
		return nil, false
	}
	return f, true
}

// nameFile gives a file without a name its name, which must be free.
func nameFile(f *os.File, path string) error {
	if err := unix.Linkat(unix.AT_FDCWD, procName(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: "output", New: path, Err: err}
	}
	return nil
}

func procName(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
