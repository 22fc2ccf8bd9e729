package s3door

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A client must move at least minRate bytes a second on average, after a time
// of grace, and never pause for longer than that: it cannot hold a connection
// for nothing.
const (
	grace   = time.Minute
	minRate = 4 << 10
)

// pace gives deadlines to one body or answer. It uses the system's clock, as
// deadlines of connections do.
type pace struct {
	began time.Time
	moved int64
}

func (p *pace) deadline(now time.Time) time.Time {
	earned := p.began.Add(grace + time.Duration(p.moved/minRate)*time.Second)
	if pause := now.Add(grace); pause.Before(earned) {
		return pause
	}
	return earned
}

// A long transfer asks now and then whether its key is still in force.
const (
	watchEvery = 5 * time.Second
	watchBytes = 16 << 20
)

// watch asks again for the key of a request.
type watch struct {
	x     *exchange
	last  time.Time
	bytes int64
}

func (x *exchange) watch() *watch { return &watch{x: x, last: x.now()} }

// moved says that n more bytes were moved, and fails once the key is revoked.
func (k *watch) moved(n int) error {
	k.bytes += int64(n)
	if now := k.x.now(); k.bytes >= watchBytes || now.Sub(k.last) >= watchEvery {
		k.bytes, k.last = 0, now
		return k.check()
	}
	return nil
}

func (k *watch) check() error {
	secret, _, err := k.x.lookup(k.x.grant.accessKey, k.x.grant.token)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(secret), []byte(k.x.grant.secret)) != 1 {
		return newFault(codeInvalidAccessKeyID, "The access key was replaced.")
	}
	return nil
}

// body is the verified body of a request. It ends in io.EOF only if every byte
// came, nothing followed, and all digests, checksums and signatures match.
type body struct {
	in       io.Reader
	chunks   *chunkReader // nil: in is the data
	control  *http.ResponseController
	pace     pace
	watch    *watch
	size     int64 // announced
	left     int64
	checks   []*checksum
	trailing *checksum
	echo     [2]string // checksum header to answer with: name, value
	err      error     // sticky; io.EOF: verified
}

// paced reads the request's body under deadlines.
type paced struct {
	b  *body
	in io.Reader
}

func (p paced) Read(buf []byte) (int, error) {
	// Without deadlines, as under a test's recorder, the pace is not enforced.
	_ = p.b.control.SetReadDeadline(p.b.pace.deadline(time.Now()))
	n, err := p.in.Read(buf)
	p.b.pace.moved += int64(n)
	if err != nil {
		// A deadline that stays would end the request while it is being stored.
		_ = p.b.control.SetReadDeadline(time.Time{})
	}
	var timeout net.Error
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.As(err, &timeout) && timeout.Timeout():
		return n, newFault(codeRequestTimeout, "Your socket connection to the server was not written to within the timeout period.")
	default: // the client is gone, or the framing is broken
		return n, newFault(codeIncompleteBody, "The body ended too early.")
	}
}

// body prepares to read the request's body, of at most most bytes. Nothing is
// read yet.
func (x *exchange) body(most int64) (*body, error) {
	h := x.r.Header
	b := &body{control: http.NewResponseController(x.w), watch: x.watch(), pace: pace{began: time.Now()}}
	chunked := x.grant.payload == signedChunks || x.grant.payload == signedTrailer || x.grant.payload == unsignedTrailer
	decoded := h.Get("X-Amz-Decoded-Content-Length")
	switch {
	case chunked && decoded == "":
		return nil, newFault(codeMissingContentLength, "You must provide the x-amz-decoded-content-length HTTP header.")
	case chunked:
		n, err := strconv.ParseInt(decoded, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != decoded || n < 0 {
			return nil, newFault(codeInvalidArgument, "x-amz-decoded-content-length must be a number of bytes.")
		}
		b.size = n
	case decoded != "":
		return nil, newFault(codeInvalidRequest, "x-amz-decoded-content-length goes only with a payload STREAMING-...")
	case x.r.ContentLength < 0:
		return nil, newFault(codeMissingContentLength, "You must provide the Content-Length HTTP header.")
	default:
		b.size = x.r.ContentLength
	}
	if b.size > most {
		return nil, newFault(codeEntityTooLarge, "Your proposed upload exceeds the maximum allowed size of %d bytes.", most)
	}
	if (x.grant.payload == unsignedPayload || x.grant.payload == unsignedTrailer) && !private(x.r) {
		return nil, newFault(codeInvalidRequest, "An unsigned payload is taken only over TLS or from this machine. Use https, or sign the payload.")
	}
	var err error
	if b.checks, b.trailing, err = wanted(h, x.grant.payload); err != nil {
		return nil, err
	}
	if sdk := h.Get("X-Amz-Sdk-Checksum-Algorithm"); sdk != "" && newChecksum(strings.ToLower(sdk)) == nil {
		return nil, newFault(codeInvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	b.left = b.size
	b.in = paced{b, x.r.Body}
	if chunked {
		var c *chain
		if x.grant.payload != unsignedTrailer {
			c = &x.grant.chain
		}
		var names []string
		if b.trailing != nil {
			names = []string{b.trailing.name}
		}
		b.chunks = newChunkReader(b.in, c, names)
		b.in = b.chunks
	}
	return b, nil
}

// private reports whether nobody between could change an unsigned body: TLS,
// or both ends on this machine.
func private(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	// One byte more than is due shows that too much came.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.in.Read(p)
	if int64(n) > b.left {
		b.err = newFault(codeInvalidRequest, "The body is longer than it was announced to be.")
		return 0, b.err
	}
	b.left -= int64(n)
	for _, c := range b.checks {
		c.Write(p[:n])
	}
	if b.trailing != nil {
		b.trailing.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		if b.err = b.finish(); b.err == nil {
			b.err = io.EOF
		}
	case err != nil:
		b.err = err
	default:
		b.err = b.watch.moved(n)
	}
	return n, b.err
}

// finish verifies the whole.
func (b *body) finish() error {
	if b.left > 0 {
		return newFault(codeIncompleteBody, "You did not provide the number of bytes specified by the Content-Length HTTP header.")
	}
	if b.trailing != nil {
		value := b.chunks.trailers[b.trailing.name]
		sum, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(sum) != b.trailing.Size() {
			return newFault(codeInvalidRequest, "Value for %s trailing header is invalid.", b.trailing.name)
		}
		b.trailing.want = sum
		b.checks = append(b.checks, b.trailing)
	}
	for _, c := range b.checks {
		if !c.matches() {
			return newFault(c.code, "The %s you specified did not match what we received.", c.name)
		}
		if c.name != "Content-MD5" && c.name != "x-amz-content-sha256" {
			b.echo = [2]string{c.name, base64.StdEncoding.EncodeToString(c.want)}
		}
	}
	return b.watch.check()
}

// drained returns what became of an upload whose storing ended with err. What
// the body says comes first: it is the cause. A view that did not read to the
// end cannot have verified anything.
func (b *body) drained(err error) error {
	switch {
	case b.err != nil && b.err != io.EOF:
		return b.err
	case err == nil && b.err != io.EOF:
		return errors.New("s3 door: an upload was stored without reading it to its end")
	}
	return err
}

// empty says whether a request that must have no body has none.
func (x *exchange) empty() error {
	switch {
	case x.r.ContentLength != 0:
		return newFault(codeInvalidRequest, "This request cannot have a body.")
	case x.grant.payload == unsignedPayload, x.grant.payload == emptySHA256:
		return nil
	}
	return newFault(codeXAmzContentSHA256Invalid, "The provided x-amz-content-sha256 header does not match what was computed: the request has no body.")
}
