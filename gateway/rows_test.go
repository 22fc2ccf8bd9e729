package gateway_test

import (
	"io"
	"maps"
	"strings"
	"sync"
	"testing"

	"sallyport"
	"sallyport/gateway"
)

// someRows are the lab's patients of whom project "some" may see the records:
// those with a score of 0.5 or 1.5, which are i%7 of 0 or 1.
const someRows = 104

// sees fails the test unless text is a table of those records and no others.
func sees(t *testing.T, who, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != someRows+1 {
		t.Errorf("%s sees %d records, want %d", who, len(lines)-1, someRows)
	}
	for _, l := range lines[1:] {
		if !strings.HasSuffix(l, ",0.5") && !strings.HasSuffix(l, ",1.5") {
			t.Errorf("%s sees %q", who, l)
		}
	}
}

func (l *lab) view(project string) (string, gateway.ObjectInfo) {
	l.t.Helper()
	who := ada()
	who.Project = project
	o, err := l.g.Open(l.t.Context(), who, "patients", "patients.csv")
	if err != nil {
		l.t.Fatal(err)
	}
	defer o.Close()
	return readAll(l.t, o), o.Info()
}

// rows gives a project other row filters for patients, as an administrator would.
func (l *lab) rows(project string, filter map[string]any) {
	projects := maps.Clone(l.parts.Site["projects"].(map[string]any))
	changed := maps.Clone(projects[project].(map[string]any))
	changed["rows"] = map[string]any{"patients": filter}
	projects[project] = changed
	site := maps.Clone(l.parts.Site)
	site["projects"] = projects
	if err := l.parts.Policy.SetOverlay(l.t.Context(), map[string]any{"catalog": l.parts.Catalog.Data(), "site": site, "register": l.parts.Register.Data()}); err != nil {
		l.t.Error(err)
	}
}

func TestAProjectSeesItsRowsInAView(t *testing.T) {
	l := newLab(t, nil)
	whole, _ := l.view("pilot")
	if n := strings.Count(whole, "\n"); n != 361 {
		t.Errorf("pilot sees %d lines", n)
	}
	some, first := l.view("some")
	sees(t, "some", some)
	if again, info := l.view("some"); again != some || info != first {
		t.Errorf("made twice: %+v, %+v", first, info)
	}
	// What the project may see changes, and so does the view.
	l.rows("some", map[string]any{"score": []string{"0.5"}})
	less, info := l.view("some")
	if strings.Contains(less, ",1.5") || !strings.Contains(less, ",0.5") || info.Digest == first.Digest {
		t.Errorf("the old view after the rows changed: %.80q", less)
	}
	l.rows("some", map[string]any{"score": []string{}})
	if none, _ := l.view("some"); none != "mrn,age,score\n" {
		t.Errorf("no row may leave, and yet: %.80q", none)
	}
	// A filter that cannot be applied is not no filter.
	l.rows("some", map[string]any{"ward": []string{"east"}})
	who := ada()
	who.Project = "some"
	if _, err := l.g.Open(t.Context(), who, "patients", "patients.csv"); sallyport.KindOf(err) != sallyport.Denied || !strings.Contains(err.Error(), "ward") {
		t.Errorf("a filter on an unknown column: %v", err)
	}
}

func TestAProjectsRowsAreWhatItsJobsAreGivenAndMeasuredOn(t *testing.T) {
	l := newLab(t, nil)
	req := request("some", "patients", sallyport.Outside)
	req.Project = "some"
	if job := l.run(req); job.State != gateway.Done {
		t.Fatalf("%s: %v %s\n%s", job.State, job.Reasons, job.Hint, l.events)
	}
	if len(l.far.Seen) != 2 {
		t.Errorf("%d nodes saw it", len(l.far.Seen))
	}
	for node, seen := range l.far.Seen {
		sees(t, node, seen)
	}
	r, err := l.g.OpenResult(t.Context(), "some")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r); string(b) != "lines\n105\n" {
		t.Errorf("result %q", b)
	}
	history, err := l.g.Releases("patients")
	if err != nil || len(history) != 1 || history[0].Risk.Records != someRows || history[0].Risk.SmallestClass >= 60 {
		t.Errorf("measured %+v, %v", history, err)
	}

	// All 360 records together have classes of 180; these three have one of 2
	// and one of 1.
	req = request("few", "patients", sallyport.Outside)
	req.Project = "few"
	job := l.run(req)
	if job.State == gateway.Done || !strings.Contains(strings.Join(job.Reasons, " "), "smallest equivalence class is 1 record;") {
		t.Errorf("%s: %v", job.State, job.Reasons)
	}
	if n, held := l.liveKeys(), l.inHold(); n != 0 || len(held) != 0 {
		t.Errorf("%d keys, hold %v", n, held)
	}
}

// A bundle that does not apply the site's row filters is not obeyed.
func TestPolicyCannotShowMoreRowsThanTheSite(t *testing.T) {
	rows := func(column string, values ...string) map[string]map[string][]string {
		return map[string]map[string][]string{"patients": {column: values}}
	}
	for name, c := range map[string]struct {
		bound map[string]map[string][]string
		ok    bool
	}{
		"the same":       {rows("score", "0.5", "1.5"), true},
		"more values":    {rows("score", "0.5", "1.5", "2.5"), true},
		"fewer values":   {rows("score", "0.5"), false},
		"no value":       {rows("score"), false},
		"another column": {rows("age", "20"), false},
		"other dataset":  {map[string]map[string][]string{"fine": {"age": {"20"}}}, true},
	} {
		l := newLab(t, func(l *lab) { l.parts.Projects["some"] = gateway.Project{Rows: c.bound} })
		who := ada()
		who.Project = "some"
		_, err := l.g.Prepare(t.Context(), who, "patients", nil)
		if c.ok && err != nil || !c.ok && (sallyport.KindOf(err) != sallyport.Denied || !strings.Contains(err.Error(), "more rows")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Rows that are taken from a project while its job waits between the doors do
// not leave.
func TestRowsWithdrawnBetweenTheDoors(t *testing.T) {
	var once sync.Once
	l := newLab(t, func(l *lab) {
		l.parts.Point = func(step, point string) {
			if step == "hold" && point == "journaled" {
				once.Do(func() { l.rows("some", map[string]any{"score": []string{"0.5"}}) })
			}
		}
	})
	req := request("some", "patients", sallyport.Outside)
	req.Project = "some"
	job := l.run(req)
	if job.State == gateway.Done || !strings.Contains(strings.Join(job.Reasons, " "), "other rows would leave") {
		t.Errorf("%s: %v", job.State, job.Reasons)
	}
	if len(l.far.Seen) != 0 {
		t.Errorf("seen by %d nodes", len(l.far.Seen))
	}
}
