package control

import (
	"context"
	"net/http"
	"net/url"

	"sallyport"
	"sallyport/gateway"
)

// This file is what the command line asks about grants, consents and
// exceptions. Who may change them is the gateway's to say.

func (s *Server) registerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/register", s.register)
	mux.HandleFunc("POST /v1/grants", change(s, (*gateway.Gateway).Grant))
	mux.HandleFunc("POST /v1/grants/revoke", change(s, (*gateway.Gateway).RevokeGrant))
	mux.HandleFunc("POST /v1/consents", change(s, (*gateway.Gateway).RecordConsent))
	mux.HandleFunc("POST /v1/consents/withdraw", change(s, (*gateway.Gateway).WithdrawConsent))
	mux.HandleFunc("POST /v1/exceptions", change(s, (*gateway.Gateway).AskException))
	mux.HandleFunc("POST /v1/exceptions/approve", change(s, (*gateway.Gateway).ApproveException))
	mux.HandleFunc("POST /v1/exceptions/end", change(s, (*gateway.Gateway).EndException))
	mux.HandleFunc("POST /v1/reidentify", change(s, (*gateway.Gateway).Reidentify))
}

// asked is a change of the register and who asks for it.
type asked[T any] struct {
	As     string `json:"as,omitempty"`
	Change T      `json:"change"`
}

// change answers what do, asked by the caller, returns.
func change[T, R any](s *Server, do func(*gateway.Gateway, context.Context, gateway.Subject, T) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in asked[T]
		err := decode(r, &in)
		var who gateway.Subject
		if err == nil {
			who, err = s.subject(r, in.As)
		}
		var out R
		if err == nil {
			out, err = do(s.gateway, r.Context(), who, in.Change)
		}
		if err != nil {
			fail(w, err)
			return
		}
		answer(w, out)
	}
}

func (s *Server) subject(r *http.Request, as string) (gateway.Subject, error) {
	who, err := s.caller(r, as)
	return subjectOf(who), err
}

// register lists it. Who runs the gateway could read the file, and sees all.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	as := r.URL.Query().Get("as")
	if as == "" && s.officer(r) {
		answer(w, s.gateway.Register(gateway.Subject{Roles: []string{"officer"}}))
		return
	}
	who, err := s.subject(r, as)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, s.gateway.Register(who))
}

// Register lists what the caller may see of the register.
func (c *Client) Register(ctx context.Context, as string) (out gateway.RegisterContents, err error) {
	return out, c.call(ctx, "GET", "/v1/register?as="+url.QueryEscape(as), nil, &out)
}

// Grant gives a project a grant.
func (c *Client) Grant(ctx context.Context, as string, r gateway.GrantRequest) (gateway.Changed, error) {
	return ask(ctx, c, "grants", as, r)
}

// RevokeGrant takes a grant back.
func (c *Client) RevokeGrant(ctx context.Context, as string, e gateway.Ending) (gateway.Changed, error) {
	return ask(ctx, c, "grants/revoke", as, e)
}

// RecordConsent puts a consent on record.
func (c *Client) RecordConsent(ctx context.Context, as string, r gateway.ConsentRequest) (gateway.Changed, error) {
	return ask(ctx, c, "consents", as, r)
}

// WithdrawConsent marks a consent as withdrawn.
func (c *Client) WithdrawConsent(ctx context.Context, as string, e gateway.Ending) (gateway.Changed, error) {
	return ask(ctx, c, "consents/withdraw", as, e)
}

// AskException asks for an exception.
func (c *Client) AskException(ctx context.Context, as string, r gateway.ExceptionRequest) (gateway.Changed, error) {
	return ask(ctx, c, "exceptions", as, r)
}

// ApproveException approves what somebody else asked for.
func (c *Client) ApproveException(ctx context.Context, as string, e gateway.Ending) (gateway.Changed, error) {
	return ask(ctx, c, "exceptions/approve", as, e)
}

// EndException ends an exception, or a request for one.
func (c *Client) EndException(ctx context.Context, as string, e gateway.Ending) (gateway.Changed, error) {
	return ask(ctx, c, "exceptions/end", as, e)
}

func ask[T any](ctx context.Context, c *Client, path, as string, change T) (out gateway.Changed, err error) {
	if err := c.call(ctx, "POST", "/v1/"+path, asked[T]{as, change}, &out); err != nil {
		return gateway.Changed{}, err
	}
	if out.After == "" {
		return out, sallyport.Errorf("read answer", sallyport.Invalid, "Client and gateway may be of different versions.", "the gateway did not say what it changed")
	}
	return out, nil
}

// Reidentify turns tokens of a job's release back, on record.
func (c *Client) Reidentify(ctx context.Context, as string, in gateway.Reidentification) (out []gateway.Reidentified, err error) {
	return out, c.call(ctx, "POST", "/v1/reidentify", asked[gateway.Reidentification]{as, in}, &out)
}
