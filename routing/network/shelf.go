package network

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport"
	"sallyport/routing/network/wire"
)

// shelf keeps small JSON documents by ID, one file each. A document is whole
// and durable when put returns, or as it was before.
//
// What the gateway knows stays out of NATS on purpose: a stream can be written
// to by whoever reaches its subjects, a file by nobody but us.
type shelf struct{ dir string }

func newShelf(dir string) (shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return shelf{}, diskError("open network state", err)
	}
	return shelf{dir}, nil
}

func (s shelf) path(id string) string { return filepath.Join(s.dir, id+".json") }

func (s shelf) put(id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return sallyport.E("keep "+id, sallyport.Internal, err, "")
	}
	return writeFile(s.path(id), b)
}

// get fills v and reports whether there is such a document.
func (s shelf) get(id string, v any) (bool, error) {
	if !wire.ValidID(id) {
		return false, nil
	}
	b, err := os.ReadFile(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, diskError("read "+id, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, sallyport.Errorf("read "+id, sallyport.Damaged, "Restore the network's state folder from a backup.", "%s is not a document of ours", s.path(id))
	}
	return true, nil
}

func (s shelf) remove(id string) error {
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("forget "+id, err)
	}
	return nil
}

func (s shelf) list() ([]string, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, diskError("list network state", err)
	}
	var out []string
	for _, f := range files {
		if id, ok := strings.CutSuffix(f.Name(), ".json"); ok && wire.ValidID(id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// writeFile replaces a file of mode 0600, durably and at once.
func writeFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return diskError("write "+filepath.Base(path), err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return diskError("write "+filepath.Base(path), err)
	}
	return nil
}

// diskError sorts what a file system says. No space left is sallyport.Exhausted.
func diskError(op string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return sallyport.E(op, sallyport.Denied, err, "Give the gateway's user the right to write its state folder.")
	case strings.Contains(err.Error(), "no space left"):
		return sallyport.E(op, sallyport.Exhausted, err, "Make room on the disk of the state folder.")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}
