package policy_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"sallyport/policies"
	"sallyport/policy"
)

// TestDefaultBundle runs the Rego tests of the bundle that ships.
func TestDefaultBundle(t *testing.T) {
	results, coverage, err := policy.TestWithCoverage(t.Context(), policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 150 {
		t.Errorf("only %d tests ran", len(results))
	}
	for _, r := range results {
		if !r.Pass {
			t.Errorf("%s:%d: %s.%s: %s %s", r.File, r.Line, r.Package, r.Name, r.Fault, r.Output)
		}
	}
	t.Logf("%d Rego tests, %.1f %% of the rules covered; not covered: %v", len(results), coverage.Percent, coverage.Missing)
	if coverage.Percent < 95 {
		t.Errorf("the tests cover %.1f %% of the rules, want at least 95: %s", coverage.Percent, strings.Join(coverage.Missing, " "))
	}
}

// TestDefaultBundleIsAnnotated wants what a reader and a linter need: every
// package and rule says what it is, and a rule that decides names its label.
func TestDefaultBundleIsAnnotated(t *testing.T) {
	names, err := fs.Glob(policies.FS, "sallyport/*.rego")
	if err != nil || len(names) == 0 {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range names {
		src, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		tidy, err := format.Source(name, src)
		if err != nil {
			t.Fatal(err)
		}
		if string(tidy) != string(src) {
			t.Errorf("%s is not as `opa fmt` writes it", name)
		}
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		m, err := ast.ParseModuleWithOpts(name, string(src), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		// A check is listed in the table, has a rule, and the rule has its label.
		listed := map[string]bool{}
		for _, r := range m.Rules {
			if r.Head.Name != "checks" {
				continue
			}
			for _, k := range r.Head.Value.Value.(ast.Object).Keys() {
				listed[string(k.Value.(ast.String))] = false
			}
		}
		annotated := map[string]bool{}
		for _, r := range m.Rules {
			key := r.Head.Ref().String()
			passed := r.Head.Name == "passed"
			if passed {
				key += "/" + r.Head.Key.String()
			}
			if r.Head.Name == "why" {
				key = "why"
			}
			label := ""
			for _, a := range r.Annotations {
				annotated[key] = annotated[key] || a.Title != "" && a.Description != ""
				if s, ok := a.Labels["rule"].(string); ok {
					label = s
				}
			}
			if !annotated[key] {
				t.Errorf("%s: rule %s has no METADATA with title and description", r.Location, r.Head.Ref())
			}
			if !passed {
				continue
			}
			check := string(r.Head.Key.Value.(ast.String))
			if _, ok := listed[check]; !ok {
				t.Errorf("%s: check %s is not in the table checks, so nobody waits for it", r.Location, check)
			}
			listed[check] = true
			if label != "" && label != check {
				t.Errorf("%s: check %s is labelled %s", r.Location, check, label)
			}
		}
		for check, has := range listed {
			if !has {
				t.Errorf("%s: check %s has no rule and never passes", name, check)
			}
		}
	}
}
