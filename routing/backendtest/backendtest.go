// Package backendtest is what every routing.Backend must do, as tests. A
// backend's own test calls [Run] with a way to make one and a [Fixture].
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/routing"
)

// Behavior is what a test wants a module to do.
type Behavior string

const (
	Echo Behavior = "echo" // copies its input to its result, ends with 0
	Fail Behavior = "fail" // writes half a result and "it failed" as its log, ends with 3
	Hang Behavior = "hang" // reads its input and never ends
)

// Input is what every module gets.
var Input = bytes.Repeat([]byte("a line of the input\n"), 1000)

// Fixture is the world around the backend under test.
type Fixture struct {
	// Assign makes ready an assignment to the node: its input is Input, sealed,
	// and its module behaves as told.
	Assign func(t *testing.T, n routing.Node, id string, does Behavior) routing.Assignment
	// Result opens a sealed result.
	Result func(t *testing.T, ref sallyport.SealedRef) []byte
	// Stored reports whether anything is kept where the assignment's result goes.
	Stored func(t *testing.T, a routing.Assignment) bool
	// Executions is how often the assignment's module was started.
	Executions func(id string) int
	// Reopen ends the backend and returns another over the same durable state,
	// as after a restart. nil skips those tests.
	Reopen func(t *testing.T) routing.Backend
}

// Run tests a backend; open is called once for each test and cleans up with
// t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) (routing.Backend, Fixture)) {
	for name, test := range map[string]func(*testing.T, routing.Backend, Fixture){
		"nodes are described":                    nodes,
		"a result comes back as claimed":         result,
		"started twice runs once":                twice,
		"started at once from everywhere":        race,
		"events begin anew for each who asks":    replay,
		"who stops listening stops nothing":      listener,
		"a failure is an outcome without result": failure,
		"walltime ends a run":                    walltime,
		"cancel ends a run":                      cancel,
		"cancel before the start":                cancelFirst,
		"an outcome outlives the process":        restart,
	} {
		t.Run(name, func(t *testing.T) {
			b, f := open(t)
			test(t, b, f)
		})
	}
}

// node returns the backend's first node.
func node(t *testing.T, b routing.Backend) routing.Node {
	t.Helper()
	ns, err := b.Nodes(t.Context())
	if err != nil || len(ns) == 0 {
		t.Fatalf("Nodes = %v, %v: a node is needed", ns, err)
	}
	return ns[0]
}

func start(t *testing.T, b routing.Backend, a routing.Assignment) routing.Run {
	t.Helper()
	r, err := b.Start(t.Context(), a)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	if r.ID() != a.ID {
		t.Fatalf("the run is called %q, its assignment %q", r.ID(), a.ID)
	}
	return r
}

// follow reads a run's events to the end and checks their form.
func follow(ctx context.Context, r routing.Run) (events []routing.Event, err error) {
	for e, err := range r.Events(ctx) {
		if err != nil {
			return events, err
		}
		if n := len(events); n > 0 && events[n-1].Outcome != nil {
			return events, errors.New("an event comes after the outcome")
		}
		switch e.State {
		case "queued", "leased", "running", "finished", "lost":
		default:
			return events, fmt.Errorf("unknown state %q", e.State)
		}
		if e.Time.IsZero() || (e.Outcome != nil) != (e.State == "finished") {
			return events, fmt.Errorf("event without a time, or an outcome without its state: %+v", e)
		}
		events = append(events, e)
	}
	if len(events) == 0 || events[len(events)-1].Outcome == nil {
		return events, errors.New("the events end without an outcome or an error")
	}
	return events, nil
}

func outcome(t *testing.T, r routing.Run) routing.Outcome {
	t.Helper()
	events, err := follow(t.Context(), r)
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	return *events[len(events)-1].Outcome
}

func nodes(t *testing.T, b routing.Backend, f Fixture) {
	if b.Name() == "" {
		t.Error("the backend has no name")
	}
	ns, err := b.Nodes(t.Context())
	if err != nil || len(ns) == 0 {
		t.Fatalf("Nodes = %v, %v", ns, err)
	}
	seen := map[string]bool{}
	for _, n := range ns {
		h := n.Hardware
		if n.ID == "" || seen[n.ID] || n.Operator == "" || n.Recipient == "" || n.Backend != b.Name() || n.Price < 0 || n.Seen.IsZero() {
			t.Errorf("node %+v is described badly", n)
		}
		if n.Side != sallyport.Local && n.Side != sallyport.Outside {
			t.Errorf("node %s is on side %q", n.ID, n.Side)
		}
		if h.Cores < 1 || h.MemoryMB < 1 || h.OS == "" || h.Arch == "" || len(h.Runners) == 0 {
			t.Errorf("node %s has hardware %+v", n.ID, h)
		}
		seen[n.ID] = true
	}
}

func result(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Echo)
	o := outcome(t, start(t, b, a))
	switch {
	case o.Failure != "" || o.Exit != 0:
		t.Fatalf("failed: %+v", o)
	case o.Assignment != a.ID || o.Node != a.Node.ID || o.Seconds < 0:
		t.Errorf("outcome of something else: %+v", o)
	case o.Claim != sallyport.DigestOf(Input):
		t.Errorf("claims %s, should %s", o.Claim, sallyport.DigestOf(Input))
	case o.Result.Ref.Store != a.Result.Store || o.Result.Ref.Key != a.Result.Key || o.Result.Recipient != a.Task.Recipient || o.Result.Size <= 0 || o.Result.Digest == "":
		t.Errorf("result %+v was to go to %v for %s", o.Result, a.Result, a.Task.Recipient)
	case !bytes.Equal(f.Result(t, o.Result), Input):
		t.Error("the result is not what the module wrote")
	}
}

func twice(t *testing.T, b routing.Backend, f Fixture) {
	n := node(t, b)
	a := f.Assign(t, n, "j1-1-a", Echo)
	first := outcome(t, start(t, b, a))
	if second := outcome(t, start(t, b, a)); second.Result != first.Result || second.Claim != first.Claim {
		t.Errorf("another outcome: %+v and %+v", first, second)
	}
	if got := f.Executions(a.ID); got != 1 {
		t.Errorf("executed %d times", got)
	}
	other := f.Assign(t, n, "j1-2-a", Echo)
	if outcome(t, start(t, b, other)); f.Executions(other.ID) != 1 || f.Executions(a.ID) != 1 {
		t.Error("another assignment is another execution")
	}
}

func race(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Echo)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			r, err := b.Start(t.Context(), a)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := follow(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := f.Executions(a.ID); got != 1 {
		t.Errorf("executed %d times", got)
	}
}

func replay(t *testing.T, b routing.Backend, f Fixture) {
	r := start(t, b, f.Assign(t, node(t, b), "j1-1-a", Echo))
	first, err := follow(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := follow(t.Context(), r)
	if err != nil || len(again) != len(first) {
		t.Fatalf("first %+v, then %+v, %v", first, again, err)
	}
	for i := range first {
		if again[i].State != first[i].State || !again[i].Time.Equal(first[i].Time) {
			t.Errorf("first %+v, then %+v", first[i], again[i])
		}
	}
}

func listener(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Hang)
	ctx, stop := context.WithCancel(t.Context())
	r, err := b.Start(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	running(t, r)
	stop() // neither the context of Start nor that of Events bounds the run
	if _, err := follow(ctx, r); sallyport.KindOf(err) != sallyport.Canceled {
		t.Fatalf("who stopped listening is told %v", err)
	}
	running(t, r)
	if err := r.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = follow(t.Context(), r)
}

// running waits until the run is running and reports that it has not ended.
func running(t *testing.T, r routing.Run) {
	t.Helper()
	for e, err := range r.Events(t.Context()) {
		if err != nil || e.Outcome != nil {
			t.Fatalf("it ended: %+v, %v", e, err)
		}
		if e.State == "running" {
			return
		}
	}
	t.Fatal("it never ran")
}

func failure(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Fail)
	o := outcome(t, start(t, b, a))
	if o.Exit != 3 || o.Failure == "" || o.Claim != "" || o.Result != (sallyport.SealedRef{}) {
		t.Errorf("outcome %+v", o)
	}
	if o.Log != "it failed\n" {
		t.Errorf("log %q", o.Log)
	}
	if f.Stored(t, a) {
		t.Error("half a result was kept")
	}
}

func walltime(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Hang)
	a.Task.Walltime = 500 * time.Millisecond
	if o := outcome(t, start(t, b, a)); o.Failure == "" || o.Claim != "" || f.Stored(t, a) {
		t.Errorf("outcome %+v", o)
	}
}

func cancel(t *testing.T, b routing.Backend, f Fixture) {
	a := f.Assign(t, node(t, b), "j1-1-a", Hang)
	r := start(t, b, a)
	running(t, r)
	for range 2 {
		if err := r.Cancel(t.Context()); err != nil {
			t.Fatalf("Cancel: %v", err)
		}
	}
	gaveUp(t, r)
	if f.Stored(t, a) {
		t.Error("a result was kept")
	}
	gaveUp(t, start(t, b, a)) // it stays canceled
	if got := f.Executions(a.ID); got != 1 {
		t.Errorf("executed %d times", got)
	}
}

// gaveUp checks that a run ends with a failure, or is lost.
func gaveUp(t *testing.T, r routing.Run) {
	t.Helper()
	events, err := follow(t.Context(), r)
	if err != nil {
		if sallyport.KindOf(err) != sallyport.Unavailable && sallyport.KindOf(err) != sallyport.Canceled {
			t.Fatalf("Events: %v", err)
		}
		return
	}
	if o := events[len(events)-1].Outcome; o.Failure == "" || o.Claim != "" {
		t.Fatalf("outcome %+v", o)
	}
}

func cancelFirst(t *testing.T, b routing.Backend, f Fixture) {
	c, ok := b.(routing.Canceler)
	if !ok {
		t.Skip("this backend does not cancel by name")
	}
	a := f.Assign(t, node(t, b), "j1-1-a", Echo)
	for range 2 {
		if err := c.Cancel(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := b.Start(t.Context(), a); err == nil {
		gaveUp(t, r)
	}
	if f.Executions(a.ID) != 0 || f.Stored(t, a) {
		t.Error("what was canceled before its start was executed")
	}
}

func restart(t *testing.T, b routing.Backend, f Fixture) {
	if f.Reopen == nil {
		t.Skip("this fixture cannot reopen the backend")
	}
	n := node(t, b)
	done := f.Assign(t, n, "j1-1-a", Echo)
	first := outcome(t, start(t, b, done))
	failed := f.Assign(t, n, "j1-2-a", Fail)
	outcome(t, start(t, b, failed))

	b = f.Reopen(t)
	if again := outcome(t, start(t, b, done)); again.Result != first.Result || again.Claim != first.Claim {
		t.Errorf("first %+v, after the restart %+v", first, again)
	}
	if again := outcome(t, start(t, b, failed)); again.Failure == "" || again.Exit != 3 {
		t.Errorf("a failure became %+v", again)
	}
	if f.Executions(done.ID) != 1 || f.Executions(failed.ID) != 1 {
		t.Errorf("executed %d and %d times", f.Executions(done.ID), f.Executions(failed.ID))
	}
}
