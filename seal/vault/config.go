package vault

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"

	"sallyport"
)

// Config says where Vault is and how to sign in. Secrets stand in files only,
// so that the configuration can be shown to anybody.
type Config struct {
	Address   string        `yaml:"address" json:"address"`                           // https://HOST:8200; http only on loopback
	Namespace string        `yaml:"namespace,omitempty" json:"namespace,omitempty"`   // of Vault Enterprise or OpenBao
	Mount     string        `yaml:"mount,omitempty" json:"mount,omitempty"`           // of the transit engine; default transit
	Prefix    string        `yaml:"prefix,omitempty" json:"prefix,omitempty"`         // of key names; default sallyport-
	Auth      Auth          `yaml:"auth" json:"auth"`                                 // one of its two
	CAFile    string        `yaml:"ca_file,omitempty" json:"ca_file,omitempty"`       // who signs Vault's certificate; default the system's
	CertFile  string        `yaml:"cert_file,omitempty" json:"cert_file,omitempty"`   // our client certificate
	KeyFile   string        `yaml:"key_file,omitempty" json:"key_file,omitempty"`     // and its key
	Timeout   time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`       // for one question, signing in included; default 10s
	DeriveTTL time.Duration `yaml:"derive_ttl,omitempty" json:"derive_ttl,omitempty"` // how long a derived secret stays in memory; default 5m
}

// Auth says who we are to Vault: either an AppRole or a token somebody else
// keeps fresh, such as a Vault agent.
type Auth struct {
	AppRole   *AppRole `yaml:"approle,omitempty" json:"approle,omitempty"`
	TokenFile string   `yaml:"token_file,omitempty" json:"token_file,omitempty"` // read again at each sign-in
}

// AppRole names the files with the two halves of an AppRole sign-in. The secret
// ID must be usable more than once: it signs in again whenever a token ends.
// Both files are read at each sign-in, so they can be exchanged at any time.
type AppRole struct {
	Mount        string `yaml:"mount,omitempty" json:"mount,omitempty"` // default approle
	RoleIDFile   string `yaml:"role_id_file" json:"role_id_file"`
	SecretIDFile string `yaml:"secret_id_file" json:"secret_id_file"`
}

// Resolve returns c with every file name put through path, which makes names
// relative to the configuration's folder absolute.
func (c Config) Resolve(path func(string) string) Config {
	c.CAFile, c.CertFile, c.KeyFile = path(c.CAFile), path(c.CertFile), path(c.KeyFile)
	c.Auth.TokenFile = path(c.Auth.TokenFile)
	if a := c.Auth.AppRole; a != nil {
		b := *a
		b.RoleIDFile, b.SecretIDFile = path(b.RoleIDFile), path(b.SecretIDFile)
		c.Auth.AppRole = &b
	}
	return c
}

var (
	goodMount  = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)
	goodPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
)

// complete returns c with defaults, or what is wrong with it.
func (c Config) complete() (Config, error) {
	bad := func(hint, format string, args ...any) (Config, error) {
		return c, sallyport.Errorf("open vault", sallyport.Invalid, hint, format, args...)
	}
	c.Mount = strings.Trim(cmp.Or(c.Mount, "transit"), "/")
	c.Prefix = cmp.Or(c.Prefix, "sallyport-")
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.DeriveTTL = cmp.Or(c.DeriveTTL, 5*time.Minute)
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "":
		return bad("Give address as https://HOST:8200.", "the address is not that of a Vault")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return bad("Use https, and ca_file if Vault has a certificate of your own.", "%s would carry keys in clear", c.Address)
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("Give address as https://HOST:8200.", "no way to talk to an address that begins with %q", u.Scheme)
	case !goodMount.MatchString(c.Mount):
		return bad("Name the path where the transit engine is mounted.", "%q is not a mount", c.Mount)
	case !goodPrefix.MatchString(c.Prefix):
		return bad("Use letters, digits, - and _.", "%q cannot begin key names", c.Prefix)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return bad("Set both cert_file and key_file, or neither.", "half a client certificate")
	case c.Timeout < 0 || c.DeriveTTL < 0:
		return bad("", "a negative time")
	case (c.Auth.AppRole == nil) == (c.Auth.TokenFile == ""):
		return bad("Set auth.approle or auth.token_file, and only one.", "no single way to sign in")
	}
	if a := c.Auth.AppRole; a != nil {
		b := *a
		b.Mount = strings.Trim(cmp.Or(b.Mount, "approle"), "/")
		if !goodMount.MatchString(b.Mount) || b.RoleIDFile == "" || b.SecretIDFile == "" {
			return bad("Set role_id_file and secret_id_file.", "an incomplete AppRole")
		}
		c.Auth.AppRole = &b
	}
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// names of keys in transit.
func (c Config) releaseKey(id string) string { return c.Prefix + "release-" + id }
func (c Config) signKey(name string) string  { return c.Prefix + "sign-" + name }
func (c Config) deriveKey() string           { return c.Prefix + "derive" }

// at is the path of an operation of the transit engine.
func (c Config) at(elem ...string) string { return path.Join(append([]string{c.Mount}, elem...)...) }

// httpClient is the way to Vault: TLS 1.2 or later, our certificate read anew
// for each connection, no proxy out of the environment, and no redirect, which
// would carry the token to wherever the answer points.
func (c Config) httpClient() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, sallyport.E("open vault", sallyport.Invalid, err, "Point ca_file at a PEM file.")
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sallyport.Errorf("open vault", sallyport.Invalid, "Point ca_file at a PEM file.", "no certificate in %s", c.CAFile)
		}
	}
	if c.CertFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &pair, err
		}
		if _, err := load(nil); err != nil {
			return nil, sallyport.E("open vault", sallyport.Invalid, err, "Point cert_file and key_file at a PEM certificate and its key.")
		}
		conf.GetClientCertificate = load
	}
	base := &http.Transport{
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: c.Timeout,
		DialContext:         (&net.Dialer{Timeout: c.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
	}
	return &http.Client{Transport: straight{base}}, nil
}

// straight makes a redirect an error. To Vault's client a redirect that it does
// not follow looks like success, which a deletion must not.
type straight struct{ *http.Transport }

var errRedirect = errors.New("the address redirects elsewhere")

func (t straight) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(r)
	if err == nil && resp.StatusCode/100 == 3 {
		resp.Body.Close()
		return nil, errRedirect
	}
	return resp, err
}

// readSecret reads a one-line file that nobody else may read.
func readSecret(file string, private bool) (string, error) {
	const op = "sign in to vault"
	f, err := os.Open(file)
	if err != nil {
		kind := sallyport.Unavailable
		if errors.Is(err, fs.ErrPermission) {
			kind = sallyport.Denied
		}
		return "", sallyport.E(op, kind, err, "Put the file there; the gateway tries again by itself.")
	}
	defer f.Close()
	st, err := f.Stat() // of the open file: no race with a rename
	if err != nil {
		return "", sallyport.E(op, sallyport.Unavailable, err, "")
	}
	if private && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return "", sallyport.Errorf(op, sallyport.Denied, "Run chmod 600 on it, and exchange the secret if others may have read it.",
			"%s can be reached by others (mode %04o)", file, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return "", sallyport.E(op, sallyport.Unavailable, err, "")
	}
	s := strings.TrimSpace(string(b))
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		// What stands there is not repeated: it may be another secret.
		return "", sallyport.Errorf(op, sallyport.Unavailable, "Write the bare secret into it; the gateway tries again by itself.", "%s does not hold one word", file)
	}
	return s, nil
}
