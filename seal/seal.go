// Package seal is age in and out: bytes are sealed once, while they are
// written, to a per-release ephemeral identity; who may open them is decided
// later by handing over or destroying that identity.
package seal

import (
	"context"
	"crypto/ed25519"
	"time"
)

// Lease is the life of one release's key: what everyone may know of it. It
// holds no secret.
type Lease struct {
	ID        string     `json:"id"`
	Release   string     `json:"release"`   // what the key was issued for
	Recipient string     `json:"recipient"` // age recipient to seal to
	Issued    time.Time  `json:"issued"`
	Until     time.Time  `json:"until"`
	Destroyed *time.Time `json:"destroyed,omitempty"`
	Reason    string     `json:"reason,omitempty"` // why it was destroyed
}

// Live says whether the lease holds at the time now: its end itself is past it.
func (l Lease) Live(now time.Time) bool { return l.Destroyed == nil && now.Before(l.Until) }

// Issuer mints, keeps and destroys per-release keys. All methods are safe for
// concurrent use, and what they did is durable when they return nil.
//
// Issue is idempotent: for a release that has a live lease it returns that
// lease (ttl is then ignored); for one whose lease was destroyed or ran out it
// fails with sallyport.Conflict, so that a crash never brings a key back.
//
// Fetch returns the key of a live lease. After the lease's end or Destroy it
// fails with sallyport.NotFound, whatever copies of files exist.
//
// Destroy makes the key unrecoverable and keeps the lease as a tombstone. To
// destroy a destroyed lease is no error and changes nothing.
//
// List returns every lease, live and ended, oldest first.
type Issuer interface {
	Issue(ctx context.Context, release string, ttl time.Duration) (Lease, error)
	Fetch(ctx context.Context, id string) (*Key, error)
	Destroy(ctx context.Context, id, reason string) error
	List(ctx context.Context) ([]Lease, error)
}

// Deriver is an optional power of an Issuer: stable secrets by purpose, e.g.
// "pseudonym/project-7". The same purpose gives the same 32 bytes for as long
// as the issuer's root lives; different purposes give independent bytes.
type Deriver interface {
	Derive(ctx context.Context, purpose string) ([]byte, error)
}

// Sweeper is an optional power of an Issuer: it destroys every lease that has
// run out, finishes destructions that were interrupted, and returns the leases
// it ended, oldest first, so that each end can be recorded. Until then a lease
// past its end is refused, but its key still exists. With an error it returns
// what it got done; asked again it goes on.
type Sweeper interface {
	Sweep(ctx context.Context) ([]Lease, error)
}

// Wrapper is an optional power of an Issuer: hand a live lease's key over by a
// token that opens once, for whoever can reach the issuer's own server. What
// the token opens to is the issuer's affair. ttl bounds how long the token
// waits, and the lease's end bounds ttl; destroying the lease recalls tokens
// that nobody has opened.
type Wrapper interface {
	Wrapped(ctx context.Context, id string, ttl time.Duration) (token string, err error)
}

// Signer is an optional power of an Issuer: Ed25519 signatures (RFC 8032) by
// named keys that never leave its server.
type Signer interface {
	Sign(ctx context.Context, name string, msg []byte) ([]byte, error)
	PublicKey(ctx context.Context, name string) (ed25519.PublicKey, error)
}

// Rotator is an optional power of an Issuer: to exchange its own keys. Leases,
// recipients and derived secrets stay; what was copied of the old keys opens
// nothing that is kept afterwards. A crash leaves the old keys or the new ones.
type Rotator interface {
	Rotate(ctx context.Context) error
}
