package gateway_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport"
	"sallyport/gateway"
)

// TestTheClockMustNotGoBack: an hour ago a grant that has ended since was good.
func TestTheClockMustNotGoBack(t *testing.T) {
	var shift atomic.Int64
	l := newLab(t, func(l *lab) {
		l.parts.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	})
	try := func(id string) gateway.Job {
		t.Helper()
		return l.run(request(id, "patients", sallyport.Outside))
	}
	if job := try("before"); job.State != gateway.Done {
		t.Fatalf("%+v", job)
	}
	shift.Store(int64(-30 * time.Second)) // what time synchronization does
	if job := try("nudged"); job.State != gateway.Done {
		t.Errorf("half a minute: %+v", job)
	}
	shift.Store(int64(-time.Hour))
	if job := try("back"); job.State == gateway.Done || !strings.Contains(strings.Join(job.Reasons, " "), "the clock went back") {
		t.Errorf("an hour back: %+v", job)
	}
	shift.Store(0)
	if job := try("right"); job.State != gateway.Done {
		t.Errorf("set right: %+v", job)
	}
	// Who says that the clock was wrong before restarts the gateway; that is on record.
	shift.Store(int64(-time.Hour))
	l.g.Stop()
	g, err := gateway.New(l.parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	l.g = g
	all, err := l.parts.Audit.Read(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	noted := 0
	for _, r := range all {
		if r.Entry.Step == "clock" {
			noted++
		}
	}
	if noted != 1 {
		t.Errorf("%d notes on the clock, want 1", noted)
	}
	if job := try("again"); job.State != gateway.Done {
		t.Errorf("after the restart: %+v", job)
	}
}
