package s3door

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// Signature Version 4 as S3 uses it. Source: Amazon S3 API Reference,
// "Authenticating Requests: Using the Authorization Header" and "... Using
// Query Parameters".
const (
	algorithm   = "AWS4-HMAC-SHA256"
	amzTime     = "20060102T150405Z"
	maxSkew     = 15 * time.Minute
	maxPresign  = 7 * 24 * time.Hour
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// What x-amz-content-sha256 may say in place of a digest.
const (
	unsignedPayload  = "UNSIGNED-PAYLOAD"
	signedChunks     = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	maxAuthorization = 4 << 10 // bytes of the header
	maxSignedHeaders = 64
)

// grant is a verified request: who asks, and what the body must match.
type grant struct {
	accessKey string // set as soon as it is known, even if nothing is proved yet
	token     string // session token, if any
	secret    string
	who       gateway.Access
	presigned bool
	payload   string // of x-amz-content-sha256
	chain     chain  // for signed chunks
}

// claim is what a request says of its own signature.
type claim struct {
	accessKey string
	date      string // of the scope: 20130524
	region    string
	service   string
	headers   []string // signed, sorted
	signature []byte   // 32 bytes
}

// scope is the credential scope.
func (c claim) scope() string {
	return c.date + "/" + c.region + "/" + c.service + "/aws4_request"
}

// parseAuthorization reads an Authorization header.
func parseAuthorization(header string) (claim, error) {
	malformed := func(what string) (claim, error) {
		return claim{}, newFault(codeAuthHeaderMalformed, "The authorization header is malformed: %s.", what)
	}
	if len(header) > maxAuthorization {
		return malformed("it is too long")
	}
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return claim{}, newFault(codeInvalidRequest, "The authorization mechanism you have provided is not supported. Please use %s.", algorithm)
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(field, " "), "=")
		if !ok || value == "" || fields[name] != "" {
			return malformed("a field is empty or comes twice")
		}
		switch name {
		case "Credential", "SignedHeaders", "Signature":
			fields[name] = value
		default:
			return malformed("it has an unknown field")
		}
	}
	c, what := newClaim(fields["Credential"], fields["SignedHeaders"], fields["Signature"])
	if what != "" {
		return malformed(what)
	}
	return c, nil
}

// newClaim checks the three parts of a claim; what says what is wrong.
func newClaim(credential, headers, signature string) (c claim, what string) {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return c, "the credential must be KEY/DATE/REGION/s3/aws4_request"
	}
	c.accessKey, c.date, c.region, c.service = parts[0], parts[1], parts[2], parts[3]
	if !validAccessKey(c.accessKey) {
		return claim{}, "the access key has a strange form"
	}
	if day, err := time.Parse("20060102", c.date); err != nil || day.Format("20060102") != c.date {
		return claim{}, "the credential's date must be YYYYMMDD"
	}
	if c.service != "s3" || parts[4] != "aws4_request" || c.region == "" {
		return claim{}, "the credential's scope must be DATE/REGION/s3/aws4_request"
	}
	c.headers = strings.Split(headers, ";")
	if len(c.headers) > maxSignedHeaders {
		return claim{}, "too many signed headers"
	}
	for i, h := range c.headers {
		if h == "" || strings.ToLower(h) != h || strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || i > 0 && c.headers[i-1] >= h {
			return claim{}, "the signed headers must be lower case, sorted, each once"
		}
	}
	sig, err := hex.DecodeString(signature)
	if err != nil || len(sig) != sha256.Size || strings.ToLower(signature) != signature {
		return claim{}, "the signature must be 64 lower-case hexadecimal digits"
	}
	c.signature = sig
	return c, ""
}

func validAccessKey(s string) bool {
	if len(s) < 3 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !unreserved(c) {
			return false
		}
	}
	return true
}

// authenticate verifies the signature of a request. The grant it returns with
// an error holds the access key, if one was claimed.
func (d *Door) authenticate(r *http.Request, t *target) (grant, error) {
	var g grant
	for _, h := range []string{"Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer", "Date", "Content-Md5", "Range"} {
		if len(r.Header[h]) > 1 {
			return g, newFault(codeInvalidRequest, "The header %s may come only once.", h)
		}
	}
	inHeader, inQuery := len(r.Header["Authorization"]) > 0, t.query.has("X-Amz-Signature") || t.query.has("X-Amz-Algorithm")
	var c claim
	var stamp string
	var life time.Duration // 0: signed in the header
	var err error
	switch {
	case inHeader && inQuery:
		return g, newFault(codeInvalidArgument, "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header.")
	case t.query.has("AWSAccessKeyId") || t.query.has("Signature"):
		return g, newFault(codeInvalidRequest, "The authorization mechanism you have provided is not supported. Please use %s (signature version 4).", algorithm)
	case inQuery:
		c, life, err = parsePresigned(t.query)
		stamp, g.presigned = t.query["X-Amz-Date"], true
		g.token = t.query["X-Amz-Security-Token"]
		g.payload = first(t.query["X-Amz-Content-Sha256"], r.Header.Get("X-Amz-Content-Sha256"), unsignedPayload)
	case inHeader:
		c, err = parseAuthorization(r.Header.Get("Authorization"))
		stamp = r.Header.Get("X-Amz-Date")
		g.token = r.Header.Get("X-Amz-Security-Token")
		g.payload = r.Header.Get("X-Amz-Content-Sha256")
		if err == nil && g.payload == "" {
			err = newFault(codeInvalidRequest, "Missing required header for this request: x-amz-content-sha256")
		}
	default:
		return g, newFault(codeAccessDenied, "Every request must be signed; there is no anonymous access. Use an access key of the gateway's.")
	}
	g.accessKey = c.accessKey
	if err != nil {
		return g, err
	}
	if err := d.checkRegion(c.region); err != nil {
		return g, err
	}
	when, err := d.checkTime(r, &c, stamp, life)
	if err != nil {
		return g, err
	}
	if err := checkPayloadName(g); err != nil {
		return g, err
	}
	headers, err := canonicalHeaders(r, c.headers)
	if err != nil {
		return g, err
	}
	if g.secret, g.who, err = d.lookup(g.accessKey, g.token); err != nil {
		return g, err
	}
	request := strings.Join([]string{r.Method, escape(t.path, true), t.query.canonical(), headers,
		strings.Join(c.headers, ";"), g.payload}, "\n")
	sum := sha256.Sum256([]byte(request))
	key := signingKey(g.secret, c.date, c.region)
	text := algorithm + "\n" + when.Format(amzTime) + "\n" + c.scope() + "\n" + hex.EncodeToString(sum[:])
	if !hmac.Equal(sign(key, text), c.signature) {
		g.secret, g.who = "", gateway.Access{}
		return g, newFault(codeSignatureDoesNotMatch, "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	}
	g.chain = chain{key: key, previous: hex.EncodeToString(c.signature), scope: c.scope(), time: when.Format(amzTime)}
	return g, nil
}

// parsePresigned reads the claim of a presigned URL.
func parsePresigned(q query) (claim, time.Duration, error) {
	malformed := func(what string) (claim, time.Duration, error) {
		return claim{}, 0, newFault(codeAuthQueryError, "The query's signature is malformed: %s.", what)
	}
	if q["X-Amz-Algorithm"] != algorithm {
		return malformed("X-Amz-Algorithm must be " + algorithm)
	}
	for _, name := range []string{"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		if q[name] == "" {
			return malformed(name + " is missing")
		}
	}
	s := q["X-Amz-Expires"]
	seconds, err := strconv.ParseInt(s, 10, 32)
	if err != nil || strconv.FormatInt(seconds, 10) != s {
		return malformed("X-Amz-Expires must be a number of seconds")
	}
	if seconds < 1 || seconds > int64(maxPresign/time.Second) {
		return malformed("X-Amz-Expires must be 1 to 604800 seconds")
	}
	c, what := newClaim(q["X-Amz-Credential"], q["X-Amz-SignedHeaders"], q["X-Amz-Signature"])
	if what != "" {
		return malformed(what)
	}
	return c, time.Duration(seconds) * time.Second, nil
}

func (d *Door) checkRegion(region string) error {
	if region == d.region {
		return nil
	}
	f := newFault(codeAuthHeaderMalformed, "The region %q is wrong; expecting %q.", clip(region), d.region)
	f.region = d.region
	return f
}

// checkTime returns when the request was signed, if that is near enough.
func (d *Door) checkTime(r *http.Request, c *claim, stamp string, life time.Duration) (time.Time, error) {
	var when time.Time
	var err error
	if stamp == "" { // only in the header's case: S3 falls back on Date
		if !slices.Contains(c.headers, "date") {
			return when, newFault(codeAccessDenied, "AWS authentication requires a valid Date or x-amz-date header that is signed.")
		}
		if when, err = http.ParseTime(r.Header.Get("Date")); err != nil {
			when, err = time.Parse(amzTime, r.Header.Get("Date"))
		}
	} else {
		when, err = time.Parse(amzTime, stamp)
	}
	if err != nil {
		return when, newFault(codeAccessDenied, "AWS authentication requires a valid Date or x-amz-date.")
	}
	when = when.UTC()
	if when.Format("20060102") != c.date {
		return when, newFault(codeAuthHeaderMalformed, "The credential's date is not that of x-amz-date.")
	}
	now := d.now()
	switch {
	case life == 0 && (now.Sub(when) > maxSkew || when.Sub(now) > maxSkew):
		return when, newFault(codeRequestTimeTooSkewed, "The difference between the request time and the current time is too large: the clocks may be %d minutes apart.", int(maxSkew/time.Minute))
	case life > 0 && when.Sub(now) > maxSkew:
		return when, newFault(codeAccessDenied, "Request is not yet valid.")
	case life > 0 && now.After(when.Add(life)):
		return when, newFault(codeAccessDenied, "Request has expired.")
	}
	return when, nil
}

// checkPayloadName says whether x-amz-content-sha256 has a value we verify.
func checkPayloadName(g grant) error {
	switch g.payload {
	case unsignedPayload:
		return nil
	case signedChunks, signedTrailer, unsignedTrailer:
		if g.presigned {
			return newFault(codeInvalidRequest, "A presigned request cannot have the payload %s.", g.payload)
		}
		return nil
	}
	if strings.HasPrefix(g.payload, "STREAMING-") {
		return newFault(codeNotImplemented, "The payload %q is not supported.", clip(g.payload))
	}
	if sum, err := hex.DecodeString(g.payload); err != nil || len(sum) != sha256.Size || strings.ToLower(g.payload) != g.payload {
		return newFault(codeInvalidArgument, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-..., or a SHA-256 in hexadecimal.")
	}
	return nil
}

// canonicalHeaders is the canonical headers block of the signed headers. Every
// x-amz- header must be signed: it changes what the request does.
func canonicalHeaders(r *http.Request, signed []string) (string, error) {
	if !slices.Contains(signed, "host") {
		return "", newFault(codeAccessDenied, "The header host must be signed.")
	}
	for name := range r.Header {
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz-") && !slices.Contains(signed, l) {
			return "", newFault(codeAccessDenied, "There were headers present in the request which were not signed: %s", clip(l))
		}
	}
	var b strings.Builder
	for _, name := range signed {
		values := r.Header[http.CanonicalHeaderKey(name)]
		if len(values) == 0 {
			// Go's server keeps these elsewhere.
			switch name {
			case "host":
				values = []string{r.Host}
			case "content-length":
				values = []string{strconv.FormatInt(max(r.ContentLength, 0), 10)}
			case "transfer-encoding":
				values = r.TransferEncoding
			case "expect":
				values = []string{"100-continue"}
			default:
				return "", newFault(codeSignatureDoesNotMatch, "The signed header %s is missing.", clip(name))
			}
		}
		b.WriteString(name)
		b.WriteByte(':')
		for i, v := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.Join(strings.Fields(v), " "))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// lookup finds a key. Whatever the reason that it is not good, the answer is
// the same.
func (d *Door) lookup(accessKey, token string) (secret string, who gateway.Access, err error) {
	switch {
	case token == "":
		secret, who, err = d.keys.Lookup(accessKey)
	case d.sessions != nil:
		secret, who, err = d.sessions.LookupSession(accessKey, token)
	default:
		return "", who, newFault(codeInvalidToken, "Session tokens are not in use here.")
	}
	if err == nil && secret == "" {
		err = sallyport.Errorf("look up access key", sallyport.Denied, "", "it has no secret")
	}
	if err == nil {
		return secret, who, nil
	}
	switch sallyport.KindOf(err) {
	case sallyport.NotFound, sallyport.Denied:
		return "", gateway.Access{}, newFault(codeInvalidAccessKeyID, "The access key is not in force: unknown, expired or revoked. Make a new one: sallyport key new.")
	}
	return "", gateway.Access{}, err
}

// signingKey derives the key of one day, region and service.
func signingKey(secret, date, region string) []byte {
	return sign(sign(sign(sign([]byte("AWS4"+secret), date), region), "s3"), "aws4_request")
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// first returns the first that is not empty.
func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}
