// Package sts exchanges what proves a person for an access key of the S3 door,
// so that the credential chains of existing clients work unchanged: an OpenID
// Connect token, as AWS's AssumeRoleWithWebIdentity does, or a client
// certificate, as MinIO's AssumeRoleWithCertificate does.
package sts

import (
	"context"
	"encoding/xml"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/identity"
)

// Recorder writes the audit record of an exchange.
type Recorder interface {
	RecordAccess(ctx context.Context, who, project, purpose, step, key string) error
	RecordUnproved(ctx context.Context, claimed, dataset, code string) error
}

// Parts are what a door is made of.
type Parts struct {
	Verifier *identity.Verifier // nil: no tokens
	Certs    *identity.TLS      // nil: no certificates
	People   *identity.Directory
	Keys     *identity.KeyStore
	Session  string                    // note that marks keys which need their session token
	Token    func(keyID string) string // the session token of a key
	Record   Recorder
	Now      func() time.Time
	Log      *slog.Logger
	// Checkpoint returns the value of [gateway.CheckpointHeader], which every
	// answer then carries; nil: none does.
	Checkpoint func() string
}

// Door answers AssumeRoleWithWebIdentity and AssumeRoleWithCertificate, and
// nothing else. The role's ARN names what the key is for: anything that ends in
// role/PROJECT/PURPOSE.
type Door struct{ p Parts }

// New returns a door.
func New(p Parts) *Door { return &Door{p} }

// maxForm bounds a request: a token of 16 KiB and a few words.
const maxForm = 32 << 10

// Matches reports whether a request is for this door rather than for S3: a form
// posted to the root, which no S3 operation is.
func Matches(r *http.Request) bool {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return r.Method == http.MethodPost && r.URL.Path == "/" && r.URL.RawQuery == "" && t == "application/x-www-form-urlencoded"
}

type credentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

// granted is what every answer holds.
type granted struct {
	Credentials     credentials
	SubjectFromWeb  string `xml:"SubjectFromWebIdentityToken,omitempty"`
	AssumedRoleUser struct {
		Arn           string
		AssumedRoleID string `xml:"AssumedRoleId"`
	}
}

type byToken struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Result  granted  `xml:"AssumeRoleWithWebIdentityResult"`
}

type byCertificate struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithCertificateResponse"`
	Result  granted  `xml:"AssumeRoleWithCertificateResult"`
}

type failure struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Error   struct {
		Type, Code, Message string
	}
}

// ServeHTTP answers one exchange.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		d.fail(w, r, http.StatusBadRequest, "MalformedInput", sallyport.E("sts", sallyport.Invalid, err, ""))
		return
	}
	prove := map[string]func(*http.Request) (proof, error){"AssumeRoleWithWebIdentity": d.byToken, "AssumeRoleWithCertificate": d.byCertificate}[r.PostForm.Get("Action")]
	if prove == nil {
		d.fail(w, r, http.StatusBadRequest, "InvalidAction", sallyport.Errorf("sts", sallyport.Unsupported, "", "this door answers AssumeRoleWithWebIdentity and AssumeRoleWithCertificate only"))
		return
	}
	res, err := d.exchange(r, prove)
	if err != nil {
		code, status := "AccessDenied", http.StatusForbidden
		switch sallyport.KindOf(err) {
		case sallyport.Invalid:
			code, status = "ValidationError", http.StatusBadRequest
		case sallyport.Unavailable:
			code, status = "IDPCommunicationError", http.StatusBadRequest
		case sallyport.Internal, sallyport.Exhausted:
			code, status = "InternalFailure", http.StatusInternalServerError
		}
		d.fail(w, r, status, code, err)
		return
	}
	d.show(w)
	w.Header().Set("Content-Type", "text/xml")
	_ = xml.NewEncoder(w).Encode(res)
}

// proof is who asks, and until when what proves it holds.
type proof struct {
	who     identity.Caller
	subject string // of the token
	until   time.Time
}

func (d *Door) byToken(r *http.Request) (proof, error) {
	if d.p.Verifier == nil {
		return proof{}, sallyport.Errorf("sts", sallyport.Denied, "Set `oidc:` under `s3:`.", "tokens are not exchanged here")
	}
	tok, err := d.p.Verifier.Verify(r.Context(), r.PostForm.Get("WebIdentityToken"))
	if err != nil {
		return proof{}, err
	}
	who, err := d.p.People.ByToken(tok)
	return proof{who, tok.Subject, tok.Until}, err
}

func (d *Door) byCertificate(r *http.Request) (proof, error) {
	if d.p.Certs == nil {
		return proof{}, sallyport.Errorf("sts", sallyport.Denied, "Set `tls: {client_ca: FILE}` under `s3:`.", "certificates are not exchanged here")
	}
	c, ok, err := d.p.Certs.Client(r.TLS)
	if err == nil && !ok {
		err = sallyport.Errorf("sts", sallyport.Denied, "Send a client certificate.", "the connection has no client certificate")
	}
	if err != nil {
		return proof{}, err
	}
	who, err := d.p.People.ByCertificate(c)
	return proof{who, "", c.Until}, err
}

func (d *Door) exchange(r *http.Request, prove func(*http.Request) (proof, error)) (any, error) {
	arn := r.PostForm.Get("RoleArn")
	_, role, ok := strings.Cut(arn, "role/")
	project, purpose, ok2 := strings.Cut(role, "/")
	if !ok || !ok2 || project == "" || purpose == "" || strings.Contains(purpose, "/") {
		return nil, sallyport.Errorf("sts", sallyport.Invalid, "", "RoleArn must end in role/PROJECT/PURPOSE")
	}
	ttl := time.Hour
	if s := r.PostForm.Get("DurationSeconds"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 900 || n > 43200 { // AWS's own bounds
			return nil, sallyport.Errorf("sts", sallyport.Invalid, "", "DurationSeconds is 900 to 43200")
		}
		ttl = time.Duration(n) * time.Second
	}
	p, err := prove(r)
	if err != nil {
		return nil, err
	}
	who := p.who
	if !slices.Contains(who.Projects, project) {
		return nil, sallyport.Errorf("sts", sallyport.Denied, "", "%s is not a member of project %q", who.ID, project)
	}
	if left := p.until.Sub(d.p.Now()); left < ttl { // a key does not outlive what it was given for
		ttl = left
	}
	k, secret, err := d.p.Keys.New(r.Context(), who.ID, project, purpose, ttl)
	if err != nil {
		return nil, err
	}
	if err := d.p.Keys.Annotate(r.Context(), k.ID, d.p.Session); err != nil {
		return nil, err
	}
	if err := d.p.Record.RecordAccess(r.Context(), who.ID, project, purpose, "issue access key", k.ID+" for "+who.Credential); err != nil {
		return nil, err
	}
	g := granted{Credentials: credentials{k.ID, secret, d.p.Token(k.ID), k.Until.UTC().Format(time.RFC3339)}, SubjectFromWeb: p.subject}
	g.AssumedRoleUser.Arn, g.AssumedRoleUser.AssumedRoleID = arn, k.ID
	if p.subject == "" {
		return &byCertificate{Result: g}, nil
	}
	return &byToken{Result: g}, nil
}

func (d *Door) fail(w http.ResponseWriter, r *http.Request, status int, code string, err error) {
	if rec := d.p.Record.RecordUnproved(r.Context(), "sts", "", "sts: "+code); rec != nil {
		status, code, err = http.StatusServiceUnavailable, "ServiceUnavailable", rec
	}
	d.p.Log.Info("token exchange refused", "code", code, "reason", identity.Reason(err))
	var f failure
	f.Error.Type, f.Error.Code, f.Error.Message = "Sender", code, err.Error()
	d.show(w)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(f)
}

// show sets the checkpoint header when an answer begins.
func (d *Door) show(w http.ResponseWriter) {
	if d.p.Checkpoint != nil {
		w.Header().Set(gateway.CheckpointHeader, d.p.Checkpoint())
	}
}
