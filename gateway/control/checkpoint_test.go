package control

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"sallyport/gateway"
)

// However an answer begins, and if it says nothing at all, it shows the
// checkpoint as it is then, after what the request did.
func TestEveryAnswerShowsTheCheckpoint(t *testing.T) {
	log := "before"
	for name, h := range map[string]http.HandlerFunc{
		"write":   func(w http.ResponseWriter, _ *http.Request) { log = "after"; _, _ = io.WriteString(w, "x") },
		"status":  func(w http.ResponseWriter, _ *http.Request) { log = "after"; w.WriteHeader(http.StatusTeapot) },
		"flush":   func(w http.ResponseWriter, _ *http.Request) { log = "after"; _ = http.NewResponseController(w).Flush() },
		"nothing": func(http.ResponseWriter, *http.Request) { log = "after" },
	} {
		log = "before"
		srv := httptest.NewServer(showing(func() string { return log }, h))
		res, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		srv.Close()
		if got := res.Header.Get(gateway.CheckpointHeader); got != "after" {
			t.Errorf("%s: shows %q", name, got)
		}
	}
}
