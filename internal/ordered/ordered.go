// Package ordered shares work out among goroutines and hands the results on in
// the order in which the work was cut.
package ordered

import "sync"

// Run cuts a stream into jobs, has each done by one of the workers, and uses
// the results in order. There are a few jobs for each worker, which are used
// again and again: what cut is given still holds what it held when it was used.
//
// cut fills a job and says whether more follow; it is called from one goroutine,
// a worker from one of its own, and use from the caller's; release, if not nil,
// is told of each job that was cut once it is done with, used or not. An error of a worker
// or of use ends the run after the jobs before it were used, and one of cut
// after all that it cut was. Run returns when no goroutine of it is left.
func Run[J any](workers []func(*J) error, cut func(*J) (more bool, err error), use func(*J) error, release func(*J)) error {
	type slot struct {
		job  J
		err  error
		done chan struct{} // receives when the worker has done
	}
	depth := 2*len(workers) + 1
	free, work, order := make(chan *slot, depth), make(chan *slot, depth), make(chan *slot, depth)
	for range depth {
		free <- &slot{done: make(chan struct{}, 1)}
	}
	quit := make(chan struct{})
	var all sync.WaitGroup
	var cutErr error // read after all are done
	all.Go(func() {
		defer close(order)
		defer close(work)
		for more := true; more; {
			var s *slot
			select {
			case s = <-free:
			case <-quit:
				return
			}
			if more, cutErr = cut(&s.job); cutErr != nil {
				return
			}
			order <- s // neither blocks: they have room for all jobs
			work <- s
		}
	})
	for _, do := range workers {
		all.Go(func() {
			var failed error // ends this worker's part; the user ends the rest
			for s := range work {
				if s.err = failed; failed == nil {
					s.err = do(&s.job)
					failed = s.err
				}
				s.done <- struct{}{}
			}
		})
	}
	var err error
	for s := range order {
		<-s.done
		if err == nil {
			if err = s.err; err == nil {
				err = use(&s.job)
			}
			if err != nil {
				close(quit)
			}
		}
		if release != nil {
			release(&s.job)
		}
		free <- s
	}
	all.Wait()
	if err == nil {
		err = cutErr
	}
	return err
}
