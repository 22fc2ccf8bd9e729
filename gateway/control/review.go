package control

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"sallyport"
	"sallyport/gateway"
)

// This file is what the command line asks about results that wait for people.
// Who may review is the gateway's to say.

func (s *Server) reviewRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/reviews", s.reviews)
	mux.HandleFunc("GET /v1/reviews/{id}", s.review)
	mux.HandleFunc("GET /v1/reviews/{id}/result", s.look(false))
	mux.HandleFunc("GET /v1/reviews/{id}/log", s.look(true))
	mux.HandleFunc("POST /v1/reviews/{id}", s.opine)
}

// Say is what a reviewer says of a result.
type Say struct {
	As      string           `json:"as,omitempty"`
	Approve bool             `json:"approve"`
	Reason  string           `json:"reason"`
	Digest  sallyport.Digest `json:"digest"`        // of the result that they were shown
	Log     sallyport.Digest `json:"log,omitempty"` // of what the module said
}

func (s *Server) reviewer(r *http.Request, as string) (gateway.Subject, error) {
	who, err := s.caller(r, as)
	return subjectOf(who), err
}

func (s *Server) reviews(w http.ResponseWriter, r *http.Request) {
	by, err := s.reviewer(r, r.URL.Query().Get("as"))
	var list []gateway.Review
	if err == nil {
		list, err = s.gateway.Reviews(by)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, list)
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	by, err := s.reviewer(r, r.URL.Query().Get("as"))
	var out gateway.Review
	if err == nil {
		out, err = s.gateway.ReviewOf(by, sallyport.JobID(r.PathValue("id")))
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, out)
}

func (s *Server) look(log bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, err := s.reviewer(r, r.URL.Query().Get("as"))
		var f io.ReadCloser
		if err == nil {
			f, err = s.gateway.LookAtResult(r.Context(), by, sallyport.JobID(r.PathValue("id")), log)
		}
		if err != nil {
			fail(w, err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err := io.Copy(w, f); err != nil {
			s.log.Error("a result could not be shown to its end", "job", r.PathValue("id"), "err", err)
			panic(http.ErrAbortHandler) // the reader must see that it is cut
		}
	}
}

func (s *Server) opine(w http.ResponseWriter, r *http.Request) {
	var in Say
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	by, err := s.reviewer(r, in.As)
	var out gateway.Review
	if err == nil {
		out, err = s.gateway.Opine(r.Context(), by, sallyport.JobID(r.PathValue("id")),
			gateway.Opinion{Approve: in.Approve, Reason: in.Reason, Digest: in.Digest, Log: in.Log})
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, out)
}

// Reviews lists the results that wait for people and that the caller may review.
func (c *Client) Reviews(ctx context.Context, as string) (list []gateway.Review, err error) {
	return list, c.call(ctx, "GET", "/v1/reviews?as="+url.QueryEscape(as), nil, &list)
}

// Review returns one of them.
func (c *Client) Review(ctx context.Context, id sallyport.JobID, as string) (r gateway.Review, err error) {
	return r, c.call(ctx, "GET", "/v1/reviews/"+url.PathEscape(string(id))+"?as="+url.QueryEscape(as), nil, &r)
}

// LookAtResult opens the result of a job that waits for review, or with log
// what its module said. The look is on record when it returns.
func (c *Client) LookAtResult(ctx context.Context, id sallyport.JobID, as string, log bool) (io.ReadCloser, error) {
	what := "result"
	if log {
		what = "log"
	}
	return c.stream(ctx, "/v1/reviews/"+url.PathEscape(string(id))+"/"+what+"?as="+url.QueryEscape(as))
}

// Opine says what a reviewer thinks of a result, and returns the review as it
// stands then.
func (c *Client) Opine(ctx context.Context, id sallyport.JobID, say Say) (r gateway.Review, err error) {
	return r, c.call(ctx, "POST", "/v1/reviews/"+url.PathEscape(string(id)), say, &r)
}
