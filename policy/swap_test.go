package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/policies"
	"sallyport/policy"
)

const allowing = `{"allow": true, "reasons": [], "rules": ["r"], "destination": "local", "masks": {},
	"limits": {"key_ttl": 1, "price": 0, "budget": 0, "copies": 1, "regions": [], "min_class": 0, "max_unique": 0, "reviews": 0}}`

// TestSwapWhileDecisionsAreMade: each decision is made by one bundle, the old
// one or the new one, and says which; also one that began before the swap and
// ends after it.
func TestSwapWhileDecisionsAreMade(t *testing.T) {
	load := func(n int) *policy.Bundle {
		b, err := policy.Load(t.Context(), bundle(map[string]string{"admit.rego": fmt.Sprintf(
			"package sallyport.admit\n\nverdict := {\"allow\": false, \"reasons\": [concat(\" \", {x | some x in [first, second]})], \"rules\": []}\n\nfirst := \"bundle %d\"\n\nsecond := \"bundle %d\"\n", n, n)}))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bundles := []*policy.Bundle{load(0), load(1)}
	e := engine(t, policy.Config{Bundle: bundles[0].FS(), Deadline: time.Minute})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(stop)
		for i := range 100 {
			if err := e.SetBundle(t.Context(), bundles[(i+1)%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		wg.Go(func() {
			for {
				v, err := e.Admit(t.Context(), admission())
				if err != nil {
					t.Error(err)
					return
				}
				for i, b := range bundles {
					if said := v.Reasons[0] == fmt.Sprintf("bundle %d", i); said != (v.Policy == b.Rules()) {
						t.Errorf("rules %s say %q", v.Policy.Short(), v.Reasons[0])
						return
					}
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

// TestSwapKeepsTheOldOnError: what cannot come into force changes nothing, and
// data given before it still count.
func TestSwapKeepsTheOldOnError(t *testing.T) {
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay()})
	rules, data := e.Digests()
	// It owns a root that the gateway gives.
	foreign, err := policy.Load(t.Context(), bundle(map[string]string{"data.json": `{"site": {}, "doc": {}}`}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetBundle(t.Context(), foreign); err == nil || !strings.Contains(err.Error(), `"site"`) {
		t.Errorf("a bundle that owns the site: %v", err)
	}
	if _, err := e.Try(t.Context(), foreign); err == nil {
		t.Error("Try says that it would come into force")
	}
	if r, d := e.Digests(); r != rules || d != data {
		t.Error("something changed")
	}
	if v, err := e.Admit(t.Context(), admission()); err != nil || !v.Allow {
		t.Errorf("%+v %v", v, err)
	}
}

// TestDecideAsRecorded: a recorded input gives the recorded verdict, from the
// same rules over the same data, whatever is in force by then.
func TestDecideAsRecorded(t *testing.T) {
	var kept map[string]any
	var then *policy.Bundle
	e := engine(t, policy.Config{Bundle: policies.FS, Overlay: overlay(),
		Keep: func(_ context.Context, b *policy.Bundle, _, _ sallyport.Digest, roots map[string]any) error {
			then, kept = b, roots
			return nil
		}})
	for door, in := range map[policy.Door]any{policy.AdmitDoor: admission(), policy.ReleaseDoor: releasing()} {
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := e.Decide(t.Context(), door, raw)
		if err != nil || !want.Allow {
			t.Fatalf("%s: %+v %v", door, want, err)
		}
		old, err := then.Recorded(t.Context(), kept, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := old.Decide(t.Context(), door, raw)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v %v, recorded was %+v", door, got, err, want)
		}
		for name, bad := range map[string]string{
			"empty": ``, "null": `null`, "a list": `[]`, "an unknown field": `{"version":1,"surprise":1}`,
			"another version": strings.Replace(string(raw), `"version":1`, `"version":2`, 1),
			"no time":         strings.Replace(string(raw), "2030-01-02T03:04:05Z", "0001-01-01T00:00:00Z", 1),
		} {
			v, err := e.Decide(t.Context(), door, json.RawMessage(bad))
			if err == nil {
				t.Errorf("%s, %s: decided", door, name)
				continue
			}
			denied(t, v, err)
		}
	}
	v, err := e.Decide(t.Context(), "third", json.RawMessage(`{}`))
	denied(t, v, err)
}

// TestKnownWaysToFailOpen has each way, met elsewhere, by which OPA or its use
// let something through, and shows it closed. The other ones are beside what
// closes them: errors of built-ins, conflicts and undefined verdicts in
// TestBrokenRulesDeny, timeouts in TestEndlessRuleMeetsTheDeadline, unknown and
// double verbs in TestIllFormedVerdictDenies, functions with side effects in
// TestImpureFunctionsDoNotExist.
func TestKnownWaysToFailOpen(t *testing.T) {
	ask := func(t *testing.T, rules string, data string, overlay map[string]any, in policy.Admission) (policy.Verdict, error) {
		t.Helper()
		e := engine(t, policy.Config{Overlay: overlay, Bundle: bundle(map[string]string{"admit.rego": "package sallyport.admit\n" + rules + "\n", "data.json": data})})
		return e.Admit(t.Context(), in)
	}
	t.Run("an error under not", func(t *testing.T) {
		// Without strict errors the built-in's error is "undefined", and not makes it true.
		v, err := ask(t, "verdict := "+allowing+" if not bad\nbad if to_number(input.purpose) > 3", "", nil, admission())
		denied(t, v, err)
	})
	t.Run("a set with a variable in a deny", func(t *testing.T) {
		// OPA before 1.22.2: the rule indexer made the membership undefined.
		const rules = "verdict := {\"allow\": false, \"reasons\": [\"denied\"], \"rules\": []} if denied\nelse := " + allowing +
			"\ndenied if input.purpose in {\"sale\", input.project}"
		in := admission()
		in.Purpose, in.Project = "lungs", "lungs"
		if v, err := ask(t, rules, "", nil, in); err != nil || v.Allow {
			t.Errorf("the deny did not fire: %+v %v", v, err)
		}
		in.Purpose = "sale"
		if v, err := ask(t, rules, "", nil, in); err != nil || v.Allow {
			t.Errorf("the deny did not fire: %+v %v", v, err)
		}
		in.Purpose = "research"
		if v, err := ask(t, rules, "", nil, in); err != nil || !v.Allow {
			t.Errorf("the control: %+v %v", v, err)
		}
	})
	t.Run("data that come after the rules", func(t *testing.T) {
		// opa build -O folds absent data to undefined; a deny over them is gone.
		const rules = "verdict := {\"allow\": false, \"reasons\": [\"banned\"], \"rules\": []} if data.lab.banned[input.subject.id]\nelse := " + allowing
		b, err := policy.Load(t.Context(), bundle(map[string]string{"admit.rego": "package sallyport.admit\n" + rules + "\n"}))
		if err != nil {
			t.Fatal(err)
		}
		e, err := b.Over(t.Context(), map[string]any{"lab": map[string]any{"banned": map[string]any{"ada": true}}}, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := json.Marshal(admission())
		if v, err := e.Decide(t.Context(), policy.AdmitDoor, raw); err != nil || v.Allow {
			t.Errorf("%+v %v", v, err)
		}
	})
	t.Run("allow that is not true", func(t *testing.T) {
		for _, allow := range []string{`"true"`, `1`, `[true]`, `null`, `{}`} {
			v, err := ask(t, "verdict := "+strings.Replace(allowing, `"allow": true`, `"allow": `+allow, 1), "", nil, admission())
			denied(t, v, err)
		}
	})
	t.Run("a deny beside an allow", func(t *testing.T) {
		v, err := ask(t, "verdict := "+strings.Replace(allowing, `"reasons": []`, `"reasons": ["no"]`, 1), "", nil, admission())
		denied(t, v, err)
	})
	t.Run("a panic of a caller's context", TestPanicDenies)
	t.Run("a rule that errors for one input only", func(t *testing.T) {
		const rules = "verdict := " + allowing + " if to_number(input.purpose) > 0"
		in := admission()
		in.Purpose = "7"
		if v, err := ask(t, rules, "", nil, in); err != nil || !v.Allow {
			t.Errorf("the control: %+v %v", v, err)
		}
		in.Purpose = "seven"
		v, err := ask(t, rules, "", nil, in)
		denied(t, v, err)
	})
	t.Run("the machine's clock", func(t *testing.T) {
		// No function reads it, and those that format times take the input's:
		// two decisions on one input are one decision.
		for _, rules := range []string{"verdict := " + allowing + " if time.now_ns() > 0", "verdict := " + allowing + " if time.clock(time.now_ns())"} {
			if _, err := policy.Load(t.Context(), bundle(map[string]string{"admit.rego": "package sallyport.admit\n" + rules + "\n"})); err == nil {
				t.Errorf("loads: %s", rules)
			}
		}
	})
	t.Run("a name of the rules in the data", func(t *testing.T) {
		// Data at data.sallyport could stand where a rule is looked for.
		for name, err := range map[string]error{
			"bundle": func() error {
				_, err := policy.Load(t.Context(), bundle(map[string]string{"data.json": `{"sallyport": {"admit": {"verdict": ` + allowing + `}}}`}))
				return err
			}(),
			"overlay": func() error {
				_, err := policy.New(t.Context(), policy.Config{Bundle: bundle(nil), Overlay: map[string]any{"sallyport": map[string]any{}}})
				return err
			}(),
		} {
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
