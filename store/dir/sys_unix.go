//go:build unix

package dir

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// tryLock marks f as being written, or says that someone is writing it. The
// kernel frees the mark when the file is closed, however its process ends.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// sync makes the entries of a folder durable.
func (s *Store) sync(d string) error {
	f, err := s.root.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// syncPath does what can be done for the folder above the store's, which may
// belong to somebody else.
func syncPath(d string) error {
	f, err := os.Open(d)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	return nil
}
