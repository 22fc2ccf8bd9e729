package jsonl

import (
	"context"
	"io"
	"sync"

	"sallyport"
	"sallyport/anonymize"
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

// job is one chunk on its way.
type job struct {
	chunk
	out  []byte
	err  error
	done chan struct{} // receives when out and err are set
}

func (l *line) run(ctx context.Context, dst io.Writer) error {
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
		cutErr = l.cut(ctx, free, work, order, quit)
	})
	for _, edit := range l.editors {
		all.Go(func() {
			r := newReader(l.tree, l.text)
			r.resource = l.resource
			var failed error // ends this worker's part; the writer ends the rest
			for j := range work {
				if j.out, j.err = j.out[:0], failed; failed == nil {
					j.out, j.err = process(r, edit, j.chunk, j.out)
					failed = j.err
				}
				j.done <- struct{}{}
			}
		})
	}
	var err error
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
		if j.large {
			*j = job{done: j.done}
			<-l.split.large
		}
		free <- j
	}
	all.Wait()
	if err == nil {
		err = cutErr
	}
	return err
}

// cut sends chunks to the workers and, in the same order, to the writer. It
// returns when the file or the pass has ended.
func (l *line) cut(ctx context.Context, free, work, order chan *job, quit chan struct{}) error {
	for {
		var j *job
		select {
		case j = <-free:
		case <-quit:
			return nil
		}
		if err := ctx.Err(); err != nil {
			return sallyport.E("jsonl", sallyport.Canceled, err, "")
		}
		buf := j.buf // of a chunk that is done with
		if buf == nil {
			buf = make([]byte, l.split.block)
		}
		var err error
		if j.chunk, err = l.split.next(buf); err != nil {
			return err
		}
		last := j.final || j.torn // the job is the others' once it is sent
		order <- j                // neither blocks: they have room for all jobs
		work <- j
		if last {
			return nil
		}
	}
}
