package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
)

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server serves one bundle, with ETags, over TLS.
type server struct {
	*httptest.Server
	ca string

	mu     sync.Mutex
	body   []byte
	asked  []*http.Request
	answer http.HandlerFunc // instead
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		body, answer := s.body, s.answer
		s.asked = append(s.asked, r)
		s.mu.Unlock()
		switch {
		case answer != nil:
			answer(w, r)
		case body == nil:
			http.NotFound(w, r)
		default:
			w.Header().Set("ETag", `"`+string(sallyport.DigestOf(body))+`"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	return s
}

func (s *server) set(body []byte, answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.answer, s.asked = body, answer, nil
}

func (s *server) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func openHTTP(t *testing.T, cfg HTTPConfig) *HTTP {
	t.Helper()
	h, err := OpenHTTP(cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func httpPublisher(t *testing.T) publisher {
	s, key := newServer(t), newSigner(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL + "/bundle.tar.gz", CAFile: s.ca, Key: key.file, Algorithm: "ES256"})
	return publisher{Source: h, signed: true, vanish: func() { s.set(nil, nil) }, publish: func(f tree) { s.set(pack(t, key.sign(t, f)), nil) }}
}

func unsignedHTTPPublisher(t *testing.T) publisher {
	s := newServer(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL + "/bundle.tar.gz", CAFile: s.ca, Unsigned: "allow"})
	return publisher{Source: h, revision: true, vanish: func() { s.set(nil, nil) },
		publish: func(f tree) { s.set(pack(t, f.with(manifestFile, `{"revision": "r7"}`)), nil) }}
}

// TestETag: what has not changed is not sent again.
func TestETag(t *testing.T) {
	s, key := newServer(t), newSigner(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Key: key.file, Algorithm: "ES256", KeyID: "lab"})
	s.set(pack(t, key.sign(t, rules("one"))), nil)
	c, _, err := h.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	if h := s.requests()[0].Header; h.Get("If-None-Match") != "" || h.Get("Prefer") != "modes=snapshot" || h.Get("Authorization") != "" {
		t.Errorf("first asked with %v", h)
	}
	if _, _, err := h.Fetch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[1].Header.Get("If-None-Match"); got != c.tag || got == "" {
		t.Errorf("If-None-Match %q, want %q", got, c.tag)
	}
	// A candidate of another source is no condition here.
	foreign := c
	foreign.Origin = "elsewhere"
	if _, _, err := h.Fetch(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[2].Header.Get("If-None-Match"); got != "" {
		t.Errorf("If-None-Match %q for another's candidate", got)
	}
	// Nothing was asked for on a condition, so nothing can be unchanged.
	s.set(nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	wantFault(t, h, Candidate{}, sallyport.Unavailable, "304")
	// The same ETag for other content: content counts.
	for _, mark := range []string{"two", "three"} {
		body := pack(t, key.sign(t, rules(mark)))
		s.set(nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", c.tag)
			w.Write(body)
		})
		next, changed, err := h.Fetch(t.Context(), c)
		if err != nil || !changed || got(t, next)["data.json"] != rules(mark)["data.json"] {
			t.Errorf("%s: %v %v", mark, changed, err)
		}
	}
}

// TestServerThatFlips: every candidate is one of the two, never a mixture.
func TestServerThatFlips(t *testing.T) {
	s, key := newServer(t), newSigner(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Key: key.file, Algorithm: "ES256"})
	bodies := [][]byte{pack(t, key.sign(t, rules("one"))), pack(t, key.sign(t, rules("two"))), pack(t, rules("evil"))}
	n := 0
	s.set(nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bodies[n%3])
		n++
	})
	var last Candidate
	for i := range 9 {
		c, changed, err := h.Fetch(t.Context(), last)
		if bad := i%3 == 2; (err != nil) != bad || changed == bad {
			t.Fatalf("%d: changed %v, %v", i, changed, err)
		}
		if want := []string{"one", "two", "two"}[i%3]; !maps.Equal(got(t, c), rules(want)) {
			t.Errorf("%d: %v", i, got(t, c))
		}
		last = c
	}
}

// TestNoWayBack: a bundle that was signed before the last one is refused.
func TestNoWayBack(t *testing.T) {
	s, key := newServer(t), newSigner(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Key: key.file, Algorithm: "ES256"})
	serve := func(mark string, ago int64) {
		key.claims["iat"] = clock.Unix() - ago
		s.set(pack(t, key.sign(t, rules(mark))), nil)
	}
	serve("new", 10)
	c, _, err := h.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	serve("old", 11)
	wantFault(t, h, c, sallyport.Damaged, "2026-03-01T11:59:49Z")
	delete(key.claims, "iat")
	s.set(pack(t, key.sign(t, rules("old"))), nil)
	wantFault(t, h, c, sallyport.Damaged, "does not say when")
	serve("old", 9)
	if _, changed, err := h.Fetch(t.Context(), c); err != nil || !changed {
		t.Errorf("signed again: %v %v", changed, err)
	}
}

func TestBadServers(t *testing.T) {
	s, key := newServer(t), newSigner(t)
	cfg := HTTPConfig{URL: s.URL + "/b?sig=hush", CAFile: s.ca, Key: key.file, Algorithm: "ES256"}
	h := openHTTP(t, cfg)
	good := pack(t, key.sign(t, rules("one")))
	s.set(good, nil)
	last, _, err := h.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(good) }))
	defer plain.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   sallyport.Kind
		says   string
	}{
		"500":              {status(500), sallyport.Unavailable, "500"},
		"204":              {status(204), sallyport.Unavailable, "204"},
		"206":              {status(206), sallyport.Unavailable, "206"},
		"401":              {status(401), sallyport.Unavailable, "401"},
		"404":              {status(404), sallyport.NotFound, "404"},
		"an empty answer":  {status(200), sallyport.Damaged, "truncated"},
		"a login page":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, sallyport.Damaged, ""},
		"an announced GB":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1000000000") }, sallyport.Exhausted, "64 MiB"},
		"a way off https":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }, sallyport.Unavailable, "away from https"},
		"a way in circles": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) }, sallyport.Unavailable, "redirects"},
		"a cut connection": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			w.Write(good[:len(good)/2])
		}, sallyport.Unavailable, "ended early"},
		"an aborted answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(good[:len(good)/2])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, sallyport.Unavailable, "ended early"},
		"unsigned": {func(w http.ResponseWriter, _ *http.Request) { w.Write(pack(t, rules("one"))) }, sallyport.Damaged, "not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			s.set(nil, c.answer)
			wantFault(t, h, last, c.kind, c.says)
			if _, _, err := h.Fetch(t.Context(), last); strings.Contains(err.Error()+sallyport.HintOf(err), "hush") {
				t.Errorf("the address is told with its secret: %v", err)
			}
		})
	}
	s.set(good, nil)
	if c, _, err := h.Fetch(t.Context(), last); err != nil || c.Digest != last.Digest {
		t.Errorf("well again: %v", err)
	}
	untrusting := cfg
	untrusting.CAFile = ""
	wantFault(t, openHTTP(t, untrusting), Candidate{}, sallyport.Unavailable, "certificate")
	s.Close()
	wantFault(t, h, last, sallyport.Unavailable, "refused")
}

// TestServerWithoutEnd: an answer that does not stop is stopped.
func TestServerWithoutEnd(t *testing.T) {
	s := newServer(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Unsigned: "allow", Timeout: time.Minute})
	junk := zipped(t, nil)
	s.set(nil, func(w http.ResponseWriter, _ *http.Request) {
		for { // empty gzip members, which unpack to nothing for ever
			if _, err := w.Write(bytes.Repeat(junk, 1000)); err != nil {
				return
			}
		}
	})
	wantFault(t, h, Candidate{}, sallyport.Exhausted, "larger than 64 MiB")
}

func TestServerThatHangs(t *testing.T) {
	for name, begin := range map[string]string{"before the answer": "", "within it": "\x1f\x8b\x08"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			reached := make(chan bool, 2)
			s.set(nil, func(w http.ResponseWriter, r *http.Request) {
				if begin != "" {
					fmt.Fprint(w, begin)
					http.NewResponseController(w).Flush()
				}
				reached <- true
				<-r.Context().Done()
			})
			wantFault(t, openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Unsigned: "allow", Timeout: 300 * time.Millisecond}),
				Candidate{}, sallyport.Unavailable, "did not answer within 300ms")
			<-reached
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			if _, _, err := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Unsigned: "allow"}).Fetch(ctx, Candidate{}); sallyport.KindOf(err) != sallyport.Canceled {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestToken(t *testing.T) {
	s := newServer(t)
	token := write(t, "token", "first\n")
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Unsigned: "allow", TokenFile: token})
	s.set(pack(t, rules("one")), nil)
	for _, want := range []string{"first", "second"} {
		writeFile(t, token, want+"\n")
		if _, _, err := h.Fetch(t.Context(), Candidate{}); err != nil {
			t.Fatal(err)
		}
		asked := s.requests()
		if got := asked[len(asked)-1].Header.Get("Authorization"); got != "Bearer "+want {
			t.Errorf("Authorization %q", got)
		}
	}
	// Not to another host that the server points to.
	other := newServer(t)
	s.set(nil, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
	})
	other.set(pack(t, rules("one")), nil)
	h.client.Transport.(*http.Transport).TLSClientConfig = trust(s.Certificate(), other.Certificate())
	h.client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com" // as the test's certificates are
	if _, _, err := h.Fetch(t.Context(), Candidate{}); err != nil {
		t.Fatal(err)
	}
	if got := other.requests()[0].Header.Get("Authorization"); got != "" {
		t.Errorf("another host got %q", got)
	}
	for _, text := range []string{"", "two\nlines"} {
		writeFile(t, token, text)
		wantFault(t, h, Candidate{}, sallyport.Unavailable, "token_file")
	}
	writeFile(t, token, "open to all")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	wantFault(t, h, Candidate{}, sallyport.Unavailable, "others than its owner")
}

func trust(list ...*x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return &tls.Config{RootCAs: pool}
}

// TestLoopbackNeedsNoTLS: for a bundle server beside the gateway.
func TestLoopbackNeedsNoTLS(t *testing.T) {
	body := pack(t, rules("one"))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://192.0.2.1/bundle.tar.gz", http.StatusFound)
			return
		}
		w.Write(body)
	}))
	defer s.Close()
	if _, _, err := openHTTP(t, HTTPConfig{URL: s.URL, Unsigned: "allow"}).Fetch(t.Context(), Candidate{}); err != nil {
		t.Error(err)
	}
	wantFault(t, openHTTP(t, HTTPConfig{URL: s.URL + "/away", Unsigned: "allow"}), Candidate{}, sallyport.Unavailable, "away from https")
}

func TestUnsignedMustBeSpelledOut(t *testing.T) {
	s, key, other := newServer(t), newSigner(t), newSigner(t)
	h := openHTTP(t, HTTPConfig{URL: s.URL, CAFile: s.ca, Key: key.file, Algorithm: "ES256", Unsigned: "allow"})
	s.set(pack(t, rules("one")), nil)
	if c, _, err := h.Fetch(t.Context(), Candidate{}); err != nil || c.Signed != "" {
		t.Errorf("unsigned: signed %q, %v", c.Signed, err)
	}
	s.set(pack(t, key.sign(t, rules("two"))), nil)
	if c, _, err := h.Fetch(t.Context(), Candidate{}); err != nil || !strings.HasPrefix(c.Signed, "SHA256:") {
		t.Errorf("signed: signed %q, %v", c.Signed, err)
	}
	// A signature that is there must be good all the same.
	s.set(pack(t, other.sign(t, rules("two"))), nil)
	wantFault(t, h, Candidate{}, sallyport.Damaged, "signature is not valid")
}

func TestBadHTTPConfig(t *testing.T) {
	key := newSigner(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := write(t, "weak.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&small.PublicKey)})))
	private, err := x509.MarshalPKCS8PrivateKey(key.key)
	if err != nil {
		t.Fatal(err)
	}
	secret := write(t, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	public, err := os.ReadFile(key.file)
	if err != nil {
		t.Fatal(err)
	}
	const at = "https://bundles.lab.example/b.tar.gz"
	for name, c := range map[string]HTTPConfig{
		"no url":                   {Key: key.file},
		"no host":                  {URL: "https:///b", Key: key.file},
		"http to a name":           {URL: "http://bundles.lab.example/b", Key: key.file},
		"http to localhost":        {URL: "http://localhost/b", Key: key.file},
		"another scheme":           {URL: "file:///b", Key: key.file},
		"a password":               {URL: "https://a:b@bundles.lab.example/b", Key: key.file},
		"no key":                   {URL: at},
		"a misspelled allowance":   {URL: at, Unsigned: "yes"},
		"a scope without key":      {URL: at, Unsigned: "allow", Scope: "x"},
		"a wrong algorithm":        {URL: at, Key: key.file, Algorithm: "none"},
		"EdDSA":                    {URL: at, Key: key.file, Algorithm: "EdDSA"},
		"a key of another type":    {URL: at, Key: key.file, Algorithm: "RS256"},
		"a key of another curve":   {URL: at, Key: key.file, Algorithm: "ES384"},
		"no key in the file":       {URL: at, Key: write(t, "x", "x"), Algorithm: "ES256"},
		"two keys":                 {URL: at, Key: write(t, "x", string(public)+string(public)), Algorithm: "ES256"},
		"a private key":            {URL: at, Key: secret, Algorithm: "ES256"},
		"an absent file":           {URL: at, Key: "absent", Algorithm: "ES256"},
		"a weak key":               {URL: at, Key: weak},
		"a public key as a secret": {URL: at, Key: key.file, Algorithm: "HS256"},
		"a short secret":           {URL: at, Key: write(t, "x", "short"), Algorithm: "HS256"},
		"no such CA":               {URL: at, Key: key.file, Algorithm: "ES256", CAFile: "absent"},
		"no CA":                    {URL: at, Key: key.file, Algorithm: "ES256", CAFile: write(t, "x", "x")},
		"no token":                 {URL: at, Key: key.file, Algorithm: "ES256", TokenFile: "absent"},
		"too often":                {URL: at, Key: key.file, Algorithm: "ES256", Interval: time.Millisecond},
		"negative":                 {URL: at, Key: key.file, Algorithm: "ES256", Timeout: -1},
	} {
		if _, err := OpenHTTP(c, now); sallyport.KindOf(err) != sallyport.Invalid || strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenHTTP(HTTPConfig{URL: at, Key: write(t, "x", strings.Repeat("s", 32)), Algorithm: "HS256"}, now); err != nil {
		t.Error(err)
	}
}
