//go:build unix

package keydir

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"sallyport"
)

// Lock takes the folder for this process; the kernel frees it when the process
// ends, however it ends.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, Error("lock", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, sallyport.Errorf("open keys", sallyport.Conflict, "Stop the other gateway, or give this one a folder of its own.",
			"another process uses the keys in %s", dir)
	}
	return nil, Error("lock", err)
}
