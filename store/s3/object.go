package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"sallyport"
	"sallyport/store"
)

// Open asks for the whole object and leaves it on its way: what the server has
// begun to send is what the object was then, even if it is replaced before it
// is read. A connection that breaks is taken up again where it broke, at the
// same version. ctx governs the reading too.
func (s *Store) Open(ctx context.Context, ref sallyport.Ref) (store.Object, error) {
	const op = "open object"
	if err := s.ready(ctx, op, ref); err != nil {
		return nil, err
	}
	o := &object{s: s, key: s.prefix + ref.Key, version: ref.Version}
	o.ctx, o.cancel = context.WithCancel(ctx)
	o.stream = &span{o: o}
	got, header, err := o.stream.get(op)
	if err == nil && (got.Size < 0 || got.ETag == "") {
		err = sallyport.Errorf(op, sallyport.Unsupported, "Use a server that sends Content-Length and ETag.", "store %q: the server does not say how long or which the object is", s.name)
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	o.etag, o.version = got.ETag, got.VersionID
	o.stream.end = got.Size
	o.info = s.info(ref.Key, got.VersionID, got.Size, got.LastModified)
	o.sum, o.want = fullChecksum(header)
	return o, nil
}

type object struct {
	s       *Store
	ctx     context.Context
	cancel  context.CancelFunc
	key     string // with the prefix
	info    store.Info
	etag    string // which object is asked for, and of a bucket with versions
	version string // the version, also where references do not carry it

	reading sync.Mutex // what Read uses
	stream  *span
	sum     hash.Hash // of what was read; nil where there is nothing to compare it with
	want    []byte
	err     error

	mu    sync.Mutex // what ReadAt uses
	ahead *span      // begun by a ReadAt for the next one
	next  int64      // where the last ReadAt ended
}

func (o *object) Info() store.Info { return o.info }

// Read withholds the end of an object that is not what its checksum says.
func (o *object) Read(p []byte) (int, error) {
	o.reading.Lock()
	defer o.reading.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.stream.Read(p)
	if o.sum != nil {
		o.sum.Write(p[:n])
		if o.stream.off == o.stream.end {
			if !bytes.Equal(o.sum.Sum(nil), o.want) {
				o.err = sallyport.Errorf("read object", sallyport.Damaged, "Try again; if it stays, the server's copy is damaged.", "store %q: %q is not what its checksum says", o.s.name, o.info.Ref.Key)
				return 0, o.err
			}
			o.sum = nil
		}
	}
	if err != nil {
		o.err = err
	}
	return n, err
}

// ReadAt asks for a range. One that goes on where the last one ended is taken
// for the second of many: the request is left open for the next.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	const op = "read object"
	if off < 0 {
		return 0, sallyport.Errorf(op, sallyport.Invalid, "", "the offset is %d", off)
	}
	end := min(off+int64(len(p)), o.info.Size)
	if end <= off {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	o.mu.Lock()
	sp := o.ahead
	if sp != nil && sp.off == off {
		o.ahead = nil
	} else {
		sp = &span{o: o, off: off, end: end}
		if off == o.next && off > 0 {
			sp.end = o.info.Size
		}
	}
	o.mu.Unlock()

	n, err := io.ReadFull(sp, p[:end-off])
	o.mu.Lock()
	o.next = off + int64(n)
	if err == nil && sp.off < sp.end && o.ahead == nil {
		sp, o.ahead = nil, sp
	}
	o.mu.Unlock()
	if sp != nil {
		sp.drop()
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Close ends what is on its way.
func (o *object) Close() error {
	o.cancel() // frees a Read that waits
	o.reading.Lock()
	o.stream.drop()
	o.reading.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ahead != nil {
		o.ahead.drop()
		o.ahead = nil
	}
	return nil
}

// span reads the bytes from off to end, in as many requests as it takes.
type span struct {
	o        *object
	off, end int64
	body     io.ReadCloser // nil: not asked for yet, or broken
	cancel   context.CancelFunc
	breaks   int64
}

// maxBreaks bounds how often a connection may break without getting anywhere;
// one more is forgiven for each 16 MiB.
const maxBreaks = 5

func (sp *span) Read(p []byte) (int, error) {
	const op = "read object"
	for {
		if sp.off == sp.end {
			sp.drop()
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if sp.body == nil {
			if sp.breaks > maxBreaks+sp.off>>24 {
				return 0, sallyport.Errorf(op, sallyport.Unavailable, "Look at the server and at the network between, then try again.", "store %q: %q broke off %d times, the last at byte %d", sp.o.s.name, sp.o.info.Ref.Key, sp.breaks, sp.off)
			}
			if _, _, err := sp.get(op); err != nil {
				return 0, err
			}
		}
		timer := time.AfterFunc(patience, sp.cancel)
		n, err := sp.body.Read(p[:min(int64(len(p)), sp.end-sp.off)])
		timer.Stop()
		sp.off += int64(n)
		if err != nil {
			sp.drop()
			if sp.off < sp.end {
				sp.breaks++
			}
			if ctx := sp.o.ctx; ctx.Err() != nil && n == 0 {
				return 0, sallyport.E(op, sallyport.Canceled, ctx.Err(), "")
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// get asks for what is missing, of the object that Open saw and of no other.
func (sp *span) get(op string) (minio.ObjectInfo, http.Header, error) {
	o := sp.o
	opts := minio.GetObjectOptions{VersionID: o.version}
	opts.Set("x-amz-checksum-mode", "ENABLED")
	first := o.etag == ""
	whole := first || sp.off == 0 && sp.end == o.info.Size
	if !first {
		opts.SetMatchETag(o.etag)
	}
	if !whole {
		opts.SetRange(sp.off, sp.end-1)
	}
	ctx, cancel := context.WithCancel(o.ctx)
	body, got, header, err := o.s.core.GetObject(ctx, o.s.bucket, o.key, opts)
	if err != nil {
		cancel()
		return got, nil, o.s.fault(o.ctx, op, err)
	}
	var wrong *sallyport.Error
	switch {
	case first:
	case got.ETag != o.etag:
		wrong = sallyport.Errorf(op, sallyport.Conflict, "Open it again.", "store %q: %q was replaced while it was read", o.s.name, o.info.Ref.Key)
	case got.Size != sp.end-sp.off, !whole && !strings.HasPrefix(header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", sp.off, sp.end-1)):
		wrong = sallyport.Errorf(op, sallyport.Damaged, "Use a server that serves ranges.", "store %q: the server sends another range than it was asked for", o.s.name)
	}
	if wrong != nil {
		cancel()
		body.Close()
		return got, nil, wrong
	}
	sp.body, sp.cancel = body, cancel
	return got, header, nil
}

func (sp *span) drop() {
	if sp.body != nil {
		sp.cancel()
		sp.body.Close()
		sp.body = nil
	}
}

// fullChecksum returns a hash and what it must give over the whole object, if
// the server tells and it is not a sum of sums.
func fullChecksum(h http.Header) (hash.Hash, []byte) {
	if strings.EqualFold(h.Get("X-Amz-Checksum-Type"), "COMPOSITE") {
		return nil, nil
	}
	for _, kind := range []minio.ChecksumType{minio.ChecksumCRC64NVME, minio.ChecksumCRC32C, minio.ChecksumCRC32, minio.ChecksumSHA256, minio.ChecksumSHA1} {
		sum := kind.Hasher()
		want, err := base64.StdEncoding.DecodeString(h.Get(kind.Key())) // "…-3", of three parts, is no base64
		if err == nil && len(want) == sum.Size() {
			return sum, want
		}
	}
	return nil, nil
}
