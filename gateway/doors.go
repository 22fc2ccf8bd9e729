package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/policy"
	"sallyport/routing"
)

// admit is door 1: may this subject use this dataset like this?
func (p *passage) admit(ctx context.Context, req Request, o *outcome) (admitted, error) {
	alg, err := p.g.algorithm(req.Algorithm)
	if err != nil {
		return admitted{}, err
	}
	return p.ask(ctx, req, alg.Module, o)
}

func (p *passage) ask(ctx context.Context, req Request, module routing.Module, o *outcome) (admitted, error) {
	if err := p.g.refreshCatalog(ctx); err != nil {
		return admitted{}, err
	}
	history, err := p.g.journal.Releases(req.Dataset)
	if err != nil {
		return admitted{}, err
	}
	at, err := p.g.decisionTime()
	if err != nil {
		return admitted{}, err
	}
	in := policy.Admission{
		Version: policy.InputVersion, Time: at, Job: req.ID, Subject: req.Subject,
		Project: req.Project, Purpose: req.Purpose, Dataset: req.Dataset,
		Request: policy.Request{Algorithm: req.Algorithm, Module: module.Digest, Runner: module.Runner, Where: req.Where, MaxPrice: req.MaxPrice, Copies: req.Copies},
		History: plain(history),
	}
	v, err := p.g.parts.Policy.Admit(ctx, in)
	o.verdict(v)
	o.Facts = map[string]any{"input": in, "verdict": v}
	if err != nil {
		return admitted{}, deniedBy("admit", v, err)
	}
	if !v.Allow {
		return admitted{}, deniedBy("admit", v, nil)
	}
	// Asked after policy, so that a stranger cannot tell by the answer which
	// datasets exist.
	ds, err := p.g.parts.Catalog.Get(req.Dataset)
	if err != nil {
		return admitted{}, err
	}
	o.Objects, o.Destination = []string{ds.Location.Key}, v.Destination
	if err := tightens(req, v); err != nil {
		return admitted{}, err
	}
	// A view hands data out as they are read: there is nothing for people to look
	// at first.
	if module.Name == viewModule && v.Limits.Reviews > 0 {
		return admitted{}, sallyport.Errorf("admit", sallyport.Denied, "Submit a job: its result is given out when they agree.",
			"people must agree to what leaves dataset %s, and nobody can look at a view beforehand", req.Dataset)
	}
	if err := p.g.parts.Projects[req.Project].bounds(req.Dataset, v.Rows); err != nil {
		return admitted{}, err
	}
	o.Say = fmt.Sprintf("%s may be used for %s: %s, %d of %d columns leave, by %s",
		req.Dataset, req.Purpose, v.Destination, leaving(v), len(ds.Columns), rulesOf(v))
	p.job.Side = v.Destination
	if n := v.Limits.Reviews; n != 0 {
		p.job.Review = &Awaited{Needs: n}
	}
	a := admitted{Admission: in, Dataset: ds, Admit: v}
	if v.Destination == sallyport.Outside {
		a.Earlier, err = earlier(history)
	}
	return a, err
}

// plain is a history without what each release held: rules judge figures, and
// their input stays small however often a dataset was released.
func plain(history []sallyport.Release) []sallyport.Release {
	out := slices.Clone(history)
	for i := range out {
		out[i].Obligations, out[i].Rows = nil, nil
	}
	return out
}

// tightens refuses a verdict that is wider than the request: whatever a bundle
// says, a request for less is honored (invariant 4).
func tightens(req Request, v policy.Verdict) error {
	wider := func(what string) error {
		return sallyport.Errorf("admit", sallyport.Denied, "The policy bundle ignores what the request asked for; tell its author.",
			"policy allowed a wider %s than was asked for", what)
	}
	switch {
	case v.Destination != sallyport.Local && v.Destination != sallyport.Outside:
		return sallyport.Errorf("admit", sallyport.Denied, "The policy bundle must name local or outside.", "policy named no destination")
	case req.Where == sallyport.Local && v.Destination != sallyport.Local:
		return wider("destination")
	case req.MaxPrice > 0 && v.Limits.Price > req.MaxPrice:
		return wider("price")
	case req.Copies > v.Limits.Copies && v.Destination == sallyport.Outside:
		return wider("number of executions")
	}
	return nil
}

// bounds refuses row filters that show more than the site lets the project
// see: a bundle that knows nothing of row filters must not show all rows.
func (p Project) bounds(dataset string, rows []sallyport.RowFilter) error {
	for column, values := range p.Rows[dataset] {
		held := slices.ContainsFunc(rows, func(f sallyport.RowFilter) bool {
			return f.Column == column && !slices.ContainsFunc(f.In, func(v string) bool { return !slices.Contains(values, v) })
		})
		if !held {
			return sallyport.Errorf("admit", sallyport.Denied, "The policy bundle must put the project's `rows` into its verdict; tell its author.",
				"policy allowed more rows than the project may see, by column %q", column)
		}
	}
	return nil
}

// release is door 2: may what lies in the hold leave, now that it was measured?
// Until it says yes, nobody but the issuer can open the parcel.
func (p *passage) release(ctx context.Context, h held, o *outcome) (released, error) {
	in := policy.Releasing{
		Admission: h.Admission, Destination: h.Admit.Destination, Admitted: h.Admit.Limits,
		Facts: policy.Facts{
			Risk: h.Report.After, Source: h.Report.Source, Plan: h.Report.Plan, Columns: h.Report.Columns,
			Residual: h.Report.Residual, Cleared: cleared(h.Report.Actions), Actions: h.Report.Actions,
			Rows: h.Admit.Rows, Undeclared: undeclared(h.Report.Undeclared), Suppressed: h.Report.Suppressed,
			Report: h.Described,
		},
	}
	o.Lease, o.Objects, o.Destination, o.Result = h.Lease, []string{h.Dataset.Location.Key}, h.Admit.Destination, h.Parcel.Digest
	var err error
	if in.Time, err = p.g.decisionTime(); err != nil {
		return released{}, err
	}
	// Until this one is in the history, or refused, no other may get there: two
	// releases that did not know of each other could be unsafe together.
	p.g.releasing.Lock()
	defer p.g.releasing.Unlock()
	if h.Admit.Destination == sallyport.Outside {
		history, err := p.g.journal.Releases(h.Dataset.ID)
		if err != nil {
			return released{}, err
		}
		// Its own is there where this is done once more after a crash.
		history = slices.DeleteFunc(history, func(r sallyport.Release) bool { return r.Job == p.job.ID })
		if in.Facts.Combined, err = h.combined(history); err != nil {
			return released{}, err
		}
		in.History = plain(history)
	}
	v, err := p.g.parts.Policy.Release(ctx, in)
	o.verdict(v)
	o.Columns = leavingColumns(h.Admit) // door 1 said which
	o.Facts = map[string]any{"input": in, "verdict": v}
	if err != nil {
		return released{}, deniedBy("release", v, err)
	}
	if !v.Allow {
		return released{}, deniedBy("release", v, nil)
	}
	// Door 1 named a smallest class; door 2's rules may ask for more, never for less.
	if h.Admit.Destination == sallyport.Outside && (!h.Report.After.Exact || h.Report.After.SmallestClass < h.Admit.Limits.MinClass) {
		return released{}, sallyport.Errorf("release", sallyport.Denied, "Generalize further, or ask the policy admin.",
			"measured k=%d is below the k=%d that door 1 asked for", h.Report.After.SmallestClass, h.Admit.Limits.MinClass)
	}
	err = p.g.journal.addRelease(sallyport.Release{Job: p.job.ID, Dataset: h.Dataset.ID, Time: h.Admission.Time,
		Destination: h.Admit.Destination, Source: h.Report.Source, Plan: h.Report.Plan, Risk: h.Report.After,
		Obligations: h.Admit.Obligations, Rows: h.Admit.Rows})
	if err != nil {
		return released{}, err
	}
	risk := h.Report.After
	o.Say = fmt.Sprintf("k=%d over %d classes, %s unique: may go %s, by %s", risk.SmallestClass, risk.Classes, percent(risk.Unique), h.Admit.Destination, rulesOf(v))
	return released{held: h, Release: v}, nil
}

func undeclared(list []anonymize.Undeclared) []policy.Undeclared {
	out := []policy.Undeclared{}
	for _, u := range list {
		out = append(out, policy.Undeclared{Column: u.Column, Unique: u.Unique, Estimated: u.Estimated})
	}
	return out
}

func (o *outcome) verdict(v policy.Verdict) {
	o.Decision = "deny"
	if v.Allow {
		o.Decision = "allow"
	}
	o.Reasons, o.Rules, o.Policy, o.Data, o.Columns = v.Reasons, v.Rules, v.Policy, v.Data, leavingColumns(v)
}

// deniedBy turns a verdict into the error that ends the passage.
func deniedBy(door string, v policy.Verdict, err error) error {
	if err != nil {
		return err
	}
	reasons := strings.Join(v.Reasons, "; ")
	if reasons == "" {
		reasons = "no rule allows it"
	}
	return sallyport.E(door, sallyport.Denied, &denial{reasons, v.Reasons}, "")
}

// denial is a policy's no, its reasons kept apart.
type denial struct {
	text    string
	reasons []string
}

func (d *denial) Error() string { return d.text }

func leaving(v policy.Verdict) int { return len(leavingColumns(v)) }

func leavingColumns(v policy.Verdict) (out []string) {
	for _, ob := range v.Obligations {
		if ob.Verb != "drop" {
			out = append(out, ob.Column)
		}
	}
	return out
}

func cleared(actions map[string]string) []string {
	out := []string{}
	for col, verb := range actions {
		if verb == "keep" {
			out = append(out, col)
		}
	}
	slices.Sort(out)
	return out
}

func rulesOf(v policy.Verdict) string {
	return fmt.Sprintf("%d rules", len(v.Rules))
}

func percent(share float64) string {
	if share == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.2g %%", share*100)
}
