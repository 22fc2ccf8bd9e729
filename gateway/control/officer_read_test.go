package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
)

// answering is a client of something that answers readings with body.
func answering(t *testing.T, body string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/ping" {
			answer(w, map[string]bool{"ok": true})
			return
		}
		fmt.Fprint(w, body)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	c, err := Dial(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestACutReadingIsNoAnswer: an answer without its end, or with another number of
// records than it says, is an error, never a short log.
func TestACutReadingIsNoAnswer(t *testing.T) {
	record := `{"record": {"seq": 1, "entry": {"time": "2026-01-01T00:00:00Z", "step": "admit", "phase": "note"}, "leaf": "sha256:00"}}` + "\n"
	for name, c := range map[string]struct {
		body    string
		records int
		kind    sallyport.Kind
	}{
		"whole":         {record + record + `{"end": 2}`, 2, ""},
		"empty":         {`{"end": 0}`, 0, ""},
		"nothing":       {"", 0, sallyport.Unavailable},
		"no end":        {record, 1, sallyport.Unavailable},
		"half a line":   {record + record[:40], 1, sallyport.Unavailable},
		"another count": {record + `{"end": 2}`, 1, sallyport.Invalid},
		"a problem":     {record + `{"problem": {"kind": "damaged", "error": "record 2 was changed"}}`, 1, sallyport.Damaged},
		"another thing": {`{"thing": 1}`, 0, sallyport.Invalid},
	} {
		n, kind := 0, sallyport.Kind("")
		for _, err := range answering(t, c.body).ReadLog(t.Context(), LogQuestion{LogQuery: gateway.LogQuery{Filter: audit.Filter{Job: "x"}}}) {
			if err != nil {
				kind = sallyport.KindOf(err)
				continue
			}
			n++
		}
		if n != c.records || kind != c.kind {
			t.Errorf("%s: %d records, %q", name, n, kind)
		}
	}
}

func TestWhatAReadingIsForIsOneLine(t *testing.T) {
	if got := plainly("audit ls\n--job x\x1b[31m"); got != "audit ls --job x [31m" {
		t.Errorf("%q", got)
	}
	if got := plainly(string(make([]byte, 5000))); len(got) > gateway.MaxWhat {
		t.Errorf("%d bytes", len(got))
	}
}
