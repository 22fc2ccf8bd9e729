package jsonl

import (
	"context"
	"io"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/internal/ordered"
)

// line is the assembly line of a pass: one goroutine cuts chunks, a worker per
// editor reads, edits and writes them, and the caller hands the results on in
// file order. Memory is a few chunks for each worker.
type line struct {
	split    *splitter
	tree     *tree
	text     []bool
	resource string
	editors  []anonymize.Editor
}

// job is one chunk on its way, and what became of it.
type job struct {
	chunk
	out []byte
}

func (l *line) run(ctx context.Context, dst io.Writer) error {
	var workers []func(*job) error
	for _, edit := range l.editors {
		r := newReader(l.tree, l.text)
		r.resource = l.resource
		workers = append(workers, func(j *job) (err error) {
			j.out, err = process(r, edit, j.chunk, j.out[:0])
			return err
		})
	}
	return ordered.Run(workers, func(j *job) (more bool, err error) {
		if err := ctx.Err(); err != nil {
			return false, sallyport.E("jsonl", sallyport.Canceled, err, "")
		}
		buf := j.buf // of a chunk that is done with
		if buf == nil {
			buf = make([]byte, l.split.block)
		}
		j.chunk, err = l.split.next(buf)
		return !j.final && !j.torn, err
	}, func(j *job) error {
		if len(j.out) == 0 {
			return nil
		}
		_, err := dst.Write(j.out)
		return err
	}, func(j *job) {
		if j.large { // its memory goes before another large one's comes
			*j = job{}
			<-l.split.large
		}
	})
}
