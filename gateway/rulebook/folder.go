package rulebook

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport"
)

// folder holds small JSON files that are written whole and durably.
type folder string

func (f folder) names() ([]string, error) {
	list, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, sallyport.E("rule book", sallyport.Unavailable, err, "")
	}
	var names []string
	for _, e := range list {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (f folder) read(name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.E("rule book", sallyport.NotFound, err, "")
	}
	if err != nil {
		return nil, sallyport.E("rule book", sallyport.Unavailable, err, "")
	}
	return raw, nil
}

func (f folder) write(name string, content []byte) error {
	err := func() error {
		if err := os.MkdirAll(string(f), 0o700); err != nil {
			return err
		}
		tmp, err := os.CreateTemp(string(f), ".new-*")
		if err != nil {
			return err
		}
		defer os.Remove(tmp.Name())
		_, err = tmp.Write(content)
		if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
			return err
		}
		if err := os.Rename(tmp.Name(), filepath.Join(string(f), name)); err != nil {
			return err
		}
		return f.sync()
	}()
	if err != nil {
		return sallyport.E("rule book", sallyport.Exhausted, err, "Make state/policy writable and free disk space.")
	}
	return nil
}

func (f folder) remove(name string) error {
	if err := errors.Join(os.Remove(filepath.Join(string(f), name)), f.sync()); err != nil {
		return sallyport.E("rule book", sallyport.Unavailable, err, "")
	}
	return nil
}

func (f folder) sync() error {
	d, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
