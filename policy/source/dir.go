package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"sallyport"
	"sallyport/policy"
)

// DirConfig names a folder.
type DirConfig struct {
	Path     string        `yaml:"path" json:"path"`
	Interval time.Duration `yaml:"interval,omitempty" json:"interval,omitempty"` // between two looks; default 5s
}

// Resolve returns c with its path made absolute by path.
func (c DirConfig) Resolve(path func(string) string) DirConfig {
	c.Path = path(c.Path)
	return c
}

// Dir reads a folder that people write to. Nobody vouches for its files.
//
// The folder itself may be a link that is switched from one version to the
// next, and files may be links within the folder, as in a mounted volume; links
// out of it and links to folders are refused. Hidden folders are passed over.
type Dir struct {
	path     string
	interval time.Duration
	between  func() // for tests: runs after the files are read
}

// OpenDir checks cfg. The folder need not exist yet.
func OpenDir(cfg DirConfig) (*Dir, error) {
	every, err := interval(cfg.Interval, DefaultDirInterval)
	if err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		return nil, sallyport.Errorf("open policy source", sallyport.Invalid, "Set path to the folder of the rules.", "no folder given")
	}
	return &Dir{path: cfg.Path, interval: every, between: func() {}}, nil
}

// String returns the folder's path.
func (d *Dir) String() string { return "folder " + d.path }

// Interval is documented with [Source].
func (d *Dir) Interval() time.Duration { return d.interval }

// Fetch is documented with [Source]. What changes while it is read is a
// Conflict: half of one version and half of another are no candidate.
func (d *Dir) Fetch(ctx context.Context, last Candidate) (Candidate, bool, error) {
	root, before, err := d.look(ctx)
	if err != nil {
		return last, false, err
	}
	defer root.Close()
	all := newFiles()
	for _, e := range before {
		if e.info.IsDir() {
			continue
		}
		if err := d.read(ctx, root, e, all); err != nil {
			return last, false, err
		}
	}
	d.between()
	again, after, err := d.look(ctx)
	if err != nil {
		return last, false, err
	}
	defer again.Close()
	if !slices.EqualFunc(before, after, entry.same) {
		return last, false, d.changing()
	}
	c, err := all.candidate(d.String())
	if err != nil {
		return last, false, err
	}
	return c, c.Digest != last.Digest, nil
}

func (d *Dir) changing() error {
	return fault(sallyport.Conflict, "It will be read again.", "%s changed while it was read", d)
}

// entry is one file that counts, or the folder itself, as it was found.
type entry struct {
	name string
	info fs.FileInfo
}

func (e entry) same(other entry) bool {
	a, b := e.info, other.info
	if e.name != other.name || !os.SameFile(a, b) {
		return false
	}
	// The time of a folder also changes for files that do not count.
	return a.IsDir() && b.IsDir() || a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// look lists the folder and the files in it that count.
func (d *Dir) look(ctx context.Context) (_ *os.Root, list []entry, err error) {
	root, err := os.OpenRoot(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fault(sallyport.NotFound, "Make it, or correct the configuration.", "%s does not exist", d)
	case err != nil:
		return nil, nil, fault(sallyport.Unavailable, "", "open: %w", err)
	}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	seen := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return sallyport.E(op, sallyport.Canceled, ctx.Err(), "")
		case errors.Is(err, fs.ErrNotExist):
			return d.changing()
		case err != nil:
			return fault(sallyport.Unavailable, "", "list: %w", err)
		}
		if seen++; seen > maxEntries {
			return fault(sallyport.Exhausted, "A bundle of rules is smaller; is this another folder?", "%s holds more than %d entries", d, maxEntries)
		}
		if name == "." {
			info, err := root.Stat(".")
			if err != nil {
				return fault(sallyport.Unavailable, "", "list: %w", err)
			}
			list = append(list, entry{name, info})
			return nil
		}
		link := e.Type()&fs.ModeSymlink != 0
		switch {
		case e.IsDir() && hidden(name):
			return fs.SkipDir
		case e.IsDir():
			return nil
		case hidden(name) && policy.Counts(name) && !(link && leadsToDir(root, name)):
			return hiddenFile(name)
		case hidden(name), !link && !policy.Counts(name):
			return nil
		}
		info, err := root.Stat(name)
		switch {
		case link && errors.Is(err, fs.ErrNotExist) && !policy.Counts(name): // leads nowhere
			return nil
		case link && err != nil:
			return fault(sallyport.Invalid, "Put the file itself there.", "%s is a link that leads nowhere or out of the folder", printable(name))
		case errors.Is(err, fs.ErrNotExist):
			return d.changing()
		case err != nil:
			return fault(sallyport.Unavailable, "", "list: %w", err)
		case link && info.IsDir():
			return fault(sallyport.Invalid, "Put the folder itself there.", "%s is a link to a folder: some tools would follow it and others not", printable(name))
		case !policy.Counts(name):
			return nil
		case !info.Mode().IsRegular():
			return fault(sallyport.Invalid, "Remove it.", "%s is no ordinary file", printable(name))
		}
		list = append(list, entry{name, info})
		if len(list) > MaxFiles+1 { // the folder itself is one
			return tooMany()
		}
		return nil
	})
	return root, list, err
}

func leadsToDir(root *os.Root, name string) bool {
	info, err := root.Stat(name)
	return err == nil && info.IsDir()
}

func (d *Dir) read(ctx context.Context, root *os.Root, e entry, into *files) error {
	if ctx.Err() != nil {
		return sallyport.E(op, sallyport.Canceled, ctx.Err(), "")
	}
	// Should a pipe have taken the file's place, nobody waits for its writer.
	f, err := root.OpenFile(e.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return d.changing()
	}
	if err != nil {
		return fault(sallyport.Unavailable, "Let the gateway's user read it.", "open: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fault(sallyport.Unavailable, "", "open: %w", err)
	}
	if !e.same(entry{e.name, info}) {
		return d.changing()
	}
	if err := into.add(e.name, f); err != nil {
		if _, ok := errors.AsType[*sallyport.Error](err); ok {
			return err
		}
		return fault(sallyport.Unavailable, "", "read: %w", err)
	}
	return nil
}

var _ Source = (*Dir)(nil)
