package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/routing"
	"sallyport/seal"
	"sallyport/store"
)

func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestThroughBothDoors(t *testing.T) {
	l := newLab(t, nil)
	job := l.run(request("burst", "patients", sallyport.Outside))
	if job.State != gateway.Done {
		t.Fatalf("%s: %v %s\n%s", job.State, job.Reasons, job.Hint, l.events)
	}
	r, err := l.g.OpenResult(t.Context(), "burst")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r)
	if string(b) != "lines\n361\n" {
		t.Errorf("result %q", b)
	}
	// Two nodes at 0.5 and 1.0 an hour for 36 s each.
	if want := sallyport.Unit * 15 / 1000; job.Cost != want {
		t.Errorf("cost %s, want %s", job.Cost, want)
	}
	if len(job.Nodes) != 2 {
		t.Errorf("nodes %v", job.Nodes)
	}
	for node, seen := range l.far.Seen {
		if strings.Contains(seen, "M0000") || !strings.Contains(seen, "[20,40)") {
			t.Errorf("%s was given %.80q", node, seen)
		}
	}
	if n := l.liveKeys(); n != 0 {
		t.Errorf("%d keys outlived the job", n)
	}
	if left := l.inHold(); len(left) != 0 {
		t.Errorf("left in the hold: %v", left)
	}
	orphans, err := l.parts.Audit.Orphans()
	if err != nil || len(orphans) != 0 {
		t.Errorf("orphans %v, %v", orphans, err)
	}
	var steps []string
	for _, r := range l.records("burst") {
		if r.Entry.Phase == audit.Outcome {
			steps = append(steps, r.Entry.Step)
		}
	}
	if got, want := strings.Join(steps, " · "), "admit · hold · release · place · hand over · run · judge · verify · review · keep · close"; got != want {
		t.Errorf("steps %s", got)
	}
	history, err := l.g.Releases("patients")
	if err != nil || len(history) != 1 || history[0].Risk.SmallestClass != 180 {
		t.Errorf("history %+v, %v", history, err)
	}
}

// Invariant 1: no record, no act.
func TestNoRecordNoAct(t *testing.T) {
	l := newLab(t, func(l *lab) { l.parts.Retry = 5 * time.Millisecond })
	if err := l.parts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	l.issuer.onFetch = func(string) { t.Error("a key was fetched without a record") }
	events, stop := l.g.Watch("burst")
	defer stop()
	if _, err := l.g.Submit(t.Context(), request("burst", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	begun := 0
	for e := range events { // it tries again and again
		if e.Phase == "begin" {
			if begun++; begun == 3 {
				break
			}
		}
	}
	l.g.Stop()
	job, err := l.g.Job("burst")
	if err != nil {
		t.Fatal(err)
	}
	if job.State.Final() {
		t.Errorf("the job is %s although nothing could be recorded", job.State)
	}
	leases, err := l.issuer.List(t.Context())
	if err != nil || len(leases) != 0 {
		t.Errorf("keys were made: %v, %v", leases, err)
	}
	if len(l.far.Seen) != 0 || len(l.inHold()) != 0 {
		t.Error("bytes moved without a record")
	}
}

// While records cannot be made the job waits where it is; when they can again,
// it goes on without a restart.
func TestWaitsForTheRecord(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	var away atomic.Bool
	l := newLab(t, func(l *lab) {
		var err error
		l.parts.Retry = 5 * time.Millisecond
		l.parts.Audit, err = audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "signed.db"), Origin: "lab", Public: key.Public().(ed25519.PublicKey),
			Sign: func(msg []byte) ([]byte, error) {
				if away.Load() {
					return nil, errors.New("sealed")
				}
				return ed25519.Sign(key, msg), nil
			}})
		if err != nil {
			t.Fatal(err)
		}
	})
	tried := make(chan struct{}, 100)
	l.issuer.onFetch = func(string) {
		select {
		case tried <- struct{}{}:
		default:
		}
	}
	away.Store(true)
	if _, err := l.g.Submit(t.Context(), request("burst", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	events, stop := l.g.Watch("burst")
	defer stop()
	begun := 0
	for e := range events { // it tries again and again, and does nothing
		if e.Phase == "begin" {
			if begun++; begun == 3 {
				break
			}
		}
	}
	select {
	case <-tried:
		t.Error("a key was fetched while nothing could be recorded")
	default:
	}
	away.Store(false)
	job, err := l.g.Wait(t.Context(), "burst")
	if err != nil || job.State != gateway.Done {
		t.Errorf("%s %v %v", job.State, job.Reasons, err)
	}
}

// A result that was verified and paid waits for room; it is not thrown away.
func TestAPaidResultWaitsForRoom(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	l := newLab(t, func(l *lab) {
		l.parts.Retry = 5 * time.Millisecond
		l.parts.Results = sometimesFull{l.results, &full}
	})
	events, stop := l.g.Watch("burst")
	defer stop()
	if _, err := l.g.Submit(t.Context(), request("burst", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for e := range events {
		if e.Step == "keep" && e.Phase == "begin" {
			if kept++; kept == 3 {
				break
			}
		}
	}
	full.Store(false)
	job, err := l.g.Wait(t.Context(), "burst")
	if err != nil || job.State != gateway.Done || job.Cost == 0 {
		t.Fatal(job.State, job.Reasons, err)
	}
	if want := sallyport.Unit * 15 / 1000; job.Cost != want {
		t.Errorf("paid %s, want %s once", job.Cost, want)
	}
}

// Invariant 2: no key is fetched before door 2 has allowed, durably.
func TestNoKeyBeforeRelease(t *testing.T) {
	l := newLab(t, nil)
	fetched := 0
	l.issuer.onFetch = func(id string) {
		fetched++
		allowed, announced := false, false
		for _, r := range l.records("burst") {
			e := r.Entry
			allowed = allowed || e.Step == "release" && e.Phase == audit.Outcome && e.Decision == "allow"
			announced = announced || e.Step == "hand over" && e.Phase == audit.Intent && e.Node != "" && e.Lease != ""
		}
		if !allowed || !announced {
			t.Errorf("key of lease %s fetched: release recorded %v, hand-over announced %v", id, allowed, announced)
		}
	}
	if job := l.run(request("burst", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatal(job.State, job.Reasons)
	}
	if fetched == 0 {
		t.Error("the test saw no fetch")
	}
}

// Door 2 says no: the key is destroyed, the ciphertext gone, both recorded.
func TestRefusedAtDoorTwo(t *testing.T) {
	l := newLab(t, nil)
	l.issuer.onFetch = func(string) { t.Error("the key of a refused release was fetched") }
	job := l.run(request("fine", "fine", sallyport.Outside))
	if job.State != gateway.Refused {
		t.Fatal(job.State, job.Reasons)
	}
	leases, err := l.issuer.List(t.Context())
	if err != nil || len(leases) != 1 || leases[0].Destroyed == nil {
		t.Errorf("leases %+v, %v", leases, err)
	}
	if left := l.inHold(); len(left) != 0 {
		t.Errorf("left in the hold: %v", left)
	}
	recs := l.records("fine")
	last := recs[len(recs)-1].Entry
	if last.Step != "discard" || last.Phase != audit.Outcome {
		t.Errorf("last record is %s %s", last.Step, last.Phase)
	}
	if len(l.far.Seen) != 0 {
		t.Error("a node saw data")
	}
}

// Door 2's no is final for any reason of its own, not only for a small class:
// here the classes are large, and a column that leaves holds addresses.
func TestRefusedForWhatWasFound(t *testing.T) {
	l := newLab(t, nil)
	l.issuer.onFetch = func(string) { t.Error("the key of a refused release was fetched") }
	job := l.run(request("notes", "notes", sallyport.Outside))
	if job.State != gateway.Refused || !strings.Contains(strings.Join(job.Reasons, " "), "email") {
		t.Fatal(job.State, job.Reasons)
	}
	if strings.Contains(strings.Join(job.Reasons, " "), "m17") {
		t.Errorf("the reason quotes the data: %v", job.Reasons)
	}
	if l.liveKeys() != 0 || len(l.inHold()) != 0 || len(l.far.Seen) != 0 {
		t.Error("something of it is left, or left")
	}
	if history, err := l.g.Releases("notes"); err != nil || len(history) != 0 {
		t.Errorf("a refused release is in the history: %v, %v", history, err)
	}
}

// Invariant 4: whatever a request says, restricted data never meets an outside node.
func TestSensitiveStays(t *testing.T) {
	l := newLab(t, nil)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		req := request(fmt.Sprintf("r-%d", n), "restricted", rapid.SampledFrom([]sallyport.Destination{"", sallyport.Local, sallyport.Outside}).Draw(rt, "where"))
		req.Copies = rapid.IntRange(0, 3).Draw(rt, "copies")
		req.MaxPrice = sallyport.Money(rapid.Int64Range(0, 5_000_000).Draw(rt, "price"))
		req.Args = rapid.SliceOfN(rapid.SampledFrom([]string{"outside", "--where=outside", "public"}), 0, 2).Draw(rt, "args")
		if _, err := l.g.Submit(t.Context(), req); err != nil {
			rt.Fatal(err)
		}
		job, err := l.g.Wait(t.Context(), req.ID)
		if err != nil {
			rt.Fatal(err)
		}
		if req.Where == sallyport.Outside && job.State != gateway.Refused {
			rt.Fatalf("asked to leave, and is %s", job.State)
		}
		if len(l.far.Seen) != 0 || job.Side == sallyport.Outside {
			rt.Fatal("restricted data left")
		}
	})
}

// Invariant 7: a result is a claim until verified.
func TestALyingNodeIsFoundOutAndNotPaid(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(string) (string, string)
	}{
		{"another result", func(string) (string, string) { return "lines\n7\n", "lines\n7\n" }},
		{"right claim, another result sealed", func(s string) (string, string) { return s, "lines\n7\n" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, nil)
			l.far.Lies["n1"] = tt.lie
			job := l.run(request("burst", "patients", sallyport.Outside))
			if job.State != gateway.Done {
				t.Fatal(job.State, job.Reasons)
			}
			r, err := l.g.OpenResult(t.Context(), "burst")
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(r); string(b) != "lines\n361\n" {
				t.Errorf("kept %q", b)
			}
			if !slices.Equal(job.Nodes, []string{"n2"}) {
				t.Errorf("accepted from %v", job.Nodes)
			}
			if want := sallyport.Unit / 100; job.Cost != want {
				t.Errorf("cost %s, want only n2's %s", job.Cost, want)
			}
			st, err := l.parts.Ledger.Standing("n1")
			if err != nil || st.Wrong != 1 {
				t.Errorf("standing of the liar: %+v, %v", st, err)
			}
			// It is not asked again.
			again := l.run(request("again", "patients", sallyport.Outside))
			if again.State != gateway.Done || slices.Contains(again.Nodes, "n1") {
				t.Errorf("again: %s %v %v", again.State, again.Nodes, again.Reasons)
			}
		})
	}
}

func TestAllNodesLie(t *testing.T) {
	l := newLab(t, nil)
	for i, n := range []string{"n1", "n2", "n3"} {
		l.far.Lies[n] = func(string) (string, string) { s := fmt.Sprint(i); return s, s }
	}
	job := l.run(request("burst", "patients", sallyport.Outside))
	if job.State != gateway.Done || job.Cost != 0 || len(job.Nodes) != 0 {
		t.Fatalf("%s %v, cost %s, nodes %v", job.State, job.Reasons, job.Cost, job.Nodes)
	}
	r, err := l.g.OpenResult(t.Context(), "burst")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r); string(b) != "lines\n361\n" {
		t.Errorf("kept %q, want the lab's own result", b)
	}
}

func TestANodeThatFailsIsReplaced(t *testing.T) {
	l := newLab(t, nil)
	l.far.Refuse["n1"] = "power cut"
	job := l.run(request("burst", "patients", sallyport.Outside))
	if job.State != gateway.Done || !slices.Equal(job.Nodes, []string{"n2", "n3"}) {
		t.Errorf("%s %v %v", job.State, job.Nodes, job.Reasons)
	}
	if !slices.ContainsFunc(l.records("burst"), func(r audit.Record) bool { return r.Entry.Step == "hand over again (2)" }) {
		t.Error("the second hand-over is not recorded")
	}
}

// Invariant 6: after its job, a copy of all ciphertext opens for nobody.
func TestKeysEndWithTheirJob(t *testing.T) {
	l := newLab(t, nil)
	var parcel []byte
	var leases []string
	l.issuer.onFetch = func(id string) {
		leases = append(leases, id)
		if obj, err := l.hold.Open(t.Context(), sallyport.Ref{Store: "hold", Key: "jobs/burst/parcel.age"}); err == nil {
			parcel, _ = io.ReadAll(obj)
			obj.Close()
		}
	}
	if job := l.run(request("burst", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatal(job.State, job.Reasons)
	}
	if len(parcel) == 0 || len(leases) == 0 {
		t.Fatal("the test copied nothing")
	}
	l.issuer.onFetch = nil
	for _, id := range leases {
		key, err := l.issuer.Fetch(t.Context(), id)
		if err == nil {
			if _, err := seal.Reader(bytes.NewReader(parcel), key); err == nil {
				t.Errorf("lease %s still opens the parcel", id)
			}
			t.Errorf("lease %s can still be fetched", id)
		}
	}
}

// Invariant 10: secrets do not travel in records, journal or events.
func TestNoSecretInRecordsOrEvents(t *testing.T) {
	l := newLab(t, nil)
	l.run(request("burst", "patients", sallyport.Outside))
	l.run(request("fine", "fine", sallyport.Outside))
	var all strings.Builder
	all.WriteString(l.events.String())
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(r)
		all.Write(b)
	}
	jobs, err := l.g.Jobs()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(jobs)
	all.Write(b)
	for _, secret := range []string{"AGE-SECRET-KEY", "age-secret-key", "M00017", "M00001"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%q travels", secret)
		}
	}
}

// What goes wrong ends in a clear failure with a next step, undone and recorded.
func TestFailuresAreClearAndUndone(t *testing.T) {
	for _, tt := range []struct {
		name, dataset string
		change        func(*lab)
		prepare       func(*lab)
		state         gateway.State
		reason        string
	}{
		{name: "dataset's file is gone", dataset: "nowhere", state: gateway.Failed, reason: "absent.csv"},
		{name: "dataset unknown", dataset: "stranger", state: gateway.Refused, reason: "catalog"},
		{name: "ragged row", dataset: "patients", state: gateway.Failed, reason: "3",
			prepare: func(l *lab) { l.put("patients.csv", "mrn,age,score\nM1,20,1\nM2,20\n") }},
		{name: "unknown column", dataset: "patients", state: gateway.Failed, reason: "column 4",
			prepare: func(l *lab) { l.put("patients.csv", "mrn,age,score,ssn\nM1,20,1,5\n") }},
		{name: "value that is no number", dataset: "patients", state: gateway.Failed, reason: "age",
			prepare: func(l *lab) { l.put("patients.csv", "mrn,age,score\nM1,forty,1\n") }},
		{name: "store cannot be reached", dataset: "patients", state: gateway.Failed, reason: "no route",
			change: func(l *lab) { l.parts.Sources = map[string]store.Store{"data": brokenStore{}} }},
		{name: "disk is full", dataset: "patients", state: gateway.Failed, reason: "full",
			change: func(l *lab) { l.parts.Hold = fullStore{l.hold} }},
		{name: "no nodes", dataset: "patients", state: gateway.Failed, reason: "0 operators",
			change: func(l *lab) { l.far.nodes = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, tt.change)
			if tt.prepare != nil {
				tt.prepare(l)
			}
			job := l.run(request("j", tt.dataset, sallyport.Outside))
			if job.State != tt.state || !strings.Contains(strings.Join(job.Reasons, " "), tt.reason) {
				t.Errorf("%s: %v, want %s about %q", job.State, job.Reasons, tt.state, tt.reason)
			}
			if tt.state == gateway.Failed && job.Hint == "" {
				t.Errorf("no next step in %v", job.Reasons)
			}
			if l.liveKeys() != 0 || len(l.inHold()) != 0 {
				t.Errorf("%d keys and %v left", l.liveKeys(), l.inHold())
			}
			recs := l.records("j")
			if len(recs) < 2 || recs[len(recs)-1].Entry.Step != "discard" {
				t.Errorf("%d records, the last is not the discard", len(recs))
			}
			if _, reserved, err := l.parts.Ledger.Spent("pilot"); err != nil || reserved != 0 {
				t.Errorf("still reserved: %s, %v", reserved, err)
			}
		})
	}
}

func TestATamperedParcelIsNotRun(t *testing.T) {
	l := newLab(t, nil)
	key := sallyport.Ref{Store: "hold", Key: "jobs/burst/parcel.age"}
	l.issuer.onFetch = func(string) { // between the doors and the nodes
		obj, err := l.hold.Open(t.Context(), key)
		if err != nil {
			return
		}
		b, _ := io.ReadAll(obj)
		obj.Close()
		b[len(b)-10] ^= 1
		_, _ = l.hold.Put(t.Context(), key, func(w io.Writer) error { _, err := w.Write(b); return err })
		l.issuer.onFetch = nil
	}
	job := l.run(request("burst", "patients", sallyport.Outside))
	if job.State != gateway.Failed || len(l.far.Seen) != 0 || job.Cost != 0 {
		t.Errorf("%s %v, seen by %d nodes, cost %s", job.State, job.Reasons, len(l.far.Seen), job.Cost)
	}
}

func TestCancelStopsAndUndoes(t *testing.T) {
	l := newLab(t, nil)
	l.far.Block = make(chan struct{})
	events, stop := l.g.Watch("burst")
	defer stop()
	if _, err := l.g.Submit(t.Context(), request("burst", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Step == "run" && e.Phase == "progress" {
			break
		}
	}
	if err := l.g.Cancel(t.Context(), "burst", gateway.Subject{ID: "ada"}); err != nil {
		t.Fatal(err)
	}
	job, err := l.g.Wait(t.Context(), "burst")
	if err != nil || job.State != gateway.Canceled {
		t.Fatal(job.State, job.Reasons, err)
	}
	if len(l.far.canceled) != 2 || l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("canceled %v, %d keys, hold %v", l.far.canceled, l.liveKeys(), l.inHold())
	}
	if err := l.g.Cancel(t.Context(), "burst", gateway.Subject{ID: "ada"}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("canceling twice: %v", err)
	}
}

func TestSubmitRefusesNonsense(t *testing.T) {
	l := newLab(t, nil)
	for name, change := range map[string]func(*gateway.Request){
		"name":      func(r *gateway.Request) { r.ID = "../x" },
		"where":     func(r *gateway.Request) { r.Where = "moon" },
		"copies":    func(r *gateway.Request) { r.Copies = -1 },
		"algorithm": func(r *gateway.Request) { r.Algorithm = "nope" },
	} {
		req := request("j", "patients", "")
		change(&req)
		if _, err := l.g.Submit(t.Context(), req); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if job := l.run(request("j", "patients", "")); job.State != gateway.Done {
		t.Fatal(job.State, job.Reasons)
	}
	if _, err := l.g.Submit(t.Context(), request("j", "patients", "")); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("the same name twice: %v", err)
	}
}

func TestRequestsOnlyTighten(t *testing.T) {
	l := newLab(t, nil)
	req := request("three", "patients", sallyport.Outside)
	req.Copies = 3
	if job := l.run(req); job.State != gateway.Done || len(job.Nodes) != 3 {
		t.Errorf("%s %v %v", job.State, job.Nodes, job.Reasons)
	}
	req = request("cheap", "patients", sallyport.Outside)
	req.MaxPrice = sallyport.Unit / 4 // less than any node asks
	if job := l.run(req); job.State != gateway.Failed {
		t.Errorf("%s %v: a price cap was ignored", job.State, job.Nodes)
	}
	req = request("one", "patients", sallyport.Outside)
	req.Copies = 1
	if job := l.run(req); job.State == gateway.Done && len(job.Nodes) < 2 {
		t.Error("a request lowered the number of executions")
	}
}

// brokenStore cannot be reached.
type brokenStore struct{}

func (brokenStore) err() error {
	return sallyport.E("open", sallyport.Unavailable, errors.New("no route to host"), "Check the store's address.")
}
func (b brokenStore) Open(context.Context, sallyport.Ref) (store.Object, error) { return nil, b.err() }
func (b brokenStore) Put(context.Context, sallyport.Ref, func(io.Writer) error) (store.Info, error) {
	return store.Info{}, b.err()
}
func (b brokenStore) List(context.Context, string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) { yield(store.Info{}, b.err()) }
}
func (b brokenStore) Remove(context.Context, sallyport.Ref) error { return b.err() }

// fullStore has room for nothing more.
type fullStore struct{ store.Store }

func (f fullStore) Put(_ context.Context, _ sallyport.Ref, fill func(io.Writer) error) (store.Info, error) {
	if err := fill(io.Discard); err != nil {
		return store.Info{}, err
	}
	return store.Info{}, sallyport.E("put", sallyport.Exhausted, errors.New("the disk is full"), "Free disk space and submit again.")
}

// sometimesFull has room when it has.
type sometimesFull struct {
	store.Store
	full *atomic.Bool
}

func (f sometimesFull) Put(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (store.Info, error) {
	if f.full.Load() {
		return fullStore{}.Put(ctx, ref, fill)
	}
	return f.Store.Put(ctx, ref, fill)
}

var _ routing.Backend = (*farSide)(nil)
