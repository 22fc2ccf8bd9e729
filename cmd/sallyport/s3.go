package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/identity"
	"sallyport/gateway/s3door"
	"sallyport/gateway/sts"
)

// S3Config is the door for S3 clients: one bucket a dataset.
type S3Config struct {
	// Listen is its address. Empty: no S3 door.
	Listen string `yaml:"listen"`
	// Region is what clients sign for.
	Region string `yaml:"region"`
	// TLS is its certificate; without files a self-signed one is made, and its
	// fingerprint printed.
	TLS identity.TLSConfig `yaml:"tls"`
	// Plain turns TLS off, on loopback addresses only.
	Plain bool `yaml:"plain"`
	// Keys bounds access keys.
	Keys identity.KeyConfig `yaml:"keys"`
	// OIDC lets people exchange their provider's token for an access key.
	OIDC identity.OIDCConfig `yaml:"oidc"`
	// ViewsMB is how much room views may take before the least used is evicted.
	ViewsMB int64 `yaml:"views_mb"`
	// ScratchMB is each project's quota.
	ScratchMB int64 `yaml:"scratch_mb"`
}

// s3Views is the gateway as the S3 door wants it: a matter of names.
type s3Views struct{ *gateway.Gateway }

var (
	_ s3door.Views     = s3Views{}
	_ s3door.Multipart = s3Views{}
	_ s3door.Recorder  = s3Views{}
)

func (v s3Views) CreateUpload(ctx context.Context, who gateway.Access, bucket, key string) (string, error) {
	return v.CreateMultipart(ctx, who, bucket, key)
}

func (v s3Views) PutPart(ctx context.Context, who gateway.Access, u s3door.Upload, n int, body io.Reader) (s3door.Part, error) {
	p, err := v.Gateway.PutPart(ctx, who, u.ID, u.Bucket, u.Key, n, body)
	return s3door.Part{Number: p.Number, ETag: p.ETag, Size: p.Size}, err
}

func (v s3Views) Parts(ctx context.Context, who gateway.Access, u s3door.Upload) ([]s3door.Part, error) {
	list, err := v.MultipartParts(ctx, who, u.ID, u.Bucket, u.Key)
	var out []s3door.Part
	for _, p := range list {
		out = append(out, s3door.Part{Number: p.Number, ETag: p.ETag, Size: p.Size})
	}
	return out, err
}

func (v s3Views) CompleteUpload(ctx context.Context, who gateway.Access, u s3door.Upload, parts []s3door.Part) (gateway.ObjectInfo, error) {
	var list []gateway.PartInfo
	for _, p := range parts {
		list = append(list, gateway.PartInfo{Number: p.Number, ETag: p.ETag})
	}
	return v.CompleteMultipart(ctx, who, u.ID, u.Bucket, u.Key, list)
}

func (v s3Views) AbortUpload(ctx context.Context, who gateway.Access, u s3door.Upload) error {
	return v.AbortMultipart(ctx, who, u.ID, u.Bucket, u.Key)
}

func (v s3Views) Refused(ctx context.Context, r s3door.Refusal) error {
	return v.RecordUnproved(ctx, "key:"+r.AccessKey, r.Bucket, "s3: "+r.Code)
}

// s3Keys turns access keys into who they stand for.
type s3Keys struct {
	store  *identity.KeyStore
	people *identity.Directory
	mark   []byte // authenticates session tokens
}

var (
	_ s3door.Keys        = s3Keys{}
	_ s3door.SessionKeys = s3Keys{}
)

// session marks the keys that came from a token exchange: they are good only
// together with their session token.
const session = "sts"

func (k s3Keys) Lookup(id string) (string, gateway.Access, error) {
	key, secret, err := k.store.Lookup(id)
	if err == nil && key.Note == session {
		err = sallyport.Errorf("access key", sallyport.Denied, "", "it needs its session token")
	}
	if err != nil {
		return "", gateway.Access{}, err
	}
	return k.stand(key, secret)
}

func (k s3Keys) LookupSession(id, token string) (string, gateway.Access, error) {
	key, secret, err := k.store.Lookup(id)
	if err == nil && (key.Note != session || !hmac.Equal([]byte(token), []byte(k.token(id)))) {
		err = sallyport.Errorf("access key", sallyport.Denied, "", "the session token is not its own")
	}
	if err != nil {
		return "", gateway.Access{}, err
	}
	return k.stand(key, secret)
}

func (k s3Keys) token(id string) string {
	m := hmac.New(sha256.New, k.mark)
	m.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (k s3Keys) stand(key identity.AccessKey, secret string) (string, gateway.Access, error) {
	who, err := k.people.ByKey(key)
	if err != nil {
		return "", gateway.Access{}, err
	}
	return secret, gateway.Access{Project: key.Project, Purpose: key.Purpose,
		Subject: gateway.Subject{ID: who.ID, Roles: who.Roles, Projects: who.Projects, Credential: who.Credential}}, nil
}

// s3Listener is the open S3 door.
type s3Listener struct {
	*http.Server
	l           net.Listener
	fingerprint string // of a self-signed certificate
}

func (s *s3Listener) Serve() error { return s.Server.Serve(s.l) }

// openS3 opens the S3 door, nil if the configuration names none.
func (w *wiring) openS3(ctx context.Context, people *identity.Directory, log *slog.Logger) (*s3Listener, error) {
	c := w.cfg.S3
	if c.Listen == "" {
		return nil, nil
	}
	mark, err := w.parts.Deriver.Derive(ctx, "s3/session")
	if err != nil {
		return nil, err
	}
	keys := s3Keys{w.access, people, mark}
	door, err := s3door.New(s3door.Parts{Views: s3Views{w.gateway}, Keys: keys, Region: c.Region, Now: w.now, Log: log, Checkpoint: w.gateway.CheckpointLine})
	if err != nil {
		return nil, err
	}
	out := &s3Listener{Server: door.Server()}
	exchange := sts.Parts{People: people, Keys: w.access, Session: session, Token: keys.token, Record: w.gateway, Now: w.now, Log: log, Checkpoint: w.gateway.CheckpointLine}
	if c.Plain {
		host, _, err := net.SplitHostPort(c.Listen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, sallyport.Errorf("s3 door", sallyport.Invalid, "Leave out `plain`, or listen on 127.0.0.1.", "without TLS it listens on loopback addresses only, not on %q", c.Listen)
		}
	}
	if out.l, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, sallyport.E("s3 door", sallyport.Unavailable, err, "Set another address under `s3:`.")
	}
	if !c.Plain {
		t := c.TLS
		if t.Cert == "" && t.Dir == "" {
			t.Dir = w.cfg.State + "/tls"
		}
		t.Cert, t.Key, t.Dir, t.ClientCA = w.cfg.path(t.Cert), w.cfg.path(t.Key), w.cfg.path(t.Dir), w.cfg.path(t.ClientCA)
		shown, err := identity.OpenTLS(t, w.now, log)
		if err != nil {
			out.l.Close()
			return nil, err
		}
		if shown.SelfSigned() {
			out.fingerprint = shown.Fingerprint()
		}
		out.l = tls.NewListener(out.l, shown.Server())
		if t.ClientCA != "" {
			exchange.Certs = shown
		}
	}
	if c.OIDC.Issuer != "" {
		c.OIDC.CA = w.cfg.path(c.OIDC.CA)
		if exchange.Verifier, err = identity.NewVerifier(c.OIDC, w.now); err != nil {
			out.l.Close()
			return nil, err
		}
	}
	if exchange.Verifier != nil || exchange.Certs != nil {
		out.Server.Handler = withExchange(sts.New(exchange), door)
	}
	return out, nil
}

// withExchange answers exchanges of tokens and certificates beside S3.
func withExchange(exchange, door http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sts.Matches(r) {
			exchange.ServeHTTP(w, r)
			return
		}
		door.ServeHTTP(w, r)
	})
}
