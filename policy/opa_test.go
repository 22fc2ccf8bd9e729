package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport"
	"sallyport/internal/testkit"
	"sallyport/policies"
	"sallyport/policy"
	"sallyport/policy/source"
)

// stock is the opa program, unchanged, as an admin has it, in the folder of the
// bundle that ships.
type stock struct {
	t         *testing.T
	path, dir string
}

func stockOPA(t *testing.T) stock {
	t.Helper()
	o := stock{t, testkit.Tool(t, "opa"), t.TempDir()}
	if err := os.CopyFS(o.dir, policies.FS); err != nil {
		t.Fatal(err)
	}
	return o
}

// run returns what opa writes; it must end well.
func (o stock) run(args ...string) string {
	o.t.Helper()
	var out, errOut bytes.Buffer
	c := exec.Command(o.path, args...)
	c.Env = append(os.Environ(), "OPA_LOG_LEVEL=error", "HOME="+o.t.TempDir())
	c.Dir, c.Stdout, c.Stderr = o.dir, &out, &errOut
	if err := c.Run(); err != nil {
		o.t.Fatalf("opa %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

// TestStockTest: `opa test` runs the bundle's tests unchanged, and as many as we do.
func TestStockTest(t *testing.T) {
	opa := stockOPA(t)
	ours, _, err := policy.TestWithCoverage(t.Context(), policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"with schemas": {"--schema", "schema", "sallyport", "data.json"},
		"as a bundle":  {"--bundle", "."},
	} {
		t.Run(name, func(t *testing.T) {
			o := opa
			o.t = t
			var theirs []struct {
				Package, Name string
				Fail, Skip    bool
				Error         any
			}
			out := o.run(append([]string{"test", "--format", "json"}, args...)...)
			if err := json.Unmarshal([]byte(out), &theirs); err != nil {
				t.Fatal(err)
			}
			ran := map[string]bool{}
			for _, r := range theirs {
				name := strings.TrimPrefix(r.Package, "data.") + "." + r.Name
				if r.Fail || r.Skip || r.Error != nil {
					t.Errorf("opa test: %s: fail %v, skip %v, error %v", name, r.Fail, r.Skip, r.Error)
				}
				ran[name] = true
			}
			for _, r := range ours {
				if name := r.Package + "." + r.Name; !ran[name] {
					t.Errorf("opa test did not run %s", name)
				}
			}
			if len(theirs) != len(ours) {
				t.Errorf("opa test ran %d tests, we ran %d", len(theirs), len(ours))
			}
		})
	}
	var covered struct{ Coverage float64 }
	out := opa.run("test", "--coverage", "--threshold", "95", "sallyport", "data.json")
	if err := json.Unmarshal([]byte(out), &covered); err != nil || covered.Coverage < 95 {
		t.Errorf("coverage %.1f %%, want at least 95: %v", covered.Coverage, err)
	}
	t.Logf("%d tests, %.1f %% covered", len(ours), covered.Coverage)
}

// TestStockCheck: `opa check` and `opa fmt` have nothing to say.
func TestStockCheck(t *testing.T) {
	opa := stockOPA(t)
	if out := opa.run("check", "--strict", "--schema", "schema", "sallyport"); strings.TrimSpace(out) != "" {
		t.Errorf("opa check: %s", out)
	}
	if out := opa.run("check", "--strict", "--bundle", "."); strings.TrimSpace(out) != "" {
		t.Errorf("opa check of the bundle: %s", out)
	}
	for _, how := range []string{"--list", "--diff"} {
		if out := opa.run("fmt", how, "sallyport"); strings.TrimSpace(out) != "" {
			t.Errorf("opa fmt %s: %s", how, out)
		}
	}
}

// TestStockCheckFindsATypo: the schemas catch a field's name that is not one.
func TestStockCheckFindsATypo(t *testing.T) {
	opa := stockOPA(t)
	slip := "# METADATA\n# schemas:\n#   - input: schema.v1.admission\npackage sallyport.slip\n\nx := input.dateset\n"
	if err := os.WriteFile(filepath.Join(opa.dir, "sallyport", "slip.rego"), []byte(slip), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(opa.path, "check", "--schema", "schema", "sallyport")
	c.Dir = opa.dir
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "slip.rego:6") || !strings.Contains(string(out), "dateset") {
		t.Errorf("opa check: %v: %s", err, out)
	}
}

// question is one input of a door.
type question struct {
	door  policy.Door
	input json.RawMessage
}

// questions are many: every dataset with every project, purpose, place and
// runner of the test's site, and releases of all sorts. The job's name is the
// question's.
func questions(t *testing.T) map[string]question {
	t.Helper()
	all := map[string]question{}
	add := func(door policy.Door, in any, job *sallyport.JobID) {
		*job = sallyport.JobID(fmt.Sprintf("%s-%d", door, len(all)))
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		// The engine gives lists that are empty, never null.
		b = bytes.ReplaceAll(b, []byte(":null"), []byte(":[]"))
		all[string(*job)] = question{door, b}
	}
	for _, dataset := range []string{"cohort", "genomes", "staff", "census", "harbored", "donors", "far", "ghost"} {
		for _, project := range []string{"lungs", "hearts", "east", ""} {
			for _, purpose := range []string{"research", "marketing"} {
				for _, where := range []sallyport.Destination{"", sallyport.Local, sallyport.Outside} {
					for _, runner := range []string{"wasm", "native"} {
						a := admission()
						a.Dataset, a.Project, a.Purpose, a.Request.Where, a.Request.Runner = dataset, project, purpose, where, runner
						add(policy.AdmitDoor, &a, &a.Job)
					}
				}
			}
		}
	}
	for _, class := range []int64{0, 1, 4, 12} {
		for _, found := range []int64{0, 2} {
			for _, dataset := range []string{"cohort", "census", "genomes"} {
				for _, project := range []string{"lungs", "hearts"} {
					r := releasing()
					r.Dataset, r.Project, r.Facts.Risk.SmallestClass, r.Facts.Residual = dataset, project, class, map[string]int64{"email": found}
					add(policy.ReleaseDoor, &r, &r.Job)
				}
			}
		}
	}
	for _, class := range []int64{2, 9, 10} {
		for _, share := range []float64{.5, .51} {
			r := releasing()
			again(&r)
			r.Facts.Combined.SmallestClass, r.Facts.Undeclared = class, []policy.Undeclared{{Column: "ward", Unique: share, Estimated: class == 9}}
			add(policy.ReleaseDoor, &r, &r.Job)
		}
	}
	nothing := releasing()
	nothing.Facts = policy.Facts{Residual: map[string]int64{}, Actions: map[string]string{}}
	add(policy.ReleaseDoor, &nothing, &nothing.Job)
	return all
}

// TestStockEval: `opa eval` gives the verdicts that the engine gives, to the
// word. What opa answers is put through the engine's own reading of verdicts by
// a bundle that only repeats it.
func TestStockEval(t *testing.T) {
	opa := stockOPA(t)
	site := overlay()
	dir := t.TempDir()
	put := func(name string, v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	asked := questions(t)
	inputs := map[policy.Door]map[string]json.RawMessage{policy.AdmitDoor: {}, policy.ReleaseDoor: {}}
	for job, q := range asked {
		inputs[q.door][job] = q.input
	}
	load := []string{"eval", "--strict-builtin-errors", "--format", "json", "--data", "sallyport", "--data", "data.json",
		"--data", put("site.json", site)}
	answers := map[string]any{}
	for door, list := range inputs {
		// All questions in one run; single ones, asked plainly, follow.
		file := put(string(door)+".json", map[string]any{"asked": list})
		query := fmt.Sprintf("{job: v | some job, q in data.asked; v := data.sallyport.%s.verdict with input as q}", door)
		for job, v := range evaluated(t, opa.run(append(load, "--data", file, query)...)).(map[string]any) {
			answers[job] = v
		}
	}
	echo := engine(t, policy.Config{Overlay: map[string]any{"answers": answers}, Bundle: bundle(map[string]string{
		"admit.rego":   "package sallyport.admit\n\nverdict := data.answers[input.job]\n",
		"release.rego": "package sallyport.release\n\nverdict := data.answers[input.job]\n",
	})})
	ours := engine(t, policy.Config{Bundle: policies.FS, Overlay: site, Deadline: time.Minute})
	allowed := 0
	for job, q := range asked {
		want, err := ours.Decide(t.Context(), q.door, q.input)
		if err != nil {
			t.Fatalf("%s: %v", q.input, err)
		}
		got, err := echo.Decide(t.Context(), q.door, q.input)
		if err != nil {
			t.Errorf("%s: opa's verdict: %v", q.input, err)
			continue
		}
		got.Policy, got.Data, want.Policy, want.Data = "", "", "", ""
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: (-engine +opa)\n%s", q.input, d)
		}
		if want.Allow {
			allowed++
		}
		if strings.HasSuffix(job, "00") || q.door == policy.ReleaseDoor && strings.HasSuffix(job, "0") {
			plain := evaluated(t, opa.run(append(load, "--input", put("input.json", q.input), "data.sallyport."+string(q.door)+".verdict")...))
			if d := cmp.Diff(answers[job], plain); d != "" {
				t.Errorf("%s: asked alone, opa says (-with +alone)\n%s", q.input, d)
			}
		}
	}
	if len(answers) != len(asked) || allowed < 20 || allowed == len(asked) {
		t.Errorf("%d questions, %d answers, %d yes", len(asked), len(answers), allowed)
	}
	t.Logf("%d verdicts of opa eval and of the engine are the same, %d of them yes", len(asked), allowed)
}

// evaluated returns what the only expression of an `opa eval` is.
func evaluated(t *testing.T, out string) any {
	t.Helper()
	var doc struct {
		Result []struct {
			Expressions []struct{ Value any }
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Result) != 1 || len(doc.Result[0].Expressions) != 1 {
		t.Fatalf("opa eval: %v: %.500s", err, out)
	}
	return doc.Result[0].Expressions[0].Value
}

// pemFile writes a key and returns the file's name.
func pemFile(t *testing.T, name, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestStockBuild: what `opa build` signs is fetched over HTTP, decides as the
// folder does, and is refused with another key, scope or claim.
func TestStockBuild(t *testing.T) {
	opa := stockOPA(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private := pemFile(t, "rsa.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	public := pemFile(t, "rsa.pub", "PUBLIC KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&other.PublicKey)
	foreign := pemFile(t, "other.pub", "PUBLIC KEY", der, err)
	der, err = x509.MarshalECPrivateKey(curve)
	curvePrivate := pemFile(t, "ec.pem", "EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(&curve.PublicKey)
	curvePublic := pemFile(t, "ec.pub", "PUBLIC KEY", der, err)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s3cret-", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	claims := func(text string) string {
		file := filepath.Join(t.TempDir(), "claims.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	times := fmt.Sprintf(`{"scope": "policy", "iat": %d, "exp": %d}`, now.Unix()-60, now.Unix()+60)

	want := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	for name, c := range map[string]struct {
		build []string
		cfg   source.HTTPConfig
		at    time.Time
		says  string // the refusal; "" is a good bundle
	}{
		"RS256":           {[]string{"--signing-key", private}, source.HTTPConfig{Key: public}, now, ""},
		"ES256":           {[]string{"--signing-key", curvePrivate, "--signing-alg", "ES256"}, source.HTTPConfig{Key: curvePublic, Algorithm: "ES256"}, now, ""},
		"PS384":           {[]string{"--signing-key", private, "--signing-alg", "PS384"}, source.HTTPConfig{Key: public, Algorithm: "PS384"}, now, ""},
		"HS256":           {[]string{"--signing-key", secret, "--signing-alg", "HS256"}, source.HTTPConfig{Key: secret, Algorithm: "HS256"}, now, ""},
		"claims":          {[]string{"--signing-key", private, "--claims-file", claims(times)}, source.HTTPConfig{Key: public, Scope: "policy", MaxAge: time.Hour}, now, ""},
		"expired":         {[]string{"--signing-key", private, "--claims-file", claims(times)}, source.HTTPConfig{Key: public, Scope: "policy"}, now.Add(time.Minute), "expired"},
		"too old":         {[]string{"--signing-key", private, "--claims-file", claims(times)}, source.HTTPConfig{Key: public, Scope: "policy", MaxAge: time.Second}, now, "longer than 1s ago"},
		"another scope":   {[]string{"--signing-key", private, "--claims-file", claims(times)}, source.HTTPConfig{Key: public, Scope: "other"}, now, "scope"},
		"another key":     {[]string{"--signing-key", private}, source.HTTPConfig{Key: foreign}, now, "signature is not valid"},
		"another padding": {[]string{"--signing-key", private}, source.HTTPConfig{Key: public, Algorithm: "PS256"}, now, "signature is not valid"},
		"no signature":    {nil, source.HTTPConfig{Key: public}, now, "not signed"},
		"unsigned":        {nil, source.HTTPConfig{Unsigned: "allow"}, now, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := opa
			o.t = t
			file := filepath.Join(t.TempDir(), "bundle.tar.gz")
			o.run(append([]string{"build", "--bundle", ".", "--revision", "r7", "--output", file}, c.build...)...)
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }))
			defer s.Close()
			c.cfg.URL = s.URL + "/bundle.tar.gz"
			c.cfg.CAFile = pemFile(t, "ca.pem", "CERTIFICATE", s.Certificate().Raw, nil)
			h, err := source.OpenHTTP(c.cfg, func() time.Time { return c.at })
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			got, _, err := h.Fetch(t.Context(), source.Candidate{})
			if c.says != "" {
				if err == nil || sallyport.KindOf(err) != sallyport.Damaged || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v; want …%s…", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Revision != "r7" || (got.Signed == "") != (c.build == nil) {
				t.Errorf("revision %q, signed %q", got.Revision, got.Signed)
			}
			e := engine(t, policy.Config{Bundle: got.FS, Overlay: overlay()})
			a, r := admission(), releasing()
			for _, ask := range []func(*policy.Engine) (policy.Verdict, error){
				func(e *policy.Engine) (policy.Verdict, error) { return e.Admit(t.Context(), a) },
				func(e *policy.Engine) (policy.Verdict, error) { return e.Release(t.Context(), r) },
			} {
				ours, err := ask(want)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := ask(e)
				if err != nil {
					t.Fatal(err)
				}
				// Digests and all: opa build writes rules as opa fmt does.
				if d := cmp.Diff(ours, theirs); d != "" || !theirs.Allow {
					t.Errorf("(-folder +fetched)\n%s", d)
				}
			}
			if name != "RS256" {
				return
			}
			results, err := policy.Test(t.Context(), got.FS)
			if err != nil || len(results) < 50 {
				t.Errorf("%d tests came along: %v", len(results), err)
			}
			for _, r := range results {
				if !r.Pass {
					t.Errorf("%s:%d: %s: %s", r.File, r.Line, r.Name, r.Fault)
				}
			}
		})
	}
}
