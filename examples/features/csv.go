package main

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxRecord is the longest record that is read, bytes.
const maxRecord = 1 << 20

// reader reads CSV as RFC 4180 has it, with either line end. It is here because
// encoding/csv needs fmt, which would add a sixth to the module.
type reader struct {
	r     *bufio.Reader
	line  int // where the record begins, from 1
	next  int
	field []byte
}

func newReader(in io.Reader) *reader {
	r := &reader{r: bufio.NewReaderSize(in, 64<<10), next: 1}
	if mark, err := r.r.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
		_, _ = r.r.Discard(3) // they are buffered
	}
	return r
}

func (r *reader) fail(what string) error {
	return errors.New("line " + strconv.Itoa(r.line) + ": " + what)
}

// readFor reads a record that must have so many fields.
func (r *reader) readFor(fields int) ([]string, error) {
	rec, err := r.read()
	if err == nil && len(rec) != fields {
		return nil, r.fail(strconv.Itoa(len(rec)) + " fields, but the header has " + strconv.Itoa(fields))
	}
	return rec, err
}

// read returns the next record, or io.EOF. Empty lines are skipped.
func (r *reader) read() ([]string, error) {
	for {
		r.line = r.next
		if rec, blank, err := r.readLine(); err != nil || !blank {
			return rec, err
		}
	}
}

func (r *reader) readLine() (rec []string, blank bool, err error) {
	field := r.field[:0]
	defer func() { r.field = field }()
	inside, closed := false, false // quotes
	for size := 0; ; size++ {
		c, err := r.r.ReadByte()
		if err == io.EOF && inside {
			return nil, false, r.fail("a quote is not closed")
		}
		if err == io.EOF && size > 0 {
			return append(rec, string(field)), false, nil
		}
		if err != nil {
			return nil, false, err
		}
		if size > maxRecord {
			return nil, false, r.fail("the record is longer than 1 MiB")
		}
		if c == '\r' && !inside {
			if after, err := r.r.Peek(1); err == nil && after[0] == '\n' {
				continue
			}
		}
		if c == '\n' {
			r.next++
		}
		switch {
		case inside && c == '"':
			inside, closed = false, true
		case inside:
			field = append(field, c)
		case c == '"' && closed: // a doubled quote
			field = append(field, c)
			inside, closed = true, false
		case c == ',':
			rec = append(rec, string(field))
			field, closed = field[:0], false
		case c == '\n':
			return append(rec, string(field)), rec == nil && len(field) == 0 && !closed, nil
		case closed:
			return nil, false, r.fail("text after a closing quote")
		case c == '"' && len(field) == 0:
			inside = true
		case c == '"':
			return nil, false, r.fail("a quote in an unquoted field")
		default:
			field = append(field, c)
		}
	}
}

// writer writes CSV rows and keeps the first error.
type writer struct{ w *bufio.Writer }

func newWriter(out io.Writer) *writer { return &writer{bufio.NewWriterSize(out, 64<<10)} }

func (w *writer) row(fields ...string) {
	for i, v := range fields {
		if i > 0 {
			_ = w.w.WriteByte(',') // bufio keeps the error for flush
		}
		if strings.ContainsAny(v, ",\"\r\n") {
			v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
		_, _ = w.w.WriteString(v)
	}
	_ = w.w.WriteByte('\n')
}

func (w *writer) flush() error { return w.w.Flush() }
