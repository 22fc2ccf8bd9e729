package s3door

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// getObject answers GET and HEAD of an object.
func (x *exchange) getObject() error {
	if err := x.empty(); err != nil {
		return err
	}
	overrides, err := x.overrides()
	if err != nil {
		return err
	}
	if isFolder(x.target.key) {
		return newFault(codeNoSuchKey, "The specified key does not exist.")
	}
	ctx := x.r.Context()
	obj, err := x.views.Open(ctx, x.grant.who, x.target.bucket, x.target.key)
	if err != nil {
		return err
	}
	defer obj.Close()
	info := obj.Info()

	h := x.w.Header()
	h.Set("ETag", quote(info.ETag))
	h.Set("Last-Modified", httpTime(info.Modified))
	if code := precondition(x.r.Header, info); code != "" {
		if code == codeNotModified {
			return newFault(code, "")
		}
		h.Del("ETag")
		h.Del("Last-Modified")
		return newFault(code, "At least one of the preconditions you specified did not hold.")
	}
	start, length, partial := int64(0), info.Size, false
	if rng := x.r.Header.Get("Range"); rng != "" && ifRange(x.r.Header.Get("If-Range"), info) {
		r, ok := parseRange(rng)
		if ok {
			if start, length, partial = r.of(info.Size); !partial {
				f := newFault(codeInvalidRange, "The requested range is not satisfiable")
				f.size, f.asked = info.Size, rng
				return f
			}
		}
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", contentType(info.Key, x.target.key))
	h.Set("X-Content-Type-Options", "nosniff")
	for name, value := range overrides {
		h.Set(name, value)
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, info.Size))
	} else if x.checksumMode() {
		if sum, ok := digestBytes(info.Digest); ok {
			h.Set("x-amz-checksum-sha256", base64.StdEncoding.EncodeToString(sum))
			h.Set("x-amz-checksum-type", "FULL_OBJECT")
		}
	}
	x.header(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	x.started = true
	return x.copy(obj, start, length)
}

// copy sends length bytes from start. Its error cuts the connection: the answer
// said how many bytes come, so the client sees that they did not.
func (x *exchange) copy(obj io.ReaderAt, start, length int64) error {
	buf := x.buffers.Get().(*[]byte)
	defer x.buffers.Put(buf)
	control := http.NewResponseController(x.w)
	p := pace{began: time.Now()}
	k := x.watch()
	for length > 0 {
		if err := x.r.Context().Err(); err != nil {
			return sallyport.E("send object", sallyport.Canceled, err, "")
		}
		piece := (*buf)[:min(length, int64(len(*buf)))]
		n, err := obj.ReadAt(piece, start)
		if n < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return sallyport.E("read object", sallyport.Damaged, err, "")
		}
		// What was read while the key was in force may still go out; the next
		// piece may not.
		if err := k.moved(n); err != nil {
			return err
		}
		_ = control.SetWriteDeadline(p.deadline(time.Now())) // not under a test's recorder
		if _, err := x.w.Write(piece); err != nil {
			return sallyport.E("send object", sallyport.Canceled, err, "")
		}
		p.moved += int64(n)
		start, length = start+int64(n), length-int64(n)
	}
	return nil
}

// overrides are the response headers that a signed query asks for.
func (x *exchange) overrides() (map[string]string, error) {
	out := map[string]string{}
	for name, value := range x.target.query {
		header, ok := strings.CutPrefix(name, "response-")
		if !ok {
			continue
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(value) > 1024 {
			return nil, newFault(codeInvalidArgument, "The value of %s cannot be a header.", name)
		}
		out[http.CanonicalHeaderKey(header)] = value
	}
	return out, nil
}

func (x *exchange) checksumMode() bool {
	q := x.target.query
	return strings.EqualFold(first(x.r.Header.Get("X-Amz-Checksum-Mode"), q["x-amz-checksum-mode"], q["X-Amz-Checksum-Mode"]), "ENABLED")
}

func digestBytes(d sallyport.Digest) ([]byte, bool) {
	s, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok {
		return nil, false
	}
	sum, err := hex.DecodeString(s)
	return sum, err == nil && len(sum) == 32
}

// contentType goes by the name's ending, for the few that browsers and tools
// profit from; none of them can run in a browser.
func contentType(names ...string) string {
	for _, n := range names {
		switch strings.ToLower(path.Ext(n)) {
		case ".csv":
			return "text/csv"
		case ".tsv":
			return "text/tab-separated-values"
		case ".txt":
			return "text/plain"
		case ".json":
			return "application/json"
		case ".parquet":
			return "application/vnd.apache.parquet"
		}
	}
	return "binary/octet-stream"
}

// precondition evaluates the conditional headers in the order of RFC 9110,
// section 13.2.2, and returns the code of what failed: codePreconditionFailed,
// codeNotModified or "".
func precondition(h http.Header, info gateway.ObjectInfo) string {
	modified := info.Modified.UTC().Truncate(time.Second)
	if v := joined(h, "If-Match"); v != "" {
		if !matchETag(v, info.ETag, false) {
			return codePreconditionFailed
		}
	} else if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && modified.After(t) {
		return codePreconditionFailed
	}
	if v := joined(h, "If-None-Match"); v != "" {
		if matchETag(v, info.ETag, true) {
			return codeNotModified
		}
	} else if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil && !modified.After(t) {
		return codeNotModified
	}
	return ""
}

func joined(h http.Header, name string) string { return strings.Join(h[name], ",") }

// matchETag compares with a list of entity tags; S3 clients send them without
// quotes too.
func matchETag(list, etag string, weak bool) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimSpace(one)
		if one == "*" {
			return true
		}
		if rest, ok := strings.CutPrefix(one, "W/"); ok {
			if !weak {
				continue
			}
			one = rest
		}
		if strings.Trim(one, `"`) == etag {
			return true
		}
	}
	return false
}

// ifRange says whether a range still belongs to this object (RFC 9110, section
// 13.1.5).
func ifRange(v string, info gateway.ObjectInfo) bool {
	if v == "" {
		return true
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Equal(info.Modified.UTC().Truncate(time.Second))
	}
	return matchETag(v, info.ETag, false) && v != "*"
}

// byteRange is one range: first to last, or the last n bytes where first is -1.
// last is -1 where it is open.
type byteRange struct{ first, last int64 }

// parseRange reads a Range header. ok is false where it is no single range of
// bytes: S3, like RFC 9110, then answers with the whole.
func parseRange(s string) (byteRange, bool) {
	spec, ok := strings.CutPrefix(s, "bytes=")
	if !ok {
		return byteRange{}, false
	}
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return byteRange{}, false
	}
	digits := func(s string) (int64, bool) {
		if s == "" {
			return -1, true
		}
		for i := range len(s) {
			if s[i] < '0' || s[i] > '9' {
				return 0, false
			}
		}
		n, err := strconv.ParseInt(s, 10, 64)
		return n, err == nil
	}
	a, ok1 := digits(from)
	b, ok2 := digits(to)
	if !ok1 || !ok2 || a < 0 && b < 0 || a >= 0 && b >= 0 && b < a {
		return byteRange{}, false
	}
	return byteRange{a, b}, true
}

// of returns the range's start and length in size bytes; ok is false where
// there is nothing of it.
func (r byteRange) of(size int64) (start, length int64, ok bool) {
	if r.first < 0 {
		n := min(r.last, size)
		return size - n, n, n > 0
	}
	if r.first >= size {
		return 0, 0, false
	}
	last := size - 1
	if r.last >= 0 {
		last = min(r.last, last)
	}
	return r.first, last - r.first + 1, true
}
