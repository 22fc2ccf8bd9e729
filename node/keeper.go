package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"sallyport"
	"sallyport/seal"
)

// Keeper is a Vault (or OpenBao) that this node can reach. The lab then hands
// over a token instead of a key: it is good once, and the lab sees it used.
type Keeper struct {
	Address   string // https://…; plain http on loopback only
	Namespace string
	CA        string // PEM file; empty: the system's
}

// maxAnswer bounds what a keeper may say.
const maxAnswer = 64 << 10

// client checks the keeper's address and returns how to reach it.
func (k *Keeper) client() (*http.Client, error) {
	const op = "keeper"
	u, err := url.Parse(k.Address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Give an address such as https://vault.example.org:8200.", "not the address of a Vault")
	}
	switch host := u.Hostname(); {
	case u.Scheme == "https":
	case u.Scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "::1"):
	default:
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Use https.", "a key would cross the network in clear")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.CA != "" {
		pem, err := os.ReadFile(k.CA)
		if err != nil {
			return nil, sallyport.E(op, sallyport.NotFound, err, "Name the file of the Vault's certificate authority.")
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "", "%s holds no certificate", k.CA)
		}
	}
	return &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is shown to nobody else
	}, nil
}

// trade exchanges a token for the key, with no other right than the token's own.
func (k *Keeper) trade(ctx context.Context, token string) (*seal.Key, error) {
	const op = "trade token"
	c, err := k.client()
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(k.Address, "/")+"/v1/sys/wrapping/unwrap", bytes.NewReader(nil))
	if err != nil {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "not the address of a Vault")
	}
	req.Header.Set("X-Vault-Token", token)
	if k.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", k.Namespace)
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "Can this machine reach it?", "the Vault does not answer")
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusBadRequest || res.StatusCode == http.StatusForbidden:
		return nil, sallyport.Errorf(op, sallyport.Denied, "Tell the lab: somebody else may have used it.", "the token was used, has run out or was recalled")
	case res.StatusCode != http.StatusOK:
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "", "the Vault answered %d", res.StatusCode)
	}
	var answer struct {
		Data struct{ Plaintext string }
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&answer); err != nil {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "the Vault's answer cannot be read")
	}
	dataKey, err := base64.StdEncoding.DecodeString(answer.Data.Plaintext)
	if err != nil {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "the Vault gave no key")
	}
	return seal.FromDataKey(dataKey)
}
