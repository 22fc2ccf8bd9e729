package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	leafVersion = "sallyport-audit-leaf/2"
	saltSize    = 32
	maxStep     = 64
)

// leaf is what the Merkle tree and the hash chain are built of. It commits to
// a record's content and says nothing of it but when and at which step: it can
// stay in the log, and in other people's copies, after the content is erased.
type leaf struct {
	Seq   uint64
	Time  time.Time
	Step  string
	Phase Phase
	Prev  tlog.Hash // leaf hash of the record before; zero for the first
	Body  tlog.Hash // commitment to the content
	// Sealed is the SHA-256 of the body as it is stored: who has no key can
	// still tell whether a body was changed.
	Sealed tlog.Hash
}

// commitment is HMAC-SHA256(salt, content). The salt keeps a content whose few
// possible values can be listed from being found by trying them all; with the
// salt erased, nothing about the content can be shown any more.
func commitment(salt, js []byte) tlog.Hash {
	mac := hmac.New(sha256.New, salt)
	mac.Write(js)
	var h tlog.Hash
	mac.Sum(h[:0])
	return h
}

// append writes the canonical form: eight lines, each ending in a newline, so
// that a leaf can be checked with sha256sum and eyes.
func (l leaf) append(b []byte) []byte {
	b = append(b, leafVersion+"\nseq "...)
	b = strconv.AppendUint(b, l.Seq, 10)
	b = append(b, "\ntime "...)
	b = l.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, "\nstep "...)
	b = append(b, l.Step...)
	b = append(b, "\nphase "...)
	b = append(b, l.Phase...)
	b = append(b, "\nprev "...)
	b = hex.AppendEncode(b, l.Prev[:])
	b = append(b, "\nbody "...)
	b = hex.AppendEncode(b, l.Body[:])
	b = append(b, "\nsealed "...)
	b = hex.AppendEncode(b, l.Sealed[:])
	return append(b, '\n')
}

var errLeaf = errors.New("not a canonical leaf")

// parseLeaf takes exactly what append makes, and nothing that means the same.
func parseLeaf(b []byte) (leaf, error) {
	var l leaf
	rest := string(b)
	field := func(name string) string {
		line, after, ok := strings.Cut(rest, "\n")
		v, ok2 := strings.CutPrefix(line, name)
		if !ok || !ok2 {
			rest = ""
			return ""
		}
		rest = after
		return v
	}
	if field(leafVersion) != "" {
		return l, errLeaf
	}
	var err1, err2 error
	l.Seq, err1 = strconv.ParseUint(field("seq "), 10, 64)
	l.Time, err2 = time.Parse(time.RFC3339Nano, field("time "))
	l.Step, l.Phase = field("step "), Phase(field("phase "))
	if err := errors.Join(err1, err2, checkKind(l.Step, l.Phase),
		parseHex(&l.Prev, field("prev ")), parseHex(&l.Body, field("body ")), parseHex(&l.Sealed, field("sealed "))); err != nil {
		return leaf{}, errLeaf
	}
	l.Time = l.Time.UTC()
	if !bytes.Equal(l.append(nil), b) {
		return leaf{}, errLeaf
	}
	return l, nil
}

func parseHex(h *tlog.Hash, s string) error {
	if len(s) != 2*tlog.HashSize {
		return errLeaf
	}
	_, err := hex.Decode(h[:], []byte(s))
	return err
}

// checkKind says whether step and phase can stand in a leaf, each on its line.
func checkKind(step string, phase Phase) error {
	if phase != Intent && phase != Outcome && phase != Note {
		return fmt.Errorf("phase %q is none of intent, outcome, note", phase)
	}
	if step == "" || len(step) > maxStep || !utf8.ValidString(step) || strings.TrimSpace(step) != step ||
		strings.ContainsFunc(step, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("step %q is not 1 to %d bytes of printable text", step, maxStep)
	}
	return nil
}
