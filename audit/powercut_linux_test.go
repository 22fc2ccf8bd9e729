package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport"
)

// The power-cut simulation has a real process write a log, under strace, which
// reports every call that changes a file or makes it safe, with its bytes, in
// order, together with what the process said was done. The calls are played
// into a model of a disk (powercut_disk_test.go), the power is cut at random
// calls, and the log is opened from what the disk may then hold.
//
// Simulated: all files of the log (database, keys, index, and what is beside
// them for a while); a cut within a call; unsafe writes lost, kept, reordered
// and torn at sectors; lengths without their bytes, with zeros or garbage;
// unsafe names lost, kept or reordered, a rename being one change. Not
// simulated: a disk that breaks its promise, i.e. a sync that returns too
// early, a torn sector, bytes changed that nobody wrote; an error of a sync
// (see TestFullDisk for errors of writes); the memory map, which bbolt only
// reads through (a call that the model does not know fails the test).

var cutPeople = []string{"ada lovelace", "grace hopper", "emmy noether"}

// cutEntry is what a job's name says it is, so that a record shows whether it
// is whole.
func cutEntry(job string) Entry {
	var i int
	fmt.Sscanf(job[strings.LastIndex(job, "-")+1:], "%d", &i)
	detail, _ := json.Marshal(strings.Repeat(job, 1+i*i%97))
	return Entry{Time: testTime, Step: "run", Phase: Note, Job: sallyport.JobID(job), Subject: cutPeople[i%3], Dataset: fmt.Sprintf("set-%d", i%4),
		Reasons: []string{"the reason of " + job}, Detail: detail}
}

// writeForPowerCut makes a log, opens it again, appends and erases, and says
// what is acknowledged. unsynced: without syncs, which the test must notice.
func writeForPowerCut(path string, unsynced bool) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	cfg := testConfig(path)
	cfg.segment = 4
	for round := range 3 {
		l, err := Open(cfg)
		die(err)
		l.db.Load().NoSync = unsynced
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 12 {
					job := fmt.Sprintf("p%d-r%d-w%d-%d", os.Getpid(), round, w, i*6+w)
					r, err := l.Append(context.Background(), cutEntry(job))
					die(err)
					fmt.Fprintf(os.Stdout, "ack %d %s %s\n", r.Seq, job, hex.EncodeToString([]byte(r.Checkpoint)))
				}
			})
		}
		if round > 0 {
			who := cutPeople[round]
			s, err := l.keys.subject(who)
			die(err)
			key, err := os.ReadFile(filepath.Join(path+".keys", s.name.String()))
			die(err)
			fmt.Fprintf(os.Stdout, "erase %s\n", who)
			done, err := l.Erase(context.Background(), erasureOf(who))
			die(err)
			fmt.Fprintf(os.Stdout, "erased %s %d %s\n", done.Ranges, done.Tombstone, hex.EncodeToString(key))
		}
		wg.Wait()
		die(l.Close())
	}
	os.Exit(0)
}

// promises is what the process had said by some call.
type promises struct {
	acked    map[uint64]string
	last     string // checkpoint of the largest size
	lastSize uint64
	erasing  map[string]bool
	erased   spans
	keys     [][]byte          // files of destroyed keys
	batches  map[uint64]uint64 // of an acknowledged record the size that was committed with it
}

func (p *promises) hear(line string) error {
	what, rest, _ := strings.Cut(line, " ")
	f := strings.Fields(rest)
	switch what {
	case "ack":
		seq, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return err
		}
		cp, err := hex.DecodeString(f[2])
		if err != nil {
			return err
		}
		p.acked[seq] = f[1]
		size := checkpointSize(string(cp))
		p.batches[seq] = size
		if size > p.lastSize {
			p.last, p.lastSize = string(cp), size
		}
	case "erase":
		p.erasing[rest] = true
	case "erased":
		tomb, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return err
		}
		gone, err := parseRanges(f[0], tomb)
		if err != nil {
			return err
		}
		if p.erased, err = p.erased.with(gone); err != nil {
			return err
		}
		key, err := hex.DecodeString(f[2])
		p.keys = append(p.keys, key)
		return err
	}
	return nil
}

// checkpointSize reads the second line.
func checkpointSize(cp string) uint64 {
	n, _ := strconv.ParseUint(strings.Split(cp, "\n")[1], 10, 64)
	return n
}

// kept holds a log against what was promised before the power failed. batches
// are those of the whole trace: what comes after the cut may be half there.
func (p *promises) kept(path string, batches map[uint64]uint64) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if len(p.acked) > 0 {
			return fmt.Errorf("the log is gone with %d acknowledged records", len(p.acked))
		}
	} else {
		// As the disk has it, before anything is finished.
		l, err := OpenReadOnly(path)
		if err != nil {
			return fmt.Errorf("open for reading: %w", err)
		}
		size := l.Size()
		cp, _ := l.Checkpoint()
		if n := checkpointSize(cp); n != size {
			err = fmt.Errorf("%d records, but a checkpoint of %d", size, n)
		}
		for seq, end := range batches {
			if seq < size && size < end {
				err = fmt.Errorf("a torn batch: %d records, but record %d was committed with all up to %d", size, seq, end)
			}
		}
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
		for _, key := range p.keys {
			files, err := filepath.Glob(path + ".keys/*")
			if err != nil {
				return err
			}
			for _, f := range files {
				if b, err := os.ReadFile(f); err != nil || bytes.Equal(b, key) {
					return fmt.Errorf("a key that was destroyed is back: %v", err)
				}
			}
		}
	}
	cfg := testConfig(path)
	cfg.segment = 4
	l, err := Open(cfg)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer l.Close()
	for seq, job := range p.acked {
		if r, err := l.Get(seq); err != nil || r.Sealed || r.Erased == nil && string(r.Entry.Job) != job {
			return fmt.Errorf("record %d of %s was acknowledged: %+v, %w", seq, job, r, err)
		}
	}
	if _, err := l.Append(context.Background(), cutEntry("later-0")); err != nil {
		return err
	}
	have := map[string][]uint64{}
	for r, err := range l.Records(context.Background(), Filter{}) {
		if err != nil || r.Sealed {
			return fmt.Errorf("record %d: sealed %v, %w", r.Seq, r.Sealed, err)
		}
		_, gone := p.erased.find(r.Seq)
		if r.Erased != nil {
			if job, ok := p.acked[r.Seq]; ok && !p.erasing[cutEntry(job).Subject] {
				return fmt.Errorf("record %d of %s was erased, and nobody asked", r.Seq, job)
			}
			continue
		}
		if gone {
			return fmt.Errorf("record %d was erased, and is back", r.Seq)
		}
		if reserved(r.Entry.Step) {
			continue
		}
		// Acknowledged or not, what is there is whole.
		if want := cutEntry(string(r.Entry.Job)); !reflect.DeepEqual(r.Entry, want) {
			return fmt.Errorf("record %d is %+v, not what was recorded", r.Seq, r.Entry)
		}
		have[r.Entry.Subject] = append(have[r.Entry.Subject], r.Seq)
	}
	// The index, whatever became of it, finds what a scan finds.
	for _, who := range cutPeople {
		var found []uint64
		for r, err := range l.Records(context.Background(), Filter{Subject: who}) {
			if err != nil {
				return err
			}
			found = append(found, r.Seq)
		}
		if !slices.Equal(found, have[who]) {
			return fmt.Errorf("a search for one person finds %v, not %v", found, have[who])
		}
	}
	v, err := l.Verify(VerifyOptions{Checkpoint: p.last})
	if err != nil || !v.Whole || v.Lost != 0 || v.Sealed != 0 {
		return fmt.Errorf("verify: %+v, %w", v, err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 2 { // keys and index
		return fmt.Errorf("left beside the log: %v", left)
	}
	return l.Close()
}

// promised is nothing so far, or what was promised before.
func promised(before *promises) *promises {
	if before == nil {
		return &promises{acked: map[uint64]string{}, erasing: map[string]bool{}, batches: map[uint64]uint64{}}
	}
	p := *before
	p.acked, p.erasing, p.batches, p.keys = maps.Clone(p.acked), maps.Clone(p.erasing), maps.Clone(p.batches), slices.Clone(p.keys)
	return &p
}

// playTrace plays a trace on a disk that holds files, after what was promised
// before; each is called before each call.
func playTrace(t *testing.T, root string, trace []byte, files map[string][]byte, before *promises, each func(n int, d *disk, p *promises)) *promises {
	t.Helper()
	var bad error
	p := promised(before)
	tr := &tracer{disk: newDisk(root, files), open: map[string]*openFileOf{}, said: func(line string) { bad = errors.Join(bad, p.hear(line)) }}
	if err := errors.Join(tr.play(bytes.NewReader(trace), func(n int) { each(n, tr.disk, p) }), bad); err != nil {
		t.Fatal(err)
	}
	return p
}

// cutPower cuts it at random calls of a trace, and returns what was broken.
func cutPower(t *testing.T, root string, trace []byte, files map[string][]byte, before *promises, cuts int, r *rand.Rand) (broken []error) {
	t.Helper()
	calls, risky := 0, []int{} // calls before which something is at stake
	all := playTrace(t, root, trace, files, before, func(n int, d *disk, _ *promises) {
		calls++
		if len(d.names) > 0 {
			risky = append(risky, n)
			return
		}
		for _, f := range d.nodes {
			if len(f.pending) > 0 {
				risky = append(risky, n)
				return
			}
		}
	})
	if len(all.acked) == 0 || len(all.keys) == 0 || len(risky) == 0 {
		t.Fatalf("the trace has %d acknowledged records, %d erasures", len(all.acked), len(all.keys))
	}
	at := map[int]int{}
	for range cuts {
		at[risky[r.IntN(len(risky))]]++
	}
	scratch := t.TempDir()
	playTrace(t, root, trace, files, before, func(n int, d *disk, p *promises) {
		for range at[n] {
			to := filepath.Join(scratch, "d")
			if err := os.MkdirAll(to, 0o700); err != nil {
				t.Fatal(err)
			}
			luck := newLuck(r)
			writeState(t, d.cut(luck), to)
			if err := p.kept(filepath.Join(to, "audit.db"), all.batches); err != nil {
				broken = append(broken, fmt.Errorf("cut before call %d, %v: %w", n, luck, err))
			}
			if err := os.RemoveAll(to); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Logf("%d calls, %d records acknowledged, %d erasures, %d power cuts, %d with something broken", calls, len(all.acked), len(all.keys), cuts, len(broken))
	return broken
}

// powerCuts is how many cuts a test makes; SALLYPORT_POWER_CUTS says another
// number.
func powerCuts(t *testing.T, n int) int {
	t.Helper()
	if s := os.Getenv("SALLYPORT_POWER_CUTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return n / 8
	}
	return n
}

func TestPowerCut(t *testing.T) {
	cuts := powerCuts(t, 400)
	root, trace := traceForPowerCut(t, nil)
	for _, err := range cutPower(t, root, trace, nil, nil, cuts, rand.New(rand.NewPCG(rand.Uint64(), 0))) {
		t.Error(err)
	}
}

// Power fails in the middle of an erasure, and again while the log is opened
// and the erasure finished, or later.
func TestPowerCutAgain(t *testing.T) {
	cuts := powerCuts(t, 200)
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	root, trace := traceForPowerCut(t, nil)
	var during []int
	playTrace(t, root, trace, nil, nil, func(n int, d *disk, p *promises) {
		if len(p.erasing) > len(p.keys) {
			during = append(during, n)
		}
	})
	at := during[len(during)/4+r.IntN(len(during)/2)]
	var files map[string][]byte
	var before *promises
	playTrace(t, root, trace, nil, nil, func(n int, d *disk, p *promises) {
		if n == at {
			files, before = d.cut(newLuck(r)), promised(p)
		}
	})
	before.batches = map[uint64]uint64{} // of records that may be lost, and others of their numbers
	root, trace = traceForPowerCut(t, files)
	for _, err := range cutPower(t, root, trace, files, before, cuts, r) {
		t.Error(err)
	}
}

// A log that does not sync is found out: the simulation can fail.
func TestPowerCutWithoutSync(t *testing.T) {
	root, trace := traceForPowerCut(t, nil, "AUDIT_TEST_UNSYNCED=yes")
	if broken := cutPower(t, root, trace, nil, nil, 100, rand.New(rand.NewPCG(1, 1))); len(broken) == 0 {
		t.Error("a log without syncs survives 100 power cuts")
	} else {
		t.Logf("e.g. %.300v", broken[0])
	}
}

// A sync that fails is the last thing the log does: /dev/null in the place of
// its file takes what is written and fails a sync (EINVAL).
func TestSyncError(t *testing.T) {
	path := newPath(t)
	l := openLog(t, path)
	old := fill(t, l, 5)[4].Checkpoint
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	replaced := 0
	for _, f := range open {
		if at, err := os.Readlink(f); err == nil && at == real {
			fd, _ := strconv.Atoi(filepath.Base(f))
			if err := syscall.Dup3(int(null.Fd()), fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			replaced++
		}
	}
	if replaced == 0 {
		t.Fatal("the log's file is not open")
	}
	for range 3 {
		_, err := l.Append(context.Background(), testEntry(5))
		wantKind(t, err, sallyport.Unavailable)
	}
	_, err = l.Erase(context.Background(), erasureOf("ada"))
	wantKind(t, err, sallyport.Unavailable)
	if l.Err() == nil || l.Size() != 5 {
		t.Errorf("%d records, %v", l.Size(), l.Err())
	}
	if r, err := l.Get(4); err != nil || r.Entry.Job != testEntry(4).Job { // reading goes on
		t.Errorf("%+v, %v", r, err)
	}
	l.Close()
	wantWhole(t, path, VerifyOptions{Checkpoint: old}, 5)
	l = openLog(t, path)
	fill(t, l, 1)
}
