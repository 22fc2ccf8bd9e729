package s3door

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// target is where a request goes: parsed once, from the request line as it
// came, so that nothing between the signature and the key can see it otherwise.
type target struct {
	path   string // decoded, "/bucket/key"
	bucket string // empty: the service itself
	key    string // empty: the bucket itself
	query  query
}

// query is the query's parameters: each at most once.
type query map[string]string

func (q query) has(name string) bool {
	_, ok := q[name]
	return ok
}

// maxKey is the longest key, in bytes of UTF-8 (S3 User Guide, "Naming
// Amazon S3 objects").
const maxKey = 1024

// parseTarget reads the request line's target. Go's own parsing and cleaning
// of paths is not used.
func parseTarget(raw string) (target, error) {
	rawPath, rawQuery, _ := strings.Cut(raw, "?")
	if !strings.HasPrefix(rawPath, "/") {
		return target{}, newFault(codeInvalidURI, "The request's path must begin with '/'.")
	}
	for i := range len(rawPath) {
		if !pathByte(rawPath[i]) {
			return target{}, newFault(codeInvalidURI, "The path has a character that must be percent-encoded.")
		}
	}
	// An encoded slash, backslash, dot or NUL has one use in a path:
	// to mean something else to somebody else. No client encodes dots.
	lower := strings.ToLower(rawPath)
	for _, bad := range []string{"%2f", "%5c", "%2e", "%00"} {
		if strings.Contains(lower, bad) {
			return target{}, newFault(codeInvalidURI, "The path may not hold %s.", bad)
		}
	}
	path, ok := unescape(rawPath, false)
	if !ok {
		return target{}, newFault(codeInvalidURI, "The path is not percent-encoded UTF-8.")
	}
	t := target{path: path}
	var err error
	if t.query, err = parseQuery(rawQuery); err != nil {
		return target{}, err
	}
	bucket, key, isKey := strings.Cut(path[1:], "/")
	if bucket == "" {
		if isKey {
			return target{}, newFault(codeInvalidURI, "The path has an empty segment.")
		}
		return t, nil
	}
	if !validBucket(bucket) {
		return target{}, newFault(codeInvalidBucketName, "A bucket is the ID of a dataset: 1 to 64 of a-z, 0-9, '-' and '.'.")
	}
	t.bucket, t.key = bucket, key
	if key != "" {
		if err := checkKey(key); err != nil {
			return target{}, err
		}
	}
	return t, nil
}

// pathByte reports whether c may stand in a path as it is (RFC 3986, section
// 3.3), or begins an escape.
func pathByte(c byte) bool {
	return unreserved(c) || strings.IndexByte("/%!$&'()*+,;=:@", c) >= 0
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// unescape undoes percent-encoding, once. plus makes '+' a space.
func unescape(s string, plus bool) (string, bool) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			b.WriteByte(hi<<4 | lo)
			i += 2
		case c == '+' && plus:
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), utf8.ValidString(b.String())
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// escape percent-encodes as Signature Version 4 does: all but unreserved
// characters, in upper case; slashes stay where the text is a path.
func escape(s string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if c := s[i]; unreserved(c) || path && c == '/' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

// parseQuery reads the query. A parameter that comes twice is refused: two
// readers could choose differently.
func parseQuery(raw string) (query, error) {
	q := query{}
	if raw == "" {
		return q, nil
	}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, ok1 := unescape(rawName, true)
		value, ok2 := unescape(rawValue, true)
		switch {
		case !ok1 || !ok2 || name == "":
			return nil, newFault(codeInvalidURI, "The query is not percent-encoded UTF-8.")
		case strings.ContainsFunc(name, badRune) || strings.ContainsFunc(value, badRune):
			return nil, newFault(codeInvalidURI, "The query has a control character.")
		case q.has(name):
			return nil, newFault(codeInvalidArgument, "The query has a parameter twice.")
		}
		q[name] = value
	}
	return q, nil
}

// canonical is the canonical query string of Signature Version 4, less the
// signature itself.
func (q query) canonical() string {
	pairs := make([]string, 0, len(q))
	for name, value := range q {
		if name != "X-Amz-Signature" {
			pairs = append(pairs, escape(name, false)+"="+escape(value, false))
		}
	}
	// Names are unique and '=' sorts before no unreserved letter that could
	// change it only if a name is another's beginning: so sort by name first.
	sort.Slice(pairs, func(i, j int) bool {
		a, _, _ := strings.Cut(pairs[i], "=")
		b, _, _ := strings.Cut(pairs[j], "=")
		return a < b
	})
	return strings.Join(pairs, "&")
}

// validBucket reports whether s can name a dataset, an inbox or a scratch.
func validBucket(s string) bool {
	if len(s) == 0 || len(s) > 64 || s[0] == '-' || s[0] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// badRune reports control characters, and those that make a name look other
// than it is: bidirectional controls, line separators, the byte order mark,
// the replacement character and noncharacters.
func badRune(r rune) bool {
	switch {
	case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f,
		r == 0x2028, r == 0x2029, r == 0xfeff, r == utf8.RuneError, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe:
		return true
	}
	return false
}

// checkKey says whether a key can name an object. It may end in a slash: asking
// for such a "folder" is usual, and finds nothing.
func checkKey(key string) error {
	switch {
	case len(key) > maxKey:
		return newFault(codeKeyTooLong, "A key may be at most %d bytes long.", maxKey)
	case !utf8.ValidString(key), strings.ContainsFunc(key, badRune), strings.Contains(key, `\`):
		return newFault(codeInvalidURI, "The key has a backslash, a control character, or one that hides what it is.")
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return newFault(codeInvalidURI, "The key has an empty segment, or one that is '.' or '..'.")
		}
	}
	return nil
}

// isFolder reports whether a key can only be a folder's.
func isFolder(key string) bool { return strings.HasSuffix(key, "/") }
