package codec_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"sallyport"
	"sallyport/anonymize/codec"
)

// read is all that Open gives.
func read(data []byte) (plain []byte, name string, err error) {
	r, name, err := codec.Open(bytes.NewReader(data))
	if err != nil {
		return nil, name, err
	}
	defer r.Close()
	plain, err = io.ReadAll(r)
	return plain, name, err
}

// write compresses text in pieces of n bytes.
func write(t testing.TB, name string, text []byte, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := codec.Writer(&b, name)
	if err != nil {
		t.Fatal(err)
	}
	for rest := text; len(rest) > 0; {
		k := min(n, len(rest))
		if _, err := w.Write(rest[:k]); err != nil {
			t.Fatal(err)
		}
		rest = rest[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, text string, h stdgzip.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stdgzip.NewWriter(&b)
	w.Header = h
	_, err := io.WriteString(w, text)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Frames made by hand from RFC 8878, section 3.1.1.
const (
	magic = "\x28\xb5\x2f\xfd"
	// One segment, its size in one byte; the last block, raw, of five bytes.
	hello = magic + "\x20\x05" + "\x29\x00\x00" + "hello"
	// A window of 1 KiB; a block that is one byte 128 KiB long is refused, as
	// blocks are no longer than the window, so: 128 KiB (exponent 7).
	frame     = magic + "\x00\x38"
	zeros     = "\x02\x00\x10\x00" // not the last, a run of 0x20000 times NUL
	lastZeros = "\x03\x00\x10\x00"
	skipped   = "\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"
)

func TestOpen(t *testing.T) {
	for _, c := range []struct{ about, data, name, want string }{
		{"plain", "a,b\n", "", "a,b\n"},
		{"nothing", "", "", ""},
		{"two bytes", "\x1f,", "", "\x1f,"},
		{"gzip", string(gzipped(t, "a,b\n1,2\n", stdgzip.Header{})), "gzip", "a,b\n1,2\n"},
		{"gzip with all of a header", string(gzipped(t, "x", stdgzip.Header{Name: "patients.csv", Comment: "of ward 3", Extra: make([]byte, 60000)})), "gzip", "x"},
		{"members", string(gzipped(t, "a,", stdgzip.Header{})) + string(gzipped(t, "", stdgzip.Header{})) + string(gzipped(t, "b\n", stdgzip.Header{})), "gzip", "a,b\n"},
		{"a raw block", hello, "zstd", "hello"},
		{"frames", hello + skipped + hello, "zstd", "hellohello"},
		{"a skippable frame first", skipped + hello, "zstd", "hello"},
		{"a run", frame + lastZeros, "zstd", strings.Repeat("\x00", 128<<10)},
	} {
		got, name, err := read([]byte(c.data))
		if err != nil || name != c.name || string(got) != c.want {
			t.Errorf("%s: %d bytes, %q, %v", c.about, len(got), name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := string(gzipped(t, strings.Repeat("a,b\n", 100), stdgzip.Header{}))
	for _, c := range []struct{ about, data, says string }{
		{"a gzip header", good[:6], "cut off"},
		{"half a gzip file", good[:len(good)/2], "cut off"},
		{"no gzip trailer", good[:len(good)-8], "cut off"},
		{"text after gzip", good + "and some more text", "damaged"},
		{"zeros after gzip", good + strings.Repeat("\x00", 512), "damaged"},
		{"half a second member", good + good[:30], "cut off"},
		{"a wrong length", good[:len(good)-1] + "\x01", "damaged"},
		{"another method", "\x1f\x8b\x07" + good[3:], "damaged"},
		{"a frame's magic", magic, "cut off"},
		{"half a block", hello[:len(hello)-2], "cut off"},
		{"text after a frame", hello + "and some more text", "damaged"},
		{"a reserved block type", magic + "\x20\x05" + "\x2f\x00\x00" + "hello", "damaged"},
		{"a window of 128 MiB", magic + "\x00\x88" + lastZeros, "more than 32 MiB"},
		{"a window of 3.75 TiB", magic + "\x00\xff" + lastZeros, "more than 32 MiB"},
		{"a dictionary", magic + "\x21\x07\x05" + "\x29\x00\x00" + "hello", "dictionary"},
	} {
		got, _, err := read([]byte(c.data))
		if sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d bytes, %v (%s)", c.about, len(got), err, sallyport.HintOf(err))
		}
	}
}

// Each ends after about what is allowed, and keeps nothing.
func TestBombs(t *testing.T) {
	part := gzipped(t, strings.Repeat("1,2\n", 4<<20), stdgzip.Header{})
	for _, c := range []struct {
		about string
		data  []byte
	}{
		{"gzip, 4 GiB from 4 MiB", bytes.Repeat(part, 256)},
		{"zstd, 125 GiB from 4 MiB", append([]byte(frame), bytes.Repeat([]byte(zeros), 1_000_000)...)},
	} {
		r, _, err := codec.Open(bytes.NewReader(c.data))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := io.Copy(discard{}, r)
		runtime.ReadMemStats(&after)
		if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "250 times") {
			t.Errorf("%s: %v", c.about, err)
		}
		if most := int64(max(codec.Allowance, len(c.data)*codec.Ratio)) + 1<<20; n > most || n < codec.Allowance-1<<20 {
			t.Errorf("%s: %d bytes came out", c.about, n)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
			t.Errorf("%s: %d bytes allocated", c.about, grown)
		}
		if _, again := r.Read(make([]byte, 10)); again != err {
			t.Errorf("%s: then: %v", c.about, again)
		}
		r.Close()
	}
}

// discard is io.Discard without ReadFrom, which has a buffer of its own.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// Within the allowance any ratio will do, and beyond it a decent one.
func TestNoBombs(t *testing.T) {
	spaces := strings.Repeat(" ", 60<<20)
	if got, _, err := read(gzipped(t, spaces, stdgzip.Header{})); err != nil || len(got) != len(spaces) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	noise := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(noise)
	part := write(t, "zstd", append(noise, make([]byte, 39<<20)...), 1<<20) // about 40:1
	data, _, err := codec.Open(bytes.NewReader(bytes.Repeat(part, 3)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(discard{}, data); err != nil || n != 120<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// 100,000 empty members are 2 MB of work for no byte.
func TestEmptyMembers(t *testing.T) {
	got, _, err := read(bytes.Repeat(gzipped(t, "", stdgzip.Header{}), 100_000))
	if err != nil || len(got) != 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	got, _, err = read(append(bytes.Repeat([]byte(skipped), 100_000), hello...))
	if err != nil || string(got) != "hello" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What is written depends on nothing but the bytes, and says nothing else.
func TestWriterIsDeterministic(t *testing.T) {
	var text []byte
	r := rand.New(rand.NewPCG(1, 2))
	for range 40_000 {
		text = append(text, "P000,2021-01-02,female,"...)
		text = append(text, byte('0'+r.IntN(10)), byte('0'+r.IntN(10)), '\n')
	}
	for _, name := range []string{"gzip", "zstd"} {
		want := write(t, name, text, len(text))
		for _, n := range []int{1, 1000, 65536, 100_001} {
			if !bytes.Equal(write(t, name, text, n), want) {
				t.Errorf("%s: other bytes in pieces of %d", name, n)
			}
		}
		got, as, err := read(want)
		if err != nil || as != name || !bytes.Equal(got, text) {
			t.Errorf("%s: read back %d bytes as %q, %v", name, len(got), as, err)
		}
		if len(want) > len(text)/4 {
			t.Errorf("%s: %d bytes became %d", name, len(text), len(want))
		}
	}
	r2, err := stdgzip.NewReader(bytes.NewReader(write(t, "gzip", text, 4096)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r2); err != nil || !bytes.Equal(got, text) {
		t.Errorf("compress/gzip reads %d bytes, %v", len(got), err)
	}
	if h := r2.Header; h.Name != "" || h.Comment != "" || h.Extra != nil || !h.ModTime.IsZero() {
		t.Errorf("the header says %+v", h)
	}
	for _, name := range []string{"", "gzip", "zstd"} {
		if got, as, err := read(write(t, name, nil, 1)); err != nil || len(got) != 0 || as != name {
			t.Errorf("%q of nothing: %d bytes, %q, %v", name, len(got), as, err)
		}
	}
	if _, err := codec.Writer(io.Discard, "lzma"); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("lzma: %v", err)
	}
}

// The reference implementation and ours read each other.
func TestAgainstZstd(t *testing.T) {
	program, err := exec.LookPath("zstd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the program zstd (Debian package zstd) is absent")
		}
		t.Skip("TestAgainstZstd: the program zstd (Debian package zstd) is absent")
	}
	text := []byte(strings.Repeat("a,b\n1,2\n", 100_000))
	for _, level := range []string{"-1", "-19"} {
		run := exec.Command(program, level, "-c")
		run.Stdin = bytes.NewReader(text)
		data, err := run.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, name, err := read(data); err != nil || name != "zstd" || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %q, %v", level, len(got), name, err)
		}
	}
	run := exec.Command(program, "-d", "-c")
	run.Stdin = bytes.NewReader(write(t, "zstd", text, 4096))
	if got, err := run.Output(); err != nil || !bytes.Equal(got, text) {
		t.Errorf("zstd reads %d bytes, %v", len(got), err)
	}
}

// Errors of the source and of the sink come back as they are.
func TestErrorsPass(t *testing.T) {
	mark := errors.New("mark")
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for _, name := range []string{"", "gzip", "zstd"} {
		data := write(t, name, noise, len(noise))
		for _, cut := range []int{0, 1, 7, len(data) / 2, len(data)} {
			r, _, err := codec.Open(io.MultiReader(bytes.NewReader(data[:cut]), iotest.ErrReader(mark)))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if !errors.Is(err, mark) {
				t.Errorf("%q after %d bytes: %v", name, cut, err)
			}
		}
		w, err := codec.Writer(failing{mark}, name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(noise)
		if err = errors.Join(err, w.Close()); !errors.Is(err, mark) {
			t.Errorf("%q: error of the sink: %v", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestHead(t *testing.T) {
	text := strings.Repeat("1,2021-01-02,some text\n", 100_000)
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	for _, c := range []struct {
		about, data string
		want        int
	}{
		{"plain", text, codec.HeadSize},
		{"short", "a,b\n", 4},
		{"nothing", "", 0},
		{"gzip, 4 KiB of it", string(write(t, "gzip", []byte(text), 4096)[:4096]), codec.HeadSize},
		{"a little of gzip", string(write(t, "gzip", []byte(text), 4096)[:5]), 0},
		{"zstd, as much as Peek asks for", string(write(t, "zstd", noise, 4096)[:codec.Peek]), codec.HeadSize},
		{"zstd, less than a block", string(write(t, "zstd", noise, 4096)[:4096]), 0},
		{"a short zstd file", hello, 5},
	} {
		head := codec.Head([]byte(c.data))
		if len(head) != c.want || !strings.HasPrefix(c.data, string(head)) && !strings.HasPrefix(text, string(head)) && !bytes.HasPrefix(noise, head) && string(head) != "hello" {
			t.Errorf("%s: %d bytes, want %d", c.about, len(head), c.want)
		}
	}
}

func TestClose(t *testing.T) {
	for _, name := range []string{"gzip", "zstd"} {
		r, _, err := codec.Open(bytes.NewReader(write(t, name, []byte("text"), 4)))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Errorf("%s: closing twice: %v", name, err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read after Close", name)
		}
	}
}
