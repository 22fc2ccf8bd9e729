package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport"
)

func TestTokenRevoked(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	revoke := func() {
		t.Helper()
		in, err := i.session.signedIn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := st.root.Auth().Token().RevokeTree(in.client.Token()); err != nil {
			t.Fatal(err)
		}
	}
	revoke()
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("did not sign in again", err)
	}

	// Now the secret ID has ended too: nothing goes until there is another,
	// and then without a restart.
	old, err := os.ReadFile(st.cfg.Auth.AppRole.SecretIDFile)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(old))
	st.write(t, "auth/approle/role/"+st.role+"/secret-id/destroy", map[string]any{"secret_id": secret})
	revoke()
	_, err = i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Unavailable, "refuses the AppRole", "fresh secret ID", st.cfg.Auth.AppRole.SecretIDFile)
	if strings.Contains(err.Error()+sallyport.HintOf(err), secret) {
		t.Fatal("the message holds the secret ID")
	}
	if err := os.Remove(st.cfg.Auth.AppRole.SecretIDFile); err != nil {
		t.Fatal(err)
	}
	_, err = i.Issue(t.Context(), "job-2", time.Hour)
	wantKind(t, err, sallyport.Unavailable, "Put the file there")
	st.freshSecret(t)
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("did not recover", err)
	}
}

// A right that the policy lacks is no reason to sign in again and again.
func TestForbiddenIsNotSignedOut(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	g := newGate(t, s, (*httptest.Server).Start)
	st.cfg.Address = g.URL
	i := st.open(t, nil)
	if err := st.root.Sys().PutPolicy(st.policy("gateway"), `path "auth/token/lookup-self" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	g.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/login") {
			t.Error("signed in again")
		}
		return false
	})
	_, err := i.Issue(t.Context(), "job-1", time.Hour)
	wantKind(t, err, sallyport.Unavailable, "forbids", "gateway.hcl")
	g.set(nil)
}

func TestRenewal(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	g := newGate(t, s, (*httptest.Server).Start)
	st.cfg.Address = g.URL
	renewed := make(chan struct{}, 100)
	g.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/auth/token/renew-self") {
			renewed <- struct{}{}
		}
		return false
	})
	// The client renews once at the start and again at two thirds of a token's
	// life, so two renewals say that it goes on.
	st.write(t, "auth/approle/role/"+st.role, map[string]any{"token_ttl": "2s"})
	i := st.open(t, nil)
	in, err := i.session.signedIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-renewed
	<-renewed
	if now, err := i.session.signedIn(t.Context()); err != nil || now.client.Token() != in.client.Token() {
		t.Fatal("the token was exchanged, not renewed", err)
	}
}

// When a token's life cannot be stretched, the next question signs in anew.
func TestTokenRunsOut(t *testing.T) {
	st := newSite(t, sharedServer(t))
	st.write(t, "auth/approle/role/"+st.role, map[string]any{"token_ttl": "1s", "token_max_ttl": "1s"})
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	in, err := i.session.signedIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for { // until Vault has forgotten it
		if _, err := in.client.Auth().Token().LookupSelfWithContext(t.Context()); answered(err, http.StatusForbidden, "") {
			break
		}
	}
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("did not sign in again", err)
	}
}

func TestTokenFile(t *testing.T) {
	st := newSite(t, sharedServer(t))
	file := filepath.Join(st.dir, "token")
	st.cfg.Auth = Auth{TokenFile: file}
	first := st.token(t, "gateway", "1h")
	writeFile(t, file, first+"\n")
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	if err := st.root.Auth().Token().RevokeTree(first); err != nil {
		t.Fatal(err)
	}
	_, err := i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Unavailable, "refuses the token", file)
	if strings.Contains(err.Error()+sallyport.HintOf(err), first) {
		t.Fatal("the message holds the token")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Denied, "chmod 600")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	second := st.token(t, "gateway", "1h")
	writeFile(t, file, second)
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("did not recover", err)
	}
	i.Close()
	// A token that somebody else looks after is not ours to revoke.
	if _, err := st.root.Auth().Token().Lookup(second); err != nil {
		t.Fatal("Close ended a token of somebody else", err)
	}
}

func TestCloseGivesTokenBack(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	in, err := i.session.signedIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := in.client.Token()
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.root.Auth().Token().Lookup(token); !answered(err, http.StatusForbidden, "bad token") {
		t.Fatal("the token is still good", err)
	}
	_, err = i.Issue(t.Context(), "job-1", time.Hour)
	wantKind(t, err, sallyport.Unavailable, "closed")
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
}

// Certificates of both sides, and a namespace. The Vault built for tests knows
// neither, so a door before it asks for them.
func TestMutualTLSAndNamespace(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	cert, key := filepath.Join(st.dir, "cert.pem"), filepath.Join(st.dir, "key.pem")
	pool := x509.NewCertPool()
	makeCertificate(t, cert, key, pool)
	g := newGate(t, s, func(h *httptest.Server) {
		h.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		h.StartTLS()
	})
	g.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Vault-Namespace") != "lab/keys" || len(r.Header.Values("X-Elsewhere")) > 0 {
			http.Error(w, "wrong namespace", http.StatusTeapot)
			return true
		}
		r.Header.Del("X-Vault-Namespace")
		return false
	})
	ca := filepath.Join(st.dir, "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.Certificate().Raw})))
	// None of these may have a say.
	for name, value := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_NAMESPACE": "elsewhere", "VAULT_TOKEN": "hvs.elsewhere", "VAULT_SKIP_VERIFY": "true",
		"VAULT_HEADERS": `{"X-Elsewhere":"1"}`, "HTTPS_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	st.cfg.Address, st.cfg.Namespace = g.URL, "lab/keys"
	open := func(change func(*Config)) error {
		cfg := st.cfg
		cfg.CAFile, cfg.CertFile, cfg.KeyFile = ca, cert, key
		change(&cfg)
		i, err := Open(t.Context(), cfg, Parts{StateDir: filepath.Join(st.dir, "state")})
		if err != nil {
			return err
		}
		defer i.Close()
		l := issue(t, i, rand.Text())
		token, err := i.Wrapped(t.Context(), l.ID, time.Minute)
		if err != nil {
			return err
		}
		k, err := Unwrap(t.Context(), cfg, token)
		if err == nil && k.Recipient() != l.Recipient {
			t.Fatal("another key")
		}
		return err
	}
	if err := open(func(*Config) {}); err != nil {
		t.Fatal(err, sallyport.HintOf(err))
	}
	wantKind(t, open(func(c *Config) { c.CertFile, c.KeyFile = "", "" }), sallyport.Unavailable)
	wantKind(t, open(func(c *Config) { c.CAFile = "" }), sallyport.Unavailable, "ca_file")
	wantKind(t, open(func(c *Config) { c.Namespace = "other" }), sallyport.Internal)
}

func makeCertificate(t *testing.T, certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(c)
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

func TestBadConfig(t *testing.T) {
	good := Config{Address: "https://vault.example.org:8200", Auth: Auth{TokenFile: "token"}}
	if _, err := good.complete(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no address":       func(c *Config) { c.Address = "" },
		"clear text":       func(c *Config) { c.Address = "http://vault.example.org:8200" },
		"other scheme":     func(c *Config) { c.Address = "unix:///run/vault" },
		"password":         func(c *Config) { c.Address = "https://a:b@vault.example.org" },
		"path":             func(c *Config) { c.Address = "https://vault.example.org/v1" },
		"mount":            func(c *Config) { c.Mount = "../sys" },
		"prefix":           func(c *Config) { c.Prefix = "a/b" },
		"half certificate": func(c *Config) { c.CertFile = "cert" },
		"two ways":         func(c *Config) { c.Auth.AppRole = &AppRole{RoleIDFile: "a", SecretIDFile: "b"} },
		"no way":           func(c *Config) { c.Auth = Auth{} },
		"half AppRole":     func(c *Config) { c.Auth = Auth{AppRole: &AppRole{RoleIDFile: "a"}} },
		"AppRole mount":    func(c *Config) { c.Auth = Auth{AppRole: &AppRole{Mount: "a b", RoleIDFile: "a", SecretIDFile: "b"}} },
		"time":             func(c *Config) { c.Timeout = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			_, err := Open(t.Context(), c, Parts{StateDir: t.TempDir()})
			wantKind(t, err, sallyport.Invalid)
		})
	}
	for _, file := range []string{"ca", "cert"} {
		c := good
		missing := filepath.Join(t.TempDir(), "missing.pem")
		if file == "ca" {
			c.CAFile = missing
		} else {
			c.CertFile, c.KeyFile = missing, missing
		}
		_, err := Open(t.Context(), c, Parts{StateDir: t.TempDir()})
		wantKind(t, err, sallyport.Invalid, file)
	}
	resolved := Config{CAFile: "ca", Auth: Auth{AppRole: &AppRole{RoleIDFile: "r", SecretIDFile: "s"}}}.Resolve(func(p string) string {
		if p == "" {
			return p
		}
		return "/etc/" + p
	})
	if resolved.CAFile != "/etc/ca" || resolved.CertFile != "" || *resolved.Auth.AppRole != (AppRole{RoleIDFile: "/etc/r", SecretIDFile: "/etc/s"}) {
		t.Fatalf("%+v", resolved)
	}
}
