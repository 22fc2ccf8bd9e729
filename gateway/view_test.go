package gateway_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
)

func ada() gateway.Access {
	return gateway.Access{Project: "pilot", Purpose: "research",
		Subject: gateway.Subject{ID: "ada", Roles: []string{"researcher"}, Projects: []string{"pilot"}, Credential: "test"}}
}

func readAll(t *testing.T, o gateway.ViewObject) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Info().Size))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAViewPassedBothDoors(t *testing.T) {
	l := newLab(t, nil)
	list, err := l.g.Objects(t.Context(), ada(), "patients", "")
	if err != nil || len(list) != 1 || list[0].Key != "patients.csv" {
		t.Fatalf("%+v, %v", list, err)
	}
	o, err := l.g.Open(t.Context(), ada(), "patients", "patients.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Info() != list[0] {
		t.Errorf("listed %+v, opened %+v", list[0], o.Info())
	}
	whole := readAll(t, o)
	if strings.Contains(whole, "M00001") || !strings.Contains(whole, "mrn,age,score") {
		t.Errorf("the view is %.80q", whole)
	}
	part := make([]byte, 20)
	if _, err := o.ReadAt(part, 30); err != nil || string(part) != whole[30:50] {
		t.Errorf("range: %q, %v", part, err)
	}
	// Recorded before a byte left: the pass, both looks.
	var steps []string
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Dataset: "patients"}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Phase != audit.Intent {
			steps = append(steps, r.Entry.Step+" "+r.Entry.Decision)
		}
	}
	if got := strings.Join(steps, ", "); got != "hold , release allow, list allow, look allow" {
		t.Errorf("recorded: %s", got)
	}
	if n := l.liveKeys(); n != 1 {
		t.Errorf("%d keys for one view", n)
	}
	for _, k := range l.inHold() {
		obj, err := l.hold.Open(t.Context(), sallyport.Ref{Store: "hold", Key: k})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(obj)
		if strings.Contains(string(b), "mrn,age") {
			t.Errorf("%s is plain", k)
		}
	}
}

func TestAViewIsMadeOnceAndAnewWhenTheSourceChanges(t *testing.T) {
	l := newLab(t, nil)
	first, err := l.g.Prepare(t.Context(), ada(), "patients", nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.g.Prepare(t.Context(), ada(), "patients", nil)
	if err != nil || again != first {
		t.Errorf("made twice: %+v, %+v, %v", first, again, err)
	}
	l.put("patients.csv", table(100))
	changed, err := l.g.Prepare(t.Context(), ada(), "patients", nil)
	if err != nil || changed.Size >= first.Size {
		t.Errorf("old view of a new source: %+v, %v", changed, err)
	}
}

func TestWhoMayNotSeeIsToldWhyAndRecorded(t *testing.T) {
	l := newLab(t, nil)
	for name, change := range map[string]func(*gateway.Access){
		"purpose": func(a *gateway.Access) { a.Purpose = "marketing" },
		"project": func(a *gateway.Access) { a.Project = "other" },
		"role":    func(a *gateway.Access) { a.Subject.Roles = nil },
		"person":  func(a *gateway.Access) { a.Subject = gateway.Subject{ID: "eve"} },
	} {
		who := ada()
		change(&who)
		if _, err := l.g.Open(t.Context(), who, "patients", "patients.csv"); sallyport.KindOf(err) != sallyport.Denied {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := l.g.Datasets(t.Context(), who); err != nil || len(list) != 0 && !slices.Equal(list, []string{gateway.Scratch}) {
			t.Errorf("%s: sees %v, %v", name, list, err)
		}
	}
	denied := 0
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Decision: "deny"}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Step == "look" && len(r.Entry.Reasons) > 0 {
			denied++
		}
	}
	if denied != 4 || len(l.inHold()) != 0 || l.liveKeys() != 0 {
		t.Errorf("%d denials recorded, hold %v, %d keys", denied, l.inHold(), l.liveKeys())
	}
	if list, err := l.g.Datasets(t.Context(), ada()); err != nil || len(list) != 7 {
		t.Errorf("ada sees %v, %v", list, err)
	}
}

func TestEvictionDestroysTheKey(t *testing.T) {
	l := newLab(t, func(l *lab) { l.parts.ViewLimit = 1 })
	if _, err := l.g.Prepare(t.Context(), ada(), "patients", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.g.Prepare(t.Context(), ada(), "restricted", nil); err != nil {
		t.Fatal(err)
	}
	if n, held := l.liveKeys(), l.inHold(); n != 1 || len(held) != 1 {
		t.Errorf("%d keys, hold %v", n, held)
	}
	evicted := 0
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Step: "evict"}) {
		if err != nil {
			t.Fatal(err)
		}
		evicted++
		_ = r
	}
	if evicted != 2 {
		t.Errorf("%d records of an eviction, want intent and outcome", evicted)
	}
}

// What policy leaves as it is comes byte for byte from where it lies, measured
// and recorded like any view, and never after it changed.
func TestARawViewIsReadWhereItLies(t *testing.T) {
	l := newLab(t, nil)
	read := func() (string, error) {
		o, err := l.g.Open(t.Context(), ada(), "open", "open.csv")
		if err != nil {
			return "", err
		}
		defer o.Close()
		return readAll(t, o), nil
	}
	const first = "ward;beds\r\nnorth;12\r\nsouth;7\r\n"
	if got, err := read(); err != nil || got != first {
		t.Fatalf("%q, %v", got, err)
	}
	if l.liveKeys() != 0 || len(l.inHold()) != 0 {
		t.Errorf("%d keys and %v for what is not held", l.liveKeys(), l.inHold())
	}
	l.put("open.csv", "ward;beds\nwest;1\n")
	if got, err := read(); err != nil || got != "ward;beds\nwest;1\n" {
		t.Errorf("after a change: %q, %v", got, err)
	}
	// A file that the pass refuses is not served raw either.
	l.put("open.csv", "ward;beds;name\nwest;1;x\n")
	if got, err := read(); err == nil {
		t.Errorf("an unknown column was served: %q", got)
	}
	var steps []string
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Dataset: "open"}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Entry.Phase != audit.Intent && r.Entry.Job != "" {
			steps = append(steps, r.Entry.Step+" "+r.Entry.Decision)
		}
	}
	if got := strings.Join(steps[:3], ", "); got != "measure , release allow, look allow" {
		t.Errorf("recorded: %s", got)
	}
}
