package main

import (
	"path/filepath"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/register"
)

// TestKilledInAChangeOfTheRegister kills the gateway at every point of a change:
// afterwards the grant is there as a whole or not at all, its intent is on
// record, and what the gateway decides by is noted.
func TestKilledInAChangeOfTheRegister(t *testing.T) {
	l := newLab(t)
	for _, at := range []string{"intent", "written", "in force", "outcome"} {
		c := l.start("add grant/" + at)
		_, err := c.Grant(t.Context(), "steward", gateway.GrantRequest{Dataset: "patients", Project: "pilot", Purposes: []string{"research"},
			Until: time.Now().Add(time.Hour), Reason: at, Replace: true})
		if err == nil {
			t.Fatalf("%s: answered", at)
		}
		l.killed("add grant/" + at)
		r, err := register.Open(l.cfg.registerFile())
		if err != nil {
			t.Fatal(err)
		}
		g, ok := r.Grant("patients", "pilot")
		if want := at != "intent"; want != (ok && g.Reason == at) {
			t.Errorf("%s: the file has %+v", at, g)
		}
		l.start("")
		l.stop()
		master, err := (&app{ctx: t.Context(), config: filepath.Join(l.cfg.dir, "sallyport.yaml")}).master()
		if err != nil {
			t.Fatal(err)
		}
		log, err := audit.OpenRead(audit.ReadConfig{Path: l.cfg.path(l.cfg.Audit), Master: master})
		if err != nil {
			t.Fatal(err)
		}
		var intent, noted bool
		for rec, err := range log.Records(t.Context(), audit.Filter{Newest: true}) {
			if err != nil {
				t.Fatal(err)
			}
			switch e := rec.Entry; {
			case e.Step == "add grant" && e.Phase == audit.Intent && e.Reasons[0] == at:
				intent = true
			case e.Step == "policy data" && !intent:
				noted = true
			}
		}
		// What was written before the kill is noted after it.
		if want := at != "intent"; !intent || noted != want {
			t.Errorf("%s: intent on record: %v; noted: %v, want %v", at, intent, noted, want)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := audit.Verify(l.cfg.path(l.cfg.Audit), audit.VerifyOptions{}); err != nil || !v.Whole {
		t.Errorf("audit log: %+v, %v", v, err)
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2027-01-01":                time.Date(2027, 1, 1, 0, 0, 0, 0, time.Local),
		"2027-01-01T12:00:00+02:00": time.Date(2027, 1, 1, 10, 0, 0, 0, time.UTC),
		"90d":                       now.Add(90 * 24 * time.Hour),
		"2w":                        now.Add(14 * 24 * time.Hour),
		"8h":                        now.Add(8 * time.Hour),
	} {
		if got, err := moment("--until", s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "never", "-3d", "0d", "d", "99999d", "99999999999999999999d", "2027-13-01", "01.01.2027"} {
		if got, err := moment("--until", s, now); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	if _, err := moment("--since", "90d", time.Time{}); err == nil {
		t.Error("a span has no now to follow")
	}
}

func TestStanding(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		since, until time.Duration
		want         string
	}{
		{-time.Hour, 30 * 24 * time.Hour, "good"},
		{-time.Hour, 13 * 24 * time.Hour, "ending"},
		{-time.Hour, 0, "expired"}, // until is not included
		{time.Hour, 48 * time.Hour, "not yet"},
	} {
		if got := standing(now, now.Add(c.since), now.Add(c.until)); got != c.want {
			t.Errorf("%v to %v: %s, want %s", c.since, c.until, got, c.want)
		}
	}
	if got := standing(now, now, time.Time{}); got != "good" {
		t.Errorf("without an end: %s", got)
	}
}
