package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/store"
)

// maxEarlier is how many different plans of earlier releases are measured
// together with a new one; each costs about as much as the pass itself.
const maxEarlier = 64

// A Described is what a release report is made of. The log holds it whole, so
// that the report can be made again, and its digest, so that it is the same.
type Described struct {
	Job     sallyport.JobID  `json:"job"`
	Project string           `json:"project"`
	Purpose string           `json:"purpose"`
	Policy  sallyport.Digest `json:"policy"`
	Time    time.Time        `json:"time"` // when it was admitted
	Plan    anonymize.Plan   `json:"plan"`
	Report  anonymize.Report `json:"report"`
}

// plan says what becomes of the dataset. What goes outside is measured together
// with what went there before: who has both can hold one against the other.
func (a admitted) plan() anonymize.Plan {
	p := anonymize.Plan{Dataset: a.Dataset.ID, Format: a.Dataset.Format, Columns: a.Dataset.Columns,
		Subject: a.Dataset.Subject, Obligations: a.Admit.Obligations, Rows: a.Admit.Rows}
	if a.Admit.Destination == sallyport.Outside {
		p.Earlier, p.Suppress = a.Earlier, (*anonymize.Suppression)(a.Dataset.Suppress)
	}
	return p
}

// earlier are the plans by which a dataset went outside, each once: one that
// left before adds nothing the second time.
func earlier(history []sallyport.Release) ([]anonymize.Earlier, error) {
	var out []anonymize.Earlier
	seen := map[string]bool{}
	for _, r := range history {
		if r.Destination == sallyport.Local {
			continue
		}
		if len(r.Obligations) == 0 {
			return nil, sallyport.Errorf("admit", sallyport.Unsupported, "Give the dataset a new name in the catalog once nobody outside has the old release any more.",
				"release %s of %s went outside before releases kept what they held, so that it cannot be measured together with another", r.Job, r.Dataset)
		}
		k, err := planKey(r.Obligations, r.Rows)
		if err != nil {
			return nil, err
		}
		if seen[k] {
			continue
		}
		if seen[k] = true; len(seen) > maxEarlier {
			return nil, sallyport.Errorf("admit", sallyport.Exhausted, "Release it by a plan that was used before, or give the dataset a new name in the catalog once nobody outside has the old releases any more.",
				"%s left by more than %d different plans, too many to measure together", r.Dataset, maxEarlier)
		}
		out = append(out, anonymize.Earlier{Job: r.Job, Obligations: r.Obligations, Rows: r.Rows})
	}
	return out, nil
}

func planKey(obligations []sallyport.Obligation, rows []sallyport.RowFilter) (string, error) {
	k, err := json.Marshal([]any{obligations, rows})
	return string(k), err
}

// combined returns the risk of all that went outside, this release included; nil
// if nothing else did. Since it was admitted others may have gone: one by the
// same plan says nothing more than this one does, so that many jobs on a dataset
// may be on their way at once; of one by another plan the pass knew nothing.
func (h held) combined(history []sallyport.Release) (*sallyport.Risk, error) {
	now, err := earlier(history)
	if err != nil || len(now) == 0 {
		return nil, err
	}
	known := map[string]bool{}
	for _, e := range append(slices.Clone(h.Earlier), anonymize.Earlier{Obligations: h.Admit.Obligations, Rows: h.Admit.Rows}) {
		k, err := planKey(e.Obligations, e.Rows)
		if err != nil {
			return nil, err
		}
		known[k] = true
	}
	for _, e := range now {
		k, err := planKey(e.Obligations, e.Rows)
		if err != nil {
			return nil, err
		}
		if !known[k] {
			return nil, sallyport.Errorf("release", sallyport.Conflict, "Submit it again: it is then measured together with that release.",
				"%s left by another plan in job %s while this one was on its way", h.Dataset.ID, e.Job)
		}
	}
	if h.Report.Combined == nil {
		alone := h.Report.After
		return &alone, nil
	}
	return h.Report.Combined, nil
}

// passed is a pass that was made: what it was to do, did and measured.
type passed struct {
	plan   anonymize.Plan
	report anonymize.Report
	digest sallyport.Digest // of the release report; "" where none is made
}

// pass streams src through the plan into w.
func (p *passage) pass(ctx context.Context, a admitted, w io.Writer, src store.Object) (passed, error) {
	plan := a.plan()
	env, err := p.g.passEnv(ctx, a.Admission.Project)
	if err != nil {
		return passed{}, err
	}
	env.Diversity = a.Admit.Destination == sallyport.Outside
	size := src.Info().Size
	env.Progress = func(read, records int64) { p.progress("hold", "%d records, %s", records, share(read, size)) }
	report, err := p.g.parts.Runner.Run(ctx, plan, env, w, sized{src})
	if err != nil {
		return passed{}, err
	}
	done := passed{plan: plan, report: report}
	if p.g.parts.Describe != nil {
		done.digest, err = p.g.parts.Describe(p.described(a, done))
	}
	return done, err
}

// Described returns what a job's pass was to do, did and measured, and the
// digest of the report of it that is on record.
func (g *Gateway) Described(id sallyport.JobID) (DescribedJob, error) {
	if _, err := g.journal.Job(id); err != nil {
		return DescribedJob{}, err
	}
	var h held
	ok, err := g.journal.done(id, "hold", &h)
	if err == nil && (!ok || h.Described == "") {
		err = sallyport.Errorf("job report", sallyport.NotFound, "`sallyport job show` says how far it came; a job that policy denied at door 1 has none.", "no pass of job %s was made", id)
	}
	if err != nil {
		return DescribedJob{}, err
	}
	p := &passage{g: g, job: Job{Request: Request{ID: id}}}
	return DescribedJob{p.described(h.admitted, passed{plan: h.plan(), report: h.Report}), h.Described}, nil
}

// DescribedJob is what a report is made of, and the digest of the one on record.
type DescribedJob struct {
	Described
	ReleaseReport sallyport.Digest `json:"release_report"`
}

func (p *passage) described(a admitted, done passed) Described {
	return Described{Job: p.job.ID, Project: a.Admission.Project, Purpose: a.Admission.Purpose, Policy: a.Admit.Policy, Time: a.Admission.Time,
		Plan: done.plan, Report: done.report}
}

// facts are what the log keeps of a pass and of what it was made from or into.
// [Described] can be read from them.
func (p *passage) facts(a admitted, done passed, name string, value any) map[string]any {
	d := p.described(a, done)
	return map[string]any{"job": d.Job, "project": d.Project, "purpose": d.Purpose, "policy": d.Policy, "time": d.Time,
		"plan": d.Plan, "report": d.Report, "release_report": done.digest, name: value}
}

// sized is an object as formats that cannot stream want it.
type sized struct{ store.Object }

func (s sized) Size() int64 { return s.Info().Size }

// passEnv gives the pass the secrets of the project, derived, never stored.
func (g *Gateway) passEnv(ctx context.Context, project string) (anonymize.PassEnv, error) {
	keys := map[string][]byte{}
	for _, purpose := range []string{"pseudonym", "shift_date", "ff1", "encrypt"} {
		k, err := g.parts.Deriver.Derive(ctx, fmt.Sprintf("project/%s/%s", project, purpose))
		if err != nil {
			return anonymize.PassEnv{}, err
		}
		keys[purpose] = k
	}
	return anonymize.PassEnv{Hierarchy: g.parts.Hierarchy, SpillDir: g.parts.SpillDir, Key: func(purpose string) []byte { return keys[purpose] }}, nil
}
