package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"sallyport"
)

const (
	pairName    = "tls.pem"         // key and certificate in one file: a crash leaves both or none
	publicName  = "certificate.pem" // a copy of the certificate, to hand out
	selfLife    = 5 * 365 * 24 * time.Hour
	maxPairFile = 64 << 10
)

func publicFile(dir string) string { return filepath.Join(dir, publicName) }

// selfSigned returns the file of the self-signed certificate in dir, made now
// if there is none. It stays the same until somebody removes the file: clients
// know it by its fingerprint.
func selfSigned(dir string, names []string, now func() time.Time, log *slog.Logger) (string, error) {
	const op = "tls"
	root, err := privateDir(op, dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := sweepUnfinished(root); err != nil {
		return "", fault(op, err)
	}
	path := filepath.Join(dir, pairName)
	names = append([]string{"localhost", "127.0.0.1", "::1"}, names...)
	pair, err := readPair(root)
	if errors.Is(err, fs.ErrNotExist) {
		if pair, err = makePair(names, now()); err != nil {
			return "", sallyport.E(op, sallyport.Internal, err, "")
		}
		err = replace(root, pairName, pair, 0o600)
	}
	if err != nil {
		return "", fault(op, err)
	}
	certificate := firstCertificate(pair)
	if certificate == nil {
		return "", sallyport.Errorf(op, sallyport.Damaged, "Remove the file and start the gateway again: it makes a new one, with a new fingerprint.", "%s holds no certificate", path)
	}
	if leaf, err := x509.ParseCertificate(certificate.Bytes); err == nil {
		for _, n := range names {
			if leaf.VerifyHostname(n) != nil {
				log.Warn("the self-signed certificate lacks a name of the configuration; remove its file for a new one", "file", path, "name", n)
			}
		}
	}
	public := pem.EncodeToMemory(certificate)
	if old, err := root.ReadFile(publicName); err != nil || !bytes.Equal(old, public) {
		if err := replace(root, publicName, public, 0o644); err != nil {
			return "", fault(op, err)
		}
	}
	return path, nil
}

func readPair(root *os.Root) ([]byte, error) {
	f, err := root.Open(pairName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f, maxPairFile)
}

func firstCertificate(b []byte) *pem.Block {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil || block.Type == "CERTIFICATE" {
			return block
		}
	}
}

// makePair makes an ECDSA P-256 key and its certificate, as PEM.
func makePair(names []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: "sallyport self-signed"},
		NotBefore:    now.Add(-time.Hour), // clients' clocks differ
		NotAfter:     now.Add(selfLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// Not an authority: a client that trusts it trusts this one server.
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}
