// Package jsonl reads and writes JSON Lines (NDJSON): one JSON object (RFC
// 8259) a line. FHIR R4 bulk data is the same format, one resource a line.
//
// # Columns
//
// A column is the path of a value that is neither object nor array, and the
// column's name is that path: "id", "name[].family", "name[].given[]". A dot
// goes to a member of an object, [] to the items of an array. A key that is
// empty or holds a dot, bracket, quote, backslash or control character stands
// in brackets as a JSON string: {"a.b":{"c":1}} has the column ["a.b"].c, so no
// two paths have one name. A column whose path goes through an array is a list
// ([anonymize.Lister]): its field holds the values of one record in the order
// of the file, however deep the arrays are nested.
//
// A path may hold a value in one record and an object in the next: these are
// two columns, "a" and "a.b". A null where other records have an object or
// array counts as an empty one and is no value; a path that holds nothing but
// null is a column.
//
// If the Editor is a [anonymize.Knower], its columns are the header, and a path
// that is not among them ends the pass. For any other Editor the file is read
// twice: first to find the paths, in order of their first appearance.
//
// # Values
//
// The Editor sees the text of a value: a string without quotes and escapes, a
// number digit for digit, true or false. null, "" and an absent path are the
// empty field; a null or "" in a list is an empty item. What was empty stays
// the null, the "" or the absence that it was, whatever the Editor answers. An
// unchanged value is written with the characters that it had. A changed one is
// written as a number if it was a number and its new text is a JSON number, as
// true or false if it was one of these and still is, as null if it was a number
// or boolean and its new text is empty, and else as a string. A column whose type
// changes ([anonymize.Typer]) is written as strings throughout, null aside.
//
// # What leaves
//
// Keys stay in the order of the file; space between tokens, blank lines and a
// byte order mark do not leave. A value of a column that does not leave is
// taken out with its key, and so is an object or array (also one that is an
// item of an array) that thereby has become empty. One that was empty in the
// file carries no value, but its presence says something: it stays only if a
// column below its path leaves. Each record that leaves is a line, {} at least.
//
// # What is refused
//
// An object that has a key twice, because readers differ in which one counts;
// UTF-8 or escapes that are no characters (RFC 8259 section 8.2); a line that
// is no object or has more after it; nesting deeper than 64; a line longer than
// 16 MiB.
package jsonl

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/codec"
)

const (
	maxLine    = 16 << 20 // bytes of one line
	maxDepth   = 64       // objects and arrays in one another, the record included
	maxPaths   = 100_000  // paths of a file, those of objects and arrays included
	maxNames   = 16 << 20 // bytes of all paths together
	blockSize  = 256 << 10
	largeBlock = 1 << 20 // a line that needs more is worked on with few others at a time
	maxWorkers = 8
)

// Format is JSON Lines. It keeps no state between calls.
type Format struct {
	block    int    // bytes taken from the source at a time
	workers  int    // goroutines that work on records, at most
	resource string // the FHIR resource type that each record must have; "" for any
}

var (
	_ anonymize.Lister = (*Format)(nil)
	_ anonymize.Tuned  = (*Format)(nil)
)

// New returns the format.
func New() *Format { return &Format{block: blockSize, workers: min(runtime.GOMAXPROCS(0), maxWorkers)} }

// Name returns "jsonl".
func (*Format) Name() string { return "jsonl" }

// List reports whether the path column goes through an array.
func (*Format) List(column string) bool {
	steps, ok := parsePath(column)
	return ok && slices.ContainsFunc(steps, func(s step) bool { return s.item })
}

// With knows one option: resource=Patient demands that each record is an
// object whose resourceType is Patient, as in a FHIR bulk data file.
func (f *Format) With(options map[string]string) (anonymize.Format, error) {
	tuned := *f
	for name, value := range options {
		if name != "resource" {
			return nil, invalid("The option there is: resource.", "unknown option %q", name)
		}
		letter := func(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' }
		if value == "" || len(value) > 64 || strings.IndexFunc(value, func(r rune) bool { return !letter(r) }) >= 0 {
			return nil, invalid("Write resource=Patient, or another type of resource.", "option resource: %q is no type of a FHIR resource", value)
		}
		tuned.resource = value
	}
	return &tuned, nil
}

// Sniff reports whether the first line of head that is not blank is a JSON
// object, or the start of one that goes on beyond head. A document that is
// spread over several lines is none.
func (f *Format) Sniff(head []byte) bool {
	head = bytes.TrimPrefix(codec.Head(head), utf8BOM)
	line, _, whole := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), lineFeed)
	if len(line) == 0 || line[0] != '{' {
		return false
	}
	if bad := firstInvalid(line); bad >= 0 && (whole || bad <= len(line)-utf8.UTFMax) {
		return false
	}
	r := newFinder()
	return r.record(line) || !whole && r.fault.cut
}

// Rewrite streams src through edit to dst. If edit is an [anonymize.Forker],
// the records are worked on by as many goroutines as there are processors;
// what is written is the same. See [anonymize.Format].
func (f *Format) Rewrite(ctx context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	var columns []string
	if k, ok := edit.(anonymize.Knower); ok {
		columns = k.Columns()
	} else {
		var err error
		if columns, err = f.discover(ctx, src); err != nil {
			return err
		}
	}
	t, err := plant(columns)
	if err != nil {
		return err
	}
	leaving, err := edit.Header(slices.Clone(columns))
	if err != nil {
		return err
	}
	if err := t.leave(leaving); err != nil {
		return err
	}
	text := make([]bool, len(leaving))
	if typer, ok := edit.(anonymize.Typer); ok {
		for i, name := range leaving {
			text[i] = !typer.SameType(name)
		}
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
	in, name, err := codec.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := codec.Writer(dst, name)
	if err != nil {
		return err
	}
	l := line{tree: t, text: text, resource: f.resource, editors: editors, split: newSplitter(in, f.block)}
	err = l.run(ctx, out)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("jsonl", sallyport.Invalid, hint, format, args...)
}
