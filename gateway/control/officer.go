package control

import (
	"context"
	"net/http"
	"net/url"

	"sallyport/audit"
	"sallyport/gateway"
)

// This file is what a compliance officer asks of the log besides reading it.

func (s *Server) officerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/audit/erase", s.erase)
	mux.HandleFunc("GET /v1/audit/holds", s.holds)
	mux.HandleFunc("POST /v1/audit/holds", s.hold)
	mux.HandleFunc("POST /v1/audit/holds/release", s.releaseHold)
}

// OfficerAct is what an officer asks for.
type OfficerAct struct {
	As      string `json:"as,omitempty"`
	Subject string `json:"subject,omitempty"`
	Dataset string `json:"dataset,omitempty"`
	Project string `json:"project,omitempty"`
	Hold    uint64 `json:"hold,omitempty"`
	Reason  string `json:"reason"`
	Basis   string `json:"basis,omitempty"`
}

// officerDo decodes an act, finds who asks, and answers what do returns.
func officerDo[T any](s *Server, w http.ResponseWriter, r *http.Request, do func(ctx context.Context, as string, in OfficerAct) (T, error)) {
	var in OfficerAct
	err := decode(r, &in)
	var out T
	if err == nil {
		out, err = do(r.Context(), in.As, in)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, out)
}

func (s *Server) erase(w http.ResponseWriter, r *http.Request) {
	officerDo(s, w, r, func(ctx context.Context, as string, in OfficerAct) (gateway.ErasedRecords, error) {
		who, err := s.caller(r, as)
		if err != nil {
			return gateway.ErasedRecords{}, err
		}
		return s.gateway.EraseRecords(ctx, subjectOf(who), in.Subject, in.Reason, in.Basis)
	})
}

func (s *Server) hold(w http.ResponseWriter, r *http.Request) {
	officerDo(s, w, r, func(ctx context.Context, as string, in OfficerAct) (audit.Receipt, error) {
		who, err := s.caller(r, as)
		if err != nil {
			return audit.Receipt{}, err
		}
		return s.gateway.HoldRecords(ctx, subjectOf(who), audit.Hold{Subject: in.Subject, Dataset: in.Dataset, Project: in.Project, Reason: in.Reason})
	})
}

func (s *Server) releaseHold(w http.ResponseWriter, r *http.Request) {
	officerDo(s, w, r, func(ctx context.Context, as string, in OfficerAct) (audit.Receipt, error) {
		who, err := s.caller(r, as)
		if err != nil {
			return audit.Receipt{}, err
		}
		return s.gateway.ReleaseHold(ctx, subjectOf(who), in.Hold, in.Reason)
	})
}

func (s *Server) holds(w http.ResponseWriter, r *http.Request) {
	_, err := s.logReader(r, r.URL.Query().Get("as"))
	var list []gateway.LegalHold
	if err == nil {
		list, err = s.gateway.Holds()
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, list)
}

// Erase erases what the log holds about a person.
func (c *Client) Erase(ctx context.Context, in OfficerAct) (e gateway.ErasedRecords, err error) {
	return e, c.call(ctx, "POST", "/v1/audit/erase", in, &e)
}

// Hold keeps records from being erased.
func (c *Client) Hold(ctx context.Context, in OfficerAct) (r audit.Receipt, err error) {
	return r, c.call(ctx, "POST", "/v1/audit/holds", in, &r)
}

// ReleaseHold ends a hold.
func (c *Client) ReleaseHold(ctx context.Context, in OfficerAct) (r audit.Receipt, err error) {
	return r, c.call(ctx, "POST", "/v1/audit/holds/release", in, &r)
}

// Holds lists the holds that stand.
func (c *Client) Holds(ctx context.Context, as string) (list []gateway.LegalHold, err error) {
	return list, c.call(ctx, "GET", "/v1/audit/holds?as="+url.QueryEscape(as), nil, &list)
}
