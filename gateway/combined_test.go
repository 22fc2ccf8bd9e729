package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport"
	"sallyport/gateway"
)

// TestTwoSafeReleases: of two releases each of which could leave by itself, the
// second is refused where both together single people out.
func TestTwoSafeReleases(t *testing.T) {
	var described []gateway.Described
	l := newLab(t, func(l *lab) {
		l.parts.Describe = func(d gateway.Described) (sallyport.Digest, error) {
			described = append(described, d)
			return sallyport.DigestOf([]byte(d.Job)), nil
		}
	})
	if job := l.run(request("first", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatalf("the first: %s, %v", job.State, job.Reasons)
	}
	// The same plan once more says nothing new, also of many on their way at once.
	if job := l.run(request("again", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatalf("the same again: %s, %v", job.State, job.Reasons)
	}
	// Ranges of 20 years and of 41 are wide enough; where they overlap is one year.
	l.describe("patients.yaml", replaceOnce(t, patients, "width: 20", "width: 41"))
	job := l.run(request("second", "patients", sallyport.Outside))
	if job.State != gateway.Refused || !strings.Contains(strings.Join(job.Reasons, "; "), "earlier release") {
		t.Fatalf("the second: %s, %v", job.State, job.Reasons)
	}
	// What stays here joins nothing outside.
	if job := l.run(request("here", "patients", sallyport.Local)); job.State != gateway.Done {
		t.Errorf("a local job: %s, %v", job.State, job.Reasons)
	}

	var facts struct {
		Input struct {
			Facts struct {
				Risk     sallyport.Risk
				Combined *sallyport.Risk
				Report   sallyport.Digest
			}
			History []sallyport.Release
		}
	}
	for _, r := range l.records("second") {
		if r.Entry.Step == "release" && r.Entry.Phase == "outcome" {
			if err := json.Unmarshal(r.Entry.Detail, &facts); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := facts.Input
	if in.Facts.Risk.SmallestClass != 171 || in.Facts.Combined == nil || in.Facts.Combined.SmallestClass != 9 || !in.Facts.Combined.Exact {
		t.Errorf("measured %+v, together %+v", in.Facts.Risk, in.Facts.Combined)
	}
	if len(in.History) != 2 || len(in.History[0].Obligations) != 0 {
		t.Errorf("history %+v", in.History)
	}
	if in.Facts.Report != sallyport.DigestOf([]byte("second")) {
		t.Errorf("the report on record is %q", in.Facts.Report)
	}
	for _, d := range described {
		want := map[sallyport.JobID]int{"first": 0, "again": 1, "second": 1, "here": 0}[d.Job]
		if len(d.Plan.Earlier) != want {
			t.Errorf("%s was measured with %d earlier releases, want %d", d.Job, len(d.Plan.Earlier), want)
		}
	}
	if len(described) != 4 {
		t.Errorf("%d reports", len(described))
	}
}

// TestReleasesAtOnce: jobs on their way together all leave if by one plan; of
// two plans that are unsafe together, only one does.
func TestReleasesAtOnce(t *testing.T) {
	l := newLab(t, func(l *lab) { l.parts.Parallel = 4 })
	submit := func(ids ...string) (done int) {
		t.Helper()
		for _, id := range ids {
			if _, err := l.g.Submit(t.Context(), request(id, "patients", sallyport.Outside)); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range ids {
			switch job, err := l.g.Wait(t.Context(), sallyport.JobID(id)); {
			case err != nil:
				t.Fatal(err)
			case job.State == gateway.Done:
				done++
			default:
				t.Logf("%s: %s, %v", id, job.State, job.Reasons)
			}
		}
		return done
	}
	if done := submit("a1", "a2", "a3", "a4"); done != 4 {
		t.Errorf("%d of 4 by one plan left", done)
	}
	// Another plan beside one that is on its way: whoever is second is refused.
	there, hold := make(chan struct{}), make(chan struct{})
	l2 := newLab(t, func(l *lab) {
		l.parts.Parallel = 2
		observe := l.parts.Observe
		l.parts.Observe = func(e gateway.Event) {
			observe(e)
			if e.Job == "slow" && e.Step == "release" && e.Phase == "begin" {
				close(there)
				<-hold
			}
		}
	})
	if _, err := l2.g.Submit(t.Context(), request("slow", "patients", sallyport.Outside)); err != nil {
		t.Fatal(err)
	}
	<-there
	l2.describe("patients.yaml", replaceOnce(t, patients, "width: 20", "width: 41"))
	if job := l2.run(request("quick", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Errorf("the quick one: %s, %v", job.State, job.Reasons)
	}
	close(hold)
	job, err := l2.g.Wait(t.Context(), "slow")
	if err != nil || job.State == gateway.Done {
		t.Errorf("the slow one: %s, %v, %v", job.State, job.Reasons, err)
	}
}
