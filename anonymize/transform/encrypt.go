package transform

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"hash"

	"sallyport"
	"sallyport/anonymize"
)

// Encrypt replaces a value by a token that the holder of the project's key can
// turn back, and nobody else. It is deterministic authenticated encryption in
// the SIV construction (Rogaway and Shrimpton, Eurocrypt 2006; the idea of RFC
// 5297 with another pseudorandom function): the value is padded, HMAC-SHA256 of
// it, cut to 128 bits, is both the tag and the initial counter, and AES-256 in
// counter mode encrypts it. The two keys are derived from the project's by HKDF
// (RFC 5869), per scope.
//
// Its limits: equal values of a scope have equal tokens, on purpose, so how
// often each occurs shows. Length shows in steps of 16 bytes: 0 to 15, 16 to
// 31, and so on. A token that was changed, or made under another key or scope,
// is refused (one in 2^128 forgeries is not). Some 2^48 values under one key
// are far from where two of them could share a counter. What leaves is
// pseudonymized, not anonymous (GDPR, recital 26).
type Encrypt struct{}

var (
	_ anonymize.Transform = Encrypt{}
	_ Reverser            = Encrypt{}
)

func (Encrypt) Name() string { return "encrypt" }
func (Encrypt) Doc() string {
	return `a token that the holder of the key can turn back; prefix (""), encoding (base32 or base64url; base32), scope (all columns alike)`
}

func (Encrypt) Traits() anonymize.Traits {
	return anonymize.Traits{Keyed: true, Opaque: true, Reversible: true}
}

func (Encrypt) Bind(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	s, err := readEncrypt(args, env)
	if err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		if string(s.last) != string(value) || s.token == nil {
			s.token = s.seal(s.token[:0], value)
			s.last = append(s.last[:0], value...)
		}
		return append(dst, s.token...), nil
	}), nil
}

func (Encrypt) Reverse(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	s, err := readEncrypt(args, env)
	if err != nil {
		return nil, err
	}
	return notEmpty(func(dst, token, _ []byte) ([]byte, error) { return s.open(dst, token) }), nil
}

// siv is the verb bound to its arguments.
type siv struct {
	prefix   string
	encoding textEncoding
	mac      hash.Hash
	block    cipher.Block
	sum      [sha256.Size]byte
	buf      []byte // counter and ciphertext, or what is decrypted
	last     []byte // records of one subject often follow each other
	token    []byte
}

type textEncoding interface {
	AppendEncode(dst, src []byte) []byte
	AppendDecode(dst, src []byte) ([]byte, error)
}

var (
	_ textEncoding = (*base32.Encoding)(nil)
	_ textEncoding = (*base64.Encoding)(nil)
)

func readEncrypt(args map[string]any, env anonymize.Env) (*siv, error) {
	a := read("encrypt", args)
	s := &siv{prefix: a.text("prefix", ptr("")), encoding: tokens}
	if a.choice("encoding", ptr("base32"), "base32", "base64url") == "base64url" {
		s.encoding = base64.RawURLEncoding
	}
	scope := a.text("scope", ptr(""))
	if err := a.done(); err != nil {
		return nil, err
	}
	keys, err := derive("encrypt", scope, 64, env)
	if err != nil {
		return nil, err
	}
	s.mac = hmac.New(sha256.New, keys[:32])
	s.block, err = aes.NewCipher(keys[32:])
	return s, err
}

// seal appends the token of value.
func (s *siv) seal(dst, value []byte) []byte {
	// Padding as in ISO/IEC 7816-4: one byte 0x80, then zeros.
	padded := append(append(s.buf[:0], make([]byte, aes.BlockSize)...), value...)
	padded = append(padded, 0x80)
	for len(padded)%aes.BlockSize != 0 {
		padded = append(padded, 0)
	}
	s.buf = padded
	iv, text := padded[:aes.BlockSize], padded[aes.BlockSize:]
	copy(iv, s.tag(text))
	cipher.NewCTR(s.block, iv).XORKeyStream(text, text)
	return s.encoding.AppendEncode(append(dst, s.prefix...), padded)
}

func (s *siv) tag(padded []byte) []byte {
	s.mac.Reset()
	s.mac.Write(padded)
	return s.mac.Sum(s.sum[:0])[:aes.BlockSize]
}

// open appends the value of a token.
func (s *siv) open(dst, token []byte) ([]byte, error) {
	refuse := func() ([]byte, error) {
		return dst, sallyport.Errorf("encrypt", sallyport.Damaged, "Name the project, the scope and the prefix under which it was made; or it has been changed since.",
			"a value is no token of this key")
	}
	if len(token) < len(s.prefix) || string(token[:len(s.prefix)]) != s.prefix {
		return refuse()
	}
	body := token[len(s.prefix):]
	all, err := s.encoding.AppendDecode(s.buf[:0], body)
	s.buf = all
	if err != nil || len(all) < 2*aes.BlockSize || len(all)%aes.BlockSize != 0 {
		return refuse()
	}
	// The decoders overlook line breaks and the last character's spare bits.
	if s.token = s.encoding.AppendEncode(s.token[:0], all); string(s.token) != string(body) {
		return refuse()
	}
	iv, text := all[:aes.BlockSize], all[aes.BlockSize:]
	cipher.NewCTR(s.block, iv).XORKeyStream(text, text)
	if !hmac.Equal(iv, s.tag(text)) {
		return refuse()
	}
	end := len(text) - 1
	for end >= 0 && text[end] == 0 {
		end--
	}
	if end < 0 || text[end] != 0x80 || len(text)-end > aes.BlockSize {
		return refuse()
	}
	return append(dst, text[:end]...), nil
}
