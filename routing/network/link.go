package network

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"sallyport"
	"sallyport/routing/network/wire"
)

// What a link opens.
const (
	linkKey    = "key"
	linkInput  = "input"
	linkModule = "module"
	linkResult = "result"
)

// link is a short-lived right to move one thing. The node and the thing itself
// are not in it: they are under its MAC, and come from the gateway's own book.
type link struct {
	Assignment string `json:"a"`
	What       string `json:"w"`
	Expiry     int64  `json:"x"` // Unix seconds
}

// bound is what else a link's MAC covers.
type bound struct {
	node, ref string
	digest    sallyport.Digest
}

func (l link) mac(key []byte, body string, b bound) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range []string{"sallyport link v1", body, b.node, b.ref, string(b.digest)} {
		// Lengths keep the parts apart.
		h.Write([]byte{byte(len(part) >> 24), byte(len(part) >> 16), byte(len(part) >> 8), byte(len(part))})
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

func (l link) sign(key []byte, b bound) string {
	body := base64.RawURLEncoding.EncodeToString(wire.Encode(l))
	return body + "." + base64.RawURLEncoding.EncodeToString(l.mac(key, body, b))
}

// parseLink reads a link without believing it; check does that.
func parseLink(s string) (l link, body string, mac []byte, ok bool) {
	body, sum, ok := strings.Cut(s, ".")
	if !ok || len(s) > 1024 {
		return link{}, "", nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return link{}, "", nil, false
	}
	if mac, err = base64.RawURLEncoding.Strict().DecodeString(sum); err != nil {
		return link{}, "", nil, false
	}
	if json.Unmarshal(raw, &l) != nil || !wire.ValidID(l.Assignment) {
		return link{}, "", nil, false
	}
	return l, body, mac, true
}

func (l link) check(key []byte, body string, mac []byte, b bound, now time.Time) bool {
	return hmac.Equal(mac, l.mac(key, body, b)) && now.Unix() < l.Expiry
}
