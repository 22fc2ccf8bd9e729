package identify

import (
	"bytes"
	"encoding/base64"
)

// Prefixes and lengths are those that the issuers publish: AWS IAM identifiers
// (AKIA, ASIA), GitHub token formats (2021), Slack token types, Google API keys
// and OAuth secrets, GitLab token prefixes, Stripe keys; age's key encoding
// (C2SP age, native X25519 identity) and PEM (RFC 7468).

func tokenByte(c byte) bool  { return isAlnum(c) || c == '_' || c == '-' }
func base32Byte(c byte) bool { return isUpper(c) || c >= '2' && c <= '7' }

// secret emits a token from start whose body of at least least bytes begins at
// body.
func (s *scan) secret(start, body, least int, ok func(byte) bool) int {
	end := s.after(body, len(s.v), ok)
	if end-body < least || start > 0 && (isAlnum(s.v[start-1]) || s.v[start-1] == '_') {
		return 0
	}
	return s.emit(Secret, start, end)
}

// dash judges the hyphen at i.
func (s *scan) dash(i int) int {
	last := s.before(i)
	switch {
	case i+1 >= len(s.v):
	case s.v[i+1] == '-' && s.has(i, "-----BEGIN "):
		line := s.v[i:min(i+80, len(s.v))]
		if k := bytes.Index(line, []byte("PRIVATE KEY-----")); k > 0 {
			return s.emit(Secret, i, i+k+len("PRIVATE KEY-----"))
		}
		return i + len("-----BEGIN ")
	case last == 'E' && s.has(i-3, "AGE-SECRET-KEY-"):
		if k := s.secret(i-3, i+len("-SECRET-KEY-"), 50, tokenByte); k > 0 {
			return k
		}
	case i >= 4 && s.v[i-4] == 'x' && s.has(i-4, "xox"):
		if k := s.secret(i-4, i+1, 20, tokenByte); k > 0 {
			return k
		}
	case last == 'X' && s.has(i-6, "GOCSPX"):
		if k := s.secret(i-6, i+1, 20, tokenByte); k > 0 {
			return k
		}
	case last == 't' && s.has(i-5, "glpat"):
		if k := s.secret(i-5, i+1, 20, tokenByte); k > 0 {
			return k
		}
	case i >= 2 && isHex(last) && isHex(s.v[i+1]) && isHex(s.v[i-2]):
		if k := s.mac(i - 2); k > 0 {
			return k
		}
	}
	return i + 1
}

// underscore judges the underscore at i.
func (s *scan) underscore(i int) int {
	if i < 2 {
		return i + 1
	}
	k := 0
	switch {
	case i >= 3 && s.v[i-3] == 'g' && s.v[i-2] == 'h' && (s.v[i-1] == 'p' || s.v[i-1] == 'o' || s.v[i-1] == 'u' || s.v[i-1] == 's' || s.v[i-1] == 'r'):
		k = s.secret(i-3, i+1, 36, isAlnum)
	case s.has(i-6, "github_pat_"):
		k = s.secret(i-6, i+5, 22, tokenByte)
	case s.has(i-2, "sk_live_"), s.has(i-2, "rk_live_"):
		k = s.secret(i-2, i+6, 20, isAlnum)
	}
	if k > 0 {
		return k
	}
	return i + 1
}

// letterA judges the A at i.
func (s *scan) letterA(i int) int {
	if c := s.byteAt(i + 1); c != 'K' && c != 'S' && c != 'I' {
		return i + 1
	}
	k := 0
	switch {
	case s.has(i, "AKIA"), s.has(i, "ASIA"):
		if e := s.after(i+4, 17, base32Byte); e-i == 20 && !isAlnum(s.byteAt(e)) {
			k = s.secret(i, i+4, 16, base32Byte)
		}
	case s.has(i, "AIza"):
		if e := s.after(i+4, 36, tokenByte); e-i == 39 {
			k = s.secret(i, i+4, 35, tokenByte)
		}
	}
	if k > 0 {
		return k
	}
	return i + 1
}

// letterJ judges the J at i: "eyJ" is how base64url writes {" at the start, so
// a JSON Web Token may begin (RFC 7519): header, claims and signature, parted
// by dots. The header must decode and name an algorithm.
func (s *scan) letterJ(i int) int {
	if i < 2 || s.v[i-1] != 'y' || s.v[i-2] != 'e' || !s.opens(i-2) && s.before(i-2) != '/' {
		return i + 1
	}
	start := i - 2
	var ends [3]int
	at := start
	for k := range ends {
		e := s.after(at, len(s.v), tokenByte)
		if e == at && k < 2 || k < 2 && s.byteAt(e) != '.' {
			return max(e, i+1)
		}
		ends[k], at = e, e+1
	}
	header := s.v[start:ends[0]]
	var room [384]byte
	if len(header) > 512 {
		return ends[2]
	}
	n, err := base64.RawURLEncoding.Decode(room[:], header)
	if err != nil || n < 2 || room[n-1] != '}' || !bytes.Contains(room[:n], []byte(`"alg"`)) {
		return max(ends[2], i+1)
	}
	return s.emit(Secret, start, ends[2])
}
