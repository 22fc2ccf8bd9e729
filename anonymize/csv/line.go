package csv

import (
	"context"
	"fmt"
	"io"
	"sync"

	"sallyport"
	"sallyport/anonymize"
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

// job is one chunk on its way.
type job struct {
	chunk
	out  []byte
	err  error
	done chan struct{} // receives when out and err are set
}

// run works on first and all that follows, and writes head before it.
func (l *line) run(ctx context.Context, dst io.Writer, head []byte, first chunk) error {
	depth := 2*len(l.editors) + 1
	free := make(chan *job, depth)
	work := make(chan *job, depth)
	order := make(chan *job, depth)
	for range depth {
		free <- &job{done: make(chan struct{}, 1)}
	}
	quit := make(chan struct{})
	var all sync.WaitGroup
	var cutErr error // of the cutter, read after order is closed
	all.Go(func() {
		defer close(order)
		defer close(work)
		cutErr = l.cut(ctx, first, free, work, order, quit)
	})
	for _, edit := range l.editors {
		p, w := l.parser, writer{comma: l.comma}
		p.fields = nil
		all.Go(func() {
			var failed error // ends this worker's part; the writer ends the rest
			for j := range work {
				if j.out, j.err = j.out[:0], failed; failed == nil {
					j.out, j.err = process(&p, &w, edit, j.chunk, j.out)
					failed = j.err
				}
				j.done <- struct{}{}
			}
		})
	}
	_, err := dst.Write(head)
	if err != nil {
		close(quit)
	}
	for j := range order {
		<-j.done
		if err == nil {
			if err = j.err; err == nil && len(j.out) > 0 {
				_, err = dst.Write(j.out)
			}
			if err != nil {
				close(quit)
			}
		}
		free <- j
	}
	all.Wait()
	if err == nil {
		err = cutErr
	}
	return err
}

// cut sends first and the chunks after it to the workers and, in the same
// order, to the writer. It returns when the file or the pass has ended.
func (l *line) cut(ctx context.Context, first chunk, free, work, order chan *job, quit chan struct{}) error {
	c := first
	for {
		var j *job
		select {
		case j = <-free:
		case <-quit:
			return nil
		}
		// The job brings the buffer of a chunk that is done with.
		spare := j.chunk.buf
		j.chunk = c
		order <- j // neither blocks: they have room for all jobs
		work <- j
		if c.final || c.torn {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return sallyport.E("csv", sallyport.Canceled, err, "")
		}
		if spare == nil {
			spare = make([]byte, l.block)
		}
		var err error
		if c, err = l.split.next(spare); err != nil {
			return err
		}
	}
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
