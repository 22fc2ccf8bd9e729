package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// maxSize keeps tree sizes inside the signed integers of the tree arithmetic,
// with room for the interior hashes.
const maxSize = 1 << 60

// Checkpoint is the head of a log: how many records it has and the root of the
// Merkle tree over them. It is written as C2SP tlog-checkpoint says
// (https://c2sp.org/tlog-checkpoint), a signed note of three lines: origin,
// size, root in base64.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte // RFC 6962 Merkle tree hash
}

func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads a signed checkpoint and verifies its signature with
// verifierKey, as [Log.VerifierKey] gives it ("name+hash+key", see
// https://c2sp.org/signed-note). Signatures by other keys, such as witnesses'
// cosignatures, are allowed and not looked at. It answers
// [sallyport.Invalid] for a text or key that is not one, and
// [sallyport.Damaged] for a signature that is missing or wrong.
func ParseCheckpoint(signed, verifierKey string) (Checkpoint, error) {
	const op = "read checkpoint"
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, sallyport.Errorf(op, sallyport.Invalid, "A verifier key looks like name+1a2b3c4d+AbC…; `audit verify` prints it.", "verifier key: %w", err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		var wrong *note.InvalidSignatureError
		var unknown *note.UnverifiedNoteError
		if errors.As(err, &wrong) || errors.As(err, &unknown) {
			return Checkpoint{}, sallyport.Errorf(op, sallyport.Damaged, "It is not of this log, was altered, or the log's key is another.",
				"the checkpoint is not signed by key %s+%08x", v.Name(), v.KeyHash())
		}
		return Checkpoint{}, sallyport.Errorf(op, sallyport.Invalid, "Give the whole text, with its signature lines and final newline.", "%w", err)
	}
	c, err := parseCheckpointText(n.Text)
	for _, sig := range n.Sigs {
		// The note package lets unused bits of the base64 be anything.
		if _, strict := base64.StdEncoding.Strict().DecodeString(sig.Base64); strict != nil {
			err = errors.Join(err, errors.New("the checkpoint's signature is not in canonical form"))
		}
	}
	if err != nil {
		return Checkpoint{}, sallyport.E(op, sallyport.Invalid, err, "")
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, sallyport.Errorf(op, sallyport.Damaged, "", "the checkpoint of %q is signed as %q", c.Origin, v.Name())
	}
	return c, nil
}

// parseCheckpointText reads the signed part, in the one form that text makes.
func parseCheckpointText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Checkpoint{}, errors.New("a checkpoint has three lines: origin, size, root")
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > maxSize {
		return Checkpoint{}, errors.New("the checkpoint's size is not a number of records")
	}
	c.Size = size
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, errors.New("the checkpoint's root is not a SHA-256 in base64")
	}
	copy(c.Root[:], root)
	if !validOrigin(c.Origin) || c.text() != text {
		return Checkpoint{}, errors.New("the checkpoint is not in canonical form")
	}
	return c, nil
}

// validOrigin: the origin is also the name of the key, where a signed note
// allows neither spaces nor plus.
func validOrigin(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// signer signs notes with the log's Ed25519 key (note algorithm 1).
type signer struct {
	name     string
	hash     uint32
	sign     func(msg []byte) ([]byte, error)
	public   ed25519.PublicKey
	verifier string
}

func newSigner(cfg Config) (*signer, error) {
	origin := cfg.Origin
	if !validOrigin(origin) {
		return nil, fmt.Errorf("origin %q must be a name such as lab.example/sallyport, without spaces or plus", origin)
	}
	sign, public := cfg.Sign, cfg.Public
	switch {
	case sign != nil && cfg.Seed == nil:
		if len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the public key has %d bytes, not %d", len(public), ed25519.PublicKeySize)
		}
	case sign == nil && len(cfg.Seed) == ed25519.SeedSize:
		key := ed25519.NewKeyFromSeed(cfg.Seed)
		sign = func(msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }
		public = key.Public().(ed25519.PublicKey)
	default:
		return nil, fmt.Errorf("the seed has %d bytes, not %d, or there are two signers", len(cfg.Seed), ed25519.SeedSize)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &signer{name: origin, hash: v.KeyHash(), sign: sign, public: public, verifier: vkey}, nil
}

func (s *signer) Name() string    { return s.name }
func (s *signer) KeyHash() uint32 { return s.hash }

// Sign asks for a signature and checks it: one that does not verify would make
// a log that convicts its honest keeper.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	sig, err := s.sign(msg)
	if err == nil && !ed25519.Verify(s.public, msg, sig) {
		err = errors.New("the signature does not verify: the signing key is another one now")
	}
	if err != nil {
		return nil, &unsigned{err}
	}
	return sig, nil
}

// unsigned is a checkpoint that could not be signed. Nothing was written then,
// and the next batch may succeed.
type unsigned struct{ err error }

func (u *unsigned) Error() string { return "sign checkpoint: " + u.err.Error() }
func (u *unsigned) Unwrap() error { return u.err }

// checkpoint returns the signed note for a tree.
func (s *signer) checkpoint(size uint64, root tlog.Hash) (string, error) {
	c := Checkpoint{Origin: s.name, Size: size, Root: root}
	b, err := note.Sign(&note.Note{Text: c.text()}, s)
	return string(b), err
}

var _ note.Signer = (*signer)(nil)
