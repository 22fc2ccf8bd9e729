package policy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/rego"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

func schema(t testing.TB, name string) map[string]any {
	t.Helper()
	src, err := policy.SchemaFS.ReadFile("schema/v1/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(src, &doc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc
}

// TestSchemasAreTheBundles: the bundle carries, for editors and `opa check`,
// what its rules are checked against here.
func TestSchemasAreTheBundles(t *testing.T) {
	ours, err := fs.Glob(policy.SchemaFS, "schema/v1/*.json")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := fs.Glob(policies.FS, "schema/v1/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ours, theirs); d != "" {
		t.Fatal(d)
	}
	for _, name := range ours {
		a, err := fs.ReadFile(policy.SchemaFS, name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("policies/%s is not policy/%s", name, name)
		}
	}
}

// resolve follows $ref within doc.
func resolve(doc, s map[string]any) map[string]any {
	for s["$ref"] != nil {
		s = doc["definitions"].(map[string]any)[path.Base(s["$ref"].(string))].(map[string]any)
	}
	return s
}

// TestSchemasDescribe: every field says what it is, every object is closed, and
// a schema that is a part of another is equal to it.
func TestSchemasDescribe(t *testing.T) {
	names, _ := fs.Glob(policy.SchemaFS, "schema/v1/*.json")
	parts := map[string]map[string]any{}
	for _, whole := range []string{"catalog", "site", "register", "rules"} {
		for name, d := range schema(t, whole)["definitions"].(map[string]any) {
			parts[name] = d.(map[string]any)
		}
	}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".json")
		doc := schema(t, name)
		if doc["title"] == nil || doc["description"] == nil {
			t.Errorf("%s has no title or description", name)
		}
		var walk func(at string, s map[string]any)
		walk = func(at string, s map[string]any) {
			if props, ok := s["properties"].(map[string]any); ok {
				if s["additionalProperties"] != false && !strings.HasSuffix(at, "/if") && !strings.HasSuffix(at, "/then") {
					t.Errorf("%s is not closed", at)
				}
				for k, v := range props {
					p := v.(map[string]any)
					if p["$ref"] == nil && p["description"] == nil && !strings.Contains(at, "/if") && !strings.Contains(at, "/then") {
						t.Errorf("%s.%s has no description", at, k)
					}
					walk(at+"."+k, p)
				}
			}
			for _, k := range []string{"items", "additionalProperties", "if", "then"} {
				if sub, ok := s[k].(map[string]any); ok {
					walk(at+"/"+k, sub)
				}
			}
		}
		walk(name, doc)
		for n, d := range parts {
			walk(n, d)
			if n != name {
				continue
			}
			part := map[string]any{}
			for k, v := range doc {
				if k != "$schema" && k != "definitions" {
					part[k] = v
				}
			}
			if diff := cmp.Diff(d, part); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	larger, smaller := schema(t, "releasing")["properties"].(map[string]any), schema(t, "admission")["properties"].(map[string]any)
	for k, v := range smaller {
		if diff := cmp.Diff(v, larger[k]); diff != "" {
			t.Errorf("%s of the two inputs: %s", k, diff)
		}
	}
}

// TestSchemasAreTheGoTypes: the schemas name exactly the fields, in both
// directions, of what Go gives to the rules and takes from them.
func TestSchemasAreTheGoTypes(t *testing.T) {
	then := schema(t, "verdict_admit")["then"].(map[string]any)["properties"].(map[string]any)
	for name, c := range map[string]struct {
		schema map[string]any
		typ    reflect.Type
	}{
		"admission": {schema(t, "admission"), reflect.TypeFor[policy.Admission]()},
		"releasing": {schema(t, "releasing"), reflect.TypeFor[policy.Releasing]()},
		"dataset":   {schema(t, "dataset"), reflect.TypeFor[sallyport.Dataset]()},
		"limits":    {then["limits"].(map[string]any), reflect.TypeFor[policy.Limits]()},
		"filters":   {then["rows"].(map[string]any), reflect.TypeFor[[]sallyport.RowFilter]()},
	} {
		var compare func(at string, s map[string]any, typ reflect.Type)
		compare = func(at string, s map[string]any, typ reflect.Type) {
			s = resolve(c.schema, s)
			for typ.Kind() == reflect.Pointer {
				typ = typ.Elem()
			}
			want := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer",
				reflect.Float64: "number", reflect.Slice: "array", reflect.Map: "object", reflect.Struct: "object"}[typ.Kind()]
			if typ == reflect.TypeFor[time.Time]() {
				want = "string"
			}
			if typ.Kind() != reflect.Interface && s["type"] != want {
				t.Errorf("%s is %v in the schema, %s in Go", at, s["type"], typ)
				return
			}
			switch {
			case want == "array":
				compare(at+"[]", s["items"].(map[string]any), typ.Elem())
			case typ.Kind() == reflect.Map:
				if sub, ok := s["additionalProperties"].(map[string]any); ok {
					compare(at+"{}", sub, typ.Elem())
				} else if s["additionalProperties"] != true {
					t.Errorf("%s is free in Go, not in the schema", at)
				}
			case want == "object":
				props := s["properties"].(map[string]any)
				seen := map[string]bool{}
				for _, f := range reflect.VisibleFields(typ) {
					name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
					if f.Anonymous || name == "" {
						continue
					}
					seen[name] = true
					if p, ok := props[name].(map[string]any); ok {
						compare(at+"."+name, p, f.Type)
					} else {
						t.Errorf("%s.%s is not in the schema", at, name)
					}
				}
				for name := range props {
					if !seen[name] {
						t.Errorf("%s.%s is in the schema, not in Go", at, name)
					}
				}
			}
		}
		compare(name, c.schema, c.typ)
	}
}

// valid asks OPA's own validator.
func valid(t testing.TB, doc, schema any) bool {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rego.New(rego.Query("json.match_schema(input.doc, input.schema)[0]"),
		rego.Input(map[string]any{"doc": string(text), "schema": schema})).Eval(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatal(rs, err)
	}
	return rs[0].Expressions[0].Value.(bool)
}

func fromJSON(t testing.TB, src []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestDataMeetTheirSchemas: the table that ships, and the data and inputs of
// these tests, are what the schemas say; a slip in one of them is not.
func TestDataMeetTheirSchemas(t *testing.T) {
	table, err := fs.ReadFile(policies.FS, "data.json")
	if err != nil {
		t.Fatal(err)
	}
	rules := fromJSON(t, table).(map[string]any)["rules"].(map[string]any)
	if !valid(t, rules, schema(t, "rules")) {
		t.Error("the default table is not what its schema says")
	}
	o := overlay()
	for _, name := range []string{"catalog", "site", "register"} {
		src, err := json.Marshal(o[name])
		if err != nil {
			t.Fatal(err)
		}
		doc := fromJSON(t, src).(map[string]any)
		if !valid(t, doc, schema(t, name)) {
			t.Errorf("%s is not what its schema says: %s", name, src)
		}
		doc["extra"] = map[string]any{}
		if valid(t, doc, schema(t, name)) {
			t.Errorf("%s with another field passes", name)
		}
	}
	row := rules["classes"].(map[string]any)["public"].(map[string]any)["local"].(map[string]any)
	row["min_clas"] = 3
	if valid(t, rules, schema(t, "rules")) {
		t.Error("a table with a misspelt field passes")
	}
}

// TestVerdictSchemaIsTheDecoder: what the gateway takes for a verdict is what
// the schema says, edit by edit.
func TestVerdictSchemaIsTheDecoder(t *testing.T) {
	admit, release := schema(t, "verdict_admit"), schema(t, "verdict_release")
	agree := func(name, doc string, door2 bool) {
		t.Helper()
		_, err := ask(t, doc, door2)
		s := admit
		if door2 {
			s = release
		}
		if v := valid(t, fromJSON(t, []byte(doc)), s); v != (err == nil) {
			t.Errorf("%s: the schema says %v, the decoder %v", name, v, err)
		}
	}
	// What a schema cannot say.
	beyond := []string{"two filters of one column", "argument beyond numbers"}
	for name, e := range illFormed() {
		if !slices.Contains(beyond, name) {
			agree(name, edit(t, validVerdict, e[0], e[1]), false)
		}
	}
	denial := `{"allow": false, "reasons": ["no"], "rules": ["r"]}`
	for name, doc := range map[string]string{
		"valid": validVerdict, "denial": denial, "denial without reasons": `{"allow": false, "reasons": [], "rules": []}`,
		"denial with more":           edit(t, edit(t, validVerdict, "allow", "false"), "limits", `{"odd": 1}`),
		"denial with a foreign part": edit(t, denial, "mask", "{}"), "denial without rules": edit(t, denial, "rules", ""),
		"no rows": edit(t, validVerdict, "rows", ""), "no masks": edit(t, validVerdict, "masks", "{}"),
		"reviews too many": edit(t, validVerdict, "limits.reviews", "10"), "string": `"allow"`, "list": `[]`, "empty": `{}`,
		"reviews": edit(t, validVerdict, "limits.reviews", "9"), "free": edit(t, validVerdict, "limits.regions", "[]"),
	} {
		agree(name, doc, false)
	}
	for name, doc := range map[string]string{
		"valid": `{"allow": true, "reasons": [], "rules": ["r"]}`, "denial": denial, "door 1's": validVerdict,
		"with reasons": `{"allow": true, "reasons": ["but"], "rules": ["r"]}`, "without rules": `{"allow": true, "reasons": [], "rules": []}`,
		"rules left out": `{"allow": true, "reasons": []}`, "allow as text": `{"allow": "true", "reasons": [], "rules": ["r"]}`,
	} {
		agree("door 2 "+name, doc, true)
	}
}

// shipped is the default bundle without its tests, to be changed.
func shipped(t testing.TB) fstest.MapFS {
	t.Helper()
	names, err := fs.Glob(policies.FS, "sallyport/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, name := range append(names, "data.json") {
		src, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.rego") {
			files[name] = &fstest.MapFile{Data: src}
		}
	}
	return files
}

// TestTyposDoNotCompile: each name that is misspelt in a rule of the default
// bundle, or in a package of an admin's own, is refused with file and line.
func TestTyposDoNotCompile(t *testing.T) {
	own := "package lab\n\n# Rules of a lab's own,\n# without annotations.\n\n"
	control := shipped(t)
	control["lab.rego"] = &fstest.MapFile{Data: []byte(own)}
	if _, err := policy.Load(t.Context(), control); err != nil {
		t.Fatalf("without a typo: %v", err)
	}
	for _, tt := range []struct{ name, file, old, new, want string }{
		{"input", "admit.rego", "input.subject.id in lib.project.members", "input.subject.name in lib.project.members", "undefined ref: input.subject.name"},
		{"a fact at door 1", "admit.rego", "input.purpose in lib.dataset.purposes", "input.facts.risk in lib.dataset.purposes", "undefined ref: input.facts"},
		{"facts", "release.rego", "input.facts.risk.exact == true", "input.facts.risk.exakt == true", "undefined ref: input.facts.risk.exakt"},
		{"combined", "release.rego", "input.facts.combined.exact == true", "input.facts.combined.exakt == true", "undefined ref: input.facts.combined.exakt"},
		{"combined, absent", "release.rego", "not input.facts.combined", "not input.facts.combind", "undefined ref: input.facts.combind"},
		{"an undeclared column", "release.rego", "column.unique_share >= 0", "column.uniqe_share >= 0", "uniqe_share"},
		{"undeclared columns", "release.rego", "is_array(input.facts.undeclared)", "is_array(input.facts.undeclard)", "undefined ref: input.facts.undeclard"},
		{"an earlier release", "release.rego", `not release.destination == "local"`, `not release.destinaton == "local"`, "destinaton"},
		{"row, combined", "release.rego", "row.min_combined == 0", "row.min_combine == 0", "undefined ref: data.sallyport.release.row.min_combine"},
		{"own package, what left before", "lab.rego", own, own + "p if {\n\tsome past in input.history\n\tsome o in past.obligations\n\to.verbs == \"keep\"\n}\n", "verbs"},
		{"admitted", "release.rego", "input.admitted.max_unique", "input.admitted.max_uniq", "undefined ref: input.admitted.max_uniq"},
		{"an element of the history", "admit.rego", `release.destination == "outside"`, `release.destinaton == "outside"`, "destinaton"},
		{"root of the catalog", "lib.rego", "data.catalog.datasets[", "data.catalog.dataset[", "undefined ref: data.catalog.dataset"},
		{"entry", "admit.rego", "input.purpose in lib.dataset.purposes", "input.purpose in lib.dataset.purpose", "undefined ref: data.sallyport.lib.dataset.purpose"},
		{"entry by object.get", "admit_columns.rego", `object.get(lib.dataset, "standard", "")`, `object.get(lib.dataset, "standart", "")`, `no schema has the field "standart"`},
		{"column", "admit_columns.rego", "choices[column.role]", "choices[column.rolle]", "rolle"},
		{"mask by object.get", "admit_columns.rego", `object.get(column.mask, "args", {})`, `object.get(column.mask, "arg", {})`, `no schema has the field "arg"`},
		{"mask by path", "admit_columns.rego", `object.get(column, ["mask", "verb"], "")`, `object.get(column, ["mask", "verbs"], "")`, `no schema has the field "verbs"`},
		{"table of columns", "admit_columns.rego", "some role, choices in table;", "some role, choices in table.leaving;", "undefined ref: data.sallyport.admit.table.leaving"},
		{"column by iteration", "release.rego", `column.role == "quasi"`, `column.rolle == "quasi"`, "rolle"},
		{"site", "lib.rego", "data.site.projects[", "data.site.project[", "undefined ref: data.site.project"},
		{"project", "admit.rego", "some purpose in lib.project.purposes", "some purpose in lib.project.purpose", "undefined ref: data.sallyport.lib.project.purpose"},
		{"project by object.get", "admit_columns.rego", `object.get(lib.project, "rows", {})`, `object.get(lib.project, "row", {})`, `no schema has the field "row"`},
		{"person", "lib.rego", "role in person.roles", "role in person.role", "undefined ref: data.sallyport.lib.person.role"},
		{"register", "lib.rego", "data.register.grants[", "data.register.grant[", "undefined ref: data.register.grant"},
		{"grant", "admit.rego", "input.purpose in lib.grant.purposes", "input.purpose in lib.grant.purpose", "undefined ref: data.sallyport.lib.grant.purpose"},
		{"consent", "admit.rego", `object.get(lib.consent, "withdrawn", false)`, `object.get(lib.consent, "withdrew", false)`, `no schema has the field "withdrew"`},
		{"exception by iteration", "lib.rego", `exception.asked_by != ""`, `exception.askedby != ""`, "askedby"},
		{"exception by object.get", "lib.rego", `object.get(exception, "purpose", input.purpose)`, `object.get(exception, "purposes", input.purpose)`, `no schema has the field "purposes"`},
		{"rules", "approval.rego", "some act in data.rules.two_person", "some act in data.rules.two_persons", "undefined ref: data.rules.two_persons"},
		{"role", "admit.rego", "data.rules.roles[role].may", "data.rules.roles[role].can", "no schema has the field \"can\""},
		{"class", "admit.rego", "lib.class.grant == false", "lib.class.grants == false", "undefined ref: data.sallyport.lib.class.grants"},
		{"row", "release.rego", "row.min_l == 0", "row.min_el == 0", "undefined ref: data.sallyport.release.row.min_el"},
		{"row at door 1", "admit_limits.rego", "at.reviews", "at.review", "undefined ref: at.review"},
		{"job class", "admit.rego", "input.request, \"copies\", 0) <= job.copies", "input.request, \"copies\", 0) <= job.copy", "undefined ref: data.sallyport.admit.job.copy"},
		{"request by object.get", "admit.rego", `object.get(input.request, "runner", "")`, `object.get(input.request, "runer", "")`, `no schema has the field "runer"`},
		{"standard", "admit_columns.rego", "[column.identifier].any == true", "[column.identifier].all == true", `no schema has the field "all"`},
		{"own package, input", "lab.rego", own, own + "p if input.subject.ids\n", "lab.rego:6: undefined ref: input.subject.ids"},
		{"own package, catalog", "lab.rego", own, own + "p if data.catalog.datasets[input.dataset].ownr\n", `lab.rego:6: no schema has the field "ownr"`},
		{"own package, constant key", "lab.rego", own, own + "p if data.catalog.datasets.cohort.location.keys\n", `lab.rego:6: no schema has the field "keys"`},
		{"own package, local variable", "lab.rego", own, own + "p if {\n\td := data.catalog.datasets[input.dataset]\n\td.ownr == \"x\"\n}\n", `lab.rego:8: no schema has the field "ownr"`},
		{"own package, lib", "lab.rego", own, own + "p if data.sallyport.lib.dataset.ownr\n", `lab.rego:6: no schema has the field "ownr"`},
		{"own package, site", "lab.rego", own, own + "p if data.site.projects[input.project].bugdet > 1\n", `lab.rego:6: no schema has the field "bugdet"`},
		{"own package, register", "lab.rego", own, own + "p if data.register.grants[input.dataset][input.project].ends\n", `lab.rego:6: no schema has the field "ends"`},
		{"own package, path", "lab.rego", own, own + "p if object.get(data.sallyport.lib.dataset, [\"location\", \"keys\"], \"\") == \"\"\n", `lab.rego:6: no schema has the field "keys"`},
		{"own package, table", "lab.rego", own, own + "p if data.rules.classes.secret\n", `lab.rego:6: no schema has the field "secret"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := shipped(t)
			file := "sallyport/" + tt.file
			if tt.file == "lab.rego" {
				file = tt.file
				files[file] = &fstest.MapFile{Data: []byte(own)}
			}
			src := string(files[file].Data)
			at := strings.Index(src, tt.old)
			if at < 0 {
				t.Fatalf("%s has no %q", file, tt.old)
			}
			line := 1 + strings.Count(src[:at], "\n")
			files[file] = &fstest.MapFile{Data: []byte(strings.Replace(src, tt.old, tt.new, 1))}
			_, err := policy.Load(t.Context(), files)
			if err == nil {
				t.Fatal("it compiles")
			}
			// The line of the rule, or one of the few that follow in what was put there.
			near := false
			for i := range 10 {
				near = near || strings.Contains(err.Error(), fmt.Sprintf("%s:%d: ", file, line+i))
			}
			if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), tt.want) || !near {
				t.Errorf("%v; want %q in %s near line %d", err, tt.want, file, line)
			}
		})
	}
}

// TestFieldsThatAreThere: what the schemas have compiles in an admin's own
// package, and so do data that no schema describes.
func TestFieldsThatAreThere(t *testing.T) {
	for _, rule := range []string{
		"p if data.catalog.datasets[input.dataset].owner",
		"p if {\n\tsome column in data.catalog.datasets[input.dataset].columns\n\tcolumn.mask.args.width == 10\n}",
		"p if data.site.projects[input.project].rows[input.dataset].ward",
		"p if data.register.exceptions[input.job].approved_by",
		"p if data.rules.classes[data.catalog.datasets[input.dataset].sensitivity][input.destination].min_class > 2",
		"p if input.facts.residual.email > 0",
		"p if input.history[0].obligations[0].args.width == 10",
		"p if {\n\tsome column in input.facts.undeclared\n\tcolumn.estimated\n\tinput.facts.suppressed == 0\n\tinput.facts.report != \"\"\n}",
		"p if data.lab.anything[input.dataset].goes",
		"p if object.get(data.lab, \"anything\", 1) == 1",
		"p if object.get(data.catalog.datasets, input.dataset, {}).owner == \"x\"",
	} {
		files := map[string]string{"lab.rego": "package mine\n\n" + rule + "\n"}
		if _, err := policy.Load(t.Context(), bundle(files)); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
}
