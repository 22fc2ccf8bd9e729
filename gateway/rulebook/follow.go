package rulebook

import (
	"context"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
)

// States of following, beside those of a draft.
const (
	inForce     = "in force"
	unreachable = "unreachable"
	failed      = "failed"     // by something else than the candidate
	superseded  = "superseded" // it was in force, and another version is now
)

// Source is where candidates come from: a folder, a Git checkout, a server of
// OPA bundles.
type Source interface {
	// Fetch returns the candidate there now, and whether it may be another one
	// than the last that Fetch returned. An error leaves everything as it is.
	Fetch(ctx context.Context) (c Candidate, changed bool, err error)
	// Origin names the source for people.
	Origin() string
}

// Follow asks the source again and again, until ctx ends. What is new there
// becomes a draft, by the same checks as a person's, and waits for approval;
// what is bad changes nothing and is said loudly.
func (b *Book) Follow(ctx context.Context, s Source, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		b.Look(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Look asks the source once, as Follow does.
func (b *Book) Look(ctx context.Context, s Source) Following {
	c, changed, err := s.Fetch(ctx)
	now := b.cfg.Now().UTC()
	b.mu.Lock()
	last := b.follow
	b.mu.Unlock()
	if err != nil {
		f := Following{Origin: s.Origin(), State: unreachable, Trouble: err.Error(), At: now, unread: true}
		switch sallyport.KindOf(err) {
		case sallyport.Canceled:
			return last
		case sallyport.Unavailable, sallyport.Conflict, sallyport.NotFound:
		default: // it is there, and it is no good: that is on record, once
			f.State = Refused
			if f.Trouble != last.Trouble {
				if err := b.record(ctx, audit.Outcome, draftStep, "source:"+s.Origin(), "", nil, err); err != nil {
					b.cfg.Slog.Error("policy: a refusal cannot be recorded", "err", err)
				}
			}
		}
		return b.followed(f)
	}
	if !changed && last.State != "" && last.State != failed && !last.unread {
		return last
	}
	f := Following{Origin: c.Origin, Revision: c.Revision, At: now}
	version, _, err := policy.Digests(c.Files)
	if err == nil {
		f.Version = version
		if known, ok := b.known(version); ok {
			f.State, f.Trouble = known, last.Trouble
			if known != Refused {
				f.Trouble = ""
			}
			return b.followed(f)
		}
	}
	_, err = b.propose(ctx, Draft{By: policy.Subject{ID: "source:" + c.Origin}, Source: true}, c, nil)
	switch {
	case err == nil:
		f.State = Waiting
	case ctx.Err() != nil:
		return last
	case sallyport.KindOf(err) == sallyport.Invalid:
		f.State, f.Trouble = Refused, err.Error()
	default: // not the candidate's fault: it is tried again
		f.State, f.Trouble = failed, err.Error()
	}
	return b.followed(f)
}

// known reports what became of a version already: nothing is checked twice,
// and what was withdrawn does not come back by itself.
func (b *Book) known(version sallyport.Digest) (state string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bundle.Version() == version {
		return inForce, true
	}
	for _, a := range b.activations {
		if a.Version == version {
			return superseded, true
		}
	}
	if d, err := b.Draft(version); err == nil && d.State != Active {
		return d.State, true
	}
	if b.follow.Version == version && b.follow.State == Refused && !b.follow.unread {
		return Refused, true
	}
	return "", false
}

// followed remembers how it stands with the source, and says so if that is news.
func (b *Book) followed(f Following) Following {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.unread { // what it had last is still known
		f.Version, f.Revision = b.follow.Version, b.follow.Revision
	}
	old := b.follow
	b.follow = f
	if f.State == old.State && f.Version == old.Version && f.Trouble == old.Trouble {
		return f
	}
	current := b.bundle.Version().Short()
	switch f.State {
	case inForce:
		b.cfg.Slog.Info("policy: the source's bundle is in force", "version", f.Version.Short(), "origin", f.Origin)
	case Waiting:
		b.cfg.Slog.Warn("policy: A NEWER BUNDLE WAITS FOR APPROVAL; an older one is in force", "waiting", f.Version.Short(), "in_force", current, "origin", f.Origin)
	default:
		b.cfg.Slog.Error("policy: AN OLDER BUNDLE IS IN FORCE than the source has", "state", f.State, "why", f.Trouble, "in_force", current, "origin", f.Origin)
	}
	return f
}
