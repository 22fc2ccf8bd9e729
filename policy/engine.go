package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport"
)

// What Config leaves at zero.
const (
	DefaultDeadline = 250 * time.Millisecond
	DefaultMaxInput = 1 << 20 // bytes
)

// The two questions, as Rego references.
const (
	admitQuery   = "data.sallyport.admit.verdict"
	releaseQuery = "data.sallyport.release.verdict"
)

const hintBroken = "Nothing was let through. Policy admin: run the bundle's tests, then repeat this decision with its recorded input."

// Door is one of the two questions.
type Door string

const (
	AdmitDoor   Door = "admit"   // input: [Admission]
	ReleaseDoor Door = "release" // input: [Releasing]
)

// Config says which rules and data an Engine decides by.
type Config struct {
	// Bundle holds the rules (every *.rego; *_test.rego only for [Test]) and
	// their data: data.json in a folder a/b is data.a.b, as in an OPA bundle.
	Bundle fs.FS
	// Overlay adds data roots that change while the gateway runs: "catalog",
	// "site" and "register". A root that the bundle or its rules define is an error.
	Overlay map[string]any
	// Deadline bounds one evaluation; 0 is DefaultDeadline.
	Deadline time.Duration
	// MaxInput bounds the JSON of one input, in bytes; 0 is DefaultMaxInput.
	MaxInput int
	// Keep is told rules and data before they come into force, so that what a
	// decision saw can be had later by the digests in its record. What cannot be
	// kept does not come into force. roots are all data, by root. nil keeps nothing.
	Keep func(ctx context.Context, b *Bundle, policy, data sallyport.Digest, roots map[string]any) error
}

// Engine answers both doors. It is safe for concurrent use.
//
// Rules are evaluated unoptimized, over a store of parsed values, with errors
// of built-in functions being errors: by default Rego turns such an error into
// "undefined", and a rule guarded by `not` would then allow.
type Engine struct {
	cfg      Config
	changing sync.Mutex // one SetOverlay or SetBundle at a time
	overlay  map[string]any
	now      atomic.Pointer[state]
}

// state is all that an evaluation reads. It is never changed, only replaced.
type state struct {
	bundle                        *Bundle
	store                         storage.Store
	admit, release, approval, may rego.PreparedEvalQuery
	policy, data                  sallyport.Digest
}

// New compiles cfg.Bundle. Errors are [sallyport.Invalid] and name file and line.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	b, err := Load(ctx, cfg.Bundle)
	if err != nil {
		return nil, err
	}
	e.now.Store(&state{bundle: b})
	if err := e.SetOverlay(ctx, cfg.Overlay); err != nil {
		return nil, err
	}
	return e, nil
}

func newEngine(cfg Config) (*Engine, error) {
	if cfg.Deadline < 0 || cfg.MaxInput < 0 {
		return nil, sallyport.Errorf("load policy", sallyport.Invalid, "Leave them out for the defaults.",
			"deadline %v and largest input %d must not be negative", cfg.Deadline, cfg.MaxInput)
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = DefaultDeadline
	}
	if cfg.MaxInput == 0 {
		cfg.MaxInput = DefaultMaxInput
	}
	return &Engine{cfg: cfg}, nil
}

// Over returns an engine of these rules and their own data, over those of roots
// that the bundle does not own: a candidate over the catalog, the site and the
// register that a past decision saw. Bundle, Overlay and Keep of cfg are not used.
func (b *Bundle) Over(ctx context.Context, roots map[string]any, cfg Config) (*Engine, error) {
	mine := map[string]any{}
	for root, v := range roots {
		if !b.Owns(root) {
			mine[root] = v
		}
	}
	all, err := b.withOverlay(mine)
	if err != nil {
		return nil, err
	}
	return b.exactly(ctx, all, cfg)
}

// Recorded returns an engine of these rules over exactly these data, whatever
// data the bundle came with: a decision as it was made. Bundle, Overlay and
// Keep of cfg are not used.
func (b *Bundle) Recorded(ctx context.Context, data map[string]any, cfg Config) (*Engine, error) {
	data, err := plainJSON(data)
	if err != nil {
		return nil, sallyport.E("load policy data", sallyport.Invalid, err, "")
	}
	return b.exactly(ctx, data, cfg)
}

// exactly is Recorded over data that are fresh JSON values.
func (b *Bundle) exactly(ctx context.Context, data map[string]any, cfg Config) (*Engine, error) {
	cfg.Bundle, cfg.Overlay, cfg.Keep = nil, nil, nil
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	return e, e.enforce(ctx, b, data)
}

// SetOverlay replaces the data that the bundle does not own, as one step:
// evaluations in flight finish on the old data. On error the old data stay.
// The engine keeps no reference to overlay.
func (e *Engine) SetOverlay(ctx context.Context, overlay map[string]any) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	return e.set(ctx, e.now.Load().bundle, overlay)
}

// SetBundle replaces the rules and their own data, as one step: evaluations in
// flight finish on the old ones. On error the old ones stay.
func (e *Engine) SetBundle(ctx context.Context, b *Bundle) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	return e.set(ctx, b, e.overlay)
}

// Try returns an engine of b over the data that this one was given: what
// SetBundle would bring into force.
func (e *Engine) Try(ctx context.Context, b *Bundle) (*Engine, error) {
	e.changing.Lock()
	overlay := e.overlay
	e.changing.Unlock()
	data, err := b.withOverlay(overlay)
	if err != nil {
		return nil, err
	}
	return b.exactly(ctx, data, e.cfg)
}

// Bundle returns the bundle in force.
func (e *Engine) Bundle() *Bundle { return e.now.Load().bundle }

func (e *Engine) set(ctx context.Context, b *Bundle, overlay map[string]any) error {
	data, err := b.withOverlay(overlay)
	if err != nil {
		return err
	}
	if err := e.enforce(ctx, b, data); err != nil {
		return err
	}
	e.overlay = map[string]any{}
	for root := range overlay {
		e.overlay[root] = data[root]
	}
	return nil
}

// enforce makes b over data what is decided by.
func (e *Engine) enforce(ctx context.Context, b *Bundle, data map[string]any) error {
	digest, err := DataDigest(data)
	if err != nil {
		return err
	}
	next := &state{bundle: b, policy: b.digest, data: digest}
	next.store = inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	for q, into := range map[string]*rego.PreparedEvalQuery{
		admitQuery: &next.admit, releaseQuery: &next.release, approvalQuery: &next.approval, mayQuery: &next.may} {
		*into, err = rego.New(rego.Query(q), rego.Compiler(b.compiler), rego.Store(next.store),
			rego.Capabilities(capabilities()), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
		if err != nil {
			return sallyport.E("load policy data", sallyport.Invalid, describe(err), "The former data stay in force.")
		}
	}
	if e.cfg.Keep != nil {
		if err := e.cfg.Keep(ctx, b, next.policy, next.data, data); err != nil {
			return err
		}
	}
	e.now.Store(next)
	return nil
}

// Digests identify the rules and the data now in force. policy is over path
// and content of every .rego file; data is over the canonical JSON of all
// data, bundle and overlay (keys sorted, no white space, numbers as written).
func (e *Engine) Digests() (policy, data sallyport.Digest) {
	s := e.now.Load()
	return s.policy, s.data
}

// Admit asks door 1. A denial is a Verdict without Allow and a nil error. If
// no verdict could be had (an error, an undefined or ill-formed verdict, a
// timeout) the Verdict is a denial too and the error, a [sallyport.Denied],
// says why.
func (e *Engine) Admit(ctx context.Context, in Admission) (Verdict, error) {
	return e.ask(ctx, e.now.Load(), e.admission(in, func() (ast.Value, error) { return parseInput(in.normal(), e.cfg.MaxInput) }))
}

// Release asks door 2; errors as Admit. Its Verdict has no destination,
// obligations or limits: those of the admission stand.
func (e *Engine) Release(ctx context.Context, in Releasing) (Verdict, error) {
	return e.ask(ctx, e.now.Load(), e.releasing(in, func() (ast.Value, error) { return parseInput(in.normal(), e.cfg.MaxInput) }))
}

// Decide asks a door with an input as a record holds it; errors as Admit.
func (e *Engine) Decide(ctx context.Context, door Door, input json.RawMessage) (Verdict, error) {
	q, err := e.recorded(door, input)
	if err != nil {
		q.bad = err
	}
	return e.ask(ctx, e.now.Load(), q)
}

// recorded is the question of a recorded input, put as Admit and Release put
// it: a record has null where a list was empty, and the rules see the list.
func (e *Engine) recorded(door Door, input json.RawMessage) (question, error) {
	switch door {
	case AdmitDoor:
		var in Admission
		err := decodeInput(input, &in)
		return e.admission(in, func() (ast.Value, error) { return parseInput(in.normal(), e.cfg.MaxInput) }), err
	case ReleaseDoor:
		var in Releasing
		err := decodeInput(input, &in)
		return e.releasing(in, func() (ast.Value, error) { return parseInput(in.normal(), e.cfg.MaxInput) }), err
	}
	return question{op: "ask policy"}, fmt.Errorf("policy has no door %q", door)
}

// question is one question to one door.
type question struct {
	op    string
	query func(*state) rego.PreparedEvalQuery
	known fields
	bad   error // why it must not be put
	at    time.Time
	value func() (ast.Value, error)
	also  func(Verdict) error // what an allowing verdict must hold besides
}

func (e *Engine) admission(in Admission, value func() (ast.Value, error)) question {
	return question{"ask policy for admission", func(s *state) rego.PreparedEvalQuery { return s.admit }, admitFields, in.check(), in.Time, value,
		func(v Verdict) error { return tightens(in.Request, v) }}
}

func (e *Engine) releasing(in Releasing, value func() (ast.Value, error)) question {
	return question{"ask policy for release", func(s *state) rego.PreparedEvalQuery { return s.release }, releaseFields, in.check(), in.Time, value, nil}
}

// ask evaluates one prepared query. Every way out of it that is not a
// well-formed verdict is a denial with an error: the deferred function is the
// only place that returns one, also after a panic in a rule or built-in.
func (e *Engine) ask(ctx context.Context, s *state, q question) (v Verdict, err error) {
	why := "policy could not be evaluated, so the answer is no; tell the policy admin"
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("evaluation panicked: %v", r)
		}
		if err != nil {
			err = sallyport.E(q.op, sallyport.Denied, err, hintBroken)
			v = Verdict{Reasons: []string{why}, Rules: []string{}}
		}
		v.Policy, v.Data = s.policy, s.data
	}()
	if q.bad != nil {
		why = "the question to policy was incomplete, so the answer is no; tell the policy admin"
		return v, q.bad
	}
	value, err := q.value()
	if err != nil {
		why = "the question to policy could not be put, so the answer is no; tell the policy admin"
		return v, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Deadline)
	defer cancel()
	rs, err := q.query(s).Eval(ctx, rego.EvalParsedInput(value),
		rego.EvalTime(q.at)) // no built-in may read the clock; if one did, it would see the input's
	if err != nil {
		// A built-in that notices the deadline first reports a cancelation of
		// its own, which context.DeadlineExceeded is not.
		if topdown.IsCancel(err) || ctx.Err() != nil {
			why = "policy did not answer in time, so the answer is no; try again or tell the policy admin"
			err = fmt.Errorf("no answer within %v: %w", e.cfg.Deadline, errors.Join(err, ctx.Err()))
		}
		return v, err
	}
	why = "policy gave no proper verdict, so the answer is no; tell the policy admin"
	if len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return v, errors.New("the verdict is undefined")
	}
	v, err = decodeVerdict(rs[0].Expressions[0].Value, q.known)
	if err == nil && v.Allow && q.also != nil {
		err = q.also(v)
	}
	return v, err
}

// tightens checks what no bundle may get wrong: a request bounds the verdict.
func tightens(r Request, v Verdict) error {
	switch {
	case r.Where == sallyport.Local && v.Destination != sallyport.Local:
		return errors.New("the request is for the local side, the verdict for the outside")
	case r.MaxPrice > 0 && v.Limits.Price > r.MaxPrice:
		return fmt.Errorf("the verdict's price %v is above the request's %v", v.Limits.Price, r.MaxPrice)
	case v.Limits.Copies < r.Copies:
		return fmt.Errorf("the verdict asks for %d copies, the request for %d", v.Limits.Copies, r.Copies)
	}
	return nil
}

// capabilities are OPA's own without what reads the network, the clock, a
// random source or the process: a decision must be repeatable from its record.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return impure(b) })
	c.AllowNet = []string{} // none, also for $ref in schemas; nil would be any
	return c
}

// impure names what OPA marks as nondeterministic, and beside it: certificate
// checks against today's date, and trace, which only writes notes.
func impure(b *ast.Builtin) bool {
	switch b.Name {
	case "http.send", "opa.runtime", "net.lookup_ip_addr", "rand.intn", "uuid.rfc4122", "time.now_ns", "trace",
		"io.jwt.decode_verify", "crypto.x509.parse_and_verify_certificates",
		"crypto.x509.parse_and_verify_certificates_with_options":
		return true
	}
	return b.Nondeterministic
}

// normal returns the input as it is given to the rules: lists are never null.
func (a Admission) normal() any {
	a.fill()
	return a
}

func (a *Admission) fill() {
	list(&a.Subject.Roles)
	list(&a.Subject.Projects)
	list(&a.History)
	a.History = slices.Clone(a.History)
	for i := range a.History {
		list(&a.History[i].Risk.Quasi)
		a.History[i].Rows = filters(a.History[i].Rows)
	}
	a.Time = a.Time.UTC()
}

func (r Releasing) normal() any {
	r.fill()
	list(&r.Admitted.Regions)
	list(&r.Facts.Risk.Quasi)
	list(&r.Facts.Columns)
	list(&r.Facts.Cleared)
	list(&r.Facts.Rows)
	r.Facts.Rows = filters(r.Facts.Rows)
	list(&r.Facts.Undeclared)
	if c := r.Facts.Combined; c != nil {
		combined := *c
		list(&combined.Quasi)
		r.Facts.Combined = &combined
	}
	r.Facts.Residual = maps.Clone(r.Facts.Residual)
	if r.Facts.Residual == nil {
		r.Facts.Residual = map[string]int64{}
	}
	if r.Facts.Actions == nil {
		r.Facts.Actions = map[string]string{}
	}
	return r
}

func list[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}

// filters returns a copy whose lists are never null.
func filters(rows []sallyport.RowFilter) []sallyport.RowFilter {
	rows = slices.Clone(rows)
	for i := range rows {
		list(&rows[i].In)
	}
	return rows
}

// check reports what would make an input unrepeatable or misread.
func (a Admission) check() error {
	if a.Version != InputVersion {
		return fmt.Errorf("input version %d: this gateway speaks %d", a.Version, InputVersion)
	}
	if a.Time.IsZero() {
		return errors.New("the input has no time: rules that compare times would see the year 1")
	}
	return nil
}
