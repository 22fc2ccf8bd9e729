package jsonl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/codec"
)

// newFinder returns a reader that keeps paths, not values.
func newFinder() *reader {
	r := newReader(newTree(), nil)
	r.grow = true
	return r
}

// discover reads the whole of src for its columns.
func (f *Format) discover(ctx context.Context, src io.ReaderAt) ([]string, error) {
	in, _, err := codec.Open(io.NewSectionReader(src, 0, math.MaxInt64))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	s, r := newSplitter(in, f.block), newFinder()
	r.resource = f.resource
	buf := make([]byte, f.block)
	for {
		if err := ctx.Err(); err != nil {
			return nil, sallyport.E("jsonl", sallyport.Canceled, err, "")
		}
		c, err := s.next(buf)
		if err != nil {
			return nil, err
		}
		if err := each(c, r, func(int) error { return nil }); err != nil {
			return nil, err
		}
		if c.final {
			return r.tree.found(), nil
		}
		buf = c.buf
		if c.large {
			r.reset(nil)
			<-s.large
			buf = make([]byte, f.block)
		}
	}
}

// each has r read the records of c and calls do with the line after each.
func each(c chunk, r *reader, do func(line int) error) error {
	if c.torn {
		hint := "Look for a missing line feed."
		if i := len(c.data) - len(bytes.TrimLeft(c.data, " \t\r")); i < len(c.data) && c.data[i] == '[' {
			hint = arrayHint
		}
		return invalid(hint, "line %d: longer than %d MiB", c.line, maxLine>>20)
	}
	valid := utf8.Valid(c.data)
	for n, data := c.line, c.data; len(data) > 0; n++ {
		line, rest := data, []byte(nil)
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, rest = data[:i], data[i+1:]
		}
		data = rest
		if !valid {
			if bad := firstInvalid(line); bad >= 0 {
				return invalid("Convert it first, for example: iconv -f ISO-8859-1 -t UTF-8.", "line %d, byte %d: not UTF-8", n, bad+1)
			}
		}
		if blank(line) {
			continue
		}
		if !r.record(line) {
			return invalid(r.fault.hint, "line %d, byte %d: %s", n, r.fault.at+1, r.fault.text)
		}
		if err := do(n); err != nil {
			return err
		}
	}
	return nil
}

func blank(line []byte) bool {
	for _, c := range line {
		if !white(c) {
			return false
		}
	}
	return true
}

// process appends to out what edit makes of the records of c.
func process(r *reader, edit anonymize.Editor, c chunk, out []byte) ([]byte, error) {
	err := each(c, r, func(line int) error {
		answer, err := edit.Record(r.fields)
		if err == nil && answer != nil {
			out, err = r.append(out, answer)
		}
		if err != nil {
			return sallyport.E(fmt.Sprintf("line %d", line), sallyport.KindOf(err), err, "")
		}
		return nil
	})
	if c.large {
		r.reset(nil)
		clear(r.answers)
	}
	return out, err
}
