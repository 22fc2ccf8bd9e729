package keyfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/internal/keydir"
)

// Names below DIR/rotation, which exists only while a rotation is under way: a
// whole second set of keys, and a file that says that the set is complete.
const (
	rotationDir = "rotation"
	readyFile   = "ready"
)

// Rotate exchanges everything that protects keys in the folder: a new root
// identity, a new wrapping identity for every epoch in use, and every lease's
// identity wrapped anew. Then the old ones are destroyed as Destroy does it.
// Leases stay as they are: same ID, same recipient, same end, and what was
// sealed to them opens as before. Derive gives what it gave.
//
// Afterward an old root.key, with old epochs or without, opens no file of the
// folder, and the new root.key opens no old file. What it cannot undo: who
// copied the whole folder has the identities of the leases that lived then.
// End those with Destroy.
//
// A complete second set is written and proved to open before the first old
// file is touched. Until then a crash, an error or the end of ctx leaves
// everything as it was; from then on every way forward ends in the new set: the
// next call that needs the folder, or the next opening, finishes. A key that
// does not open stops the rotation with sallyport.Damaged before anything is
// changed. All other calls wait meanwhile, some milliseconds for each live
// lease.
func (i *Issuer) Rotate(ctx context.Context) error {
	const op = "rotate keys"
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, op); err != nil {
		return err
	}
	// A tombstone that the disk refused would rise with the next opening, over
	// a key file that nothing opens.
	for _, r := range i.leases {
		if r.unwritten {
			if err := i.destroy(r, r.Reason); err != nil {
				return err
			}
		}
	}
	if err := i.dropRotation(); err != nil { // of an attempt that failed before
		return keydir.Error(op, err)
	}
	err := i.stage(ctx)
	if err == nil {
		err = i.proveStaged()
	}
	if err != nil {
		return errors.Join(err, i.dropRotation())
	}
	// The point of no return. Where WriteFile fails the name may be there all
	// the same, and then the next opening rotates: both outcomes are whole.
	i.rotating = true
	if err := keydir.WriteFile(i.path(rotationDir, readyFile), nil); err != nil {
		if derr := i.dropRotation(); derr != nil {
			return errors.Join(keydir.Error(op, err), keydir.Error(op, derr))
		}
		i.rotating = false
		return keydir.Error(op, err)
	}
	return i.finishRotation()
}

// finishRotation puts a complete set in force, or goes on doing so.
func (i *Issuer) finishRotation() error {
	const op = "rotate keys"
	if _, err := os.Lstat(i.path(rotationDir)); errors.Is(err, fs.ErrNotExist) {
		i.rotating = false
		return nil
	}
	if err := keydir.Private(i.path(rotationDir)); err != nil {
		return err
	}
	if _, err := os.Lstat(i.path(rotationDir, readyFile)); errors.Is(err, fs.ErrNotExist) {
		// Nothing was promised; nothing old was touched.
		if err := i.dropRotation(); err != nil {
			return keydir.Error(op, err)
		}
		i.rotating = false
		return nil
	} else if err != nil {
		return keydir.Error(op, err)
	}
	for _, d := range []string{"leases", "epochs", "."} {
		list, err := os.ReadDir(i.path(rotationDir, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return keydir.Error(op, err)
		}
		for _, e := range list {
			if e.IsDir() || filepath.Ext(e.Name()) != ".key" || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if err := replace(i.path(rotationDir, d, e.Name()), i.path(d, e.Name())); err != nil {
				return keydir.Error(op, err)
			}
		}
		for _, side := range []string{i.path(d), i.path(rotationDir, d)} {
			if err := syncDir(side); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return keydir.Error(op, err)
			}
		}
	}
	root, err := seal.Load(i.path("root.key"))
	if err != nil {
		return err
	}
	if err := i.dropRotation(); err != nil {
		return keydir.Error(op, err)
	}
	i.root, i.epochs, i.rotating = root, map[string]*seal.Key{}, false
	return nil
}

// replace destroys old and puts next in its place. The old one goes first:
// between the two, next is in the rotation folder, and ready says that it will
// come.
func replace(next, old string) error {
	if sameFile(next, old) { // a file system without a journal may forget half a rename
		return os.Remove(next)
	}
	if err := keydir.Shred(old); err != nil {
		return err
	}
	return os.Rename(next, old)
}

func sameFile(a, b string) bool {
	sa, aerr := os.Lstat(a)
	sb, berr := os.Lstat(b)
	return aerr == nil && berr == nil && os.SameFile(sa, sb)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// stage writes the second set.
func (i *Issuer) stage(ctx context.Context) error {
	const op = "rotate keys"
	for _, d := range []string{".", "epochs", "leases"} {
		if err := keydir.Own(i.path(rotationDir, d)); err != nil {
			return err
		}
	}
	root, err := seal.Generate()
	if err != nil {
		return err
	}
	if err := root.Save(i.path(rotationDir, "root.key")); err != nil {
		return err
	}
	epochs := map[string]*seal.Key{}
	for id, r := range i.leases {
		if r.Destroyed != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return sallyport.E(op, sallyport.Canceled, err, "")
		}
		k, err := i.leaseKey(op, r)
		if err != nil {
			return sallyport.E(op, sallyport.KindOf(err), err, "Destroy the lease whose key does not open, then rotate again.")
		}
		epoch := epochs[r.Epoch]
		if epoch == nil {
			if epoch, err = seal.Generate(); err != nil {
				return err
			}
			if err := i.wrapTo(root, epoch, i.path(rotationDir, "epochs", filepath.Base(i.epochPath(r.Epoch)))); err != nil {
				return err
			}
			epochs[r.Epoch] = epoch
		}
		if err := i.wrapTo(epoch, k, i.path(rotationDir, "leases", filepath.Base(i.keyPath(id)))); err != nil {
			return err
		}
	}
	return nil
}

// wrapTo writes k to path, for the holder of outer.
func (i *Issuer) wrapTo(outer, k *seal.Key, path string) error {
	b, err := k.Wrap(outer.Recipient())
	if err != nil {
		return err
	}
	if err := keydir.WriteFile(path, b); err != nil {
		return keydir.Error("rotate keys", err)
	}
	return nil
}

// proveStaged reads the second set as the next opening would, since what it
// replaces will be gone for good.
func (i *Issuer) proveStaged() error {
	const op = "rotate keys"
	root, err := seal.Load(i.path(rotationDir, "root.key"))
	if err != nil {
		return err
	}
	epochs := map[string]*seal.Key{}
	unwrap := func(outer *seal.Key, path string) (*seal.Key, error) {
		b, err := keydir.ReadSmall(path)
		if err != nil {
			return nil, keydir.Error(op, err)
		}
		return outer.Unwrap(b)
	}
	for id, r := range i.leases {
		if r.Destroyed != nil {
			continue
		}
		if epochs[r.Epoch] == nil {
			if epochs[r.Epoch], err = unwrap(root, i.path(rotationDir, "epochs", filepath.Base(i.epochPath(r.Epoch)))); err != nil {
				return err
			}
		}
		k, err := unwrap(epochs[r.Epoch], i.path(rotationDir, "leases", filepath.Base(i.keyPath(id))))
		if err != nil {
			return err
		}
		if k.Recipient() != r.Recipient {
			return sallyport.Errorf(op, sallyport.Damaged, "Look at the disk; the old keys are untouched.", "the new copy of lease %s's key is not its key", id)
		}
	}
	return nil
}

// dropRotation shreds what is left of a second set: one that is not to come, or
// one that is in force, of which only ready and empty folders are left. ready
// goes first, so that no half of a set is ever taken for a whole one.
func (i *Issuer) dropRotation() error {
	dir := i.path(rotationDir)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := keydir.Shred(filepath.Join(dir, readyFile)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil { // also where an earlier try removed it and could not say so
		return err
	}
	for _, d := range []string{".", "epochs", "leases"} {
		list, err := os.ReadDir(filepath.Join(dir, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range list {
			if e.IsDir() {
				continue
			}
			drop := keydir.Shred
			if p := filepath.Join(dir, d, e.Name()); sameFile(p, i.path("root.key")) {
				drop = os.Remove // a second name that a failed Save left to the root in force
			}
			if err := drop(filepath.Join(dir, d, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, d := range []string{"epochs", "leases", "."} {
		if err := os.Remove(filepath.Join(dir, d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(i.dir)
}
