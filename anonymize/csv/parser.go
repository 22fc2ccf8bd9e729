package csv

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// parser yields the records of one chunk after another without allocating.
// Lines without a quote, nearly all of them, are cut by bytes.IndexByte alone;
// what must never occur (NUL, invalid UTF-8) is looked for once a chunk.
type parser struct {
	comma   byte
	columns int // fields that a record must have; 0 for the header
	line    int // number of the line at pos
	at      int // number of the line where the last record started
	blank   int // number of the first blank line since the last record

	data   []byte
	pos    int
	torn   bool
	quote  int // where the next quote at or after pos is
	cr     int // where the next carriage return at or after pos is
	bad    int // where the first NUL or invalid byte is
	fields [][]byte
}

const nowhere = math.MaxInt

func (p *parser) reset(c chunk) {
	data, torn := c.data, c.torn
	p.data, p.pos, p.torn, p.line, p.blank = data, 0, torn, c.line, c.blank
	p.quote = find(data, 0, '"')
	p.cr = find(data, 0, '\r')
	p.bad = min(find(data, 0, 0), firstInvalid(data))
	if torn && p.bad > len(data)-utf8.UTFMax {
		p.bad = nowhere // perhaps only a rune cut off at the end
	}
}

// find returns the index of the first c in data[from:], relative to data.
func find(data []byte, from int, c byte) int {
	if i := bytes.IndexByte(data[from:], c); i >= 0 {
		return from + i
	}
	return nowhere
}

// firstInvalid returns the index of the first byte that is not UTF-8.
func firstInvalid(data []byte) int {
	if utf8.Valid(data) {
		return nowhere
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return nowhere
}

// next returns the fields of the next record, nil at the end of the chunk.
// They are valid until the next call and lie in the chunk.
func (p *parser) next() ([][]byte, error) {
	for p.pos < len(p.data) {
		start := p.pos
		end, after := len(p.data), len(p.data)
		if i := bytes.IndexByte(p.data[start:], '\n'); i >= 0 {
			end, after = start+i, start+i+1
		} else if p.torn && p.quote == nowhere {
			return nil, p.tooLong()
		}
		if p.bad < after {
			return nil, p.badByte()
		}
		if p.quote < after {
			return p.quoted()
		}
		if p.cr < start {
			p.cr = find(p.data, start, '\r')
		}
		if end > start && p.data[end-1] == '\r' {
			end--
		}
		if p.cr < end {
			return nil, p.loneCR(p.line)
		}
		if start == end {
			if p.blank == 0 {
				p.blank = p.line
			}
			if p.columns == 0 {
				return nil, p.check()
			}
			p.line++
			p.pos = after
			continue
		}
		p.fields = p.fields[:0]
		rest := p.data[start:end]
		for {
			i := bytes.IndexByte(rest, p.comma)
			if i < 0 {
				break
			}
			p.fields = append(p.fields, rest[:i:i])
			rest = rest[i+1:]
		}
		p.fields = append(p.fields, rest[:len(rest):len(rest)])
		if err := p.check(); err != nil {
			return nil, err
		}
		p.at = p.line
		p.line++
		p.pos = after
		return p.fields, nil
	}
	return nil, nil
}

// check judges the record in fields, which starts on the current line.
func (p *parser) check() error {
	if p.blank > 0 {
		return invalid("Remove the line, or write \"\" for one empty value.", "line %d is blank", p.blank)
	}
	if p.columns == 0 {
		if len(p.fields) > maxColumns {
			return invalid("Split the table; more columns than that are not supported.", "line %d: %d columns, the most is %d", p.line, len(p.fields), maxColumns)
		}
		return nil
	}
	if len(p.fields) != p.columns {
		return invalid("Quote values that hold the delimiter, and write every field of a record.", "line %d: %d fields, the header has %d", p.line, len(p.fields), p.columns)
	}
	return nil
}

// quoted parses the record at pos byte by byte.
func (p *parser) quoted() ([][]byte, error) {
	p.fields = p.fields[:0]
	d, i, line := p.data, p.pos, p.line
	for {
		var field []byte
		if i < len(d) && d[i] == '"' {
			open, escapes := i+1, 0
			for i = open; ; i++ {
				j := bytes.IndexByte(d[i:], '"')
				if j < 0 {
					return nil, p.unterminated(line)
				}
				if i += j; i+1 >= len(d) || d[i+1] != '"' {
					break
				}
				escapes++
				i++
			}
			field = d[open:i:i]
			i++
			if p.bad < i {
				return nil, p.badByte()
			}
			line += bytes.Count(field, lineFeed)
			if escapes > 0 {
				field = unescape(field)
			}
			if i < len(d) && d[i] != p.comma && d[i] != '\n' && d[i] != '\r' {
				return nil, invalid("Write a quote inside a quoted value twice.", "line %d: text after a closing quote", line)
			}
		} else {
			open := i
			for i < len(d) && d[i] != p.comma && d[i] != '\n' && d[i] != '\r' {
				if d[i] == '"' {
					return nil, invalid("Quote the whole value and write the quote inside it twice.", "line %d: a quote inside an unquoted value", line)
				}
				i++
			}
			field = d[open:i:i]
		}
		p.fields = append(p.fields, field)
		if i < len(d) && d[i] == '\r' {
			if i++; i < len(d) && d[i] != '\n' {
				return nil, p.loneCR(line)
			}
		}
		if i >= len(d) {
			if p.torn {
				return nil, p.tooLong()
			}
			break
		}
		i++
		if d[i-1] == '\n' {
			break
		}
	}
	if p.bad < i {
		return nil, p.badByte()
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.at, p.line = p.line, line+1
	p.pos = i
	p.quote = find(d, i, '"')
	return p.fields, nil
}

// unescape makes "" one quote, in place.
func unescape(field []byte) []byte {
	n := 0
	for i := 0; i < len(field); i++ {
		field[n] = field[i]
		n++
		if field[i] == '"' {
			i++
		}
	}
	return field[:n:n]
}

var lineFeed = []byte{'\n'}

func (p *parser) badByte() error {
	line := p.line + bytes.Count(p.data[p.pos:p.bad], lineFeed)
	if p.data[p.bad] == 0 {
		return invalid("The file is damaged, binary, or UTF-16 (then: iconv -f UTF-16 -t UTF-8).", "line %d: a NUL byte", line)
	}
	return invalid("Convert it first, for example: iconv -f ISO-8859-1 -t UTF-8.", "line %d: not UTF-8", line)
}

func (p *parser) tooLong() error {
	return invalid("Look for a missing line end or quote on that line.", "line %d: a record longer than %d bytes", p.line, maxRecord)
}

func (p *parser) unterminated(line int) error {
	if p.torn {
		return invalid("Close the quote.", "line %d: a quote is not closed within %d bytes", line, maxRecord)
	}
	return invalid("Close the quote.", "line %d: a quote is not closed", line)
}

func (p *parser) loneCR(line int) error {
	return invalid("End lines with LF or CRLF; quote a value that holds a carriage return.", "line %d: a carriage return that ends no line", line)
}
