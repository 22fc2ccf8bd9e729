package source

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"

	"sallyport"
)

// HTTPConfig names an OPA bundle on a server and whose signature counts.
type HTTPConfig struct {
	URL string `yaml:"url" json:"url"` // https; http only to a loopback address
	// Key is a PEM file with the public key or certificate of the signer; for
	// HS256, HS384 and HS512 a file of mode 0600 with the secret, 32 bytes or
	// more. With a secret, whoever can verify can also sign.
	Key       string `yaml:"key,omitempty" json:"key,omitempty"`
	KeyID     string `yaml:"key_id,omitempty" json:"key_id,omitempty"`       // its name in records; default the key's fingerprint
	Algorithm string `yaml:"algorithm,omitempty" json:"algorithm,omitempty"` // of RFC 7518, section 3.1; default RS256
	Scope     string `yaml:"scope,omitempty" json:"scope,omitempty"`         // that the signature must name; default none
	// MaxAge is how old a signature may be when it is fetched; 0 is any age. A
	// signature that expires by itself (exp) is refused after that in any case.
	MaxAge time.Duration `yaml:"max_age,omitempty" json:"max_age,omitempty"`
	// Unsigned is "allow" to take bundles that nobody vouches for.
	Unsigned  string        `yaml:"unsigned,omitempty" json:"unsigned,omitempty"`
	CAFile    string        `yaml:"ca_file,omitempty" json:"ca_file,omitempty"`       // PEM; who signs the server's certificate; default the system's
	TokenFile string        `yaml:"token_file,omitempty" json:"token_file,omitempty"` // mode 0600; sent as bearer token; read anew each time
	Interval  time.Duration `yaml:"interval,omitempty" json:"interval,omitempty"`     // between two questions; default 30s
	Timeout   time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`       // for one bundle; default 30s
}

// Resolve returns c with its paths made absolute by path.
func (c HTTPConfig) Resolve(path func(string) string) HTTPConfig {
	for _, p := range []*string{&c.Key, &c.CAFile, &c.TokenFile} {
		if *p != "" {
			*p = path(*p)
		}
	}
	return c
}

// HTTP fetches an OPA bundle as OPA's bundle plugin does: GET with
// If-None-Match. Delta bundles and compiled rules are refused.
type HTTP struct {
	url      string
	origin   string
	token    string
	timeout  time.Duration
	interval time.Duration
	verifier verifier
	client   *http.Client
}

// OpenHTTP checks cfg and reads the key. The server need not be there yet. now
// is the clock that signatures are judged by.
func OpenHTTP(cfg HTTPConfig, now func() time.Time) (*HTTP, error) {
	bad := func(hint, format string, args ...any) (*HTTP, error) {
		return nil, sallyport.Errorf("open policy source", sallyport.Invalid, hint, format, args...)
	}
	every, err := interval(cfg.Interval, DefaultHTTPInterval)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return bad("Write https://HOST/PATH, and a token into token_file.", "url is not that of a bundle")
	case u.Scheme == "http" && !loopback(u):
		return bad("Use https, and ca_file if the server has a certificate of your own.", "plain HTTP to %s: others on the network could change the rules", u.Host)
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("Write https://HOST/PATH.", "no way to fetch from an address that begins with %.20q", u.Scheme)
	case cfg.Unsigned != "" && cfg.Unsigned != "allow":
		return bad("Leave it out, or write allow.", "unsigned is %.20q", cfg.Unsigned)
	case cfg.Key == "" && cfg.Unsigned == "":
		return bad("Set key to the PEM file of the signer's public key.", "no key: nobody could tell who wrote the rules")
	case cfg.Key == "" && (cfg.KeyID != "" || cfg.Algorithm != "" || cfg.Scope != "" || cfg.MaxAge != 0):
		return bad("Set key.", "key_id, algorithm, scope and max_age say nothing without a key")
	case cfg.Timeout < 0 || cfg.MaxAge < 0:
		return bad("", "a negative time")
	}
	h := &HTTP{url: cfg.URL, token: cfg.TokenFile, timeout: cfg.Timeout, interval: every,
		origin:   "bundle " + u.Scheme + "://" + u.Host + u.EscapedPath(), // what follows ? may be a secret
		verifier: verifier{unsigned: cfg.Unsigned == "allow", maxAge: cfg.MaxAge, now: now}}
	if cfg.Key != "" {
		if err := h.verifier.load(cfg); err != nil {
			return nil, err
		}
	}
	if h.token != "" {
		if _, err := secret(h.token); err != nil {
			return bad("Write the token, and nothing else, into a file of mode 0600.", "token_file: %w", err)
		}
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // which leaves loopback alone
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        2 * every,
		DisableCompression:     true, // a bundle is compressed itself
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return bad("Set ca_file to a PEM file of certificates.", "ca_file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return bad("Set ca_file to a PEM file of certificates.", "ca_file holds no certificate")
		}
	}
	h.client = &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= 5:
			return errors.New("more than 5 redirects")
		case req.URL.Scheme == "https":
			return nil
		case via[0].URL.Scheme == "http" && req.URL.Scheme == "http" && loopback(req.URL):
			return nil
		}
		return errors.New("a redirect away from https")
	}}
	return h, nil
}

// loopback reports whether an address is literally one of this machine. A name
// is not: who answers to it is not ours to say.
func loopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}

// secret reads a file that only its owner may read.
func secret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("is no file")
	case runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0:
		return nil, errors.New("others than its owner may use it")
	}
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	b = bytes.TrimSpace(b)
	if err == nil && len(b) == 0 {
		err = errors.New("is empty")
	}
	if err == nil && bytes.ContainsAny(b, "\r\n\x00") {
		err = errors.New("holds more than one line")
	}
	return b, err
}

// load reads the key and fits it to the algorithm: OPA looks at neither before
// a bundle comes.
func (v *verifier) load(cfg HTTPConfig) error {
	bad := func(hint, format string, args ...any) error {
		return sallyport.Errorf("open policy source", sallyport.Invalid, hint, format, args...)
	}
	alg := cfg.Algorithm
	if alg == "" {
		alg = "RS256"
	}
	if !keys.IsSupportedAlgorithm(alg) {
		return bad("One of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, HS256, HS384, HS512.", "unknown algorithm %.20q", alg)
	}
	var key []byte
	var err error
	id := cfg.KeyID
	if strings.HasPrefix(alg, "HS") {
		if key, err = secret(cfg.Key); err != nil {
			return bad("Write the secret, and nothing else, into a file of mode 0600.", "key: %w", err)
		}
		if len(key) < 32 {
			return bad("Make one with: openssl rand -hex 32", "a secret of %d bytes can be guessed", len(key))
		}
		if id == "" {
			id = "secret" // a fingerprint would help who guesses it
		}
	} else {
		if key, err = os.ReadFile(cfg.Key); err != nil {
			return bad("Set key to the PEM file of the signer's public key.", "key: %w", err)
		}
		public, err := publicKey(key)
		if err != nil {
			return bad("Set key to a PEM file with a public key: openssl pkey -in private.pem -pubout", "key: %w", err)
		}
		if err := fits(public, alg); err != nil {
			return bad("Name the algorithm that bundles are signed with.", "key: %w", err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return bad("", "key: %w", err)
		}
		key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		if id == "" {
			sum := sha256.Sum256(der)
			id = "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
		}
	}
	v.signer = id
	// With the key's name given, what a signature says of its key is no matter.
	v.keys = bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{
		id: {Key: string(key), Algorithm: alg, Scope: cfg.Scope}}, id, cfg.Scope, nil)
	return nil
}

func publicKey(src []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(src)
	switch {
	case block == nil:
		return nil, errors.New("the file is not PEM")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("the file holds more than one key")
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("this is a private key, which does not belong here")
	}
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, errors.New("the file holds no public key")
}

// fits checks the type of a key, and for ECDSA its curve, against RFC 7518,
// sections 3.3 to 3.5.
func fits(key crypto.PublicKey, alg string) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if !strings.HasPrefix(alg, "RS") && !strings.HasPrefix(alg, "PS") {
			return errors.New("an RSA key does not fit " + alg)
		}
		if k.N.BitLen() < 2048 {
			return errors.New("an RSA key of less than 2048 bits can be broken")
		}
	case *ecdsa.PublicKey:
		if curve := map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg]; curve != k.Curve.Params().Name {
			return errors.New("an ECDSA key on " + k.Curve.Params().Name + " does not fit " + alg)
		}
	default:
		return errors.New("keys are RSA or ECDSA")
	}
	return nil
}

// Close gives idle connections back.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

// String returns the bundle's address, without what follows a question mark.
func (h *HTTP) String() string { return h.origin }

// Interval is documented with [Source].
func (h *HTTP) Interval() time.Duration { return h.interval }

// Fetch is documented with [Source]. A signature that was made before last's
// is refused: an old bundle that is served again is no way back.
func (h *HTTP) Fetch(parent context.Context, last Candidate) (Candidate, bool, error) {
	ctx, cancel := context.WithTimeout(parent, h.timeout)
	defer cancel()
	c, err := h.fetch(ctx, last)
	if err == nil && last.Origin == h.origin && c.Issued.Before(last.Issued) {
		when := "it does not say when"
		if !c.Issued.IsZero() {
			when = c.Issued.Format(time.RFC3339)
		}
		err = fault(sallyport.Damaged, "To go back, sign the old rules again.", "the bundle was signed (%s) before the one fetched last (%s)",
			when, last.Issued.Format(time.RFC3339))
	}
	if err != nil {
		if late := ended(ctx, parent, h.origin, h.timeout); late != nil {
			err = late
		}
		return last, false, err
	}
	return c, c.Digest != last.Digest, nil
}

func (h *HTTP) fetch(ctx context.Context, last Candidate) (Candidate, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return last, fault(sallyport.Invalid, "Correct url.", "the address cannot be asked")
	}
	req.Header.Set("Accept", "application/gzip, application/octet-stream;q=0.9")
	req.Header.Set("Prefer", "modes=snapshot") // no delta bundles; OPA's "Bundle Service API"
	conditional := last.tag != "" && last.Origin == h.origin
	if conditional {
		req.Header.Set("If-None-Match", last.tag)
	}
	if h.token != "" {
		token, err := secret(h.token)
		if err != nil {
			return last, fault(sallyport.Unavailable, "Write the token, and nothing else, into a file of mode 0600.", "token_file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := h.client.Do(req)
	if err != nil {
		var whole *url.Error // which quotes the address
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return last, fault(sallyport.Unavailable, "It will be asked again.", "%s: %w", h.origin, err)
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotModified && conditional:
		return last, nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return last, fault(sallyport.NotFound, "Correct url, or publish a bundle there.", "%s: the server answers %d", h.origin, code)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return last, fault(sallyport.Unavailable, "Renew the token in token_file.", "%s: the server answers %d", h.origin, code)
	default:
		return last, fault(sallyport.Unavailable, "It will be asked again.", "%s: the server answers %d", h.origin, code)
	}
	if resp.ContentLength > MaxBytes {
		return last, tooLarge("bundle")
	}
	var broken error
	body := &noting{r: &bounded{r: resp.Body, left: MaxBytes + 1}, err: &broken}
	c, err := readBundle(body, h.verifier, h.origin)
	switch {
	case broken != nil && sallyport.KindOf(broken) == sallyport.Exhausted:
		return last, broken
	case broken != nil:
		return last, fault(sallyport.Unavailable, "It will be fetched again.", "%s: the answer ended early: %w", h.origin, broken)
	case err != nil:
		return last, err
	}
	if tag := resp.Header.Get("ETag"); len(tag) <= 1024 {
		c.tag = tag
	}
	return c, nil
}

// noting keeps the connection's own error apart from the archive's.
type noting struct {
	r   io.Reader
	err *error
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		*n.err = err
	}
	return k, err
}

var _ Source = (*HTTP)(nil)
