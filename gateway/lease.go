package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/seal"
)

// KeyUse is a live key, and what for: what `key ls` shows.
type KeyUse struct {
	seal.Lease
	What    string `json:"what"` // job, view, upload
	Name    string `json:"name"` // of the job, view or upload
	Who     string `json:"who"`
	Dataset string `json:"dataset"`
	Purpose string `json:"purpose"`
	Project string `json:"project"`
}

// Keys returns every live lease with who holds it for what, oldest first.
func (g *Gateway) Keys(ctx context.Context) ([]KeyUse, error) {
	leases, err := g.parts.Issuer.List(ctx)
	if err != nil {
		return nil, err
	}
	views, err := g.journal.views()
	if err != nil {
		return nil, err
	}
	byID := map[string]View{}
	for _, v := range views {
		byID[string(v.ID)] = v
	}
	uploads, err := g.journal.uploads()
	if err != nil {
		return nil, err
	}
	out := []KeyUse{}
	for _, l := range leases {
		if l.Destroyed != nil || !g.now().Before(l.Until) {
			continue
		}
		use := KeyUse{Lease: l}
		kind, name, _ := strings.Cut(l.Release, "/")
		use.What, use.Name = "job", name
		switch {
		case kind == "upload":
			use.What = "upload"
			for _, u := range uploads {
				if u.ID == name {
					use.Who, use.Dataset, use.Project = u.By, u.Bucket, u.Project
				}
			}
		case strings.HasPrefix(name, "view-"):
			use.What = "view"
			use.Dataset, use.Project = byID[name].Dataset, byID[name].Project
		default:
			if kind == "result" {
				use.What = "result"
			}
			if job, err := g.journal.Job(sallyport.JobID(name)); err == nil {
				use.Who, use.Dataset, use.Purpose, use.Project = job.Subject.ID, job.Dataset, job.Purpose, job.Project
			}
		}
		out = append(out, use)
	}
	return out, nil
}

// confirmWithin is how long the first of two people waits for the second.
const confirmWithin = time.Hour

// confirm lets an act pass if policy wants one person for it, or if this is the
// second of two. The first is told that a second is needed, and recorded.
func (g *Gateway) confirm(ctx context.Context, by Subject, act, target, reason string) error {
	if !g.parts.Policy.TwoPeople(ctx, act) {
		return nil
	}
	g.mu.Lock()
	first, ok := g.pending[act+" "+target]
	if ok && g.now().Sub(first.at) > confirmWithin {
		ok = false
	}
	if ok && first.by != by.ID {
		delete(g.pending, act+" "+target)
	} else if !ok {
		g.pending[act+" "+target] = request{by: by.ID, at: g.now()}
	}
	g.mu.Unlock()
	switch {
	case ok && first.by != by.ID:
		return nil
	case ok:
		return sallyport.Errorf(act, sallyport.Denied, "Ask a second person.", "policy wants two people, and %s asked already", by.ID)
	}
	e := audit.Entry{Time: g.now().UTC(), Step: act, Phase: audit.Note, Subject: by.ID, Lease: target, Decision: "deny",
		Reasons: []string{"waits for a second person: " + reason}}
	if _, err := g.parts.Audit.Append(ctx, e); err != nil {
		return err
	}
	return sallyport.Errorf(act, sallyport.Denied, "Ask a second person to say the same within an hour.", "policy wants two people for this; %s is the first", by.ID)
}

// request is the first half of an act that needs two people. It is kept in
// memory only: after a restart both must ask again.
type request struct {
	by  string
	at  time.Time
	say string // what they said, where the second must say the same
}

// DestroyKey ends a live key at once, whatever it is for: what it sealed opens
// for nobody any more, and a job that needed it fails and is undone.
func (g *Gateway) DestroyKey(ctx context.Context, by Subject, lease, reason string) error {
	uses, err := g.Keys(ctx)
	if err != nil {
		return err
	}
	for _, u := range uses {
		if u.ID != lease {
			continue
		}
		if err := g.confirm(ctx, by, "key.destroy", lease, reason); err != nil {
			return err
		}
		e := audit.Entry{Time: g.now().UTC(), Step: "destroy key", Phase: audit.Intent, Subject: by.ID, Credential: by.Credential, Roles: by.Roles, Trace: newTrace(), Lease: lease,
			Dataset: u.Dataset, Project: u.Project, Reasons: []string{reason}}
		if u.What == "job" || u.What == "result" {
			e.Job = sallyport.JobID(u.Name)
		}
		if _, err := g.parts.Audit.Append(ctx, e); err != nil {
			return err
		}
		err := g.parts.Issuer.Destroy(ctx, lease, "destroyed by "+by.ID+": "+reason)
		e.Time, e.Phase = g.now().UTC(), audit.Outcome
		if err != nil {
			e.Decision = "error"
		}
		_, recErr := g.parts.Audit.Append(context.WithoutCancel(ctx), e)
		return errors.Join(err, recErr)
	}
	return sallyport.Errorf("destroy key", sallyport.NotFound, "`sallyport key ls` lists the live ones.", "no live key %q", lease)
}

// RotateKeys exchanges the issuer's own keys, with its intent and outcome on
// record. Live leases, views and pseudonyms stay as they are.
func (g *Gateway) RotateKeys(ctx context.Context, by Subject) error {
	r, ok := g.parts.Issuer.(seal.Rotator)
	if !ok {
		return sallyport.Errorf("rotate keys", sallyport.Unsupported, "docs/keys.md says how its keeper does it.", "this issuer's keys are rotated elsewhere")
	}
	if err := g.confirm(ctx, by, "key.rotate", "issuer", "rotate"); err != nil {
		return err
	}
	e := audit.Entry{Time: g.now().UTC(), Step: "rotate keys", Phase: audit.Intent, Subject: by.ID, Credential: by.Credential, Roles: by.Roles, Trace: newTrace()}
	if _, err := g.parts.Audit.Append(ctx, e); err != nil {
		return err
	}
	err := r.Rotate(ctx)
	e.Time, e.Phase = g.now().UTC(), audit.Outcome
	if err != nil {
		e.Decision, e.Reasons = "error", []string{err.Error()}
	}
	_, recErr := g.parts.Audit.Append(context.WithoutCancel(ctx), e)
	return errors.Join(err, recErr)
}
