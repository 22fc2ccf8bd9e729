package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
)

// testProvider is a real OpenID provider as far as a verifier sees one: TLS,
// discovery and a key set. It signs with the standard library, not with the
// library under test.
type testProvider struct {
	*httptest.Server
	ca string // file

	mu        sync.Mutex
	published map[string]crypto.Signer // by kid
	asked     map[string]int           // by path
	status    int                      // of every answer
	metadata  map[string]any           // what discovery says besides
	body      string                   // of the key set, instead of the keys
	hold      chan struct{}            // answers wait for it to close
	arrived   chan struct{}            // gets the first question
}

func newProvider(t *testing.T) *testProvider {
	t.Helper()
	p := &testProvider{published: map[string]crypto.Signer{}, asked: map[string]int{}, arrived: make(chan struct{}, 1), status: http.StatusOK, metadata: map[string]any{}}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.answer))
	p.Config.ErrorLog = newDiscard()
	p.StartTLS()
	t.Cleanup(p.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *testProvider) answer(w http.ResponseWriter, r *http.Request) {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
	p.mu.Lock()
	hold := p.hold
	p.mu.Unlock()
	if hold != nil {
		<-hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	switch {
	case p.status != http.StatusOK:
		_, _ = w.Write([]byte(`"the insides of the provider"`))
	case r.URL.Path == "/.well-known/openid-configuration":
		m := map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys",
			// Also what no verifier may accept, as careless providers do.
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"}}
		maps.Copy(m, p.metadata)
		_ = json.NewEncoder(w).Encode(m)
	case p.body != "":
		_, _ = w.Write([]byte(p.body))
	default:
		keys := []map[string]string{}
		for kid, k := range p.published {
			keys = append(keys, jwk(kid, k))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	}
}

func (p *testProvider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *testProvider) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is a public key by RFC 7518, section 6.
func jwk(kid string, k crypto.Signer) map[string]string {
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
			"n": b64(pub.N.Bytes()), "e": b64(big.NewInt(int64(pub.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := pub.Bytes() // 4, X, Y
		if err != nil {
			panic(err)
		}
		return map[string]string{"kty": "EC", "use": "sig", "alg": "ES256", "kid": kid, "crv": "P-256",
			"x": b64(point[1:33]), "y": b64(point[33:])}
	}
	panic("no such key")
}

// sign makes a token in compact form by RFC 7515 and RFC 7518.
func sign(t *testing.T, kid string, k crypto.Signer, head, claims map[string]any) string {
	t.Helper()
	h := map[string]any{"typ": "JWT"}
	if kid != "" {
		h["kid"] = kid
	}
	switch k.(type) {
	case *rsa.PrivateKey:
		h["alg"] = "RS256"
	case *ecdsa.PrivateKey:
		h["alg"] = "ES256"
	}
	maps.Copy(h, head)
	text := part(t, h) + "." + part(t, claims)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	var err error
	switch k := k.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum[:]); err == nil {
			sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func part(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newEC(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// oidcLab is a provider with one key, a verifier that believes it, and claims
// that are good.
type oidcLab struct {
	*testProvider
	clock *clock
	key   *ecdsa.PrivateKey
	v     *Verifier
}

func newOIDCLab(t *testing.T, change func(*OIDCConfig)) *oidcLab {
	t.Helper()
	l := &oidcLab{testProvider: newProvider(t), clock: newClock(), key: newEC(t)}
	l.published["one"] = l.key
	cfg := OIDCConfig{Issuer: l.URL, Audience: "gateway", CA: l.ca, People: map[string]string{"subject-1": "researcher"}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if l.v, err = NewVerifier(cfg, l.clock.now); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *oidcLab) claims(change map[string]any) map[string]any {
	now := l.clock.now()
	c := map[string]any{"iss": l.URL, "aud": "gateway", "sub": "subject-1",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func (l *oidcLab) token(t *testing.T, change map[string]any) string {
	t.Helper()
	return sign(t, "one", l.key, nil, l.claims(change))
}

func TestTokenOfEitherKind(t *testing.T) {
	l := newOIDCLab(t, nil)
	r := newRSA(t)
	l.published["two"] = r
	d := NewDirectory([]Person{{ID: "researcher", Roles: []string{"researcher"}}}, 0)
	for name, raw := range map[string]string{
		"ES256":           l.token(t, nil),
		"RS256":           sign(t, "two", r, nil, l.claims(nil)),
		"no kid":          sign(t, "", l.key, nil, l.claims(nil)),
		"no typ":          sign(t, "one", l.key, map[string]any{"typ": ""}, l.claims(nil)),
		"access token":    sign(t, "one", l.key, map[string]any{"typ": "at+jwt"}, l.claims(nil)),
		"two audiences":   l.token(t, map[string]any{"aud": []string{"another", "gateway"}}),
		"other claims":    l.token(t, map[string]any{"scope": "s3", "nbf": l.clock.now().Unix()}),
		"fraction in exp": l.token(t, map[string]any{"exp": float64(l.clock.now().Unix()) + 60.5}),
	} {
		tok, err := l.v.Verify(t.Context(), raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		who, err := d.ByToken(tok)
		if err != nil || who.ID != "researcher" || who.Credential != "oidc:"+l.URL+"/subject-1" {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
		if !tok.Until.After(l.clock.now()) {
			t.Errorf("%s: until %s", name, tok.Until)
		}
	}
	if n := l.count("/keys"); n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
}

func TestTokenIsRefused(t *testing.T) {
	l := newOIDCLab(t, nil)
	r := newRSA(t)
	l.published["two"] = r
	stranger := newEC(t)
	now := l.clock.now()
	good := l.token(t, nil)
	parts := strings.Split(good, ".")
	// The RSA public key as an HMAC secret (RFC 8725, section 2.1).
	der, err := x509.MarshalPKIXPublicKey(r.Public())
	if err != nil {
		t.Fatal(err)
	}
	confused := part(t, map[string]any{"alg": "HS256", "kid": "two"}) + "." + part(t, l.claims(nil))
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	mac.Write([]byte(confused))
	confused += "." + b64(mac.Sum(nil))

	for _, tt := range []struct{ name, raw, why string }{
		{"empty", "", "not a JSON Web Token"},
		{"two parts", parts[0] + "." + parts[1], "three parts"},
		{"long", good + strings.Repeat("A", maxToken), "longer"},
		{"not base64url", good + "=", "base64url"},
		{"line break", parts[0] + "." + parts[1] + "\n." + parts[2], "base64url"},
		{"header is no object", b64([]byte("1")) + "." + parts[1] + "." + parts[2], "header"},
		{"alg none", part(t, map[string]any{"alg": "none"}) + "." + parts[1] + ".", "not signed"},
		{"alg NoNe, with a signature", part(t, map[string]any{"alg": "NoNe", "kid": "one"}) + "." + parts[1] + "." + parts[2], "not signed"},
		{"no alg", part(t, map[string]any{"kid": "one"}) + "." + parts[1] + "." + parts[2], "not signed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "not signed"},
		{"public key as secret", confused, "HS256"},
		{"key of the other kind", sign(t, "two", l.key, nil, l.claims(nil)), "signature"},
		{"unknown key", sign(t, "three", stranger, nil, l.claims(nil)), "key"},
		{"unknown key under a known name", sign(t, "one", stranger, nil, l.claims(nil)), "key"},
		{"key inside the token", sign(t, "x", stranger, map[string]any{"jwk": jwk("x", stranger)}, l.claims(nil)), "key"},
		{"key at an address of its own", sign(t, "x", stranger, map[string]any{"jku": l.URL + "/evil"}, l.claims(nil)), "key"},
		{"other claims under the signature", parts[0] + "." + part(t, l.claims(map[string]any{"sub": "subject-2"})) + "." + parts[2], "key"},
		{"crit", sign(t, "one", l.key, map[string]any{"crit": []string{"exp"}}, l.claims(nil)), "extensions"},
		{"logout token by type", sign(t, "one", l.key, map[string]any{"typ": "logout+jwt"}, l.claims(nil)), "logout+jwt"},
		{"logout token by claim", l.token(t, map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}), "event"},
		{"bound to a key", l.token(t, map[string]any{"cnf": map[string]any{"jkt": "x"}}), "cnf"},
		{"wrong issuer", l.token(t, map[string]any{"iss": "https://other.example"}), "different provider"},
		{"issuer with a slash more", l.token(t, map[string]any{"iss": l.URL + "/"}), "different provider"},
		{"no issuer", l.token(t, map[string]any{"iss": nil}), "different provider"},
		{"wrong audience", l.token(t, map[string]any{"aud": "another"}), "audience"},
		{"no audience", l.token(t, map[string]any{"aud": nil}), "audience"},
		{"audience begins alike", l.token(t, map[string]any{"aud": "gateway2"}), "audience"},
		{"expired", l.token(t, map[string]any{"exp": now.Add(-time.Minute).Unix()}), "expired"},
		{"never ends", l.token(t, map[string]any{"exp": nil}), "never ends"},
		{"ends in 1970", l.token(t, map[string]any{"exp": 0}), "never ends"},
		{"ends never in words", l.token(t, map[string]any{"exp": "never"}), "claims"},
		{"not yet good", l.token(t, map[string]any{"nbf": now.Add(time.Minute + 2*pause).Unix()}), "nbf"},
		{"issued in the future", l.token(t, map[string]any{"iat": now.Add(time.Minute + 2*pause).Unix()}), "iat"},
		{"no subject", l.token(t, map[string]any{"sub": nil}), "subject"},
		{"long subject", l.token(t, map[string]any{"sub": strings.Repeat("a", 256)}), "subject"},
		{"subject of two lines", l.token(t, map[string]any{"sub": "a\nb"}), "subject"},
		{"unknown subject", l.token(t, map[string]any{"sub": "subject-2"}), "nobody"},
		{"subject in other letters", l.token(t, map[string]any{"sub": "Subject-1"}), "nobody"},
	} {
		l.clock.advance(pause) // so that unknown keys are asked for
		tok, err := l.v.Verify(t.Context(), tt.raw)
		if sallyport.KindOf(err) != sallyport.Denied || tok != (Token{}) {
			t.Errorf("%s: %+v, %v", tt.name, tok, err)
			continue
		}
		if !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: says %q, not %q", tt.name, err, tt.why)
		}
		if len(tt.raw) > 100 && strings.Contains(err.Error()+Reason(err), tt.raw[len(tt.raw)-40:]) {
			t.Errorf("%s: the error repeats the token", tt.name)
		}
		l.clock.advance(-pause)
	}
	if l.count("/evil") != 0 {
		t.Error("a token made the gateway ask an address of its choice")
	}
}

func TestTokenSkew(t *testing.T) {
	l := newOIDCLab(t, nil)
	end := l.clock.now().Add(10 * time.Minute)
	raw := l.token(t, map[string]any{"exp": end.Unix(), "nbf": l.clock.now().Unix()})
	for _, tt := range []struct {
		at   time.Duration
		good bool
	}{
		{-time.Minute - time.Second, false}, {-time.Minute, true}, {0, true},
		{10 * time.Minute, true}, {11*time.Minute - 1, true}, {11 * time.Minute, false},
	} {
		l.clock.advance(tt.at)
		if _, err := l.v.Verify(t.Context(), raw); (err == nil) != tt.good {
			t.Errorf("%s after its issue: %v", tt.at, err)
		}
		l.clock.advance(-tt.at)
	}
}

func TestProviderRotatesItsKey(t *testing.T) {
	l := newOIDCLab(t, nil)
	old := l.token(t, nil)
	if _, err := l.v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	next := newEC(t)
	l.set(func() { l.published = map[string]crypto.Signer{"next": next} })
	l.clock.advance(pause)
	fresh := sign(t, "next", next, nil, l.claims(nil))
	if _, err := l.v.Verify(t.Context(), fresh); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := l.v.Verify(t.Context(), old); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("the withdrawn key, after the new one was seen: %v", err)
	}
}

// TestWithdrawnKeyIsForgotten: a key that the provider withdrew stops working
// here even if no other key turns up.
func TestWithdrawnKeyIsForgotten(t *testing.T) {
	l := newOIDCLab(t, nil)
	raw := l.token(t, map[string]any{"exp": l.clock.now().Add(24 * time.Hour).Unix()})
	if _, err := l.v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	l.set(func() { l.published = map[string]crypto.Signer{} })
	l.clock.advance(15*time.Minute - 1)
	if _, err := l.v.Verify(t.Context(), raw); err != nil {
		t.Errorf("within keys_ttl: %v", err)
	}
	l.clock.advance(1)
	if _, err := l.v.Verify(t.Context(), raw); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("after keys_ttl: %v", err)
	}
}

func TestProviderIsDown(t *testing.T) {
	l := newOIDCLab(t, nil)
	l.set(func() { l.status = http.StatusServiceUnavailable })
	raw := l.token(t, map[string]any{"exp": l.clock.now().Add(24 * time.Hour).Unix()})
	for range 3 {
		_, err := l.v.Verify(t.Context(), raw)
		if sallyport.KindOf(err) != sallyport.Unavailable || strings.Contains(err.Error(), "insides") {
			t.Errorf("got %v", err)
		}
	}
	if n := l.count("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("asked %d times within the pause", n)
	}
	l.set(func() { l.status = http.StatusOK })
	l.clock.advance(pause)
	if _, err := l.v.Verify(t.Context(), raw); err != nil {
		t.Errorf("the provider is back: %v", err)
	}
	// Down again: known keys go on until they are too old, unknown ones do not.
	l.set(func() { l.status = http.StatusBadGateway })
	l.clock.advance(time.Minute)
	if _, err := l.v.Verify(t.Context(), raw); err != nil {
		t.Errorf("a known key: %v", err)
	}
	stranger := sign(t, "x", newEC(t), nil, l.claims(nil))
	for range 2 {
		if _, err := l.v.Verify(t.Context(), stranger); sallyport.KindOf(err) != sallyport.Unavailable {
			t.Errorf("an unknown key: %v", err)
		}
	}
	l.clock.advance(15 * time.Minute)
	if _, err := l.v.Verify(t.Context(), raw); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("keys that are too old: %v", err)
	}
	l.Close()
	l.clock.advance(pause)
	if _, err := l.v.Verify(t.Context(), raw); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestProviderMisbehaves(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testProvider)
	}{
		{"another issuer", func(p *testProvider) { p.metadata["issuer"] = "https://other.example" }},
		{"keys without TLS", func(p *testProvider) {
			plain := httptest.NewServer(http.HandlerFunc(p.answer)) // the right keys, but who says so?
			t.Cleanup(plain.Close)
			p.metadata["jwks_uri"] = plain.URL + "/keys"
		}},
		{"no keys", func(p *testProvider) { p.metadata["jwks_uri"] = "" }},
		{"keys are no JSON", func(p *testProvider) { p.body = "<html>" + strings.Repeat("x", 1000) }},
		{"endless keys", func(p *testProvider) { p.body = `{"keys":[` + strings.Repeat(" ", maxDocument) + `]}` }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newOIDCLab(t, nil)
			l.set(func() { tt.change(l.testProvider) })
			_, err := l.v.Verify(t.Context(), l.token(t, nil))
			if sallyport.KindOf(err) != sallyport.Unavailable || len(err.Error()) > 500 {
				t.Errorf("got %.600v", err)
			}
		})
	}
	t.Run("a certificate that nobody vouches for", func(t *testing.T) {
		l := newOIDCLab(t, func(c *OIDCConfig) { c.CA = "" })
		if _, err := l.v.Verify(t.Context(), l.token(t, nil)); sallyport.KindOf(err) != sallyport.Unavailable {
			t.Errorf("got %v", err)
		}
		if l.count("/keys") != 0 {
			t.Error("asked all the same")
		}
	})
}

// TestMadeUpKeysDoNotFlood: tokens of unknown keys make one question in a pause,
// and honest tokens are not harmed.
func TestMadeUpKeysDoNotFlood(t *testing.T) {
	l := newOIDCLab(t, nil)
	good := l.token(t, nil)
	if _, err := l.v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	stranger := newEC(t)
	for i := range 50 {
		_, err := l.v.Verify(t.Context(), sign(t, strings.Repeat("k", i+1), stranger, nil, l.claims(nil)))
		if sallyport.KindOf(err) != sallyport.Denied {
			t.Fatalf("got %v", err)
		}
	}
	if n := l.count("/keys"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if _, err := l.v.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnceAskOnce(t *testing.T) {
	l := newOIDCLab(t, nil)
	hold := make(chan struct{})
	l.set(func() { l.hold = hold })
	raw := l.token(t, nil)
	var wg sync.WaitGroup
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := l.v.Verify(gone, raw); left <- err }()
	<-l.arrived // so it is the first one's question that all wait for
	for range 16 {
		wg.Go(func() {
			if _, err := l.v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	leave() // the first who came does not wait
	if err := <-left; sallyport.KindOf(err) != sallyport.Canceled {
		t.Errorf("who left got %v", err)
	}
	close(hold)
	wg.Wait()
	if a, b := l.count("/.well-known/openid-configuration"), l.count("/keys"); a != 1 || b != 1 {
		t.Errorf("asked %d and %d times", a, b)
	}
}

func TestWhoATokenIs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*OIDCConfig)
		claims map[string]any
		want   string // "" is a denial
	}{
		{"pattern", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*@lab.example"} }, map[string]any{"upn": "ada@lab.example"}, "ada"},
		{"pattern, other domain", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*@lab.example"} }, map[string]any{"upn": "ada@lab.example.org"}, ""},
		{"pattern, nobody before the at", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*@lab.example"} }, map[string]any{"upn": "@lab.example"}, ""},
		{"people before patterns", func(c *OIDCConfig) { c.Accept = []string{"*"} }, nil, "researcher"},
		{"the claim is the ID", func(c *OIDCConfig) { c.Accept = []string{"*"} }, map[string]any{"sub": "bo"}, "bo"},
		{"two patterns, two people", func(c *OIDCConfig) { c.Accept = []string{"*-x", "y-*"} }, map[string]any{"sub": "y-a-x"}, ""},
		{"the ends of a pattern overlap", func(c *OIDCConfig) { c.Accept = []string{"ab*ba"} }, map[string]any{"sub": "aba"}, ""},
		{"no such claim", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*"} }, nil, ""},
		{"claim is no text", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*"} }, map[string]any{"upn": []string{"ada"}}, ""},
		{"claim is empty", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "upn", []string{"*"} }, map[string]any{"upn": ""}, ""},
		{"unverified email", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "email", []string{"*@lab.example"} }, map[string]any{"email": "ada@lab.example"}, ""},
		{"email verified in words only", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "email", []string{"*@lab.example"} }, map[string]any{"email": "ada@lab.example", "email_verified": "true"}, ""},
		{"verified email", func(c *OIDCConfig) { c.PersonClaim, c.Accept = "email", []string{"*@lab.example"} }, map[string]any{"email": "ada@lab.example", "email_verified": true}, "ada"},
		{"required claim", func(c *OIDCConfig) { c.Require = map[string]string{"groups": "lab"} }, map[string]any{"groups": []string{"x", "lab"}}, "researcher"},
		{"required claim as text", func(c *OIDCConfig) { c.Require = map[string]string{"acr": "2"} }, map[string]any{"acr": "2"}, "researcher"},
		{"required claim absent", func(c *OIDCConfig) { c.Require = map[string]string{"groups": "lab"} }, nil, ""},
		{"required claim differs", func(c *OIDCConfig) { c.Require = map[string]string{"groups": "lab"} }, map[string]any{"groups": []string{"labs"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newOIDCLab(t, tt.change)
			tok, err := l.v.Verify(t.Context(), l.token(t, tt.claims))
			if tok.Person != tt.want || (err == nil) != (tt.want != "") || err != nil && sallyport.KindOf(err) != sallyport.Denied {
				t.Errorf("got %+v, %v", tok, err)
			}
		})
	}
	if _, err := NewDirectory(nil, 0).ByToken(Token{Issuer: "https://login.example", Subject: "s", Person: "ada"}); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("a good token made somebody of nobody: %v", err)
	}
	if _, err := NewDirectory([]Person{{}}, 0).ByToken(Token{}); err == nil {
		t.Error("no token is somebody")
	}
}

func TestOIDCConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*OIDCConfig){
		"no TLS":          func(c *OIDCConfig) { c.Issuer = "http://login.example" },
		"no issuer":       func(c *OIDCConfig) { c.Issuer = "" },
		"query":           func(c *OIDCConfig) { c.Issuer += "?a=b" },
		"password":        func(c *OIDCConfig) { c.Issuer = "https://a:b@login.example" },
		"no audience":     func(c *OIDCConfig) { c.Audience = "" },
		"nobody":          func(c *OIDCConfig) { c.People = nil },
		"alg none":        func(c *OIDCConfig) { c.Algorithms = []string{"none"} },
		"symmetric":       func(c *OIDCConfig) { c.Algorithms = []string{"RS256", "HS256"} },
		"two stars":       func(c *OIDCConfig) { c.Accept = []string{"*@*"} },
		"no star":         func(c *OIDCConfig) { c.Accept = []string{"ada"} },
		"large skew":      func(c *OIDCConfig) { c.Skew = time.Hour },
		"negative skew":   func(c *OIDCConfig) { c.Skew = -1 },
		"keys for ever":   func(c *OIDCConfig) { c.KeysTTL = 1000 * time.Hour },
		"CA file missing": func(c *OIDCConfig) { c.CA = filepath.Join(t.TempDir(), "absent") },
	} {
		c := OIDCConfig{Issuer: "https://login.example", Audience: "a", People: map[string]string{"s": "p"}}
		change(&c)
		if _, err := NewVerifier(c, time.Now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBearer(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   string
		ok     bool
	}{
		{nil, "", true},
		{[]string{"AWS4-HMAC-SHA256 Credential=x"}, "", true},
		{[]string{"Basic YTpi"}, "", true},
		{[]string{"Bearer a.b.c"}, "a.b.c", true},
		{[]string{"bEARER   a.b.c "}, "a.b.c", true},
		{[]string{"Bearer"}, "", false},
		{[]string{"Bearer "}, "", false},
		{[]string{"Bearer a b"}, "", false},
		{[]string{"Bearer a,Bearer b"}, "", false},
		{[]string{"Bearer a", "Bearer b"}, "", false},
		{[]string{"Basic x", "Bearer b"}, "", false},
	} {
		got, err := Bearer(http.Header{"Authorization": tt.values})
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %q, %v", tt.values, got, err)
		}
	}
}

func FuzzTokenShape(f *testing.F) {
	f.Add("e30.e30.AA")
	f.Add("eyJhbGciOiJFUzI1NiJ9.e30.AA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		alg, err := checkShape(raw)
		if err != nil {
			if !isPlain(err.Error()) {
				t.Errorf("an error that is no line: %q", err)
			}
			return
		}
		if alg == "" || strings.EqualFold(alg, "none") || strings.Count(raw, ".") != 2 || strings.HasSuffix(raw, ".") {
			t.Errorf("accepted %q with algorithm %q", raw, alg)
		}
	})
}
