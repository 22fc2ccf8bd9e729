// Package catalog keeps what the lab knows of its datasets: one YAML file a
// dataset, written by people, decoded strictly, seen by policy as data.
package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"sallyport"
)

// Catalog is a folder of entries. It is read anew when a file in it changes;
// a change that does not decode leaves the last good state in force and is
// reported by [Catalog.Refresh]. Methods are safe for concurrent use.
type Catalog struct {
	dir string

	mu      sync.Mutex
	seen    string // names, sizes and times of the files last read
	entries map[string]sallyport.Dataset
}

// Open reads the catalog in dir. An absent folder is an error: a gateway that
// knows no datasets because of a typing mistake should say so.
func Open(dir string) (*Catalog, error) {
	c := &Catalog{dir: dir}
	if _, err := c.Refresh(); err != nil {
		return nil, err
	}
	return c, nil
}

// Refresh reads the folder if it changed, and reports whether it did.
func (c *Catalog) Refresh() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, state, err := c.scan()
	if err != nil {
		return false, err
	}
	if state == c.seen && c.entries != nil {
		return false, nil
	}
	entries := make(map[string]sallyport.Dataset, len(files))
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			return false, sallyport.E("read catalog", sallyport.Unavailable, err, "Make the catalog readable for the gateway.")
		}
		d, err := Parse(filepath.Base(f), src)
		if err != nil {
			return false, err
		}
		if want := strings.TrimSuffix(filepath.Base(f), ".yaml"); d.ID != want {
			return false, sallyport.Errorf("read catalog", sallyport.Invalid, "Rename the file or change the id.",
				"%s: id is %q, but the file is named for %q", filepath.Base(f), d.ID, want)
		}
		entries[d.ID] = d
	}
	c.seen, c.entries = state, entries
	return true, nil
}

func (c *Catalog) scan() (files []string, state string, err error) {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, "", sallyport.E("read catalog", sallyport.NotFound, err,
			"Run `sallyport init DIR`, or set `catalog:` in the configuration.")
	}
	var b strings.Builder
	for _, e := range list {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".yaml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, "", sallyport.E("read catalog", sallyport.Unavailable, err, "")
		}
		files = append(files, filepath.Join(c.dir, e.Name()))
		fmt.Fprintf(&b, "%s %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return files, b.String(), nil
}

// Get returns the entry of a dataset.
func (c *Catalog) Get(id string) (sallyport.Dataset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.entries[id]
	if !ok {
		return d, sallyport.Errorf("catalog", sallyport.NotFound,
			"`sallyport dataset ls` lists what there is; `sallyport dataset add` adds one.", "no dataset %q", id)
	}
	return d, nil
}

// All returns the entries, sorted by ID.
func (c *Catalog) All() []sallyport.Dataset {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]sallyport.Dataset, 0, len(c.entries))
	for _, d := range c.entries {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Data is the catalog as policy sees it, data.catalog.
func (c *Catalog) Data() map[string]any {
	datasets := map[string]any{}
	for _, d := range c.All() {
		datasets[d.ID] = d
	}
	return map[string]any{"datasets": datasets}
}

// Add writes a new entry and takes it into force. An existing one is a
// sallyport.Conflict: entries are changed by their steward, in the file.
func (c *Catalog) Add(d sallyport.Dataset) (path string, err error) {
	src, err := Format(d)
	if err != nil {
		return "", err
	}
	if _, err := Parse(d.ID+".yaml", src); err != nil {
		return "", err
	}
	path = filepath.Join(c.dir, d.ID+".yaml")
	tmp, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return "", sallyport.E("add dataset", sallyport.Unavailable, err, "Make the catalog folder writable.")
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(src)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err != nil {
		return "", sallyport.E("add dataset", sallyport.Exhausted, err, "Free disk space and try again.")
	}
	// Link, not rename: it fails when the name is taken.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return "", sallyport.Errorf("add dataset", sallyport.Conflict, "Edit that file, or choose another id.",
			"dataset %q has an entry already: %s", d.ID, path)
	} else if err != nil {
		return "", sallyport.E("add dataset", sallyport.Unavailable, err, "")
	}
	_, err = c.Refresh()
	return path, err
}
