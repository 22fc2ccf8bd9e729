package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"crypto/rand"

	"sallyport"
)

// output is a file being written that nobody sees before it is whole. It has no
// name until commit gives it one, where the system can do that; elsewhere a
// temporary name that sweepOutputs knows again. Its process holds a lock on it.
type output struct {
	*os.File
	path string
	temp string // "": it has no name
}

// Temporary files are called .sallyport-RANDOM.part.
const (
	tempPrefix = ".sallyport-"
	tempSuffix = ".part"
)

func outputError(err error) error {
	hint := "See that the folder may be written to and the disk has room."
	if errors.Is(err, fs.ErrExist) {
		return sallyport.E("write output", sallyport.Conflict, err, "Name another, or say --force to overwrite it.")
	}
	return sallyport.E("write output", sallyport.Unavailable, err, hint)
}

// createOutput begins the file that will be at path; its folder must exist.
func createOutput(path string) (*output, error) {
	if f, ok := unnamedFile(filepath.Dir(path)); ok {
		return &output{File: f, path: path}, nil
	}
	return createNamed(path)
}

func createNamed(path string) (*output, error) {
	for {
		temp := filepath.Join(filepath.Dir(path), tempPrefix+rand.Text()+tempSuffix)
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, outputError(err)
		}
		// Another process that sweeps may have been faster than the lock.
		locked := lockOutput(f)
		if now, err := os.Lstat(temp); locked && err == nil {
			if was, err := f.Stat(); err == nil && os.SameFile(was, now) {
				return &output{File: f, path: path, temp: temp}, nil
			}
		}
		f.Close()
		os.Remove(temp)
	}
}

// commit makes the file durable and gives it its name. Without force a file
// that is there already is an error, even if it came this moment.
func (o *output) commit(force bool) error {
	defer o.Close()
	if err := o.Sync(); err != nil {
		o.discard()
		return outputError(err)
	}
	var err error
	switch {
	case force:
		if o.temp == "" {
			temp := filepath.Join(filepath.Dir(o.path), tempPrefix+rand.Text()+tempSuffix)
			if err = nameFile(o.File, temp); err != nil {
				break
			}
			o.temp = temp
		}
		if err = os.Rename(o.temp, o.path); err == nil {
			o.temp = ""
		}
	case o.temp == "":
		err = nameFile(o.File, o.path)
	default:
		err = os.Link(o.temp, o.path)
		if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without links
			if _, e := os.Lstat(o.path); errors.Is(e, fs.ErrNotExist) {
				if err = os.Rename(o.temp, o.path); err == nil {
					o.temp = ""
				}
			}
		}
	}
	if o.temp != "" {
		os.Remove(o.temp)
		o.temp = ""
	}
	if err != nil {
		return outputError(err)
	}
	if err := syncFolder(filepath.Dir(o.path)); err != nil {
		return outputError(err)
	}
	return nil
}

// discard leaves nothing.
func (o *output) discard() {
	o.Close()
	if o.temp != "" {
		os.Remove(o.temp)
		o.temp = ""
	}
}

// sweepOutputs removes what processes that died left in a folder. A living one
// holds a lock on its files.
func sweepOutputs(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lockOutput(f) {
			os.Remove(path)
		}
		f.Close()
	}
}
