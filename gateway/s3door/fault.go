package s3door

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport"
)

// S3's own error codes. Source: Amazon S3 API Reference, "Error responses",
// "List of error codes".
const (
	codeAccessDenied             = "AccessDenied"
	codeACLNotSupported          = "AccessControlListNotSupported"
	codeAuthHeaderMalformed      = "AuthorizationHeaderMalformed"
	codeAuthQueryError           = "AuthorizationQueryParametersError"
	codeBadDigest                = "BadDigest"
	codeEntityTooLarge           = "EntityTooLarge"
	codeEntityTooSmall           = "EntityTooSmall"
	codeIncompleteBody           = "IncompleteBody"
	codeInternalError            = "InternalError"
	codeInvalidAccessKeyID       = "InvalidAccessKeyId"
	codeInvalidArgument          = "InvalidArgument"
	codeInvalidBucketName        = "InvalidBucketName"
	codeInvalidDigest            = "InvalidDigest"
	codeInvalidPart              = "InvalidPart"
	codeInvalidPartOrder         = "InvalidPartOrder"
	codeInvalidRange             = "InvalidRange"
	codeInvalidRequest           = "InvalidRequest"
	codeInvalidStorageClass      = "InvalidStorageClass"
	codeInvalidToken             = "InvalidToken"
	codeInvalidURI               = "InvalidURI"
	codeKeyTooLong               = "KeyTooLongError"
	codeMalformedTrailer         = "MalformedTrailerError"
	codeMalformedXML             = "MalformedXML"
	codeMissingContentLength     = "MissingContentLength"
	codeNoSuchBucket             = "NoSuchBucket"
	codeNoSuchKey                = "NoSuchKey"
	codeNoSuchUpload             = "NoSuchUpload"
	codeNotImplemented           = "NotImplemented"
	codeOperationAborted         = "OperationAborted"
	codePreconditionFailed       = "PreconditionFailed"
	codeRequestTimeout           = "RequestTimeout"
	codeRequestTimeTooSkewed     = "RequestTimeTooSkewed"
	codeServiceUnavailable       = "ServiceUnavailable"
	codeSignatureDoesNotMatch    = "SignatureDoesNotMatch"
	codeXAmzContentSHA256Invalid = "XAmzContentSHA256Mismatch"

	// codeNotModified has no body and is no code of S3's list.
	codeNotModified = "NotModified"
)

// statusOf returns the HTTP status that S3 gives with a code; 400 is the rule.
func statusOf(code string) int {
	switch code {
	case codeNotModified:
		return http.StatusNotModified
	case codeAccessDenied, codeInvalidAccessKeyID, codeRequestTimeTooSkewed, codeSignatureDoesNotMatch:
		return http.StatusForbidden
	case codeNoSuchBucket, codeNoSuchKey, codeNoSuchUpload:
		return http.StatusNotFound
	case codeOperationAborted:
		return http.StatusConflict
	case codeMissingContentLength:
		return http.StatusLengthRequired
	case codePreconditionFailed:
		return http.StatusPreconditionFailed
	case codeInvalidRange:
		return http.StatusRequestedRangeNotSatisfiable
	case codeInternalError:
		return http.StatusInternalServerError
	case codeNotImplemented:
		return http.StatusNotImplemented
	case codeServiceUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// codeOf is this door's table from kinds to S3. missing is the code for what
// was not found: a bucket, a key or an upload. tell says whether the error's
// own words may be told to the caller; the other kinds' words are about the
// inside of the gateway.
func codeOf(k sallyport.Kind, missing string) (code string, tell bool) {
	switch k {
	case sallyport.Denied:
		return codeAccessDenied, true
	case sallyport.Invalid:
		return codeInvalidRequest, true
	case sallyport.NotFound:
		return missing, true
	case sallyport.Conflict:
		return codeOperationAborted, true
	case sallyport.Unsupported:
		return codeNotImplemented, true
	case sallyport.Unavailable, sallyport.Exhausted:
		return codeServiceUnavailable, false
	case sallyport.Canceled:
		return codeRequestTimeout, false
	case sallyport.Damaged, sallyport.Internal:
		return codeInternalError, false
	}
	return codeInternalError, false
}

// fault is an error that has its S3 code already.
type fault struct {
	code    string
	message string
	region  string // for AuthorizationHeaderMalformed
	size    int64  // for InvalidRange: of the object
	asked   string // for InvalidRange: the header
}

func newFault(code, format string, args ...any) *fault {
	return &fault{code: code, message: fmt.Sprintf(format, args...)}
}

func (f *fault) Error() string { return f.code + ": " + f.message }

// errorBody is the XML of an error answer.
type errorBody struct {
	XMLName          xml.Name `xml:"Error"`
	Code             string
	Message          string
	Resource         string `xml:",omitempty"`
	Region           string `xml:",omitempty"`
	RangeRequested   string `xml:",omitempty"`
	ActualObjectSize *int64 `xml:",omitempty"`
	RequestID        string `xml:"RequestId"`
}

// missing is the code for what this request would not find.
func (x *exchange) missing() string {
	switch {
	case x.target.query.has("uploadId"):
		return codeNoSuchUpload
	case x.target.key != "":
		return codeNoSuchKey
	}
	return codeNoSuchBucket
}

// faultOf gives any error its S3 code.
func (x *exchange) faultOf(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	kind := sallyport.KindOf(err)
	if x.r.Context().Err() != nil {
		kind = sallyport.Canceled
	}
	code, tell := codeOf(kind, x.missing())
	text := "The gateway could not answer; its log has the reason under request " + x.id + "."
	if tell {
		text = err.Error()
	}
	if hint := sallyport.HintOf(err); hint != "" {
		text += " " + hint
	}
	return newFault(code, "%s", clip(text))
}

// patience is how long a refused body is listened to, so that a client that
// sends before it reads sees the answer.
const patience = 5 * time.Second

// fail answers with an error.
func (x *exchange) fail(err error) {
	f := x.faultOf(err)
	if statusOf(f.code) >= 500 {
		x.log.Warn("s3 request failed", "operation", x.op, "bucket", x.target.bucket, "request", x.id, "error", err)
	}
	// A key or upload may be missing because its bucket is.
	if f.code == codeNoSuchKey || f.code == codeNoSuchUpload {
		if ok, err := x.hasBucket(); err == nil && !ok {
			f = newFault(codeNoSuchBucket, "There is no dataset %q that this key may use.", x.target.bucket)
		}
	}
	if x.r.ContentLength != 0 {
		// The server reads some of what is left of the body before it goes on.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(x.patience))
	}
	h := x.w.Header()
	for _, name := range []string{"Content-Length", "Content-Range", "Content-Type", "Content-Disposition", "Content-Encoding", "Cache-Control", "Expires"} {
		h.Del(name)
	}
	if f.code == codeInvalidRange {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(f.size, 10))
	}
	if f.code == codeServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	status := statusOf(f.code)
	if status == http.StatusNotModified || x.r.Method == http.MethodHead {
		x.header(status)
		return
	}
	body := errorBody{Code: f.code, Message: f.message, Resource: clip(x.target.path), Region: f.region, RequestID: x.id}
	if f.code == codeInvalidRange {
		body.ActualObjectSize, body.RangeRequested = &f.size, clip(f.asked)
	}
	x.xml(status, body)
}

// xml answers with v as XML.
func (x *exchange) xml(status int, v any) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(v); err != nil {
		x.log.Error("s3 answer not encoded", "request", x.id, "error", err)
		x.header(http.StatusInternalServerError)
		return
	}
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(grace))
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	x.header(status)
	_, _ = x.w.Write(b.Bytes()) // the client is gone: nobody to tell
}

// clip keeps a text for people within 2 KiB.
func clip(s string) string {
	const most = 2 << 10
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s[len(s)-1:]) && !utf8.RuneStart(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return strings.ToValidUTF8(s, "") + "…"
}
