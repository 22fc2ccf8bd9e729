package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// peopleEntry is a record of one of three people.
func peopleEntry(i int) Entry {
	who := []string{"ada lovelace", "grace hopper", "emmy noether"}[i%3]
	return Entry{
		Time: testTime.Add(time.Duration(i) * time.Second), Step: []string{"admit", "run"}[i%2], Phase: Note, Subject: who,
		Job: sallyport.JobID(fmt.Sprintf("job-%d", i)), Dataset: fmt.Sprintf("set-%d", i%5), Project: fmt.Sprintf("project-%d", i%2),
		Reasons: []string{"asked by " + who}, Detail: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i)),
	}
}

func appendAll(t testing.TB, l *Log, es ...Entry) []Receipt {
	t.Helper()
	var out []Receipt
	for _, e := range es {
		r, err := l.Append(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func people(n int) (out []Entry) {
	for i := range n {
		out = append(out, peopleEntry(i))
	}
	return out
}

func erasureOf(subject string) Erasure {
	return Erasure{Subject: subject, By: "officer", Approved: "second officer", Reason: "asked to be forgotten", Basis: "GDPR Art. 17(1)(b)"}
}

// folderBytes reads all files below a folder.
func folderBytes(t testing.TB, dir string) []byte {
	t.Helper()
	var all []byte
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func bodiesOf(t testing.TB, l *Log, seqs ...uint64) (out [][]byte) {
	t.Helper()
	if err := l.view("", func(_ *bbolt.Tx, r rows) error {
		for _, seq := range seqs {
			out = append(out, bytes.Clone(r.body.Get(seqKey(seq))))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestErase(t *testing.T) {
	const n = 300
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	l := openLog(t, path)
	entries := people(n)
	receipts := appendAll(t, l, entries...)
	gone := func(i int) bool { return entries[i].Subject == "ada lovelace" }
	var seqs []uint64
	for i := range n {
		if gone(i) {
			seqs = append(seqs, uint64(i))
		}
	}
	bodies := bodiesOf(t, l, seqs...)
	before := snapshot(t, l)
	name := l.keys.name("ada lovelace").String()
	keyFile, err := os.ReadFile(filepath.Join(dir, "audit.db.keys", name))
	if err != nil {
		t.Fatal(err)
	}

	done, err := l.Erase(t.Context(), erasureOf("ada lovelace"))
	if err != nil {
		t.Fatal(err)
	}
	if done.Records != uint64(len(seqs)) || done.Intent != n || done.Tombstone != n+1 || !strings.HasPrefix(done.Ranges, "0,3,6,") {
		t.Fatalf("%+v", done)
	}
	check := func(l *Log) {
		t.Helper()
		for i := range n {
			r, err := l.Get(uint64(i))
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Leaf != receipts[i].Leaf:
				t.Fatalf("leaf %d", i)
			case gone(i) != (r.Erased != nil) || r.Sealed || gone(i) && (*r.Erased != done.Tombstone || r.Entry.Subject != "" || r.Entry.Step != entries[i].Step):
				t.Fatalf("record %d: %+v", i, r)
			case !gone(i) && r.Entry.Job != entries[i].Job:
				t.Fatalf("record %d: %+v", i, r)
			}
		}
		tomb, err := l.Get(done.Tombstone)
		if err != nil || !strings.Contains(string(tomb.Entry.Detail), name) {
			t.Fatalf("tombstone %+v, %v", tomb, err)
		}
		intent, err := l.Get(done.Intent)
		if err != nil || intent.Entry.Subject != "officer" || intent.Entry.Phase != Intent {
			t.Fatalf("intent %+v, %v", intent, err)
		}
		for r, err := range l.Records(t.Context(), Filter{Subject: "ada lovelace", Before: n}) {
			t.Fatalf("found %+v, %v", r, err)
		}
	}
	check(l)
	// The person comes back, with another key.
	back := appendAll(t, l, peopleEntry(0))[0]
	if r, err := l.Get(back.Seq); err != nil || r.Entry.Subject != "ada lovelace" {
		t.Fatalf("%+v, %v", r, err)
	}
	// All proofs from the new file, against the checkpoint that the log now has.
	cp, _ := l.Checkpoint()
	head, err := ParseCheckpoint(cp, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.view("", func(_ *bbolt.Tx, r rows) error {
		for i := range n {
			proof, err := tlog.ProveRecord(int64(head.Size), int64(i), r)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(proof, int64(head.Size), head.Root, int64(i), tlog.RecordHash(r.leaf.Get(seqKey(uint64(i))))); err != nil {
				return err
			}
			old, err := ParseCheckpoint(receipts[i].Checkpoint, l.VerifierKey())
			if err != nil {
				return err
			}
			tree, err := tlog.ProveTree(int64(head.Size), int64(old.Size), r)
			if err != nil {
				return err
			}
			if err := tlog.CheckTree(tree, int64(head.Size), head.Root, int64(old.Size), old.Root); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// Nothing of it is left in any file.
	all := folderBytes(t, dir)
	for i, b := range bodies {
		if bytes.Contains(all, b) || bytes.Contains(all, b[sealedHead:sealedHead+24]) {
			t.Fatalf("the sealed content of record %d is still in a file", seqs[i])
		}
	}
	for _, what := range []string{"ada lovelace", "lovelace", "emmy noether", "grace hopper"} {
		if bytes.Contains(all, []byte(what)) {
			t.Fatalf("%q is in a file", what)
		}
	}
	if bytes.Contains(all, keyFile[len(keyMagic):]) {
		t.Fatal("the wrapped key is still in a file")
	}
	for _, r := range receipts {
		wantWhole(t, path, VerifyOptions{Checkpoint: r.Checkpoint}, n+3)
	}
	v := wantWhole(t, path, VerifyOptions{}, n+3)
	if v.Erased != uint64(len(seqs)) || v.Sealed != 0 || v.Lost != 0 {
		t.Fatalf("%+v", v)
	}
	if v := wantWhole(t, path, VerifyOptions{Keys: "none"}, n+3); v.Erased != uint64(len(seqs)) || v.Sealed == 0 {
		t.Fatalf("%+v", v)
	}
	l = openLog(t, path)
	check(l)

	// A copy made before is whole, has the sealed contents, and no key to them:
	// the one that came after is another.
	old := writeFile(t, before)
	if v := wantWhole(t, old, VerifyOptions{}, n); v.Lost != uint64(len(seqs)) {
		t.Fatalf("%+v", v)
	}
	ro, err := OpenReadOnly(old)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	for i := range n {
		r, err := ro.Get(uint64(i))
		if err != nil || r.Sealed != gone(i) || r.Erased != nil {
			t.Fatalf("%d: %+v, %v", i, r, err)
		}
	}
}

// Appending goes on while a person is erased, also that person's.
func TestEraseUnderLoad(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	appendAll(t, l, people(200)...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[uint64]sallyport.JobID{}
	for w := range 8 {
		wg.Go(func() {
			for i := w; ; i += 8 {
				select {
				case <-stop:
					return
				default:
				}
				e := peopleEntry(i)
				e.Job = sallyport.JobID(fmt.Sprintf("w%d-%d", w, i))
				r, err := l.Append(context.Background(), e)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[r.Seq] = e.Job
				mu.Unlock()
			}
		})
	}
	// Readers see a log that is whole at any time.
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if v, err := l.Verify(VerifyOptions{}); err != nil || !v.Whole {
					t.Errorf("%+v, %v", v, err)
					return
				}
				for r, err := range l.Records(context.Background(), Filter{Newest: true, Limit: 300}) {
					if err != nil || r.Sealed && r.Erased != nil {
						t.Errorf("%+v, %v", r, err)
						return
					}
				}
				if err := l.Snapshot(io.Discard); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var last Erased
	for range 5 {
		for _, who := range []string{"ada lovelace", "grace hopper"} {
			done, err := l.Erase(t.Context(), erasureOf(who))
			if err != nil && sallyport.KindOf(err) != sallyport.NotFound {
				t.Fatal(err)
			}
			if err == nil {
				last = done
			}
		}
	}
	close(stop)
	wg.Wait()
	erased := 0
	for seq, job := range acked {
		r, err := l.Get(seq)
		if err != nil || r.Sealed || r.Erased == nil && r.Entry.Job != job {
			t.Fatalf("record %d: %+v, %v", seq, r, err)
		}
		if r.Erased != nil {
			erased++
			if seq >= last.Intent {
				t.Fatalf("record %d is newer than the erasure and erased", seq)
			}
		}
	}
	size := int(l.Size())
	l.Close()
	wantWhole(t, path, VerifyOptions{}, size)
	t.Logf("%d records while erasing, %d of them erased", len(acked), erased)
}

func TestEraseRefuses(t *testing.T) {
	l := openLog(t, newPath(t))
	appendAll(t, l, people(30)...)
	good := erasureOf("ada lovelace")
	for what, c := range map[string]struct {
		change func(*Erasure)
		kind   sallyport.Kind
	}{
		"nobody":       {func(e *Erasure) { e.Subject = "" }, sallyport.Invalid},
		"by nobody":    {func(e *Erasure) { e.By = "" }, sallyport.Invalid},
		"not approved": {func(e *Erasure) { e.Approved = "" }, sallyport.Invalid},
		"one person":   {func(e *Erasure) { e.Approved = e.By }, sallyport.Denied},
		"no reason":    {func(e *Erasure) { e.Reason = "" }, sallyport.Invalid},
		"no basis":     {func(e *Erasure) { e.Basis = "" }, sallyport.Invalid},
		"name":         {func(e *Erasure) { e.Reason = "ada lovelace asked" }, sallyport.Invalid},
		"unknown":      {func(e *Erasure) { e.Subject = "nobody known" }, sallyport.NotFound},
	} {
		e := good
		c.change(&e)
		_, err := l.Erase(t.Context(), e)
		if sallyport.KindOf(err) != c.kind {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, step := range []string{stepHold, stepRelease, stepErase, stepRetire, stepKey} {
		_, err := l.Append(t.Context(), Entry{Step: step, Phase: Outcome, Detail: json.RawMessage(`{"act":0,"records":1,"ranges":"1"}`)})
		wantKind(t, err, sallyport.Invalid)
	}
	if l.Size() != 30 {
		t.Fatalf("%d records", l.Size())
	}
}

// copyFolder copies a log with its keys, as a crash would leave them.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "x"), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "x")
}

// Whatever point an erasure was cut off at, opening the log finishes it.
func TestErasureBegun(t *testing.T) {
	const n = 30
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "audit.db"))
	appendAll(t, l, people(n)...)
	name := l.keys.name("ada lovelace")
	k, err := l.keys.named(name)
	if err != nil {
		t.Fatal(err)
	}
	d := erasureDetail{Subject: name.String(), Gen: fmt.Sprintf("%x", k.gen[:]), Approved: "b", Basis: "law"}
	if _, err := l.act(t.Context(), "", Entry{Step: stepErase, Phase: Intent, Subject: "a"}, d, false); err != nil {
		t.Fatal(err)
	}
	l.Close()
	keyPath := func(dir string) string { return filepath.Join(dir, "audit.db.keys", name.String()) }
	for what, cut := range map[string]func(t *testing.T, dir string){
		"after the intent": func(*testing.T, string) {},
		"key overwritten": func(t *testing.T, dir string) {
			if err := os.WriteFile(keyPath(dir), bytes.Repeat([]byte{1}, keyFileSize), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"key gone": func(t *testing.T, dir string) {
			if err := os.Remove(keyPath(dir)); err != nil {
				t.Fatal(err)
			}
		},
		"key gone, half of the new file written": func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(keyPath(dir)), os.WriteFile(filepath.Join(dir, "audit.db"+compactSuffix), []byte("half"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"key gone, the person is back": func(t *testing.T, dir string) {
			if err := os.Remove(keyPath(dir)); err != nil {
				t.Fatal(err)
			}
			// As it is when a running log fails to write the new file.
			l, err := open("", ReadConfig{Path: filepath.Join(dir, "audit.db")}, false)
			if err != nil {
				t.Fatal(err)
			}
			l.signer, _ = newSigner(testConfig(""))
			l.now = time.Now
			l.keys.readOnly = false
			p, err := l.prepare("", peopleEntry(0), false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.commit([]pending{p}, nil); err != nil {
				t.Fatal(err)
			}
			l.db.Load().Close()
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := copyFolder(t, dir)
			cut(t, dir)
			path := filepath.Join(dir, "audit.db")
			back := what == "key gone, the person is back"
			l := openLog(t, path)
			for i := range n {
				r, err := l.Get(uint64(i))
				if err != nil || (r.Erased != nil) != (i%3 == 0) {
					t.Fatalf("record %d: %+v, %v", i, r, err)
				}
			}
			want := n + 2
			if back {
				want++
				if r, err := l.Get(n + 1); err != nil || r.Entry.Subject != "ada lovelace" {
					t.Fatalf("%+v, %v", r, err)
				}
			} else if _, err := os.Stat(keyPath(dir)); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("the key is still there")
			}
			l.Close()
			if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("the half file is still there")
			}
			wantWhole(t, path, VerifyOptions{}, want)
			l = openLog(t, path) // nothing more is to be done
			if int(l.Size()) != want {
				t.Fatalf("%d records, want %d", l.Size(), want)
			}
		})
	}
}

// An erasure refuses a log that is damaged, and leaves it as it is.
func TestEraseDamaged(t *testing.T) {
	l := openLog(t, newPath(t))
	appendAll(t, l, people(maxBatch+60)...)
	log := snapshot(t, l)
	path := mutate(t, log, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketBody))
		return b.Put(seqKey(4), flip(b.Get(seqKey(4)), 70))
	})
	damaged, err := Open(testConfig(path))
	if err != nil {
		t.Fatal(err)
	}
	defer damaged.Close()
	_, err = damaged.Erase(t.Context(), erasureOf("ada lovelace"))
	wantKind(t, err, sallyport.Damaged)
	if v, err := damaged.Verify(VerifyOptions{}); err != nil || v.Damage != Changed || v.FirstBad == nil || *v.FirstBad != 4 {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the new file is still there")
	}
}

// A tombstone of many ranges is several records, each within the bounds of one.
func TestManyRanges(t *testing.T) {
	l := openLog(t, newPath(t))
	var gone spans
	for i := range uint64(2*maxRanges + 5) {
		gone = gone.add(1<<60 + 3*i)
		gone = gone.add(1<<60 + 3*i + 1)
	}
	tombs, err := l.tombstones("", stepErase, "", 7, gone)
	if err != nil || len(tombs) != 3 {
		t.Fatal(len(tombs), err)
	}
	a := &acts{keys: []string{"k"}, begun: &erasureDetail{}}
	for i, p := range tombs {
		if a.begun == nil {
			t.Fatal("done before the last")
		}
		if err := a.note(1<<61+uint64(i), p.leaf.Step, p.leaf.Phase, p.plain[saltSize:]); err != nil {
			t.Fatal(err)
		}
	}
	if a.begun != nil || a.erased.count() != gone.count() {
		t.Fatal(a.begun, a.erased.count())
	}
	if err := a.note(1<<61+9, stepErase, Outcome, tombs[0].plain[saltSize:]); err == nil {
		t.Fatal("erased twice")
	}
}

func TestRanges(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "0": true, "0-4,7": true, "5,7-9,11": true,
		"4-4": false, "4-3": false, "1,2": false, "1-3,4": false, "3,1": false, "01": false, "1,": false, ",1": false, "-1": false, "a": false, "1-99": false, " 1": false, "+1": false,
	} {
		s, err := parseRanges(text, 50)
		if (err == nil) != ok || ok && s.String() != text {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}
