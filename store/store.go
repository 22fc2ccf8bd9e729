// Package store is where bytes rest.
package store

import (
	"context"
	"io"
	"iter"
	"time"

	"sallyport"
)

// Info describes one object.
type Info struct {
	Ref      sallyport.Ref
	Size     int64
	Modified time.Time
}

// Object is an open object. It may be read as a stream or at offsets.
type Object interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Info() Info
}

// Store keeps objects by slash-separated keys. Methods are safe for concurrent
// use. An absent object is a sallyport.NotFound; a key that is empty, absolute,
// or holds "..", ".", an empty element, a NUL or a backslash is a
// sallyport.Invalid, and never reaches the medium.
//
// Put calls fill with a writer and commits if and only if fill returns nil:
// the whole object is then durable and visible at once, replacing any older
// one. After an error, or a crash, no part of it is visible. A full medium is
// a sallyport.Exhausted.
//
// List yields objects whose key begins with prefix, in key order. Remove of an
// absent object is no error.
type Store interface {
	Open(ctx context.Context, ref sallyport.Ref) (Object, error)
	Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (Info, error)
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	Remove(ctx context.Context, ref sallyport.Ref) error
}
