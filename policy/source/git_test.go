package source

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport"
)

// need skips by name a test that a program is missing for; in CI none is.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs %s: %v", program, err)
		}
		t.Skipf("needs %s: %v", program, err)
	}
}

// repository is a real one, made with the real git.
type repository struct {
	t      *testing.T
	dir    string
	signer string // private key that commits are signed with
}

func newRepository(t *testing.T, options ...string) *repository {
	t.Helper()
	need(t, "git")
	r := &repository{t: t, dir: filepath.Join(t.TempDir(), "repo")}
	r.init(options...)
	return r
}

func (r *repository) init(options ...string) {
	r.t.Helper()
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.git(append([]string{"init", "--quiet", "--initial-branch=main"}, options...)...)
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	c := exec.Command("git", append([]string{"-C", r.dir, "-c", "user.name=Author", "-c", "user.email=author@lab.example",
		"-c", "commit.gpgsign=false", "-c", "core.autocrlf=false"}, args...)...)
	c.Env = append(environment(), "GIT_ALLOW_PROTOCOL=file", "GIT_AUTHOR_DATE=2026-03-01T12:00:00Z", "GIT_COMMITTER_DATE=2026-03-01T12:00:00Z")
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit makes files what the next commit holds, and returns its name.
func (r *repository) commit(files tree, options ...string) string {
	r.t.Helper()
	fill(r.t, r.dir, files)
	r.git("add", "--all", "--force")
	sign := []string{"commit", "--quiet", "--allow-empty", "--message", "a version"}
	if r.signer != "" {
		sign = append([]string{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + r.signer}, append(sign, "-S")...)
	}
	r.git(append(sign, options...)...)
	return r.git("rev-parse", "HEAD")
}

func (r *repository) open(cfg GitConfig) *Git {
	r.t.Helper()
	if cfg.Path == "" {
		cfg.Path = r.dir
	}
	g, err := OpenGit(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return g
}

// sshKey makes a key pair and returns the private key's file and a line of an
// allowed signers file.
func sshKey(t *testing.T, principal string) (private, line string) {
	t.Helper()
	need(t, "ssh-keygen")
	private = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", private).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return private, principal + ` namespaces="git" ` + string(public)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func gitPublisher(t *testing.T) publisher {
	r := newRepository(t)
	return publisher{Source: r.open(GitConfig{}), revision: true, vanish: func() { os.RemoveAll(r.dir) }, publish: func(f tree) {
		if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
			r.init()
		}
		r.commit(f)
	}}
}

func signedGitPublisher(t *testing.T) publisher {
	private, line := sshKey(t, "admin@lab.example")
	p := gitPublisher(t)
	g := p.Source.(*Git)
	r := &repository{t: t, dir: g.cfg.Path, signer: private}
	p.Source = r.open(GitConfig{Ref: "refs/heads/main", RequireSigned: true, AllowedSigners: write(t, "signers", line)})
	p.signed = true
	p.publish = func(f tree) {
		if _, err := os.Stat(r.dir); errors.Is(err, fs.ErrNotExist) {
			r.init()
		}
		r.commit(f)
	}
	return p
}

// TestGitReadsCommits: not the working files, not the index, and the ref and
// folder that were asked for, also of a bare repository.
func TestGitReadsCommits(t *testing.T) {
	r := newRepository(t)
	in := tree{"README.md": "top"}
	for name, text := range rules("one") {
		in["bundle/deep/"+name] = text
	}
	one := r.commit(in)
	r.git("tag", "v1")
	two := r.commit(tree{"x.rego": "package x"})
	fill(t, r.dir, tree{"y.rego": "package y"})
	r.git("add", "--all")

	c, _, err := r.open(GitConfig{}).Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	if files := got(t, c); c.Revision != two || len(files) != 1 || files["x.rego"] == "" {
		t.Errorf("revision %s, files %v", c.Revision, files)
	}
	for _, ref := range []string{"v1", one, one[:12], "refs/tags/v1"} {
		c, _, err := r.open(GitConfig{Ref: ref, Subdir: "/bundle/deep/"}).Fetch(t.Context(), Candidate{})
		if err != nil {
			t.Fatal(err)
		}
		if files := got(t, c); c.Revision != one || len(files) != len(rules("")) || files["data.json"] != rules("one")["data.json"] {
			t.Errorf("ref %s: revision %s, files %v", ref, c.Revision, files)
		}
	}
	bare := filepath.Join(t.TempDir(), "policy.git")
	r.git("clone", "--quiet", "--bare", r.dir, bare)
	if c, _, err := r.open(GitConfig{Path: bare, Ref: "main"}).Fetch(t.Context(), Candidate{}); err != nil || c.Revision != two {
		t.Errorf("bare: %s, %v", c.Revision, err)
	}
	wantFault(t, r.open(GitConfig{Ref: "absent"}), c, sallyport.NotFound, `no commit "absent"`)
	wantFault(t, r.open(GitConfig{Subdir: "bundle"}), c, sallyport.NotFound, `no folder "bundle"`)
	wantFault(t, r.open(GitConfig{Ref: r.git("rev-parse", "HEAD^{tree}")}), c, sallyport.NotFound, "no commit")
	// A folder within the repository is not the repository.
	wantFault(t, r.open(GitConfig{Path: filepath.Dir(r.dir)}), c, sallyport.Unavailable, "not a git repository")
	if err := os.Mkdir(filepath.Join(r.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantFault(t, r.open(GitConfig{Path: filepath.Join(r.dir, "sub")}), c, sallyport.Unavailable, "not a git repository")
}

func TestGitWithSHA256(t *testing.T) {
	r := newRepository(t, "--object-format=sha256")
	private, line := sshKey(t, "admin@lab.example")
	r.signer = private
	id := r.commit(rules("one"))
	c, _, err := r.open(GitConfig{RequireSigned: true, AllowedSigners: write(t, "signers", line)}).Fetch(t.Context(), Candidate{})
	if err != nil || len(id) != 64 || c.Revision != id {
		t.Errorf("%s %s: %v", id, c.Revision, err)
	}
}

// TestGitOfAnotherUser: a repository may belong to somebody else, whom git does
// not trust by itself.
func TestGitOfAnotherUser(t *testing.T) {
	r := newRepository(t)
	id := r.commit(rules("one"))
	if os.Getuid() != 0 {
		t.Skip("only root can give a repository away")
	}
	err := filepath.WalkDir(r.dir, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, 12345, 12345))
	})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := r.open(GitConfig{}).Fetch(t.Context(), Candidate{})
	if err != nil || c.Revision != id {
		t.Errorf("%v %v", c.Revision, err)
	}
}

func TestGitSignatures(t *testing.T) {
	private, line := sshKey(t, "admin@lab.example")
	other, otherLine := sshKey(t, "other@lab.example")
	r := newRepository(t)
	signers := write(t, "signers", line)
	g := r.open(GitConfig{RequireSigned: true, AllowedSigners: signers})

	r.commit(rules("unsigned"))
	wantFault(t, g, Candidate{}, sallyport.Damaged, "is not signed")

	r.signer = other
	r.commit(rules("by another"))
	wantFault(t, g, Candidate{}, sallyport.Damaged, "does not count")

	r.signer = private
	good := r.commit(rules("one"))
	c, _, err := g.Fetch(t.Context(), Candidate{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Signed, "admin@lab.example SHA256:") {
		t.Errorf("signed by %q", c.Signed)
	}
	// Without require_signed nobody is said to vouch for it.
	if plain, _, err := r.open(GitConfig{}).Fetch(t.Context(), Candidate{}); err != nil || plain.Signed != "" || plain.Digest != c.Digest {
		t.Errorf("signed %q, %v", plain.Signed, err)
	}

	// The same commit with another tree under the old signature.
	evil := r.commit(rules("evil"))
	raw := r.git("cat-file", "commit", good)
	raw = strings.Replace(raw, "tree "+r.git("rev-parse", good+"^{tree}"), "tree "+r.git("rev-parse", evil+"^{tree}"), 1)
	forged := write(t, "commit", raw+"\n")
	r.git("update-ref", "refs/heads/forged", r.git("hash-object", "-t", "commit", "-w", forged))
	wantFault(t, r.open(GitConfig{Ref: "forged", RequireSigned: true, AllowedSigners: signers}), c, sallyport.Damaged, "does not count")

	// A repository that says itself who may sign, and with which program.
	r.signer = other
	r.commit(rules("by another, allowed by the repository"))
	ran := filepath.Join(t.TempDir(), "ran")
	program := write(t, "program", "#!/bin/sh\ntouch "+ran+"\necho 'Good \"git\" signature for admin@lab.example with ED25519 key SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, setting := range [][2]string{{"gpg.ssh.allowedSignersFile", write(t, "signers", otherLine)}, {"gpg.ssh.program", program},
		{"gpg.program", program}, {"gpg.minTrustLevel", "undefined"}, {"core.fsmonitor", program}, {"core.hooksPath", filepath.Dir(program)}} {
		r.git("config", setting[0], setting[1])
	}
	wantFault(t, g, c, sallyport.Damaged, "does not count")
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program that the repository named has run")
	}

	// Replacement objects show other content under the name of a signed commit.
	r.git("reset", "--quiet", "--hard", good)
	r.git("replace", good, evil)
	again, changed, err := g.Fetch(t.Context(), Candidate{})
	if err != nil || !changed || again.Digest != c.Digest {
		t.Errorf("with a replacement: %v", err)
	}

	// The key counts for another purpose, or no longer counted at the commit's time.
	for _, terms := range []string{`namespaces="file"`, `namespaces="git",valid-before="20260228"`, `cert-authority,namespaces="git"`} {
		writeFile(t, signers, strings.Replace(line, `namespaces="git"`, terms, 1))
		wantFault(t, g, Candidate{}, sallyport.Damaged, "does not count")
	}
	writeFile(t, signers, strings.Replace(line, `namespaces="git"`, `namespaces="git",valid-before="20260401"`, 1))
	if _, _, err := g.Fetch(t.Context(), Candidate{}); err != nil {
		t.Error(err)
	}
	writeFile(t, signers, "")
	wantFault(t, g, Candidate{}, sallyport.Damaged, "does not count")
	if err := os.Remove(signers); err != nil {
		t.Fatal(err)
	}
	wantFault(t, g, Candidate{}, sallyport.Unavailable, "signers")
}

// TestGitDamage: an object that is not what its name says is found, whether git
// looks at it or not.
func TestGitDamage(t *testing.T) {
	for _, what := range []string{"HEAD:sallyport/admit.rego", "HEAD:sallyport", "HEAD^{tree}", "HEAD"} {
		t.Run(what, func(t *testing.T) {
			r := newRepository(t)
			r.commit(rules("one"))
			id := r.git("rev-parse", what)
			file := filepath.Join(r.dir, ".git", "objects", id[:2], id[2:])
			packed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			z, err := zlib.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			raw[len(raw)-2] ^= 1
			var buf bytes.Buffer
			w := zlib.NewWriter(&buf)
			if _, err := w.Write(raw); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			_, _, err = r.open(GitConfig{}).Fetch(t.Context(), Candidate{})
			if err == nil {
				t.Fatal("accepted")
			}
			t.Log(err)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if _, _, err = r.open(GitConfig{}).Fetch(t.Context(), Candidate{}); err == nil {
				t.Fatal("accepted without the object")
			}
		})
	}
}

func TestBadGitTrees(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, r *repository)
		kind sallyport.Kind
		says string
	}{
		"a link":        {func(t *testing.T, r *repository) { link(t, "data.json", filepath.Join(r.dir, "a.rego")) }, sallyport.Invalid, "is a symbolic link"},
		"a link out":    {func(t *testing.T, r *repository) { link(t, "/etc", filepath.Join(r.dir, "etc")) }, sallyport.Invalid, "is a symbolic link"},
		"a hidden rule": {func(t *testing.T, r *repository) { fillMore(t, r.dir, ".deny.rego", "package deny") }, sallyport.Invalid, "is hidden"},
		"a submodule": {func(t *testing.T, r *repository) {
			r.git("update-index", "--add", "--cacheinfo", "160000,"+r.git("rev-parse", "HEAD")+",more")
			r.git("commit", "--quiet", "--message", "a submodule")
		}, sallyport.Invalid, "is a submodule"},
		"too large": {func(t *testing.T, r *repository) {
			fillMore(t, r.dir, "data.json", "")
			if err := os.Truncate(filepath.Join(r.dir, "data.json"), MaxBytes+1); err != nil {
				t.Fatal(err)
			}
		}, sallyport.Exhausted, "too large"},
		"too deep": {func(t *testing.T, r *repository) {
			fillMore(t, r.dir, strings.Repeat("d/", maxDepth+2)+"a.rego", "package a")
		}, sallyport.Invalid, "nested more than"},
		"a name with a line feed": {func(t *testing.T, r *repository) { fillMore(t, r.dir, "a\nb.rego", "package a") }, sallyport.Invalid, "no path within a bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			r.commit(rules("one"))
			g := r.open(GitConfig{})
			last, _, err := g.Fetch(t.Context(), Candidate{})
			if err != nil {
				t.Fatal(err)
			}
			c.make(t, r)
			if name != "a submodule" {
				r.git("add", "--all", "--force")
				r.git("commit", "--quiet", "--message", "bad")
			}
			wantFault(t, g, last, c.kind, c.says)
		})
	}
}

func TestBadGitConfig(t *testing.T) {
	need(t, "git")
	for _, c := range []GitConfig{
		{}, {Path: "x", Ref: "--upload-pack=x"}, {Path: "x", Ref: "a b"}, {Path: "x", Ref: "a\nb"}, {Path: "x", Ref: "main:x"}, {Path: "x", Ref: "a..b"},
		{Path: "x", Ref: "main@{1}"}, {Path: "x", RequireSigned: true}, {Path: "x", AllowedSigners: "y"}, {Path: "x", Timeout: -1}, {Path: "x", Interval: 1},
	} {
		if _, err := OpenGit(c); sallyport.KindOf(err) != sallyport.Invalid || strings.Contains(err.Error(), "%!") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// A folder above is out of reach.
	g, err := OpenGit(GitConfig{Path: "x", Subdir: "../../etc", Interval: time.Minute})
	if err != nil || g.cfg.Subdir != "etc" || g.Interval() != time.Minute {
		t.Errorf("subdir %q, %v", g.cfg.Subdir, err)
	}
}

// TestGitThatHangs: a git that never answers is given up.
func TestGitThatHangs(t *testing.T) {
	r := newRepository(t)
	r.commit(rules("one"))
	g := r.open(GitConfig{Timeout: 100 * time.Millisecond})
	g.program = write(t, "git", "#!/bin/sh\nexec sleep 600\n")
	if err := os.Chmod(g.program, 0o755); err != nil {
		t.Fatal(err)
	}
	wantFault(t, g, Candidate{}, sallyport.Unavailable, "did not answer")
}
