// Package s3door is the gateway's face for S3 clients: bucket = dataset, object
// = what the caller may see of it. It speaks the part of the Amazon S3 REST API
// (API version 2006-03-01) that reading and uploading need, verifies Signature
// Version 4 on every request, and answers 501 NotImplemented to all the rest.
// What a caller may see is not decided here: [Views] decides.
//
// Buckets are in the path (https://host/bucket/key); bucket names in the host
// ("virtual-hosted style") are not supported. Nobody is let in without a
// signature.
package s3door

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// Views is what the door needs of the gateway. Errors are *sallyport.Error;
// [sallyport.KindOf] chooses the S3 code. Keys and buckets that reach it have
// passed the rules of names: no empty, "." or ".." segment, no backslash, no
// control character. They are compared byte by byte, never normalized.
type Views interface {
	// Datasets returns the buckets that the caller may use, inboxes and scratch
	// included.
	Datasets(ctx context.Context, who gateway.Access) ([]string, error)
	// Objects returns the objects whose key begins with prefix, as the caller
	// sees them. It may have to make the view first, and take long.
	Objects(ctx context.Context, who gateway.Access, dataset, prefix string) ([]gateway.ObjectInfo, error)
	// Open opens an object of a view. The Digest of its Info, if there is one,
	// must be that of the bytes it reads: clients are told and check it.
	Open(ctx context.Context, who gateway.Access, dataset, key string) (gateway.ViewObject, error)
	// Put stores body in an inbox or scratch. It must read body to io.EOF and
	// may commit only then: the door reports a wrong checksum or signature, a
	// missing byte and a revoked key as an error in place of io.EOF. Its ETag
	// should be the MD5 of body in hexadecimal: s3cmd and rclone compare it.
	Put(ctx context.Context, who gateway.Access, bucket, key string, body io.Reader) (gateway.ObjectInfo, error)
	// Remove removes an object of an inbox or scratch.
	Remove(ctx context.Context, who gateway.Access, bucket, key string) error
}

// Upload names one multipart upload.
type Upload struct {
	ID     string
	Bucket string
	Key    string
}

// Part is one stored part of an upload.
type Part struct {
	Number int    // 1 to 10000
	ETag   string // without quotes
	Size   int64  // bytes
}

// Multipart may be implemented by a [Views] that can stage parts; without it
// multipart uploads answer 501. An upload belongs to who created it: for
// anybody else, or for another bucket or key, it is NotFound.
type Multipart interface {
	// CreateUpload begins an upload and returns its ID: 1 to 256 of A-Z, a-z,
	// 0-9, '-', '_', '.' and '~'.
	CreateUpload(ctx context.Context, who gateway.Access, bucket, key string) (id string, err error)
	// PutPart stores one part under the same rule as [Views.Put]; a part of
	// the same number is replaced. Parts come in any order, and at once.
	PutPart(ctx context.Context, who gateway.Access, u Upload, number int, body io.Reader) (Part, error)
	// Parts returns the stored parts.
	Parts(ctx context.Context, who gateway.Access, u Upload) ([]Part, error)
	// CompleteUpload makes the object out of parts: in ascending order, each
	// stored with this ETag; the door has checked them against Parts. A part
	// that was replaced since must fail it with Conflict.
	CompleteUpload(ctx context.Context, who gateway.Access, u Upload, parts []Part) (gateway.ObjectInfo, error)
	// AbortUpload forgets the upload and its parts.
	AbortUpload(ctx context.Context, who gateway.Access, u Upload) error
}

// Keys knows access keys.
type Keys interface {
	// Lookup returns a key's secret and who it stands for. Unknown, expired and
	// revoked are one error (NotFound or Denied), so that nobody learns which.
	Lookup(accessKey string) (secret string, who gateway.Access, err error)
}

// SessionKeys may be implemented by a [Keys] whose keys can come with a session
// token, as those of AssumeRoleWithWebIdentity do. A request with a token is
// refused where Keys does not implement it.
type SessionKeys interface {
	// LookupSession is Lookup for a request that carries a session token. It
	// must compare the token in constant time, and Lookup must not find a key
	// that needs one.
	LookupSession(accessKey, token string) (secret string, who gateway.Access, err error)
}

// Refusal is a request that was turned away before anybody was asked.
type Refusal struct {
	RequestID string
	Time      time.Time
	Remote    string // address of the other end
	AccessKey string // as claimed, not proved; empty if none could be read
	Method    string
	Bucket    string
	Key       string
	Code      string // S3's
}

// Recorder may be implemented by a [Views] that records refused requests: the
// door tells it of each request whose path or signature it did not accept. If it fails,
// the answer is 503.
type Recorder interface {
	Refused(ctx context.Context, r Refusal) error
}

// DefaultMaxObject is the largest upload in one request, 5 GiB, as on S3.
const DefaultMaxObject = 5 << 30

// Parts is what a door is made of.
type Parts struct {
	Views     Views
	Keys      Keys
	Region    string           // that clients sign for; empty: us-east-1
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discard
	MaxObject int64            // bytes of one object; 0: DefaultMaxObject
	// Checkpoint returns the value of [gateway.CheckpointHeader], which every
	// answer then carries; nil: none does.
	Checkpoint func() string
}

// Door answers S3 requests.
type Door struct {
	views      Views
	multipart  Multipart // nil: 501
	recorder   Recorder  // nil: only logged
	keys       Keys
	sessions   SessionKeys // nil: tokens are refused
	region     string
	now        func() time.Time
	log        *slog.Logger
	maxObject  int64
	checkpoint func() string // nil: not shown
	allowed    []operation
	patience   time.Duration // how long a refused body is listened to
	buffers    sync.Pool     // of *[]byte, bufferSize long
	since      time.Time     // the door opened: told as the creation date of buckets
}

// bufferSize is what a download holds in memory.
const bufferSize = 256 << 10

// New returns a door made of p.
func New(p Parts) (*Door, error) {
	if p.Views == nil || p.Keys == nil {
		return nil, sallyport.Errorf("s3 door", sallyport.Internal, "", "Views and Keys are needed")
	}
	if p.Region == "" {
		p.Region = "us-east-1"
	}
	if ok, _ := regexp.MatchString(`^[a-z0-9][a-z0-9-]{0,62}$`, p.Region); !ok {
		return nil, sallyport.Errorf("s3 door", sallyport.Invalid, "Use a name such as us-east-1.", "region %q: use a-z, 0-9 and -", p.Region)
	}
	if p.MaxObject < 0 {
		return nil, sallyport.Errorf("s3 door", sallyport.Invalid, "", "the largest object cannot be %d bytes", p.MaxObject)
	}
	if p.MaxObject == 0 {
		p.MaxObject = DefaultMaxObject
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{views: p.Views, keys: p.Keys, region: p.Region, now: p.Now, log: p.Log, maxObject: p.MaxObject, checkpoint: p.Checkpoint, allowed: operations(), patience: patience, since: p.Now().UTC()}
	d.multipart, _ = p.Views.(Multipart)
	d.recorder, _ = p.Views.(Recorder)
	d.sessions, _ = p.Keys.(SessionKeys)
	d.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return d, nil
}

var _ http.Handler = (*Door)(nil)

// Server returns an HTTP server for the door that does not wait for slow
// clients: headers must come within 10 s and fit 32 KiB (the Go server answers
// longer ones itself, in plain text: 431). Bodies have no fixed limit of time;
// [Door] demands a least rate of them instead. The caller sets TLSConfig.
func (d *Door) Server() *http.Server {
	return &http.Server{
		Handler:                      d,
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               32 << 10,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
}

// exchange is one request and its answer.
type exchange struct {
	*Door
	w       http.ResponseWriter
	r       *http.Request
	id      string
	target  target
	grant   grant
	op      string
	status  int  // 0 until the header is written
	started bool // a body was begun: an error can only cut it
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Door: d, w: w, r: r, id: requestID(), op: "none"}
	w.Header().Set("x-amz-request-id", x.id)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // of the request before
	defer func() {
		level := slog.LevelDebug
		switch {
		case x.status >= 500:
			level = slog.LevelWarn
		case x.status >= 400:
			level = slog.LevelInfo
		}
		// The key is not logged: file names can tell about persons.
		d.log.Log(context.WithoutCancel(r.Context()), level, "s3 request", "operation", x.op, "bucket", x.target.bucket,
			"subject", x.grant.who.Subject.ID, "status", x.status, "request", x.id)
	}()
	err := x.serve()
	if err == nil {
		return
	}
	if x.started {
		// Nothing can be said any more: the client must see that it is cut.
		d.log.Warn("s3 answer cut", "operation", x.op, "bucket", x.target.bucket, "request", x.id, "error", err)
		panic(http.ErrAbortHandler)
	}
	x.fail(err)
}

func (x *exchange) serve() error {
	t, err := parseTarget(x.r.RequestURI)
	if err != nil {
		return x.refuse(err)
	}
	x.target = t
	if x.grant, err = x.authenticate(x.r, &x.target); err != nil {
		return x.refuse(err)
	}
	op, err := x.operation()
	if err != nil {
		return err
	}
	x.op = op.name
	return op.run(x)
}

// refuse has a refusal recorded and returns what to answer.
func (x *exchange) refuse(err error) error {
	if x.recorder == nil {
		return err
	}
	rec := x.recorder.Refused(x.r.Context(), Refusal{
		RequestID: x.id, Time: x.now().UTC(), Remote: x.r.RemoteAddr, AccessKey: x.grant.accessKey,
		Method: x.r.Method, Bucket: x.target.bucket, Key: x.target.key, Code: x.faultOf(err).code,
	})
	if rec != nil {
		x.log.Error("s3 refusal not recorded", "request", x.id, "error", rec)
		return newFault(codeServiceUnavailable, "The refusal of this request could not be recorded. Try again later.")
	}
	return err
}

// header writes the status line once.
func (x *exchange) header(status int) {
	x.status = status
	if x.checkpoint != nil { // now, so that it covers the record of this request
		x.w.Header().Set(gateway.CheckpointHeader, x.checkpoint())
	}
	x.w.WriteHeader(status)
}

// hasBucket reports whether the caller may use the bucket of the request.
func (x *exchange) hasBucket() (bool, error) {
	all, err := x.views.Datasets(x.r.Context(), x.grant.who)
	if err != nil {
		return false, err
	}
	for _, b := range all {
		if b == x.target.bucket {
			return true, nil
		}
	}
	return false, nil
}

// needBucket is nil where the caller may use the bucket of the request.
func (x *exchange) needBucket() error {
	ok, err := x.hasBucket()
	if err == nil && !ok {
		err = newFault(codeNoSuchBucket, "There is no dataset %q that this key may use.", x.target.bucket)
	}
	return err
}

func requestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.ToUpper(hex.EncodeToString(b[:]))
}
