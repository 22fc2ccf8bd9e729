package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport"
	"sallyport/audit"
	"sallyport/routing"
	"sallyport/seal"
)

// judge compares what the nodes claim. Where they disagree, the lab runs the
// job itself and is right: a result is a claim until verified.
func (p *passage) judge(ctx context.Context, f finished, o *outcome) (judged, error) {
	j, err := routing.Verify(f.Outcomes, f.Task.Copies)
	if err != nil {
		return judged{}, err
	}
	out := judged{finished: f, Judgment: j}
	if j.NeedJudge {
		truth, err := p.runHere(ctx, f)
		if err != nil {
			return judged{}, err
		}
		out.Truth = &truth
		out.Judgment = routing.Settle(f.Outcomes, truth.Claim)
		o.Node = truth.Node
	}
	o.Facts = map[string]any{"judgment": out.Judgment, "truth": out.Truth}
	o.Say = out.Judgment.Explain
	if f.sealedLips() {
		o.Say = "the results were compared"
	}
	return out, nil
}

// runHere executes the job on the lab's own side, whatever policy allowed
// outside: data that may leave may also stay.
func (p *passage) runHere(ctx context.Context, f finished) (routing.Outcome, error) {
	task := f.Task
	task.Side, task.Copies, task.Regions = sallyport.Local, 1, nil
	pl, err := p.choose(ctx, task, nil, 0)
	if err != nil {
		return routing.Outcome{}, err
	}
	judge := f.placed
	judge.Task, judge.Placement = task, pl
	n := pl.Chosen[0].Node
	intent := p.entry("hand over", audit.Intent)
	intent.Destination = sallyport.Local
	judge.announce(&intent)
	if err := p.record(ctx, intent); err != nil {
		return routing.Outcome{}, err
	}
	a, err := p.assignment(ctx, judge, n, fmt.Sprintf("%s-judge-%s", p.job.ID, n.ID))
	done := p.entry("hand over", audit.Outcome)
	done.Destination = sallyport.Local
	judge.announce(&done)
	if err != nil {
		done.Decision, done.Reasons = "error", []string{err.Error()}
	}
	if err := errors.Join(err, p.record(ctx, done)); err != nil {
		return routing.Outcome{}, err
	}
	truth, err := p.follow(ctx, a)
	if err != nil {
		return truth, err
	}
	truth.Log = ""
	if truth.Failure != "" {
		return truth, sallyport.Errorf("judge", sallyport.Unavailable, "Look at the local backend, then submit again.",
			"the nodes disagree, and the lab's own execution failed: %s", truth.Failure)
	}
	return truth, nil
}

func (f finished) announce(e *audit.Entry) { e.Lease = f.Lease }

// verify opens each result that agreed, without keeping it, and checks that
// its bytes are what the node claimed. Who was right is paid; who was wrong is
// not, and is remembered.
func (p *passage) verify(ctx context.Context, j judged, o *outcome) (verified, error) {
	key, err := p.g.parts.Issuer.Fetch(ctx, j.Results)
	if err != nil {
		return verified{}, err
	}
	out := verified{judged: j}
	right, wrong := []string{}, slices.Clone(j.Judgment.Wrong)
	for _, oc := range j.Outcomes {
		if !slices.Contains(j.Judgment.Right, oc.Assignment) {
			continue
		}
		if err := p.g.checkResult(ctx, oc, key); err != nil {
			if sallyport.KindOf(err) == sallyport.Unavailable {
				return verified{}, err
			}
			p.progress("verify", "%s: %v", oc.Node, err)
			wrong = append(wrong, oc.Assignment)
			continue
		}
		right = append(right, oc.Assignment)
		if out.Winner.Assignment == "" {
			out.Winner = oc
		}
	}
	if out.Winner.Assignment == "" && j.Truth != nil {
		if err := p.g.checkResult(ctx, *j.Truth, key); err != nil {
			return verified{}, err
		}
		out.Winner = *j.Truth
	}
	if err := p.settle(j, right, wrong); err != nil {
		return verified{}, err
	}
	if out.Cost, _, err = p.g.parts.Ledger.JobCost(string(p.job.ID)); err != nil {
		return verified{}, err
	}
	o.Cost, o.Node, o.Result = out.Cost, out.Winner.Node, out.Winner.Claim
	o.Facts = map[string]any{"right": right, "wrong": wrong, "claim": out.Winner.Claim}
	if out.Winner.Assignment == "" {
		return verified{}, sallyport.Errorf("verify", sallyport.Damaged, "Nobody was paid; submit again.", "no result is what its node claimed")
	}
	o.Say = fmt.Sprintf("result %s of %s accepted; %s", j.named(out.Winner.Claim), out.Winner.Node, paidFor(right, wrong, out.Cost))
	p.job.Cost, p.job.Nodes = out.Cost, rightNodes(j.Outcomes, right)
	return out, nil
}

// settle pays and judges every execution once, however often it is called.
func (p *passage) settle(j judged, right, wrong []string) error {
	for _, oc := range j.Outcomes {
		verdict := routing.Lost
		switch {
		case slices.Contains(right, oc.Assignment):
			verdict = routing.Correct
		case slices.Contains(wrong, oc.Assignment):
			verdict = routing.Wrong
		}
		var err error
		if verdict == routing.Correct {
			err = p.g.parts.Ledger.Settle(oc.Assignment, j.Charges[oc.Assignment])
		} else {
			err = p.g.parts.Ledger.Cancel(oc.Assignment)
		}
		if err = errors.Join(err, p.g.parts.Ledger.Judge(oc.Assignment, oc.Node, verdict)); err != nil {
			return err
		}
	}
	return nil
}

// checkResult streams a sealed result through the key and compares what comes
// out with what the node claimed.
func (g *Gateway) checkResult(ctx context.Context, oc routing.Outcome, key *seal.Key) error {
	sum := sha256.New()
	if err := g.openResult(ctx, oc, key, sum); err != nil {
		return err
	}
	if got := sallyport.DigestSum(sum.Sum(nil)); got != oc.Claim {
		return sallyport.Errorf("verify", sallyport.Damaged, "", "the sealed result of %s is not what it claimed", oc.Node)
	}
	return nil
}

func (g *Gateway) openResult(ctx context.Context, oc routing.Outcome, key *seal.Key, dst io.Writer) error {
	plain, err := g.resultReader(ctx, oc.Result.Ref, key)
	if err != nil {
		return err
	}
	defer plain.Close()
	_, err = io.Copy(dst, plain)
	return err
}

// keep opens the accepted result on premises and stores it for its researcher.
func (p *passage) keep(ctx context.Context, v reviewed, o *outcome) (kept, error) {
	key, err := p.g.parts.Issuer.Fetch(ctx, v.Results)
	if err != nil {
		return kept{}, err
	}
	to := sallyport.Ref{Store: p.g.parts.ResultsName, Key: string(p.job.ID) + "/result.csv"}
	sum := sha256.New()
	info, err := p.g.parts.Results.Put(ctx, to, func(w io.Writer) error {
		sum.Reset()
		if err := p.g.openResult(ctx, v.Winner, key, io.MultiWriter(w, sum)); err != nil {
			return err
		}
		if sallyport.DigestSum(sum.Sum(nil)) != v.Winner.Claim {
			return sallyport.Errorf("keep", sallyport.Damaged, "Submit again.", "the result in the hold changed after it was verified")
		}
		return nil
	})
	if err != nil {
		return kept{}, err
	}
	if v.Said != nil {
		if err := p.keepSaid(ctx, *v.Said, key); err != nil {
			return kept{}, err
		}
	}
	p.job.Result, p.job.Digest, o.Result = &to, v.Winner.Claim, v.Winner.Claim
	o.Facts = map[string]any{"result": to, "digest": v.Winner.Claim, "size": info.Size}
	o.Say = fmt.Sprintf("%d bytes in %s", info.Size, to)
	return kept{reviewed: v, Result: to}, nil
}

// keepSaid stores what the module said for the researcher, after review.
func (p *passage) keepSaid(ctx context.Context, s said, key *seal.Key) error {
	to := p.logRef()
	_, err := p.g.parts.Results.Put(ctx, to, func(w io.Writer) error {
		plain, err := p.g.resultReader(ctx, s.Parcel.Ref, key)
		if err != nil {
			return err
		}
		defer plain.Close()
		_, err = io.Copy(w, prove(plain, s.Digest))
		return err
	})
	if err == nil {
		p.job.Log = &to
	}
	return err
}

// close ends the keys' lives with the job's, and empties the hold.
func (p *passage) close(ctx context.Context, k kept, o *outcome) (struct{}, error) {
	o.Lease = k.Lease
	if err := p.releaseFunds(); err != nil {
		return struct{}{}, err
	}
	n, err := p.forget(ctx, "job finished")
	o.Facts, o.Say = n, n.String()
	return struct{}{}, err
}

// forget destroys every key of the job and removes its objects from the hold,
// keys first: what a crash leaves behind cannot be opened. It is idempotent.
func (p *passage) forget(ctx context.Context, why string) (forgotten, error) {
	var n forgotten
	leases, err := p.g.parts.Issuer.List(ctx)
	if err != nil {
		return n, err
	}
	for _, l := range leases {
		if l.Destroyed == nil && (l.Release == "release/"+string(p.job.ID) || l.Release == "result/"+string(p.job.ID)) {
			if err := p.g.parts.Issuer.Destroy(ctx, l.ID, why); err != nil {
				return n, err
			}
			n.Keys++
		}
	}
	for info, err := range p.g.parts.Hold.List(ctx, p.prefix()) {
		if err != nil {
			return n, err
		}
		if err := p.g.parts.Hold.Remove(ctx, info.Ref); err != nil {
			return n, err
		}
		n.Objects++
	}
	return n, nil
}

// forgotten is how much of a job is gone.
type forgotten struct {
	Keys    int `json:"keys_destroyed"`
	Objects int `json:"objects_removed"`
}

func (f forgotten) String() string {
	if f == (forgotten{}) {
		return "nothing to undo: no key was made, nothing was held"
	}
	return fmt.Sprintf("%d keys destroyed, %d sealed objects removed from the hold", f.Keys, f.Objects)
}

// discard undoes a job that was denied, failed or canceled: nothing runs on,
// nobody is paid, no key and no ciphertext stays. Intent and outcome are
// recorded like a step's, but it may be repeated until it succeeds.
func (p *passage) discard(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	p.begin("discard")
	if err := p.record(ctx, p.entry("discard", audit.Intent)); err != nil {
		return err
	}
	p.point("discard", "intent")
	var o outcome
	n, err := p.undo(ctx)
	o.Facts = map[string]any{"why": p.job.Ending, "forgotten": n}
	o.Reasons = p.job.Reasons
	p.point("discard", "acted")
	done, entryErr := o.entry(p.entry("discard", audit.Outcome), err)
	if err := errors.Join(err, entryErr, p.record(ctx, done)); err != nil {
		return err
	}
	p.point("discard", "outcome")
	p.said("discard", n.String())
	return nil
}

func (p *passage) undo(ctx context.Context) (forgotten, error) {
	if err := p.releaseFunds(); err != nil {
		return forgotten{}, err
	}
	if err := p.cancelRuns(ctx); err != nil {
		return forgotten{}, err
	}
	return p.forget(ctx, "job "+string(p.job.Ending))
}

// releaseFunds cancels what is reserved for the job and not settled: a crash
// between reserving and journaling may have led to another choice of nodes.
// What was verified and paid stays paid.
func (p *passage) releaseFunds() error {
	entries, err := p.g.parts.Ledger.Entries(string(p.job.ID))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.State != routing.StateReserved {
			continue
		}
		if err := p.g.parts.Ledger.Cancel(e.Assignment); err != nil {
			return err
		}
	}
	return nil
}

// cancelRuns stops what may still run somewhere. Backends are idempotent, so
// asking for a run that ended is harmless; one that was never started is not
// started to be stopped, because only journaled hand-overs are asked about.
func (p *passage) cancelRuns(ctx context.Context) error {
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		name := "hand over"
		if attempt > 1 {
			name = fmt.Sprintf("hand over again (%d)", attempt)
		}
		var h handed
		if done, err := p.g.journal.done(p.job.ID, name, &h); err != nil || !done {
			return err
		}
		for _, a := range h.Assignments {
			b, err := p.g.backend(a.Node.Backend)
			if err != nil {
				continue
			}
			c, ok := b.(routing.Canceler)
			if !ok {
				continue
			}
			if err := c.Cancel(ctx, a.ID); err != nil {
				p.g.log.Warn("run could not be canceled", "assignment", a.ID, "err", err)
			}
		}
	}
	return nil
}

// results is the lease of the key that this job's results are sealed to. It
// outlives the data's key, by the time that people have to review a result where
// policy asks for that: nobody but the issuer holds it.
func (p *passage) results(ctx context.Context, r released) (seal.Lease, error) {
	ttl := r.Parcel.Until.Sub(p.g.now()) + resultGrace
	if r.Admit.Limits.Reviews != 0 {
		ttl += p.g.parts.ReviewWithin
	}
	return p.g.parts.Issuer.Issue(ctx, "result/"+string(p.job.ID), ttl)
}

func rightNodes(outcomes []routing.Outcome, right []string) []string {
	var out []string
	for _, oc := range outcomes {
		if slices.Contains(right, oc.Assignment) {
			out = append(out, oc.Node)
		}
	}
	return out
}

func paidFor(right, wrong []string, cost sallyport.Money) string {
	s := fmt.Sprintf("%d right, %d wrong, cost %s", len(right), len(wrong), cost)
	return strings.TrimSpace(s)
}
