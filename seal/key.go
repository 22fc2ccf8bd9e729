package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"filippo.io/age"

	"sallyport"
)

// maxParcel bounds a wrapped identity and an identity file, in bytes. A real
// one is below 4 KiB.
const maxParcel = 64 << 10

// Key is a private age identity. It prints as a redaction, whatever the verb,
// and refuses to be marshaled: the only ways out of memory are [Key.Wrap] and
// [Key.Save]. A Key is never changed, so it is safe for concurrent use.
//
// The Go runtime may copy memory, so a Key cannot be wiped from it; it goes
// with the process.
type Key struct {
	// Pointers only: a Key inside somebody's unexported field is printed by
	// fmt without asking the methods below, and then shows an address.
	hybrid  *age.HybridIdentity
	classic *age.X25519Identity // only from Load: an identity made elsewhere
}

// Generate makes a fresh hybrid identity, ML-KEM-768 with X25519, which stays
// closed to a future quantum computer (age v1.3, stanza mlkem768x25519).
func Generate() (*Key, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, sallyport.E("generate key", sallyport.Internal, err, "")
	}
	return &Key{hybrid: id}, nil
}

// Recipient returns the public half: an age recipient, "age1pq1…" for a hybrid
// identity (about 2,000 characters) or "age1…" for a loaded X25519 one.
func (k *Key) Recipient() string {
	switch {
	case k == nil:
		return ""
	case k.hybrid != nil:
		return k.hybrid.Recipient().String()
	case k.classic != nil:
		return k.classic.Recipient().String()
	}
	return ""
}

// secret is the identity as an age identity file's line.
func (k *Key) secret() string {
	if k.hybrid != nil {
		return k.hybrid.String()
	}
	return k.classic.String()
}

// identity returns what opens files, or nil for a nil or zero Key.
func (k *Key) identity() age.Identity {
	switch {
	case k == nil:
	case k.hybrid != nil:
		return k.hybrid
	case k.classic != nil:
		return k.classic
	}
	return nil
}

// ValidRecipient says whether s is a recipient that [Writer] and [Key.Wrap]
// accept; the error is a sallyport.Invalid and never repeats s.
func ValidRecipient(s string) error {
	_, err := parseRecipient("recipient", s)
	return err
}

func parseRecipient(op, s string) (age.Recipient, error) {
	var r age.Recipient
	var err error
	if strings.HasPrefix(s, "age1pq1") {
		r, err = age.ParseHybridRecipient(s)
	} else {
		r, err = age.ParseX25519Recipient(s)
	}
	if err == nil {
		return r, nil
	}
	// age's own message quotes s, and s may be a private key pasted by mistake.
	hint := "Give an age recipient: age1pq1… (hybrid) or age1… (X25519)."
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(s)), "AGE-SECRET-KEY-") {
		hint = "This is a private key. Give the recipient that belongs to it, and treat the key as disclosed."
	}
	return nil, sallyport.Errorf(op, sallyport.Invalid, hint, "not an age recipient (%d characters)", len(s))
}

// Wrap is the hand-over: the identity as a small age file that only the holder
// of recipient's identity can open (an age identity file inside, so the stock
// age program can use it too).
func (k *Key) Wrap(recipient string) ([]byte, error) {
	const op = "wrap key"
	if k.identity() == nil {
		return nil, errNoKey(op)
	}
	var out bytes.Buffer
	w, err := Writer(&out, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, k.secret()+"\n"); err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	if err := w.Close(); err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	return out.Bytes(), nil
}

// Unwrap opens with k what [Key.Wrap] made. A file for another recipient is a
// sallyport.Denied, a changed or foreign one a sallyport.Damaged.
func (k *Key) Unwrap(wrapped []byte) (*Key, error) {
	const op = "unwrap key"
	if len(wrapped) > maxParcel {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "%d bytes are too many for a wrapped key", len(wrapped))
	}
	r, err := Reader(bytes.NewReader(wrapped), k)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return parseIdentity(op, plain)
}

// parseIdentity reads an age identity file with exactly one native identity.
// Its errors never repeat a byte of it.
func parseIdentity(op string, file []byte) (*Key, error) {
	var found *Key
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if found != nil {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "Keep one identity in a file.", "more than one identity in one file")
		}
		if id, err := age.ParseHybridIdentity(line); err == nil {
			found = &Key{hybrid: id}
		} else if id, err := age.ParseX25519Identity(line); err == nil {
			found = &Key{classic: id}
		} else {
			return nil, sallyport.Errorf(op, sallyport.Damaged, "", "not an age identity file")
		}
	}
	if found == nil {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "no identity in the file")
	}
	return found, nil
}

// Save writes the identity to a new file of mode 0600, in the age identity
// file format, durable when it returns. An existing file is a
// sallyport.Conflict and stays as it is: an identity is never overwritten.
func (k *Key) Save(path string) (err error) {
	const op = "save key"
	if k.identity() == nil {
		return errNoKey(op)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // CreateTemp makes files of mode 0600
	if err != nil {
		return fileError(op, err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# recipient: %s\n%s\n", k.Recipient(), k.secret())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fileError(op, err)
	}
	// A link, unlike a rename, does not replace what is there.
	if err := os.Link(f.Name(), path); err != nil {
		return fileError(op, err)
	}
	if runtime.GOOS == "windows" { // cannot sync a folder
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fileError(op, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fileError(op, err)
	}
	return nil
}

// Load reads what [Key.Save] or age-keygen wrote. A file that its group or the
// world can read or write is refused with sallyport.Denied.
func Load(path string) (*Key, error) {
	const op = "load key"
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(op, err)
	}
	defer f.Close()
	st, err := f.Stat() // of the open file: no race with a rename
	if err != nil {
		return nil, fileError(op, err)
	}
	if !st.Mode().IsRegular() {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "%s is not a regular file", path)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 { // there, modes say nothing
		return nil, sallyport.Errorf(op, sallyport.Denied, "Run chmod 600 on it, and ask who may have read it.",
			"%s can be reached by others (mode %04o)", path, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxParcel+1))
	if err != nil {
		return nil, fileError(op, err)
	}
	if len(b) > maxParcel {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "%s is too large for an identity file", path)
	}
	k, err := parseIdentity(op, b)
	if err != nil {
		return nil, sallyport.E(path, sallyport.KindOf(err), err, "")
	}
	return k, nil
}

func fileError(op string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sallyport.E(op, sallyport.NotFound, err, "")
	case errors.Is(err, fs.ErrExist):
		return sallyport.E(op, sallyport.Conflict, err, "An identity is never overwritten; move the old file away first.")
	case errors.Is(err, fs.ErrPermission):
		return sallyport.E(op, sallyport.Denied, err, "")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}

func errNoKey(op string) error {
	return sallyport.Errorf(op, sallyport.Invalid, "", "no key given")
}

const redacted = "seal.Key(redacted)"

// errSecret is what marshaling a Key gives: a redaction that could be read
// back as a key would be a trap, and a key in JSON a leak.
var errSecret = errors.New("a seal.Key is a secret and cannot be marshaled; use Wrap or Save")

func (Key) String() string               { return redacted }
func (Key) GoString() string             { return redacted }
func (Key) Format(s fmt.State, _ rune)   { io.WriteString(s, redacted) }
func (Key) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Key) MarshalText() ([]byte, error) { return nil, errSecret }
func (Key) MarshalJSON() ([]byte, error) { return nil, errSecret }
func (Key) MarshalYAML() (any, error)    { return nil, errSecret }
func (Key) GobEncode() ([]byte, error)   { return nil, errSecret }
