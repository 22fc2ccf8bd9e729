package network_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/node"
	"sallyport/routing"
	"sallyport/routing/network"
	"sallyport/seal"
)

func TestMain(m *testing.M) {
	if sandbox.Child() {
		sandbox.Main()
	}
	if os.Getenv(envNode) != "" {
		os.Exit(node.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// envNode makes the test binary sallyport-node.
const envNode = "NETWORK_TEST_NODE"

// lab is a gateway's side: a hold of ciphertext, a clock, and the network,
// which can be stopped and opened again.
type lab struct {
	t       *testing.T
	cfg     network.Config
	net     *network.Network
	results *seal.Key
	wasm    []byte

	mu   sync.Mutex
	hold map[string][]byte
	now  time.Duration // ahead of the real clock
}

func newLab(t *testing.T, change ...func(*network.Config)) *lab {
	t.Helper()
	l := &lab{t: t, cfg: network.Config{Dir: t.TempDir(), Lease: 3 * time.Second}, hold: map[string][]byte{}, wasm: []byte("\x00asm")}
	for _, c := range change {
		c(&l.cfg)
	}
	l.results = newKey(t)
	l.open()
	t.Cleanup(func() { l.net.Close() })
	return l
}

func newKey(t *testing.T) *seal.Key {
	t.Helper()
	k, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (l *lab) open() {
	l.t.Helper()
	net, err := network.Open(l.t.Context(), l.cfg, network.Parts{Open: l.read, Save: l.save, Module: l.module, Now: l.clock, Log: testLog(l.t, "gateway")})
	if err != nil {
		l.t.Fatal(err)
	}
	l.net = net
}

func (l *lab) restart() {
	l.t.Helper()
	if err := l.net.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.open()
}

func (l *lab) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.now)
}

func (l *lab) forward(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now += d
}

func (l *lab) read(_ context.Context, ref sallyport.Ref) (io.ReadCloser, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.hold[ref.String()]
	if !ok {
		return nil, 0, sallyport.Errorf("open", sallyport.NotFound, "", "nothing there")
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

func (l *lab) save(_ context.Context, ref sallyport.Ref, fill func(io.Writer) error) (sallyport.SealedRef, error) {
	var b bytes.Buffer
	if err := fill(&b); err != nil {
		return sallyport.SealedRef{}, err
	}
	return l.put(ref, b.Bytes()), nil
}

func (l *lab) put(ref sallyport.Ref, b []byte) sallyport.SealedRef {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold[ref.String()] = b
	return sallyport.SealedRef{Ref: ref, Digest: sallyport.DigestOf(b), Size: int64(len(b))}
}

func (l *lab) module(context.Context, sallyport.Digest) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.wasm)), nil
}

func sealed(t *testing.T, plain []byte, recipient string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := seal.Writer(&b, recipient)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// assignment seals input for a release of its own and wraps that key to n.
func (l *lab) assignment(id string, n routing.Node, input string, args ...string) routing.Assignment {
	l.t.Helper()
	release := newKey(l.t)
	wrapped, err := release.Wrap(n.Recipient)
	if err != nil {
		l.t.Fatal(err)
	}
	ref := func(kind string) sallyport.Ref { return sallyport.Ref{Store: "hold", Key: kind + "/" + id + ".age"} }
	in := l.put(ref("parcels"), sealed(l.t, []byte(input), release.Recipient()))
	in.Recipient, in.Until = release.Recipient(), l.clock().Add(time.Hour)
	return routing.Assignment{ID: id, Node: n, Key: l.put(ref("keys"), wrapped), Result: ref("results"), Task: routing.Task{
		Job: "j1", Module: routing.Module{Name: "upper", Digest: sallyport.DigestOf(l.wasm), Runner: "wasm", Args: args},
		Side: sallyport.Outside, Input: in, Recipient: l.results.Recipient(), MemoryMB: 64, Walltime: time.Minute, Copies: 1,
	}}
}

func (l *lab) start(a routing.Assignment) routing.Run {
	l.t.Helper()
	run, err := l.net.Start(l.t.Context(), a)
	if err != nil {
		l.t.Fatal(err)
	}
	return run
}

// wait follows a run to its end and returns the states it went through.
func (l *lab) wait(run routing.Run) (oc routing.Outcome, states []string, err error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for e, err := range run.Events(ctx) {
		if err != nil {
			return oc, states, err
		}
		states = append(states, e.State)
		if e.Outcome != nil {
			oc = *e.Outcome
		}
	}
	return oc, states, nil
}

func (l *lab) done(run routing.Run) routing.Outcome {
	l.t.Helper()
	oc, states, err := l.wait(run)
	if err != nil {
		l.t.Fatalf("after %v: %v", states, err)
	}
	return oc
}

// result opens what was stored for an outcome.
func (l *lab) result(oc routing.Outcome) string {
	l.t.Helper()
	l.mu.Lock()
	b := l.hold[oc.Result.Ref.String()]
	l.mu.Unlock()
	if sallyport.DigestOf(b) != oc.Result.Digest || int64(len(b)) != oc.Result.Size {
		l.t.Fatal("the stored result is not the one in the outcome")
	}
	r, err := seal.Reader(bytes.NewReader(b), l.results)
	if err != nil {
		l.t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(plain)
}

// far is a node that a test runs.
type far struct {
	t    *testing.T
	cfg  node.Config
	stop context.CancelFunc
	end  chan error
}

func (l *lab) node(name string, change ...func(*node.Config)) (*far, routing.Node) {
	l.t.Helper()
	token, err := l.net.Token(l.t.Context(), "op", time.Hour)
	if err != nil {
		l.t.Fatal(err)
	}
	f := &far{t: l.t, cfg: node.Config{Dir: l.t.TempDir(), Token: token, Name: name, Region: "eu", Price: 5, MemoryMB: 1024, Run: upper, Log: testLog(l.t, name)}}
	for _, c := range change {
		c(&f.cfg)
	}
	f.start()
	return f, l.seen("op-" + name)
}

func (f *far) start() {
	ctx, stop := context.WithCancel(context.Background())
	f.stop, f.end = stop, make(chan error, 1)
	go func() { f.end <- node.Run(ctx, f.cfg) }()
	f.t.Cleanup(f.halt)
}

// halt ends the node and waits for it.
func (f *far) halt() {
	f.stop()
	if err, ok := <-f.end; ok {
		if err != nil {
			f.t.Logf("node ended with %v", err)
		}
		close(f.end)
	}
}

// count says how often an assignment was begun and brought to its end here.
func (f *far) count(id string) (started, finished int) {
	b, err := os.ReadFile(filepath.Join(f.cfg.Dir, "runs.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	return strings.Count(string(b), id+" started\n"), strings.Count(string(b), id+" finished\n")
}

func (l *lab) seen(id string) (found routing.Node) {
	l.t.Helper()
	eventually(l.t, id+" is seen", func() bool {
		nodes, err := l.net.Nodes(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		for _, n := range nodes {
			if n.ID == id {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came about that %s", what)
		case <-tick.C:
		}
	}
}

// upper is a module in upper case.
func upper(_ context.Context, s sandbox.Spec) (sandbox.Result, error) {
	b, err := io.ReadAll(s.Stdin)
	if err != nil {
		return sandbox.Result{}, err
	}
	_, err = s.Stdout.Write(bytes.ToUpper(b))
	return sandbox.Result{Seconds: 0.001, Log: "read it all"}, err
}

// gated is upper, but tells when it begins and waits until it may end.
func gated() (run sandbox.Runner, began chan string, gate chan struct{}) {
	began, gate = make(chan string, 16), make(chan struct{})
	return func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) {
		began <- s.Path
		select {
		case <-gate:
			return upper(ctx, s)
		case <-ctx.Done():
			return sandbox.Result{}, ctx.Err()
		}
	}, began, gate
}

func arrive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		t.Fatal("nothing arrived")
		panic("unreachable")
	}
}

func claim(plain string) sallyport.Digest {
	sum := sha256.Sum256([]byte(plain))
	return sallyport.DigestSum(sum[:])
}

// testLog logs into the test, until it ends.
func testLog(t *testing.T, who string) *slog.Logger {
	w := &testWriter{t: t, who: who}
	t.Cleanup(func() { w.mu.Lock(); defer w.mu.Unlock(); w.t = nil })
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu  sync.Mutex
	t   *testing.T
	who string
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(w.who, fmt.Sprintf("%.600s", strings.TrimSpace(string(p))))
	}
	return len(p), nil
}
