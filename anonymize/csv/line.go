package csv

import (
	"context"
	"fmt"
	"io"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/internal/ordered"
)

// line is the assembly line of a pass: one goroutine cuts chunks, a worker per
// editor parses, edits and formats them, and the caller writes the results in
// file order. Memory is a few chunks for each worker.
type line struct {
	split   *splitter
	parser  parser // each worker's own copy starts like this
	comma   byte   // the delimiter that is written
	editors []anonymize.Editor
	block   int
}

// job is one chunk on its way, and what became of it.
type job struct {
	chunk
	out []byte
}

// run works on first and all that follows, and writes head before it.
func (l *line) run(ctx context.Context, dst io.Writer, head []byte, first chunk) error {
	if _, err := dst.Write(head); err != nil {
		return err
	}
	var workers []func(*job) error
	for _, edit := range l.editors {
		p, w := l.parser, writer{comma: l.comma}
		p.fields = nil
		workers = append(workers, func(j *job) (err error) {
			j.out, err = process(&p, &w, edit, j.chunk, j.out[:0])
			return err
		})
	}
	begun := false
	return ordered.Run(workers, func(j *job) (more bool, err error) {
		if !begun {
			begun, j.chunk = true, first
			return !first.final && !first.torn, nil
		}
		if err := ctx.Err(); err != nil {
			return false, sallyport.E("csv", sallyport.Canceled, err, "")
		}
		spare := j.chunk.buf // of a chunk that is done with
		if spare == nil {
			spare = make([]byte, l.block)
		}
		j.chunk, err = l.split.next(spare)
		return !j.final && !j.torn, err
	}, func(j *job) error {
		if len(j.out) == 0 {
			return nil
		}
		_, err := dst.Write(j.out)
		return err
	}, nil)
}

// process appends to out what edit makes of the records of c.
func process(p *parser, w *writer, edit anonymize.Editor, c chunk, out []byte) ([]byte, error) {
	p.reset(c)
	w.out = out
	for {
		fields, err := p.next()
		if err == nil && fields == nil && c.torn {
			err = p.tooLong()
		}
		if err != nil || fields == nil {
			return w.out, err
		}
		p.nulls.empty(fields)
		leaving, err := edit.Record(fields)
		if err != nil {
			return nil, sallyport.E(fmt.Sprintf("line %d", p.at), sallyport.KindOf(err), err, "")
		}
		if leaving != nil {
			w.record(leaving)
		}
	}
}
