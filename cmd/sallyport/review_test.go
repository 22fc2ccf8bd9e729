package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/control"
)

// reviewed makes policy ask for two people's review of every result.
func (l *lab) reviewed() {
	l.t.Helper()
	for file, change := range map[string][2]string{
		filepath.Join("policies", "data.json"): {`"reviews": 0`, `"reviews": 2`},
		"sallyport.yaml":                       {"\npeople:\n", "\npeople:\n  second:\n    roles: [reviewer]\n"},
	} {
		path := filepath.Join(l.dir, file)
		b, err := os.ReadFile(path)
		if err != nil {
			l.t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(change[0])) {
			l.t.Fatalf("%s has no %q", file, change[0])
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(change[0]), []byte(change[1])), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// nothingGiven: no result lies opened.
func (l *lab) nothingGiven(when string) {
	l.t.Helper()
	err := filepath.WalkDir(l.cfg.path("results"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			l.t.Errorf("%s: %s is there", when, strings.TrimPrefix(p, l.dir))
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// waits returns the review of a job, once it waits for people.
func (l *lab) waits(c *control.Client, id sallyport.JobID) (r gateway.Review) {
	l.t.Helper()
	l.await(string(id)+" to wait for review", func() bool {
		job, err := c.Job(l.t.Context(), id)
		if err != nil || job.State != gateway.Reviewing {
			return false
		}
		r, err = c.Review(l.t.Context(), id, "officer")
		return err == nil
	})
	return r
}

// opine says something; the gateway may die before it can answer.
func (l *lab) opine(c *control.Client, as string, r gateway.Review, approve bool) {
	l.t.Helper()
	if _, err := c.Opine(l.t.Context(), r.Job, control.Say{As: as, Approve: approve, Reason: "test", Digest: r.Digest, Log: r.Log}); err != nil {
		l.t.Logf("%s: %v", as, err)
	}
}

// TestKilledWhileReviewing kills the gateway while a result waits for people
// and at every point of what they say: the result is given out once two people
// agreed, not before, and who worked is paid once.
func TestKilledWhileReviewing(t *testing.T) {
	l := newLab(t)
	l.reviewed()
	l.nodes(l.start(""))
	l.stop()
	const at = "review/intent"
	l.submit(l.start(at), "burst", "patients", sallyport.Outside)
	l.killed(at)
	l.nothingGiven(at)

	first := l.waits(l.start(""), "burst")
	_ = l.proc.Process.Signal(syscall.SIGKILL)
	l.killed("waiting")
	l.nothingGiven("waiting")

	agreed := 0
	for _, say := range []struct {
		as, at string
		counts bool
	}{
		{"officer", "approve result/intent", false},
		{"officer", "approve result/acted", true},
		{"second", "approve result/intent", false},
		{"second", "approve result/acted", true},
	} {
		c := l.start(say.at)
		r := l.waits(c, "burst")
		if r.Agreed() != agreed || !r.Since.Equal(first.Since) || !r.Until.Equal(first.Until) || r.Digest != first.Digest {
			t.Errorf("before %s of %s: %+v", say.at, say.as, r)
		}
		l.nothingGiven(say.as + " " + say.at)
		l.opine(c, say.as, r, true)
		l.killed(say.at)
		if say.counts {
			agreed++
		}
		l.nothingGiven(say.as + " after " + say.at)
	}
	for _, at := range []string{"review/intent", "review/acted", "review/outcome", "review/journaled"} {
		l.start(at)
		l.killed(at)
		l.nothingGiven(at)
	}
	for _, at := range []string{"keep/intent", "keep/acted", "keep/outcome", "keep/journaled", "close/acted", "end/decided"} {
		l.start(at)
		l.killed(at)
	}
	job := l.ended(l.start(""), "burst", gateway.Done)
	if len(job.Nodes) != 2 || job.Cost <= 0 || job.Result == nil || job.Review.Agreed != 2 {
		t.Errorf("%+v", job)
	}
}

// TestKilledWhileRejecting: one rejection, once on record, ends the review
// whatever crashes, and nothing is left that opens.
func TestKilledWhileRejecting(t *testing.T) {
	l := newLab(t)
	l.reviewed()
	c := l.start("reject result/acted")
	l.submit(c, "inside", "genotypes", "")
	l.opine(c, "officer", l.waits(c, "inside"), false)
	l.killed("reject result/acted")
	for _, at := range []string{"review/intent", "review/acted", "review/outcome", "end/decided", "discard/intent", "discard/acted", "discard/outcome"} {
		l.start(at)
		l.killed(at)
		l.nothingGiven(at)
	}
	job := l.ended(l.start(""), "inside", gateway.Refused)
	if job.Result != nil || !strings.Contains(strings.Join(job.Reasons, " "), "officer reviewed the result and rejected it") {
		t.Errorf("%+v", job)
	}
	l.nothingGiven("the end")
}
