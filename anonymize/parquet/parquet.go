// Package parquet reads and writes Apache Parquet files (the specification is
// in the repository apache/parquet-format).
//
// A column of the table is a leaf of the file's schema; its name is the path
// with dots ("address.city"). What repeats is a list field, and its name holds
// "[]" ("tags[]", "visits[].date"). Values are given as text: numbers in
// decimal, dates and times as ISO 8601, UUIDs in their usual form; a null is an
// empty field. Text that is not UTF-8 is refused. Bytes without a meaning leave
// where they are UTF-8, so that what looks for identifiers sees them, and are
// refused elsewhere. What we do not understand (INTERVAL, BSON, FLOAT16,
// GEOMETRY, VARIANT and what is to come) can be dropped, and only that.
//
// A column that an [anonymize.Typer] says is of the type that came keeps its
// type; a value that was not changed keeps its bits, and a null stays a null. A
// changed value that the type does not have becomes null. Therefore a column of
// such a type that cannot be null is written as one that can. Every other
// column is written as text. In a struct or list that is absent from a record,
// its columns stay absent, whatever a transform makes of an empty field.
//
// The file written is made anew: values that leave, the schema of the columns
// that leave, each column's compression and as many records in a row group as
// the largest of the source has, if they fit in the memory for it. Nothing else
// of the source goes over: no key-value metadata, no name of the program that
// wrote it, no statistics, page indexes, bloom filters, sorting columns or
// field ids; dictionaries hold only values that leave. That a struct is there
// is told by its columns that leave alone.
//
// Memory is bounded by the pages of one record, and by one row group of what is
// written. Every length that a file claims is checked before room is made for
// it, which is why pages and metadata are decoded here: a general library
// allocates what a header asks for.
package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"sallyport"
	"sallyport/anonymize"
)

const (
	pagesMost = 256 << 20 // bytes of pages that are held at once
	groupMost = 64 << 20  // bytes of a row group that is being written
	pageRows  = 20_000    // records in a page that is written
	pageBytes = 256 << 10 // bytes in a page that is written, about
)

// Format is the Parquet format. It keeps no state between calls.
type Format struct {
	pages int64 // bytes of pages that are held at once
	group int   // bytes of a row group that is being written
}

var _ anonymize.Lister = (*Format)(nil)

// New returns the format.
func New() *Format { return &Format{pages: pagesMost, group: groupMost} }

// Name returns "parquet".
func (*Format) Name() string { return "parquet" }

// Sniff reports whether head starts as a Parquet file does, encrypted ones
// included: they are recognized in order to be refused by name.
func (*Format) Sniff(head []byte) bool {
	return len(head) >= 4 && (string(head[:4]) == magic || string(head[:4]) == "PARE")
}

// List reports whether the fields of a column are lists.
func (*Format) List(column string) bool { return isList(column) }

// Rewrite streams src through edit to dst. It reads src at its places only, and
// takes its size from [anonymize.Sized] or, failing that, looks for its end.
// See [anonymize.Format].
func (f *Format) Rewrite(ctx context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) (err error) {
	p := &pass{codecs: &codecs{}}
	defer p.codecs.close()
	defer func() {
		// A panic of the editor or the sink is theirs; one here, or in a
		// decompressor, is the file's doing.
		if p.outside {
			return
		}
		if r := recover(); r != nil {
			err = invalid("Write the file again, and report this file's shape as a bug.", "the file cannot be read: reading it failed without a reason")
		}
	}()
	size, err := sizeOf(src)
	if err != nil {
		return err
	}
	file, err := open(src, size)
	if err != nil {
		return err
	}
	return p.run(ctx, f, file, dst, src, edit)
}

// sizeOf is the size of src.
func sizeOf(src anonymize.Source) (int64, error) {
	if s, ok := src.(anonymize.Sized); ok {
		return s.Size(), nil
	}
	holds := func(at int64) (bool, error) {
		var b [1]byte
		n, err := src.ReadAt(b[:], at)
		switch {
		case n == 1:
			return true, nil
		case err == nil, errors.Is(err, io.EOF):
			return false, nil
		}
		return false, sallyport.Errorf("parquet", sallyport.KindOf(err), "", "looking for the end of the file: %w", err)
	}
	low, high := int64(0), int64(1) // low bytes are there
	for {
		ok, err := holds(high - 1)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if low = high; high >= 1<<60 {
			return 0, invalid("Give a file that ends.", "the file has no end")
		}
		high *= 2
	}
	for low+1 < high { // high bytes are not
		mid := low + (high-low)/2
		ok, err := holds(mid - 1)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}

// pass is one Rewrite.
type pass struct {
	codecs  *codecs
	outside bool // code that is not ours is at work
}

func (p *pass) run(ctx context.Context, f *Format, file *file, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	leaves := file.leaves
	names := make([]string, len(leaves))
	columns := make([]column, len(leaves))
	cells := make([]cell, len(leaves))
	fields := make([][]byte, len(leaves))
	budget := &budget{most: f.pages}
	window := min(max(8<<20/len(leaves), 4<<10), 64<<10)
	for i, l := range leaves {
		names[i] = l.name
		columns[i] = column{l: l, src: src, codecs: p.codecs, budget: budget, window: window}
	}
	p.outside = true
	leaving, err := edit.Header(names)
	if err != nil {
		return err
	}
	typer, _ := edit.(anonymize.Typer)
	same := make([]bool, len(leaving))
	for i, name := range leaving {
		same[i] = typer != nil && typer.SameType(name)
	}
	p.outside = false
	w, err := newWriter(dst, p, file, leaving, same, f.group)
	if err != nil {
		return err
	}
	var scratch []byte
	record := int64(0)
	for g := range file.groups {
		group := &file.groups[g]
		for i := range columns {
			columns[i].reset(group.chunks[i])
		}
		for range group.rows {
			if record%256 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			record++
			scratch = scratch[:0]
			for i := range columns {
				if leaves[i].rep > 0 {
					scratch, err = columns[i].list(&cells[i], scratch)
				} else {
					scratch, err = columns[i].flat(&cells[i], scratch)
				}
				if err != nil {
					return err
				}
				fields[i] = cells[i].text
			}
			p.outside = true
			out, err := edit.Record(fields)
			p.outside = false
			if err != nil {
				return sallyport.E(fmt.Sprintf("record %d", record), sallyport.KindOf(err), err, "")
			}
			if out == nil {
				continue
			}
			if len(out) != len(leaving) {
				return sallyport.Errorf("parquet", sallyport.Internal, "", "the editor answered %d fields for %d columns", len(out), len(leaving))
			}
			if err := w.record(cells, out); err != nil {
				return err
			}
		}
		for i := range columns {
			if err := columns[i].done(); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.close()
}

// places finds the columns that leave. They are written in the file's order.
func places(leaves []*leaf, leaving []string) ([]int, error) {
	at := make(map[string]int, len(leaves))
	for i, l := range leaves {
		at[l.name] = i
	}
	in := make([]int, len(leaving))
	for i, name := range leaving {
		p, ok := at[name]
		if !ok || slices.Contains(in[:i], p) && i > 0 {
			return nil, sallyport.Errorf("parquet", sallyport.Internal, "", "the editor lets column %q leave, which is not in the file or leaves already", name)
		}
		in[i] = p
		if leaves[p].kind == kindOpaque {
			return nil, invalid("Drop the column, or write it as text or numbers.", "column %q is of a type that cannot be judged", name)
		}
	}
	return in, nil
}

func invalid(hint, format string, args ...any) error {
	return sallyport.Errorf("parquet", sallyport.Invalid, hint, format, args...)
}
