package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"sallyport/anonymize"
	"sallyport/gateway/control"
	"sallyport/internal/strict"
	"sallyport/node"
)

// What the documents say is tried here: marked shell blocks run, and every
// command, flag, link, path and name of a test must exist.

const repository = "../.."

// page is a document and the blocks in it, in order.
type page struct {
	file   string // from the repository's root
	text   string
	blocks []block
}

// block is a fenced block with the HTML comment above it, or a comment alone.
type block struct {
	mark string // inside of the comment, trimmed
	code string
	lang string
	line int
}

func pages(t *testing.T) []page {
	t.Helper()
	var out []page
	err := filepath.WalkDir(repository, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "shared") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(p) != ".md" {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(repository, p)
		if err != nil {
			return err
		}
		out = append(out, page{filepath.ToSlash(rel), string(b), blocksOf(string(b))})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("only %d documents found", len(out))
	}
	return out
}

// blocksOf reads fences and the comments that stand on lines of their own. A
// comment right above a fence is its mark.
func blocksOf(text string) []block {
	var out []block
	lines := strings.Split(text, "\n")
	mark, marked := "", 0
	flush := func() {
		if mark != "" {
			out = append(out, block{mark: mark, line: marked})
		}
		mark = ""
	}
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case strings.HasPrefix(l, "<!--"):
			flush()
			marked = i + 1
			c := l
			for !strings.Contains(c, "-->") && i+1 < len(lines) {
				i++
				c += "\n" + lines[i]
			}
			inside, _, _ := strings.Cut(strings.TrimPrefix(c, "<!--"), "-->")
			mark = strings.TrimSpace(inside)
		case strings.HasPrefix(l, "```"):
			b := block{mark: mark, lang: strings.TrimPrefix(l, "```"), line: i + 2}
			mark = ""
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				b.code += lines[i] + "\n"
			}
			out = append(out, b)
		default:
			flush()
		}
	}
	flush()
	return out
}

func TestDocsRun(t *testing.T) {
	ran := 0
	for _, p := range pages(t) {
		if !slices.ContainsFunc(p.blocks, func(b block) bool { return runs(b.mark) }) {
			continue
		}
		ran++
		t.Run(strings.ReplaceAll(p.file, "/", "-"), func(t *testing.T) {
			t.Parallel()
			newReader(t, p).read()
		})
	}
	if ran < 6 {
		t.Errorf("only %d documents have blocks that run", ran)
	}
}

func runs(mark string) bool {
	word, _, _ := strings.Cut(strings.ReplaceAll(mark, "\n", " "), " ")
	return slices.Contains([]string{"run", "run:", "serve", "serve:", "prepare", "file", "append"}, word)
}

// reader does what a reader of one page does, in a folder of its own.
type reader struct {
	t    *testing.T
	page page
	home string
	at   string // where the reader's shell is
	env  []string
	stop []func()
}

func newReader(t *testing.T, p page) *reader {
	t.Helper()
	home, err := os.MkdirTemp("", "sp-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, page: p, home: home, at: home}
	t.Cleanup(func() {
		for _, f := range slices.Backward(r.stop) {
			f()
		}
		os.RemoveAll(home)
	})
	bin := filepath.Join(home, ".bin")
	script := fmt.Sprintf("#!/bin/sh\nSALLYPORT_TEST_RUN=1 exec '%s' \"$@\"\n", testBinary(t))
	if err := errors.Join(os.MkdirAll(bin, 0o700), os.WriteFile(filepath.Join(bin, "sallyport"), []byte(script), 0o700)); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "GOFLAGS=", "GOWORK=off", "SALLYPORT_STATE="+t.TempDir())
	return r
}

func testBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func (r *reader) read() {
	for _, b := range r.page.blocks {
		word, rest, _ := strings.Cut(strings.Replace(b.mark, "\n", " ", 1), " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "run":
			r.shell(b.line, b.code, 0)
		case "run:":
			want, err := strconv.Atoi(strings.TrimPrefix(rest, "exit "))
			if err != nil {
				r.t.Fatalf("%s:%d: mark %q", r.page.file, b.line, b.mark)
			}
			r.shell(b.line, b.code, want)
		case "prepare":
			r.shell(b.line, rest, 0)
		case "file":
			r.write(b, rest, os.O_TRUNC)
		case "append":
			r.write(b, rest, os.O_APPEND)
		case "serve":
			_, config, ok := strings.Cut(strings.TrimSpace(b.code), "serve -c ")
			if !ok {
				r.t.Fatalf("%s:%d: serves what?", r.page.file, b.line)
			}
			r.serve(b.line, config)
		case "serve:":
			r.serve(b.line, rest)
		}
		if r.t.Failed() {
			return
		}
	}
}

// shell runs commands as a person would type them, and stays where they went.
func (r *reader) shell(line int, code string, want int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	where := filepath.Join(r.home, ".at")
	c := exec.CommandContext(ctx, "sh", "-eu", "-c", "trap 'pwd > \""+where+"\"' EXIT\n"+code)
	c.Dir, c.Env = r.at, r.env
	out, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != want {
		r.t.Fatalf("%s:%d: exit code %d, want %d (%v)\n%s\n%s", r.page.file, line, got, want, err, code, out)
	}
	at, err := os.ReadFile(where)
	if err != nil {
		r.t.Fatal(err)
	}
	r.at = strings.TrimSpace(string(at))
}

func (r *reader) write(b block, name string, how int) {
	r.t.Helper()
	file := filepath.Join(r.at, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		r.t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|how, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteString(b.code); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// serve starts a gateway, as a page says to do in a second terminal, and waits
// until it answers.
func (r *reader) serve(line int, config string) {
	r.t.Helper()
	config = filepath.Join(r.at, filepath.FromSlash(config))
	if err := freeConsole(filepath.Dir(config)); err != nil {
		r.t.Fatal(err)
	}
	cfg, err := loadConfig(config)
	if err != nil {
		r.t.Fatal(err)
	}
	var log bytes.Buffer
	c := exec.Command(testBinary(r.t), "serve", "-c", config)
	c.Env, c.Stderr = append(r.env, "SALLYPORT_TEST_RUN=1"), &log
	dieWithParent(c)
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	r.stop = append(r.stop, func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := control.Dial(ctx, cfg.path(cfg.Socket)); err == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			r.t.Fatalf("%s:%d: the gateway ended: %v\n%s", r.page.file, line, err, &log)
		case <-ctx.Done():
			r.t.Fatalf("%s:%d: the gateway does not answer", r.page.file, line)
		case <-tick.C:
		}
	}
}

// invocation finds a use of the program in a line of shell or in a code span.
var invocation = regexp.MustCompile("(?:^|[\\s`(=])(?:\\./cmd/|\\S*/bin/)?(sallyport(?:-node)?) ([a-z-][^`#|&;>)]*)")

// TestDocsNameCommandsThatExist follows every command that a document names
// through the grammar, flags included.
func TestDocsNameCommandsThatExist(t *testing.T) {
	programs := map[string]*kong.Node{}
	for name, grammar := range map[string]any{"sallyport": &cli{}, "sallyport-node": &node.Commands{}} {
		parser, err := kong.New(grammar, kong.Name(name))
		if err != nil {
			t.Fatal(err)
		}
		programs[name] = parser.Model.Node
	}
	span := regexp.MustCompile("`([^`\n]+)`")
	found := 0
	for _, p := range pages(t) {
		var said []string
		for _, b := range p.blocks {
			if b.lang == "sh" || strings.HasPrefix(b.mark, "prepare") {
				said = append(said, strings.Split(b.mark+"\n"+b.code, "\n")...)
			}
		}
		for _, m := range span.FindAllStringSubmatch(p.text, -1) {
			said = append(said, m[1])
		}
		for _, s := range said {
			for _, m := range invocation.FindAllStringSubmatch(s, -1) {
				found++
				if err := grammatical(programs[m[1]], strings.Fields(m[2])); err != nil {
					t.Errorf("%s: %q: %v", p.file, strings.TrimSpace(m[0]), err)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d commands found in the documents", found)
	}
}

func grammatical(n *kong.Node, words []string) error {
	for _, w := range words {
		switch {
		case w == "--":
			return nil
		case w == "--help" || w == "…":
		case strings.HasPrefix(w, "-"):
			name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
			known := false
			for _, group := range n.AllFlags(false) {
				for _, f := range group {
					known = known || strings.HasPrefix(w, "--") && f.Name == name || len(name) == 1 && string(f.Short) == name
				}
			}
			if !known {
				return fmt.Errorf("%s has no flag %s", n.FullPath(), w)
			}
		case len(n.Children) > 0:
			i := slices.IndexFunc(n.Children, func(c *kong.Node) bool { return c.Name == w })
			if i < 0 {
				return fmt.Errorf("%s has no command %q", n.FullPath(), w)
			}
			n = n.Children[i]
		}
	}
	return nil
}

// TestDocsPointAtWhatExists follows relative links, paths of the repository in
// code spans, and names of tests.
func TestDocsPointAtWhatExists(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	path := regexp.MustCompile("`((?:anonymize|audit|bench|catalog|cmd|docs|examples|gateway|internal|node|policies|policy|routing|seal|store)/[A-Za-z0-9_./-]*)`")
	test := regexp.MustCompile(`\b((?:Test|Fuzz)[A-Z][A-Za-z0-9]+)\b`)
	tests := testNames(t)
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(p.file), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", p.file, m[1], err)
			}
		}
		for _, m := range path.FindAllStringSubmatch(p.text, -1) {
			// A gateway's own folder has policies too.
			if _, err := os.Stat(filepath.Join(repository, m[1])); err != nil {
				t.Errorf("%s: path %s: %v", p.file, m[1], err)
			}
		}
		for _, m := range test.FindAllStringSubmatch(p.text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", p.file, m[1])
			}
		}
	}
}

func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir(repository, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestDocsVerbs runs the examples of docs/anonymize.md: mask, value ⇒ result.
// A result in parentheses is described, not given.
func TestDocsVerbs(t *testing.T) {
	var examples, hierarchy string
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			switch b.mark {
			case "examples":
				examples += b.code
			case "hierarchy diagnosis.csv":
				hierarchy = b.code
			}
		}
	}
	env := anonymize.Env{Column: "c",
		Key:       func(string) []byte { return bytes.Repeat([]byte{7}, 32) },
		Hierarchy: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(hierarchy)), nil }}
	shown := map[string]bool{}
	for line := range strings.Lines(examples) {
		left, want, ok := strings.Cut(strings.TrimSpace(line), "⇒")
		cut := strings.LastIndex(left, "}")
		if !ok || cut < 0 {
			t.Fatalf("%q is no example", line)
		}
		value, want := strings.TrimSpace(left[cut+1:]), strings.TrimSpace(want)
		doc, err := strict.Parse("example", []byte(left[:cut+1]))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var mask map[string]map[string]any
		if err := doc.Decode(&mask); err != nil || len(mask) != 1 {
			t.Fatalf("%q: %v", line, err)
		}
		for verb, args := range mask {
			shown[verb] = true
			i := slices.IndexFunc(transforms(), func(x anonymize.Transform) bool { return x.Name() == verb })
			if i < 0 {
				t.Errorf("%q: no such verb", line)
				continue
			}
			apply, err := transforms()[i].Bind(args, env)
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if want == "(does not leave)" {
				if x, ok := transforms()[i].(interface{ Traits() anonymize.Traits }); !ok || !x.Traits().Drops {
					t.Errorf("%q: it leaves", line)
				}
				continue
			}
			b, err := apply(nil, []byte(value), []byte("M000017"))
			got := string(b)
			var n int
			switch {
			case err != nil:
				t.Errorf("%q: %v", line, err)
			case want == "(another date)":
				if _, err := time.Parse(time.DateOnly, got); err != nil || got == value {
					t.Errorf("%q gives %q", line, got)
				}
			case scanned(want, "(a token of %d characters)", &n):
				if len(got) != n || strings.Contains(got, value) {
					t.Errorf("%q gives %q, %d characters", line, got, len(got))
				}
			case got != want:
				t.Errorf("%q gives %q", line, got)
			}
		}
	}
	for _, x := range transforms() {
		if !shown[x.Name()] {
			t.Errorf("the documents have no example of %s", x.Name())
		}
	}
}

func scanned(s, format string, into ...any) bool {
	n, err := fmt.Sscanf(s, format, into...)
	return err == nil && n == len(into)
}
