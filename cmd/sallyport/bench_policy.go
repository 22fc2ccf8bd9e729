package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"sallyport"
	"sallyport/bench"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/replay"
)

type benchPolicyCmd struct {
	Datasets int  `default:"1000" placeholder:"N" help:"Datasets in the catalog, of 20 columns each (1000)."`
	Grants   int  `default:"5000" placeholder:"N" help:"Grants in the register (5000)."`
	Ask      int  `placeholder:"N" help:"Decisions a run (2000; 200 with --quick)."`
	History  int  `placeholder:"N" help:"Decisions that are replayed (8000; 400 with --quick)."`
	Runs     int  `default:"3" help:"Runs of each; the median counts."`
	Quick    bool `help:"Few decisions."`
}

func (benchPolicyCmd) Help() string {
	return `Measures the default bundle over a generated catalog and register: how long a decision takes at either door, with one and with two askers, what explaining one costs, how many decisions a second are replayed, and how long new rules or data take to come into force. The peer is OPA's own library over the same bundle and data in its usual setting: prepared query, store of Go values, input as a Go map. Progress goes to standard error.

  sallyport bench policy
  sallyport bench policy --quick --json`
}

func (c benchPolicyCmd) Run(a *app) error {
	if c.Ask == 0 {
		c.Ask = 2000
		if c.Quick {
			c.Ask = 200
		}
	}
	if c.History == 0 {
		c.History = 8000
		if c.Quick {
			c.History = 400
		}
	}
	if c.Datasets < 1 || c.Grants < 1 || c.Ask < 1 || c.History < 1 || c.Runs < 1 {
		return sallyport.Errorf("bench", sallyport.Invalid, "All numbers are at least 1.", "%d datasets, %d grants, %d asked, %d replayed, %d runs",
			c.Datasets, c.Grants, c.Ask, c.History, c.Runs)
	}
	b, err := newPolicyBench(a.ctx, c, a.errs)
	if err != nil {
		return err
	}
	var figures []bench.Figure
	for _, measure := range []func(context.Context) ([]bench.Figure, error){b.decisions, b.explains, b.replays, b.reloads} {
		more, err := measure(a.ctx)
		if err != nil {
			return err
		}
		figures = append(figures, more...)
	}
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}

// plainOPA names the peer.
const plainOPA = "plain OPA library"

// policyBench is the default bundle over generated data, and the same in plain OPA.
type policyBench struct {
	benchPolicyCmd
	progress io.Writer
	note     string
	bundle   *policy.Bundle
	overlay  map[string]any
	roots    map[string]any // all data
	data     sallyport.Digest
	engine   *policy.Engine
	admits   []policy.Admission
	releases []policy.Releasing
	peer     map[policy.Door]rego.PreparedEvalQuery
}

// benchDeadline lets a slow decision be measured.
const benchDeadline = time.Minute

func newPolicyBench(ctx context.Context, c benchPolicyCmd, progress io.Writer) (*policyBench, error) {
	b := &policyBench{benchPolicyCmd: c, progress: progress}
	b.say("making %d datasets and %d grants", c.Datasets, c.Grants)
	var err error
	if b.bundle, err = policy.Load(ctx, policies.FS); err != nil {
		return nil, err
	}
	b.overlay = policyBenchData(c.Datasets, c.Grants)
	b.engine, err = policy.New(ctx, policy.Config{Bundle: policies.FS, Overlay: b.overlay, Deadline: benchDeadline,
		Keep: func(_ context.Context, _ *policy.Bundle, _, data sallyport.Digest, roots map[string]any) error {
			b.data, b.roots = data, roots
			return nil
		}})
	if err != nil {
		return nil, err
	}
	if err := b.openPeer(ctx); err != nil {
		return nil, err
	}
	allowed, err := b.makeQuestions(ctx)
	if err != nil {
		return nil, err
	}
	rules := 0
	for name, m := range b.bundle.Modules() {
		if !strings.HasSuffix(name, "_test.rego") {
			rules += len(m.Rules)
		}
	}
	b.note = fmt.Sprintf("%s; default bundle of %d rules, %d datasets of %d columns, %d grants; %s; %d of %d questions to door 1 are answered yes; ours includes encoding the question and checking the answer",
		bench.Machine(), rules, c.Datasets, benchColumns, c.Grants, bench.Times(c.Runs), allowed, len(b.admits))
	return b, nil
}

func (b *policyBench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: policy: "+format+"\n", args...)
}

// openPeer prepares what a program that embeds OPA would.
func (b *policyBench) openPeer(ctx context.Context) error {
	raw, err := json.Marshal(b.roots)
	if err != nil {
		return err
	}
	var data map[string]any
	if err := json.Unmarshal(raw, &data); err != nil {
		return err
	}
	store := inmem.NewFromObject(data)
	b.peer = map[policy.Door]rego.PreparedEvalQuery{}
	for door, query := range map[policy.Door]string{policy.AdmitDoor: "data.sallyport.admit.verdict", policy.ReleaseDoor: "data.sallyport.release.verdict"} {
		// A compiler of its own: ours was given schemas and fewer built-ins.
		compiler := ast.NewCompiler()
		modules := map[string]*ast.Module{}
		for name, m := range b.bundle.Modules() {
			if !strings.HasSuffix(name, "_test.rego") {
				modules[name] = m.Copy()
			}
		}
		if compiler.Compile(modules); compiler.Failed() {
			return compiler.Errors
		}
		if b.peer[door], err = rego.New(rego.Query(query), rego.Compiler(compiler), rego.Store(store)).PrepareForEval(ctx); err != nil {
			return err
		}
	}
	return nil
}

const (
	benchColumns  = 20
	benchProjects = 50
	benchPeople   = 500
)

// policyBenchData is a catalog, a site and a register of the shapes that the
// gateway gives to policy.
func policyBenchData(datasets, grants int) map[string]any {
	classes := []string{"public", "internal", "confidential", "restricted"}
	purposes := []string{"research", "teaching", "quality"}
	catalog, site := map[string]any{}, map[string]any{}
	for i := range datasets {
		columns := []any{}
		for n := range benchColumns {
			column := map[string]any{"name": fmt.Sprintf("column_%02d", n), "role": "insensitive"}
			mask := func(verb string, args map[string]any) { column["mask"] = map[string]any{"verb": verb, "args": args} }
			switch {
			case n == 0:
				column["role"] = "direct"
				mask("pseudonym", map[string]any{"length": 26})
			case n == 1:
				column["role"] = "direct"
			case n < 4:
				column["role"] = "quasi"
				mask("date", map[string]any{"to": "year"})
			case n < 6:
				column["role"] = "quasi"
				mask("generalize", map[string]any{"width": 10})
			case n < 11:
				column["role"] = "sensitive"
			}
			columns = append(columns, column)
		}
		id := fmt.Sprintf("dataset-%04d", i)
		catalog[id] = map[string]any{"id": id, "owner": "steward", "format": "csv", "sensitivity": classes[i%len(classes)],
			"residency": []any{"de", "fr"}, "purposes": []any{"research", "quality"}, "subject": "column_00", "columns": columns}
	}
	people, projects := map[string]any{}, map[string]any{}
	for i := range benchPeople {
		people[fmt.Sprintf("person-%03d", i)] = map[string]any{"roles": []any{"researcher"}, "projects": []any{fmt.Sprintf("project-%02d", i%benchProjects)}}
	}
	for i := range benchProjects {
		projects[fmt.Sprintf("project-%02d", i)] = map[string]any{"purposes": []any{"research", "quality"}, "budget": 20_000_000}
	}
	site["people"], site["projects"] = people, projects
	given := map[string]any{}
	for i := range grants {
		dataset, project := fmt.Sprintf("dataset-%04d", i%datasets), fmt.Sprintf("project-%02d", (i+i/datasets)%benchProjects)
		of, ok := given[dataset].(map[string]any)
		if !ok {
			of = map[string]any{}
			given[dataset] = of
		}
		of[project] = map[string]any{"purposes": []any{purposes[0], purposes[2]}, "since": "2020-01-01T00:00:00Z",
			"until": fmt.Sprintf("20%02d-01-01T00:00:00Z", 40+i%50), "by": "steward", "reason": "protocol on file"}
	}
	return map[string]any{"catalog": map[string]any{"datasets": catalog}, "site": site,
		"register": map[string]any{"grants": given, "consents": map[string]any{}, "exceptions": map[string]any{}}}
}

// makeQuestions makes questions to door 1 of which some are denied, and to door
// 2 what would follow from the answers.
func (b *policyBench) makeQuestions(ctx context.Context) (allowed int, err error) {
	const distinct = 512
	for i := range distinct {
		dataset := (i * 37) % b.Datasets
		project := (dataset + dataset/b.Datasets) % benchProjects
		person := project + benchProjects*(i%(benchPeople/benchProjects))
		in := policy.Admission{Version: policy.InputVersion, Time: time.Date(2030, 1, 1, 0, 0, i, 0, time.UTC), Job: "job",
			Subject: policy.Subject{ID: fmt.Sprintf("person-%03d", person), Roles: []string{"researcher"}, Projects: []string{fmt.Sprintf("project-%02d", project)}, Credential: "bench"},
			Project: fmt.Sprintf("project-%02d", project), Purpose: "research", Dataset: fmt.Sprintf("dataset-%04d", dataset),
			Request: policy.Request{Algorithm: "features", Runner: "wasm", Module: sallyport.DigestOf([]byte("features"))}}
		switch {
		case dataset%4 == 3: // restricted: stays inside, and needs a grant
			in.Request.Where = sallyport.Local
		case i%3 == 0:
			in.Request.Where = sallyport.Outside
		}
		switch i % 10 {
		case 0:
			in.Purpose = "teaching"
		case 1:
			in.Project = fmt.Sprintf("project-%02d", (project+7)%benchProjects)
		}
		for n := range i % 4 {
			in.History = append(in.History, sallyport.Release{Job: sallyport.JobID(fmt.Sprintf("earlier-%d", n)), Dataset: in.Dataset, Time: in.Time.AddDate(0, -1-n, 0),
				Destination: sallyport.Outside, Source: sallyport.DigestOf(nil), Plan: sallyport.DigestOf(nil), Risk: sallyport.Risk{Records: 1000, SmallestClass: 20, Exact: true}})
		}
		b.admits = append(b.admits, in)
		v, err := b.engine.Admit(ctx, in)
		if err != nil {
			return 0, err
		}
		if !v.Allow {
			continue
		}
		allowed++
		r := policy.Releasing{Admission: in, Destination: v.Destination, Admitted: v.Limits,
			Facts: policy.Facts{Risk: sallyport.Risk{Records: 100_000, Classes: 900, SmallestClass: int64(5 + i%40), Highest: 0.02, Average: 0.009, Exact: true},
				Source: sallyport.DigestOf(nil), Plan: sallyport.DigestOf(nil), Residual: map[string]int64{}, Actions: map[string]string{}}}
		for _, o := range v.Obligations {
			verb := o.Verb
			if verb == "" {
				verb = "keep"
				r.Facts.Cleared = append(r.Facts.Cleared, o.Column)
			}
			if verb != "drop" {
				r.Facts.Columns = append(r.Facts.Columns, o.Column)
				r.Facts.Actions[o.Column] = verb
			}
			if o.Column >= "column_02" && o.Column < "column_06" {
				r.Facts.Risk.Quasi = append(r.Facts.Risk.Quasi, o.Column)
			}
		}
		b.releases = append(b.releases, r)
	}
	if len(b.releases) == 0 {
		return 0, sallyport.Errorf("bench", sallyport.Internal, "", "the default bundle allows nothing of what was made for it")
	}
	return allowed, nil
}

// asker asks one question by number.
type asker func(ctx context.Context, i int) error

func (b *policyBench) ours(door policy.Door) asker {
	return func(ctx context.Context, i int) (err error) {
		if door == policy.AdmitDoor {
			_, err = b.engine.Admit(ctx, b.admits[i%len(b.admits)])
		} else {
			_, err = b.engine.Release(ctx, b.releases[i%len(b.releases)])
		}
		return err
	}
}

// input is what a question is recorded as.
func (b *policyBench) input(door policy.Door, i int) ([]byte, error) {
	if door == policy.AdmitDoor {
		return json.Marshal(b.admits[i%len(b.admits)])
	}
	return json.Marshal(b.releases[i%len(b.releases)])
}

func (b *policyBench) theirs(door policy.Door) (asker, error) {
	n := len(b.admits)
	if door == policy.ReleaseDoor {
		n = len(b.releases)
	}
	inputs := make([]any, n)
	for i := range n {
		raw, err := b.input(door, i)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &inputs[i]); err != nil {
			return nil, err
		}
	}
	query := b.peer[door]
	return func(ctx context.Context, i int) error {
		_, err := query.Eval(ctx, rego.EvalInput(inputs[i%n]))
		return err
	}, nil
}

// timing is what some askers took for a run.
type timing struct {
	p50, p99 float64 // ms
	rate     float64 // per second, all askers
	allocs   float64
}

func timed(ctx context.Context, askers, n int, ask asker) (timing, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took := make([][]float64, askers)
	errs := make([]error, askers)
	began := time.Now()
	var group sync.WaitGroup
	for w := range askers {
		group.Go(func() {
			for i := w; i < n && errs[w] == nil && ctx.Err() == nil; i += askers {
				at := time.Now()
				errs[w] = ask(ctx, i)
				took[w] = append(took[w], time.Since(at).Seconds()*1000)
			}
		})
	}
	group.Wait()
	whole := time.Since(began).Seconds()
	runtime.ReadMemStats(&after)
	for _, err := range append(errs, ctx.Err()) {
		if err != nil {
			return timing{}, err
		}
	}
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	return timing{p50: all[len(all)/2], p99: all[len(all)*99/100], rate: float64(len(all)) / whole,
		allocs: float64(after.Mallocs-before.Mallocs) / float64(len(all))}, nil
}

// median takes one figure of several runs.
func median(runs []timing, of func(timing) float64) float64 {
	var values []float64
	for _, r := range runs {
		values = append(values, of(r))
	}
	return bench.Median(values)
}

func (b *policyBench) decisions(ctx context.Context) ([]bench.Figure, error) {
	var out []bench.Figure
	for _, door := range []policy.Door{policy.AdmitDoor, policy.ReleaseDoor} {
		ours := b.ours(door)
		theirs, err := b.theirs(door)
		if err != nil {
			return nil, err
		}
		for _, askers := range []int{1, 2} {
			var us, them []timing
			for run := range b.Runs {
				b.say("%s, %d asking: run %d of %d", door, askers, run+1, b.Runs)
				for _, contestant := range []struct {
					ask asker
					to  *[]timing
				}{{ours, &us}, {theirs, &them}} {
					t, err := timed(ctx, askers, b.Ask, contestant.ask)
					if err != nil {
						return nil, err
					}
					*contestant.to = append(*contestant.to, t)
				}
			}
			for _, f := range []struct {
				name, unit string
				of         func(timing) float64
			}{
				{"p50", "ms", func(t timing) float64 { return t.p50 }}, {"p99", "ms", func(t timing) float64 { return t.p99 }},
				{"rate", "1/s", func(t timing) float64 { return t.rate }}, {"allocations", "per decision", func(t timing) float64 { return t.allocs }},
			} {
				if askers == 2 && f.name == "allocations" {
					continue
				}
				out = append(out, bench.New(fmt.Sprintf("%s, %d asking: %s", door, askers, f.name), median(us, f.of), f.unit, b.note).Against(plainOPA, median(them, f.of)))
			}
		}
	}
	return out, nil
}

func (b *policyBench) explains(ctx context.Context) ([]bench.Figure, error) {
	b.say("explaining")
	inputs := make([][]byte, 0, 64)
	for i := range cap(inputs) {
		raw, err := b.input(policy.AdmitDoor, i)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, raw)
	}
	t, err := timed(ctx, 1, max(32, b.Ask/20), func(ctx context.Context, i int) error {
		_, err := b.engine.Explain(ctx, policy.AdmitDoor, inputs[i%len(inputs)])
		return err
	})
	return []bench.Figure{bench.New("explain: p50", t.p50, "ms", b.note), bench.New("explain: p99", t.p99, "ms", b.note)}, err
}

// Data and Rules make the bench a source of replay.
func (b *policyBench) Data(d sallyport.Digest) (map[string]any, error) {
	if d != b.data {
		return nil, sallyport.Errorf("bench", sallyport.NotFound, "", "no data %s", d.Short())
	}
	return b.roots, nil
}

func (b *policyBench) Rules(sallyport.Digest) (fs.FS, error) { return b.bundle.FS(), nil }

var _ replay.Source = (*policyBench)(nil)

// history is a log of decisions at both doors, as entries hold them.
func (b *policyBench) history(ctx context.Context) ([]replay.Entry, error) {
	out := make([]replay.Entry, 0, b.History)
	for i := range b.History {
		e := replay.Entry{Record: uint64(i), Phase: "outcome", Decision: "deny", Subject: "person", Project: "project", Purpose: "research", Dataset: "dataset"}
		var v policy.Verdict
		var in any
		var err error
		if i%2 == 0 {
			q := b.admits[i/2%len(b.admits)]
			e.Step, in, e.Time = "admit", q, q.Time
			v, err = b.engine.Admit(ctx, q)
		} else {
			q := b.releases[i/2%len(b.releases)]
			e.Step, in, e.Time = "release", q, q.Time
			v, err = b.engine.Release(ctx, q)
		}
		if err != nil {
			return nil, err
		}
		if v.Allow {
			e.Decision = "allow"
		}
		e.Policy, e.Data = v.Policy, v.Data
		if e.Detail, err = json.Marshal(map[string]any{"input": in, "verdict": v}); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (b *policyBench) replays(ctx context.Context) ([]bench.Figure, error) {
	b.say("making a history of %d decisions", b.History)
	entries, err := b.history(ctx)
	if err != nil {
		return nil, err
	}
	read := iter.Seq2[replay.Decision, error](func(yield func(replay.Decision, error) bool) {
		for _, e := range entries {
			if d, ok := replay.Read(e); ok && !yield(d, nil) {
				return
			}
		}
	})
	ours := func(reproduce bool) (float64, error) {
		began := time.Now()
		r, err := replay.Run(ctx, replay.Config{Candidate: b.bundle, Base: b, Deadline: benchDeadline, Reproduce: reproduce}, read)
		if err == nil && (r.Replayed != b.History || r.Unchanged != b.History) {
			err = sallyport.Errorf("bench", sallyport.Internal, "", "of %d decisions %d were replayed and %d unchanged", b.History, r.Replayed, r.Unchanged)
		}
		return float64(b.History) / time.Since(began).Seconds(), err
	}
	theirs := func() (float64, error) {
		began := time.Now()
		for _, e := range entries {
			var detail struct{ Input any }
			if err := json.Unmarshal(e.Detail, &detail); err != nil {
				return 0, err
			}
			if _, err := b.peer[policy.Door(e.Step)].Eval(ctx, rego.EvalInput(detail.Input)); err != nil {
				return 0, err
			}
		}
		return float64(b.History) / time.Since(began).Seconds(), nil
	}
	cores := runtime.GOMAXPROCS(0)
	var one, all, proof, them []float64
	for run := range b.Runs {
		b.say("replaying: run %d of %d", run+1, b.Runs)
		for _, contestant := range []struct {
			cores int
			run   func() (float64, error)
			to    *[]float64
		}{
			{1, func() (float64, error) { return ours(false) }, &one}, {cores, func() (float64, error) { return ours(false) }, &all},
			{cores, func() (float64, error) { return ours(true) }, &proof}, {1, theirs, &them},
		} {
			runtime.GOMAXPROCS(contestant.cores)
			runtime.GC()
			rate, err := contestant.run()
			runtime.GOMAXPROCS(cores)
			if err != nil {
				return nil, err
			}
			*contestant.to = append(*contestant.to, rate)
		}
	}
	note := fmt.Sprintf("%s; history of %d decisions at both doors over one state of the data, which is loaded within the time", b.note, b.History)
	return []bench.Figure{
		bench.New("replay, 1 core", bench.Median(one), "decisions/s", note).Against(plainOPA, bench.Median(them)),
		bench.New(fmt.Sprintf("replay, %d cores", cores), bench.Median(all), "decisions/s", note),
		bench.New(fmt.Sprintf("replay and reproduce, %d cores", cores), bench.Median(proof), "decisions/s", note+"; each decision is evaluated twice"),
	}, nil
}

func (b *policyBench) reloads(ctx context.Context) ([]bench.Figure, error) {
	b.say("reloading")
	engine, err := policy.New(ctx, policy.Config{Bundle: policies.FS, Overlay: b.overlay, Deadline: benchDeadline})
	if err != nil {
		return nil, err
	}
	var out []bench.Figure
	for _, f := range []struct {
		name string
		do   func() error
	}{
		{"load a bundle: parse and compile", func() error { _, err := policy.Load(ctx, policies.FS); return err }},
		{"new rules come into force", func() error { return engine.SetBundle(ctx, b.bundle) }},
		{"new data come into force", func() error { return engine.SetOverlay(ctx, b.overlay) }},
	} {
		var took []float64
		for range max(3, b.Runs) {
			runtime.GC()
			began := time.Now()
			if err := f.do(); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began).Seconds()*1000)
		}
		out = append(out, bench.New(f.name, bench.Median(took), "ms", b.note))
	}
	return out, nil
}
