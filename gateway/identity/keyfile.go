package identity

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	idLength     = 20 // characters, as S3 clients expect of an access key ID
	secretLength = 40 // characters of base32: 200 bits
	sealedLength = 12 + secretLength + 16
	maxKeyFile   = 16 << 10
	maxWord      = 256  // bytes of a person's, project's or purpose's name
	maxNote      = 1024 // bytes
)

// record is the file of one key.
type record struct {
	Version int `json:"version"`
	AccessKey
	// Sealed is the secret under the store's key: 12 bytes of nonce, the
	// ciphertext, 16 bytes of tag. Absent once the key has ended.
	Sealed []byte `json:"sealed,omitempty"`
}

// validID reports whether id is 20 of A-Z and 0-9, so that it can stand in file
// names and headers.
func validID(id string) bool {
	if len(id) != idLength {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

// newID and newSecret use letters and digits only: clients have stumbled over
// the slash and plus of base64 in secrets.
func newID() string     { return "AK" + rand.Text()[:idLength-2] }
func newSecret() string { return (rand.Text() + rand.Text())[:secretLength] }

// checkWord says what is wrong with the name of a person, project or purpose.
func checkWord(what, s string) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("no %s", what)
	case len(s) > maxWord:
		return fmt.Errorf("%s has %d bytes: at most %d", what, len(s), maxWord)
	case !printable(s):
		return fmt.Errorf("%s holds unprintable characters", what)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// parseKey reads the file of the key id. Its errors repeat nothing of the file.
func parseKey(id string, b []byte) (record, error) {
	var r record
	if len(b) > maxKeyFile {
		return r, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return record{}, fmt.Errorf("not a key file: %s", clip(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return record{}, fmt.Errorf("something follows the key")
	}
	if err := r.check(id); err != nil {
		return record{}, err
	}
	return r, nil
}

func (r *record) check(id string) error {
	for what, s := range map[string]string{"person": r.Person, "project": r.Project, "purpose": r.Purpose} {
		if err := checkWord(what, s); err != nil {
			return err
		}
	}
	switch {
	case r.Version != 1:
		return fmt.Errorf("version %d: this gateway knows 1", r.Version)
	case !validID(r.ID) || r.ID != id:
		return fmt.Errorf("the key in it has another ID than its name says")
	case r.Issued.IsZero() || !r.Until.After(r.Issued):
		return fmt.Errorf("the key ends before it begins")
	case len(r.Note) > maxNote || !printable(r.Note):
		return fmt.Errorf("the note is too long or unprintable")
	case len(r.Sealed) != 0 && len(r.Sealed) != sealedLength:
		return fmt.Errorf("the sealed secret has %d bytes, not %d", len(r.Sealed), sealedLength)
	case r.Revoked != nil && len(r.Sealed) != 0:
		return fmt.Errorf("a revoked key still has a secret")
	}
	return nil
}

func (r *record) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// bound is the associated data of the sealed secret: the ID and everything
// about the key that never changes, so that a file whose person, project,
// purpose or end was edited does not open. Each field is preceded by its
// length, so that no two keys have the same.
func (k *AccessKey) bound() []byte {
	out := []byte("sallyport access key v1\x00")
	for _, s := range []string{k.ID, k.Person, k.Project, k.Purpose, stamp(k.Issued), stamp(k.Until)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (r *record) open(aead cipher.AEAD) (string, error) {
	plain, err := aead.Open(nil, nil, r.Sealed, r.bound())
	return string(plain), err
}
