//go:build linux

package dir_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sallyport"
	"sallyport/store"
	"sallyport/store/dir"
	"sallyport/store/storetest"
)

func open(t testing.TB, path string) *dir.Store {
	t.Helper()
	s, err := dir.Open("d", dir.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ref(key string) sallyport.Ref { return sallyport.Ref{Store: "d", Key: key} }

func put(t testing.TB, s *dir.Store, key, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), ref(key), func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *dir.Store, key string) string {
	t.Helper()
	o, err := s.Open(t.Context(), ref(key))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func keys(t testing.TB, s *dir.Store) (list []string) {
	t.Helper()
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Ref.Key)
	}
	return list
}

func TestConformance(t *testing.T) {
	storetest.Run(t, "d", func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "objects")) })
}

func TestSurvivesReopening(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	put(t, s, "a/b", "text")
	s.Close()
	s = open(t, path)
	if got := get(t, s, "a/b"); got != "text" {
		t.Fatal(got)
	}
	if b, err := os.ReadFile(filepath.Join(path, "a", "b")); err != nil || string(b) != "text" {
		t.Fatal("not a plain file", err)
	}
	if st, err := os.Stat(filepath.Join(path, "a", "b")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}
}

// TestUnfinished: what a killed writer left is invisible, and goes when the
// store is opened; what a living one writes stays.
func TestUnfinished(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	const hidden = ".sallyport-unfinished"
	_, err := s.Put(t.Context(), ref("k"), func(w io.Writer) error {
		if _, err := io.WriteString(w, "first half, "); err != nil {
			return err
		}
		dead := filepath.Join(path, hidden, "dead")
		if err := os.WriteFile(dead, []byte("half"), 0o600); err != nil {
			return err
		}
		for _, key := range []string{hidden, hidden + "/dead"} {
			if _, err := s.Open(t.Context(), ref(key)); sallyport.KindOf(err) != sallyport.Invalid {
				t.Errorf("%q: %v", key, err)
			}
			if err := s.Remove(t.Context(), ref(key)); sallyport.KindOf(err) != sallyport.Invalid {
				t.Errorf("%q: %v", key, err)
			}
		}
		if list := keys(t, s); len(list) != 0 {
			t.Errorf("listed %q", list)
		}
		open(t, path) // another process, say: a command beside the gateway
		if _, err := os.Stat(dead); err == nil {
			t.Error("the dead writer's file is still there")
		}
		if list, err := os.ReadDir(filepath.Join(path, hidden)); err != nil || len(list) != 1 {
			t.Errorf("%d unfinished files, %v", len(list), err)
		}
		_, err := io.WriteString(w, "second half")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "k"); got != "first half, second half" {
		t.Fatal(got)
	}
	if list, err := os.ReadDir(filepath.Join(path, hidden)); err != nil || len(list) != 0 {
		t.Fatalf("%d unfinished files, %v", len(list), err)
	}
}

func TestLinksAndSpecialFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	s := open(t, path)
	put(t, s, "real", "x")
	for name, target := range map[string]string{"out": outside, "up": "../" + filepath.Base(filepath.Dir(outside)), "in": "real", "outdir": filepath.Dir(outside), "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(path, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "back\\slash"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := keys(t, s); !slices.Equal(list, []string{"real"}) {
		t.Fatalf("listed %q", list)
	}
	for _, key := range []string{"out", "up", "in", "loop", "pipe"} {
		if _, err := s.Open(t.Context(), ref(key)); sallyport.KindOf(err) != sallyport.NotFound {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range []string{"outdir/secret", "up/secret", "loop/x"} {
		if o, err := s.Open(t.Context(), ref(key)); err == nil {
			o.Close()
			t.Errorf("%s leads out", key)
		}
		if _, err := s.Put(t.Context(), ref(key), func(io.Writer) error { return nil }); err == nil {
			t.Errorf("%s is written outside", key)
		}
		if err := s.Remove(t.Context(), ref(key)); err == nil {
			t.Errorf("%s is removed outside", key)
		}
	}
	put(t, s, "out", "mine now") // replaces the link, not what it points to
	if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
		t.Fatal("written through a link", err)
	}
	if err := s.Remove(t.Context(), ref("in")); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "real"); got != "x" {
		t.Fatal(got)
	}
}

func TestPrunesEmptyFolders(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	put(t, s, "a/b/c", "x")
	put(t, s, "a/d", "x")
	if err := s.Remove(t.Context(), ref("a/b/c")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "a", "b")); err == nil {
		t.Fatal("an empty folder stays")
	}
	if got := get(t, s, "a/d"); got != "x" {
		t.Fatal(got)
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := dir.Open("d", dir.Config{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, filepath.Join(file, "below")} {
		if _, err := dir.Open("d", dir.Config{Path: p}); sallyport.KindOf(err) != sallyport.Conflict {
			t.Fatalf("%s: %v", p, err)
		}
	}
}

func TestLongNames(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, strings.Repeat("x", 255), "x")
	_, err := s.Put(t.Context(), ref(strings.Repeat("x", 256)), func(io.Writer) error { return nil })
	if sallyport.KindOf(err) != sallyport.Invalid {
		t.Fatal(err)
	}
}

// TestDiskFull runs in a child whose files may have 100 kB at most, as a full
// disk makes writes fail in the middle.
func TestDiskFull(t *testing.T) {
	if os.Getenv("DIR_TEST_FULL") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		cmd.Env = append(os.Environ(), "DIR_TEST_FULL="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "refused as it should be") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	limitFiles(t, 100_000)
	s := open(t, os.Getenv("DIR_TEST_FULL"))
	put(t, s, "k", "the old one")
	for _, attentive := range []bool{true, false} {
		for _, key := range []string{"k", "new/er"} {
			_, err := s.Put(t.Context(), ref(key), func(w io.Writer) error {
				for range 10 {
					if _, err := w.Write(make([]byte, 30_000)); err != nil && attentive {
						return err
					}
				}
				return nil
			})
			if sallyport.KindOf(err) != sallyport.Exhausted || sallyport.HintOf(err) == "" {
				t.Fatalf("%v is %s", err, sallyport.KindOf(err))
			}
		}
	}
	if got := get(t, s, "k"); got != "the old one" {
		t.Fatalf("the old object holds %d bytes", len(got))
	}
	if list := keys(t, s); !slices.Equal(list, []string{"k"}) {
		t.Fatal(list)
	}
	left, err := os.ReadDir(filepath.Join(os.Getenv("DIR_TEST_FULL"), ".sallyport-unfinished"))
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	t.Log("refused as it should be")
}
