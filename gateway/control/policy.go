package control

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"

	"sallyport"
	"sallyport/gateway/rulebook"
	"sallyport/policy"
)

// This file is what the command line asks of the rule book: how a policy bundle
// comes into force.

// maxBundle bounds the zip archive of a bundle, in bytes.
const maxBundle = 32 << 20

// UseBook gives the server the rule book. Without one it says that there is none.
func (s *Server) UseBook(b *rulebook.Book) { s.book = b }

func (s *Server) policyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/policy", s.policyStatus)
	mux.HandleFunc("GET /v1/policy/versions", s.policyVersions)
	mux.HandleFunc("GET /v1/policy/drafts", s.policyDrafts)
	mux.HandleFunc("GET /v1/policy/drafts/{version}", s.policyDraft)
	mux.HandleFunc("POST /v1/policy/drafts", s.proposePolicy)
	mux.HandleFunc("POST /v1/policy/drafts/{version}/approve", s.approvePolicy)
	mux.HandleFunc("POST /v1/policy/drafts/{version}/withdraw", s.withdrawPolicy)
	mux.HandleFunc("POST /v1/policy/rollback", s.rollbackPolicy)
}

// bounded limits what a request may carry: little, but for a bundle.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		most := int64(maxBody)
		if r.URL.Path == "/v1/policy/drafts" {
			most = maxBundle
		}
		http.MaxBytesHandler(h, most).ServeHTTP(w, r)
	})
}

// reader reports whether the caller may read drafts and their replays, which
// tell who asked for what.
func (s *Server) policyReader(r *http.Request) error {
	if s.book == nil {
		return sallyport.Errorf("policy", sallyport.Unsupported, "", "this gateway has no rule book")
	}
	if s.officer(r) {
		return nil
	}
	who, err := s.caller(r, "")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(who.Roles, func(role string) bool { return role == "admin" || role == "approver" }) {
		return sallyport.Errorf("policy", sallyport.Denied, "Ask an officer, an admin or an approver.", "%s may not read policy drafts", who.ID)
	}
	return nil
}

func (s *Server) policyAnswer(w http.ResponseWriter, r *http.Request, get func() (any, error)) {
	err := s.policyReader(r)
	var v any
	if err == nil {
		v, err = get()
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, v)
}

func (s *Server) policyStatus(w http.ResponseWriter, r *http.Request) {
	s.policyAnswer(w, r, func() (any, error) { return s.book.Status() })
}

func (s *Server) policyVersions(w http.ResponseWriter, r *http.Request) {
	s.policyAnswer(w, r, func() (any, error) { return s.book.Activations(), nil })
}

func (s *Server) policyDrafts(w http.ResponseWriter, r *http.Request) {
	s.policyAnswer(w, r, func() (any, error) { return s.book.Drafts() })
}

func (s *Server) policyDraft(w http.ResponseWriter, r *http.Request) {
	s.policyAnswer(w, r, func() (any, error) { return s.book.Draft(sallyport.Digest(r.PathValue("version"))) })
}

// PolicyAct is what a person asks of a draft or of the book.
type PolicyAct struct {
	As      string           `json:"as,omitempty"`
	Version sallyport.Digest `json:"version,omitempty"`
	Reason  string           `json:"reason,omitempty"`
	Loosens int              `json:"loosens,omitempty"`
}

// PolicyLine is one line of an answer that takes long: how far it is, or how it
// ended.
type PolicyLine struct {
	Progress *rulebook.Progress `json:"progress,omitempty"`
	Draft    *rulebook.Draft    `json:"draft,omitempty"`
	Problem  *Problem           `json:"problem,omitempty"`
}

// asPerson finds who acts on the book.
func (s *Server) asPerson(r *http.Request, as string) (policy.Subject, error) {
	if s.book == nil {
		return policy.Subject{}, sallyport.Errorf("policy", sallyport.Unsupported, "", "this gateway has no rule book")
	}
	who, err := s.caller(r, as)
	return subjectOf(who), err
}

// streamed answers line by line while do works.
func streamed(w http.ResponseWriter, do func(report func(rulebook.Progress)) (rulebook.Draft, error)) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	d, err := do(func(p rulebook.Progress) {
		_ = enc.Encode(PolicyLine{Progress: &p})
		_ = flush.Flush()
	})
	last := PolicyLine{Draft: &d}
	if err != nil {
		last.Problem = problem(err)
	}
	_ = enc.Encode(last)
}

func (s *Server) proposePolicy(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	who, err := s.asPerson(r, q.Get("as"))
	var c rulebook.Candidate
	if err == nil {
		c, err = candidate(r.Body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	c.Origin = q.Get("origin")
	streamed(w, func(report func(rulebook.Progress)) (rulebook.Draft, error) {
		return s.book.Propose(r.Context(), who, c, q.Get("note"), report)
	})
}

func candidate(body io.Reader) (rulebook.Candidate, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return rulebook.Candidate{}, sallyport.E("draft policy", sallyport.Invalid, err, "A bundle may have 32 MiB.")
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return rulebook.Candidate{}, sallyport.E("draft policy", sallyport.Invalid, err, "The body is the bundle as a zip archive.")
	}
	return rulebook.Candidate{Files: z}, nil
}

// act decodes who wants what of which draft.
func (s *Server) policyAct(w http.ResponseWriter, r *http.Request) (policy.Subject, PolicyAct, bool) {
	var in PolicyAct
	err := decode(r, &in)
	var who policy.Subject
	if err == nil {
		who, err = s.asPerson(r, in.As)
	}
	if err != nil {
		fail(w, err)
		return who, in, false
	}
	return who, in, true
}

func (s *Server) approvePolicy(w http.ResponseWriter, r *http.Request) {
	who, in, ok := s.policyAct(w, r)
	if !ok {
		return
	}
	d, err := s.book.Draft(sallyport.Digest(r.PathValue("version")))
	if err != nil {
		fail(w, err)
		return
	}
	streamed(w, func(report func(rulebook.Progress)) (rulebook.Draft, error) {
		return s.book.Approve(r.Context(), who, d.Version, in.Loosens, report)
	})
}

func (s *Server) withdrawPolicy(w http.ResponseWriter, r *http.Request) {
	who, in, ok := s.policyAct(w, r)
	if !ok {
		return
	}
	d, err := s.book.Draft(sallyport.Digest(r.PathValue("version")))
	if err == nil {
		d, err = s.book.Withdraw(r.Context(), who, d.Version, in.Reason)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, d)
}

func (s *Server) rollbackPolicy(w http.ResponseWriter, r *http.Request) {
	who, in, ok := s.policyAct(w, r)
	if !ok {
		return
	}
	a, err := s.book.Rollback(r.Context(), who, in.Version, in.Reason)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, a)
}

// PolicyStatus returns what is in force and what waits.
func (c *Client) PolicyStatus(ctx context.Context) (st rulebook.Status, err error) {
	return st, c.call(ctx, "GET", "/v1/policy", nil, &st)
}

// PolicyVersions returns every activation, oldest first.
func (c *Client) PolicyVersions(ctx context.Context) (list []rulebook.Activation, err error) {
	return list, c.call(ctx, "GET", "/v1/policy/versions", nil, &list)
}

// PolicyDrafts returns every draft, oldest first.
func (c *Client) PolicyDrafts(ctx context.Context) (list []rulebook.Draft, err error) {
	return list, c.call(ctx, "GET", "/v1/policy/drafts", nil, &list)
}

// PolicyDraft returns one draft with its replay's report.
func (c *Client) PolicyDraft(ctx context.Context, version string) (d rulebook.Draft, err error) {
	return d, c.call(ctx, "GET", "/v1/policy/drafts/"+url.PathEscape(version), nil, &d)
}

// ProposePolicy hands in a bundle and returns the draft it became. The draft is
// returned beside an error that a check caused.
func (c *Client) ProposePolicy(ctx context.Context, as, note, origin string, bundle io.Reader, report func(rulebook.Progress)) (rulebook.Draft, error) {
	q := url.Values{"as": {as}, "note": {note}, "origin": {origin}}
	res, err := c.send(ctx, "POST", "/v1/policy/drafts?"+q.Encode(), "application/zip", bundle)
	if err != nil {
		return rulebook.Draft{}, err
	}
	return policyLines(res.Body, report)
}

// ApprovePolicy approves a draft, and returns it as it then is.
func (c *Client) ApprovePolicy(ctx context.Context, version string, in PolicyAct, report func(rulebook.Progress)) (rulebook.Draft, error) {
	res, err := c.do(ctx, "POST", "/v1/policy/drafts/"+url.PathEscape(version)+"/approve", in)
	if err != nil {
		return rulebook.Draft{}, err
	}
	return policyLines(res.Body, report)
}

// WithdrawPolicy ends a draft.
func (c *Client) WithdrawPolicy(ctx context.Context, version string, in PolicyAct) (d rulebook.Draft, err error) {
	return d, c.call(ctx, "POST", "/v1/policy/drafts/"+url.PathEscape(version)+"/withdraw", in, &d)
}

// RollbackPolicy brings a former version back.
func (c *Client) RollbackPolicy(ctx context.Context, in PolicyAct) (a rulebook.Activation, err error) {
	return a, c.call(ctx, "POST", "/v1/policy/rollback", in, &a)
}

func policyLines(body io.ReadCloser, report func(rulebook.Progress)) (d rulebook.Draft, err error) {
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var line PolicyLine
		if err := dec.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return d, sallyport.E("policy", sallyport.Unavailable, err, "The gateway stopped; nothing came into force that `sallyport policy status` does not show.")
		}
		switch {
		case line.Progress != nil:
			if report != nil {
				report(*line.Progress)
			}
		case line.Draft != nil:
			if line.Problem != nil {
				return *line.Draft, line.Problem.err()
			}
			return *line.Draft, nil
		}
	}
}
