package identity

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport"
)

// AccessKey lets an S3 client act as a person, for one project and purpose,
// until it ends. It holds no secret and may be shown and logged.
type AccessKey struct {
	ID      string     `json:"id"` // 20 of A-Z and 0-9
	Person  string     `json:"person"`
	Project string     `json:"project"`
	Purpose string     `json:"purpose"`
	Issued  time.Time  `json:"issued"`
	Until   time.Time  `json:"until"`             // the first moment at which it is no longer good
	Revoked *time.Time `json:"revoked,omitempty"` // nil: never
	Note    string     `json:"note,omitempty"`    // whatever people want to remember
}

// Live reports whether the key is good at that time.
func (k AccessKey) Live(at time.Time) bool { return k.Revoked == nil && at.Before(k.Until) }

// ended is when the key ended or will end.
func (k AccessKey) ended() time.Time {
	if k.Revoked != nil && k.Revoked.Before(k.Until) {
		return *k.Revoked
	}
	return k.Until
}

// KeyConfig says where access keys are kept and how far they reach. Zero
// values stand for the defaults.
type KeyConfig struct {
	Dir       string        `yaml:"dir" json:"dir"`               // made with mode 0700 if absent
	MaxTTL    time.Duration `yaml:"max_ttl" json:"max_ttl"`       // longest life of a key; 24h
	PerPerson int           `yaml:"per_person" json:"per_person"` // live keys of one person; 100
	Keep      time.Duration `yaml:"keep" json:"keep"`             // how long an ended key is listed; 2160h (90 days)
}

// backwards is how far the clock may have gone back since a key was issued. A
// clock that was set back further would lengthen the lives of all keys.
const backwards = 5 * time.Minute

const lockName = "lock"

// KeyStore keeps access keys: one JSON file a key, mode 0600, durable before
// the key is told to anybody. SigV4 (AWS, "Signature Version 4 signing
// process") needs the secret itself on both sides, not a hash, so it is kept
// under AES-256-GCM with a key that the store does not keep. It is erased when
// the access key is revoked, and by [KeyStore.Sweep] after it has expired.
//
// One process has the folder at a time; a command line asks the gateway. A
// folder put back from a backup revives keys that were revoked since, if they
// have not expired: revoke them again.
//
// Safe for concurrent use.
type KeyStore struct {
	cfg  KeyConfig
	root *os.Root
	lock *os.File
	aead cipher.AEAD
	now  func() time.Time
	log  *slog.Logger

	// writing is held while a file changes. It is taken before mu, and mu is
	// not held while the disk works, so that looking up never waits for it.
	writing sync.Mutex
	mu      sync.RWMutex
	keys    map[string]entry
}

type entry struct {
	record
	broken bool // the sealed secret does not open
}

// OpenKeys opens the store. key seals the secrets; the same one is needed each
// time. A file that is damaged or was changed by hand is reported to log, and
// its key refused; if no secret opens at all the store does not open
// (sallyport.Damaged), since key is then most likely another one.
func OpenKeys(cfg KeyConfig, key [32]byte, now func() time.Time, log *slog.Logger) (*KeyStore, error) {
	const op = "open access keys"
	if cfg.MaxTTL < 0 || cfg.PerPerson < 0 || cfg.Keep < 0 {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "max_ttl, per_person and keep must be positive")
	}
	cfg.MaxTTL = cmp.Or(cfg.MaxTTL, 24*time.Hour)
	cfg.PerPerson = cmp.Or(cfg.PerPerson, 100)
	cfg.Keep = cmp.Or(cfg.Keep, 90*24*time.Hour)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	// Random nonces are good for 2^32 messages (NIST SP 800-38D, 8.3), far more
	// than keys will ever be issued.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	root, err := privateDir(op, cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &KeyStore{cfg: cfg, root: root, aead: aead, now: now, log: log, keys: map[string]entry{}}
	if s.lock, err = lockRoot(op, root, cfg.Dir); err != nil {
		root.Close()
		return nil, err
	}
	if err = s.load(op); err == nil {
		_, err = s.Sweep(context.Background())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// lockRoot takes the folder for this process; the kernel frees it when the
// process ends, however it ends.
func lockRoot(op string, root *os.Root, dir string) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault(op, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, sallyport.Errorf(op, sallyport.Conflict, "Stop the other gateway, or give this one a folder of its own.",
			"another process uses the access keys in %s", dir)
	}
	return nil, fault(op, err)
}

func (s *KeyStore) load(op string) error {
	if err := sweepUnfinished(s.root); err != nil {
		return fault(op, err)
	}
	list, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return fault(op, err)
	}
	opened, shut := 0, 0
	for _, e := range list {
		if e.Name() == lockName {
			continue
		}
		id, isJSON := strings.CutSuffix(e.Name(), ".json")
		if !isJSON || !validID(id) || !e.Type().IsRegular() {
			s.log.Warn("this is no access key, and ignored", "folder", s.cfg.Dir, "file", e.Name())
			continue
		}
		rec, err := s.read(op, id)
		if sallyport.KindOf(err) == sallyport.Denied {
			return err
		}
		if err != nil {
			s.log.Error("the file of an access key is unusable; the key is refused", "key", id, "err", err)
			continue
		}
		en := entry{record: rec}
		if len(rec.Sealed) > 0 {
			if _, err := rec.open(s.aead); err != nil {
				shut++
				en.broken = true
				s.log.Error("the file of an access key was changed, or sealed under another key; the key is refused", "key", id)
			} else {
				opened++
			}
		}
		s.keys[id] = en
	}
	if opened == 0 && shut > 0 {
		return sallyport.Errorf(op, sallyport.Damaged,
			"Give the gateway the key issuer it had; or move the files away, and let people make new keys.",
			"none of the %d secrets in %s opens: they were sealed under another key, or changed", shut, s.cfg.Dir)
	}
	return nil
}

func (s *KeyStore) read(op, id string) (record, error) {
	f, err := s.root.Open(id + ".json")
	if err != nil {
		return record{}, fault(op, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return record{}, fault(op, err)
	}
	if err := private(op, "the access key file "+f.Name(), st); err != nil {
		return record{}, err
	}
	b, err := readSmall(f, maxKeyFile)
	if err != nil {
		return record{}, sallyport.E(op, sallyport.Damaged, err, "")
	}
	rec, err := parseKey(id, b)
	if err != nil {
		return record{}, sallyport.E(op, sallyport.Damaged, err, "")
	}
	return rec, nil
}

// Close gives the folder back. Afterwards every key is unknown.
func (s *KeyStore) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.keys = map[string]entry{}
	s.mu.Unlock()
	return errors.Join(s.lock.Close(), s.root.Close())
}

// New issues a key that is good for ttl, in whole seconds. The secret is told
// this once. Whether the person may have one is the caller's question to ask.
func (s *KeyStore) New(ctx context.Context, person, project, purpose string, ttl time.Duration) (AccessKey, string, error) {
	const op = "new access key"
	fail := func(err error) (AccessKey, string, error) { return AccessKey{}, "", err }
	if err := ctx.Err(); err != nil {
		return fail(sallyport.E(op, sallyport.Canceled, err, ""))
	}
	for what, word := range map[string]string{"person": person, "project": project, "purpose": purpose} {
		if err := checkWord(what, word); err != nil {
			return fail(sallyport.E(op, sallyport.Invalid, err, "A key is bound to a person, a project and a purpose."))
		}
	}
	ttl = ttl.Truncate(time.Second)
	if ttl <= 0 || ttl > s.cfg.MaxTTL {
		return fail(sallyport.Errorf(op, sallyport.Invalid, "Ask for a shorter life; keys are easily renewed.",
			"a life of %s: keys live 1s to %s here", ttl, s.cfg.MaxTTL))
	}

	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now().UTC().Truncate(time.Second)
	if n := s.liveOf(person, now); n >= s.cfg.PerPerson {
		return fail(sallyport.Errorf(op, sallyport.Exhausted, "Revoke some, or wait for them to end.", "%s has %d live keys already", person, n))
	}
	rec := record{Version: 1, AccessKey: AccessKey{
		ID: newID(), Person: person, Project: project, Purpose: purpose, Issued: now, Until: now.Add(ttl),
	}}
	if _, taken := s.entry(rec.ID); taken { // 90 random bits: only a broken generator repeats itself
		return fail(sallyport.Errorf(op, sallyport.Internal, "", "the random generator repeated itself"))
	}
	secret := newSecret()
	rec.Sealed = s.aead.Seal(nil, nil, []byte(secret), rec.bound())
	if err := s.write(op, rec); err != nil {
		// Nobody will ever know its secret.
		return fail(errors.Join(err, ignoreClosed(remove(s.root, rec.ID+".json"))))
	}
	s.mu.Lock()
	s.keys[rec.ID] = entry{record: rec}
	s.mu.Unlock()
	return rec.AccessKey, secret, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

func (s *KeyStore) liveOf(person string, now time.Time) (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.keys {
		if e.Person == person && e.Live(now) {
			n++
		}
	}
	return n
}

func (s *KeyStore) entry(id string) (entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.keys[id]
	return e, ok
}

func (s *KeyStore) write(op string, r record) error {
	b, err := r.marshal()
	if err != nil {
		return sallyport.E(op, sallyport.Internal, err, "")
	}
	if err := replace(s.root, r.ID+".json", b, 0o600); err != nil {
		return fault(op, err)
	}
	return nil
}

// badKey is the one answer to whoever comes with a key that is no good: an
// unknown, an expired and a revoked one look the same from outside.
func badKey(reason string, args ...any) error {
	return refuse("access key", "Get a new one with `sallyport key new`.", "the access key is not valid", reason, args...)
}

// Lookup returns a live key and its secret, to verify a signature with. An
// unknown, expired or revoked key is a sallyport.Denied whose text does not say
// which; [Reason] does. Times are compared with the store's clock.
func (s *KeyStore) Lookup(id string) (AccessKey, string, error) {
	e, err := s.live(id)
	if err != nil {
		return AccessKey{}, "", err
	}
	secret, err := e.open(s.aead)
	if err != nil {
		return AccessKey{}, "", badKey("the secret of key %s does not open", id)
	}
	return e.AccessKey, secret, nil
}

// Check says whether a key is still good, as [Lookup] would but without opening
// its secret. It is cheap: a door asks it again and again while it sends a
// large object, so that revoking a key ends a download.
func (s *KeyStore) Check(id string) error {
	_, err := s.live(id)
	return err
}

func (s *KeyStore) live(id string) (entry, error) {
	if !validID(id) {
		return entry{}, badKey("the ID is malformed")
	}
	e, ok := s.entry(id)
	now := s.now()
	switch {
	case !ok:
		return entry{}, badKey("key %s is unknown", id)
	case e.Revoked != nil:
		return entry{}, badKey("key %s was revoked at %s", id, stamp(*e.Revoked))
	case !now.Before(e.Until):
		return entry{}, badKey("key %s expired at %s", id, stamp(e.Until))
	case now.Before(e.Issued.Add(-backwards)):
		return entry{}, badKey("key %s was issued at %s, later than this machine's clock says it is", id, stamp(e.Issued))
	case e.broken:
		return entry{}, badKey("the file of key %s was changed, or sealed under another key", id)
	case len(e.Sealed) == 0:
		return entry{}, badKey("the secret of key %s was erased", id)
	}
	return e, nil
}

// Revoke ends a key now and for good, and erases its secret. Doing it again is
// no error. If the disk fails the key is refused nevertheless for as long as
// this process runs, and the error says that it must be repeated.
func (s *KeyStore) Revoke(ctx context.Context, id string) error {
	const op = "revoke access key"
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	at := s.now().UTC().Truncate(time.Second)
	if !s.change(id, func(e *entry) {
		if e.Revoked == nil {
			e.Revoked, e.Sealed = &at, nil
		}
	}) {
		return s.absent(op, id)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.save(op, id); err != nil {
		return sallyport.E(op, sallyport.KindOf(err), err, "The key is refused until the gateway restarts: mend the disk and revoke it again before that.")
	}
	return nil
}

// change changes a key in memory, for everybody at once, and reports whether it
// is there. [KeyStore.save] follows. In this order two changes of one key can
// come together and neither is lost.
func (s *KeyStore) change(id string, f func(*entry)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.keys[id]
	if ok {
		f(&e)
		s.keys[id] = e
	}
	return ok
}

// save writes a key as it is in memory; writing is held. One that was swept
// meanwhile stays away.
func (s *KeyStore) save(op, id string) error {
	e, ok := s.entry(id)
	if !ok {
		return nil
	}
	return s.write(op, e.record)
}

// Annotate replaces the note of a key, at most 1024 bytes on one line.
func (s *KeyStore) Annotate(ctx context.Context, id, note string) error {
	const op = "annotate access key"
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	if len(note) > maxNote || !printable(note) {
		return sallyport.Errorf(op, sallyport.Invalid, "Shorten it to one line.", "the note is too long or unprintable")
	}
	if !s.change(id, func(e *entry) { e.Note = note }) {
		return s.absent(op, id)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.save(op, id)
}

func (s *KeyStore) absent(op, id string) error {
	return sallyport.Errorf(op, sallyport.NotFound, "`sallyport key ls` lists yours.", "no access key %q", clip(id))
}

// List returns all keys, live and ended, in the order they were issued.
func (s *KeyStore) List() []AccessKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]AccessKey, 0, len(s.keys))
	for _, e := range s.keys {
		k := e.AccessKey
		if k.Revoked != nil {
			at := *k.Revoked
			k.Revoked = &at
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b AccessKey) int {
		return cmp.Or(a.Issued.Compare(b.Issued), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Sweep erases the secrets of keys that have ended, and forgets those that
// ended longer ago than the configured keep; the audit log still knows them. It
// returns how many files it changed. Opening the store does it too.
func (s *KeyStore) Sweep(ctx context.Context) (int, error) {
	const op = "sweep access keys"
	s.writing.Lock()
	defer s.writing.Unlock()
	now, n := s.now(), 0
	for _, k := range s.List() {
		if err := ctx.Err(); err != nil {
			return n, sallyport.E(op, sallyport.Canceled, err, "")
		}
		if k.Live(now) {
			continue
		}
		e, _ := s.entry(k.ID)
		switch {
		case now.Sub(k.ended()) > s.cfg.Keep:
			if err := remove(s.root, k.ID+".json"); err != nil {
				return n, fault(op, err)
			}
			s.mu.Lock()
			delete(s.keys, k.ID)
			s.mu.Unlock()
		case len(e.Sealed) > 0:
			s.change(k.ID, func(e *entry) { e.Sealed = nil })
			if err := s.save(op, k.ID); err != nil {
				return n, err
			}
		default:
			continue
		}
		n++
	}
	return n, nil
}
