package gateway_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/audit"
)

// A stranger who knocks without end fills no disk, and is counted all the same.
func TestStrangersFillNoLog(t *testing.T) {
	now := time.Now()
	l := newLab(t, func(l *lab) { l.parts.Now = func() time.Time { return now } })
	for range 1000 {
		if err := l.g.RecordUnproved(t.Context(), "key:AKNOBODY", "patients", "s3: SignatureDoesNotMatch"); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Second)
	if err := l.g.RecordUnproved(t.Context(), "key:AKNOBODY", "patients", "s3: SignatureDoesNotMatch"); err != nil {
		t.Fatal(err)
	}
	n, last := 0, ""
	for r, err := range l.parts.Audit.Records(t.Context(), audit.Filter{Step: "identify"}) {
		if err != nil {
			t.Fatal(err)
		}
		n, last = n+1, strings.Join(r.Entry.Reasons, "; ")
	}
	if n != 101 || !strings.Contains(last, "900 more like it") {
		t.Errorf("%d records, the last says %q", n, last)
	}
}
