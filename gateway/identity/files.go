package identity

import (
	"crypto/rand"
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

// unfinished begins the names of files that were never finished.
const unfinished = ".tmp-"

// privateDir opens dir, made with mode 0700 if absent, and refuses one that
// others can enter.
func privateDir(op, dir string) (*os.Root, error) {
	if dir == "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Name a folder.", "no folder given")
	}
	_, before := os.Lstat(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault(op, err)
	}
	if errors.Is(before, fs.ErrNotExist) {
		if err := syncPath(filepath.Dir(dir)); err != nil {
			return nil, fault(op, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault(op, err)
	}
	st, err := root.Stat(".")
	if err == nil {
		err = private(op, dir, st)
	} else {
		err = fault(op, err)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// private refuses what others than its owner can reach.
func private(op, path string, st fs.FileInfo) error {
	if st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	mode := "600"
	if st.IsDir() {
		mode = "700"
	}
	return sallyport.Errorf(op, sallyport.Denied, "Run chmod "+mode+" on it, and ask who may have read it.",
		"%s can be reached by others (mode %04o)", path, st.Mode().Perm())
}

// replace makes the file called name hold b, or leaves it as it was. File and
// name are durable when it returns.
func replace(root *os.Root, name string, b []byte, mode fs.FileMode) (err error) {
	tmp := unfinished + rand.Text()
	f, err := root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(tmp) // a next start sweeps it otherwise
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
	if err := root.Rename(tmp, name); err != nil {
		return err
	}
	return syncRoot(root)
}

// remove unlinks a file, durably. An absent one is no error.
func remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncRoot(root)
}

// sweepUnfinished removes what a crash left half written.
func sweepUnfinished(root *os.Root) error {
	list, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), unfinished) && e.Type().IsRegular() {
			if err := remove(root, e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncRoot(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// readSmall reads at most most bytes; a longer file is an error.
func readSmall(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return b, err
}

func fault(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return sallyport.E(op, sallyport.Exhausted, err, "Make room on the disk.")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return sallyport.E(op, sallyport.Denied, err, "Give the folder to the user that the gateway runs as.")
	case errors.Is(err, fs.ErrNotExist):
		return sallyport.E(op, sallyport.NotFound, err, "")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}
