package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport"
)

// TLSConfig says what a door shows of itself, and which clients' certificates
// it believes.
type TLSConfig struct {
	// Cert and Key are PEM files: the chain, leaf first, and its private key.
	// They are read again when they change. Both empty: a self-signed
	// certificate is made once, in Dir.
	Cert string `yaml:"cert" json:"cert"`
	Key  string `yaml:"key" json:"key"`
	// Dir is the folder of the self-signed certificate, made with mode 0700.
	Dir string `yaml:"dir" json:"dir"`
	// Names are the host names and addresses in the self-signed certificate,
	// besides localhost, 127.0.0.1 and ::1.
	Names []string `yaml:"names" json:"names"`

	// ClientCA is a file of PEM certificates of the authorities whose clients
	// are believed, read again when it changes. Empty: none.
	ClientCA string `yaml:"client_ca" json:"client_ca"`
	// ClientRequired refuses connections without a client certificate.
	ClientRequired bool `yaml:"client_required" json:"client_required"`
	// People names the person for a name in a client certificate: "cn=NAME",
	// "email=ADDRESS", "dns=NAME" or "uri=URI". Taking somebody out is how a
	// certificate is revoked here; no revocation lists are read.
	People map[string]string `yaml:"people" json:"people"`
}

// TLS is the server's side of a door. Safe for concurrent use.
type TLS struct {
	cfg TLSConfig
	now func() time.Time
	log *slog.Logger
	own bool // the certificate is one that the gateway made

	state   atomic.Pointer[tlsState]
	loading sync.Mutex
	seen    []fileState // of the last attempt, good or bad; under loading
}

type tlsState struct {
	config *tls.Config
	leaf   *x509.Certificate
}

// OpenTLS reads or makes the certificate. What happens later to its files goes
// to log.
func OpenTLS(cfg TLSConfig, now func() time.Time, log *slog.Logger) (*TLS, error) {
	const op = "tls"
	if (cfg.Cert == "") != (cfg.Key == "") {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Set both of cert and key, or none.", "a certificate needs its key")
	}
	if cfg.ClientCA == "" && (cfg.ClientRequired || len(cfg.People) > 0) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Set client_ca.", "client certificates cannot be checked without their authority")
	}
	for name := range cfg.People {
		kind, rest, _ := strings.Cut(name, "=")
		if rest == "" || !slices.Contains([]string{"cn", "email", "dns", "uri"}, kind) {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "Write cn=NAME, email=ADDRESS, dns=NAME or uri=URI.", "people: %q is not a name in a certificate", name)
		}
	}
	t := &TLS{cfg: cfg, now: now, log: log}
	if cfg.Cert == "" {
		path, err := selfSigned(cfg.Dir, cfg.Names, now, log)
		if err != nil {
			return nil, err
		}
		t.cfg.Cert, t.cfg.Key, t.own = path, path, true
	}
	t.seen = t.look()
	s, err := t.load()
	if err != nil {
		return nil, err
	}
	t.state.Store(s)
	return t, nil
}

// Server returns the configuration for a listener: TLS 1.3, or 1.2 where the
// client knows no better, HTTP/2 and 1.1. Each connection gets the files as
// they are then. A changed pair that is no good is reported, and the old one
// stays.
func (t *TLS) Server() *tls.Config {
	c := t.state.Load().config.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		t.reload()
		return t.state.Load().config, nil
	}
	return c
}

// Fingerprint is the SHA-256 of the certificate now shown, in the form of
// `openssl x509 -fingerprint -sha256`: 32 pairs of upper-case hexadecimal
// digits with colons between them.
func (t *TLS) Fingerprint() string {
	sum := sha256.Sum256(t.state.Load().leaf.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// SelfSigned reports whether the gateway made the certificate itself, so that
// clients need its fingerprint or a copy of [TLS.PublicFile].
func (t *TLS) SelfSigned() bool { return t.own }

// PublicFile is the certificate without its key, for clients to trust.
func (t *TLS) PublicFile() string {
	if t.SelfSigned() {
		return publicFile(t.cfg.Dir)
	}
	return t.cfg.Cert
}

// Until is when the certificate now shown ends.
func (t *TLS) Until() time.Time { return t.state.Load().leaf.NotAfter }

// fileState tells a changed file from one that was not touched.
type fileState struct {
	size     int64
	modified time.Time
	inode    uint64
	changed  syscall.Timespec
}

func (t *TLS) files() []string {
	out := []string{t.cfg.Cert, t.cfg.Key}
	if t.cfg.ClientCA != "" {
		out = append(out, t.cfg.ClientCA)
	}
	return out
}

func (t *TLS) look() []fileState {
	var out []fileState
	for _, f := range t.files() {
		var s fileState // an absent file is a state too
		if st, err := os.Stat(f); err == nil {
			s.size, s.modified = st.Size(), st.ModTime()
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				s.inode, s.changed = sys.Ino, sys.Ctim
			}
		}
		out = append(out, s)
	}
	return out
}

// reload takes the files if they changed since the last look. One connection
// does it; the others go on with what there is.
func (t *TLS) reload() {
	if !t.loading.TryLock() {
		return
	}
	defer t.loading.Unlock()
	// Looked at before reading: what changes in between is seen the next time.
	seen := t.look()
	if slices.Equal(seen, t.seen) {
		return
	}
	t.seen = seen
	s, err := t.load()
	if err != nil {
		t.log.Error("the changed TLS files are no good; the old ones stay in use", "err", err, "until", t.Until())
		return
	}
	t.state.Store(s)
	t.log.Info("the TLS files changed and are in use", "fingerprint", t.Fingerprint(), "until", t.Until())
}

func (t *TLS) load() (*tlsState, error) {
	const op = "tls"
	st, err := os.Stat(t.cfg.Key)
	if err != nil {
		return nil, fault(op, err)
	}
	// A group such as Debian's ssl-cert may read keys; everybody may not.
	if st.Mode().Perm()&0o007 != 0 {
		return nil, sallyport.Errorf(op, sallyport.Denied, "Run chmod o= on it, and make a new key if others may have read it.",
			"the key %s can be reached by everybody (mode %04o)", t.cfg.Key, st.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(t.cfg.Cert, t.cfg.Key)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, fault(op, err)
		}
		return nil, sallyport.Errorf(op, sallyport.Invalid, "The two must be PEM files that belong together.", "%s and %s: %w", t.cfg.Cert, t.cfg.Key, err)
	}
	if now := t.now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		hint := "Get a new one."
		if t.SelfSigned() {
			hint = "Remove the file and start the gateway again: it makes a new one, with a new fingerprint."
		}
		return nil, sallyport.Errorf(op, sallyport.Invalid, hint, "the certificate %s is good from %s to %s, and it is %s",
			t.cfg.Cert, stamp(pair.Leaf.NotBefore), stamp(pair.Leaf.NotAfter), stamp(now))
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		Time:         t.now,
	}
	if t.cfg.ClientCA != "" {
		if c.ClientCAs, err = readPool(op, t.cfg.ClientCA); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if t.cfg.ClientRequired {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return &tlsState{c, pair.Leaf}, nil
}

// Certificate is who a verified client certificate names.
type Certificate struct {
	Name   string // as in the configuration, e.g. "cn=NAME"
	Person string
	Until  time.Time
}

// Client returns who a connection's certificate names; ok is false, without an
// error, if the client showed none. A certificate that expired since the
// handshake, names nobody or names two people is a sallyport.Denied.
func (t *TLS) Client(cs *tls.ConnectionState) (c Certificate, ok bool, err error) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return Certificate{}, false, nil
	}
	const op = "client certificate"
	// Only what the handshake verified counts, not what was merely shown.
	if t.cfg.ClientCA == "" || len(cs.VerifiedChains) == 0 || len(cs.VerifiedChains[0]) == 0 {
		return Certificate{}, false, refuse(op, "", "the certificate is refused", "it was not verified: no client_ca")
	}
	leaf := cs.VerifiedChains[0][0]
	if now := t.now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return Certificate{}, false, sallyport.Errorf(op, sallyport.Denied, "Get a new one.", "the certificate expired at %s", stamp(leaf.NotAfter))
	}
	for _, name := range names(leaf) {
		p, is := t.cfg.People[name]
		if !is {
			continue
		}
		if c.Person != "" && c.Person != p {
			return Certificate{}, false, sallyport.Errorf(op, sallyport.Denied, "One certificate, one person.", "the certificate names two people")
		}
		if c.Person == "" {
			c = Certificate{Name: name, Person: p, Until: leaf.NotAfter}
		}
	}
	if c.Person == "" {
		return Certificate{}, false, refuse(op, "Ask the gateway's administrator to add you.",
			"the certificate is good, but its subject is nobody here", "none of its names is in people: %q", clip(strings.Join(names(leaf), ", ")))
	}
	return c, true, nil
}

// names are the names of a certificate in the configuration's form, the
// alternative names first, since common names are on their way out (RFC 9525).
func names(c *x509.Certificate) (out []string) {
	for _, u := range c.URIs {
		out = append(out, "uri="+u.String())
	}
	for _, e := range c.EmailAddresses {
		out = append(out, "email="+e)
	}
	for _, d := range c.DNSNames {
		out = append(out, "dns="+d)
	}
	if c.Subject.CommonName != "" {
		out = append(out, "cn="+c.Subject.CommonName)
	}
	return out
}
