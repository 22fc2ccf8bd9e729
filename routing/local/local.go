// Package local is the backend that runs assignments on this very machine, in
// child processes without network. It is one node, and it costs nothing.
//
// The input is opened and the result sealed on this machine: plaintext goes
// from one to the other through the child's pipes and never rests.
package local

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/routing"
)

// Config is what a site decides about the backend.
type Config struct {
	Name     string `yaml:"name"`      // of the backend and its node; "local"
	Operator string `yaml:"operator"`  // who owns the machine; the name
	Region   string `yaml:"region"`    // where it stands
	Slots    int    `yaml:"slots"`     // executions at once; 1
	MemoryMB int64  `yaml:"memory_mb"` // the most one execution may have, MiB; half the machine's over Slots
	CacheDir string `yaml:"cache_dir"` // for compiled modules; "" compiles each time
	Native   bool   `yaml:"native"`    // also run the lab's own native programs
}

// Parts is what the backend works with.
type Parts struct {
	// Recipient is the age recipient that keys are handed over to.
	Recipient string
	// Open opens the sealed input with the handed-over key and returns its
	// plaintext as a stream. A damaged input fails while it is read.
	Open func(ctx context.Context, input, key sallyport.SealedRef) (io.ReadCloser, error)
	// Save seals what fill writes to the recipient and stores it, if and only
	// if fill returns nil.
	Save func(ctx context.Context, to sallyport.Ref, recipient string, fill func(io.Writer) error) (sallyport.SealedRef, error)
	// Module returns the file of a module, its digest checked.
	Module func(ctx context.Context, m routing.Module) (path string, err error)
	// Recall returns the outcome that Remember made durable, or nil.
	Recall   func(ctx context.Context, assignment string) (*routing.Outcome, error)
	Remember func(ctx context.Context, o routing.Outcome) error
	Run      sandbox.Runner
	Now      func() time.Time
}

// keepEnded is how many ended runs stay in memory; older ones are recalled.
const keepEnded = 256

// Backend runs assignments on this machine.
type Backend struct {
	cfg   Config
	p     Parts
	node  routing.Node
	slots chan struct{}
	ctx   context.Context
	stop  context.CancelCauseFunc
	work  sync.WaitGroup

	mu    sync.Mutex
	runs  map[string]*Run
	ended []string // IDs in runs that are over, oldest first
}

var errClosed = errors.New("the local backend was closed")

// New returns a backend. Close ends it.
func New(cfg Config, p Parts) (*Backend, error) {
	const op = "local backend"
	switch {
	case p.Open == nil || p.Save == nil || p.Module == nil || p.Recall == nil || p.Remember == nil || p.Run == nil || p.Now == nil:
		return nil, sallyport.Errorf(op, sallyport.Internal, "", "a part is missing")
	case cfg.Slots < 0 || cfg.MemoryMB < 0:
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Leave slots and memory_mb out, or give them as positive numbers.", "slots or memory_mb is negative")
	case cfg.Native && runtime.GOOS != "linux":
		return nil, sallyport.Errorf(op, sallyport.Unsupported, "Set native to false.", "native programs are confined on Linux only")
	}
	if cfg.Name == "" {
		cfg.Name = "local"
	}
	if cfg.Operator == "" {
		cfg.Operator = cfg.Name
	}
	cfg.Slots = max(cfg.Slots, 1)
	hw := hardware()
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = max(hw.MemoryMB/2/int64(cfg.Slots), 64)
	}
	hw.MemoryMB = cfg.MemoryMB
	hw.Runners = []string{"wasm"}
	if cfg.Native {
		hw.Runners = append(hw.Runners, "native")
	}
	b := &Backend{cfg: cfg, p: p, slots: make(chan struct{}, cfg.Slots), runs: map[string]*Run{},
		node: routing.Node{ID: cfg.Name, Operator: cfg.Operator, Backend: cfg.Name, Side: sallyport.Local,
			Region: cfg.Region, Recipient: p.Recipient, Hardware: hw}}
	b.ctx, b.stop = context.WithCancelCause(context.Background())
	return b, nil
}

// Name is the backend's name.
func (b *Backend) Name() string { return b.cfg.Name }

// Nodes returns this machine. Its memory is what one execution may have.
func (b *Backend) Nodes(context.Context) ([]routing.Node, error) {
	if b.ctx.Err() != nil {
		return nil, sallyport.E("list nodes", sallyport.Unavailable, errClosed, "")
	}
	n := b.node
	n.Hardware.Runners = slices.Clone(n.Hardware.Runners)
	n.Hardware.GPUs = slices.Clone(n.Hardware.GPUs)
	n.Seen = b.p.Now()
	return []routing.Node{n}, nil
}

// Start starts an execution, or returns the one that exists. After a restart
// of the program an execution that had not ended begins anew: its process died
// with the program, and nothing of it was kept. ctx bounds only the start.
func (b *Backend) Start(ctx context.Context, a routing.Assignment) (routing.Run, error) {
	op := "start " + a.ID
	switch t := a.Task; {
	case a.ID == "":
		return nil, sallyport.Errorf("start", sallyport.Invalid, "", "the assignment has no ID")
	case a.Node.ID != b.node.ID:
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Give an assignment to the backend that listed its node.", "node %s is not of backend %s", a.Node.ID, b.cfg.Name)
	case !slices.Contains(b.node.Hardware.Runners, t.Module.Runner):
		return nil, sallyport.Errorf(op, sallyport.Unsupported, "Set native: true to run the lab's own programs.", "backend %s does not run %q modules", b.cfg.Name, t.Module.Runner)
	case t.MemoryMB <= 0 || t.MemoryMB > b.cfg.MemoryMB:
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Ask for less, or raise the backend's memory_mb.", "%d MiB asked, an execution has 1 to %d", t.MemoryMB, b.cfg.MemoryMB)
	case t.Walltime <= 0:
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "the task has no time limit")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r, err := b.find(ctx, a.ID)
	if r != nil || err != nil {
		return known(r, err)
	}
	if b.ctx.Err() != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, errClosed, "")
	}
	r = newRun(b, a.ID)
	r.say("queued", "")
	rctx, cancel := context.WithCancelCause(b.ctx)
	r.cancel = cancel
	b.runs[a.ID] = r
	b.work.Go(func() {
		defer cancel(nil)
		b.execute(rctx, r, a)
	})
	return r, nil
}

// known keeps a nil *Run from becoming a Run that is not nil.
func known(r *Run, err error) (routing.Run, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// find returns the run of an assignment that was started or ended before, or nil.
func (b *Backend) find(ctx context.Context, id string) (*Run, error) {
	if r := b.runs[id]; r != nil {
		return r, nil
	}
	o, err := b.p.Recall(ctx, id)
	if err != nil {
		return nil, sallyport.E("recall "+id, sallyport.KindOf(err), err, "")
	}
	if o == nil {
		return nil, nil
	}
	r := newRun(b, id)
	r.end(*o)
	b.keep(r)
	return r, nil
}

// keep holds an ended run in memory, and lets the oldest one go.
func (b *Backend) keep(r *Run) {
	b.runs[r.id] = r
	b.ended = append(b.ended, r.id)
	if len(b.ended) > keepEnded {
		delete(b.runs, b.ended[0])
		b.ended = slices.Delete(b.ended, 0, 1)
	}
}

var errCanceled = errors.New("canceled")

// Cancel ends an execution: one that runs is killed, one that ended stays as
// it is, and one that was never started never will be.
func (b *Backend) Cancel(ctx context.Context, assignment string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, err := b.find(ctx, assignment)
	if err != nil {
		return err
	}
	if r != nil {
		if r.cancel != nil {
			r.cancel(errCanceled)
		}
		return nil
	}
	o := routing.Outcome{Assignment: assignment, Node: b.node.ID, Failure: errCanceled.Error()}
	if err := b.p.Remember(ctx, o); err != nil {
		return sallyport.E("cancel "+assignment, sallyport.KindOf(err), err, "")
	}
	r = newRun(b, assignment)
	r.end(o)
	b.keep(r)
	return nil
}

// Close kills what runs and waits for it. Nothing of that is remembered: it
// will be run again by the next backend that is asked to start it.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.stop(errClosed)
	b.mu.Unlock()
	b.work.Wait()
	return nil
}

var (
	_ routing.Backend  = (*Backend)(nil)
	_ routing.Canceler = (*Backend)(nil)
)
