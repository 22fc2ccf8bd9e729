package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/archive"
)

func anOfficer(id string) gateway.Subject {
	return gateway.Subject{ID: id, Roles: []string{"officer"}, Credential: "test"}
}

// withOfficers is a lab where two officers may act, under a key for reviews.
func withOfficers(l *lab) {
	people := l.parts.Site["people"].(map[string]any)
	for _, id := range []string{"olga", "otto"} {
		people[id] = map[string]any{"roles": []string{"officer"}, "projects": []string{}}
	}
	l.parts.Reviews = audit.SigningKey{Seed: bytes.Repeat([]byte{9}, 32)}
}

func collect(t *testing.T, recs iter.Seq2[audit.Record, error], err error) []audit.Record {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var out []audit.Record
	for r, err := range recs {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func (l *lab) last() audit.Record {
	l.t.Helper()
	r, err := l.parts.Audit.Get(l.parts.Audit.Size() - 1)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

type readDetail struct {
	What    string
	Filter  map[string]any
	Size    uint64
	Records *uint64
	Cut     string
}

func detailOf(t *testing.T, r audit.Record) (d readDetail) {
	t.Helper()
	if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestReadingIsRecordedBeforeTheAnswer: when the first record is given out, who
// asked for what is durable, and the reading is not in its own answer.
func TestReadingIsRecordedBeforeTheAnswer(t *testing.T) {
	l := newLab(t, withOfficers)
	l.run(request("first", "patients", sallyport.Local))
	before := l.parts.Audit.Size()
	recs, err := l.g.ReadLog(t.Context(), anOfficer("olga"), gateway.LogQuery{Filter: audit.Filter{Job: "first"}, What: "ls", Why: "case 12"})
	if err != nil {
		t.Fatal(err)
	}
	r := l.last()
	d := detailOf(t, r)
	if l.parts.Audit.Size() != before+1 || r.Entry.Step != "read log" || r.Entry.Phase != audit.Note || r.Entry.Subject != "olga" || r.Entry.Credential != "test" ||
		!slices.Equal(r.Entry.Reasons, []string{"case 12"}) || r.Entry.Trace == "" || d.What != "ls" || d.Filter["job"] != "first" || d.Size != before {
		t.Fatalf("%+v %+v", r, d)
	}
	got := collect(t, recs, nil)
	if d.Records == nil || uint64(len(got)) != *d.Records || len(got) == 0 {
		t.Errorf("%d records, %v on record", len(got), d.Records)
	}
	all := collect2(t, l, gateway.LogQuery{})
	if n := len(all); uint64(n) != before+1 || all[n-1].Seq != before {
		t.Errorf("the answer has %d records up to %d: the reading itself is among them, or others are missing", n, all[n-1].Seq)
	}
	if reads := collect2(t, l, gateway.LogQuery{Filter: audit.Filter{Step: "read log"}}); len(reads) != 2 {
		t.Errorf("%d readings", len(reads))
	}
}

func collect2(t *testing.T, l *lab, q gateway.LogQuery) []audit.Record {
	t.Helper()
	recs, err := l.g.ReadLog(t.Context(), anOfficer("olga"), q)
	return collect(t, recs, err)
}

// TestNoRecordNoReading: what cannot be recorded is not answered.
func TestNoRecordNoReading(t *testing.T) {
	l := newLab(t, withOfficers)
	l.run(request("first", "patients", sallyport.Local))
	l.parts.Audit.Refuse(sallyport.Errorf("test", sallyport.Exhausted, "", "the disk is full"))
	if recs, err := l.g.ReadLog(t.Context(), anOfficer("olga"), gateway.LogQuery{}); sallyport.KindOf(err) != sallyport.Exhausted || recs != nil {
		t.Errorf("read: %v", err)
	}
	if s, err := l.g.ShowRecord(t.Context(), anOfficer("olga"), 0, ""); err == nil || s.Record.Entry.Step != "" {
		t.Errorf("showed %+v, %v", s, err)
	}
	if o, err := l.g.OpenRecord(t.Context(), anOfficer("olga"), 0, "", ""); err == nil {
		t.Errorf("opened %+v", o)
	}
	if _, err := l.g.ReadLog(t.Context(), gateway.Subject{}, gateway.LogQuery{}); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("nobody read: %v", err)
	}
}

// TestALongReadingIsRecordedTwice: as begun, before it, and as ended, with how
// many records went out, also when the reader goes away.
func TestALongReadingIsRecordedTwice(t *testing.T) {
	l := newLab(t, withOfficers)
	for range 400 {
		if _, err := l.parts.Audit.Append(t.Context(), audit.Entry{Step: "test", Phase: audit.Note, Subject: "ada"}); err != nil {
			t.Fatal(err)
		}
	}
	f := audit.Filter{Step: "test"}
	recs, err := l.g.ReadLog(t.Context(), anOfficer("olga"), gateway.LogQuery{Filter: f})
	if err != nil {
		t.Fatal(err)
	}
	if r := l.last(); r.Entry.Step != "read log" || r.Entry.Phase != audit.Intent {
		t.Fatalf("%+v", r)
	}
	if n := len(collect(t, recs, nil)); n != 400 {
		t.Errorf("%d records", n)
	}
	if r := l.last(); r.Entry.Phase != audit.Outcome || *detailOf(t, r).Records != 400 || detailOf(t, r).Cut != "" {
		t.Errorf("%+v", r)
	}
	size := l.parts.Audit.Size()
	if all := collect2(t, l, gateway.LogQuery{}); uint64(len(all)) != size || all[len(all)-1].Seq != size-1 {
		t.Errorf("%d of %d records: a reading is in its own answer", len(all), size)
	}
	recs, err = l.g.ReadLog(t.Context(), anOfficer("olga"), gateway.LogQuery{Filter: f})
	if err != nil {
		t.Fatal(err)
	}
	for range recs {
		break
	}
	if r := l.last(); r.Entry.Phase != audit.Outcome || *detailOf(t, r).Records != 1 || detailOf(t, r).Cut == "" {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if recs, err = l.g.ReadLog(ctx, anOfficer("olga"), gateway.LogQuery{Filter: f}); err != nil {
		t.Fatal(err)
	}
	cancel()
	for _, err := range recs {
		if sallyport.KindOf(err) != sallyport.Canceled {
			t.Errorf("canceled: %v", err)
		}
	}
	if r := l.last(); r.Entry.Phase != audit.Outcome || detailOf(t, r).Cut == "" {
		t.Errorf("%+v", r)
	}
	if open, err := l.parts.Audit.Orphans(); err != nil || len(open) != 0 {
		t.Errorf("left open: %v, %v", open, err)
	}
}

func TestWhoMayNotReadIsRecorded(t *testing.T) {
	l := newLab(t, withOfficers)
	if err := l.g.MayReadLog(t.Context(), anOfficer("olga")); err != nil {
		t.Error(err)
	}
	ada := gateway.Subject{ID: "ada", Roles: []string{"researcher"}, Credential: "test"}
	if err := l.g.MayReadLog(t.Context(), ada); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("ada: %v", err)
	}
	if r := l.last(); r.Entry.Subject != "ada" || r.Entry.Decision != "deny" || !strings.Contains(r.Entry.Step, "read log") {
		t.Errorf("%+v", r)
	}
	for name, try := range map[string]func() error{
		"note": func() error { _, err := l.g.MarkRecord(t.Context(), ada, "note", 0, "mine"); return err },
		"sign": func() error {
			_, err := l.g.SignOffLog(t.Context(), ada, gateway.SignRequest{Meaning: "fine"})
			return err
		},
		"erase": func() error { _, err := l.g.EraseRecords(t.Context(), ada, "ada", "mine", "GDPR"); return err },
		"hold": func() error {
			_, err := l.g.HoldRecords(t.Context(), ada, audit.Hold{Dataset: "patients", Reason: "mine"})
			return err
		},
	} {
		size := l.parts.Audit.Size()
		if err := try(); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%s: %v", name, err)
		}
		if l.parts.Audit.Size() != size+1 || l.last().Entry.Decision != "deny" {
			t.Errorf("%s: the attempt is on no record", name)
		}
	}
}

// TestRecordsHoldEnough: who, how they were identified, why, what and where to
// stand in every record of a job, under one trace.
func TestRecordsHoldEnough(t *testing.T) {
	l := newLab(t, nil)
	job := l.run(request("first", "patients", sallyport.Outside))
	if job.State != gateway.Done {
		t.Fatal(job.Reasons)
	}
	recs := l.records("first")
	trace, request := recs[0].Entry.Trace, recs[0].Entry.Request
	if len(trace) != 32 || request == "" {
		t.Fatalf("%+v", recs[0])
	}
	for _, r := range recs {
		e := r.Entry
		if e.Trace != trace || e.Request != request || e.Subject != "ada" || e.Credential != "test" || !slices.Equal(e.Roles, []string{"researcher"}) ||
			e.Purpose != "research" || e.Project != "pilot" || e.Dataset != "patients" {
			t.Errorf("record %d (%s, %s) says less: %+v", r.Seq, e.Step, e.Phase, e)
		}
		if e.Phase != audit.Outcome {
			continue
		}
		switch e.Step {
		case "admit":
			if e.Destination != sallyport.Outside || !slices.Equal(e.Columns, []string{"age", "mrn", "score"}) && !slices.Equal(e.Columns, []string{"mrn", "age", "score"}) ||
				!slices.Equal(e.Objects, []string{"patients.csv"}) || e.Policy == "" || e.Data == "" || len(e.Rules) == 0 {
				t.Errorf("%+v", e)
			}
		case "hold", "release", "hand over":
			if e.Result == "" || e.Lease == "" || len(e.Columns) != 3 || e.Destination != sallyport.Outside {
				t.Errorf("%+v", e)
			}
		case "keep":
			if e.Result != job.Digest || job.Digest == "" {
				t.Errorf("%+v", e)
			}
		}
	}
	if other := l.run(requestOf("second")); other.Trace == trace || other.Trace == "" {
		t.Errorf("trace %q", other.Trace)
	}
	o, err := l.g.Open(t.Context(), ada(), "patients", "patients.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for r := range l.parts.Audit.Records(t.Context(), audit.Filter{Step: "look", Newest: true, Limit: 1}) {
		if e := r.Entry; !slices.Equal(e.Objects, []string{"patients.csv"}) || e.Result != o.Info().Digest || e.Trace == "" || e.Destination != sallyport.Local {
			t.Errorf("look: %+v", e)
		}
	}
}

func requestOf(id string) gateway.Request { return request(id, "patients", sallyport.Local) }

// TestADecisionIsDerivedAgainFromItsRecord: from the record and what the archive
// keeps by the digests in it, byte for byte, by an engine that knows nothing else.
func TestADecisionIsDerivedAgainFromItsRecord(t *testing.T) {
	kept := archive.Open(filepath.Join(t.TempDir(), "policy"))
	l := newLab(t, func(l *lab) {
		var err error
		l.parts.Policy, err = policy.New(t.Context(), policy.Config{Bundle: policies.FS, Keep: kept.Keep, Deadline: 10 * time.Second,
			Overlay: map[string]any{"catalog": l.parts.Catalog.Data(), "site": l.parts.Site, "register": l.parts.Register.Data()}})
		if err != nil {
			t.Fatal(err)
		}
	})
	l.run(request("yes", "patients", sallyport.Outside))
	l.run(request("no", "fine", sallyport.Outside))
	doors := map[string]policy.Door{"admit": policy.AdmitDoor, "release": policy.ReleaseDoor}
	n := map[string]int{}
	for _, job := range []sallyport.JobID{"yes", "no"} {
		for _, r := range l.records(job) {
			door, ok := doors[r.Entry.Step]
			if !ok || r.Entry.Phase != audit.Outcome {
				continue
			}
			var d struct{ Input, Verdict json.RawMessage }
			if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
				t.Fatal(err)
			}
			files, err := kept.Rules(r.Entry.Policy)
			if err != nil {
				t.Fatal(err)
			}
			data, err := kept.Data(r.Entry.Data)
			if err != nil {
				t.Fatal(err)
			}
			b, err := policy.Load(t.Context(), files)
			if err != nil {
				t.Fatal(err)
			}
			engine, err := b.Recorded(t.Context(), data, policy.Config{Deadline: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			v, err := engine.Decide(t.Context(), door, d.Input)
			if err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, d.Verdict) {
				t.Errorf("record %d: derived again\n%s\nrecorded\n%s", r.Seq, again, d.Verdict)
			}
			n[r.Entry.Decision]++
		}
	}
	if n["allow"] < 3 || n["deny"] < 1 {
		t.Errorf("derived %v", n)
	}
}

func TestShowExplainsOneRecord(t *testing.T) {
	l := newLab(t, withOfficers)
	l.run(request("no", "fine", sallyport.Outside))
	var denied audit.Record
	for _, r := range l.records("no") {
		if r.Entry.Decision == "deny" {
			denied = r
		}
	}
	if _, err := l.g.MarkRecord(t.Context(), anOfficer("otto"), "flag", denied.Seq, "at night"); err != nil {
		t.Fatal(err)
	}
	s, err := l.g.ShowRecord(t.Context(), anOfficer("olga"), denied.Seq, "case 1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Record.Entry.Decision != "deny" || len(s.Timeline) != len(l.records("no")) || len(s.Marks) != 1 || !s.Marks[0].Open || s.Reviewed != nil {
		t.Errorf("%+v", s)
	}
	for _, r := range s.Timeline {
		if r.Entry.Detail != nil {
			t.Error("the timeline carries details")
		}
	}
	path, err := audit.ParseHashes(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	p := audit.Proof{Extra: []byte(s.Leaf), Index: denied.Seq, Path: path, Checkpoint: s.Signed}
	if _, err := p.Check(audit.Trust{VerifierKey: l.parts.Audit.VerifierKey()}); err != nil {
		t.Error(err)
	}
	if r := l.last(); r.Entry.Step != "read log" || r.Entry.Subject != "olga" {
		t.Errorf("the look is on no record: %+v", r)
	}
	if _, err := l.g.ShowRecord(t.Context(), anOfficer("olga"), 1<<40, ""); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("a record that is not there: %v", err)
	}
}

func TestReviewsFollowEachOther(t *testing.T) {
	l := newLab(t, withOfficers)
	key, err := audit.ReviewKey(l.parts.Reviews, "lab")
	if err != nil {
		t.Fatal(err)
	}
	l.run(request("no", "fine", sallyport.Outside))
	l.run(request("yes", "patients", sallyport.Local))
	state := func() gateway.LogReview {
		t.Helper()
		r, err := l.g.LogReview(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := state()
	if r.From != 0 || r.Counts.Records != l.parts.Audit.Size() || r.Counts.Denied != 1 || r.Counts.Exports == 0 || r.People["ada"] == 0 || r.Key != key {
		t.Fatalf("%+v", r)
	}
	if public, err := l.g.LogReview(t.Context(), false); err != nil || public.Counts != r.Counts || public.People != nil || public.Flags != nil || public.Last != nil {
		t.Errorf("what everybody may know: %+v, %v", public, err)
	}
	mark := func(kind string, seq uint64, want sallyport.Kind) {
		t.Helper()
		_, err := l.g.MarkRecord(t.Context(), anOfficer("olga"), kind, seq, "to be looked into")
		if want == "" && err != nil || want != "" && sallyport.KindOf(err) != want {
			t.Errorf("%s %d: %v", kind, seq, err)
		}
	}
	mark("flag", 3, "")
	mark("flag", 3, sallyport.Conflict)
	mark("unflag", 4, sallyport.NotFound)
	mark("note", 3, "")
	mark("note", 1<<40, sallyport.NotFound)
	mark("praise", 3, sallyport.Invalid)
	if r = state(); len(r.Flags) != 1 || r.Flags[0].Record != 3 || len(r.Notes) != 1 || r.People["olga"] != 2 {
		t.Errorf("%+v", r)
	}

	to := uint64(4)
	first, err := l.g.SignOffLog(t.Context(), anOfficer("olga"), gateway.SignRequest{To: &to, Meaning: "reviewed"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := first.Signed.Check(key, l.parts.Audit.VerifierKey()); err != nil || s.From != 0 || s.To != 5 || s.Name != "olga" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := l.g.SignOffLog(t.Context(), anOfficer("olga"), gateway.SignRequest{To: &to, Meaning: "again"}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("signed twice: %v", err)
	}
	second, err := l.g.SignOffLog(t.Context(), anOfficer("otto"), gateway.SignRequest{Meaning: "reviewed as well"})
	if err != nil {
		t.Fatal(err)
	}
	if second.From != 5 || !second.Follows(first.SignOff, first.Signed.SignOff) {
		t.Errorf("%+v leaves a gap after %+v", second, first)
	}
	// The last sign-off's own record is what is left.
	if r = state(); r.From != second.To || r.Counts.Records != l.parts.Audit.Size()-second.To || r.Counts.Records != 1 || r.Last == nil || r.Last.Name != "otto" || len(r.Flags) != 1 {
		t.Errorf("%+v", r)
	}
	mark("unflag", 3, "")
	if r = state(); len(r.Flags) != 0 {
		t.Errorf("%+v", r.Flags)
	}
	if s, err := l.g.ShowRecord(t.Context(), anOfficer("olga"), 4, ""); err != nil || s.Reviewed == nil || s.Reviewed.Name != "olga" {
		t.Errorf("%+v, %v", s.Reviewed, err)
	}
	if all, err := l.g.SignOffs(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestNobodyReviewsThemselves(t *testing.T) {
	l := newLab(t, withOfficers)
	if _, err := l.g.SignOffLog(t.Context(), anOfficer("otto"), gateway.SignRequest{Meaning: "all before"}); err != nil {
		t.Fatal(err)
	}
	// What follows is otto's sign-off and readings, and nobody else's.
	if _, err := l.g.ReadLog(t.Context(), anOfficer("otto"), gateway.LogQuery{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.g.SignOffLog(t.Context(), anOfficer("otto"), gateway.SignRequest{Meaning: "mine"}); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("otto signed for otto: %v", err)
	}
	s, err := l.g.SignOffLog(t.Context(), anOfficer("olga"), gateway.SignRequest{Meaning: "otto's"})
	if err != nil || s.Own != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	l.run(requestOf("first"))
	if s, err = l.g.SignOffLog(t.Context(), anOfficer("olga"), gateway.SignRequest{Meaning: "with one of mine"}); err != nil || s.Own != 1 {
		t.Errorf("own records are not counted: %+v, %v", s, err)
	}
}

func TestErasureTakesTwoPeopleAndNoName(t *testing.T) {
	l := newLab(t, withOfficers)
	l.run(requestOf("first"))
	cp, err := l.parts.Audit.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	erase := func(by, reason string) (gateway.ErasedRecords, error) {
		return l.g.EraseRecords(t.Context(), anOfficer(by), "ada", reason, "GDPR Art. 17(1)(b)")
	}
	if _, err := erase("olga", "ada left"); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("the reason names the person: %v", err)
	}
	for range 2 { // the first does not count twice
		if _, err := erase("olga", "request 17"); sallyport.KindOf(err) != sallyport.Denied {
			t.Fatalf("one person erased: %v", err)
		}
	}
	if _, err := erase("otto", "request 18"); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("the second said something else: %v", err)
	}
	out, err := erase("otto", "request 17")
	if err != nil {
		t.Fatal(err)
	}
	if out.By != "olga" || out.Approved != "otto" || out.Records == 0 || !out.Verified.Whole || out.Verified.Erased != out.Records {
		t.Errorf("%+v", out)
	}
	if v, err := l.parts.Audit.Verify(audit.VerifyOptions{Checkpoint: cp}); err != nil || !v.Whole {
		t.Errorf("the old checkpoint: %+v, %v", v, err)
	}
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(r.Entry)
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Entry.Step; bytes.Contains(b, []byte(`"ada"`)) && (strings.Contains(s, "erase") || r.Entry.Subject == "olga" || r.Entry.Subject == "otto") {
			t.Errorf("record %d (%s) still names the person: %s", r.Seq, s, b)
		}
	}
}

func TestAHoldStopsErasure(t *testing.T) {
	l := newLab(t, withOfficers)
	l.run(requestOf("first"))
	hold, err := l.g.HoldRecords(t.Context(), anOfficer("olga"), audit.Hold{Subject: "ada", Reason: "case 1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.g.EraseRecords(t.Context(), anOfficer("olga"), "ada", "request 17", "GDPR")
	if sallyport.KindOf(err) != sallyport.Denied {
		t.Fatal(err)
	}
	if _, err = l.g.EraseRecords(t.Context(), anOfficer("otto"), "ada", "request 17", "GDPR"); err == nil || !strings.Contains(err.Error(), "hold") {
		t.Errorf("erased under a hold: %v", err)
	}
	holds, err := l.g.Holds()
	if err != nil || len(holds) != 1 || holds[0].Hold != hold.Seq || holds[0].By != "olga" || holds[0].Reason != "case 1" || strings.Contains(holds[0].Person, "ada") {
		t.Errorf("%+v, %v", holds, err)
	}
	if _, err := l.g.ReleaseHold(t.Context(), anOfficer("olga"), hold.Seq, "case closed"); err != nil {
		t.Error(err)
	}
	if holds, err = l.g.Holds(); err != nil || len(holds) != 0 {
		t.Errorf("%+v, %v", holds, err)
	}
}

func TestRetentionIsTheSites(t *testing.T) {
	l := newLab(t, withOfficers)
	if _, err := l.g.Retire(t.Context(), anOfficer("olga")); sallyport.KindOf(err) != sallyport.Unsupported {
		t.Errorf("without rules: %v", err)
	}
	l = newLab(t, func(l *lab) {
		withOfficers(l)
		l.parts.Retention = []audit.Retention{{Step: "old", Age: 24 * time.Hour}}
		for _, e := range []audit.Entry{{Step: "old", Subject: "ada", Time: time.Now().Add(-48 * time.Hour)}, {Step: "other", Subject: "ada", Time: time.Now().Add(-48 * time.Hour)}} {
			e.Phase = audit.Note
			if _, err := l.parts.Audit.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	})
	out, err := l.g.Retire(t.Context(), anOfficer("olga"))
	if err != nil || out.Records != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	if n := len(collect2(t, l, gateway.LogQuery{Filter: audit.Filter{Step: "apply retention", Subject: "olga"}})); n != 1 {
		t.Error("who asked is on no record")
	}
	if out, err = l.g.Retire(t.Context(), gateway.Subject{}); err != nil || out.Records != 0 {
		t.Errorf("again: %+v, %v", out, err)
	}
}
