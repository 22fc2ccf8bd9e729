package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"sallyport"
	"sallyport/gateway"
)

// This file shows clients the audit log's checkpoint with every answer, and
// proves to them that it continues the one they know.

func (s *Server) checkpointRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/audit/checkpoint", s.checkpoint)
	mux.HandleFunc("GET /v1/audit/consistency", s.consistency)
}

// showing sets the checkpoint header when an answer begins, so that it covers
// what the request did.
func showing(line func() string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := &shownWriter{ResponseWriter: w, line: line}
		h.ServeHTTP(shown, r)
		shown.show() // an answer without a word
	})
}

type shownWriter struct {
	http.ResponseWriter
	line func() string
	done bool
}

func (w *shownWriter) show() {
	if !w.done {
		w.done = true
		w.Header().Set(gateway.CheckpointHeader, w.line())
	}
}

func (w *shownWriter) WriteHeader(status int) {
	w.show()
	w.ResponseWriter.WriteHeader(status)
}

func (w *shownWriter) Write(b []byte) (int, error) {
	w.show()
	return w.ResponseWriter.Write(b)
}

// FlushError is what an http.ResponseController calls: it begins the answer, too.
func (w *shownWriter) FlushError() error {
	w.show()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets an http.ResponseController do the rest.
func (w *shownWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SignedCheckpoint is the log's latest checkpoint with its verifier key.
type SignedCheckpoint struct {
	Checkpoint string `json:"checkpoint"`
	Key        string `json:"key"`
}

func (s *Server) checkpoint(w http.ResponseWriter, _ *http.Request) {
	l := s.gateway.Audit()
	signed, err := l.Checkpoint()
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, SignedCheckpoint{signed, l.VerifierKey()})
}

func (s *Server) consistency(w http.ResponseWriter, r *http.Request) {
	var sizes [2]uint64
	for i, name := range []string{"old", "new"} {
		var err error
		if sizes[i], err = strconv.ParseUint(r.URL.Query().Get(name), 10, 64); err != nil {
			fail(w, sallyport.Errorf("prove consistency", sallyport.Invalid, "", "%q is not a number of records", name))
			return
		}
	}
	path, err := s.gateway.ProveConsistency(sizes[0], sizes[1])
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, path)
}

// Watch is told of the checkpoint that each answer carried, "" if it carried
// none. An error of it fails the call.
type Watch func(ctx context.Context, line string, c *Client) error

// Checkpoint returns the log's latest checkpoint and its verifier key. The
// answer is not shown to the client's [Watch].
func (c *Client) Checkpoint(ctx context.Context) (signed, verifierKey string, err error) {
	var out SignedCheckpoint
	err = c.unwatched().call(ctx, http.MethodGet, "/v1/audit/checkpoint", nil, &out)
	return out.Checkpoint, out.Key, err
}

// Consistency returns the proof that the log of size records continues that of
// old: hashes in base64. The answer is not shown to the client's [Watch].
func (c *Client) Consistency(ctx context.Context, old, size uint64) (hashes []string, err error) {
	return hashes, c.unwatched().call(ctx, http.MethodGet, fmt.Sprintf("/v1/audit/consistency?old=%d&new=%d", old, size), nil, &hashes)
}

func (c *Client) unwatched() *Client { return &Client{http: c.http} }
