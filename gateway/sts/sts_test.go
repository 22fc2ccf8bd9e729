package sts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/gateway/identity"
)

// provider is a real OpenID Connect provider on loopback: discovery, keys, and
// tokens signed with ES256.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
	ca  string
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newProvider(t *testing.T) *provider {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: k}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/a",
				"token_endpoint": p.URL + "/t", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
				"id_token_signing_alg_values_supported": []string{"ES256"}})
		case "/keys":
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig",
				"x": b64(point[1:33]), "y": b64(point[33:])}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "gateway", "sub": "subject-1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// records keeps what would go into the audit log.
type records struct{ issued, refused []string }

func (r *records) RecordAccess(_ context.Context, who, project, purpose, step, key string) error {
	r.issued = append(r.issued, strings.Join([]string{who, project, purpose, step, key}, " "))
	return nil
}

func (r *records) RecordUnproved(_ context.Context, claimed, dataset, code string) error {
	r.refused = append(r.refused, code)
	return nil
}

func TestExchange(t *testing.T) {
	p := newProvider(t)
	log := slog.New(slog.DiscardHandler)
	v, err := identity.NewVerifier(identity.OIDCConfig{Issuer: p.URL, Audience: "gateway", CA: p.ca, People: map[string]string{"subject-1": "ada", "subject-2": "gone"}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.OpenKeys(identity.KeyConfig{Dir: t.TempDir() + "/keys"}, [32]byte{1}, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	rec := &records{}
	d := New(Parts{Verifier: v, Keys: keys, Session: "sts", Token: func(id string) string { return "token-of-" + id }, Record: rec, Now: time.Now, Log: log,
		People: identity.NewDirectory([]identity.Person{{ID: "ada", Roles: []string{"researcher"}, Projects: []string{"pilot"}}}, 0)})

	ask := func(change func(url.Values)) (int, string) {
		t.Helper()
		form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {"arn:aws:iam::sallyport:role/pilot/research"},
			"RoleSessionName": {"s"}, "WebIdentityToken": {p.token(t, nil)}}
		change(form)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		if !Matches(r) {
			t.Fatal("the request is not for this door")
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		b, _ := io.ReadAll(w.Result().Body)
		return w.Code, string(b)
	}

	code, body := ask(func(url.Values) {})
	var res byToken
	if err := xml.Unmarshal([]byte(body), &res); code != 200 || err != nil {
		t.Fatalf("%d %v %s", code, err, body)
	}
	c := res.Result.Credentials
	k, secret, err := keys.Lookup(c.AccessKeyID)
	if err != nil || secret != c.SecretAccessKey || k.Person != "ada" || k.Project != "pilot" || k.Purpose != "research" || k.Note != "sts" {
		t.Errorf("%+v, %v", k, err)
	}
	if c.SessionToken != "token-of-"+c.AccessKeyID || len(rec.issued) != 1 || strings.Contains(rec.issued[0], secret) {
		t.Errorf("token %q, recorded %q", c.SessionToken, rec.issued)
	}
	// The key does not outlive the token.
	_, body = ask(func(f url.Values) {
		f.Set("WebIdentityToken", p.token(t, map[string]any{"exp": time.Now().Add(10 * time.Minute).Unix()}))
	})
	if err := xml.Unmarshal([]byte(body), &res); err != nil {
		t.Fatal(body)
	}
	if until, err := time.Parse(time.RFC3339, res.Result.Credentials.Expiration); err != nil || time.Until(until) > 11*time.Minute {
		t.Errorf("until %v, %v", until, err)
	}

	for name, tt := range map[string]struct {
		change func(url.Values)
		code   string
	}{
		"expired": {func(f url.Values) {
			f.Set("WebIdentityToken", p.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))
		}, "AccessDenied"},
		"audience":    {func(f url.Values) { f.Set("WebIdentityToken", p.token(t, map[string]any{"aud": "other"})) }, "AccessDenied"},
		"forged":      {func(f url.Values) { f.Set("WebIdentityToken", p.token(t, nil)+"x") }, "AccessDenied"},
		"no token":    {func(f url.Values) { f.Del("WebIdentityToken") }, "AccessDenied"},
		"nobody":      {func(f url.Values) { f.Set("WebIdentityToken", p.token(t, map[string]any{"sub": "subject-2"})) }, "AccessDenied"},
		"project":     {func(f url.Values) { f.Set("RoleArn", "arn:aws:iam::sallyport:role/other/research") }, "AccessDenied"},
		"role":        {func(f url.Values) { f.Set("RoleArn", "arn:aws:iam::sallyport:role/pilot") }, "ValidationError"},
		"duration":    {func(f url.Values) { f.Set("DurationSeconds", "5") }, "ValidationError"},
		"other act":   {func(f url.Values) { f.Set("Action", "GetCallerIdentity") }, "InvalidAction"},
		"wrong class": {func(f url.Values) { f.Set("RoleArn", "arn:aws:iam::sallyport:role/pilot/a/b") }, "ValidationError"},
	} {
		before := len(rec.refused)
		code, body := ask(tt.change)
		if code == 200 || !strings.Contains(body, "<Code>"+tt.code+"</Code>") {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if len(rec.refused) != before+1 {
			t.Errorf("%s: the refusal is not recorded", name)
		}
	}
	if len(keys.List()) != 2 {
		t.Errorf("%d keys were issued, want 2", len(keys.List()))
	}
	for _, r := range []*http.Request{
		httptest.NewRequest("GET", "/", nil), httptest.NewRequest("POST", "/bucket", nil), httptest.NewRequest("POST", "/?delete", nil),
	} {
		if Matches(r) {
			t.Errorf("%s %s is S3's", r.Method, r.URL)
		}
	}
}

// TestCertificate exchanges a client certificate over real mutual TLS.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	caKey, caCert := authority(t)
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caCert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	shown, err := identity.OpenTLS(identity.TLSConfig{Dir: filepath.Join(dir, "tls"), ClientCA: filepath.Join(dir, "ca.pem"),
		People: map[string]string{"cn=ada's laptop": "ada"}}, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.OpenKeys(identity.KeyConfig{Dir: dir + "/keys"}, [32]byte{1}, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	rec := &records{}
	d := New(Parts{Certs: shown, Keys: keys, Session: "sts", Token: func(id string) string { return "token-of-" + id }, Record: rec, Now: time.Now, Log: log,
		People: identity.NewDirectory([]identity.Person{{ID: "ada", Projects: []string{"pilot"}}}, 0)})
	l, err := tls.Listen("tcp", "127.0.0.1:0", shown.Server())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	own, err := os.ReadFile(shown.PublicFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(own)

	ask := func(cn string) (int, string) {
		t.Helper()
		conf := &tls.Config{RootCAs: roots}
		if cn != "" {
			conf.Certificates = []tls.Certificate{clientCert(t, caKey, caCert, cn)}
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
		defer c.CloseIdleConnections()
		res, err := c.PostForm("https://"+l.Addr().String()+"/", url.Values{"Action": {"AssumeRoleWithCertificate"}, "RoleArn": {"arn:aws:iam::sallyport:role/pilot/research"}})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	code, body := ask("ada's laptop")
	var res byCertificate
	if err := xml.Unmarshal([]byte(body), &res); code != 200 || err != nil {
		t.Fatalf("%d %v %s", code, err, body)
	}
	if k, secret, err := keys.Lookup(res.Result.Credentials.AccessKeyID); err != nil || k.Person != "ada" || secret != res.Result.Credentials.SecretAccessKey {
		t.Errorf("%+v, %v", k, err)
	}
	for _, cn := range []string{"", "stranger"} {
		if code, body := ask(cn); code != http.StatusForbidden {
			t.Errorf("%q: %d %s", cn, code, body)
		}
	}
	if len(rec.issued) != 1 || len(rec.refused) != 2 {
		t.Errorf("recorded %q and %q", rec.issued, rec.refused)
	}
}

func authority(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return k, c
}

func clientCert(t *testing.T, caKey *ecdsa.PrivateKey, ca *x509.Certificate, cn string) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &k.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}
