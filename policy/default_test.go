package policy_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"sallyport"
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

// onlyTable is the test file that reads the table in force.
const onlyTable = "sallyport/table_test.rego"

// TestRulesAreTestedWithoutTheTable: no other test reads data.json, so no change
// of the table makes one of them fail.
func TestRulesAreTestedWithoutTheTable(t *testing.T) {
	files := shipped(t)
	for name, f := range filesOf(t) {
		if strings.HasSuffix(name, "_test.rego") && name != onlyTable {
			files[name] = f
		}
	}
	delete(files, "data.json")
	results, coverage, err := policy.TestWithCoverage(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 150 || coverage.Percent < 95 {
		t.Errorf("%d tests cover %.1f %%", len(results), coverage.Percent)
	}
	for _, r := range results {
		if !r.Pass {
			t.Errorf("%s:%d: %s needs data.json", r.File, r.Line, r.Name)
		}
	}
}

// filesOf are all files of the bundle that ships.
func filesOf(t testing.TB) fstest.MapFS {
	t.Helper()
	b, err := policy.Load(t.Context(), policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for _, name := range b.Files() {
		src, _ := b.File(name)
		out[name] = &fstest.MapFile{Data: src}
	}
	return out
}

// shippedTable is data.rules of the bundle that ships, fresh.
func shippedTable(t testing.TB) map[string]any {
	t.Helper()
	src, err := fs.ReadFile(policies.FS, "data.json")
	if err != nil {
		t.Fatal(err)
	}
	return fromJSON(t, src).(map[string]any)["rules"].(map[string]any)
}

// tableTests asks the tests of the table about another table: it names those
// that fail.
func tableTests(t testing.TB) func(table map[string]any) []string {
	t.Helper()
	b, err := policy.Load(t.Context(), policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	modules, tests := map[string]*ast.Module{}, []string{}
	for name, m := range b.Modules() {
		if !strings.HasSuffix(name, "_test.rego") || name == onlyTable {
			modules[name] = m.Copy()
		}
	}
	for _, r := range modules[onlyTable].Rules {
		if name := r.Head.Name.String(); strings.HasPrefix(name, "test_") {
			tests = append(tests, name)
		}
	}
	compiler := ast.NewCompiler()
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	return func(table map[string]any) []string {
		rs, err := rego.New(rego.Query("data.sallyport.table_test"), rego.Compiler(compiler), rego.StrictBuiltinErrors(true),
			rego.Store(inmem.NewFromObject(map[string]any{"rules": table}))).Eval(t.Context())
		if err != nil || len(rs) != 1 {
			return []string{fmt.Sprint(err)}
		}
		held := rs[0].Expressions[0].Value.(map[string]any)
		var out []string
		for _, name := range tests {
			if held[name] != true {
				out = append(out, name)
			}
		}
		return out
	}
}

// removed in the place of a value takes the entry out.
type removed struct{}

// others are values that an admin might want instead of v.
func others(v any) []any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64()
		return []any{f + 1, f - 1, f / 2, f * 2}
	case bool:
		return []any{!v}
	case string:
		return []any{"local", "outside", "lab", "inside", "deny", "tolerate", "job", "look", removed{}}
	case []any:
		out := []any{append(slices.Clone(v), "de"), append(slices.Clone(v), "audit:read"), append(slices.Clone(v), "other.csv")}
		if len(v) > 0 {
			out = append(out, slices.Clone(v[1:]), slices.Clone(v[:len(v)-1]))
		}
		return out
	}
	return nil
}

// put changes one entry of a table, and reports whether that made a difference.
func put(table map[string]any, keys []string, v any) bool {
	for _, k := range keys[:len(keys)-1] {
		next, ok := table[k].(map[string]any)
		if !ok {
			return false
		}
		table = next
	}
	last := keys[len(keys)-1]
	was, there := table[last]
	switch {
	case !there || reflect.DeepEqual(was, v):
		return false
	case v == any(removed{}):
		delete(table, last)
	default:
		table[last] = v
	}
	return true
}

// TestEveryEntryOfTheTableCanBeChanged: for each number, word and list of the
// table there is another value that the schema takes and with which the tests of
// the table pass, alone or together with the same entry of the more, or of the
// less, guarded classes. Exempt is what those tests are there to hold.
func TestEveryEntryOfTheTableCanBeChanged(t *testing.T) {
	held := map[string]string{
		"classes/restricted/outside/may": "restricted data stay inside",
		"classes/restricted/default":     "and so do their jobs",
		"classes/restricted/local/may":   "there they go by default; change that first",
		"classes/confidential/local/may": "as before",
		"classes/internal/outside/may":   "as before",
		"classes/public/outside/may":     "as before",
	}
	classes := []string{"public", "internal", "confidential", "restricted"}
	failing, rules := tableTests(t), schema(t, "rules")
	if bad := failing(shippedTable(t)); len(bad) > 0 {
		t.Fatalf("the table that ships fails %v", bad)
	}
	entries := 0
	changeable := func(keys []string, v any) (bool, []string) {
		var why []string
		for _, other := range others(v) {
			places := [][]string{{""}}
			if i := slices.Index(classes, keys[min(1, len(keys)-1)]); i >= 0 {
				places = [][]string{classes[i : i+1], classes[i:], classes[:i+1]}
			}
			for _, place := range places {
				table := shippedTable(t)
				columns := table["columns"].(map[string]any)
				columns["lab"] = columns["leaving"]
				changed := false
				for _, class := range place {
					there := slices.Clone(keys)
					if class != "" {
						there[1] = class
					}
					if put(table, there, other) && slices.Equal(there, keys) {
						changed = true
					}
				}
				src, err := json.Marshal(table)
				if err != nil {
					t.Fatal(err)
				}
				table = fromJSON(t, src).(map[string]any)
				if !changed || !valid(t, table, rules) {
					continue
				}
				bad := failing(table)
				if len(bad) == 0 {
					return true, []string{fmt.Sprint(other, place)}
				}
				why = append(why, fmt.Sprintf("%v: %v", other, bad))
			}
		}
		return false, why
	}
	var walk func(keys []string, v any)
	walk = func(keys []string, v any) {
		if m, ok := v.(map[string]any); ok {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				walk(append(slices.Clone(keys), k), m[k])
			}
			return
		}
		entries++
		name := strings.Join(keys, "/")
		ok, why := changeable(keys, v)
		switch {
		case !ok && held[name] == "":
			t.Errorf("%s cannot be changed: %v", name, why)
		case ok && held[name] != "":
			t.Errorf("%s can be changed, though %s: %v", name, held[name], why)
		}
	}
	walk(nil, shippedTable(t))
	if entries < 150 {
		t.Errorf("only %d entries", entries)
	}
}

// TestTheTableIsHeld: each test of the table fails when what its name says is broken.
func TestTheTableIsHeld(t *testing.T) {
	failing := tableTests(t)
	broken := map[string]bool{}
	for name, c := range map[string]struct {
		key   string
		value any
		test  string
	}{
		"a class less":                 {"classes/internal", removed{}, "test_every_class_has_both_rows"},
		"a class more":                 {"classes/secret", map[string]any{}, "test_every_class_has_both_rows"},
		"grant left out":               {"classes/public/grant", removed{}, "test_every_class_has_both_rows"},
		"a field left out":             {"classes/public/outside/max_t", removed{}, "test_every_row_has_every_field"},
		"a field too much":             {"classes/public/outside/max_q", 1, "test_every_row_has_every_field"},
		"a share above one":            {"classes/public/local/max_unique", 2, "test_numbers_are_within_their_bounds"},
		"text for a number":            {"classes/public/local/min_class", "9", "test_numbers_are_within_their_bounds"},
		"ten reviewers":                {"classes/confidential/outside/reviews", 10, "test_numbers_are_within_their_bounds"},
		"another word for residual":    {"classes/public/local/residual/*", "allow", "test_numbers_are_within_their_bounds"},
		"restricted goes out":          {"classes/restricted/outside/may", true, "test_restricted_data_stay_inside"},
		"default where it may not":     {"classes/restricted/default", "outside", "test_jobs_go_by_default_where_they_may"},
		"k below a lower class":        {"classes/confidential/outside/min_class", 4, "test_no_class_is_looser_outside_than_a_less_guarded_one"},
		"combined below a lower class": {"classes/confidential/outside/min_combined", 4, "test_no_class_is_looser_outside_than_a_less_guarded_one"},
		"undeclared above a lower one": {"classes/confidential/outside/max_undeclared", 0.9, "test_no_class_is_looser_outside_than_a_less_guarded_one"},
		"a share below nothing":        {"classes/confidential/outside/max_undeclared", -1, "test_numbers_are_within_their_bounds"},
		"a combined class below none":  {"classes/public/local/min_combined", -1, "test_numbers_are_within_their_bounds"},
		"combined left out":            {"classes/public/outside/min_combined", removed{}, "test_every_row_has_every_field"},
		"unique above a lower class":   {"classes/confidential/outside/max_unique", 0.1, "test_no_class_is_looser_outside_than_a_less_guarded_one"},
		"residual above a lower class": {"classes/confidential/outside/residual/email", "tolerate", "test_no_class_is_looser_outside_than_a_less_guarded_one"},
		"a table that is not there":    {"classes/public/outside/columns", "lab", "test_rows_name_tables_of_columns"},
		"a misspelt verb":              {"columns/leaving/direct/pseudonim", "apply", "test_tables_of_columns_say_what_the_gateway_can_do"},
		"a role that is not there":     {"columns/leaving/indirect", map[string]any{}, "test_tables_of_columns_say_what_the_gateway_can_do"},
		"a pseudonym kept":             {"columns/leaving/direct/pseudonym", "keep", "test_tables_of_columns_say_what_the_gateway_can_do"},
		"nothing applied":              {"columns/leaving/sensitive/", "apply", "test_tables_of_columns_say_what_the_gateway_can_do"},
		"direct kept":                  {"columns/inside/direct/keep", "keep", "test_direct_identifiers_never_stay_as_they_are"},
		"quasi outside as it is":       {"columns/leaving/quasi/", "keep", "test_quasi_identifiers_go_outside_only_treated_or_on_the_stewards_word"},
		"outside by the inner table":   {"classes/public/outside/columns", "inside", "test_quasi_identifiers_go_outside_only_treated_or_on_the_stewards_word"},
		"a standard's misspelt verb":   {"standards/safe_harbor/date/verbs/dates", map[string]any{}, "test_standards_say_what_the_gateway_can_do"},
		"a standard's misspelt bound":  {"standards/safe_harbor/age/verbs/cap/top/most", 3, "test_standards_say_what_the_gateway_can_do"},
		"a category less":              {"standards/safe_harbor/fax", removed{}, "test_safe_harbor_has_every_category"},
		"a category let go":            {"standards/safe_harbor/fax/any", true, "test_safe_harbor_has_every_category"},
		"an act that is none":          {"roles/steward/may", []any{"dataset:edti"}, "test_roles_do_what_there_is"},
		"nobody edits":                 {"roles/admin/may", []any{}, "test_nobody_is_locked_out"},
		"edits and approves":           {"roles/admin/may", []any{"policy:edit", "policy:approve"}, "test_no_role_edits_and_approves"},
		"asks and approves":            {"roles/steward/may", []any{"register:edit", "exception:approve"}, "test_no_role_edits_and_approves"},
		"two people for what is none":  {"two_person", []any{"policy.publsh"}, "test_two_person_acts_are_what_there_is"},
		"an unknown jurisdiction":      {"classes/public/jurisdictions", []any{"eae"}, "test_classes_name_jurisdictions"},
		"a group without itself":       {"jurisdictions/adequate", []any{"ch"}, "test_groups_list_themselves_and_what_is_in_them"},
		"a group within, in part":      {"jurisdictions/adequate", []any{"adequate", "eu"}, "test_groups_list_themselves_and_what_is_in_them"},
		"a job class that is none":     {"jobs/algorithms/view", "loko", "test_algorithms_have_classes"},
		"a side without runners":       {"jobs/classes/look/destinations", []any{"outside"}, "test_jobs_say_where_and_as_what"},
		"native outside":               {"jobs/classes/job/runners/outside", []any{"native"}, "test_native_code_stays_inside"},
		"a check that is none":         {"exceptions/waivable", []any{"admit.gant"}, "test_waivable_checks_exist"},
		"anybody by exception":         {"exceptions/waivable", []any{"admit.member"}, "test_no_exception_waives_who_or_whether"},
		"one person stands alone":      {"exceptions/min_class", 1, "test_an_exception_never_lets_one_person_stand_alone"},
	} {
		table := shippedTable(t)
		keys := strings.Split(c.key, "/")
		m := table
		for _, k := range keys[:len(keys)-1] {
			m = m[k].(map[string]any)
		}
		if m[keys[len(keys)-1]] = c.value; c.value == any(removed{}) {
			delete(m, keys[len(keys)-1])
		}
		if bad := failing(table); !slices.Contains(bad, c.test) {
			t.Errorf("%s: %s passes, these fail: %v", name, c.test, bad)
		}
		broken[c.test] = true
	}
	for _, test := range failing(map[string]any{}) {
		if !broken[test] {
			t.Errorf("%s was never seen to fail", test)
		}
	}
}

// TestShippedJurisdictions: the groups that ship are the 27 countries of the EU
// and, with Iceland, Liechtenstein and Norway, the 30 of the EEA.
func TestShippedJurisdictions(t *testing.T) {
	groups := shippedTable(t)["jurisdictions"].(map[string]any)
	for group, want := range map[string]int{"eu": 27, "eea": 30} {
		n := 0
		for _, region := range groups[group].([]any) {
			if len(region.(string)) == 2 && region != "eu" {
				n++
			}
		}
		if n != want {
			t.Errorf("%s has %d countries, want %d", group, n, want)
		}
	}
}

// TestColumnNamedTwice: two columns of one name that are not treated alike are
// no verdict, and so a denial, on either side and in either order.
func TestColumnNamedTwice(t *testing.T) {
	mask := func(verb string, width int) *sallyport.Mask {
		return &sallyport.Mask{Verb: verb, Args: map[string]any{"width": width}}
	}
	for name, c := range map[string]struct {
		first, second  sallyport.Column
		local, outside bool // whether there is a verdict
	}{
		"alike":          {sallyport.Column{Role: sallyport.Sensitive}, sallyport.Column{Role: sallyport.Insensitive}, true, true},
		"masked and raw": {sallyport.Column{Role: sallyport.Direct, Mask: mask("pseudonym", 0)}, sallyport.Column{Role: sallyport.Insensitive}, false, false},
		"two masks":      {sallyport.Column{Role: sallyport.Quasi, Mask: mask("generalize", 5)}, sallyport.Column{Role: sallyport.Quasi, Mask: mask("generalize", 9)}, true, false},
		"mask and keep":  {sallyport.Column{Role: sallyport.Quasi, Mask: mask("generalize", 5)}, sallyport.Column{Role: sallyport.Quasi, Mask: mask("keep", 0)}, true, false},
		"two verbs":      {sallyport.Column{Role: sallyport.Direct, Mask: mask("pseudonym", 0)}, sallyport.Column{Role: sallyport.Direct, Mask: mask("drop", 0)}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, swapped := range []bool{false, true} {
				o := overlay()
				sets := o["catalog"].(map[string]any)["datasets"].(map[string]sallyport.Dataset)
				d := sets["cohort"]
				c.first.Name, c.second.Name = "x", "x"
				d.Columns = append(columns(), c.first, c.second)
				if swapped {
					d.Columns = append(columns(), c.second, c.first)
				}
				sets["cohort"] = d
				e := engine(t, policy.Config{Bundle: policies.FS, Overlay: o})
				for where, want := range map[sallyport.Destination]bool{sallyport.Local: c.local, sallyport.Outside: c.outside} {
					in := admission()
					in.Request.Where = where
					if v, err := e.Admit(t.Context(), in); v.Allow != want {
						t.Errorf("%s, swapped %v: allow is %v, want %v: %v %v", where, swapped, v.Allow, want, v.Reasons, err)
					}
				}
			}
		})
	}
}

// TestNonsenseInTheTableKeepsNothing: a table of columns that says what it must
// not, past its tests, still lets no value through that no entry accepts.
func TestNonsenseInTheTableKeepsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		key   string
		value any
	}{
		"apply what is not proposed":  {"columns/leaving/direct/", "apply"},
		"apply whatever is proposed":  {"columns/leaving/direct/*", "apply"},
		"another word":                {"columns/leaving/direct/", "raw"},
		"true":                        {"columns/leaving/direct/", true},
		"null":                        {"columns/leaving/direct/", nil},
		"whatever in another word":    {"columns/leaving/direct/*", "raw"},
		"a list for a role":           {"columns/leaving/direct", []any{"", "keep", "pseudonym"}},
		"a word for a role":           {"columns/leaving/direct", "keep"},
		"apply the verb keep":         {"columns/leaving/quasi/keep", "apply"},
		"nothing for a table":         {"columns/leaving", map[string]any{}},
		"null for a table":            {"columns/leaving", nil},
		"a list for all tables":       {"columns", []any{}},
		"keep for a role, misspelt":   {"columns/leaving/direct/Keep", "keep"},
		"a role without a table left": {"columns/leaving/direct", removed{}},
	} {
		t.Run(name, func(t *testing.T) {
			table := shippedTable(t)
			keys := strings.Split(c.key, "/")
			m := table
			for _, k := range keys[:len(keys)-1] {
				m = m[k].(map[string]any)
			}
			if m[keys[len(keys)-1]] = c.value; c.value == any(removed{}) {
				delete(m, keys[len(keys)-1])
			}
			src, err := json.Marshal(map[string]any{"rules": table})
			if err != nil {
				t.Fatal(err)
			}
			files := shipped(t)
			files["data.json"] = &fstest.MapFile{Data: src}
			e := engine(t, policy.Config{Bundle: files, Overlay: overlay()})
			in := admission()
			in.Request.Where = sallyport.Outside
			v, err := e.Admit(t.Context(), in)
			for _, o := range v.Obligations {
				if o.Column == "patient" && o.Verb != "pseudonym" || o.Column == "name" || o.Column == "town" {
					t.Errorf("%s leaves with %q (%v)", o.Column, o.Verb, err)
				}
			}
		})
	}
}
