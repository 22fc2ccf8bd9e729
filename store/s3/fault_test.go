package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"sallyport"
	"sallyport/store/s3"
)

// TestMain makes minio-go wait less between its attempts.
func TestMain(m *testing.M) {
	minio.DefaultRetryUnit = time.Millisecond
	minio.DefaultRetryCap = 5 * time.Millisecond
	os.Exit(m.Run())
}

// trouble is what the proxy does to one request; nil lets it pass.
type trouble func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// troubled returns a store behind a proxy, and how to set what the proxy does.
func troubled(t *testing.T, srv *server, change func(*s3.Config)) (*s3.Store, func(trouble)) {
	t.Helper()
	var now atomic.Pointer[trouble]
	addr := srv.proxy(t, func(forward http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if do := now.Load(); do != nil {
				(*do)(w, r, forward)
				return
			}
			forward.ServeHTTP(w, r)
		})
	})
	cfg := config(t, addr)
	cfg.PartSize = 5 << 20
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg), func(do trouble) {
		if do == nil {
			now.Store(nil)
		} else {
			now.Store(&do)
		}
	}
}

func answer(status int, code string) trouble {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		// A server that echoes what it was sent.
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>you sent %s %s</Message></Error>", code, r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token"))
	}
}

// firstOnly lets do happen to the first request that is, and to no other.
func firstOnly(is func(*http.Request) bool, do trouble) trouble {
	var done atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if is(r) && done.CompareAndSwap(false, true) {
			do(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}
}

func only(is func(*http.Request) bool, do trouble) trouble {
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if is(r) {
			do(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}
}

func isGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Count(r.URL.Path, "/") > 1
}
func isPut(r *http.Request) bool { return r.Method == http.MethodPut }
func isInitiate(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploads")
}
func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// lost forwards a request and loses the answer.
func lost(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// cutAt lets n bytes of a body through and breaks the connection.
func cutAt(n int) trouble {
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(&changed{ResponseWriter: w, left: n, cut: true}, r)
	}
}

// flipAt changes the byte n of a body.
func flipAt(n int) trouble {
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(&changed{ResponseWriter: w, left: n}, r)
	}
}

type changed struct {
	http.ResponseWriter
	left int
	cut  bool
}

func (c *changed) Write(p []byte) (int, error) {
	if c.left < 0 || c.left >= len(p) {
		if c.left >= 0 {
			c.left -= len(p)
		}
		return c.ResponseWriter.Write(p)
	}
	if !c.cut {
		p = append([]byte(nil), p...)
		p[c.left] ^= 1
		c.left = -1
		return c.ResponseWriter.Write(p)
	}
	n, _ := c.ResponseWriter.Write(p[:c.left])
	c.ResponseWriter.(http.Flusher).Flush()
	return n, errors.New("cut")
}

func everything(t *testing.T, s *s3.Store) map[string]error {
	t.Helper()
	_, openErr := s.Open(t.Context(), ref("k"))
	_, putErr := s.Put(t.Context(), ref("k"), func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err })
	_, bigErr := s.Put(t.Context(), ref("k"), func(w io.Writer) error { _, err := w.Write(make([]byte, 6<<20)); return err })
	var listErr error
	for _, err := range s.List(t.Context(), "") {
		listErr = err
	}
	return map[string]error{"open": openErr, "put": putErr, "put parts": bigErr, "list": listErr, "remove": s.Remove(t.Context(), ref("k"))}
}

func TestErrorsHaveTheirKind(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	for _, c := range []struct {
		status int
		code   string
		kind   sallyport.Kind
	}{
		{503, "SlowDown", sallyport.Unavailable},
		{503, "ServiceUnavailable", sallyport.Unavailable},
		{500, "InternalError", sallyport.Unavailable},
		{502, "<b>not an S3 code</b>", sallyport.Unavailable},
		{507, "XMinioStorageFull", sallyport.Exhausted},
		{507, "", sallyport.Exhausted},
		{403, "QuotaExceeded", sallyport.Exhausted},
		{403, "AccessDenied", sallyport.Denied},
		{403, "SignatureDoesNotMatch", sallyport.Denied},
		{403, "RequestTimeTooSkewed", sallyport.Denied},
		{400, "ExpiredToken", sallyport.Denied},
		{404, "NoSuchBucket", sallyport.Unavailable},
		{409, "OperationAborted", sallyport.Conflict},
		{400, "BadDigest", sallyport.Damaged},
		{400, "KeyTooLongError", sallyport.Invalid},
		{501, "NotImplemented", sallyport.Unsupported},
		{301, "PermanentRedirect", sallyport.Invalid},
	} {
		t.Run(fmt.Sprint(c.status, c.code), func(t *testing.T) {
			set(answer(c.status, c.code))
			for what, err := range everything(t, s) {
				if err == nil {
					t.Errorf("%s succeeds", what)
					continue
				}
				wantKind(t, err, c.kind)
				if c.kind == sallyport.Denied && sallyport.HintOf(err) == "" {
					t.Errorf("%s: no hint in %v", what, err)
				}
				if strings.Contains(err.Error(), "you sent") {
					t.Errorf("%s repeats what the server says: %v", what, err)
				}
			}
		})
	}
	// A web server's page says nothing about an object.
	set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.Copy(io.Discard, r.Body)
		http.Error(w, "<html><body>not found</body></html>", http.StatusNotFound)
	})
	for what, err := range everything(t, s) {
		if err == nil {
			t.Fatalf("%s succeeds", what)
		}
		wantKind(t, err, sallyport.Unavailable)
	}
	set(answer(404, "NoSuchKey"))
	_, err := s.Open(t.Context(), ref("k"))
	wantKind(t, err, sallyport.NotFound)
	if err := s.Remove(t.Context(), ref("k")); err != nil {
		t.Fatal(err)
	}
}

func TestTransientErrorsAreTriedAgain(t *testing.T) {
	s, set := troubled(t, serve(t, false), nil)
	big := strings.Repeat("0123456789", 1<<20)
	for _, do := range []trouble{answer(503, "SlowDown"), answer(500, "InternalError"), lost} {
		for _, is := range []func(*http.Request) bool{isPut, isInitiate, isComplete} {
			set(firstOnly(is, do))
			put(t, s, "small", "text")
			put(t, s, "big", big)
		}
		set(firstOnly(isGet, do))
		if get(t, s, ref("big")) != big || get(t, s, ref("small")) != "text" {
			t.Fatal("other bytes came back")
		}
	}
}

// TestCancelEndsTheAttempts: who gives up does not wait for the last attempt.
func TestCancelEndsTheAttempts(t *testing.T) {
	s, set := troubled(t, serve(t, false), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		asked.Add(1)
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err := s.Open(ctx, ref("k"))
	wantKind(t, err, sallyport.Canceled)
	if asked.Load() != 1 {
		t.Fatalf("asked %d times", asked.Load())
	}
}

// TestStalledAnswerEndsWithTheContext: a server that says nothing holds nobody
// who gives up, neither in the middle of a body nor before it.
func TestStalledAnswerEndsWithTheContext(t *testing.T) {
	s, set := troubled(t, serve(t, false), nil)
	put(t, s, "k", strings.Repeat("x", 100_000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reached, release := make(chan bool, 10), make(chan bool)
	defer close(release)
	stall := func(r *http.Request) {
		reached <- true
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	set(only(isGet, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(&pausing{ResponseWriter: w, pause: func() { stall(r) }}, r)
	}))
	o, err := s.Open(ctx, ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	go func() {
		<-reached
		cancel()
	}()
	_, err = io.ReadAll(o)
	wantKind(t, err, sallyport.Canceled)
}

type pausing struct {
	http.ResponseWriter
	pause func()
}

func (p *pausing) Write(b []byte) (int, error) {
	n, err := p.ResponseWriter.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	p.ResponseWriter.(http.Flusher).Flush()
	p.pause()
	m, err := p.ResponseWriter.Write(b[n:])
	return n + m, err
}

func TestCutBodyGoesOnWhereItBroke(t *testing.T) {
	s, set := troubled(t, serve(t, false), nil)
	text := strings.Repeat("0123456789", 1<<20)
	put(t, s, "k", text)
	var mu sync.Mutex
	var ranges []string
	set(only(isGet, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		n := len(ranges)
		mu.Unlock()
		if n > 1 && (r.Header.Get("If-Match") == "" || r.Header.Get("Range") == "") {
			t.Errorf("request %d asks for any object: %v", n, r.Header)
		}
		if n < 4 {
			cutAt(1_000_003)(w, r, forward)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	if get(t, s, ref("k")) != text {
		t.Fatal("other bytes came back")
	}
	if len(ranges) != 4 {
		t.Fatalf("asked for %q", ranges)
	}

	set(only(isGet, cutAt(0)))
	o, err := s.Open(t.Context(), ref("k"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	n, err := io.Copy(io.Discard, o)
	wantKind(t, err, sallyport.Unavailable)
	if n != 0 {
		t.Fatal(n)
	}
	_, err = o.ReadAt(make([]byte, 10), 5)
	wantKind(t, err, sallyport.Unavailable)
}

func TestDamagedReadIsWithheld(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	for key, size := range map[string]int{"small": 1000, "parts": 11 << 20} {
		put(t, s, key, strings.Repeat("x", size))
		for _, at := range []int{0, size / 2, size - 1} {
			set(only(isGet, flipAt(at)))
			o, err := s.Open(t.Context(), ref(key))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, o)
			wantKind(t, err, sallyport.Damaged)
			if n == int64(size) {
				t.Fatal("the whole damaged object was handed out")
			}
			if _, err := o.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Fatal("it reads on after the damage:", err)
			}
			o.Close()
			set(nil)
		}
		if len(get(t, s, ref(key))) != size {
			t.Fatal("the object itself was damaged")
		}
	}
}

// TestDamagedUploadIsRefused changes bytes on their way to the server.
func TestDamagedUploadIsRefused(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	put(t, s, "old", "the old one")
	set(only(isPut, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		b[len(b)/2] ^= 1
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		forward.ServeHTTP(w, r)
	}))
	for _, size := range []int{100, 11 << 20} {
		for _, key := range []string{"old", "new"} {
			_, err := s.Put(t.Context(), ref(key), func(w io.Writer) error { _, err := w.Write(make([]byte, size)); return err })
			wantKind(t, err, sallyport.Damaged)
		}
	}
	set(nil)
	if get(t, s, ref("old")) != "the old one" {
		t.Fatal("the old object changed")
	}
	_, err := s.Open(t.Context(), ref("new"))
	wantKind(t, err, sallyport.NotFound)
	if left := srv.uploads(t); len(left) != 0 {
		t.Fatal(left)
	}
}

// TestServerThatKeepsOtherBytes: the sum that the server says it has must be
// that of what fill wrote.
func TestServerThatKeepsOtherBytes(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	set(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if !isComplete(r) && !isPut(r) {
			forward.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		forward.ServeHTTP(rec, r)
		body := rec.Body.String()
		if isComplete(r) {
			if !strings.Contains(body, "<ChecksumCRC32C>") {
				t.Errorf("no checksum in %s", body)
			}
			before, after, _ := strings.Cut(body, "<ChecksumCRC32C>")
			_, after, _ = strings.Cut(after, "</ChecksumCRC32C>")
			body = before + "<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C>" + after
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		if r.URL.RawQuery == "" {
			w.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		}
		w.WriteHeader(rec.Code)
		io.WriteString(w, body)
	})
	for _, size := range []int{100, 11 << 20} {
		_, err := s.Put(t.Context(), ref("k"), func(w io.Writer) error { _, err := w.Write(make([]byte, size)); return err })
		wantKind(t, err, sallyport.Damaged)
		_, err = s.Open(t.Context(), ref("k"))
		wantKind(t, err, sallyport.NotFound)
	}
}

// TestLostAnswerToACommit: what was committed is a success also when nobody
// heard it, and what was not is an error and not there.
func TestLostAnswerToACommit(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	big := strings.Repeat("0123456789", 1<<20)
	for n, is := range []func(*http.Request) bool{isPut, isComplete} {
		text := []string{"small", big}[n]
		key := fmt.Sprintf("kept/%d", n)
		set(only(is, lost))
		info := put(t, s, key, text)
		set(nil)
		if got := get(t, s, info.Ref); got != text {
			t.Fatalf("%d bytes", len(got))
		}
		set(only(is, func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }))
		_, err := s.Put(t.Context(), ref(key), func(w io.Writer) error { _, err := io.WriteString(w, text+"more"); return err })
		wantKind(t, err, sallyport.Unavailable)
		set(nil)
		if got := get(t, s, info.Ref); got != text {
			t.Fatalf("an object that was not committed is there, %d bytes", len(got))
		}
	}
	if left := srv.uploads(t); len(left) != 0 {
		t.Fatal(left)
	}
}

// TestPartIsAwaitedBeforeItsUploadIsAborted: one that arrives later would bring
// the upload back.
func TestPartIsAwaitedBeforeItsUploadIsAborted(t *testing.T) {
	srv := serve(t, false)
	s, set := troubled(t, srv, nil)
	ctx, cancel := context.WithCancel(t.Context())
	aborted := make(chan bool, 10)
	set(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		switch {
		case r.Method == http.MethodDelete:
			aborted <- true
		case isPut(r):
			cancel()
			select {
			case <-aborted:
				t.Error("the upload was aborted while a part was on its way")
			case <-r.Context().Done():
				t.Error("the part was given up")
			case <-time.After(100 * time.Millisecond): // long enough to see it go wrong
			}
		}
		forward.ServeHTTP(w, r)
	})
	_, err := s.Put(ctx, ref("k"), func(w io.Writer) error { _, err := w.Write(make([]byte, 6<<20)); return err })
	wantKind(t, err, sallyport.Canceled)
	if len(aborted) != 1 {
		t.Fatalf("aborted %d times", len(aborted))
	}
	if left := srv.uploads(t); len(left) != 0 {
		t.Fatal(left)
	}
}

// TestEncryptionIsConfirmed: a server that ignores the wish gets no object.
func TestEncryptionIsConfirmed(t *testing.T) {
	srv := serve(t, false)
	for sse, want := range map[string]string{"s3": "AES256", "kms:key-1": "aws:kms"} {
		s, set := troubled(t, srv, func(c *s3.Config) { c.SSE = sse })
		var asked atomic.Int64
		confirm := func(yes bool) trouble {
			return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
				if got := r.Header.Get("X-Amz-Server-Side-Encryption"); got != "" {
					asked.Add(1)
					if got != want || sse != "s3" && r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "key-1" {
						t.Errorf("%s: asks for %v", sse, r.Header)
					}
				}
				if yes {
					w.Header().Set("X-Amz-Server-Side-Encryption", want)
				}
				forward.ServeHTTP(w, r)
			}
		}
		for _, size := range []int{10, 11 << 20} {
			fill := func(w io.Writer) error { _, err := w.Write(make([]byte, size)); return err }
			set(confirm(false))
			_, err := s.Put(t.Context(), ref("k"), fill)
			wantKind(t, err, sallyport.Unsupported)
			_, err = s.Open(t.Context(), ref("k"))
			wantKind(t, err, sallyport.NotFound)
			set(confirm(true))
			if _, err := s.Put(t.Context(), ref("k"), fill); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(t.Context(), ref("k")); err != nil {
				t.Fatal(err)
			}
		}
		if asked.Load() < 4 {
			t.Fatalf("asked for encryption %d times", asked.Load())
		}
	}
	if left := srv.uploads(t); len(left) != 0 {
		t.Fatal(left)
	}
}

// TestSessionTokenStaysSecret: a server that repeats what it was sent, as some
// proxies do, does not bring it into an error.
func TestSessionTokenStaysSecret(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	t.Setenv("AWS_SESSION_TOKEN", "session-token-not-for-logs")
	var sent atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent.Store(sent.Load() || r.Header.Get("X-Amz-Security-Token") == "session-token-not-for-logs")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, r.Header) // no XML
	}))
	defer srv.Close()
	plain := false
	_, err := s3.Open("lab", s3.Config{Endpoint: strings.TrimPrefix(srv.URL, "http://"), Bucket: bucket, Secure: &plain})
	wantKind(t, err, sallyport.Invalid)
	if !sent.Load() {
		t.Fatal("the token was not sent")
	}
}
