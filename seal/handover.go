package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"io"
	"strings"

	"sallyport"
)

// tokenPrefix begins a hand-over that holds a token instead of a key.
const tokenPrefix = "sallyport-token:"

// WrapToken is the hand-over by token: what the holder of recipient's identity
// may trade, once, for the key, at whoever keeps it.
func WrapToken(token, recipient string) ([]byte, error) {
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return nil, sallyport.Errorf("wrap token", sallyport.Internal, "", "not a token")
	}
	var out bytes.Buffer
	w, err := Writer(&out, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, tokenPrefix+token+"\n"); err != nil {
		return nil, sallyport.E("wrap token", sallyport.Internal, err, "")
	}
	if err := w.Close(); err != nil {
		return nil, sallyport.E("wrap token", sallyport.Internal, err, "")
	}
	return out.Bytes(), nil
}

// Take opens with k what was handed over: the key itself, or a token that trade
// exchanges for it. A token where trade is nil is a sallyport.Unsupported.
func (k *Key) Take(handed []byte, trade func(token string) (*Key, error)) (*Key, error) {
	const op = "take key over"
	if len(handed) > maxParcel {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "", "%d bytes are too many for a key", len(handed))
	}
	r, err := Reader(bytes.NewReader(handed), k)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	token, ok := strings.CutPrefix(string(plain), tokenPrefix)
	if !ok {
		return parseIdentity(op, plain)
	}
	if trade == nil {
		return nil, sallyport.Errorf(op, sallyport.Unsupported, "Name the keeper of keys with --vault.", "a token was handed over, and nothing to trade it at is known")
	}
	return trade(strings.TrimSuffix(token, "\n"))
}

// FromDataKey makes the identity of a 256-bit data key, such as Vault's transit
// engine gives: HKDF-SHA-256 (RFC 5869) makes its seed. dataKey is wiped.
func FromDataKey(dataKey []byte) (*Key, error) {
	defer clear(dataKey)
	if len(dataKey) != 32 {
		return nil, sallyport.Errorf("key from data key", sallyport.Damaged, "", "not a 256-bit key")
	}
	seed, err := hkdf.Key(sha256.New, dataKey, nil, "sallyport/age/hybrid/v1", 32)
	if err != nil {
		return nil, sallyport.E("key from data key", sallyport.Internal, err, "")
	}
	defer clear(seed)
	return FromSeed([32]byte(seed))
}
