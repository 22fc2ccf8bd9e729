package csv

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"sallyport/anonymize/codec"
)

// Sniff reports whether head, which may be compressed, starts with a header
// line of at least two columns and, where head holds a second line, that line
// has as many. Text in an 8-bit encoding is recognized too: Rewrite says what
// must be declared. If options were given, one column is enough, and lines
// that do not fit are left to Rewrite. JSON Lines, XML and binary files are
// never recognized.
func (f *Format) Sniff(head []byte) bool {
	d := f.dialect
	text, ok := d.decodeHead(codec.Head(head))
	if !ok {
		return f.tuned // Rewrite says what does not fit
	}
	if len(bytes.TrimSpace(text)) == 0 || binary(text, &d) || isJSON(text) || !f.tuned && isXML(text) {
		return false
	}
	text = bytes.Clone(text) // the parser works in place
	if d.eol = d.lineEnd(text); d.comma == 0 {
		d.comma = d.delimiter(text, text)
	}
	cut := d.splitter(nil).boundary(text)
	if cut == 0 {
		cut = d.lastField(text)
	}
	p := d.parser()
	p.reset(chunk{data: text[:cut], final: true, line: 1})
	p.bad = nowhere
	header, err := p.next()
	if f.tuned {
		return err == nil
	}
	if err != nil || len(header) < 2 || len(bytes.Join(header, nil)) == 0 {
		return false
	}
	p.columns = len(header)
	_, err = p.next()
	return err == nil
}

// binary reports whether text holds a byte that no text has.
func binary(text []byte, d *dialect) bool {
	if bytes.HasPrefix(text, []byte("PAR1")) {
		return true
	}
	for _, c := range text {
		if c < ' ' && (c < '\t' || c > '\r') && c != 0x1b && (c != d.comma || c == 0) || c == 0x7f && c != d.comma {
			return true
		}
	}
	return false
}

// isJSON reports whether text starts with a JSON object or array that ends its
// line, or is the start of one.
func isJSON(text []byte) bool {
	start := bytes.TrimLeft(text, " \t\r\n")
	if len(start) == 0 || start[0] != '{' && start[0] != '[' {
		return false
	}
	r := json.NewDecoder(bytes.NewReader(start))
	for depth := 0; ; {
		token, err := r.Token()
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			if depth--; depth == 0 {
				rest := bytes.TrimLeft(start[r.InputOffset():], " \t")
				return len(rest) == 0 || rest[0] == '\n' || rest[0] == '\r'
			}
		}
	}
}

// isXML reports whether text starts as XML and HTML do.
func isXML(text []byte) bool {
	start := bytes.TrimLeft(text, " \t\r\n")
	if len(start) < 2 || start[0] != '<' {
		return false
	}
	c := start[1] | 0x20
	return start[1] == '?' || start[1] == '!' || c >= 'a' && c <= 'z'
}

// lastField returns the length of text, which is less than a record, up to its
// last delimiter, or its whole length if it has none.
func (d *dialect) lastField(text []byte) int {
	last, quoted := len(text), false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && d.escape:
			i++
		case c == d.mark && c != 0:
			quoted = !quoted
		case c == d.comma && !quoted:
			last = i
		}
	}
	return last
}
