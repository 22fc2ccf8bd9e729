package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// signOffMagic is the first line of a sign-off, so that no other note is one.
const signOffMagic = "sallyport-review/1"

// maxSaid bounds a name or meaning, in bytes.
const maxSaid = 1000

// SignOff is what a person says of a range of a log that they reviewed: who,
// when, what the signature means (21 CFR 11.50), which records, and the root of
// the tree that ends with them, which ties the words to their content (11.70).
// It is written as a signed note (https://c2sp.org/signed-note) by a key that
// signs nothing else, named origin/review:
//
//	sallyport-review/1
//	origin of the log
//	first record
//	number of records up to the end of the range
//	root of the tree of that many records, base64
//	SHA-256 of the sign-off before, whole text, base64; "-" for the first
//	time, RFC 3339
//	name
//	meaning
type SignOff struct {
	Origin   string    `json:"origin"`
	From     uint64    `json:"from"` // first record of the range
	To       uint64    `json:"to"`   // one more than the last
	Root     tlog.Hash `json:"root"` // of the tree of To records
	Previous string    `json:"previous,omitempty"`
	Time     time.Time `json:"time"`
	Name     string    `json:"name"`
	Meaning  string    `json:"meaning"`
}

func (s SignOff) text() string {
	previous := s.Previous
	if previous == "" {
		previous = "-"
	}
	return strings.Join([]string{signOffMagic, s.Origin, strconv.FormatUint(s.From, 10), strconv.FormatUint(s.To, 10),
		base64.StdEncoding.EncodeToString(s.Root[:]), previous, s.Time.UTC().Format(time.RFC3339), s.Name, s.Meaning, ""}, "\n")
}

// DigestOfSignOff is how the next sign-off names this one.
func DigestOfSignOff(signed string) string {
	h := sha256.Sum256([]byte(signed))
	return base64.StdEncoding.EncodeToString(h[:])
}

// oneLine: what stands in a line of a note as it is.
func oneLine(s string) bool {
	return s != "" && len(s) <= maxSaid && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (s SignOff) check() error {
	switch {
	case !validOrigin(s.Origin):
		return errors.New("the log's name is none")
	case s.From >= s.To || s.To > maxSize:
		return errors.New("the range holds no record")
	case !oneLine(s.Name) || !oneLine(s.Meaning):
		return errors.New("name and meaning are one line each, of at most 1000 bytes")
	case s.Time.IsZero() || s.Time.Nanosecond() != 0:
		return errors.New("the time has whole seconds")
	case s.Previous != "":
		if _, err := parseBase64Hash(s.Previous); err != nil {
			return err
		}
	}
	return nil
}

func reviewSigner(k SigningKey, origin string) (*signer, error) {
	return newSigner(Config{Origin: origin + "/review", Seed: k.Seed, Sign: k.Sign, Public: k.Public})
}

// ReviewKey returns the public key of the key that signs reviews of the log of
// origin, as [ParseSignOff] takes it.
func ReviewKey(k SigningKey, origin string) (string, error) {
	s, err := reviewSigner(k, origin)
	if err != nil {
		return "", sallyport.E("sign off", sallyport.Invalid, err, "")
	}
	return s.verifier, nil
}

// Sign writes the signed note. [sallyport.Invalid] for what cannot be said so,
// [sallyport.Unavailable] where the key's keeper does not sign.
func (s SignOff) Sign(k SigningKey) (signed string, err error) {
	const op = "sign off"
	s.Time = s.Time.UTC().Truncate(time.Second)
	if err := s.check(); err != nil {
		return "", sallyport.E(op, sallyport.Invalid, err, "")
	}
	by, err := reviewSigner(k, s.Origin)
	if err != nil {
		return "", sallyport.E(op, sallyport.Invalid, err, "")
	}
	b, err := note.Sign(&note.Note{Text: s.text()}, by)
	if err != nil {
		return "", sallyport.E(op, sallyport.Unavailable, err, "Look after the keeper of the signing key, then try again.")
	}
	return string(b), nil
}

// ParseSignOff reads a sign-off and verifies its signature with the key that
// [ReviewKey] gives. [sallyport.Invalid] for a text or key that is
// not one, [sallyport.Damaged] for a signature that is missing or wrong.
func ParseSignOff(signed, verifierKey string) (SignOff, error) {
	const op = "read sign-off"
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return SignOff{}, sallyport.Errorf(op, sallyport.Invalid, "It looks like name/review+1a2b3c4d+AbC…", "verifier key: %w", err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		var wrong *note.InvalidSignatureError
		var unknown *note.UnverifiedNoteError
		if errors.As(err, &wrong) || errors.As(err, &unknown) {
			return SignOff{}, sallyport.Errorf(op, sallyport.Damaged, "It was altered, or the key is another's.", "the sign-off is not signed by key %s+%08x", v.Name(), v.KeyHash())
		}
		return SignOff{}, sallyport.Errorf(op, sallyport.Invalid, "Give the whole text, with its signature line and final newline.", "%w", err)
	}
	s, err := parseSignOffText(n.Text)
	for _, sig := range n.Sigs {
		// The note package lets unused bits of the base64 be anything.
		if _, strict := base64.StdEncoding.Strict().DecodeString(sig.Base64); strict != nil {
			err = errors.Join(err, errors.New("the signature is not in canonical form"))
		}
	}
	if err != nil {
		return SignOff{}, sallyport.E(op, sallyport.Invalid, err, "")
	}
	if s.Origin+"/review" != v.Name() {
		return SignOff{}, sallyport.Errorf(op, sallyport.Damaged, "", "the sign-off over the log of %q is signed as %q", s.Origin, v.Name())
	}
	return s, nil
}

func parseSignOffText(text string) (s SignOff, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 10 || lines[0] != signOffMagic {
		return s, errors.New("it is no sign-off of a review")
	}
	s = SignOff{Origin: lines[1], Previous: lines[5], Name: lines[7], Meaning: lines[8]}
	if s.Previous == "-" {
		s.Previous = ""
	}
	var errs [4]error
	s.From, errs[0] = strconv.ParseUint(lines[2], 10, 64)
	s.To, errs[1] = strconv.ParseUint(lines[3], 10, 64)
	s.Root, errs[2] = parseBase64Hash(lines[4])
	s.Time, errs[3] = time.Parse(time.RFC3339, lines[6])
	if err := errors.Join(errs[:]...); err != nil {
		return s, errors.New("it does not say a range, a root and a time")
	}
	s.Time = s.Time.UTC()
	if err := s.check(); err != nil {
		return s, err
	}
	if s.text() != text {
		return s, errors.New("it is not in canonical form")
	}
	return s, nil
}

// Follows says whether s goes on where before, whose signed text is given,
// ended: of the same log, without a gap, and naming it.
func (s SignOff) Follows(before SignOff, signed string) bool {
	return s.Origin == before.Origin && s.From == before.To && s.Previous == DigestOfSignOff(signed)
}

// SignedRange is a sign-off that others can check without the log: with the
// log's checkpoint, and the proof that the log of it begins with the records
// that were reviewed.
type SignedRange struct {
	SignOff     string   `json:"sign_off"`    // signed note
	Checkpoint  string   `json:"checkpoint"`  // signed by the log's key
	Consistency []string `json:"consistency"` // RFC 6962, 2.1.2: from the end of the range to the checkpoint
}

// MaxSignedRange is the largest file of a sign-off, in bytes.
const MaxSignedRange = 256 << 10

// ParseSignedRange reads the file. It checks nothing of what it claims.
func ParseSignedRange(file []byte) (r SignedRange, err error) {
	if len(file) > MaxSignedRange {
		return r, sallyport.Errorf("read sign-off", sallyport.Invalid, "", "the file is too large for a sign-off")
	}
	err = strictJSON(file, &r)
	if err == nil && !json.Valid(file) {
		err = errors.New("there is more after it")
	}
	if err != nil {
		return r, sallyport.E("read sign-off", sallyport.Invalid, err, "`sallyport audit review file` writes one.")
	}
	return r, nil
}

// Check verifies the sign-off with the key of reviews and, if logKey is not
// empty, that a log signed by it begins with the records that were reviewed.
func (r SignedRange) Check(reviewKey, logKey string) (SignOff, error) {
	s, err := ParseSignOff(r.SignOff, reviewKey)
	if err != nil || logKey == "" {
		return s, err
	}
	cp, err := ParseCheckpoint(r.Checkpoint, logKey)
	if err != nil {
		return s, err
	}
	path, err := ParseHashes(r.Consistency)
	if err != nil {
		return s, err
	}
	return s, CheckConsistency(path, Checkpoint{s.Origin, s.To, s.Root}, cp)
}

// Format writes the file.
func (r SignedRange) Format() ([]byte, error) {
	if r.Consistency == nil {
		r.Consistency = []string{}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	return append(b, '\n'), err
}

// SignRange signs a review of the records from s.From to s.To, fills in origin
// and root, and adds what others need to check it.
func (l *Log) SignRange(k SigningKey, s SignOff) (SignedRange, error) {
	signed, err := l.Checkpoint()
	if err != nil {
		return SignedRange{}, err
	}
	cp, err := ParseCheckpoint(signed, l.VerifierKey())
	if err != nil {
		return SignedRange{}, err
	}
	if s.To > cp.Size {
		return SignedRange{}, sallyport.Errorf("sign off", sallyport.Invalid, "", "there is no record %d: the log has %d", s.To-1, cp.Size)
	}
	s.Origin = cp.Origin
	if s.Root, err = l.Root(s.To); err != nil {
		return SignedRange{}, err
	}
	out := SignedRange{Checkpoint: signed}
	path, err := l.Consistency(s.To, cp.Size)
	if err != nil {
		return SignedRange{}, err
	}
	out.Consistency = FormatHashes(path)
	out.SignOff, err = s.Sign(k)
	return out, err
}
