package policy_test

import (
	"encoding/json"
	"fmt"

	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

// told is an explanation in lines, as short as a test can read.
func told(x policy.Explanation) string {
	var b strings.Builder
	if f := x.Fault; f != nil {
		fmt.Fprintf(&b, "fault: %s\n", f.Text)
		for _, p := range f.At {
			fmt.Fprintf(&b, "  at %s:%d: %s\n", p.File, p.Line, p.Text)
		}
		for _, v := range f.Values {
			fmt.Fprintf(&b, "  %s\n", value(v))
		}
		for _, s := range f.Say {
			fmt.Fprintf(&b, "  say %s\n", s)
		}
	}
	for _, l := range x.Labels {
		fmt.Fprintf(&b, "%s: %s\n", l.Name, l.Reason)
		for _, r := range l.Rules {
			tellRule(&b, "  ", r)
		}
	}
	return b.String()
}

func tellRule(b *strings.Builder, in string, r policy.RuleTrace) {
	fmt.Fprintf(b, "%s%s:%d %s held=%v\n", in, r.File, r.Line, r.Rule, r.Held)
	for _, c := range r.Conditions {
		fmt.Fprintf(b, "%s  %d: %s holds=%v\n", in, c.Line, c.Text, c.Holds)
		for _, v := range c.Values {
			fmt.Fprintf(b, "%s    %s\n", in, value(v))
		}
		if c.Wants != "" {
			fmt.Fprintf(b, "%s    want %s\n", in, c.Wants)
		}
		for _, w := range c.Why {
			tellRule(b, in+"    ", w)
		}
	}
}

func value(v policy.Value) string {
	if v.Undefined {
		return v.Name + " is undefined"
	}
	return v.Name + " = " + v.Value
}

func raw(t testing.TB, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func explain(t testing.TB, e *policy.Engine, door policy.Door, in any) policy.Explanation {
	t.Helper()
	x, err := e.Explain(t.Context(), door, raw(t, in))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const vetoes = `package sallyport.admit

import data.lib

default verdict := {"allow": false, "reasons": ["no rule allows this"], "rules": ["default"]}

verdict := {"allow": false, "reasons": deny, "rules": ["veto"]} if count(deny) > 0

verdict := {"allow": true, "reasons": [], "rules": ["ok"], "destination": "local", "masks": {},
	"limits": {"key_ttl": 1, "price": 0, "budget": 0, "copies": 1, "regions": [], "min_class": 0, "max_unique": 0, "reviews": 0}} if {
	count(deny) == 0
	allow
}

allow if {
	granted
	every role in input.subject.roles { role in lib.roles }
	some release in input.history
	release.dataset == input.dataset
}

allow if input.purpose == "audit"

granted if {
	until := data.grants[input.dataset][input.project].until
	input.time < until
}

# METADATA
# title: No vetoed module
# labels: {rule: veto}
deny contains msg if {
	input.request.algorithm in lib.vetoed
	msg := sprintf("%s is vetoed", [input.request.algorithm])
}
`

const vetoLib = "package lib\n\nroles := {\"researcher\"}\n\nvetoed := {\"miner\"}\n"

// in reports what of want is not in the explanation, in this order.
func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	rest := got
	for _, w := range want {
		i := strings.Index(rest, w)
		if i < 0 {
			t.Errorf("%q is not (there) in\n%s", w, got)
			return
		}
		rest = rest[i+len(w):]
	}
}

// TestExplainDenials is the default bundle's denials, each to the condition,
// its values and what would have to be true.
func TestExplainDenials(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	for name, c := range map[string]struct {
		spoil func(*policy.Releasing)
		door  policy.Door
		want  []string
	}{
		"purpose": {func(r *policy.Releasing) { r.Purpose = "marketing" }, policy.AdmitDoor, []string{
			"admit.purpose: dataset cohort may not be used for marketing; its purposes are: research",
			"data.sallyport.admit.passed held=false", "input.purpose in lib.dataset.purposes holds=false",
			`input.purpose = "marketing"`, `lib.dataset.purposes = ["research"`,
			`want input.purpose ("marketing") must be one of lib.dataset.purposes`}},
		"role": {func(r *policy.Releasing) { r.Subject.Roles = []string{"officer"} }, policy.AdmitDoor, []string{
			"admit.role: ada has no role", "holds=false", "lib.roles = ", "must "}},
		"project": {func(r *policy.Releasing) { r.Project = "nope" }, policy.AdmitDoor, []string{
			"admit.project: project nope is not known here", "lib.project is undefined",
			"sallyport/lib.rego:", "data.sallyport.lib.project held=false", `input.project = "nope"`, "data.site.projects.nope does not exist"}},
		"dataset": {func(r *policy.Releasing) { r.Dataset = "nope" }, policy.AdmitDoor, []string{
			"admit.dataset: dataset nope is not in the catalog", "data.sallyport.lib.dataset held=false", "data.catalog.datasets.nope does not exist"}},
		"grant": {func(r *policy.Releasing) { r.Project, r.Dataset, r.Request.Where = "east", "genomes", sallyport.Local }, policy.AdmitDoor, []string{
			"admit.grant: the grant of project east for dataset genomes expired 2029-03-01; ask its owner",
			"lib.lasts(lib.grant) holds=false", "data.sallyport.lib.lasts held=false", `entry.until = "2029-03-01T00:00:00Z"`,
			`want now ("2030-01-02T03:04:05Z") must be before time.parse_rfc3339_ns(entry.until) ("2029-03-01T00:00:00Z")`}},
		"class": {func(r *policy.Releasing) { r.Facts.Risk.SmallestClass = 2 }, policy.ReleaseDoor, []string{
			"release.class: smallest equivalence class is 2 records", "sallyport/release.rego:",
			"input.facts.risk.smallest_class = 2", "min_class = 10", "want input.facts.risk.smallest_class (2) must be at least min_class (10)"}},
		"combined": {func(r *policy.Releasing) { again(r); r.Facts.Combined.SmallestClass = 2 }, policy.ReleaseDoor, []string{
			"release.combined: together with earlier releases the smallest equivalence class is 2 records", "sallyport/release.rego:",
			"input.facts.combined.smallest_class = 2", "row.min_combined = 10",
			"want input.facts.combined.smallest_class (2) must be at least row.min_combined (10)"}},
		"combined not measured": {func(r *policy.Releasing) { again(r); r.Facts.Combined = nil }, policy.ReleaseDoor, []string{
			"release.combined: 1 release of cohort went outside before", "sallyport/release.rego:", "first holds=false"}},
		"undeclared": {func(r *policy.Releasing) {
			r.Facts.Undeclared = []policy.Undeclared{{Column: "ward", Unique: .75}}
		}, policy.ReleaseDoor, []string{
			"release.undeclared: columns that nobody declared quasi-identifiers", "ward (3000 of 4000 records)", "sallyport/release.rego:",
			"telling == [] holds=false", `"column": "ward"`}},
		"not admitted any more": {func(r *policy.Releasing) { r.Purpose = "marketing" }, policy.ReleaseDoor, []string{
			"release.admitted: ", "admit.allow holds=false", "sallyport/admit.rego:", "failed == set() holds=false",
			"input.purpose in lib.dataset.purposes holds=false", `input.purpose = "marketing"`}},
	} {
		t.Run(name, func(t *testing.T) {
			r := releasing()
			c.spoil(&r)
			var in any = r
			if c.door == policy.AdmitDoor {
				in = r.Admission
			}
			x := explain(t, e, c.door, in)
			if x.Verdict.Allow || x.Fault != nil || x.Cut {
				t.Errorf("%+v", x)
			}
			wantLines(t, told(x), c.want...)
		})
	}
}

// Each label of a yes leads to the rule that held, with its title.
func TestExplainAllow(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	x := explain(t, e, policy.AdmitDoor, admission())
	if !x.Verdict.Allow || len(x.Labels) != len(x.Verdict.Rules) {
		t.Fatalf("%+v", x)
	}
	for _, l := range x.Labels {
		if l.Title == "" || l.Description == "" || len(l.Rules) == 0 {
			t.Errorf("label %s: %+v", l.Name, l)
		}
		for _, r := range l.Rules {
			if !r.Held || r.File == "" || r.Line == 0 {
				t.Errorf("label %s: %+v", l.Name, r)
			}
		}
	}
}

// A bundle of another design: deny and allow, no table of checks.
func TestExplainForeignBundle(t *testing.T) {
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": vetoes, "lib.rego": vetoLib}), Overlay: map[string]any{
		"grants": map[string]any{"cohort": map[string]any{
			"lungs": map[string]any{"until": "2029-01-01T00:00:00Z"}, "pilot": map[string]any{"until": "2031-01-01T00:00:00Z"}}}}})
	for name, c := range map[string]struct {
		in   func(*policy.Admission)
		want []string
	}{
		"allowed": {func(a *policy.Admission) { a.Purpose = "audit" }, []string{"data.sallyport.admit.verdict held=true", `input.purpose == "audit" holds=true`}},
		"vetoed": {func(a *policy.Admission) { a.Request.Algorithm = "miner" }, []string{
			"veto: miner is vetoed", "data.sallyport.admit.deny held=true", "input.request.algorithm in lib.vetoed holds=true", `lib.vetoed = {"miner"}`}},
		"expired": {func(a *policy.Admission) {}, []string{
			"default: no rule allows this", "allow holds=false", "granted holds=false", "input.time < until holds=false",
			`until = "2029-01-01T00:00:00Z"`, `want input.time ("2030-01-02T03:04:05Z") must be before until ("2029-01-01T00:00:00Z")`,
			`input.purpose == "audit" holds=false`, `want input.purpose ("research") must equal "audit"`}},
		"a key that is missing": {func(a *policy.Admission) { a.Project = "nope" }, []string{
			"until := data.grants[input.dataset][input.project].until holds=false",
			"want data.grants.cohort.nope does not exist (data.grants.cohort has lungs, pilot)"}},
		"every": {func(a *policy.Admission) {
			a.Project = "pilot"
			a.Subject.Roles = []string{"researcher", "officer", "admin"}
		}, []string{
			"every role in input.subject.roles { role in lib.roles } holds=false", `role = "officer"`, `role = "admin"`,
			`want role ("officer") must be one of lib.roles ({"researcher"})`}},
		"near misses": {func(a *policy.Admission) {
			a.Project, a.History = "pilot", []sallyport.Release{{Dataset: "b"}, {Dataset: "c"}}
		}, []string{`release.dataset = "b"`, `release.dataset = "c"`, `want release.dataset ("c") must equal input.dataset ("cohort")`}},
	} {
		t.Run(name, func(t *testing.T) {
			a := admission()
			c.in(&a)
			wantLines(t, told(explain(t, e, policy.AdmitDoor, a)), c.want...)
		})
	}
}

// What went wrong in an evaluation is explained and no error.
func TestExplainFaults(t *testing.T) {
	for name, c := range map[string]struct {
		rules string
		want  []string
	}{
		"conflict": {"verdict := {\"allow\": false} if input.purpose\n\nverdict := {\"allow\": true} if input.job", []string{
			"at admit.rego:3: ", "at admit.rego:5: ", `say admit.rego:3 gives {"allow": false}`, `say admit.rego:5 gives {"allow": true}`, "exclude each other"}},
		"conflict of a function": {"verdict := f(1)\n\nf(x) := true if x > 0\n\nf(x) := false if x < 2", []string{"at admit.rego:5: ", "at admit.rego:7: "}},
		"error of a built-in": {"verdict := {\"allow\": false} if not bad\n\nbad if {\n\tx := input.purpose\n\tto_number(x) > 3\n}", []string{
			"fault: ", "to_number", "at admit.rego:7: to_number(x) > 3", `x = "research"`}},
		"ill-formed": {"verdict := {\"alow\": false} if input.purpose == \"research\"", []string{
			`unknown field "alow"`, "admit.rego:3 data.sallyport.admit.verdict held=true"}},
		"undefined": {"verdict := {\"allow\": true} if input.purpose == \"x\"", []string{
			"fault: the verdict is undefined", "admit.rego:3", `want input.purpose ("research") must equal "x"`}},
		"endless": {endless[strings.Index(endless, "\n"):], []string{"fault: no answer within"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": "package sallyport.admit\n\n" + c.rules + "\n"}), Deadline: 100 * time.Millisecond})
			x := explain(t, e, policy.AdmitDoor, admission())
			if x.Verdict.Allow || x.Fault == nil {
				t.Errorf("%+v", x)
			}
			wantLines(t, told(x), c.want...)
		})
	}
}

func TestExplainRefusesWhatIsNoRecord(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	for _, in := range []string{"", "null!", `{"version": 1, "unheard_of": 2}`, `[]`} {
		if _, err := e.Explain(t.Context(), policy.AdmitDoor, json.RawMessage(in)); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := e.Explain(t.Context(), "window", raw(t, admission())); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("another door: %v", err)
	}
}

// TestExplainAgreesWithDecide: an explanation never tells of another answer,
// and a denial always has something to say.
func TestExplainAgreesWithDecide(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, name) }
		r := releasing()
		r.Purpose = pick("purpose", "research", "teaching", "marketing", "")
		r.Project = pick("project", "lungs", "east", "nope")
		r.Dataset = pick("dataset", "cohort", "census", "genomes", "staff", "nope")
		r.Subject.ID = pick("person", "ada", "eve", "")
		r.Subject.Roles = rapid.SliceOfN(rapid.SampledFrom([]string{"researcher", "officer", "x"}), 0, 3).Draw(rt, "roles")
		r.Request.Where = sallyport.Destination(pick("where", "", "local", "outside", "moon"))
		r.Facts.Risk.SmallestClass = rapid.Int64Range(0, 20).Draw(rt, "k")
		r.Facts.Columns = rapid.SliceOfN(rapid.SampledFrom([]string{"age", "ward", "name"}), 0, 3).Draw(rt, "columns")
		var in any = r
		door := policy.ReleaseDoor
		if rapid.Bool().Draw(rt, "admit") {
			door, in = policy.AdmitDoor, r.Admission
		}
		doc, err := json.Marshal(in)
		if err != nil {
			rt.Fatal(err)
		}
		want, _ := e.Decide(t.Context(), door, doc)
		x, err := e.Explain(t.Context(), door, doc)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, x.Verdict); diff != "" {
			rt.Fatal(diff)
		}
		if x.Fault != nil {
			return
		}
		for _, l := range x.Labels {
			if len(l.Rules) == 0 {
				rt.Errorf("label %s leads to no rule", l.Name)
			}
			for _, r := range l.Rules {
				if r.Held != want.Allow {
					rt.Errorf("label %s: %+v", l.Name, r)
				}
			}
		}
	})
}

// An explanation stays short, whatever the input and the data hold.
func TestExplainIsBounded(t *testing.T) {
	long := strings.Repeat("x", 50000)
	o := overlay()
	purposes := make([]string, 2000)
	for i := range purposes {
		purposes[i] = fmt.Sprintf("%d%s", i, long[:100])
	}
	datasets := o["catalog"].(map[string]any)["datasets"].(map[string]sallyport.Dataset)
	cohort := datasets["cohort"]
	cohort.Purposes = purposes
	datasets["cohort"] = cohort
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: o})
	a := admission()
	a.Purpose = long
	x := explain(t, e, policy.AdmitDoor, a)
	x.Verdict.Reasons = nil // the bundle's own words
	for i := range x.Labels {
		x.Labels[i].Reason = ""
	}
	if n := len(raw(t, x)); n > 20000 {
		t.Errorf("%d bytes", n)
	}
}

func BenchmarkExplain(b *testing.B) {
	e := engine(b, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	for name, door := range map[string]policy.Door{"admit": policy.AdmitDoor, "release": policy.ReleaseDoor} {
		r := releasing()
		r.Purpose = "marketing"
		var in any = r
		if door == policy.AdmitDoor {
			in = r.Admission
		}
		doc := raw(b, in)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Explain(b.Context(), door, doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
