package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/policy"
)

// testRules are a small bundle: grants of the live data and a table of its own.
const testRules = `package sallyport.admit

default verdict := {"allow": false, "reasons": ["no grant"], "rules": ["test.grant"]}

verdict := {
	"allow": true, "reasons": [], "rules": ["test.ok"], "destination": "local",
	"masks": {name: mask | some name, mask in data.table.masks},
	"limits": data.table.limits,
} if {
	input.project in data.register.grants[input.dataset]
	count(input.history) == 0 # absent lists are recorded as null and asked as empty
	not input.purpose in data.table.refused
	object.get(input.request, "copies", 0) != data.table.broken
}

verdict := {"allow": false, "reasons": [sprintf("not for %s", [input.purpose])], "rules": ["test.purpose"]} if {
	input.project in data.register.grants[input.dataset]
	input.purpose in data.table.refused
}
`

const testRelease = `package sallyport.release

default verdict := {"allow": false, "reasons": ["too few"], "rules": ["test.few"]}

verdict := {"allow": true, "reasons": [], "rules": ["test.enough"]} if {
	input.facts.risk.smallest_class >= data.table.limits.min_class
}
`

const testTable = `{"table": {"refused": ["marketing"], "broken": -1, "masks": {"age": {"generalize": {"width": 10}}, "id": {}},
 "limits": {"key_ttl": 60, "price": 5, "budget": 50, "copies": 1, "regions": [], "min_class": 5, "max_unique": 0, "reviews": 0}}}`

func bundle(t testing.TB, replaced ...string) *policy.Bundle {
	t.Helper()
	r := strings.NewReplacer(replaced...)
	files := fstest.MapFS{}
	for name, text := range map[string]string{"a/admit.rego": testRules, "a/release.rego": testRelease, "data.json": testTable} {
		files[name] = &fstest.MapFile{Data: []byte(r.Replace(text))}
	}
	b, err := policy.Load(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shelf is a Source in memory.
type shelf struct {
	mu    sync.Mutex
	data  map[sallyport.Digest]map[string]any
	rules map[sallyport.Digest]fs.FS
	asked map[sallyport.Digest]int
	fail  error
}

func (s *shelf) Data(d sallyport.Digest) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[d]++
	if s.fail != nil {
		return nil, s.fail
	}
	if v, ok := s.data[d]; ok {
		return v, nil
	}
	return nil, sallyport.Errorf("test", sallyport.NotFound, "", "no such data")
}

func (s *shelf) Rules(d sallyport.Digest) (fs.FS, error) {
	if v, ok := s.rules[d]; ok {
		return v, nil
	}
	return nil, sallyport.Errorf("test", sallyport.NotFound, "", "no such rules")
}

// past is a history that an engine made, with every state of its data kept.
type past struct {
	*shelf
	bundle    *policy.Bundle
	decisions []Decision
	roots     map[string]any // the last
}

// question1 is what is asked at one moment: with which grants, and what.
type question1 struct {
	grants  int
	project string
	purpose string
	copies  int
	release bool
	class   int64
}

func history(t testing.TB, b *policy.Bundle, questions []question1) *past {
	t.Helper()
	p := &past{shelf: &shelf{data: map[sallyport.Digest]map[string]any{}, rules: map[sallyport.Digest]fs.FS{b.Rules(): b.FS()}, asked: map[sallyport.Digest]int{}}, bundle: b}
	engines := map[int]*policy.Engine{}
	for i, q := range questions {
		engine := engines[q.grants]
		if engine == nil {
			projects := []any{}
			for n := range q.grants {
				projects = append(projects, fmt.Sprintf("p%d", n))
			}
			var err error
			engine, err = policy.New(t.Context(), policy.Config{Bundle: b.FS(), Overlay: map[string]any{"register": map[string]any{"grants": map[string]any{"d": projects}}},
				Keep: func(_ context.Context, _ *policy.Bundle, _, data sallyport.Digest, roots map[string]any) error {
					p.data[data] = maps.Clone(roots)
					p.roots = p.data[data]
					return nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			engines[q.grants] = engine
		}
		at := time.Date(2030, 1, 1, 0, 0, i, 0, time.UTC)
		in := policy.Admission{Version: policy.InputVersion, Time: at, Job: "j", Subject: policy.Subject{ID: "ada"}, Project: q.project, Purpose: q.purpose,
			Dataset: "d", Request: policy.Request{Copies: q.copies}}
		var asked any = in
		step := "admit"
		v, err := engine.Admit(t.Context(), in)
		if q.release {
			r := policy.Releasing{Admission: in, Facts: policy.Facts{Risk: sallyport.Risk{SmallestClass: q.class}}}
			asked, step = r, "release"
			v, err = engine.Release(t.Context(), r)
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(map[string]any{"input": asked, "verdict": v})
		if err != nil {
			t.Fatal(err)
		}
		said := "deny"
		if v.Allow {
			said = "allow"
		}
		d, ok := Read(Entry{Record: uint64(10 + i), Time: at, Step: step, Phase: "outcome", Decision: said, Job: "j", Subject: "ada", Project: q.project,
			Purpose: q.purpose, Dataset: "d", Policy: v.Policy, Data: v.Data, Detail: raw})
		if !ok || d.Unfit != "" {
			t.Fatalf("record %d: %v %q", i, ok, d.Unfit)
		}
		p.decisions = append(p.decisions, d)
	}
	return p
}

func (p *past) all() iter.Seq2[Decision, error] {
	return func(yield func(Decision, error) bool) {
		for _, d := range p.decisions {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (p *past) run(t testing.TB, cfg Config) Report {
	t.Helper()
	cfg.Base = p
	cfg.Deadline = time.Minute // a loaded machine is no finding
	r, err := Run(t.Context(), cfg, p.all())
	if err != nil {
		t.Fatal(err)
	}
	sum := r.Looser + r.Tighter + r.OtherForm + r.OtherReasons + r.Unchanged
	for _, f := range r.Flips {
		sum += f.Count
	}
	if sum != r.Replayed {
		t.Errorf("%d were replayed and %d counted", r.Replayed, sum)
	}
	return r
}

func someQuestions(t *rapid.T) []question1 {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) question1 {
		return question1{
			grants:  rapid.IntRange(0, 3).Draw(t, "grants"),
			project: fmt.Sprintf("p%d", rapid.IntRange(0, 3).Draw(t, "project")),
			purpose: rapid.SampledFrom([]string{"research", "marketing"}).Draw(t, "purpose"),
			copies:  rapid.IntRange(0, 1).Draw(t, "copies"),
			release: rapid.Bool().Draw(t, "release"),
			class:   int64(rapid.IntRange(0, 9).Draw(t, "class")),
		}
	}), 0, 100).Draw(t, "questions")
}

// TestIdentity: the bundle that decided changes nothing, and every record
// gives its own answer again.
func TestIdentity(t *testing.T) {
	b := bundle(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := history(t, b, someQuestions(rt))
		r := p.run(t, Config{Candidate: b, Reproduce: true})
		if r.Unchanged != len(p.decisions) || r.Loosens() != 0 || len(r.Changes) != 0 {
			rt.Fatalf("the same bundle changes something: %+v", r)
		}
		if r.Reproduction.Exact != len(p.decisions) {
			rt.Fatalf("reproduced %+v of %d", r.Reproduction, len(p.decisions))
		}
	})
}

// TestDenyAll: whatever was allowed flips to deny, and nothing else flips.
func TestDenyAll(t *testing.T) {
	b := bundle(t)
	denies := bundle(t, "input.project in data", "false; input.project in data", "input.facts.risk.smallest_class >=", "false; input.facts.risk.smallest_class >=")
	rapid.Check(t, func(rt *rapid.T) {
		p := history(t, b, someQuestions(rt))
		allowed := 0
		for _, d := range p.decisions {
			if d.Recorded.Allow {
				allowed++
			}
		}
		r := p.run(t, Config{Candidate: denies})
		if r.Flipped(AllowDeny) != allowed || r.Flipped(DenyAllow) != 0 || r.Loosens() != 0 {
			rt.Fatalf("%d were allowed: %+v", allowed, r.Flips)
		}
		// The other way round each of them is a loosening.
		q := history(t, denies, nil)
		q.data, q.roots = p.data, p.roots
		for _, d := range p.decisions {
			d.Recorded.Allow = false
			q.decisions = append(q.decisions, d)
		}
		if r := q.run(t, Config{Candidate: b}); r.Loosens() != allowed || r.Flipped(DenyAllow) != allowed {
			rt.Fatalf("%d would be allowed: %+v", allowed, r.Flips)
		}
	})
}

// TestWorkers: how many there are and how few engines they may keep is not in
// the report.
func TestWorkers(t *testing.T) {
	b := bundle(t)
	candidate := bundle(t, `"marketing"`, `"research"`, `"width": 10`, `"width": 20`)
	rapid.Check(t, func(rt *rapid.T) {
		p := history(t, b, someQuestions(rt))
		one := p.run(t, Config{Candidate: candidate, Workers: 1, Engines: 1})
		many := p.run(t, Config{Candidate: candidate, Workers: rapid.IntRange(2, 9).Draw(rt, "workers")})
		if diff := cmp.Diff(one, many); diff != "" {
			rt.Fatal(diff)
		}
		if one.Digest() != many.Digest() {
			rt.Fatal("the digests differ")
		}
	})
}

func TestFlipsSayWhomAndWhy(t *testing.T) {
	p := history(t, bundle(t), []question1{{grants: 1, project: "p0", purpose: "marketing"}, {grants: 1, project: "p0", purpose: "research"},
		{grants: 1, project: "p1", purpose: "research"}, {grants: 1, release: true, class: 9}})
	r := p.run(t, Config{Candidate: bundle(t, `"marketing"`, `"research"`)})
	if len(r.Flips) != 2 || r.Flips[0].Direction != DenyAllow || r.Flips[1].Direction != AllowDeny {
		t.Fatalf("%+v", r.Flips)
	}
	f := r.Flips[0]
	want := []Count{{"test.purpose", 1, []uint64{10}}}
	if diff := cmp.Diff(want, f.Rules); diff != "" {
		t.Error(diff)
	}
	if f.People[0].Name != "ada" || f.Projects[0].Name != "p0" || f.Datasets[0].Name != "d" || f.Purposes[0].Name != "marketing" {
		t.Errorf("%+v", f)
	}
	e := f.Examples[0]
	if e.Record != 10 || e.Door != policy.AdmitDoor || e.Before.Reasons[0] != "not for marketing" || !e.After.Allow {
		t.Errorf("%+v", e)
	}
	if r.Flips[1].Rules[0].Name != "test.purpose" || r.Flips[1].Examples[0].Record != 11 {
		t.Errorf("%+v", r.Flips[1])
	}
	if r.Unchanged != 2 || r.Loosens() != 1 {
		t.Errorf("unchanged %d, loosens %d", r.Unchanged, r.Loosens())
	}
}

func TestObligations(t *testing.T) {
	p := history(t, bundle(t), []question1{{grants: 1, project: "p0", purpose: "research"}, {grants: 1, project: "p0", purpose: "research"}})
	r := p.run(t, Config{Candidate: bundle(t, `"width": 10`, `"width": 5`, `"id": {}`, `"id": {"drop": {}}`, `"key_ttl": 60`, `"key_ttl": 30`)})
	want := []Change{
		{Weaker, "mask", "d", "age", "generalize (width 10)", "generalize (width 5)", "narrower ranges", 2, []uint64{10, 11}},
		{Stronger, "limit", "d", "key_ttl", "1m", "30s", "lower", 2, []uint64{10, 11}},
		{Stronger, "mask", "d", "id", "keep", "withheld", "the column does not leave any more", 2, []uint64{10, 11}},
	}
	if diff := cmp.Diff(want, r.Changes); diff != "" {
		t.Error(diff)
	}
	if r.Looser != 2 || r.Loosens() != 2 {
		t.Errorf("looser %d, loosens %d", r.Looser, r.Loosens())
	}
	tighter := p.run(t, Config{Candidate: bundle(t, `"min_class": 5`, `"min_class": 6`)})
	if tighter.Loosens() != 0 || tighter.Tighter != 2 {
		t.Errorf("%+v", tighter)
	}
}

func TestCandidateThatErrsForOne(t *testing.T) {
	qs := []question1{{grants: 1, project: "p0", purpose: "research"}, {grants: 1, project: "p0", purpose: "research", copies: 1}, {grants: 1, project: "p1", purpose: "x", copies: 1}}
	p := history(t, bundle(t), qs)
	bad := bundle(t, `object.get(input.request, "copies", 0) != data.table.broken`, `object.get(input.request, "copies", 0) / (1 - object.get(input.request, "copies", 0)) >= 0`)
	r := p.run(t, Config{Candidate: bad})
	if r.Flipped(AllowError) != 1 || r.Failures() != 1 || r.Loosens() != 0 || len(r.Errors) != 1 {
		t.Fatalf("%+v", r)
	}
	if e := r.Errors[0]; e.Count != 1 || e.Records[0] != 11 || !strings.Contains(e.Name, "divide by zero") {
		t.Errorf("%+v", e)
	}
	if x := r.Flips[0].Examples[0]; x.After.Error == "" || x.After.Allow {
		t.Errorf("%+v", x)
	}
}

func TestWhatTheArchiveLacks(t *testing.T) {
	b := bundle(t)
	p := history(t, b, []question1{{grants: 1, project: "p0"}, {grants: 2, project: "p0"}, {grants: 2, project: "p1"}})
	delete(p.data, p.decisions[0].Data)
	r := p.run(t, Config{Candidate: b})
	want := []Count{{unfitNoData, 1, []uint64{10}}}
	if diff := cmp.Diff(want, r.NotReplayed); diff != "" || r.Replayed != 2 || r.Decisions != 3 {
		t.Errorf("%+v %s", r, diff)
	}
	// Rules that are gone cannot be reproduced by, but the candidate answers.
	p.rules = nil
	r = p.run(t, Config{Candidate: b, Reproduce: true})
	if r.Replayed != 2 || r.Reproduction.Tried != 0 || r.Reproduction.NotTried[0].Name != unfitNoRules {
		t.Errorf("%+v %+v", r, r.Reproduction)
	}
	// A disk that cannot be read is no finding about a decision.
	p.fail = sallyport.Errorf("test", sallyport.Unavailable, "", "no disk")
	if _, err := Run(t.Context(), Config{Candidate: b, Base: p}, p.all()); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("got %v", err)
	}
	p.fail = sallyport.Errorf("test", sallyport.Damaged, "", "flipped")
	if r := p.run(t, Config{Candidate: b}); r.Replayed != 0 || r.NotReplayed[0].Name != unfitDamaged {
		t.Errorf("%+v", r)
	}
}

func TestReproduceFindsAChangedRecord(t *testing.T) {
	b := bundle(t)
	p := history(t, b, []question1{{grants: 1, project: "p0", purpose: "research"}, {grants: 1, project: "p1", purpose: "research"}})
	p.decisions[1].Recorded.Reasons = []string{"something nicer"}
	r := p.run(t, Config{Candidate: b, Reproduce: true})
	want := &Reproduction{Tried: 2, Exact: 1, Different: []Count{{"reasons", 1, []uint64{11}}}, NotTried: []Count{}}
	if diff := cmp.Diff(want, r.Reproduction); diff != "" {
		t.Error(diff)
	}
}

// TestToday asks with today's grants and not with those of then.
func TestToday(t *testing.T) {
	b := bundle(t)
	p := history(t, b, []question1{{grants: 1, project: "p2", purpose: "research"}, {grants: 3, project: "p0", purpose: "research"}})
	r := p.run(t, Config{Candidate: b, Now: p.roots})
	if r.Over != "now" || r.Flipped(DenyAllow) != 1 || r.Unchanged != 1 {
		t.Errorf("%+v", r)
	}
}

// TestOwnTables: the candidate's tables count, the rest is the record's.
func TestOwnTables(t *testing.T) {
	p := history(t, bundle(t), []question1{{grants: 1, release: true, class: 4}, {grants: 1, release: true, class: 6}})
	r := p.run(t, Config{Candidate: bundle(t, `"min_class": 5`, `"min_class": 4`)})
	if r.Flipped(DenyAllow) != 1 || r.Flips[0].Rules[0].Name != "test.few" {
		t.Errorf("%+v", r)
	}
}

func TestEmptyHistory(t *testing.T) {
	b := bundle(t)
	r := history(t, b, nil).run(t, Config{Candidate: b})
	if r.Decisions != 0 || r.Loosens() != 0 || r.Flips == nil || r.NotReplayed == nil {
		t.Errorf("%+v", r)
	}
}

func TestCancellation(t *testing.T) {
	b := bundle(t)
	p := history(t, b, []question1{{grants: 1, project: "p0"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	endless := func(yield func(Decision, error) bool) {
		for yield(p.decisions[0], nil) {
		}
	}
	told := 0
	_, err := Run(ctx, Config{Candidate: b, Base: p, Progress: func(done, _ int) {
		if told = done; done > 100 {
			cancel()
		}
	}}, endless)
	if sallyport.KindOf(err) != sallyport.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if told == 0 {
		t.Error("no progress was told")
	}
}

func TestErrorOfTheLog(t *testing.T) {
	b := bundle(t)
	p := history(t, b, []question1{{grants: 1, project: "p0"}})
	torn := sallyport.Errorf("audit", sallyport.Damaged, "", "record 11 is damaged")
	_, err := Run(t.Context(), Config{Candidate: b, Base: p}, func(yield func(Decision, error) bool) {
		_ = yield(p.decisions[0], nil) && yield(Decision{}, torn)
	})
	if !errors.Is(err, torn) {
		t.Errorf("got %v", err)
	}
}

// TestManyStates: a long history with a state of its own for each decision is
// replayed with few engines, each made once in the order of time.
func TestManyStates(t *testing.T) {
	b := bundle(t)
	var qs []question1
	for i := range 40 {
		qs = append(qs, question1{grants: i, project: "p3", purpose: "research"}, question1{grants: i, project: "p9", purpose: "research"})
	}
	p := history(t, b, qs)
	r := p.run(t, Config{Candidate: b, Engines: 2, Workers: 1})
	if r.Unchanged != len(qs) {
		t.Errorf("%+v", r)
	}
	for d, n := range p.asked {
		if n != 1 {
			t.Errorf("data %s were read %d times", d.Short(), n)
		}
	}
}

func TestCache(t *testing.T) {
	made := map[int]int{}
	c := newCache(3, func(_ context.Context, k int) (int, error) {
		made[k]++
		if k == 7 {
			return 0, errors.New("cannot be made")
		}
		return k * k, nil
	})
	for _, k := range []int{1, 2, 3, 1, 4, 1, 2} {
		if v, err := c.get(t.Context(), k); v != k*k || err != nil {
			t.Fatalf("%d: %d %v", k, v, err)
		}
		if c.used.Len() > 3 || len(c.known) != c.used.Len() {
			t.Fatalf("%d are kept", c.used.Len())
		}
	}
	if made[1] != 1 || made[2] != 2 {
		t.Errorf("made %v", made)
	}
	for range 2 {
		if _, err := c.get(t.Context(), 7); err == nil {
			t.Error("no error")
		}
	}
	if made[7] != 1 {
		t.Error("what cannot be made was tried again")
	}
	// Many who ask at once wait for one.
	var once sync.WaitGroup
	begun := make(chan struct{})
	var n int
	slow := newCache(1, func(context.Context, string) (int, error) { n++; <-begun; return n, nil })
	for range 20 {
		once.Go(func() { slow.get(t.Context(), "x") })
	}
	close(begun)
	once.Wait()
	if n != 1 {
		t.Errorf("made %d times", n)
	}
}

func TestReportIsBounded(t *testing.T) {
	l := lines{}
	left := 0
	for i := range maxLines + 10 {
		for range 2 {
			if !l.line(fmt.Sprint(i), uint64(i)) {
				left++
			}
		}
	}
	if len(l) != maxLines || left != 20 {
		t.Errorf("%d lines, %d left", len(l), left)
	}
	var list []uint64
	for i := range uint64(100) {
		list = example(list, i)
	}
	if !slices.Equal(list, []uint64{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("examples %v", list)
	}
	if s := clip(strings.Repeat("é", 1000)); len(s) > 400 || s == clip(strings.Repeat("é", 1001)) {
		t.Errorf("%q", s)
	}
}
