package main

import (
	"os"
	"syscall"
)

// dataSync is the sync that the audit log's database makes.
func dataSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
