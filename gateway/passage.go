package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/audit"
	"sallyport/policy"
	"sallyport/routing"
)

// The passage, in the order in which it happens. Each step takes a type that
// only the step before it makes, so leaving out a door does not compile. Each
// literal of these types stands in one place: the step that makes it (a held in
// two: hold, and measure, which holds nothing because nothing is changed).
//
// The values go into the journal. They carry no secret: a lease's ID, never a key.
type (
	admitted struct {
		Admission policy.Admission  `json:"admission"`
		Dataset   sallyport.Dataset `json:"dataset"`
		Admit     policy.Verdict    `json:"admit"`
		// Earlier are the plans by which the dataset went outside before.
		Earlier []anonymize.Earlier `json:"earlier_releases,omitempty"`
	}
	held struct {
		admitted
		Lease  string              `json:"lease"`
		Parcel sallyport.SealedRef `json:"parcel"`
		Report anonymize.Report    `json:"report"`
		// Described is the digest of the release report.
		Described sallyport.Digest `json:"described,omitempty"`
	}
	released struct {
		held
		Release policy.Verdict `json:"release"`
	}
	placed struct {
		released
		Attempt   int               `json:"attempt"`
		Task      routing.Task      `json:"task"`
		Placement routing.Placement `json:"placement"`
		Earlier   executions        `json:"earlier"` // of earlier attempts
	}
	handed struct {
		placed
		Results     string               `json:"results"` // lease of the key that results are sealed to
		Assignments []routing.Assignment `json:"assignments"`
	}
	finished struct {
		handed
		executions // of all attempts
	}
	judged struct {
		finished
		Judgment routing.Judgment `json:"judgment"`
		Truth    *routing.Outcome `json:"truth,omitempty"` // of the lab's own execution, where one was needed
	}
	verified struct {
		judged
		Winner routing.Outcome `json:"winner"`
		Cost   sallyport.Money `json:"cost"`
	}
	reviewed struct {
		verified
		Agreed []string `json:"agreed,omitempty"` // people, where policy asked for any
	}
	kept struct {
		reviewed
		Result sallyport.Ref `json:"result"`
	}
)

// executions are how a job's runs ended, and what each costs if it is accepted.
type executions struct {
	Outcomes []routing.Outcome          `json:"outcomes"`
	Charges  map[string]sallyport.Money `json:"charges"`        // by assignment
	Said     *said                      `json:"said,omitempty"` // what the module said, where it is reviewed
}

// maxAttempts bounds how often a job is placed when nodes fail.
const maxAttempts = 3

// run takes one job through both doors.
func (p *passage) run(ctx context.Context) error {
	a, err := step(ctx, p, "admit", p.job.Request, p.admit)
	if err != nil {
		return err
	}
	h, err := step(ctx, p, "hold", a, p.hold)
	if err != nil {
		return err
	}
	r, err := step(ctx, p, "release", h, p.release)
	if err != nil {
		return err
	}
	f, err := p.execute(ctx, r)
	if err != nil {
		return err
	}
	j, err := step(ctx, p, "judge", f, p.judge)
	if err != nil {
		return err
	}
	v, err := step(ctx, p, "verify", j, p.verify)
	if err != nil {
		return err
	}
	ok, err := step(ctx, p, "review", v, p.review)
	if err != nil {
		return err
	}
	k, err := step(ctx, p, "keep", ok, p.keep)
	if err != nil {
		return later(err)
	}
	_, err = step(ctx, p, "close", k, p.close)
	return later(err)
}

// execute places, hands over and runs, again on other nodes where some failed.
func (p *passage) execute(ctx context.Context, r released) (finished, error) {
	var earlier executions
	for attempt := 1; ; attempt++ {
		n := ""
		if attempt > 1 {
			n = fmt.Sprintf(" again (%d)", attempt)
		}
		pl, err := step(ctx, p, "place"+n, r, p.place(attempt, earlier))
		if err != nil {
			return finished{}, err
		}
		h, err := step(ctx, p, "hand over"+n, pl, p.handOver)
		if err != nil {
			return finished{}, err
		}
		f, err := step(ctx, p, "run"+n, h, p.start)
		if err != nil {
			return finished{}, err
		}
		if missing(f.Outcomes, f.Task.Copies) == 0 {
			return f, nil
		}
		if err := p.mayTryAgain(f); err != nil {
			return finished{}, err
		}
		earlier = f.executions
	}
}

// outcome is what a step has to say for the record and for people.
type outcome struct {
	audit.Entry        // Decision, Reasons, Rules, Lease, Node, Cost …
	Facts       any    // becomes Entry.Detail
	Say         string // one line
}

// act is what one step does: it returns what the next step takes, and fills o
// with what the record and the people who watch should know. It may be called
// again after a crash, so it must be idempotent by job.
type act[In, Out any] func(ctx context.Context, in In, o *outcome) (Out, error)

// announcer is an input that has more to say in the intent record than the
// step's name: to which node a key is about to go, for instance.
type announcer interface{ announce(*audit.Entry) }

// step is the one way anything happens: journal says done → replay; else
// record the intent, act, record the outcome, journal. No record, no act.
func step[In, Out any](ctx context.Context, p *passage, name string, in In, do act[In, Out]) (Out, error) {
	var out, none Out
	if p.view == "" { // a view is made anew after a crash, not continued
		if done, err := p.g.journal.done(p.job.ID, name, &out); err != nil || done {
			return out, err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return none, err
	}
	p.begin(name)
	intent := p.entry(name, audit.Intent)
	if a, ok := any(in).(announcer); ok {
		a.announce(&intent)
	}
	if err := p.record(ctx, intent); err != nil {
		return none, err
	}
	p.point(name, "intent")

	var o outcome
	out, actErr := do(ctx, in, &o)
	p.point(name, "acted")

	done, err := o.entry(p.entry(name, audit.Outcome), actErr)
	if err != nil {
		return none, err
	}
	if err := p.record(ctx, done); err != nil {
		return none, errors.Join(actErr, err)
	}
	p.point(name, "outcome")
	if actErr != nil {
		return none, actErr
	}
	if err := p.finish(name, o.Say, out); err != nil {
		return none, err
	}
	p.point(name, "journaled")
	return out, nil
}

// entry completes the outcome record.
func (o *outcome) entry(base audit.Entry, err error) (audit.Entry, error) {
	e := o.Entry
	e.Time, e.Step, e.Phase, e.Job = base.Time, base.Step, base.Phase, base.Job
	e.Subject, e.Project, e.Purpose, e.Dataset = base.Subject, base.Project, base.Purpose, base.Dataset
	e.Credential, e.Roles, e.Request, e.Trace = base.Credential, base.Roles, base.Request, base.Trace
	if e.Destination == "" {
		e.Destination = base.Destination
	}
	if err != nil && e.Decision == "" {
		e.Decision, e.Reasons = "error", append(e.Reasons, err.Error())
	}
	if o.Facts != nil {
		b, err := json.Marshal(o.Facts)
		if err != nil {
			return e, sallyport.E("record", sallyport.Internal, err, "")
		}
		e.Detail = b
	}
	return e, nil
}
