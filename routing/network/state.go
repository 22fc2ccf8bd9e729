package network

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing/network/wire"
)

// state is what makes the gateway the same to its nodes after a restart. It is
// made once, and kept in files of mode 0600.
type state struct {
	dir   string
	saved savedState
	cert  tls.Certificate
	links []byte // key of the links' HMAC

	operator, account, signer, system nkeys.KeyPair
}

type savedState struct {
	Operator string `json:"operator"` // seeds
	Account  string `json:"account"`
	Signer   string `json:"signer"` // signs node users in every node's account
	System   string `json:"system"`
	Links    string `json:"links"` // base64
	Cert     string `json:"cert"`  // PEM
	CertKey  string `json:"cert_key"`
	HTTPS    string `json:"https,omitempty"` // chosen addresses
	NATS     string `json:"nats,omitempty"`
}

func loadState(dir string, now time.Time) (*state, error) {
	const op = "open network state"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError(op, err)
	}
	s := &state{dir: dir}
	b, err := os.ReadFile(s.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.create(now); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, diskError(op, err)
	default:
		if json.Unmarshal(b, &s.saved) != nil {
			return nil, s.damaged()
		}
	}
	for _, k := range []struct {
		seed string
		pair *nkeys.KeyPair
	}{{s.saved.Operator, &s.operator}, {s.saved.Account, &s.account}, {s.saved.Signer, &s.signer}, {s.saved.System, &s.system}} {
		if *k.pair, err = nkeys.FromSeed([]byte(k.seed)); err != nil {
			return nil, s.damaged()
		}
	}
	if s.links, err = base64.StdEncoding.DecodeString(s.saved.Links); err != nil || len(s.links) < 32 {
		return nil, s.damaged()
	}
	if s.cert, err = tls.X509KeyPair([]byte(s.saved.Cert), []byte(s.saved.CertKey)); err != nil {
		return nil, s.damaged()
	}
	return s, nil
}

func (s *state) file() string { return filepath.Join(s.dir, "gateway.json") }

func (s *state) damaged() error {
	return sallyport.Errorf("open network state", sallyport.Damaged,
		"Restore it from a backup. Without it every node has to enroll again.", "%s is not a state of ours", s.file())
}

func (s *state) create(now time.Time) error {
	const op = "make network state"
	for _, k := range []struct {
		make func() (nkeys.KeyPair, error)
		seed *string
	}{{nkeys.CreateOperator, &s.saved.Operator}, {nkeys.CreateAccount, &s.saved.Account},
		{nkeys.CreateAccount, &s.saved.Signer}, {nkeys.CreateAccount, &s.saved.System}} {
		pair, err := k.make()
		if err != nil {
			return sallyport.E(op, sallyport.Internal, err, "")
		}
		seed, err := pair.Seed()
		if err != nil {
			return sallyport.E(op, sallyport.Internal, err, "")
		}
		*k.seed = string(seed)
	}
	s.saved.Links = base64.StdEncoding.EncodeToString(randomBytes(32))
	var err error
	if s.saved.Cert, s.saved.CertKey, err = selfSigned(now); err != nil {
		return sallyport.E(op, sallyport.Internal, err, "")
	}
	return s.save()
}

func (s *state) save() error { return writeFile(s.file(), wire.Encode(s.saved)) }

// pin is how nodes know us.
func (s *state) pin() string { return wire.Pin(s.cert.Certificate[0]) }

// selfSigned makes the certificate of both doors. Nodes pin it, so it names
// nobody and outlives what authorities would allow.
func selfSigned(now time.Time) (cert, key string, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(randomBytes(16)),
		Subject:      pkix.Name{CommonName: "sallyport gateway"},
		DNSNames:     []string{"sallyport"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(20, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
