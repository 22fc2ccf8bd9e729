package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/routing"
	"sallyport/seal"
)

// asking is the default bundle, with n reviewers asked for everywhere.
func asking(t *testing.T, n int) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	err := fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(policies.FS, name)
		if name == "data.json" {
			b = bytes.ReplaceAll(b, []byte(`"reviews": 0`), fmt.Appendf(nil, `"reviews": %d`, n))
		}
		out[name] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// newReviewLab is a lab whose results n people must agree to.
func newReviewLab(t *testing.T, n int, change func(*lab)) *lab {
	t.Helper()
	return newLab(t, func(l *lab) {
		var err error
		l.parts.Policy, err = policy.New(t.Context(), policy.Config{Bundle: asking(t, n), Deadline: 10 * time.Second,
			Overlay: map[string]any{"catalog": l.parts.Catalog.Data(), "site": l.parts.Site, "register": l.parts.Register.Data()}})
		if err != nil {
			t.Fatal(err)
		}
		l.parts.Retry = 5 * time.Millisecond
		// Who asks may review the work of others: only their own is denied to them.
		l.parts.Site["people"].(map[string]any)["ada"].(map[string]any)["roles"] = []string{"researcher", "reviewer"}
		if change != nil {
			change(l)
		}
	})
}

// gives makes every node give that result.
func (l *lab) gives(result string) {
	for _, n := range l.far.nodes {
		l.far.Lies[n.ID] = func(string) (string, string) { return result, result }
	}
}

// awaitReview submits a job and returns once it waits for people.
func (l *lab) awaitReview(req gateway.Request) {
	l.t.Helper()
	events, stop := l.g.Watch(req.ID)
	defer stop()
	if _, err := l.g.Submit(l.t.Context(), req); err != nil {
		l.t.Fatal(err)
	}
	l.reaches(events)
}

func (l *lab) reaches(events <-chan gateway.Event) {
	l.t.Helper()
	for e := range events {
		if e.Step == "review" && e.Phase == "progress" {
			return
		}
	}
	l.t.Fatalf("the job ended without waiting for review:\n%s", l.events)
}

func person(id string, roles ...string) gateway.Subject {
	return gateway.Subject{ID: id, Roles: roles, Credential: "test"}
}

var (
	ruth = person("ruth", "reviewer")
	otto = person("otto", "officer")
)

// opinion is what somebody says who looked at the result that waits.
func (l *lab) opinion(id sallyport.JobID, approve bool) gateway.Opinion {
	l.t.Helper()
	r, err := l.g.ReviewOf(ruth, id)
	if err != nil {
		l.t.Fatal(err)
	}
	return gateway.Opinion{Approve: approve, Reason: "counts only", Digest: r.Digest, Log: r.Log}
}

func (l *lab) says(by gateway.Subject, id sallyport.JobID, o gateway.Opinion) {
	l.t.Helper()
	if _, err := l.g.Opine(l.t.Context(), by, id, o); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) refused(kind sallyport.Kind, err error, what string) {
	l.t.Helper()
	if err == nil || sallyport.KindOf(err) != kind {
		l.t.Errorf("%s: %v", what, err)
	}
}

func (l *lab) endsAs(id sallyport.JobID, want gateway.State) gateway.Job {
	l.t.Helper()
	job, err := l.g.Wait(l.t.Context(), id)
	if err != nil || job.State != want {
		l.t.Fatalf("%s %v %v, want %s\n%s", job.State, job.Reasons, err, want, l.events)
	}
	return job
}

// nothingGiven: neither the result nor the log lies opened anywhere.
func (l *lab) nothingGiven(id sallyport.JobID) {
	l.t.Helper()
	for info, err := range l.results.List(l.t.Context(), "") {
		l.t.Errorf("opened before review: %v %v", info.Ref, err)
	}
	if r, err := l.g.OpenResult(l.t.Context(), id); err == nil {
		b, _ := io.ReadAll(r)
		l.t.Errorf("the result is given out: %q", b)
	}
	if r, err := l.g.OpenLog(l.t.Context(), id); err == nil {
		b, _ := io.ReadAll(r)
		l.t.Errorf("the log is given out: %q", b)
	}
}

// nothingLeft: no key lives, and the hold is empty.
func (l *lab) nothingLeft() {
	l.t.Helper()
	if n := l.liveKeys(); n != 0 {
		l.t.Errorf("%d keys live", n)
	}
	if left := l.inHold(); len(left) != 0 {
		l.t.Errorf("left in the hold: %v", left)
	}
}

func TestTwoPeopleReview(t *testing.T) {
	l := newReviewLab(t, 2, nil)
	const canary = "group,count\nkestrel,40\nheron,321\n"
	l.gives(canary)
	l.far.Log = "two groups, kestrel and heron"
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	ctx := t.Context()

	job, err := l.g.Job("burst")
	if err != nil || job.State != gateway.Reviewing || job.Review == nil || job.Review.Needs != 2 || job.Review.Agreed != 0 || job.Review.Until.IsZero() {
		t.Fatalf("%+v %v", job, err)
	}
	l.nothingGiven("burst")

	// Who may not: by role, by being who asked.
	say := l.opinion("burst", true)
	ada := person("ada", "researcher", "officer", "reviewer")
	for _, by := range []gateway.Subject{person("rita", "researcher"), person("stan", "steward", "admin"), person("", "reviewer"), ada} {
		_, err := l.g.Opine(ctx, by, "burst", say)
		l.refused(sallyport.Denied, err, "opinion of "+by.ID)
		_, err = l.g.LookAtResult(ctx, by, "burst", false)
		l.refused(sallyport.Denied, err, "look of "+by.ID)
		_, err = l.g.LookAtResult(ctx, by, "burst", true)
		l.refused(sallyport.Denied, err, "look at the log of "+by.ID)
		_, err = l.g.ReviewOf(by, "burst")
		l.refused(sallyport.Denied, err, "facts for "+by.ID)
	}
	if list, err := l.g.Reviews(ada); err != nil || len(list) != 0 {
		t.Errorf("ada is shown a review of her own job: %v %v", list, err)
	}
	_, err = l.g.Reviews(person("rita", "researcher"))
	l.refused(sallyport.Denied, err, "the list")

	// A look is on record before its first byte, with no value in the record.
	read := func(log bool) string {
		r, err := l.g.LookAtResult(ctx, ruth, "burst", log)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if recs := l.records("burst"); !strings.HasPrefix(recs[len(recs)-1].Entry.Step, "look at ") || recs[len(recs)-1].Entry.Subject != "ruth" {
			t.Errorf("the last record is %+v", recs[len(recs)-1].Entry)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := read(false); got != canary {
		t.Errorf("the reviewer saw %q", got)
	}
	if got := read(true); got != l.far.Log {
		t.Errorf("the reviewer saw %q", got)
	}
	if list, err := l.g.Reviews(otto); err != nil || len(list) != 1 || list[0].Job != "burst" {
		t.Errorf("%+v %v", list, err)
	}

	// What was not looked at is not agreed to; nor is anything without a reason.
	for name, change := range map[string]func(*gateway.Opinion){
		"another result": func(o *gateway.Opinion) { o.Digest = sallyport.DigestOf([]byte("other")) },
		"no result":      func(o *gateway.Opinion) { o.Digest = "" },
		"another log":    func(o *gateway.Opinion) { o.Log = sallyport.DigestOf([]byte("other")) },
		"no log":         func(o *gateway.Opinion) { o.Log = "" },
		"no reason":      func(o *gateway.Opinion) { o.Reason = " " },
		"two lines":      func(o *gateway.Opinion) { o.Reason = "fine\nforged" },
	} {
		o := say
		change(&o)
		if _, err := l.g.Opine(ctx, otto, "burst", o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	l.says(ruth, "burst", say)
	_, err = l.g.Opine(ctx, ruth, "burst", say)
	l.refused(sallyport.Denied, err, "ruth a second time")
	if job, _ := l.g.Job("burst"); job.State != gateway.Reviewing || job.Review.Agreed != 1 {
		t.Errorf("%s, %+v", job.State, job.Review)
	}
	l.nothingGiven("burst")

	l.says(otto, "burst", say)
	job = l.endsAs("burst", gateway.Done)
	r, err := l.g.OpenResult(ctx, "burst")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r); string(b) != canary {
		t.Errorf("result %q", b)
	}
	r, err = l.g.OpenLog(ctx, "burst")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r); string(b) != l.far.Log {
		t.Errorf("log %q", b)
	}
	if job.Review.Agreed != 2 {
		t.Errorf("%+v", job.Review)
	}
	l.nothingLeft()
	_, err = l.g.LookAtResult(ctx, ruth, "burst", false)
	l.refused(sallyport.Conflict, err, "a look after the end")
	if orphans, err := l.parts.Audit.Orphans(); err != nil || len(orphans) != 0 {
		t.Errorf("orphans %v %v", orphans, err)
	}
	var said []string
	for _, r := range l.records("burst") {
		b, _ := json.Marshal(r.Entry)
		if strings.Contains(string(b), "kestrel") {
			t.Errorf("the record holds a value: %s", b)
		}
		if e := r.Entry; e.Phase == audit.Outcome && strings.HasSuffix(e.Step, " result") {
			said = append(said, e.Subject+" "+e.Step+" "+e.Decision)
		}
	}
	if got := strings.Join(said, ", "); got != "ruth approve result allow, otto approve result allow" {
		t.Errorf("opinions on record: %s", got)
	}
}

// A result of few possible values could be guessed by its digest or its size:
// who must wait for a review is shown neither, and after a rejection no more.
func TestReviewedJobTellsNothing(t *testing.T) {
	l := newReviewLab(t, 1, nil)
	l.gives("yes\n")
	l.far.Log = "it is yes"
	events, stop := l.g.Watch("burst")
	defer stop()
	if _, err := l.g.Submit(t.Context(), request("burst", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	digest := sallyport.DigestOf([]byte("yes\n")).Short()
	heard := func(what string, b []byte) {
		t.Helper()
		for _, secret := range []string{digest, sallyport.DigestOf([]byte("it is yes")).Short(), "it is yes"} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s tells %q: %s", what, secret, b)
			}
		}
	}
	waits := false
	for e := range events {
		heard("an event", []byte(e.Text))
		if e.Step == "review" && e.Phase == "progress" {
			waits = true
			break
		}
	}
	if !waits {
		t.Fatal("it did not wait")
	}
	// The data's key was fetched and the result compared; every file is sealed.
	for _, key := range l.inHold() {
		obj, err := l.hold.Open(t.Context(), sallyport.Ref{Store: "hold", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(obj)
		obj.Close()
		if !bytes.HasPrefix(b, []byte("age-encryption.org/v1\n")) {
			t.Errorf("%s is not sealed", key)
		}
	}
	tell := func() {
		t.Helper()
		job, err := l.g.Job("burst")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		heard("the job", b)
		l.nothingGiven("burst")
	}
	tell()
	who := gateway.Access{Subject: request("x", "", "").Subject, Project: "pilot", Purpose: "research"}
	if list, err := l.g.Objects(t.Context(), who, gateway.Scratch, ""); err != nil || len(list) != 0 {
		t.Errorf("the S3 door lists %v %v", list, err)
	}
	for _, key := range []string{"burst/result.csv", "result.csv", "jobs/burst/log.age"} {
		for _, bucket := range []string{gateway.Scratch, "patients", "results", "hold"} {
			if o, err := l.g.Open(t.Context(), who, bucket, key); err == nil {
				o.Close()
				t.Errorf("the S3 door opens %s/%s", bucket, key)
			}
		}
	}
	l.says(ruth, "burst", l.opinion("burst", false))
	l.endsAs("burst", gateway.Refused)
	tell()
}

func TestRejectionDestroysTheResult(t *testing.T) {
	l := newReviewLab(t, 2, nil)
	l.far.Log = "said"
	l.awaitReview(request("burst", "patients", sallyport.Outside))

	// What somebody copied while it waited.
	var copies [][]byte
	for _, key := range l.inHold() {
		obj, err := l.hold.Open(t.Context(), sallyport.Ref{Store: "hold", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(obj)
		obj.Close()
		copies = append(copies, b)
	}
	leases, err := l.issuer.List(t.Context())
	if err != nil || len(leases) == 0 || len(copies) < 3 {
		t.Fatalf("%d leases, %d copies, %v", len(leases), len(copies), err)
	}

	l.says(otto, "burst", l.opinion("burst", true))
	no := l.opinion("burst", false)
	no.Reason = "the second column names people"
	l.says(otto, "burst", no) // who agreed may think again
	job := l.endsAs("burst", gateway.Refused)
	if got := strings.Join(job.Reasons, ""); !strings.Contains(got, no.Reason) || !strings.Contains(got, "otto") {
		t.Errorf("reasons %q", got)
	}
	l.nothingGiven("burst")
	l.nothingLeft()
	for _, le := range leases {
		if k, err := l.issuer.Fetch(t.Context(), le.ID); err == nil {
			for _, c := range copies {
				if r, err := seal.Reader(bytes.NewReader(c), k); err == nil {
					b, _ := io.ReadAll(r)
					t.Errorf("a copy still opens: %q", b)
				}
			}
		}
	}
	if now, err := l.issuer.List(t.Context()); err != nil || slices.ContainsFunc(now, func(le seal.Lease) bool { return le.Destroyed == nil }) {
		t.Errorf("%v %v", now, err)
	}
	// Who worked is paid.
	entries, err := l.parts.Ledger.Entries("burst")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.State != routing.StateSettled {
			t.Errorf("%s is %s", e.Assignment, e.State)
		}
	}
	if job.Cost <= 0 || len(entries) != 2 {
		t.Errorf("cost %s, %d entries", job.Cost, len(entries))
	}
	var steps []string
	for _, r := range l.records("burst")[2:] {
		if e := r.Entry; e.Decision == "deny" || e.Step == "discard" {
			steps = append(steps, e.Step+" "+string(e.Phase))
		}
	}
	if got, want := strings.Join(steps, ", "), "reject result outcome, review outcome, discard intent, discard outcome"; got != want {
		t.Errorf("records: %s", got)
	}
	if _, err := l.g.Opine(t.Context(), ruth, "burst", no); err == nil {
		t.Error("an opinion after the end was taken")
	}
}

// Invariant 1, for reviewers: no record, no look and no opinion.
func TestNoRecordNoReview(t *testing.T) {
	l := newReviewLab(t, 1, nil)
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	say := l.opinion("burst", true)
	if err := l.parts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	l.issuer.onFetch = func(string) { t.Error("a key was fetched without a record") }
	if _, err := l.g.LookAtResult(t.Context(), ruth, "burst", false); err == nil {
		t.Error("a look without a record")
	}
	if _, err := l.g.Opine(t.Context(), ruth, "burst", say); err == nil {
		t.Error("an opinion without a record")
	}
	if r, err := l.g.ReviewOf(ruth, "burst"); err != nil || len(r.Opinions) != 0 {
		t.Errorf("%+v %v", r.Opinions, err)
	}
	l.nothingGiven("burst")
	l.g.Stop()
}

// What waits is what was verified: another result put in its place, sealed to
// the same key by whoever can write to the hold, is not shown as the result to
// its end, and not given out.
func TestAnotherResultInItsPlace(t *testing.T) {
	l := newReviewLab(t, 1, nil)
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	r, err := l.g.ReviewOf(ruth, "burst")
	if err != nil {
		t.Fatal(err)
	}
	say := l.opinion("burst", true)
	_, err = gateway.SealTo(t.Context(), l.hold, r.Result.Ref, leaseOf(t, l, r.Lease).Recipient, time.Time{}, func(w io.Writer) error {
		_, err := io.WriteString(w, "lines\n7\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.g.LookAtResult(t.Context(), ruth, "burst", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = io.ReadAll(f)
	l.refused(sallyport.Damaged, err, "reading the other result")
	l.says(ruth, "burst", say)
	l.endsAs("burst", gateway.Failed)
	for info, err := range l.results.List(t.Context(), "") {
		t.Errorf("given out: %v %v", info.Ref, err)
	}
	l.nothingLeft()
}

func leaseOf(t *testing.T, l *lab, id string) seal.Lease {
	t.Helper()
	all, err := l.issuer.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, le := range all {
		if le.ID == id {
			return le
		}
	}
	t.Fatalf("no lease %s", id)
	return seal.Lease{}
}

// A job that waits takes no place of others; it can be given up; and it fails
// when somebody destroys its key.
func TestWaitingForReviewTakesNoSlot(t *testing.T) {
	l := newReviewLab(t, 1, func(l *lab) { l.parts.Parallel = 1 })
	for _, id := range []string{"first", "second", "third"} {
		l.awaitReview(request(id, "patients", sallyport.Outside))
	}
	l.restart()
	if err := l.g.Cancel(t.Context(), "first", person("ada")); err != nil {
		t.Fatal(err)
	}
	l.endsAs("first", gateway.Canceled)
	r, err := l.g.ReviewOf(ruth, "second")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.g.DestroyKey(t.Context(), otto, r.Lease, "leak"); err != nil {
		t.Fatal(err)
	}
	l.endsAs("second", gateway.Failed)
	l.says(ruth, "third", l.opinion("third", true))
	l.endsAs("third", gateway.Done)
	l.nothingLeft()
}

// Where policy asks for none the step passes at once, and says so.
func TestNoReviewAskedFor(t *testing.T) {
	l := newLab(t, nil)
	job := l.run(request("burst", "patients", sallyport.Outside))
	if job.State != gateway.Done || job.Review != nil {
		t.Fatalf("%s %+v", job.State, job.Review)
	}
	if !slices.ContainsFunc(job.Steps, func(s gateway.StepDone) bool {
		return s.Name == "review" && s.Say == "policy asks for no review of results"
	}) {
		t.Errorf("%+v", job.Steps)
	}
	_, err := l.g.ReviewOf(ruth, "burst")
	l.refused(sallyport.NotFound, err, "a review of it")
}

// Results stay sealed while no review ends them well, whatever people say in
// whatever order: the model is that two different people agree to the digest
// that waits and nobody rejects first.
func TestOpinionsProperty(t *testing.T) {
	people := []gateway.Subject{ruth, otto, person("rolf", "reviewer"), person("ada", "officer"), person("rita", "researcher")}
	may := map[string]bool{"ruth": true, "otto": true, "rolf": true}
	l := newReviewLab(t, 2, nil)
	dice := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		id := sallyport.JobID(fmt.Sprintf("burst-%d", round))
		l.awaitReview(request(string(id), "patients", sallyport.Outside))
		say := l.opinion(id, true)
		agreed, want := map[string]bool{}, gateway.State("")
		for want == "" {
			by, o := people[dice.IntN(len(people))], say
			o.Approve = dice.IntN(6) > 0
			if dice.IntN(4) == 0 {
				o.Digest = sallyport.DigestOf([]byte("other"))
			}
			_, err := l.g.Opine(t.Context(), by, id, o)
			ok := may[by.ID] && o.Digest == say.Digest && (!o.Approve || !agreed[by.ID])
			if ok != (err == nil) {
				t.Fatalf("round %d: %s %+v: %v", round, by.ID, o, err)
			}
			switch {
			case !ok:
			case !o.Approve:
				want = gateway.Refused
			default:
				agreed[by.ID] = true
				if len(agreed) == 2 {
					want = gateway.Done
				}
			}
			if want == "" {
				if r, err := l.g.OpenResult(t.Context(), id); err == nil {
					r.Close()
					t.Fatalf("given out after %v", agreed)
				}
			}
		}
		l.endsAs(id, want)
	}
}

// Only different people, other than whose job it is, who agreed to exactly what
// waits are counted, whatever stands in the journal.
func TestAgreedCounts(t *testing.T) {
	yes := gateway.Opinion{By: "ruth", Approve: true, Digest: "d", Log: "l"}
	but := func(change func(*gateway.Opinion)) gateway.Opinion {
		o := yes
		change(&o)
		return o
	}
	for name, o := range map[string]gateway.Opinion{
		"nobody":         but(func(o *gateway.Opinion) { o.By = "" }),
		"whose job":      but(func(o *gateway.Opinion) { o.By = "ada" }),
		"no":             but(func(o *gateway.Opinion) { o.By, o.Approve = "otto", false }),
		"again":          yes,
		"another result": but(func(o *gateway.Opinion) { o.By, o.Digest = "otto", "x" }),
		"another log":    but(func(o *gateway.Opinion) { o.By, o.Log = "otto", "" }),
	} {
		if n := (gateway.Review{Subject: "ada", Digest: "d", Log: "l", Opinions: []gateway.Opinion{yes, o}}).Agreed(); n != 1 {
			t.Errorf("%s: %d agreed", name, n)
		}
	}
}

// TestNoViewOfWhatPeopleMustAgreeTo: a view cannot be looked at before it is given out.
func TestNoViewOfWhatPeopleMustAgreeTo(t *testing.T) {
	for _, reviews := range []int{0, 1} {
		l := newReviewLab(t, reviews, nil)
		_, err := l.g.Open(t.Context(), ada(), "patients", "patients.csv")
		if denied := sallyport.KindOf(err) == sallyport.Denied && strings.Contains(err.Error(), "people must agree"); denied != (reviews > 0) {
			t.Errorf("%d reviews: %v", reviews, err)
		}
	}
}
