package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/routing"
)

// Run is one execution on this machine.
type Run struct {
	b      *Backend
	id     string
	cancel context.CancelCauseFunc // nil where it ended in an earlier process

	mu      sync.Mutex
	events  []routing.Event
	over    bool
	err     error         // why it is over without an outcome
	changed chan struct{} // closed and replaced at each change
}

func newRun(b *Backend, id string) *Run { return &Run{b: b, id: id, changed: make(chan struct{})} }

// ID is the assignment's.
func (r *Run) ID() string { return r.id }

// Cancel is [Backend.Cancel].
func (r *Run) Cancel(ctx context.Context) error { return r.b.Cancel(ctx, r.id) }

// Events tells the run's life from its beginning, and waits for its end.
func (r *Run) Events(ctx context.Context) iter.Seq2[routing.Event, error] {
	return func(yield func(routing.Event, error) bool) {
		for told := 0; ; {
			r.mu.Lock()
			news, over, err, changed := r.events[told:], r.over, r.err, r.changed
			r.mu.Unlock()
			for _, e := range news {
				if !yield(e, nil) {
					return
				}
			}
			told += len(news)
			if err != nil {
				yield(routing.Event{}, err)
			}
			if over {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(routing.Event{}, sallyport.E("follow "+r.id, sallyport.Canceled, context.Cause(ctx), ""))
				return
			}
		}
	}
}

func (r *Run) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Run) say(state, text string) {
	e := routing.Event{Time: r.b.p.Now(), State: state, Text: text}
	r.change(func() { r.events = append(r.events, e) })
}

func (r *Run) end(o routing.Outcome) {
	e := routing.Event{Time: r.b.p.Now(), State: "finished", Text: o.Failure, Outcome: &o}
	r.change(func() { r.events, r.over = append(r.events, e), true })
}

// lose ends the run without an outcome.
func (r *Run) lose(err error) {
	e := routing.Event{Time: r.b.p.Now(), State: "lost", Text: err.Error()}
	lost := sallyport.E("run "+r.id, sallyport.Unavailable, err, "Start it again.")
	r.change(func() { r.events, r.over, r.err = append(r.events, e), true, lost })
}

// execute takes a run through its life. The outcome is durable before anyone
// is told of it.
func (b *Backend) execute(ctx context.Context, r *Run, a routing.Assignment) {
	o := routing.Outcome{Assignment: a.ID, Node: b.node.ID}
	err := b.slot(ctx)
	if err == nil {
		r.say("running", "")
		err = b.pass(ctx, a, &o)
		<-b.slots
	}
	if b.ctx.Err() != nil && err != nil {
		b.forget(r, errClosed)
		return
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errCanceled) {
			err = errCanceled
		}
		o.Failure, o.Result, o.Claim = err.Error(), sallyport.SealedRef{}, ""
	}
	if err := b.p.Remember(context.WithoutCancel(ctx), o); err != nil {
		b.forget(r, fmt.Errorf("its outcome could not be kept: %w", err))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep(r)
	r.end(o)
}

// forget ends a run that left nothing behind, so that it can be started anew.
func (b *Backend) forget(r *Run, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.runs, r.id)
	r.lose(why)
}

func (b *Backend) slot(ctx context.Context) error {
	if ctx.Err() != nil { // of two open doors select takes any
		return context.Cause(ctx)
	}
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pass moves the data: open, run, hash, seal. The result is kept only if the
// module exits with 0 after an input that was whole.
func (b *Backend) pass(ctx context.Context, a routing.Assignment, o *routing.Outcome) error {
	path, err := b.p.Module(ctx, a.Task.Module)
	if err != nil {
		return fmt.Errorf("the module is not here: %w", err)
	}
	in, err := b.p.Open(ctx, a.Task.Input, a.Key)
	if err != nil {
		return fmt.Errorf("the input cannot be opened: %w", err)
	}
	defer in.Close()
	sum := sha256.New()
	sealed, err := b.p.Save(ctx, a.Result, a.Task.Recipient, func(w io.Writer) error {
		res, err := b.p.Run(ctx, sandbox.Spec{
			Runner: a.Task.Module.Runner, Path: path, Args: a.Task.Module.Args,
			Stdin: in, Stdout: io.MultiWriter(w, sum),
			MemoryMB: a.Task.MemoryMB, Walltime: a.Task.Walltime, CacheDir: b.cfg.CacheDir,
		})
		o.Exit, o.Seconds, o.Log = res.Exit, res.Seconds, res.Log
		if err == nil && res.Exit != 0 {
			err = fmt.Errorf("the module ended with exit code %d", res.Exit)
		}
		return err
	})
	if err != nil {
		return err
	}
	o.Result, o.Claim = sealed, sallyport.DigestSum(sum.Sum(nil))
	return nil
}

var _ routing.Run = (*Run)(nil)
