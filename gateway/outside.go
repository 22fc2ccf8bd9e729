package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport"
	"sallyport/audit"
	"sallyport/routing"
	"sallyport/seal"
)

// place chooses nodes, and reserves what they may cost. Choosing is pure; what
// it saw and why every other node lost goes into the record.
func (p *passage) place(attempt int, earlier executions) act[released, placed] {
	return func(ctx context.Context, r released, o *outcome) (placed, error) {
		task, err := p.task(ctx, r)
		if err != nil {
			return placed{}, err
		}
		want := missing(earlier.Outcomes, task.Copies)
		choose := task
		choose.Copies = want
		exclude := map[string]string{}
		for _, t := range earlier.Outcomes {
			exclude[t.Node] = "it ran this job already"
		}
		budget := p.g.budget(p.job.Project)
		pl, err := p.choose(ctx, choose, exclude, budget)
		if err != nil {
			o.Facts = map[string]any{"placement": pl}
			return placed{}, err
		}
		out := placed{released: r, Attempt: attempt, Task: task, Placement: pl, Earlier: earlier}
		for _, c := range pl.Chosen {
			if err := p.g.parts.Ledger.Reserve(string(p.job.ID), out.assignmentID(c.Node), p.job.Project, c.Cost, budget); err != nil {
				return placed{}, err
			}
		}
		o.Facts = map[string]any{"task": task, "placement": pl}
		o.Node = strings.Join(nodesOf(pl), ",")
		o.Say = fmt.Sprintf("%s of %d nodes: %s", strings.Join(nodesOf(pl), " and "), len(pl.Chosen)+len(pl.Spare)+len(pl.Refused), whyOf(pl))
		return out, nil
	}
}

// task is the job as routing may know it.
func (p *passage) task(ctx context.Context, r released) (routing.Task, error) {
	alg, err := p.g.algorithm(p.job.Algorithm)
	if err != nil {
		return routing.Task{}, err
	}
	if alg.Module.Digest != r.Admission.Request.Module {
		return routing.Task{}, sallyport.Errorf("place", sallyport.Denied, "Submit the job again.",
			"algorithm %s changed after it was admitted", p.job.Algorithm)
	}
	m := alg.Module
	m.Args = p.job.Args
	results, err := p.results(ctx, r)
	if err != nil {
		return routing.Task{}, err
	}
	copies := max(1, r.Admit.Limits.Copies)
	if r.Admit.Destination == sallyport.Local {
		copies = 1 // the lab's own machine is the ground truth
	}
	return routing.Task{
		Job: p.job.ID, Module: m, Side: r.Admit.Destination, Regions: r.Admit.Limits.Regions,
		Input: r.Parcel, Recipient: results.Recipient, MemoryMB: p.g.parts.MemoryMB, Walltime: p.g.parts.Walltime,
		Price: r.Admit.Limits.Price, Budget: r.Admit.Limits.Budget, Copies: copies,
	}, nil
}

// choose asks every backend for its nodes and places, for a while again where
// too few nodes are there: after a restart they need time to come back.
func (p *passage) choose(ctx context.Context, t routing.Task, exclude map[string]string, budget sallyport.Money) (routing.Placement, error) {
	ctx, cancel := context.WithTimeout(ctx, p.g.parts.Patience)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		snapshot, err := p.snapshot(ctx, exclude, budget)
		if err != nil {
			return routing.Placement{}, err
		}
		pl, err := routing.Place(snapshot, t)
		if err == nil || sallyport.KindOf(err) != sallyport.Unavailable {
			return pl, err
		}
		p.progress("place", "waiting for nodes: %v", err)
		select {
		case <-ctx.Done():
			return pl, err
		case <-tick.C:
		}
	}
}

func (p *passage) snapshot(ctx context.Context, exclude map[string]string, budget sallyport.Money) (routing.Snapshot, error) {
	s := routing.Snapshot{Now: p.g.now(), Exclude: exclude}
	for _, b := range p.g.parts.Backends {
		nodes, err := b.Nodes(ctx)
		if err != nil {
			p.g.log.Warn("backend has no nodes to offer", "backend", b.Name(), "err", err)
			continue
		}
		s.Nodes = append(s.Nodes, nodes...)
	}
	var err error
	if s.Standings, err = p.g.parts.Ledger.Standings(); err != nil {
		return s, err
	}
	spent, reserved, err := p.g.parts.Ledger.Spent(p.job.Project)
	if err != nil {
		return s, err
	}
	s.Remaining = budget - spent - reserved
	return s, nil
}

func (pl placed) assignmentID(n routing.Node) string {
	return fmt.Sprintf("%s-%d-%s", pl.Task.Job, pl.Attempt, n.ID)
}

// announce puts into the record, before it happens, where the key is about to go.
func (pl placed) announce(e *audit.Entry) {
	e.Lease, e.Node = pl.Lease, strings.Join(nodesOf(pl.Placement), ",")
}

// handOver wraps the release's identity to each chosen node's own recipient.
// The data is not touched: it was sealed once.
func (p *passage) handOver(ctx context.Context, pl placed, o *outcome) (handed, error) {
	o.Lease, o.Node = pl.Lease, strings.Join(nodesOf(pl.Placement), ",")
	results, err := p.results(ctx, pl.released)
	if err != nil {
		return handed{}, err
	}
	out := handed{placed: pl, Results: results.ID}
	for _, c := range pl.Placement.Chosen {
		a, err := p.assignment(ctx, pl, c.Node, pl.assignmentID(c.Node))
		if err != nil {
			return handed{}, err
		}
		out.Assignments = append(out.Assignments, a)
	}
	o.Facts = map[string]any{"assignments": out.Assignments}
	o.Objects, o.Columns, o.Result = []string{pl.Dataset.Location.Key}, leavingColumns(pl.Admit), pl.Parcel.Digest
	what := "key"
	if _, ok := p.g.parts.Issuer.(seal.Wrapper); ok && !slices.ContainsFunc(pl.Placement.Chosen, func(c routing.Choice) bool { return !c.Node.Tokens }) {
		what = "token for the key"
	}
	o.Say = fmt.Sprintf("%s wrapped to %s until %s", what, strings.Join(nodesOf(pl.Placement), " and "), pl.Parcel.Until.Format(time.TimeOnly))
	return out, nil
}

func (p *passage) assignment(ctx context.Context, pl placed, n routing.Node, id string) (routing.Assignment, error) {
	wrapped, err := p.wrap(ctx, pl, n)
	if err != nil {
		return routing.Assignment{}, err
	}
	ref, err := PutSealed(ctx, p.g.parts.Hold, p.ref("keys/"+id+".age"), n.Recipient, pl.Parcel.Until, func(w io.Writer) error {
		_, err := w.Write(wrapped)
		return err
	})
	if err != nil {
		return routing.Assignment{}, err
	}
	return routing.Assignment{ID: id, Task: pl.Task, Node: n, Key: ref, Result: p.ref("results/" + id + ".age")}, nil
}

// wrap is what a node is handed, sealed to its own recipient: a token that is
// good once, where the keys' keeper gives such and the node can trade it, and
// the key itself otherwise. With a token the key never passes through here.
func (p *passage) wrap(ctx context.Context, pl placed, n routing.Node) ([]byte, error) {
	if w, ok := p.g.parts.Issuer.(seal.Wrapper); ok && n.Tokens {
		token, err := w.Wrapped(ctx, pl.Lease, pl.Parcel.Until.Sub(p.g.now()))
		if err != nil {
			return nil, err
		}
		return seal.WrapToken(token, n.Recipient)
	}
	key, err := p.g.parts.Issuer.Fetch(ctx, pl.Lease)
	if err != nil {
		return nil, err
	}
	return key.Wrap(n.Recipient)
}

func (h handed) announce(e *audit.Entry) { h.placed.announce(e) }

// start runs every assignment and waits for all of them. An execution that
// fails is an outcome, not an error: the passage may place it again.
func (p *passage) start(ctx context.Context, h handed, o *outcome) (finished, error) {
	o.Lease, o.Node = h.Lease, strings.Join(nodesOf(h.Placement), ",")
	run, cancel := context.WithDeadlineCause(ctx, h.Parcel.Until,
		sallyport.Errorf("run", sallyport.Exhausted, "Ask for a longer key_ttl, or split the job.", "the key's lease ran out"))
	defer cancel()
	outcomes := make([]routing.Outcome, len(h.Assignments))
	group, run := errgroup.WithContext(run)
	for i, a := range h.Assignments {
		group.Go(func() error {
			var err error
			outcomes[i], err = p.follow(run, a)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return finished{}, cause
		}
		return finished{}, err
	}
	said, err := p.keepLog(ctx, h, outcomes)
	if err != nil {
		return finished{}, err
	}
	outcomes = withoutLogs(outcomes)
	f := finished{handed: h, executions: executions{Said: said,
		Outcomes: append(slices.Clone(h.Earlier.Outcomes), outcomes...), Charges: map[string]sallyport.Money{}}}
	maps.Copy(f.Charges, h.Earlier.Charges)
	var told []string
	for i, oc := range outcomes {
		f.Charges[oc.Assignment] = charge(h.Assignments[i].Node, oc, h.Placement.Chosen[i].Cost)
		if oc.Failure != "" {
			told = append(told, fmt.Sprintf("%s failed: %s", oc.Node, oc.Failure))
		} else {
			told = append(told, fmt.Sprintf("%s %.2f s → %s", oc.Node, oc.Seconds, h.named(oc.Claim)))
		}
	}
	o.Facts = map[string]any{"outcomes": outcomes}
	o.Say = strings.Join(told, ", ")
	return f, nil
}

// follow starts one assignment, or finds it started, and waits for its outcome.
func (p *passage) follow(ctx context.Context, a routing.Assignment) (routing.Outcome, error) {
	lost := func(why string) routing.Outcome {
		return routing.Outcome{Assignment: a.ID, Node: a.Node.ID, Exit: -1, Failure: why}
	}
	b, err := p.g.backend(a.Node.Backend)
	if err != nil {
		return routing.Outcome{}, err
	}
	run, err := b.Start(ctx, a)
	if err != nil {
		if ctx.Err() != nil {
			return routing.Outcome{}, context.Cause(ctx)
		}
		return lost("could not be started: " + err.Error()), nil
	}
	for e, err := range run.Events(ctx) {
		switch {
		case ctx.Err() != nil:
			if cause := context.Cause(ctx); !errors.Is(cause, errStopping) {
				_ = run.Cancel(context.WithoutCancel(ctx))
			}
			return routing.Outcome{}, context.Cause(ctx)
		case sallyport.KindOf(err) == sallyport.Unavailable:
			return lost("lost: " + err.Error()), nil
		case err != nil:
			return lost(err.Error()), nil
		case e.Outcome != nil:
			return accepted(*e.Outcome, a, lost), nil
		default:
			p.progress("run", "%s %s %s", a.Node.ID, e.State, e.Text)
		}
	}
	if ctx.Err() != nil {
		return routing.Outcome{}, context.Cause(ctx)
	}
	return lost("ended without an outcome"), nil
}

// charge is what an execution costs if its result is accepted: the node's price
// for the time it says it ran, never more than was reserved.
func charge(n routing.Node, oc routing.Outcome, reserved sallyport.Money) sallyport.Money {
	m := sallyport.Money(math.Ceil(float64(n.Price) * oc.Seconds / 3600))
	return max(0, min(m, reserved))
}

// accepted is an outcome as far as it makes sense: about this assignment, and
// either a failure or a claim with a result.
func accepted(oc routing.Outcome, a routing.Assignment, lost func(string) routing.Outcome) routing.Outcome {
	if oc.Assignment != a.ID || oc.Node != a.Node.ID {
		return lost("its outcome is about another assignment")
	}
	if oc.Failure != "" {
		return oc
	}
	if j, err := routing.Verify([]routing.Outcome{oc}, 1); err != nil || !j.Agreed || oc.Result.Ref != a.Result {
		return lost("its outcome has no well-formed claim and result")
	}
	return oc
}

// missing is how many successful executions are still wanted.
func missing(outcomes []routing.Outcome, copies int) int {
	for _, o := range outcomes {
		if o.Failure == "" {
			copies--
		}
	}
	return max(0, copies)
}

// mayTryAgain says whether another attempt makes sense. A module that ends with
// an exit code of its own does so everywhere; a node that fails may be replaced.
func (p *passage) mayTryAgain(f finished) error {
	last := f.Outcomes[len(f.Earlier.Outcomes):]
	var why []string
	own := 0
	for _, oc := range last {
		if oc.Failure != "" {
			why = append(why, oc.Node+": "+oc.Failure)
		}
		if oc.Exit > 0 {
			own++
		}
	}
	if own == len(last) {
		hint := "`sallyport job logs` shows what the module said; mend it or its arguments and submit again."
		if f.sealedLips() {
			hint = "What it said is kept from you, because results of this job are reviewed; try it on a dataset whose results are not."
		}
		return sallyport.Errorf("run", sallyport.Invalid, hint,
			"the module failed everywhere: %s", strings.Join(why, "; "))
	}
	if f.Attempt >= maxAttempts {
		return sallyport.Errorf("run", sallyport.Unavailable, "Look at the nodes, then submit again.",
			"gave up after %d attempts: %s", f.Attempt, strings.Join(why, "; "))
	}
	return nil
}

// sealedLips says that people must agree before the researcher gets anything
// that depends on the data: not the result, not what the module said, and no
// digest either, by which a result of few possible values could be guessed.
func (a admitted) sealedLips() bool { return a.Admit.Limits.Reviews != 0 }

// named is how steps speak of a result to those who watch.
func (a admitted) named(claim sallyport.Digest) string {
	if a.sealedLips() {
		return "sealed"
	}
	return claim.Short()
}

// keepLog stores what the module said where the results are: it may quote the
// data, and is its researcher's alone. Where results are reviewed it is sealed
// to their key instead, and returned.
func (p *passage) keepLog(ctx context.Context, h handed, outcomes []routing.Outcome) (*said, error) {
	if h.sealedLips() {
		s, err := p.sealLog(ctx, h.released, outcomes)
		if s == nil {
			s = h.Earlier.Said
		}
		return s, err
	}
	for _, oc := range outcomes {
		if oc.Log == "" {
			continue
		}
		to := p.logRef()
		_, err := p.g.parts.Results.Put(ctx, to, func(w io.Writer) error {
			_, err := io.WriteString(w, oc.Log)
			return err
		})
		p.job.Log = &to
		return nil, err // deterministic modules say the same everywhere: one log is enough
	}
	return nil, nil
}

func (p *passage) logRef() sallyport.Ref {
	return sallyport.Ref{Store: p.g.parts.ResultsName, Key: string(p.job.ID) + "/log.txt"}
}

func withoutLogs(outcomes []routing.Outcome) []routing.Outcome {
	out := append([]routing.Outcome{}, outcomes...)
	for i := range out {
		out[i].Log = "" // it may quote data; the record does not
	}
	return out
}

func nodesOf(pl routing.Placement) []string {
	var out []string
	for _, c := range pl.Chosen {
		out = append(out, c.Node.ID)
	}
	return out
}

func whyOf(pl routing.Placement) string {
	if len(pl.Chosen) == 0 || len(pl.Chosen[0].Reasons) == 0 {
		return "chosen"
	}
	return strings.Join(pl.Chosen[0].Reasons, ", ")
}
