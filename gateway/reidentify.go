package gateway

import (
	"context"
	"slices"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/audit"
)

// maxReidentified bounds the tokens of one use, so that its record names each.
const maxReidentified = 1000

// reverser undoes a verb for the holder of the key.
type reverser interface {
	anonymize.Transform
	Reverse(args map[string]any, env anonymize.Env) (anonymize.Apply, error)
}

// Reidentification asks what tokens were that left in a job.
type Reidentification struct {
	Job    sallyport.JobID `json:"job"`
	Column string          `json:"column"`
	Tokens []string        `json:"tokens"`
	Reason string          `json:"reason"`
}

// Reidentified is a token and what was there. Error says why it cannot be
// turned back; a token of ff1 that was made otherwise turns into something else
// without an error.
type Reidentified struct {
	Token string `json:"token"`
	Value string `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

// Reidentify turns tokens of a reversible pseudonym back. Only the owner of the
// dataset can, where policy lets them; who asked for what and why is durable
// before a value is there. The record holds digests of the tokens, no value.
func (g *Gateway) Reidentify(ctx context.Context, by Subject, in Reidentification) ([]Reidentified, error) {
	const step = "reidentify"
	no := func(kind sallyport.Kind, hint, format string, args ...any) ([]Reidentified, error) {
		return nil, sallyport.Errorf(step, kind, hint, format, args...)
	}
	if err := checkReason(step, in.Reason); err != nil {
		return nil, err
	}
	if len(in.Tokens) == 0 || len(in.Tokens) > maxReidentified {
		return no(sallyport.Invalid, "Give from 1 to 1,000 tokens at a time.", "%d tokens", len(in.Tokens))
	}
	job, err := g.journal.Job(in.Job)
	if err != nil {
		return nil, err
	}
	e := audit.Entry{Time: g.now().UTC(), Step: step, Phase: audit.Intent, Job: in.Job, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Project: job.Project, Dataset: job.Dataset, Columns: []string{in.Column}, Reasons: []string{in.Reason}, Trace: newTrace()}
	ds, err := g.parts.Catalog.Get(job.Dataset)
	if err != nil {
		return nil, err
	}
	if by.ID == "" || by.ID != ds.Owner || !g.May(ctx, by, "data:reidentify", "steward") {
		e.Phase, e.Decision = audit.Note, "deny"
		err := sallyport.Errorf(step, sallyport.Denied, "Ask the dataset's owner.", "%s may not do this (data:reidentify, of a dataset of their own)", by.ID)
		e.Reasons = append(e.Reasons, err.Error())
		if _, recErr := g.parts.Audit.Append(ctx, e); recErr != nil {
			return nil, recErr
		}
		return nil, err
	}
	undo, err := g.undo(ctx, job, in.Column)
	if err != nil {
		return nil, err
	}
	digests := []sallyport.Digest{}
	for _, t := range in.Tokens {
		digests = append(digests, sallyport.DigestOf([]byte(t)))
	}
	if err := g.recordWith(ctx, e, map[string]any{"tokens": digests}); err != nil {
		return nil, err
	}
	out, failed := []Reidentified{}, 0
	for _, t := range in.Tokens {
		r := Reidentified{Token: t}
		if v, err := undo(nil, []byte(t), nil); err != nil {
			r.Error = err.Error()
			failed++
		} else {
			r.Value = string(v)
		}
		out = append(out, r)
	}
	e.Time, e.Phase = g.now().UTC(), audit.Outcome
	return out, g.recordWith(ctx, e, map[string]any{"turned_back": len(out) - failed, "failed": failed})
}

// undo finds what a column left by in a job, and what undoes that.
func (g *Gateway) undo(ctx context.Context, job Job, column string) (anonymize.Apply, error) {
	history, err := g.journal.Releases(job.Dataset)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(history, func(r sallyport.Release) bool { return r.Job == job.ID })
	if i < 0 {
		return nil, sallyport.Errorf("reidentify", sallyport.NotFound, "`sallyport dataset show` lists what left.", "nothing of %s left in job %s", job.Dataset, job.ID)
	}
	env, err := g.passEnv(ctx, job.Project)
	if err != nil {
		return nil, err
	}
	var can []string
	for _, o := range history[i].Obligations {
		for _, t := range g.parts.Runner.Transforms() {
			r, ok := t.(reverser)
			if !ok || t.Name() != o.Verb {
				continue
			}
			if can = append(can, o.Column); o.Column == column {
				return r.Reverse(o.Args, anonymize.Env{Column: o.Column, Key: env.Key, Hierarchy: env.Hierarchy})
			}
		}
	}
	hint := "Only values that left by a reversible verb can be turned back."
	if can != nil {
		hint = "These can: " + strings.Join(can, ", ") + "."
	}
	return nil, sallyport.Errorf("reidentify", sallyport.Invalid, hint, "column %q of job %s cannot be turned back", column, job.ID)
}
