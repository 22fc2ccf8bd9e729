package audit

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport"
)

// Cosignatures as C2SP tlog-cosignature says (https://c2sp.org/tlog-cosignature):
// a witness states that, at a time, the checkpoint was the largest that it had
// seen of the log, and continued all that it had seen before. Of the two
// algorithms there, this is Ed25519, cosignature/v1.
const (
	cosignatureType = 0x04
	cosignatureSize = 8 + ed25519.SignatureSize // timestamp, signature
)

// Cosigner signs checkpoints as a witness.
type Cosigner struct {
	WitnessKey
	private ed25519.PrivateKey
}

// NewCosigner returns the cosigner of a name and a 32-byte Ed25519 seed. The
// key must be used for nothing else: its message does not hold the name.
func NewCosigner(name string, seed []byte) (*Cosigner, error) {
	if !validOrigin(name) || len(seed) != ed25519.SeedSize {
		return nil, sallyport.Errorf("witness key", sallyport.Invalid, "Use a name such as witness.example, without spaces or plus.", "name %q with a seed of %d bytes", name, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	return &Cosigner{newWitnessKey(name, private.Public().(ed25519.PublicKey)), private}, nil
}

// Cosign returns the signature line, with its newline, for the checkpoint whose
// text (the part that is signed) is given.
func (c *Cosigner) Cosign(text string, at time.Time) (string, error) {
	t := at.Unix()
	if t <= 0 {
		return "", sallyport.Errorf("cosign", sallyport.Internal, "Set the clock.", "the clock says %s", at)
	}
	sig := binary.BigEndian.AppendUint32(nil, c.hash)
	sig = binary.BigEndian.AppendUint64(sig, uint64(t))
	sig = append(sig, ed25519.Sign(c.private, cosigned(uint64(t), []byte(text)))...)
	return signatureMark + c.name + " " + base64.StdEncoding.EncodeToString(sig) + "\n", nil
}

const signatureMark = "— "

// cosigned is the message that a cosignature/v1 signs.
func cosigned(t uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(t, 10)+"\n"), text...)
}

// WitnessKey is a witness's public key.
type WitnessKey struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

func newWitnessKey(name string, public ed25519.PublicKey) WitnessKey {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	return WitnessKey{name, binary.BigEndian.Uint32(sum[:]), public}
}

// ParseWitnessKey reads a witness's verifier key, "name+hash+key" with
// signature type 4 (https://c2sp.org/signed-note).
func ParseWitnessKey(vkey string) (WitnessKey, error) {
	no := func(why string) (WitnessKey, error) {
		return WitnessKey{}, sallyport.Errorf("witness key", sallyport.Invalid, "`sallyport witness serve` prints it: name+1a2b3c4d+BA….", "%s", why)
	}
	name, rest, _ := strings.Cut(vkey, "+")
	hash, key, ok := strings.Cut(rest, "+")
	if !ok || !validOrigin(name) {
		return no("a witness's verifier key has three parts: name, hash, key")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(b) != 1+ed25519.PublicKeySize {
		return no("the key of witness " + name + " is not an Ed25519 key in base64")
	}
	if b[0] != cosignatureType {
		return no(fmt.Sprintf("the key of witness %s is of signature type %d; only type 4, Ed25519 cosignatures, is known", name, b[0]))
	}
	k := newWitnessKey(name, b[1:])
	if k.String() != vkey {
		return no("the hash " + hash + " is not that of the key of witness " + name)
	}
	return k, nil
}

// String returns the verifier key.
func (k WitnessKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, base64.StdEncoding.EncodeToString(append([]byte{cosignatureType}, k.public...)))
}

// Name returns the witness's name.
func (k WitnessKey) Name() string { return k.name }

// KeyHash returns the four bytes that stand for the key in a signature.
func (k WitnessKey) KeyHash() uint32 { return k.hash }

// Verify checks a cosignature, without the key's hash.
func (k WitnessKey) Verify(msg, sig []byte) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	t := binary.BigEndian.Uint64(sig)
	return t > 0 && t <= math.MaxInt64 && ed25519.Verify(k.public, cosigned(t, msg), sig[8:])
}

var _ note.Verifier = WitnessKey{}

// Cosignature is one witness's word for a checkpoint.
type Cosignature struct {
	Witness string    `json:"witness"`
	Key     string    `json:"key"` // its verifier key
	Time    time.Time `json:"time"`
}

// ParseCosigned is [ParseCheckpoint] that also verifies the cosignatures of
// the witnesses named, and returns those that are there, by name. A wrong
// signature of one of them is an error; another's is not looked at.
func ParseCosigned(signed, verifierKey string, witnesses []WitnessKey) (Checkpoint, []Cosignature, error) {
	cp, err := ParseCheckpoint(signed, verifierKey)
	if err != nil || len(witnesses) == 0 {
		return cp, nil, err
	}
	var list []note.Verifier
	for _, w := range witnesses {
		list = append(list, w)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(list...))
	if unknown := (*note.UnverifiedNoteError)(nil); errors.As(err, &unknown) {
		return cp, nil, nil
	}
	if err != nil {
		return Checkpoint{}, nil, sallyport.Errorf("read checkpoint", sallyport.Damaged, "", "a cosignature is not its witness's: %w", err)
	}
	var out []Cosignature
	for _, sig := range n.Sigs {
		b, err := base64.StdEncoding.Strict().DecodeString(sig.Base64)
		if err != nil {
			return Checkpoint{}, nil, sallyport.Errorf("read checkpoint", sallyport.Invalid, "", "a cosignature is not in canonical form")
		}
		i := slices.IndexFunc(witnesses, func(w WitnessKey) bool { return w.name == sig.Name && w.hash == sig.Hash })
		out = append(out, Cosignature{sig.Name, witnesses[i].String(), time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0).UTC()})
	}
	slices.SortFunc(out, func(a, b Cosignature) int { return cmp.Compare(a.Key, b.Key) })
	return cp, out, nil
}
