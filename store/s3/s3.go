// Package s3 is a store in a bucket of an S3 server, by minio-go.
//
// One Put is one request, or one multipart upload that is completed at the
// end: the server shows the object whole or not at all. An open object is
// pinned to the version, or the ETag, that Open saw, and every later request
// for its bytes carries that condition: an object that is replaced while it is
// read is a sallyport.Conflict, never a mixture.
//
// What is checked: the SHA-256 of every body is part of its request's
// signature (Signature Version 4); uploads carry CRC-32C, compared with what
// the server says it keeps; whole reads are compared with the full-object
// checksum where the server gives one. A range is not checked here: what must
// not be forged is sealed, and the seal checks it.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"sallyport"
	"sallyport/store"
)

// Config says where the objects are and who asks for them.
type Config struct {
	Endpoint string `yaml:"endpoint" json:"endpoint"` // host or host:port, without scheme
	Bucket   string `yaml:"bucket" json:"bucket"`
	Prefix   string `yaml:"prefix" json:"prefix"` // folder within the bucket; empty is all of it
	Region   string `yaml:"region" json:"region"` // us-east-1 if empty
	// Secure is TLS, and true if left out. Without it only a loopback address
	// is accepted: data and signatures would cross the network in clear.
	Secure *bool  `yaml:"secure" json:"secure"`
	CAFile string `yaml:"ca_file" json:"ca_file"` // PEM; the server's certificate must come from these, and from no other
	// CredentialsFile is YAML with access_key, secret_key and, for temporary
	// credentials, session_token; mode 0600. It is read again when it changes.
	// If empty, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
	CredentialsFile string `yaml:"credentials_file" json:"credentials_file"`
	SSE             string `yaml:"sse" json:"sse"`             // none (also if empty), s3, or kms:KEY
	Versioned       bool   `yaml:"versioned" json:"versioned"` // references carry the version; the bucket must keep versions
	PartSize        int64  `yaml:"part_size" json:"part_size"` // bytes, 5 MiB to 512 MiB; 16 MiB if 0. A Put holds two parts in memory
	// StaleUploads is the age at which an upload that was begun below Prefix
	// and never finished is taken for a crashed writer's and removed; 24 h if
	// 0. Negative: never, for a bucket that others upload to.
	StaleUploads time.Duration `yaml:"stale_uploads" json:"stale_uploads"`
}

const (
	defaultPart  = 16 << 20
	minPart      = 5 << 20 // of S3
	maxPart      = 512 << 20
	maxParts     = 10_000 // of S3
	defaultStale = 24 * time.Hour

	// attempts bounds how often minio-go asks again, waiting up to a second
	// between, before the caller hears that the server is unavailable.
	attempts = 5

	// patience is how long a server may say nothing in the middle of a body.
	patience = time.Minute

	// aftermath bounds what is still done for an operation whose context
	// ended: to abort an upload, and to learn whether a commit happened.
	aftermath = 15 * time.Second
)

// Store keeps objects in a bucket.
type Store struct {
	name      string
	endpoint  string
	bucket    string
	prefix    string // empty, or with a slash at its end
	sse       encrypt.ServerSide
	versioned bool
	part      int
	stale     time.Duration

	core      minio.Core
	transport *http.Transport
	swept     atomic.Bool
}

// Open opens the store called name. It asks the server once: wrong credentials,
// an absent bucket and a bucket without the versions that cfg wants are errors
// at once; a server that cannot be reached now is asked again by what needs it.
func Open(name string, cfg Config) (*Store, error) {
	op := "open store " + name
	s := &Store{name: name, endpoint: cfg.Endpoint, bucket: cfg.Bucket, versioned: cfg.Versioned, part: int(cfg.PartSize), stale: cfg.StaleUploads}
	secure := cfg.Secure == nil || *cfg.Secure
	if err := s.check(op, cfg, secure); err != nil {
		return nil, err
	}
	provider, err := credentialsFor(op, cfg.CredentialsFile)
	if err != nil {
		return nil, err
	}
	if s.transport, err = newTransport(op, cfg.CAFile); err != nil {
		return nil, err
	}
	region := cfg.Region
	if region == "" {
		region = "us-east-1"
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds:      credentials.New(provider),
		Secure:     secure,
		Region:     region,
		Transport:  confirming{s.transport},
		MaxRetries: attempts,
	})
	if err != nil {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "The endpoint is like s3.example.org:9000.", "the endpoint %q is no host", cfg.Endpoint)
	}
	s.core = minio.Core{Client: client}

	ctx, cancel := context.WithTimeout(context.Background(), 2*aftermath)
	defer cancel()
	if err := s.probe(ctx, op); err != nil && sallyport.KindOf(err) != sallyport.Unavailable {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close gives idle connections back; objects that are open stay so.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// The names that S3 allows to a bucket, section "General purpose bucket naming
// rules" of its user guide, but for the reserved ones.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (s *Store) check(op string, cfg Config, secure bool) error {
	bad := func(hint, format string, args ...any) error {
		return sallyport.Errorf(op, sallyport.Invalid, hint, format, args...)
	}
	if cfg.Endpoint == "" {
		return bad("Set endpoint to the S3 server's host or host:port.", "no endpoint given")
	}
	if strings.ContainsAny(cfg.Endpoint, "/@?# ") {
		return bad("Write host or host:port; `secure: false` is what http:// would say.", "the endpoint is more than a host and a port")
	}
	if !secure && !loopback(cfg.Endpoint) {
		return bad("Leave `secure` out and, for a certificate of your own, set ca_file; plain HTTP is for 127.0.0.1 and [::1] only.",
			"plain HTTP to %s would show data and signatures to the network", cfg.Endpoint)
	}
	if !bucketName.MatchString(cfg.Bucket) {
		return bad("Set bucket to the name of a bucket that exists.", "%.80q is no name of a bucket", cfg.Bucket)
	}
	if p := strings.TrimSuffix(cfg.Prefix, "/"); p != "" {
		if err := store.CheckRef(op, s.name, sallyport.Ref{Store: s.name, Key: p}); err != nil {
			return bad("A prefix is like lab/hold.", "the prefix is no key: %w", err)
		}
		s.prefix = p + "/"
	}
	switch {
	case s.part == 0:
		s.part = defaultPart
	case s.part < minPart || s.part > maxPart:
		return bad("Leave part_size out for 16 MiB.", "part_size is %d bytes, which is not between 5 MiB and 512 MiB", cfg.PartSize)
	}
	if s.stale == 0 {
		s.stale = defaultStale
	}
	key, isKMS := strings.CutPrefix(cfg.SSE, "kms:")
	switch {
	case cfg.SSE == "", cfg.SSE == "none":
	case cfg.SSE == "s3":
		s.sse = encrypt.NewSSE()
	case isKMS && key != "":
		sse, err := encrypt.NewSSEKMS(key, nil)
		if err != nil {
			return bad("sse is like kms:KEY.", "the KMS key: %w", err)
		}
		s.sse = sse
	default:
		return bad("sse is none, s3 or kms:KEY.", "unknown sse %.80q", cfg.SSE)
	}
	return nil
}

// loopback reports whether the endpoint is a literal address of this machine. A
// name is not: who answers to it is not ours to say.
func loopback(endpoint string) bool {
	host := endpoint
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

func newTransport(op, caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment, // which leaves loopback alone
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * patience, // to complete a large upload takes a server a while
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // an object is its bytes
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Invalid, err, "Set ca_file to a PEM file of certificates.")
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Set ca_file to a PEM file of certificates.", "ca_file holds no certificate")
	}
	return t, nil
}

// ready refuses what must not reach the server.
func (s *Store) ready(ctx context.Context, op string, ref sallyport.Ref) error {
	if err := store.CheckRef(op, s.name, ref); err != nil {
		return err
	}
	if len(s.prefix)+len(ref.Key) > store.MaxKey {
		return sallyport.Errorf(op, sallyport.Invalid, "Shorten the key.", "with the store's prefix the key is longer than %d bytes", store.MaxKey)
	}
	if ref.Version != "" && !s.versioned {
		return sallyport.Errorf(op, sallyport.Unsupported, "Leave the version out, or set `versioned: true` for a bucket that keeps versions.", "store %q gives no versions", s.name)
	}
	if err := ctx.Err(); err != nil {
		return sallyport.E(op, sallyport.Canceled, err, "")
	}
	return nil
}

// info describes an object as Put, Open and List all do: S3 tells times in
// whole seconds in some answers and in fractions in others.
func (s *Store) info(key, version string, size int64, modified time.Time) store.Info {
	if !s.versioned {
		version = ""
	}
	return store.Info{Ref: sallyport.Ref{Store: s.name, Key: key, Version: version}, Size: size, Modified: modified.UTC().Truncate(time.Second)}
}

// List asks for a thousand objects at a time. Objects that others put into the
// bucket under names that are no keys are left out: they could not be opened.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	const op = "list objects"
	return func(yield func(store.Info, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(store.Info{}, sallyport.E(op, sallyport.Canceled, err, ""))
			return
		}
		if !beginsKeys(prefix) {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		no := false
		last := ""
		for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{
			Prefix: s.prefix + wholeRunes(prefix), Recursive: true, WithVersions: s.versioned, FetchOwner: &no,
		}) {
			if o.Err != nil {
				yield(store.Info{}, s.fault(ctx, op, o.Err))
				return
			}
			key, ours := strings.CutPrefix(o.Key, s.prefix)
			if !ours || !strings.HasPrefix(key, prefix) || s.versioned && (o.IsDeleteMarker || !o.IsLatest) ||
				store.CheckRef(op, s.name, sallyport.Ref{Store: s.name, Key: key}) != nil {
				continue
			}
			if key <= last { // pages that overlap or miss are worse than none
				yield(store.Info{}, sallyport.Errorf(op, sallyport.Unsupported, "Use a server and a kind of bucket that list in key order.", "store %q: the server lists out of order", s.name))
				return
			}
			last = key
			if !yield(s.info(key, o.VersionID, o.Size, o.LastModified), nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // minio-go ends silently
			yield(store.Info{}, sallyport.E(op, sallyport.Canceled, err, ""))
		}
	}
}

// beginsKeys reports whether any key can begin with prefix.
func beginsKeys(prefix string) bool {
	if strings.ContainsAny(prefix, "\x00\\") || len(prefix) > store.MaxKey {
		return false
	}
	elems := strings.Split(prefix, "/")
	for _, elem := range elems[:len(elems)-1] { // the last may go on
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
	}
	return true
}

// wholeRunes cuts off the beginning of a rune at prefix's end, which cannot be
// said in a query.
func wholeRunes(prefix string) string {
	for !utf8.ValidString(prefix) {
		prefix = prefix[:len(prefix)-1]
	}
	return prefix
}

// Remove deletes an object. In a bucket that keeps versions a reference without
// one only hides the object, and its bytes stay until their version is removed.
func (s *Store) Remove(ctx context.Context, ref sallyport.Ref) error {
	const op = "remove object"
	if err := s.ready(ctx, op, ref); err != nil {
		return err
	}
	err := s.core.RemoveObject(ctx, s.bucket, s.prefix+ref.Key, minio.RemoveObjectOptions{VersionID: ref.Version})
	if err == nil {
		return nil
	}
	failed := s.fault(ctx, op, err)
	switch {
	case failed.Kind == sallyport.NotFound:
		return nil
	case failed.Kind == sallyport.Invalid && ref.Version != "": // as versitygw says of a version that is gone
		_, err := s.core.StatObject(ctx, s.bucket, s.prefix+ref.Key, minio.StatObjectOptions{VersionID: ref.Version})
		if e, ok := errors.AsType[minio.ErrorResponse](err); ok && e.StatusCode == http.StatusNotFound {
			return nil
		}
	}
	return failed
}

// Link returns a presigned URL (Signature Version 4, query string) that reads
// the object for ttl, 1 s to 7 days. It is made here, without asking the server,
// and cannot be called back: it ends with ttl or with the credentials.
func (s *Store) Link(ctx context.Context, ref sallyport.Ref, ttl time.Duration) (string, error) {
	const op = "link object"
	if err := s.ready(ctx, op, ref); err != nil {
		return "", err
	}
	if ttl < time.Second || ttl > 7*24*time.Hour {
		return "", sallyport.Errorf(op, sallyport.Invalid, "", "a link lives from 1 second to 7 days, not %s", ttl)
	}
	query := map[string][]string{}
	if ref.Version != "" {
		query["versionId"] = []string{ref.Version}
	}
	u, err := s.core.PresignedGetObject(ctx, s.bucket, s.prefix+ref.Key, ttl, query)
	if err != nil {
		return "", s.fault(ctx, op, err)
	}
	return u.String(), nil
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Linker = (*Store)(nil)
)
