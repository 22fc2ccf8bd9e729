package control

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"sallyport"
	"sallyport/gateway/identity"
)

// This file is what the command line asks about access keys, with which S3
// clients act as a person for a project and a purpose.

func (s *Server) accessRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/access", s.newAccess)
	mux.HandleFunc("GET /v1/access", s.accesses)
	mux.HandleFunc("POST /v1/access/{id}/revoke", s.revoke)
}

// AccessRequest asks for an access key.
type AccessRequest struct {
	As      string `json:"as,omitempty"`
	Project string `json:"project"`
	Purpose string `json:"purpose"`
	Seconds int    `json:"seconds"`
	Note    string `json:"note,omitempty"`
}

// NewAccess is a fresh access key. The secret is told this once.
type NewAccess struct {
	identity.AccessKey
	Secret string `json:"secret"`
}

func (s *Server) newAccess(w http.ResponseWriter, r *http.Request) {
	var in AccessRequest
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	out, err := s.issue(r, in)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, out)
}

func (s *Server) issue(r *http.Request, in AccessRequest) (NewAccess, error) {
	if s.access == nil {
		return NewAccess{}, noDoor()
	}
	who, err := s.caller(r, in.As)
	if err != nil {
		return NewAccess{}, err
	}
	if !slices.Contains(who.Projects, in.Project) {
		return NewAccess{}, sallyport.Errorf("access key", sallyport.Denied, "Name a project of yours with --project.", "%s is not a member of project %q", who.ID, in.Project)
	}
	k, secret, err := s.access.New(r.Context(), who.ID, in.Project, in.Purpose, time.Duration(in.Seconds)*time.Second)
	if err != nil {
		return NewAccess{}, err
	}
	if in.Note != "" {
		if err := s.access.Annotate(r.Context(), k.ID, in.Note); err != nil {
			return NewAccess{}, err
		}
		k.Note = in.Note
	}
	// Recorded before it is told: a key that nobody heard of harms nobody.
	if err := s.gateway.RecordAccess(r.Context(), who.ID, in.Project, in.Purpose, "issue access key", k.ID); err != nil {
		return NewAccess{}, err
	}
	return NewAccess{k, secret}, nil
}

func noDoor() error {
	return sallyport.Errorf("access key", sallyport.Unsupported, "Set `s3: {listen: ADDRESS}` in the configuration.", "this gateway has no S3 door")
}

func (s *Server) accesses(w http.ResponseWriter, r *http.Request) {
	if s.access == nil {
		fail(w, noDoor())
		return
	}
	list := s.access.List()
	if !s.officer(r) {
		who, err := s.caller(r, "")
		if err != nil {
			fail(w, err)
			return
		}
		list = slices.DeleteFunc(list, func(k identity.AccessKey) bool { return k.Person != who.ID })
	}
	answer(w, list)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	if s.access == nil {
		fail(w, noDoor())
		return
	}
	id := r.PathValue("id")
	by := "operator"
	who, err := s.caller(r, r.URL.Query().Get("as"))
	if err == nil {
		by = who.ID
	}
	if !s.officer(r) {
		if err != nil {
			fail(w, err)
			return
		}
		if !slices.ContainsFunc(s.access.List(), func(k identity.AccessKey) bool { return k.ID == id && k.Person == who.ID }) {
			fail(w, sallyport.Errorf("revoke", sallyport.NotFound, "`sallyport key access` lists yours.", "no access key %q", id))
			return
		}
	}
	if err := s.access.Revoke(r.Context(), id); err != nil {
		fail(w, err)
		return
	}
	if err := s.gateway.RecordAccess(r.Context(), by, "", "", "revoke access key", id); err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]bool{"ok": true})
}

// NewAccess issues an access key.
func (c *Client) NewAccess(ctx context.Context, in AccessRequest) (k NewAccess, err error) {
	return k, c.call(ctx, "POST", "/v1/access", in, &k)
}

// Accesses lists access keys, without their secrets.
func (c *Client) Accesses(ctx context.Context) (list []identity.AccessKey, err error) {
	return list, c.call(ctx, "GET", "/v1/access", nil, &list)
}

// Revoke ends an access key.
func (c *Client) Revoke(ctx context.Context, id, as string) error {
	return c.call(ctx, "POST", "/v1/access/"+url.PathEscape(id)+"/revoke?as="+url.QueryEscape(as), nil, nil)
}
