// Package keyfile is the embedded key issuer: it keeps per-release identities
// in files of one folder, for a lab that has no Vault.
//
//	DIR/root.key          the root identity; every other key is wrapped below it
//	DIR/root.secret       32 random bytes, from which stable secrets are derived
//	DIR/epochs/E.key      a wrapping identity of one hour, wrapped to the root
//	DIR/leases/ID.json    a lease; no secret
//	DIR/leases/ID.key     its identity, wrapped to its epoch
//	DIR/rotation/         while Rotate is under way: the set that is to replace root.key and every *.key
//
// # What destruction means here
//
// Destroy writes the tombstone, overwrites ID.key with zeros and unlinks it.
// When the last live lease of an epoch ends, the epoch's wrapping identity goes
// the same way, so that a copy of ID.key made earlier stays closed even to
// whoever holds the root key.
//
// It cannot promise more than files can. Who copied the whole folder while a
// lease was live (a backup, a snapshot, a stolen disk), or copied ID.key and
// later gets at the epoch before its last lease ends, can open that release.
// Overwriting does not reach old blocks on flash or on a copy-on-write file
// system. So keep the folder on an encrypted disk and out of backups of the
// leases; where ending a key must hold against an administrator, use an issuer
// that keeps keys outside the machine.
package keyfile

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/internal/keydir"
)

// Config says where the keys are.
type Config struct {
	Dir string `yaml:"dir" json:"dir"` // made with mode 0700 if absent
}

// Issuer keeps keys in a folder. One process at a time may have it open.
type Issuer struct {
	dir    string
	now    func() time.Time
	root   *seal.Key
	secret []byte
	locked *os.File

	mu        sync.Mutex // over the files and all below
	leases    map[string]*record
	byRelease map[string]string    // release → lease ID
	epochs    map[string]*seal.Key // opened wrapping identities
	closed    bool
	rotating  bool // a rotation is past its point of no return and not yet through
}

// record is a lease as it rests in ID.json.
type record struct {
	seal.Lease
	Epoch string `json:"epoch"`

	// unwritten is set while the tombstone exists in memory only, because the
	// disk refused it.
	unwritten bool
}

// Open opens or makes the key folder, finishes what a crash interrupted, and
// takes the folder for this process. It fails with sallyport.Denied if others
// can reach the folder or its secrets, and with sallyport.Conflict while
// another process has it. Close frees it.
func Open(cfg Config, now func() time.Time) (_ *Issuer, err error) {
	if cfg.Dir == "" {
		return nil, sallyport.Errorf("open keys", sallyport.Invalid, "Set dir to a folder for the keys.", "no folder given")
	}
	i := &Issuer{dir: cfg.Dir, now: now, leases: map[string]*record{}, byRelease: map[string]string{}, epochs: map[string]*seal.Key{}}
	if err := keydir.Own(i.dir); err != nil {
		return nil, err
	}
	if i.locked, err = keydir.Lock(i.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			i.locked.Close()
		}
	}()
	for _, d := range []string{i.dir, i.path("epochs"), i.path("leases")} {
		if err := keydir.Own(d); err != nil {
			return nil, err
		}
		if err := keydir.SweepTemps(d); err != nil {
			return nil, keydir.Error("open", err)
		}
	}
	if err := i.finishRotation(); err != nil {
		return nil, err
	}
	if err := i.openRoot(); err != nil {
		return nil, err
	}
	if err := i.recover(); err != nil {
		return nil, err
	}
	return i, nil
}

// Close frees the folder for another process. The Issuer cannot be used again.
func (i *Issuer) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	i.epochs, i.root, i.secret = nil, nil, nil
	return i.locked.Close()
}

func (i *Issuer) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

// openRoot loads the root, or makes it if the folder has never had one. The
// secret is written first: where root.key is, both are.
func (i *Issuer) openRoot() error {
	key, secret := i.path("root.key"), i.path("root.secret")
	if _, err := os.Lstat(key); errors.Is(err, fs.ErrNotExist) {
		for _, d := range []string{"leases", "epochs"} {
			list, err := os.ReadDir(i.path(d))
			if err != nil {
				return keydir.Error("open", err)
			}
			if len(list) > 0 {
				return sallyport.Errorf("open keys", sallyport.Damaged, "Put root.key back; without it no key in the folder opens.",
					"%s is missing, but %s holds files", key, d)
			}
		}
		if _, err := os.Lstat(secret); errors.Is(err, fs.ErrNotExist) {
			b := make([]byte, 32)
			rand.Read(b)
			if err := keydir.WriteFile(secret, b); err != nil {
				return keydir.Error("make root", err)
			}
		}
		root, err := seal.Generate()
		if err != nil {
			return err
		}
		if err := root.Save(key); err != nil {
			return err
		}
	}
	root, err := seal.Load(key)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(secret); errors.Is(err, fs.ErrNotExist) {
		return sallyport.Errorf("open keys", sallyport.Damaged, "Put root.secret back; a new one would change every pseudonym.", "%s is missing", secret)
	}
	if err := keydir.Private(secret); err != nil {
		return err
	}
	b, err := keydir.ReadSmall(secret)
	if err != nil {
		return keydir.Error("open", err)
	}
	if len(b) != 32 {
		return sallyport.Errorf("open keys", sallyport.Damaged, "Put the original root.secret back.", "%s holds %d bytes, not 32", secret, len(b))
	}
	i.root, i.secret = root, b
	return nil
}

// recover reads all leases and brings half-done work to its end: a key without
// a lease was never issued and goes; a tombstone whose key is still there was
// being destroyed and goes on; a live lease whose key is gone has ended.
func (i *Issuer) recover() error {
	list, err := os.ReadDir(i.path("leases"))
	if err != nil {
		return keydir.Error("open", err)
	}
	keys := map[string]bool{}
	for _, e := range list {
		if id, ok := strings.CutSuffix(e.Name(), ".key"); ok {
			keys[id] = true
			continue
		}
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		b, err := keydir.ReadSmall(i.path("leases", e.Name()))
		if err != nil {
			return keydir.Error("open", err)
		}
		r := &record{}
		if err := json.Unmarshal(b, r); err != nil || r.ID != id || r.Release == "" || i.byRelease[r.Release] != "" {
			return sallyport.Errorf("open keys", sallyport.Damaged, "Restore the file from a copy, or move it away to give the lease up for good.",
				"%s is not the lease it should be", i.path("leases", e.Name()))
		}
		i.leases[id], i.byRelease[r.Release] = r, id
	}
	for id := range keys {
		if r := i.leases[id]; r == nil || r.Destroyed != nil {
			if err := keydir.Shred(i.keyPath(id)); err != nil {
				return keydir.Error("open", err)
			}
		}
	}
	for id, r := range i.leases {
		if r.Destroyed == nil && !keys[id] {
			if err := i.bury(r, "its key was found missing"); err != nil {
				return err
			}
		}
	}
	return i.dropEpochs()
}

func (i *Issuer) keyPath(id string) string { return i.path("leases", id+".key") }

// Issue mints the identity of a release. The key is written before the lease,
// which is the point where it counts as issued.
func (i *Issuer) Issue(ctx context.Context, release string, ttl time.Duration) (seal.Lease, error) {
	const op = "issue key"
	if err := keydir.CheckWord(op, "release", release); err != nil {
		return seal.Lease{}, err
	}
	if ttl <= 0 {
		return seal.Lease{}, sallyport.Errorf(op, sallyport.Invalid, "", "a lease of %s is no lease", ttl)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, op); err != nil {
		return seal.Lease{}, err
	}
	now := i.now().UTC().Round(0)
	if r := i.leases[i.byRelease[release]]; r != nil {
		if r.Live(now) {
			return r.lease(), nil
		}
		return seal.Lease{}, sallyport.Errorf(op, sallyport.Conflict, "Make a new release; an ended key does not come back.",
			"the key of release %q has ended", release)
	}
	k, err := seal.Generate()
	if err != nil {
		return seal.Lease{}, err
	}
	name, epoch, err := i.epoch(now)
	if err != nil {
		return seal.Lease{}, err
	}
	wrapped, err := k.Wrap(epoch.Recipient())
	if err != nil {
		return seal.Lease{}, err
	}
	r := &record{Epoch: name, Lease: seal.Lease{
		ID: strings.ToLower(rand.Text()), Release: release, Recipient: k.Recipient(), Issued: now, Until: now.Add(ttl),
	}}
	if err := keydir.WriteFile(i.keyPath(r.ID), wrapped); err != nil {
		return seal.Lease{}, keydir.Error(op, err)
	}
	if err := i.write(r); err != nil {
		// The lease may have reached the disk all the same (a failed sync). A
		// lease without a key is buried at the next opening.
		return seal.Lease{}, errors.Join(keydir.Error(op, err), keydir.Shred(i.keyPath(r.ID)), keydir.Shred(i.path("leases", r.ID+".json")))
	}
	i.leases[r.ID], i.byRelease[release] = r, r.ID
	return r.lease(), nil
}

// Fetch opens the key of a live lease.
func (i *Issuer) Fetch(ctx context.Context, id string) (*seal.Key, error) {
	const op = "fetch key"
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, op); err != nil {
		return nil, err
	}
	r := i.leases[id] // the map is asked, never the file system: any id is harmless
	if r == nil {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "", "no such lease")
	}
	if !r.Live(i.now()) {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "Make a new release; an ended key does not come back.", "lease %s has ended", id)
	}
	return i.leaseKey(op, r)
}

// leaseKey opens the key file of a lease.
func (i *Issuer) leaseKey(op string, r *record) (*seal.Key, error) {
	epoch, err := i.openEpoch(r.Epoch)
	if sallyport.KindOf(err) == sallyport.NotFound { // the lease is there, so this is no NotFound
		return nil, sallyport.E(op, sallyport.Damaged, err, "")
	}
	if err != nil {
		return nil, err
	}
	b, err := keydir.ReadSmall(i.keyPath(r.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "the key file of lease %s is gone", r.ID)
	}
	if err != nil {
		return nil, keydir.Error(op, err)
	}
	k, err := epoch.Unwrap(b)
	if err != nil || k.Recipient() != r.Recipient {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "the key file of lease %s does not hold its key", r.ID)
	}
	return k, nil
}

// Destroy ends a lease for good, see the package comment. It goes through even
// when ctx has ended: giving up half-way would help nobody.
func (i *Issuer) Destroy(_ context.Context, id, reason string) error {
	const op = "destroy key"
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(context.Background(), op); err != nil {
		return err
	}
	r := i.leases[id]
	if r == nil {
		return sallyport.Errorf(op, sallyport.NotFound, "", "no such lease")
	}
	return i.destroy(r, reason)
}

// destroy is Destroy under the lock. Asked again it finishes what failed.
func (i *Issuer) destroy(r *record, reason string) error {
	const op = "destroy key"
	// A full disk may refuse the tombstone; the key goes all the same, and the
	// next opening buries a lease without a key.
	buried := i.bury(r, reason)
	if err := keydir.Shred(i.keyPath(r.ID)); err != nil {
		return errors.Join(keydir.Error(op, err), buried)
	}
	if buried != nil {
		return buried
	}
	return i.dropEpochs()
}

// bury makes r a durable tombstone. From here on it is destroyed to everyone,
// in this process and after any crash.
func (i *Issuer) bury(r *record, reason string) error {
	if r.Destroyed == nil {
		now := i.now().UTC().Round(0)
		r.Destroyed, r.Reason, r.unwritten = &now, reason, true
	}
	if r.unwritten {
		if err := i.write(r); err != nil {
			return keydir.Error("destroy key", err)
		}
		r.unwritten = false
	}
	return nil
}

// List returns every lease, oldest first.
func (i *Issuer) List(ctx context.Context) ([]seal.Lease, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, "list keys"); err != nil {
		return nil, err
	}
	out := make([]seal.Lease, 0, len(i.leases))
	for _, r := range i.leases {
		out = append(out, r.lease())
	}
	keydir.OldestFirst(out)
	return out, nil
}

// Sweep destroys every lease that has run out and returns those it destroyed,
// oldest first, so that their end can be recorded. Until it is called a lease
// past its end is refused but its key still rests on the disk. With an error it
// returns what it got done.
func (i *Issuer) Sweep(ctx context.Context) ([]seal.Lease, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, "sweep keys"); err != nil {
		return nil, err
	}
	now := i.now()
	var out []seal.Lease
	var errs []error
	for _, r := range i.leases {
		switch {
		case r.Destroyed == nil && !r.Live(now):
			if err := i.destroy(r, "expired"); err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, r.lease())
		case r.unwritten:
			errs = append(errs, i.destroy(r, r.Reason))
		}
	}
	keydir.OldestFirst(out)
	return out, errors.Join(errs...)
}

// Derive gives the stable secret of a purpose: HKDF-SHA-256 (RFC 5869) of the
// root secret, with the purpose in info.
func (i *Issuer) Derive(ctx context.Context, purpose string) ([]byte, error) {
	const op = "derive secret"
	if err := keydir.CheckWord(op, "purpose", purpose); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.usable(ctx, op); err != nil {
		return nil, err
	}
	b, err := hkdf.Key(sha256.New, i.secret, nil, "sallyport/derive/v1\x00"+purpose, 32)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	return b, nil
}

func (i *Issuer) usable(ctx context.Context, op string) error {
	if i.closed {
		return sallyport.Errorf(op, sallyport.Unavailable, "", "the key folder is closed")
	}
	if i.rotating {
		if err := i.finishRotation(); err != nil {
			return sallyport.E(op, sallyport.KindOf(err), err, "A rotation of the keys cannot be finished. Look at the disk; nothing is lost, and it goes on with the next call.")
		}
	}
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	return nil
}

func (i *Issuer) write(r *record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return keydir.WriteFile(i.path("leases", r.ID+".json"), append(b, '\n'))
}

// lease returns a copy that shares nothing with r.
func (r *record) lease() seal.Lease {
	l := r.Lease
	if l.Destroyed != nil {
		t := *l.Destroyed
		l.Destroyed = &t
	}
	return l
}

// epoch returns the wrapping identity of now's hour, and makes it if need be.
func (i *Issuer) epoch(now time.Time) (string, *seal.Key, error) {
	name := now.Truncate(time.Hour).Format("20060102T15")
	k, err := i.openEpoch(name)
	if err == nil || sallyport.KindOf(err) != sallyport.NotFound {
		return name, k, err
	}
	if k, err = seal.Generate(); err != nil {
		return "", nil, err
	}
	wrapped, err := k.Wrap(i.root.Recipient())
	if err != nil {
		return "", nil, err
	}
	if err := keydir.WriteFile(i.epochPath(name), wrapped); err != nil {
		return "", nil, keydir.Error("issue key", err)
	}
	i.epochs[name] = k
	return name, k, nil
}

func (i *Issuer) epochPath(name string) string { return i.path("epochs", filepath.Base(name)+".key") }

func (i *Issuer) openEpoch(name string) (*seal.Key, error) {
	if k := i.epochs[name]; k != nil {
		return k, nil
	}
	b, err := keydir.ReadSmall(i.epochPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.Errorf("open keys", sallyport.NotFound, "", "no wrapping key of %q", name)
	}
	if err != nil {
		return nil, keydir.Error("open wrapping key", err)
	}
	k, err := i.root.Unwrap(b)
	if err != nil {
		return nil, sallyport.E(fmt.Sprintf("wrapping key of %q", name), sallyport.Damaged, err, "Was root.key exchanged? Put the original back.")
	}
	i.epochs[name] = k
	return k, nil
}

// dropEpochs shreds every wrapping identity that no lease needs any more.
func (i *Issuer) dropEpochs() error {
	needed := map[string]bool{}
	for _, r := range i.leases {
		if r.Destroyed == nil {
			needed[r.Epoch] = true
		}
	}
	list, err := os.ReadDir(i.path("epochs"))
	if err != nil {
		return keydir.Error("drop wrapping key", err)
	}
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), ".key")
		if !ok || needed[name] {
			continue
		}
		if err := keydir.Shred(i.epochPath(name)); err != nil {
			return keydir.Error("drop wrapping key", err)
		}
		delete(i.epochs, name)
	}
	return nil
}

var (
	_ seal.Issuer  = (*Issuer)(nil)
	_ seal.Deriver = (*Issuer)(nil)
	_ seal.Sweeper = (*Issuer)(nil)
)
