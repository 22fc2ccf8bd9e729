package csv

import (
	"bytes"
	"io"
)

var (
	utf8BOM = []byte("\xef\xbb\xbf")
	utf16LE = []byte("\xff\xfe")
	utf16BE = []byte("\xfe\xff")
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
// after the fault, and the parser meets the fault first.
type splitter struct {
	src   io.Reader
	rest  []byte // read, but not yet part of a chunk
	read  int64
	line  int // number of the first line of rest
	blank int // as in chunk
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
		first := s.read == 0
		s.read += int64(m)
		n += m
		if first {
			if bytes.HasPrefix(buf[:n], utf16LE) || bytes.HasPrefix(buf[:n], utf16BE) {
				return chunk{}, invalid("Convert it first: iconv -f UTF-16 -t UTF-8.", "line 1: the file is UTF-16, not UTF-8")
			}
			if bytes.HasPrefix(buf[:n], utf8BOM) {
				n = copy(buf, buf[len(utf8BOM):n])
			}
		}
		if err == io.EOF {
			return s.cut(chunk{buf: buf, data: buf[:n], final: true}), nil
		}
		if err != nil {
			return chunk{}, err
		}
		if cut := lastBoundary(buf[:n]); cut > 0 {
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
	s.line += bytes.Count(c.data, lineFeed)
	// Blank lines end a file, or are a fault of the next chunk's first record.
	text := bytes.TrimRight(c.data, "\r\n")
	if end := c.data[len(text):]; len(text) == 0 {
		if s.blank == 0 && len(end) > 0 {
			s.blank = c.line
		}
	} else if n := bytes.Count(end, lineFeed); n > 1 {
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

// lastBoundary returns the length of the longest prefix of b that ends with
// the end of a record, 0 if there is none. b starts at the start of a record.
func lastBoundary(b []byte) int {
	before := bytes.Count(b, quoteMark) // quotes in b[:end]
	for end := len(b); ; {
		i := bytes.LastIndexByte(b[:end], '\n')
		if i < 0 {
			return 0
		}
		before -= bytes.Count(b[i:end], quoteMark)
		if before%2 == 0 {
			return i + 1
		}
		end = i
	}
}

var quoteMark = []byte{'"'}
