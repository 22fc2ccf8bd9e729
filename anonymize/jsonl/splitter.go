package jsonl

import (
	"bytes"
	"io"
)

var (
	utf8BOM  = []byte("\xef\xbb\xbf")
	utf16LE  = []byte("\xff\xfe")
	utf16BE  = []byte("\xfe\xff")
	lineFeed = []byte{'\n'}
)

// chunk is a run of whole lines.
type chunk struct {
	buf   []byte // what data lies in; to be given back to the splitter
	data  []byte
	line  int  // number of data's first line
	final bool // data ends with the file
	torn  bool // data is the start of a line that is too long
	large bool // it holds one of the splitter's tokens
}

// splitter cuts a source into chunks.
type splitter struct {
	src   io.Reader
	block int    // bytes taken from src at a time, at least 3
	rest  []byte // read, but not yet part of a chunk
	begun bool
	line  int // number of the first line of rest
	// large has room for as many chunks as may exceed largeBlock at a time, so
	// that a file of long lines does not take a long line's memory for each
	// goroutine. Who is done with such a chunk takes its token out.
	large chan struct{}
}

func newSplitter(src io.Reader, block int) *splitter {
	return &splitter{src: src, block: block, line: 1, large: make(chan struct{}, 2)}
}

// next fills buf, growing it if one line does not fit, and returns the next
// chunk in it. The chunk is valid as long as the caller leaves buf alone.
func (s *splitter) next(buf []byte) (chunk, error) {
	c := chunk{line: s.line}
	buf = buf[:cap(buf)]
	n := copy(buf, s.rest)
	s.rest = s.rest[:0]
	for {
		// One block at a time, however long buf is: so rest is short of a block.
		m, err := fill(s.src, buf[n:min(n+s.block, len(buf))])
		old := n
		n += m
		if !s.begun {
			s.begun = true
			if bytes.HasPrefix(buf[:n], utf16LE) || bytes.HasPrefix(buf[:n], utf16BE) {
				return c, invalid("Convert it first: iconv -f UTF-16 -t UTF-8.", "line 1: the file is UTF-16, not UTF-8")
			}
			if bytes.HasPrefix(buf[:n], utf8BOM) {
				n = copy(buf, buf[len(utf8BOM):n])
			}
		}
		if err != nil && err != io.EOF {
			return c, err
		}
		c.buf, c.data, c.final = buf, buf[:n], err == io.EOF
		i := bytes.LastIndexByte(buf[old:n], '\n')
		if i < 0 && n > maxLine {
			c.torn = true
			return c, nil
		}
		if i >= 0 && !c.final {
			s.rest = append(s.rest, buf[old+i+1:n]...)
			c.data = buf[:old+i+1]
		}
		if i >= 0 || c.final {
			s.line += bytes.Count(c.data, lineFeed)
			return c, nil
		}
		if n < len(buf) {
			continue
		}
		if 2*len(buf) > largeBlock && !c.large {
			s.large <- struct{}{}
			c.large = true
		}
		grown := make([]byte, min(2*len(buf), maxLine+1))
		copy(grown, buf[:n])
		buf = grown
	}
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
