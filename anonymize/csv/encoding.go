package csv

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
	"golang.org/x/text/transform"
)

// encoded is a character encoding. Its zero value is what was not declared:
// what the byte order mark says, or UTF-8.
type encoded struct {
	name string
	how  encoding.Encoding // nil for UTF-8
}

var (
	utf8BOM     = []byte("\xef\xbb\xbf")
	replacement = []byte("\xef\xbf\xbd") // what decoders write for what they cannot read
)

type mark struct {
	bytes string
	encoded
}

// marks are byte order marks (Unicode Standard, table 2-4), longer ones first
// where one starts another.
func marks() []mark {
	return []mark{
		{"\xef\xbb\xbf", encoded{name: "utf-8"}},
		{"\xff\xfe\x00\x00", encoded{"utf-32le", utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)}},
		{"\x00\x00\xfe\xff", encoded{"utf-32be", utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)}},
		{"\xff\xfe", encoded{"utf-16le", unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)}},
		{"\xfe\xff", encoded{"utf-16be", unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)}},
	}
}

// encodingNamed finds a declared encoding. Names are IANA's, then those of the
// Encoding Standard (encoding.spec.whatwg.org), whatever their case.
func encodingNamed(name string) (encoded, bool) {
	name = strings.ToLower(strings.TrimSpace(name))
	switch name {
	case "utf-8", "utf8", "ascii", "us-ascii": // ASCII is UTF-8, and UTF-8 is checked
		return encoded{name: "utf-8"}, true
	case "utf-16", "utf16":
		return encoded{name: "utf-16"}, true // the byte order mark says which
	case "utf-32", "utf32":
		return encoded{name: "utf-32"}, true
	case "latin-1":
		name = "latin1"
	}
	for _, m := range marks() {
		if m.name == name {
			return m.encoded, true
		}
	}
	how, err := ianaindex.IANA.Encoding(name)
	if err != nil || how == nil {
		how, err = htmlindex.Get(name)
	}
	switch how {
	case japanese.ISO2022JP, simplifiedchinese.HZGB2312, encoding.Replacement: // the same bytes mean this or that there, or nothing
		return encoded{}, false
	}
	return encoded{name, how}, err == nil && how != nil
}

// plain returns r as UTF-8, and the encoding that it was in. It judges what
// was declared by the first bytes.
func (d *dialect) plain(r *bufio.Reader) (*bufio.Reader, encoded, error) {
	head, err := r.Peek(previewSize)
	if err != nil && err != io.EOF {
		return nil, encoded{}, err
	}
	enc := d.text
	if m, ok := marked(head); ok {
		if enc.name != "" && enc.name != m.name && enc.name != strings.TrimRight(m.name, "lbe") {
			return nil, encoded{}, invalid("Leave the option encoding out.", "line 1: the file's byte order mark says %s, not %s", m.name, enc.name)
		}
		enc = m
	}
	switch _, single := enc.how.(*charmap.Charmap); {
	case enc.name == "utf-16", enc.name == "utf-32":
		return nil, encoded{}, invalid("Declare encoding="+enc.name+"le or encoding="+enc.name+"be.", "line 1: the file has no byte order mark")
	case single && manifold(head):
		return nil, encoded{}, invalid("Leave the option encoding out.", "the file is UTF-8, not %s", enc.name)
	}
	if enc.how != nil {
		r = bufio.NewReaderSize(transform.NewReader(r, enc.how.NewDecoder()), previewSize)
	}
	// The mark is U+FEFF, whatever the encoding.
	if mark, err := r.Peek(len(utf8BOM)); bytes.Equal(mark, utf8BOM) {
		_, _ = r.Discard(len(mark))
	} else if err != nil && err != io.EOF {
		return nil, encoded{}, err
	}
	return r, enc, nil
}

func marked(head []byte) (encoded, bool) {
	for _, m := range marks() {
		if bytes.HasPrefix(head, []byte(m.bytes)) {
			return m.encoded, true
		}
	}
	return encoded{}, false
}

// manifold reports whether head is UTF-8 and has so many characters of several
// bytes that this is no chance.
func manifold(head []byte) bool {
	head = wholeRunes(head)
	return utf8.Valid(head) && len(head)-utf8.RuneCount(head) >= 4
}

// wholeRunes is head without a character that is cut off at its end.
func wholeRunes(head []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(head); i++ {
		if tail := head[len(head)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return head[:len(head)-i]
			}
			break
		}
	}
	return head
}

// decodeHead returns head as UTF-8 as far as it can be read so, without a byte
// order mark; false if head contradicts what was declared.
func (d *dialect) decodeHead(head []byte) ([]byte, bool) {
	plain := *d
	r, enc, err := plain.plain(bufio.NewReaderSize(bytes.NewReader(head), previewSize))
	if err != nil {
		return nil, false
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, false
	}
	if enc.how == nil {
		return wholeRunes(text), true
	}
	// A character cut off at the end of head was replaced.
	return bytes.TrimSuffix(text, replacement), true
}
