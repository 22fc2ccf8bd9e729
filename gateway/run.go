package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport"
	"sallyport/audit"
)

// passage is one job on its way.
type passage struct {
	g     *Gateway
	job   Job
	began time.Time // of the current step
	view  string    // set if it is cut short: what is made is a view of that key
	also  func(Event)
	slot  *slot // that it runs in; a view needs none
}

// launch takes a job through the passage in a goroutine of its own.
func (g *Gateway) launch(job Job) {
	g.mu.Lock()
	ctx, cancel := context.WithCancelCause(g.root)
	g.cancels[job.ID] = cancel
	ended := make(chan struct{})
	g.ended[job.ID] = ended
	g.mu.Unlock()
	g.running.Go(func() {
		defer func() {
			g.mu.Lock()
			delete(g.cancels, job.ID)
			delete(g.steps, job.ID)
			g.mu.Unlock()
			cancel(nil)
			close(ended)
		}()
		s := &slot{of: g.slots}
		defer s.give()
		if err := s.take(ctx); errors.Is(err, errStopping) {
			return
		}
		g.persist(ctx, job, s)
	})
}

// persist takes a job to its end. What cannot be recorded now is tried again
// from where the journal stands, as after a restart, for as long as the log may
// still be written.
func (g *Gateway) persist(ctx context.Context, job Job, s *slot) {
	again := time.NewTicker(g.parts.Retry)
	defer again.Stop()
	for {
		p := &passage{g: g, job: job, slot: s}
		err := p.whole(ctx)
		if err == nil {
			return
		}
		if g.parts.Audit.Err() != nil || context.Cause(ctx) != nil {
			g.log.Error("job stays as it is until the gateway restarts", "job", job.ID, "err", err)
			p.tell("end", "failed", err.Error())
			return
		}
		g.log.Warn("job waits and tries again", "job", job.ID, "err", err)
		p.tell(p.job.Step, "progress", "waits: "+err.Error())
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
		if j, err := g.journal.Job(job.ID); err == nil {
			job = j
		}
		if !s.held { // it waited for people
			if err := s.take(ctx); errors.Is(err, errStopping) {
				return
			}
		}
	}
}

// whole takes the job from where it stands to its end. An error means that the
// end could not be recorded: the job stays unfinished and a restart continues it.
func (p *passage) whole(ctx context.Context) error {
	if p.job.Ending == "" {
		p.job.State = Running
		if err := p.g.journal.put(p.job); err != nil {
			return err
		}
		err := p.run(ctx)
		switch {
		case err == nil:
			p.job.Ending = Done
		case errors.Is(err, errStopping):
			return nil
		default:
			// What interrupted the step says more than how the step broke off.
			if cause := context.Cause(ctx); errors.Is(cause, errStopping) {
				return nil
			} else if cause != nil {
				err = cause
			}
			if w, ok := errors.AsType[*waiting](err); ok {
				return w // nothing is decided that cannot be recorded
			}
			p.decide(err)
		}
		if err := p.g.journal.put(p.job); err != nil {
			return err
		}
		p.point("end", "decided")
	}
	if p.job.Ending != Done {
		if err := p.discard(ctx); err != nil {
			return err
		}
	}
	p.job.State, p.job.Step, p.job.Ended = p.job.Ending, "", p.g.now().UTC()
	if err := p.g.journal.put(p.job); err != nil {
		return err
	}
	p.tell("end", string(p.job.State), p.job.why())
	return nil
}

// decide turns the error that ended the passage into the job's end.
func (p *passage) decide(err error) {
	p.job.Ending, p.job.Reasons, p.job.Hint = Failed, []string{err.Error()}, sallyport.HintOf(err)
	phase := "failed"
	switch sallyport.KindOf(err) {
	case sallyport.Denied:
		p.job.Ending, phase = Refused, "denied"
		if d, ok := errors.AsType[*denial](err); ok && len(d.reasons) > 0 {
			p.job.Reasons = d.reasons
		}
	case sallyport.Canceled:
		p.job.Ending, phase = Canceled, "canceled"
	}
	p.tell(p.job.Step, phase, p.job.why())
}

func (j Job) why() string {
	s := ""
	for i, r := range j.Reasons {
		if i > 0 {
			s += "; "
		}
		s += r
	}
	return s
}

// entry begins an audit record about this job.
func (p *passage) entry(step string, phase audit.Phase) audit.Entry {
	if p.job.Trace == "" { // what no door asked for: an upload that ends, a view that is evicted
		p.job.Trace = newTrace()
	}
	e := audit.Entry{Time: p.g.now().UTC(), Step: step, Phase: phase, Job: p.job.ID,
		Subject: p.job.Subject.ID, Credential: p.job.Subject.Credential, Roles: p.job.Subject.Roles,
		Project: p.job.Project, Purpose: p.job.Purpose, Dataset: p.job.Dataset, Destination: p.job.Side, Trace: p.job.Trace}
	if b, err := json.Marshal(p.job.Request); err == nil { // nothing in it that JSON cannot say
		e.Request = sallyport.DigestOf(b)
	}
	return e
}

// record appends to the audit log. It is not stopped by the job's own end:
// what happened is recorded.
func (p *passage) record(ctx context.Context, e audit.Entry) error {
	if _, err := p.g.parts.Audit.Append(context.WithoutCancel(ctx), e); err != nil {
		return &waiting{fmt.Errorf("no record, no act: %w", err)}
	}
	return nil
}

// waiting is a step that could not be taken, or not be recorded, and will be
// tried again: it decides nothing about the job's end.
type waiting struct{ err error }

func (w *waiting) Error() string { return w.err.Error() }
func (w *waiting) Unwrap() error { return w.err }

// later makes an error that time may heal one to wait for. It is for the steps
// after a result was verified and paid: a full disk is then no reason to throw
// it away.
func later(err error) error {
	switch sallyport.KindOf(err) {
	case sallyport.Exhausted, sallyport.Unavailable:
		return &waiting{err}
	}
	return err
}

func (p *passage) point(step, point string) { p.g.point(step, point) }

func (p *passage) begin(step string) {
	p.job.Step, p.began = step, p.g.now()
	if p.view == "" {
		p.g.mu.Lock()
		p.g.steps[p.job.ID] = step
		p.g.mu.Unlock()
	}
	p.tell(step, "begin", "")
}

// finish journals a step and tells those who watch.
func (p *passage) finish(step, say string, made any) error {
	p.job.Steps = append(p.job.Steps, StepDone{Name: step, Began: p.began.UTC(), Ended: p.g.now().UTC(), Say: say})
	if p.view == "" {
		if err := p.g.journal.finish(p.job, step, made); err != nil {
			return err
		}
	}
	p.tell(step, "done", say)
	return nil
}

// said is finish for what is not journaled as a step.
func (p *passage) said(step, say string) {
	p.job.Steps = append(p.job.Steps, StepDone{Name: step, Began: p.began.UTC(), Ended: p.g.now().UTC(), Say: say})
	p.tell(step, "done", say)
}

func (p *passage) progress(step, format string, args ...any) {
	p.tell(step, "progress", fmt.Sprintf(format, args...))
}

func (p *passage) tell(step, phase, text string) {
	e := Event{Job: p.job.ID, Step: step, Phase: phase, Text: text, Time: p.g.now().UTC()}
	if p.g.parts.Observe != nil {
		p.g.parts.Observe(e)
	}
	if p.also != nil {
		p.also(e)
	}
	p.g.fanOut(e)
}

// watcher gets the events of one job.
type watcher struct {
	job sallyport.JobID
	ch  chan Event
}

// Watch returns the events of a job from now on. A slow reader misses
// progress, never the end: the channel is closed when the job has ended. stop
// must be called.
func (g *Gateway) Watch(id sallyport.JobID) (events <-chan Event, stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.watches
	g.watches++
	ch := make(chan Event, 256)
	g.watch[n] = watcher{id, ch}
	return ch, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watch, n)
	}
}

func (g *Gateway) fanOut(e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for n, w := range g.watch {
		if w.job != e.Job {
			continue
		}
		select {
		case w.ch <- e:
		default:
		}
		if e.Step == "end" {
			close(w.ch)
			delete(g.watch, n)
		}
	}
}

// sweeper ends leases whose time has come, while the gateway runs.
func (g *Gateway) sweeper() {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-g.root.Done():
			return
		case <-t.C:
			if err := errors.Join(g.sweepViews(g.root, false), g.sweepUploads(g.root), g.sweep(g.root)); err != nil {
				g.log.Error("leases could not be swept", "err", err)
			}
		}
	}
}

// sweep destroys every lease that ran out, and records each end.
func (g *Gateway) sweep(ctx context.Context) error {
	leases, err := g.parts.Issuer.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		if l.Destroyed != nil || g.now().Before(l.Until) {
			continue
		}
		e := audit.Entry{Time: g.now().UTC(), Step: "expire", Phase: audit.Intent, Lease: l.ID, Trace: newTrace()}
		if _, err := g.parts.Audit.Append(ctx, e); err != nil {
			return err
		}
		if err := g.parts.Issuer.Destroy(ctx, l.ID, "lease ran out"); err != nil {
			return err
		}
		e.Time, e.Phase = g.now().UTC(), audit.Outcome
		if _, err := g.parts.Audit.Append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// RecordRefusal records that somebody who could not be identified asked for a
// dataset. It returns an error only if the record could not be made.
func (g *Gateway) RecordRefusal(ctx context.Context, uid uint32, dataset, purpose string, why error) error {
	_, err := g.parts.Audit.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: "identify", Phase: audit.Note,
		Subject: fmt.Sprintf("unix:uid=%d", uid), Dataset: dataset, Purpose: purpose, Decision: "deny", Reasons: []string{why.Error()}, Trace: newTrace()})
	return err
}

// RecordAccess records that an access key was issued or revoked.
func (g *Gateway) RecordAccess(ctx context.Context, who, project, purpose, step, key string) error {
	_, err := g.parts.Audit.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: step, Phase: audit.Note,
		Subject: who, Project: project, Purpose: purpose, Reasons: []string{"key " + key}, Trace: newTrace()})
	return err
}
