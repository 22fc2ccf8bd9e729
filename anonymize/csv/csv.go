// Package csv reads and writes comma-separated values strictly (RFC 4180).
//
// # Read
//
// Without options: quoted fields with "" for a quote; lines that end with LF,
// CRLF or, in all of the file, CR; a delimiter among comma, semicolon, tab and
// bar that gives the first lines equally many fields; UTF-8, or UTF-16 or UTF-32
// with a byte order mark; blank lines after the last record; gzip and zstd.
// Everything else that encoding/csv and spreadsheets forgive (ragged rows, bare
// quotes, stray line ends, NUL bytes, bytes of another encoding) is refused with
// the number of the line, because a row that two programs read differently
// cannot be judged by either.
//
// A declared dialect ([Format.With]) has another delimiter or quote; backslashes
// that take the meaning from the byte after them; lines that are comments; no
// header, so that the columns are called c1, c2 and so on; another encoding. A
// missing value is an empty field, and other spellings of it are values like
// others; those given with the option null, quoted or not, count as empty and
// leave so. An encoding that the first bytes contradict is refused, and so are
// bytes that it does not have and U+FFFD, which decoders write in place of them.
//
// Bounds: a record of 1 MiB, 100,000 columns; for compressed files see codec.
//
// # Written
//
// Always with a header, in UTF-8 without a byte order mark, with LF and quotes
// only where they must be, compressed as what was read: any reader reads it, and
// the format does without options. The delimiter stays if it is one of the four
// above; otherwise, and for one column, it is a comma. The encoding does not
// stay, as few can write all that a verb may put in a value. Comments do not
// leave: no rule judges them.
//
// A value that a spreadsheet would run as a formula (it starts with = + - @ or a
// tab, and is no number) is written with an apostrophe before it, as OWASP's
// "CSV Injection" page advises.
package csv

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"runtime"
	"strconv"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/codec"
)

const (
	maxRecord  = 1 << 20   // bytes of one record, its line end included
	maxColumns = 100_000   // columns of a table
	blockSize  = 256 << 10 // bytes taken from the source at a time
	maxWorkers = 8
	// previewSize is how many bytes of the text say how lines end and what the
	// delimiter is: as many as Sniff is given.
	previewSize = codec.HeadSize
)

// Format is the CSV format. It keeps no state between calls.
type Format struct {
	block   int // bytes taken from the source at a time
	workers int // goroutines that work on records, at most
	dialect dialect
	tuned   bool // options were given
}

var _ anonymize.Format = (*Format)(nil)

// New returns the format.
func New() *Format {
	return &Format{block: blockSize, workers: min(runtime.GOMAXPROCS(0), maxWorkers), dialect: dialect{mark: '"'}}
}

// Name returns "csv".
func (*Format) Name() string { return "csv" }

// Rewrite streams src through edit to dst. If edit is an [anonymize.Forker],
// the records are worked on by as many goroutines as there are processors;
// what is written is the same. See [anonymize.Format].
func (f *Format) Rewrite(ctx context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	r, compression, err := codec.Open(src)
	if err != nil {
		return err
	}
	defer r.Close()
	d := f.dialect
	text, enc, err := d.plain(bufio.NewReaderSize(r, previewSize))
	if err != nil {
		return err
	}
	d.text = enc
	preview, err := text.Peek(previewSize)
	if err != nil && err != io.EOF {
		return err
	}
	preview = bytes.Clone(preview)
	d.eol = d.lineEnd(preview)
	s := d.splitter(text)
	first, err := s.next(make([]byte, f.block))
	for err == nil && !first.torn && len(d.afterComments(first.data)) == 0 {
		p := d.parser()
		p.reset(first)
		if _, err = p.next(); err != nil { // comments that are no text
			break
		}
		if first.final {
			return invalid("Give a file that has a line of column names, or at least one record where it has none.", "the file is empty")
		}
		first, err = s.next(first.buf)
	}
	if err != nil {
		return err
	}
	if d.comma == 0 {
		d.comma = d.delimiter(preview, first.data)
	}
	p := d.parser()
	names, err := d.names(&p, first)
	if err != nil {
		return err
	}
	leaving, err := edit.Header(names)
	if err != nil {
		return err
	}
	w := writer{comma: d.comma}
	if len(leaving) < 2 || !strings.Contains(candidates, string(w.comma)) {
		w.comma = ',' // readers could not find another
	}
	fields := make([][]byte, len(leaving))
	for i, name := range leaving {
		fields[i] = []byte(name)
	}
	w.names(fields)
	editors := []anonymize.Editor{edit}
	if forker, ok := edit.(anonymize.Forker); ok {
		for len(editors) < f.workers {
			fork, err := forker.Fork()
			if err != nil {
				return err
			}
			editors = append(editors, fork)
		}
	}
	first.data, first.line = first.data[p.pos:], p.line
	out, err := codec.Writer(dst, compression)
	if err != nil {
		return err
	}
	l := line{split: s, parser: p, comma: w.comma, editors: editors, block: f.block}
	if err := l.run(ctx, out, w.out, first); err != nil {
		return err
	}
	return out.Close()
}

// names returns the columns' names and leaves p at the first record after
// them. first holds the first record whole.
func (d *dialect) names(p *parser, first chunk) ([]string, error) {
	start := first
	if d.bare {
		start.data = bytes.Clone(first.data) // the parser works in place
	}
	p.reset(start)
	header, err := p.next()
	if err == nil && header == nil {
		err = p.tooLong()
	}
	if err != nil {
		return nil, err
	}
	p.columns = len(header)
	names := make([]string, len(header))
	if d.bare {
		for i := range names {
			names[i] = "c" + strconv.Itoa(i+1)
		}
		p.reset(first)
		return names, nil
	}
	seen := make(map[string]int, len(header))
	for i, name := range header {
		if len(bytes.TrimSpace(name)) == 0 {
			return nil, invalid("Give every column a name in the first line.", "line %d: column %d has no name", p.at, i+1)
		}
		names[i] = string(name)
		if j, ok := seen[names[i]]; ok {
			return nil, invalid("Rename one of the two columns.", "line %d: columns %d and %d have the same name", p.at, j+1, i+1)
		}
		seen[names[i]] = i
	}
	return names, nil
}

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("csv", sallyport.Invalid, hint, format, args...)
}
