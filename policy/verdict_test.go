package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/policy"
)

const validVerdict = `{"allow": true, "reasons": [], "rules": ["b", "a", "b"], "destination": "outside",
	"masks": {"z": {}, "a": {"generalize": {"width": 10, "names": ["x", {"y": 1.5}]}}, "m": {"drop": {}}},
	"limits": {"key_ttl": 60, "price": 5, "budget": 50, "copies": 2, "regions": ["de"], "min_class": 10, "max_unique": 0.25, "reviews": 0},
	"rows": [{"column": "ward", "in": ["north", "east", "north"]}, {"column": "site", "in": []}]}`

// ask gives the verdict document doc to one of the doors.
func ask(t testing.TB, doc string, release bool) (policy.Verdict, error) {
	t.Helper()
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"data.json": `{"doc": ` + doc + `}`})})
	if release {
		return e.Release(t.Context(), releasing())
	}
	return e.Admit(t.Context(), admission())
}

func TestVerdictBecomesGo(t *testing.T) {
	got, err := ask(t, validVerdict, false)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Verdict{
		Allow: true, Reasons: []string{}, Rules: []string{"a", "b"}, Destination: sallyport.Outside,
		Obligations: []sallyport.Obligation{
			{Column: "a", Verb: "generalize", Args: map[string]any{"width": 10.0, "names": []any{"x", map[string]any{"y": 1.5}}}},
			{Column: "m", Verb: "drop"},
			{Column: "z"},
		},
		Limits: policy.Limits{KeyTTL: 60, Price: 5, Budget: 50, Copies: 2, Regions: []string{"de"}, MinClass: 10, MaxUnique: 0.25},
		Rows:   []sallyport.RowFilter{{Column: "site", In: []string{}}, {Column: "ward", In: []string{"east", "north"}}},
		Policy: got.Policy, Data: got.Data,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCleanDenialIsNoError(t *testing.T) {
	for _, release := range []bool{false, true} {
		v, err := ask(t, `{"allow": false, "reasons": ["too small"], "rules": ["r"]}`, release)
		if err != nil || v.Allow || len(v.Reasons) != 1 || v.Reasons[0] != "too small" || len(v.Rules) != 1 {
			t.Errorf("%+v %v", v, err)
		}
		v, err = ask(t, `{"allow": false, "reasons": [], "rules": []}`, release)
		if err != nil || v.Allow || len(v.Reasons) != 1 {
			t.Errorf("a denial without reasons: %+v %v", v, err)
		}
	}
	v, err := ask(t, strings.Replace(strings.Replace(validVerdict, "true", "false", 1), `"reasons": []`, `"reasons": ["no"]`, 1), false)
	if err != nil || v.Allow || v.Destination != "" || v.Obligations != nil || v.Rows != nil || v.Limits.KeyTTL != 0 {
		t.Errorf("a denial hands on what could be used: %+v %v", v, err)
	}
}

// illFormed are edits of a valid verdict, path to JSON ("" to remove).
func illFormed() map[string][2]string {
	return map[string][2]string{
		"allow as string":            {"allow", `"true"`},
		"allow as number":            {"allow", `1`},
		"allow null":                 {"allow", `null`},
		"allow missing":              {"allow", ``},
		"allow with reasons":         {"reasons", `["but"]`},
		"allow with an empty reason": {"reasons", `[""]`},
		"reasons missing":            {"reasons", ``},
		"reasons as string":          {"reasons", `"none"`},
		"reasons null":               {"reasons", `null`},
		"reasons of numbers":         {"reasons", `[1]`},
		"rules missing":              {"rules", ``},
		"rules empty":                {"rules", `[]`},
		"rules of objects":           {"rules", `[{}]`},
		"extra field":                {"obligations", `[]`},
		"misspelt field":             {"mask", `{}`},
		"field in other case":        {"Allow", `true`},
		"destination missing":        {"destination", ``},
		"destination empty":          {"destination", `""`},
		"destination unknown":        {"destination", `"moon"`},
		"destination as list":        {"destination", `["local"]`},
		"masks missing":              {"masks", ``},
		"masks as list":              {"masks", `[]`},
		"masks null":                 {"masks", `null`},
		"mask null":                  {"masks.z", `null`},
		"mask as string":             {"masks.z", `"keep"`},
		"mask as list":               {"masks.z", `[]`},
		"mask true":                  {"masks.z", `true`},
		"two verbs":                  {"masks.z", `{"drop": {}, "mask": {}}`},
		"keep as verb":               {"masks.z", `{"keep": {}}`},
		"empty verb":                 {"masks.z", `{"": {}}`},
		"verb with capitals":         {"masks.z", `{"Drop": {}}`},
		"verb with spaces":           {"masks.z", `{"drop it": {}}`},
		"verb without arguments":     {"masks.z", `{"drop": null}`},
		"verb with a value":          {"masks.z", `{"replace": "x"}`},
		"argument beyond numbers":    {"masks.z", `{"cap": {"top": [1e999]}}`},
		"column without a name":      {"masks.", `{}`},
		"limits missing":             {"limits", ``},
		"limits as list":             {"limits", `[]`},
		"limits with another field":  {"limits.max_class", `1`},
		"key_ttl missing":            {"limits.key_ttl", ``},
		"key_ttl zero":               {"limits.key_ttl", `0`},
		"key_ttl fraction":           {"limits.key_ttl", `1.5`},
		"key_ttl too large":          {"limits.key_ttl", `99999999999`},
		"price missing":              {"limits.price", ``},
		"price negative":             {"limits.price", `-1`},
		"price as string":            {"limits.price", `"5"`},
		"budget missing":             {"limits.budget", ``},
		"budget too large":           {"limits.budget", `1e30`},
		"copies missing":             {"limits.copies", ``},
		"copies zero":                {"limits.copies", `0`},
		"regions missing":            {"limits.regions", ``},
		"regions null":               {"limits.regions", `null`},
		"regions with an empty one":  {"limits.regions", `[""]`},
		"min_class missing":          {"limits.min_class", ``},
		"min_class negative":         {"limits.min_class", `-1`},
		"max_unique missing":         {"limits.max_unique", ``},
		"max_unique above one":       {"limits.max_unique", `1.01`},
		"max_unique negative":        {"limits.max_unique", `-0.1`},
		"max_unique true":            {"limits.max_unique", `true`},
		"rows null":                  {"rows", `null`},
		"rows as object":             {"rows", `{"ward": ["north"]}`},
		"rows as string":             {"rows", `"ward"`},
		"rows of strings":            {"rows", `["ward"]`},
		"rows of null":               {"rows", `[null]`},
		"row filter without column":  {"rows", `[{"in": ["north"]}]`},
		"row filter of no column":    {"rows", `[{"column": "", "in": ["north"]}]`},
		"row filter of column 1":     {"rows", `[{"column": 1, "in": ["north"]}]`},
		"row filter without in":      {"rows", `[{"column": "ward"}]`},
		"row filter in null":         {"rows", `[{"column": "ward", "in": null}]`},
		"row filter in a string":     {"rows", `[{"column": "ward", "in": "north"}]`},
		"row filter in numbers":      {"rows", `[{"column": "ward", "in": [1]}]`},
		"row filter with more":       {"rows", `[{"column": "ward", "in": ["north"], "not": ["east"]}]`},
		"row filter in other case":   {"rows", `[{"column": "ward", "In": ["north"], "in": []}]`},
		"two filters of one column":  {"rows", `[{"column": "ward", "in": ["north"]}, {"column": "ward", "in": ["east"]}]`},
	}
}

// TestIllFormedVerdictDenies: each of the edits must deny with an error.
func TestIllFormedVerdictDenies(t *testing.T) {
	for name, e := range illFormed() {
		t.Run(name, func(t *testing.T) {
			v, err := ask(t, edit(t, validVerdict, e[0], e[1]), false)
			denied(t, v, err)
		})
	}
	for name, doc := range map[string]string{"string": `"allow"`, "true": `true`, "null": `null`, "list": `[{"allow": true}]`} {
		t.Run("verdict is "+name, func(t *testing.T) {
			v, err := ask(t, doc, false)
			denied(t, v, err)
		})
	}
	t.Run("door 2 with door 1's fields", func(t *testing.T) {
		v, err := ask(t, validVerdict, true)
		denied(t, v, err)
	})
	t.Run("door 2 with reasons", func(t *testing.T) {
		v, err := ask(t, `{"allow": true, "reasons": ["but"], "rules": ["r"]}`, true)
		denied(t, v, err)
	})
}

// TestRowsMayBeLeftOut: no filter and an empty list of them mean the same, and
// a Rego set does as well as an array.
func TestRowsMayBeLeftOut(t *testing.T) {
	for _, rows := range []string{"", "[]"} {
		v, err := ask(t, edit(t, validVerdict, "rows", rows), false)
		if err != nil || !v.Allow || v.Rows != nil {
			t.Errorf("%q: %+v %v", rows, v, err)
		}
	}
	fsys := bundle(map[string]string{"data.json": `{"doc": ` + edit(t, validVerdict, "rows", "") + `}`, "admit.rego": `package sallyport.admit
verdict := object.union(data.doc, {"rows": {{"column": "ward", "in": {"north", "east"}}}})
`})
	v, err := engine(t, policy.Config{Bundle: fsys}).Admit(t.Context(), admission())
	want := []sallyport.RowFilter{{Column: "ward", In: []string{"east", "north"}}}
	if d := cmp.Diff(want, v.Rows); err != nil || d != "" {
		t.Error(err, d)
	}
}

func edit(t testing.TB, doc, path, value string) string {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatal(err)
	}
	at := m
	if head, rest, ok := strings.Cut(path, "."); ok {
		at, path = m[head].(map[string]any), rest
	}
	if value == "" {
		delete(at, path)
	} else {
		at[path] = json.RawMessage(value)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
