// Package replay says what a candidate bundle would have changed: it puts the
// questions of the audit log to it again, each with the data that the decision
// saw, and compares the answers. What cannot be replayed is counted with the
// reason and never taken for unchanged.
//
// The catalog, the site and the register are those of the record; the bundle's
// own tables are the candidate's. Rules see no clock, so the answer of today is
// the answer of then.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport"
	"sallyport/policy"
)

// Source is where rules and data are kept by the digests that records name.
// What it does not have is [sallyport.NotFound], and what is not what was kept
// is [sallyport.Damaged]; any other error ends the replay.
type Source interface {
	// Data returns all data of one state, by root.
	Data(data sallyport.Digest) (map[string]any, error)
	// Rules returns the files of a bundle with these rules. It is asked only to
	// reproduce.
	Rules(rules sallyport.Digest) (fs.FS, error)
}

// DefaultEngines is how many states of the data are held in memory at a time. A
// history is read in the order of time, so a few will do.
const DefaultEngines = 8

// Config says what is replayed.
type Config struct {
	Candidate *policy.Bundle
	Base      Source
	// Now replaces the recorded data of roots that the candidate does not own:
	// what would happen if the same were asked today. nil: the data of then.
	Now map[string]any
	// Reproduce also puts each question to the rules and data that decided it,
	// and reports where they do not give the recorded answer.
	Reproduce bool
	Workers   int           // 0: one a core
	Engines   int           // held in memory at a time; 0: DefaultEngines
	Deadline  time.Duration // of one evaluation; 0: policy.DefaultDeadline
	// Progress, if not nil, is told now and then how many decisions are done,
	// and Of, how many there are; 0 where nobody knows.
	Progress func(done, of int)
	Of       int
}

// batchSize is how many decisions a worker takes at a time.
const batchSize = 32

type batch struct {
	decisions []Decision
	outcomes  []outcome
	done      chan struct{}
}

// outcome is what replaying one decision gave.
type outcome struct {
	unfit string // why it was not replayed
	after policy.Verdict
	err   error // of the candidate

	unproved string // why it could not be reproduced
	differs  string // in what the reproduced verdict differs; "" is exact
}

// Run replays decisions. The report does not depend on the number of workers or
// on which of them was faster. Memory is bounded, however long the history is.
// An error of decisions, of the source, or a canceled context ends the replay;
// an error of the candidate is a finding and in the report.
func Run(ctx context.Context, cfg Config, decisions iter.Seq2[Decision, error]) (Report, error) {
	if cfg.Candidate == nil || cfg.Base == nil && (cfg.Now == nil || cfg.Reproduce) {
		return Report{}, sallyport.Errorf("policy replay", sallyport.Internal, "", "there is no candidate or no archive")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Engines <= 0 {
		cfg.Engines = DefaultEngines
	}
	r, err := newRunner(ctx, cfg)
	if err != nil {
		return Report{}, err
	}
	t := newTally(cfg.Candidate)
	if cfg.Now != nil {
		t.report.Over = "now"
	}
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan *batch)
	order := make(chan *batch, 4*cfg.Workers) // as read; bounds how far reading is ahead
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return deal(ctx, decisions, work, order)
	})
	for range cfg.Workers {
		group.Go(func() error {
			for b := range work {
				for i := range b.decisions {
					o, err := r.replay(ctx, &b.decisions[i])
					if err != nil {
						return err
					}
					b.outcomes[i] = o
				}
				close(b.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		done := 0
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			for i := range b.decisions {
				t.add(&b.decisions[i], &b.outcomes[i])
			}
			if done += len(b.decisions); cfg.Progress != nil {
				cfg.Progress(done, cfg.Of)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			err = sallyport.E("policy replay", sallyport.Canceled, err, "")
		}
		return Report{}, err
	}
	if cfg.Reproduce {
		t.report.Reproduction = &t.proof
	}
	return t.finish(), nil
}

// deal hands batches to whoever is free, and in their order to who counts.
func deal(ctx context.Context, decisions iter.Seq2[Decision, error], work, order chan<- *batch) error {
	var next []Decision
	flush := func() error {
		if len(next) == 0 {
			return nil
		}
		b := &batch{decisions: next, outcomes: make([]outcome, len(next)), done: make(chan struct{})}
		next = nil
		for _, to := range []chan<- *batch{order, work} {
			select {
			case to <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	for d, err := range decisions {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if next = append(next, d); len(next) == batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// runner is what all workers share.
type runner struct {
	cfg       Config
	today     *policy.Engine // with Config.Now
	candidate *cache[sallyport.Digest, *policy.Engine]
	recorded  *cache[state, *policy.Engine]
	rules     *cache[sallyport.Digest, *policy.Bundle]
}

// state is what a decision was made by.
type state struct{ rules, data sallyport.Digest }

// absent is an answer of the source that makes a decision unfit.
type absent struct {
	why string
	err error
}

func (a *absent) Error() string { return a.why + ": " + a.err.Error() }

// oldRules is how many bundles are held to reproduce by.
const oldRules = 4

func newRunner(ctx context.Context, cfg Config) (*runner, error) {
	r := &runner{cfg: cfg}
	config := policy.Config{Deadline: cfg.Deadline}
	if cfg.Now != nil {
		var err error
		if r.today, err = cfg.Candidate.Over(ctx, cfg.Now, config); err != nil {
			return nil, err
		}
	}
	r.candidate = newCache(cfg.Engines, func(ctx context.Context, data sallyport.Digest) (*policy.Engine, error) {
		roots, err := cfg.Base.Data(data)
		if err != nil {
			return nil, missing(unfitNoData, err)
		}
		return cfg.Candidate.Over(ctx, roots, config)
	})
	r.rules = newCache(oldRules, func(ctx context.Context, rules sallyport.Digest) (*policy.Bundle, error) {
		files, err := cfg.Base.Rules(rules)
		if err != nil {
			return nil, missing(unfitNoRules, err)
		}
		b, err := policy.Load(ctx, files)
		if err != nil && ctx.Err() == nil {
			return nil, &absent{unfitOldRules, err}
		}
		return b, err
	})
	r.recorded = newCache(cfg.Engines, func(ctx context.Context, s state) (*policy.Engine, error) {
		b, err := r.rules.get(ctx, s.rules)
		if err != nil {
			return nil, err
		}
		roots, err := cfg.Base.Data(s.data)
		if err != nil {
			return nil, missing(unfitNoData, err)
		}
		return b.Recorded(ctx, roots, config)
	})
	return r, nil
}

func missing(why string, err error) error {
	if err == nil {
		return nil
	}
	switch sallyport.KindOf(err) {
	case sallyport.NotFound, sallyport.Invalid:
		return &absent{why, err}
	case sallyport.Damaged:
		return &absent{unfitDamaged, err}
	}
	return err
}

// replay returns an error only where going on would be wrong.
func (r *runner) replay(ctx context.Context, d *Decision) (o outcome, err error) {
	if o.unfit = d.Unfit; o.unfit != "" {
		return o, nil
	}
	q, err := d.question()
	if err != nil {
		o.unfit = clip(err.Error())
		return o, nil
	}
	engine := r.today
	if engine == nil {
		if engine, err = r.candidate.get(ctx, d.Data); err != nil {
			return unfitFor(err)
		}
	}
	o.after, o.err = q.ask(ctx, engine)
	if r.cfg.Reproduce && ctx.Err() == nil {
		if err := r.reproduce(ctx, d, q, &o); err != nil {
			return o, err
		}
	}
	return o, ctx.Err()
}

func unfitFor(err error) (outcome, error) {
	if a, ok := errors.AsType[*absent](err); ok {
		return outcome{unfit: a.why}, nil
	}
	return outcome{}, err
}

// reproduce asks what decided. An answer that differs is a sign of a changed
// record, or of rules that are not repeatable.
func (r *runner) reproduce(ctx context.Context, d *Decision, q question, o *outcome) error {
	engine, err := r.recorded.get(ctx, state{d.Policy, d.Data})
	if err != nil {
		u, err := unfitFor(err)
		o.unproved = u.unfit
		return err
	}
	// An evaluation that failed is recorded as a denial, with the same verdict.
	v, _ := q.ask(ctx, engine)
	o.differs, err = difference(d.Recorded, v)
	return err
}

func (q question) ask(ctx context.Context, e *policy.Engine) (policy.Verdict, error) {
	if q.release != nil {
		return e.Release(ctx, *q.release)
	}
	return e.Admit(ctx, *q.admit)
}

// clip bounds what is counted by its words.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%s)", strings.ToValidUTF8(s[:most], ""), sallyport.DigestOf([]byte(s)).Short())
}
