package store

import (
	"context"
	"time"

	"sallyport"
)

// Linker is a power that some stores have beside [Store]: to give out a link
// that reads one object over HTTP, without credentials, until ttl is over.
//
// Whoever holds the link can read the object: it is a secret, and goes into no
// log and no record. The link says nothing about whether the object exists. A
// ttl that the store cannot give is a sallyport.Invalid.
type Linker interface {
	Link(ctx context.Context, ref sallyport.Ref, ttl time.Duration) (string, error)
}
