package vault

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/internal/keydir"
)

// Destroy ends a lease for good, see the package comment. It goes through even
// when ctx has ended: giving up half-way would help nobody. With
// sallyport.Unavailable the lease has ended here, and Vault is still to be told.
func (i *Issuer) Destroy(ctx context.Context, id, reason string) error {
	const op = "destroy key"
	r, err := i.lease(op, id)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	unhold, err := i.hold(ctx, op, r.Release)
	if err != nil {
		return err
	}
	defer unhold()
	return i.destroy(ctx, id, reason)
}

// destroy is Destroy for who holds the release. Asked again it finishes what
// failed.
func (i *Issuer) destroy(ctx context.Context, id, reason string) error {
	const op = "destroy key"
	i.mu.Lock()
	r := i.leases[id]
	i.mu.Unlock()
	if r.Purged && !r.unwritten {
		return nil
	}
	// A full disk may refuse the tombstone; the key goes all the same.
	r, buried := i.bury(r, reason)
	if err := keydir.Shred(i.wrappedPath(id)); err != nil {
		buried = errors.Join(keydir.Error(op, err), buried)
	}
	if r.Purged {
		return buried
	}
	if err := i.purge(ctx, op, r); err != nil {
		return errors.Join(sallyport.E(op, sallyport.KindOf(err), err,
			"The lease has ended and this machine has let go of the key; Vault still holds its own. Destroy again or sweep when Vault is back."), buried)
	}
	if buried != nil {
		return buried
	}
	done := *r
	done.Purged, done.Handed = true, nil
	if err := i.write(&done); err != nil {
		return keydir.Error(op, err)
	}
	i.put(&done)
	return nil
}

// bury makes r a durable tombstone and returns it. From here on it is destroyed
// to everyone, in this process and after any crash.
func (i *Issuer) bury(r *record, reason string) (*record, error) {
	dead := *r
	if dead.Destroyed == nil {
		now := i.now().UTC().Round(0)
		dead.Destroyed, dead.Reason, dead.unwritten = &now, reason, true
		i.put(&dead)
	}
	if !dead.unwritten {
		return &dead, nil
	}
	if err := i.write(&dead); err != nil {
		return &dead, keydir.Error("destroy key", err)
	}
	written := dead
	written.unwritten = false
	i.put(&written)
	return &written, nil
}

// purge ends r in Vault: its key, then the hand-over tokens nobody opened.
func (i *Issuer) purge(ctx context.Context, op string, r *record) error {
	_, err := i.session.do(ctx, op, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().DeleteWithContext(ctx, i.cfg.at("keys", r.Key))
	})
	// That it is gone already is what was wanted. The words are compared
	// because the code alone (400) also says that deletion is not allowed.
	if err != nil && !answered(err, http.StatusBadRequest, "could not delete key; not found") {
		if !answered(err, http.StatusBadRequest, "deletion is not allowed") {
			return err
		}
		// A crash came between making the key and allowing its deletion, or
		// somebody took that back.
		if _, err := i.session.write(ctx, op, i.cfg.at("keys", r.Key, "config"), map[string]any{"deletion_allowed": true}); err != nil {
			return err
		}
		if _, err := i.session.do(ctx, op, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
			return c.Logical().DeleteWithContext(ctx, i.cfg.at("keys", r.Key))
		}); err != nil {
			return err
		}
	}
	for _, h := range r.Handed {
		if err := i.recall(ctx, op, h.Accessor); err != nil {
			return err
		}
	}
	return nil
}

// undo takes back what never became a lease.
func (i *Issuer) undo(ctx context.Context, id string) error {
	const op = "undo key"
	i.mu.Lock()
	r := i.strays[id]
	i.mu.Unlock()
	if r == nil {
		return nil
	}
	if err := keydir.Shred(i.wrappedPath(id)); err != nil {
		return keydir.Error(op, err)
	}
	if err := i.purge(ctx, op, r); err != nil {
		return err
	}
	if err := keydir.Shred(i.path("leases", id+".json")); err != nil {
		return keydir.Error(op, err)
	}
	i.mu.Lock()
	delete(i.strays, id)
	i.mu.Unlock()
	return nil
}

// Sweep implements [seal.Sweeper]: it destroys leases that have run out, and
// tells Vault of ends that it could not be told of before.
func (i *Issuer) Sweep(ctx context.Context) ([]seal.Lease, error) {
	const op = "sweep keys"
	list, err := i.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []seal.Lease
	var errs []error
	for _, l := range list {
		if l.Destroyed != nil || l.Live(i.now()) {
			continue
		}
		unhold, err := i.hold(ctx, op, l.Release)
		if err != nil {
			return out, errors.Join(append(errs, err)...)
		}
		now, err := i.lease(op, l.ID)
		if err == nil && now.Destroyed == nil {
			err = i.destroy(ctx, l.ID, "expired")
			if now, _ = i.lease(op, l.ID); now != nil { // ended, even where Vault is still to be told
				out = append(out, now.copy())
			}
		}
		unhold()
		errs = append(errs, err)
	}
	errs = append(errs, i.finish(ctx))
	return out, errors.Join(errs...)
}

// finish tells Vault of every end that it could not be told of. While Vault is
// away one attempt is enough.
func (i *Issuer) finish(ctx context.Context) error {
	const op = "sweep keys"
	i.mu.Lock()
	var todo []*record
	for _, r := range i.leases {
		if r.Destroyed != nil && (!r.Purged || r.unwritten) {
			todo = append(todo, r)
		}
	}
	todo = append(todo, slices.Collect(maps.Values(i.strays))...)
	i.mu.Unlock()
	var errs []error
	for _, r := range todo {
		unhold, err := i.hold(ctx, op, r.Release)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if r.Minting {
			err = i.undo(ctx, r.ID)
		} else {
			err = i.destroy(ctx, r.ID, r.Reason)
		}
		unhold()
		errs = append(errs, err)
		if err != nil && sallyport.KindOf(err) == sallyport.Unavailable {
			break
		}
	}
	return errors.Join(errs...)
}
