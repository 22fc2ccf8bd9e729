package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"sallyport"
	"sallyport/audit"
)

// Egress review: where policy asks for it, what a job made is shown to people
// before its researcher gets any of it, and they must agree. Until then the
// result, and what the module said, rest sealed in the hold, and only a
// reviewer's look opens them, as a stream.

// reviewWithin is how long people have, unless the gateway is told otherwise.
const reviewWithin = 7 * 24 * time.Hour

// Opinion is what one person says of a result.
type Opinion struct {
	By      string `json:"by"`
	Approve bool   `json:"approve"`
	Reason  string `json:"reason"`
	// Digest is that of the result that the person was shown, Log that of what
	// the module said, "" if it said nothing: what is given out is what was
	// looked at.
	Digest sallyport.Digest `json:"digest"`
	Log    sallyport.Digest `json:"log,omitempty"`
	Time   time.Time        `json:"time"`
}

// Review is a result that waits, or waited, for people, as they see it.
type Review struct {
	Job       sallyport.JobID  `json:"job"`
	Subject   string           `json:"subject"` // whose job it is
	Project   string           `json:"project"`
	Purpose   string           `json:"purpose"`
	Dataset   string           `json:"dataset"`
	Algorithm string           `json:"algorithm"`
	Args      []string         `json:"args,omitempty"`
	Needs     int              `json:"needs"` // people who must agree
	Since     time.Time        `json:"since"`
	Until     time.Time        `json:"until"`         // then it is destroyed
	Digest    sallyport.Digest `json:"digest"`        // of the result
	Log       sallyport.Digest `json:"log,omitempty"` // of what the module said
	Facts     ResultFacts      `json:"facts"`
	Opinions  []Opinion        `json:"opinions"`

	// What a look opens: references and a lease, no secret.
	Lease  string              `json:"lease"`
	Result sallyport.SealedRef `json:"result"`
	Said   *said               `json:"said,omitempty"`
}

// Awaited is what a job says of its review: nothing about the result.
type Awaited struct {
	Needs  int       `json:"needs"`
	Agreed int       `json:"agreed"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
}

// Agreed is how many people agreed.
func (r Review) Agreed() int { return len(r.agreed()) }

// agreed are the different people, other than whose job it is, who agreed to
// exactly these bytes.
func (r Review) agreed() []string {
	var out []string
	for _, o := range r.Opinions {
		if o.Approve && o.By != "" && o.By != r.Subject && o.Digest == r.Digest && o.Log == r.Log && !slices.Contains(out, o.By) {
			out = append(out, o.By)
		}
	}
	return out
}

// decided says whether the review is over, and the error if it ended badly. One
// rejection ends it; what enough people agreed to in time stays agreed.
func (r Review) decided(now time.Time) (bool, error) {
	for _, o := range r.Opinions {
		if !o.Approve {
			why := fmt.Sprintf("%s reviewed the result and rejected it: %s", o.By, o.Reason)
			return true, sallyport.E("review", sallyport.Denied, &denial{why, []string{why}}, "Ask the reviewer; a job that gives less may pass.")
		}
	}
	n := r.Agreed()
	switch {
	case n >= r.Needs:
		return true, nil
	case !now.Before(r.Until):
		return true, sallyport.Errorf("review", sallyport.Exhausted, "Ask a reviewer to be there, then submit again.",
			"%d of %d people agreed until %s; the result is destroyed", n, r.Needs, r.Until.UTC().Format(time.RFC3339))
	}
	return false, nil
}

// review lets a result pass once as many people agreed as door 1 asked for: at
// once, where it asked for none.
func (p *passage) review(ctx context.Context, v verified, o *outcome) (reviewed, error) {
	out := reviewed{verified: v}
	if v.Admit.Limits.Reviews == 0 {
		o.Say = "policy asks for no review of results"
		return out, nil
	}
	o.Lease, o.Decision = v.Results, "deny"
	r, err := p.agree(ctx, v)
	o.Facts = map[string]any{"needs": v.Admit.Limits.Reviews, "digest": v.Winner.Claim, "opinions": r.Opinions}
	if err != nil {
		if sallyport.KindOf(err) != sallyport.Denied {
			o.Decision = "" // nobody decided; it is an error
			return reviewed{}, err
		}
		o.Reasons = []string{err.Error()}
		return reviewed{}, err
	}
	o.Decision, out.Agreed = "allow", r.agreed()
	o.Say = fmt.Sprintf("%s agreed that result %s is given out", strings.Join(out.Agreed, " and "), v.Winner.Claim.Short())
	return out, nil
}

// agree waits until the review is decided. The job takes no slot meanwhile.
func (p *passage) agree(ctx context.Context, v verified) (Review, error) {
	wake, gone := p.g.reviewed(p.job.ID)
	defer gone()
	r, err := p.openReview(ctx, v)
	if err != nil {
		return r, later(err)
	}
	p.job.State, p.job.Review = Reviewing, &Awaited{Needs: r.Needs, Since: r.Since, Until: r.Until}
	defer func() { p.job.State = Running }()
	if err := p.g.journal.put(p.job); err != nil {
		return r, later(err)
	}
	p.progress("review", "waits until %s for %d people to review the result", r.Until.Format(time.RFC3339), r.Needs-r.Agreed())
	p.slot.give()
	tick := time.NewTicker(p.g.parts.Retry)
	defer tick.Stop()
	for {
		p.g.opining.Lock() // an opinion counts once all of it is on record
		r, err = p.g.journal.review(p.job.ID)
		p.g.opining.Unlock()
		if err != nil {
			return r, later(err)
		}
		if over, err := r.decided(p.g.now()); err != nil {
			return r, err
		} else if over {
			return r, p.slot.take(ctx)
		}
		if err := p.mayStillOpen(ctx, v.Results); err != nil {
			return r, err
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			return r, context.Cause(ctx)
		}
	}
}

// openReview measures the result for those who will review it, and makes the
// review's place in the journal: once, whatever crashes.
func (p *passage) openReview(ctx context.Context, v verified) (Review, error) {
	r, err := p.g.journal.review(p.job.ID)
	if err == nil && r.Digest != v.Winner.Claim {
		return r, sallyport.Errorf("review", sallyport.Damaged, "Submit again.", "the review that the journal holds is of another result")
	}
	if sallyport.KindOf(err) != sallyport.NotFound {
		return r, err
	}
	key, err := p.g.parts.Issuer.Fetch(ctx, v.Results)
	if err != nil {
		return r, err
	}
	lease, err := p.results(ctx, v.released)
	if err != nil {
		return r, err
	}
	facts, err := p.inspect(ctx, v, key)
	if err != nil {
		return r, err
	}
	now := p.g.now().UTC()
	r = Review{Job: p.job.ID, Subject: p.job.Subject.ID, Project: p.job.Project, Purpose: p.job.Purpose, Dataset: p.job.Dataset,
		Algorithm: p.job.Algorithm, Args: p.job.Args, Needs: v.Admit.Limits.Reviews, Since: now, Until: now.Add(p.g.parts.ReviewWithin),
		Digest: v.Winner.Claim, Facts: facts, Opinions: []Opinion{}, Lease: v.Results, Result: v.Winner.Result, Said: v.Said}
	if r.Said != nil {
		r.Log = r.Said.Digest
	}
	// The key must live long enough to give out what was agreed to at the last moment.
	if last := lease.Until.Add(-resultGrace); last.Before(r.Until) {
		r.Until = last
	}
	e := p.entry("await review", audit.Note)
	e.Lease = v.Results
	if e.Detail, err = json.Marshal(map[string]any{"needs": r.Needs, "until": r.Until, "digest": r.Digest, "log": r.Log, "facts": facts}); err != nil {
		return r, sallyport.E("record", sallyport.Internal, err, "")
	}
	if err := p.record(ctx, e); err != nil {
		return r, err
	}
	return r, p.g.journal.putReview(r)
}

// mayStillOpen is an error once the result's key was destroyed.
func (p *passage) mayStillOpen(ctx context.Context, lease string) error {
	all, err := p.g.parts.Issuer.List(ctx)
	if err != nil {
		return later(err)
	}
	for _, l := range all {
		if l.ID == lease && l.Live(p.g.now()) {
			return nil
		}
	}
	return sallyport.Errorf("review", sallyport.NotFound, "Submit again.", "the key of the result was destroyed while it waited for review")
}

// reviewed returns a channel that is told when somebody said something of the
// job's result; gone must be called.
func (g *Gateway) reviewed(id sallyport.JobID) (told <-chan struct{}, gone func()) {
	ch := make(chan struct{}, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wakes[id] = ch
	return ch, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.wakes, id)
	}
}

func (g *Gateway) wake(id sallyport.JobID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case g.wakes[id] <- struct{}{}:
	default: // it is awake, or will look when it comes
	}
}

// Reviews returns every result that waits for people and that by may review,
// oldest first.
func (g *Gateway) Reviews(by Subject) ([]Review, error) {
	if err := g.mayReview(by, ""); err != nil {
		return nil, err
	}
	jobs, err := g.journal.Jobs()
	if err != nil {
		return nil, err
	}
	out := []Review{}
	for _, j := range jobs {
		if j.Subject.ID == by.ID {
			continue
		}
		r, err := g.waitingReview(j.ID)
		switch sallyport.KindOf(err) {
		case sallyport.NotFound, sallyport.Conflict:
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Review) int { return a.Since.Compare(b.Since) })
	return out, nil
}

// ReviewOf returns one result that waits for people.
func (g *Gateway) ReviewOf(by Subject, id sallyport.JobID) (Review, error) {
	if err := g.mayReview(by, ""); err != nil {
		return Review{}, err
	}
	r, err := g.waitingReview(id)
	if err != nil {
		return Review{}, err
	}
	return r, g.mayReview(by, r.Subject)
}

// mayReview: reviewers and officers, and nobody their own job.
func (g *Gateway) mayReview(by Subject, subject string) error {
	if by.ID == "" || !g.May(context.Background(), by, "result:review", "reviewer", "officer") {
		return sallyport.Errorf("review", sallyport.Denied, "Ask a reviewer or an officer.", "%s may not review results", by.ID)
	}
	if by.ID == subject {
		return sallyport.Errorf("review", sallyport.Denied, "Ask somebody else.", "nobody reviews a job of their own")
	}
	return nil
}

// waitingReview returns the review of a job that waits for it, or NotFound or
// Conflict.
func (g *Gateway) waitingReview(id sallyport.JobID) (Review, error) {
	if !id.Valid() {
		return Review{}, sallyport.Errorf("review", sallyport.NotFound, "`sallyport job review` lists what waits.", "no job of that name")
	}
	job, err := g.journal.Job(id)
	if err != nil {
		return Review{}, err
	}
	r, err := g.journal.review(id)
	if err != nil {
		return r, err
	}
	if over, _ := r.decided(g.now()); over || job.State.Final() || job.Ending != "" {
		return Review{}, sallyport.Errorf("review", sallyport.Conflict, "`sallyport job show` tells how it ended.", "the review of job %s is over", id)
	}
	return r, nil
}

// reviewEntry begins a record about somebody else's look at or opinion of a
// job's result.
func (g *Gateway) reviewEntry(by Subject, r Review, id sallyport.JobID, step string, phase audit.Phase, more map[string]any) (audit.Entry, error) {
	e := audit.Entry{Time: g.now().UTC(), Step: step, Phase: phase, Job: id, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Project: r.Project, Purpose: r.Purpose, Dataset: r.Dataset, Lease: r.Lease, Result: r.Digest}
	if job, err := g.journal.Job(id); err == nil {
		e.Trace = job.Trace
	}
	more["reviewer"] = by
	b, err := json.Marshal(more)
	if err != nil {
		return e, sallyport.E("record", sallyport.Internal, err, "")
	}
	e.Detail = b
	return e, nil
}

// turnAway records that somebody may not do step, and returns why.
func (g *Gateway) turnAway(ctx context.Context, by Subject, r Review, id sallyport.JobID, step string, why error) error {
	if !id.Valid() {
		id = "" // a stranger's words do not go into the record
	}
	e, err := g.reviewEntry(by, r, id, step, audit.Note, map[string]any{})
	if err != nil {
		return err
	}
	e.Decision, e.Reasons = "deny", []string{why.Error()}
	if _, err := g.parts.Audit.Append(context.WithoutCancel(ctx), e); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// LookAtResult opens, for a reviewer, the result of a job that waits for
// review, or with log what its module said. The look is recorded before the
// first byte. The stream ends with an error if it is not what was verified.
func (g *Gateway) LookAtResult(ctx context.Context, by Subject, id sallyport.JobID, log bool) (io.ReadCloser, error) {
	step := "look at result"
	if log {
		step = "look at log"
	}
	r, err := g.ReviewOf(by, id)
	if err != nil {
		return nil, g.turnAway(ctx, by, r, id, step, err)
	}
	ref, digest := r.Result.Ref, r.Digest
	if log {
		if r.Said == nil {
			return io.NopCloser(strings.NewReader("")), nil
		}
		ref, digest = r.Said.Parcel.Ref, r.Log
	}
	e, err := g.reviewEntry(by, r, id, step, audit.Note, map[string]any{"digest": digest})
	if err != nil {
		return nil, err
	}
	e.Decision = "allow"
	if _, err := g.parts.Audit.Append(ctx, e); err != nil {
		return nil, sallyport.E(step, sallyport.KindOf(err), fmt.Errorf("no record, no act: %w", err), "")
	}
	key, err := g.parts.Issuer.Fetch(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	plain, err := g.resultReader(ctx, ref, key)
	if err != nil {
		return nil, err
	}
	return prove(plain, digest), nil
}

// maxReason bounds a reason, in bytes: it goes into the record.
const maxReason = 1000

// Opine takes what a reviewer says of a result: By and Time are filled in. It
// is recorded before it counts. The review as it stands then is returned.
func (g *Gateway) Opine(ctx context.Context, by Subject, id sallyport.JobID, say Opinion) (Review, error) {
	g.opining.Lock() // so that a review is decided once, and each person counts once
	defer g.opining.Unlock()
	step := "reject result"
	if say.Approve {
		step = "approve result"
	}
	r, err := g.ReviewOf(by, id)
	if err == nil {
		err = r.takes(by, say)
	}
	if err == nil {
		say.Time, err = g.decisionTime() // a clock that went back prolongs no review
	}
	if err != nil {
		return Review{}, g.turnAway(ctx, by, r, id, step, err)
	}
	say.By = by.ID
	e, err := g.reviewEntry(by, r, id, step, audit.Intent, map[string]any{"digest": say.Digest, "log": say.Log})
	if err != nil {
		return Review{}, err
	}
	e.Reasons = []string{say.Reason}
	if _, err := g.parts.Audit.Append(ctx, e); err != nil {
		return Review{}, sallyport.E(step, sallyport.KindOf(err), fmt.Errorf("no record, no act: %w", err), "")
	}
	g.point(step, "intent")
	r.Opinions = append(r.Opinions, say)
	err = g.journal.putReview(r)
	g.point(step, "acted")
	e.Time, e.Phase, e.Decision = g.now().UTC(), audit.Outcome, "deny"
	switch {
	case err != nil:
		e.Decision, e.Reasons = "error", append(e.Reasons, err.Error())
	case say.Approve:
		e.Decision = "allow"
	}
	_, recErr := g.parts.Audit.Append(context.WithoutCancel(ctx), e)
	if err == nil {
		g.wake(id)
	}
	return r, errors.Join(err, recErr)
}

// takes refuses an opinion that is not one.
func (r Review) takes(by Subject, say Opinion) error {
	if strings.TrimSpace(say.Reason) == "" || len(say.Reason) > maxReason || strings.ContainsFunc(say.Reason, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return sallyport.Errorf("review", sallyport.Invalid, "Say why with --reason, in one line.", "a reason is one line of 1 to %d bytes", maxReason)
	}
	for _, o := range r.Opinions {
		if o.By == by.ID && say.Approve { // who agreed may still reject
			return sallyport.Errorf("review", sallyport.Denied, "Ask a second person.", "%s said what they think already", by.ID)
		}
	}
	if say.Digest != r.Digest || say.Log != r.Log {
		return sallyport.Errorf("review", sallyport.Conflict, "Look at it again with --show.", "what was looked at is not what waits")
	}
	return nil
}

// slot is one of the jobs that may run at once.
type slot struct {
	of   chan struct{}
	held bool
}

// take waits for a slot; an error says why ctx ended before.
func (s *slot) take(ctx context.Context) error {
	select {
	case s.of <- struct{}{}:
		s.held = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slot) give() {
	if s.held {
		<-s.of
		s.held = false
	}
}
