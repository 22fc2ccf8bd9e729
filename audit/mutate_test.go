package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport"
)

// erasedLog returns a log with a hold and an erasure in it: 12 records of
// people, the hold (12), the intent (13), the tombstone (14), one more (15).
func erasedLog(t *testing.T) (log []byte, receipts []Receipt, key string) {
	t.Helper()
	l := openLog(t, newPath(t))
	receipts = appendAll(t, l, people(12)...)
	if _, err := l.Hold(t.Context(), Hold{Subject: "grace hopper", By: "counsel", Reason: "case 7"}); err != nil {
		t.Fatal(err)
	}
	done, err := l.Erase(t.Context(), erasureOf("ada lovelace"))
	if err != nil || done.Tombstone != 14 || done.Ranges != "0,3,6,9" {
		t.Fatal(done, err)
	}
	receipts = append(receipts, appendAll(t, l, peopleEntry(1))...)
	return snapshot(t, l), receipts, l.VerifierKey()
}

// What an erasure leaves must be as hard to forge as what it took.
func TestErasedMutations(t *testing.T) {
	log, receipts, key := erasedLog(t)
	const n, tomb = 16, 14
	for _, r := range receipts {
		wantWhole(t, writeFile(t, log), VerifyOptions{VerifierKey: key, Checkpoint: r.Checkpoint}, n)
	}
	edit := func(f func(r rows) error) string {
		t.Helper()
		return mutate(t, log, func(tx *bbolt.Tx) error {
			r, err := openRows(tx)
			if err != nil {
				return err
			}
			return f(r)
		})
	}
	get := func(b func(r rows) *bbolt.Bucket, seq uint64) (v []byte) {
		edit(func(r rows) error { v = bytes.Clone(b(r).Get(seqKey(seq))); return nil })
		return v
	}
	body := func(r rows) *bbolt.Bucket { return r.body }

	wantDamage(t, "a content removed beside the erased", edit(func(r rows) error { return r.body.Delete(seqKey(4)) }), key, 4, Removed)
	for _, seq := range []uint64{0, 3, 6, 9} {
		wantDamage(t, "a content put back", edit(func(r rows) error { return r.body.Put(seqKey(seq), get(body, 1)) }), key, int(seq), Added)
		wantDamage(t, "the leaf of an erased record removed", edit(func(r rows) error { return r.leaf.Delete(seqKey(seq)) }), key, int(seq), Removed)
		wantDamage(t, "the hashes of an erased record removed", edit(func(r rows) error { return r.hash.Delete(seqKey(seq)) }), key, int(seq), Removed)
		for at := 0; at < len(get(func(r rows) *bbolt.Bucket { return r.leaf }, seq)); at += 17 {
			wantDamage(t, "the leaf of an erased record changed", edit(func(r rows) error {
				return r.leaf.Put(seqKey(seq), flip(r.leaf.Get(seqKey(seq)), at))
			}), key, int(seq))
		}
	}
	for at := range get(body, tomb) {
		wantDamage(t, fmt.Sprintf("tombstone byte %d", at), edit(func(r rows) error { return r.body.Put(seqKey(tomb), flip(r.body.Get(seqKey(tomb)), at)) }), key, tomb, Changed)
	}
	// One that takes more than was erased, in a log that is otherwise as it was.
	wider := edit(func(r rows) error {
		b := bytes.Replace(get(body, tomb), []byte("0,3,6,9"), []byte("0,3,6-9"), 1)
		l, err := parseLeaf(r.leaf.Get(seqKey(tomb)))
		if err != nil {
			return err
		}
		l.Sealed, l.Body = sha256.Sum256(b), commitment(b[1:1+saltSize], b[1+saltSize:])
		return errors.Join(r.body.Put(seqKey(tomb), b), r.leaf.Put(seqKey(tomb), l.append(nil)), r.body.Delete(seqKey(7)), r.body.Delete(seqKey(8)))
	})
	wantDamage(t, "a wider tombstone", wider, key, -2, Changed, Removed)

	// The list of acts.
	for seq := range uint64(n) {
		switch seq {
		case 12, 13:
			wantDamage(t, "an act not listed", edit(func(r rows) error { return r.act.Delete(seqKey(seq)) }), key, int(seq), Removed)
		case tomb:
			wantDamage(t, "the tombstone not listed", edit(func(r rows) error { return r.act.Delete(seqKey(seq)) }), key, 0, Removed)
		default:
			wantDamage(t, "listed without being an act", edit(func(r rows) error { return r.act.Put(seqKey(seq), actRow) }), key, int(seq), Changed, Added)
			continue
		}
		wantDamage(t, "another value", edit(func(r rows) error { return r.act.Put(seqKey(seq), []byte{2}) }), key, -2, Added)
	}
	wantDamage(t, "an act past the end", edit(func(r rows) error { return r.act.Put(seqKey(n), actRow) }), key, n, Changed, Added)
	wantDamage(t, "an act of no number", edit(func(r rows) error { return r.act.Put([]byte{7}, actRow) }), key, -2, Added)
	wantDamage(t, "no list", mutate(t, log, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketAct)) }), key, -1, Removed)

	// Opening for reading refuses it too, where it looks: at the acts and the tail.
	for what, path := range map[string]string{
		"tombstone": edit(func(r rows) error { return r.body.Put(seqKey(tomb), flip(r.body.Get(seqKey(tomb)), 60)) }),
		"unlisted":  edit(func(r rows) error { return r.act.Delete(seqKey(13)) }),
	} {
		_, err := OpenReadOnly(path)
		if sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%s: %v", what, err)
		}
	}

	// Every byte of the whole file.
	whole := 0
	for at := 0; at < len(log); at += 1 + at%211 {
		path := writeFile(t, flip(log, at))
		v, err := Verify(path, VerifyOptions{VerifierKey: key, Checkpoint: receipts[len(receipts)-1].Checkpoint})
		if err != nil {
			t.Fatal(at, err)
		}
		if v.Whole {
			whole++
			if v.Erased != 4 || v.Records != n {
				t.Fatalf("byte %d: %+v", at, v)
			}
		}
	}
	if whole == 0 {
		t.Error("no flip hit an unused byte")
	}
}

// A key file that is changed, cut, exchanged or lost makes its records
// unreadable and nothing else: nothing false is shown, and the log is whole.
func TestKeyFileMutations(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "audit.db"))
	appendAll(t, l, people(9)...)
	ada, grace := l.keys.name("ada lovelace").String(), l.keys.name("grace hopper").String()
	l.Close()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, "audit.db.keys", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole, other := read(ada), read(grace)
	check := func(what string, b []byte) {
		t.Helper()
		d := copyFolder(t, dir)
		key := filepath.Join(d, "audit.db.keys", ada)
		if b == nil {
			os.Remove(key)
		} else if err := os.WriteFile(key, b, 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(d, "audit.db")
		if v := wantWhole(t, path, VerifyOptions{}, 9); v.Lost != 3 {
			t.Fatalf("%s: %+v", what, v)
		}
		for _, open := range []func(string) (*Log, error){OpenReadOnly, func(p string) (*Log, error) { return Open(testConfig(p)) }} {
			l, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 9 {
				r, err := l.Get(uint64(i))
				if err != nil || r.Sealed != (i%3 == 0) || r.Sealed && r.Entry.Subject != "" {
					t.Fatalf("%s: record %d: %+v, %v", what, i, r, err)
				}
			}
			l.Close()
		}
	}
	for at := range whole {
		if at%9 == 0 {
			check(fmt.Sprintf("flip %d", at), flip(whole, at))
		}
	}
	check("cut", whole[:len(whole)-1])
	check("empty", []byte{})
	check("lost", nil)
	check("exchanged", other)

	// With the wrong master nothing opens, and that is said.
	wrong := VerifyOptions{Master: bytes.Repeat([]byte{1}, masterSize)}
	_, err := Verify(filepath.Join(dir, "audit.db"), wrong)
	wantKind(t, err, sallyport.Conflict)
	_, err = OpenRead(ReadConfig{Path: filepath.Join(dir, "audit.db"), Master: wrong.Master})
	wantKind(t, err, sallyport.Conflict)
	cfg := testConfig(filepath.Join(dir, "audit.db"))
	cfg.Master = wrong.Master
	_, err = Open(cfg)
	wantKind(t, err, sallyport.Conflict)
	cfg.Master = []byte("short")
	_, err = Open(cfg)
	wantKind(t, err, sallyport.Invalid)

	// Without the log's own key nobody knows what is held: nothing is erased.
	d := copyFolder(t, dir)
	if err := os.Remove(filepath.Join(d, "audit.db.keys", l.keys.name(ownSubject).String())); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, filepath.Join(d, "audit.db"))
	appendAll(t, l, people(1)...)
	if _, err := l.Erase(t.Context(), erasureOf("ada lovelace")); err != nil {
		t.Fatal(err) // no act is on record that could be a hold
	}
}

// A hold that cannot be read any more still holds everything.
func TestUnreadableHold(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, filepath.Join(dir, "audit.db"))
	appendAll(t, l, people(9)...)
	if _, err := l.Hold(t.Context(), Hold{Dataset: "other", By: "counsel", Reason: "case"}); err != nil {
		t.Fatal(err)
	}
	own := l.keys.name(ownSubject).String()
	l.Close()
	if err := os.Remove(filepath.Join(dir, "audit.db.keys", own)); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, filepath.Join(dir, "audit.db"))
	_, err := l.Erase(t.Context(), erasureOf("ada lovelace"))
	wantKind(t, err, sallyport.Unavailable)
	_, err = l.Retain(t.Context(), []Retention{{Age: 1}})
	wantKind(t, err, sallyport.Unavailable)
	if l.Err() != nil || sallyport.HintOf(err) == "" {
		t.Fatal(l.Err(), err)
	}
}

// Keys that the log was not given: the file alone, and with the master kept
// elsewhere.
func TestCopyWithoutKeys(t *testing.T) {
	path := newPath(t)
	master := bytes.Repeat([]byte{3}, masterSize)
	cfg := testConfig(path)
	cfg.Master = master
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendAll(t, l, people(6)...)
	if _, err := os.Stat(filepath.Join(path+".keys", masterFile)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("a master was kept beside the keys though one was given")
	}
	for _, e := range []struct{ path, mode string }{{path + ".keys", "drwx------"}, {filepath.Join(path+".keys", l.keys.name("ada lovelace").String()), "-rw-------"}} {
		if info, err := os.Stat(e.path); err != nil || info.Mode().String() != e.mode {
			t.Fatal(info.Mode(), err)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(copied, snapshot(t, l), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, rc := range map[string]ReadConfig{
		"file alone":    {Path: copied},
		"no master":     {Path: copied, Keys: path + ".keys"},
		"nothing there": {Path: copied, Master: master},
	} {
		ro, err := OpenRead(rc)
		if err != nil {
			t.Fatal(what, err)
		}
		for i := range 6 {
			r, err := ro.Get(uint64(i))
			e := peopleEntry(i)
			if err != nil || !r.Sealed || !r.Entry.Time.Equal(e.Time) || r.Entry.Step != e.Step || r.Entry.Phase != e.Phase || r.Entry.Subject != "" || r.Leaf == "" {
				t.Fatalf("%s: %+v, %v", what, r, err)
			}
		}
		if recs := search(t, ro, Filter{Step: "admit"}); len(recs) != 3 {
			t.Fatalf("%s: %d records by step", what, len(recs))
		}
		if recs := search(t, ro, Filter{Subject: "ada lovelace"}); len(recs) != 0 {
			t.Fatalf("%s: found %v", what, recs)
		}
		ro.Close()
	}
	ro, err := OpenRead(ReadConfig{Path: copied, Keys: path + ".keys", Master: master})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if recs := search(t, ro, Filter{Subject: "ada lovelace"}); len(recs) != 2 {
		t.Fatal(recs)
	}
	if v, err := Verify(copied, VerifyOptions{}); err != nil || !v.Whole || v.Sealed != 6 {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := Verify(copied, VerifyOptions{Keys: path + ".keys", Master: master}); err != nil || !v.Whole || v.Sealed != 0 || v.Lost != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
}

// A key that cannot be made stops the log: nothing may be recorded that nobody
// could read.
func TestKeyFolderFails(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	appendAll(t, l, people(3)...)
	if err := os.Rename(path+".keys", path+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append(t.Context(), Entry{Step: "run", Phase: Note, Subject: "new here"})
	wantKind(t, err, sallyport.Unavailable)
	_, err = l.Append(t.Context(), peopleEntry(0))
	wantKind(t, err, sallyport.Unavailable)
	if l.Err() == nil || l.Size() != 3 {
		t.Fatal(l.Err(), l.Size())
	}
	l.Close()
	if err := os.Rename(path+".away", path+".keys"); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path)
	appendAll(t, l, Entry{Step: "run", Phase: Note, Subject: "new here"})
}

// Where the new file cannot be put is no different from a full disk.
func TestCompactionFails(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	appendAll(t, l, people(30)...)
	blocker := path + compactSuffix
	if err := os.MkdirAll(filepath.Join(blocker, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := l.Erase(t.Context(), erasureOf("ada lovelace"))
	wantKind(t, err, sallyport.Unavailable)
	if l.Err() == nil {
		t.Fatal("the log goes on")
	}
	if _, err := l.keys.named(l.keys.name("ada lovelace")); !errors.Is(err, errNoKey) {
		t.Fatal("the key is there")
	}
	l.Close()
	_, err = Open(testConfig(path))
	wantKind(t, err, sallyport.Unavailable)
	if err := os.RemoveAll(blocker); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path)
	if r, err := l.Get(0); err != nil || r.Erased == nil {
		t.Fatalf("%+v, %v", r, err)
	}
}

// A signing key that is away when the tombstone comes does not stop the log;
// the next erasure finishes this one.
func TestSignerAwayWhileErasing(t *testing.T) {
	key := ed25519.NewKeyFromSeed(testSeed)
	var left atomic.Int64
	left.Store(1 << 40)
	path := newPath(t)
	l, err := Open(Config{Path: path, Origin: testOrigin, Public: key.Public().(ed25519.PublicKey), Sign: func(msg []byte) ([]byte, error) {
		if left.Add(-1) < 0 {
			return nil, errors.New("sealed")
		}
		return ed25519.Sign(key, msg), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendAll(t, l, people(30)...)
	left.Store(1) // the intent
	_, err = l.Erase(t.Context(), erasureOf("ada lovelace"))
	wantKind(t, err, sallyport.Unavailable)
	left.Store(1 << 40)
	appendAll(t, l, peopleEntry(0)) // the person is back, under another key
	if r, err := l.Get(0); err != nil || !r.Sealed {
		t.Fatalf("%+v, %v", r, err)
	}
	done, err := l.Erase(t.Context(), erasureOf("ada lovelace"))
	if err != nil || done.Records != 10 || done.Intent != 30 {
		t.Fatal(done, err)
	}
	if r, err := l.Get(31); err != nil || r.Entry.Subject != "ada lovelace" {
		t.Fatalf("%+v, %v", r, err)
	}
	if v, err := l.Verify(VerifyOptions{}); err != nil || !v.Whole || v.Erased != 10 {
		t.Fatalf("%+v, %v", v, err)
	}
}
