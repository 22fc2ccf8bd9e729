package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway/rulebook"
	"sallyport/internal/plug"
	"sallyport/internal/strict"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/archive"
	"sallyport/policy/lint"
	"sallyport/policy/replay"
	"sallyport/policy/source"
	"sallyport/seal"
)

// PolicyConfig says where candidates for the rules come from: nothing for the
// bundle built into this binary, the path of a folder, or a section with a kind.
type PolicyConfig struct {
	Kind
	plain bool // a path and no section
}

// UnmarshalYAML reads a path or a section.
func (p *PolicyConfig) UnmarshalYAML(decode func(any) error) error {
	var path string
	if decode(&path) == nil {
		*p = PolicyConfig{}
		if path != "" {
			*p = PolicyConfig{Kind{Kind: "dir", Config: map[string]any{"path": path}}, true}
		}
		return nil
	}
	return p.Kind.UnmarshalYAML(decode)
}

// policyFolder is where versions, data, drafts and activations are kept.
func (c *Config) policyFolder() string { return filepath.Join(c.path(c.State), "policy") }

// sources are the kinds of places that a bundle can come from.
func (o opener) sources() plug.Set[source.Source] {
	return plug.NewSet("policy source",
		plug.Of("dir", "a folder of this machine", func(_ context.Context, c source.DirConfig) (source.Source, error) {
			return source.OpenDir(c.Resolve(o.cfg.path))
		}),
		plug.Of("git", "a commit of a Git repository on this machine; its signature can be asked for", func(_ context.Context, c source.GitConfig) (source.Source, error) {
			return source.OpenGit(c.Resolve(o.cfg.path))
		}),
		plug.Of("http", "an OPA bundle of an HTTPS server, with its signature verified", func(_ context.Context, c source.HTTPConfig) (source.Source, error) {
			return source.OpenHTTP(c.Resolve(o.cfg.path), o.now)
		}),
	)
}

// openSource opens the configured source; nil is the built-in bundle.
func (c *Config) openSource(ctx context.Context) (source.Source, error) {
	k := c.Policy
	if k.Kind.Kind == "" {
		return nil, nil
	}
	decode := c.decoder("$.policy", k.Kind)
	if k.plain {
		decode = func(into any) error {
			b, err := strict.Marshal(k.Config)
			if err != nil {
				return err
			}
			d, err := strict.Parse("policy", b)
			if err != nil {
				return err
			}
			return d.Decode(into)
		}
	}
	s, err := (opener{cfg: c, now: time.Now}).sources().Open(ctx, k.Kind.Kind, decode)
	if err != nil {
		return nil, configError(err)
	}
	return s, nil
}

// bundle is the bundle that the configured source has now, in force or not.
func (c *Config) bundle() (fs.FS, error) {
	f, err := c.newFollowed(context.Background())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	candidate, _, err := f.Fetch(context.Background())
	return candidate.Files, err
}

// followed is a source as the rule book takes it.
type followed struct {
	source source.Source // nil: the bundle built into this binary
	last   source.Candidate
	asked  bool
}

func (c *Config) newFollowed(ctx context.Context) (*followed, error) {
	s, err := c.openSource(ctx)
	return &followed{source: s}, err
}

func (f *followed) Origin() string {
	if f.source == nil {
		return "built into this program"
	}
	return f.source.String()
}

// Fetch implements rulebook.Source.
func (f *followed) Fetch(ctx context.Context) (c rulebook.Candidate, changed bool, err error) {
	if f.source == nil {
		changed, f.asked = !f.asked, true
		return rulebook.Candidate{Files: policies.FS, Origin: f.Origin(), Revision: version}, changed, nil
	}
	f.last, changed, err = f.source.Fetch(ctx, f.last)
	l := f.last
	return rulebook.Candidate{Files: l.FS, Origin: l.Origin, Revision: l.Revision, Signed: l.Signed}, changed, err
}

func (f *followed) interval() time.Duration {
	if f.source == nil {
		return 24 * time.Hour
	}
	return f.source.Interval()
}

func (f *followed) Close() error {
	if c, ok := f.source.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// policyKey is the name of the key that signs activations.
const policyKey = "policy"

// openBook opens the rule book and returns the bundle that is in force.
func (w *wiring) openBook(ctx context.Context, issuer keyIssuer) (*policy.Bundle, error) {
	var err error
	if w.source, err = w.cfg.newFollowed(ctx); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.source)
	cfg := rulebook.Config{
		Dir: w.cfg.policyFolder(), Archive: archive.Open(w.cfg.policyFolder()), Log: w.parts.Audit, Now: w.now, Slog: w.log,
		Coverage: w.cfg.Limits.PolicyCoverage,
		Lint:     func(ctx context.Context, b *policy.Bundle) []rulebook.Finding { return lintFindings(ctx, b) },
		Replay:   w.replay,
	}
	if s, ok := issuer.(seal.Signer); ok {
		cfg.Sign = func(ctx context.Context, msg []byte) ([]byte, error) { return s.Sign(ctx, policyKey, msg) }
		cfg.Public, err = s.PublicKey(ctx, policyKey)
	} else {
		var seed []byte
		if seed, err = issuer.Derive(ctx, "policy/activation"); err == nil {
			key := ed25519.NewKeyFromSeed(seed)
			cfg.Sign = func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }
			cfg.Public = key.Public().(ed25519.PublicKey)
		}
	}
	if err != nil {
		return nil, err
	}
	w.archive = cfg.Archive
	var first rulebook.Candidate
	if names, _ := os.ReadDir(filepath.Join(w.cfg.policyFolder(), "activations")); len(names) == 0 {
		if first, _, err = w.source.Fetch(ctx); err != nil {
			return nil, err
		}
		w.source.last, w.source.asked = source.Candidate{}, false
	}
	var active *policy.Bundle
	w.book, active, err = rulebook.Open(ctx, cfg, first)
	return active, err
}

// replay is how a draft is held against history: everything that was decided
// within the window, with the data of then.
func (w *wiring) replay(ctx context.Context, candidate *policy.Bundle, progress func(done, of int)) (rulebook.Comparison, error) {
	report, err := replay.Run(ctx, replay.Config{Candidate: candidate, Base: w.archive, Deadline: policyDeadline, Progress: progress},
		decisions(w.parts.Audit.Records(ctx, audit.Filter{Since: w.now().Add(-w.cfg.Limits.PolicyReplay)})))
	if err != nil {
		return rulebook.Comparison{}, err
	}
	return comparison(report)
}

// comparison is a replay's report as the rule book keeps it.
func comparison(r replay.Report) (rulebook.Comparison, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return rulebook.Comparison{}, sallyport.E("replay", sallyport.Internal, err, "")
	}
	return rulebook.Comparison{
		Decisions: r.Decisions, Replayed: r.Replayed, Unreplayed: r.Decisions - r.Replayed,
		DenyAllow: r.Flipped(replay.DenyAllow), AllowDeny: r.Flipped(replay.AllowDeny) + r.Flipped(replay.AllowError),
		Failures: r.Failures(), Weaker: r.Looser, Stronger: r.Tighter, Digest: r.Digest(), Report: raw,
	}, nil
}

// follow looks for other rules at the configured source while the gateway runs.
func (w *wiring) follow(ctx context.Context) { w.book.Follow(ctx, w.source, w.source.interval()) }

// lintFindings are the lints as the rule book takes them.
func lintFindings(ctx context.Context, b *policy.Bundle) []rulebook.Finding {
	var out []rulebook.Finding
	for _, f := range lint.Check(ctx, b, lint.Options{Verbs: verbs()}) {
		out = append(out, rulebook.Finding{Error: f.Severity == lint.Error, File: f.File, Line: f.Line, Text: f.Text + " (" + f.Rule + ")", Fix: f.Fix})
	}
	return out
}

// decisions takes from a log what replay compares.
func decisions(records iter.Seq2[audit.Record, error]) iter.Seq2[replay.Decision, error] {
	return func(yield func(replay.Decision, error) bool) {
		for r, err := range records {
			if err != nil {
				yield(replay.Decision{}, err)
				return
			}
			e := r.Entry
			if why := unreadable(r); why != "" {
				// What it decided cannot be known; only that it was a door's answer.
				if d, ok := replay.Unreadable(r.Seq, e.Time, e.Step, why); ok && e.Phase != audit.Intent && !yield(d, nil) {
					return
				}
				continue
			}
			d, ok := replay.Read(replay.Entry{Record: r.Seq, Time: e.Time, Step: e.Step, Phase: string(e.Phase), Decision: e.Decision,
				Job: string(e.Job), Subject: e.Subject, Project: e.Project, Purpose: e.Purpose, Dataset: e.Dataset,
				Policy: e.Policy, Data: e.Data, Detail: e.Detail})
			if ok && !yield(d, nil) {
				return
			}
		}
	}
}

// unreadable says why a record's content cannot be had; "" where it can.
func unreadable(r audit.Record) string {
	switch {
	case r.Erased != nil:
		return "the record's content was erased"
	case r.Sealed:
		return "the record is sealed, and the key of its content is not here"
	}
	return ""
}
