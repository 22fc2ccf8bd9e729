package s3door

import (
	"bytes"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// lab is a door on a loopback listener.
type lab struct {
	t    *testing.T
	mem  *memory
	door *Door
	srv  *httptest.Server
	log  *bytes.Buffer
}

type option func(*Parts)

func withClock(now func() time.Time) option { return func(p *Parts) { p.Now = now } }
func withMax(n int64) option                { return func(p *Parts) { p.MaxObject = n } }
func withoutMultipart() option {
	return func(p *Parts) { p.Views = p.Views.(staging).memory }
}

func newLab(t *testing.T, opts ...option) *lab { return startLab(t, false, opts...) }

func startLab(t *testing.T, secure bool, opts ...option) *lab {
	t.Helper()
	l := &lab{t: t, mem: newMemory(), log: &bytes.Buffer{}}
	p := Parts{Views: staging{l.mem}, Keys: l.mem, Log: slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelError}))}
	for _, o := range opts {
		o(&p)
	}
	var err error
	if l.door, err = New(p); err != nil {
		t.Fatal(err)
	}
	l.srv = httptest.NewUnstartedServer(l.door)
	l.srv.Config = l.door.Server()
	l.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if secure {
		l.srv.EnableHTTP2 = true
		l.srv.StartTLS()
	} else {
		l.srv.Start()
	}
	t.Cleanup(l.srv.Close)
	return l
}

// request is an unsigned request to the door with the payload's digest set.
func (l *lab) request(method, path string, body []byte) *http.Request {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.srv.URL+path, bytes.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if len(body) == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("X-Amz-Content-Sha256", digestHex(body))
	return r
}

// signed signs with minio-go, which is not ours: what it signs, others sign.
func signed(r *http.Request) *http.Request {
	return signer.SignV4(*r, testKey, testSecret, "", "us-east-1")
}

// answer is what came back.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	readErr error
}

func (a answer) code() string {
	var e errorBody
	_ = xml.Unmarshal(a.body, &e)
	return e.Code
}

func (l *lab) send(r *http.Request) answer {
	l.t.Helper()
	res, err := l.srv.Client().Do(r)
	if err != nil {
		l.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.body, a.readErr = io.ReadAll(res.Body)
	if id := res.Header.Get("x-amz-request-id"); len(id) != 16 {
		l.t.Errorf("%s %s: x-amz-request-id %q", r.Method, r.URL, id)
	}
	return a
}

func (l *lab) do(method, path string, body []byte, headers ...string) answer {
	l.t.Helper()
	r := l.request(method, path, body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return l.send(signed(r))
}

// want checks a status and, of an error with a body, S3's code.
func (a answer) want(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Errorf("answer %d %s (%s); want %d %s", a.status, a.code(), strings.TrimSpace(string(a.body)), status, code)
	}
	return a
}

func (l *lab) put(bucket, key, data string) {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	l.mem.buckets[bucket][key] = []byte(data)
}
