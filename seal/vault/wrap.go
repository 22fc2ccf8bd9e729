package vault

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"sallyport"
	"sallyport/seal"
)

// Wrapped implements [seal.Wrapper] with Vault's response wrapping: Vault
// unwraps the key of a live lease and keeps the answer for whoever comes first
// with the token. [Unwrap] opens it, once. The key does not pass through this
// machine.
func (i *Issuer) Wrapped(ctx context.Context, id string, ttl time.Duration) (string, error) {
	const op = "hand key over"
	r, err := i.lease(op, id)
	if err != nil {
		return "", err
	}
	unhold, err := i.hold(ctx, op, r.Release) // or Destroy could miss the token
	if err != nil {
		return "", err
	}
	defer unhold()
	r, wrapped, err := i.wrapped(op, id)
	if err != nil {
		return "", err
	}
	ttl = min(ttl, r.Until.Sub(i.now())).Truncate(time.Second)
	if ttl < time.Second {
		return "", sallyport.Errorf(op, sallyport.Invalid, "", "a token of less than a second is of no use")
	}
	answer, err := i.session.do(ctx, op, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		// A client of its own: that its answers are to be wrapped is a
		// property of the client, not of the request.
		c, err := i.session.client(c.Token())
		if err != nil {
			return nil, err
		}
		c.SetWrappingLookupFunc(func(string, string) string { return fmt.Sprintf("%ds", int(ttl/time.Second)) })
		return c.Logical().WriteWithContext(ctx, i.cfg.at("decrypt", r.Key), map[string]any{"ciphertext": wrapped})
	})
	if err != nil {
		return "", unwrapError(op, id, err)
	}
	if answer == nil || answer.WrapInfo == nil || answer.WrapInfo.Token == "" {
		return "", sallyport.Errorf(op, sallyport.Unavailable, "Is there something between here and Vault that changes requests?", "vault did not wrap its answer")
	}
	// Written before anybody has the token: no hand-over that Destroy forgets.
	next := *r
	next.Handed = append(slices.Clone(r.Handed), handed{answer.WrapInfo.Accessor})
	if err := i.write(&next); err != nil {
		_ = i.recall(context.WithoutCancel(ctx), op, answer.WrapInfo.Accessor)
		return "", sallyport.E(op, sallyport.Unavailable, err, "Make room on the disk that holds the leases.")
	}
	i.put(&next)
	return answer.WrapInfo.Token, nil
}

// recall ends a token by its accessor. One that was used or ran out is gone.
func (i *Issuer) recall(ctx context.Context, op, accessor string) error {
	_, err := i.session.write(ctx, op, "auth/token/revoke-accessor", map[string]any{"accessor": accessor})
	if answered(err, http.StatusBadRequest, "") || answered(err, http.StatusNotFound, "") {
		return nil // an ended token: newer servers say so with a code
	}
	return err
}

// Unwrap is the other end of [Issuer.Wrapped]: it trades the token for the key,
// with no other right in Vault than the token's own. Of cfg it needs Address,
// Namespace and the files of TLS. A token that was used, ran out or was
// recalled is a sallyport.Denied: if nobody here used it, somebody else did.
func Unwrap(ctx context.Context, cfg Config, token string) (*seal.Key, error) {
	const op = "take key over"
	cfg.Auth = Auth{TokenFile: "none"} // it is never read
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	defer s.http.CloseIdleConnections()
	if token == "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "no token given")
	}
	c, err := s.client(token) // of its own: it keeps the dead token
	if err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	answer, err := c.Logical().UnwrapWithContext(bound, token)
	if answered(err, http.StatusBadRequest, "wrapping token") || answered(err, http.StatusForbidden, "") {
		return nil, sallyport.Errorf(op, sallyport.Denied, "If nobody here has used it, somebody else has: destroy the lease and ask why.",
			"the token was used, has run out or was recalled")
	}
	if err != nil {
		return nil, s.failure(ctx, op, err)
	}
	return identity(op, answer)
}
