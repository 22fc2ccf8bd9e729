package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sallyport"
)

// environment is all that a git program gets to know of ours.
func environment() []string {
	env := []string{
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_NO_REPLACE_OBJECTS=1", // else a ref in the repository changes what a commit holds
		"GIT_NO_LAZY_FETCH=1",      // objects that are not here are missing
		"GIT_ALLOW_PROTOCOL=none",  // the same for git older than 2.45
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0",
	}
	for _, name := range []string{"PATH", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// command runs git in dir. Options given here win over the repository's
// configuration.
func (g *Git) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	// Outside of the folder itself no repository is looked for, and it may
	// belong to another user, who could otherwise not hand it to us.
	env := append(environment(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(real))
	options := []string{"-C", real, "-c", "safe.directory=" + real, "-c", "core.hooksPath=" + os.DevNull,
		"-c", "core.fsmonitor=false", "-c", "protocol.allow=never"}
	c := exec.CommandContext(ctx, g.program, append(options, args...)...)
	c.Env = env
	c.WaitDelay = time.Second
	return c
}

// catFile is a running `git cat-file --batch`.
type catFile struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	pipe   io.ReadCloser
	out    *bufio.Reader
	errOut limited
	ended  bool
	failed bool
}

func (g *Git) open(ctx context.Context) (*catFile, error) {
	c := &catFile{cmd: g.command(ctx, g.cfg.Path, "cat-file", "--batch")}
	c.cmd.Stderr = &c.errOut
	var err error
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		if c.pipe, err = c.cmd.StdoutPipe(); err == nil {
			err = c.cmd.Start()
		}
	}
	if err != nil {
		return nil, fault(sallyport.Unavailable, "", "run git: %w", err)
	}
	c.out = bufio.NewReader(c.pipe)
	return c, nil
}

// close ends the program; after a failure without reading what it still says.
func (c *catFile) close() {
	if c.ended {
		return
	}
	c.ended = true
	c.in.Close()
	if c.failed {
		c.cmd.Process.Kill()
	}
	c.cmd.Wait()
}

// died says why git ended.
func (c *catFile) died() error {
	c.in.Close()
	c.ended = true
	c.cmd.Wait()
	return fault(sallyport.Unavailable, "Look at the repository with git.", "git ended: %s", c.errOut.String())
}

// object returns the object that spec names, which must be of the type wanted
// and no longer than most bytes, and its name, as computed from its content.
func (c *catFile) object(spec, want string, most int64) (id string, body []byte, err error) {
	defer func() { c.failed = c.failed || err != nil }()
	if _, err := io.WriteString(c.in, spec+"\n"); err != nil {
		return "", nil, c.died()
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", nil, c.died()
	}
	line = strings.TrimSuffix(line, "\n")
	name := strings.TrimSuffix(spec, "^{commit}")
	for _, none := range []string{" missing", " ambiguous"} {
		if strings.HasSuffix(line, none) {
			return "", nil, fault(sallyport.NotFound, "Fetch it into the repository, or correct ref.", "the repository has no %s %.80q", want, name)
		}
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[1] != want || name == spec && parts[0] != spec {
		return "", nil, fault(sallyport.Damaged, "Run git fsck.", "%.80q is no %s", name, want)
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || size < 0 {
		return "", nil, fault(sallyport.Damaged, "Run git fsck.", "%.80q has no size", name)
	}
	if size > most {
		return "", nil, fault(sallyport.Exhausted, "Large data belong into the catalog, the site or the register.",
			"%s %s has %d bytes, which makes the bundle too large", want, parts[0], size)
	}
	body = make([]byte, size+1) // a line feed follows
	if _, err := io.ReadFull(c.out, body); err != nil {
		return "", nil, c.died()
	}
	body = body[:size]
	var h hash.Hash
	switch len(parts[0]) {
	case 2 * sha1.Size:
		h = sha1.New()
	case 2 * sha256.Size:
		h = sha256.New()
	default:
		return "", nil, fault(sallyport.Unsupported, "", "objects are named by an unknown hash: %.80q", parts[0])
	}
	fmt.Fprintf(h, "%s %d\x00", want, size)
	h.Write(body)
	if hex.EncodeToString(h.Sum(nil)) != parts[0] {
		return "", nil, fault(sallyport.Damaged, "Run git fsck and fetch the object again.", "%s %s does not have the content that its name says", want, parts[0])
	}
	return parts[0], body, nil
}

var goodSignature = regexp.MustCompile(`(?m)^Good "git" signature for (\S{1,200}) with \S+ key (SHA256:[A-Za-z0-9+/=]{20,100})\s*$`)

// verify checks the signature of a commit by `git verify-commit` in an empty
// repository of our own, to which only these bytes are copied: the
// configuration of the repository they came from has no say, and whoever may
// write to it cannot show one commit to git and another to us.
func (g *Git) verify(ctx context.Context, id string, commit []byte) (signer string, err error) {
	if _, err := os.Stat(g.cfg.AllowedSigners); err != nil {
		return "", fault(sallyport.Unavailable, "Correct allowed_signers.", "%w", err)
	}
	signers, err := filepath.Abs(g.cfg.AllowedSigners)
	if err != nil {
		return "", fault(sallyport.Unavailable, "Correct allowed_signers.", "%w", err)
	}
	own, err := os.MkdirTemp("", "sallyport-commit-")
	if err != nil {
		return "", fault(sallyport.Exhausted, "", "%w", err)
	}
	defer os.RemoveAll(own)
	format := "sha1"
	if len(id) == 2*sha256.Size {
		format = "sha256"
	}
	var said limited
	run := func(in []byte, args ...string) error {
		said = limited{}
		c := g.command(ctx, own, args...)
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &said, &said
		return c.Run()
	}
	if err := run(nil, "init", "--quiet", "--bare", "--template=", "--object-format="+format); err != nil {
		return "", fault(sallyport.Unavailable, "", "git init: %w: %s", err, said.String())
	}
	if err := run(commit, "hash-object", "-t", "commit", "-w", "--stdin"); err != nil || said.String() != id {
		return "", fault(sallyport.Damaged, "Run git fsck.", "commit %s is broken: %s", id, said.String())
	}
	// A commit says itself by which program it was signed: all but one are
	// replaced by one that says no.
	err = run(nil, "-c", "gpg.format=ssh", "-c", "gpg.ssh.allowedSignersFile="+signers, "-c", "gpg.minTrustLevel=fully",
		"-c", "gpg.program=false", "-c", "gpg.openpgp.program=false", "-c", "gpg.x509.program=false", "verify-commit", "--raw", id)
	found := goodSignature.FindStringSubmatch(said.String())
	switch {
	case !bytes.Contains(commit, []byte("\ngpgsig")):
		return "", fault(sallyport.Damaged, "Sign it: git commit -S, with gpg.format ssh.", "commit %s is not signed", id)
	case err != nil || found == nil:
		return "", fault(sallyport.Damaged, "Sign it with a key of allowed_signers.", "the signature of commit %s does not count: %s", id, said.String())
	}
	return found[1] + " " + found[2], nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), 1000-len(l.b))]...)
	return len(p), nil
}

func (l *limited) String() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(l.b), "?"))
}
