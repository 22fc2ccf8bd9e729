package lint_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/lint"
)

// A bundle with nothing to find; each case replaces or adds a file.
var clean = map[string]string{
	"admit.rego": `# METADATA
# title: Door 1
package sallyport.admit

import data.lib

# METADATA
# title: The verdict
# description: Always no.
default verdict := {"allow": false, "reasons": ["no"], "rules": ["none"]}

# METADATA
# title: The other verdict
# description: When lib says so.
verdict := {"allow": false, "reasons": lib.reasons, "rules": ["lib"]} if count(lib.reasons) > 0
`,
	"release.rego": `# METADATA
# title: Door 2
package sallyport.release

# METADATA
# title: The verdict
# description: Always no.
verdict := {"allow": false, "reasons": ["no"], "rules": ["none"]}
`,
	"all_test.rego": `package all_test

import data.sallyport.admit
import data.sallyport.release

test_no if {
	not admit.verdict.allow with input as {}
	not release.verdict.allow
}
`,
}

// lib is the file lib.rego with a rule of the case in it.
func lib(rules string) string {
	return "# METADATA\n# title: Library\npackage lib\n\n" + rules
}

const reasons = "# METADATA\n# title: Reasons\n# description: Why not.\n"

func fsys(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	add := func(files map[string]string) {
		for name, text := range files {
			if text == "" {
				delete(out, name)
				continue
			}
			out[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	add(clean)
	add(map[string]string{"lib.rego": lib(reasons + "reasons contains \"late\" if input.purpose == \"late\"\n")})
	add(files)
	return out
}

func found(t *testing.T, files fstest.MapFS, opts lint.Options) []lint.Finding {
	t.Helper()
	_, list, err := lint.Load(t.Context(), files, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.Text == "" || f.Fix == "" || f.Severity != lint.Error && f.Severity != lint.Warning {
			t.Errorf("a finding without text, fix or severity: %+v", f)
		}
	}
	return list
}

func names(list []lint.Finding) string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s:%d %s", f.File, f.Line, f.Rule))
	}
	return strings.Join(out, ", ")
}

func TestCleanBundle(t *testing.T) {
	if list := found(t, fsys(nil), lint.Options{}); len(list) > 0 {
		t.Errorf("%s", names(list))
	}
}

// body is a lib whose one rule has these conditions, from line 8 on.
func body(conditions string) string {
	return lib(reasons + "reasons contains \"x\" if {\n\t" + strings.ReplaceAll(conditions, "\n", "\n\t") + "\n}\n")
}

const note = "\n# METADATA\n# title: T\n# description: D\n"

// TestRules: what each check finds, and beside it what looks alike and is right.
func TestRules(t *testing.T) {
	rest := reasons + "reasons contains \"x\" if "
	cases := []struct {
		rule, name string
		lib        string
		want       int // line; 0 finds nothing
	}{
		{"unreachable-deny", "bad", lib(rest + "input.purpose == \"a\"\n" + note + "denied if input.purpose == \"b\"\n"), 13},
		{"unreachable-deny", "good", lib(rest + "denied\n" + note + "denied if input.purpose == \"b\"\n"), 0},
		{"unused-rule", "bad", lib(rest + "input.purpose == \"a\"\n" + note + "never if input.purpose == \"b\"\n"), 13},
		{"unused-rule", "entrypoint", lib(rest + "input.purpose == \"a\"\n" + "\n# METADATA\n# title: T\n# description: D\n# entrypoint: true\nasked if input.purpose == \"b\"\n"), 0},
		{"undefined-deny", "bad", lib(rest + "denied\n" + note + "denied if data.register.grants[input.dataset][input.project].until < \"2027\"\n"), 13},
		{"undefined-deny", "under not", lib(rest + "denied\n" + note + "denied if not data.register.grants[input.dataset][input.project].until > \"2027\"\n"), 0},
		{"not-over-error", "bad", body("not to_number(input.purpose) > 3"), 9},
		{"not-over-error", "through a rule", lib(rest + "not late\n" + note + "late if to_number(input.purpose) > 3\n"), 8},
		{"not-over-error", "without not", body("to_number(input.purpose) > 3"), 0},
		{"membership-of-reference", "bad", body(`input.purpose in {"a", input.project}`), 9},
		{"membership-of-reference", "constants", body(`input.purpose in {"a", "b"}`), 0},
		{"missing-default", "bad", lib(rest + "not allow\n" + note + "allow if input.purpose == \"a\"\n"), 13},
		{"missing-default", "good", lib(rest + "not allow\n" + note + "default allow := false\n\nallow if input.purpose == \"a\"\n"), 0},
		{"conflicting-rules", "bad", lib(rest + "side == 1\n" + note + "side := 1 if input.purpose == \"a\"\n\nside := 2 if input.purpose == \"a\"\n"), 15},
		{"conflicting-rules", "exclusive", lib(rest + "side == 1\n" + note + "side := 1 if input.purpose == \"a\"\n\nside := 2 if input.purpose == \"b\"\n"), 0},
		{"conflicting-rules", "else", lib(rest + "side == 1\n" + note + "side := 1 if input.purpose == \"a\"\n\nelse := 2 if input.purpose == \"a\"\n"), 0},
		{"unconditional-with-conditions", "bad", lib(rest + "side == 1\n" + note + "side := 1\n\nside := 2 if input.purpose == \"a\"\n"), 15},
		{"unconditional-with-conditions", "default", lib(rest + "side == 1\n" + note + "default side := 1\n\nside := 2 if input.purpose == \"a\"\n"), 0},
		{"impossible-not", "bad", lib(rest + "not late\n" + note + "late contains input.purpose\n"), 8},
		{"impossible-not", "a key of it", lib(rest + "not late.x\n" + note + "late contains input.purpose\n"), 0},
		{"not-equals-in-loop", "bad", body("input.purpose != input.subject.roles[_]"), 9},
		{"not-equals-in-loop", "good", body("not input.purpose in input.subject.roles"), 0},
		{"constant-condition", "bad", body("1 == 1\ninput.purpose == \"a\""), 9},
		{"constant-condition", "true", body("true\ninput.purpose == \"a\""), 9},
		{"constant-condition", "good", body("input.purpose == \"a\""), 0},
		{"duplicate-rule", "bad", lib(rest + "input.purpose == \"a\"\n\nreasons contains \"x\" if input.purpose == \"a\"\n"), 10},
		{"duplicate-rule", "good", lib(rest + "input.purpose == \"a\"\n\nreasons contains \"x\" if input.purpose == \"b\"\n"), 0},
		{"redundant-existence-check", "bad", body("input.purpose\ninput.purpose == \"a\""), 9},
		{"redundant-existence-check", "another", body("input.project\ninput.purpose == \"a\""), 0},
		{"redundant-existence-check", "before not", body("input.purpose\nnot input.purpose == \"a\""), 0},
		{"unused-output-variable", "bad", body("input.facts.actions[column] == \"keep\""), 9},
		{"unused-output-variable", "used", body("input.facts.actions[column] == \"keep\"\ncolumn in input.facts.cleared"), 0},
		{"sprintf-arguments-mismatch", "bad", body("input.purpose == sprintf(\"%s of %d\", [\"a\"])"), 9},
		{"sprintf-arguments-mismatch", "good", body("input.purpose == sprintf(\"100%% %s\", [\"a\"])"), 0},
		{"rule-shadows-builtin", "bad", lib(rest + "upper\n" + note + "upper if input.purpose == \"a\"\n"), 13},
		{"var-shadows-builtin", "bad", body("max := input.purpose\nmax == \"a\""), 9},
		{"var-shadows-builtin", "good", body("most := input.purpose\nmost == \"a\""), 0},
		{"linear-scan", "bad", body("some person in data.site.people\nperson.roles == []"), 9},
		{"linear-scan", "wildcard", body("data.site.people[_].roles == []"), 9},
		{"linear-scan", "lookup", body("some role in data.site.people[input.subject.id].roles\nrole == \"a\""), 0},
		{"missing-label", "bad", lib(rest + "deny == set()\n" + note + "deny contains \"late\" if input.purpose == \"a\"\n"), 13},
		{"missing-label", "another label", lib(rest + "passed == set()\n\n# METADATA\n# title: T\n# description: D\n# labels: {rule: other}\npassed contains \"late\" if input.purpose == \"a\"\n"), 14},
		{"missing-label", "good", lib(rest + "passed == set()\n\n# METADATA\n# title: T\n# description: D\n# labels: {rule: late}\npassed contains \"late\" if input.purpose == \"a\"\n"), 0},
		{"checks-table", "no rule", lib(rest + "object.keys(checks) == passed\n" + note + "checks := {\"late\": {}, \"early\": {}}\n" + note + "passed contains \"late\" if input.purpose == \"a\"\n"), 13},
		{"checks-table", "not listed", lib(rest + "object.keys(checks) == passed\n" + note + "checks := {\"late\": {}}\n" + note + "passed contains \"late\" if input.purpose == \"a\"\n" + note + "passed contains \"lost\" if input.purpose == \"a\"\n"), 23},
		{"checks-table", "good", lib(rest + "object.keys(checks) == passed\n" + note + "checks := {\"late\": {}}\n" + note + "passed contains \"late\" if input.purpose == \"a\"\n"), 0},
		{"unknown-verb", "bad", lib(rest + "masks == {}\n" + note + "masks[\"age\"] := {\"scramble\": {}} if input.purpose == \"a\"\n"), 13},
		{"unknown-verb", "good", lib(rest + "masks == {}\n" + note + "masks[\"age\"] := {\"drop\": {}} if input.purpose == \"a\"\n"), 0},
		{"missing-annotation", "rule", lib("reasons contains \"x\" if input.purpose == \"a\"\n"), 5},
		{"missing-annotation", "package", "package lib\n\n" + rest + "input.purpose == \"a\"\n", 1},
		{"annotation-without-metadata", "bad", lib("# title: Reasons\nreasons contains \"x\" if input.purpose == \"a\"\n"), 5},
		{"invalid-metadata-attribute", "bad", lib("# METADATA\n# title: Reasons\n# descriptoin: D\nreasons contains \"x\" if input.purpose == \"a\"\n"), 7},
		{"unformatted", "bad", lib(reasons + "reasons contains \"x\" if input.purpose   ==   \"a\"\n"), 8},
	}
	tried := map[string]bool{}
	for _, c := range cases {
		tried[c.rule] = true
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			list := found(t, fsys(map[string]string{"lib.rego": c.lib}), lint.Options{Verbs: []string{"drop"}})
			at := 0
			for _, f := range list {
				if f.Rule == c.rule {
					at = f.Line
					break
				}
			}
			if at != c.want {
				t.Errorf("found at line %d, want %d; all: %s\n%s", at, c.want, names(list), c.lib)
			}
		})
	}
	elsewhere := []string{"untested-package", "test-failed", "coverage", "non-determinism", "syntax", "type", "data", "bundle", "recursion",
		"unknown-field", "undefined-function", "unused-variable", "unsafe-variable", "useless-ignore"}
	for _, r := range lint.Rules() {
		if !tried[r.Name] && !slices.Contains(elsewhere, r.Name) {
			t.Errorf("no case for %s", r.Name)
		}
	}
}

// What cannot be loaded is found, with file and line.
func TestBundlesThatDoNotLoad(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"syntax":          {map[string]string{"lib.rego": "package lib\n\nx := := 1\n"}, "lib.rego:3 syntax"},
		"syntax of tests": {map[string]string{"all_test.rego": "package all_test\n\ntest_x if {\n"}, "all_test.rego:4 syntax"},
		"network":         {map[string]string{"lib.rego": "package lib\n\nx := http.send({})\n"}, "lib.rego:3 non-determinism"},
		"clock":           {map[string]string{"lib.rego": "package lib\n\nx := time.now_ns()\n"}, "lib.rego:3 non-determinism"},
		"chance":          {map[string]string{"lib.rego": "package lib\n\nx := rand.intn(\"a\", 3)\n"}, "lib.rego:3 non-determinism"},
		"no such":         {map[string]string{"lib.rego": "package lib\n\nx := send()\n"}, "lib.rego:3 undefined-function"},
		"recursion":       {map[string]string{"lib.rego": "package lib\n\nx := y\n\ny := x\n"}, "recursion"},
		"typo":            {map[string]string{"lib.rego": "package lib\n\nx if input.purpos == \"a\"\n"}, "lib.rego:3 unknown-field"},
		"unused":          {map[string]string{"lib.rego": "package lib\n\nx if {\n\ty := 1\n}\n"}, "lib.rego:4 unused-variable"},
		"unsafe":          {map[string]string{"lib.rego": "package lib\n\nx := y\n"}, "lib.rego:3 unsafe-variable"},
		"type":            {map[string]string{"lib.rego": "package lib\n\nx if startswith(1, \"a\")\n"}, "lib.rego:3 type"},
		"data":            {map[string]string{"data.json": "{\n\"a\": 1,\n}\n"}, "data.json:3 data"},
		"no door":         {map[string]string{"release.rego": ""}, ":0 bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := names(found(t, fsys(c.files), lint.Options{})); !strings.Contains(got, c.want) {
				t.Errorf("%q does not have %q", got, c.want)
			}
		})
	}
}

func TestIgnore(t *testing.T) {
	scan := "some person in data.site.people\nperson.roles == []"
	for name, c := range map[string]struct{ comment, want string }{
		"with a reason":    {"# sallyport-ignore: linear-scan there are never more than ten\n", ""},
		"without a reason": {"# sallyport-ignore: linear-scan\n", "lib.rego:9 useless-ignore, lib.rego:10 linear-scan"},
		"another rule":     {"# sallyport-ignore: duplicate-rule it is right\n", "lib.rego:9 useless-ignore, lib.rego:10 linear-scan"},
		"no rule":          {"# sallyport-ignore: scans it is right\n", "lib.rego:9 useless-ignore, lib.rego:10 linear-scan"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := names(found(t, fsys(map[string]string{"lib.rego": body(c.comment + scan)}), lint.Options{})); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTestsAndCoverage(t *testing.T) {
	files := fsys(map[string]string{"all_test.rego": "", "lib_test.rego": "package lib_test\n\ntest_wrong if data.lib.reasons == {\"x\"}\n"})
	results, covered, err := policy.TestWithCoverage(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	got := names(found(t, files, lint.Options{Tests: results, Coverage: &covered, MinCoverage: 95}))
	for _, want := range []string{":0 coverage", "lib_test.rego:3 test-failed", "admit.rego:3 untested-package", "release.rego:3 untested-package"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not have %q", got, want)
		}
	}
}

func TestDataScanAndVerbs(t *testing.T) {
	long := strings.TrimSuffix(strings.Repeat(`"x",`, 200), ",")
	files := fsys(map[string]string{
		"data.json": "{\"table\": {\"list\": [" + long + "]},\n\"columns\": {\"quasi\": {\"verbs\": [\"drop\",\n\"scramble\"]}}}",
		"lib.rego":  body("input.purpose in data.table.list"),
	})
	if got := names(found(t, files, lint.Options{Verbs: []string{"drop"}})); got != "data.json:3 unknown-verb, lib.rego:9 linear-scan" {
		t.Error(got)
	}
}

// The bundle that ships has nothing to find.
func TestDefaultBundle(t *testing.T) {
	for _, f := range found(t, fsysOf(t), lint.Options{}) {
		t.Errorf("%s:%d:%d: %s: %s (%s)", f.File, f.Line, f.Col, f.Severity, f.Text, f.Rule)
	}
}

func fsysOf(t *testing.T) fstest.MapFS {
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

func TestFolders(t *testing.T) {
	if _, list, err := lint.Load(t.Context(), fstest.MapFS{}, lint.Options{}); err == nil && len(list) == 0 {
		t.Error("an empty folder is clean")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := policy.Load(t.Context(), fsys(nil))
	if err != nil {
		t.Fatal(err)
	}
	lint.Check(ctx, b, lint.Options{}) // ends
}

// FuzzCheck: no bundle that loads makes the checks panic, and what they find
// lies within the files.
func FuzzCheck(f *testing.F) {
	f.Add("x if input.purpose == \"a\"")
	f.Add("x := {y | some y in data.site.people}\n\n# sallyport-ignore: a\ny contains x if not x")
	f.Add("f(x) := y if {\n\ty := x[_]\n}\n\nf(1) := 2\n\nelse := 3 if true")
	f.Add("p.q[r].s contains t if some r, t in input.facts.actions\n\nchecks := {\"a\": 1}\n\npassed contains \"b\"")
	f.Fuzz(func(t *testing.T, rules string) {
		b, list, err := lint.Load(t.Context(), fsys(map[string]string{"lib.rego": "package lib\n\n" + rules + "\n\nreasons := set()\n"}), lint.Options{Verbs: []string{"drop"}})
		if err != nil {
			return
		}
		for _, f := range list {
			if b == nil || f.File == "" {
				continue
			}
			src, ok := b.File(f.File)
			if n := strings.Count(string(src), "\n") + 2; !ok || f.Line < 0 || f.Line > n {
				t.Errorf("%+v lies in no file", f)
			}
		}
	})
}
