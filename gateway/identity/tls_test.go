package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, c *clock) *authority {
	t.Helper()
	a := &authority{key: newEC(t)}
	a.cert = a.make(t, c, &a.key.PublicKey, func(x *x509.Certificate) {
		x.IsCA, x.KeyUsage, x.BasicConstraintsValid = true, x509.KeyUsageCertSign, true
		x.Subject.CommonName = "authority"
	})
	return a
}

func (a *authority) make(t *testing.T, c *clock, pub *ecdsa.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: serial, NotBefore: c.now().Add(-time.Hour), NotAfter: c.now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	change(x)
	parent := a.cert
	if parent == nil {
		parent = x
	}
	der, err := x509.CreateCertificate(rand.Reader, x, parent, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// server makes a pair for 127.0.0.1.
func (a *authority) server(t *testing.T, c *clock, name string, life time.Duration) (cert, key []byte) {
	t.Helper()
	k := newEC(t)
	x := a.make(t, c, &k.PublicKey, func(x *x509.Certificate) {
		x.Subject.CommonName = name
		x.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		x.NotAfter = c.now().Add(life)
	})
	return certPEM(x), keyPEM(t, k)
}

func (a *authority) client(t *testing.T, c *clock, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	k := newEC(t)
	x := a.make(t, c, &k.PublicKey, func(x *x509.Certificate) {
		x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		change(x)
	})
	return tls.Certificate{Certificate: [][]byte{x.Raw}, PrivateKey: k, Leaf: x}
}

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a real HTTPS server and returns its address. h gets the
// requests.
func serve(t *testing.T, s *TLS, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	l := tls.NewListener(srv.Listener, s.Server())
	srv.Listener = l
	srv.Config.ErrorLog = newDiscard()
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}

// shown makes a handshake and returns the certificate that the server shows.
func shown(t *testing.T, address string, cfg *tls.Config) (*tls.ConnectionState, error) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	cs := conn.ConnectionState()
	return &cs, nil
}

func trust(c *x509.Certificate, clk *clock) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{RootCAs: pool, Time: clk.now}
}

func TestSelfSignedIsMadeOnce(t *testing.T) {
	dir, c, j := filepath.Join(t.TempDir(), "tls"), newClock(), &journal{}
	cfg := TLSConfig{Dir: dir, Names: []string{"gateway.lab.example", "10.1.2.3"}}
	s, err := OpenTLS(cfg, c.now, j.logger())
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, s, func(http.ResponseWriter, *http.Request) {})
	b, err := os.ReadFile(s.PublicFile())
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(b)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || bytes.Contains(b, []byte("PRIVATE")) {
		t.Fatalf("the public file holds %s", b)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "localhost", "::1", "gateway.lab.example", "10.1.2.3"} {
		cfg := trust(leaf, c)
		cfg.ServerName = name
		cs, err := shown(t, address, cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
		if want := strings.ToLower(strings.ReplaceAll(s.Fingerprint(), ":", "")); want != fmt.Sprintf("%x", sum) {
			t.Errorf("the fingerprint is %s, said is %s", fmt.Sprintf("%x", sum), want)
		}
		if cs.Version != tls.VersionTLS13 {
			t.Errorf("TLS version %x", cs.Version)
		}
	}
	cfgOther := trust(leaf, c)
	cfgOther.ServerName = "other.example"
	if _, err := shown(t, address, cfgOther); err == nil {
		t.Error("it passes for another host")
	}
	if leaf.IsCA || len(s.Fingerprint()) != 95 || !s.SelfSigned() {
		t.Errorf("CA %t, fingerprint %s", leaf.IsCA, s.Fingerprint())
	}
	for name, want := range map[string]os.FileMode{"": 0o700, pairName: 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, st.Mode(), err)
		}
	}
	// Again: the same, although a crash left half a file and the copy is gone.
	write(t, filepath.Join(dir, ".tmp-HALF"), []byte("half"))
	os.Remove(s.PublicFile())
	cfg.Names = append(cfg.Names, "new.lab.example")
	again, err := OpenTLS(cfg, c.now, j.logger())
	if err != nil || again.Fingerprint() != s.Fingerprint() {
		t.Fatalf("another certificate, %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".tmp-HALF")); !os.IsNotExist(err) {
		t.Error("an unfinished file is still there")
	}
	if _, err := os.Stat(s.PublicFile()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(j.String(), "new.lab.example") {
		t.Errorf("nothing was said of the missing name: %s", j)
	}
	c.advance(selfLife + time.Hour)
	if _, err := OpenTLS(cfg, c.now, j.logger()); sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(sallyport.HintOf(err), "Remove") {
		t.Errorf("expired: %v", err)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s, err := OpenTLS(TLSConfig{Dir: t.TempDir() + "/tls"}, time.Now, newDiscardLogger())
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, s, func(http.ResponseWriter, *http.Request) {})
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, err := shown(t, address, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("version %x: %v", version, err)
		}
	}
}

func TestCertificateIsReloaded(t *testing.T) {
	dir, c, j := t.TempDir(), newClock(), &journal{}
	a := newAuthority(t, c)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert1, key1 := a.server(t, c, "one", time.Hour)
	write(t, certFile, cert1)
	write(t, keyFile, key1)
	s, err := OpenTLS(TLSConfig{Cert: certFile, Key: keyFile}, c.now, j.logger())
	if err != nil {
		t.Fatal(err)
	}
	if s.SelfSigned() || s.PublicFile() != certFile {
		t.Error("an own certificate passes for self-signed")
	}
	address := serve(t, s, func(http.ResponseWriter, *http.Request) {})
	expect := func(step, want string, complaints int) {
		t.Helper()
		cs, err := shown(t, address, trust(a.cert, c))
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if got := cs.PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("%s: shows %q, not %q", step, got, want)
		}
		if n := strings.Count(j.String(), "no good"); n != complaints {
			t.Errorf("%s: %d complaints, not %d: %s", step, n, complaints, j)
		}
	}
	expect("start", "one", 0)
	cert2, key2 := a.server(t, c, "two", time.Hour)
	write(t, certFile, cert2)
	expect("the key is not there yet", "one", 1)
	expect("still, said once", "one", 1)
	write(t, keyFile, key2)
	expect("both are there", "two", 1)
	write(t, certFile, []byte("rubbish"))
	expect("rubbish", "two", 2)
	os.Remove(certFile)
	expect("gone", "two", 3)
	old, oldKey := a.server(t, c, "old", -time.Minute)
	write(t, certFile, old)
	write(t, keyFile, oldKey)
	expect("expired", "two", 4)
	cert3, key3 := a.server(t, c, "three", time.Hour)
	write(t, certFile, cert3)
	write(t, keyFile, key3)
	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	expect("everybody can read the key", "two", 5)
	if err := os.Chmod(keyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	expect("its group can", "three", 5)
	// As tools do that swap symbolic links.
	cert4, key4 := a.server(t, c, "four", time.Hour)
	write(t, filepath.Join(dir, "c4"), cert4)
	write(t, filepath.Join(dir, "k4"), key4)
	for link, target := range map[string]string{certFile: "c4", keyFile: "k4"} {
		if err := os.Symlink(target, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	expect("links", "four", 5)
}

func TestReloadConcurrently(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	a := newAuthority(t, c)
	cert, key := a.server(t, c, "one", time.Hour)
	pair := write(t, filepath.Join(dir, "pair.pem"), append(cert, key...))
	s, err := OpenTLS(TLSConfig{Cert: pair, Key: pair}, c.now, newDiscardLogger())
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, s, func(http.ResponseWriter, *http.Request) {})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := shown(t, address, trust(a.cert, c)); err != nil {
					t.Error(err)
				}
				_ = s.Fingerprint()
			}
		})
	}
	for range 10 {
		cert, key := a.server(t, c, "next", time.Hour)
		write(t, pair, append(cert, key...))
	}
	wg.Wait()
}

func TestTLSConfigIsChecked(t *testing.T) {
	c := newClock()
	a := newAuthority(t, c)
	dir := t.TempDir()
	cert, key := a.server(t, c, "x", time.Hour)
	_, other := a.server(t, c, "y", time.Hour)
	certFile, keyFile := write(t, dir+"/c", cert), write(t, dir+"/k", key)
	otherFile, rubbish := write(t, dir+"/o", other), write(t, dir+"/r", []byte("rubbish"))
	for name, cfg := range map[string]TLSConfig{
		"nothing":               {},
		"no key":                {Cert: certFile},
		"no certificate":        {Key: keyFile},
		"another key":           {Cert: certFile, Key: otherFile},
		"absent":                {Cert: dir + "/absent", Key: keyFile},
		"rubbish CA":            {Cert: certFile, Key: keyFile, ClientCA: rubbish},
		"absent CA":             {Cert: certFile, Key: keyFile, ClientCA: dir + "/absent"},
		"people without a CA":   {Cert: certFile, Key: keyFile, People: map[string]string{"cn=a": "a"}},
		"required without a CA": {Cert: certFile, Key: keyFile, ClientRequired: true},
		"a name of no kind":     {Cert: certFile, Key: keyFile, ClientCA: certFile, People: map[string]string{"a": "a"}},
		"an empty name":         {Cert: certFile, Key: keyFile, ClientCA: certFile, People: map[string]string{"cn=": "a"}},
		"damaged self-signed":   {Dir: filepath.Dir(write(t, filepath.Join(privateTemp(t), pairName), []byte("x")))},
	} {
		if _, err := OpenTLS(cfg, c.now, newDiscardLogger()); err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, ok := errors.AsType[*sallyport.Error](err); !ok {
			t.Errorf("%s: %T", name, err)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	ours, theirs := newAuthority(t, c), newAuthority(t, c)
	cfg := TLSConfig{
		Dir: filepath.Join(dir, "tls"), ClientCA: write(t, filepath.Join(dir, "ca"), certPEM(ours.cert)),
		People: map[string]string{"cn=Ada": "ada", "email=ada@lab.example": "ada", "uri=spiffe://lab/bo": "bo", "dns=bo.lab.example": "bo", "cn=Gone": "gone"},
	}
	d := NewDirectory([]Person{{ID: "ada", Roles: []string{"researcher"}}, {ID: "bo"}}, 0)
	spiffe, err := url.Parse("spiffe://lab/bo")
	if err != nil {
		t.Fatal(err)
	}
	set := func(cn, email, dns string, uri *url.URL) func(*x509.Certificate) {
		return func(x *x509.Certificate) {
			x.Subject = pkix.Name{CommonName: cn}
			if email != "" {
				x.EmailAddresses = []string{email}
			}
			if dns != "" {
				x.DNSNames = []string{dns}
			}
			if uri != nil {
				x.URIs = []*url.URL{uri}
			}
		}
	}
	plain := func(x *x509.Certificate) { x.Subject.CommonName = "Ada" }
	none := tls.Certificate{}
	for _, required := range []bool{false, true} {
		cfg.ClientRequired = required
		s, err := OpenTLS(cfg, c.now, newDiscardLogger())
		if err != nil {
			t.Fatal(err)
		}
		address := serve(t, s, func(w http.ResponseWriter, r *http.Request) {
			cert, ok, err := s.Client(r.TLS)
			if err == nil && !ok {
				fmt.Fprint(w, "none")
				return
			}
			var who Caller
			if err == nil {
				who, err = d.ByCertificate(cert)
			}
			if err != nil {
				fmt.Fprintf(w, "%s", sallyport.KindOf(err))
				return
			}
			fmt.Fprintf(w, "%s by %s", who.ID, who.Credential)
		})
		for _, tt := range []struct {
			name string
			cert tls.Certificate
			want string // "" is a handshake that fails
		}{
			{"common name", ours.client(t, c, plain), "ada by mtls:cn=Ada"},
			{"email", ours.client(t, c, set("x", "ada@lab.example", "", nil)), "ada by mtls:email=ada@lab.example"},
			{"uri", ours.client(t, c, set("", "", "", spiffe)), "bo by mtls:uri=spiffe://lab/bo"},
			{"dns", ours.client(t, c, set("", "", "bo.lab.example", nil)), "bo by mtls:dns=bo.lab.example"},
			{"two names of one person", ours.client(t, c, set("Ada", "ada@lab.example", "", nil)), "ada by mtls:email=ada@lab.example"},
			{"two people", ours.client(t, c, set("Ada", "", "", spiffe)), "denied"},
			{"name of another kind", ours.client(t, c, set("ada@lab.example", "", "", nil)), "denied"},
			{"nobody", ours.client(t, c, set("Eve", "", "", nil)), "denied"},
			{"no name", ours.client(t, c, set("", "", "", nil)), "denied"},
			{"somebody who left", ours.client(t, c, set("Gone", "", "", nil)), "denied"},
			{"another authority", theirs.client(t, c, plain), ""},
			{"expired", ours.client(t, c, func(x *x509.Certificate) { plain(x); x.NotAfter = c.now().Add(-time.Second) }), ""},
			{"a server's", ours.client(t, c, func(x *x509.Certificate) {
				plain(x)
				x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}), ""},
			{"none", none, map[bool]string{false: "none", true: ""}[required]},
		} {
			tc := &tls.Config{InsecureSkipVerify: true}
			if len(tt.cert.Certificate) > 0 {
				// Also what the server did not ask for: the client is not polite.
				tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tt.cert, nil }
			}
			if got := get(address, tc); got != tt.want {
				t.Errorf("required %t, %s: %q, not %q", required, tt.name, got, tt.want)
			}
		}
	}
}

// TestCertificateThatExpiresOnTheLine: a connection outlives its certificate.
func TestCertificateThatExpiresOnTheLine(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	a := newAuthority(t, c)
	s, err := OpenTLS(TLSConfig{Dir: filepath.Join(dir, "tls"), ClientCA: write(t, filepath.Join(dir, "ca"), certPEM(a.cert)),
		People: map[string]string{"cn=Ada": "ada"}}, c.now, newDiscardLogger())
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.client(t, c, func(x *x509.Certificate) { x.Subject.CommonName = "Ada" }).Leaf
	cs := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, a.cert}}}
	if got, ok, err := s.Client(cs); !ok || err != nil || got.Person != "ada" {
		t.Errorf("%+v, %t, %v", got, ok, err)
	}
	c.advance(25 * time.Hour)
	if _, ok, err := s.Client(cs); ok || sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("expired: %t, %v", ok, err)
	}
	c.advance(-25 * time.Hour)
	cs.VerifiedChains = nil // shown, but not verified
	if _, ok, err := s.Client(cs); ok || sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("unverified: %t, %v", ok, err)
	}
	if _, ok, err := s.Client(nil); ok || err != nil {
		t.Errorf("no TLS: %t, %v", ok, err)
	}
}

// TestClientCAIsReloaded: an authority that was taken out is not believed by
// the next connection, resumed or not.
func TestClientCAIsReloaded(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	first, second := newAuthority(t, c), newAuthority(t, c)
	ca := write(t, filepath.Join(dir, "ca"), certPEM(first.cert))
	s, err := OpenTLS(TLSConfig{Dir: filepath.Join(dir, "tls"), ClientCA: ca, ClientRequired: true, People: map[string]string{"cn=Ada": "ada"}}, c.now, newDiscardLogger())
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, s, func(w http.ResponseWriter, r *http.Request) {
		cert, _, err := s.Client(r.TLS)
		fmt.Fprint(w, cert.Person, " ", err)
	})
	ada := first.client(t, c, func(x *x509.Certificate) { x.Subject.CommonName = "Ada" })
	tc := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &ada, nil }}
	for range 2 {
		if got := get(address, tc); got != "ada <nil>" {
			t.Fatalf("got %q", got)
		}
	}
	write(t, ca, certPEM(second.cert))
	if got := get(address, tc); got != "" {
		t.Errorf("the authority is gone, and its client got %q", got)
	}
}

// get returns the body, or "" if there was no answer.
func get(address string, cfg *tls.Config) string {
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("https://" + address)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return b.String()
}

func TestHTTP2(t *testing.T) {
	s, err := OpenTLS(TLSConfig{Dir: t.TempDir() + "/tls"}, time.Now, newDiscardLogger())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{TLSConfig: s.Server(), ErrorLog: newDiscard(), ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close() })
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("spoke %s", res.Proto)
	}
	if got := get(l.Addr().String(), &tls.Config{InsecureSkipVerify: true}); got == "" {
		t.Error("no HTTP/1.1")
	}
}

func newDiscard() *log.Logger { return log.New(io.Discard, "", 0) }

func newDiscardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

func privateTemp(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
