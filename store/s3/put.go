package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"

	"sallyport"
	"sallyport/store"
)

// markHeader is the user metadata by which a Put whose answer was lost finds
// out whether the object that is there now is its own.
const markHeader = "Sallyport-Put"

// Put sends an object that fits a part in one request, and a larger one as a
// multipart upload, one part on its way while fill writes the next. What fill
// wrote is committed by the last request, and by nothing before it.
//
// Where ctx ends, what is on its way is awaited for a few seconds more, so that
// it can be undone. If the answer to the last request is lost, Put asks the
// server what became of it. Only a server that commits after it has
// answered that question could make an error out of a success.
func (s *Store) Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (store.Info, error) {
	const op = "put object"
	if err := s.ready(ctx, op, ref); err != nil {
		return store.Info{}, err
	}
	if ref.Version != "" {
		return store.Info{}, sallyport.Errorf(op, sallyport.Invalid, "Leave the version out.", "the server chooses the version of %q", ref.Key)
	}
	if !s.swept.Load() { // it was not there when the store was opened
		s.sweep(ctx)
	}
	w := s.newUpload(ctx, ref.Key)
	defer w.abort() // after a panic of fill too; nothing to do after a commit
	err := fill(w)
	if failed := w.end(); failed != nil { // also where fill paid no attention
		err = failed
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return store.Info{}, sallyport.E(op+" "+ref.String(), kindOf(err), err, "")
	}
	version, etag, err := w.commit()
	if err != nil {
		return store.Info{}, err
	}
	// It is committed: nothing that fails now makes an error of it.
	modified := time.Now()
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), aftermath)
	defer cancel()
	if o, err := s.core.StatObject(after, s.bucket, w.key, minio.StatObjectOptions{VersionID: version}); err == nil && o.ETag == etag {
		modified = o.LastModified
	}
	return s.info(ref.Key, version, w.size, modified), nil
}

func kindOf(err error) sallyport.Kind {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return sallyport.Canceled
	}
	return sallyport.KindOf(err)
}

// upload is what fill gets. It remembers the first error and ends with fill.
type upload struct {
	s         *Store
	caller    context.Context // who may give up
	ctx       context.Context // of the requests: it ends a little later
	cancel    context.CancelFunc
	key       string // with the prefix
	mark      string
	confirmed *atomic.Bool

	mu    sync.Mutex
	ended bool
	err   error
	buf   []byte // being filled
	spare []byte // to fill while buf is sent
	size  int64
	crc   hash.Hash32

	id    string // of the multipart upload, once there is one
	parts []minio.CompletePart
	sent  chan sent // nil if no part is on its way
}

type sent struct {
	part minio.CompletePart
	err  error
	buf  []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *Store) newUpload(ctx context.Context, key string) *upload {
	w := &upload{s: s, caller: ctx, key: s.prefix + key, mark: rand.Text(), confirmed: new(atomic.Bool), crc: crc32.New(castagnoli)}
	lingering, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), confirmedKey{}, w.confirmed))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	w.ctx, w.cancel = lingering, func() { stop(); cancel() }
	return w
}

// grace is how long a request that changes the server is still awaited when its
// result is no longer wanted. A part that arrives after its upload was aborted
// may bring the upload back, and one whose beginning was not heard of cannot be
// aborted at all (S3 API reference, AbortMultipartUpload).
const grace = 5 * time.Second

func (w *upload) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, sallyport.Errorf("write object", sallyport.Conflict, "", "the object was finished")
	}
	n := 0
	for w.err == nil && n < len(p) {
		if w.err = w.caller.Err(); w.err != nil {
			break
		}
		if len(w.buf) == w.s.part {
			w.send()
			continue
		}
		m := min(len(p)-n, w.s.part-len(w.buf))
		w.buf = append(w.room(m), p[n:n+m]...)
		n += m
	}
	w.crc.Write(p[:n])
	w.size += int64(n)
	return n, w.err
}

// room returns buf with room for n bytes more. It grows by doubling, to a part
// at most: most objects are small.
func (w *upload) room(n int) []byte {
	need := len(w.buf) + n
	if need <= cap(w.buf) {
		return w.buf
	}
	return slices.Grow(w.buf[:len(w.buf):len(w.buf)], min(max(need, 2*cap(w.buf)), w.s.part)-len(w.buf))
}

// send sets buf on its way as the next part, after the one before has arrived.
func (w *upload) send() {
	const op = "write object"
	if w.wait(); w.err != nil {
		return
	}
	if w.id == "" {
		opts := w.options()
		opts.UserMetadata["X-Amz-Checksum-Algorithm"] = "CRC32C"
		opts.UserMetadata["X-Amz-Checksum-Type"] = "FULL_OBJECT"
		id, err := w.s.core.NewMultipartUpload(w.ctx, w.s.bucket, w.key, opts)
		if err != nil {
			w.err = w.s.fault(w.caller, op, err)
			return
		}
		w.id = id
		if w.err = w.unencrypted(op); w.err != nil {
			return
		}
	}
	number := len(w.parts) + 1
	if number > maxParts {
		w.err = sallyport.Errorf(op, sallyport.Exhausted, "Raise part_size.", "store %q: the object has more than %d parts", w.s.name, maxParts)
		return
	}
	body := w.buf
	w.buf, w.spare = w.spare, nil
	w.sent = make(chan sent, 1)
	go func(done chan<- sent) {
		header := http.Header{"X-Amz-Checksum-Crc32c": {crcOf(body)}}
		p, err := w.s.core.PutObjectPart(w.ctx, w.s.bucket, w.key, w.id, number, bytes.NewReader(body), int64(len(body)),
			minio.PutObjectPartOptions{Sha256Hex: shaOf(body), DisableContentSha256: true, CustomHeader: header})
		done <- sent{minio.CompletePart{PartNumber: number, ETag: p.ETag, ChecksumCRC32C: p.ChecksumCRC32C}, err, body}
	}(w.sent)
}

// wait takes in the part that is on its way.
func (w *upload) wait() {
	if w.sent == nil {
		return
	}
	r := <-w.sent
	w.sent, w.spare = nil, r.buf[:0]
	if r.err != nil && w.err == nil {
		w.err = w.s.fault(w.caller, "write object", r.err)
	}
	w.parts = append(w.parts, r.part)
}

func (w *upload) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	return w.err
}

// commit makes the object visible.
func (w *upload) commit() (version, etag string, err error) {
	const op = "put object"
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.id != "" {
		if w.send(); w.err == nil {
			w.wait()
		}
		if w.err == nil && w.caller.Err() != nil {
			w.err = sallyport.E(op, sallyport.Canceled, w.caller.Err(), "")
		}
		if w.err != nil {
			return "", "", w.err
		}
	}
	info, err := w.publish()
	for n := 1; n < conflicts && isConflict(err) && pause(w.caller, time.Duration(n)*20*time.Millisecond); n++ {
		info, err = w.publish()
	}
	if err != nil {
		if info.VersionID, info.ETag, err = w.settle(op, err); err != nil {
			return "", "", err
		}
	}
	id := w.id
	w.id = "" // there is nothing left to abort
	if id == "" {
		err = w.unencrypted(op)
	}
	if sum := info.ChecksumCRC32C; err == nil && sum != "" && !strings.Contains(sum, "-") && sum != base64.StdEncoding.EncodeToString(w.crc.Sum(nil)) {
		err = sallyport.Errorf(op, sallyport.Damaged, damageHint, "store %q: the server keeps other bytes than it was sent", w.s.name)
	}
	if err != nil {
		w.retract(info.VersionID, info.ETag)
		return "", "", err
	}
	return info.VersionID, info.ETag, nil
}

// publish sends the request that commits.
func (w *upload) publish() (minio.UploadInfo, error) {
	if w.id != "" {
		return w.s.core.CompleteMultipartUpload(w.ctx, w.s.bucket, w.key, w.id, w.parts, minio.PutObjectOptions{})
	}
	opts := w.options()
	opts.UserMetadata["X-Amz-Checksum-Crc32c"] = crcOf(w.buf)
	return w.s.core.PutObject(w.ctx, w.s.bucket, w.key, bytes.NewReader(w.buf), w.size, "", shaOf(w.buf), opts)
}

// conflicts bounds how often a commit is sent that another request on the same
// key, or the same folder where the server has folders, stands in the way of.
const conflicts = 4

func isConflict(err error) bool {
	e, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && e.StatusCode == http.StatusConflict
}

// pause waits and reports whether ctx lives on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// settle finds out what became of a commit that failed with cause.
func (w *upload) settle(op string, cause error) (version, etag string, err error) {
	failed := w.s.fault(w.caller, op, cause)
	if e, ok := errors.AsType[minio.ErrorResponse](cause); ok && e.StatusCode >= 400 && e.StatusCode < 500 && e.Code != "NoSuchUpload" {
		return "", "", failed // the server said no
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), aftermath)
	defer cancel()
	if w.id != "" { // then it cannot be completed after the question
		w.s.core.AbortMultipartUpload(ctx, w.s.bucket, w.key, w.id)
	}
	o, err := w.s.core.StatObject(ctx, w.s.bucket, w.key, minio.StatObjectOptions{})
	if err != nil || o.UserMetadata[markHeader] != w.mark {
		return "", "", failed
	}
	return o.VersionID, o.ETag, nil
}

// retract removes what was committed and must not stay.
func (w *upload) retract(version, etag string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), aftermath)
	defer cancel()
	o, err := w.s.core.StatObject(ctx, w.s.bucket, w.key, minio.StatObjectOptions{VersionID: version})
	if err == nil && o.ETag == etag {
		w.s.core.RemoveObject(ctx, w.s.bucket, w.key, minio.RemoveObjectOptions{VersionID: version})
	}
}

// abort gives up what is not committed, on the server too.
func (w *upload) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	defer w.cancel()
	if w.sent != nil {
		timer := time.AfterFunc(grace, w.cancel)
		<-w.sent
		timer.Stop()
		w.sent = nil
	}
	if w.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), aftermath)
	defer cancel()
	w.s.core.AbortMultipartUpload(ctx, w.s.bucket, w.key, w.id) // else a later sweep finds it
	w.id = ""
}

func (w *upload) options() minio.PutObjectOptions {
	return minio.PutObjectOptions{
		UserMetadata:         map[string]string{markHeader: w.mark},
		ServerSideEncryption: w.s.sse,
		DisableContentSha256: true, // of chunks: the sum of the whole body is signed instead
	}
}

func (w *upload) unencrypted(op string) error {
	if w.s.sse == nil || w.confirmed.Load() {
		return nil
	}
	return sallyport.Errorf(op, sallyport.Unsupported, "Set `sse: none`, or use a server that encrypts.", "store %q: the server does not say that it encrypts the object", w.s.name)
}

func crcOf(b []byte) string {
	h := crc32.New(castagnoli)
	h.Write(b)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func shaOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// confirming is a transport that notes whether the server confirms encryption,
// which minio-go does not tell.
type confirming struct{ http.RoundTripper }

type confirmedKey struct{}

const sseHeader = "X-Amz-Server-Side-Encryption"

func (c confirming) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if note, ok := r.Context().Value(confirmedKey{}).(*atomic.Bool); ok && err == nil {
		if want := r.Header.Get(sseHeader); want != "" && resp.Header.Get(sseHeader) == want {
			note.Store(true)
		}
	}
	return resp, err
}
