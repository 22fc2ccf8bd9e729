package policy_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

// A bundle whose verdicts are what its data say, to try ill-formed ones.
const (
	echoAdmit   = "package sallyport.admit\nverdict := data.doc\n"
	echoRelease = "package sallyport.release\nverdict := data.doc\n"
)

func bundle(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{
		"admit.rego":   {Data: []byte(echoAdmit)},
		"release.rego": {Data: []byte(echoRelease)},
	}
	for name, text := range files {
		if text == "" {
			delete(out, name)
			continue
		}
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func engine(t testing.TB, cfg policy.Config) *policy.Engine {
	t.Helper()
	e, err := policy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func admission() policy.Admission {
	return policy.Admission{
		Version: policy.InputVersion,
		Time:    time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		Job:     "j1",
		Subject: policy.Subject{ID: "ada", Roles: []string{"researcher"}, Projects: []string{"lungs"}, Credential: "test"},
		Project: "lungs",
		Purpose: "research",
		Dataset: "cohort",
		Request: policy.Request{Algorithm: "features", Runner: "wasm", Module: sallyport.DigestOf(nil)},
	}
}

// denied fails the test unless v is a denial with plain words and err is the
// engine's refusal to call that an answer of policy.
func denied(t *testing.T, v policy.Verdict, err error) {
	t.Helper()
	if v.Allow || len(v.Obligations) > 0 || v.Destination != "" {
		t.Errorf("something is allowed: %+v", v)
	}
	if len(v.Reasons) == 0 || strings.ContainsAny(v.Reasons[0], "{}:\n") {
		t.Errorf("the reasons are not plain words: %q", v.Reasons)
	}
	if v.Policy == "" || v.Data == "" {
		t.Errorf("the denial does not say which rules and data: %+v", v)
	}
	if err == nil {
		t.Fatal("no error")
	}
	if sallyport.KindOf(err) != sallyport.Denied || sallyport.HintOf(err) == "" {
		t.Errorf("error %v has kind %q and hint %q", err, sallyport.KindOf(err), sallyport.HintOf(err))
	}
}

// TestBrokenRulesDeny closes the ways in which an evaluation that went wrong
// could be taken for a yes.
func TestBrokenRulesDeny(t *testing.T) {
	const yes = `{"allow": true, "reasons": [], "rules": ["r"], "destination": "local", "masks": {},
		"limits": {"key_ttl": 1, "price": 0, "budget": 0, "copies": 1, "regions": [], "min_class": 0, "max_unique": 0, "reviews": 0}}`
	cases := map[string]struct{ rules, want string }{
		"error of a built-in under not": {"verdict := " + yes + " if not bad\nbad if to_number(input.purpose) > 3", "to_number"},
		"error of a built-in":           {"verdict := " + yes + " if json.unmarshal(input.purpose)", "json.unmarshal"},
		"division by zero":              {"verdict := " + yes + " if not 1 / (input.version - 1) == 2", "divide by zero"},
		"undefined":                     {"verdict := " + yes + ` if input.purpose == "never"`, "undefined"},
		"conflict":                      {"verdict := " + yes + " if input.purpose\nverdict := {\"allow\": false} if input.job", "conflict"},
		"conflict of a function":        {"verdict := " + yes + " if f(1)\nf(x) := true if x > 0\nf(x) := false if x < 2", "conflict"},
		"conflict in an object":         {"verdict := " + yes + " if m.a\nm[\"a\"] := 1 if input.job\nm[\"a\"] := 2 if input.job", "conflict"},
		"several values":                {"verdict contains " + yes, "not an object"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": "package sallyport.admit\n" + c.rules + "\n"})})
			v, err := e.Admit(t.Context(), admission())
			denied(t, v, err)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
	// The control: the same document without the fault is a yes.
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": "package sallyport.admit\nverdict := " + yes + "\n"})})
	if v, err := e.Admit(t.Context(), admission()); err != nil || !v.Allow {
		t.Errorf("%+v %v", v, err)
	}
}

// TestImpureFunctionsDoNotExist: what reads the network, the clock, a random
// source or the process is refused when the bundle is loaded.
func TestImpureFunctionsDoNotExist(t *testing.T) {
	for _, call := range []string{
		`http.send({"method": "get", "url": "http://127.0.0.1"})`, `time.now_ns()`, `opa.runtime()`,
		`net.lookup_ip_addr("localhost")`, `rand.intn("x", 10)`, `uuid.rfc4122("x")`, `trace("x")`,
		`io.jwt.decode_verify("a.b.c", {})`, `io.jwt.encode_sign({}, {}, {})`, `io.jwt.encode_sign_raw("", "", "")`,
		`json.match_schema({}, {"$ref": "http://127.0.0.1/x.json"})`, `json.verify_schema({})`,
		`crypto.x509.parse_and_verify_certificates("")`, `crypto.x509.parse_and_verify_certificates_with_options("", {})`,
	} {
		name, _, _ := strings.Cut(call, "(")
		t.Run(name, func(t *testing.T) {
			_, err := policy.New(t.Context(), policy.Config{Bundle: bundle(map[string]string{"lib/x.rego": "package lib\n\nx := " + call + "\n"})})
			wantError(t, err, "lib/x.rego:3:", "undefined function "+name)
		})
	}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("%v is of kind %q", err, sallyport.KindOf(err))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// endless would take days.
const endless = `package sallyport.admit
verdict := {"allow": false, "reasons": [], "rules": []} if {
	n := numbers.range(1, 5000)
	{a | some a in n; some b in n; some c in n; a + b + c == -1} == set()
}
`

func TestEndlessRuleMeetsTheDeadline(t *testing.T) {
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": endless}), Deadline: 5 * time.Millisecond})
	v, err := e.Admit(t.Context(), admission())
	denied(t, v, err)
	if !strings.Contains(err.Error(), "no answer within 5ms") || !strings.Contains(v.Reasons[0], "in time") {
		t.Errorf("%v %v", v.Reasons, err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"admit.rego": endless}), Deadline: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v, err := e.Admit(ctx, admission())
	denied(t, v, err)
}

type panicking struct{ context.Context }

func (panicking) Value(any) any { panic("boom") }

func TestPanicDenies(t *testing.T) {
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"data.json": `{"doc": {}}`})})
	v, err := e.Admit(panicking{t.Context()}, admission())
	denied(t, v, err)
	if !strings.Contains(err.Error(), "panicked") {
		t.Error(err)
	}
}

func TestBadInputDenies(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay(), MaxInput: 4096})
	cases := map[string]func(*policy.Releasing){
		"version":      func(r *policy.Releasing) { r.Version = 2 },
		"time":         func(r *policy.Releasing) { r.Time = time.Time{} },
		"not a number": func(r *policy.Releasing) { r.Facts.Risk.Unique = math.NaN() },
		"too large":    func(r *policy.Releasing) { r.History = make([]sallyport.Release, 100) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			r := releasing()
			spoil(&r)
			v, err := e.Release(t.Context(), r)
			denied(t, v, err)
		})
	}
	if v, err := e.Release(t.Context(), releasing()); err != nil || !v.Allow {
		t.Errorf("the unspoilt input: %+v %v", v, err)
	}
}

// TestRequestBoundsTheVerdict: also a bundle that forgets it cannot widen.
func TestRequestBoundsTheVerdict(t *testing.T) {
	e := engine(t, policy.Config{Bundle: bundle(map[string]string{"data.json": `{"doc": ` + validVerdict + `}`})})
	for name, r := range map[string]policy.Request{
		"where":  {Where: sallyport.Local},
		"price":  {MaxPrice: 4},
		"copies": {Copies: 3},
	} {
		t.Run(name, func(t *testing.T) {
			in := admission()
			in.Request = r
			v, err := e.Admit(t.Context(), in)
			denied(t, v, err)
		})
	}
	in := admission()
	in.Request = policy.Request{Where: sallyport.Outside, MaxPrice: 5, Copies: 2}
	if v, err := e.Admit(t.Context(), in); err != nil || !v.Allow {
		t.Errorf("%+v %v", v, err)
	}
}

func TestBadBundles(t *testing.T) {
	cases := map[string]struct {
		files map[string]string
		want  string
	}{
		"no rules":                 {map[string]string{"admit.rego": "", "release.rego": ""}, "no .rego file"},
		"no admit":                 {map[string]string{"admit.rego": ""}, "data.sallyport.admit.verdict"},
		"no release":               {map[string]string{"release.rego": ""}, "data.sallyport.release.verdict"},
		"syntax":                   {map[string]string{"a/b.rego": "package a\n\nx := := 1\n"}, "a/b.rego:3: "},
		"old Rego":                 {map[string]string{"a/b.rego": "package a\n\nx { true }\n"}, "a/b.rego:3: "},
		"unknown name":             {map[string]string{"a/b.rego": "package a\n\nx := y\n"}, "a/b.rego:3: var y is unsafe"},
		"unused name":              {map[string]string{"a/b.rego": "package a\n\nx if {\n\ty := 1\n}\n"}, "a/b.rego:4: assigned var y unused"},
		"misspelt input":           {map[string]string{"a/b.rego": "package a\n\nx if not input.requst.where\n"}, "a/b.rego:3: undefined ref: input.requst"},
		"misspelt fact":            {map[string]string{"a/b.rego": "package a\n\nx if input.facts.risk.unique > 0\n"}, "a/b.rego:3: undefined ref: input.facts.risk.unique"},
		"type":                     {map[string]string{"a/b.rego": "package a\n\nx if startswith(input.request.copies, \"1\")\n"}, "a/b.rego:3: startswith: invalid argument"},
		"recursion":                {map[string]string{"a/b.rego": "package a\n\nx := y\ny := x\n"}, "a/b.rego:3: "},
		"data syntax":              {map[string]string{"data.json": "{\n\"a\": 1,\n}\n"}, "data.json:3: "},
		"data cut short":           {map[string]string{"data.json": "{\n\"a\": [1,\n"}, "data.json:3: the file ends"},
		"data twice":               {map[string]string{"data.json": "{\n\"a\": 1,\n\"a\": 2}\n"}, `data.json:3: key "a" is given twice`},
		"data and more":            {map[string]string{"data.json": "{}\n{}"}, "data.json:2: there is more"},
		"data no object":           {map[string]string{"data.json": "[]"}, "data.json:1: "},
		"data in YAML":             {map[string]string{"data.yaml": "a: 1"}, "data.yaml"},
		"data in two files":        {map[string]string{"data.json": `{"a": {"b": 1}}`, "a/data.json": `{"b": 2}`}, "data.a.b is defined a second time"},
		"data over a rule":         {map[string]string{"data.json": `{"sallyport": {"admit": {"verdict": {"allow": true}}}}`}, "conflict"},
		"data over a rule, nested": {map[string]string{"sallyport/admit/data.json": `{"verdict": {"allow": true}}`}, "conflict"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := policy.New(t.Context(), policy.Config{Bundle: bundle(c.files)})
			wantError(t, err, c.want)
		})
	}
	t.Run("none", func(t *testing.T) {
		_, err := policy.New(t.Context(), policy.Config{})
		wantError(t, err, "no bundle")
	})
	t.Run("blank file", func(t *testing.T) {
		fsys := bundle(nil)
		fsys["blank.rego"] = &fstest.MapFile{}
		_, err := policy.New(t.Context(), policy.Config{Bundle: fsys})
		wantError(t, err, "blank.rego:")
	})
	t.Run("negative deadline", func(t *testing.T) {
		_, err := policy.New(t.Context(), policy.Config{Bundle: policies.FS, Deadline: -1})
		wantError(t, err, "negative")
	})
}

// A slip in a test must not close the gateway; running the tests reports it.
func TestBrokenTestIsNoBrokenRule(t *testing.T) {
	fsys := bundle(map[string]string{"x_test.rego": "package x\n\ntest_a if {\n"})
	engine(t, policy.Config{Bundle: fsys})
	_, err := policy.Test(t.Context(), fsys)
	wantError(t, err, "x_test.rego:4")
}

func TestTestReportsFailures(t *testing.T) {
	fsys := bundle(map[string]string{
		"lib.rego": "package lib\n\nf(x) := 1 if x > 0\n\nf(x) := 2 if x < 0\n",
		"x_test.rego": `package x_test

test_right if data.lib.f(1) == 1

test_wrong if data.lib.f(1) == 2

test_raises if to_number("x") == 1

todo_test_later if false
`})
	results, coverage, err := policy.TestWithCoverage(t.Context(), fsys)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprint(r.Line, r.Name, r.Pass, r.Skip))
	}
	want := "3 test_right true false,5 test_wrong false false,7 test_raises false false,9 todo_test_later false true"
	if s := strings.Join(got, ","); strings.ReplaceAll(s, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if coverage.Percent >= 100 || !strings.Contains(strings.Join(coverage.Missing, " "), "lib.rego:5") {
		t.Errorf("%+v", coverage)
	}
}

func TestSetOverlayKeepsTheOldOnError(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	rules, data := e.Digests()
	for name, bad := range map[string]map[string]any{
		"root of the bundle":   {"rules": map[string]any{}},
		"root of the rules":    {"sallyport": map[string]any{"admit": map[string]any{"verdict": map[string]any{"allow": true}}}},
		"no JSON":              {"catalog": func() {}},
		"not a number":         {"catalog": math.Inf(1)},
		"root that is no name": {"a/b": 1},
		"root without a name":  {"": 1},
	} {
		t.Run(name, func(t *testing.T) {
			err := e.SetOverlay(t.Context(), bad)
			wantError(t, err)
			if sallyport.HintOf(err) == "" {
				t.Error("no hint")
			}
		})
	}
	if r, d := e.Digests(); r != rules || d != data {
		t.Error("the digests changed")
	}
	if v, err := e.Admit(t.Context(), admission()); err != nil || !v.Allow {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := policy.New(t.Context(), policy.Config{Bundle: policies.FS, Overlay: map[string]any{"rules": 1}}); err == nil {
		t.Error("New took an overlay over the bundle's data")
	}
}

// What the caller does with its maps later is none of the engine's business.
func TestSetOverlayCopies(t *testing.T) {
	o := overlay()
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: o})
	clear(o["site"].(map[string]any)["projects"].(map[string]any))
	if v, err := e.Admit(t.Context(), admission()); err != nil || !v.Allow {
		t.Errorf("%+v %v", v, err)
	}
}

func TestDigests(t *testing.T) {
	digests := func(files map[string]string, overlay map[string]any) string {
		p, d := engine(t, policy.Config{Bundle: bundle(files), Overlay: overlay}).Digests()
		return string(p) + " " + string(d)
	}
	base := digests(map[string]string{"data.json": `{"a": 1, "b": {"c": 2}}`}, nil)
	same := map[string]string{
		"key order and space":  digests(map[string]string{"data.json": "{\"b\":{\"c\":2},\n\t\"a\":1}"}, nil),
		"where data come from": digests(map[string]string{"data.json": `{"a": 1}`, "b/data.json": `{"c": 2}`}, nil),
		"overlay":              digests(map[string]string{"data.json": `{"a": 1}`}, map[string]any{"b": map[string]int{"c": 2}}),
		"other files":          digests(map[string]string{"data.json": `{"a": 1, "b": {"c": 2}}`, "README.md": "x"}, nil),
	}
	for name, d := range same {
		if d != base {
			t.Errorf("%s: digests differ", name)
		}
	}
	const data = `{"a": 1, "b": {"c": 2}}`
	p, d, _ := strings.Cut(base, " ")
	for name, c := range map[string]struct {
		files         map[string]string
		rules, values bool // what is to differ
	}{
		"value":   {map[string]string{"data.json": `{"a": 1, "b": {"c": 3}}`}, false, true},
		"comment": {map[string]string{"data.json": data, "admit.rego": echoAdmit + "# x\n"}, true, false},
		"name":    {map[string]string{"data.json": data, "admit.rego": "", "admin.rego": echoAdmit}, true, false},
		"test":    {map[string]string{"data.json": data, "x_test.rego": "package x_test\n"}, true, false},
	} {
		p2, d2, _ := strings.Cut(digests(c.files, nil), " ")
		if (p2 != p) != c.rules || (d2 != d) != c.values {
			t.Errorf("%s: rules differ %v, data differ %v", name, p2 != p, d2 != d)
		}
	}
}

// TestAdmitWhileTheOverlayChanges: every verdict belongs to the data it names.
func TestAdmitWhileTheOverlayChanges(t *testing.T) {
	open, closed := overlay(), overlay()
	closed["site"].(map[string]any)["projects"] = map[string]any{}
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: closed, Deadline: time.Minute})
	_, no := e.Digests()
	if err := e.SetOverlay(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	_, yes := e.Digests()
	if yes == no {
		t.Fatal("the digests do not differ")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		for i := range 50 {
			if err := e.SetOverlay(t.Context(), []map[string]any{open, closed}[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		wg.Go(func() {
			for {
				v, err := e.Admit(t.Context(), admission())
				if err != nil || v.Allow != (v.Data == yes) || !v.Allow != (v.Data == no) {
					t.Errorf("allow %v on data %v: %v", v.Allow, v.Data.Short(), err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAdmit(b *testing.B) {
	o := overlay()
	sets := o["catalog"].(map[string]any)["datasets"].(map[string]sallyport.Dataset)
	cohort := sets["cohort"]
	people := map[string]any{}
	for i := range 1000 {
		d := cohort
		d.ID = fmt.Sprintf("set-%d", i)
		sets[d.ID] = d
		people[fmt.Sprintf("p%d", i)] = map[string]any{"roles": []string{"researcher"}, "projects": []string{"lungs"}}
	}
	maps.Copy(o["site"].(map[string]any)["people"].(map[string]any), people)
	e := engine(b, policy.Config{Bundle: policies.FS, Overlay: o})
	in := admission()
	in.Request.Where = sallyport.Outside
	b.ReportAllocs()
	for b.Loop() {
		if v, err := e.Admit(b.Context(), in); err != nil || !v.Allow {
			b.Fatal(v, err)
		}
	}
}
