package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/routing"
	"sallyport/routing/backendtest"
)

func TestMain(m *testing.M) {
	if sandbox.Child() {
		sandbox.Main()
	}
	os.Exit(m.Run())
}

// guest builds the program that these tests run. It is never built to detect
// races, as the test may be: such a program wants terabytes of address space.
func guest(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("native programs run on Linux only")
	}
	path := filepath.Join(t.TempDir(), "guest")
	build := exec.Command("go", "build", "-o", path, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	return path
}

// world is the parts in memory. Sealing is a bit flip: enough to see that what
// is kept is not what the module wrote.
type world struct {
	mu       sync.Mutex
	kept     map[sallyport.Ref][]byte
	outcomes map[string]routing.Outcome
	runs     map[string]int
	input    func() io.Reader
	module   string // the program
	refuse   error  // of Remember
}

func newWorld(module string) *world {
	return &world{module: module, kept: map[sallyport.Ref][]byte{}, outcomes: map[string]routing.Outcome{}, runs: map[string]int{},
		input: func() io.Reader { return bytes.NewReader(backendtest.Input) }}
}

func flip(b []byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= 0xff
	}
	return out
}

func (w *world) parts() Parts {
	return Parts{
		Recipient: "age1node",
		Open: func(_ context.Context, input, key sallyport.SealedRef) (io.ReadCloser, error) {
			if key.Recipient != "age1node" {
				return nil, sallyport.Errorf("open", sallyport.Denied, "", "the key is another's")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.runs[input.Ref.Version]++
			return io.NopCloser(w.input()), nil
		},
		Save: func(_ context.Context, to sallyport.Ref, recipient string, fill func(io.Writer) error) (sallyport.SealedRef, error) {
			var buf bytes.Buffer
			if err := fill(&buf); err != nil {
				return sallyport.SealedRef{}, err
			}
			sealed := flip(buf.Bytes())
			w.mu.Lock()
			defer w.mu.Unlock()
			w.kept[to] = sealed
			return sallyport.SealedRef{Ref: to, Digest: sallyport.DigestOf(sealed), Size: int64(len(sealed)), Recipient: recipient}, nil
		},
		Module: func(_ context.Context, m routing.Module) (string, error) {
			if m.Name != "test" {
				return "", sallyport.Errorf("module", sallyport.NotFound, "", "no module %s", m.Name)
			}
			return w.module, nil
		},
		Recall: func(_ context.Context, id string) (*routing.Outcome, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if o, ok := w.outcomes[id]; ok {
				return &o, nil
			}
			return nil, nil
		},
		Remember: func(_ context.Context, o routing.Outcome) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refuse == nil {
				w.outcomes[o.Assignment] = o
			}
			return w.refuse
		},
		Run: sandbox.Run,
		Now: time.Now,
	}
}

func (w *world) executions(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[id]
}

func (w *world) stored(ref sallyport.Ref) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.kept[ref]
	return ok
}

func assign(n routing.Node, id string, does backendtest.Behavior) routing.Assignment {
	return routing.Assignment{ID: id, Node: n, Key: sallyport.SealedRef{Recipient: n.Recipient},
		Result: sallyport.Ref{Store: "hold", Key: "results/" + id},
		Task: routing.Task{Job: "j1", Module: routing.Module{Name: "test", Runner: "native", Args: []string{string(does)}},
			Side: sallyport.Local, Input: sallyport.SealedRef{Ref: sallyport.Ref{Store: "hold", Key: "in", Version: id}},
			Recipient: "age1result", MemoryMB: 512, Walltime: time.Minute, Copies: 1}}
}

func open(t *testing.T, w *world) *Backend {
	t.Helper()
	b, err := New(Config{Region: "EU", Slots: 2, MemoryMB: 1024, Native: true}, w.parts())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	module := guest(t)
	backendtest.Run(t, func(t *testing.T) (routing.Backend, backendtest.Fixture) {
		w := newWorld(module)
		b := open(t, w)
		return b, backendtest.Fixture{
			Assign: func(_ *testing.T, n routing.Node, id string, does backendtest.Behavior) routing.Assignment {
				return assign(n, id, does)
			},
			Result:     func(_ *testing.T, ref sallyport.SealedRef) []byte { return flip(w.kept[ref.Ref]) },
			Stored:     func(_ *testing.T, a routing.Assignment) bool { return w.stored(a.Result) },
			Executions: w.executions,
			Reopen: func(t *testing.T) routing.Backend {
				b.Close()
				return open(t, w)
			},
		}
	})
}

func thisNode(t *testing.T, b *Backend) routing.Node {
	t.Helper()
	ns, err := b.Nodes(t.Context())
	if err != nil || len(ns) != 1 {
		t.Fatalf("Nodes = %v, %v", ns, err)
	}
	return ns[0]
}

// last returns how a run ends.
func last(t *testing.T, b *Backend, a routing.Assignment) (routing.Event, error) {
	t.Helper()
	r, err := b.Start(t.Context(), a)
	if err != nil {
		return routing.Event{}, err
	}
	var end routing.Event
	for e, err := range r.Events(t.Context()) {
		if err != nil {
			return end, err
		}
		end = e
	}
	return end, nil
}

// What runs when the backend closes is lost, not failed: it runs again.
func TestCloseRemembersNothing(t *testing.T) {
	w := newWorld(guest(t))
	b := open(t, w)
	a := assign(thisNode(t, b), "j1-1-local", backendtest.Hang)
	r, err := b.Start(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	for e := range r.Events(t.Context()) {
		if e.State == "running" {
			break
		}
	}
	b.Close()
	if end, err := last(t, b, a); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("started on a closed backend: %+v, %v", end, err)
	}
	for _, err = range r.Events(t.Context()) {
	}
	if sallyport.KindOf(err) != sallyport.Unavailable || len(w.outcomes) > 0 {
		t.Fatalf("%v, outcomes %v", err, w.outcomes)
	}
	a.Task.Module.Args = []string{string(backendtest.Echo)}
	if end, err := last(t, open(t, w), a); err != nil || end.Outcome.Failure != "" || w.executions(a.ID) != 2 {
		t.Fatalf("%+v, %v", end, err)
	}
}

// An outcome that could not be kept is no outcome.
func TestOutcomeIsDurableBeforeItIsTold(t *testing.T) {
	w := newWorld(guest(t))
	w.refuse = errors.New("the disk is full")
	b := open(t, w)
	a := assign(thisNode(t, b), "j1-1-local", backendtest.Echo)
	if end, err := last(t, b, a); sallyport.KindOf(err) != sallyport.Unavailable || end.State != "lost" {
		t.Fatalf("%+v, %v", end, err)
	}
	w.mu.Lock()
	w.refuse = nil
	w.mu.Unlock()
	if end, err := last(t, b, a); err != nil || end.Outcome.Failure != "" {
		t.Fatalf("%+v, %v", end, err)
	}
}

func TestTornInputIsAFailure(t *testing.T) {
	w := newWorld(guest(t))
	w.input = func() io.Reader {
		return io.MultiReader(strings.NewReader("first half"), torn{})
	}
	b := open(t, w)
	a := assign(thisNode(t, b), "j1-1-local", backendtest.Echo)
	end, err := last(t, b, a)
	if err != nil || !strings.Contains(end.Outcome.Failure, "torn") || end.Outcome.Claim != "" || w.stored(a.Result) {
		t.Fatalf("%+v, %v", end, err)
	}
}

type torn struct{}

func (torn) Read([]byte) (int, error) { return 0, errors.New("torn") }

func TestBadAssignments(t *testing.T) {
	w := newWorld(guest(t))
	b := open(t, w)
	for name, spoil := range map[string]func(*routing.Assignment){
		"no ID":        func(a *routing.Assignment) { a.ID = "" },
		"other node":   func(a *routing.Assignment) { a.Node.ID = "elsewhere" },
		"runner":       func(a *routing.Assignment) { a.Task.Module.Runner = "docker" },
		"no memory":    func(a *routing.Assignment) { a.Task.MemoryMB = 0 },
		"great memory": func(a *routing.Assignment) { a.Task.MemoryMB = 1 << 20 },
		"no walltime":  func(a *routing.Assignment) { a.Task.Walltime = 0 },
	} {
		a := assign(thisNode(t, b), "j1-1-local", backendtest.Echo)
		spoil(&a)
		if _, err := b.Start(t.Context(), a); sallyport.KindOf(err) != sallyport.Invalid && sallyport.KindOf(err) != sallyport.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(*routing.Assignment){
		"module": func(a *routing.Assignment) { a.Task.Module.Name = "absent" },
		"key":    func(a *routing.Assignment) { a.Key.Recipient = "age1other" },
	} {
		a := assign(thisNode(t, b), "j2-1-"+name, backendtest.Echo)
		spoil(&a)
		if end, err := last(t, b, a); err != nil || end.Outcome.Failure == "" || w.stored(a.Result) {
			t.Errorf("%s: %+v, %v", name, end, err)
		}
	}
}

// Slots bound how many run at once.
func TestSlots(t *testing.T) {
	w := newWorld("")
	p := w.parts()
	var mu sync.Mutex
	now, most := 0, 0
	gate := make(chan struct{})
	p.Run = func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-gate
		mu.Lock()
		now--
		mu.Unlock()
		return sandbox.Result{}, nil
	}
	b, err := New(Config{Slots: 2, MemoryMB: 1024}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var runs []routing.Run
	for i := range 6 {
		a := assign(thisNode(t, b), fmt.Sprintf("j1-%d-local", i), backendtest.Echo)
		a.Task.Module.Runner = "wasm"
		r, err := b.Start(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	for range runs {
		gate <- struct{}{}
	}
	for _, r := range runs {
		for _, err := range r.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if most > 2 {
		t.Fatalf("%d ran at once", most)
	}
}

// Old runs leave memory; what is remembered of them does not.
func TestEndedRunsAreForgottenInMemoryOnly(t *testing.T) {
	w := newWorld("")
	p := w.parts()
	p.Run = func(context.Context, sandbox.Spec) (sandbox.Result, error) { return sandbox.Result{}, nil }
	b, err := New(Config{MemoryMB: 1024}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	one := func(i int) routing.Assignment {
		a := assign(thisNode(t, b), fmt.Sprintf("j1-%d-local", i), backendtest.Echo)
		a.Task.Module.Runner = "wasm"
		return a
	}
	for i := range keepEnded + 20 {
		if _, err := last(t, b, one(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.runs) > keepEnded {
		t.Errorf("%d runs in memory", len(b.runs))
	}
	if _, err := last(t, b, one(0)); err != nil || w.executions("j1-0-local") != 1 {
		t.Errorf("%v, executed %d times", err, w.executions("j1-0-local"))
	}
}

func TestHardware(t *testing.T) {
	info := "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz: fast\nmodel name\t: other\n"
	if got := field(strings.NewReader(info), "model name"); got != "Some CPU @ 2.0GHz: fast" {
		t.Errorf("model name %q", got)
	}
	if got := kibibytes(field(strings.NewReader("MemTotal:       24599232 kB\n"), "MemTotal")); got != 24599232 {
		t.Errorf("MemTotal %d", got)
	}
	if got := kibibytes("many"); got != 0 {
		t.Errorf("no number is %d", got)
	}
	h := hardware()
	if h.Cores < 1 || runtime.GOOS == "linux" && h.MemoryMB < 1 {
		t.Errorf("this machine is %+v", h)
	}
}
