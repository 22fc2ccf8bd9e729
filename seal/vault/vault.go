// Package vault is the key issuer for a site with HashiCorp Vault or OpenBao:
// keys rest where this machine's administrator cannot reach them, and their end
// is the server's doing.
//
// Each release has a key of its own in Vault's transit engine. It gives out a
// 256-bit data key, from which HKDF-SHA-256 makes the seed of the release's
// hybrid age identity. This machine keeps
//
//	DIR/leases/ID.json      the lease, and the name of its key in Vault; no secret
//	DIR/leases/ID.wrapped   the data key as Vault wrapped it: "vault:v1:…"
//	DIR/derive.check        by which an exchanged derive key would be noticed
//
// # What destruction means here
//
// Destroy writes the tombstone, deletes the wrapped form, deletes the release's
// key in Vault, and recalls hand-over tokens that nobody opened. Then no copy
// of these files opens the release, whoever holds it, and no later key of that
// name does. If Vault is away the lease has ended all the same, and Destroy and
// Sweep finish the rest, after a restart too.
//
// Raising a key's min_decryption_version would look alike and is not used:
// whoever may raise it may lower it again.
//
// Nothing recalls a key that somebody has unwrapped, and a backup of Vault's
// own storage holds what Vault held when it was made.
package vault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/internal/keydir"
)

// Parts are what an Issuer stands on.
type Parts struct {
	Now      func() time.Time // for leases; nil is time.Now
	StateDir string           // made with mode 0700 if absent
}

// Issuer keeps leases in a folder and keys in Vault. One process at a time may
// have the folder open. It never holds its lock while it waits for Vault.
type Issuer struct {
	cfg     Config
	dir     string
	now     func() time.Time
	session *session
	locked  *os.File

	mu        sync.Mutex // over all below
	leases    map[string]*record
	byRelease map[string]string        // release → lease ID
	strays    map[string]*record       // begun, never issued: to be undone
	busy      map[string]chan struct{} // releases being worked on
	derived   map[string]derived
	closed    bool
}

// record is a lease as it rests in ID.json. A record is never changed, but
// replaced by a changed copy, by whoever holds its release (see hold).
type record struct {
	seal.Lease
	Key     string   `json:"key"`               // its name in transit
	Minting bool     `json:"minting,omitempty"` // not issued yet
	Handed  []handed `json:"handed,omitempty"`  // tokens not known to be opened
	Purged  bool     `json:"purged,omitempty"`  // Vault has confirmed the end

	unwritten bool // a tombstone that the disk refused
}

// handed is a hand-over token. An accessor recalls a token and cannot open it.
type handed struct {
	Accessor string `json:"accessor"`
}

// Open signs in to Vault, opens or makes the state folder, and finishes what a
// crash interrupted. It fails with sallyport.Unavailable while Vault cannot be
// used; afterwards Vault may come and go. Close signs out.
func Open(ctx context.Context, cfg Config, parts Parts) (_ *Issuer, err error) {
	cfg, err = cfg.complete()
	if err != nil {
		return nil, err
	}
	if parts.StateDir == "" {
		return nil, sallyport.Errorf("open vault", sallyport.Invalid, "", "no folder for the leases")
	}
	i := &Issuer{
		cfg: cfg, dir: parts.StateDir, now: parts.Now,
		leases: map[string]*record{}, byRelease: map[string]string{}, strays: map[string]*record{},
		busy: map[string]chan struct{}{}, derived: map[string]derived{},
	}
	if i.now == nil {
		i.now = time.Now
	}
	if i.session, err = newSession(cfg); err != nil {
		return nil, err
	}
	if err := keydir.Own(i.dir); err != nil {
		return nil, err
	}
	if i.locked, err = keydir.Lock(i.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			i.Close()
		}
	}()
	for _, d := range []string{i.dir, i.path("leases")} {
		if err := keydir.Own(d); err != nil {
			return nil, err
		}
		if err := keydir.SweepTemps(d); err != nil {
			return nil, keydir.Error("open", err)
		}
	}
	if err := i.recover(); err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if _, err := i.session.signedIn(bound); err != nil {
		return nil, i.session.failure(ctx, "open vault", err)
	}
	// What Vault refuses now stays noted, and Sweep comes back to it.
	_ = i.finish(ctx)
	return i, nil
}

// Close signs out and frees the folder. The Issuer cannot be used again.
func (i *Issuer) Close() error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return nil
	}
	i.closed = true
	for _, d := range i.derived {
		clear(d.secret)
	}
	clear(i.derived)
	i.mu.Unlock()
	i.session.close()
	return i.locked.Close()
}

func (i *Issuer) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

func (i *Issuer) wrappedPath(id string) string { return i.path("leases", id+".wrapped") }

// recover reads all leases and brings half-done work in the folder to its end.
// What is to be done in Vault is left to finish.
func (i *Issuer) recover() error {
	list, err := os.ReadDir(i.path("leases"))
	if err != nil {
		return keydir.Error("open", err)
	}
	wrapped := map[string]bool{}
	for _, e := range list {
		if id, ok := strings.CutSuffix(e.Name(), ".wrapped"); ok {
			wrapped[id] = true
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
		err = json.Unmarshal(b, r)
		if err == nil && r.Minting && r.ID == id {
			i.strays[id] = r
			continue
		}
		if err != nil || r.ID != id || r.Release == "" || r.Key == "" || i.byRelease[r.Release] != "" {
			return sallyport.Errorf("open vault", sallyport.Damaged, "Restore the file from a copy, or move it away to give the lease up for good.",
				"%s is not the lease it should be", i.path("leases", e.Name()))
		}
		i.leases[id], i.byRelease[r.Release] = r, id
	}
	for id := range wrapped {
		if r := i.leases[id]; r == nil || r.Destroyed != nil {
			if err := keydir.Shred(i.wrappedPath(id)); err != nil {
				return keydir.Error("open", err)
			}
		}
	}
	for id, r := range i.leases {
		if r.Destroyed == nil && !wrapped[id] {
			if _, err := i.bury(r, "its wrapped key was found missing"); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold makes the caller the only one to work on a release, until unhold.
func (i *Issuer) hold(ctx context.Context, op, release string) (unhold func(), err error) {
	for {
		i.mu.Lock()
		if i.closed {
			i.mu.Unlock()
			return nil, sallyport.Errorf(op, sallyport.Unavailable, "", "the key issuer is closed")
		}
		if err := ctx.Err(); err != nil {
			i.mu.Unlock()
			return nil, sallyport.E(op, sallyport.Canceled, err, "")
		}
		other := i.busy[release]
		if other == nil {
			mine := make(chan struct{})
			i.busy[release] = mine
			i.mu.Unlock()
			return func() {
				i.mu.Lock()
				delete(i.busy, release)
				i.mu.Unlock()
				close(mine)
			}, nil
		}
		i.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
		}
	}
}

// lease returns the record of an id.
func (i *Issuer) lease(op, id string) (*record, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "", "the key issuer is closed")
	}
	r := i.leases[id] // the map is asked, never the file system: any id is harmless
	if r == nil {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "", "no such lease")
	}
	return r, nil
}

// liveLease is lease for one that has not ended.
func (i *Issuer) liveLease(op, id string) (*record, error) {
	r, err := i.lease(op, id)
	if err == nil && !r.Live(i.now()) {
		return nil, sallyport.Errorf(op, sallyport.NotFound, "Make a new release; an ended key does not come back.", "lease %s has ended", id)
	}
	return r, err
}

func (i *Issuer) put(r *record) {
	i.mu.Lock()
	i.leases[r.ID], i.byRelease[r.Release] = r, r.ID
	i.mu.Unlock()
}

func (i *Issuer) write(r *record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return keydir.WriteFile(i.path("leases", r.ID+".json"), append(b, '\n'))
}

// Issue mints the identity of a release. That it is being minted is written
// first, so that a crash leaves no unknown key in Vault; the lease is written
// last, which is the point where it counts as issued.
func (i *Issuer) Issue(ctx context.Context, release string, ttl time.Duration) (seal.Lease, error) {
	const op = "issue key"
	if err := keydir.CheckWord(op, "release", release); err != nil {
		return seal.Lease{}, err
	}
	if ttl <= 0 {
		return seal.Lease{}, sallyport.Errorf(op, sallyport.Invalid, "", "a lease of %s is no lease", ttl)
	}
	unhold, err := i.hold(ctx, op, release)
	if err != nil {
		return seal.Lease{}, err
	}
	defer unhold()
	now := i.now().UTC().Round(0)
	i.mu.Lock()
	have := i.leases[i.byRelease[release]]
	i.mu.Unlock()
	if have != nil {
		if have.Live(now) {
			return have.copy(), nil
		}
		return seal.Lease{}, sallyport.Errorf(op, sallyport.Conflict, "Make a new release; an ended key does not come back.",
			"the key of release %q has ended", release)
	}
	id := strings.ToLower(rand.Text())
	r := &record{Minting: true, Key: i.cfg.releaseKey(id), Lease: seal.Lease{ID: id, Release: release, Issued: now, Until: now.Add(ttl)}}
	i.mu.Lock()
	i.strays[id] = r
	i.mu.Unlock()
	if err = i.write(r); err != nil {
		err = keydir.Error(op, err)
	} else {
		r, err = i.mint(ctx, op, *r)
	}
	if err != nil {
		if sallyport.KindOf(err) != sallyport.Unavailable { // then Vault would not answer this either
			_ = i.undo(context.WithoutCancel(ctx), id)
		}
		return seal.Lease{}, err
	}
	i.mu.Lock()
	delete(i.strays, id)
	i.mu.Unlock()
	i.put(r)
	return r.copy(), nil
}

// mint makes the key in Vault, writes its wrapped form and then the lease.
func (i *Issuer) mint(ctx context.Context, op string, r record) (*record, error) {
	if _, err := i.session.write(ctx, op, i.cfg.at("keys", r.Key), map[string]any{"type": "aes256-gcm96"}); err != nil {
		return nil, err
	}
	// Without it the key could not be deleted, which is the point of it all.
	if _, err := i.session.write(ctx, op, i.cfg.at("keys", r.Key, "config"), map[string]any{"deletion_allowed": true}); err != nil {
		return nil, err
	}
	answer, err := i.session.write(ctx, op, i.cfg.at("datakey/plaintext", r.Key), map[string]any{"bits": 256})
	if err != nil {
		return nil, err
	}
	wrapped := text(answer, "ciphertext")
	if !strings.HasPrefix(wrapped, "vault:v") {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "Is mount a transit engine?", "vault gave no wrapped key")
	}
	k, err := identity(op, answer)
	if err != nil {
		return nil, err
	}
	r.Recipient, r.Minting = k.Recipient(), false
	if err := keydir.WriteFile(i.wrappedPath(r.ID), []byte(wrapped+"\n")); err != nil {
		return nil, keydir.Error(op, err)
	}
	if err := i.write(&r); err != nil {
		return nil, keydir.Error(op, err)
	}
	return &r, nil
}

// identity makes the age identity of the data key in Vault's answer.
func identity(op string, answer *api.Secret) (*seal.Key, error) {
	dataKey, err := base64.StdEncoding.DecodeString(text(answer, "plaintext"))
	if err != nil || len(dataKey) != 32 {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "vault gave no 256-bit key")
	}
	return seal.FromDataKey(dataKey)
}

func text(answer *api.Secret, field string) string {
	if answer == nil {
		return ""
	}
	s, _ := answer.Data[field].(string)
	return s
}

// Fetch asks Vault to unwrap the key of a live lease, each time anew: what is
// destroyed there is refused here at once.
func (i *Issuer) Fetch(ctx context.Context, id string) (*seal.Key, error) {
	const op = "fetch key"
	r, wrapped, err := i.wrapped(op, id)
	if err != nil {
		return nil, err
	}
	answer, err := i.session.write(ctx, op, i.cfg.at("decrypt", r.Key), map[string]any{"ciphertext": wrapped})
	if err != nil {
		return nil, unwrapError(op, id, err)
	}
	k, err := identity(op, answer)
	if err != nil {
		return nil, err
	}
	if k.Recipient() != r.Recipient {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "the wrapped key of lease %s does not hold its key", id)
	}
	if _, err := i.liveLease(op, id); err != nil { // it may have ended meanwhile
		return nil, err
	}
	return k, nil
}

// wrapped returns a live lease and its key as Vault wrapped it.
func (i *Issuer) wrapped(op, id string) (*record, string, error) {
	r, err := i.liveLease(op, id)
	if err != nil {
		return nil, "", err
	}
	b, err := keydir.ReadSmall(i.wrappedPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := i.liveLease(op, id); err != nil { // it ended meanwhile
			return nil, "", err
		}
		return nil, "", sallyport.Errorf(op, sallyport.Damaged, "", "the wrapped key of lease %s is gone", id)
	}
	if err != nil {
		return nil, "", keydir.Error(op, err)
	}
	return r, strings.TrimSpace(string(b)), nil
}

// unwrapError gives Vault's refusals to decrypt their names.
func unwrapError(op, id string, err error) error {
	switch {
	case answered(err, http.StatusBadRequest, "key not found"):
		return sallyport.E(op+" "+id, sallyport.NotFound, err, "Somebody deleted the key in Vault, or this is another Vault. Destroy the lease to record its end.")
	case answered(err, http.StatusBadRequest, "too old"):
		return sallyport.E(op+" "+id, sallyport.Unavailable, err, "Somebody raised the key's min_decryption_version in Vault: lower it, or destroy the lease.")
	case answered(err, http.StatusBadRequest, ""):
		return sallyport.E(op+" "+id, sallyport.Damaged, err, "The wrapped key is not this key's: was a file changed, or the key made anew?")
	}
	return err
}

// List returns every lease, oldest first. It does not need Vault.
func (i *Issuer) List(ctx context.Context) ([]seal.Lease, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, sallyport.Errorf("list keys", sallyport.Unavailable, "", "the key issuer is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, sallyport.E("list keys", sallyport.Canceled, err, "")
	}
	out := make([]seal.Lease, 0, len(i.leases))
	for _, r := range i.leases {
		out = append(out, r.copy())
	}
	keydir.OldestFirst(out)
	return out, nil
}

// copy returns the lease; it shares nothing with r.
func (r *record) copy() seal.Lease {
	l := r.Lease
	if l.Destroyed != nil {
		t := *l.Destroyed
		l.Destroyed = &t
	}
	return l
}

var (
	_ seal.Issuer  = (*Issuer)(nil)
	_ seal.Deriver = (*Issuer)(nil)
	_ seal.Sweeper = (*Issuer)(nil)
	_ seal.Wrapper = (*Issuer)(nil)
	_ seal.Signer  = (*Issuer)(nil)
)
