package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/gateway/identity"
)

// This file is what the command line asks of the audit log: to read it, which
// is itself recorded, and to review it.

func (s *Server) readingRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/audit/read", s.readLog)
	mux.HandleFunc("POST /v1/audit/show", logAct(s, func(ctx context.Context, by gateway.Subject, in LogAct) (gateway.Shown, error) {
		return s.gateway.ShowRecord(ctx, by, in.Record, in.Why)
	}))
	mux.HandleFunc("POST /v1/audit/opening", logAct(s, func(ctx context.Context, by gateway.Subject, in LogAct) (audit.Opening, error) {
		return s.gateway.OpenRecord(ctx, by, in.Record, in.What, in.Why)
	}))
	mux.HandleFunc("GET /v1/audit/proof/{seq}", s.prove)
	mux.HandleFunc("GET /v1/audit/review", s.logReview)
	mux.HandleFunc("GET /v1/audit/signoffs", s.signOffs)
	mux.HandleFunc("POST /v1/audit/signoffs", logAct(s, func(ctx context.Context, by gateway.Subject, in LogAct) (gateway.SignedOff, error) {
		return s.gateway.SignOffLog(ctx, by, gateway.SignRequest{To: in.To, Meaning: in.Text})
	}))
	mux.HandleFunc("POST /v1/audit/marks", logAct(s, func(ctx context.Context, by gateway.Subject, in LogAct) (audit.Receipt, error) {
		return s.gateway.MarkRecord(ctx, by, in.Kind, in.Record, in.Text)
	}))
	mux.HandleFunc("POST /v1/audit/retire", logAct(s, func(ctx context.Context, by gateway.Subject, _ LogAct) (audit.Erased, error) {
		return s.gateway.Retire(ctx, by)
	}))
}

// LogAct is what somebody wants with the log; each act takes what it needs.
type LogAct struct {
	As     string  `json:"as,omitempty"`
	Record uint64  `json:"record"`
	To     *uint64 `json:"to,omitempty"`
	Kind   string  `json:"kind,omitempty"` // of a mark: note, flag, unflag
	Text   string  `json:"text,omitempty"` // of a mark; the meaning of a sign-off
	What   string  `json:"what,omitempty"`
	Why    string  `json:"why,omitempty"`
}

// logReader is who reads the log, if they may: a person with that right, or who
// runs the gateway, under that name.
func (s *Server) logReader(r *http.Request, as string) (gateway.Subject, error) {
	who, err := s.caller(r, as)
	by := subjectOf(who)
	if err == nil && s.gateway.May(r.Context(), by, "audit:read", "officer") {
		return by, nil
	}
	if p, ok := r.Context().Value(peerKey{}).(peer); ok && as == "" && p.err == nil && p.uid == identity.Operator() {
		return gateway.Subject{ID: gateway.OperatorID, Credential: fmt.Sprintf("unix:uid=%d", p.uid)}, nil
	}
	if err == nil {
		err = s.gateway.MayReadLog(r.Context(), by) // which records the refusal
	}
	if err == nil { // the rules changed in between
		err = sallyport.Errorf("read log", sallyport.Denied, "Try again.", "the log is for officers and the gateway's operator")
	}
	return gateway.Subject{}, err
}

// logAct makes a handler of an act that one who may read the log may ask for.
func logAct[T any](s *Server, do func(context.Context, gateway.Subject, LogAct) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in LogAct
		err := decode(r, &in)
		var by gateway.Subject
		if err == nil {
			by, err = s.logReader(r, in.As)
		}
		var out T
		if err == nil {
			in.What = plainly(in.What)
			out, err = do(r.Context(), by, in)
		}
		if err != nil {
			fail(w, err)
			return
		}
		answer(w, out)
	}
}

// plainly bounds what a client says it reads the log for.
func plainly(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), gateway.MaxWhat)], "")
}

// LogQuestion asks for records.
type LogQuestion struct {
	As string `json:"as,omitempty"`
	gateway.LogQuery
}

// logLine is one line of the answer: a record, or its end.
type logLine struct {
	Record  *audit.Record  `json:"record,omitempty"`
	Opening *audit.Opening `json:"opening,omitempty"` // where it was asked for and there is one
	Problem *Problem       `json:"problem,omitempty"`
	End     *uint64        `json:"end,omitempty"` // how many records there were
}

func (s *Server) readLog(w http.ResponseWriter, r *http.Request) {
	var in LogQuestion
	err := decode(r, &in)
	var by gateway.Subject
	if err == nil {
		by, err = s.logReader(r, in.As)
	}
	var records iter.Seq2[audit.Record, error]
	if err == nil {
		in.What = plainly(in.What)
		records, err = s.gateway.ReadLog(r.Context(), by, in.LogQuery)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	var n uint64
	for rec, err := range records {
		if err != nil {
			_ = enc.Encode(logLine{Problem: problem(err)})
			return
		}
		line := logLine{Record: &rec}
		if in.Openings && !rec.Sealed && rec.Erased == nil {
			o, err := s.gateway.Audit().Opening(rec.Seq)
			if err != nil {
				_ = enc.Encode(logLine{Problem: problem(err)})
				return
			}
			line.Opening = &o
		}
		if enc.Encode(line) != nil {
			return // the reader went away
		}
		n++
	}
	_ = enc.Encode(logLine{End: &n})
}

// prove answers a proof of one record, as a file. It holds nothing of what the
// record says, but tells its time and step.
func (s *Server) prove(w http.ResponseWriter, r *http.Request) {
	_, err := s.logReader(r, r.URL.Query().Get("as"))
	var seq uint64
	if err == nil {
		if seq, err = strconv.ParseUint(r.PathValue("seq"), 10, 64); err != nil {
			err = sallyport.Errorf("prove record", sallyport.Invalid, "", "%q is no number of a record", r.PathValue("seq"))
		}
	}
	var p audit.Proof
	if err == nil {
		p, err = gateway.ProveRecord(s.gateway.Audit(), seq)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(p.Format())
}

// logReview tells anybody who is somebody how much nobody has reviewed, and
// those who may read the log what is in it.
func (s *Server) logReview(w http.ResponseWriter, r *http.Request) {
	as := r.URL.Query().Get("as")
	reader := true
	var err error
	if !s.reads(r, as) {
		reader = false
		_, err = s.caller(r, as)
	}
	var out gateway.LogReview
	if err == nil {
		out, err = s.gateway.LogReview(r.Context(), reader)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, out)
}

// reads says whether the caller may read the log; to ask is no attempt.
func (s *Server) reads(r *http.Request, as string) bool {
	if as == "" {
		return s.officer(r)
	}
	who, err := s.caller(r, as)
	return err == nil && s.gateway.May(r.Context(), subjectOf(who), "audit:read", "officer")
}

func (s *Server) signOffs(w http.ResponseWriter, r *http.Request) {
	_, err := s.logReader(r, r.URL.Query().Get("as"))
	var out []gateway.SignedOff
	if err == nil {
		out, err = s.gateway.SignOffs(r.Context())
	}
	if err != nil {
		fail(w, err)
		return
	}
	if out == nil {
		out = []gateway.SignedOff{}
	}
	answer(w, out)
}

// ReadLog yields the records that a question asks for. The gateway records who
// asked what before it answers. An answer that ends early ends with an error.
func (c *Client) ReadLog(ctx context.Context, q LogQuestion) iter.Seq2[audit.Record, error] {
	return c.ReadOpenings(ctx, q, func(audit.Opening) {})
}

// ReadOpenings is ReadLog that also gives opened, before each record, what opens
// its commitment, where the question asks for that and there is one.
func (c *Client) ReadOpenings(ctx context.Context, q LogQuestion, opened func(audit.Opening)) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		res, err := c.do(ctx, "POST", "/v1/audit/read", q)
		if err != nil {
			yield(audit.Record{}, err)
			return
		}
		defer res.Body.Close()
		dec := json.NewDecoder(res.Body)
		for n := uint64(0); ; n++ {
			var l logLine
			err := dec.Decode(&l)
			switch {
			case err != nil:
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				err = sallyport.E("read log", sallyport.Unavailable, err, "The gateway stopped, or the answer was cut; ask again.")
			case l.Problem != nil:
				err = l.Problem.err()
			case l.End != nil && *l.End == n:
				return
			case l.Record == nil:
				err = sallyport.Errorf("read log", sallyport.Invalid, "Client and gateway may be of different versions.", "the answer has a line that is no record")
			}
			if err != nil {
				yield(audit.Record{}, err)
				return
			}
			if l.Opening != nil {
				opened(*l.Opening)
			}
			if !yield(*l.Record, nil) {
				return
			}
		}
	}
}

// ShowRecord returns a record with what explains it.
func (c *Client) ShowRecord(ctx context.Context, in LogAct) (s gateway.Shown, err error) {
	return s, c.call(ctx, "POST", "/v1/audit/show", in, &s)
}

// OpenRecord returns what opens a record's commitment.
func (c *Client) OpenRecord(ctx context.Context, in LogAct) (o audit.Opening, err error) {
	return o, c.call(ctx, "POST", "/v1/audit/opening", in, &o)
}

// ProveRecord returns a proof that a record is in the log.
func (c *Client) ProveRecord(ctx context.Context, seq uint64, as string) (audit.Proof, error) {
	body, err := c.stream(ctx, "/v1/audit/proof/"+strconv.FormatUint(seq, 10)+"?as="+url.QueryEscape(as))
	if err != nil {
		return audit.Proof{}, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, audit.MaxProofFile+1))
	if err != nil {
		return audit.Proof{}, sallyport.E("prove record", sallyport.Unavailable, err, "")
	}
	return audit.ParseProof(b)
}

// LogReview tells how the review of the log stands.
func (c *Client) LogReview(ctx context.Context, as string) (r gateway.LogReview, err error) {
	return r, c.call(ctx, "GET", "/v1/audit/review?as="+url.QueryEscape(as), nil, &r)
}

// SignOffs lists the sign-offs, oldest first.
func (c *Client) SignOffs(ctx context.Context, as string) (list []gateway.SignedOff, err error) {
	return list, c.call(ctx, "GET", "/v1/audit/signoffs?as="+url.QueryEscape(as), nil, &list)
}

// SignOffLog signs off what follows the last sign-off.
func (c *Client) SignOffLog(ctx context.Context, in LogAct) (s gateway.SignedOff, err error) {
	return s, c.call(ctx, "POST", "/v1/audit/signoffs", in, &s)
}

// MarkRecord puts a note, flag or unflag on a record.
func (c *Client) MarkRecord(ctx context.Context, in LogAct) (r audit.Receipt, err error) {
	return r, c.call(ctx, "POST", "/v1/audit/marks", in, &r)
}

// Retire applies the site's rules of retention now.
func (c *Client) Retire(ctx context.Context, in LogAct) (e audit.Erased, err error) {
	return e, c.call(ctx, "POST", "/v1/audit/retire", in, &e)
}
