package source

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/policy"
)

// GitConfig names a commit of a repository on this machine.
type GitConfig struct {
	Path   string `yaml:"path" json:"path"`                         // a checkout or a bare repository; its working files are never read
	Ref    string `yaml:"ref,omitempty" json:"ref,omitempty"`       // branch, tag or commit; default HEAD. refs/heads/main where a tag may be called main too
	Subdir string `yaml:"subdir,omitempty" json:"subdir,omitempty"` // of the repository; default its top
	// RequireSigned wants the commit itself signed with a key of
	// AllowedSigners, a file as ssh-keygen(1) describes under ALLOWED SIGNERS.
	// It is read at each new commit; valid-after and valid-before are compared
	// with the commit's own time, which its author sets.
	RequireSigned  bool          `yaml:"require_signed,omitempty" json:"require_signed,omitempty"`
	AllowedSigners string        `yaml:"allowed_signers,omitempty" json:"allowed_signers,omitempty"`
	Interval       time.Duration `yaml:"interval,omitempty" json:"interval,omitempty"` // between two looks; default 15s
	Timeout        time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`   // for one look; default 30s
}

// Resolve returns c with its paths made absolute by path.
func (c GitConfig) Resolve(path func(string) string) GitConfig {
	c.Path = path(c.Path)
	if c.AllowedSigners != "" {
		c.AllowedSigners = path(c.AllowedSigners)
	}
	return c
}

// Git reads a commit of a repository with the git program, which must be
// installed; ssh-keygen too for signed commits. Nothing of the repository's
// configuration is obeyed that runs a program or reaches the network, and
// replacement objects are ignored. The hash of every object is computed again
// here, so that the commit's name, and a signature of the commit, are about
// exactly the files that were read.
type Git struct {
	cfg      GitConfig
	program  string
	interval time.Duration
}

var goodRef = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+@-]{0,250}$`)

// OpenGit checks cfg and that the git program is there. The repository need
// not exist yet.
func OpenGit(cfg GitConfig) (*Git, error) {
	bad := func(hint, format string, args ...any) (*Git, error) {
		return nil, sallyport.Errorf("open policy source", sallyport.Invalid, hint, format, args...)
	}
	every, err := interval(cfg.Interval, DefaultGitInterval)
	if err != nil {
		return nil, err
	}
	if cfg.Ref == "" {
		cfg.Ref = "HEAD"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	cfg.Subdir = strings.Trim(path.Clean("/"+cfg.Subdir), "/")
	switch {
	case cfg.Path == "":
		return bad("Set path to a checkout or a bare repository.", "no repository given")
	case !goodRef.MatchString(cfg.Ref) || strings.Contains(cfg.Ref, "..") || strings.Contains(cfg.Ref, "@{"):
		return bad("Use the name of a branch, a tag or a commit.", "ref %.80q is no such name", cfg.Ref)
	case cfg.Timeout < 0:
		return bad("Leave timeout out for 30s.", "a negative time")
	case cfg.RequireSigned && cfg.AllowedSigners == "":
		return bad("Set allowed_signers to a file with lines like: NAME namespaces=\"git\" ssh-ed25519 …", "require_signed says nothing about whose signature counts")
	case !cfg.RequireSigned && cfg.AllowedSigners != "":
		return bad("Add require_signed: true, or remove allowed_signers.", "allowed_signers is given, but unsigned commits would be taken too")
	}
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, sallyport.E("open policy source", sallyport.Unsupported, err, "Install git on the gateway's machine.")
	}
	if cfg.Path, err = filepath.Abs(cfg.Path); err != nil {
		return bad("Write the whole path.", "path: %w", err)
	}
	return &Git{cfg: cfg, program: program, interval: every}, nil
}

// String returns repository, ref and folder.
func (g *Git) String() string {
	return strings.TrimSuffix("git "+g.cfg.Path+" "+g.cfg.Ref+":"+g.cfg.Subdir, ":")
}

// Interval is documented with [Source].
func (g *Git) Interval() time.Duration { return g.interval }

// Fetch is documented with [Source]. Revision is the commit.
func (g *Git) Fetch(parent context.Context, last Candidate) (Candidate, bool, error) {
	ctx, cancel := context.WithTimeout(parent, g.cfg.Timeout)
	defer cancel()
	c, changed, err := g.fetch(ctx, last)
	if err != nil {
		if late := ended(ctx, parent, "git", g.cfg.Timeout); late != nil {
			err = late
		}
		return last, false, err
	}
	return c, changed, nil
}

func (g *Git) fetch(ctx context.Context, last Candidate) (Candidate, bool, error) {
	if _, err := os.Stat(g.cfg.Path); err != nil {
		return last, false, fault(sallyport.NotFound, "Clone the repository there, or correct the configuration.", "%w", err)
	}
	cat, err := g.open(ctx)
	if err != nil {
		return last, false, err
	}
	defer cat.close()
	id, commit, err := cat.object(g.cfg.Ref+"^{commit}", "commit", 1<<20)
	if err != nil {
		return last, false, err
	}
	if last.Origin == g.String() && last.Revision == id {
		return last, false, nil
	}
	signed := ""
	if g.cfg.RequireSigned {
		if signed, err = g.verify(ctx, id, commit); err != nil {
			return last, false, err
		}
	}
	head, _, _ := bytes.Cut(commit, []byte("\n"))
	tree, ok := strings.CutPrefix(string(head), "tree ")
	if !ok || len(tree) != len(id) {
		return last, false, fault(sallyport.Damaged, "Run git fsck.", "commit %s has no tree", id)
	}
	w := &gitWalk{ctx: ctx, cat: cat, files: newFiles()}
	for _, part := range strings.FieldsFunc(g.cfg.Subdir, func(r rune) bool { return r == '/' }) {
		list, err := w.list(tree)
		if err != nil {
			return last, false, err
		}
		i := slices.IndexFunc(list, func(e gitEntry) bool { return e.name == part && e.mode == gitTree })
		if i < 0 {
			return last, false, fault(sallyport.NotFound, "Correct subdir or ref.", "commit %s has no folder %s", id, printable(g.cfg.Subdir))
		}
		tree = list[i].id
	}
	if err := w.walk(tree, "", 0); err != nil {
		return last, false, err
	}
	c, err := w.files.candidate(g.String())
	if err != nil {
		return last, false, err
	}
	c.Revision, c.Signed = id, signed
	return c, c.Digest != last.Digest, nil
}

// Modes of a tree's entries, as git writes them.
const (
	gitTree      = "40000"
	gitLink      = "120000"
	gitSubmodule = "160000"
)

type gitEntry struct{ mode, name, id string }

// gitWalk collects what counts below a tree.
type gitWalk struct {
	ctx   context.Context
	cat   *catFile
	files *files
	seen  int
}

func (w *gitWalk) list(tree string) ([]gitEntry, error) {
	_, body, err := w.cat.object(tree, "tree", 16<<20)
	if err != nil {
		return nil, err
	}
	var list []gitEntry
	for len(body) > 0 {
		head, rest, ok := bytes.Cut(body, []byte{0})
		mode, name, spaced := strings.Cut(string(head), " ")
		n := len(tree) / 2
		if !ok || !spaced || len(rest) < n {
			return nil, fault(sallyport.Damaged, "Run git fsck.", "tree %s is broken", tree)
		}
		list = append(list, gitEntry{mode, name, hex.EncodeToString(rest[:n])})
		body = rest[n:]
	}
	return list, nil
}

func (w *gitWalk) walk(tree, at string, depth int) error {
	if depth > maxDepth {
		return fault(sallyport.Invalid, "Put the rules higher.", "folders are nested more than %d deep", maxDepth)
	}
	list, err := w.list(tree)
	if err != nil {
		return err
	}
	for _, e := range list {
		if w.seen++; w.seen > maxEntries {
			return fault(sallyport.Exhausted, "Name the folder of the rules with subdir.", "the commit holds more than %d entries", maxEntries)
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := path.Join(at, e.name)
		if strings.Contains(e.name, "/") || e.name == "" || e.name == "." || e.name == ".." {
			return fault(sallyport.Invalid, "Run git fsck.", "%s is no name of a file", printable(e.name))
		}
		file := e.mode != gitTree && e.mode != gitLink && e.mode != gitSubmodule
		switch {
		case hidden(name) && file && policy.Counts(name):
			return hiddenFile(name)
		case hidden(name):
		case e.mode == gitTree:
			if err := w.walk(e.id, name, depth+1); err != nil {
				return err
			}
		case e.mode == gitLink:
			return fault(sallyport.Invalid, "Commit the file itself, or name another folder with subdir.", "%s is a symbolic link", printable(name))
		case e.mode == gitSubmodule:
			return fault(sallyport.Invalid, "Commit the files themselves, or name another folder with subdir.", "%s is a submodule", printable(name))
		case policy.Counts(name):
			_, src, err := w.cat.object(e.id, "blob", MaxBytes-w.files.size)
			if err != nil {
				return err
			}
			if err := w.files.add(name, bytes.NewReader(src)); err != nil {
				return err
			}
		}
	}
	return nil
}

var _ Source = (*Git)(nil)
