package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport"
)

// clock is a hand-set one, safe for concurrent use.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// journal collects what is logged.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

var master = [32]byte{1, 2, 3}

func openKeys(t *testing.T, dir string, c *clock) (*KeyStore, *journal) {
	t.Helper()
	j := &journal{}
	s, err := OpenKeys(KeyConfig{Dir: dir, PerPerson: 1000}, master, c.now, j.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, j
}

func issue(t *testing.T, s *KeyStore, ttl time.Duration) (AccessKey, string) {
	t.Helper()
	k, secret, err := s.New(t.Context(), "researcher", "trial", "research", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// everything returns all bytes under dir.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestKeySurvivesRestartAndIsNeverInClear(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "keys"), newClock()
	s, _ := openKeys(t, dir, c)
	k, secret := issue(t, s, 8*time.Hour)
	if !validID(k.ID) || len(secret) != 40 {
		t.Errorf("ID %q, secret of %d", k.ID, len(secret))
	}
	if k.Person != "researcher" || k.Project != "trial" || k.Purpose != "research" || k.Until.Sub(k.Issued) != 8*time.Hour {
		t.Errorf("bound to %+v", k)
	}
	s.Close()
	if _, _, err := s.Lookup(k.ID); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("a closed store answered: %v", err)
	}
	s, j := openKeys(t, dir, c)
	got, again, err := s.Lookup(k.ID)
	if err != nil || again != secret || got != k {
		t.Errorf("after a restart: %+v, same secret %t, %v", got, again == secret, err)
	}
	if all := everything(t, dir); strings.Contains(all, secret) || !strings.Contains(all, k.ID) {
		t.Error("the secret is on the disk in clear")
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", got, got)+j.String(), secret) {
		t.Error("the secret prints or is logged")
	}
}

func TestKeyRefusalsLookAlike(t *testing.T) {
	c := newClock()
	s, _ := openKeys(t, t.TempDir()+"/k", c)
	revoked, _ := issue(t, s, time.Hour)
	if err := s.Revoke(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	expired, _ := issue(t, s, time.Minute)
	c.advance(time.Minute) // the end itself is too late
	ids := map[string]string{
		"revoked": revoked.ID, "expired": expired.ID, "unknown": "AK" + strings.Repeat("Z", 18),
		"malformed": "../../../etc/passwd", "malformed ": "", "malformed  ": strings.ToLower(revoked.ID),
	}
	texts, kinds, hints := map[string]bool{}, map[sallyport.Kind]bool{}, map[string]bool{}
	for want, id := range ids {
		_, secret, err := s.Lookup(id)
		if err == nil || secret != "" {
			t.Fatalf("%s was let in", want)
		}
		if s.Check(id) == nil {
			t.Errorf("%s passed Check", want)
		}
		texts[err.Error()], kinds[sallyport.KindOf(err)], hints[sallyport.HintOf(err)] = true, true, true
		if r := Reason(err); !strings.Contains(r, strings.TrimSpace(want)) {
			t.Errorf("%s: the log would read %q", want, r)
		}
	}
	if len(texts) != 1 || len(hints) != 1 || len(kinds) != 1 || !kinds[sallyport.Denied] {
		t.Errorf("refusals differ: %v %v %v", texts, kinds, hints)
	}
}

func TestKeyEndsWithItsClock(t *testing.T) {
	c := newClock()
	s, _ := openKeys(t, t.TempDir()+"/k", c)
	k, _ := issue(t, s, time.Hour)
	c.advance(time.Hour - 1)
	if err := s.Check(k.ID); err != nil {
		t.Errorf("refused before its end: %v", err)
	}
	c.advance(1)
	if s.Check(k.ID) == nil {
		t.Error("good at its end")
	}
	c.advance(-2 * time.Hour)
	if s.Check(k.ID) == nil {
		t.Error("a clock set back an hour before the issue revived it")
	}
	c.advance(time.Hour - time.Minute)
	if err := s.Check(k.ID); err != nil {
		t.Errorf("a clock that was a minute ahead: %v", err)
	}
}

func TestRevokedForGood(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	k, _ := issue(t, s, time.Hour)
	for range 2 {
		if err := s.Revoke(t.Context(), k.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Revoke(t.Context(), "AKNOSUCHKEYNOSUCHKEY"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("unknown: %v", err)
	}
	s.Close()
	// Whoever edits the file cannot take the revocation back: the secret is gone.
	path := filepath.Join(dir, k.ID+".json")
	var m map[string]any
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if m["sealed"] != nil || m["revoked"] == nil {
		t.Errorf("on disk: %v", m)
	}
	delete(m, "revoked")
	b, _ = json.Marshal(m)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ = openKeys(t, dir, c)
	if _, _, err := s.Lookup(k.ID); sallyport.KindOf(err) != sallyport.Denied || !strings.Contains(Reason(err), "erased") {
		t.Errorf("revived: %v, %s", err, Reason(err))
	}
}

// TestEditedKeyFile: each thing that a key is bound to is authenticated.
func TestEditedKeyFile(t *testing.T) {
	for field, value := range map[string]any{
		"person": "officer", "project": "other", "purpose": "billing",
		"until": "2027-01-01T00:00:00Z", "issued": "2026-02-01T00:00:00Z",
	} {
		t.Run(field, func(t *testing.T) {
			dir, c := t.TempDir()+"/k", newClock()
			s, _ := openKeys(t, dir, c)
			k, _ := issue(t, s, time.Hour)
			other, _ := issue(t, s, time.Hour)
			s.Close()
			path := filepath.Join(dir, k.ID+".json")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			if m[field] == nil {
				t.Fatalf("no field %s in %v", field, m)
			}
			m[field] = value
			b, _ = json.Marshal(m)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, j := openKeys(t, dir, c)
			if _, _, err := s.Lookup(k.ID); sallyport.KindOf(err) != sallyport.Denied {
				t.Errorf("an edited key was good: %v", err)
			}
			if s.Check(k.ID) == nil {
				t.Error("an edited key passed Check")
			}
			if !strings.Contains(j.String(), k.ID) {
				t.Errorf("nothing was said: %s", j)
			}
			if _, _, err := s.Lookup(other.ID); err != nil {
				t.Errorf("the other key: %v", err)
			}
		})
	}
}

func TestSecretOfAnotherKeyFile(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	a, _ := issue(t, s, time.Hour)
	b, _ := issue(t, s, time.Hour)
	s.Close()
	one, err := os.ReadFile(filepath.Join(dir, a.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}
	// A copy under another name is not another key, and a renamed ID does not open.
	if err := os.WriteFile(filepath.Join(dir, b.ID+".json"), one, 0o600); err != nil {
		t.Fatal(err)
	}
	renamed := "AK" + strings.Repeat("Q", 18)
	if err := os.WriteFile(filepath.Join(dir, renamed+".json"), bytes.ReplaceAll(one, []byte(a.ID), []byte(renamed)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ = openKeys(t, dir, c)
	for _, id := range []string{b.ID, renamed} {
		if _, _, err := s.Lookup(id); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, _, err := s.Lookup(a.ID); err != nil {
		t.Error(err)
	}
}

func TestWrongMasterKey(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	k, secret := issue(t, s, time.Hour)
	s.Close()
	j := &journal{}
	_, err := OpenKeys(KeyConfig{Dir: dir}, [32]byte{9}, c.now, j.logger())
	if sallyport.KindOf(err) != sallyport.Damaged || sallyport.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	s, _ = openKeys(t, dir, c) // and the folder was given back, unharmed
	if _, again, err := s.Lookup(k.ID); err != nil || again != secret {
		t.Error(err)
	}
}

func TestCrashLeftovers(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	k, _ := issue(t, s, time.Hour)
	s.Close()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(dir, k.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}
	half := "AK" + strings.Repeat("H", 18)
	write(".tmp-HALF", string(whole[:len(whole)/2]))
	write(half+".json", string(whole[:len(whole)/2]))
	write("AK"+strings.Repeat("E", 18)+".json", "")
	write("AK"+strings.Repeat("B", 18)+".json", strings.Repeat("x", maxKeyFile+1))
	write("README", "hello")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "AK"+strings.Repeat("S", 18)+".json")); err != nil {
		t.Fatal(err)
	}
	s, j := openKeys(t, dir, c)
	if _, err := os.Stat(filepath.Join(dir, ".tmp-HALF")); !os.IsNotExist(err) {
		t.Error("an unfinished file is still there")
	}
	if got := s.List(); len(got) != 1 || got[0].ID != k.ID {
		t.Errorf("listed %v", got)
	}
	if _, _, err := s.Lookup(half); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("half a key: %v", err)
	}
	if !strings.Contains(j.String(), half) {
		t.Errorf("nothing was said of %s: %s", half, j)
	}
}

func TestKeyPermissions(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	k, _ := issue(t, s, time.Hour)
	path := filepath.Join(dir, k.ID+".json")
	for p, want := range map[string]fs.FileMode{dir: 0o700, path: 0o600} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v", p, st.Mode(), err)
		}
	}
	if _, err := OpenKeys(KeyConfig{Dir: dir}, master, c.now, slog.Default()); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("a second store on the folder: %v", err)
	}
	s.Close()
	for p, back := range map[string]fs.FileMode{dir: 0o700, path: 0o600} {
		if err := os.Chmod(p, back|0o040); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeys(KeyConfig{Dir: dir}, master, c.now, slog.New(slog.DiscardHandler)); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%s can be read by its group: %v", p, err)
		}
		if err := os.Chmod(p, back); err != nil {
			t.Fatal(err)
		}
	}
	openKeys(t, dir, c)
}

func TestNewKeyRefuses(t *testing.T) {
	c := newClock()
	s, err := OpenKeys(KeyConfig{Dir: t.TempDir() + "/k", MaxTTL: time.Hour, PerPerson: 2}, master, c.now, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		name                     string
		person, project, purpose string
		ttl                      time.Duration
	}{
		{"no person", "", "p", "x", time.Minute},
		{"no project", "a", " ", "x", time.Minute},
		{"no purpose", "a", "p", "", time.Minute},
		{"long", "a", "p", strings.Repeat("x", 300), time.Minute},
		{"two lines", "a", "p", "x\ny", time.Minute},
		{"not text", "a", "p\xff", "x", time.Minute},
		{"no life", "a", "p", "x", 0},
		{"negative life", "a", "p", "x", -time.Minute},
		{"less than a second", "a", "p", "x", time.Second - 1},
		{"too long a life", "a", "p", "x", time.Hour + time.Second},
	} {
		if _, secret, err := s.New(t.Context(), tt.person, tt.project, tt.purpose, tt.ttl); sallyport.KindOf(err) != sallyport.Invalid || secret != "" {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.New(ctx, "a", "p", "x", time.Minute); sallyport.KindOf(err) != sallyport.Canceled {
		t.Errorf("canceled: %v", err)
	}
	if len(s.List()) != 0 {
		t.Errorf("refused keys are there: %v", s.List())
	}
	for i, want := range []bool{true, true, false} {
		_, _, err := s.New(t.Context(), "a", "p", "x", time.Minute)
		if (err == nil) != want || err != nil && sallyport.KindOf(err) != sallyport.Exhausted {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if _, _, err := s.New(t.Context(), "b", "p", "x", time.Minute); err != nil {
		t.Errorf("another person: %v", err)
	}
	c.advance(time.Minute)
	if _, _, err := s.New(t.Context(), "a", "p", "x", time.Minute); err != nil {
		t.Errorf("after the others ended: %v", err)
	}
}

// TestRevokeOnBrokenDisk: the key is refused at once although the disk fails.
func TestRevokeOnBrokenDisk(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	k, _ := issue(t, s, time.Hour)
	s.root.Close() // every write fails from here
	if err := s.Revoke(t.Context(), k.ID); err == nil || !strings.Contains(sallyport.HintOf(err), "revoke it again") {
		t.Errorf("got %v", err)
	}
	if s.Check(k.ID) == nil {
		t.Error("the key is still good")
	}
	if _, secret, err := s.New(t.Context(), "a", "p", "x", time.Minute); err == nil || secret != "" {
		t.Error("a key that is not on the disk was told")
	}
	if n := len(s.List()); n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestSweep(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	short, _ := issue(t, s, time.Minute)
	long, secret := issue(t, s, 24*time.Hour)
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("nothing had ended: %d, %v", n, err)
	}
	c.advance(time.Hour)
	if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, short.ID+".json"))
	if err != nil || bytes.Contains(b, []byte("sealed")) {
		t.Errorf("an expired secret is still there: %s, %v", b, err)
	}
	if _, got, err := s.Lookup(long.ID); err != nil || got != secret {
		t.Errorf("a live key was swept: %v", err)
	}
	if n, _ := s.Sweep(t.Context()); n != 0 {
		t.Errorf("swept twice: %d", n)
	}
	c.advance(91 * 24 * time.Hour)
	s.Close()
	s, _ = openKeys(t, dir, c) // opening sweeps
	if got := s.List(); len(got) != 0 {
		t.Errorf("still listed: %v", got)
	}
	if all := everything(t, dir); all != "" {
		t.Errorf("still there: %q", all)
	}
}

func TestNotesAndList(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	var want []string
	for range 3 {
		k, _ := issue(t, s, time.Hour)
		want = append(want, k.ID)
		c.advance(time.Second)
	}
	if err := s.Annotate(t.Context(), want[1], "for the notebook"); err != nil {
		t.Fatal(err)
	}
	if err := s.Annotate(t.Context(), want[1], "two\nlines"); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("two lines: %v", err)
	}
	if err := s.Annotate(t.Context(), "AK", "x"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("unknown: %v", err)
	}
	if err := s.Revoke(t.Context(), want[2]); err != nil {
		t.Fatal(err)
	}
	before := s.List()
	s.Close()
	s, _ = openKeys(t, dir, c)
	got := s.List()
	for i, k := range got {
		if k.ID != want[i] || k.Note != before[i].Note || (k.Revoked == nil) != (before[i].Revoked == nil) {
			t.Errorf("%d: %+v, before the restart %+v", i, k, before[i])
		}
	}
	if got[1].Note != "for the notebook" || got[2].Revoked == nil || got[2].Live(c.now()) || !got[0].Live(c.now()) {
		t.Errorf("got %+v", got)
	}
	*got[2].Revoked = time.Time{}
	if s.List()[2].Revoked.IsZero() {
		t.Error("the list is the store's own memory")
	}
	if _, _, err := s.Lookup(want[1]); err != nil {
		t.Errorf("an annotated key: %v", err)
	}
}

// TestKeysConcurrently is for the race detector, and checks that no revocation
// is lost to a note written at the same time.
func TestKeysConcurrently(t *testing.T) {
	dir, c := t.TempDir()+"/k", newClock()
	s, _ := openKeys(t, dir, c)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			for i := range 4 {
				k, secret, err := s.New(t.Context(), "a", "p", "x", time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				if _, got, err := s.Lookup(k.ID); err != nil || got != secret {
					t.Errorf("own key: %v", err)
				}
				var both sync.WaitGroup
				both.Go(func() {
					if err := s.Annotate(t.Context(), k.ID, "n"); err != nil {
						t.Error(err)
					}
				})
				if i%2 == 0 {
					both.Go(func() {
						if err := s.Revoke(t.Context(), k.ID); err != nil {
							t.Error(err)
						}
					})
				}
				both.Go(func() { s.List(); _, _ = s.Sweep(t.Context()); _ = s.Check(k.ID) })
				both.Wait()
				mu.Lock()
				ids[k.ID] = i%2 != 0
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for range 2 { // in memory, then from the disk
		for id, live := range ids {
			if (s.Check(id) == nil) != live {
				t.Errorf("%s: live should be %t", id, live)
			}
		}
		s.Close()
		s, _ = openKeys(t, dir, c)
	}
}

// TestBoundIsInjective: no two keys share their associated data.
func TestBoundIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00:")), 0, 4, -1)
		draw := func(name string) AccessKey {
			at := func(n string) time.Time { return time.Unix(rapid.Int64Range(0, 3).Draw(t, name+n), 0) }
			return AccessKey{Person: word.Draw(t, name+"person"), Project: word.Draw(t, name+"project"),
				Purpose: word.Draw(t, name+"purpose"), Issued: at("issued"), Until: at("until")}
		}
		a, b := draw("a"), draw("b")
		if same := a == b; same != bytes.Equal(a.bound(), b.bound()) {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

func TestKeyForSomebodyWhoLeft(t *testing.T) {
	s, _ := openKeys(t, t.TempDir()+"/k", newClock())
	k, _ := issue(t, s, time.Hour)
	d := NewDirectory([]Person{{ID: "researcher", Roles: []string{"researcher"}, Projects: []string{"trial"}}}, 0)
	who, err := d.ByKey(k)
	if err != nil || who.ID != "researcher" || who.Credential != "key:"+k.ID || len(who.Roles) != 1 {
		t.Errorf("got %+v, %v", who, err)
	}
	who.Roles[0] = "admin"
	if p, ok := d.Person("researcher"); !ok || p.Roles[0] != "researcher" {
		t.Error("a caller changed the directory")
	}
	_, err = NewDirectory(nil, 0).ByKey(k)
	_, _, unknown := s.Lookup("nonsense")
	if sallyport.KindOf(err) != sallyport.Denied || err.Error() != unknown.Error() {
		t.Errorf("somebody who left: %v", err)
	}
	if _, ok := d.Person("stranger"); ok {
		t.Error("a stranger is a person")
	}
}

func FuzzParseKey(f *testing.F) {
	const id = "AKAAAAAAAAAAAAAAAAAA"
	good := record{Version: 1, AccessKey: AccessKey{ID: id, Person: "a", Project: "p", Purpose: "x",
		Issued: time.Unix(1000, 0).UTC(), Until: time.Unix(2000, 0).UTC()}, Sealed: make([]byte, sealedLength)}
	b, err := good.marshal()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parseKey(id, b); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Add(bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1))
	f.Add(append(b, '{'))
	f.Add(bytes.Replace(b, []byte(`"a"`), []byte(`""`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseKey(id, b)
		if err != nil {
			if !isPlain(err.Error()) {
				t.Errorf("an error that is no line: %q", err)
			}
			return
		}
		if r.ID != id || r.Person == "" || r.Project == "" || r.Purpose == "" || !r.Until.After(r.Issued) {
			t.Fatalf("accepted %+v", r)
		}
		out, err := r.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(id, out)
		if err != nil {
			t.Fatalf("what was accepted is refused when written again: %v", err)
		}
		if !bytes.Equal(r.bound(), again.bound()) || !bytes.Equal(r.Sealed, again.Sealed) || r.Note != again.Note {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

func isPlain(s string) bool { return printable(s) && len(s) < 512 }
