//go:build !unix

package main

import "os"

// lockOutput: without file locks one process at a time may use a folder.
func lockOutput(*os.File) bool { return true }

func lockWait(*os.File) error { return nil }

// syncFolder: elsewhere a folder cannot be synced; the file system sees to it.
func syncFolder(string) error { return nil }
