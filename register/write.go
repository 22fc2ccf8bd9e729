package register

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport"
)

// Draft is a transaction that was tried and found good, and is not in the file
// yet. So whoever makes it can record what it is about to do.
type Draft struct {
	r        *Register
	old, new *state
}

// Draft tries a transaction, all of it or nothing. expect is the digest of the
// state that the changes are meant for; empty, it is whatever is there now.
func (r *Register) Draft(expect sallyport.Digest, changes ...Change) (*Draft, error) {
	old := r.state()
	if expect != "" && expect != old.digest {
		return nil, conflict("Look at what it holds now, and try again.", "the register is not in state %s any more, but in %s", expect.Short(), old.digest.Short())
	}
	if len(changes) == 0 {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "a transaction without a change")
	}
	next := old.clone()
	for _, c := range changes {
		if err := c.apply(next); err != nil {
			return nil, err
		}
	}
	if err := next.check(); err != nil {
		return nil, invalid(err)
	}
	return &Draft{r, old, next}, next.sum()
}

// Before names the state that the draft changes.
func (d *Draft) Before() sallyport.Digest { return d.old.digest }

// After names the state that the draft leads to.
func (d *Draft) After() sallyport.Digest { return d.new.digest }

// Commit writes the draft. A register that changed since is a
// [sallyport.Conflict]. When it returns nil, the file is durable; on an error
// the file and the register are as before.
func (d *Draft) Commit() error { return d.r.replace(d.old, d.new) }

// Undo takes a committed draft back.
func (d *Draft) Undo() error { return d.r.replace(d.new, d.old) }

// Apply drafts and commits. It returns the digests of the states before and
// after; on an error both are of the state that is there.
func (r *Register) Apply(expect sallyport.Digest, changes ...Change) (before, after sallyport.Digest, err error) {
	d, err := r.Draft(expect, changes...)
	if err == nil {
		err = d.Commit()
	}
	if err != nil {
		now := r.Digest()
		return now, now, err
	}
	return d.Before(), d.After(), nil
}

// replace makes the file hold next, if the register is in state from.
func (r *Register) replace(from, next *state) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if now := r.state(); now.digest != from.digest {
		return conflict("Look at what it holds now, and try again.", "the register is not in state %s any more, but in %s", from.digest.Short(), now.digest.Short())
	}
	before, err := r.unedited()
	if err != nil {
		return err
	}
	src, err := json.MarshalIndent(struct {
		Version int `json:"version"`
		*state
	}{version, next}, "", "  ")
	if err != nil {
		return sallyport.E(op, sallyport.Internal, err, "")
	}
	src = append(src, '\n')
	if len(src) > maxFile {
		return sallyport.Errorf(op, sallyport.Exhausted, "Revoke grants that ran out.", "the register would be larger than %d MiB", maxFile>>20)
	}
	if err := r.write(src); err != nil {
		// It may have the name already, and not be durable.
		if back := r.restore(before); back != nil {
			return sallyport.E("write register", sallyport.Unavailable, errors.Join(err, back), "Make its folder writable, look at the file, and restart the gateway.")
		}
		return sallyport.E("write register", sallyport.Unavailable, err, "Make its folder writable and free disk space; nothing was changed.")
	}
	r.file = sallyport.DigestOf(src)
	r.mu.Lock()
	r.now = next
	r.mu.Unlock()
	return nil
}

// unedited returns the file's bytes, nil where there is none. It refuses to
// write over what somebody else wrote.
func (r *Register) unedited() ([]byte, error) {
	src, err := readFile(r.path)
	have := sallyport.Digest("")
	if err == nil {
		have = sallyport.DigestOf(src)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if have != r.file {
		return nil, conflict("Restart the gateway to take the edit into force, or put the file back as it was.",
			"%s was changed by hand while the gateway runs", r.path)
	}
	return src, nil
}

// restore puts the former bytes back if others have the name.
func (r *Register) restore(before []byte) error {
	src, err := os.ReadFile(r.path)
	switch {
	case before == nil && errors.Is(err, fs.ErrNotExist), err == nil && before != nil && bytes.Equal(src, before):
		return nil
	case before == nil:
		return os.Remove(r.path)
	}
	if err := os.WriteFile(r.path+unfinished, before, 0o600); err != nil {
		return err
	}
	return os.Rename(r.path+unfinished, r.path)
}

// unfinished ends the name of a file that is not the register yet. There is one
// such name, so that a crash leaves at most one file, which the next write takes.
const unfinished = ".new"

// write replaces the file: a new one beside it is filled and synced, and takes
// the name. A crash leaves the old content or the new.
func (r *Register) write(src []byte) (err error) {
	dir := filepath.Dir(r.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp := r.path + unfinished
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(src)
	if err == nil {
		err = r.reached("written")
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = r.reached("synced")
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, r.path); err != nil {
		return err
	}
	if err := r.reached("renamed"); err != nil {
		return err
	}
	return syncDir(dir)
}

func (r *Register) reached(point string) error {
	if r.point == nil {
		return nil
	}
	return r.point(point)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
