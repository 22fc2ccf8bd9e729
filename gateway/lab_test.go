package gateway_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/transform"
	"sallyport/audit"
	"sallyport/catalog"
	"sallyport/gateway"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/register"
	"sallyport/routing"
	"sallyport/seal"
	"sallyport/seal/keyfile"
	"sallyport/store"
	"sallyport/store/mem"
)

// lab is a gateway over real parts, with memory stores and far nodes that
// really open the parcel with their own key.
type lab struct {
	t       *testing.T
	parts   gateway.Parts
	g       *gateway.Gateway
	far     *farSide
	events  *strings.Builder
	issuer  *spyIssuer
	hold    *mem.Store
	results *mem.Store
	data    *mem.Store

	registerFile string
	keyClock     func() time.Time // of the issuer; leases end by the real one
}

const patients = `id: patients
owner: steward
location: {store: data, key: patients.csv}
format: csv
sensitivity: confidential
purposes: [research]
subject: mrn
columns:
  - {name: mrn, role: direct, mask: {pseudonym: {}}}
  - {name: age, role: quasi, type: integer, mask: {generalize: {width: 20}}}
  - {name: score, role: sensitive, type: number}
`

func table(rows int) string {
	var b strings.Builder
	b.WriteString("mrn,age,score\n")
	for i := range rows {
		fmt.Fprintf(&b, "M%05d,%d,%d.5\n", i, 20+i%40, i%7)
	}
	return b.String()
}

// newLab builds it; change may alter parts before the gateway is made.
func newLab(t *testing.T, change func(*lab)) *lab {
	t.Helper()
	l := &lab{t: t, events: &strings.Builder{}, keyClock: time.Now}
	ctx := t.Context()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	open := func(name string) *mem.Store {
		s, err := mem.Open(name, mem.Config{})
		must(err)
		return s
	}
	l.hold, l.results, l.data = open("hold"), open("results"), open("data")
	l.put("patients.csv", table(360))
	l.put("open.csv", "ward;beds\r\nnorth;12\r\nsouth;7\r\n")
	l.put("notes.csv", strings.NewReplacer("score", "note", ".5\n", " write to m17@ward.example\n").Replace(table(360)))

	cat := filepath.Join(dir, "catalog")
	must(writeFiles(cat, map[string]string{
		"patients.yaml":   patients,
		"fine.yaml":       strings.NewReplacer("id: patients", "id: fine", "width: 20", "width: 1").Replace(patients),
		"restricted.yaml": strings.NewReplacer("id: patients", "id: restricted", "confidential", "restricted").Replace(patients),
		"notes.yaml":      strings.NewReplacer("id: patients", "id: notes", "patients.csv", "notes.csv", "{name: score, role: sensitive, type: number}", "{name: note, role: sensitive}").Replace(patients),
		"open.yaml":       "id: open\nowner: steward\nlocation: {store: data, key: open.csv}\nformat: csv\nsensitivity: internal\npurposes: [research]\ncolumns:\n  - {name: ward, role: insensitive}\n  - {name: beds, role: insensitive, type: integer}\n",
		"nowhere.yaml":    strings.NewReplacer("id: patients", "id: nowhere", "key: patients.csv", "key: absent.csv").Replace(patients),
	}))
	p := &l.parts
	p.Now, p.Log = time.Now, slog.New(slog.DiscardHandler)
	p.Catalog, err = catalog.Open(cat)
	must(err)
	p.Site = map[string]any{
		"people": map[string]any{"ada": map[string]any{"roles": []string{"researcher"}, "projects": []string{"pilot"}}},
		"projects": map[string]any{
			"pilot": map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 10 * sallyport.Unit},
			"some": map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 10 * sallyport.Unit, // sees some rows
				"rows": map[string]any{"patients": map[string]any{"score": []string{"0.5", "1.5"}}}},
			"few": map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 10 * sallyport.Unit,
				"rows": map[string]any{"patients": map[string]any{"mrn": []string{"M00000", "M00001", "M00025"}}}},
		},
	}
	l.registerFile = filepath.Join(dir, "register.json")
	p.Register, err = register.Open(l.registerFile)
	must(err)
	_, _, err = p.Register.Apply("", register.PutGrant{Dataset: "restricted", Project: "pilot", Grant: register.Grant{By: "steward",
		Purposes: []string{"research"}, Reason: "the lab's own", Since: time.Now().Add(-time.Hour), Until: time.Now().AddDate(1, 0, 0)}})
	must(err)
	p.Policy, err = policy.New(ctx, policy.Config{Bundle: policies.FS, Overlay: map[string]any{"catalog": p.Catalog.Data(), "site": p.Site, "register": p.Register.Data()},
		Deadline: 10 * time.Second}) // the race detector is slow
	must(err)
	p.Runner = anonymize.NewRunner([]anonymize.Format{csv.New()}, []anonymize.Transform{transform.Pseudonym{}, transform.Generalize{}, transform.Drop{}})
	keys, err := keyfile.Open(keyfile.Config{Dir: filepath.Join(dir, "keys")}, func() time.Time { return l.keyClock() })
	must(err)
	l.issuer = &spyIssuer{Issuer: keys}
	p.Issuer, p.Deriver = l.issuer, keys
	p.Sources = map[string]store.Store{"data": l.data}
	p.Hold, p.HoldName, p.Results, p.ResultsName = l.hold, "hold", l.results, "results"
	p.Ledger, err = routing.OpenLedger(filepath.Join(dir, "ledger.db"))
	must(err)
	p.Journal, err = gateway.OpenJournal(filepath.Join(dir, "journal.db"))
	must(err)
	p.Audit, err = audit.Open(audit.Config{Path: filepath.Join(dir, "audit.db"), Origin: "lab", Seed: make([]byte, 32), Now: time.Now})
	must(err)
	p.Algorithms = map[string]gateway.Algorithm{"count": {Module: routing.Module{Name: "count", Digest: sallyport.DigestOf([]byte("count")), Runner: "wasm"}}}
	p.Projects = map[string]gateway.Project{"pilot": {Budget: 10 * sallyport.Unit}, "some": {Budget: 10 * sallyport.Unit}, "few": {Budget: 10 * sallyport.Unit}}
	p.MemoryMB, p.Walltime, p.Patience = 64, time.Minute, 50*time.Millisecond
	var mu sync.Mutex
	p.Observe = func(e gateway.Event) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(l.events, "%s %s %s\n", e.Step, e.Phase, e.Text)
	}
	l.far = newFarSide(t, l.hold, "n1", "n2", "n3")
	near := newNearSide(t, l.hold)
	near.now = func() time.Time { return p.Now() }
	l.far.now = near.now
	p.Backends = []routing.Backend{l.far, near}
	if change != nil {
		change(l)
	}
	l.g, err = gateway.New(*p)
	must(err)
	must(l.g.Start(ctx))
	t.Cleanup(func() {
		l.g.Stop()
		_ = p.Audit.Close()
		_ = p.Journal.Close()
		_ = p.Ledger.Close()
		_ = keys.Close()
	})
	return l
}

func (l *lab) put(key, content string) {
	l.t.Helper()
	_, err := l.data.Put(l.t.Context(), sallyport.Ref{Store: "data", Key: key}, func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func request(id, dataset string, where sallyport.Destination) gateway.Request {
	return gateway.Request{ID: sallyport.JobID(id), Project: "pilot", Purpose: "research", Dataset: dataset, Algorithm: "count", Where: where,
		Subject: gateway.Subject{ID: "ada", Roles: []string{"researcher"}, Projects: []string{"pilot"}, Credential: "test"}}
}

func (l *lab) run(req gateway.Request) gateway.Job {
	l.t.Helper()
	if _, err := l.g.Submit(l.t.Context(), req); err != nil {
		l.t.Fatal(err)
	}
	job, err := l.g.Wait(l.t.Context(), req.ID)
	if err != nil {
		l.t.Fatal(err)
	}
	return job
}

// records returns "step phase decision" of every record of a job.
func (l *lab) records(job sallyport.JobID) []audit.Record {
	l.t.Helper()
	var out []audit.Record
	for r, err := range l.parts.Audit.Records(l.t.Context(), audit.Filter{Job: job}) {
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func (l *lab) liveKeys() int {
	l.t.Helper()
	leases, err := l.issuer.List(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	n := 0
	for _, le := range leases {
		if le.Destroyed == nil {
			n++
		}
	}
	return n
}

func (l *lab) inHold() []string {
	l.t.Helper()
	var out []string
	for info, err := range l.hold.List(l.t.Context(), "") {
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, info.Ref.Key)
	}
	return out
}

// spyIssuer tells before a key is fetched, and what was issued.
type spyIssuer struct {
	seal.Issuer
	onFetch func(id string)
}

func (s *spyIssuer) Fetch(ctx context.Context, id string) (*seal.Key, error) {
	if s.onFetch != nil {
		s.onFetch(id)
	}
	return s.Issuer.Fetch(ctx, id)
}

// farSide is a backend whose nodes do what nodes do: unwrap the key with their
// own identity, open the parcel, count its lines, seal the count.
type farSide struct {
	t    *testing.T
	side sallyport.Destination
	name string
	hold store.Store

	mu       sync.Mutex
	keys     map[string]*seal.Key
	nodes    []routing.Node
	runs     map[string]*farRun
	Lies     map[string]func(plain string) (claim, sealed string) // by node
	Seen     map[string]string                                    // node → plaintext it was given
	Refuse   map[string]string                                    // node → failure
	Log      string                                               // what the module says, everywhere
	Block    chan struct{}                                        // if set, runs wait for it or for Cancel
	canceled map[string]bool
	now      func() time.Time
}

func newFarSide(t *testing.T, hold store.Store, names ...string) *farSide {
	return newSide(t, hold, "far", sallyport.Outside, names...)
}

func newNearSide(t *testing.T, hold store.Store) *farSide {
	return newSide(t, hold, "near", sallyport.Local, "here")
}

func newSide(t *testing.T, hold store.Store, backend string, side sallyport.Destination, names ...string) *farSide {
	f := &farSide{t: t, side: side, name: backend, hold: hold, keys: map[string]*seal.Key{}, runs: map[string]*farRun{},
		Lies: map[string]func(string) (string, string){}, Seen: map[string]string{}, Refuse: map[string]string{}, canceled: map[string]bool{}, now: time.Now}
	for i, n := range names {
		k, err := seal.Generate()
		if err != nil {
			t.Fatal(err)
		}
		f.keys[n] = k
		price := sallyport.Money(0)
		if side == sallyport.Outside {
			price = sallyport.Unit / 2 * sallyport.Money(i+1)
		}
		f.nodes = append(f.nodes, routing.Node{ID: n, Operator: "op-" + n, Backend: backend, Side: side, Region: "eu", Recipient: k.Recipient(),
			Price: price, Hardware: routing.Hardware{Cores: 4, MemoryMB: 8192, Runners: []string{"wasm"}}})
	}
	return f
}

func (f *farSide) Name() string { return f.name }

func (f *farSide) Nodes(context.Context) ([]routing.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := append([]routing.Node{}, f.nodes...)
	for i := range out {
		out[i].Seen = f.now()
	}
	return out, nil
}

type farRun struct {
	f    *farSide
	a    routing.Assignment
	once sync.Once
	oc   routing.Outcome
	err  error
	stop chan struct{}
	end  sync.Once
}

func (f *farSide) Start(_ context.Context, a routing.Assignment) (routing.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.runs[a.ID]; ok {
		return r, nil
	}
	r := &farRun{f: f, a: a, stop: make(chan struct{})}
	f.runs[a.ID] = r
	return r, nil
}

func (f *farSide) Cancel(_ context.Context, assignment string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.canceled[assignment] = true
	if r, ok := f.runs[assignment]; ok {
		r.end.Do(func() { close(r.stop) })
	}
	return nil
}

func (r *farRun) ID() string                       { return r.a.ID }
func (r *farRun) Cancel(ctx context.Context) error { return r.f.Cancel(ctx, r.a.ID) }

func (r *farRun) Events(ctx context.Context) iter.Seq2[routing.Event, error] {
	return func(yield func(routing.Event, error) bool) {
		if !yield(routing.Event{Time: time.Now(), State: "running"}, nil) {
			return
		}
		if r.f.Block != nil {
			select {
			case <-r.f.Block:
			case <-r.stop:
			case <-ctx.Done():
			}
		}
		r.once.Do(func() { r.oc, r.err = r.f.execute(ctx, r.a) })
		if r.err != nil {
			yield(routing.Event{}, r.err)
			return
		}
		yield(routing.Event{Time: time.Now(), State: "finished", Outcome: &r.oc}, nil)
	}
}

func (f *farSide) execute(ctx context.Context, a routing.Assignment) (routing.Outcome, error) {
	oc := routing.Outcome{Assignment: a.ID, Node: a.Node.ID, Seconds: 36, Log: f.Log}
	f.mu.Lock()
	refuse, lie := f.Refuse[a.Node.ID], f.Lies[a.Node.ID]
	f.mu.Unlock()
	if refuse != "" {
		oc.Failure, oc.Exit = refuse, -1
		return oc, nil
	}
	read := func(ref sallyport.Ref) (string, error) {
		obj, err := f.hold.Open(ctx, ref)
		if err != nil {
			return "", err
		}
		defer obj.Close()
		b, err := io.ReadAll(obj)
		return string(b), err
	}
	wrapped, err := read(a.Key.Ref)
	if err != nil {
		return oc, err
	}
	key, err := f.keys[a.Node.ID].Unwrap([]byte(wrapped))
	if err != nil {
		return oc, err
	}
	sealed, err := read(a.Task.Input.Ref)
	if err != nil {
		return oc, err
	}
	if sallyport.DigestOf([]byte(sealed)) != a.Task.Input.Digest {
		oc.Failure, oc.Exit = "the parcel is not what was promised", -1
		return oc, nil
	}
	r, err := seal.Reader(strings.NewReader(sealed), key)
	if err != nil {
		return oc, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return oc, err
	}
	f.mu.Lock()
	f.Seen[a.Node.ID] = string(b)
	f.mu.Unlock()
	result := fmt.Sprintf("lines\n%d\n", strings.Count(string(b), "\n"))
	claim := result
	if lie != nil {
		claim, result = lie(result)
	}
	sum := sha256.Sum256([]byte(claim))
	oc.Claim = sallyport.DigestSum(sum[:])
	oc.Result, err = gateway.SealTo(ctx, f.hold, a.Result, a.Task.Recipient, time.Time{}, func(w io.Writer) error {
		_, err := io.WriteString(w, result)
		return err
	})
	return oc, err
}

func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q is not there once", old)
	}
	return strings.Replace(s, old, new, 1)
}
