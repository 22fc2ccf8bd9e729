package archive_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/policy"
	"sallyport/policy/archive"
)

func bundle(t *testing.T, extra string) fstest.MapFS {
	t.Helper()
	door := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("package sallyport." + name + "\n\nimport rego.v1\n\nverdict := {\"allow\": false, \"reasons\": [\"no\"], \"rules\": []}\n" + extra)}
	}
	return fstest.MapFS{"admit.rego": door("admit"), "release.rego": door("release"),
		"data.json": {Data: []byte(`{"rules": {"n": 1.50}}`)}, "README.md": {Data: []byte("not part of it")}}
}

func load(t *testing.T, files fs.FS) *policy.Bundle {
	t.Helper()
	b, err := policy.Load(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWhatWasInForceComesBack goes the whole way: an engine tells the archive,
// and a second engine made from the archive has the same digests.
func TestWhatWasInForceComesBack(t *testing.T) {
	dir := t.TempDir()
	a := archive.Open(dir)
	e, err := policy.New(t.Context(), policy.Config{Bundle: bundle(t, ""), Keep: a.Keep,
		Overlay: map[string]any{"catalog": map[string]any{"datasets": map[string]any{"d": 1}}, "site": map[string]any{"<&>": "ü"}}})
	if err != nil {
		t.Fatal(err)
	}
	rules, first := e.Digests()
	if err := e.SetOverlay(t.Context(), map[string]any{"catalog": map[string]any{}, "site": map[string]any{"<&>": "ü"}}); err != nil {
		t.Fatal(err)
	}
	_, second := e.Digests()

	again := archive.Open(dir)
	for _, data := range []sallyport.Digest{first, second} {
		files, err := again.Rules(rules)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := again.Data(data)
		if err != nil {
			t.Fatal(err)
		}
		old, err := load(t, files).Recorded(t.Context(), roots, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		p, d := old.Digests()
		if p != rules || d != data {
			t.Errorf("recalled %s %s, want %s %s", p.Short(), d.Short(), rules.Short(), data.Short())
		}
	}
	// What did not change is there once.
	x, _ := again.Roots(first)
	y, _ := again.Roots(second)
	if x["site"] != y["site"] || x["rules"] != y["rules"] || x["catalog"] == y["catalog"] {
		t.Errorf("roots %v and %v", x, y)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "roots", "*")); len(names) != 4 {
		t.Errorf("%d roots are kept, want 4", len(names))
	}
	files, err := again.Version(e.Bundle().Version())
	if err != nil {
		t.Fatal(err)
	}
	if v := load(t, files).Version(); v != e.Bundle().Version() {
		t.Errorf("version %s", v)
	}
	if _, err := fs.Stat(files, "README.md"); err == nil {
		t.Error("a file that does not count is kept")
	}
}

// TestWhatCannotBeKeptDoesNotComeIntoForce: no decision may be made that
// nobody could explain later.
func TestWhatCannotBeKeptDoesNotComeIntoForce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := policy.Config{Bundle: bundle(t, ""), Keep: archive.Open(dir).Keep}
	if _, err := policy.New(t.Context(), cfg); sallyport.KindOf(err) != sallyport.Exhausted {
		t.Errorf("an engine whose state cannot be kept: %v", err)
	}

	ok := true
	cfg.Keep = func(context.Context, *policy.Bundle, sallyport.Digest, sallyport.Digest, map[string]any) error {
		if ok {
			return nil
		}
		return sallyport.Errorf("x", sallyport.Exhausted, "", "full")
	}
	e, err := policy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	before, data := e.Digests()
	ok = false
	if err := e.SetBundle(t.Context(), load(t, bundle(t, "\nx := 1\n"))); err == nil {
		t.Error("a bundle came into force that was not kept")
	}
	if err := e.SetOverlay(t.Context(), map[string]any{"site": map[string]any{}}); err == nil {
		t.Error("data came into force that were not kept")
	}
	if p, d := e.Digests(); p != before || d != data {
		t.Error("the former state is not in force any more")
	}
}

// TestWhatWasChangedIsNotTaken changes every file, one at a time.
func TestWhatWasChangedIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	a := archive.Open(dir)
	e, err := policy.New(t.Context(), policy.Config{Bundle: bundle(t, ""), Keep: a.Keep, Overlay: map[string]any{"site": map[string]any{"a": 1}}})
	if err != nil {
		t.Fatal(err)
	}
	// A second bundle, to point to.
	other := load(t, bundle(t, "\ny := 2\n"))
	if err := a.KeepBundle(other); err != nil {
		t.Fatal(err)
	}
	rules, data := e.Digests()
	read := func() error {
		if _, err := a.Rules(rules); err != nil {
			return err
		}
		_, err := a.Data(data)
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	hex := func(d sallyport.Digest) string { return string(d)[len("sha256:"):] }
	files := []string{"versions/" + hex(e.Bundle().Version()) + ".zip", "rules/" + hex(rules), "data/" + hex(data) + ".json"}
	roots, _ := a.Roots(data)
	for _, d := range roots {
		files = append(files, "roots/"+hex(d)+".json.gz")
	}
	for _, name := range files {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string][]byte{"empty": nil, "cut": good[:len(good)/2], "other": []byte(other.Version() + "\n")} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if k := sallyport.KindOf(read()); k != sallyport.Damaged && k != sallyport.Invalid {
				t.Errorf("%s %s: %v", name, what, read())
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := read(); sallyport.KindOf(err) != sallyport.NotFound {
			t.Errorf("%s absent: %v", name, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// One root for another: each is what its name says, the whole is not.
	swapped, _ := json.Marshal(map[string]any{"roots": map[string]any{"site": roots["rules"], "rules": roots["site"]}})
	if err := os.WriteFile(filepath.Join(dir, "data", hex(data)+".json"), swapped, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Data(data); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("swapped roots: %v", err)
	}
	for _, d := range []sallyport.Digest{"", "sha256:../../x", "sha256:" + "0"} {
		if _, err := a.Version(d); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("digest %q: %v", d, err)
		}
	}
}

func TestNumbersStayAsWritten(t *testing.T) {
	a := archive.Open(t.TempDir())
	e, err := policy.New(t.Context(), policy.Config{Bundle: bundle(t, ""), Keep: a.Keep})
	if err != nil {
		t.Fatal(err)
	}
	_, d := e.Digests()
	got, err := a.Data(d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"rules": map[string]any{"n": json.Number("1.50")}}, got); diff != "" {
		t.Error(diff)
	}
}
