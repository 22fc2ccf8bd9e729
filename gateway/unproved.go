package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sallyport/audit"
)

// Requests that prove nothing are recorded one by one up to this many at once
// and on average a second; what is beyond is counted, and the number recorded
// with the next one. Otherwise a stranger could fill the log's disk, and so
// stop the gateway.
const (
	unprovedBurst = 100
	unprovedRate  = 5
)

// strangers is the allowance for records about requests that prove nothing.
type strangers struct {
	mu      sync.Mutex
	left    float64
	at      time.Time
	uncount int // not recorded since the last record
}

// take reports whether a record may be made now, and how many were not made
// since the last one.
func (s *strangers) take(now time.Time) (ok bool, missed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() {
		s.left = unprovedBurst
	} else if d := now.Sub(s.at); d > 0 {
		s.left = min(unprovedBurst, s.left+d.Seconds()*unprovedRate)
	}
	s.at = now
	if s.left < 1 {
		s.uncount++
		return false, 0
	}
	s.left--
	missed, s.uncount = s.uncount, 0
	return true, missed
}

// RecordUnproved records that a door turned a request away whose sender it could
// not make sure of. claimed is who it says it is: an access key's ID, for instance.
func (g *Gateway) RecordUnproved(ctx context.Context, claimed, dataset, code string) error {
	ok, missed := g.strangers.take(g.now())
	if !ok {
		return nil
	}
	reasons := []string{code}
	if missed > 0 {
		reasons = append(reasons, fmt.Sprintf("%d more like it were refused before and not recorded one by one", missed))
	}
	_, err := g.parts.Audit.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: "identify", Phase: audit.Note,
		Subject: claimed, Dataset: dataset, Decision: "deny", Reasons: reasons})
	return err
}
