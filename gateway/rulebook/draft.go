package rulebook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
)

// Candidate is a bundle that somebody or some source would have in force.
type Candidate struct {
	Files    fs.FS
	Origin   string // where it comes from, for people
	Revision string // what its source calls it, such as a commit
	Signed   string // who signed it, as its source verified; "" nobody
}

// Progress says how far a gate is.
type Progress struct {
	Stage string `json:"stage"` // compile, lint, test, replay
	Done  int    `json:"done,omitempty"`
	Of    int    `json:"of,omitempty"`
}

// States of a draft.
const (
	Waiting   = "waiting"   // for approval
	Refused   = "refused"   // by a check
	Active    = "activated" // came into force
	Withdrawn = "withdrawn" // a person ended it
)

// Approval is a second person's yes.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Loosens is how many past decisions they acknowledged that would let more out.
	Loosens int              `json:"loosens"`
	Replay  sallyport.Digest `json:"replay"`
}

// Draft is a candidate that went through the checks.
type Draft struct {
	Version    sallyport.Digest `json:"version"`
	Rules      sallyport.Digest `json:"rules"`
	Base       sallyport.Digest `json:"base"` // version in force when it was checked
	By         policy.Subject   `json:"by"`   // ID is the source's name where no person drafted it
	Source     bool             `json:"source,omitempty"`
	Signed     string           `json:"signed,omitempty"`
	At         time.Time        `json:"at"`
	Note       string           `json:"note,omitempty"`
	Origin     string           `json:"origin,omitempty"`
	Revision   string           `json:"revision,omitempty"`
	State      string           `json:"state"`
	Findings   []Finding        `json:"findings"`
	Tests      int              `json:"tests"`
	Coverage   float64          `json:"coverage"` // percent
	Comparison Comparison       `json:"comparison"`
	Approvals  []Approval       `json:"approvals"`
	Needs      int              `json:"needs"` // approvals
	Ended      string           `json:"ended,omitempty"`
}

func (d Draft) file() string { return strings.TrimPrefix(string(d.Version), "sha256:") + ".json" }

// errors returns the findings that refuse the draft.
func (d Draft) errors() []Finding {
	return slices.DeleteFunc(slices.Clone(d.Findings), func(f Finding) bool { return !f.Error })
}

const draftStep = "draft policy"

// Propose takes a candidate through compile, lint, tests and replay. A draft
// that passes waits for approval; one that does not is kept as refused, with
// what is wrong, and the error says so. The bundle in force stays.
func (b *Book) Propose(ctx context.Context, by policy.Subject, c Candidate, note string, report func(Progress)) (Draft, error) {
	if !b.may(ctx, b.engine, by, Edit) {
		return Draft{}, b.refuse(ctx, draftStep, by, "", sallyport.Errorf(draftStep, sallyport.Denied, "Ask somebody who may, such as an admin.", "%s may not edit policy", by.ID))
	}
	return b.propose(ctx, Draft{By: by, Note: note}, c, report)
}

func (b *Book) propose(ctx context.Context, d Draft, c Candidate, report func(Progress)) (Draft, error) {
	if report == nil {
		report = func(Progress) {}
	}
	b.gate.Lock()
	defer b.gate.Unlock()
	d.At, d.Origin, d.Revision, d.Signed, d.Findings, d.Approvals = b.cfg.Now().UTC(), c.Origin, c.Revision, c.Signed, []Finding{}, []Approval{}
	report(Progress{Stage: "compile"})
	bundle, err := policy.Load(ctx, c.Files)
	if err != nil {
		return d, errors.Join(err, b.record(ctx, audit.Outcome, draftStep, d.By.ID, "", summary(d), err))
	}
	d.Version, d.Rules = bundle.Version(), bundle.Rules()
	if err := b.record(ctx, audit.Intent, draftStep, d.By.ID, d.Version, summary(d), nil); err != nil {
		return d, err
	}
	err = b.examine(ctx, bundle, &d, report)
	if d.State != "" {
		err = errors.Join(err, b.keep(bundle, &d))
	}
	return d, errors.Join(err, b.record(ctx, audit.Outcome, draftStep, d.By.ID, d.Version, summary(d), err))
}

// summary is what the audit log keeps of a draft; the report's digest stands
// for the report.
func summary(d Draft) Draft {
	d.Comparison.Report = nil
	return d
}

// examine fills in what the checks find.
func (b *Book) examine(ctx context.Context, bundle *policy.Bundle, d *Draft, report func(Progress)) error {
	b.mu.Lock()
	d.Base = b.bundle.Version()
	b.mu.Unlock()
	if d.Version == d.Base {
		return sallyport.Errorf(draftStep, sallyport.Conflict, "", "this is the version in force, %s", d.Version.Short())
	}
	tried, err := b.engine.Try(ctx, bundle)
	if err != nil {
		return err
	}
	if !d.Source && !b.may(ctx, tried, d.By, Edit) {
		d.Findings = append(d.Findings, Finding{Text: fmt.Sprintf("under these rules %s may not edit policy any more", d.By.ID),
			Fix: "Keep policy:edit with one of the person's roles, if that is not meant."})
	}
	if b.cfg.Lint != nil {
		report(Progress{Stage: "lint"})
		d.Findings = append(d.Findings, b.cfg.Lint(ctx, bundle)...)
	}
	report(Progress{Stage: "test"})
	if err := b.test(ctx, bundle, d); err != nil {
		return err
	}
	if bad := d.errors(); len(bad) > 0 {
		d.State = Refused
		return sallyport.Errorf(draftStep, sallyport.Invalid, "`sallyport policy check --bundle DIR` shows the same on your machine.",
			"%d of the checks fail; the first: %s", len(bad), bad[0])
	}
	report(Progress{Stage: "replay"})
	if d.Comparison, err = b.replay(ctx, bundle, report); err != nil {
		return err
	}
	if n := d.Comparison.Failures; n > 0 {
		d.State = Refused
		d.Findings = append(d.Findings, Finding{Error: true, Text: fmt.Sprintf("the rules end with an error for %d of the past decisions", n),
			Fix: "`sallyport policy replay --bundle DIR` shows the first of them and the line."})
		return sallyport.Errorf(draftStep, sallyport.Invalid, "Correct the rule; each of these would be a denial.", "the rules end with an error for %d of the past decisions", n)
	}
	d.State = Waiting
	return nil
}

func (f Finding) String() string {
	at := f.File
	if at != "" && f.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, f.Line)
	}
	if at != "" {
		at += ": "
	}
	return at + f.Text
}

func (b *Book) test(ctx context.Context, bundle *policy.Bundle, d *Draft) error {
	results, coverage, err := policy.TestWithCoverage(ctx, bundle.FS())
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil {
		d.Findings = append(d.Findings, Finding{Error: true, Text: "the tests cannot be run: " + err.Error()})
		return nil
	}
	for _, r := range results {
		if !r.Pass {
			d.Findings = append(d.Findings, Finding{Error: true, File: r.File, Line: r.Line, Text: "test " + r.Name + " fails: " + r.Fault, Fix: "Correct the rule or the test."})
		}
	}
	d.Tests, d.Coverage = len(results), coverage.Percent
	switch {
	case len(results) == 0:
		d.Findings = append(d.Findings, Finding{Error: true, Text: "the bundle has no tests", Fix: "Write rules test_… in a file *_test.rego."})
	case coverage.Percent < b.cfg.Coverage:
		d.Findings = append(d.Findings, Finding{Error: true, Text: fmt.Sprintf("the tests reach %.1f %% of the lines, and %.0f %% are asked for", coverage.Percent, b.cfg.Coverage),
			Fix: "`sallyport policy test --coverage` lists the lines that no test reaches."})
	}
	return nil
}

func (b *Book) replay(ctx context.Context, bundle *policy.Bundle, report func(Progress)) (Comparison, error) {
	if b.cfg.Replay == nil {
		return Comparison{}, nil
	}
	return b.cfg.Replay(ctx, bundle, func(done, of int) { report(Progress{"replay", done, of}) })
}

// keep stores a draft and its bundle.
func (b *Book) keep(bundle *policy.Bundle, d *Draft) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Needs = b.needs(*d)
	if err := b.cfg.Archive.KeepBundle(bundle); err != nil {
		return err
	}
	return b.writeDraft(*d)
}

// needs is how many approvals a draft needs: two people stand for a version, if
// policy says so. A verified signature of its source stands for the first.
func (b *Book) needs(d Draft) int {
	if d.Source && d.Signed == "" && b.twoPeople() {
		return 2
	}
	return 1
}

func (b *Book) twoPeople() bool { return b.engine.TwoPeople(context.Background(), "policy.publish") }

// Approve is a second person's yes. It replays once more, over what was decided
// since; the number of past decisions that would let more out must be
// acknowledged as it is then. With the last approval that is needed the draft
// comes into force.
func (b *Book) Approve(ctx context.Context, by policy.Subject, version sallyport.Digest, acknowledged int, report func(Progress)) (Draft, error) {
	const op = "approve policy"
	if report == nil {
		report = func(Progress) {}
	}
	b.gate.Lock()
	defer b.gate.Unlock()
	d, err := b.Draft(version)
	if err != nil {
		return d, err
	}
	deny := func(format string, args ...any) (Draft, error) {
		return d, b.refuse(ctx, op, by, version, sallyport.Errorf(op, sallyport.Denied, "Ask a second person who may approve policy.", format, args...))
	}
	switch {
	case !b.may(ctx, b.engine, by, Approve):
		return deny("%s may not approve policy", by.ID)
	case d.State != Waiting:
		return d, sallyport.Errorf(op, sallyport.Conflict, "", "draft %s is %s", version.Short(), d.State)
	case b.twoPeople() && by.ID == d.By.ID:
		return deny("%s drafted it: another person must approve", by.ID)
	case slices.ContainsFunc(d.Approvals, func(a Approval) bool { return a.By == by.ID }):
		return deny("%s approved it already: another person must, too", by.ID)
	}
	bundle, err := b.load(ctx, version)
	if err != nil {
		return d, err
	}
	tried, err := b.engine.Try(ctx, bundle)
	if err != nil {
		return d, err
	}
	if !b.may(ctx, tried, by, Approve) && !b.may(ctx, tried, by, Edit) {
		return deny("under these rules %s could neither edit nor approve policy, so could not bring the former ones back; somebody who still could must approve", by.ID)
	}
	if d.Comparison, err = b.replay(ctx, bundle, report); err != nil {
		return d, err
	}
	if n := d.Comparison.Failures; n > 0 {
		return d, sallyport.Errorf(op, sallyport.Invalid, "Withdraw it; correct the rule.", "the rules end with an error for %d of the past decisions", n)
	}
	if n := d.Comparison.Loosens(); n != acknowledged {
		return d, sallyport.Errorf(op, sallyport.Conflict,
			fmt.Sprintf("Look at them with `sallyport policy show %s`, then approve with --loosens %d.", version.Short(), n),
			"%d past decisions would let more out than they did, and %d were acknowledged", n, acknowledged)
	}
	return b.approve(ctx, by, d, bundle)
}

func (b *Book) approve(ctx context.Context, by policy.Subject, d Draft, bundle *policy.Bundle) (Draft, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	yes := Approval{By: by.ID, At: b.cfg.Now().UTC(), Loosens: d.Comparison.Loosens(), Replay: d.Comparison.Digest}
	d.Approvals = append(d.Approvals, yes)
	if err := b.record(ctx, audit.Outcome, "approve policy", by.ID, d.Version, yes, nil); err != nil {
		return d, err
	}
	if d.Needs = b.needs(d); len(d.Approvals) < d.Needs {
		return d, b.writeDraft(d)
	}
	a := Activation{Kind: Publish, By: d.By.ID, Approved: d.Approvals, Reason: d.Note, Origin: d.Origin, Revision: d.Revision,
		Replay: d.Comparison.Digest, Loosens: d.Comparison.Loosens()}
	if err := b.activate(ctx, bundle, a); err != nil {
		return d, err
	}
	d.State, d.Ended = Active, fmt.Sprintf("activation %d", len(b.activations))
	if b.follow.Version == d.Version {
		b.follow.State, b.follow.Trouble = inForce, ""
	}
	return d, b.writeDraft(d)
}

// Withdraw ends a draft that waits; who may edit or approve can.
func (b *Book) Withdraw(ctx context.Context, by policy.Subject, version sallyport.Digest, reason string) (Draft, error) {
	const op = "withdraw policy draft"
	b.gate.Lock()
	defer b.gate.Unlock()
	d, err := b.Draft(version)
	if err != nil {
		return d, err
	}
	if !b.may(ctx, b.engine, by, Edit) && !b.may(ctx, b.engine, by, Approve) {
		return d, b.refuse(ctx, op, by, version, sallyport.Errorf(op, sallyport.Denied, "", "%s may neither edit nor approve policy", by.ID))
	}
	if d.State != Waiting {
		return d, sallyport.Errorf(op, sallyport.Conflict, "", "draft %s is %s", version.Short(), d.State)
	}
	if err := b.record(ctx, audit.Outcome, op, by.ID, version, nil, nil, reason); err != nil {
		return d, err
	}
	d.State, d.Ended = Withdrawn, by.ID+": "+reason
	return d, b.writeDraft(d)
}

// Draft returns one draft by its version, or by the first digits of it.
func (b *Book) Draft(version sallyport.Digest) (Draft, error) {
	list, err := b.readDrafts()
	if err != nil {
		return Draft{}, err
	}
	var found []Draft
	for _, d := range list {
		if d.Version == version || len(version) >= 4 && strings.HasPrefix(d.Version.Short(), string(version)) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Draft{}, sallyport.Errorf("policy draft", sallyport.NotFound, "`sallyport policy drafts` lists them.", "no draft %q", version)
	}
	return Draft{}, sallyport.Errorf("policy draft", sallyport.Invalid, "Give more digits.", "%d drafts begin with %s", len(found), version)
}

// Drafts returns all drafts, oldest first, without their replay reports.
func (b *Book) Drafts() ([]Draft, error) {
	list, err := b.readDrafts()
	for i := range list {
		list[i].Comparison.Report = nil
	}
	return list, err
}

func (b *Book) readDrafts() ([]Draft, error) {
	names, err := b.drafts.names()
	if err != nil {
		return nil, err
	}
	list := []Draft{}
	for _, name := range names {
		raw, err := b.drafts.read(name)
		if err != nil {
			return nil, err
		}
		var d Draft
		if err := strictly(raw, &d); err != nil || d.file() != name {
			return nil, sallyport.Errorf("rule book", sallyport.Damaged, "Remove the file; drafts can be made again.", "drafts/%s is not understood", name)
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(x, y Draft) int { return x.At.Compare(y.At) })
	return list, nil
}

func (b *Book) writeDraft(d Draft) error {
	raw, err := json.Marshal(d)
	if err != nil {
		return sallyport.E("rule book", sallyport.Internal, err, "")
	}
	return b.drafts.write(d.file(), raw)
}
