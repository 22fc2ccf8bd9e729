package csv

import (
	"bytes"
	"io"
	"strings"
)

// chunk is a run of whole records, or the rest of the file.
type chunk struct {
	buf   []byte // what data lies in; to be given back to the splitter
	data  []byte
	line  int  // number of data's first line
	blank int  // number of the first of the blank lines right before it; 0: none
	final bool // data ends with the file
	torn  bool // data is one unfinished record of maxRecord bytes
}

// splitter cuts a source into chunks. In well-formed CSV a line end is the end
// of a record exactly if an even number of quotes stands before it, so the cut
// needs no parsing; where the file is not well-formed, the wrong cut comes
// after the fault, and the parser meets the fault first. In dialects where this
// is not so, it goes from record to record.
type splitter struct {
	*dialect
	src   io.Reader
	rest  []byte // read, but not yet part of a chunk
	line  int    // number of the first line of rest
	blank int    // as in chunk
	eol   []byte // the byte that ends a line
	mark  []byte // the quote
	open  int    // number of the first of the blank lines right before the last boundary; 0: none
}

// next fills buf, growing it if one record does not fit, and returns the next
// chunk in it. The chunk is valid as long as the caller leaves buf alone.
func (s *splitter) next(buf []byte) (chunk, error) {
	buf = buf[:cap(buf)]
	for len(buf) <= len(s.rest) {
		buf = make([]byte, 2*len(buf))
	}
	n := copy(buf, s.rest)
	s.rest = s.rest[:0]
	for {
		m, err := fill(s.src, buf[n:])
		n += m
		if err == io.EOF {
			return s.cut(chunk{buf: buf, data: buf[:n], final: true}), nil
		}
		if err != nil {
			return chunk{}, err
		}
		if cut := s.boundary(buf[:n]); cut > 0 {
			s.rest = append(s.rest, buf[cut:n]...)
			return s.cut(chunk{buf: buf, data: buf[:cut]}), nil
		}
		if n >= maxRecord {
			return s.cut(chunk{buf: buf, data: buf[:n], torn: true}), nil
		}
		grown := make([]byte, min(2*len(buf), maxRecord))
		copy(grown, buf[:n])
		buf = grown
	}
}

// cut numbers the lines of c.
func (s *splitter) cut(c chunk) chunk {
	c.line, c.blank = s.line, s.blank
	s.line += bytes.Count(c.data, s.eol)
	if s.forward() {
		s.blank = s.open
		return c
	}
	// Blank lines end a file, or are a fault of the next chunk's first record.
	text := bytes.TrimRight(c.data, "\r\n")
	if end := c.data[len(text):]; len(text) == 0 {
		if s.blank == 0 && len(end) > 0 {
			s.blank = c.line
		}
	} else if n := bytes.Count(end, s.eol); n > 1 {
		s.blank = s.line - n + 1
	} else {
		s.blank = 0
	}
	return c
}

// fill reads until b is full. It returns io.EOF only where src did.
func fill(src io.Reader, b []byte) (n int, err error) {
	for idle := 0; n < len(b) && err == nil; {
		var m int
		m, err = src.Read(b[n:])
		if n += m; m == 0 && err == nil {
			if idle++; idle > 100 {
				err = io.ErrNoProgress
			}
		} else {
			idle = 0
		}
	}
	return n, err
}

// boundary returns the length of the longest prefix of b that ends with the
// end of a record, 0 if there is none. b starts at the start of a record.
func (s *splitter) boundary(b []byte) int {
	if s.forward() {
		return s.walk(b)
	}
	before := 0 // quotes in b[:end]
	if s.mark[0] != 0 {
		before = bytes.Count(b, s.mark)
	}
	for end := len(b); ; {
		i := bytes.LastIndexByte(b[:end], s.eol[0])
		if i < 0 {
			return 0
		}
		if s.mark[0] != 0 {
			before -= bytes.Count(b[i:end], s.mark)
		}
		if before%2 == 0 {
			return i + 1
		}
		end = i
	}
}

// walk is boundary from the start on. A comment ends like a record.
func (s *splitter) walk(b []byte) (cut int) {
	line := s.line
	s.open = s.blank
	for cut < len(b) {
		rest, n := b[cut:], 0
		switch {
		case s.comment != 0 && rest[0] == s.comment:
			n = bytes.IndexByte(rest, s.eol[0]) + 1
		case rest[0] == s.eol[0]:
			n = 1
		case rest[0] == '\r' && len(rest) > 1 && rest[1] == s.eol[0]:
			n = 2
		default:
			if n = s.recordEnd(rest); n > 0 {
				s.open = 0
				line += bytes.Count(rest[:n-1], s.eol)
			}
		}
		if n == 0 {
			break
		}
		if n <= 2 && s.open == 0 && len(bytes.TrimRight(rest[:n], "\r\n")) == 0 {
			s.open = line
		}
		line++
		cut += n
	}
	return cut
}

// recordEnd returns the length of the record that b starts with, 0 if it ends
// after b.
func (s *splitter) recordEnd(b []byte) int {
	start, mark := true, s.mark[0] // start: of a field
	for i := 0; i < len(b); i++ {
		c := b[i]
		if start && c == mark && mark != 0 {
			for i++; i < len(b); i++ {
				if b[i] == '\\' && s.escape {
					i++
				} else if b[i] == mark {
					if i+1 >= len(b) || b[i+1] != mark {
						break
					}
					i++
				}
			}
			start = false
			continue
		}
		switch {
		case c == '\\' && s.escape:
			i++
		case c == s.eol[0]:
			return i + 1
		}
		start = c == s.comma || s.comma == 0 && strings.IndexByte(candidates, c) >= 0
	}
	return 0
}

var quoteMark = []byte{'"'}
