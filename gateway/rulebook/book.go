// Package rulebook is how a policy bundle comes into force: drafted, checked,
// tested, replayed over history, approved by a second person, activated with a
// signature, swapped in one step; and how a former one comes back.
//
// Nothing here decides a request. The passage asks the engine; the book changes
// what the engine asks, and every change is a record of the audit log before it
// is one of the engine.
package rulebook

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
	"sallyport/policy/archive"
)

// DefaultCoverage is the least share of lines, in percent, that the tests of a
// draft must reach.
const DefaultCoverage = 90

// Config is what a Book stands on.
type Config struct {
	Dir     string // drafts and activations
	Archive *archive.Archive
	Log     *audit.Log
	Now     func() time.Time
	Slog    *slog.Logger
	// Sign signs activations, with an Ed25519 key whose public half is Public.
	Sign   func(ctx context.Context, msg []byte) ([]byte, error)
	Public ed25519.PublicKey
	// Coverage is the least coverage of a draft's tests, in percent; 0 is
	// DefaultCoverage.
	Coverage float64
	// Lint finds what is wrong with a bundle that compiles. nil finds nothing.
	Lint func(ctx context.Context, b *policy.Bundle) []Finding
	// Replay evaluates a candidate over the recorded decisions.
	Replay func(ctx context.Context, candidate *policy.Bundle, progress func(done, of int)) (Comparison, error)
}

// Finding is what a check says of a bundle. Errors refuse a draft.
type Finding struct {
	Error bool   `json:"error"`
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// Comparison is what a replay over history found.
type Comparison struct {
	Decisions  int              `json:"decisions"`
	Replayed   int              `json:"replayed"`
	DenyAllow  int              `json:"deny_to_allow"`
	AllowDeny  int              `json:"allow_to_deny"` // failures included
	Weaker     int              `json:"weaker"`        // decisions that allow in both, with weaker masks or limits
	Stronger   int              `json:"stronger"`
	Unreplayed int              `json:"not_replayable"`
	Failures   int              `json:"failures"`         // decisions that the candidate cannot make: each would be a denial
	Digest     sallyport.Digest `json:"digest"`           // of the report
	Report     json.RawMessage  `json:"report,omitempty"` // all of it
}

// Loosens is the number of past decisions that would let more out: what an
// approver must name to show that they were seen.
func (c Comparison) Loosens() int { return c.DenyAllow + c.Weaker }

// Book holds drafts and activations. Its methods are safe for concurrent use.
type Book struct {
	cfg     Config
	engine  *policy.Engine
	bundle  *policy.Bundle // in force
	drafts  folder
	actions folder

	gate sync.Mutex // one candidate at a time: checks take long

	mu          sync.Mutex // one change at a time, and what is below
	activations []Activation
	older       string // why an older bundle than the last activated is in force
	follow      Following
}

// Status is what is in force, and what is not but should be.
type Status struct {
	Active Activation `json:"active"`
	// Older says why a bundle is in force that is not the last one activated.
	Older     string    `json:"older,omitempty"`
	Following Following `json:"following"`
	Waiting   []Draft   `json:"waiting"` // drafts that need an approval
}

// Following is what became of the newest candidate of the configured source.
type Following struct {
	Origin   string           `json:"origin,omitempty"`
	Revision string           `json:"revision,omitempty"`
	Version  sallyport.Digest `json:"version,omitempty"`
	State    string           `json:"state,omitempty"` // in force, waiting, refused, withdrawn, superseded, unreachable, failed
	Trouble  string           `json:"trouble,omitempty"`
	At       time.Time        `json:"at,omitzero"`

	unread bool // the candidate could not be read
}

// Open reads the book of cfg.Dir and says which bundle is in force. An empty
// book starts with first, which the operator configured. The bundle that it
// returns is what the engine must be made with; [Book.Attach] then gives the
// engine to the book.
//
// The audit log must agree with the folder: a book that lost its last
// activation, or gained one, is [sallyport.Damaged].
func Open(ctx context.Context, cfg Config, first Candidate) (*Book, *policy.Bundle, error) {
	cfg.Coverage = cmp.Or(cfg.Coverage, DefaultCoverage)
	b := &Book{cfg: cfg, drafts: folder(filepath.Join(cfg.Dir, "drafts")), actions: folder(filepath.Join(cfg.Dir, "activations"))}
	if err := b.readActivations(); err != nil {
		return nil, nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, nil, err
	}
	if len(b.activations) == 0 {
		if err := b.begin(ctx, first); err != nil {
			return nil, nil, err
		}
	}
	if err := b.choose(ctx); err != nil {
		return nil, nil, err
	}
	return b, b.bundle, nil
}

// Attach gives the book the engine that decides by its bundle.
func (b *Book) Attach(e *policy.Engine) { b.engine = e }

// begin activates the configured bundle of a gateway that has none yet.
func (b *Book) begin(ctx context.Context, first Candidate) error {
	bundle, err := policy.Load(ctx, first.Files)
	if err != nil {
		return err
	}
	if err := b.cfg.Archive.KeepBundle(bundle); err != nil {
		return err
	}
	return b.activate(ctx, bundle, Activation{Kind: First, By: "operator", Reason: "first start", Origin: first.Origin, Revision: first.Revision})
}

// choose loads the last activated bundle; one that does not load any more, with
// this program, gives way to the one before, and that is said loudly.
func (b *Book) choose(ctx context.Context) error {
	var firstErr error
	for i := len(b.activations) - 1; i >= 0; i-- {
		a := b.activations[i]
		bundle, err := b.load(ctx, a.Version)
		if err == nil {
			b.bundle = bundle
			if firstErr != nil {
				b.older = "version " + b.activations[len(b.activations)-1].Version.Short() + " does not load: " + firstErr.Error()
				b.cfg.Slog.Error("policy: AN OLDER BUNDLE IS IN FORCE", "version", a.Version.Short(), "why", b.older)
			}
			return nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return firstErr
}

func (b *Book) load(ctx context.Context, version sallyport.Digest) (*policy.Bundle, error) {
	files, err := b.cfg.Archive.Version(version)
	if err != nil {
		return nil, err
	}
	return policy.Load(ctx, files)
}

// Status returns what is in force and what waits.
func (b *Book) Status() (Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Older: b.older, Following: b.follow, Active: b.active(), Waiting: []Draft{}}
	list, err := b.readDrafts()
	for _, d := range list {
		if d.State == Waiting {
			d.Comparison.Report = nil
			s.Waiting = append(s.Waiting, d)
		}
	}
	return s, err
}

// active is the activation whose bundle is in force.
func (b *Book) active() Activation {
	for i := len(b.activations) - 1; i >= 0; i-- {
		if b.activations[i].Version == b.bundle.Version() {
			return b.activations[i]
		}
	}
	return Activation{}
}

// Activations returns all of them, oldest first.
func (b *Book) Activations() []Activation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Activation(nil), b.activations...)
}

// may reports whether policy lets a person do an act of the book. A bundle that
// says nothing about acts leaves the usual roles: it must not be the last one
// that this gateway ever has.
func (b *Book) may(ctx context.Context, e *policy.Engine, who policy.Subject, act string) bool {
	if e.RulesOnActs() {
		return e.May(ctx, who, act)
	}
	for _, role := range who.Roles {
		if role == "admin" && act == Edit || (role == "officer" || role == "approver") && act == Approve {
			return true
		}
	}
	return false
}

// The acts that a person needs to be allowed.
const (
	Edit    = "policy:edit"
	Approve = "policy:approve"
)

func (b *Book) record(ctx context.Context, phase audit.Phase, step, by string, version sallyport.Digest, detail any, problem error, reasons ...string) error {
	e := audit.Entry{Time: b.cfg.Now().UTC(), Step: step, Phase: phase, Subject: by, Reasons: reasons}
	if phase == audit.Outcome {
		e.Decision = "allow"
		if problem != nil {
			e.Decision = "error"
			if k := sallyport.KindOf(problem); k == sallyport.Denied || k == sallyport.Invalid {
				e.Decision = "deny"
			}
			e.Reasons = append(e.Reasons, problem.Error())
		}
	}
	raw, err := json.Marshal(map[string]any{"version": version, "detail": detail})
	if err != nil {
		return sallyport.E(step, sallyport.Internal, err, "")
	}
	e.Detail = raw
	_, err = b.cfg.Log.Append(context.WithoutCancel(ctx), e)
	return err
}
