package policy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

var update = flag.Bool("update", false, "write the golden verdicts anew")

func columns() []sallyport.Column {
	mask := func(verb string, args map[string]any) *sallyport.Mask { return &sallyport.Mask{Verb: verb, Args: args} }
	return []sallyport.Column{
		{Name: "patient", Role: sallyport.Direct, Mask: mask("pseudonym", nil)},
		{Name: "name", Role: sallyport.Direct},
		{Name: "age", Role: sallyport.Quasi, Type: "integer", Mask: mask("generalize", map[string]any{"width": 10})},
		{Name: "town", Role: sallyport.Quasi},
		{Name: "diagnosis", Role: sallyport.Sensitive},
		{Name: "ward", Role: sallyport.Insensitive},
	}
}

func overlay() map[string]any {
	sets := map[string]sallyport.Dataset{}
	for id, class := range map[string]sallyport.Sensitivity{"cohort": sallyport.Confidential,
		"genomes": sallyport.Restricted, "staff": sallyport.InternalUse, "census": sallyport.Public} {
		sets[id] = sallyport.Dataset{ID: id, Owner: "steward", Location: sallyport.Ref{Store: "lab", Key: id + ".csv"}, Format: "csv",
			Sensitivity: class, Residency: []string{"fr", "de"}, Purposes: []string{"research", "teaching"}, Subject: "patient", Columns: columns()}
	}
	harbored := sets["staff"]
	harbored.ID, harbored.Standard, harbored.Columns = "harbored", "safe_harbor", columns()
	for i, category := range []string{"record", "name", "age", "geographic", "none", ""} {
		harbored.Columns[i].Identifier = category
	}
	harbored.Columns[2].Mask = &sallyport.Mask{Verb: "cap", Args: map[string]any{"top": 90}}
	donors, far := sets["staff"], sets["cohort"]
	donors.ID, donors.Consent = "donors", true
	far.ID, far.Residency = "far", []string{"us"}
	sets["harbored"], sets["donors"], sets["far"] = harbored, donors, far
	return map[string]any{
		"register": map[string]any{
			"grants": map[string]any{"genomes": map[string]any{
				"lungs": map[string]any{"purposes": []string{"research"}, "since": "2029-01-01T00:00:00Z", "until": "2030-12-31T00:00:00Z", "by": "steward", "reason": "study"},
				"east":  map[string]any{"purposes": []string{"research"}, "since": "2029-01-01T00:00:00Z", "until": "2029-03-01T00:00:00Z", "by": "steward", "reason": "study"},
			}},
			"consents": map[string]any{},
			"exceptions": map[string]any{"e-1": map[string]any{"checks": []string{"release.class"}, "dataset": "cohort", "project": "rare",
				"since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z", "asked_by": "bob", "approved_by": "eve", "reason": "rare"},
				"e-2": map[string]any{"checks": []string{"release.combined"}, "dataset": "cohort", "project": "rare",
					"since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z", "asked_by": "bob", "approved_by": "eve", "reason": "rare"}},
		},
		"catalog": map[string]any{"datasets": sets},
		"site": map[string]any{
			"people": map[string]any{"ada": map[string]any{"roles": []string{"researcher"}, "projects": []string{"lungs"}}},
			"projects": map[string]any{
				"lungs": map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 20_000_000},
				"rare":  map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 20_000_000},
				"east": map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "rows": map[string]any{
					"cohort": map[string]any{"ward": []string{"e2", "e1"}, "town": []string{}}, "staff": map[string]any{"region": []string{"x"}}}},
			},
		},
	}
}

func releasing() policy.Releasing {
	a := admission()
	a.Request.Where = sallyport.Outside
	return policy.Releasing{
		Admission:   a,
		Destination: sallyport.Outside,
		Admitted:    policy.Limits{KeyTTL: 1800, Price: 1, Budget: 1, Copies: 2, Regions: []string{"de"}, MinClass: 10},
		Facts: policy.Facts{
			Risk: sallyport.Risk{Records: 4000, Classes: 20, SmallestClass: 12, Highest: 1. / 12, Average: .005,
				Exact: true, Quasi: []string{"age"}},
			Source:   sallyport.DigestOf([]byte("source")),
			Plan:     sallyport.DigestOf([]byte("plan")),
			Columns:  []string{"patient", "age", "diagnosis", "ward"},
			Residual: map[string]int64{"email": 0},
			Cleared:  []string{"diagnosis", "ward"},
			Actions:  map[string]string{"patient": "pseudonym", "age": "generalize", "diagnosis": "keep", "ward": "keep"},
		},
	}
}

// again makes it the second release to outside, measured together with the first.
func again(r *policy.Releasing) {
	combined := r.Facts.Risk
	combined.Classes, combined.SmallestClass = 24, 11
	r.Facts.Combined = &combined
	r.History = []sallyport.Release{{Job: "j-0", Dataset: r.Dataset, Time: r.Time.Add(-1), Destination: sallyport.Outside,
		Source: r.Facts.Source, Plan: sallyport.DigestOf([]byte("other plan")), Risk: r.Facts.Risk,
		Obligations: []sallyport.Obligation{{Column: "age", Verb: "generalize", Args: map[string]any{"width": 5}}},
		Rows:        []sallyport.RowFilter{{Column: "ward"}}}}
}

// TestGolden: the whole verdict, as a client sees it, for a handful of cases.
// The digests are left out: they change with every comment in the bundle.
func TestGolden(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	admit := func(change func(*policy.Admission)) func() (policy.Verdict, error) {
		return func() (policy.Verdict, error) {
			a := admission()
			change(&a)
			return e.Admit(t.Context(), a)
		}
	}
	release := func(change func(*policy.Releasing)) func() (policy.Verdict, error) {
		return func() (policy.Verdict, error) {
			r := releasing()
			change(&r)
			return e.Release(t.Context(), r)
		}
	}
	cases := map[string]func() (policy.Verdict, error){
		"admit_outside": admit(func(a *policy.Admission) { a.Request.Where = sallyport.Outside }),
		"admit_local":   admit(func(a *policy.Admission) {}),
		"admit_tightened": admit(func(a *policy.Admission) {
			a.Request = policy.Request{Algorithm: "features", Runner: "wasm", Where: "outside", MaxPrice: 7, Copies: 3}
		}),
		"admit_restricted_local": admit(func(a *policy.Admission) { a.Dataset = "genomes" }),
		"admit_safe_harbor":      admit(func(a *policy.Admission) { a.Dataset = "harbored" }),
		"admit_by_exception":     admit(func(a *policy.Admission) { a.Project, a.Request.Where = "rare", sallyport.Outside }),
		"admit_view":             admit(func(a *policy.Admission) { a.Request = policy.Request{Algorithm: "view", Where: sallyport.Local} }),
		"deny_grant_expired":     admit(func(a *policy.Admission) { a.Project, a.Dataset = "east", "genomes" }),
		"deny_no_grant":          admit(func(a *policy.Admission) { a.Project, a.Dataset = "rare", "genomes" }),
		"deny_no_consent":        admit(func(a *policy.Admission) { a.Dataset = "donors" }),
		"deny_jurisdiction":      admit(func(a *policy.Admission) { a.Dataset, a.Request.Where = "far", sallyport.Outside }),
		"deny_native_outside":    admit(func(a *policy.Admission) { a.Request.Runner, a.Request.Where = "native", sallyport.Outside }),
		"release_by_exception": release(func(r *policy.Releasing) {
			r.Project, r.Admitted.MinClass, r.Facts.Risk.SmallestClass = "rare", 3, 4
		}),
		"admit_public":            admit(func(a *policy.Admission) { a.Dataset = "census" }),
		"admit_rows":              admit(func(a *policy.Admission) { a.Project, a.Request.Where = "east", sallyport.Outside }),
		"deny_foreign_row_filter": admit(func(a *policy.Admission) { a.Project, a.Dataset = "east", "staff" }),
		"deny_rows_changed": release(func(r *policy.Releasing) {
			r.Facts.Rows = []sallyport.RowFilter{{Column: "ward", In: []string{"e1"}}}
		}),
		"deny_restricted_outside":  admit(func(a *policy.Admission) { a.Dataset, a.Request.Where = "genomes", sallyport.Outside }),
		"deny_stranger_on_purpose": admit(func(a *policy.Admission) { a.Subject = policy.Subject{ID: "eve"}; a.Purpose = "marketing" }),
		"deny_unknown_dataset":     admit(func(a *policy.Admission) { a.Dataset = "ghost" }),
		"release_safe":             release(func(r *policy.Releasing) {}),
		"deny_small_class":         release(func(r *policy.Releasing) { r.Facts.Risk.SmallestClass, r.Facts.Risk.Unique = 3, 0 }),
		"deny_residual":            release(func(r *policy.Releasing) { r.Facts.Residual = map[string]int64{"email": 2, "phone": 1} }),
		"deny_nothing_measured":    release(func(r *policy.Releasing) { r.Facts = policy.Facts{} }),
		"release_again":            release(again),
		"release_again_by_exception": release(func(r *policy.Releasing) {
			again(r)
			r.Project, r.Facts.Combined.SmallestClass = "rare", 3
		}),
		"deny_combined": release(func(r *policy.Releasing) {
			again(r)
			r.Facts.Combined.SmallestClass, r.Facts.Combined.Unique = 1, .01
		}),
		"deny_combined_not_measured": release(func(r *policy.Releasing) {
			again(r)
			r.Facts.Combined = nil
		}),
		"deny_undeclared": release(func(r *policy.Releasing) {
			r.Facts.Undeclared = []policy.Undeclared{{Column: "ward", Unique: .5}, {Column: "diagnosis", Unique: .75, Estimated: true}}
		}),
	}
	for name, decide := range cases {
		t.Run(name, func(t *testing.T) {
			v, err := decide()
			if err != nil {
				t.Fatal(err)
			}
			if v.Allow == strings.HasPrefix(name, "deny") {
				t.Errorf("allow is %v: %v", v.Allow, v.Reasons)
			}
			v.Policy, v.Data = "", ""
			got, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestNullListsAreEmpty: a nil slice is an empty list, not null, to the rules.
func TestNullListsAreEmpty(t *testing.T) {
	fsys := bundle(map[string]string{"release.rego": `package sallyport.release
lists := [input.subject.roles, input.subject.projects, input.history, input.admitted.regions, input.facts.risk.quasi,
	input.facts.columns, input.facts.cleared, input.facts.rows, input.facts.residual, input.facts.actions, input.facts.undeclared]
verdict := {"allow": false, "reasons": [sprintf("%d", [sum([count(l) | some l in lists])])], "rules": []}
`})
	e := engine(t, policy.Config{Bundle: fsys})
	in := policy.Releasing{Admission: admission()}
	in.Subject = policy.Subject{}
	v, err := e.Release(t.Context(), in)
	if err != nil || v.Reasons[0] != "0" {
		t.Errorf("%v %v", v.Reasons, err)
	}
	in.Facts.Rows = []sallyport.RowFilter{{Column: "ward"}}
	in.Facts.Combined = &sallyport.Risk{}
	in.History = []sallyport.Release{{Rows: []sallyport.RowFilter{{Column: "ward"}}}}
	e = engine(t, policy.Config{Bundle: bundle(map[string]string{"release.rego": `package sallyport.release
lists := [input.facts.rows[0]["in"], input.facts.combined.quasi, input.history[0].rows[0]["in"]]
verdict := {"allow": false, "reasons": [sprintf("%d", [sum([count(l) | some l in lists])])], "rules": []}
`})})
	if v, err := e.Release(t.Context(), in); err != nil || v.Reasons[0] != "0" {
		t.Errorf("%v %v", v.Reasons, err)
	}
	if in.Facts.Rows[0].In != nil || in.Facts.Combined.Quasi != nil || in.History[0].Rows[0].In != nil {
		t.Errorf("the caller's input was changed: %+v", in)
	}
	if in.Subject.Roles != nil || in.Facts.Columns != nil {
		t.Error("the caller's input was changed")
	}
}

// TestSensitiveStays: whatever is asked, the default bundle gives a proper
// verdict that only ever narrows what the table and the request say.
func TestSensitiveStays(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay(), Deadline: 1 << 40})
	roles := map[string]sallyport.Role{}
	for _, c := range columns() {
		roles[c.Name] = c.Role
	}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, label) }
		in := admission()
		in.Subject.ID = pick("subject", "ada", "ada", "eve", "")
		in.Subject.Roles = []string{pick("role", "researcher", "researcher", "officer", "king")}
		in.Subject.Projects = []string{pick("project of subject", "lungs", "hearts")}
		in.Project = pick("project", "lungs", "lungs", "hearts", "")
		in.Purpose = pick("purpose", "research", "research", "teaching", "marketing")
		in.Dataset = pick("dataset", "census", "staff", "cohort", "genomes", "ghost", "", "harbored", "donors", "far")
		in.Request.Algorithm = pick("algorithm", "features", "features", "view")
		in.Request.Runner = pick("runner", "wasm", "wasm", "native", "", "gpu")
		in.Request.Where = sallyport.Destination(pick("where", "", "local", "outside", "Outside", "moon"))
		in.Request.MaxPrice = sallyport.Money(rapid.Int64Range(-1, 9_000_000).Draw(rt, "price"))
		in.Request.Copies = rapid.IntRange(-1, 9).Draw(rt, "copies")
		v, err := e.Admit(t.Context(), in)
		if err != nil {
			rt.Fatal(err)
		}
		if !v.Allow {
			if len(v.Reasons) == 0 || len(v.Rules) == 0 || v.Destination != "" || len(v.Obligations) > 0 {
				rt.Fatalf("a poor denial: %+v", v)
			}
			return
		}
		if in.Purpose != "research" || in.Project != "lungs" || in.Subject.Roles[0] != "researcher" || in.Request.MaxPrice < 0 || in.Request.Copies < 0 {
			rt.Fatalf("allowed: %+v", in)
		}
		out := v.Destination == sallyport.Outside
		if out && (in.Dataset == "genomes" || in.Dataset == "far" || in.Request.Where == sallyport.Local) {
			rt.Fatalf("%s goes out", in.Dataset)
		}
		if in.Dataset == "donors" || out && in.Request.Runner != "wasm" || in.Request.Runner == "gpu" || in.Request.Algorithm == "view" && (out || in.Request.Runner != "") {
			rt.Fatalf("allowed: %+v", in)
		}
		if in.Request.MaxPrice > 0 && v.Limits.Price > in.Request.MaxPrice || v.Limits.Price > 5_000_000 || v.Limits.Copies < in.Request.Copies || v.Limits.Budget > 20_000_000 {
			rt.Fatalf("limits %+v for request %+v", v.Limits, in.Request)
		}
		if out && !slices.Equal(v.Limits.Regions, []string{"de", "fr"}) {
			rt.Fatalf("regions %v", v.Limits.Regions)
		}
		for _, o := range v.Obligations {
			switch {
			case roles[o.Column] == "":
				rt.Fatalf("column %q is not in the catalog", o.Column)
			case roles[o.Column] == sallyport.Direct && o.Verb == "", out && roles[o.Column] == sallyport.Quasi && o.Verb == "":
				rt.Fatalf("%s column %s leaves as it is to %s", roles[o.Column], o.Column, v.Destination)
			}
		}
	})
}

// crowded is the overlay of a large site: 1,000 datasets of 20 columns, 500
// people, 50 projects and 5,000 grants.
func crowded() map[string]any {
	o := overlay()
	sets := o["catalog"].(map[string]any)["datasets"].(map[string]sallyport.Dataset)
	site, register := o["site"].(map[string]any), o["register"].(map[string]any)
	wide := columns()
	for i := range 14 {
		wide = append(wide, sallyport.Column{Name: fmt.Sprintf("m%d", i), Role: sallyport.Insensitive})
	}
	grants := map[string]any{"genomes": register["grants"].(map[string]any)["genomes"]}
	for i := range 1000 {
		d := sets[[]string{"cohort", "staff", "genomes", "census"}[i%4]]
		d.ID, d.Columns = fmt.Sprintf("set-%d", i), wide
		sets[d.ID] = d
		of := map[string]any{}
		for j := range 5 {
			of[fmt.Sprintf("project-%d", (i+j)%50)] = map[string]any{"purposes": []string{"research"}, "people": []string{"ada", fmt.Sprintf("p%d", j)},
				"since": "2029-01-01T00:00:00Z", "until": "2031-01-01T00:00:00Z", "by": "steward", "reason": "study"}
		}
		grants[d.ID] = of
	}
	for i := range 500 {
		site["people"].(map[string]any)[fmt.Sprintf("p%d", i)] = map[string]any{"roles": []string{"researcher"}, "projects": []string{fmt.Sprintf("project-%d", i%50)}}
	}
	for i := range 50 {
		site["projects"].(map[string]any)[fmt.Sprintf("project-%d", i)] = map[string]any{"members": []string{"ada"}, "purposes": []string{"research"}, "budget": 20_000_000}
	}
	register["grants"] = grants
	return o
}

// BenchmarkDefaultBundle: both doors over the default bundle and a large site.
func BenchmarkDefaultBundle(b *testing.B) {
	e := engine(b, policy.Config{Bundle: policies.FS, Overlay: crowded()})
	local, out, leaving := admission(), admission(), releasing()
	local.Dataset, local.Project = "set-2", "project-4" // restricted, with a grant
	out.Dataset, out.Project, out.Request.Where = "set-0", "project-0", sallyport.Outside
	leaving.Dataset, leaving.Project = out.Dataset, out.Project
	for i := range 14 {
		name := fmt.Sprintf("m%d", i)
		leaving.Facts.Columns = append(leaving.Facts.Columns, name)
		leaving.Facts.Cleared = append(leaving.Facts.Cleared, name)
		leaving.Facts.Actions[name] = "keep"
	}
	second := leaving
	again(&second)
	for name, ask := range map[string]func() (policy.Verdict, error){
		"admit-restricted": func() (policy.Verdict, error) { return e.Admit(b.Context(), local) },
		"admit-outside":    func() (policy.Verdict, error) { return e.Admit(b.Context(), out) },
		"release":          func() (policy.Verdict, error) { return e.Release(b.Context(), leaving) },
		"release-again":    func() (policy.Verdict, error) { return e.Release(b.Context(), second) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v, err := ask(); err != nil || !v.Allow {
					b.Fatal(v, err)
				}
			}
		})
	}
}
