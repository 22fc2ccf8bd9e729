// Package gateway is the passage: it takes a dataset through both doors. The
// file to read first is passage.go.
package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/audit"
	"sallyport/catalog"
	"sallyport/policy"
	"sallyport/register"
	"sallyport/routing"
	"sallyport/seal"
	"sallyport/store"
)

// Algorithm is code that a job may name.
type Algorithm struct {
	Module routing.Module
	Doc    string
	Media  string // media type of what it gives, e.g. text/csv; "" unsaid
}

// Project is a group of people with purposes and a budget.
type Project struct {
	Budget sallyport.Money
	// Rows bounds which records the project sees: dataset → column → values.
	// Policy applies it; a verdict that shows more is refused.
	Rows map[string]map[string][]string
}

// Parts are what a gateway is made of. All are required unless said otherwise.
type Parts struct {
	Catalog *catalog.Catalog
	Policy  *policy.Engine
	Site    map[string]any // data.site, as policy sees it
	// Register holds grants, consents and exceptions; nil is an empty one that
	// cannot be changed.
	Register *register.Register
	Runner   *anonymize.Runner
	// Hierarchy opens a generalization hierarchy of the site by name.
	Hierarchy func(name string) (io.ReadCloser, error)
	// SpillDir is where counting goes on, encrypted, when memory is short; ""
	// is nowhere, and then a pass over too many classes fails.
	SpillDir string
	// Describe makes the release report of a pass and returns its digest, which
	// goes on record; nil makes none.
	Describe func(Described) (sallyport.Digest, error)
	Issuer   seal.Issuer
	Deriver  seal.Deriver

	Sources     map[string]store.Store // where datasets are, by name in the configuration
	Hold        store.Store            // ciphertext only
	HoldName    string
	Results     store.Store // opened results
	ResultsName string

	Backends   []routing.Backend
	Ledger     *routing.Ledger
	Algorithms map[string]Algorithm
	Projects   map[string]Project
	MemoryMB   int64         // a module's memory
	Walltime   time.Duration // a module's time
	ViewLimit  int64         // bytes of ciphertext that views may take; 0 is no limit

	// ReviewWithin is how long a result waits for people where policy asks for
	// them; then it is destroyed. 0 is 7 days.
	ReviewWithin time.Duration

	UploadTTL    time.Duration // how long an upload's key lives; 0 is 30 days
	UploadLimit  int64         // bytes of one upload; 0 is 64 GiB
	ScratchQuota int64         // bytes of a project's scratch; 0 is 10 GiB

	Audit *audit.Log
	// Reviews is the key that signs off reviews of the log; the zero value is none.
	Reviews audit.SigningKey
	// Retention is how long contents of the log's records are kept; nil: for good.
	Retention []audit.Retention

	Journal  *Journal
	Patience time.Duration // how long a job waits for nodes
	Parallel int           // jobs at once; 0 is 4
	Retry    time.Duration // between tries to record what could not be recorded; 0 is 5 s
	Now      func() time.Time
	Log      *slog.Logger

	// Observe, if set, is told what happens. It must not block.
	Observe func(Event)
	// Point, if set, is called between the parts of each step; crash tests
	// kill the process there.
	Point func(step, point string)
}

// resultGrace lets a result be opened a while after the data's key ended.
const resultGrace = 10 * time.Minute

// errStopping is the cause of a context that ends because the gateway stops;
// jobs stay as they are and continue at the next start.
var errStopping = errors.New("the gateway is stopping")

// Gateway takes jobs through the passage. Methods are safe for concurrent use.
type Gateway struct {
	clock   clock // of decisions
	parts   Parts
	journal *Journal
	log     *slog.Logger
	slots   chan struct{}
	making  singleflight.Group // views, by key

	strangers  strangers
	unreviewed unreviewed

	showing sync.Mutex // who gives policy data, one at a time
	stale   bool       // what was read of the data is not in force, or not noted
	noted   *noted     // the data in force, as the log has them; nil: not read yet

	releasing sync.Mutex // held from the history to the decision at door 2
	mu        sync.Mutex
	root      context.Context
	stop      context.CancelCauseFunc
	cancels   map[sallyport.JobID]context.CancelCauseFunc
	ended     map[sallyport.JobID]chan struct{} // closed when the job's goroutine ends
	watch     map[int]watcher
	watches   int
	used      map[string]time.Time              // views by key: when they were last looked at
	wakes     map[sallyport.JobID]chan struct{} // jobs that wait for review
	opining   sync.Mutex
	pending   map[string]request         // acts that wait for a second person
	steps     map[sallyport.JobID]string // where running jobs are; the journal knows finished steps only
	running   sync.WaitGroup
}

// New returns a gateway that does nothing until [Gateway.Start].
func New(p Parts) (*Gateway, error) {
	if p.Catalog == nil || p.Policy == nil || p.Runner == nil || p.Issuer == nil || p.Deriver == nil || p.Hold == nil ||
		p.Results == nil || p.Ledger == nil || p.Audit == nil || p.Journal == nil || p.Now == nil || p.Log == nil {
		return nil, sallyport.Errorf("gateway", sallyport.Internal, "", "a part is missing")
	}
	if p.Retry == 0 {
		p.Retry = 5 * time.Second
	}
	if p.ReviewWithin == 0 {
		p.ReviewWithin = reviewWithin
	}
	if p.UploadTTL == 0 {
		p.UploadTTL = uploadTTL
	}
	if p.UploadLimit == 0 {
		p.UploadLimit = 64 << 30
	}
	if p.ScratchQuota == 0 {
		p.ScratchQuota = 10 << 30
	}
	return &Gateway{parts: p, journal: p.Journal, log: p.Log, slots: make(chan struct{}, max(1, cmpOr(p.Parallel, 4))),
		cancels: map[sallyport.JobID]context.CancelCauseFunc{}, ended: map[sallyport.JobID]chan struct{}{}, watch: map[int]watcher{},
		steps: map[sallyport.JobID]string{}, pending: map[string]request{}, wakes: map[sallyport.JobID]chan struct{}{}, used: map[string]time.Time{}}, nil
}

func cmpOr(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func (g *Gateway) now() time.Time { return g.parts.Now() }

// Start continues every unfinished job and takes new ones until Stop.
func (g *Gateway) Start(ctx context.Context) error {
	if err := g.startClock(ctx); err != nil {
		return err
	}
	if _, err := g.parts.Catalog.Refresh(); err != nil {
		return err
	}
	if err := g.showPolicy(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	g.root, g.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	g.mu.Unlock()
	jobs, err := g.journal.Jobs()
	if err != nil {
		return err
	}
	if err := errors.Join(g.sweepViews(ctx, true), g.sweepUnfinished(ctx), g.sweepUploads(ctx), g.sweep(ctx)); err != nil {
		return err
	}
	for _, job := range jobs {
		if !job.State.Final() {
			g.launch(job)
		}
	}
	g.running.Go(g.sweeper)
	return nil
}

// Stop ends the gateway's work where it stands; Start in a new process
// continues it.
func (g *Gateway) Stop() {
	g.mu.Lock()
	if g.stop != nil {
		g.stop(errStopping)
	}
	g.mu.Unlock()
	g.running.Wait()
}

// Submit takes a job. It is durable when Submit returns.
func (g *Gateway) Submit(ctx context.Context, req Request) (Job, error) {
	if !req.ID.Valid() {
		return Job{}, sallyport.Errorf("submit", sallyport.Invalid, "Use 1 to 64 of a-z, 0-9 and -.", "job name %q", req.ID)
	}
	switch req.Where {
	case "", sallyport.Local, sallyport.Outside:
	default:
		return Job{}, sallyport.Errorf("submit", sallyport.Invalid, "Say local or outside, or leave it to policy.", "unknown destination %q", req.Where)
	}
	if req.Copies < 0 || req.MaxPrice < 0 {
		return Job{}, sallyport.Errorf("submit", sallyport.Invalid, "", "copies and price cannot be negative")
	}
	if _, err := g.algorithm(req.Algorithm); err != nil {
		return Job{}, err
	}
	g.mu.Lock()
	stopped := g.root == nil || g.root.Err() != nil
	g.mu.Unlock()
	if stopped {
		return Job{}, sallyport.Errorf("submit", sallyport.Unavailable, "Start it with `sallyport serve`.", "the gateway is not running")
	}
	// A log that failed stays so until a restart: the job would only wait for it.
	if err := g.parts.Audit.Err(); err != nil {
		return Job{}, err
	}
	req.Submitted, req.Trace = g.now().UTC(), newTrace()
	job := Job{Request: req, State: Queued}
	if err := g.journal.add(job); err != nil {
		return Job{}, err
	}
	g.launch(job)
	return job, nil
}

// Cancel gives a job up: what runs is stopped, and the job is undone.
func (g *Gateway) Cancel(ctx context.Context, id sallyport.JobID, by Subject) error {
	job, err := g.journal.Job(id)
	if err != nil {
		return err
	}
	if job.State.Final() {
		return sallyport.Errorf("cancel", sallyport.Conflict, "", "job %s is %s already", id, job.State)
	}
	g.mu.Lock()
	cancel := g.cancels[id]
	g.mu.Unlock()
	if cancel == nil {
		return sallyport.Errorf("cancel", sallyport.Conflict, "Look again in a moment.", "job %s is just ending", id)
	}
	cancel(sallyport.Errorf("cancel", sallyport.Canceled, "", "canceled by %s", by.ID))
	return nil
}

// Job returns a job as it stands.
func (g *Gateway) Job(id sallyport.JobID) (Job, error) {
	job, err := g.journal.Job(id)
	return g.live(job), err
}

// live tells the step that a running job is in.
func (g *Gateway) live(job Job) Job {
	g.mu.Lock()
	defer g.mu.Unlock()
	if step, ok := g.steps[job.ID]; ok && !job.State.Final() {
		job.Step = step
	}
	return job
}

// Jobs returns all jobs, oldest first.
func (g *Gateway) Jobs() ([]Job, error) {
	jobs, err := g.journal.Jobs()
	for i := range jobs {
		jobs[i] = g.live(jobs[i])
	}
	return jobs, err
}

// Wait returns when the job has ended, or the context.
func (g *Gateway) Wait(ctx context.Context, id sallyport.JobID) (Job, error) {
	g.mu.Lock()
	ended := g.ended[id]
	g.mu.Unlock()
	if ended != nil {
		select {
		case <-ended:
		case <-ctx.Done():
			return Job{}, ctx.Err()
		}
	}
	return g.journal.Job(id)
}

// OpenResult opens the kept result of a finished job.
func (g *Gateway) OpenResult(ctx context.Context, id sallyport.JobID) (io.ReadCloser, error) {
	job, err := g.journal.Job(id)
	if err != nil {
		return nil, err
	}
	if job.Result == nil {
		return nil, sallyport.Errorf("result", sallyport.NotFound, "`sallyport job show` tells how it ended.", "job %s is %s and has no result", id, job.State)
	}
	return g.parts.Results.Open(ctx, *job.Result)
}

// OpenLog opens what a job's module said.
func (g *Gateway) OpenLog(ctx context.Context, id sallyport.JobID) (io.ReadCloser, error) {
	job, err := g.journal.Job(id)
	if err != nil {
		return nil, err
	}
	if job.Log == nil && job.Review != nil {
		return nil, sallyport.Errorf("log", sallyport.NotFound, "`sallyport job show` tells how it stands.", "what the module of job %s says is reviewed with its result, and was not given out", id)
	}
	if job.Log == nil {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return g.parts.Results.Open(ctx, *job.Log)
}

// Releases returns the release history of a dataset.
func (g *Gateway) Releases(dataset string) ([]sallyport.Release, error) {
	return g.journal.Releases(dataset)
}

// Nodes returns what every backend offers.
func (g *Gateway) Nodes(ctx context.Context) ([]routing.Node, error) {
	var out []routing.Node
	for _, b := range g.parts.Backends {
		nodes, err := b.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, nodes...)
	}
	return out, nil
}

// Audit returns the log, for doors that show it.
func (g *Gateway) Audit() *audit.Log { return g.parts.Audit }

func (g *Gateway) refreshCatalog(ctx context.Context) error {
	g.showing.Lock()
	defer g.showing.Unlock()
	changed, err := g.parts.Catalog.Refresh()
	if err != nil {
		return err
	}
	if changed || g.stale {
		return g.show(ctx)
	}
	return nil
}

// showPolicy gives the policy engine the catalog, the site and the register as
// data.
func (g *Gateway) showPolicy(ctx context.Context) error {
	g.showing.Lock()
	defer g.showing.Unlock()
	return g.show(ctx)
}

// show puts the data into force and notes which they are. What fails is tried
// again before the next decision. g.showing is held.
func (g *Gateway) show(ctx context.Context) error {
	g.stale = true
	if err := g.overlay(ctx); err != nil {
		return err
	}
	if err := g.noteData(ctx); err != nil {
		return err
	}
	g.stale = false
	return nil
}

func (g *Gateway) algorithm(name string) (Algorithm, error) {
	a, ok := g.parts.Algorithms[name]
	if !ok {
		var known []string
		for n := range g.parts.Algorithms {
			known = append(known, n)
		}
		slices.Sort(known)
		return a, sallyport.Errorf("algorithm", sallyport.NotFound, "Known: "+strings.Join(known, ", ")+".", "no algorithm %q", name)
	}
	return a, nil
}

func (g *Gateway) source(d sallyport.Dataset) (store.Store, error) {
	s, ok := g.parts.Sources[d.Location.Store]
	if !ok {
		return nil, sallyport.Errorf("open dataset", sallyport.Invalid, "Name it under `stores:` in the configuration.",
			"dataset %s lies in store %q, which is not configured", d.ID, d.Location.Store)
	}
	return s, nil
}

func (g *Gateway) backend(name string) (routing.Backend, error) {
	for _, b := range g.parts.Backends {
		if b.Name() == name {
			return b, nil
		}
	}
	return nil, sallyport.Errorf("route", sallyport.NotFound, "Name it under `backends:` in the configuration.", "no backend %q", name)
}

func (g *Gateway) budget(project string) sallyport.Money { return g.parts.Projects[project].Budget }

// May reports whether policy lets somebody do an act outside the passage. A
// bundle that has no rule on acts leaves them to roles.
func (g *Gateway) May(ctx context.Context, who Subject, act string, roles ...string) bool {
	if g.parts.Policy.RulesOnActs() {
		return g.parts.Policy.May(ctx, who, act)
	}
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(who.Roles, r) })
}
