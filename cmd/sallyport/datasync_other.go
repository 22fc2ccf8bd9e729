//go:build !linux

package main

import "os"

// dataSync is the nearest to fdatasync there is.
func dataSync(f *os.File) error { return f.Sync() }
