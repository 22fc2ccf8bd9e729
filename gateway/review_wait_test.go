package gateway_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport"
	"sallyport/gateway"
	"sallyport/seal"
)

// restart stops the gateway and starts another one over the same parts.
func (l *lab) restart() {
	l.t.Helper()
	l.g.Stop()
	var err error
	if l.g, err = gateway.New(l.parts); err != nil {
		l.t.Fatal(err)
	}
	if err := l.g.Start(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

func TestReviewSurvivesRestarts(t *testing.T) {
	l := newReviewLab(t, 2, nil)
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	before, err := l.g.ReviewOf(ruth, "burst")
	if err != nil {
		t.Fatal(err)
	}
	say := l.opinion("burst", true)
	l.restart()
	l.says(ruth, "burst", say)
	l.restart()
	_, err = l.g.Opine(t.Context(), ruth, "burst", say)
	l.refused(sallyport.Denied, err, "ruth a second time, after a restart")
	after, err := l.g.ReviewOf(otto, "burst")
	if err != nil || !after.Since.Equal(before.Since) || !after.Until.Equal(before.Until) || after.Agreed() != 1 {
		t.Errorf("%+v %v", after, err)
	}
	l.nothingGiven("burst")
	l.says(otto, "burst", say)
	l.endsAs("burst", gateway.Done)
	l.nothingLeft()
}

// A review that nobody ends in time ends with the result's destruction.
func TestReviewRunsOut(t *testing.T) {
	var late atomic.Int64
	l := newReviewLab(t, 2, func(l *lab) {
		l.parts.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
		l.parts.ReviewWithin = 48 * time.Hour
	})
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	r, err := l.g.ReviewOf(ruth, "burst")
	if err != nil || r.Until.Sub(r.Since) != 48*time.Hour {
		t.Fatalf("%s to %s, %v", r.Since, r.Until, err)
	}
	// The key lives until then, and long enough after to give the result out.
	leases, _ := l.issuer.List(t.Context())
	i := slices.IndexFunc(leases, func(le seal.Lease) bool { return le.ID == r.Lease })
	if i < 0 || leases[i].Until.Before(r.Until) {
		t.Errorf("the key ends %v, the review %s", leases, r.Until)
	}
	say := l.opinion("burst", true)
	l.says(ruth, "burst", say)
	late.Store(int64(48*time.Hour - time.Minute))
	if job, _ := l.g.Job("burst"); job.State != gateway.Reviewing {
		t.Errorf("%s a minute before the end", job.State)
	}
	late.Store(int64(48*time.Hour + time.Minute))
	_, err = l.g.Opine(t.Context(), otto, "burst", say)
	l.refused(sallyport.Conflict, err, "an opinion after the deadline")
	job := l.endsAs("burst", gateway.Failed)
	if !strings.Contains(strings.Join(job.Reasons, "; "), "1 of 2 people agreed") {
		t.Errorf("reasons %v", job.Reasons)
	}
	l.nothingGiven("burst")
	l.nothingLeft()
}

// Where the key would end before the review, the review ends before the key.
func TestReviewEndsBeforeItsKey(t *testing.T) {
	l := newReviewLab(t, 1, func(l *lab) {
		l.parts.Issuer = shortIssuer{l.issuer}
		l.parts.ReviewWithin = 48 * time.Hour
	})
	l.awaitReview(request("burst", "patients", sallyport.Outside))
	r, err := l.g.ReviewOf(ruth, "burst")
	if err != nil || r.Until.Sub(r.Since) > time.Hour {
		t.Errorf("%s to %s, %v", r.Since, r.Until, err)
	}
}

// shortIssuer gives no key more than an hour.
type shortIssuer struct{ seal.Issuer }

func (s shortIssuer) Issue(ctx context.Context, release string, ttl time.Duration) (seal.Lease, error) {
	return s.Issuer.Issue(ctx, release, min(ttl, time.Hour))
}
