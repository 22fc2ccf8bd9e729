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
	*dialect
	comma   byte
	eol     byte
	stray   byte // the other one of LF and CR
	columns int  // fields that a record must have; 0 for the header
	line    int  // number of the line at pos
	at      int  // number of the line where the last record started
	blank   int  // number of the first blank line since the last record

	data   []byte
	pos    int
	torn   bool
	quote  int // where the next quote at or after pos is
	slash  int // where the next escape at or after pos is
	lone   int // where the next stray at or after pos is
	bad    int // where the first NUL or invalid byte is
	fields [][]byte
}

const nowhere = math.MaxInt

func (p *parser) reset(c chunk) {
	data, torn := c.data, c.torn
	p.data, p.pos, p.torn, p.line, p.blank = data, 0, torn, c.line, c.blank
	p.quote, p.slash = nowhere, nowhere
	p.special(0)
	p.lone = find(data, 0, p.stray)
	p.bad = min(find(data, 0, 0), firstInvalid(data))
	if p.text.how != nil { // it is UTF-8, made from what it was
		if i := bytes.Index(data, replacement); i >= 0 {
			p.bad = min(p.bad, i)
		}
	}
	if torn && p.bad > len(data)-utf8.UTFMax {
		p.bad = nowhere // perhaps only a rune cut off at the end
	}
}

// special finds the next quote and escape at or after from.
func (p *parser) special(from int) {
	if p.mark != 0 && (p.quote < from || from == 0) {
		p.quote = find(p.data, from, p.mark)
	}
	if p.escape && (p.slash < from || from == 0) {
		p.slash = find(p.data, from, '\\')
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
		if i := bytes.IndexByte(p.data[start:], p.eol); i >= 0 {
			end, after = start+i, start+i+1
		} else if p.torn && p.quote == nowhere {
			return nil, p.tooLong()
		}
		if p.bad < after {
			return nil, p.badByte(start, p.line)
		}
		if p.comment != 0 && p.data[start] == p.comment {
			p.line++
			p.pos = after
			p.special(after)
			continue
		}
		if p.quote < after || p.slash < after {
			return p.quoted()
		}
		if p.lone < start {
			p.lone = find(p.data, start, p.stray)
		}
		if end > start && p.data[end-1] == '\r' {
			end--
		}
		if p.lone < end {
			return nil, p.strayEnd(p.line)
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

// consistent reports whether data is whole records of as many fields each. It
// does not care for the encoding.
func (p *parser) consistent(data []byte) bool {
	p.reset(chunk{data: data, final: true, line: 1})
	p.bad = nowhere
	for {
		fields, err := p.next()
		if err != nil || fields == nil {
			return err == nil
		}
		p.columns = len(fields)
	}
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
		return invalid("Quote values that hold the delimiter, and write every field of a record; if the delimiter is another one, declare it, as in csv;delimiter=tab.", "line %d: %d fields, the header has %d", p.line, len(p.fields), p.columns)
	}
	return nil
}

// quoted parses the record at pos byte by byte.
func (p *parser) quoted() ([][]byte, error) {
	p.fields = p.fields[:0]
	d, i, line := p.data, p.pos, p.line
	for {
		var field []byte
		if i < len(d) && d[i] == p.mark && p.mark != 0 {
			open := i + 1
			end, marked := p.closing(open)
			if end < 0 {
				return nil, p.unterminated(line)
			}
			field = d[open:end:end]
			i = end + 1
			if p.bad < i {
				return nil, p.badByte(open, line)
			}
			lines := bytes.Count(field, []byte{p.eol})
			if marked {
				var ok bool
				if field, ok = p.unescape(field, true); !ok {
					return nil, p.badEscape(line)
				}
			}
			line += lines
			if i < len(d) && d[i] != p.comma && d[i] != '\n' && d[i] != '\r' {
				return nil, invalid("Write a quote inside a quoted value twice.", "line %d: text after a closing quote", line)
			}
		} else {
			open, marked, lines := i, false, 0
			for i < len(d) && d[i] != p.comma && d[i] != '\n' && d[i] != '\r' {
				if d[i] == p.mark && p.mark != 0 {
					return nil, invalid("Quote the whole value and write the quote inside it twice.", "line %d: a quote inside an unquoted value", line)
				}
				if d[i] == '\\' && p.escape {
					marked = true
					if i++; i < len(d) && d[i] == p.eol {
						lines++
					}
				}
				i++
			}
			if i = min(i, len(d)); p.bad < i {
				return nil, p.badByte(open, line)
			}
			field = d[open:i:i]
			if marked && string(field) != `\N` {
				var ok bool
				if field, ok = p.unescape(field, false); !ok {
					return nil, p.badEscape(line)
				}
			}
			line += lines
		}
		p.fields = append(p.fields, field)
		if i < len(d) && d[i] == p.stray {
			if p.eol == '\r' {
				return nil, p.strayEnd(line)
			}
			if i++; i < len(d) && d[i] != '\n' {
				return nil, p.strayEnd(line)
			}
		}
		if i >= len(d) {
			if p.torn {
				return nil, p.tooLong()
			}
			break
		}
		i++
		if d[i-1] == p.eol {
			break
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.at, p.line = p.line, line+1
	p.pos = i
	p.special(i)
	return p.fields, nil
}

// closing returns where the quote that was opened before open is closed, and
// whether something inside stands for something else; -1 if it is not closed.
func (p *parser) closing(open int) (end int, marked bool) {
	d := p.data
	for i := open; ; i++ {
		if !p.escape {
			j := bytes.IndexByte(d[i:], p.mark)
			if j < 0 {
				return -1, false
			}
			i += j
		} else if i >= len(d) {
			return -1, false
		} else if d[i] == '\\' {
			marked = true
			i++
			continue
		} else if d[i] != p.mark {
			continue
		}
		if i+1 >= len(d) || d[i+1] != p.mark {
			return i, marked
		}
		marked = true
		i++
	}
}

// unescape makes of "" one quote and, in a dialect with escapes, of a backslash
// and a character the character, in place. It reports false at a backslash
// before a character that programs read differently: \n is a line end for some
// and n for others.
func (p *parser) unescape(field []byte, quoted bool) ([]byte, bool) {
	n := 0
	for i := 0; i < len(field); i++ {
		c := field[i]
		switch {
		case c == '\\' && p.escape:
			if i++; i == len(field) {
				return nil, false
			}
			if c = field[i]; c != '\\' && c != p.comma && c != p.eol && (c != p.mark || c == 0) {
				return nil, false
			}
		case c == p.mark && quoted:
			i++
		}
		field[n] = c
		n++
	}
	return field[:n:n], true
}

func (p *parser) badEscape(line int) error {
	return invalid("Write a backslash only before the quote, the delimiter, another backslash or a line end, or, for a missing value, \\N alone.", "line %d: a backslash before another character", line)
}

// badByte is the error of the bad byte after from, which is on the given line.
func (p *parser) badByte(from, line int) error {
	line += bytes.Count(p.data[from:max(from, p.bad)], []byte{p.eol})
	switch {
	case p.data[p.bad] == 0:
		return invalid("The file is damaged, binary, or UTF-16 without a byte order mark; declare that as in csv;encoding=utf-16le.", "line %d: a NUL byte", line)
	case p.text.how != nil:
		return invalid("Declare the encoding that the file has, or repair the file; U+FFFD stands for characters that were lost before.", "line %d: not %s, or the character U+FFFD", line, p.text.name)
	}
	return invalid("Declare the encoding, as in csv;encoding=windows-1252.", "line %d: not UTF-8", line)
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

func (p *parser) strayEnd(line int) error {
	what := "carriage return"
	if p.stray == '\n' {
		what = "line feed"
	}
	return invalid("End all lines with LF, all with CRLF, or all with CR; quote a value that holds a line end.", "line %d: a %s that ends no line", line, what)
}
