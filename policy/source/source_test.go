package source

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

// tree is a folder of a test, by path.
type tree map[string]string

// rules are the smallest bundle that policy loads, with a mark to tell versions
// apart.
func rules(mark string) tree {
	return tree{
		"data.json":                `{"mark": "` + mark + `"}`,
		"sallyport/admit.rego":     "package sallyport.admit\n\nverdict := {\"allow\": false, \"reasons\": [\"" + mark + "\"]}\n",
		"sallyport/release.rego":   "package sallyport.release\n\nverdict := {\"allow\": false, \"reasons\": []}\n",
		"sallyport/some_test.rego": "package sallyport.some_test\n\ntest_true if true\n",
	}
}

func (t tree) with(name, text string) tree {
	t = maps.Clone(t)
	t[name] = text
	return t
}

// got reads a candidate's files.
func got(t *testing.T, c Candidate) tree {
	t.Helper()
	out := tree{}
	err := fs.WalkDir(c.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(c.FS, name)
		out[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// publisher is what a kind of source is to the shared test.
type publisher struct {
	Source
	publish  func(tree) // makes it what the source has now
	vanish   func()     // takes it away
	revision bool       // whether candidates have one
	signed   bool
}

// TestSources is what the three have in common.
func TestSources(t *testing.T) {
	for name, open := range map[string]func(*testing.T) publisher{
		"dir": dirPublisher, "git": gitPublisher, "git, signed": signedGitPublisher, "http": httpPublisher, "http, unsigned": unsignedHTTPPublisher} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			first, second := rules("one"), rules("two")
			p.publish(first.with("README.md", "for people").with("schema/v1/data.json", "{}").with("schema/v1/admission.json", "{}"))
			a, changed, err := p.Fetch(t.Context(), Candidate{})
			if err != nil {
				t.Fatal(err)
			}
			if !changed {
				t.Error("the first candidate is no change")
			}
			want := first.with("schema/v1/data.json", "{}").with("schema/v1/admission.json", "{}")
			if diff := cmp.Diff(want, got(t, a)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if err := fstest.TestFS(a.FS, slices.Collect(maps.Keys(want))...); err != nil {
				t.Error(err)
			}
			if a.Origin != p.String() || a.Origin == "" {
				t.Errorf("origin %q, source %q", a.Origin, p)
			}
			if (a.Revision != "") != p.revision || (a.Signed != "") != p.signed {
				t.Errorf("revision %q, signed %q", a.Revision, a.Signed)
			}
			b, err := policy.Load(t.Context(), a.FS)
			if err != nil {
				t.Fatal(err)
			}
			if b.Version() != a.Digest {
				t.Errorf("the loaded bundle is %s, the candidate %s", b.Version(), a.Digest)
			}

			same, changed, err := p.Fetch(t.Context(), a)
			if err != nil || changed || same.Digest != a.Digest || same.FS == nil || same.Revision != a.Revision || same.Signed != a.Signed {
				t.Errorf("nothing happened: changed %v, err %v, %+v", changed, err, same)
			}

			p.publish(second)
			next, changed, err := p.Fetch(t.Context(), same)
			if err != nil || !changed || next.Digest == a.Digest {
				t.Fatalf("a new version: changed %v, err %v", changed, err)
			}
			if diff := cmp.Diff(second, got(t, next)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, got(t, a)); diff != "" {
				t.Errorf("the old candidate changed:\n%s", diff)
			}

			// The files of another version that are the same are no change.
			p.publish(second.with("README.md", "again"))
			if again, changed, err := p.Fetch(t.Context(), next); err != nil || changed || again.Digest != next.Digest {
				t.Errorf("only what does not count changed: %v %v", changed, err)
			}

			p.publish(tree{"README.md": "no rules"})
			wantFault(t, p, next, sallyport.Invalid, "no rules and no data")
			p.vanish()
			wantFault(t, p, next, sallyport.NotFound, "")
			p.publish(first)
			if back, changed, err := p.Fetch(t.Context(), next); err != nil || !changed || got(t, back)["data.json"] != first["data.json"] {
				t.Errorf("a source that is well again: %v %v", changed, err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, _, err := p.Fetch(ctx, next); sallyport.KindOf(err) != sallyport.Canceled || !errors.Is(err, context.Canceled) {
				t.Errorf("with a context that has ended: %v", err)
			}
			if p.Interval() < time.Second {
				t.Errorf("interval %v", p.Interval())
			}
		})
	}
}

// wantFault fetches and wants an error that leaves last as it is.
func wantFault(t *testing.T, s Source, last Candidate, kind sallyport.Kind, says string) {
	t.Helper()
	c, changed, err := s.Fetch(t.Context(), last)
	if err == nil {
		t.Fatalf("accepted, but should have said: %s", says)
	}
	if changed || c.Digest != last.Digest || c.Revision != last.Revision || c.FS != last.FS {
		t.Error("an error came with another candidate")
	}
	if sallyport.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v; want %s: …%s…", sallyport.KindOf(err), err, kind, says)
	}
	if !strings.Contains(sallyport.HintOf(err), hintKept) {
		t.Errorf("no word about what is in force: %s", sallyport.HintOf(err))
	}
}

// TestDefaultBundleIsACandidate: the bundle that ships passes through.
func TestDefaultBundleIsACandidate(t *testing.T) {
	all := newFiles()
	err := fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := policies.FS.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return all.add(name, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := all.candidate("test")
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.Load(t.Context(), c.FS)
	if err != nil {
		t.Fatal(err)
	}
	if b.Version() != c.Digest {
		t.Errorf("version %s, candidate %s", b.Version(), c.Digest)
	}
}

// TestNames: whatever is called a file, what is kept can be opened by its name
// in the candidate, and nothing that could lead elsewhere is kept.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(rapid.StringMatching(`(a|b|\.|\.\.|/|\\|\x00|é|\.rego|data\.json){1,6}`)).Draw(t, "names")
		all := newFiles()
		for _, name := range names {
			if err := all.add(name, strings.NewReader(name)); err != nil && sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatal(err)
			}
		}
		c, err := all.candidate("test")
		if err != nil {
			return
		}
		err = fs.WalkDir(c.FS, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00") {
				t.Errorf("%q was kept", name)
			}
			b, err := fs.ReadFile(c.FS, name)
			if string(b) != name {
				t.Errorf("%q holds %q", name, b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// fill writes a folder anew.
func fill(t *testing.T, dir string, files tree) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != ".git" {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
