//go:build !unix

package node

import "os"

// lockFile opens the file. These systems have no lock that ends with its
// process in the standard library, so nothing keeps a second node away.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}

// syncDir does nothing: folders cannot be synced here.
func syncDir(string) error { return nil }
