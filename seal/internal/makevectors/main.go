// Command makevectors makes the parcels in seal/testdata/vectors, see README.md
// there. It writes those that are missing and never touches one that is there:
// a vector is a promise that what was sealed once opens for good.
//
//	go run ./seal/internal/makevectors seal/testdata/vectors
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"filippo.io/age"

	"sallyport/seal"
)

const (
	chunk      = 64 << 10   // bytes of plaintext, see the age format's section "Payload"
	sealedSize = chunk + 16 // with its tag
	nonce      = 16         // between header and first chunk
)

// recipe is one vector: a parcel of size bytes, and what is done to it.
type recipe struct {
	name, kind string
	size       int
	expect     string
	comes      int // plaintext bytes that may come out
	comment    string
	change     func(head, body []byte) []byte // nil for none; body begins with the nonce
	stranger   bool                           // the identity given is another's
}

func recipes() []recipe {
	var out []recipe
	for _, kind := range []string{"hybrid", "x25519"} {
		for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk} {
			out = append(out, recipe{name: fmt.Sprintf("%s_%d", kind, n), kind: kind, size: n, expect: "success", comes: n,
				comment: "as it left the Writer"})
		}
		out = append(out,
			recipe{name: kind + "_other_identity", kind: kind, size: 1, expect: "no match", stranger: true,
				comment: "sealed to another recipient"},
			recipe{name: kind + "_stanza_changed", kind: kind, size: 1, expect: "no match", change: flipStanza,
				comment: "the wrapped file key was changed"},
			recipe{name: kind + "_mac_changed", kind: kind, size: 1, expect: "HMAC failure", change: flipMAC,
				comment: "the header's MAC was changed"},
			recipe{name: kind + "_header_cut", kind: kind, size: 1, expect: "header failure",
				change:  func(head, _ []byte) []byte { return head[:len(head)/2] },
				comment: "the file ends in its header"},
			recipe{name: kind + "_tag_changed", kind: kind, size: 1, expect: "payload failure",
				change:  func(head, body []byte) []byte { body[len(body)-1] ^= 1; return join(head, body) },
				comment: "the last bit of the only chunk's tag was changed"},
		)
	}
	return append(out,
		recipe{name: "x25519_version", kind: "x25519", size: 1, expect: "header failure",
			change: func(head, body []byte) []byte {
				return join(bytes.Replace(head, []byte("/v1\n"), []byte("/v2\n"), 1), body)
			},
			comment: "a version of the format that does not exist"},
		recipe{name: "x25519_cut_in_tag", kind: "x25519", size: 1, expect: "payload failure",
			change:  func(head, body []byte) []byte { return join(head, body[:len(body)-1]) },
			comment: "the last byte is missing"},
		recipe{name: "x25519_no_chunk", kind: "x25519", size: 1, expect: "payload failure",
			change:  func(head, body []byte) []byte { return join(head, body[:nonce]) },
			comment: "the file ends after the nonce"},
		recipe{name: "x25519_byte_added", kind: "x25519", size: 1, expect: "payload failure",
			change:  func(head, body []byte) []byte { return join(head, body, []byte{0}) },
			comment: "a byte follows the last chunk"},
		recipe{name: "x25519_nonce_changed", kind: "x25519", size: 1, expect: "payload failure",
			change:  func(head, body []byte) []byte { body[0] ^= 1; return join(head, body) },
			comment: "the nonce between header and chunks was changed"},
		recipe{name: "x25519_65537_first_changed", kind: "x25519", size: chunk + 1, expect: "payload failure",
			change:  func(head, body []byte) []byte { body[nonce] ^= 1; return join(head, body) },
			comment: "a bit of the first chunk was changed"},
		recipe{name: "x25519_65537_second_changed", kind: "x25519", size: chunk + 1, expect: "payload failure", comes: chunk,
			change:  func(head, body []byte) []byte { body[nonce+sealedSize] ^= 1; return join(head, body) },
			comment: "a bit of the second chunk was changed: the first is good"},
		recipe{name: "hybrid_65537_cut_at_chunk", kind: "hybrid", size: chunk + 1, expect: "payload failure", comes: chunk,
			change:  func(head, body []byte) []byte { return join(head, body[:nonce+sealedSize]) },
			comment: "the last chunk is missing: the first is good, but not the end"},
		recipe{name: "hybrid_131072_swapped", kind: "hybrid", size: 2 * chunk, expect: "payload failure",
			change: func(head, body []byte) []byte {
				return join(head, body[:nonce], body[nonce+sealedSize:], body[nonce:nonce+sealedSize])
			},
			comment: "two chunks changed places"},
	)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// flipMAC changes the first character of the MAC, so that it stays Base64.
func flipMAC(head, body []byte) []byte {
	return join(flipBase64(head, bytes.LastIndex(head, []byte("--- "))+len("--- ")), body)
}

// flipStanza changes the first character of the first stanza's body.
func flipStanza(head, body []byte) []byte {
	stanza := bytes.Index(head, []byte("\n-> ")) + 1
	return join(flipBase64(head, stanza+bytes.IndexByte(head[stanza:], '\n')+1), body)
}

func flipBase64(b []byte, at int) []byte {
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return b
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: makevectors FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "makevectors:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	for _, r := range recipes() {
		path := filepath.Join(dir, r.name+".txt")
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		b, err := r.make()
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Println("made", path)
	}
	return nil
}

// identity makes a key of a kind, and returns it with its recipient.
func identity(kind string) (secret, recipient string, err error) {
	if kind == "hybrid" {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", err
		}
		return id.String(), id.Recipient().String(), nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return id.String(), id.Recipient().String(), nil
}

func (r recipe) make() ([]byte, error) {
	secret, recipient, err := identity(r.kind)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, r.size)
	rand.NewChaCha8([32]byte{1}).Read(plain) // C2SP's chacha8rand of this seed
	var file bytes.Buffer
	w, err := seal.Writer(&file, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sealed := file.Bytes()
	if r.change != nil {
		mac := bytes.Index(sealed, []byte("\n--- ")) + 1
		end := mac + bytes.IndexByte(sealed[mac:], '\n') + 1
		sealed = r.change(bytes.Clone(sealed[:end]), bytes.Clone(sealed[end:]))
	}
	if r.stranger {
		if secret, _, err = identity(r.kind); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "expect: %s\npayload: %x\nidentity: %s\ncomment: %s; a key for tests, it guards nothing\n\n",
		r.expect, sha256.Sum256(plain[:r.comes]), secret, r.comment)
	out.Write(sealed)
	return out.Bytes(), nil
}
