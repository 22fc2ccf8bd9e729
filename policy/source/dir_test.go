package source

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport"
)

func dirPublisher(t *testing.T) publisher {
	dir := filepath.Join(t.TempDir(), "policy")
	s, err := OpenDir(DirConfig{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return publisher{Source: s, publish: func(f tree) { fill(t, dir, f) }, vanish: func() { os.RemoveAll(dir) }}
}

func openDir(t *testing.T, files tree) (*Dir, string) {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir, files)
	d, err := OpenDir(DirConfig{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return d, dir
}

// TestDirThatChangesWhileRead: a candidate is one version, never two halves.
func TestDirThatChangesWhileRead(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"another file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "new.rego"), []byte("package a"), 0o644)
		},
		"a file less": func(dir string) error { return os.Remove(filepath.Join(dir, "data.json")) },
		"longer": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "data.json"), []byte(`{"mark": "longer"}`), 0o644)
		},
		"replaced by one of the same size and time": func(dir string) error {
			old := filepath.Join(dir, "data.json")
			st, err := os.Stat(old)
			if err != nil {
				return err
			}
			if err := os.WriteFile(old+".new", []byte(`{"mark": "eno"}`), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(old+".new", st.ModTime(), st.ModTime()); err != nil {
				return err
			}
			return os.Rename(old+".new", old)
		},
		"touched": func(dir string) error {
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			return os.Chtimes(filepath.Join(dir, "data.json"), at, at)
		},
		"the folder replaced": func(dir string) error {
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			return os.CopyFS(dir, os.DirFS(dir+".old"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, dir := openDir(t, rules("one"))
			last, _, err := d.Fetch(t.Context(), Candidate{})
			if err != nil {
				t.Fatal(err)
			}
			d.between = func() {
				if err := change(dir); err != nil {
					t.Fatal(err)
				}
			}
			wantFault(t, d, last, sallyport.Conflict, "changed while it was read")
			d.between = func() {}
			if _, _, err := d.Fetch(t.Context(), last); err != nil {
				t.Errorf("at rest again: %v", err)
			}
		})
	}
}

// TestDirIgnoresWhatDoesNotCount: notes and hidden folders may change at any time.
func TestDirIgnoresWhatDoesNotCount(t *testing.T) {
	d, dir := openDir(t, rules("one").with(".git/objects/x.rego", "not rego").with("notes.txt", "a"))
	d.between = func() {
		if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("more"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := d.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	if files := got(t, c); len(files) != len(rules("")) {
		t.Errorf("files: %v", files)
	}
}

// TestDirOfAMountedVolume is how Kubernetes mounts a ConfigMap: files are links
// through a hidden link to a hidden folder that is switched atomically.
func TestDirOfAMountedVolume(t *testing.T) {
	d, dir := openDir(t, tree{"..v1/admit.rego": "package one", "..v2/admit.rego": "package two"})
	link(t, "..v1", filepath.Join(dir, "..data"))
	link(t, "..data/admit.rego", filepath.Join(dir, "admit.rego"))
	c, _, err := d.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	if files := got(t, c); len(files) != 1 || files["admit.rego"] != "package one" {
		t.Fatalf("files: %v", files)
	}
	link(t, "..v2", filepath.Join(dir, "..new"))
	swap := func() {
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	d.between = swap
	wantFault(t, d, c, sallyport.Conflict, "changed while it was read")
	d.between = func() {}
	next, changed, err := d.Fetch(t.Context(), c)
	if err != nil || !changed || got(t, next)["admit.rego"] != "package two" {
		t.Errorf("after the switch: %v %v", changed, err)
	}
}

func TestDirMayBeALink(t *testing.T) {
	_, dir := openDir(t, rules("one"))
	_, other := openDir(t, rules("two"))
	at := filepath.Join(t.TempDir(), "current")
	link(t, dir, at)
	d, err := OpenDir(DirConfig{Path: at})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := d.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	d.between = func() {
		link(t, other, at+".new")
		if err := os.Rename(at+".new", at); err != nil {
			t.Fatal(err)
		}
	}
	wantFault(t, d, c, sallyport.Conflict, "changed while it was read")
}

func TestBadDirs(t *testing.T) {
	outside := t.TempDir()
	fill(t, outside, tree{"deny.rego": "package deny"})
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		kind sallyport.Kind
		says string
	}{
		"a link out":           {func(t *testing.T, dir string) { link(t, filepath.Join(outside, "deny.rego"), dir+"/deny.rego") }, sallyport.Invalid, `"deny.rego" is a link that leads`},
		"a link up":            {func(t *testing.T, dir string) { link(t, "../../deny.rego", dir+"/deny.rego") }, sallyport.Invalid, "out of the folder"},
		"a dangling link":      {func(t *testing.T, dir string) { link(t, "nowhere.rego", dir+"/deny.rego") }, sallyport.Invalid, "leads nowhere"},
		"a linked folder":      {func(t *testing.T, dir string) { link(t, "sallyport", dir+"/more") }, sallyport.Invalid, "is a link to a folder"},
		"a folder outside":     {func(t *testing.T, dir string) { link(t, outside, dir+"/more") }, sallyport.Invalid, "out of the folder"},
		"a hidden rule":        {func(t *testing.T, dir string) { fillMore(t, dir, ".deny.rego", "package deny") }, sallyport.Invalid, "is hidden"},
		"an editor's lock":     {func(t *testing.T, dir string) { link(t, "user@host.1", dir+"/.#deny.rego") }, sallyport.Invalid, "is hidden"},
		"a folder named .rego": {func(t *testing.T, dir string) { fillMore(t, dir, "deny.rego/x.rego", "package deny") }, "", ""},
		"a pipe": {func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(dir+"/deny.rego", 0o644); err != nil {
				t.Skip(err)
			}
		}, sallyport.Invalid, "no ordinary file"},
		"too large": {func(t *testing.T, dir string) {
			fillMore(t, dir, "big/data.json", "")
			if err := os.Truncate(filepath.Join(dir, "big/data.json"), MaxBytes+1); err != nil {
				t.Fatal(err)
			}
		}, sallyport.Exhausted, "larger than 64 MiB"},
		"too many": {func(t *testing.T, dir string) {
			for i := range MaxFiles + 1 {
				if err := os.WriteFile(filepath.Join(dir, "f"+strconv.Itoa(i)+".rego"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}, sallyport.Exhausted, "more than 10000 files"},
		"a control character": {func(t *testing.T, dir string) { fillMore(t, dir, "a\nb.rego", "package a") }, sallyport.Invalid, "no path within a bundle"},
		"a backslash":         {func(t *testing.T, dir string) { fillMore(t, dir, `a\b.rego`, "package a") }, sallyport.Invalid, "no path within a bundle"},
		"nothing":             {func(t *testing.T, dir string) { fill(t, dir, nil) }, sallyport.Invalid, "no rules and no data"},
		"a file":              {func(t *testing.T, dir string) { os.RemoveAll(dir); fillMore(t, filepath.Dir(dir), "policy", "") }, sallyport.Unavailable, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "policy")
			fill(t, dir, rules("one"))
			d, err := OpenDir(DirConfig{Path: dir})
			if err != nil {
				t.Fatal(err)
			}
			last, _, err := d.Fetch(t.Context(), Candidate{})
			if err != nil {
				t.Fatal(err)
			}
			c.make(t, dir)
			if c.kind == "" {
				if _, _, err := d.Fetch(t.Context(), last); err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, d, last, c.kind, c.says)
		})
	}
}

func fillMore(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Skip("no symbolic links here: " + err.Error())
	}
}

func TestBadDirConfig(t *testing.T) {
	for _, c := range []DirConfig{{}, {Path: "x", Interval: time.Millisecond}, {Path: "x", Interval: -time.Hour}} {
		if _, err := OpenDir(c); sallyport.KindOf(err) != sallyport.Invalid || strings.Contains(err.Error(), "%!") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
