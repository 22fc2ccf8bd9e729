// Package storetest is the conformance suite of [store.Store].
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/store"
)

// Run runs the suite on fresh, empty stores that open makes. name is the one
// that the store gives its references.
func Run(t *testing.T, name string, open func(t *testing.T) store.Store) {
	for title, test := range map[string]func(*testing.T, suite){
		"RoundTrip":      testRoundTrip,
		"Replace":        testReplace,
		"Absent":         testAbsent,
		"BadKeys":        testBadKeys,
		"OddKeys":        testOddKeys,
		"OtherStore":     testOtherStore,
		"FillError":      testFillError,
		"FillPanic":      testFillPanic,
		"Unseen":         testUnseen,
		"LateWrite":      testLateWrite,
		"ReadAt":         testReadAt,
		"OpenOutlives":   testOpenOutlives,
		"Writers":        testWriters,
		"Neighbours":     testNeighbours,
		"PutRemoveRace":  testPutRemoveRace,
		"List":           testList,
		"ListAndRemove":  testListAndRemove,
		"Nested":         testNested,
		"Canceled":       testCanceled,
		"Big":            testBig,
		"BehavesAsAMap":  testModel,
		"RemoveIsNoTrap": testRemove,
	} {
		t.Run(title, func(t *testing.T) { test(t, suite{open(t), name}) })
	}
}

type suite struct {
	store.Store
	name string
}

func (s suite) ref(key string) sallyport.Ref { return sallyport.Ref{Store: s.name, Key: key} }

func (s suite) put(t testing.TB, key, text string) store.Info {
	t.Helper()
	info, err := s.Put(t.Context(), s.ref(key), func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return info
}

func (s suite) get(t testing.TB, key string) string {
	t.Helper()
	o, err := s.Open(t.Context(), s.ref(key))
	if err != nil {
		t.Fatalf("open %q: %v", key, err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	if o.Info().Size != int64(len(b)) {
		t.Fatalf("%q says %d bytes and has %d", key, o.Info().Size, len(b))
	}
	return string(b)
}

func (s suite) absent(t testing.TB, key string) {
	t.Helper()
	o, err := s.Open(t.Context(), s.ref(key))
	if err == nil {
		o.Close()
		t.Fatalf("%q is there", key)
	}
	wantKind(t, err, sallyport.NotFound)
}

func (s suite) keys(t testing.TB, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Ref.Store != s.name {
			t.Fatalf("listed %v", info.Ref)
		}
		keys = append(keys, info.Ref.Key)
	}
	return keys
}

func wantKind(t testing.TB, err error, kinds ...sallyport.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || !slices.Contains(kinds, sallyport.KindOf(err)) {
		t.Fatalf("error %v, want one of kind %q", err, kinds)
	}
}

func testRoundTrip(t *testing.T, s suite) {
	before := time.Now().Add(-time.Minute)
	for _, text := range []string{"", "x", "two\nlines\x00\xff", strings.Repeat("0123456789", 30_000)} {
		info := s.put(t, "a/b.bin", text)
		if info.Ref != s.ref("a/b.bin") || info.Size != int64(len(text)) || info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Minute)) {
			t.Fatalf("info %+v for %d bytes", info, len(text))
		}
		if got := s.get(t, "a/b.bin"); got != text {
			t.Fatalf("%d bytes back of %d", len(got), len(text))
		}
		o, err := s.Open(t.Context(), s.ref("a/b.bin"))
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Info(); got.Ref != info.Ref || got.Size != info.Size || !got.Modified.Equal(info.Modified) {
			t.Fatalf("Put says %+v, Open %+v", info, got)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		for got, err := range s.List(t.Context(), "") {
			if err != nil || got.Ref != info.Ref || got.Size != info.Size || !got.Modified.Equal(info.Modified) {
				t.Fatalf("Put says %+v, List %+v, %v", info, got, err)
			}
		}
	}
}

func testReplace(t *testing.T, s suite) {
	s.put(t, "k", "a long first text")
	s.put(t, "k", "short")
	if got := s.get(t, "k"); got != "short" {
		t.Fatalf("got %q", got)
	}
	if keys := s.keys(t, ""); !slices.Equal(keys, []string{"k"}) {
		t.Fatal(keys)
	}
}

func testAbsent(t *testing.T, s suite) {
	s.put(t, "a/b", "x")
	for _, key := range []string{"b", "a", "a/c", "a/b/c", "a/b/c/d", "A/b", "a/b ", "a/bb"} {
		s.absent(t, key)
	}
}

func testBadKeys(t *testing.T, s suite) {
	s.put(t, "a/b", "x")
	for _, key := range []string{
		"", "/", "/a", "//", "a//b", "a/", "a/b/", ".", "..", "./a", "../a", "a/../b", "a/..", "a/.", "a/./b", "../../../../etc/passwd",
		"a\x00", "\x00", "a/\x00/b", "a\\b", "\\", "..\\a", "\\\\host\\share", "a\xff", strings.Repeat("a/", 600) + "a",
	} {
		ref := s.ref(key)
		_, err := s.Open(t.Context(), ref)
		wantKind(t, err, sallyport.Invalid)
		_, err = s.Put(t.Context(), ref, func(io.Writer) error {
			t.Errorf("%q: fill was called", key)
			return nil
		})
		wantKind(t, err, sallyport.Invalid)
		wantKind(t, s.Remove(t.Context(), ref), sallyport.Invalid)
	}
	for _, prefix := range []string{"/", "..", "../", "a/..", "a//", "\x00", "./a"} {
		if keys := s.keys(t, prefix); len(keys) != 0 {
			t.Errorf("prefix %q lists %q", prefix, keys)
		}
	}
	if keys := s.keys(t, ""); !slices.Equal(keys, []string{"a/b"}) {
		t.Fatal(keys)
	}
}

// Keys that look bad and are good.
var oddKeys = []string{"...", ".a", "a..", "..a/b", "a b", " ", "-rf", "~", "Größe/☃", "a:b", "a?b*c", "%2e%2e", "a\nb", "con", "x.tmp", ".tmp/x", strings.Repeat("k", 200), strings.Repeat("d/", 300) + "x"}

func testOddKeys(t *testing.T, s suite) {
	for _, key := range oddKeys {
		s.put(t, key, "content of "+key)
	}
	for _, key := range oddKeys {
		if got := s.get(t, key); got != "content of "+key {
			t.Errorf("%q holds %q", key, got)
		}
	}
	if keys := s.keys(t, ""); !slices.Equal(keys, slices.Sorted(slices.Values(oddKeys))) {
		t.Fatalf("listed %q", keys)
	}
	for _, key := range oddKeys {
		if err := s.Remove(t.Context(), s.ref(key)); err != nil {
			t.Error(err)
		}
		s.absent(t, key)
	}
}

func testOtherStore(t *testing.T, s suite) {
	for _, name := range []string{"", s.name + "x", strings.ToUpper(s.name) + "/"} {
		ref := sallyport.Ref{Store: name, Key: "k"}
		_, err := s.Open(t.Context(), ref)
		wantKind(t, err, sallyport.Invalid)
		_, err = s.Put(t.Context(), ref, func(io.Writer) error { return nil })
		wantKind(t, err, sallyport.Invalid)
		wantKind(t, s.Remove(t.Context(), ref), sallyport.Invalid)
	}
	if keys := s.keys(t, ""); len(keys) != 0 {
		t.Fatal(keys)
	}
}

func testFillError(t *testing.T, s suite) {
	s.put(t, "old", "the old one")
	why := sallyport.Errorf("transform", sallyport.Denied, "", "unknown column")
	for _, key := range []string{"old", "new", "deep/er/new"} {
		for _, n := range []int{0, 1, 100_000} {
			_, err := s.Put(t.Context(), s.ref(key), func(w io.Writer) error {
				if _, err := w.Write(make([]byte, n)); err != nil {
					return err
				}
				return why
			})
			wantKind(t, err, sallyport.Denied)
			if !errors.Is(err, error(why)) {
				t.Fatal("the cause is lost")
			}
		}
	}
	if got := s.get(t, "old"); got != "the old one" {
		t.Fatalf("the old object holds %q", got)
	}
	s.absent(t, "new")
	if keys := s.keys(t, ""); !slices.Equal(keys, []string{"old"}) {
		t.Fatal(keys)
	}
}

func testFillPanic(t *testing.T, s suite) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		s.Put(t.Context(), s.ref("k"), func(w io.Writer) error {
			io.WriteString(w, "half")
			panic("a bug in fill")
		})
	}()
	s.absent(t, "k")
	s.put(t, "k", "whole") // nothing stayed locked
	if got := s.get(t, "k"); got != "whole" {
		t.Fatal(got)
	}
}

func testUnseen(t *testing.T, s suite) {
	s.put(t, "old", "the old one")
	for _, key := range []string{"old", "new", "a/b/new"} {
		_, err := s.Put(t.Context(), s.ref(key), func(w io.Writer) error {
			if _, err := w.Write(make([]byte, 200_000)); err != nil {
				return err
			}
			if got := s.get(t, "old"); key == "old" && got != "the old one" {
				t.Errorf("during fill the object holds %q", got)
			}
			if key != "old" {
				s.absent(t, key)
			}
			for _, k := range s.keys(t, "") {
				if k != "old" && k == key || strings.Contains(k, "new") && k != "new" {
					t.Errorf("during fill List shows %q", k)
				}
			}
			_, err := io.WriteString(w, "end")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.get(t, key); len(got) != 200_003 {
			t.Fatalf("%d bytes", len(got))
		}
	}
}

func testLateWrite(t *testing.T, s suite) {
	var late io.Writer
	_, err := s.Put(t.Context(), s.ref("k"), func(w io.Writer) error {
		late = w
		_, err := io.WriteString(w, "text")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(late, "more"); err == nil {
		t.Error("a write after fill is taken")
	}
	if got := s.get(t, "k"); got != "text" {
		t.Fatalf("a committed object changed to %q", got)
	}
}

func testReadAt(t *testing.T, s suite) {
	text := "0123456789"
	s.put(t, "k", text)
	o, err := s.Open(t.Context(), s.ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for off := int64(0); off <= 10; off++ {
		for n := range 13 {
			p := make([]byte, n)
			m, err := o.ReadAt(p, off)
			want := text[off:min(int64(len(text)), off+int64(n))]
			if string(p[:m]) != want || m < n && err != io.EOF || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d: %q, %v", n, off, p[:m], err)
			}
		}
	}
	if n, err := o.ReadAt(make([]byte, 1), 11); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	if _, err := o.ReadAt(make([]byte, 1), -1); err == nil {
		t.Fatal("read before the beginning")
	}
	// ReadAt leaves the stream where it was, and many may use it at once.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p := make([]byte, 4)
			for off := range int64(6) {
				if _, err := o.ReadAt(p, off); err != nil || string(p) != text[off:off+4] {
					t.Errorf("at %d: %q, %v", off, p, err)
				}
			}
		})
	}
	wg.Wait()
	if b, err := io.ReadAll(o); err != nil || string(b) != text {
		t.Fatalf("stream %q, %v", b, err)
	}
}

func testOpenOutlives(t *testing.T, s suite) {
	s.put(t, "k", "first")
	o, err := s.Open(t.Context(), s.ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	s.put(t, "k", "second and longer")
	if err := s.Remove(t.Context(), s.ref("k")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(o); err != nil || string(b) != "first" {
		t.Fatalf("an open object changed to %q, %v", b, err)
	}
}

// testWriters: of many writers of one key one wins whole.
func testWriters(t *testing.T, s suite) {
	const writers, rounds = 6, 5
	text := func(w int) string { return strings.Repeat(fmt.Sprintf("writer %d\n", w), 5000+w) }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range rounds {
				_, err := s.Put(t.Context(), s.ref("a/k"), func(out io.Writer) error {
					for line := range strings.Lines(text(w)) {
						if _, err := io.WriteString(out, line); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				o, err := s.Open(t.Context(), s.ref("a/k"))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(o)
				o.Close()
				var who int
				if _, serr := fmt.Sscanf(string(b), "writer %d", &who); err != nil || serr != nil || string(b) != text(who) {
					t.Errorf("a mixed object of %d bytes, %v", len(b), err)
				}
			}
		})
	}
	wg.Wait()
}

func testNeighbours(t *testing.T, s suite) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 5 {
				key := fmt.Sprintf("d%d/e/%d", n, w)
				if _, err := s.Put(t.Context(), s.ref(key), func(w io.Writer) error { _, err := io.WriteString(w, key); return err }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	keys := s.keys(t, "d")
	if len(keys) != 40 {
		t.Fatalf("%d objects of 40", len(keys))
	}
	for _, key := range keys {
		if s.get(t, key) != key {
			t.Fatalf("%q is not itself", key)
		}
	}
}

// testPutRemoveRace: to remove the last of a folder never hurts who adds to it.
func testPutRemoveRace(t *testing.T, s suite) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 20 {
				ref := s.ref(fmt.Sprintf("d/e/%d", w))
				if _, err := s.Put(t.Context(), ref, func(out io.Writer) error { _, err := fmt.Fprint(out, n); return err }); err != nil {
					t.Error(err)
					return
				}
				o, err := s.Open(t.Context(), ref)
				if err != nil {
					t.Errorf("lost what was put: %v", err)
					return
				}
				o.Close()
				if err := s.Remove(t.Context(), ref); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if keys := s.keys(t, ""); len(keys) != 0 {
		t.Fatal(keys)
	}
}

// testNested: whether "a" and "a/b" may both exist is the store's affair, but
// who came first is never harmed.
func testNested(t *testing.T, s suite) {
	try := func(first, second string) {
		s.put(t, first, "first")
		_, err := s.Put(t.Context(), s.ref(second), func(w io.Writer) error { _, err := io.WriteString(w, "second"); return err })
		if err != nil {
			wantKind(t, err, sallyport.Conflict)
			s.absent(t, second)
		} else if got := s.get(t, second); got != "second" {
			t.Fatalf("%q holds %q", second, got)
		}
		if err := s.Remove(t.Context(), s.ref(second)); err != nil {
			t.Fatal(err)
		}
		if got := s.get(t, first); got != "first" {
			t.Fatalf("%q holds %q", first, got)
		}
	}
	try("a", "a/b")
	try("b", "b/c/d")
	try("c/d", "c")
	try("d/e/f", "d")
}

func testCanceled(t *testing.T, s suite) {
	s.put(t, "k", "x")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Put(ctx, s.ref("k"), func(w io.Writer) error {
		cancel()
		_, err := io.WriteString(w, "never")
		return err
	})
	wantKind(t, err, sallyport.Canceled)
	_, err = s.Put(ctx, s.ref("k"), func(io.Writer) error { return nil })
	wantKind(t, err, sallyport.Canceled)
	_, err = s.Open(ctx, s.ref("k"))
	wantKind(t, err, sallyport.Canceled)
	wantKind(t, s.Remove(ctx, s.ref("k")), sallyport.Canceled)
	for _, err := range s.List(ctx, "") {
		wantKind(t, err, sallyport.Canceled)
	}
	if got := s.get(t, "k"); got != "x" {
		t.Fatal(got)
	}
	// Canceled between fill's return and the commit counts as given up.
	ctx, cancel = context.WithCancel(t.Context())
	_, err = s.Put(ctx, s.ref("k"), func(w io.Writer) error {
		_, err := io.WriteString(w, "never")
		cancel()
		return err
	})
	wantKind(t, err, sallyport.Canceled)
	if got := s.get(t, "k"); got != "x" {
		t.Fatal(got)
	}
}

func testBig(t *testing.T, s suite) {
	const size = 32 << 20
	stream := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), size) }
	want := sha256.New()
	if _, err := io.Copy(want, stream()); err != nil {
		t.Fatal(err)
	}
	info, err := s.Put(t.Context(), s.ref("big"), func(w io.Writer) error {
		_, err := io.Copy(w, stream())
		return err
	})
	if err != nil || info.Size != size {
		t.Fatal(info, err)
	}
	o, err := s.Open(t.Context(), s.ref("big"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := sha256.New()
	if n, err := io.Copy(got, o); n != size || err != nil {
		t.Fatal(n, err)
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Fatal("other bytes came back")
	}
}

func testRemove(t *testing.T, s suite) {
	s.put(t, "a/b/c", "x")
	for _, key := range []string{"a", "a/b", "a/b/d", "a/b/c/d", "zz", "zz/y"} { // none is an object
		if err := s.Remove(t.Context(), s.ref(key)); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	if got := s.get(t, "a/b/c"); got != "x" {
		t.Fatal("an object beside was removed")
	}
	for range 2 {
		if err := s.Remove(t.Context(), s.ref("a/b/c")); err != nil {
			t.Fatal(err)
		}
		s.absent(t, "a/b/c")
	}
	s.put(t, "a/b/c", "again")
	s.put(t, "a2", "y")
	if keys := s.keys(t, ""); !slices.Equal(keys, []string{"a/b/c", "a2"}) {
		t.Fatal(keys)
	}
}
