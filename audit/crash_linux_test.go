package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sallyport"
)

// The test binary is also the process that is killed, or runs out of disk.
func TestMain(m *testing.M) {
	path := os.Getenv("AUDIT_TEST_LOG")
	switch os.Getenv("AUDIT_TEST_CHILD") {
	case "append":
		appendForEver(path)
	case "full":
		appendUntilFull(path)
	case "erase":
		eraseForEver(path)
	case "erase full":
		eraseUntilFull(path)
	case "soak":
		soakForEver(path)
	case "power":
		writeForPowerCut(path, os.Getenv("AUDIT_TEST_UNSYNCED") != "")
	default:
		os.Exit(m.Run())
	}
}

func child(t *testing.T, what, path string, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), "AUDIT_TEST_CHILD="+what, "AUDIT_TEST_LOG="+path), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// appendForEver says what is acknowledged, a line each, until it is killed.
func appendForEver(path string) {
	l, err := Open(testConfig(path))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				job := fmt.Sprintf("p%d-w%d-%d", os.Getpid(), w, i)
				detail, _ := json.Marshal(strings.Repeat("x", rand.IntN(5000)))
				r, err := l.Append(context.Background(), Entry{Step: "run", Phase: Note, Job: sallyport.JobID(job), Detail: detail})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintf(os.Stdout, "%d %s\n", r.Seq, job)
			}
		}()
	}
	select {}
}

// wantAcknowledged: every record that was acknowledged is in the log as it
// was, and the log is whole.
func wantAcknowledged(t *testing.T, path string, acked map[uint64]string) {
	t.Helper()
	v, err := Verify(path, VerifyOptions{})
	if err != nil || !v.Whole || v.Records < uint64(len(acked)) {
		t.Fatalf("%d acknowledged: %+v, %v", len(acked), v, err)
	}
	l, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for seq, job := range acked {
		if r, err := l.Get(seq); err != nil || string(r.Entry.Job) != job {
			t.Fatalf("record %d of %s was acknowledged, but is that of %q: %v", seq, job, r.Entry.Job, err)
		}
	}
}

func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	path := newPath(t)
	acked := map[uint64]string{}
	for round := range rounds {
		cmd, out := child(t, "append", path)
		kill := 1 + rand.IntN(150)
		for n := 0; out.Scan(); n++ { // after the kill, what is still in the pipe
			seqText, job, _ := strings.Cut(out.Text(), " ")
			seq, err := strconv.ParseUint(seqText, 10, 64)
			if err != nil {
				break // a line that the kill cut off
			}
			if was, ok := acked[seq]; ok {
				t.Fatalf("record %d was acknowledged for %s and for %s", seq, was, job)
			}
			acked[seq] = job
			if n == kill {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d: the child was not killed: %v", round, err)
		}
		wantAcknowledged(t, path, acked)
	}
	t.Logf("%d kills, %d records acknowledged, none lost", rounds, len(acked))
}

// eraseForEver appends and erases at once, and says what is acknowledged.
func eraseForEver(path string) {
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	cfg := testConfig(path)
	cfg.segment = 64
	l, err := Open(cfg)
	die(err)
	people := []string{"ada lovelace", "grace hopper", "emmy noether"}
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				e := Entry{Step: "run", Phase: Note, Subject: people[rand.IntN(3)], Job: sallyport.JobID(fmt.Sprintf("p%d-w%d-%d", os.Getpid(), w, i))}
				r, err := l.Append(context.Background(), e)
				die(err)
				fmt.Fprintf(os.Stdout, "%d %s\n", r.Seq, e.Job)
			}
		}()
	}
	for {
		done, err := l.Erase(context.Background(), erasureOf(people[rand.IntN(3)]))
		if sallyport.KindOf(err) != sallyport.NotFound {
			die(err)
		}
		if err == nil {
			fmt.Fprintf(os.Stdout, "erased %s %d\n", done.Ranges, done.Tombstone)
		}
	}
}

// Killed at any point of an erasure: every record is there or erased, what was
// said to be erased is, and what was begun is finished.
func TestKillWhileErasing(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 4
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.db")
	acked := map[uint64]string{}
	erased := map[uint64]bool{}
	erasures, finished := 0, 0
	for round := range rounds {
		cmd, out := child(t, "erase", path)
		kill := 1 + rand.IntN(400)
		for n := 0; out.Scan(); n++ {
			if n == kill {
				_ = cmd.Process.Kill()
			}
			if line, ok := strings.CutPrefix(out.Text(), "erased "); ok {
				ranges, tomb, _ := strings.Cut(line, " ")
				at, err := strconv.ParseUint(tomb, 10, 64)
				if err != nil {
					break
				}
				gone, err := parseRanges(ranges, at)
				if err != nil {
					break // a line that the kill cut off
				}
				erasures++
				for _, x := range gone {
					for s := x.from; s <= x.to; s++ {
						erased[s] = true
					}
				}
				continue
			}
			seqText, job, _ := strings.Cut(out.Text(), " ")
			seq, err := strconv.ParseUint(seqText, 10, 64)
			if err != nil {
				break
			}
			acked[seq] = job
		}
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d: the child was not killed: %v", round, err)
		}
		before, err := OpenReadOnly(path)
		if err != nil {
			t.Fatal(err)
		}
		begun := before.acts.Load().begun != nil
		before.Close()
		l := openLog(t, path)
		if begun {
			finished++
		}
		if l.acts.Load().begun != nil {
			t.Fatal("an erasure was not finished")
		}
		for seq, job := range acked {
			r, err := l.Get(seq)
			if err != nil || r.Sealed || erased[seq] && r.Erased == nil || r.Erased == nil && string(r.Entry.Job) != job {
				t.Fatalf("round %d: record %d of %s (erased: %v): %+v, %v", round, seq, job, erased[seq], r, err)
			}
		}
		l.Close()
		v, err := Verify(path, VerifyOptions{})
		if err != nil || !v.Whole || v.Lost != 0 {
			t.Fatalf("%+v, %v", v, err)
		}
		if left, _ := filepath.Glob(path + compactSuffix); len(left) > 0 {
			t.Fatal("a half file is left")
		}
	}
	t.Logf("%d kills, %d records acknowledged, %d erasures acknowledged, %d finished after a kill", rounds, len(acked), erasures, finished)
}

// eraseUntilFull erases with too little room for the new file.
func eraseUntilFull(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	l, err := Open(testConfig(path))
	die(err)
	detail, _ := json.Marshal(strings.Repeat("x", 20000))
	for i := range 120 {
		e := peopleEntry(i)
		e.Detail = detail
		_, err := l.Append(context.Background(), e)
		die(err)
	}
	var was syscall.Rlimit
	die(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	// The log has room in the file that it has; another as large has not.
	info, err := os.Stat(path)
	die(err)
	die(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(info.Size()), Max: was.Max}))
	_, err = l.Erase(context.Background(), erasureOf("ada lovelace"))
	die(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	_, again := l.Append(context.Background(), peopleEntry(1))
	for _, err := range []error{err, again, l.Err()} {
		fmt.Printf("failed %s|%v\n", sallyport.KindOf(err), err)
	}
	os.Exit(0)
}

// An erasure that the disk has no room for stops the log, and is finished when
// there is.
func TestFullDiskWhileErasing(t *testing.T) {
	path := newPath(t)
	cmd, out := child(t, "erase full", path)
	n := 0
	for out.Scan() {
		if n++; !strings.HasPrefix(out.Text(), "failed exhausted|") {
			t.Error(out.Text())
		}
	}
	if err := cmd.Wait(); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	v, err := Verify(path, VerifyOptions{})
	if err != nil || !v.Whole {
		t.Fatalf("%+v, %v", v, err)
	}
	if left, _ := filepath.Glob(path + compactSuffix); len(left) > 0 {
		t.Fatal("a half file is left, on a full disk")
	}
	l := openLog(t, path)
	for i := range 120 {
		if r, err := l.Get(uint64(i)); err != nil || (r.Erased != nil) != (i%3 == 0) || r.Sealed {
			t.Fatalf("record %d: erased %v, sealed %v, %v", i, r.Erased != nil, r.Sealed, err)
		}
	}
}

// A process killed before its first log is whole leaves none, or a good one.
func TestKillWhileMaking(t *testing.T) {
	for round := range 5 {
		path := newPath(t)
		cmd, _ := child(t, "append", path)
		for range round * 3000 { // some way into it
			if _, err := os.Stat(path); err == nil && round < 4 {
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		l, err := Open(testConfig(path))
		if err != nil {
			t.Fatal(err)
		}
		fill(t, l, 1)
		l.Close()
	}
}

// appendUntilFull acknowledges lines until writing fails, then says how, and
// what becomes of the next entry when there is room again.
func appendUntilFull(path string) {
	// Without this the kernel ends the process at the limit; a full disk does not.
	signal.Ignore(syscall.SIGXFSZ)
	die := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var was syscall.Rlimit
	die(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	limit, err := strconv.ParseUint(os.Getenv("AUDIT_TEST_LIMIT"), 10, 64)
	die(err)
	l, err := Open(testConfig(path))
	die(err)
	entry := func(i int) Entry {
		detail, _ := json.Marshal(strings.Repeat("x", 20000))
		return Entry{Step: "run", Phase: Note, Job: sallyport.JobID(fmt.Sprintf("j%d", i)), Detail: detail}
	}
	r, err := l.Append(context.Background(), entry(0))
	die(err)
	fmt.Println(r.Seq, "j0")
	die(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: was.Max}))

	// Several writers, so that entries are also waiting when it happens.
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for w := range 4 {
		wg.Go(func() {
			for i := 1 + w; i < 4000; i += 4 {
				r, err := l.Append(context.Background(), entry(i))
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
					mu.Unlock()
					return
				}
				fmt.Printf("%d j%d\n", r.Seq, i)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	die(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	_, again := l.Append(context.Background(), entry(9999))
	for _, err := range append(failed, again, l.Err()) {
		fmt.Printf("failed %s|%s|%v\n", sallyport.KindOf(err), sallyport.HintOf(err), err)
	}
	// Reading goes on.
	_, err = l.Get(0)
	die(err)
	die(l.Close())
	os.Exit(0)
}

// A limit on the file's size stands for a full disk: below the file's present
// size writing a page fails, above it growing the file does.
func TestFullDisk(t *testing.T) {
	for name, limit := range map[string]int{"write": 64 << 10, "grow": 6 << 20} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			cmd, out := child(t, "full", path, fmt.Sprintf("AUDIT_TEST_LIMIT=%d", limit))
			acked := map[uint64]string{}
			failures := 0
			for out.Scan() {
				if line, ok := strings.CutPrefix(out.Text(), "failed "); ok {
					failures++
					if !strings.HasPrefix(line, "exhausted|") || !strings.Contains(line, "restart") {
						t.Errorf("failure: %s", line)
					}
					continue
				}
				seqText, job, _ := strings.Cut(out.Text(), " ")
				seq, err := strconv.ParseUint(seqText, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				acked[seq] = job
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			// Each of the writers, the append after there was room again, and Err.
			if failures != 6 {
				t.Errorf("%d failures reported, want 6", failures)
			}
			wantAcknowledged(t, path, acked)

			// Opened anew, with room, it goes on.
			l := openLog(t, path)
			fill(t, l, 3)
			l.Close()
			wantAcknowledged(t, path, acked)
			t.Logf("%d records acknowledged before the disk was full", len(acked))
		})
	}
}

func BenchmarkFdatasync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(page, int64(i%256)*4096); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "syncs/s")
}
