package seal

import (
	"context"
	"errors"
	"io"

	"filippo.io/age"

	"sallyport"
)

// Writer seals what is written to it into an age v1 file on dst, for each of
// the recipients: hybrid ("age1pq1…") or X25519 ("age1…"), not both kinds at
// once, since a classic recipient would undo the others' protection.
//
// Close writes the last chunk; it does not close dst. A file whose Writer was
// not closed is truncated, and no Reader takes it for whole. Errors of dst come
// back with dst's own kind. Chunks are sealed on all cores (up to 8); memory is
// bounded, 1 MiB a core and file at most, whatever the size. A Writer is for
// one goroutine, and may be dropped without Close.
func Writer(dst io.Writer, recipients ...string) (io.WriteCloser, error) {
	const op = "seal"
	if len(recipients) == 0 {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "no recipient to seal to")
	}
	var to []age.Recipient
	hybrid := 0
	for _, s := range recipients {
		r, err := parseRecipient(op, s)
		if err != nil {
			return nil, err
		}
		if _, ok := r.(*age.HybridRecipient); ok {
			hybrid++
		}
		to = append(to, r)
	}
	if hybrid != 0 && hybrid != len(to) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Use hybrid recipients (age1pq1…) only, or X25519 recipients only.",
			"post-quantum and classic recipients cannot share a file")
	}
	return newSealer(dst, to)
}

// Reader opens an age file with the first of the keys that fits. It yields
// only authenticated bytes, chunk by chunk (64 KiB), and io.EOF only after the
// last chunk proved to be the last: whoever acts on the bytes must wait for it.
//
// A file for other keys is a sallyport.Denied. A file that was changed,
// truncated, extended, or is no age file is a sallyport.Damaged. An error of
// src comes back with its own kind (sallyport.Unavailable if it has none).
func Reader(src io.Reader, keys ...*Key) (io.Reader, error) {
	ids, err := identities(keys)
	if err != nil {
		return nil, err
	}
	from := &source{r: src}
	plain, err := age.Decrypt(from, ids...)
	if err != nil {
		return nil, opening(err, from.err, badHeader)
	}
	return &opened{r: plain, from: from}, nil
}

// ReaderAt opens an age file of size bytes for reading at offsets, and returns
// the size of the plaintext, which the last chunk has proved by then. Errors
// are those of [Reader]. It may be used concurrently.
func ReaderAt(src io.ReaderAt, size int64, k *Key) (io.ReaderAt, int64, error) {
	ids, err := identities([]*Key{k})
	if err != nil {
		return nil, 0, err
	}
	from := sourceAt{src}
	plain, n, err := age.DecryptReaderAt(from, size, ids...)
	if err != nil {
		return nil, 0, opening(err, nil, "its header, its size or its last chunk was changed, or it is not an age file")
	}
	return openedAt{r: plain, size: n}, n, nil
}

func identities(keys []*Key) ([]age.Identity, error) {
	var ids []age.Identity
	for _, k := range keys {
		id := k.identity()
		if id == nil {
			return nil, errNoKey("open seal")
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errNoKey("open seal")
	}
	return ids, nil
}

// opening says in our words why a file does not open. src is the error of the
// source, if it had one: then the file itself is not to blame. The library's
// own text is not repeated: it may quote the file, and a file that is not
// sealed at all is someone's data.
func opening(err, src error, what string) error {
	const op = "open seal"
	if src == nil {
		if failed, ok := errors.AsType[*sourceError](err); ok {
			src = failed.err
		}
	}
	if src != nil {
		return keepKind(op, sallyport.Unavailable, src)
	}
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return sallyport.Errorf(op, sallyport.Denied, "It was sealed to another recipient.", "this key does not open it")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		what = "it is cut short"
	}
	return sallyport.Errorf(op, sallyport.Damaged, "Do not use what was read of it; fetch or make it again.", "%s", what)
}

const (
	badHeader = "its header was changed, cut short or is not that of an age file"
	badChunk  = "a chunk was changed, moved or added: it fails authentication"
)

// keepKind adds op to err, with err's own kind where it has one.
func keepKind(op string, kind sallyport.Kind, err error) error {
	if e, ok := errors.AsType[*sallyport.Error](err); ok {
		kind = e.Kind
	} else if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = sallyport.Canceled
	}
	return sallyport.E(op, kind, err, "")
}

// source remembers the error of the reader below, so that it is not taken for
// damage. The library bounds what it reads as header (2 MiB, 1,024 stanzas).
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// opened gives the reader of an age file our errors.
type opened struct {
	r    io.Reader
	from *source
	err  error
}

func (o *opened) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.r.Read(p)
	if err != nil && err != io.EOF {
		err = opening(err, o.from.err, badChunk)
	}
	o.err = err
	return n, err
}

// sourceError marks an error of the source below a ReaderAt, which has no
// state to remember it in.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

type sourceAt struct{ r io.ReaderAt }

func (s sourceAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &sourceError{err}
	}
	return n, err
}

type openedAt struct {
	r    io.ReaderAt
	size int64
}

func (o openedAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, sallyport.Errorf("read sealed", sallyport.Invalid, "", "negative offset")
	}
	if off >= o.size {
		return 0, io.EOF
	}
	n, err := o.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = opening(err, nil, badChunk)
	}
	return n, err
}
