package seal_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"

	"sallyport"
	"sallyport/internal/testkit"
	"sallyport/seal"
)

// vector is one test vector in the format of C2SP's age vectors: lines
// "key: value", an empty line, the sealed file as it is.
type vector struct {
	expect     string
	identities []string
	passphrase bool
	armored    bool
	payload    [sha256.Size]byte // of all plaintext that may come out
	file       []byte
}

// outcomes says what each "expect" must give: no error, or one of a kind.
var outcomes = map[string]sallyport.Kind{
	"success":         "",
	"no match":        sallyport.Denied,
	"HMAC failure":    sallyport.Damaged,
	"header failure":  sallyport.Damaged,
	"payload failure": sallyport.Damaged,
	"armor failure":   sallyport.Damaged,
}

// parseVector is strict: a key or a value that it does not know might be the
// one that matters.
func parseVector(t *testing.T, b []byte) vector {
	t.Helper()
	v := vector{payload: sha256.Sum256(nil)}
	seen := map[string]int{}
	compressed := false
	for {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatal("no empty line ends the header")
		}
		b = rest
		if len(line) == 0 {
			break
		}
		key, value, ok := strings.Cut(string(line), ": ")
		if !ok {
			t.Fatalf("not a header line: %q", line)
		}
		seen[key]++
		switch key {
		case "expect":
			if _, ok := outcomes[value]; !ok {
				t.Fatalf("unknown outcome %q", value)
			}
			v.expect = value
		case "payload":
			sum, err := hex.DecodeString(value)
			if err != nil || len(sum) != len(v.payload) {
				t.Fatalf("not a SHA-256: %q", value)
			}
			copy(v.payload[:], sum)
		case "identity":
			v.identities = append(v.identities, value)
		case "passphrase":
			v.passphrase = true
		case "armored", "compressed":
			if want := map[string]string{"armored": "yes", "compressed": "zlib"}[key]; value != want {
				t.Fatalf("unknown %s: %q", key, value)
			}
			v.armored = v.armored || key == "armored"
			compressed = compressed || key == "compressed"
		case "file key", "comment": // for people
		default:
			t.Fatalf("unknown key %q", key)
		}
		if seen[key] > 1 && key != "identity" && key != "passphrase" && key != "comment" {
			t.Fatalf("%s twice", key)
		}
	}
	if v.expect == "" {
		t.Fatal("it expects nothing")
	}
	if seen["payload"] == 0 && (v.expect == "success" || v.expect == "payload failure") {
		t.Fatal("it does not say which plaintext")
	}
	if compressed {
		r, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	v.file = b
	return v
}

// load makes a key of an identity in the one way there is.
func load(t *testing.T, identity string) *seal.Key {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, []byte(identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := seal.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// check opens the vector in every way, and demands the outcome, and that all
// plaintext that came out on the way to it is what the vector allows.
func (v vector) check(t *testing.T) {
	t.Helper()
	var keys []*seal.Key
	for _, s := range v.identities {
		keys = append(keys, load(t, s))
	}
	if len(keys) == 0 { // a file too broken to need one
		keys = append(keys, newKey(t))
	}
	verdict := func(how string, plain []byte, err error) {
		t.Helper()
		if sum := sha256.Sum256(plain); sum != v.payload {
			t.Errorf("%s: %d bytes came out that are not the payload", how, len(plain))
		}
		want := outcomes[v.expect]
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v, want success", how, err)
		case want != "" && err == nil:
			t.Errorf("%s: no error, want %s", how, v.expect)
		case want != "":
			if _, ours := errors.AsType[*sallyport.Error](err); !ours || sallyport.KindOf(err) != want {
				t.Errorf("%s: %v is %s, want %s for %s", how, err, sallyport.KindOf(err), want, v.expect)
			}
		}
	}
	var inOrder []byte
	read := func(how string, src io.Reader) {
		t.Helper()
		r, err := seal.Reader(src, keys...)
		if err != nil {
			if v.expect == "payload failure" && v.payload != sha256.Sum256(nil) {
				t.Errorf("%s: refused before the payload that is good was given: %v", how, err)
			}
			verdict(how, nil, err)
			return
		}
		if v.expect != "success" && v.expect != "payload failure" {
			t.Errorf("%s: the header was accepted, want %s", how, v.expect)
		}
		plain, err := io.ReadAll(r)
		verdict(how, plain, err)
		inOrder = plain
		if n, again := r.Read(make([]byte, 1)); n != 0 || again == nil || err != nil && again != err {
			t.Errorf("%s: after the end it gives %d bytes, %v", how, n, again)
		}
	}
	read("Reader", bytes.NewReader(v.file))
	if len(v.file) < 10_000 {
		read("Reader, byte by byte", iotest.OneByteReader(bytes.NewReader(v.file)))
	}
	if len(keys) > 1 {
		return // ReaderAt takes one
	}
	// ReaderAt looks at the last chunk first and knows which one that is, so of
	// a bad file it may give less, but nothing else.
	at, size, err := seal.ReaderAt(bytes.NewReader(v.file), int64(len(v.file)), keys[0])
	var plain []byte
	if err == nil {
		if v.expect != "success" && v.expect != "payload failure" {
			t.Errorf("ReaderAt: the header was accepted, want %s", v.expect)
		}
		plain, err = io.ReadAll(io.NewSectionReader(at, 0, size))
	}
	if v.expect == "payload failure" {
		if !bytes.HasPrefix(inOrder, plain) {
			t.Errorf("ReaderAt: %d bytes came out that are not of the payload", len(plain))
		}
		plain = inOrder
	}
	verdict("ReaderAt", plain, err)
}

// TestCCTV runs the age vectors of C2SP (https://c2sp.org/CCTV/age).
//
// Out of scope are the two things of the format that we do not speak: ASCII
// armor, since a parcel is not mailed, and passphrases (scrypt stanzas), since
// a key here is always an identity, and a work factor chosen by whoever made
// the file would be a way to keep a gateway busy. What of these is a bad file
// to everyone must be one to us, and what is good elsewhere must be refused
// without giving anything out. The set has no vectors for SSH keys.
func TestCCTV(t *testing.T) {
	ran := map[string]int{}
	names, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		t.Run(e.Name(), func(t *testing.T) {
			b, err := fs.ReadFile(agetest.Vectors, e.Name())
			if err != nil {
				t.Fatal(err)
			}
			v := parseVector(t, b)
			if v.armored || v.passphrase {
				ran["out of scope"]++
				keys := []*seal.Key{newKey(t)}
				for _, s := range v.identities {
					keys = append(keys, load(t, s))
				}
				r, err := seal.Reader(bytes.NewReader(v.file), keys...)
				kind := sallyport.KindOf(err)
				if r != nil || err == nil || kind != sallyport.Damaged && (kind != sallyport.Denied || v.armored) {
					t.Fatalf("armored %v, passphrase %v: %v", v.armored, v.passphrase, err)
				}
				return
			}
			ran[v.expect]++
			v.check(t)
		})
	}
	t.Log(ran)
	for _, expect := range []string{"success", "no match", "HMAC failure", "header failure", "payload failure", "out of scope"} {
		if ran[expect] == 0 {
			t.Errorf("no vector expects %s: the set is not the one it was", expect)
		}
	}
}

// TestCCTVFormatIsStrict: a vector that says something new fails the test
// instead of being half understood.
func TestCCTVFormatIsStrict(t *testing.T) {
	if os.Getenv("SEAL_TEST_VECTOR") != "" {
		parseVector(t, []byte(os.Getenv("SEAL_TEST_VECTOR")))
		return
	}
	const good = "expect: success\npayload: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nx"
	for text, want := range map[string]bool{
		good: true,
		"expect: partial success\npayload: e3\n\nx":          false,
		strings.Replace(good, "\n\n", "\nnew key: 1\n\n", 1): false,
		"compressed: zstd\n" + good:                          false,
		"payload: 00\n\nx":                                   false,
		"expect: success\n\nx":                               false,
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCCTVFormatIsStrict$")
		cmd.Env = append(os.Environ(), "SEAL_TEST_VECTOR="+text)
		if err := cmd.Run(); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

const vectorDir = "testdata/vectors"

// ourVectors reads the parcels of ours; testdata/vectors/README.md says what they are.
func ourVectors(t *testing.T) map[string]vector {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(vectorDir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]vector{}
	total := 0
	for _, p := range list {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		total += len(b)
		out[strings.TrimSuffix(filepath.Base(p), ".txt")] = parseVector(t, b)
	}
	if total > 1_500_000 {
		t.Errorf("the vectors have %d bytes: they rest in the repository, keep them below 1.5 MB", total)
	}
	for _, kind := range []string{"hybrid", "x25519"} {
		for _, n := range []int{0, 1, 65535, 65536, 65537, 131072} {
			if v := out[fmt.Sprintf("%s_%d", kind, n)]; v.expect != "success" {
				t.Errorf("no good %s vector of %d bytes", kind, n)
			}
		}
	}
	return out
}

// TestParcelVectors: parcels that our Writer made once open today, with the
// same plaintext, in our readers and in age's library; the damaged ones fail
// as they should in all of them.
func TestParcelVectors(t *testing.T) {
	for name, v := range ourVectors(t) {
		t.Run(name, func(t *testing.T) {
			v.check(t)

			var id age.Identity
			var err error
			if strings.HasPrefix(v.identities[0], "AGE-SECRET-KEY-PQ-") {
				id, err = age.ParseHybridIdentity(v.identities[0])
			} else {
				id, err = age.ParseX25519Identity(v.identities[0])
			}
			if err != nil {
				t.Fatal(err)
			}
			var plain []byte
			r, err := age.Decrypt(bytes.NewReader(v.file), id)
			inHeader := err != nil
			if err == nil {
				plain, err = io.ReadAll(r)
			}
			if (err == nil) != (v.expect == "success") {
				t.Errorf("age: %v, want %s", err, v.expect)
			}
			if _, no := errors.AsType[*age.NoIdentityMatchError](err); no != (v.expect == "no match") {
				t.Errorf("age: %v, want %s", err, v.expect)
			}
			if inHeader && v.expect == "payload failure" && v.payload != sha256.Sum256(nil) {
				t.Errorf("age: %v, want %s", err, v.expect)
			}
			if sum := sha256.Sum256(plain); sum != v.payload {
				t.Errorf("age: %d bytes came out that are not the payload", len(plain))
			}
		})
	}
}

// TestStockAgeHybrid: the age program opens what we seal, with either kind of
// key, and we open what it seals. The fixed vectors go through it as well.
func TestStockAgeHybrid(t *testing.T) {
	bin := testkit.Tool(t, "age")
	run := func(in []byte, args ...string) ([]byte, error) {
		cmd := exec.Command(bin, args...)
		cmd.Stdin = bytes.NewReader(in)
		return cmd.Output()
	}
	k := newKey(t)
	if !strings.HasPrefix(k.Recipient(), "age1pq1") {
		t.Fatal("our keys are not hybrid")
	}
	dir := t.TempDir()
	id := filepath.Join(dir, "id")
	if err := k.Save(id); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, chunk, 5*chunk + 3} {
		plain := noise(n)
		if got, err := run(sealed(t, plain, k.Recipient()), "-d", "-i", id); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: age gives %d back, %v", n, len(got), err)
		}
		theirs, err := run(plain, "-r", k.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := opens(k, theirs); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: we read %d of age's, %v", n, len(got), err)
		}
		at, size, err := seal.ReaderAt(bytes.NewReader(theirs), int64(len(theirs)), k)
		if err != nil || size != int64(n) {
			t.Fatalf("%d bytes: ReaderAt says %d, %v", n, size, err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(at, 0, size)); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %d at offsets, %v", n, len(got), err)
		}
	}
	// A handed-over key is an age identity file inside: two steps with the
	// stock program and no code of ours open a release.
	release := newKey(t)
	wrapped, err := release.Wrap(k.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	identity, err := run(wrapped, "-d", "-i", id)
	if err != nil {
		t.Fatal(err)
	}
	releaseID := filepath.Join(dir, "release")
	if err := os.WriteFile(releaseID, identity, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := run(sealed(t, []byte("the release"), release.Recipient()), "-d", "-i", releaseID); err != nil || string(got) != "the release" {
		t.Fatal(string(got), err)
	}
	vectors := ourVectors(t)
	for _, name := range slices.Sorted(maps.Keys(vectors)) {
		v := vectors[name]
		vid := filepath.Join(dir, name)
		if err := os.WriteFile(vid, []byte(v.identities[0]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := run(v.file, "-d", "-i", vid)
		if (err == nil) != (v.expect == "success") || sha256.Sum256(got) != v.payload {
			t.Errorf("%s: age gives %d bytes, %v; want %s", name, len(got), err, v.expect)
		}
	}
}
