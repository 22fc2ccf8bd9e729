package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport"
	"sallyport/seal"
	"sallyport/seal/issuertest"
)

func TestConformance(t *testing.T) {
	s := sharedServer(t)
	issuertest.Run(t, func(t *testing.T, now func() time.Time) seal.Issuer {
		return newSite(t, s).open(t, now)
	})
}

// What a thief with every file of the gateway can do, before and after.
func TestDestroyedForGood(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	other := issue(t, i, "job-2")
	var parcel bytes.Buffer
	w, err := seal.Writer(&parcel, l.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "a row")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	copied := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(copied, os.DirFS(i.dir)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{copied, filepath.Join(copied, "leases")} { // CopyFS widens modes
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	filepath.WalkDir(copied, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := os.ReadFile(p)
			all.Write(b)
		}
		return err
	})
	if !strings.Contains(all.String(), "vault:v1:") || strings.Contains(all.String(), "SECRET-KEY") {
		t.Fatal("the files hold something else than wrapped keys")
	}
	stolen := func() *Issuer {
		k, err := Open(t.Context(), st.cfg, Parts{StateDir: copied})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	// With the copy and the gateway's sign-in, a live release opens: that is
	// why it must be ended.
	thief := stolen()
	k, err := thief.Fetch(t.Context(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := seal.Reader(bytes.NewReader(parcel.Bytes()), k); err != nil {
		t.Fatal(err)
	} else if b, _ := io.ReadAll(r); string(b) != "a row" {
		t.Fatal("opened", b)
	}
	thief.Close()

	if err := i.Destroy(t.Context(), l.ID, "over"); err != nil {
		t.Fatal(err)
	}
	if got := st.releaseKeys(t, st.cfg.Prefix); !slices.Equal(got, []string{other.ID}) {
		t.Fatalf("vault has %v", got)
	}
	if _, err := os.Stat(i.wrappedPath(l.ID)); !os.IsNotExist(err) {
		t.Fatal("the wrapped key is still there", err)
	}
	thief = stolen()
	defer thief.Close()
	_, err = thief.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.NotFound, "deleted the key in Vault")
	_, err = thief.Wrapped(t.Context(), l.ID, time.Minute)
	wantKind(t, err, sallyport.NotFound)
	// Not even Vault's own administrator can bring it back, with a key of the
	// same name or otherwise.
	st.write(t, "transit/keys/"+st.cfg.releaseKey(l.ID), map[string]any{"type": "aes256-gcm96"})
	_, err = thief.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Damaged)
	if _, err := thief.Fetch(t.Context(), other.ID); err != nil {
		t.Fatal("another lease suffered", err)
	}
}

// Why destruction is not a raised min_decryption_version.
func TestMinDecryptionVersionIsReversible(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	key := "transit/keys/" + st.cfg.releaseKey(l.ID)
	st.write(t, key+"/rotate", nil)
	st.write(t, key+"/config", map[string]any{"min_decryption_version": 2})
	_, err := i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Unavailable, "min_decryption_version")
	st.write(t, key+"/config", map[string]any{"min_decryption_version": 1})
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("it was thought to be reversible", err)
	}
}

func TestSealed(t *testing.T) {
	s := ownServer(t)
	st := newSite(t, s)
	i := st.open(t, nil)
	a, b := issue(t, i, "job-a"), issue(t, i, "job-b")
	secret, err := i.Derive(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.root.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	_, err = i.Fetch(t.Context(), a.ID)
	wantKind(t, err, sallyport.Unavailable, "vault is sealed", "Unseal Vault.")
	_, err = i.Issue(t.Context(), "job-c", time.Hour)
	wantKind(t, err, sallyport.Unavailable, "vault is sealed")
	_, err = i.Derive(t.Context(), "q")
	wantKind(t, err, sallyport.Unavailable, "vault is sealed")
	if again, err := i.Derive(t.Context(), "p"); err != nil || !bytes.Equal(again, secret) {
		t.Fatal("not from memory", err)
	}
	if _, err := Open(t.Context(), st.cfg, Parts{StateDir: filepath.Join(t.TempDir(), "state")}); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatal("opened on a sealed Vault", err)
	}
	// An end holds here at once, and there as soon as may be.
	wantKind(t, i.Destroy(t.Context(), a.ID, "over"), sallyport.Unavailable, "vault is sealed")
	_, err = i.Fetch(t.Context(), a.ID)
	wantKind(t, err, sallyport.NotFound)
	list, err := i.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Destroyed == nil || list[0].Reason != "over" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := s.root.Sys().Unseal(s.UnsealKey); err != nil {
		t.Fatal(err)
	}
	if k, err := i.Fetch(t.Context(), b.ID); err != nil || k.Recipient() != b.Recipient {
		t.Fatal("did not recover", err)
	}
	if ended, err := i.Sweep(t.Context()); err != nil || len(ended) != 0 {
		t.Fatal(ended, err)
	}
	c := issue(t, i, "job-c")
	want := []string{b.ID, c.ID}
	slices.Sort(want)
	if got := st.releaseKeys(t, st.cfg.Prefix); !slices.Equal(got, want) {
		t.Fatalf("vault has %v, want %v", got, want)
	}
}

func TestServerCrashAndRestart(t *testing.T) {
	s := ownServer(t)
	st := newSite(t, s)
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	s.crash(t)
	_, err := i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Unavailable, "cannot be reached", "Start Vault")
	_, err = i.Issue(t.Context(), "job-2", time.Hour)
	wantKind(t, err, sallyport.Unavailable)
	s.again(t)
	if k, err := i.Fetch(t.Context(), l.ID); err != nil || k.Recipient() != l.Recipient {
		t.Fatal("did not recover", err)
	}
	issue(t, i, "job-2")
}

func TestSlow(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	g := newGate(t, s, (*httptest.Server).Start)
	st.cfg.Address = g.URL
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	release := make(chan struct{})
	g.set(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
	patient := i.session.cfg.Timeout
	i.session.cfg.Timeout = 20 * time.Millisecond
	_, err := i.Fetch(t.Context(), l.ID)
	wantKind(t, err, sallyport.Unavailable, "no answer within 20ms")
	_, err = i.Issue(t.Context(), "job-2", time.Hour)
	wantKind(t, err, sallyport.Unavailable, "no answer")
	i.session.cfg.Timeout = patient
	g.set(nil)
	close(release)
	if _, err := i.Fetch(t.Context(), l.ID); err != nil {
		t.Fatal("did not recover", err)
	}
}

func TestRedirectIsNoSuccess(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	g := newGate(t, s, (*httptest.Server).Start)
	st.cfg.Address = g.URL
	i := st.open(t, nil)
	l := issue(t, i, "job-1")
	g.set(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://127.0.0.1:1"+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	wantKind(t, i.Destroy(t.Context(), l.ID, "over"), sallyport.Unavailable, "redirects")
	if got := st.releaseKeys(t, st.cfg.Prefix); len(got) != 1 {
		t.Fatal("and yet", got)
	}
	g.set(nil)
	if err := i.Destroy(t.Context(), l.ID, "over"); err != nil {
		t.Fatal(err)
	}
	if got := st.releaseKeys(t, st.cfg.Prefix); len(got) != 0 {
		t.Fatal("vault has", got)
	}
}

func TestSweep(t *testing.T) {
	st := newSite(t, sharedServer(t))
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	i := st.open(t, now)
	a, b := issue(t, i, "job-a"), issue(t, i, "job-b")
	at = at.Add(30 * time.Minute)
	c := issue(t, i, "job-c")
	at = at.Add(30 * time.Minute)
	// A restart forgets nothing, and ends nothing by itself that would go
	// unrecorded.
	i.Close()
	i = st.open(t, now)
	if got := st.releaseKeys(t, st.cfg.Prefix); len(got) != 3 {
		t.Fatal("vault has", got)
	}
	ended, err := i.Sweep(t.Context())
	if err != nil || len(ended) != 2 || ended[0].Reason != "expired" || ended[0].Destroyed == nil {
		t.Fatalf("%+v, %v", ended, err)
	}
	for _, l := range ended {
		if l.ID != a.ID && l.ID != b.ID {
			t.Fatal("another lease was ended")
		}
	}
	if got := st.releaseKeys(t, st.cfg.Prefix); !slices.Equal(got, []string{c.ID}) {
		t.Fatal("vault has", got)
	}
	if ended, err := i.Sweep(t.Context()); err != nil || len(ended) != 0 {
		t.Fatal(ended, err)
	}
}

// At each request that the gateway makes, its process is killed. Afterwards
// Vault has the keys of live leases and no others, and no ended one lives.
func TestKilledAtEveryRequest(t *testing.T) {
	s := sharedServer(t)
	st := newSite(t, s)
	g := newGate(t, s, (*httptest.Server).Start)
	state := filepath.Join(st.dir, "state")
	cfg := st.cfg
	cfg.Address = g.URL
	const requests = 16 // sign in, and one release issued, handed over and destroyed, and more
	for n := 1; n <= requests; n++ {
		conf, err := json.Marshal(childConfig{cfg, state, 100 * n})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(conf))
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		var seen atomic.Int64
		started := make(chan struct{})
		before := n%2 == 0 // killed before Vault has heard, or after, before the answer
		g.set(func(w http.ResponseWriter, r *http.Request) bool {
			// Renewal runs beside the rest, so it does not count.
			if strings.HasSuffix(r.URL.Path, "/renew-self") || seen.Add(1) < int64(n) {
				return false
			}
			if !before { // Vault hears and acts, but nobody is there for the answer
				g.proxy.ServeHTTP(httptest.NewRecorder(), r)
			}
			<-started
			cmd.Process.Kill()
			panic(http.ErrAbortHandler)
		})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		close(started)
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("request %d: the child ended by itself: %v", n, err)
		}
		g.set(nil)
		i := st.open(t, nil)
		list, err := i.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var live []string
		for _, l := range list {
			if l.Destroyed == nil {
				live = append(live, l.ID)
				if k, err := i.Fetch(t.Context(), l.ID); err != nil || k.Recipient() != l.Recipient {
					t.Fatalf("request %d: a live lease does not open: %v", n, err)
				}
			}
		}
		slices.Sort(live)
		if got := st.releaseKeys(t, st.cfg.Prefix); !slices.Equal(got, live) {
			t.Fatalf("request %d: vault has %v, live are %v", n, got, live)
		}
		for id := range strings.FieldsSeq(out.String()) {
			if _, err := i.Fetch(t.Context(), id); sallyport.KindOf(err) != sallyport.NotFound {
				t.Fatalf("request %d: a destroyed key lives: %v", n, err)
			}
		}
		i.Close()
	}
	if entries, err := os.ReadDir(filepath.Join(state, "leases")); err != nil || len(entries) == 0 {
		t.Fatal("nothing was ever issued", err)
	}
}

func TestDamagedFolder(t *testing.T) {
	st := newSite(t, sharedServer(t))
	i := st.open(t, nil)
	a, b := issue(t, i, "job-a"), issue(t, i, "job-b")
	// One lease's wrapped key put in place of another's.
	other, err := os.ReadFile(i.wrappedPath(b.ID))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, i.wrappedPath(a.ID), string(other))
	_, err = i.Fetch(t.Context(), a.ID)
	wantKind(t, err, sallyport.Damaged)
	if err := os.Remove(i.wrappedPath(a.ID)); err != nil {
		t.Fatal(err)
	}
	_, err = i.Fetch(t.Context(), a.ID)
	wantKind(t, err, sallyport.Damaged, "gone")
	i.Close()
	i = st.open(t, nil)
	_, err = i.Fetch(t.Context(), a.ID)
	wantKind(t, err, sallyport.NotFound)
	if got := st.releaseKeys(t, st.cfg.Prefix); !slices.Equal(got, []string{b.ID}) {
		t.Fatal("vault has", got)
	}
	if _, err := Open(t.Context(), st.cfg, Parts{StateDir: i.dir}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Fatal("two gateways on one folder", err)
	}
	i.Close()
	writeFile(t, i.path("leases", b.ID+".json"), "{}")
	_, err = Open(t.Context(), st.cfg, Parts{StateDir: i.dir})
	wantKind(t, err, sallyport.Damaged, fmt.Sprintf("%s.json", b.ID))
}
