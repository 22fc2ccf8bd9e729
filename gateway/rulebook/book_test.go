package rulebook_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway/rulebook"
	"sallyport/policy"
	"sallyport/policy/archive"
)

// bundle is a small bundle whose door 1 says no to everybody, with a number in
// it that makes versions differ.
func bundle(n int) fstest.MapFS {
	door := func(name string) string {
		return fmt.Sprintf("package sallyport.%s\n\nverdict := {\"allow\": false, \"reasons\": [reason], \"rules\": []}\n\nreason := \"no %d\"\n", name, n)
	}
	return fstest.MapFS{
		"admit.rego":   {Data: []byte(door("admit"))},
		"release.rego": {Data: []byte(door("release"))},
		"admit_test.rego": {Data: []byte("package sallyport.admit_test\n\nimport data.sallyport.admit\nimport data.sallyport.release\n\n" +
			"test_denies if not admit.verdict.allow\n\ntest_releases if not release.verdict.allow\n")},
	}
}

func with(files fstest.MapFS, name, content string) fstest.MapFS {
	files[name] = &fstest.MapFile{Data: []byte(content)}
	return files
}

var (
	author   = policy.Subject{ID: "ada", Roles: []string{"admin"}}
	approver = policy.Subject{ID: "otto", Roles: []string{"officer"}}
	third    = policy.Subject{ID: "olga", Roles: []string{"officer"}}
	nobody   = policy.Subject{ID: "rita", Roles: []string{"researcher"}}
)

// lab is a book over a real log, archive and engine.
type lab struct {
	t      *testing.T
	dir    string
	log    *audit.Log
	key    ed25519.PrivateKey
	change func(*rulebook.Config)
	now    time.Time

	book   *rulebook.Book
	engine *policy.Engine
	keep   func() // called by the engine before a state comes into force
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}
	var err error
	l.log, err = audit.Open(audit.Config{Path: filepath.Join(l.dir, "audit.db"), Origin: "lab", Seed: make([]byte, 32), Now: func() time.Time { return l.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.log.Close() })
	return l
}

func (l *lab) config() rulebook.Config {
	cfg := rulebook.Config{
		Dir: filepath.Join(l.dir, "policy"), Archive: archive.Open(filepath.Join(l.dir, "policy")), Log: l.log,
		Now: func() time.Time { l.now = l.now.Add(time.Second); return l.now }, Slog: slog.New(slog.DiscardHandler),
		Sign:   func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(l.key, msg), nil },
		Public: l.key.Public().(ed25519.PublicKey),
	}
	if l.change != nil {
		l.change(&cfg)
	}
	return cfg
}

// open opens the book, as a gateway that starts does.
func (l *lab) open(first fs.FS) error {
	l.t.Helper()
	cfg := l.config()
	b, active, err := rulebook.Open(l.t.Context(), cfg, rulebook.Candidate{Files: first, Origin: "configured"})
	if err != nil {
		return err
	}
	l.engine, err = policy.New(l.t.Context(), policy.Config{Bundle: active.FS(), Overlay: map[string]any{"site": map[string]any{}},
		Keep: func(ctx context.Context, pb *policy.Bundle, p, d sallyport.Digest, roots map[string]any) error {
			if l.keep != nil {
				l.keep()
			}
			return cfg.Archive.Keep(ctx, pb, p, d, roots)
		}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.book = b
	b.Attach(l.engine)
	return nil
}

func (l *lab) mustOpen(first fs.FS) {
	l.t.Helper()
	if err := l.open(first); err != nil {
		l.t.Fatal(err)
	}
}

// inForce holds engine, book and the bundle against each other.
func (l *lab) inForce(want fs.FS) {
	l.t.Helper()
	version, rules, err := policy.Digests(want)
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := l.book.Status()
	if err != nil {
		l.t.Fatal(err)
	}
	p, _ := l.engine.Digests()
	if s.Active.Version != version || p != rules || l.engine.Bundle().Version() != version {
		l.t.Errorf("in force: book %s, engine %s; want %s", s.Active.Version.Short(), l.engine.Bundle().Version().Short(), version.Short())
	}
}

func (l *lab) propose(by policy.Subject, files fs.FS) (rulebook.Draft, error) {
	return l.book.Propose(l.t.Context(), by, rulebook.Candidate{Files: files, Origin: "by hand"}, "a note", nil)
}

func (l *lab) mustPropose(files fs.FS) rulebook.Draft {
	l.t.Helper()
	d, err := l.propose(author, files)
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

// records returns the log's "step phase decision" lines, and checks that no
// outcome of an activation stands without its intent before it.
func (l *lab) records() []string {
	l.t.Helper()
	var out []string
	list, err := l.log.Read(0, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range list {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Entry.Step, r.Entry.Phase, r.Entry.Decision)))
	}
	return out
}

func TestPublish(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	l.inForce(bundle(1))
	d := l.mustPropose(bundle(2))
	if d.State != rulebook.Waiting || d.Tests != 2 || d.Coverage != 100 || d.Needs != 1 {
		t.Errorf("draft: %+v", d)
	}
	l.inForce(bundle(1))
	for _, who := range []policy.Subject{author, nobody, {}} {
		if _, err := l.book.Approve(t.Context(), who, d.Version, 0, nil); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%q approves: %v", who.ID, err)
		}
	}
	l.inForce(bundle(1))
	d, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil)
	if err != nil || d.State != rulebook.Active {
		t.Fatalf("approve: %v, %s", err, d.State)
	}
	l.inForce(bundle(2))
	if _, err := l.book.Approve(t.Context(), third, d.Version, 0, nil); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("approved twice: %v", err)
	}
	a := l.book.Activations()
	if len(a) != 2 || a[1].Kind != rulebook.Publish || a[1].By != "ada" || a[1].Approved[0].By != "otto" || a[1].Reason != "a note" {
		t.Errorf("activations %+v", a)
	}
	want := []string{
		"activate policy intent", "activate policy outcome allow", // first start
		"draft policy intent", "draft policy outcome allow",
		"approve policy outcome deny", "approve policy outcome deny", "approve policy outcome deny",
		"approve policy outcome allow", "activate policy intent", "activate policy outcome allow",
	}
	if got := l.records(); !slices.Equal(got, want) {
		t.Errorf("records:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The next start has the same in force, whatever is configured, and
	// activates nothing.
	l.mustOpen(bundle(1))
	l.inForce(bundle(2))
	if n := len(l.book.Activations()); n != 2 {
		t.Errorf("%d activations after a start", n)
	}
}

// TestNobodyApprovesTheirOwn: also not who may do both.
func TestNobodyApprovesTheirOwn(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	both := policy.Subject{ID: "bo", Roles: []string{"admin", "officer"}}
	d, err := l.propose(both, bundle(2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.book.Approve(t.Context(), both, d.Version, 0, nil); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("bo approves what bo drafted: %v", err)
	}
	l.inForce(bundle(1))
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
		t.Error(err)
	}
	l.inForce(bundle(2))
}

func TestOnlyWhoMayDrafts(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	for _, who := range []policy.Subject{approver, nobody, {}} {
		if _, err := l.propose(who, bundle(2)); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%q drafts: %v", who.ID, err)
		}
	}
	if _, err := l.propose(author, bundle(1)); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("the version in force as a draft: %v", err)
	}
}

// TestABadBundleChangesNothing hands in everything that can be wrong with a
// bundle. The one in force stays, and the try is on record.
func TestABadBundleChangesNothing(t *testing.T) {
	l := newLab(t)
	l.change = func(c *rulebook.Config) {
		c.Lint = func(_ context.Context, b *policy.Bundle) []rulebook.Finding {
			if src, _ := b.File("admit.rego"); strings.Contains(string(src), "lint me") {
				return []rulebook.Finding{{Error: true, File: "admit.rego", Line: 1, Text: "found by lint"}}
			}
			return nil
		}
	}
	l.mustOpen(bundle(1))
	admit := string(bundle(2)["admit.rego"].Data)
	for name, tt := range map[string]struct {
		files fs.FS
		says  string
	}{
		"empty folder":   {fstest.MapFS{}, "no .rego file"},
		"syntax error":   {with(bundle(2), "admit.rego", admit+"\nx := {\n"), "admit.rego:8"},
		"cyclic rules":   {with(bundle(2), "more.rego", "package sallyport.more\n\na if b\n\nb if a\n"), "recursive"},
		"removed":        {with(bundle(2), "more.rego", "package sallyport.more\n\na := http.send({})\n"), "more.rego:3"},
		"clock":          {with(bundle(2), "more.rego", "package sallyport.more\n\na := time.now_ns()\n"), "more.rego:3"},
		"no verdict":     {with(bundle(2), "admit.rego", "package sallyport.admit\n"), "no rule data.sallyport.admit.verdict"},
		"foreign root":   {with(bundle(2), "data.json", `{"site": {}}`), "site"},
		"50 MB of data":  {with(bundle(2), "data.json", `{"rules": "`+strings.Repeat("x", 50<<20)+`"}`), "32 MiB"},
		"two data":       {with(with(bundle(2), "data.json", `{"a": {"b": 1}}`), "a/data.json", `{"b": 2}`), "second time"},
		"failing test":   {with(bundle(2), "b_test.rego", "package b_test\n\ntest_no if false\n"), "test_no"},
		"broken test":    {with(bundle(2), "b_test.rego", "package b_test\n\ntest_no if {\n"), "b_test.rego"},
		"no tests":       {with(bundle(2), "admit_test.rego", "package sallyport.admit_test\n"), "no tests"},
		"low coverage":   {with(bundle(2), "more.rego", "package sallyport.more\n\na := 1 if input.job == \"x\"\n\nb := 2 if input.job == \"y\"\n\nc := 3 if input.job == \"z\"\n"), "90 %"},
		"lint":           {with(bundle(2), "admit.rego", "# lint me\n"+admit), "found by lint"},
		"endless test":   {with(bundle(2), "b_test.rego", "package b_test\n\ntest_no if { some i in numbers.range(1, 100000000); i < 0 }\n"), "test_no"},
		"wrong typed in": {with(bundle(2), "admit.rego", admit+"\nx := input.subjct.id\n"), "subjct"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "endless test" && testing.Short() {
				t.Skip("takes the test's deadline")
			}
			before := l.log.Size()
			_, err := l.propose(author, tt.files)
			if k := sallyport.KindOf(err); k != sallyport.Invalid {
				t.Fatalf("kind %v: %v", k, err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("says %q, not %q", err, tt.says)
			}
			l.inForce(bundle(1))
			rec, _ := l.log.Read(before, 0)
			if last := rec[len(rec)-1].Entry; last.Decision != "deny" || last.Step != "draft policy" {
				t.Errorf("recorded as %+v", last)
			}
		})
	}
	drafts, err := l.book.Drafts()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drafts {
		if d.State != rulebook.Refused {
			t.Errorf("draft %s is %s", d.Version.Short(), d.State)
		}
		if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); sallyport.KindOf(err) != sallyport.Conflict {
			t.Errorf("a refused draft is approved: %v", err)
		}
	}
}

// TestLooserMustBeSeen: decisions that would let more out must be named by
// their number, as it is when the approval is given.
func TestLooserMustBeSeen(t *testing.T) {
	l := newLab(t)
	looser := 2
	l.change = func(c *rulebook.Config) {
		c.Replay = func(_ context.Context, _ *policy.Bundle, progress func(int, int)) (rulebook.Comparison, error) {
			progress(1, 2)
			return rulebook.Comparison{DenyAllow: looser, Weaker: 1, Digest: sallyport.DigestOf([]byte{byte(looser)})}, nil
		}
	}
	l.mustOpen(bundle(1))
	d := l.mustPropose(bundle(2))
	if d.Comparison.Loosens() != 3 {
		t.Errorf("loosens %d", d.Comparison.Loosens())
	}
	looser = 3 // decided meanwhile
	for _, n := range []int{0, 3, 5} {
		if _, err := l.book.Approve(t.Context(), approver, d.Version, n, nil); sallyport.KindOf(err) != sallyport.Conflict {
			t.Errorf("acknowledged %d: %v", n, err)
		}
	}
	l.inForce(bundle(1))
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 4, nil); err != nil {
		t.Fatal(err)
	}
	a := l.book.Activations()
	if last := a[len(a)-1]; last.Loosens != 4 || last.Replay != sallyport.DigestOf([]byte{3}) {
		t.Errorf("activation %+v", last)
	}
	// Rules that fail for one past decision do not get that far.
	l.change = func(c *rulebook.Config) {
		c.Replay = func(context.Context, *policy.Bundle, func(int, int)) (rulebook.Comparison, error) {
			return rulebook.Comparison{Failures: 1}, nil
		}
	}
	l.mustOpen(nil)
	if d, err := l.propose(author, bundle(3)); sallyport.KindOf(err) != sallyport.Invalid || d.State != rulebook.Refused {
		t.Errorf("rules that fail: %v, %s", err, d.State)
	}
	l.change = func(c *rulebook.Config) {
		c.Replay = func(context.Context, *policy.Bundle, func(int, int)) (rulebook.Comparison, error) {
			return rulebook.Comparison{}, errors.New("the log cannot be read")
		}
	}
	l.mustOpen(nil)
	if _, err := l.propose(author, bundle(3)); err == nil {
		t.Error("a draft passed without its replay")
	}
}

func TestRollback(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	if _, err := l.book.Rollback(t.Context(), author, "", "why"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("nothing to go back to: %v", err)
	}
	for _, n := range []int{2, 3} {
		d := l.mustPropose(bundle(n))
		if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	one, _, _ := policy.Digests(bundle(1))
	nine, _, _ := policy.Digests(bundle(9))
	if _, err := l.book.Rollback(t.Context(), nobody, one, "why"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("anybody rolls back: %v", err)
	}
	if _, err := l.book.Rollback(t.Context(), author, one, ""); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("without a reason: %v", err)
	}
	if _, err := l.book.Rollback(t.Context(), author, nine, "why"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("to a version that never was: %v", err)
	}
	waiting := l.mustPropose(bundle(4))
	if _, err := l.book.Rollback(t.Context(), author, waiting.Version, "why"); sallyport.KindOf(err) != sallyport.NotFound {
		t.Errorf("a draft goes live as a rollback: %v", err)
	}
	l.inForce(bundle(3))
	if _, err := l.book.Rollback(t.Context(), approver, "", "bad night"); err != nil {
		t.Fatal(err)
	}
	l.inForce(bundle(2))
	if _, err := l.book.Rollback(t.Context(), author, one, "worse night"); err != nil {
		t.Fatal(err)
	}
	l.inForce(bundle(1))
	l.mustOpen(nil)
	l.inForce(bundle(1))
	if a := l.book.Activations(); len(a) != 5 || a[4].Kind != rulebook.Rollback || a[4].Reason != "worse night" {
		t.Errorf("activations %+v", a)
	}
}

// TestNobodyIsLockedOut: the rules that come into force must leave somebody who
// agreed to them able to change them again.
func TestNobodyIsLockedOut(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	acts := func(may string) fstest.MapFS {
		return with(bundle(2), "approval.rego", "package sallyport.approval\n\nmay := {act | some act in {"+may+"}; \"officer\" in input.subject.roles}\n\ntwo_person := {\"policy.publish\"}\n")
	}
	tests := "package sallyport.approval_test\n\nimport data.sallyport.approval\n\ntest_a if approval.may == approval.may with input.subject.roles as [\"officer\"]\n\ntest_b if count(approval.two_person) == 1\n"
	d := l.mustPropose(with(acts(`"x:y"`), "approval_test.rego", tests))
	if !slices.ContainsFunc(d.Findings, func(f rulebook.Finding) bool { return strings.Contains(f.Text, "ada may not edit") }) {
		t.Errorf("findings %v", d.Findings)
	}
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("rules that nobody could change came into force: %v", err)
	}
	d = l.mustPropose(with(acts(`"policy:approve"`), "approval_test.rego", tests))
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
		t.Error(err)
	}
	if _, err := l.propose(author, bundle(3)); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("ada edits although the rules say no: %v", err)
	}
}

// TestABookIsWholeOrNothing changes the folder behind the gateway's back.
func TestABookIsWholeOrNothing(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	for _, n := range []int{2, 3} {
		d := l.mustPropose(bundle(n))
		if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(l.dir, "policy", "activations")
	file := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%06d.json", n)) }
	var good [4][]byte
	for n := 1; n <= 3; n++ {
		good[n], _ = os.ReadFile(file(n))
	}
	restore := func() {
		os.RemoveAll(dir)
		os.MkdirAll(dir, 0o700)
		for n := 1; n <= 3; n++ {
			os.WriteFile(file(n), good[n], 0o600)
		}
	}
	put := func(n int, b []byte) { os.WriteFile(file(n), b, 0o600) }
	for name, damage := range map[string]func(){
		"the last is gone":      func() { os.Remove(file(3)) },
		"the middle is gone":    func() { os.Remove(file(2)) },
		"all are gone":          func() { os.RemoveAll(dir) },
		"one more":              func() { put(4, good[3]) },
		"an old one as the new": func() { put(3, good[1]) },
		"swapped":               func() { put(2, good[3]); put(3, good[2]) },
		"another version": func() {
			put(3, []byte(strings.Replace(string(good[3]), "sha256:", "sha256:0", 1)))
		},
		"another signature": func() {
			put(3, []byte(strings.Replace(string(good[3]), `"signature":"`, `"signature":"AAAA`, 1)))
		},
		"another person": func() { put(3, []byte(strings.Replace(string(good[3]), `"otto"`, `"olga"`, 1))) },
		"a field more":   func() { put(3, []byte(strings.Replace(string(good[3]), `{"activation"`, `{"x":1,"activation"`, 1))) },
		"empty":          func() { put(3, nil) },
	} {
		restore()
		damage()
		if err := l.open(bundle(1)); sallyport.KindOf(err) != sallyport.Damaged && sallyport.KindOf(err) != sallyport.Internal {
			t.Errorf("%s: %v", name, err)
		} else if err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	restore()
	l.mustOpen(nil)
	l.inForce(bundle(3))
	// A book signed by somebody else.
	l.key = ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32)))
	if err := l.open(nil); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another key: %v", err)
	}
}

// TestCrash stops the gateway within an activation; what the next start finds
// is either the old bundle or the new one, and the log says which.
func TestCrash(t *testing.T) {
	crash := func(f func()) {
		defer func() { _ = recover() }()
		f()
	}
	for _, signed := range []bool{false, true} {
		l := newLab(t)
		armed := false
		stop := func() {
			if armed {
				panic("killed")
			}
		}
		if signed {
			l.keep = stop // after the signature, before the swap
		} else {
			l.change = func(c *rulebook.Config) {
				sign := c.Sign
				c.Sign = func(ctx context.Context, msg []byte) ([]byte, error) { stop(); return sign(ctx, msg) }
			}
		}
		l.mustOpen(bundle(1))
		d := l.mustPropose(bundle(2))
		armed = true
		crash(func() { _, _ = l.book.Approve(t.Context(), approver, d.Version, 0, nil) })
		armed = false
		if got := l.records(); got[len(got)-1] != "activate policy intent" {
			t.Fatalf("not stopped within the activation: %v", got)
		}
		l.mustOpen(bundle(1))
		want, decision := bundle(1), "activate policy outcome error"
		if signed {
			want, decision = bundle(2), "activate policy outcome allow"
		}
		l.inForce(want)
		if got := l.records(); got[len(got)-1] != decision {
			t.Errorf("signed %v: the log ends with %v", signed, got)
		}
		l.mustOpen(bundle(1)) // and once more, quietly
		l.inForce(want)
		d = l.mustPropose(bundle(3))
		if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
			t.Error(err)
		}
		l.inForce(bundle(3))
	}
}

// TestAnOlderBundleIsSaid: a version that does not load any more gives way to
// the one before, and the status says so.
func TestAnOlderBundleIsSaid(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	d := l.mustPropose(bundle(2))
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err != nil {
		t.Fatal(err)
	}
	zip := filepath.Join(l.dir, "policy", "versions", strings.TrimPrefix(string(d.Version), "sha256:")+".zip")
	if err := os.Truncate(zip, 10); err != nil {
		t.Fatal(err)
	}
	l.mustOpen(nil)
	l.inForce(bundle(1))
	if s, _ := l.book.Status(); !strings.Contains(s.Older, d.Version.Short()) {
		t.Errorf("status %+v", s)
	}
}

func TestWhatCannotBeRecordedDoesNotHappen(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	d := l.mustPropose(bundle(2))
	l.log.Close()
	if _, err := l.book.Approve(t.Context(), approver, d.Version, 0, nil); err == nil {
		t.Error("approved without a record")
	}
	if _, err := l.propose(author, bundle(3)); err == nil {
		t.Error("drafted without a record")
	}
	if p, _ := l.engine.Digests(); p == d.Rules {
		t.Error("it is in force")
	}
}

// source is a source whose content the test sets.
type source struct {
	c   rulebook.Candidate
	err error
	was fs.FS
}

func (s *source) Origin() string { return "folder" }

func (s *source) Fetch(context.Context) (rulebook.Candidate, bool, error) {
	changed := fmt.Sprint(s.was) != fmt.Sprint(s.c.Files)
	if s.err == nil {
		s.was = s.c.Files
	}
	return s.c, changed, s.err
}

func TestFollow(t *testing.T) {
	l := newLab(t)
	l.mustOpen(bundle(1))
	s := &source{c: rulebook.Candidate{Files: bundle(1), Origin: "folder"}}
	look := func(want string) rulebook.Following {
		t.Helper()
		f := l.book.Look(t.Context(), s)
		if f.State != want {
			t.Errorf("following: %+v, want %s", f, want)
		}
		return f
	}
	look("in force")
	s.err = sallyport.Errorf("fetch", sallyport.Unavailable, "", "no route")
	look("unreachable")
	size := l.log.Size()
	s.err = sallyport.Errorf("fetch", sallyport.Damaged, "", "the signature does not fit")
	look("refused")
	look("refused")
	if n := l.log.Size() - size; n != 1 {
		t.Errorf("a bad signature is recorded %d times", n)
	}
	s.err = nil
	look("in force")
	s.c.Files = with(bundle(2), "admit.rego", "package sallyport.admit\n\nx := {")
	if f := look("refused"); !strings.Contains(f.Trouble, "admit.rego:3") {
		t.Errorf("trouble %q", f.Trouble)
	}
	before := l.log.Size()
	look("refused")
	if l.log.Size() != before {
		t.Error("the same bad bundle is checked and recorded again")
	}
	l.inForce(bundle(1))

	s.c.Files = bundle(2)
	f := look("waiting")
	st, _ := l.book.Status()
	if len(st.Waiting) != 1 || st.Waiting[0].Needs != 2 || st.Waiting[0].Version != f.Version {
		t.Fatalf("waiting %+v", st.Waiting)
	}
	// Nobody has signed it: two people must agree.
	if d, err := l.book.Approve(t.Context(), approver, f.Version, 0, nil); err != nil || d.State != rulebook.Waiting {
		t.Fatalf("first approval: %v, %s", err, d.State)
	}
	l.inForce(bundle(1))
	if _, err := l.book.Approve(t.Context(), approver, f.Version, 0, nil); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("the same person again: %v", err)
	}
	look("waiting")
	if _, err := l.book.Approve(t.Context(), third, f.Version, 0, nil); err != nil {
		t.Fatal(err)
	}
	l.inForce(bundle(2))
	look("in force")

	// A verified signature stands for the first person.
	s.c = rulebook.Candidate{Files: bundle(3), Origin: "folder", Signed: "key 1"}
	f = look("waiting")
	if _, err := l.book.Approve(t.Context(), approver, f.Version, 0, nil); err != nil {
		t.Fatal(err)
	}
	l.inForce(bundle(3))
	// Rolled back is not brought back by the source.
	if _, err := l.book.Rollback(t.Context(), author, "", "bad"); err != nil {
		t.Fatal(err)
	}
	s.was = nil
	look("superseded")
	l.inForce(bundle(2))
	// Nor is what a person withdrew.
	s.c.Files = bundle(4)
	f = look("waiting")
	if _, err := l.book.Withdraw(t.Context(), nobody, f.Version, "no"); sallyport.KindOf(err) != sallyport.Denied {
		t.Errorf("anybody withdraws: %v", err)
	}
	if _, err := l.book.Withdraw(t.Context(), author, f.Version, "not that"); err != nil {
		t.Fatal(err)
	}
	s.was = nil
	look("withdrawn")
	if _, err := l.book.Approve(t.Context(), approver, f.Version, 0, nil); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("a withdrawn draft is approved: %v", err)
	}
}
