package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const envParent = "SANDBOX_TEST_PARENT" // "wasm path" for a process that only runs a spinner

func TestMain(m *testing.M) {
	if Child() {
		Main()
	}
	if path := os.Getenv(envParent); path != "" {
		_, err := Run(context.Background(), Spec{Runner: "wasm", Path: path, Args: []string{"spin"},
			Stdout: os.Stdout, MemoryMB: 64, CacheDir: filepath.Join(filepath.Dir(path), "cache"), Walltime: time.Hour})
		fmt.Println(err)
		os.Exit(1)
	}
	code := m.Run()
	if dir := built(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// built is the directory of the guest's two builds, made at first use.
var built = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return ""
	}
	for name, env := range map[string][]string{"guest.wasm": {"GOOS=wasip1", "GOARCH=wasm"}, "guest": nil} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), "./testdata/guest")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Env = append(cmd.Env, env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the guest: %v\n%s", err, out)
			os.RemoveAll(dir)
			return ""
		}
	}
	return dir
})

// spec is a generous spec for the guest behaving as args say.
func spec(t *testing.T, runner string, args ...string) (Spec, *bytes.Buffer) {
	t.Helper()
	if runner == "native" && runtime.GOOS != "linux" {
		t.Skip("native programs run on Linux only")
	}
	dir := built()
	if dir == "" {
		t.Fatal("the guest could not be built with the go command")
	}
	name := map[string]string{"wasm": "guest.wasm", "native": "guest"}[runner]
	var out bytes.Buffer
	return Spec{Runner: runner, Path: filepath.Join(dir, name), Args: args, Stdout: &out, MemoryMB: 256,
		Walltime: 2 * time.Minute, CacheDir: filepath.Join(dir, "cache")}, &out
}

func TestEcho(t *testing.T) {
	for _, runner := range []string{"wasm", "native"} {
		t.Run(runner, func(t *testing.T) {
			s, out := spec(t, runner, "echo")
			want := strings.Repeat("data with \x00 and \xff\n", 10_000)
			s.Stdin = strings.NewReader(want)
			res, err := Run(t.Context(), s)
			if err != nil || res.Exit != 0 || res.Log != "" || res.Seconds <= 0 {
				t.Fatalf("Run = %+v, %v", res, err)
			}
			if out.String() != want {
				t.Fatalf("%d bytes came back, not the %d sent", out.Len(), len(want))
			}
		})
	}
}

func TestExitIsNoError(t *testing.T) {
	for _, runner := range []string{"wasm", "native"} {
		t.Run(runner, func(t *testing.T) {
			s, _ := spec(t, runner, "exit", "42")
			res, err := Run(t.Context(), s)
			if err != nil || res.Exit != 42 || res.Log != "leaving with 42\n" {
				t.Fatalf("Run = %+v, %v", res, err)
			}
		})
	}
}

func TestMemoryIsLimited(t *testing.T) {
	s, _ := spec(t, "wasm", "hog", "400")
	s.MemoryMB = 100
	if res, err := Run(t.Context(), s); !errors.Is(err, ErrMemory) {
		t.Fatalf("400 MiB within 100: %+v, %v", res, err)
	}
	s, out := spec(t, "wasm", "hog", "100")
	if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 || out.String() != "100\n" {
		t.Fatalf("100 MiB within 256: %+v, %v", res, err)
	}
	s, _ = spec(t, "native", "hog", "800")
	s.MemoryMB = 200
	if res, err := Run(t.Context(), s); err == nil && res.Exit == 0 {
		t.Fatal("a native program got 800 MiB of 200")
	}
}

func TestModuleThatStartsTooLarge(t *testing.T) {
	s, _ := spec(t, "wasm", "echo")
	s.MemoryMB = 1 // less than a Go module's first memory
	if res, err := Run(t.Context(), s); !errors.Is(err, ErrMemory) {
		t.Fatalf("Run = %+v, %v", res, err)
	}
}

// The spinner has written and never returns: only a kill ends it.
func TestSpinnerIsKilled(t *testing.T) {
	for _, runner := range []string{"wasm", "native"} {
		t.Run(runner, func(t *testing.T) {
			s, _ := spec(t, runner, "spin")
			s.Walltime = 3 * time.Second
			if res, err := Run(t.Context(), s); !errors.Is(err, ErrWalltime) {
				t.Fatalf("Run = %+v, %v", res, err)
			}
		})
	}
}

// onWrite calls f at the first write.
type onWrite struct{ f func() }

func (w onWrite) Write(p []byte) (int, error) { w.f(); return len(p), nil }

func TestContextKills(t *testing.T) {
	for _, args := range [][]string{{"spin"}, {"echo"}} {
		ctx, cancel := context.WithCancel(t.Context())
		s, _ := spec(t, "native", args...)
		s.Stdout = onWrite{cancel}
		r, w := io.Pipe() // an input that never ends
		go w.Write([]byte("x"))
		s.Stdin = r
		if res, err := Run(ctx, s); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v: Run = %+v, %v", args, res, err)
		}
		r.Close()
	}
}

func TestNoFiles(t *testing.T) {
	s, out := spec(t, "wasm", "open", "/etc/hosts", "here")
	if res, err := Run(t.Context(), s); err != nil || out.Len() > 0 {
		t.Fatalf("a module reached the file system: %q (%+v, %v)", out, res, err)
	}
	s, _ = spec(t, "native", "write", filepath.Join(t.TempDir(), "x"))
	if res, err := Run(t.Context(), s); err == nil && res.Exit == 0 {
		t.Fatal("a native program wrote a file")
	}
}

func TestNoNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, runner := range []string{"wasm", "native"} {
		t.Run(runner, func(t *testing.T) {
			if runner == "native" && !strings.Contains(Isolation(), "network") {
				t.Skip("this system permits no network namespace")
			}
			s, out := spec(t, runner, "dial", l.Addr().String())
			if res, err := Run(t.Context(), s); err != nil || out.Len() > 0 {
				t.Fatalf("a module reached the network: %q (%+v, %v)", out, res, err)
			}
		})
	}
}

func TestEnvironmentAndFilesOfTheParentStay(t *testing.T) {
	t.Setenv("SECRET", "s3cr3t")
	s, out := spec(t, "wasm", "env")
	if _, err := Run(t.Context(), s); err != nil || out.String() != "[]\n" {
		t.Fatalf("wasm: %q, %v", out, err)
	}
	s, out = spec(t, "native", "env")
	if _, err := Run(t.Context(), s); err != nil || out.String() != "[PATH=/usr/bin:/bin]\n" {
		t.Fatalf("native: %q, %v", out, err)
	}
	s, out = spec(t, "native", "fds")
	if _, err := Run(t.Context(), s); err != nil || out.Len() > 0 {
		t.Fatalf("native, open files: %q, %v", out, err)
	}
}

// Same bytes in, same bytes out, however the input comes in pieces.
func TestDeterminism(t *testing.T) {
	input := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	var first string
	for i, in := range []io.Reader{bytes.NewReader(input), dribble{bytes.NewReader(input)}, bytes.NewReader(input)} {
		s, out := spec(t, "wasm", "world")
		s.Stdin = in
		if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 {
			t.Fatalf("Run = %+v, %v", res, err)
		}
		if i == 0 {
			first = out.String()
		} else if out.String() != first {
			t.Fatalf("run %d differs:\n%.300s\n%.300s", i, first, out)
		}
	}
	if len(first) < 100 {
		t.Fatalf("nothing to compare: %q", first)
	}
}

// dribble reads odd small pieces.
type dribble struct{ r io.Reader }

func (d dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), 777)]) }

// 50 MB pass through without ever being held: the parent's heap stays small.
func TestStreaming(t *testing.T) {
	const size = 50 << 20
	s, _ := spec(t, "wasm", "echo")
	s.MemoryMB = 64
	var count, peak int64
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.Stdin = io.LimitReader(zeros{}, size)
	s.Stdout = writerFunc(func(p []byte) (int, error) {
		if count += int64(len(p)); count%(5<<20) < int64(len(p)) {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak = max(peak, int64(now.HeapAlloc)-int64(before.HeapAlloc))
		}
		return len(p), nil
	})
	if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 {
		t.Fatalf("Run = %+v, %v", res, err)
	}
	if count != size {
		t.Fatalf("%d bytes of %d came back", count, size)
	}
	if peak > 8<<20 {
		t.Fatalf("the parent's heap grew by %d bytes", peak)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestStreamErrorsAreReturned(t *testing.T) {
	broken := errors.New("the store is gone")
	s, _ := spec(t, "wasm", "echo")
	s.Stdin = io.MultiReader(strings.NewReader("first half"), readerFunc(func([]byte) (int, error) { return 0, broken }))
	if res, err := Run(t.Context(), s); !errors.Is(err, broken) {
		t.Fatalf("a torn input: %+v, %v", res, err)
	}
	s, _ = spec(t, "wasm", "echo")
	s.Stdin = zeros{} // endless
	s.Stdout = writerFunc(func([]byte) (int, error) { return 0, broken })
	if res, err := Run(t.Context(), s); !errors.Is(err, broken) {
		t.Fatalf("a full disk: %+v, %v", res, err)
	}
}

func TestUnreadInputIsNoError(t *testing.T) {
	s, out := spec(t, "wasm", "deaf")
	s.Stdin = io.LimitReader(zeros{}, 10<<20)
	if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 || out.String() != "done\n" {
		t.Fatalf("Run = %+v, %v, %q", res, err, out)
	}
}

func TestLogIsTheEnd(t *testing.T) {
	s, _ := spec(t, "wasm", "noise")
	res, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Log) > 64<<10 || len(res.Log) < 60<<10 || !utf8.ValidString(res.Log) || !strings.HasSuffix(res.Log, "line 199999\uFFFD\n") {
		t.Fatalf("log of %d bytes ends %q", len(res.Log), res.Log[max(0, len(res.Log)-40):])
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(4, 64).Draw(t, "n")
		tl := newTail(n)
		var all []byte
		for _, p := range rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "writes") {
			tl.Write(p)
			all = append(all, p...)
		}
		got := tl.text()
		if len(got) > n || !utf8.ValidString(got) {
			t.Fatalf("%q is not a valid text of at most %d bytes", got, n)
		}
		if end := all[max(0, len(all)-n):]; utf8.Valid(end) && got != string(end) {
			t.Fatalf("%q, want %q", got, end)
		}
	})
}

func TestWhatIsLeftBehindDies(t *testing.T) {
	s, out := spec(t, "native", "leave")
	s.Args = append(s.Args, s.Path)
	s.MemoryMB = 1024
	if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 || out.String() != "left\n" {
		t.Fatalf("Run = %+v, %v, %q", res, err, out)
	}
}

func TestCrash(t *testing.T) {
	// (module (func (export "_start") unreachable)), by hand from the binary
	// format of the WebAssembly core specification, section 5.
	trap := []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" +
		"\x07\x0a\x01\x06_start\x00\x00" + "\x0a\x05\x01\x03\x00\x00\x0b")
	path := write(t, trap)
	res, err := Run(t.Context(), Spec{Runner: "wasm", Path: path, MemoryMB: 1, Walltime: time.Minute})
	if !errors.Is(err, ErrCrash) || !strings.Contains(err.Error(), "unreachable") {
		t.Fatalf("Run = %+v, %v", res, err)
	}
}

func TestNotAModule(t *testing.T) {
	wants := []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x02\x0b\x01\x03env\x03foo\x00\x00" +
		"\x07\x0a\x01\x06_start\x00\x00")
	for name, path := range map[string]string{
		"absent":        filepath.Join(t.TempDir(), "absent"),
		"empty":         write(t, nil),
		"text":          write(t, []byte("#!/bin/sh\necho hello\n")),
		"no _start":     write(t, []byte("\x00asm\x01\x00\x00\x00")),
		"wants foo":     write(t, wants),
		"torn":          write(t, wants[:30]),
		"not a program": write(t, []byte("plain text")),
		"a directory":   t.TempDir(),
	} {
		runner := "wasm"
		if name == "not a program" {
			if runner = "native"; runtime.GOOS != "linux" {
				continue
			}
		}
		var out bytes.Buffer
		res, err := Run(t.Context(), Spec{Runner: runner, Path: path, Stdout: &out, MemoryMB: 64, Walltime: time.Minute})
		if !errors.Is(err, ErrModule) || out.Len() > 0 {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSpecIsChecked(t *testing.T) {
	for _, s := range []Spec{
		{Runner: "docker", Path: "x", MemoryMB: 1, Walltime: 1},
		{Runner: "wasm", Path: "x", Walltime: 1},
		{Runner: "wasm", Path: "x", MemoryMB: 1},
	} {
		if _, err := Run(t.Context(), s); err == nil {
			t.Errorf("%+v was run", s)
		}
	}
}

// A spoiled cache costs time, not the result.
func TestSpoiledCache(t *testing.T) {
	// (module (func (export "_start")))
	idle := write(t, []byte("\x00asm\x01\x00\x00\x00"+"\x01\x04\x01\x60\x00\x00"+"\x03\x02\x01\x00"+
		"\x07\x0a\x01\x06_start\x00\x00"+"\x0a\x04\x01\x02\x00\x0b"))
	s := Spec{Runner: "wasm", Path: idle, MemoryMB: 1, Walltime: time.Minute, CacheDir: filepath.Join(t.TempDir(), "cache")}
	for i := range 4 {
		if res, err := Run(t.Context(), s); err != nil || res.Exit != 0 {
			t.Fatalf("run %d: %+v, %v", i, res, err)
		}
		var files int
		err := filepath.WalkDir(s.CacheDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			return os.Truncate(path, int64(40*i))
		})
		if err != nil || files == 0 {
			t.Fatalf("%d files in the cache, %v", files, err)
		}
	}
}
