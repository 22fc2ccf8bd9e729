package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing/network/wire"
	"sallyport/seal"
)

// keep is a node's folder:
//
//	node.json     where the gateway is, who the node is, NATS credentials (0600)
//	identity.age  the node's own age identity; keys are wrapped to it (0600)
//	modules/      code by its digest
//	work/         ciphertext of the job at hand
//	done/         outcomes, sealed to the node's own identity
//	runs.log      one line for every start and end of a module
type keep struct {
	dir  string
	key  *seal.Key
	user nkeys.KeyPair
	lock *os.File

	mu    sync.Mutex
	place place
}

// place is the node's place at a gateway.
type place struct {
	Seed    string `json:"seed"` // user nkey
	Gateway string `json:"gateway,omitempty"`
	Pin     string `json:"pin,omitempty"`
	Token   string `json:"token,omitempty"` // digest of the token it enrolled with
	wire.Enrolled
}

func openKeep(dir string) (*keep, error) {
	const op = "open node folder"
	if dir == "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Give --dir.", "no folder for the node's state")
	}
	for _, d := range []string{"", "modules", "work", "done"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, diskError(op, err)
		}
	}
	k := &keep{dir: dir}
	var err error
	if k.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, sallyport.E(op, sallyport.Conflict, err, "Another node runs on this folder: stop it, or give this one a folder of its own.")
	}
	if err := k.load(); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *keep) close() { k.lock.Close() }

func (k *keep) path(parts ...string) string {
	return filepath.Join(append([]string{k.dir}, parts...)...)
}

func (k *keep) load() error {
	const op = "open node folder"
	var err error
	k.key, err = seal.Load(k.path("identity.age"))
	if errors.Is(err, fs.ErrNotExist) {
		if k.key, err = seal.Generate(); err == nil {
			err = k.key.Save(k.path("identity.age"))
		}
	}
	if err != nil {
		return err
	}
	b, err := os.ReadFile(k.path("node.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		pair, err := nkeys.CreateUser()
		if err != nil {
			return sallyport.E(op, sallyport.Internal, err, "")
		}
		seed, err := pair.Seed()
		if err != nil {
			return sallyport.E(op, sallyport.Internal, err, "")
		}
		// Kept before it is used: an answer that gets lost can be asked for again.
		k.user, k.place.Seed = pair, string(seed)
		return k.save()
	case err != nil:
		return diskError(op, err)
	}
	if json.Unmarshal(b, &k.place) == nil {
		k.user, err = nkeys.FromSeed([]byte(k.place.Seed))
	}
	if k.user == nil || err != nil {
		return sallyport.Errorf(op, sallyport.Damaged, "Enroll a new node in an empty folder.", "node.json is not ours")
	}
	return nil
}

// save must be called with mu held, or before anybody else knows k.
func (k *keep) save() error { return writeFile(k.path("node.json"), wire.Encode(k.place)) }

func (k *keep) credentials() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.place.JWT
}

// renewable says whether half of the credentials' life is over.
func (k *keep) renewable(now time.Time) bool {
	c, err := jwt.DecodeUserClaims(k.credentials())
	if err != nil || c.Expires == 0 {
		return false
	}
	return now.Unix() > (c.IssuedAt+c.Expires)/2
}

func (k *keep) renew(token string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.place.JWT = token
	return k.save()
}

// outcome is how an assignment ended, and whether its result waits in work/ to
// be delivered.
type outcome struct {
	Report wire.Report `json:"report"`
	Result bool        `json:"result"`
}

// finish keeps an outcome, sealed: a module's log may quote its input.
func (k *keep) finish(id string, o outcome) error {
	return replaceFile(k.path("done", id+".age"), func(w io.Writer) error {
		s, err := seal.Writer(w, k.key.Recipient())
		if err != nil {
			return err
		}
		if _, err := s.Write(wire.Encode(o)); err != nil {
			return err
		}
		return s.Close()
	})
}

// finished returns the outcome of an assignment that was run before.
func (k *keep) finished(id string) (outcome, bool, error) {
	f, err := os.Open(k.path("done", id+".age"))
	if errors.Is(err, fs.ErrNotExist) {
		return outcome{}, false, nil
	}
	if err != nil {
		return outcome{}, false, diskError("read outcome", err)
	}
	defer f.Close()
	r, err := seal.Reader(f, k.key)
	if err != nil {
		return outcome{}, false, err
	}
	b, err := io.ReadAll(io.LimitReader(r, 2*wire.MaxDocument))
	if err != nil {
		return outcome{}, false, err
	}
	var o outcome
	if err := json.Unmarshal(b, &o); err != nil {
		return outcome{}, false, sallyport.Errorf("read outcome", sallyport.Damaged, "", "it is not ours")
	}
	return o, true, nil
}

// note adds a line to runs.log, durably: it is how an owner counts executions.
func (k *keep) note(id, what string) error {
	f, err := os.OpenFile(k.path("runs.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return diskError("note run", err)
	}
	_, err = fmt.Fprintf(f, "%s %s\n", id, what)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return diskError("note run", err)
	}
	return nil
}

// starts counts how often an assignment was begun, this one included.
func (k *keep) starts(id string) (int, error) {
	f, err := os.OpenFile(k.path("work", id, "starts"), os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, diskError("count starts", err)
	}
	defer f.Close()
	if _, err := f.Write([]byte{'+'}); err != nil {
		return 0, diskError("count starts", err)
	}
	st, err := f.Stat()
	if err != nil {
		return 0, diskError("count starts", err)
	}
	return int(st.Size()), nil
}

func (k *keep) drop(id string) error {
	if err := os.RemoveAll(k.path("work", id)); err != nil {
		return diskError("clean up", err)
	}
	return nil
}

func writeFile(path string, b []byte) error {
	return replaceFile(path, func(w io.Writer) error { _, err := w.Write(b); return err })
}

// replaceFile writes a file of mode 0600 that is there whole or not at all.
func replaceFile(path string, fill func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return diskError("write file", err)
	}
	defer os.Remove(f.Name())
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if _, ours := errors.AsType[*sallyport.Error](err); err == nil || ours {
		return err
	}
	return diskError("write file", err)
}

func diskError(op string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return sallyport.E(op, sallyport.Denied, err, "Give the node's user the right to write its folder.")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "Look at the disk of the node's folder.")
}
