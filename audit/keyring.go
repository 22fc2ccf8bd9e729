package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport"
)

const (
	keyNameSize = 16
	keyGenSize  = 16
	keyMagic    = "sallyport-audit-key/1\n"
	keyFileSize = len(keyMagic) + keyGenSize + nonceSize + 32 + 16
	masterSize  = 32

	// newPrefix begins the names of files that are not whole yet.
	newPrefix = ".new-"
	// masterFile holds the master where nobody gave one.
	masterFile = "master"
	// ownSubject has the key of the log's own acts and of records of nobody.
	ownSubject = ""
)

// keyName names a key without naming the person: the first 16 bytes of an
// HMAC-SHA256 of the subject under a key derived from the master. Without the
// master a guess at a name cannot be checked.
type keyName [keyNameSize]byte

func (n keyName) String() string { return hex.EncodeToString(n[:]) }

func parseKeyName(s string) (n keyName, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != keyNameSize || hex.EncodeToString(b) != s {
		return n, false
	}
	return keyName(b), true
}

// keyGen tells a key from an earlier one of the same person, destroyed since.
type keyGen [keyGenSize]byte

type subjectKey struct {
	name keyName
	gen  keyGen
	aead cipher.AEAD
	gone atomic.Bool // destroyed: nothing may be sealed under it any more
}

// keyring is the folder of keys beside a log: a file a person, each 0600,
// holding an AES-256 key wrapped (AES-256-GCM) under one derived from the
// master. Destroying a file makes the person's records unreadable in the log
// and in every copy of it; copies of this folder must not outlive an erasure.
type keyring struct {
	dir      string
	readOnly bool
	wrap     cipher.AEAD
	nameKey  []byte
	indexKey []byte

	mu    sync.RWMutex
	of    map[string]*subjectKey  // by subject
	known map[keyName]*subjectKey // nil: known not to be there
}

func deriveKey(master []byte, what string) []byte {
	k, err := hkdf.Key(sha256.New, master, nil, "sallyport audit "+what, 32)
	if err != nil {
		panic(err) // only for lengths that are not asked for
	}
	return k
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err == nil {
		var a cipher.AEAD
		if a, err = cipher.NewGCM(block); err == nil {
			return a
		}
	}
	panic(err) // only for key lengths that are not used
}

// openKeyring opens the folder for reading. It returns nil where there are no
// keys to be had: no folder, or no master.
func openKeyring(dir string, master []byte) (*keyring, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if master == nil {
		b, err := os.ReadFile(filepath.Join(dir, masterFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		master = b
	}
	if len(master) != masterSize {
		return nil, sallyport.Errorf("", sallyport.Invalid, "", "the master of the log's keys has %d bytes, not %d", len(master), masterSize)
	}
	k := &keyring{dir: dir, readOnly: true, wrap: newAEAD(deriveKey(master, "wrap/1")), nameKey: deriveKey(master, "name/1"),
		indexKey: deriveKey(master, "index/1"), of: map[string]*subjectKey{}, known: map[keyName]*subjectKey{}}
	// A wrong master must be told from lost keys: with the right one at least
	// one key opens.
	if _, err := k.load(k.name(ownSubject)); !errors.Is(err, errNoKey) {
		return k, err
	}
	names, opened, err := k.list()
	if err == nil && len(names) > 0 && opened == 0 {
		err = sallyport.Errorf("", sallyport.Conflict, "Give the master that the keys were made under.", "no key in %s opens: it is of another master", dir)
	}
	return k, err
}

// makeKeyring opens the folder for writing, and makes it and the log's own
// key if they are not there.
func makeKeyring(dir string, master []byte) (*keyring, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(dir, newPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return nil, err
		}
	}
	if master == nil {
		if _, err := os.Stat(filepath.Join(dir, masterFile)); errors.Is(err, fs.ErrNotExist) {
			b := make([]byte, masterSize)
			rand.Read(b)
			if err := writeDurably(dir, masterFile, b); err != nil {
				return nil, err
			}
		}
	}
	k, err := openKeyring(dir, master)
	if err != nil {
		return nil, err
	}
	k.readOnly = false
	_, err = k.subject(ownSubject)
	return k, err
}

func (k *keyring) name(subject string) (n keyName) {
	m := hmac.New(sha256.New, k.nameKey)
	m.Write([]byte(subject))
	copy(n[:], m.Sum(nil))
	return n
}

// subject returns a person's key for sealing. A new one is durable before it
// is returned.
func (k *keyring) subject(subject string) (*subjectKey, error) {
	k.mu.RLock()
	s := k.of[subject]
	k.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.of[subject]; s != nil {
		return s, nil
	}
	name := k.name(subject)
	s, err := k.loadCached(name)
	if errors.Is(err, errNoKey) {
		s, err = k.make(name)
	}
	if err != nil {
		return nil, err
	}
	k.of[subject], k.known[name] = s, s
	return s, nil
}

// named returns a key for opening; [errNoKey] if it is not there.
func (k *keyring) named(name keyName) (*subjectKey, error) {
	k.mu.RLock()
	s, ok := k.known[name]
	k.mu.RUnlock()
	if !ok {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.loadCached(name)
	}
	if s == nil {
		return nil, errNoKey
	}
	return s, nil
}

// loadCached is called with mu held.
func (k *keyring) loadCached(name keyName) (*subjectKey, error) {
	if s, ok := k.known[name]; ok && s != nil {
		return s, nil
	}
	s, err := k.load(name)
	if err == nil || errors.Is(err, errNoKey) {
		k.known[name] = s
	}
	return s, err
}

func (k *keyring) load(name keyName) (*subjectKey, error) {
	b, err := os.ReadFile(filepath.Join(k.dir, name.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoKey
	}
	if err != nil {
		return nil, sallyport.Errorf("", sallyport.Unavailable, "Run as the user that owns the log.", "a key of the log: %w", err)
	}
	if len(b) != keyFileSize || !bytes.HasPrefix(b, []byte(keyMagic)) {
		return nil, errNoKey // overwritten or torn: as good as gone
	}
	b = b[len(keyMagic):]
	s := &subjectKey{name: name, gen: keyGen(b[:keyGenSize])}
	plain, err := k.wrap.Open(nil, b[keyGenSize:][:nonceSize], b[keyGenSize+nonceSize:], append(name[:], s.gen[:]...))
	if err != nil {
		return nil, errNoKey
	}
	s.aead = newAEAD(plain)
	return s, nil
}

// make is called with mu held.
func (k *keyring) make(name keyName) (*subjectKey, error) {
	if k.readOnly {
		return nil, errNoKey
	}
	key := make([]byte, 32)
	rand.Read(key)
	s := &subjectKey{name: name, aead: newAEAD(key)}
	rand.Read(s.gen[:])
	b := append([]byte(keyMagic), s.gen[:]...)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	b = k.wrap.Seal(append(b, nonce...), nonce, key, append(name[:], s.gen[:]...))
	return s, writeDurably(k.dir, name.String(), b)
}

// destroy overwrites and unlinks a key of a generation, if it is there.
// Overwriting reaches no old block on flash or on a copy-on-write file system:
// there the wrapping, and so the master, is what keeps old blocks shut.
func (k *keyring) destroy(name keyName, gen keyGen) (existed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.load(name)
	if errors.Is(err, errNoKey) {
		// Half overwritten before a crash, or never there.
		if _, err := os.Stat(filepath.Join(k.dir, name.String())); errors.Is(err, fs.ErrNotExist) {
			k.forget(name)
			return false, nil
		}
	} else if err != nil {
		return false, err
	} else if s.gen != gen {
		return false, nil
	}
	path := filepath.Join(k.dir, name.String())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return true, err
	}
	noise := make([]byte, keyFileSize)
	rand.Read(noise)
	_, err = f.WriteAt(noise, 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return true, err
	}
	k.forget(name)
	return true, errors.Join(os.Remove(path), syncDir(k.dir))
}

func (k *keyring) forget(name keyName) {
	if s := k.known[name]; s != nil {
		s.gone.Store(true)
	}
	delete(k.known, name)
	for subject, s := range k.of {
		if s.name == name {
			s.gone.Store(true)
			delete(k.of, subject)
		}
	}
}

// list returns the names of the keys in the folder, with the generation of
// those that open.
func (k *keyring) list() (gens map[keyName]keyGen, opened int, err error) {
	entries, err := os.ReadDir(k.dir)
	gens = map[keyName]keyGen{}
	for _, e := range entries {
		if name, ok := parseKeyName(e.Name()); ok {
			s, err := k.load(name)
			if err == nil {
				opened++
				gens[name] = s.gen
			} else if !errors.Is(err, errNoKey) {
				return nil, 0, err
			} else {
				gens[name] = keyGen{}
			}
		}
	}
	return gens, opened, err
}

// writeDurably makes a file whole or not at all: it is on disk, and its name
// too, when this returns nil.
func writeDurably(dir, name string, b []byte) error {
	f, err := os.CreateTemp(dir, newPrefix+"*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", strings.TrimPrefix(name, newPrefix), err)
	}
	return errors.Join(os.Rename(f.Name(), filepath.Join(dir, name)), syncDir(dir))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
