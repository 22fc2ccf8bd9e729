package transform

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"

	"sallyport"
	"sallyport/anonymize"
)

// Pseudonym replaces a value by a keyed token: HMAC-SHA256 (RFC 2104) under
// the project's key, truncated to at least 128 bits, in lower-case base32. The
// same bytes give the same token in every column, file and format of the
// project, so tables still join; a scope makes a column's tokens its own. Bytes
// are compared as they are: "007" and "7" are two subjects.
//
// A plain hash would be undone by hashing all possible values; this needs the
// key. What leaves is pseudonymized, not anonymous (GDPR, recital 26).
type Pseudonym struct{}

var _ anonymize.Transform = Pseudonym{}

func (Pseudonym) Name() string { return "pseudonym" }
func (Pseudonym) Doc() string {
	return `a keyed token, the same for the same value; length (26 to 51 characters; 26), prefix (""), scope (all columns alike)`
}

func (Pseudonym) Traits() anonymize.Traits { return anonymize.Traits{Keyed: true, Opaque: true} }

var tokens = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (Pseudonym) Bind(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	a := read("pseudonym", args)
	// 26 characters carry 130 bits; 51 are all that SHA-256 fills.
	length := a.integer("length", ptr(26), 26, 51)
	prefix := a.text("prefix", ptr(""))
	scope := a.text("scope", ptr(""))
	if err := a.done(); err != nil {
		return nil, err
	}
	key, err := secret("pseudonym", env)
	if err != nil {
		return nil, err
	}
	// The scope is preceded by its length: no scope and value can be taken for
	// another scope and value.
	domain := append(binary.AppendUvarint(nil, uint64(len(scope))), scope...)
	size := min((length+7)/8*5, sha256.Size) // bytes that fill length characters
	mac := hmac.New(sha256.New, key)
	var sum [sha256.Size]byte
	var token [52]byte
	var last []byte // records of one subject often follow each other
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		if string(last) != string(value) {
			mac.Reset()
			mac.Write(domain)
			mac.Write(value)
			tokens.Encode(token[:], mac.Sum(sum[:0])[:size])
			last = append(last[:0], value...)
		}
		dst = append(dst, prefix...)
		return append(dst, token[:length]...), nil
	}), nil
}

// secret returns the key for a purpose.
func secret(purpose string, env anonymize.Env) ([]byte, error) {
	var key []byte
	if env.Key != nil {
		key = env.Key(purpose)
	}
	if len(key) < 32 {
		return nil, sallyport.Errorf(purpose, sallyport.Unavailable, "See that the project has a pseudonymization key.", "no key of 32 bytes")
	}
	return key, nil
}

// derive returns size bytes for a purpose and scope, by HKDF-Expand (RFC 5869)
// of the purpose's key, which is a key already.
func derive(purpose, scope string, size int, env anonymize.Env) ([]byte, error) {
	key, err := secret(purpose, env)
	if err != nil {
		return nil, err
	}
	return hkdf.Expand(sha256.New, key, purpose+"\x00"+scope, size)
}
