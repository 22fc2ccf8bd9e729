package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/identity"
)

// This file is what the command line asks about data and keys.

func (s *Server) dataRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/prepare", s.prepare)
	mux.HandleFunc("GET /v1/inbox", s.inbox)
	mux.HandleFunc("POST /v1/inbox/{id}/accept", s.accept)
	mux.HandleFunc("POST /v1/inbox/{id}/reject", s.reject)
	mux.HandleFunc("GET /v1/keys", s.keys)
	mux.HandleFunc("POST /v1/keys/{id}/destroy", s.destroy)
	mux.HandleFunc("POST /v1/rotate", s.rotate)
}

// Preparation asks for a view to be made ahead.
type Preparation struct {
	As      string `json:"as,omitempty"`
	Project string `json:"project"`
	Purpose string `json:"purpose"`
	Dataset string `json:"dataset"`
}

// Prepared is one line of the answer to a Preparation: progress, and at last
// the object or a problem.
type Prepared struct {
	Event   *gateway.Event      `json:"event,omitempty"`
	Object  *gateway.ObjectInfo `json:"object,omitempty"`
	Problem *Problem            `json:"problem,omitempty"`
}

func (s *Server) prepare(w http.ResponseWriter, r *http.Request) {
	var in Preparation
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	who, err := s.caller(r, in.As)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	type end struct {
		info gateway.ObjectInfo
		err  error
	}
	events, ended := make(chan gateway.Event, 64), make(chan end, 1)
	go func() {
		info, err := s.gateway.Prepare(r.Context(), access(who, in.Project, in.Purpose), in.Dataset, func(e gateway.Event) {
			select {
			case events <- e:
			default: // progress may be missed
			}
		})
		ended <- end{info, err}
	}()
	for {
		select {
		case e := <-events:
			_ = enc.Encode(Prepared{Event: &e})
			_ = flush()
		case e := <-ended:
			if e.err != nil {
				_ = enc.Encode(Prepared{Problem: problem(e.err)})
			} else {
				_ = enc.Encode(Prepared{Object: &e.info})
			}
			return
		}
	}
}

func access(who identity.Caller, project, purpose string) gateway.Access {
	return gateway.Access{Project: project, Purpose: purpose,
		Subject: subjectOf(who)}
}

func (s *Server) inbox(w http.ResponseWriter, r *http.Request) {
	list, err := s.gateway.Quarantine()
	if err == nil && !s.officer(r) {
		_, err = s.steward(r, r.URL.Query().Get("as"))
	}
	if err != nil {
		fail(w, err)
		return
	}
	if list == nil {
		list = []gateway.Upload{}
	}
	answer(w, list)
}

// Judgment is what a steward says of an upload.
type Judgment struct {
	As     string `json:"as,omitempty"`
	ID     string `json:"id,omitempty"`     // of the dataset that it becomes
	Reason string `json:"reason,omitempty"` // why it is rejected
}

func (s *Server) steward(r *http.Request, as string) (gateway.Subject, error) {
	who, err := s.caller(r, as)
	if err != nil {
		return gateway.Subject{}, err
	}
	if !s.gateway.May(r.Context(), subjectOf(who), "dataset:edit", "steward") {
		return gateway.Subject{}, sallyport.Errorf("inbox", sallyport.Denied, "Ask a steward.", "%s is not a steward", who.ID)
	}
	return subjectOf(who), nil
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	var in Judgment
	err := decode(r, &in)
	var who gateway.Subject
	if err == nil {
		who, err = s.steward(r, in.As)
	}
	var d sallyport.Dataset
	if err == nil {
		d, err = s.gateway.Accept(r.Context(), who, r.PathValue("id"), in.ID)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, d)
}

func (s *Server) reject(w http.ResponseWriter, r *http.Request) {
	var in Judgment
	err := decode(r, &in)
	var who gateway.Subject
	if err == nil {
		who, err = s.steward(r, in.As)
	}
	if err == nil {
		err = s.gateway.Reject(r.Context(), who, r.PathValue("id"), in.Reason)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]bool{"ok": true})
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	if !s.officer(r) {
		fail(w, sallyport.Errorf("key ls", sallyport.Denied, "Ask a compliance officer.", "live keys are for officers and the gateway's operator"))
		return
	}
	list, err := s.gateway.Keys(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, list)
}

func (s *Server) destroy(w http.ResponseWriter, r *http.Request) {
	var in Judgment
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	if !s.officer(r) {
		fail(w, sallyport.Errorf("key destroy", sallyport.Denied, "Ask a compliance officer.", "keys are destroyed by officers and the gateway's operator"))
		return
	}
	by := gateway.Subject{ID: "operator"}
	if who, err := s.caller(r, in.As); err == nil {
		by.ID = who.ID
	}
	if in.Reason == "" {
		fail(w, sallyport.Errorf("key destroy", sallyport.Invalid, "Say --reason: it is recorded.", "no reason was given"))
		return
	}
	if err := s.gateway.DestroyKey(r.Context(), by, r.PathValue("id"), in.Reason); err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]bool{"ok": true})
}

func (s *Server) rotate(w http.ResponseWriter, r *http.Request) {
	var in Judgment
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	p, _ := r.Context().Value(peerKey{}).(peer)
	if p.err != nil || p.uid != identity.Operator() {
		fail(w, sallyport.Errorf("key rotate", sallyport.Denied, "", "only the gateway's operator rotates its keys"))
		return
	}
	by := gateway.Subject{ID: "operator"}
	if who, err := s.caller(r, in.As); err == nil {
		by.ID = who.ID
	}
	if err := s.gateway.RotateKeys(r.Context(), by); err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]bool{"ok": true})
}

// Rotate exchanges the issuer's own keys.
func (c *Client) Rotate(ctx context.Context, as string) error {
	return c.call(ctx, "POST", "/v1/rotate", Judgment{As: as}, nil)
}

// Prepare makes a view ahead; progress is told what happens.
func (c *Client) Prepare(ctx context.Context, p Preparation, progress func(gateway.Event)) (gateway.ObjectInfo, error) {
	res, err := c.do(ctx, "POST", "/v1/prepare", p)
	if err != nil {
		return gateway.ObjectInfo{}, err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var line Prepared
		if err := dec.Decode(&line); err != nil {
			return gateway.ObjectInfo{}, sallyport.E("prepare", sallyport.Unavailable, err, "The gateway may have stopped; try again.")
		}
		switch {
		case line.Event != nil:
			progress(*line.Event)
		case line.Problem != nil:
			return gateway.ObjectInfo{}, line.Problem.err()
		case line.Object != nil:
			return *line.Object, nil
		}
	}
}

// Inbox returns the uploads in quarantine.
func (c *Client) Inbox(ctx context.Context, as string) (list []gateway.Upload, err error) {
	return list, c.call(ctx, "GET", "/v1/inbox?as="+url.QueryEscape(as), nil, &list)
}

// Accept takes an upload out of quarantine as a dataset.
func (c *Client) Accept(ctx context.Context, upload string, j Judgment) (d sallyport.Dataset, err error) {
	return d, c.call(ctx, "POST", "/v1/inbox/"+url.PathEscape(upload)+"/accept", j, &d)
}

// Reject ends an upload.
func (c *Client) Reject(ctx context.Context, upload string, j Judgment) error {
	return c.call(ctx, "POST", "/v1/inbox/"+url.PathEscape(upload)+"/reject", j, nil)
}

// Keys returns the live keys.
func (c *Client) Keys(ctx context.Context) (list []gateway.KeyUse, err error) {
	return list, c.call(ctx, "GET", "/v1/keys", nil, &list)
}

// DestroyKey ends a live key.
func (c *Client) DestroyKey(ctx context.Context, lease string, j Judgment) error {
	return c.call(ctx, "POST", "/v1/keys/"+url.PathEscape(lease)+"/destroy", j, nil)
}
