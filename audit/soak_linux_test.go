package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport"
)

// soakWriters is how many goroutines write at once.
const soakWriters = 64

// soakPerson is of many: keys are made all the time, and destroyed.
func soakPerson(i int) string { return "person-" + strconv.Itoa(i) }

// soakForEver appends and erases as fast as it can, with an index that is made
// and merged all the time, and says what is acknowledged.
func soakForEver(path string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("opening")
	cfg := testConfig(path)
	cfg.segment = 32
	l, err := Open(cfg)
	die(err)
	fmt.Println("open")
	for w := range soakWriters {
		go func() {
			for i := 0; ; i++ {
				job := fmt.Sprintf("p%d-w%d-%d", os.Getpid(), w, i)
				detail, _ := json.Marshal(strings.Repeat(job, rand.IntN(60)))
				r, err := l.Append(context.Background(), Entry{Step: "run", Phase: []Phase{Intent, Outcome}[i%2], Subject: soakPerson(rand.IntN(40)), Job: sallyport.JobID(job), Detail: detail})
				die(err)
				fmt.Fprintf(os.Stdout, "%d %s\n", r.Seq, job)
			}
		}()
	}
	for {
		who := soakPerson(rand.IntN(40))
		fmt.Printf("erase %s\n", who)
		done, err := l.Erase(context.Background(), erasureOf(who))
		if sallyport.KindOf(err) == sallyport.NotFound {
			continue
		}
		die(err)
		fmt.Printf("erased %s %d\n", done.Ranges, done.Tombstone)
	}
}

// soaked is what the processes of one log have said.
type soaked struct {
	acked    map[uint64]string
	erased   map[uint64]bool
	asked    map[string]bool // to be erased
	erasures int
}

func (s *soaked) hear(t *testing.T, line string) {
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "opening", "open":
	case "erase":
		s.asked[rest] = true
	case "erased":
		ranges, tomb, _ := strings.Cut(rest, " ")
		at, err := strconv.ParseUint(tomb, 10, 64)
		if err != nil {
			return // a line that the kill cut off
		}
		gone, err := parseRanges(ranges, at)
		if err != nil {
			return
		}
		s.erasures++
		for _, x := range gone {
			for seq := x.from; seq <= x.to; seq++ {
				s.erased[seq] = true
			}
		}
	default:
		seq, err := strconv.ParseUint(what, 10, 64)
		if err != nil || strings.Count(rest, "-") != 2 {
			return
		}
		if was, ok := s.acked[seq]; ok && was != rest {
			t.Fatalf("record %d was acknowledged for %s and for %s", seq, was, rest)
		}
		s.acked[seq] = rest
	}
}

// check opens the log, which finishes what was begun, and looks at records.
func (s *soaked) check(l *Log, seqs []uint64) error {
	if l.acts.Load().begun != nil {
		return errors.New("an erasure was not finished")
	}
	for _, seq := range seqs {
		job := s.acked[seq]
		r, err := l.Get(seq)
		if err != nil || r.Sealed || s.erased[seq] && r.Erased == nil {
			return fmt.Errorf("record %d of %s, erased %v: %+v, %w", seq, job, s.erased[seq], r, err)
		}
		// The kill may have cut off the end of the last line.
		if r.Erased == nil && (!strings.HasPrefix(string(r.Entry.Job), job) || s.erased[seq]) {
			return fmt.Errorf("record %d of %s is of %s", seq, job, r.Entry.Job)
		}
	}
	return nil
}

// TestKillSoak kills a process under the load of 64 writers at random times,
// also while it opens the log, makes keys, erases and merges the index:
// SALLYPORT_SOAK_KILLS times (20). Nothing acknowledged is lost, and what is
// left verifies against every checkpoint kept before.
func TestKillSoak(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 4
	}
	if v := os.Getenv("SALLYPORT_SOAK_KILLS"); v != "" {
		var err error
		if kills, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	const perLog = 20 // so that logs stay small and new ones are made
	records, erasures, opening, finished := 0, 0, 0, 0
	var path, old string
	var s *soaked
	for kill := range kills {
		if kill%perLog == 0 {
			if path != "" {
				if err := os.RemoveAll(filepath.Dir(path)); err != nil {
					t.Fatal(err)
				}
			}
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			path, old = filepath.Join(dir, "audit.db"), ""
			s = &soaked{acked: map[uint64]string{}, erased: map[uint64]bool{}, asked: map[string]bool{}}
		}
		before := len(s.acked)
		cmd, out := child(t, "soak", path)
		// Half of the kills come a while after the log is open, the others at
		// some time while it opens.
		delay := time.Duration(rand.Int64N(int64(400 * time.Millisecond)))
		late := rand.IntN(2) == 0
		stop := func() { time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }) }
		if !late {
			delay /= 16
			stop()
		}
		open := false
		for out.Scan() {
			if out.Text() == "open" {
				open = true
				if late {
					stop()
				}
			}
			s.hear(t, out.Text())
		}
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("kill %d: the child was not killed: %v", kill, err)
		}
		if !open {
			opening++
		}
		records += len(s.acked) - before
		if ro, err := OpenReadOnly(path); err == nil {
			if ro.acts.Load().begun != nil {
				finished++
			}
			ro.Close()
		} else if _, missing := os.Stat(path); missing == nil {
			t.Fatalf("kill %d: open for reading: %v", kill, err)
		}
		cfg := testConfig(path)
		cfg.segment = 32
		l, err := Open(cfg)
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		// What this process said, and some of what others did before; at the end
		// of a log everything.
		seqs := slices.Sorted(maps.Keys(s.acked))
		last := kill%perLog == perLog-1 || kill == kills-1
		if !last && len(seqs) > 3000 {
			older := seqs[:len(seqs)-2500]
			for i := range 500 {
				j := i + rand.IntN(len(older)-i)
				older[i], older[j] = older[j], older[i]
			}
			seqs = append(seqs[len(seqs)-2500:], older[:500]...)
		}
		if err := s.check(l, seqs); err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		if last || kill%5 == 0 {
			v, err := l.Verify(VerifyOptions{Checkpoint: old})
			if err != nil || !v.Whole || v.Lost != 0 || v.Records < uint64(len(s.acked)) {
				t.Fatalf("kill %d: %+v, %v", kill, v, err)
			}
			old = cmp.Or(v.Checkpoint, old)
			erasures += s.erasures
			s.erasures = 0
			wantFound(t, l)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(path + ".*"); len(left) != 2 { // keys and index
			t.Fatalf("kill %d: left beside the log: %v", kill, left)
		}
	}
	t.Logf("%d kills, %d of them while opening; %d records acknowledged, none lost; %d erasures acknowledged, %d finished after a kill", kills, opening, records, erasures, finished)
}

// wantFound: the index, whatever became of it, finds what a scan finds.
func wantFound(t *testing.T, l *Log) {
	t.Helper()
	have := map[string][]uint64{}
	for r, err := range l.Records(context.Background(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.readable() && r.Entry.Subject != "" {
			have[r.Entry.Subject] = append(have[r.Entry.Subject], r.Seq)
		}
	}
	for who, want := range have {
		var found []uint64
		for r, err := range l.Records(context.Background(), Filter{Subject: who}) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, r.Seq)
		}
		if !slices.Equal(found, want) {
			t.Fatalf("a search for %s finds %d records, a scan %d", who, len(found), len(want))
		}
	}
}
