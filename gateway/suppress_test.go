package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sallyport"
	"sallyport/gateway"
)

// TestSuppress: records in small classes stay behind of what goes outside, up to
// the limit; what stays here has them all.
func TestSuppress(t *testing.T) {
	l := newLab(t, func(l *lab) {
		l.put("patients.csv", table(360)+"M09999,93,1.5\n") // alone in its class
	})
	if job := l.run(request("all", "patients", sallyport.Outside)); job.State != gateway.Refused {
		t.Errorf("with a record that is alone: %s", job.State)
	}
	entry := replaceOnce(t, patients, "columns:", "suppress: {k: 10, limit: 0.01}\ncolumns:")
	l.describe("patients.yaml", entry)
	if job := l.run(request("most", "patients", sallyport.Outside)); job.State != gateway.Done {
		t.Fatalf("without it: %s, %v", job.State, job.Reasons)
	}
	for _, r := range l.records("most") {
		if r.Entry.Step != "release" || r.Entry.Phase != "outcome" {
			continue
		}
		var d struct {
			Input struct {
				Facts struct {
					Suppressed int64
					Risk       sallyport.Risk
				}
			}
		}
		if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
			t.Fatal(err)
		}
		if f := d.Input.Facts; f.Suppressed != 1 || f.Risk.Records != 360 || f.Risk.SmallestClass < 10 {
			t.Errorf("facts %+v", f)
		}
	}
	for node, plain := range l.far.Seen {
		if n := strings.Count(plain, "\n"); n != 361 || strings.Contains(plain, "[80,100)") {
			t.Errorf("%s was given %d lines", node, n)
		}
	}
	if job := l.run(request("here", "patients", sallyport.Local)); job.State != gateway.Done {
		t.Errorf("a local job: %s, %v", job.State, job.Reasons)
	}
	l.describe("patients.yaml", strings.Replace(entry, "0.01", "0.001", 1))
	if job := l.run(request("too-many", "patients", sallyport.Outside)); job.State == gateway.Done {
		t.Error("more records were kept back than the limit allows")
	}
}
