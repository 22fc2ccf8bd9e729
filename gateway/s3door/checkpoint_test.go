package s3door

import (
	"net/http"
	"strconv"
	"testing"

	"sallyport/gateway"
)

// Every answer carries a checkpoint: also refusals, also those without a body,
// and each the one of its own end.
func TestEveryAnswerShowsACheckpoint(t *testing.T) {
	n := 0
	l := newLab(t, func(p *Parts) {
		p.Checkpoint = func() string { n++; return strconv.Itoa(n) }
	})
	l.put("ward", "a.csv", "x,y\n")
	for i, c := range []struct{ method, path string }{
		{"GET", "/"}, {"GET", "/ward"}, {"GET", "/ward/a.csv"}, {"HEAD", "/ward/a.csv"}, {"GET", "/ward/none"},
		{"HEAD", "/ward/none"}, {"GET", "/nothing"}, {"POST", "/ward/a.csv"}, {"DELETE", "/ward/a.csv"}, {"GET", "/ward/../x"},
	} {
		before := n
		a := l.do(c.method, c.path, nil)
		if got := a.header.Get(gateway.CheckpointHeader); got != strconv.Itoa(before+1) {
			t.Errorf("%d: %s %s (%d) shows %q, not %d", i, c.method, c.path, a.status, got, before+1)
		}
	}
	unsigned, err := http.Get(l.srv.URL + "/ward")
	if err != nil {
		t.Fatal(err)
	}
	unsigned.Body.Close()
	if unsigned.Header.Get(gateway.CheckpointHeader) == "" {
		t.Error("a refusal shows no checkpoint")
	}
}
