package routing_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/routing"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("LEDGER_TEST_CHURN"); path != "" {
		churn(path)
	}
	os.Exit(m.Run())
}

func openLedger(t testing.TB, path string) *routing.Ledger {
	t.Helper()
	l, err := routing.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantSpent(t testing.TB, l *routing.Ledger, project string, spent, reserved sallyport.Money) {
	t.Helper()
	s, r, err := l.Spent(project)
	if err != nil || s != spent || r != reserved {
		t.Fatalf("project %s: spent %d, reserved %d, %v; want %d and %d", project, s, r, err, spent, reserved)
	}
}

func TestLedgerTwoPhases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openLedger(t, path)
	ok(t, l.Reserve("j1", "j1-1-a", "p", 60, 100))
	wantSpent(t, l, "p", 0, 60)
	wantKind(t, l.Reserve("j1", "j1-1-b", "p", 41, 100), sallyport.Exhausted)
	ok(t, l.Reserve("j1", "j1-1-b", "p", 40, 100))
	ok(t, l.Reserve("j1", "j1-1-a", "p", 60, 100)) // again: no error, though the budget is used up
	wantSpent(t, l, "p", 0, 100)
	wantKind(t, l.Reserve("j1", "j1-1-a", "p", 61, 1000), sallyport.Conflict)
	wantKind(t, l.Reserve("j2", "j1-1-a", "p", 60, 1000), sallyport.Conflict)
	wantKind(t, l.Reserve("j1", "j1-1-a", "q", 60, 1000), sallyport.Conflict)

	wantKind(t, l.Settle("j1-1-a", 61), sallyport.Invalid)
	wantKind(t, l.Settle("j1-1-a", -1), sallyport.Invalid)
	ok(t, l.Settle("j1-1-a", 25))
	ok(t, l.Settle("j1-1-a", 25))
	wantKind(t, l.Settle("j1-1-a", 26), sallyport.Conflict)
	wantKind(t, l.Cancel("j1-1-a"), sallyport.Conflict)
	ok(t, l.Reserve("j1", "j1-1-a", "p", 60, 100)) // a replay after the end reserves nothing anew
	wantSpent(t, l, "p", 25, 40)

	ok(t, l.Cancel("j1-1-b"))
	ok(t, l.Cancel("j1-1-b"))
	wantKind(t, l.Settle("j1-1-b", 1), sallyport.Conflict)
	wantKind(t, l.Reserve("j1", "j1-1-b", "p", 40, 100), sallyport.Conflict)
	wantSpent(t, l, "p", 25, 0)
	wantKind(t, l.Settle("unknown", 1), sallyport.NotFound)
	wantKind(t, l.Cancel("unknown"), sallyport.NotFound)

	ok(t, l.Reserve("j10", "j10-1-a", "p", 7, 100)) // another job, and no prefix matter
	ok(t, l.Reserve("j1", "j1-2-a", "other", 5, 100))
	for _, bad := range []error{l.Reserve("", "a", "p", 1, 9), l.Reserve("j", "", "p", 1, 9), l.Reserve("j", "a", "", 1, 9), l.Reserve("j", "a", "p", -1, 9), l.Reserve("j\x00", "a", "p", 1, 9)} {
		wantKind(t, bad, sallyport.Invalid)
	}
	wantKind(t, l.Reserve("j9", "x", "p", 1, math.MinInt64), sallyport.Exhausted)
	wantKind(t, l.Reserve("j9", "x", "p", math.MaxInt64, math.MaxInt64), sallyport.Exhausted)

	check := func(l *routing.Ledger) {
		t.Helper()
		wantSpent(t, l, "p", 25, 7)
		wantSpent(t, l, "nobody", 0, 0)
		list, err := l.Entries("j1")
		ok(t, err)
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprint(e.Assignment, " ", int64(e.Reserved), " ", int64(e.Charge), " ", e.State))
		}
		if want := "j1-1-a 60 25 settled, j1-1-b 40 0 canceled, j1-2-a 5 0 reserved"; strings.Join(got, ", ") != want {
			t.Fatalf("entries %s", got)
		}
		if s, r, err := l.JobCost("j1"); s != 25 || r != 5 || err != nil {
			t.Fatal(s, r, err)
		}
	}
	check(l)
	ok(t, l.Close())
	check(openLedger(t, path))
}

func TestStanding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openLedger(t, path)
	fresh, err := l.Standing("new")
	ok(t, err)
	if math.Abs(fresh.Score-.05) > 1e-9 || fresh.Score < routing.Floor {
		t.Fatalf("a newcomer stands at %v", fresh.Score)
	}
	for n := range 300 {
		ok(t, l.Judge(fmt.Sprintf("j%d-1-a", n), "a", routing.Correct))
		// 5 % quantiles of Beta(n+1, 1): 0.05^(1/(n+1)).
		want := map[int]float64{10: .7616, 30: .9079, 100: .9708, 300: .9901}
		if w, is := want[n+1]; is {
			if st, err := l.Standing("a"); err != nil || math.Abs(st.Score-w) > 5e-5 {
				t.Fatalf("after %d: %v, %v", n+1, st.Score, err)
			}
		}
	}
	ok(t, l.Judge("j0-1-a", "a", routing.Correct)) // counted once
	wantKind(t, l.Judge("j0-1-a", "a", routing.Wrong), sallyport.Conflict)
	wantKind(t, l.Judge("j0-1-a", "b", routing.Correct), sallyport.Conflict)
	ok(t, l.Judge("k-1-a", "a", routing.Lost))
	st, err := l.Standing("a")
	ok(t, err)
	if st.Correct != 300 || st.Lost != 1 || st.Wrong != 0 || st.Score < .99 {
		t.Fatalf("%+v: a crash is no lie", st)
	}
	ok(t, l.Judge("k-2-a", "a", routing.Wrong))
	st, err = l.Standing("a")
	ok(t, err)
	if st.Wrong != 1 || st.Score >= routing.Floor {
		t.Fatalf("%+v: caught, and above the floor", st)
	}
	for _, bad := range []error{l.Judge("", "a", routing.Correct), l.Judge("x", "", routing.Correct), l.Judge("x", "a", "fine")} {
		wantKind(t, bad, sallyport.Invalid)
	}
	ok(t, l.Close())
	l = openLedger(t, path)
	all, err := l.Standings()
	ok(t, err)
	if len(all) != 1 || all["a"] != st {
		t.Fatalf("after reopening %+v", all)
	}
	ok(t, l.Pardon("a"))
	if st, err := l.Standing("a"); err != nil || st != fresh {
		t.Fatal(st, err)
	}
}

func TestLedgerFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	openLedger(t, path)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}
	_, err := routing.OpenLedger(path)
	wantKind(t, err, sallyport.Conflict)
	bad := filepath.Join(dir, "bad.db")
	ok(t, os.WriteFile(bad, bytes.Repeat([]byte("not a ledger "), 5000), 0o600))
	_, err = routing.OpenLedger(bad)
	wantKind(t, err, sallyport.Damaged)
	_, err = routing.OpenLedger(filepath.Join(dir, "no", "such", "folder"))
	wantKind(t, err, sallyport.Unavailable)
}

// TestNeverOverspends does random steps, many at once, against a plain model.
func TestNeverOverspends(t *testing.T) {
	l := openLedger(t, filepath.Join(t.TempDir(), "ledger.db"))
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		project, budget := fmt.Sprint("p", run), sallyport.Money(rapid.IntRange(0, 50).Draw(r, "budget"))
		var spent, reserved sallyport.Money
		open := map[string]sallyport.Money{}
		for n := range rapid.IntRange(1, 8).Draw(r, "steps") {
			id := fmt.Sprintf("r%d-%d", run, n)
			switch what := rapid.IntRange(0, 3).Draw(r, "what"); {
			case what < 2 || len(open) == 0:
				amount := sallyport.Money(rapid.IntRange(0, 30).Draw(r, "amount"))
				err := l.Reserve("j", id, project, amount, budget)
				if fits := spent+reserved+amount <= budget; fits != (err == nil) {
					r.Fatalf("reserve %d at %d+%d of %d: %v", amount, spent, reserved, budget, err)
				} else if fits {
					open[id] = amount
					reserved += amount
				}
			default:
				for id, amount := range open {
					charge := sallyport.Money(rapid.IntRange(0, int(amount)).Draw(r, "charge"))
					if what == 2 {
						ok(t, l.Settle(id, charge))
						spent += charge
					} else {
						ok(t, l.Cancel(id))
					}
					reserved -= amount
					delete(open, id)
					break
				}
			}
			wantSpent(t, l, project, spent, reserved)
		}
	})
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() { l.Reserve("c", fmt.Sprint("c-", n), "crowd", 10, 100) })
	}
	wg.Wait()
	wantSpent(t, l, "crowd", 0, 100)
}

func churn(path string) {
	l, err := routing.OpenLedger(path)
	for n := 0; err == nil; n++ {
		id := fmt.Sprint(os.Getenv("LEDGER_TEST_RUN"), "-", n)
		if err = l.Reserve("j", id, "p", 10, math.MaxInt64); err == nil {
			fmt.Println("reserved", id)
			err = l.Settle(id, 3)
		}
		if err == nil {
			fmt.Println("settled", id)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// TestLedgerKilled: what was acknowledged before kill -9 is there after it.
func TestLedgerKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	said := map[string]string{}
	for run := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "LEDGER_TEST_CHURN="+path, fmt.Sprint("LEDGER_TEST_RUN=", run))
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			what, id, _ := strings.Cut(lines.Text(), " ")
			if what == "error" {
				t.Fatal(id)
			}
			said[id] = what
			if n == 3+run {
				ok(t, cmd.Process.Kill())
			}
		}
		cmd.Wait()
		l := openLedger(t, path)
		list, err := l.Entries("j")
		ok(t, err)
		got := map[string]string{}
		var spent, reserved sallyport.Money
		for _, e := range list {
			got[e.Assignment] = e.State
			if spent += e.Charge; e.State == routing.StateReserved {
				reserved += e.Reserved
			}
		}
		for id, what := range said {
			if got[id] != what && got[id] != routing.StateSettled {
				t.Fatalf("%s was %s, is %q", id, what, got[id])
			}
		}
		wantSpent(t, l, "p", spent, reserved) // the sums fit the entries
		ok(t, l.Close())
	}
}
