package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport"
)

const testOrigin = "lab.example/sallyport"

var (
	testSeed  = bytes.Repeat([]byte{7}, 32)
	otherSeed = bytes.Repeat([]byte{8}, 32)
	testTime  = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
)

func testConfig(path string) Config {
	return Config{Path: path, Origin: testOrigin, Seed: testSeed, Now: func() time.Time { return testTime }}
}

func openLog(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(testConfig(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	keyFolders.Store(rootName(t), path+".keys")
	return l
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.db") }

func testEntry(i int) Entry {
	return Entry{
		Time: testTime.Add(time.Duration(i) * time.Second), Step: "admit", Phase: []Phase{Intent, Outcome, Note}[i%3],
		Job: sallyport.JobID(fmt.Sprintf("job-%d", i/3)), Subject: "ada", Dataset: "patients", Decision: "allow",
		Reasons: []string{"purpose <fits>"}, Policy: sallyport.DigestOf([]byte("p")), Cost: sallyport.Unit,
		Detail: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i)),
	}
}

func fill(t testing.TB, l *Log, n int) []Receipt {
	t.Helper()
	var out []Receipt
	for i := range n {
		r, err := l.Append(context.Background(), testEntry(int(l.Size())))
		if err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
		out = append(out, r)
	}
	return out
}

// fillFast appends without waiting for each: in order, in large batches.
func fillFast(t testing.TB, l *Log, n int) {
	t.Helper()
	var waiting []pending
	for i := range n {
		p, err := l.prepare("", testEntry(i), false)
		if err == nil {
			err = l.enqueue(context.Background(), "", p)
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, p)
	}
	for _, p := range waiting {
		if r := <-p.reply; r.err != nil {
			t.Fatal(r.err)
		}
	}
}

func wantKind(t testing.TB, err error, kind sallyport.Kind) {
	t.Helper()
	if err == nil || sallyport.KindOf(err) != kind {
		t.Fatalf("error %v of kind %q, want %q", err, sallyport.KindOf(err), kind)
	}
}

func wantWhole(t testing.TB, path string, opts VerifyOptions, records int) Verification {
	t.Helper()
	v, err := Verify(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Whole || v.Records != uint64(records) || v.FirstBad != nil || v.Damage != "" {
		t.Fatalf("%d records: %+v", records, v)
	}
	return v
}

func TestRoundTrip(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	const n = 20
	receipts := fill(t, l, n)
	key := l.VerifierKey()
	for i, r := range receipts {
		if r.Seq != uint64(i) {
			t.Fatalf("receipt %d has number %d", i, r.Seq)
		}
		cp, err := ParseCheckpoint(r.Checkpoint, key)
		if err != nil || cp.Size != uint64(i+1) || cp.Origin != testOrigin {
			t.Fatalf("checkpoint of receipt %d: %+v, %v", i, cp, err)
		}
		rec, err := l.Get(r.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Record{Seq: r.Seq, Entry: testEntry(i), Leaf: r.Leaf}, rec); diff != "" {
			t.Fatal(diff)
		}
	}
	if cp, err := l.Checkpoint(); err != nil || cp != receipts[n-1].Checkpoint || l.Size() != n {
		t.Fatalf("head: %q, %v, %d", cp, err, l.Size())
	}
	_, err := l.Get(n)
	wantKind(t, err, sallyport.NotFound)
	_, err = Verify(path, VerifyOptions{})
	wantKind(t, err, sallyport.Unavailable) // in use
	if sallyport.HintOf(err) == "" {
		t.Error("no hint for a log in use")
	}
	_, err = OpenReadOnly(path)
	wantKind(t, err, sallyport.Unavailable)
	if v, err := l.Verify(VerifyOptions{VerifierKey: key}); err != nil || !v.Whole {
		t.Fatalf("open log: %+v, %v", v, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// Every receipt's checkpoint must be a past of the log.
	for _, r := range receipts {
		v := wantWhole(t, path, VerifyOptions{VerifierKey: key, Checkpoint: r.Checkpoint}, n)
		if v.KeySource != KeyGiven || v.Checkpoint != receipts[n-1].Checkpoint {
			t.Fatalf("%+v", v)
		}
	}
	if v := wantWhole(t, path, VerifyOptions{}, n); v.KeySource != KeyInFile || !strings.Contains(v.Explain, "key") {
		t.Fatalf("a key from the file must be said to be one: %+v", v)
	}
	ro, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if recs, err := ro.Read(3, 4); err != nil || len(recs) != 4 || recs[0].Seq != 3 {
		t.Fatalf("read: %v, %v", recs, err)
	}
	if recs, err := ro.Read(n, 4); err != nil || len(recs) != 0 {
		t.Fatalf("read past the end: %v, %v", recs, err)
	}
	_, err = ro.Append(context.Background(), testEntry(0))
	wantKind(t, err, sallyport.Unsupported)
	wantWhole(t, path, VerifyOptions{}, n) // readers do not lock each other out
}

func TestReopenAndContinue(t *testing.T) {
	path := newPath(t)
	var old []string
	total := 0
	for _, n := range []int{0, 1, 2, 5, 0, 9} {
		l := openLog(t, path)
		if l.Size() != uint64(total) {
			t.Fatalf("reopened with %d records, want %d", l.Size(), total)
		}
		fill(t, l, n)
		total += n
		cp, _ := l.Checkpoint()
		old = append(old, cp)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for _, cp := range old {
			wantWhole(t, path, VerifyOptions{Checkpoint: cp}, total)
		}
	}
	for _, cfg := range []Config{{Path: path, Origin: "other.example", Seed: testSeed}, {Path: path, Origin: testOrigin, Seed: otherSeed}} {
		_, err := Open(cfg)
		wantKind(t, err, sallyport.Conflict)
	}
	openLog(t, path) // a refused Open lets go of the file
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, cfg := range []Config{{}, {Origin: "a b", Seed: testSeed}, {Origin: "a+b", Seed: testSeed}, {Origin: "a", Seed: testSeed[1:]}} {
		cfg.Path = filepath.Join(dir, "audit.db")
		_, err := Open(cfg)
		wantKind(t, err, sallyport.Invalid)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Fatalf("a refused Open left %v", files)
	}
	_, err := OpenReadOnly(filepath.Join(dir, "audit.db"))
	wantKind(t, err, sallyport.NotFound)
	_, err = Verify(filepath.Join(dir, "audit.db"), VerifyOptions{})
	wantKind(t, err, sallyport.NotFound)
	_, err = Verify(dir, VerifyOptions{})
	wantKind(t, err, sallyport.Invalid)
	for name, content := range map[string]string{"empty": "", "text": strings.Repeat("no log\n", 5000)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(testConfig(path))
		wantKind(t, err, sallyport.Damaged)
		_, err = OpenReadOnly(path)
		wantKind(t, err, sallyport.Damaged)
		if v, err := Verify(path, VerifyOptions{}); err != nil || v.Damage != Unreadable {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	l := openLog(t, newPath(t))
	ctx := context.Background()
	huge, _ := json.Marshal(strings.Repeat("x", MaxEntry))
	for name, e := range map[string]Entry{
		"no step":   {Phase: Note},
		"no phase":  {Step: "admit"},
		"phase":     {Step: "admit", Phase: "later"},
		"line":      {Step: "admit\nphase outcome", Phase: Note},
		"long step": {Step: strings.Repeat("x", maxStep+1), Phase: Note},
		"json":      {Step: "admit", Phase: Note, Detail: json.RawMessage(`{"secret":`)},
		"year":      {Step: "admit", Phase: Note, Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"large":     {Step: "admit", Phase: Note, Detail: huge},
	} {
		_, err := l.Append(ctx, e)
		wantKind(t, err, sallyport.Invalid)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes the entry: %v", name, err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err := l.Append(gone, testEntry(0))
	wantKind(t, err, sallyport.Canceled)
	if l.Size() != 0 {
		t.Fatalf("%d refused entries are in the log", l.Size())
	}

	// The largest entry goes in, and time is the log's when the entry has none.
	almost, _ := json.Marshal(strings.Repeat("x", MaxEntry-200))
	r, err := l.Append(ctx, Entry{Step: "hand over", Phase: Note, Detail: almost})
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := l.Get(r.Seq); err != nil || !rec.Entry.Time.Equal(testTime) || len(rec.Entry.Detail) != len(almost) {
		t.Fatalf("largest entry: %v", err)
	}
	l.Close()
	_, err = l.Append(ctx, testEntry(1))
	wantKind(t, err, sallyport.Unavailable)
	_, err = l.Get(0)
	wantKind(t, err, sallyport.Unavailable)
	if err := l.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

func TestConcurrentAppenders(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	const writers, each = 64, 20
	var mu sync.Mutex
	seen := map[uint64]string{}
	checkpoints := map[string]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var last int64 = -1
			for i := range each {
				job := fmt.Sprintf("w%d-%d", w, i)
				r, err := l.Append(context.Background(), Entry{Step: "admit", Phase: Note, Job: sallyport.JobID(job)})
				if err != nil {
					t.Error(err)
					return
				}
				if int64(r.Seq) <= last {
					t.Errorf("writer %d: %d after %d", w, r.Seq, last)
				}
				last = int64(r.Seq)
				// What is acknowledged can be read at once.
				if rec, err := l.Get(r.Seq); err != nil || string(rec.Entry.Job) != job {
					t.Errorf("record %d: %v, %v", r.Seq, rec.Entry.Job, err)
				}
				mu.Lock()
				seen[r.Seq] = job
				checkpoints[r.Checkpoint] = true
				mu.Unlock()
			}
		})
	}
	// A copy taken meanwhile is a log of its own.
	var copied bytes.Buffer
	if err := l.Snapshot(&copied); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(seen) != writers*each || l.Size() != writers*each {
		t.Fatalf("%d numbers, size %d", len(seen), l.Size())
	}
	if len(checkpoints) >= writers*each {
		t.Errorf("%d commits for %d records: no group commit", len(checkpoints), writers*each)
	}
	l.Close()
	for cp := range checkpoints {
		wantWhole(t, path, VerifyOptions{Checkpoint: cp}, writers*each)
		break
	}
	snap := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(snap, copied.Bytes(), 0o400); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(snap, VerifyOptions{})
	if err != nil || !v.Whole {
		t.Fatalf("snapshot: %+v, %v", v, err)
	}
	wantWhole(t, path, VerifyOptions{Checkpoint: v.Checkpoint}, writers*each)
}

func TestRecordsFilter(t *testing.T) {
	l := openLog(t, newPath(t))
	var all []Record
	for i := range 1500 { // several chunks
		e := Entry{Time: testTime.Add(time.Duration(i) * time.Minute), Step: []string{"admit", "run"}[i%2], Phase: Note,
			Job: sallyport.JobID(fmt.Sprintf("j%d", i%7)), Dataset: fmt.Sprintf("d%d", i%3), Subject: fmt.Sprintf("s%d", i%5), Decision: []string{"allow", "deny", ""}[i%3]}
		all = append(all, Record{Seq: uint64(i), Entry: e})
	}
	var wg sync.WaitGroup
	for i := range all { // in order, but batched
		p, err := l.prepare("", all[i].Entry, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.enqueue(context.Background(), "", p); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { <-p.reply })
	}
	wg.Wait()
	for name, f := range map[string]struct {
		filter Filter
		match  func(Entry) bool
	}{
		"all":      {Filter{}, func(Entry) bool { return true }},
		"job":      {Filter{Job: "j3"}, func(e Entry) bool { return e.Job == "j3" }},
		"no job":   {Filter{Job: "J!"}, func(e Entry) bool { return false }},
		"dataset":  {Filter{Dataset: "d1"}, func(e Entry) bool { return e.Dataset == "d1" }},
		"subject":  {Filter{Subject: "s4", Step: "run"}, func(e Entry) bool { return e.Subject == "s4" && e.Step == "run" }},
		"decision": {Filter{Decision: "deny"}, func(e Entry) bool { return e.Decision == "deny" }},
		"time": {Filter{Since: testTime.Add(10 * time.Minute), Until: testTime.Add(20 * time.Minute)},
			func(e Entry) bool {
				return !e.Time.Before(testTime.Add(10*time.Minute)) && e.Time.Before(testTime.Add(20*time.Minute))
			}},
		"several": {Filter{Job: "j2", Dataset: "d0", Step: "admit"}, func(e Entry) bool { return e.Job == "j2" && e.Dataset == "d0" && e.Step == "admit" }},
	} {
		for _, newest := range []bool{false, true} {
			for _, limit := range []int{0, 1, 7} {
				var want, have []uint64
				for _, r := range all {
					if f.match(r.Entry) {
						want = append(want, r.Seq)
					}
				}
				if newest {
					slices.Reverse(want)
				}
				if limit > 0 {
					want = want[:min(limit, len(want))]
				}
				f.filter.Newest, f.filter.Limit = newest, limit
				for r, err := range l.Records(context.Background(), f.filter) {
					if err != nil {
						t.Fatal(err)
					}
					have = append(have, r.Seq)
				}
				if !slices.Equal(want, have) {
					t.Errorf("%s newest=%v limit=%d: %v, want %v", name, newest, limit, have, want)
				}
			}
		}
	}

	// The caller may append inside the loop, and sees the log as it was.
	n := 0
	for _, err := range l.Records(context.Background(), Filter{Limit: 600}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%300 == 0 {
			fill(t, l, 1)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n = 0
	var last error
	for _, err := range l.Records(ctx, Filter{}) {
		n++
		cancel()
		last = err
	}
	if wantKind(t, last, sallyport.Canceled); n > 1000 {
		t.Errorf("%d records after cancellation", n)
	}
	if !errors.Is(last, context.Canceled) {
		t.Error("cause of cancellation lost")
	}
}

func TestOrphans(t *testing.T) {
	l := openLog(t, newPath(t))
	add := func(step string, phase Phase, job sallyport.JobID, lease string) {
		t.Helper()
		if _, err := l.Append(context.Background(), Entry{Step: step, Phase: phase, Job: job, Lease: lease}); err != nil {
			t.Fatal(err)
		}
	}
	add("admit", Intent, "a", "")
	add("admit", Outcome, "a", "")
	add("place", Intent, "a", "") // 2: orphan
	add("place", Intent, "b", "")
	add("place", Note, "a", "")
	add("place", Outcome, "b", "l1") // a lease that is known only afterwards
	add("expire", Intent, "", "l1")  // 6: orphan
	add("expire", Intent, "", "l2")
	add("expire", Outcome, "", "l2")
	add("run", Intent, "c", "")
	add("run", Intent, "c", "") // tried again after a crash
	add("run", Outcome, "c", "")
	add("run", Intent, "c", "") // 12: orphan
	recs, err := l.Orphans()
	if err != nil {
		t.Fatal(err)
	}
	var have []uint64
	for _, r := range recs {
		have = append(have, r.Seq)
	}
	if want := []uint64{2, 6, 12}; !slices.Equal(have, want) {
		t.Fatalf("orphans %v, want %v", have, want)
	}
}

// ctx counts until the entry is handed to the writer, and not after.
func TestAppendCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := makeKeyring(filepath.Join(t.TempDir(), "keys"), nil)
		if err != nil {
			t.Fatal(err)
		}
		l := &Log{keys: keys, now: time.Now, queue: make(chan pending)} // nobody takes entries
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan reply, 1)
		appendAsync := func() {
			r, err := l.Append(ctx, testEntry(0))
			done <- reply{r, err}
		}
		go appendAsync()
		synctest.Wait()
		cancel()
		wantKind(t, (<-done).err, sallyport.Canceled)

		ctx, cancel = context.WithCancel(t.Context())
		go appendAsync()
		p := <-l.queue
		cancel()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("Append did not wait for the writer")
		}
		p.reply <- reply{receipt: Receipt{Seq: 5}}
		if r := <-done; r.err != nil || r.receipt.Seq != 5 {
			t.Fatalf("%+v", r)
		}
	})
}
