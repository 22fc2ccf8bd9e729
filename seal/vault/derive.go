package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"sallyport"
	"sallyport/seal/internal/keydir"
)

// derived is a secret that stays in memory for a while.
type derived struct {
	secret []byte
	until  time.Time
}

// maxDerived bounds the memory for derived secrets.
const maxDerived = 4096

// Derive gives the stable secret of a purpose: HMAC-SHA-256 (RFC 2104) of it
// under the first version of the site's derive key, which never leaves Vault.
// It stays in memory for the configured time, and so long Vault may be away.
//
// The first answer leaves a check in the folder. Another key under the same
// name would give other pseudonyms; that is noticed and refused as
// sallyport.Damaged.
func (i *Issuer) Derive(ctx context.Context, purpose string) ([]byte, error) {
	const op = "derive secret"
	if err := keydir.CheckWord(op, "purpose", purpose); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, sallyport.E(op, sallyport.Canceled, err, "")
	}
	i.mu.Lock()
	closed := i.closed
	d, ok := i.derived[purpose]
	i.mu.Unlock()
	if closed {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "", "the key issuer is closed")
	}
	if ok && i.now().Before(d.until) {
		return bytes.Clone(d.secret), nil
	}
	input := func(s string) map[string]any {
		return map[string]any{"input": base64.StdEncoding.EncodeToString([]byte(s))}
	}
	// Check and secret come in one answer, so of one key.
	answer, err := i.session.write(ctx, op, i.cfg.at("hmac", i.cfg.deriveKey(), "sha2-256"), map[string]any{
		"key_version": 1,
		"batch_input": []any{input("sallyport/derive-check/v1"), input("sallyport/derive/v1\x00" + purpose)},
	})
	if answered(err, http.StatusBadRequest, "key not found") {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Make the key once, as docs/vault.md says. If there was one, restore Vault: a new key changes every pseudonym.")
	}
	if err != nil {
		return nil, err
	}
	var results []any
	if answer != nil {
		results, _ = answer.Data["batch_results"].([]any)
	}
	var macs [2][]byte
	for n := range macs {
		if len(results) == 2 {
			one, _ := results[n].(map[string]any)
			said, _ := one["hmac"].(string)
			macs[n], _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(said, "vault:v1:"))
		}
		if len(macs[n]) != sha256.Size {
			return nil, sallyport.Errorf(op, sallyport.Unavailable, "Is mount a transit engine?", "vault gave no HMAC of the derive key's first version")
		}
	}
	if err := i.sameDeriveKey(macs[0]); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "", "the key issuer is closed")
	}
	now := i.now()
	if len(i.derived) >= maxDerived {
		for p, d := range i.derived {
			if len(i.derived) >= maxDerived/2 || !now.Before(d.until) {
				clear(d.secret)
				delete(i.derived, p)
			}
		}
	}
	i.derived[purpose] = derived{bytes.Clone(macs[1]), now.Add(i.cfg.DeriveTTL)}
	return macs[1], nil
}

// sameDeriveKey compares the key with the one first seen.
func (i *Issuer) sameDeriveKey(check []byte) error {
	const op = "derive secret"
	sum := sha256.Sum256(check)
	want := hex.EncodeToString(sum[:])
	i.mu.Lock()
	defer i.mu.Unlock()
	b, err := keydir.ReadSmall(i.path("derive.check"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := keydir.WriteFile(i.path("derive.check"), []byte(want+"\n")); err != nil {
			return keydir.Error(op, err)
		}
	case err != nil:
		return keydir.Error(op, err)
	case strings.TrimSpace(string(b)) != want:
		return sallyport.Errorf(op, sallyport.Damaged, "Point the gateway at its own Vault, or restore that. To begin anew with other pseudonyms, move derive.check away.",
			"the derive key in vault is not the one that this site has used")
	}
	return nil
}
