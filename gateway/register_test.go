package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/policy"
	"sallyport/register"
)

// granting is a bundle that asks at both doors for a grant in the register, or
// an exception from it, and for nothing else.
const granting = `package sallyport.NAME

grant := data.register.grants[input.dataset][input.project]

now := time.parse_rfc3339_ns(input.time)

current(x) if {
	time.parse_rfc3339_ns(x.since) <= now
	now < time.parse_rfc3339_ns(x.until)
}

granted if {
	current(grant)
	input.purpose in grant.purposes
	not grant.people
}

granted if {
	current(grant)
	input.purpose in grant.purposes
	input.subject.id in grant.people
}

granted if {
	some x in data.register.exceptions
	"admit.grant" in x.checks
	x.dataset == input.dataset
	x.project == input.project
	current(x)
}

default verdict := {"allow": false, "reasons": ["no grant"], "rules": ["NAME.grant"]}

verdict := {"allow": true, "reasons": [], "rules": ["NAME.grant"] MORE} if granted
`

const admitted = `,
	"destination": "local", "masks": {"mrn": {"drop": {}}, "age": {}, "score": {}}, "rows": [],
	"limits": {"key_ttl": 3600, "price": 0, "budget": 0, "copies": 1, "regions": [], "min_class": 0, "max_unique": 1, "reviews": 0}`

func grantingBundle() fstest.MapFS {
	file := func(name, more string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.NewReplacer("NAME", name, "MORE", more).Replace(granting))}
	}
	return fstest.MapFS{"admit.rego": file("admit", admitted), "release.rego": file("release", "")}
}

// newGrantingLab is a lab that decides by the register alone, with a clock of
// the test's own.
func newGrantingLab(t *testing.T, change func(*lab)) (*lab, *atomic.Int64) {
	t.Helper()
	ahead := &atomic.Int64{} // of the real time, in nanoseconds
	return newLab(t, func(l *lab) {
		l.parts.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		l.keyClock = l.parts.Now
		l.decideBy(policy.Config{Bundle: grantingBundle()})
		if change != nil {
			change(l)
		}
	}), ahead
}

func (l *lab) decideBy(cfg policy.Config) {
	l.t.Helper()
	cfg.Deadline = 10 * time.Second
	e, err := policy.New(l.t.Context(), cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.parts.Policy = e
}

func dataSteward() gateway.Subject {
	return gateway.Subject{ID: "dr-ward", Roles: []string{"steward"}, Credential: "test"}
}

func officer(id string) gateway.Subject {
	return gateway.Subject{ID: id, Roles: []string{"officer"}, Credential: "test"}
}

func (l *lab) until(d time.Duration) time.Time { return l.parts.Now().Add(d) }

func (l *lab) grant(dataset string) gateway.GrantRequest {
	return gateway.GrantRequest{Dataset: dataset, Project: "pilot", Purposes: []string{"research"}, Until: l.until(24 * time.Hour), Reason: "protocol 7"}
}

func (l *lab) becomes(id string) string {
	l.t.Helper()
	job := l.run(request(id, "patients", sallyport.Local))
	if job.State != gateway.Done && job.State != gateway.Refused {
		l.t.Fatalf("job %s: %s, %v", id, job.State, job.Reasons)
	}
	return string(job.State)
}

func TestAGrantLetsAJobPassUntilItEnds(t *testing.T) {
	l, ahead := newGrantingLab(t, nil)
	if got := l.becomes("before"); got != string(gateway.Refused) {
		t.Fatalf("without a grant: %s", got)
	}
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients")); err != nil {
		t.Fatal(err)
	}
	if got := l.becomes("during"); got != string(gateway.Done) {
		t.Fatalf("with a grant: %s", got)
	}
	ahead.Store(int64(25 * time.Hour))
	if got := l.becomes("after"); got != string(gateway.Refused) {
		t.Fatalf("after its end: %s", got)
	}
	// One that ran out is renewed without saying that it is replaced.
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients")); err != nil {
		t.Fatal(err)
	}
	if got := l.becomes("renewed"); got != string(gateway.Done) {
		t.Fatalf("renewed: %s", got)
	}
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients")); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("over a good one: %v", err)
	}
	again := l.grant("patients")
	again.People, again.Replace = []string{"nobody-known"}, true
	if _, err := l.g.Grant(t.Context(), dataSteward(), again); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("to nobody: %v", err)
	}
	again.People = []string{"ada"}
	if _, err := l.g.Grant(t.Context(), dataSteward(), again); err != nil {
		t.Fatal(err)
	}
	if got := l.becomes("ada"); got != string(gateway.Done) {
		t.Errorf("for ada: %s", got)
	}
}

// What is revoked while a job waits in the hold is denied at door 2.
func TestGrantRevokedBetweenTheDoors(t *testing.T) {
	var revoked error
	l, _ := newGrantingLab(t, func(l *lab) {
		l.parts.Point = func(step, point string) {
			if step == "hold" && point == "journaled" {
				_, revoked = l.g.RevokeGrant(context.Background(), dataSteward(), gateway.Ending{Dataset: "patients", Project: "pilot", Reason: "withdrew"})
			}
		}
	})
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients")); err != nil {
		t.Fatal(err)
	}
	job := l.run(request("revoked", "patients", sallyport.Local))
	if revoked != nil || job.State != gateway.Refused {
		t.Fatalf("%s: %v; revoked: %v", job.State, job.Reasons, revoked)
	}
	var decided []string
	for _, r := range l.records("revoked") {
		if r.Entry.Decision != "" && r.Entry.Phase == audit.Outcome {
			decided = append(decided, r.Entry.Step+" "+r.Entry.Decision)
		}
	}
	if !slices.Contains(decided, "admit allow") || !slices.Contains(decided, "release deny") || l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("decided %v, %d keys, hold %v", decided, l.liveKeys(), l.inHold())
	}
}

// The default bundle wants a grant of restricted data, at both doors.
func TestRestrictedNeedsAGrantAtBothDoors(t *testing.T) {
	var revoke atomic.Bool
	var revoked error
	l := newLab(t, func(l *lab) {
		l.parts.Point = func(step, point string) {
			if step == "hold" && point == "journaled" && revoke.Load() {
				_, revoked = l.g.RevokeGrant(context.Background(), dataSteward(), gateway.Ending{Dataset: "restricted", Project: "pilot", Reason: "withdrew"})
			}
		}
	})
	if job := l.run(request("granted", "restricted", "")); job.State != gateway.Done {
		t.Fatalf("with the lab's grant: %s, %v", job.State, job.Reasons)
	}
	revoke.Store(true)
	job := l.run(request("revoked", "restricted", ""))
	if revoked != nil || job.State != gateway.Refused || !strings.Contains(strings.Join(job.Reasons, " "), "grant") {
		t.Fatalf("%s, %v; revoked: %v", job.State, job.Reasons, revoked)
	}
	decided := ""
	for _, r := range l.records("revoked") {
		if r.Entry.Decision == "deny" {
			decided += r.Entry.Step
		}
	}
	if decided != "release" {
		t.Errorf("denied at %q", decided)
	}
	if job := l.run(request("after", "restricted", "")); job.State != gateway.Refused {
		t.Errorf("without a grant: %s", job.State)
	}
}

// detail is what a record of an act on the register says.
type detail struct {
	Change struct {
		Dataset string         `json:"dataset"`
		Grant   register.Grant `json:"grant"`
	} `json:"change"`
	Before sallyport.Digest `json:"before"`
	After  sallyport.Digest `json:"after"`
	Undone bool             `json:"undone"`
}

func (l *lab) registerRecords(step string) (out []audit.Record, details []detail) {
	l.t.Helper()
	for r, err := range l.parts.Audit.Records(l.t.Context(), audit.Filter{Step: step}) {
		if err != nil {
			l.t.Fatal(err)
		}
		var d detail
		if len(r.Entry.Detail) > 0 {
			if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
				l.t.Fatal(err)
			}
		}
		out, details = append(out, r), append(details, d)
	}
	return out, details
}

func (l *lab) fileDigest() sallyport.Digest {
	l.t.Helper()
	r, err := register.Open(l.registerFile)
	if err != nil {
		l.t.Fatal(err)
	}
	return r.Digest()
}

func TestARegisterChangeIsOnRecordBeforeItIsInForce(t *testing.T) {
	type seen struct {
		records    int
		file, data sallyport.Digest
	}
	at := map[string]seen{}
	l, _ := newGrantingLab(t, func(l *lab) {
		l.parts.Point = func(step, point string) {
			if step == "add grant" {
				recs, _ := l.registerRecords(step)
				_, data := l.parts.Policy.Digests()
				at[point] = seen{len(recs), l.fileDigest(), data}
			}
		}
	})
	file := l.fileDigest()
	_, data := l.parts.Policy.Digests()
	c, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]seen{
		"intent":   {1, file, data},
		"written":  {1, c.After, data},
		"in force": {1, c.After, c.Data},
		"outcome":  {2, c.After, c.Data},
	}
	for point, w := range want {
		if at[point] != w {
			t.Errorf("at %s: %+v, want %+v", point, at[point], w)
		}
	}
	if c.Before != file || c.After == file || c.Data == data {
		t.Errorf("answer %+v", c)
	}
	recs, details := l.registerRecords("add grant")
	for i, d := range details {
		e := recs[i].Entry
		if d.Before != file || d.After != c.After || d.Undone || d.Change.Dataset != "patients" || d.Change.Grant.By != "dr-ward" ||
			e.Subject != "dr-ward" || e.Project != "pilot" || !slices.Equal(e.Reasons, []string{"protocol 7"}) || string(e.Job) != c.ID {
			t.Errorf("record %d: %+v, %+v", i, e, d)
		}
	}
	if recs[1].Entry.Data != c.Data || recs[1].Entry.Decision != "allow" {
		t.Errorf("outcome %+v", recs[1].Entry)
	}
	if orphans, err := l.parts.Audit.Orphans(); err != nil || len(orphans) != 0 {
		t.Errorf("orphans %v, %v", orphans, err)
	}
}

// What cannot be recorded does not happen: neither without its intent nor
// without its outcome.
func TestAnUnrecordableChangeDoesNotHappen(t *testing.T) {
	for _, when := range []string{"", "in force"} {
		t.Run(when, func(t *testing.T) {
			l, _ := newGrantingLab(t, func(l *lab) {
				l.parts.Point = func(step, point string) {
					if step == "add grant" && point == when {
						_ = l.parts.Audit.Close()
					}
				}
			})
			file := l.fileDigest()
			_, data := l.parts.Policy.Digests()
			if when == "" {
				_ = l.parts.Audit.Close()
			}
			_, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients"))
			_, now := l.parts.Policy.Digests()
			if err == nil || l.fileDigest() != file || now != data {
				t.Errorf("%v; file %s, was %s; data %s, was %s", err, l.fileDigest().Short(), file.Short(), now.Short(), data.Short())
			}
		})
	}
}

// Data that policy does not take are not left in the file.
func TestAChangeThatPolicyRefusesIsUndone(t *testing.T) {
	var refuse atomic.Bool
	l, _ := newGrantingLab(t, func(l *lab) {
		l.decideBy(policy.Config{Bundle: grantingBundle(), Keep: func(context.Context, *policy.Bundle, sallyport.Digest, sallyport.Digest, map[string]any) error {
			if refuse.Load() {
				return errors.New("the archive is full")
			}
			return nil
		}})
	})
	file := l.fileDigest()
	_, data := l.parts.Policy.Digests()
	refuse.Store(true)
	_, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients"))
	_, now := l.parts.Policy.Digests()
	if err == nil || !strings.Contains(err.Error(), "the archive is full") || l.fileDigest() != file || now != data {
		t.Fatalf("%v; file %s, was %s", err, l.fileDigest().Short(), file.Short())
	}
	recs, details := l.registerRecords("add grant")
	if len(recs) != 2 || recs[1].Entry.Decision != "error" || !details[1].Undone {
		t.Errorf("records %+v", recs)
	}
	refuse.Store(false)
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("patients")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestExceptionsNeedTwoPeople(t *testing.T) {
	l, ahead := newGrantingLab(t, nil)
	ada := gateway.Subject{ID: "ada", Roles: []string{"researcher", "officer"}, Projects: []string{"pilot"}}
	ask := gateway.ExceptionRequest{Checks: []string{"admit.grant"}, Dataset: "patients", Project: "pilot", Until: l.until(time.Hour), Reason: "audit tomorrow"}
	c, err := l.g.AskException(t.Context(), ada, ask)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.becomes("asked"); got != string(gateway.Refused) {
		t.Fatalf("before approval: %s", got)
	}
	if list := l.g.Register(officer("o")).Pending; len(list) != 1 || list[0].ID != c.ID {
		t.Fatalf("pending %+v", list)
	}
	yes := gateway.Ending{ID: c.ID, Reason: "agreed"}
	if _, err := l.g.ApproveException(t.Context(), ada, yes); sallyport.KindOf(err) != sallyport.Denied {
		t.Fatalf("approved alone: %v", err)
	}
	if _, err := l.g.ApproveException(t.Context(), officer("o"), yes); err != nil {
		t.Fatal(err)
	}
	if got := l.becomes("approved"); got != string(gateway.Done) {
		t.Fatalf("approved: %s", got)
	}
	if recs := l.records(sallyport.JobID(c.ID)); len(recs) != 5 { // ask twice, a denied approval, approve twice
		t.Errorf("%d records of the exception's life", len(recs))
	}
	ahead.Store(int64(2 * time.Hour))
	if got := l.becomes("over"); got != string(gateway.Refused) {
		t.Errorf("after its end: %s", got)
	}
	if _, err := l.g.EndException(t.Context(), officer("o"), gateway.Ending{ID: c.ID, Reason: "over"}); err != nil {
		t.Error(err)
	}
	// Nobody approves what ran out while it waited.
	ask.Until = l.until(time.Hour)
	late, err := l.g.AskException(t.Context(), ada, ask)
	if err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(4 * time.Hour))
	if _, err := l.g.ApproveException(t.Context(), officer("o"), gateway.Ending{ID: late.ID, Reason: "late"}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("approved too late: %v", err)
	}
}

func TestWhoMayChangeTheRegister(t *testing.T) {
	l, _ := newGrantingLab(t, nil)
	owner := gateway.Subject{ID: "steward"} // of every dataset of the lab, without the role
	ada := gateway.Subject{ID: "ada", Roles: []string{"researcher"}, Projects: []string{"pilot"}}
	stranger := gateway.Subject{ID: "eve"}
	id := func() string {
		c, err := l.g.AskException(t.Context(), ada, gateway.ExceptionRequest{Checks: []string{"admit.grant"}, Dataset: "patients", Project: "pilot", Until: l.until(time.Hour), Reason: "x"})
		if err != nil {
			t.Fatal(err)
		}
		return c.ID
	}()
	acts := map[string]func(gateway.Subject) error{
		"grant": func(s gateway.Subject) error { _, err := l.g.Grant(t.Context(), s, l.grant("patients")); return err },
		"revoke": func(s gateway.Subject) error {
			_, err := l.g.RevokeGrant(t.Context(), s, gateway.Ending{Dataset: "patients", Project: "pilot", Reason: "x"})
			return err
		},
		"consent": func(s gateway.Subject) error {
			_, err := l.g.RecordConsent(t.Context(), s, gateway.ConsentRequest{Dataset: "patients", Purpose: "research", Basis: "form 3"})
			return err
		},
		"withdraw": func(s gateway.Subject) error {
			_, err := l.g.WithdrawConsent(t.Context(), s, gateway.Ending{Dataset: "patients", Purpose: "research", Reason: "x"})
			return err
		},
		"ask": func(s gateway.Subject) error {
			_, err := l.g.AskException(t.Context(), s, gateway.ExceptionRequest{Checks: []string{"admit.grant"}, Dataset: "patients", Project: "pilot", Until: l.until(time.Hour), Reason: "x"})
			return err
		},
		"approve": func(s gateway.Subject) error {
			_, err := l.g.ApproveException(t.Context(), s, gateway.Ending{ID: id, Reason: "x"})
			return err
		},
		"end": func(s gateway.Subject) error {
			_, err := l.g.EndException(t.Context(), s, gateway.Ending{ID: id, Reason: "x"})
			return err
		},
	}
	// In an order in which each may succeed: what one makes the next takes back.
	for _, c := range []struct {
		act string
		may []gateway.Subject
		not []gateway.Subject
	}{
		{"grant", []gateway.Subject{owner}, []gateway.Subject{ada, stranger, officer("o")}},
		{"revoke", []gateway.Subject{dataSteward()}, []gateway.Subject{ada, stranger, officer("o")}},
		{"consent", []gateway.Subject{dataSteward()}, []gateway.Subject{ada, stranger}},
		{"withdraw", []gateway.Subject{owner}, []gateway.Subject{ada, stranger}},
		{"ask", []gateway.Subject{ada, dataSteward(), owner}, []gateway.Subject{stranger, officer("o")}},
		{"approve", []gateway.Subject{{ID: "b", Roles: []string{"approver"}}}, []gateway.Subject{ada, stranger, dataSteward()}},
		{"end", []gateway.Subject{ada}, []gateway.Subject{stranger}},
	} {
		was := l.fileDigest()
		for _, s := range c.not {
			if err := acts[c.act](s); sallyport.KindOf(err) != sallyport.Denied {
				t.Errorf("%s by %s: %v", c.act, s.ID, err)
			}
		}
		if l.fileDigest() != was {
			t.Errorf("%s changed the register although denied", c.act)
		}
		for _, s := range c.may {
			if err := acts[c.act](s); err != nil {
				t.Errorf("%s by %s: %v", c.act, s.ID, err)
			}
		}
	}
	denied := 0
	for _, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Decision: "deny"}) {
		if err != nil {
			t.Fatal(err)
		}
		denied++
	}
	if denied != 16 {
		t.Errorf("%d denials are on record, want 16", denied)
	}
}

// Somebody who may not learns nothing of what exists; who may is told.
func TestRegisterRefusals(t *testing.T) {
	l, _ := newGrantingLab(t, nil)
	with := func(change func(*gateway.GrantRequest)) gateway.GrantRequest {
		r := l.grant("patients")
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		who  gateway.Subject
		r    gateway.GrantRequest
		kind sallyport.Kind
	}{
		"stranger, no dataset": {gateway.Subject{ID: "eve"}, with(func(r *gateway.GrantRequest) { r.Dataset = "ghost" }), sallyport.Denied},
		"no dataset":           {dataSteward(), with(func(r *gateway.GrantRequest) { r.Dataset = "ghost" }), sallyport.NotFound},
		"no project":           {dataSteward(), with(func(r *gateway.GrantRequest) { r.Project = "ghost" }), sallyport.NotFound},
		"foreign purpose":      {dataSteward(), with(func(r *gateway.GrantRequest) { r.Purposes = []string{"marketing"} }), sallyport.Invalid},
		"no purpose":           {dataSteward(), with(func(r *gateway.GrantRequest) { r.Purposes = nil }), sallyport.Invalid},
		"over":                 {dataSteward(), with(func(r *gateway.GrantRequest) { r.Until = l.until(-time.Hour) }), sallyport.Invalid},
		"no end":               {dataSteward(), with(func(r *gateway.GrantRequest) { r.Until = time.Time{} }), sallyport.Invalid},
		"no reason":            {dataSteward(), with(func(r *gateway.GrantRequest) { r.Reason = " " }), sallyport.Invalid},
		"another state":        {dataSteward(), with(func(r *gateway.GrantRequest) { r.Expect = sallyport.DigestOf(nil) }), sallyport.Conflict},
	} {
		if _, err := l.g.Grant(t.Context(), c.who, c.r); sallyport.KindOf(err) != c.kind {
			t.Errorf("%s: %v (%s), want %s", name, err, sallyport.KindOf(err), c.kind)
		}
	}
}

func TestRegisterShowsWhatConcernsOne(t *testing.T) {
	l, _ := newGrantingLab(t, nil)
	for _, r := range []gateway.GrantRequest{l.grant("patients"), {Dataset: "fine", Project: "few", Purposes: []string{"research"}, Until: l.until(time.Hour), Reason: "x"}} {
		if _, err := l.g.Grant(t.Context(), dataSteward(), r); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		who  gateway.Subject
		want int
	}{
		"officer":  {officer("o"), 2},
		"steward":  {dataSteward(), 2},
		"owner":    {gateway.Subject{ID: "steward"}, 2},
		"member":   {gateway.Subject{ID: "ada", Projects: []string{"pilot"}}, 1},
		"stranger": {gateway.Subject{ID: "eve"}, 0},
	} {
		have := 0
		for _, g := range l.g.Register(c.who).Grants {
			if g.Dataset == "patients" || g.Dataset == "fine" {
				have++
			}
		}
		if have != c.want {
			t.Errorf("%s sees %d grants, want %d", name, have, c.want)
		}
	}
}

// What is edited while the gateway is stopped is on record before it decides.
func TestEditsWhileStoppedAreNoted(t *testing.T) {
	l, _ := newGrantingLab(t, nil)
	notes := func() (out []string) {
		recs, _ := l.registerRecords("policy data")
		for _, r := range recs {
			out = append(out, r.Entry.Reasons...)
		}
		return out
	}
	if got := notes(); !slices.Equal(got, []string{"first data"}) {
		t.Fatalf("at first: %q", got)
	}
	restart := func() {
		l.g.Stop()
		var err error
		if l.parts.Register, err = register.Open(l.registerFile); err != nil {
			t.Fatal(err)
		}
		if l.g, err = gateway.New(l.parts); err != nil {
			t.Fatal(err)
		}
		if err := l.g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	if got := notes(); len(got) != 1 {
		t.Fatalf("nothing was edited: %q", got)
	}
	byHand, err := register.Open(l.registerFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := byHand.Apply("", register.PutGrant{Dataset: "patients", Project: "pilot", Grant: register.Grant{By: "me", Purposes: []string{"research"},
		Reason: "by hand", Since: l.until(-time.Hour), Until: l.until(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	// The running gateway neither takes it nor writes over it.
	if got := l.becomes("unseen"); got != string(gateway.Refused) {
		t.Errorf("an edit is in force at once: %s", got)
	}
	if _, err := l.g.Grant(t.Context(), dataSteward(), l.grant("fine")); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("wrote over an edit: %v", err)
	}
	restart()
	if got := notes(); !slices.Equal(got, []string{"first data", "changed: register"}) {
		t.Errorf("afterwards: %q", got)
	}
	if got := l.becomes("seen"); got != string(gateway.Done) {
		t.Errorf("after the restart: %s", got)
	}
	if err := writeFiles(filepath.Join(filepath.Dir(l.registerFile), "catalog"), map[string]string{"later.yaml": strings.Replace(patients, "id: patients", "id: later", 1)}); err != nil {
		t.Fatal(err)
	}
	l.becomes("catalog")
	if got := notes(); !slices.Equal(got, []string{"first data", "changed: register", "changed: catalog"}) {
		t.Errorf("after an edit of the catalog: %q", got)
	}
}
