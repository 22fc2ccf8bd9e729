package register

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func grant(purposes ...string) Grant {
	return Grant{By: "steward", Purposes: purposes, Reason: "protocol 7", Since: noon, Until: noon.AddDate(1, 0, 0)}
}

func consent() Consent { return Consent{Basis: "form 3, binder 12", By: "steward", Since: noon} }

func exception() Exception {
	return Exception{AskedBy: "ada", Checks: []string{"admit.project_purpose"}, Dataset: "cohort", Project: "lungs",
		Reason: "audit", Since: noon, Until: noon.AddDate(0, 0, 7)}
}

func open(t interface {
	Helper()
	Fatal(...any)
}, path string) *Register {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func apply(t *testing.T, r *Register, changes ...Change) {
	t.Helper()
	if _, _, err := r.Apply("", changes...); err != nil {
		t.Fatal(err)
	}
}

func TestAnAbsentFileIsAnEmptyRegister(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "register.json")
	r := open(t, path)
	got, err := json.Marshal(r.Data())
	if err != nil || string(got) != `{"consents":{},"exceptions":{},"grants":{}}` {
		t.Errorf("data are %s, %v", got, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("opening made a file")
	}
}

// The digest is what a shell computes: jq -cS 'del(.version)' FILE | sha256sum.
func TestDigestIsOfTheSortedJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register.json")
	r := open(t, path)
	g := grant("research")
	g.Reason = "R&D <phase 2>"
	apply(t, r, PutGrant{Dataset: "cohort", Project: "lungs", Grant: g}, PutConsent{Dataset: "cohort", Purpose: "research", Consent: consent()},
		AskException{ID: "ex-1", Exception: exception()})
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(src, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "version")
	var b strings.Builder
	enc := json.NewEncoder(&b) // sorts the keys of maps
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if want := sallyport.DigestOf([]byte(b.String())); r.Digest() != want {
		t.Errorf("digest %s, want %s of\n%s", r.Digest(), want, &b)
	}
}

func TestPolicySeesApprovedExceptionsOnly(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "register.json"))
	apply(t, r, AskException{ID: "ex-1", Exception: exception()})
	seen := func() int { return len(r.Data()["exceptions"].(map[string]Exception)) }
	if seen() != 0 || len(r.Contents().Pending) != 1 {
		t.Fatalf("%d seen, pending %v", seen(), r.Contents().Pending)
	}
	_, _, err := r.Apply("", ApproveException{ID: "ex-1", By: "ada"})
	if sallyport.KindOf(err) != sallyport.Denied {
		t.Fatalf("who asked may approve: %v", err)
	}
	apply(t, r, ApproveException{ID: "ex-1", By: "officer"})
	if seen() != 1 || len(r.Contents().Pending) != 0 {
		t.Errorf("%d seen, pending %v", seen(), r.Contents().Pending)
	}
	if _, _, err := r.Apply("", ApproveException{ID: "ex-1", By: "officer"}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("approved twice: %v", err)
	}
	apply(t, r, EndException{ID: "ex-1"})
	if seen() != 0 {
		t.Error("an ended exception is seen")
	}
}

func TestTransactionIsWholeOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register.json")
	r := open(t, path)
	apply(t, r, PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")})
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		last Change
		kind sallyport.Kind
	}{
		"there already": {PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")}, sallyport.Conflict},
		"not there":     {RemoveGrant{Dataset: "cohort", Project: "hearts"}, sallyport.NotFound},
		"no consent":    {WithdrawConsent{Dataset: "cohort", Purpose: "research"}, sallyport.NotFound},
		"no exception":  {ApproveException{ID: "ex-9", By: "officer"}, sallyport.NotFound},
		"no purposes":   {PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant()}, sallyport.Invalid},
		"bad label":     {AskException{ID: "ex-2", Exception: with(exception(), func(e *Exception) { e.Checks = []string{"everything"} })}, sallyport.Invalid},
		"nobody":        {PutGrant{Dataset: "cohort", Project: "hearts", Grant: with(grant("research"), func(g *Grant) { g.People = []string{} })}, sallyport.Invalid},
		"over before":   {PutGrant{Dataset: "cohort", Project: "hearts", Grant: with(grant("research"), func(g *Grant) { g.Until = g.Since })}, sallyport.Invalid},
		"beyond Rego":   {PutGrant{Dataset: "cohort", Project: "hearts", Grant: with(grant("research"), func(g *Grant) { g.Until = g.Until.AddDate(300, 0, 0) })}, sallyport.Invalid},
		"escape":        {PutGrant{Dataset: "cohort", Project: "hearts", Grant: with(grant("research"), func(g *Grant) { g.Reason = "\x1b[2J" })}, sallyport.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			before, after, err := r.Apply("", PutGrant{Dataset: "cohort", Project: "first", Grant: grant("research")}, c.last)
			if sallyport.KindOf(err) != c.kind || before != after || before != r.Digest() {
				t.Errorf("got %v (%s), %s to %s", err, sallyport.KindOf(err), before.Short(), after.Short())
			}
			now, err := os.ReadFile(path)
			if err != nil || string(now) != string(was) {
				t.Errorf("the file changed: %v", err)
			}
		})
	}
}

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func TestExpectedDigest(t *testing.T) {
	r := open(t, filepath.Join(t.TempDir(), "register.json"))
	first := r.Digest()
	before, after, err := r.Apply(first, PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")})
	if err != nil || before != first || after != r.Digest() || after == first {
		t.Fatalf("%s to %s, %v", before, after, err)
	}
	if _, _, err := r.Apply(first, RemoveGrant{Dataset: "cohort", Project: "lungs"}); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("a change meant for another state: %v", err)
	}
	// Two drafts of one state: the second is not written over the first.
	one, err := r.Draft("", RemoveGrant{Dataset: "cohort", Project: "lungs"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Draft("", PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant("research")})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := two.Commit(); sallyport.KindOf(err) != sallyport.Conflict {
		t.Errorf("second draft: %v", err)
	}
	if err := one.Undo(); err != nil || r.Digest() != after {
		t.Errorf("undone: %v, %s", err, r.Digest())
	}
}

func TestEditedByHandWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register.json")
	r := open(t, path)
	apply(t, r, PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")})
	edited := open(t, path)
	apply(t, edited, RemoveGrant{Dataset: "cohort", Project: "lungs"})
	_, _, err := r.Apply("", PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant("research")})
	if sallyport.KindOf(err) != sallyport.Conflict || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("wrote over an edit: %v", err)
	}
}

// A crash at any point of a write leaves the old state or the new, and the next
// start can write again.
func TestCrashInAWrite(t *testing.T) {
	for _, first := range []bool{true, false} { // with and without a file there before
		for _, at := range []string{"written", "synced", "renamed"} {
			t.Run(fmt.Sprintf("%s, first %v", at, first), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "register.json")
				r := open(t, path)
				if !first {
					apply(t, r, PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")})
				}
				d, err := r.Draft("", PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant("research")})
				if err != nil {
					t.Fatal(err)
				}
				type killed struct{}
				r.point = func(p string) error {
					if p == at {
						panic(killed{}) // nothing after it runs
					}
					return nil
				}
				func() {
					defer func() {
						if _, ok := recover().(killed); !ok {
							t.Fatal("was not killed")
						}
					}()
					_ = d.Commit()
				}()
				after := open(t, path)
				want := d.Before()
				if at == "renamed" {
					want = d.After()
				}
				if after.Digest() != want {
					t.Errorf("state %s, want %s", after.Digest().Short(), want.Short())
				}
				apply(t, after, PutGrant{Dataset: "other", Project: "hearts", Grant: grant("research")})
				if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
					t.Errorf("left over: %v, %v", list, err)
				}
			})
		}
	}
}

// A write that fails leaves file and memory as they were.
func TestFailedWriteChangesNothing(t *testing.T) {
	for _, first := range []bool{true, false} {
		for _, at := range []string{"written", "synced", "renamed"} {
			path := filepath.Join(t.TempDir(), "register.json")
			r := open(t, path)
			if !first {
				apply(t, r, PutGrant{Dataset: "cohort", Project: "lungs", Grant: grant("research")})
			}
			was := r.Digest()
			r.point = func(p string) error {
				if p == at {
					return errors.New("no space left on device")
				}
				return nil
			}
			_, _, err := r.Apply("", PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant("research")})
			if sallyport.KindOf(err) != sallyport.Unavailable || r.Digest() != was || open(t, path).Digest() != was {
				t.Errorf("%s, first %v: %v; state %s, file %s, was %s", at, first, err, r.Digest().Short(), open(t, path).Digest().Short(), was.Short())
			}
			r.point = nil
			apply(t, r, PutGrant{Dataset: "cohort", Project: "hearts", Grant: grant("research")})
		}
	}
}

// model is the register as plain maps.
type model struct {
	grants, consents map[string]string // "dataset/key" → reason or basis
	withdrawn        map[string]bool
	pending, in      map[string]string
}

func TestTransactionsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "register-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "register.json")
		r := open(rt, path)
		m := model{map[string]string{}, map[string]string{}, map[string]bool{}, map[string]string{}, map[string]string{}}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			next := model{maps.Clone(m.grants), maps.Clone(m.consents), maps.Clone(m.withdrawn), maps.Clone(m.pending), maps.Clone(m.in)}
			good := true
			var tx []Change
			for range rapid.IntRange(1, 3).Draw(rt, "changes") {
				c, ok := next.draw(rt, name)
				tx, good = append(tx, c), good && ok
				if !ok {
					break
				}
			}
			was := r.Digest()
			_, after, err := r.Apply(was, tx...)
			if (err == nil) != good {
				rt.Fatalf("%+v: %v, model says %v", tx, err, good)
			}
			if good {
				m = next
			} else if after != was {
				rt.Fatal("a refused transaction changed the state")
			}
			m.same(rt, r)
			again := open(rt, path)
			if again.Digest() != r.Digest() {
				rt.Fatal("the file reads as another state")
			}
			m.same(rt, again)
		}
	})
}

func (m model) draw(rt *rapid.T, name *rapid.Generator[string]) (Change, bool) {
	d, p, reason := name.Draw(rt, "dataset"), name.Draw(rt, "key"), name.Draw(rt, "reason")
	key, id := d+"/"+p, "ex-"+p
	replace := rapid.Bool().Draw(rt, "replace")
	_, granted := m.grants[key]
	_, consented := m.consents[key]
	_, asked := m.pending[id]
	_, approved := m.in[id]
	switch rapid.IntRange(0, 6).Draw(rt, "kind") {
	case 0:
		m.grants[key] = reason
		return PutGrant{Dataset: d, Project: p, Replace: replace, Grant: with(grant("research"), func(g *Grant) { g.Reason = reason })}, !granted || replace
	case 1:
		delete(m.grants, key)
		return RemoveGrant{Dataset: d, Project: p}, granted
	case 2:
		ok := !consented || m.withdrawn[key] || replace
		m.consents[key], m.withdrawn[key] = reason, false
		return PutConsent{Dataset: d, Purpose: p, Replace: replace, Consent: with(consent(), func(c *Consent) { c.Basis = reason })}, ok
	case 3:
		ok := consented && !m.withdrawn[key]
		m.withdrawn[key] = true
		return WithdrawConsent{Dataset: d, Purpose: p}, ok
	case 4:
		m.pending[id] = reason
		return AskException{ID: id, Exception: with(exception(), func(e *Exception) { e.Reason, e.AskedBy = reason, d })}, !asked && !approved
	case 5:
		who := m.pending[id]
		delete(m.pending, id)
		m.in[id] = who
		return ApproveException{ID: id, By: "officer"}, asked
	default:
		delete(m.pending, id)
		delete(m.in, id)
		return EndException{ID: id}, asked || approved
	}
}

func (m model) same(rt *rapid.T, r *Register) {
	c := r.Contents()
	grants, consents, pending, in := map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	for _, g := range c.Grants {
		grants[g.Dataset+"/"+g.Project] = g.Reason
	}
	for _, k := range c.Consents {
		consents[k.Dataset+"/"+k.Purpose] = k.Basis
		if k.Withdrawn != m.withdrawn[k.Dataset+"/"+k.Purpose] {
			rt.Fatalf("consent %s/%s withdrawn: %v", k.Dataset, k.Purpose, k.Withdrawn)
		}
	}
	for _, e := range c.Pending {
		pending[e.ID] = e.Reason
	}
	for _, e := range c.Exceptions {
		in[e.ID] = e.Reason
	}
	for what, pair := range map[string][2]map[string]string{"grants": {grants, m.grants}, "consents": {consents, m.consents},
		"pending": {pending, m.pending}, "exceptions": {in, m.in}} {
		if d := cmp.Diff(pair[1], pair[0]); d != "" {
			rt.Fatalf("%s (-model +register):\n%s", what, d)
		}
	}
	data := r.Data()
	if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, []string{"consents", "exceptions", "grants"}) {
		rt.Fatalf("data have %v", got)
	}
	if n := len(data["exceptions"].(map[string]Exception)); n != len(in) {
		rt.Fatalf("policy sees %d exceptions of %d", n, len(in))
	}
}

func TestErrorsNameTheValue(t *testing.T) {
	const g = `{"purposes":["research"],"since":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z","by":"s","reason":"r"}`
	const e = `{"checks":["admit.member"],"dataset":"d","project":"p","since":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z","asked_by":"a","reason":"r"}`
	file := func(section, v string) string { return `{"version":1,"` + section + `":` + v + `}` }
	of := func(old, new string) string {
		return file("grants", `{"d":{"p":`+strings.Replace(g, old, new, 1)+`}}`)
	}
	for name, c := range map[string]struct{ src, want string }{
		"not JSON":         {"{\n\"version\": 1,\n\"grants\": }", "line 3"},
		"cut off":          {`{"version":1,`, "the file ends in the middle"},
		"empty":            {``, "the file ends in the middle"},
		"not an object":    {`[]`, "the register: is a list"},
		"no version":       {`{}`, "version: is not 1"},
		"newer version":    {`{"version":2}`, "version: is not 1"},
		"more":             {`{"version":1} {}`, "something follows"},
		"unknown section":  {file("grant", `{}`), "grant: is not known"},
		"unknown field":    {of(`"by"`, `"bye"`), "grants.d.p.bye: is not known"},
		"case":             {of(`"until"`, `"Until"`), "grants.d.p.Until: is not known"},
		"twice":            {of(`"by":"s"`, `"by":"s","by":"t"`), "grants.d.p.by: is there twice"},
		"dataset twice":    {file("grants", `{"d":{},"d":{}}`), "grants.d: is there twice"},
		"null":             {of(`"s"`, `null`), "grants.d.p.by: is null"},
		"number":           {of(`"s"`, `3`), "grants.d.p.by: is a number"},
		"bad time":         {of(`2027-01-01T00:00:00Z`, `2027-13-01`), `grants.d.p.until: "2027-13-01" is not a time`},
		"before since":     {of(`2027-01-01`, `2025-01-01`), "grants.d.p.until: 2025-01-01T00:00:00Z is not after since"},
		"beyond Rego":      {of(`2027-01-01`, `2300-01-01`), "grants.d.p.until: 2300-01-01T00:00:00Z lies outside"},
		"no until":         {of(`"until":"2027-01-01T00:00:00Z",`, ``), "grants.d.p.until: is missing"},
		"empty people":     {of(`"by"`, `"people":[],"by"`), "grants.d.p.people: is empty"},
		"person twice":     {of(`"by"`, `"people":["x","x"],"by"`), `grants.d.p.people[1]: "x" is there twice`},
		"person a number":  {of(`"by"`, `"people":[1],"by"`), "grants.d.p.people[0]: is a number"},
		"odd project":      {file("grants", `{"d":{"a b":{}}}`), `grants.d."a b".purposes: is missing`},
		"no project":       {file("grants", `{"d":{"":`+g+`}}`), `grants.d."".project: is missing`},
		"consent":          {file("consents", `{"d":{"research":{"basis":"","since":"2026-01-01T00:00:00Z","by":"s"}}}`), "consents.d.research.basis: is missing"},
		"self-approved":    {file("exceptions", `{"x":`+strings.Replace(e, `"reason"`, `"approved_by":"a","reason"`, 1)+`}`), "exceptions.x.approved_by: a asked for it"},
		"unapproved":       {file("exceptions", `{"x":`+e+`}`), "exceptions.x.approved_by: is missing"},
		"approved waiting": {file("pending", `{"x":`+strings.Replace(e, `"reason"`, `"approved_by":"b","reason"`, 1)+`}`), "pending.x.approved_by: is not known"},
		"no label":         {file("pending", `{"x":`+strings.Replace(e, `admit.member`, `*`, 1)+`}`), `pending.x.checks[0]: "*" is no label`},
		"empty purpose":    {file("pending", `{"x":`+strings.Replace(e, `"reason"`, `"purpose":"","reason"`, 1)+`}`), "pending.x.purpose: is empty"},
		"deep":             {file("grants", strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100)), "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "register.json")
			if err := os.WriteFile(path, []byte(c.src), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "register.json") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := parse([]byte(of("", ""))); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"grants":{"d":{"p":{"purposes":["x"],"since":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00+02:00","by":"s","reason":"r"}}}}`))
	f.Add([]byte(`{"version":1,"consents":{"d":{"x":{"basis":"b","since":"2026-01-01T00:00:00.5Z","by":"s","withdrawn":true}}}}`))
	f.Add([]byte(`{"version":1,"pending":{"e":{"checks":["admit.member"],"dataset":"d","project":"p","since":"2026-01-01T00:00:00Z","until":"2027-01-01T00:00:00Z","asked_by":"a","reason":"r"}}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		s, err := parse(src)
		if err != nil {
			return
		}
		// What is read can be written, and reads the same.
		path := filepath.Join(t.TempDir(), "register.json")
		if err := s.sum(); err != nil {
			t.Fatal(err)
		}
		r := &Register{path: path, now: empty()}
		if err := r.now.sum(); err != nil {
			t.Fatal(err)
		}
		if err := r.replace(r.now, s); err != nil {
			t.Fatal(err)
		}
		if again := open(t, path); again.Digest() != s.digest {
			t.Fatalf("%s reads as %s", s.digest, again.Digest())
		}
	})
}

// BenchmarkApply is a change of a register with 5,000 grants, fsync included.
func BenchmarkApply(b *testing.B) {
	r := open(b, filepath.Join(b.TempDir(), "register.json"))
	var tx []Change
	for i := range 5000 {
		tx = append(tx, PutGrant{Dataset: fmt.Sprintf("d%d", i/5), Project: fmt.Sprintf("p%d", i%5), Grant: grant("research")})
	}
	if _, _, err := r.Apply("", tx...); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := r.Apply("", PutGrant{Dataset: "d0", Project: "p0", Grant: grant("research", "teaching"), Replace: true}); err != nil {
			b.Fatal(err)
		}
	}
}
