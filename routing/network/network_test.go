package network_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/node"
	"sallyport/routing"
)

func TestRoundTrip(t *testing.T) {
	l := newLab(t)
	f, n := l.node("n1")
	if n.Operator != "op" || n.Backend != "network" || n.Side != sallyport.Outside || n.Region != "eu" || n.Price != 5 ||
		n.Hardware.MemoryMB != 1024 || n.Hardware.Cores == 0 || !strings.HasPrefix(n.Recipient, "age1pq1") {
		t.Fatalf("node is advertised as %+v", n)
	}
	a := l.assignment("j1-1-op-n1", n, "secret row")
	run := l.start(a)
	oc, states, err := l.wait(run)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"queued", "leased", "running", "finished"}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if oc.Failure != "" || oc.Exit != 0 || oc.Assignment != a.ID || oc.Node != n.ID || oc.Result.Ref != a.Result || oc.Log != "read it all" {
		t.Fatalf("outcome %+v", oc)
	}
	if got := l.result(oc); got != "SECRET ROW" || oc.Claim != claim(got) {
		t.Fatalf("result %q, claim %s", got, oc.Claim)
	}
	// The same again, before and after a restart: the same outcome, no second execution.
	again := l.done(l.start(a))
	l.restart()
	l.seen(n.ID)
	if later := l.done(l.start(a)); again != oc || later != oc {
		t.Fatalf("outcomes differ: %+v, %+v, %+v", oc, again, later)
	}
	if s, e := f.count(a.ID); s != 1 || e != 1 {
		t.Fatalf("started %d times, finished %d", s, e)
	}
	other := a
	other.Task.Input.Digest = claim("other")
	if _, err := l.net.Start(t.Context(), other); sallyport.KindOf(err) != sallyport.Conflict {
		t.Fatalf("another assignment with the same ID: %v", err)
	}
}

// TestNothingPlainOnDisk looks through both folders for the input and the result.
func TestNothingPlainOnDisk(t *testing.T) {
	l := newLab(t)
	run, began, gate := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	const secret = "kept nowhere in clear"
	r := l.start(l.assignment("j1-1-op-n1", n, strings.Repeat(secret, 10_000)))
	arrive(t, began)
	look := func() {
		for _, dir := range []string{f.cfg.Dir, l.cfg.Dir} {
			err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return nil // work comes and goes
				}
				b, err := os.ReadFile(p)
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if s := strings.ToLower(string(b)); strings.Contains(s, secret) {
					t.Errorf("%s holds plaintext", p)
				}
				if filepath.Ext(p) == ".json" || filepath.Ext(p) == ".age" {
					if st, err := d.Info(); err == nil && st.Mode().Perm() != 0o600 {
						t.Errorf("%s has mode %v", p, st.Mode())
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	look()
	close(gate)
	if oc := l.done(r); oc.Failure != "" {
		t.Fatal(oc.Failure)
	}
	look()
	eventually(t, "the sealed work is removed", func() bool {
		left, err := os.ReadDir(filepath.Join(f.cfg.Dir, "work"))
		return err == nil && len(left) == 0
	})
}

func TestGatewayRestartsWhileModuleRuns(t *testing.T) {
	l := newLab(t)
	run, began, gate := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	a := l.assignment("j1-1-op-n1", n, "row")
	l.start(a)
	arrive(t, began)
	if err := l.net.Close(); err != nil {
		t.Fatal(err)
	}
	close(gate) // the module ends while nobody listens
	eventually(t, "the module ends", func() bool { _, e := f.count(a.ID); return e == 1 })
	l.open()
	if oc := l.done(l.start(a)); oc.Failure != "" || l.result(oc) != "ROW" {
		t.Fatalf("outcome %+v", oc)
	}
	if s, _ := f.count(a.ID); s != 1 {
		t.Fatalf("started %d times", s)
	}
}

func TestNodeRestarts(t *testing.T) {
	l := newLab(t)
	run, began, gate := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	a := l.assignment("j1-1-op-n1", n, "row")
	r := l.start(a)
	arrive(t, began)
	f.halt() // in the middle: the execution begins anew
	f.cfg.Token = ""
	f.start()
	arrive(t, began)
	if err := l.net.Close(); err != nil {
		t.Fatal(err)
	}
	close(gate)
	eventually(t, "the outcome is kept", func() bool {
		done, err := os.ReadDir(filepath.Join(f.cfg.Dir, "done"))
		return err == nil && len(done) == 1 && filepath.Ext(done[0].Name()) == ".age"
	})
	f.halt() // after its end, before anybody knows: it does not
	l.open()
	f.start()
	if oc := l.done(l.start(a)); oc.Failure != "" || l.result(oc) != "ROW" {
		t.Fatalf("outcome %+v", oc)
	}
	if s, e := f.count(a.ID); s != 2 || e != 1 {
		t.Fatalf("started %d times, finished %d", s, e)
	}
	_ = r
}

func TestLostNode(t *testing.T) {
	l := newLab(t)
	run, began, _ := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	a := l.assignment("j1-1-op-n1", n, "row")
	r := l.start(a)
	arrive(t, began)
	f.halt()
	l.forward(time.Minute)
	if _, states, err := l.wait(r); sallyport.KindOf(err) != sallyport.Unavailable || !slices.Contains(states, "lost") {
		t.Fatalf("after %v: %v", states, err)
	}
	if nodes, err := l.net.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Fatalf("lost node is offered: %v, %v", nodes, err)
	}
	// It comes back: the lost run never runs, another one does.
	f.cfg.Token, f.cfg.Run = "", upper
	f.start()
	l.seen(n.ID)
	if oc := l.done(l.start(l.assignment("j1-2-op-n1", n, "row"))); oc.Failure != "" {
		t.Fatal(oc.Failure)
	}
	if s, e := f.count(a.ID); s != 1 || e != 0 {
		t.Fatalf("lost run started %d times, finished %d", s, e)
	}
	l.restart()
	if _, _, err := l.wait(l.start(a)); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("started again: %v", err)
	}
}

func TestCancel(t *testing.T) {
	l := newLab(t)
	run, began, gate := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	first, second := l.assignment("j1-1-op-n1", n, "row"), l.assignment("j2-1-op-n1", n, "row")
	r1, r2 := l.start(first), l.start(second)
	arrive(t, began)
	canceled := func(r routing.Run, id string) {
		t.Helper()
		for range 2 {
			if err := r.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
			if oc := l.done(r); oc.Failure != "canceled" || oc.Assignment != id || oc.Node != n.ID || oc.Result.Ref.Key != "" {
				t.Fatalf("outcome %+v", oc)
			}
		}
	}
	canceled(r2, second.ID) // it waits behind the first
	canceled(r1, first.ID)  // it runs
	// What was canceled before it was started never starts, across a restart.
	third := l.assignment("j3-1-op-n1", n, "row")
	if err := l.net.Cancel(t.Context(), third.ID); err != nil {
		t.Fatal(err)
	}
	l.restart()
	l.seen(n.ID)
	canceled(l.start(third), third.ID)
	close(gate)
	if oc := l.done(l.start(l.assignment("j4-1-op-n1", n, "row"))); oc.Failure != "" {
		t.Fatal(oc.Failure)
	}
	for id, want := range map[string]int{first.ID: 1, second.ID: 0, third.ID: 0} {
		if s, e := f.count(id); s != want || e != 0 {
			t.Errorf("%s started %d times, finished %d", id, s, e)
		}
	}
}

func TestFailures(t *testing.T) {
	l := newLab(t)
	next := make(chan sandbox.Runner, 1)
	f, n := l.node("n1", func(c *node.Config) {
		c.Run = func(ctx context.Context, s sandbox.Spec) (sandbox.Result, error) { return (<-next)(ctx, s) }
	})
	ends := func(res sandbox.Result, err error) sandbox.Runner {
		return func(_ context.Context, s sandbox.Spec) (sandbox.Result, error) {
			_, _ = io.WriteString(s.Stdout, "half a resu")
			return res, err
		}
	}
	for id, c := range map[string]struct {
		run  sandbox.Runner
		exit int
		want string
	}{
		"walltime": {ends(sandbox.Result{Seconds: 60}, sandbox.ErrWalltime), -1, "its time was over"},
		"memory":   {ends(sandbox.Result{}, sandbox.ErrMemory), -1, "more memory"},
		"crash":    {ends(sandbox.Result{Log: strings.Repeat("\x00", 64<<10)}, sandbox.ErrCrash), -1, "crashed"},
		"exit":     {ends(sandbox.Result{Exit: 3, Log: "no such column"}, nil), 3, "exit code 3"},
	} {
		next <- c.run
		a := l.assignment(id, n, "row")
		oc := l.done(l.start(a))
		if !strings.Contains(oc.Failure, c.want) || oc.Exit != c.exit || oc.Claim != "" || oc.Result.Ref.Key != "" {
			t.Errorf("%s: outcome %+v", id, oc)
		}
		if oc.Seconds > 59 {
			t.Errorf("%s: %v seconds, longer than it was away", id, oc.Seconds)
		}
		l.mu.Lock()
		if _, stored := l.hold[a.Result.String()]; stored {
			t.Errorf("%s: half a result was stored", id)
		}
		l.mu.Unlock()
	}
	// Never run: too large, for another key, tampered with.
	big := l.assignment("big", n, "row")
	big.Task.MemoryMB = 2048
	foreign := l.assignment("foreign", n, "row")
	wrapped, err := newKey(t).Wrap(newKey(t).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	foreign.Key = l.put(foreign.Key.Ref, wrapped)
	damaged := l.assignment("damaged", n, "row")
	l.mu.Lock()
	b := slices.Clone(l.hold[damaged.Task.Input.Ref.String()])
	b[len(b)-1] ^= 1
	l.hold[damaged.Task.Input.Ref.String()] = b
	l.mu.Unlock()
	for _, a := range []routing.Assignment{big, foreign, damaged} {
		if oc := l.done(l.start(a)); oc.Failure == "" || oc.Exit != -1 {
			t.Errorf("%s: outcome %+v", a.ID, oc)
		}
		if s, _ := f.count(a.ID); s != 0 {
			t.Errorf("%s ran", a.ID)
		}
	}
}

// TestNodeThatLies has a node change its result: its claim and its sealed
// result agree with each other, and differ from an honest node's.
func TestNodeThatLies(t *testing.T) {
	l := newLab(t)
	_, honest := l.node("n1")
	_, liar := l.node("n2", func(c *node.Config) { c.Tamper = func(w io.Writer) io.Writer { return lie{w} } })
	a, b := l.done(l.start(l.assignment("j1-1-op-n1", honest, "row"))), l.done(l.start(l.assignment("j1-1-op-n2", liar, "row")))
	if a.Claim == b.Claim || l.result(a) != "ROW" || l.result(b) != "RPX" || b.Claim != claim("RPX") {
		t.Fatalf("honest %+v, liar %+v", a, b)
	}
}

type lie struct{ w io.Writer }

func (l lie) Write(p []byte) (int, error) {
	b := slices.Clone(p)
	for i := 1; i < len(b); i++ {
		b[i]++
	}
	return l.w.Write(b)
}

func TestRemove(t *testing.T) {
	l := newLab(t)
	run, began, _ := gated()
	f, n := l.node("n1", func(c *node.Config) { c.Run = run })
	r := l.start(l.assignment("j1-1-op-n1", n, "row"))
	arrive(t, began)
	if err := l.net.Remove(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.wait(r); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("run of a removed node: %v", err)
	}
	if err := arrive(t, f.end); sallyport.KindOf(err) != sallyport.Denied {
		t.Fatalf("removed node ended with %v", err)
	}
	close(f.end)
	l.restart()
	f.cfg.Token = ""
	f.start()
	if err := arrive(t, f.end); sallyport.KindOf(err) != sallyport.Denied {
		t.Fatalf("removed node came back and ended with %v", err)
	}
	close(f.end)
	if _, _, err := l.wait(l.start(l.assignment("j1-2-op-n1", n, "row"))); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("job for a removed node: %v", err)
	}
	if err := l.net.Remove(t.Context(), "nobody"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Fatalf("nobody removed: %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	l := newLab(t)
	_, n := l.node("n1")
	for what, change := range map[string]func(*routing.Assignment){
		"local by policy": func(a *routing.Assignment) { a.Task.Side = sallyport.Local },
		"unknown side":    func(a *routing.Assignment) { a.Task.Side = "" },
		"native":          func(a *routing.Assignment) { a.Task.Module.Runner = "native" },
		"no limit":        func(a *routing.Assignment) { a.Task.Walltime = 0 },
		"no key":          func(a *routing.Assignment) { a.Key.Digest = "" },
		"bad ID":          func(a *routing.Assignment) { a.ID = "j1.>" },
		"bad node":        func(a *routing.Assignment) { a.Node.ID = "*" },
		"other backend":   func(a *routing.Assignment) { a.Node.Backend = "local" },
		"no result":       func(a *routing.Assignment) { a.Result = sallyport.Ref{} },
		"no recipient":    func(a *routing.Assignment) { a.Task.Recipient = "" },
	} {
		a := l.assignment("j1-1-op-n1", n, "row")
		change(&a)
		if _, err := l.net.Start(t.Context(), a); err == nil {
			t.Errorf("%s: started", what)
		}
	}
}
