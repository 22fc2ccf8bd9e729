package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"

	"sallyport"
)

// verdict is what an S3 error code means here.
type verdict struct {
	kind sallyport.Kind
	hint string
}

// byCode are the codes whose meaning the HTTP status does not tell. Where no
// other source is named they are of the S3 API reference, "Error responses".
var byCode = map[string]verdict{
	"NoSuchKey":     {sallyport.NotFound, ""},
	"NoSuchVersion": {sallyport.NotFound, ""},
	"InvalidRange":  {sallyport.Conflict, "The object was replaced; open it again."},
	// Not NotFound: that would say of every object that it does not exist.
	"NoSuchBucket": {sallyport.Unavailable, "Create the bucket, or correct `bucket`."},

	"InvalidAccessKeyId":    {sallyport.Denied, "The server does not know the access key: check credentials_file or the environment."},
	"SignatureDoesNotMatch": {sallyport.Denied, "The secret key does not belong to the access key: check credentials_file or the environment."},
	"RequestTimeTooSkewed":  {sallyport.Denied, "Set this machine's clock: it differs from the server's by more than 15 minutes."},
	"ExpiredToken":          {sallyport.Denied, "The temporary credentials have ended: renew them."},
	"XAdminUserNotFound":    {sallyport.Denied, "The server does not know the access key: check credentials_file or the environment."}, // versitygw
	"InvalidToken":          {sallyport.Denied, "The session token is not valid: renew the credentials."},

	"QuotaExceeded":                  {sallyport.Exhausted, roomHint}, // versitygw
	"ServiceQuotaExceeded":           {sallyport.Exhausted, roomHint},
	"XMinioAdminBucketQuotaExceeded": {sallyport.Exhausted, roomHint}, // MinIO
	"XMinioStorageFull":              {sallyport.Exhausted, roomHint}, // MinIO
	"InsufficientCapacity":           {sallyport.Exhausted, roomHint},
	"EntityTooLarge":                 {sallyport.Exhausted, "The server takes no object, or no part, of this size."},

	"BadDigest":                   {sallyport.Damaged, damageHint},
	"InvalidDigest":               {sallyport.Damaged, damageHint},
	"XAmzContentSHA256Mismatch":   {sallyport.Damaged, damageHint},
	"XAmzContentChecksumMismatch": {sallyport.Damaged, damageHint},
	"IncompleteBody":              {sallyport.Unavailable, ""},

	"NoSuchUpload":                 {sallyport.Conflict, "Somebody else aborted the upload; put the object again."},
	"AuthorizationHeaderMalformed": {sallyport.Invalid, regionHint},
	"InvalidRegion":                {sallyport.Invalid, regionHint},
	"SlowDown":                     {sallyport.Unavailable, "The server asks for fewer requests."},
}

const (
	roomHint   = "Make room in the bucket or raise its quota."
	damageHint = "Bytes changed on their way to the server: look at the network between, then try again."
	regionHint = "Set `region` and `endpoint` to where the bucket is."
	deniedHint = "Allow the credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, as far as the store needs them."
)

func byStatus(status int) verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return verdict{sallyport.Denied, deniedHint}
	case http.StatusNotFound: // but not of an object, see byCode
		return verdict{sallyport.Unavailable, "Check that `endpoint` is an S3 server and not something else."}
	case http.StatusConflict:
		return verdict{sallyport.Conflict, "Another key or another writer is in the way."}
	case http.StatusPreconditionFailed:
		return verdict{sallyport.Conflict, "The object was replaced; open it again."}
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return verdict{sallyport.Unavailable, ""}
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return verdict{sallyport.Exhausted, roomHint}
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return verdict{sallyport.Unsupported, "The server cannot do this: use another, or change the store's configuration."}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return verdict{sallyport.Invalid, regionHint}
	}
	if status >= 400 && status < 500 {
		return verdict{sallyport.Invalid, ""}
	}
	return verdict{sallyport.Unavailable, ""}
}

// fault says in our words what went wrong. Of what the server sent only the
// status and the code's letters are repeated: a message may echo the request,
// and with it a session token.
func (s *Store) fault(ctx context.Context, op string, err error) *sallyport.Error {
	if e, ok := errors.AsType[*sallyport.Error](err); ok { // of the credentials
		return sallyport.E(op, e.Kind, e, "")
	}
	if ctx.Err() != nil {
		return sallyport.E(op, sallyport.Canceled, ctx.Err(), "")
	}
	if e, ok := errors.AsType[minio.ErrorResponse](err); ok {
		code := letters(e.Code)
		v, known := byCode[code]
		if !known || code == "NoSuchKey" && e.XMLName.Local == "" {
			// minio-go makes NoSuchKey of any page with status 404, also of a
			// web server's: only S3's own word says that an object is absent.
			v = byStatus(e.StatusCode)
		}
		cause := fmt.Errorf("store %q: the server answers %d %s", s.name, e.StatusCode, code)
		return sallyport.E(op, v.kind, cause, v.hint)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the URL has the key and says nothing new
	}
	hint := "Check that the S3 server runs and that `endpoint` and `secure` are right."
	cause := fmt.Errorf("store %q: %s does not answer: %w", s.name, s.endpoint, err)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		hint = "Set ca_file to the authority that signed the server's certificate, and `endpoint` to a name in it."
	} else if strings.HasPrefix(err.Error(), "Connection closed by foreign host") { // of minio-go, with the URL
		cause = fmt.Errorf("store %q: %s closes the connection", s.name, s.endpoint)
	}
	return sallyport.E(op, sallyport.Unavailable, cause, hint)
}

func letters(code string) string {
	if len(code) > 64 {
		return ""
	}
	for _, c := range code {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return ""
		}
	}
	return code
}
