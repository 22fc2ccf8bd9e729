package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/audit"
	"sallyport/audit/witness"
	"sallyport/catalog"
	"sallyport/gateway"
	"sallyport/gateway/identity"
	"sallyport/gateway/rulebook"
	"sallyport/internal/plug"
	"sallyport/internal/sandbox"
	"sallyport/internal/strict"
	"sallyport/policy"
	"sallyport/policy/archive"
	"sallyport/register"
	"sallyport/routing"
	"sallyport/routing/local"
	"sallyport/routing/network"
	"sallyport/seal"
	"sallyport/store"
	"sallyport/store/dir"
)

// wiring is a gateway with everything it stands on, opened from a configuration.
type wiring struct {
	cfg      *Config
	now      func() time.Time
	log      *slog.Logger
	hold     store.Store
	modules  map[sallyport.Digest]string // module → its file
	localKey *seal.Key
	network  *network.Network   // nil where none is configured
	access   *identity.KeyStore // nil where there is no S3 door
	book     *rulebook.Book     // of the rules in force
	source   *followed          // of rules that may be next
	archive  *archive.Archive

	parts   gateway.Parts
	gateway *gateway.Gateway
	closers []io.Closer
}

// policyDeadline bounds one decision. A decision takes well under a
// millisecond; the rest is room for a machine that is busy with jobs.
const policyDeadline = 2 * time.Second

// wire opens every part that cfg names. Whatever fails, what was opened is closed.
func wire(ctx context.Context, cfg *Config, log *slog.Logger, change func(*gateway.Parts)) (w *wiring, err error) {
	w = &wiring{cfg: cfg, now: time.Now, log: log, modules: map[sallyport.Digest]string{}}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	state := cfg.path(cfg.State)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return w, sallyport.E("state folder", sallyport.Unavailable, err, "Make it writable, or set `state:`.")
	}
	p := &w.parts
	p.Now, p.Log, p.HoldName, p.ResultsName = w.now, log, "hold", "results"
	p.ReviewWithin = cfg.Limits.ReviewWithin
	p.MemoryMB, p.Walltime, p.Patience, p.Parallel = cfg.Limits.MemoryMB, cfg.Limits.Walltime, cfg.Limits.Patience, cfg.Limits.Parallel

	if p.Journal, err = gateway.OpenJournal(filepath.Join(state, "journal.db")); err != nil {
		return w, err
	}
	w.closers = append(w.closers, p.Journal)
	if p.Ledger, err = routing.OpenLedger(filepath.Join(state, "ledger.db")); err != nil {
		return w, err
	}
	w.closers = append(w.closers, p.Ledger)

	issuer, err := opener{cfg: cfg, now: w.now}.issuers().Open(ctx, cfg.Issuer.Kind, cfg.decoder("$.issuer", cfg.Issuer))
	if err != nil {
		return w, configError(err)
	}
	w.closers = append(w.closers, issuer)
	p.Issuer, p.Deriver = issuer, issuer
	if p.Audit, err = w.openAudit(ctx, issuer); err != nil {
		return w, err
	}
	w.closers = append(w.closers, p.Audit)
	// Before the first record: to sign a log that was rolled back makes a fork.
	if err := witness.CheckKept(p.Audit, witness.Kept(cfg.path(cfg.Audit))); err != nil {
		return w, err
	}

	if p.Catalog, err = catalog.Open(cfg.path(cfg.Catalog)); err != nil {
		return w, err
	}
	p.Site = cfg.site()
	if p.Register, err = register.Open(cfg.registerFile()); err != nil {
		return w, err
	}
	bundle, err := w.openBook(ctx, issuer)
	if err != nil {
		return w, err
	}
	if p.Policy, err = policy.New(ctx, policy.Config{Bundle: bundle.FS(), Deadline: policyDeadline, Keep: w.archive.Keep,
		Overlay: map[string]any{"catalog": p.Catalog.Data(), "site": p.Site, "register": p.Register.Data()}}); err != nil {
		return w, err
	}
	w.book.Attach(p.Policy)
	if err := w.openStores(ctx); err != nil {
		return w, err
	}
	p.Runner = newRunner()
	p.Hierarchy, p.Describe = cfg.hierarchy, describeDigest
	p.SpillDir = filepath.Join(state, "spill")
	if err := os.MkdirAll(p.SpillDir, 0o700); err != nil {
		return w, sallyport.E("gateway", sallyport.Unavailable, err, "Give the gateway a `state:` folder that it may write to.")
	}
	if p.Algorithms, err = w.openModules(state); err != nil {
		return w, err
	}
	p.Projects = map[string]gateway.Project{}
	for id, pr := range cfg.Projects {
		p.Projects[id] = gateway.Project{Budget: money(pr.Budget), Rows: pr.Rows}
	}
	if w.localKey, err = loadOrMakeKey(filepath.Join(state, "local.key")); err != nil {
		return w, err
	}
	for i, b := range cfg.Backends {
		backend, err := w.backends().Open(ctx, b.Kind, cfg.decoder(fmt.Sprintf("$.backends[%d]", i), b))
		if err != nil {
			return w, configError(err)
		}
		if c, ok := backend.(io.Closer); ok {
			w.closers = append(w.closers, c)
		}
		p.Backends = append(p.Backends, backend)
	}
	if cfg.S3.Listen != "" {
		if err := w.openAccess(ctx); err != nil {
			return w, err
		}
	}
	p.ViewLimit, p.ScratchQuota = cfg.S3.ViewsMB<<20, cfg.S3.ScratchMB<<20
	if change != nil {
		change(p)
	}
	w.gateway, err = gateway.New(*p)
	return w, err
}

// checkpointKey is the name of the key that signs the audit log's checkpoints.
const checkpointKey = "checkpoint"

// openAudit opens the log, and has the key made that signs reviews of it.
func (w *wiring) openAudit(ctx context.Context, issuer keyIssuer) (*audit.Log, error) {
	cfg, err := auditConfig(ctx, w.cfg, issuer, w.now)
	if err != nil {
		return nil, err
	}
	w.parts.Reviews, err = signingKey(ctx, issuer, "review", "audit/review")
	if sallyport.KindOf(err) == sallyport.NotFound {
		// A keeper that was set up before there were reviews: all else goes on.
		w.log.Warn("reviews of the audit log cannot be signed off", "err", err, "hint", sallyport.HintOf(err))
		w.parts.Reviews, err = audit.SigningKey{}, nil
	}
	if err != nil {
		return nil, err
	}
	w.parts.Retention = w.cfg.retention()
	return audit.Open(cfg)
}

// openAccess opens the store of access keys.
func (w *wiring) openAccess(ctx context.Context) error {
	k := w.cfg.S3.Keys
	if k.Dir == "" {
		k.Dir = filepath.Join(w.cfg.State, "access")
	}
	k.Dir = w.cfg.path(k.Dir)
	master, err := w.parts.Deriver.Derive(ctx, "s3/access-keys")
	if err != nil {
		return err
	}
	w.access, err = identity.OpenKeys(k, [32]byte(master), w.now, w.log)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, w.access)
	return nil
}

// Close stops the gateway and closes its parts, last opened first.
func (w *wiring) Close() error {
	if w.gateway != nil {
		w.gateway.Stop()
	}
	var errs error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = errors.Join(errs, w.closers[i].Close())
	}
	w.closers = nil
	return errs
}

func (w *wiring) openStores(ctx context.Context) error {
	p := &w.parts
	p.Sources = map[string]store.Store{}
	for name, k := range w.cfg.Stores {
		if name == "hold" || name == "results" {
			return configError(fmt.Errorf("stores: %q is the gateway's own name; choose another", name))
		}
		s, err := opener{cfg: w.cfg, name: name, now: w.now}.stores().Open(ctx, k.Kind, w.cfg.decoder("$.stores."+name, k))
		if err != nil {
			return configError(err)
		}
		p.Sources[name] = s
	}
	var err error
	if p.Hold, err = (opener{cfg: w.cfg, name: "hold"}).stores().Open(ctx, w.cfg.Hold.Kind, w.cfg.decoder("$.hold", w.cfg.Hold)); err != nil {
		return configError(err)
	}
	w.hold = p.Hold
	if p.Results, err = (opener{cfg: w.cfg, name: "results"}).stores().Open(ctx, w.cfg.Results.Kind, w.cfg.decoder("$.results", w.cfg.Results)); err != nil {
		return configError(err)
	}
	return nil
}

// openModules puts every module into the state folder under its digest, so
// that what was admitted is what runs.
func (w *wiring) openModules(state string) (map[string]gateway.Algorithm, error) {
	out := map[string]gateway.Algorithm{}
	dir := filepath.Join(state, "modules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, sallyport.E("modules", sallyport.Unavailable, err, "")
	}
	keep := func(b []byte) (sallyport.Digest, error) {
		d := sallyport.DigestOf(b)
		file := filepath.Join(dir, strings.TrimPrefix(string(d), "sha256:"))
		w.modules[d] = file
		if old, err := os.ReadFile(file); err == nil && sallyport.DigestOf(old) == d {
			return d, nil
		}
		tmp := file + ".new"
		if err := os.WriteFile(tmp, b, 0o700); err != nil {
			return d, sallyport.E("modules", sallyport.Exhausted, err, "Free disk space.")
		}
		return d, os.Rename(tmp, file)
	}
	for name, m := range algorithms() {
		if _, err := keep(m.wasm); err != nil {
			return nil, err
		}
		out[name] = m.algorithm(name)
	}
	for name, a := range w.cfg.Algorithms {
		runner, file := "wasm", a.Wasm
		if a.Native != "" {
			runner, file = "native", a.Native
		}
		b, err := os.ReadFile(w.cfg.path(file))
		if err != nil {
			return nil, sallyport.E("algorithm "+name, sallyport.NotFound, err, "Check its path under `algorithms:`.")
		}
		d, err := keep(b)
		if err != nil {
			return nil, err
		}
		out[name] = gateway.Algorithm{Module: routing.Module{Name: name, Digest: d, Runner: runner}, Doc: a.Doc, Media: a.Media}
	}
	return out, nil
}

func (w *wiring) moduleFile(d sallyport.Digest) (string, error) {
	file, ok := w.modules[d]
	if !ok {
		return "", sallyport.Errorf("module", sallyport.NotFound, "", "no module %s", d.Short())
	}
	return file, nil
}

func (w *wiring) openLocal(c local.Config) (routing.Backend, error) {
	if c.CacheDir == "" {
		c.CacheDir = filepath.Join(w.cfg.State, "cache")
	}
	c.CacheDir = w.cfg.path(c.CacheDir)
	outcomes, err := dir.Open("outcomes", dir.Config{Path: filepath.Join(w.cfg.path(w.cfg.State), "outcomes")})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, outcomes)
	return local.New(c, w.localParts(outcomes))
}

// localParts let the local backend work on sealed references: it is handed the
// key like any node, wrapped to its own recipient.
func (w *wiring) localParts(outcomes store.Store) local.Parts {
	outcome := func(assignment string) sallyport.Ref {
		return sallyport.Ref{Store: "outcomes", Key: assignment + ".json"}
	}
	return local.Parts{
		Recipient: w.localKey.Recipient(),
		Run:       sandbox.Run,
		Now:       w.now,
		Module:    func(_ context.Context, m routing.Module) (string, error) { return w.moduleFile(m.Digest) },
		Open:      w.openSealed,
		Save: func(ctx context.Context, to sallyport.Ref, recipient string, fill func(io.Writer) error) (sallyport.SealedRef, error) {
			return gateway.SealTo(ctx, w.hold, to, recipient, time.Time{}, fill)
		},
		Remember: func(ctx context.Context, o routing.Outcome) error {
			o.Log = "" // it may quote data, and this is kept in clear
			b, err := json.Marshal(o)
			if err != nil {
				return err
			}
			_, err = outcomes.Put(ctx, outcome(o.Assignment), func(dst io.Writer) error {
				_, err := dst.Write(b)
				return err
			})
			return err
		},
		Recall: func(ctx context.Context, assignment string) (*routing.Outcome, error) {
			obj, err := outcomes.Open(ctx, outcome(assignment))
			if sallyport.KindOf(err) == sallyport.NotFound {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			defer obj.Close()
			var o routing.Outcome
			return &o, json.NewDecoder(obj).Decode(&o)
		},
	}
}

// openSealed streams the plaintext of a sealed input to the sandbox.
func (w *wiring) openSealed(ctx context.Context, input, key sallyport.SealedRef) (io.ReadCloser, error) {
	wrapped, err := w.hold.Open(ctx, key.Ref)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(wrapped, 64<<10))
	wrapped.Close()
	if err != nil {
		return nil, err
	}
	identity, err := w.localKey.Unwrap(b)
	if err != nil {
		return nil, err
	}
	obj, err := w.hold.Open(ctx, input.Ref)
	if err != nil {
		return nil, err
	}
	plain, err := seal.Reader(obj, identity)
	if err != nil {
		obj.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{plain, obj}, nil
}

func (w *wiring) openNetwork(ctx context.Context, c network.Config) (routing.Backend, error) {
	if c.Dir == "" {
		c.Dir = filepath.Join(w.cfg.State, "network")
	}
	c.Dir = w.cfg.path(c.Dir)
	n, err := network.Open(ctx, c, network.Parts{
		Now: w.now, Log: w.log,
		Open: func(ctx context.Context, ref sallyport.Ref) (io.ReadCloser, int64, error) {
			obj, err := w.hold.Open(ctx, ref)
			if err != nil {
				return nil, 0, err
			}
			return obj, obj.Info().Size, nil
		},
		Save: func(ctx context.Context, to sallyport.Ref, fill func(io.Writer) error) (sallyport.SealedRef, error) {
			return gateway.PutSealed(ctx, w.hold, to, "", time.Time{}, fill)
		},
		Module: func(_ context.Context, d sallyport.Digest) (io.ReadCloser, error) {
			file, err := w.moduleFile(d)
			if err != nil {
				return nil, err
			}
			return os.Open(file)
		},
	})
	if err != nil {
		return nil, err
	}
	w.network = n
	return n, nil
}

// decoder returns how a kind decodes its own configuration: from the file,
// with line numbers, or from the default where the file says nothing.
func (c *Config) decoder(path string, k Kind) func(any) error {
	if c.doc.Has(path) {
		return c.doc.Section(path, "kind")
	}
	return func(into any) error {
		b, err := strict.Marshal(k.Config)
		if err != nil {
			return err
		}
		d, err := strict.Parse("default", b)
		if err != nil {
			return err
		}
		return d.Decode(into)
	}
}

func configError(err error) error {
	if _, ok := errors.AsType[*sallyport.Error](err); ok {
		return err
	}
	return sallyport.E("configuration", sallyport.Invalid, err, "`sallyport kinds` lists what this binary can do.")
}

func (c *Config) hierarchy(name string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(c.path(c.Hierarchies))
	if err != nil {
		return nil, sallyport.E("hierarchy "+name, sallyport.NotFound, err, "Set `hierarchies:` in the configuration.")
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, sallyport.E("hierarchy "+name, sallyport.NotFound, err, "Put the file into the hierarchies folder.")
	}
	return f, nil
}

func newRunner() *anonymize.Runner {
	var fs []anonymize.Format
	for _, f := range formats() {
		fs = append(fs, f.Format)
	}
	return anonymize.NewRunner(fs, transforms())
}

func loadOrMakeKey(path string) (*seal.Key, error) {
	if _, err := os.Stat(path); err == nil {
		return seal.Load(path)
	}
	k, err := seal.Generate()
	if err != nil {
		return nil, err
	}
	return k, k.Save(path)
}

// kindsCmd prints what this binary can do.
type kindsCmd struct{}

func (kindsCmd) Run(a *app) error {
	type kind struct {
		Noun string `json:"noun"`
		Name string `json:"name"`
		Doc  string `json:"doc"`
	}
	var kinds []kind
	for _, f := range formats() {
		kinds = append(kinds, kind{"format", f.Name(), f.doc})
	}
	for _, t := range transforms() {
		kinds = append(kinds, kind{"transform", t.Name(), t.Doc()})
	}
	kinds = append(kinds, kindsOf(opener{}.stores(), func(n, d string) kind { return kind{"store", n, d} })...)
	kinds = append(kinds, kindsOf(opener{}.issuers(), func(n, d string) kind { return kind{"issuer", n, d} })...)
	kinds = append(kinds, kindsOf((&wiring{}).backends(), func(n, d string) kind { return kind{"backend", n, d} })...)
	for name, m := range algorithms() {
		kinds = append(kinds, kind{"algorithm", name, m.doc})
	}
	if a.json {
		return a.printJSON(kinds)
	}
	var rows [][]string
	for _, k := range kinds {
		rows = append(rows, []string{k.Noun, k.Name, k.Doc})
	}
	table(a.out, []string{"what", "name", "doc"}, rows)
	return nil
}

func kindsOf[T, K any](s plug.Set[T], as func(name, doc string) K) []K {
	var out []K
	for _, k := range s.Kinds() {
		out = append(out, as(k.Name, k.Doc))
	}
	return out
}
