package s3_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"sallyport"
	"sallyport/store"
	"sallyport/store/s3"
	"sallyport/store/storetest"
)

func TestConformance(t *testing.T) {
	srv := serve(t, false)
	var n atomic.Int64
	storetest.Run(t, "lab", func(t *testing.T) store.Store {
		cfg := config(t, srv.addr)
		cfg.Prefix = fmt.Sprintf("suite/%d", n.Add(1))
		return open(t, cfg)
	})
}

// TestConformanceOfVersions runs the suite, which knows no versions, on a store
// that keeps them.
func TestConformanceOfVersions(t *testing.T) {
	srv := serve(t, true)
	var n atomic.Int64
	storetest.Run(t, "lab", func(t *testing.T) store.Store {
		cfg := config(t, srv.addr)
		cfg.Prefix, cfg.Versioned = fmt.Sprintf("suite/%d", n.Add(1)), true
		return latest{open(t, cfg)}
	})
}

// latest leaves versions out of what a store says.
type latest struct{ *s3.Store }

type latestObject struct{ store.Object }

func (o latestObject) Info() store.Info { return unversioned(o.Object.Info()) }

func unversioned(i store.Info) store.Info {
	i.Ref.Version = ""
	return i
}

func (l latest) Open(ctx context.Context, ref sallyport.Ref) (store.Object, error) {
	o, err := l.Store.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	return latestObject{o}, nil
}

func (l latest) Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (store.Info, error) {
	info, err := l.Store.Put(ctx, ref, fill)
	return unversioned(info), err
}

// Remove spares versitygw 1.8.0 a question that it answers with 500: to delete,
// in a bucket with versions, a key that is the folder of others.
func (l latest) Remove(ctx context.Context, ref sallyport.Ref) error {
	o, err := l.Open(ctx, ref)
	if sallyport.KindOf(err) == sallyport.NotFound {
		return nil
	}
	if err == nil {
		o.Close()
	}
	return l.Store.Remove(ctx, ref)
}

func (l latest) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for info, err := range l.Store.List(ctx, prefix) {
			if !yield(unversioned(info), err) {
				return
			}
		}
	}
}

func stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{9}), size)
}

func digest(t *testing.T, r io.Reader) [32]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestPartBorders(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	cfg.PartSize = 5 << 20
	s := open(t, cfg)
	for _, size := range []int64{0, 1, 5<<20 - 1, 5 << 20, 5<<20 + 1, 10 << 20, 10<<20 + 1} {
		for _, step := range []int64{1 << 20, 7_000_001} {
			key := fmt.Sprintf("%d/%d", size, step)
			info, err := s.Put(t.Context(), ref(key), func(w io.Writer) error {
				_, err := io.CopyBuffer(struct{ io.Writer }{w}, stream(size), make([]byte, step))
				return err
			})
			if err != nil || info.Size != size {
				t.Fatal(info, err)
			}
			o, err := s.Open(t.Context(), ref(key))
			if err != nil {
				t.Fatal(err)
			}
			if digest(t, o) != digest(t, stream(size)) {
				t.Fatalf("%s: other bytes came back", key)
			}
			o.Close()
		}
	}
	if left := srv.uploads(t); len(left) != 0 {
		t.Fatal(left)
	}
}

// TestRanges reads here and there, and on and on, at once.
func TestRanges(t *testing.T) {
	srv := serve(t, false)
	var asked atomic.Int64
	s, set := troubled(t, srv, nil)
	const size = 3_000_007
	data, err := io.ReadAll(stream(size))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", string(data))
	set(only(isGet, func(w httpWriter, r *httpRequest, forward httpHandler) {
		asked.Add(1)
		forward.ServeHTTP(w, r)
	}))
	o, err := s.Open(t.Context(), ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		p := make([]byte, r.IntN(200_000))
		off := r.Int64N(size + 1000)
		n, err := o.ReadAt(p, off)
		want := data[min(off, size):min(off+int64(len(p)), size)]
		if string(p[:n]) != string(want) || (err == nil) != (n == len(p)) || err != nil && err != io.EOF {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
	}
	// One after the other they share a request.
	asked.Store(0)
	p := make([]byte, 64<<10)
	for off := int64(0); ; off += int64(len(p)) {
		n, err := o.ReadAt(p, off)
		if string(p[:n]) != string(data[off:off+int64(n)]) {
			t.Fatalf("other bytes at %d", off)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() > 3 {
		t.Errorf("asked %d times for consecutive ranges", asked.Load())
	}
	done := make(chan error, 4)
	for w := range int64(4) {
		go func() {
			p := make([]byte, 10_000)
			for off := w * 10_000; off+10_000 < size; off += 40_000 {
				if _, err := o.ReadAt(p, off); err != nil || string(p) != string(data[off:off+10_000]) {
					done <- fmt.Errorf("at %d: %w", off, errors.Join(errors.New("other bytes"), err))
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if digest(t, o) != sha256.Sum256(data) {
		t.Fatal("the stream was disturbed")
	}
}

// TestNothingIsLeftOfAFailedPut looks at the server itself.
func TestNothingIsLeftOfAFailedPut(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	cfg.PartSize = 5 << 20
	s := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	why := errors.New("no")
	for what, end := range map[string]func() error{
		"error":  func() error { return why },
		"panic":  func() error { panic("a bug in fill") },
		"cancel": func() error { cancel(); return nil },
	} {
		func() {
			defer func() {
				if r := recover(); r != nil && what != "panic" {
					panic(r)
				}
			}()
			_, err := s.Put(ctx, ref("k"), func(w io.Writer) error {
				if _, err := io.Copy(w, stream(13<<20)); err != nil {
					return err
				}
				if len(srv.uploads(t)) != 1 {
					t.Error("no upload during fill: the test tests nothing")
				}
				return end()
			})
			if err == nil || what == "error" && !errors.Is(err, why) {
				t.Errorf("%s: %v", what, err)
			}
		}()
		if what == "cancel" {
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
		}
		if left := srv.uploads(t); len(left) != 0 {
			t.Fatalf("%s leaves %v", what, left)
		}
		_, err := s.Open(t.Context(), ref("k"))
		wantKind(t, err, sallyport.NotFound)
	}
}

func TestOpenSweepsStaleUploads(t *testing.T) {
	srv := serve(t, false)
	begin := func() {
		for _, key := range []string{"hold/a", "hold/b/c", "holdings/x", "z"} {
			if _, err := srv.admin.NewMultipartUpload(t.Context(), bucket, key, minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() (keys []string) {
		for _, u := range srv.uploads(t) {
			keys = append(keys, u.Key)
		}
		slices.Sort(keys)
		return keys
	}
	begin()
	all, others := []string{"hold/a", "hold/b/c", "holdings/x", "z"}, []string{"holdings/x", "z"}
	cfg := config(t, srv.addr)
	cfg.Prefix = "hold"
	open(t, cfg) // they are not a day old
	if got := left(); !slices.Equal(got, all) {
		t.Fatalf("left %q", got)
	}
	cfg.StaleUploads = -1
	open(t, cfg)
	if got := left(); !slices.Equal(got, all) {
		t.Fatalf("left %q", got)
	}
	cfg.StaleUploads = time.Nanosecond
	open(t, cfg)
	if got := left(); !slices.Equal(got, others) {
		t.Fatalf("left %q", got)
	}

	// A server that is not there when the store is opened is swept by a Put.
	begin()
	var up atomic.Bool
	cfg.Endpoint = srv.proxy(t, func(forward httpHandler) httpHandler {
		return httpFunc(func(w httpWriter, r *httpRequest) {
			if !up.Load() {
				w.WriteHeader(503)
				return
			}
			forward.ServeHTTP(w, r)
		})
	})
	s := open(t, cfg)
	_, err := s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.Unavailable)
	up.Store(true)
	put(t, s, "k", "text")
	if got := left(); !slices.Equal(got, []string{"holdings/x", "holdings/x", "z", "z"}) {
		t.Fatalf("left %q", got)
	}
}

// TestReplacedWhileRead: what is read is the object that was opened, or an
// error, whatever happens to it meanwhile.
func TestReplacedWhileRead(t *testing.T) {
	for _, versions := range []bool{false, true} {
		srv := serve(t, versions)
		s, set := troubled(t, srv, nil)
		old, young := strings.Repeat("old.", 3<<20), strings.Repeat("young", 3<<20)
		for _, removed := range []bool{false, true} {
			put(t, s, "k", old)
			o, err := s.Open(t.Context(), ref("k"))
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1000)
			if _, err := io.ReadFull(o, p); err != nil {
				t.Fatal(err)
			}
			if removed {
				if err := s.Remove(t.Context(), ref("k")); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, s, "k", young)
			}
			_, err = o.ReadAt(p, 1<<20)
			switch {
			case versions: // it is still there
				if err != nil || string(p[:4]) != "old." {
					t.Fatal(err)
				}
			case removed:
				wantKind(t, err, sallyport.NotFound)
			default:
				wantKind(t, err, sallyport.Conflict)
			}
			rest, err := io.ReadAll(o)
			if err != nil {
				wantKind(t, err, sallyport.Conflict)
			}
			if got := string(rest); !strings.HasPrefix(old[1000:], got) || err == nil && len(got) != len(old)-1000 {
				t.Fatal("a mixture was read")
			}
			o.Close()
		}

		// With a connection that breaks the rest has to be asked for anew.
		put(t, s, "k", old)
		set(firstOnly(isGet, cutAt(5<<20)))
		o, err := s.Open(t.Context(), ref("k"))
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "k", young)
		b, err := io.ReadAll(o)
		if versions {
			if err != nil || string(b) != old {
				t.Fatal("not the version that was opened", err)
			}
		} else {
			wantKind(t, err, sallyport.Conflict)
			if !strings.HasPrefix(old, string(b)) {
				t.Fatal("a mixture was read")
			}
		}
		o.Close()
	}
}

// TestServerThatIgnoresConditions sends what it was not asked for.
func TestServerThatIgnoresConditions(t *testing.T) {
	s, set := troubled(t, serve(t, false), nil)
	text := strings.Repeat("0123456789", 100)
	put(t, s, "k", text)
	for what, c := range map[string]struct {
		answer func(w httpWriter, etag string)
		kind   sallyport.Kind
	}{
		"the whole": {func(w httpWriter, etag string) {
			w.Header().Set("ETag", etag)
			io.WriteString(w, text)
		}, sallyport.Damaged},
		"another range": {func(w httpWriter, etag string) {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Range", "bytes 0-9/1000")
			w.WriteHeader(206)
			io.WriteString(w, text[:10])
		}, sallyport.Damaged},
		"less": {func(w httpWriter, etag string) {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Range", "bytes 101-110/1000")
			w.WriteHeader(206)
			io.WriteString(w, text[101:106])
		}, sallyport.Damaged},
		"another object": {func(w httpWriter, _ string) {
			w.Header().Set("ETag", `"another"`)
			w.Header().Set("Content-Range", "bytes 101-110/1000")
			w.WriteHeader(206)
			io.WriteString(w, text[101:111])
		}, sallyport.Conflict},
		"what it should": {func(w httpWriter, etag string) {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Range", "bytes 101-110/1000")
			w.WriteHeader(206)
			io.WriteString(w, text[101:111])
		}, ""},
	} {
		set(nil)
		o, err := s.Open(t.Context(), ref("k"))
		if err != nil {
			t.Fatal(err)
		}
		set(only(isGet, func(w httpWriter, r *httpRequest, _ httpHandler) {
			w.Header().Set("Last-Modified", o.Info().Modified.Format("Mon, 02 Jan 2006 15:04:05 GMT"))
			c.answer(w, r.Header.Get("If-Match"))
		}))
		p := make([]byte, 10)
		_, err = o.ReadAt(p, 101)
		o.Close()
		if c.kind == "" {
			if err != nil || string(p) != text[101:111] {
				t.Fatal(what, err)
			}
			continue
		}
		if err == nil {
			t.Fatalf("%s is taken", what)
		}
		wantKind(t, err, c.kind)
	}
}

func TestVersions(t *testing.T) {
	srv := serve(t, true)
	cfg := config(t, srv.addr)
	cfg.Versioned, cfg.PartSize = true, 5<<20
	s := open(t, cfg)
	first := put(t, s, "k", "first")
	second := put(t, s, "k", strings.Repeat("second", 1<<20)) // in parts
	put(t, s, "other", "x")
	if first.Ref.Version == "" || second.Ref.Version == "" || first.Ref.Version == second.Ref.Version {
		t.Fatal(first, second)
	}
	if got := get(t, s, first.Ref); got != "first" {
		t.Fatalf("%d bytes", len(got))
	}
	o, err := s.Open(t.Context(), ref("k"))
	if err != nil || o.Info() != second {
		t.Fatal(o, err)
	}
	o.Close()
	var listed []sallyport.Ref
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.Ref)
	}
	if len(listed) != 2 || listed[0] != second.Ref {
		t.Fatalf("listed %v", listed)
	}
	link, err := s.Link(t.Context(), first.Ref, time.Minute)
	if err != nil || fetch(t, link) != "200 first" {
		t.Fatal(link, err)
	}

	// Without a version the object is hidden, with it its bytes are gone.
	if err := s.Remove(t.Context(), ref("k")); err != nil {
		t.Fatal(err)
	}
	_, err = s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.NotFound)
	if got := get(t, s, first.Ref); got != "first" {
		t.Fatal(got)
	}
	for range 2 {
		if err := s.Remove(t.Context(), first.Ref); err != nil {
			t.Fatal(err)
		}
		_, err = s.Open(t.Context(), first.Ref)
		wantKind(t, err, sallyport.NotFound)
	}
	if got := get(t, s, second.Ref); len(got) != 6<<20 {
		t.Fatalf("%d bytes", len(got))
	}

	_, err = s.Put(t.Context(), first.Ref, func(io.Writer) error { return nil })
	wantKind(t, err, sallyport.Invalid)
	cfg.Versioned = false
	_, err = open(t, cfg).Open(t.Context(), first.Ref)
	wantKind(t, err, sallyport.Unsupported)
}

func TestBucketWithoutVersions(t *testing.T) {
	for _, versions := range []bool{false, true} {
		srv := serve(t, versions)
		if versions {
			if err := srv.admin.SuspendVersioning(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
		}
		cfg := config(t, srv.addr)
		cfg.Versioned = true
		_, err := s3.Open("lab", cfg)
		if kind := sallyport.KindOf(err); kind != sallyport.Invalid && kind != sallyport.Unsupported || sallyport.HintOf(err) == "" {
			t.Fatal(err)
		}
	}
}

func TestListPages(t *testing.T) {
	srv := serve(t, false)
	cfg := config(t, srv.addr)
	cfg.Prefix = "p"
	s := open(t, cfg)
	const n = 1100 // a page has 1000
	for i := range n {
		put(t, s, fmt.Sprintf("d%d/%04d", i%7, i), "")
	}
	// Not ours, and no keys.
	for _, key := range []string{"q", "pp/x", "p/folder/"} {
		if _, err := srv.admin.PutObject(t.Context(), bucket, key, strings.NewReader(""), 0, "", "", minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for info, err := range s.List(t.Context(), "d") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Ref.Key)
	}
	if len(keys) != n || !slices.IsSorted(keys) {
		t.Fatalf("%d keys", len(keys))
	}
	count := 0
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != n {
		t.Fatalf("%d objects", count)
	}
}

// TestMemoryIsBounded streams 200 MB up and down.
func TestMemoryIsBounded(t *testing.T) {
	srv := serve(t, false)
	s := open(t, config(t, srv.addr))
	const size = 200 << 20
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	var most uint64
	watch := func(n int64) { // every 8 MiB
		if n%(8<<20) == 0 {
			most = max(most, live())
		}
	}
	info, err := s.Put(t.Context(), ref("k"), func(w io.Writer) error {
		r, buf := stream(size), make([]byte, 1<<20)
		for n := int64(0); n < size; n += int64(len(buf)) {
			if _, err := io.ReadFull(r, buf); err != nil {
				return err
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
			watch(n)
		}
		return nil
	})
	if err != nil || info.Size != size {
		t.Fatal(info, err)
	}
	if grown := int64(most) - int64(before); grown > 48<<20 { // two parts of 16 MiB
		t.Errorf("a Put holds %d bytes", grown)
	}
	o, err := s.Open(t.Context(), ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	before, most = live(), 0
	h, buf := sha256.New(), make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(buf)) {
		if _, err := io.ReadFull(o, buf); err != nil {
			t.Fatal(err)
		}
		h.Write(buf)
		watch(n)
	}
	if [32]byte(h.Sum(nil)) != digest(t, stream(size)) {
		t.Fatal("other bytes came back")
	}
	if grown := int64(most) - int64(before); grown > 8<<20 {
		t.Errorf("a read holds %d bytes", grown)
	}
}
