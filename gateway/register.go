package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"sallyport"
	"sallyport/audit"
	"sallyport/register"
)

// This file changes the register: grants, consents and exceptions. Each act is
// on record before it is in force, with the change itself and the digests of
// the register before and after; what cannot be recorded does not happen.

// What the doors say of the register.
type (
	RegisterContents = register.Contents
	Granted          = register.Granted
	Consented        = register.Consented
	Excepted         = register.Excepted
)

// The acts on the register, as policy and records name them.
const (
	actGrant     = "grant.add"
	actRevoke    = "grant.revoke"
	actConsent   = "consent.add"
	actWithdraw  = "consent.withdraw"
	actAsk       = "exception.ask"
	actApprove   = "exception.approve"
	actException = "exception.end"
)

// registerStep is an act's name in the log.
func registerStep(act string) string {
	switch act {
	case actGrant:
		return "add grant"
	case actRevoke:
		return "revoke grant"
	case actConsent:
		return "record consent"
	case actWithdraw:
		return "withdraw consent"
	case actAsk:
		return "ask exception"
	case actApprove:
		return "approve exception"
	}
	return "end exception"
}

// GrantRequest lets a project use a dataset for a while.
type GrantRequest struct {
	Dataset  string           `json:"dataset"`
	Project  string           `json:"project"`
	Purposes []string         `json:"purposes"`
	People   []string         `json:"people,omitempty"` // nil: every member
	Since    time.Time        `json:"since,omitzero"`   // zero: now
	Until    time.Time        `json:"until"`
	Reason   string           `json:"reason"`
	Replace  bool             `json:"replace,omitempty"` // of one that is still good
	Expect   sallyport.Digest `json:"expect,omitempty"`  // state of the register that it is meant for
}

// ConsentRequest puts on record what a dataset's subjects agreed to.
type ConsentRequest struct {
	Dataset string           `json:"dataset"`
	Purpose string           `json:"purpose"`
	Basis   string           `json:"basis"`
	Since   time.Time        `json:"since,omitzero"` // zero: now
	Until   time.Time        `json:"until,omitzero"` // zero: no end
	Replace bool             `json:"replace,omitempty"`
	Expect  sallyport.Digest `json:"expect,omitempty"`
}

// ExceptionRequest asks that named checks pass for a dataset and project.
type ExceptionRequest struct {
	Checks  []string         `json:"checks"`
	Dataset string           `json:"dataset"`
	Project string           `json:"project"`
	Purpose string           `json:"purpose,omitempty"`
	Since   time.Time        `json:"since,omitzero"` // zero: now
	Until   time.Time        `json:"until"`
	Reason  string           `json:"reason"`
	Expect  sallyport.Digest `json:"expect,omitempty"`
}

// Ending takes something of the register back, or approves it.
type Ending struct {
	Dataset string           `json:"dataset,omitempty"`
	Project string           `json:"project,omitempty"` // of a grant
	Purpose string           `json:"purpose,omitempty"` // of a consent
	ID      string           `json:"id,omitempty"`      // of an exception
	Reason  string           `json:"reason"`
	Expect  sallyport.Digest `json:"expect,omitempty"`
}

// Changed tells what a change of the register did.
type Changed struct {
	ID     string           `json:"id"` // of the act in the log, as job; an exception's is its own
	Before sallyport.Digest `json:"before"`
	After  sallyport.Digest `json:"after"`
	Data   sallyport.Digest `json:"data"` // all of policy's data, now in force
}

// registering is one act on the register.
type registering struct {
	act              string
	who              Subject
	id               string
	dataset, project string
	purpose, reason  string
	trace            string // of the request
	expect           sallyport.Digest
	change           register.Change
}

// Grant gives a project a grant. One that ran out is replaced without saying so.
func (g *Gateway) Grant(ctx context.Context, who Subject, r GrantRequest) (Changed, error) {
	a := registering{act: actGrant, who: who, dataset: r.Dataset, project: r.Project, purpose: strings.Join(r.Purposes, ", "), reason: r.Reason, expect: r.Expect}
	return g.change(ctx, a, func() (register.Change, error) {
		d, err := g.known(r.Dataset, r.Project)
		if err != nil {
			return nil, err
		}
		for _, p := range r.Purposes {
			if err := hasPurpose(d, p); err != nil {
				return nil, err
			}
		}
		for _, p := range r.People {
			if !g.somebody(p) {
				return nil, sallyport.Errorf("grant", sallyport.Invalid, "Name people as they are called under `people:` in the configuration.", "nobody is called %q", p)
			}
		}
		since, err := g.begins(r.Since, r.Until)
		if err != nil {
			return nil, err
		}
		old, ok := g.parts.Register.Grant(r.Dataset, r.Project)
		over := ok && !g.now().Before(old.Until)
		return register.PutGrant{Dataset: r.Dataset, Project: r.Project, Replace: r.Replace || over,
			Grant: register.Grant{By: who.ID, People: r.People, Purposes: r.Purposes, Reason: r.Reason, Since: since, Until: r.Until}}, nil
	})
}

// RevokeGrant takes a grant back. Jobs that wait in the hold are asked about
// again at door 2.
func (g *Gateway) RevokeGrant(ctx context.Context, who Subject, e Ending) (Changed, error) {
	a := registering{act: actRevoke, who: who, dataset: e.Dataset, project: e.Project, reason: e.Reason, expect: e.Expect}
	return g.change(ctx, a, func() (register.Change, error) {
		return register.RemoveGrant{Dataset: e.Dataset, Project: e.Project}, nil
	})
}

// RecordConsent puts a consent on record. One that ran out is replaced without
// saying so.
func (g *Gateway) RecordConsent(ctx context.Context, who Subject, r ConsentRequest) (Changed, error) {
	a := registering{act: actConsent, who: who, dataset: r.Dataset, purpose: r.Purpose, reason: r.Basis, expect: r.Expect}
	return g.change(ctx, a, func() (register.Change, error) {
		d, err := g.known(r.Dataset, "")
		if err == nil {
			err = hasPurpose(d, r.Purpose)
		}
		if err != nil {
			return nil, err
		}
		since, err := g.begins(r.Since, r.Until)
		if err != nil {
			return nil, err
		}
		old, ok := g.parts.Register.Consent(r.Dataset, r.Purpose)
		over := ok && !old.Until.IsZero() && !g.now().Before(old.Until)
		return register.PutConsent{Dataset: r.Dataset, Purpose: r.Purpose, Replace: r.Replace || over,
			Consent: register.Consent{Basis: r.Basis, By: who.ID, Since: since, Until: r.Until}}, nil
	})
}

// WithdrawConsent marks a consent as withdrawn.
func (g *Gateway) WithdrawConsent(ctx context.Context, who Subject, e Ending) (Changed, error) {
	a := registering{act: actWithdraw, who: who, dataset: e.Dataset, purpose: e.Purpose, reason: e.Reason, expect: e.Expect}
	return g.change(ctx, a, func() (register.Change, error) {
		return register.WithdrawConsent{Dataset: e.Dataset, Purpose: e.Purpose}, nil
	})
}

// AskException asks for an exception. It has no effect until a second person
// approves it. The ID of the answer is the exception's.
func (g *Gateway) AskException(ctx context.Context, who Subject, r ExceptionRequest) (Changed, error) {
	id := newID("ex")
	a := registering{act: actAsk, who: who, id: id, dataset: r.Dataset, project: r.Project, purpose: r.Purpose, reason: r.Reason, expect: r.Expect}
	return g.change(ctx, a, func() (register.Change, error) {
		if _, err := g.known(r.Dataset, r.Project); err != nil {
			return nil, err
		}
		since, err := g.begins(r.Since, r.Until)
		if err != nil {
			return nil, err
		}
		return register.AskException{ID: id, Exception: register.Exception{AskedBy: who.ID, Checks: r.Checks, Dataset: r.Dataset, Project: r.Project,
			Purpose: r.Purpose, Reason: r.Reason, Since: since, Until: r.Until}}, nil
	})
}

// ApproveException lets an exception that somebody else asked for take effect.
func (g *Gateway) ApproveException(ctx context.Context, who Subject, e Ending) (Changed, error) {
	a, x := g.about(actApprove, who, e)
	return g.change(ctx, a, func() (register.Change, error) {
		if !x.Until.IsZero() && !g.now().Before(x.Until) {
			return nil, sallyport.Errorf("approve exception", sallyport.Conflict, "Ask for another one.", "exception %s ran out at %s", e.ID, x.Until.Format(time.RFC3339))
		}
		return register.ApproveException{ID: e.ID, By: who.ID}, nil
	})
}

// EndException ends an exception, or a request for one.
func (g *Gateway) EndException(ctx context.Context, who Subject, e Ending) (Changed, error) {
	a, _ := g.about(actException, who, e)
	return g.change(ctx, a, func() (register.Change, error) { return register.EndException{ID: e.ID}, nil })
}

// about fills an act on an exception with what it is about.
func (g *Gateway) about(act string, who Subject, e Ending) (registering, register.Exception) {
	var x register.Exception
	if g.parts.Register != nil {
		x, _, _ = g.parts.Register.Exception(e.ID)
	}
	return registering{act: act, who: who, id: e.ID, dataset: x.Dataset, project: x.Project, purpose: x.Purpose, reason: e.Reason, expect: e.Expect}, x
}

// mayRegister says whether somebody may do an act on the register.
func (g *Gateway) mayRegister(ctx context.Context, who Subject, act, dataset, project, id string) error {
	steward := g.May(ctx, who, "register:edit", "steward")
	if d, err := g.parts.Catalog.Get(dataset); err == nil && d.Owner == who.ID {
		steward = true
	}
	deny := func(hint, format string, args ...any) error {
		return sallyport.Errorf(registerStep(act), sallyport.Denied, hint, format, args...)
	}
	var x register.Exception
	if id != "" && g.parts.Register != nil {
		x, _, _ = g.parts.Register.Exception(id)
	}
	second := g.May(ctx, who, "exception:approve", "officer", "approver")
	switch act {
	case actAsk:
		if steward || project != "" && slices.Contains(who.Projects, project) {
			return nil
		}
		return deny("A member of the project asks, or a steward.", "%s is neither a member of project %q nor a steward of dataset %q", who.ID, project, dataset)
	case actApprove:
		if !second {
			return deny("Ask an officer or an approver.", "%s may not approve exceptions", who.ID)
		}
		if x.AskedBy == who.ID {
			return deny("Ask a second person.", "%s asked for exception %s, and cannot approve it", who.ID, id)
		}
		return nil
	case actException:
		if steward || second || x.AskedBy == who.ID {
			return nil
		}
		return deny("Ask an officer, or who asked for it.", "%s may not end exception %q", who.ID, id)
	}
	if steward {
		return nil
	}
	return deny("Ask the owner of the dataset, or a steward.", "%s is neither the owner of dataset %q nor a steward", who.ID, dataset)
}

// change takes one change through: asked whether it may be, tried, recorded,
// written, in force, recorded. prepare is called after the first question, so
// that a stranger cannot tell by the answer what exists.
func (g *Gateway) change(ctx context.Context, a registering, prepare func() (register.Change, error)) (Changed, error) {
	step := registerStep(a.act)
	if g.parts.Register == nil {
		return Changed{}, sallyport.Errorf(step, sallyport.Unsupported, "Set `register:` in the configuration.", "this gateway has no register")
	}
	if err := checkReason(step, a.reason); err != nil {
		return Changed{}, err
	}
	if a.id == "" {
		a.id = newID("reg")
	}
	a.trace = newTrace()
	g.showing.Lock()
	defer g.showing.Unlock()
	if err := g.mayRegister(ctx, a.who, a.act, a.dataset, a.project, a.id); err != nil {
		e := a.entry(step, audit.Note, g.now())
		e.Decision, e.Reasons = "deny", []string{err.Error()}
		if _, recErr := g.parts.Audit.Append(ctx, e); recErr != nil {
			return Changed{}, errors.Join(err, recErr)
		}
		return Changed{}, err
	}
	var err error
	if a.change, err = prepare(); err != nil {
		return Changed{}, err
	}
	d, err := g.parts.Register.Draft(a.expect, a.change)
	if err != nil {
		return Changed{}, err
	}
	return g.carryOut(ctx, step, a, d)
}

// registered is the detail of an act's records.
type registered struct {
	Change register.Change  `json:"change"`
	Before sallyport.Digest `json:"before"`
	After  sallyport.Digest `json:"after"`            // of the register, if the act succeeds
	Undone bool             `json:"undone,omitempty"` // it did not: file and policy data are as before
}

// carryOut records, writes and shows a draft. g.showing is held: no decision meets
// data that are half changed, and nobody shows policy other data in between.
func (g *Gateway) carryOut(ctx context.Context, step string, a registering, d *register.Draft) (Changed, error) {
	facts := registered{Change: a.change, Before: d.Before(), After: d.After()}
	intent := a.entry(step, audit.Intent, g.now())
	if err := g.recordWith(ctx, intent, facts); err != nil {
		return Changed{}, err
	}
	g.point(step, "intent")
	// Begun is finished, whether or not the one who asked still listens.
	ctx = context.WithoutCancel(ctx)
	err := d.Commit()
	if err == nil {
		g.point(step, "written")
		if err = g.overlay(ctx); err != nil {
			facts.Undone = true
			err = errors.Join(err, d.Undo())
		}
		g.point(step, "in force")
	} else {
		facts.Undone = true
	}
	out := a.entry(step, audit.Outcome, g.now())
	out.Policy, out.Data = g.parts.Policy.Digests()
	out.Decision = "allow"
	if err != nil {
		out.Decision, out.Reasons = "error", append(out.Reasons, err.Error())
	}
	if recErr := g.recordWith(ctx, out, facts); recErr != nil {
		if err == nil { // what cannot be recorded does not happen
			err = errors.Join(d.Undo(), g.overlay(ctx))
		}
		return Changed{}, errors.Join(recErr, err)
	}
	g.point(step, "outcome")
	if err != nil {
		return Changed{}, err
	}
	if err := g.noteData(ctx); err != nil {
		g.stale = true // the next look at the catalog tries again
		g.log.Error("the data in force could not be noted", "err", err)
	}
	return Changed{ID: a.id, Before: facts.Before, After: facts.After, Data: out.Data}, nil
}

func (a registering) entry(step string, phase audit.Phase, now time.Time) audit.Entry {
	e := audit.Entry{Time: now.UTC(), Step: step, Phase: phase, Subject: a.who.ID, Credential: a.who.Credential, Roles: a.who.Roles, Trace: a.trace, Dataset: a.dataset, Project: a.project, Purpose: a.purpose, Reasons: []string{a.reason}}
	if id := sallyport.JobID(a.id); id.Valid() {
		e.Job = id
	}
	return e
}

func (g *Gateway) recordWith(ctx context.Context, e audit.Entry, facts any) error {
	b, err := json.Marshal(facts)
	if err != nil {
		return sallyport.E("record", sallyport.Internal, err, "")
	}
	e.Detail = b
	_, err = g.parts.Audit.Append(ctx, e)
	return err
}

func (g *Gateway) point(step, point string) {
	if g.parts.Point != nil {
		g.parts.Point(step, point)
	}
}

// known finds the dataset, and looks whether the project exists; "" is none.
func (g *Gateway) known(dataset, project string) (sallyport.Dataset, error) {
	d, err := g.parts.Catalog.Get(dataset)
	if err != nil {
		return d, err
	}
	if _, ok := g.parts.Projects[project]; !ok && project != "" {
		return d, sallyport.Errorf("register", sallyport.NotFound, "Projects are named in the configuration: "+strings.Join(slices.Sorted(maps.Keys(g.parts.Projects)), ", ")+".",
			"no project %q", project)
	}
	return d, nil
}

func hasPurpose(d sallyport.Dataset, purpose string) error {
	if slices.Contains(d.Purposes, purpose) {
		return nil
	}
	return sallyport.Errorf("register", sallyport.Invalid, "Its purposes are: "+strings.Join(d.Purposes, ", ")+".", "dataset %s may not be used for %q", d.ID, purpose)
}

// somebody reports whether the site knows a person; a site that lists nobody
// knows everybody.
func (g *Gateway) somebody(id string) bool {
	people, ok := g.parts.Site["people"].(map[string]any)
	_, known := people[id]
	return known || !ok
}

// begins returns when something begins; what is over already is refused.
func (g *Gateway) begins(since, until time.Time) (time.Time, error) {
	now := g.now()
	if !until.IsZero() && !now.Before(until) {
		return since, sallyport.Errorf("register", sallyport.Invalid, "Say a time to come.", "until %s is over already", until.Format(time.RFC3339))
	}
	if since.IsZero() {
		since = now
	}
	return since, nil
}

func checkReason(step, reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return sallyport.Errorf(step, sallyport.Invalid, "Say why: it is recorded.", "no reason was given")
	case len(reason) > 2000 || strings.IndexFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
		return sallyport.Errorf(step, sallyport.Invalid, "Write one line of at most 2,000 bytes.", "the reason is too long, or cannot be printed")
	}
	return nil
}

// Register lists what somebody may see of the register: officers, approvers,
// admins and stewards all of it, others what concerns their projects.
func (g *Gateway) Register(who Subject) RegisterContents {
	c := RegisterContents{Grants: []Granted{}, Consents: []Consented{}, Exceptions: []Excepted{}, Pending: []Excepted{}}
	if g.parts.Register == nil {
		return c
	}
	c = g.parts.Register.Contents()
	if slices.ContainsFunc(who.Roles, func(r string) bool { return slices.Contains([]string{"officer", "approver", "admin", "steward"}, r) }) {
		return c
	}
	owns := func(dataset string) bool {
		d, err := g.parts.Catalog.Get(dataset)
		return err == nil && d.Owner == who.ID
	}
	sees := func(dataset, project string) bool { return slices.Contains(who.Projects, project) || owns(dataset) }
	c.Grants = slices.DeleteFunc(c.Grants, func(x Granted) bool { return !sees(x.Dataset, x.Project) })
	hidden := func(x Excepted) bool { return !sees(x.Dataset, x.Project) && x.AskedBy != who.ID }
	c.Exceptions, c.Pending = slices.DeleteFunc(c.Exceptions, hidden), slices.DeleteFunc(c.Pending, hidden)
	c.Consents = slices.DeleteFunc(c.Consents, func(x Consented) bool {
		return !owns(x.Dataset) && !slices.ContainsFunc(c.Grants, func(y Granted) bool { return y.Dataset == x.Dataset })
	})
	return c
}

// roots are the data that policy sees beside its bundle's own.
func (g *Gateway) roots() map[string]any {
	data := map[string]any{"grants": map[string]any{}, "consents": map[string]any{}, "exceptions": map[string]any{}}
	if g.parts.Register != nil {
		data = g.parts.Register.Data()
	}
	return map[string]any{"catalog": g.parts.Catalog.Data(), "site": g.parts.Site, "register": data}
}

func (g *Gateway) overlay(ctx context.Context) error {
	return g.parts.Policy.SetOverlay(ctx, g.roots())
}

// noted names the data that policy decides by, as the log has them.
type noted struct {
	Catalog  sallyport.Digest `json:"catalog"`
	Site     sallyport.Digest `json:"site"`
	Register sallyport.Digest `json:"register"`
	Data     sallyport.Digest `json:"data"` // all of it, with the bundle's own
}

// policyData is the step of notes about the data in force.
const policyData = "policy data"

// noteData notes which data are in force, if the log does not say so already.
// So what was edited by hand while the gateway was stopped, or in the catalog
// while it runs, is on record too. g.showing is held.
func (g *Gateway) noteData(ctx context.Context) error {
	var n noted
	var err error
	roots := g.roots()
	for root, into := range map[string]*sallyport.Digest{"catalog": &n.Catalog, "site": &n.Site, "register": &n.Register} {
		b, jsonErr := json.Marshal(roots[root])
		if jsonErr != nil {
			return sallyport.E(policyData, sallyport.Internal, jsonErr, "")
		}
		*into = sallyport.DigestOf(b)
	}
	if g.parts.Register != nil {
		n.Register = g.parts.Register.Digest()
	}
	e := audit.Entry{Time: g.now().UTC(), Step: policyData, Phase: audit.Note}
	e.Policy, n.Data = g.parts.Policy.Digests()
	e.Data = n.Data
	if g.noted == nil {
		if g.noted, err = g.lastNoted(ctx); err != nil {
			return err
		}
	}
	if *g.noted == n {
		return nil
	}
	e.Reasons = []string{n.against(*g.noted)}
	if err := g.recordWith(ctx, e, n); err != nil {
		return &waiting{fmt.Errorf("no record, no act: %w", err)}
	}
	g.noted = &n
	return nil
}

func (n noted) against(old noted) string {
	if old == (noted{}) {
		return "first data"
	}
	var parts []string
	for _, p := range []struct {
		name     string
		old, new sallyport.Digest
	}{{"catalog", old.Catalog, n.Catalog}, {"site", old.Site, n.Site}, {"register", old.Register, n.Register}} {
		if p.old != p.new {
			parts = append(parts, p.name)
		}
	}
	if len(parts) == 0 {
		return "changed: the bundle's data"
	}
	return "changed: " + strings.Join(parts, ", ")
}

func (g *Gateway) lastNoted(ctx context.Context) (*noted, error) {
	for r, err := range g.parts.Audit.Records(ctx, audit.Filter{Step: policyData, Newest: true, Limit: 1}) {
		if err != nil {
			return nil, err
		}
		var n noted
		if err := json.Unmarshal(r.Entry.Detail, &n); err != nil {
			return nil, sallyport.E(policyData, sallyport.Damaged, err, "Run `sallyport audit verify`.")
		}
		return &n, nil
	}
	return &noted{}, nil
}
