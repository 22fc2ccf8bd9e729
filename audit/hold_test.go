package audit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport"
)

func TestHolds(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	appendAll(t, l, people(30)...)
	for what, h := range map[string]Hold{
		"subject": {Subject: "ada lovelace"},
		"dataset": {Dataset: "set-3"},
		"project": {Project: "project-1"},
	} {
		h.By, h.Reason = "counsel", "case 7"
		r, err := l.Hold(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		// It survives a restart: the log states it.
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, path)
		held := l.Holds()
		if len(held) != 1 || held[0].Seq != r.Seq || held[0].Dataset != h.Dataset || held[0].Project != h.Project || (held[0].Subject != "") != (h.Subject != "") {
			t.Fatalf("%s: %+v", what, held)
		}
		size := l.Size()
		_, err = l.Erase(t.Context(), erasureOf("ada lovelace"))
		wantKind(t, err, sallyport.Denied)
		if l.Size() != size {
			t.Fatalf("%s: a refused erasure wrote something", what)
		}
		if _, err := l.keys.named(l.keys.name("ada lovelace")); err != nil {
			t.Fatal(err)
		}
		_, err = l.Release(t.Context(), r.Seq+100, "counsel", "", "closed")
		wantKind(t, err, sallyport.NotFound)
		if _, err := l.Release(t.Context(), r.Seq, "counsel", "", "closed"); err != nil {
			t.Fatal(err)
		}
		if len(l.Holds()) != 0 {
			t.Fatal("still held")
		}
	}
	// What is held of one person is no reason to keep another's.
	if _, err := l.Hold(t.Context(), Hold{Subject: "grace hopper", By: "counsel", Reason: "case 8"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Erase(t.Context(), erasureOf("ada lovelace")); err != nil {
		t.Fatal(err)
	}
	for _, h := range []Hold{{}, {Subject: "a", Dataset: "b", By: "c", Reason: "d"}, {Subject: "a", Reason: "d"}, {Subject: "a", By: "c"}} {
		_, err := l.Hold(t.Context(), h)
		wantKind(t, err, sallyport.Invalid)
	}
	size := int(l.Size())
	l.Close()
	wantWhole(t, path, VerifyOptions{}, size)
}

func TestRetain(t *testing.T) {
	path := newPath(t)
	now := testTime
	cfg := testConfig(path)
	cfg.Now = func() time.Time { return now }
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	keyFolders.Store(rootName(t), path+".keys")
	const n = 60
	appendAll(t, l, people(n)...)
	appendAll(t, l, Entry{Time: testTime, Step: "activate policy", Phase: Note, Subject: "admin"},
		Entry{Time: testTime, Step: "admit", Phase: Note, Subject: "once only"})
	h, err := l.Hold(t.Context(), Hold{Dataset: "set-2", By: "counsel", Reason: "case 9"})
	if err != nil {
		t.Fatal(err)
	}
	size := l.Size()
	rules := []Retention{{Step: "admit", Age: time.Hour}, {Step: "run", Age: 48 * time.Hour}}
	if done, err := l.Retain(t.Context(), rules); err != nil || done != (Erased{}) || l.Size() != size {
		t.Fatalf("nothing is old: %+v, %v", done, err)
	}
	now = testTime.Add(24 * time.Hour)
	done, err := l.Retain(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, gone func(e Entry) bool) {
		t.Helper()
		for i := range n {
			r, err := l.Get(uint64(i))
			if err != nil || (r.Erased != nil) != gone(peopleEntry(i)) || r.Sealed {
				t.Fatalf("%s: record %d: %+v, %v", when, i, r, err)
			}
		}
	}
	want("first", func(e Entry) bool { return e.Step == "admit" && e.Dataset != "set-2" })
	if r, err := l.Get(n); err != nil || r.Erased != nil || r.Entry.Subject != "admin" {
		t.Fatalf("policy record: %+v, %v", r, err)
	}
	if done.Records != n/2-n/10+1 {
		t.Fatalf("%+v", done)
	}
	// Who has nothing left has no key left.
	if _, err := os.Stat(filepath.Join(path+".keys", l.keys.name("once only").String())); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a key of nothing is still there")
	}
	appendAll(t, l, Entry{Step: "admit", Phase: Note, Subject: "once only"})
	if _, err := l.Release(t.Context(), h.Seq, "counsel", "", "closed"); err != nil {
		t.Fatal(err)
	}
	now = testTime.Add(30 * 24 * time.Hour)
	if _, err := l.Retain(t.Context(), []Retention{{Step: "", Age: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	want("all", func(Entry) bool { return true })
	for r, err := range l.Records(t.Context(), Filter{}) {
		if err != nil || r.Seq >= n && (r.Erased == nil) != (permanent(r.Entry.Step) || reserved(r.Entry.Step)) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for _, bad := range [][]Retention{{{Step: "admit"}}, {{Step: "activate policy", Age: time.Hour}}, {{Step: stepErase, Age: time.Hour}}, {{Step: "a", Age: 1}, {Step: "a", Age: 2}}} {
		_, err := l.Retain(t.Context(), bad)
		wantKind(t, err, sallyport.Invalid)
	}
	total := int(l.Size())
	l.Close()
	wantWhole(t, path, VerifyOptions{}, total)
}
