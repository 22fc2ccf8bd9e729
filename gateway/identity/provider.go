package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"sallyport"
)

const (
	// pause is the shortest time between two questions for the same document,
	// so that nobody can use tokens of made-up keys to have us flood the
	// provider.
	pause       = 5 * time.Second
	patience    = 10 * time.Second // for one answer of the provider
	maxDocument = 1 << 20          // bytes
)

// providers holds the provider as it was last discovered, and discovers it
// anew when that is too long ago.
type providers struct {
	issuer string
	ttl    time.Duration
	now    func() time.Time
	base   http.RoundTripper
	checks *oidc.Config

	flight singleflight.Group

	mu      sync.Mutex
	current *provider
	failed  time.Time // of the last failed discovery
	err     error
}

type provider struct {
	verifier *oidc.IDTokenVerifier
	since    time.Time
}

// verify checks signature, issuer and audience.
func (p *providers) verify(ctx context.Context, raw string) (*oidc.IDToken, error) {
	pr, err := p.get(ctx)
	if err != nil {
		return nil, err
	}
	var fetch error
	t, err := pr.verifier.Verify(context.WithValue(ctx, fetchKey{}, &fetch), raw)
	switch {
	case err == nil:
		return t, nil
	case ctx.Err() != nil:
		return nil, sallyport.E("bearer token", sallyport.Canceled, ctx.Err(), "")
	case errors.Is(fetch, errAsked):
		return nil, badToken("its key is not among the provider's keys, which were asked for within the last %s", pause)
	case fetch != nil:
		return nil, unreachable(fetch)
	}
	return nil, badToken("%s", clip(err.Error()))
}

func unreachable(err error) error {
	return sallyport.Errorf("bearer token", sallyport.Unavailable, "Try again when the OpenID provider can be reached.",
		"the keys of the OpenID provider cannot be had: %s", clip(err.Error()))
}

// get returns the provider; many who come at once wait for one discovery.
func (p *providers) get(ctx context.Context) (*provider, error) {
	if pr, err := p.known(); pr != nil || err != nil {
		return pr, err
	}
	done := p.flight.DoChan("", func() (any, error) {
		if pr, err := p.known(); pr != nil || err != nil {
			return pr, err
		}
		// One caller's leaving must not fail the others.
		pr, err := p.discover(context.WithoutCancel(ctx))
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.failed, p.err = p.now(), unreachable(err)
			return nil, p.err
		}
		p.current, p.err = pr, nil
		return pr, nil
	})
	select {
	case <-ctx.Done():
		return nil, sallyport.E("bearer token", sallyport.Canceled, ctx.Err(), "")
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*provider), nil
	}
}

// known returns what needs no question: a fresh provider, or a fresh failure.
func (p *providers) known() (*provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.current != nil && within(now, p.current.since, p.ttl) {
		return p.current, nil
	}
	if p.err != nil && within(now, p.failed, pause) {
		return nil, p.err
	}
	return nil, nil
}

// within reports whether now is less than d after then. A clock that went back
// makes everything old.
func within(now, then time.Time, d time.Duration) bool {
	return !now.Before(then) && now.Before(then.Add(d))
}

// discover reads the provider's metadata (OpenID Connect Discovery 1.0, section
// 4), and starts with an empty set of keys: the library never forgets one.
func (p *providers) discover(ctx context.Context) (*provider, error) {
	client := &http.Client{
		Transport: &gate{base: p.base, now: p.now, asked: map[string]question{}},
		Timeout:   patience,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 3 {
				return errors.New("the provider redirects too often, or away from https")
			}
			return nil
		},
	}
	ctx = oidc.ClientContext(ctx, client)
	found, err := oidc.NewProvider(ctx, p.issuer)
	if err != nil {
		return nil, err
	}
	var meta struct {
		Keys string `json:"jwks_uri"`
	}
	if err := found.Claims(&meta); err != nil {
		return nil, err
	}
	if u, err := url.Parse(meta.Keys); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("its jwks_uri is not an https address")
	}
	keys := &keySet{client: client, address: meta.Keys, algorithms: algorithms(p.checks.SupportedSigningAlgs)}
	return &provider{oidc.NewVerifier(p.issuer, keys, p.checks), p.now()}, nil
}

// fetchKey is the context key of a *error that tells a key set that could not
// be had from a signature that does not fit; the library's verifier makes one
// text of both.
type fetchKey struct{}

// keySet is the provider's published keys (RFC 7517). When none of them fits, it
// asks for them anew: once for all who wait, and what it is told replaces what
// it knew. The library's own set does the same, but lets go of an answer a
// moment after it has given it: who came within that moment was given keys that
// were no longer published, or was refused with one that was.
type keySet struct {
	client     *http.Client
	address    string
	algorithms []jose.SignatureAlgorithm

	flight singleflight.Group
	mu     sync.RWMutex
	keys   []jose.JSONWebKey
}

// VerifySignature returns the payload of a token that one of the keys signed.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	token, err := jose.ParseSigned(jwt, k.algorithms)
	if err != nil {
		return nil, err
	}
	if payload, ok := k.fits(token); ok {
		return payload, nil
	}
	// The first one's going away must not fail the others.
	_, err, _ = k.flight.Do("", func() (any, error) { return nil, k.fetch(context.WithoutCancel(ctx)) })
	if payload, ok := k.fits(token); ok {
		return payload, nil
	}
	if err == nil {
		return nil, errors.New("its key is not among the provider's keys")
	}
	if fetch, ok := ctx.Value(fetchKey{}).(*error); ok {
		*fetch = err
	}
	return nil, err
}

func (k *keySet) fits(token *jose.JSONWebSignature) ([]byte, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(token.Signatures) != 1 {
		return nil, false
	}
	id := token.Signatures[0].Header.KeyID
	for _, key := range k.keys {
		if id != "" && key.KeyID != id {
			continue
		}
		if payload, err := token.Verify(&key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

func (k *keySet) fetch(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.address, nil)
	if err != nil {
		return err
	}
	res, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %d", res.StatusCode)
	}
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		return fmt.Errorf("the provider's keys are not a JSON Web Key Set: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range list.Keys {
		var key jose.JSONWebKey
		// One that is not understood cannot fit; the others still can.
		if json.Unmarshal(raw, &key) == nil && key.IsPublic() && key.Use != "enc" {
			keys = append(keys, key)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	return nil
}

// algorithms are the accepted signature algorithms; without a list, RS256 as
// OpenID Connect has it.
func algorithms(names []string) []jose.SignatureAlgorithm {
	out := []jose.SignatureAlgorithm{}
	for _, n := range names {
		out = append(out, jose.SignatureAlgorithm(n))
	}
	if len(out) == 0 {
		out = append(out, jose.RS256)
	}
	return out
}

// errAsked answers a question that was asked, and answered well, just now.
var errAsked = errors.New("asked a moment ago")

type question struct {
	at  time.Time
	err error
}

// gate lets a document be asked for once in a pause, and bounds the answer.
type gate struct {
	base http.RoundTripper
	now  func() time.Time

	mu    sync.Mutex
	asked map[string]question
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	address := r.URL.String()
	g.mu.Lock()
	last, ok := g.asked[address]
	if ok && within(g.now(), last.at, pause) {
		g.mu.Unlock()
		if last.err != nil {
			return nil, last.err
		}
		return nil, errAsked
	}
	g.asked[address] = question{at: g.now()}
	g.mu.Unlock()

	res, err := g.base.RoundTrip(r)
	if err == nil && (res.StatusCode < 200 || res.StatusCode > 399) {
		res.Body.Close()
		// The library would put the whole body into its error.
		err = fmt.Errorf("the provider answered %d", res.StatusCode)
	}
	if err != nil {
		g.mu.Lock()
		g.asked[address] = question{at: g.now(), err: err}
		g.mu.Unlock()
		return nil, err
	}
	res.Body = bounded{io.LimitReader(res.Body, maxDocument), res.Body}
	return res, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

// transport trusts the CAs of the file, or the system's if there is none.
func transport(ca string) (http.RoundTripper, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   patience,
		ResponseHeaderTimeout: patience,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}
	if ca == "" {
		return t, nil
	}
	pool, err := readPool("openid provider", ca)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// readPool reads a file of PEM certificates.
func readPool(op, path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault(op, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Give a file with `-----BEGIN CERTIFICATE-----`.", "%s holds no certificate", path)
	}
	return pool, nil
}
