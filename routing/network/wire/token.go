package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net"
	"strconv"
	"strings"

	"sallyport"
)

// Token lets one machine become a node, once. It says where the gateway is,
// how to know it, and the secret.
type Token struct {
	Address string `json:"address"` // host:port of the HTTPS door
	Pin     string `json:"pin"`     // SHA-256 of the gateway's certificate (DER), hexadecimal
	Secret  string `json:"secret"`
}

const tokenPrefix = "sallyport-node-1."

// String is the token as people paste it.
func (t Token) String() string {
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(Encode(t))
}

// ParseToken reads what [Token.String] wrote. Its errors never repeat it.
func ParseToken(s string) (Token, error) {
	bad := func(why string) (Token, error) {
		return Token{}, sallyport.Errorf("read token", sallyport.Invalid,
			"Paste the whole token, as the gateway printed it.", "%s", why)
	}
	body, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return bad("it is not an enrolment token of this version")
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return bad("it is incomplete or was changed")
	}
	var t Token
	if Decode(raw, &t) != nil {
		return bad("it is incomplete or was changed")
	}
	host, port, err := net.SplitHostPort(t.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return bad("it names no address")
	}
	if p, err := hex.DecodeString(t.Pin); err != nil || len(p) != sha256.Size {
		return bad("it pins no certificate")
	}
	if len(t.Secret) < 32 {
		return bad("it holds no secret")
	}
	return t, nil
}

// Pin is the pin of a certificate in DER.
func Pin(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// ErrPin is what a connection to anybody but the pinned gateway ends with.
var ErrPin = errors.New("the gateway's certificate is not the one in the token")

// ClientTLS accepts exactly the pinned certificate, over TLS 1.3. Names and
// authorities do not count: the token says more than they could.
func ClientTLS(pin string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection is stricter: one certificate, and no other
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || pin == "" || Pin(s.PeerCertificates[0].Raw) != pin {
				return ErrPin
			}
			return nil
		},
	}
}
