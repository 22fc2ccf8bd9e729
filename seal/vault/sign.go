package vault

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"

	"sallyport"
)

var goodSigner = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// Sign implements [seal.Signer]: Vault signs msg with the newest version of the
// key of that name. An operator makes such a key; the gateway may only use it.
func (i *Issuer) Sign(ctx context.Context, name string, msg []byte) ([]byte, error) {
	const op = "sign"
	if !goodSigner.MatchString(name) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "%q is not a signing key's name", name)
	}
	answer, err := i.session.write(ctx, op, i.cfg.at("sign", i.cfg.signKey(name)), map[string]any{
		"input": base64.StdEncoding.EncodeToString(msg),
	})
	if answered(err, http.StatusBadRequest, "key not found") {
		return nil, i.noSigner(op, name)
	}
	if err != nil {
		return nil, err
	}
	// vault:v1:BASE64
	said := text(answer, "signature")
	sig, err := base64.StdEncoding.DecodeString(said[strings.LastIndexByte(said, ':')+1:])
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "Make it of type ed25519, as docs/vault.md says.", "signing key %s gave no Ed25519 signature", name)
	}
	return sig, nil
}

// PublicKey returns the public half of the newest version of a signing key. A
// key that could leave Vault is refused with sallyport.Denied.
func (i *Issuer) PublicKey(ctx context.Context, name string) (ed25519.PublicKey, error) {
	const op = "read public key"
	if !goodSigner.MatchString(name) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "%q is not a signing key's name", name)
	}
	answer, err := i.session.do(ctx, op, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ReadWithContext(ctx, i.cfg.at("keys", i.cfg.signKey(name)))
	})
	if err != nil {
		return nil, err
	}
	if answer == nil { // the client's way to say 404
		return nil, i.noSigner(op, name)
	}
	for _, field := range []string{"exportable", "allow_plaintext_backup"} {
		if answer.Data[field] != false {
			return nil, sallyport.Errorf(op, sallyport.Denied, "Make a new key without it: Vault does not take this back.", "signing key %s is %s", name, field)
		}
	}
	versions, _ := answer.Data["keys"].(map[string]any)
	newest, _ := versions[fmt.Sprint(answer.Data["latest_version"])].(map[string]any)
	said, _ := newest["public_key"].(string)
	pub, err := base64.StdEncoding.DecodeString(said)
	if answer.Data["type"] != "ed25519" || err != nil || len(pub) != ed25519.PublicKeySize {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Make it of type ed25519, as docs/vault.md says.", "signing key %s has no Ed25519 public key", name)
	}
	return pub, nil
}

func (i *Issuer) noSigner(op, name string) error {
	return sallyport.Errorf(op, sallyport.NotFound, fmt.Sprintf("Make it: vault write %s type=ed25519.", i.cfg.at("keys", i.cfg.signKey(name))),
		"vault has no signing key %s", name)
}
