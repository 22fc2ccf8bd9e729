package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sallyport"
	"sallyport/audit"
)

// A decision compares times: a grant's end, a consent's, an exception's. A clock
// that goes back would bring ended ones back to life, so no decision is earlier
// than what was recorded before it.

// backwards is how far a clock may go back unnoticed: what time synchronization
// corrects.
const backwards = time.Minute

// clock remembers the latest time that a decision or a record had.
type clock struct {
	mu     sync.Mutex
	latest time.Time
}

// decisionTime is the time of a decision made now, in UTC.
func (g *Gateway) decisionTime() (time.Time, error) {
	now := g.now().UTC()
	g.clock.mu.Lock()
	defer g.clock.mu.Unlock()
	if now.Before(g.clock.latest.Add(-backwards)) {
		return now, sallyport.Errorf("read clock", sallyport.Unavailable,
			"Set this machine's clock right. If it was wrong before and is right now, restart the gateway: it then takes the new time, and records that.",
			"the clock went back from %s to %s, and nothing is decided by a time that was already past",
			g.clock.latest.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	if now.After(g.clock.latest) {
		g.clock.latest = now
	}
	return now, nil
}

// startClock takes the present time for right, and puts on record if it is
// before what the log has seen already.
func (g *Gateway) startClock(ctx context.Context) error {
	now := g.now().UTC()
	g.clock.mu.Lock()
	g.clock.latest = now
	g.clock.mu.Unlock()
	size := g.parts.Audit.Size()
	if size == 0 {
		return nil
	}
	last, err := g.parts.Audit.Get(size - 1)
	if err != nil {
		return err
	}
	was := last.Entry.Time
	if !now.Before(was.Add(-backwards)) {
		return nil
	}
	said := fmt.Sprintf("the clock is at %s, and record %d was made at %s: grants and consents that had ended between may count again",
		now.Format(time.RFC3339), last.Seq, was.UTC().Format(time.RFC3339))
	g.log.Error("THE CLOCK WENT BACK while the gateway was stopped", "now", now, "before", was)
	_, err = g.parts.Audit.Append(ctx, audit.Entry{Time: now, Step: "clock", Phase: audit.Note, Reasons: []string{said}})
	return err
}
