package seal_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"filippo.io/age"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/seal"
)

const chunk = 64 << 10 // of the age v1 payload, plaintext bytes

func sealed(t testing.TB, plain []byte, to ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := seal.Writer(&out, to...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// noise is n bytes that are the same in every run.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// opens reads as far as authentication goes.
func opens(k *seal.Key, file []byte) ([]byte, error) {
	r, err := seal.Reader(bytes.NewReader(file), k)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

var sizes = []int{0, 1, 17, chunk - 1, chunk, chunk + 1, 2*chunk - 1, 2 * chunk, 2*chunk + 1, 5*chunk + 3, 40 * chunk}

func TestRoundTrip(t *testing.T) {
	k := newKey(t)
	for _, n := range sizes {
		plain := noise(n)
		file := sealed(t, plain, k.Recipient())
		got, err := opens(k, file)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: got %d back, %v", n, len(got), err)
		}
		at, size, err := seal.ReaderAt(bytes.NewReader(file), int64(len(file)), k)
		if err != nil || size != int64(n) {
			t.Fatalf("%d bytes: ReaderAt says %d, %v", n, size, err)
		}
		if n < 100 { // its cost is quadratic
			if err := iotest.TestReader(io.NewSectionReader(at, 0, size), plain); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		for off := 0; off < n; off += chunk/2 + 7 {
			p := make([]byte, min(chunk+100, n-off))
			if m, err := at.ReadAt(p, int64(off)); m != len(p) || err != nil && err != io.EOF || !bytes.Equal(p, plain[off:off+m]) {
				t.Fatalf("%d bytes: %d read at %d, %v", n, m, off, err)
			}
		}
	}
}

// TestReadsAsAge checks our files with age's own reader, and age's with ours.
func TestReadsAsAge(t *testing.T) {
	k := newKey(t)
	id, err := age.ParseHybridIdentity(secretOf(t, k))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		plain := noise(n)
		r, err := age.Decrypt(bytes.NewReader(sealed(t, plain, k.Recipient())), id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: age reads %d, %v", n, len(got), err)
		}
		var theirs bytes.Buffer
		w, err := age.Encrypt(&theirs, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		w.Write(plain)
		w.Close()
		got, err = opens(k, theirs.Bytes())
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: we read %d of age's, %v", n, len(got), err)
		}
	}
}

func TestAnyWriteSizes(t *testing.T) {
	k := newKey(t)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.IntRange(0, 3*chunk), 0, 8).Draw(t, "writes")
		var plain, file bytes.Buffer
		w, err := seal.Writer(&file, k.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range parts {
			p := noise(n)
			plain.Write(p)
			if m, err := w.Write(p); m != n || err != nil {
				t.Fatal(m, err)
			}
			clear(p) // a Writer may not hold on to the caller's bytes
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := opens(k, file.Bytes())
		if err != nil || !bytes.Equal(got, plain.Bytes()) {
			t.Fatalf("%d bytes back of %d: %v", len(got), plain.Len(), err)
		}
	})
}

// TestEveryBorder checks, for several numbers of cores, all sizes at which a
// chunk or a batch of chunks ends.
func TestEveryBorder(t *testing.T) {
	k := newKey(t)
	plain := noise(52 * chunk)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, cores := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(cores)
		for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 32, 48} {
			for d := -1; d <= 1; d++ {
				size := max(0, n*chunk+d)
				file := sealed(t, plain[:size], k.Recipient())
				got, err := opens(k, file)
				if err != nil || !bytes.Equal(got, plain[:size]) {
					t.Fatalf("%d cores, %d bytes: %d back, %v", cores, size, len(got), err)
				}
			}
		}
	}
}

// TestDroppedWriterLeavesNothingRunning: who fails in the middle of a pass
// drops the Writer. The bubble panics if a goroutine stays behind.
func TestDroppedWriterLeavesNothingRunning(t *testing.T) {
	k := newKey(t)
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{1, 3 * chunk, 40 * chunk} {
			w, err := seal.Writer(io.Discard, k.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(noise(n)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestNoTwoFilesShareBytes(t *testing.T) {
	k := newKey(t)
	a, b := sealed(t, noise(1000), k.Recipient()), sealed(t, noise(1000), k.Recipient())
	if bytes.Equal(a[len(a)-100:], b[len(b)-100:]) {
		t.Fatal("the same plaintext gives the same ciphertext: keys or nonces repeat")
	}
}

func TestSeveralRecipients(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	file := sealed(t, []byte("hello"), a.Recipient(), b.Recipient())
	for _, k := range []*seal.Key{a, b} {
		if got, err := opens(k, file); err != nil || string(got) != "hello" {
			t.Fatal(string(got), err)
		}
	}
	_, err := opens(c, file)
	wantKind(t, err, sallyport.Denied)
	r, err := seal.Reader(bytes.NewReader(file), c, b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "hello" {
		t.Fatal(string(got), err)
	}
	_, err = seal.Reader(bytes.NewReader(file))
	wantKind(t, err, sallyport.Invalid)
}

// damaged demands that a bad file gives Damaged and, before it, nothing but
// whole authenticated chunks of the true plaintext.
func damaged(t *testing.T, k *seal.Key, plain, file []byte, what string, at int) {
	t.Helper()
	got, err := opens(k, file)
	if err == nil {
		t.Fatalf("%s at %d: no error, %d bytes", what, at, len(got))
	}
	if kind := sallyport.KindOf(err); kind != sallyport.Damaged && !(kind == sallyport.Denied && len(got) == 0) {
		t.Fatalf("%s at %d: %v is %s", what, at, err, kind)
	}
	if !bytes.HasPrefix(plain, got) || (len(got)%chunk != 0 && len(got) != len(plain)) {
		t.Fatalf("%s at %d: %d bytes were given out that no chunk covers", what, at, len(got))
	}
	if _, _, err := seal.ReaderAt(bytes.NewReader(file), int64(len(file)), k); err == nil && (what == "cut" || what == "append") {
		t.Fatalf("%s at %d: ReaderAt opens it", what, at)
	}
}

func TestTruncation(t *testing.T) {
	k := newKey(t)
	const chunks = 4
	for _, n := range []int{0, chunk, chunks * chunk, chunks*chunk - 9} {
		plain := noise(n)
		file := sealed(t, plain, k.Recipient())
		header := len(file) - n - 16*max(1, (n+chunk-1)/chunk)
		for cut := range header + 40 { // header, nonce and into the first chunk
			if cut < len(file) {
				damaged(t, k, plain, file[:cut], "cut", cut)
			}
		}
		for i := range chunks + 1 {
			border := header + i*(chunk+16)
			for _, d := range []int{-17, -16, -15, -1, 0, 1, 15, 16, 17} {
				if cut := border + d; cut >= 0 && cut < len(file) {
					damaged(t, k, plain, file[:cut], "cut", cut)
				}
			}
		}
		damaged(t, k, plain, append(bytes.Clone(file), 0), "append", len(file))
		damaged(t, k, plain, append(bytes.Clone(file), file[header:]...), "append", len(file))
	}
}

func TestBitFlips(t *testing.T) {
	k := newKey(t)
	plain := noise(2*chunk + 100)
	file := sealed(t, plain, k.Recipient())
	header := len(file) - len(plain) - 3*16
	flip := func(at int) {
		file[at] ^= 1 << (at % 8)
		damaged(t, k, plain, file, "flip", at)
		file[at] ^= 1 << (at % 8)
	}
	for at := range header {
		flip(at)
	}
	for at := header; at < len(file); at += 997 {
		flip(at)
	}
	// Chunks that change places.
	swapped := bytes.Clone(file)
	copy(swapped[header:], file[header+chunk+16:header+2*(chunk+16)])
	copy(swapped[header+chunk+16:], file[header:header+chunk+16])
	damaged(t, k, plain, swapped, "swap", header)
	// A chunk left out.
	damaged(t, k, plain, append(bytes.Clone(file[:header+chunk+16]), file[header+2*(chunk+16):]...), "drop", header)
	if got, err := opens(k, file); err != nil || !bytes.Equal(got, plain) {
		t.Fatal("the file itself is not whole any more", err)
	}
}

func TestReaderAtFindsDamageInTheMiddle(t *testing.T) {
	k := newKey(t)
	plain := noise(3 * chunk)
	file := sealed(t, plain, k.Recipient())
	file[len(file)-2*(chunk+16)+5] ^= 1 // second chunk
	at, size, err := seal.ReaderAt(bytes.NewReader(file), int64(len(file)), k)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, chunk)
	if _, err := at.ReadAt(p, 0); err != nil || !bytes.Equal(p, plain[:chunk]) {
		t.Fatal("the first chunk is good", err)
	}
	n, err := at.ReadAt(make([]byte, size), 0)
	wantKind(t, err, sallyport.Damaged)
	if n > chunk {
		t.Fatalf("%d bytes before the damage", n)
	}
	_, err = at.ReadAt(p, -1)
	wantKind(t, err, sallyport.Invalid)
	if _, err := at.ReadAt(p, size); err != io.EOF {
		t.Fatal(err)
	}
}

// TestPlainFileIsNotQuoted: a file that is not sealed at all is data.
func TestPlainFileIsNotQuoted(t *testing.T) {
	k := newKey(t)
	for _, text := range []string{"name,born\nMeier,1970\n", "age-encryption.org/v1\n-> Meier 1970\n\n--- Meier\n", "Meier"} {
		_, err := opens(k, []byte(text))
		wantKind(t, err, sallyport.Damaged)
		if strings.Contains(err.Error()+sallyport.HintOf(err), "Meier") {
			t.Errorf("the error repeats the file: %v", err)
		}
	}
}

func TestErrorsOfTheSourceKeepTheirKind(t *testing.T) {
	k := newKey(t)
	file := sealed(t, noise(3*chunk), k.Recipient())
	gone := sallyport.Errorf("get", sallyport.NotFound, "", "it is gone")
	for _, cut := range []int{0, 100, 1800, len(file) / 2, len(file)} {
		read := func(cause error) error {
			r, err := seal.Reader(io.MultiReader(bytes.NewReader(file[:cut]), iotest.ErrReader(cause)), k)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		}
		wantKind(t, read(gone), sallyport.NotFound)
		wantKind(t, read(errors.New("cable cut")), sallyport.Unavailable)
	}
	_, _, err := seal.ReaderAt(failingAt{gone}, int64(len(file)), k)
	wantKind(t, err, sallyport.NotFound)
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestErrorsOfTheDestinationKeepTheirKind(t *testing.T) {
	k := newKey(t)
	full := sallyport.Errorf("put", sallyport.Exhausted, "", "disk full")
	for _, room := range []int{0, 10, 3000, 2 * chunk, 9 * chunk} {
		w, err := seal.Writer(&narrow{room, full}, k.Recipient())
		if err == nil {
			_, err = io.Copy(w, bytes.NewReader(noise(20*chunk)))
			if cerr := w.Close(); err == nil {
				err = cerr
			} else if cerr == nil {
				t.Fatal("Close is pleased after a failed Write")
			}
		}
		wantKind(t, err, sallyport.Exhausted)
	}
}

type narrow struct {
	room int
	err  error
}

func (n *narrow) Write(p []byte) (int, error) {
	if n.room -= len(p); n.room < 0 {
		return 0, n.err
	}
	return len(p), nil
}

func TestUnclosedIsNotWhole(t *testing.T) {
	k := newKey(t)
	var file bytes.Buffer
	w, err := seal.Writer(&file, k.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(noise(3 * chunk)); err != nil {
		t.Fatal(err)
	}
	_, err = opens(k, file.Bytes())
	wantKind(t, err, sallyport.Damaged)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("more")); err == nil {
		t.Fatal("a closed Writer takes more")
	}
	if err := w.Close(); err == nil {
		t.Fatal("closed twice without a word")
	}
	if _, err := opens(k, file.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// TestStockAge opens a parcel of ours with the age program of the system.
func TestStockAge(t *testing.T) {
	bin, err := exec.LookPath("age")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("age is not installed: apt install age")
		}
		t.Skip("stock age: the program age is not installed (apt install age)")
	}
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	id := filepath.Join(dir, "id")
	if err := os.WriteFile(id, []byte(x.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, chunk, 5*chunk + 3} {
		plain := noise(n)
		cmd := exec.Command(bin, "-d", "-i", id)
		cmd.Stdin = bytes.NewReader(sealed(t, plain, x.Recipient().String()))
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: age gives %d back, %v", n, len(got), err)
		}
	}
	// And the other way round: the program seals, we open.
	k, err := seal.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-r", k.Recipient())
	cmd.Stdin = strings.NewReader("from outside")
	theirs, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opens(k, theirs); err != nil || string(got) != "from outside" {
		t.Fatal(string(got), err)
	}
}

// fuzzKey is one key for the fuzzing process and the workers it starts.
func fuzzKey(f *testing.F, name string) *seal.Key {
	env := "SEAL_FUZZ_" + name
	path := os.Getenv(env)
	if path == "" {
		path = filepath.Join(f.TempDir(), "key")
		if err := newKey(f).Save(path); err != nil {
			f.Fatal(err)
		}
		f.Setenv(env, path)
	}
	k, err := seal.Load(path)
	if err != nil {
		f.Fatal(err)
	}
	return k
}

func FuzzReader(f *testing.F) {
	k := fuzzKey(f, "K")
	plain := []byte("some plaintext")
	f.Add(sealed(f, plain, k.Recipient()))
	f.Add([]byte("age-encryption.org/v1\n-> X25519 a\nb\n--- c\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := opens(k, file)
		// Nobody opens a file without an error unless it was sealed to k's
		// recipient, and the only one is the first seed.
		if err == nil && !bytes.Equal(got, plain) {
			t.Fatalf("forged: %q", got)
		}
		if err != nil {
			if _, ok := errors.AsType[*sallyport.Error](err); !ok {
				t.Fatalf("not our error: %v", err)
			}
			if len(got) > 0 && !bytes.Equal(got, plain) {
				t.Fatal("bytes that nothing authenticates")
			}
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	node, release := fuzzKey(f, "NODE"), fuzzKey(f, "RELEASE")
	wrapped, err := release.Wrap(node.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrapped)
	f.Add(wrapped[:len(wrapped)-1])
	f.Add([]byte("AGE-SECRET-KEY-PQ-1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := node.Unwrap(b)
		if err == nil && k.Recipient() != release.Recipient() {
			t.Fatal("forged")
		}
		if err != nil && k != nil {
			t.Fatal("a key and an error")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k := newKey(b)
	id, err := age.ParseHybridIdentity(secretOf(b, k))
	if err != nil {
		b.Fatal(err)
	}
	plain := noise(64 << 20)
	for name, open := range map[string]func() (io.WriteCloser, error){
		"age":  func() (io.WriteCloser, error) { return age.Encrypt(io.Discard, id.Recipient()) },
		"ours": func() (io.WriteCloser, error) { return seal.Writer(io.Discard, k.Recipient()) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				w, err := open()
				if err != nil {
					b.Fatal(err)
				}
				for p := plain; len(p) > 0; p = p[min(len(p), 32<<10):] {
					if _, err := w.Write(p[:min(len(p), 32<<10)]); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
