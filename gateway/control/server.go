// Package control is the gateway's own door: HTTP over a Unix socket, for the
// command line on the same machine. Who asks is what the kernel says of the
// other end of the socket.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/identity"
	"sallyport/gateway/rulebook"
)

// maxBody bounds a request: a job is a few hundred bytes.
const maxBody = 1 << 20

// Enroller makes one-time tokens for nodes of the outside.
type Enroller interface {
	Token(ctx context.Context, operator string, ttl time.Duration) (string, error)
}

// Server answers on the socket.
type Server struct {
	gateway  *gateway.Gateway
	people   *identity.Directory
	enroller Enroller           // nil where there is no outside
	access   *identity.KeyStore // nil where there is no S3 door
	book     *rulebook.Book     // nil where there is none
	log      *slog.Logger
	http     *http.Server
}

// New returns a server for g. enroller and access may be nil.
func New(g *gateway.Gateway, people *identity.Directory, enroller Enroller, access *identity.KeyStore, log *slog.Logger) *Server {
	s := &Server{gateway: g, people: people, enroller: enroller, access: access, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ping", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]bool{"ok": true}) })
	mux.HandleFunc("POST /v1/jobs", s.submit)
	mux.HandleFunc("GET /v1/jobs", s.jobs)
	mux.HandleFunc("GET /v1/jobs/{id}", s.job)
	mux.HandleFunc("GET /v1/jobs/{id}/events", s.events)
	mux.HandleFunc("GET /v1/jobs/{id}/described", s.described)
	mux.HandleFunc("GET /v1/jobs/{id}/result", s.content((*gateway.Gateway).OpenResult))
	mux.HandleFunc("GET /v1/jobs/{id}/log", s.content((*gateway.Gateway).OpenLog))
	mux.HandleFunc("POST /v1/jobs/{id}/cancel", s.cancel)
	mux.HandleFunc("GET /v1/releases/{dataset}", s.releases)
	mux.HandleFunc("GET /v1/audit", s.snapshot)
	mux.HandleFunc("GET /v1/nodes", s.nodes)
	mux.HandleFunc("POST /v1/nodes/token", s.token)
	s.dataRoutes(mux)
	s.accessRoutes(mux)
	s.policyRoutes(mux)
	s.officerRoutes(mux)
	s.readingRoutes(mux)
	s.reviewRoutes(mux)
	s.registerRoutes(mux)
	s.checkpointRoutes(mux)
	s.http = &http.Server{
		Handler:           showing(g.CheckpointLine, bounded(mux)),
		ReadHeaderTimeout: 5 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid, err := identity.Peer(c)
			return context.WithValue(ctx, peerKey{}, peer{uid, err})
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Listen makes the socket at path, for the gateway's own user alone, replacing
// one that a killed gateway left.
func Listen(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, sallyport.Errorf("listen", sallyport.Conflict, "Stop it, or use another folder.", "a gateway is running already at %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.E("listen", sallyport.Unavailable, err, "")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, sallyport.E("listen", sallyport.Unavailable, err, "A socket's path may be at most 107 bytes long; choose a shorter one with `socket:`.")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, sallyport.E("listen", sallyport.Unavailable, err, "")
	}
	return l, nil
}

// Serve answers until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops answering.
func (s *Server) Close() error { return s.http.Close() }

type peerKey struct{}

type peer struct {
	uid uint32
	err error
}

// Submission is what a client sends to submit a job.
type Submission struct {
	As        string                `json:"as,omitempty"`
	ID        sallyport.JobID       `json:"id"`
	Project   string                `json:"project"`
	Purpose   string                `json:"purpose"`
	Dataset   string                `json:"dataset"`
	Algorithm string                `json:"algorithm"`
	Args      []string              `json:"args,omitempty"`
	Where     sallyport.Destination `json:"where,omitempty"`
	MaxPrice  sallyport.Money       `json:"max_price,omitempty"`
	Copies    int                   `json:"copies,omitempty"`
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	var in Submission
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	who, err := s.caller(r, in.As)
	if err != nil {
		// An access was tried: it is recorded although nobody knows by whom.
		p, _ := r.Context().Value(peerKey{}).(peer)
		if rec := s.gateway.RecordRefusal(r.Context(), p.uid, in.Dataset, in.Purpose, err); rec != nil {
			err = rec
		}
		fail(w, err)
		return
	}
	job, err := s.gateway.Submit(r.Context(), gateway.Request{
		ID: in.ID, Subject: subjectOf(who),
		Project: in.Project, Purpose: in.Purpose, Dataset: in.Dataset, Algorithm: in.Algorithm, Args: in.Args,
		Where: in.Where, MaxPrice: in.MaxPrice, Copies: in.Copies,
	})
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, job)
}

func (s *Server) jobs(w http.ResponseWriter, r *http.Request) {
	see, err := s.sees(r)
	if err != nil {
		fail(w, err)
		return
	}
	jobs, err := s.gateway.Jobs()
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, slices.DeleteFunc(jobs, func(j gateway.Job) bool { return !see(j) }))
}

func (s *Server) job(w http.ResponseWriter, r *http.Request) {
	if job, ok := s.visible(w, r); ok {
		answer(w, job)
	}
}

// described answers what a job's release report is made of.
func (s *Server) described(w http.ResponseWriter, r *http.Request) {
	job, ok := s.visible(w, r)
	if !ok {
		return
	}
	d, err := s.gateway.Described(job.ID)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, d)
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	job, ok := s.visible(w, r)
	if !ok {
		return
	}
	by := gateway.Subject{ID: "operator"}
	if who, err := s.caller(r, r.URL.Query().Get("as")); err == nil {
		by.ID = who.ID
	}
	if err := s.gateway.Cancel(r.Context(), job.ID, by); err != nil {
		fail(w, err)
		return
	}
	job, err := s.gateway.Wait(r.Context(), job.ID)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, job)
}

// events streams a job's events, one JSON object a line, until it has ended.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	events, stop := s.gateway.Watch(sallyport.JobID(r.PathValue("id")))
	defer stop()
	job, ok := s.visible(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	for _, d := range job.Steps {
		_ = enc.Encode(gateway.Event{Job: job.ID, Step: d.Name, Phase: "done", Text: d.Say, Time: d.Ended})
	}
	if job.State.Final() {
		_ = enc.Encode(gateway.Event{Job: job.ID, Step: "end", Phase: string(job.State), Time: job.Ended})
		return
	}
	_ = flush()
	for {
		select {
		case e, open := <-events:
			if !open || enc.Encode(e) != nil || flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// content streams something that is kept of a job.
func (s *Server) content(open func(*gateway.Gateway, context.Context, sallyport.JobID) (io.ReadCloser, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		job, ok := s.visible(w, r)
		if !ok {
			return
		}
		f, err := open(s.gateway, r.Context(), job.ID)
		if err != nil {
			fail(w, err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, f)
	}
}

func (s *Server) releases(w http.ResponseWriter, r *http.Request) {
	list, err := s.gateway.Releases(r.PathValue("dataset"))
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, list)
}

// snapshot is a consistent copy of the whole log: whoever gets it verifies it
// on their own. What its records say is sealed, and the keys do not go along, so
// it is no reading.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	if !s.officer(r) {
		fail(w, sallyport.Errorf("audit", sallyport.Denied, "Ask a compliance officer.", "the log is for officers and the gateway's operator"))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.gateway.Audit().Snapshot(w); err != nil {
		s.log.Error("snapshot of the audit log", "err", err)
		panic(http.ErrAbortHandler) // the reader must see that it is cut
	}
}

func (s *Server) nodes(w http.ResponseWriter, r *http.Request) {
	nodes, err := s.gateway.Nodes(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, nodes)
}

// TokenRequest asks for a one-time enrolment token.
type TokenRequest struct {
	Operator string `json:"operator"`
	Seconds  int    `json:"seconds"`
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	var in TokenRequest
	if err := decode(r, &in); err != nil {
		fail(w, err)
		return
	}
	p, _ := r.Context().Value(peerKey{}).(peer)
	if p.err != nil || p.uid != identity.Operator() {
		fail(w, sallyport.Errorf("node token", sallyport.Denied, "", "only the gateway's operator may enroll nodes"))
		return
	}
	if s.enroller == nil {
		fail(w, sallyport.Errorf("node token", sallyport.Unsupported, "Add `- kind: network` under `backends:`.", "this gateway has no outside network"))
		return
	}
	t, err := s.enroller.Token(r.Context(), in.Operator, time.Duration(in.Seconds)*time.Second)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]string{"token": t})
}

func (s *Server) caller(r *http.Request, as string) (identity.Caller, error) {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return identity.Caller{}, sallyport.Errorf("identify", sallyport.Denied, "", "not a Unix socket")
	}
	if p.err != nil {
		return identity.Caller{}, p.err
	}
	return s.people.Identify(p.uid, as)
}

// officer reports whether the caller may see everybody's jobs and the log: an
// officer, or who runs the gateway and could read its files anyway.
func (s *Server) officer(r *http.Request) bool {
	p, _ := r.Context().Value(peerKey{}).(peer)
	if p.err == nil && p.uid == identity.Operator() {
		return true
	}
	who, err := s.caller(r, "")
	return err == nil && s.gateway.May(r.Context(), subjectOf(who), "audit:read", "officer")
}

func subjectOf(who identity.Caller) gateway.Subject {
	return gateway.Subject{ID: who.ID, Roles: who.Roles, Projects: who.Projects, Credential: who.Credential}
}

func (s *Server) sees(r *http.Request) (func(gateway.Job) bool, error) {
	if s.officer(r) {
		return func(gateway.Job) bool { return true }, nil
	}
	who, err := s.caller(r, "")
	if err != nil {
		return nil, err
	}
	return func(j gateway.Job) bool { return j.Subject.ID == who.ID }, nil
}

// visible finds the job of the path; another's job is as absent as none.
func (s *Server) visible(w http.ResponseWriter, r *http.Request) (gateway.Job, bool) {
	id := sallyport.JobID(r.PathValue("id"))
	see, err := s.sees(r)
	var job gateway.Job
	if err == nil {
		job, err = s.gateway.Job(id)
	}
	if err == nil && !see(job) {
		err = sallyport.Errorf("job", sallyport.NotFound, "`sallyport job ls` lists yours.", "no job %q", id)
	}
	if err != nil {
		fail(w, err)
		return job, false
	}
	return job, true
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return sallyport.E("read request", sallyport.Invalid, err, "Client and gateway may be of different versions.")
	}
	return nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// Problem is an error as it crosses the socket.
type Problem struct {
	Kind  sallyport.Kind `json:"kind"`
	Error string         `json:"error"`
	Hint  string         `json:"hint,omitempty"`
}

// status is this door's table from kinds to HTTP.
func status(k sallyport.Kind) int {
	switch k {
	case sallyport.Denied:
		return http.StatusForbidden
	case sallyport.Invalid:
		return http.StatusBadRequest
	case sallyport.NotFound:
		return http.StatusNotFound
	case sallyport.Conflict:
		return http.StatusConflict
	case sallyport.Unsupported:
		return http.StatusNotImplemented
	case sallyport.Unavailable:
		return http.StatusServiceUnavailable
	case sallyport.Exhausted:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}

func fail(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status(sallyport.KindOf(err)))
	_ = json.NewEncoder(w).Encode(problem(err))
}

func problem(err error) *Problem {
	return &Problem{Kind: sallyport.KindOf(err), Error: err.Error(), Hint: sallyport.HintOf(err)}
}

func (p *Problem) err() error { return sallyport.E("", p.Kind, errors.New(p.Error), p.Hint) }
