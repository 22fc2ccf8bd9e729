package gateway_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/transform"
	"sallyport/gateway"
)

// encryptingLab lets record numbers leave by a verb that can be undone.
func encryptingLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, func(l *lab) {
		l.parts.Runner = anonymize.NewRunner([]anonymize.Format{csv.New()}, []anonymize.Transform{transform.Encrypt{}, transform.Generalize{}, transform.Drop{}, transform.Pseudonym{}})
	})
	l.describe("patients.yaml", strings.Replace(patients, "pseudonym", "encrypt", 1))
	return l
}

// describe changes a catalog entry, as a steward does.
func (l *lab) describe(file, entry string) {
	l.t.Helper()
	if err := writeFiles(filepath.Join(filepath.Dir(l.registerFile), "catalog"), map[string]string{file: entry}); err != nil {
		l.t.Fatal(err)
	}
}

// TestReidentify: the owner turns back what left reversibly, on record before it
// is there; nobody else does, nor anything else.
func TestReidentify(t *testing.T) {
	l := encryptingLab(t)
	if job := l.run(request("burst", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatalf("%s: %v", job.State, job.Reasons)
	}
	left := ""
	l.far.mu.Lock()
	for _, plain := range l.far.Seen {
		left = plain
	}
	l.far.mu.Unlock()
	token, _, _ := strings.Cut(strings.Split(left, "\n")[1], ",")
	if len(token) < 20 {
		t.Fatalf("no token left: %q", left[:min(len(left), 80)])
	}
	steward := gateway.Subject{ID: "steward", Roles: []string{"steward"}, Credential: "test"}
	ask := gateway.Reidentification{Job: "burst", Column: "mrn", Tokens: []string{token, "mfzwizltoqxhe3lpoizq"}, Reason: "recall of lot 7"}

	got, err := l.g.Reidentify(t.Context(), steward, ask)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Value != "M00000" || got[0].Error != "" || got[1].Value != "" || got[1].Error == "" {
		t.Errorf("%+v", got)
	}
	var steps []string
	for _, r := range l.records("burst") {
		if !strings.HasPrefix(r.Entry.Step, "reidentify") {
			continue
		}
		b, _ := json.Marshal(r.Entry)
		steps = append(steps, string(r.Entry.Phase))
		if strings.Contains(string(b), "M00000") || strings.Contains(string(b), token) {
			t.Errorf("the record holds a value or a token: %s", b)
		}
		if r.Entry.Phase == "intent" && !strings.Contains(string(b), string(sallyport.DigestOf([]byte(token)))) {
			t.Errorf("the record does not name the token: %s", b)
		}
	}
	if strings.Join(steps, " ") != "intent outcome" {
		t.Errorf("records %v", steps)
	}

	other := steward
	other.ID = "another"
	for name, c := range map[string]struct {
		who  gateway.Subject
		ask  gateway.Reidentification
		kind sallyport.Kind
	}{
		"another's dataset": {other, ask, sallyport.Denied},
		"the researcher":    {request("x", "patients", "").Subject, ask, sallyport.Denied},
		"no reason":         {steward, gateway.Reidentification{Job: "burst", Column: "mrn", Tokens: []string{token}}, sallyport.Invalid},
		"no token":          {steward, gateway.Reidentification{Job: "burst", Column: "mrn", Reason: "recall of lot 7"}, sallyport.Invalid},
		"other column":      {steward, gateway.Reidentification{Job: "burst", Column: "age", Tokens: []string{token}, Reason: "recall of lot 7"}, sallyport.Invalid},
		"no such job":       {steward, gateway.Reidentification{Job: "none", Column: "mrn", Tokens: []string{token}, Reason: "recall of lot 7"}, sallyport.NotFound},
	} {
		before := l.parts.Audit.Size()
		if out, err := l.g.Reidentify(t.Context(), c.who, c.ask); sallyport.KindOf(err) != c.kind || out != nil {
			t.Errorf("%s: %v, %v", name, out, err)
		}
		if tried := l.parts.Audit.Size() > before; tried != (c.kind == sallyport.Denied) {
			t.Errorf("%s: on record %v", name, tried)
		}
	}
}

// TestReidentifyNotRecorded: no record, no act.
func TestReidentifyNotRecorded(t *testing.T) {
	l := encryptingLab(t)
	if job := l.run(request("burst", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatalf("%s: %v", job.State, job.Reasons)
	}
	if err := l.parts.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	steward := gateway.Subject{ID: "steward", Roles: []string{"steward"}, Credential: "test"}
	out, err := l.g.Reidentify(t.Context(), steward, gateway.Reidentification{Job: "burst", Column: "mrn", Tokens: []string{"mfzwizltoqxhe3lpoizq"}, Reason: "recall of lot 7"})
	if err == nil || out != nil {
		t.Errorf("without a log: %v, %v", out, err)
	}
}
