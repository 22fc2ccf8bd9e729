package s3door

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"sallyport"
	"sallyport/gateway"
)

// raw sends a request line as it is, without any client's help.
func (l *lab) raw(text string) answer {
	l.t.Helper()
	c, err := net.Dial("tcp", l.srv.Listener.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		l.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		l.t.Fatalf("%q: %v", text, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b, err}
}

func TestPathSmuggling(t *testing.T) {
	l := newLab(t)
	l.put("ward", "a.csv", "x")
	for _, path := range []string{
		"/ward/../inbox/a", "/ward/./a.csv", "/ward/..", "/ward/.", "/ward/%2e%2e/a", "/ward/%2E%2E/a", "/ward/.%2e/a", "/ward/a%2fb", "/ward/a%2Fb",
		"/ward/a%00b", "/ward/a\x00b", "//ward/a.csv", "/ward//a.csv", "/ward/a//b", "/ward///", "//", "/ward/a\\b", "/ward/a%5cb", "/ward/a%5Cb",
		"/ward/%", "/ward/%z1", "/ward/a%0d%0ab", "/ward/a%7f", "/ward/%ff", "/ward/%c0%ae%c0%ae/a", "/ward/%ed%a0%80", "/ward/a#b", "/ward/\xc3\xa4",
		"/ward/%e2%80%aegpj.exe", "/ward/%ef%bb%bfa", "/ward/<a>", "/ward/a|b", "/ward/\"a\"", "/ward/{a}", "/ward/a^b", "*", "http://127.0.0.1/ward/a.csv",
		"/ward/a.csv?a=%zz", "/ward/a.csv?a=%00", "/ward/a.csv?=b",
	} {
		t.Run(fmt.Sprintf("%q", path), func(t *testing.T) {
			a := l.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			// Go's server refuses some by itself, before the door.
			if a.status != 400 || a.header.Get("x-amz-request-id") != "" && a.code() != "InvalidURI" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	for _, bucket := range []string{"/Ward/a.csv", "/-ward/a", "/.ward/a", "/wa..rd/a", "/wa_rd/a", "/" + strings.Repeat("a", 65) + "/a", "/w%61rd%20/a"} {
		if a := l.raw("GET " + bucket + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); a.status != 400 || a.code() != "InvalidBucketName" {
			t.Errorf("%s: %d %s", bucket, a.status, a.body)
		}
	}
	if a := l.raw("GET /ward/" + strings.Repeat("k", 1025) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); a.code() != "KeyTooLongError" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if len(l.mem.asked)+l.mem.closed != 0 {
		t.Error("a view was asked")
	}
	if len(l.mem.recorded()) < 40 {
		t.Error("attempts were not recorded")
	}
}

// TestNamesAreBytes: keys that look alike are different keys.
func TestNamesAreBytes(t *testing.T) {
	l := newLab(t)
	composed, decomposed := "\u00e9.csv", "e\u0301.csv" // é in the normal forms C and D
	l.put("ward", composed, "one")
	l.put("ward", "%2e%2e", "two") // a name that is an escape's text
	if a := l.do("GET", "/ward/"+escape(composed, true), nil).want(t, 200, ""); string(a.body) != "one" {
		t.Error(string(a.body))
	}
	l.do("GET", "/ward/"+escape(decomposed, true), nil).want(t, 404, "NoSuchKey")
	l.do("GET", "/ward/A.csv", nil).want(t, 404, "NoSuchKey")
	l.do("GET", "/ward/"+escape("．．/a", true), nil).want(t, 404, "NoSuchKey") // full-width dots stay what they are
	if a := l.do("GET", "/ward/%252e%252e", nil).want(t, 200, ""); string(a.body) != "two" {
		t.Error("an escape was undone twice")
	}
	// An escape that was not needed names the same bytes, and signs the same.
	r := signed(l.request("GET", "/ward/"+escape(composed, true), nil))
	r.URL.Opaque = strings.Replace(r.URL.Opaque, "csv", "%63sv", 1)
	if r.URL.Opaque == "" {
		r.URL.Opaque = "/ward/%C3%A9.%63sv"
	}
	l.send(r).want(t, 200, "")
}

func TestHugeHeaders(t *testing.T) {
	l := newLab(t)
	a := l.raw("GET /ward/a HTTP/1.1\r\nHost: x\r\nX-Amz-Meta-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n")
	if a.status != 431 {
		t.Errorf("answer %d", a.status)
	}
	a = l.raw("GET /ward/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: AWS4-HMAC-SHA256 " + strings.Repeat("a", 8<<10) + "\r\n\r\n")
	if a.status != 400 || a.code() != "AuthorizationHeaderMalformed" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestSlowLoris looks at the limits; that net/http keeps them is net/http's.
func TestSlowLoris(t *testing.T) {
	l := newLab(t)
	s := l.door.Server()
	if s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 30*time.Second || s.IdleTimeout <= 0 || s.MaxHeaderBytes > 64<<10 || s.Handler != l.door {
		t.Errorf("%+v", s)
	}
	began := time.Now()
	p := pace{began: began}
	if d := p.deadline(began); !d.Equal(began.Add(grace)) {
		t.Errorf("at first %v", d.Sub(began))
	}
	// A byte every 59 s has earned nothing: the end does not move.
	p.moved = 3
	if d := p.deadline(began.Add(59 * time.Second)); !d.Equal(began.Add(grace)) {
		t.Errorf("trickling %v", d.Sub(began))
	}
	p.moved = 1 << 30
	if d := p.deadline(began.Add(time.Hour)); !d.Equal(began.Add(time.Hour + grace)) {
		t.Errorf("fast %v", d.Sub(began))
	}
}

// TestTricklingBody: a client that was refused and goes on sending slowly does
// not hold the connection for longer than the door's patience. The refusal and
// the end of the connection are all that is waited for.
func TestTricklingBody(t *testing.T) {
	l := newLab(t)
	l.door.patience = 10 * time.Millisecond
	c, err := net.Dial("tcp", l.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PUT /inbox/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c) // the server ends it
	if err != nil || !bytes.Contains(b, []byte("AccessDenied")) {
		t.Errorf("%q, %v", b, err)
	}
}

// slowBody is a body whose every read takes a time of the fake clock.
type slowBody struct {
	every time.Duration
	left  int
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.every)
	p[0] = 'x'
	s.left--
	return 1, nil
}

// TestKeyRevokedWhileUploading: an upload that began with a good key ends
// without being stored.
func TestKeyRevokedWhileUploading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		d, err := New(Parts{Views: m, Keys: m})
		if err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"never", "midway", "at the end"} {
			r := httptest.NewRequest("PUT", "http://127.0.0.1/inbox/a", nil)
			r.RemoteAddr = "127.0.0.1:5"
			r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
			r.ContentLength = 20
			r.Body = io.NopCloser(&hooked{&slowBody{time.Second, 20}, map[string]int{"midway": 10, "at the end": 19}[when], func() { m.revoke(testKey) }})
			r = signer.SignV4(*r, testKey, testSecret, "", "us-east-1")
			r.RequestURI = "/inbox/a"
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			got, stored := m.object("inbox", "a")
			if when == "never" {
				if w.Code != 200 || len(got) != 20 {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
				delete(m.buckets["inbox"], "a")
				continue
			}
			if w.Code != 403 || !strings.Contains(w.Body.String(), "InvalidAccessKeyId") || stored {
				t.Errorf("%s: %d %s, stored %v", when, w.Code, w.Body, stored)
			}
			m.keys[testKey] = testSecret
		}
	})
}

// hooked calls then before the nth read (never for 0).
type hooked struct {
	io.Reader
	n    int
	then func()
}

func (h *hooked) Read(p []byte) (int, error) {
	if h.n--; h.n == 0 {
		h.then()
	}
	return h.Reader.Read(p)
}

// readerFunc is an io.ReaderAt.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestKeyRevokedWhileDownloading: the client sees that it did not get the whole.
func TestKeyRevokedWhileDownloading(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	l := newLab(t, withClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return now }))
	l.put("ward", "big", strings.Repeat("x", 8*bufferSize))
	l.mem.reader = func(data []byte) io.ReaderAt {
		return readerFunc(func(p []byte, off int64) (int, error) {
			if off == 4*bufferSize {
				l.mem.revoke(testKey)
				mu.Lock()
				now = now.Add(watchEvery)
				mu.Unlock()
			}
			return bytes.NewReader(data).ReadAt(p, off)
		})
	}
	a := l.do("GET", "/ward/big", nil)
	if a.status != 200 || !errors.Is(a.readErr, io.ErrUnexpectedEOF) || len(a.body) > 4*bufferSize {
		t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.readErr)
	}
	l.do("GET", "/ward/big", nil).want(t, 403, "InvalidAccessKeyId")
}

// TestTruncatedView: a view that breaks off is no shorter file.
func TestTruncatedView(t *testing.T) {
	l := newLab(t)
	l.put("ward", "big", strings.Repeat("x", 4*bufferSize))
	for name, err := range map[string]error{"end": io.EOF, "failure": sallyport.E("open chunk", sallyport.Damaged, nil, "")} {
		l.mem.reader = func(data []byte) io.ReaderAt {
			return readerFunc(func(p []byte, off int64) (int, error) {
				if off >= 2*bufferSize {
					return 10, err
				}
				return bytes.NewReader(data).ReadAt(p, off)
			})
		}
		if a := l.do("GET", "/ward/big", nil); a.status != 200 || a.readErr == nil {
			t.Errorf("%s: %d, %d bytes, %v", name, a.status, len(a.body), a.readErr)
		}
	}
}

func TestDisconnectWhileDownloading(t *testing.T) {
	l := newLab(t)
	l.put("ward", "big", strings.Repeat("x", 64*bufferSize))
	gone, closed := make(chan struct{}), make(chan struct{})
	l.mem.onClose = func() { close(closed) }
	var pieces atomic.Int32
	l.mem.reader = func(data []byte) io.ReaderAt {
		return readerFunc(func(p []byte, off int64) (int, error) {
			if off > 0 {
				<-gone // everything after the first piece waits for the client to leave
			}
			pieces.Add(1)
			return bytes.NewReader(data).ReadAt(p, off)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := signed(l.request("GET", "/ward/big", nil).WithContext(ctx))
	res, err := l.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	close(gone)
	<-closed
	if n := pieces.Load(); n >= 64 {
		t.Errorf("%d pieces were read for nobody", n)
	}
}

func TestDisconnectWhileUploading(t *testing.T) {
	l := newLab(t)
	seen := make(chan error, 1)
	l.mem.putting = func(body io.Reader) io.Reader {
		return readFunc(func(p []byte) (int, error) {
			n, err := body.Read(p)
			if err != nil {
				select {
				case seen <- err:
				default:
				}
			}
			return n, err
		})
	}
	r := signed(l.request("PUT", "/inbox/a", []byte("hello world")))
	c, err := net.Dial("tcp", l.srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var head strings.Builder
	fmt.Fprintf(&head, "PUT /inbox/a HTTP/1.1\r\nHost: %s\r\nContent-Length: 11\r\n", r.URL.Host)
	_ = r.Header.Write(&head)
	if _, err := io.WriteString(c, head.String()+"\r\nhello"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	err = <-seen
	if f, ok := errors.AsType[*fault](err); !ok || f.code != codeIncompleteBody {
		t.Errorf("the view saw %v", err)
	}
	l.srv.Close()
	if _, stored := l.mem.object("inbox", "a"); stored {
		t.Error("half an upload was stored")
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestUnsignedPayload is taken only where nobody between can change it.
func TestUnsignedPayload(t *testing.T) {
	send := func(l *lab, payload string, body string, headers ...string) answer {
		r := l.request("PUT", "/inbox/a", []byte(body))
		r.Header.Set("X-Amz-Content-Sha256", payload)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return l.send(signed(r))
	}
	trailer := []string{"X-Amz-Decoded-Content-Length", "9", "X-Amz-Trailer", "x-amz-checksum-crc32"}
	const wire = "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n"
	for _, secure := range []bool{false, true} {
		l := startLab(t, secure)
		send(l, unsignedPayload, "hello").want(t, 200, "")
		send(l, unsignedTrailer, wire, trailer...).want(t, 200, "")
	}
	l := newLab(t)
	l.srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "192.0.2.1:5" // as if from elsewhere
		l.door.ServeHTTP(w, r)
	})
	send(l, unsignedPayload, "hello").want(t, 400, "InvalidRequest")
	send(l, unsignedTrailer, wire, trailer...).want(t, 400, "InvalidRequest")
	l.do("PUT", "/inbox/a", []byte("hello")).want(t, 200, "")
	r := l.request("PUT", "/inbox/a", []byte("hello"))
	r.Header.Del("X-Amz-Content-Sha256")
	l.send(signer.PreSignV4(*r, testKey, testSecret, "", "us-east-1", 60)).want(t, 400, "InvalidRequest")

	l = newLab(t)
	for name, c := range map[string]struct{ wire, code string }{
		"wrong checksum":    {strings.Replace(wire, "y/Q5Jg", "y/Q5Jw", 1), "BadDigest"},
		"no checksum":       {"9\r\n123456789\r\n0\r\n\r\n", "MalformedTrailerError"},
		"another checksum":  {strings.Replace(wire, "crc32:y/Q5Jg==", "crc32c:4waSgw==", 1), "MalformedTrailerError"},
		"short checksum":    {strings.Replace(wire, "y/Q5Jg==", "AAAA", 1), "InvalidRequest"},
		"two checksums":     {strings.Replace(wire, "\r\n\r\n", "\r\nx-amz-checksum-sha1:AAAA\r\n\r\n", 1), "MalformedTrailerError"},
		"more than said":    {strings.Replace(wire, "9\r\n123456789", "a\r\n1234567890", 1), "InvalidRequest"},
		"less than said":    {strings.Replace(wire, "9\r\n123456789", "8\r\n12345678", 1), "IncompleteBody"},
		"cut in the data":   {wire[:8], "IncompleteBody"},
		"cut after a chunk": {wire[:14], "IncompleteBody"},
		"bad size":          {"g" + wire[1:], "InvalidRequest"},
		"negative size":     {"-" + wire, "InvalidRequest"},
		"huge size":         {"7fffffffffffffff" + wire[1:], "InvalidRequest"},
		"bad chunk end":     {strings.Replace(wire, "789\r\n", "789xx", 1), "InvalidRequest"},
		"extension":         {strings.Replace(wire, "9\r\n", "9;chunk-signature=00\r\n", 1), "InvalidRequest"},
		"long line":         {"9" + strings.Repeat(" ", 1000) + wire[1:], "InvalidRequest"},
		"data afterwards":   {wire + "evil", "IncompleteBody"},
		"lines afterwards":  {wire + strings.Repeat("\r\n", 20), "MalformedTrailerError"},
		"not chunked":       {"123456789", "IncompleteBody"},
	} {
		t.Run(name, func(t *testing.T) {
			send(l, unsignedTrailer, c.wire, trailer...).want(t, 400, c.code)
			if _, stored := l.mem.object("inbox", "a"); stored {
				t.Error("it was stored")
			}
		})
	}
	send(l, unsignedTrailer, wire, "X-Amz-Decoded-Content-Length", "9").want(t, 400, "InvalidRequest")
	send(l, unsignedTrailer, wire, "X-Amz-Trailer", "x-amz-checksum-crc32").want(t, 411, "MissingContentLength")
	send(l, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", wire, trailer...).want(t, 501, "NotImplemented")
	send(l, "nonsense", "hello").want(t, 400, "InvalidArgument")
}

// TestSignedChunks tampers with what minio-go signed.
func TestSignedChunks(t *testing.T) {
	l := newLab(t)
	data := bytes.Repeat([]byte("sallyport "), 20000) // three chunks and a bit
	send := func(trailer http.Header, tamper func(string) string) answer {
		r := l.request("PUT", "/inbox/a", data)
		r.Trailer = trailer
		r = signer.StreamingSignV4(r, testKey, testSecret, "", "us-east-1", int64(len(data)), time.Now().UTC(), plainSHA{newSHA()})
		wire, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		text := tamper(string(wire))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		return l.send(r)
	}
	same := func(s string) string { return s }
	trailer := func() http.Header { return http.Header{"x-amz-checksum-crc32c": {crc32cOf(data)}} }
	send(nil, same).want(t, 200, "")
	if got, _ := l.mem.object("inbox", "a"); !bytes.Equal(got, data) {
		t.Fatal("other bytes were stored")
	}
	if a := send(trailer(), same).want(t, 200, ""); a.header.Get("x-amz-checksum-crc32c") != crc32cOf(data) {
		t.Error("the checksum is not echoed")
	}
	send(http.Header{"x-amz-checksum-crc32c": {"AAAAAA=="}}, same).want(t, 400, "BadDigest")
	l.mem.forget("inbox", "a")
	second := func(s string) int { // where the second chunk begins
		return strings.Index(s, "\r\n10000;") + 2
	}
	for name, c := range map[string]struct {
		tamper func(string) string
		status int
		code   string
	}{
		"a byte of data":    {func(s string) string { return strings.Replace(s, "sallyport", "Sallyport", 1) }, 403, "SignatureDoesNotMatch"},
		"a signature":       {func(s string) string { return strings.Replace(s, "chunk-signature=", "chunk-signature=0", 1)[:len(s)] }, 403, "SignatureDoesNotMatch"},
		"an early end":      {func(s string) string { return s[:second(s)] }, 400, "IncompleteBody"},
		"a chunk left out":  {func(s string) string { i := second(s); return s[:i] + s[i+2*65536+200-65536:] }, 0, ""},
		"chunks swapped":    {func(s string) string { i := second(s); return s[i:2*i] + s[:i] + s[2*i:] }, 403, "SignatureDoesNotMatch"},
		"an unsigned chunk": {func(s string) string { return "1\r\nx\r\n" + s }, 403, "AccessDenied"},
		"more afterwards":   {func(s string) string { return s + "evil: 1\r\n" }, 400, "MalformedTrailerError"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(nil, c.tamper)
			if c.status != 0 {
				a.want(t, c.status, c.code)
			} else if a.status < 400 {
				t.Errorf("taken: %d", a.status)
			}
			if _, stored := l.mem.object("inbox", "a"); stored {
				t.Error("it was stored")
			}
		})
	}
	for name, tamper := range map[string]func(string) string{
		"the checksum":      func(s string) string { return strings.Replace(s, "crc32c:", "crc32c:A", 1) },
		"its signature":     func(s string) string { return strings.Replace(s, "trailer-signature:", "trailer-signature:ff", 1) },
		"without signature": func(s string) string { return s[:strings.Index(s, "x-amz-trailer-signature")] },
		"without trailers":  func(s string) string { return s[:strings.Index(s, "x-amz-checksum")] },
		"signed with a newline more": func(s string) string {
			return strings.Replace(s, "x-amz-checksum-crc32c:", "x-amz-checksum-crc32c:AAAAAA==\r\nx-amz-checksum-crc32c:", 1)
		},
	} {
		if a := send(trailer(), tamper); a.status < 400 {
			t.Errorf("%s: taken", name)
		}
	}
	if _, stored := l.mem.object("inbox", "a"); stored {
		t.Error("it was stored")
	}
}

// TestLongAnswersOfViews: a view that is being made is left as soon as the
// client is gone.
func TestLongAnswersOfViews(t *testing.T) {
	m := newMemory()
	entered, left := make(chan struct{}), make(chan error, 1)
	d, err := New(Parts{Views: waiting{m, entered, left}, Keys: m})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(d)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/ward?list-type=2", nil)
	r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
	go func() {
		<-entered
		cancel()
	}()
	if _, err := srv.Client().Do(signed(r)); err == nil {
		t.Error("an answer came")
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type waiting struct {
	*memory
	entered chan struct{}
	left    chan error
}

func (w waiting) Objects(ctx context.Context, _ gateway.Access, _, _ string) ([]gateway.ObjectInfo, error) {
	close(w.entered)
	<-ctx.Done()
	w.left <- ctx.Err()
	return nil, sallyport.E("make view", sallyport.Canceled, ctx.Err(), "")
}
