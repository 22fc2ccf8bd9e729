// Package keydir is a folder that holds keys and leases: private to its user,
// taken by one process, every file whole and durable or not there.
package keydir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sallyport"
)

// tempPrefix begins the names of files that were never finished.
const tempPrefix = ".tmp-"

// WriteFile makes path hold b, of mode 0600, or leaves it as it was. Both the
// file and its name are durable when it returns.
func WriteFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Shred overwrites a file with zeros, makes that durable, and unlinks it. An
// absent file is no error. What the medium keeps below (flash remapping,
// copy-on-write, snapshots) is out of its reach.
func Shred(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Write(make([]byte, st.Size())); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// SweepTemps shreds what a crash left half written.
func SweepTemps(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := Shred(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Own makes dir with mode 0700, or checks that nobody else can enter it.
func Own(dir string) error {
	made := false
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Error("open", err)
	}
	if made {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return Error("open", err)
		}
	}
	return Private(dir)
}

// Private checks that nobody but its owner can reach path.
func Private(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return Error("open", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		mode := "600"
		if st.IsDir() {
			mode = "700"
		}
		return sallyport.Errorf("open keys", sallyport.Denied, "Run chmod "+mode+" on it, and ask who may have read it.",
			"%s can be reached by others (mode %04o)", path, st.Mode().Perm())
	}
	return nil
}

// ReadSmall reads a file that is known to be small.
func ReadSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is too large", path)
	}
	return b, err
}

// Error says which kind of failure an error of the file system is.
func Error(op string, err error) error {
	op = "key files: " + op
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return sallyport.E(op, sallyport.Exhausted, err, "Make room on the disk that holds the keys.")
	case errors.Is(err, fs.ErrPermission):
		return sallyport.E(op, sallyport.Denied, err, "Give the folder of the keys to the user the gateway runs as.")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}
