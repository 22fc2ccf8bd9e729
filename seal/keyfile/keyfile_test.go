package keyfile_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/issuertest"
	"sallyport/seal/keyfile"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYFILE_TEST_CHURN"); dir != "" {
		churn(dir)
	}
	if dir := os.Getenv("KEYFILE_TEST_SPIN"); dir != "" {
		spin(dir)
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	issuertest.Run(t, func(t *testing.T, now func() time.Time) seal.Issuer {
		i, err := keyfile.Open(keyfile.Config{Dir: filepath.Join(t.TempDir(), "keys")}, now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		})
		return i
	})
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func open(t *testing.T, dir string, now time.Time) *keyfile.Issuer {
	t.Helper()
	i, err := keyfile.Open(keyfile.Config{Dir: dir}, at(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func refuses(t *testing.T, dir string, kind sallyport.Kind) {
	t.Helper()
	i, err := keyfile.Open(keyfile.Config{Dir: dir}, at(noon))
	if err == nil {
		i.Close()
		t.Fatal("opened")
	}
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || sallyport.KindOf(err) != kind {
		t.Fatalf("%v is %s, want %s", err, sallyport.KindOf(err), kind)
	}
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSurvivesReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	a, err := i.Issue(t.Context(), "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := i.Issue(t.Context(), "b", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := i.Derive(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Destroy(t.Context(), b.ID, "why"); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, sallyport.Conflict) // one process at a time
	i.Close()
	if _, err := i.Fetch(t.Context(), a.ID); err == nil {
		t.Fatal("a closed issuer gives keys")
	}

	i = open(t, dir, noon.Add(time.Minute))
	if k, err := i.Fetch(t.Context(), a.ID); err != nil || k.Recipient() != a.Recipient {
		t.Fatal(err)
	}
	if _, err := i.Fetch(t.Context(), b.ID); sallyport.KindOf(err) != sallyport.NotFound {
		t.Fatal(err)
	}
	if _, err := i.Issue(t.Context(), "b", time.Hour); sallyport.KindOf(err) != sallyport.Conflict {
		t.Fatal(err)
	}
	if again, err := i.Derive(t.Context(), "p"); err != nil || !bytes.Equal(again, secret) {
		t.Fatal("a derived secret changed", err)
	}
	list, err := i.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if got := fmt.Sprint(list[0].Issued, list[0].Until); got != fmt.Sprint(a.Issued, a.Until) {
		t.Fatal("times changed:", got)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	if _, err := i.Issue(t.Context(), "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	i.Close()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "leases", "epochs", "root.key", "root.secret"} {
		p := filepath.Join(dir, name)
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, more := range []os.FileMode{0o040, 0o004, 0o020, 0o001} {
			if err := os.Chmod(p, st.Mode().Perm()|more); err != nil {
				t.Fatal(err)
			}
			refuses(t, dir, sallyport.Denied)
		}
		if err := os.Chmod(p, st.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, noon)
}

// TestDestroyedCopyStaysClosed: who copied ID.key and gets the root later has
// nothing once the epoch has ended with its last lease.
func TestDestroyedCopyStaysClosed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	a, err := i.Issue(t.Context(), "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := i.Issue(t.Context(), "b", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keyA := filepath.Join(dir, "leases", a.ID+".key")
	copied, err := os.ReadFile(keyA)
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(keyA) // sees the blocks after the unlink
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := i.Destroy(t.Context(), a.ID, "done"); err != nil {
		t.Fatal(err)
	}
	if left, err := io.ReadAll(held); err != nil || len(left) != len(copied) || !bytes.Equal(left, make([]byte, len(left))) {
		t.Fatalf("the key file was unlinked without being overwritten (%v)", err)
	}
	if n := len(files(t, dir, "epochs/*.key")); n != 1 {
		t.Fatalf("%d epochs while b lives", n)
	}
	if err := i.Destroy(t.Context(), b.ID, "done"); err != nil {
		t.Fatal(err)
	}
	if n := len(files(t, dir, "epochs/*.key")) + len(files(t, dir, "leases/*.key")); n != 0 {
		t.Fatalf("%d keys left", n)
	}
	i.Close()
	root, err := seal.Load(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Unwrap(copied); err == nil {
		t.Fatal("the root alone opens the copy")
	}
	// Putting the copy back does not raise the lease.
	if err := os.WriteFile(keyA, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	i = open(t, dir, noon)
	if _, err := i.Fetch(t.Context(), a.ID); sallyport.KindOf(err) != sallyport.NotFound {
		t.Fatal("a destroyed key came back", err)
	}
	if len(files(t, dir, "leases/*.key")) != 0 {
		t.Fatal("the copy put back was not shredded")
	}
}

func TestSweep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	now := noon
	i, err := keyfile.Open(keyfile.Config{Dir: dir}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for n := range 4 {
		if _, err := i.Issue(t.Context(), fmt.Sprint("r", n), time.Duration(n+1)*time.Hour); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	if got, err := i.Sweep(t.Context()); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	now = noon.Add(2*time.Hour + time.Minute)
	got, err := i.Sweep(t.Context())
	if err != nil || len(got) != 2 || got[0].Release != "r0" || got[1].Release != "r1" || got[0].Reason != "expired" || got[0].Destroyed == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := len(files(t, dir, "leases/*.key")); n != 2 {
		t.Fatalf("%d keys on disk", n)
	}
	if got, err := i.Sweep(t.Context()); err != nil || len(got) != 0 {
		t.Fatal("swept twice", got, err)
	}
	now = noon // a clock set back raises nothing
	if _, err := i.Issue(t.Context(), "r0", time.Hour); sallyport.KindOf(err) != sallyport.Conflict {
		t.Fatal(err)
	}
}

// TestLeftovers simulates every state a crash can leave.
func TestLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	i := open(t, dir, noon)
	live, err := i.Issue(t.Context(), "live", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	half, err := i.Issue(t.Context(), "half", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, "leases", name) }
	halfKey, err := os.ReadFile(path(half.ID + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Destroy(t.Context(), half.ID, "why"); err != nil {
		t.Fatal(err)
	}
	lost, err := i.Issue(t.Context(), "lost", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	i.Close()
	write := func(name string, b []byte) {
		if err := os.WriteFile(path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(half.ID+".key", halfKey)    // Destroy: tombstone written, key not yet gone
	write("orphan.key", halfKey)      // Issue: key written, lease not
	write(".tmp-1", halfKey)          // a write that never finished
	os.Remove(path(lost.ID + ".key")) // key gone, tombstone refused by a full disk
	i = open(t, dir, noon.Add(time.Hour/2))
	if got := files(t, dir, "leases/*.key"); len(got) != 1 || !strings.Contains(got[0], live.ID) {
		t.Fatalf("keys left: %v", got)
	}
	if len(files(t, dir, "leases/.tmp-*")) != 0 {
		t.Fatal("temp files left")
	}
	if _, err := i.Fetch(t.Context(), live.ID); err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"half", "lost"} {
		if _, err := i.Issue(t.Context(), release, time.Hour); sallyport.KindOf(err) != sallyport.Conflict {
			t.Fatal(release, err)
		}
	}
}

func TestDamage(t *testing.T) {
	fresh := func(t *testing.T) (string, seal.Lease) {
		dir := filepath.Join(t.TempDir(), "keys")
		i := open(t, dir, noon)
		l, err := i.Issue(t.Context(), "a", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		i.Close()
		return dir, l
	}
	t.Run("root key missing", func(t *testing.T) {
		dir, _ := fresh(t)
		os.Remove(filepath.Join(dir, "root.key"))
		refuses(t, dir, sallyport.Damaged)
	})
	t.Run("root secret missing", func(t *testing.T) {
		dir, _ := fresh(t)
		os.Remove(filepath.Join(dir, "root.secret"))
		refuses(t, dir, sallyport.Damaged)
	})
	t.Run("root secret short", func(t *testing.T) {
		dir, _ := fresh(t)
		os.WriteFile(filepath.Join(dir, "root.secret"), []byte("x"), 0o600)
		refuses(t, dir, sallyport.Damaged)
	})
	t.Run("lease torn", func(t *testing.T) {
		dir, l := fresh(t)
		os.WriteFile(filepath.Join(dir, "leases", l.ID+".json"), []byte("{"), 0o600)
		refuses(t, dir, sallyport.Damaged)
	})
	t.Run("key exchanged", func(t *testing.T) {
		dir, l := fresh(t)
		i := open(t, dir, noon)
		m, err := i.Issue(t.Context(), "b", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "leases", m.ID+".key"))
		os.WriteFile(filepath.Join(dir, "leases", l.ID+".key"), b, 0o600)
		if _, err := i.Fetch(t.Context(), l.ID); sallyport.KindOf(err) != sallyport.Damaged {
			t.Fatal(err)
		}
	})
	t.Run("no folder", func(t *testing.T) { refuses(t, "", sallyport.Invalid) })
}

// churn issues and destroys until it is killed, and says so only after each
// call returned.
func churn(dir string) {
	i, err := keyfile.Open(keyfile.Config{Dir: dir}, at(noon))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	run := os.Getenv("KEYFILE_TEST_RUN")
	for n := 0; ; n++ {
		l, err := i.Issue(context.Background(), fmt.Sprintf("r%s-%d", run, n), time.Hour)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("issued", l.ID, l.Recipient)
		if n%2 == 1 {
			if err := i.Destroy(context.Background(), l.ID, "done"); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("destroyed", l.ID)
		}
	}
}

// TestKill kills a process that issues and destroys, and checks that all it
// acknowledged holds.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	issued, destroyed := map[string]string{}, map[string]bool{}
	cut := map[string]bool{} // the last one of a run may have been killed inside Destroy
	for run := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "KEYFILE_TEST_CHURN="+dir, fmt.Sprint("KEYFILE_TEST_RUN=", run))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, last := bufio.NewScanner(out), ""
		for n := 0; lines.Scan(); n++ {
			f := strings.Fields(lines.Text())
			switch f[0] {
			case "issued":
				issued[f[1]], last = f[2], f[1]
			case "destroyed":
				destroyed[f[1]] = true
			default:
				t.Fatal(lines.Text())
			}
			if n == run { // then go on reading what was said before the kill took effect
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		cut[last] = true

		i := open(t, dir, noon)
		for id, recipient := range issued {
			k, err := i.Fetch(t.Context(), id)
			switch {
			case destroyed[id]:
				if sallyport.KindOf(err) != sallyport.NotFound || err == nil {
					t.Fatalf("run %d: a destroyed key lives: %v", run, err)
				}
			case err == nil:
				if k.Recipient() != recipient {
					t.Fatalf("run %d: another key", run)
				}
			case !cut[id] || sallyport.KindOf(err) != sallyport.NotFound:
				t.Fatalf("run %d: an issued key is lost: %v", run, err)
			}
		}
		leases, err := i.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		live := 0
		for _, l := range leases {
			if l.Destroyed == nil {
				live++
			} else if _, err := os.Stat(filepath.Join(dir, "leases", l.ID+".key")); err == nil {
				t.Fatalf("run %d: the key of a tombstone is on disk", run)
			}
		}
		if n := len(files(t, dir, "leases/*.key")); n != live {
			t.Fatalf("run %d: %d keys for %d live leases", run, n, live)
		}
		i.Close()
	}
	if len(destroyed) == 0 || len(issued) < 12 {
		t.Fatalf("only %d issued, %d destroyed: the test tests nothing", len(issued), len(destroyed))
	}
}
