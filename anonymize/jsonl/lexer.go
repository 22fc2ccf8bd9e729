package jsonl

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// lexer finds the ends of JSON's tokens (RFC 8259) in one line. Its methods
// return -1 where the token is not well-formed, and set fault.
type lexer struct {
	line  []byte
	fault fault
}

// fault says what is wrong with a line and where.
type fault struct {
	at         int
	text, hint string
	cut        bool // the line ended where more had to follow
}

func (l *lexer) fail(at int, text, hint string) int {
	l.fault = fault{at: at, text: text, hint: hint}
	return -1
}

// short is fail at the end of the line.
func (l *lexer) short() int {
	l.fault = fault{at: len(l.line), cut: true, text: "the object does not end on its line",
		hint: "JSON Lines has one object a line; a document spread over several becomes that by: jq -c . FILE (a FHIR bundle by: jq -c '.entry[].resource' FILE). Otherwise the file is truncated."}
	return -1
}

// syntax is fail where another token had to stand.
func (l *lexer) syntax(at int, want string) int {
	if at >= len(l.line) {
		return l.short()
	}
	return l.fail(at, "not JSON: "+want+" must stand here", syntaxHint)
}

const syntaxHint = "Write the file with a JSON library, one object a line."

// space returns the first place from i on that is not white.
func (l *lexer) space(i int) int {
	for i < len(l.line) && white(l.line[i]) {
		i++
	}
	return i
}

func white(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// at returns the byte at i, 0 beyond the end: no token starts with it.
func (l *lexer) at(i int) byte {
	if i < len(l.line) {
		return l.line[i]
	}
	return 0
}

// str returns the place after the string whose opening quote is at i, and
// whether there is an escape in it.
func (l *lexer) str(i int) (end int, escaped bool) {
	b := l.line
	for i++; ; {
		if i = special(b, i); i >= len(b) {
			return l.short(), false
		}
		switch b[i] {
		case '"':
			return i + 1, escaped
		case '\\':
			escaped = true
			if i = l.escape(i); i < 0 {
				return -1, false
			}
		default:
			return l.fail(i, "a control character in a string", "Write it as an escape, such as \\n or \\u0000."), false
		}
	}
}

// escape returns the place after the escape whose backslash is at i.
func (l *lexer) escape(i int) int {
	b := l.line
	switch l.at(i + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
	default:
		return l.syntax(i+1, "an escape")
	}
	r, ok := hex4(b, i+2)
	if !ok {
		l.fail(i, "not JSON: four hexadecimal digits must stand here", syntaxHint)
		l.fault.cut = i+6 > len(b)
		return -1
	}
	if !utf16.IsSurrogate(r) {
		return i + 6
	}
	low, ok := rune(0), false
	if l.at(i+6) == '\\' && l.at(i+7) == 'u' {
		low, ok = hex4(b, i+8)
	}
	if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
		l.fail(i, "an escape that is half a character", "Write the file again with a library that knows Unicode: characters beyond U+FFFF take a pair of \\u escapes (RFC 8259, section 7).")
		rest := b[i+6:]
		l.fault.cut = len(rest) < 6 && string(rest[:min(2, len(rest))]) == `\u`[:min(2, len(rest))]
		return -1
	}
	return i + 12
}

// hex4 returns the number that the four hexadecimal digits at i are.
func hex4(b []byte, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// special returns the place, from i on, of the first quote, backslash or
// control character in b, len(b) if there is none. It looks at eight bytes at a
// time: (x-0x01…)&^x has the high bit of the lowest zero byte of x set, and of
// no byte below it.
func special(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, back := w^ones*'"', w^ones*'\\'
		if m := ((quote-ones)&^quote | (back-ones)&^back | (w-ones*0x20)&^w) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < 0x20 {
			break
		}
	}
	return i
}

// number returns the place after the number that starts at i.
func (l *lexer) number(i int) int {
	if end := numberEnd(l.line, i); end >= 0 {
		return end
	}
	if j := len(bytes.TrimRight(l.line, "+-.eE0123456789")); j <= i {
		return l.short() // it may go on
	}
	return l.syntax(i, "a number as JSON writes them")
}

// numberEnd returns the place after the JSON number that starts at i, -1 if
// none does.
func numberEnd(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return -1
	case b[i] == '0':
		i++
	default:
		if i = digits(b, i); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i
}

// digits returns the place after the digits at i, -1 if there is none.
func digits(b []byte, i int) int {
	from := i
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	if i == from {
		return -1
	}
	return i
}

// word returns the place after true, false or null at i.
func (l *lexer) word(i int, word string) int {
	rest := l.line[i:]
	if len(rest) >= len(word) && string(rest[:len(word)]) == word {
		return i + len(word)
	}
	if len(rest) < len(word) && string(rest) == word[:len(rest)] {
		return l.short()
	}
	return l.syntax(i, "a value")
}

// appendUnescaped appends what raw, the inside of a well-formed string, means.
func appendUnescaped(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw, 0)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				low, _ := hex4(raw, 2)
				r = utf16.DecodeRune(r, low)
				raw = raw[6:]
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

// appendString appends text as a JSON string. Bytes that are no UTF-8, which a
// verb may leave behind that cuts inside a character, become U+FFFD.
func appendString(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\ufffd"))
	}
	for {
		i := special(text, 0)
		dst = append(dst, text[:i]...)
		if i == len(text) {
			return append(dst, '"')
		}
		switch c := text[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		text = text[i+1:]
	}
}

// firstInvalid returns the place of the first byte that is not UTF-8, -1 if
// all is.
func firstInvalid(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}
