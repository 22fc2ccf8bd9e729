package replay

import (
	"encoding/json"
	"testing"

	"sallyport/policy"
)

const (
	someInput   = `{"version":1,"time":"2030-01-01T00:00:00Z","history":null}`
	someVerdict = `{"allow":true,"rules":["x"],"policy":"sha256:p","data":"sha256:d"}`
)

func TestRead(t *testing.T) {
	detail := json.RawMessage(`{"input":` + someInput + `,"verdict":` + someVerdict + `}`)
	looked := json.RawMessage(`{"asked":` + string(detail) + `,"view":"v","object":{}}`)
	for _, c := range []struct {
		name  string
		entry Entry
		ok    bool
		door  policy.Door
		unfit string
	}{
		{"an admission", Entry{Step: "admit", Phase: "outcome", Decision: "allow", Policy: "sha256:p", Data: "sha256:d", Detail: detail}, true, policy.AdmitDoor, ""},
		{"a release", Entry{Step: "release", Phase: "outcome", Decision: "allow", Policy: "sha256:p", Data: "sha256:d", Detail: detail}, true, policy.ReleaseDoor, ""},
		{"a look that was granted", Entry{Step: "look", Phase: "note", Decision: "allow", Policy: "sha256:p", Data: "sha256:d", Detail: looked}, true, policy.AdmitDoor, ""},
		{"a look that failed later", Entry{Step: "list", Phase: "note", Decision: "error", Policy: "sha256:p", Data: "sha256:d", Detail: detail}, true, policy.AdmitDoor, ""},
		{"an intent", Entry{Step: "admit", Phase: "intent", Decision: "allow", Policy: "sha256:p"}, false, "", ""},
		{"nothing decided", Entry{Step: "hold", Phase: "outcome"}, false, "", ""},
		{"a note of what is in force", Entry{Step: "policy data", Phase: "note", Policy: "sha256:p", Data: "sha256:d"}, false, "", ""},
		{"a failure", Entry{Step: "hold", Phase: "outcome", Decision: "error"}, false, "", ""},
		{"a door that failed", Entry{Step: "admit", Phase: "outcome", Decision: "error"}, true, policy.AdmitDoor, unfitNoAnswer},
		{"not of policy", Entry{Step: "identify", Phase: "note", Decision: "deny"}, true, "", "identify"},
		{"no detail", Entry{Step: "admit", Phase: "outcome", Decision: "deny", Policy: "sha256:p", Data: "sha256:d"}, true, policy.AdmitDoor, unfitNoInput},
		{"an empty detail", Entry{Step: "admit", Phase: "outcome", Decision: "deny", Policy: "sha256:p", Data: "sha256:d", Detail: json.RawMessage(`{}`)}, true, policy.AdmitDoor, unfitNoInput},
		{"no JSON", Entry{Step: "admit", Phase: "outcome", Decision: "deny", Policy: "sha256:p", Data: "sha256:d", Detail: json.RawMessage(`{"input":`)}, true, policy.AdmitDoor, unfitDetail},
		{"another step", Entry{Step: "third door", Phase: "outcome", Decision: "allow", Policy: "sha256:p", Data: "sha256:d", Detail: detail}, true, "third door", unfitDoor + "third door"},
		{"another answer", Entry{Step: "admit", Phase: "outcome", Decision: "deny", Policy: "sha256:p", Data: "sha256:d", Detail: detail}, true, policy.AdmitDoor, unfitTwoTongues},
		{"another policy", Entry{Step: "admit", Phase: "outcome", Decision: "allow", Policy: "sha256:q", Data: "sha256:d", Detail: detail}, true, policy.AdmitDoor, unfitTwoTongues},
	} {
		d, ok := Read(c.entry)
		if ok != c.ok || d.Door != c.door || d.Unfit != c.unfit {
			t.Errorf("%s: ok %v, door %q, unfit %q", c.name, ok, d.Door, d.Unfit)
		}
		if ok && d.Unfit == "" && (string(d.Input) != someInput || !d.Recorded.Allow) {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
}

func TestInputsThatCannotBeAsked(t *testing.T) {
	for in, want := range map[string]string{
		`{"version":2,"time":"2030-01-01T00:00:00Z"}`: unfitVersion,
		`{"version":1}`: unfitVersion,
		`{"version":1,"time":"2030-01-01T00:00:00Z","colour":"red"}`:      unfitInput + `: json: unknown field "colour"`,
		`{"version":1,"time":"2030-01-01T00:00:00Z","facts":{"risk":{}}}`: unfitInput + `: json: unknown field "facts"`,
	} {
		d := Decision{Door: policy.AdmitDoor, Input: json.RawMessage(in)}
		if _, err := d.question(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// FuzzRead: whatever a record holds, it is a decision or it says why not.
func FuzzRead(f *testing.F) {
	f.Add("admit", "allow", `{"input":`+someInput+`,"verdict":`+someVerdict+`}`)
	f.Add("look", "deny", `{"asked":{"input":{},"verdict":{}}}`)
	f.Add("release", "error", `[1]`)
	f.Fuzz(func(t *testing.T, step, decision, detail string) {
		d, ok := Read(Entry{Step: step, Phase: "outcome", Decision: decision, Policy: "sha256:p", Data: "sha256:d", Detail: json.RawMessage(detail)})
		if ok != (decision != "") {
			t.Fatal("what was decided is a decision")
		}
		if !ok || d.Unfit != "" {
			return
		}
		if q, err := d.question(); err == nil && (q.admit == nil) == (q.release == nil) {
			t.Fatal("a question to no door, or to both")
		}
	})
}
