// Package csv reads and writes comma-separated values strictly (RFC 4180).
//
// Read: quoted fields with "" for a quote, CRLF or LF line ends, a delimiter
// found from the header line among comma, semicolon, tab and bar, an optional
// UTF-8 byte order mark, and blank lines after the last record. Everything else that encoding/csv and
// spreadsheets forgive (ragged rows, bare quotes, lone carriage returns, NUL
// bytes, other encodings) is refused with the number of the line, because a
// row that two programs read differently cannot be judged by either.
//
// Written: comma, LF, fields quoted only when they must be. A value that a
// spreadsheet would run as a formula (it starts with = + - @ or a tab, and is
// no number) is written with an apostrophe before it, as OWASP's "CSV
// Injection" page advises.
package csv

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
)

const (
	maxRecord  = 1 << 20   // bytes of one record, its line end included
	maxColumns = 10_000    // columns of a table
	blockSize  = 256 << 10 // bytes taken from the source at a time
	maxWorkers = 8
)

// Format is the CSV format. It keeps no state between calls.
type Format struct {
	block   int // bytes taken from the source at a time
	workers int // goroutines that work on records, at most
}

var _ anonymize.Format = (*Format)(nil)

// New returns the format.
func New() *Format { return &Format{block: blockSize, workers: min(runtime.GOMAXPROCS(0), maxWorkers)} }

// Name returns "csv".
func (*Format) Name() string { return "csv" }

// Sniff reports whether head starts with a header line of at least two
// columns and, where head holds a second line, that line has as many.
func (*Format) Sniff(head []byte) bool {
	head = bytes.Clone(bytes.TrimPrefix(head, utf8BOM)) // the parser works in place
	if len(head) == 0 || head[0] == '{' || head[0] == '[' || head[0] == '<' || bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	// The last rune may be cut off at the end of head.
	if bad := firstInvalid(head); bad < len(head)-utf8.UTFMax {
		return false
	}
	cut := lastBoundary(head)
	whole := cut > 0
	if !whole {
		cut = len(head)
	}
	p := parser{comma: delimiter(head[:cut])}
	p.reset(chunk{data: head[:cut], final: true, line: 1})
	header, err := p.next()
	if err != nil || len(header) < 2 {
		return false
	}
	for _, name := range header {
		if len(name) == 0 {
			return false
		}
	}
	p.columns = len(header)
	if _, err := p.next(); err != nil {
		return false
	}
	return true
}

// Rewrite streams src through edit to dst. If edit is an [anonymize.Forker],
// the records are worked on by as many goroutines as there are processors;
// what is written is the same. See [anonymize.Format].
func (f *Format) Rewrite(ctx context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	s := &splitter{src: src, line: 1}
	first, err := s.next(make([]byte, f.block))
	if err != nil {
		return err
	}
	if len(first.data) == 0 {
		return invalid("Give a file whose first line names the columns.", "the file is empty")
	}
	p := parser{comma: delimiter(first.data)}
	p.reset(first)
	out, err := start(&p, edit)
	if err != nil {
		return err
	}
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
	l := line{split: s, parser: p, editors: editors, block: f.block}
	return l.run(ctx, dst, out, first)
}

// start reads the header, asks edit about it, and returns the output so far.
func start(p *parser, edit anonymize.Editor) ([]byte, error) {
	header, err := p.next()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(header))
	seen := make(map[string]int, len(header))
	for i, name := range header {
		if len(bytes.TrimSpace(name)) == 0 {
			return nil, invalid("Give every column a name in the first line.", "line 1: column %d has no name", i+1)
		}
		names[i] = string(name)
		if j, ok := seen[names[i]]; ok {
			return nil, invalid("Rename one of the two columns.", "line 1: columns %d and %d have the same name", j+1, i+1)
		}
		seen[names[i]] = i
	}
	p.columns = len(names)
	leaving, err := edit.Header(names)
	if err != nil {
		return nil, err
	}
	fields := make([][]byte, len(leaving))
	for i, name := range leaving {
		fields[i] = []byte(name)
	}
	var w writer
	w.record(fields)
	return w.out, nil
}

// delimiter returns the candidate that stands most often outside quotes in the
// first line of data; the earlier candidate wins a tie, comma first.
func delimiter(data []byte) byte {
	const candidates = ",;\t|"
	var count [len(candidates)]int
	quoted := false
scan:
	for _, c := range data {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\n':
			break scan
		default:
			for i := range len(candidates) {
				if candidates[i] == c {
					count[i]++
				}
			}
		}
	}
	best := 0
	for i := range count {
		if count[i] > count[best] {
			best = i
		}
	}
	return candidates[best]
}

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("csv", sallyport.Invalid, hint, format, args...)
}
