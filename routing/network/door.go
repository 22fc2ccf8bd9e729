package network

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing/network/wire"
)

// serve opens the HTTPS door: enrolment, parcels, results. Whatever it refuses,
// for whatever reason, gets the same answer.
func (n *Network) serve() {
	n.http = &http.Server{
		Handler:           http.HandlerFunc(n.serveHTTP),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{n.state.cert}},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // strangers' handshakes
	}
	n.work.Go(func() {
		if err := n.http.ServeTLS(n.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("HTTPS door for nodes closed", "err", err)
		}
	})
}

// serveHTTP is no ServeMux: that one redirects, and says 404 and 405.
func (n *Network) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !n.enter() {
		unable(w)
		return
	}
	defer n.gate.RUnlock()
	parcel, isParcel := strings.CutPrefix(r.URL.Path, wire.ParcelPath)
	result, isResult := strings.CutPrefix(r.URL.Path, wire.ResultPath)
	switch {
	case r.Method == http.MethodPost && r.URL.Path == wire.EnrollPath:
		n.serveEnroll(w, r)
	case r.Method == http.MethodGet && isParcel:
		n.serveParcel(w, r, parcel)
	case r.Method == http.MethodPut && isResult:
		n.serveResult(w, r, result)
	default:
		refuse(w)
	}
}

func refuse(w http.ResponseWriter) { http.Error(w, "refused", http.StatusForbidden) }

// unable is for what is no fault of the node: it tries again.
func unable(w http.ResponseWriter) {
	http.Error(w, "not now", http.StatusServiceUnavailable)
}

func (n *Network) serveEnroll(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	var e wire.Enroll
	if err != nil || wire.Decode(body, &e) != nil || !signedBy(e.Key, wire.EnrollSigned(e.Secret, e.Recipient), e.Proof) {
		refuse(w)
		return
	}
	node, ok, err := n.nodes.enroll(e, n.parts.Now())
	if err != nil {
		n.log.Error("enrolment not kept", "err", err)
		unable(w)
		return
	}
	if !ok {
		n.log.Warn("enrolment refused", "from", r.RemoteAddr)
		refuse(w)
		return
	}
	answer := wire.Enrolled{Node: node.ID, Operator: node.Operator, NATS: n.addr.NATS}
	if err = n.broker.admit(n.broker.nodeAccount(node)); err == nil {
		err = n.broker.consumer(r.Context(), node.ID, n.cfg.Lease)
	}
	if err == nil {
		answer.JWT, err = n.broker.credentials(node, time.Now())
	}
	if err != nil {
		n.log.Error("node not admitted", "node", node.ID, "err", err)
		unable(w)
		return
	}
	n.log.Info("node enrolled", "node", node.ID, "operator", node.Operator)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func signedBy(key string, message []byte, signature string) bool {
	sig, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	k, err := nkeys.FromPublicKey(key)
	return err == nil && k.Verify(message, sig) == nil
}

// admitLink returns the run and the kind of thing that a request may move.
func (n *Network) admitLink(r *http.Request, text string) (record, link, bool) {
	none := func() (record, link, bool) { return record{}, link{}, false }
	l, body, mac, ok := parseLink(text)
	if !ok {
		return none()
	}
	rec, ok, _, err := n.book.get(l.Assignment)
	if err != nil || !ok || rec.over() || !l.check(n.state.links, body, mac, n.bound(rec.Assignment, l.What), n.parts.Now()) {
		return none()
	}
	member, ok := n.nodes.member(rec.Assignment.Node.ID)
	if !ok || member.Removed || !signedBy(member.Key, wire.Signed(r.Method, r.URL.Path), r.Header.Get(wire.SignatureHeader)) {
		return none()
	}
	return rec, l, true
}

func (n *Network) serveParcel(w http.ResponseWriter, r *http.Request, text string) {
	rec, l, ok := n.admitLink(r, text)
	if !ok {
		refuse(w)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(n.deadline(l))
	body, err := n.parcel(r.Context(), rec, l.What)
	if err != nil {
		n.log.Error("parcel cannot be read", "assignment", l.Assignment, "what", l.What, "err", err)
		unable(w)
		return
	}
	if body == nil {
		refuse(w)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, body); err != nil {
		n.log.Warn("parcel not delivered", "assignment", l.Assignment, "what", l.What, "err", err)
		panic(http.ErrAbortHandler) // an end that looks like one would be a lie
	}
}

// parcel opens what a link stands for; nil for what is not to be fetched.
func (n *Network) parcel(ctx context.Context, rec record, what string) (io.ReadCloser, error) {
	a := rec.Assignment
	switch what {
	case linkKey:
		body, _, err := n.parts.Open(ctx, a.Key.Ref)
		return body, err
	case linkInput:
		body, _, err := n.parts.Open(ctx, a.Task.Input.Ref)
		return body, err
	case linkModule:
		return n.parts.Module(ctx, a.Task.Module.Digest)
	}
	return nil, nil
}

// deadline is when a transfer ends at the latest: with its link.
func (n *Network) deadline(l link) time.Time {
	return time.Now().Add(time.Unix(l.Expiry, 0).Sub(n.parts.Now()))
}

func (n *Network) serveResult(w http.ResponseWriter, r *http.Request, text string) {
	rec, l, ok := n.admitLink(r, text)
	if !ok || l.What != linkResult || r.ContentLength > n.cfg.MaxResult {
		refuse(w)
		return
	}
	if _, busy := n.uploads.LoadOrStore(l.Assignment, true); busy {
		unable(w)
		return
	}
	defer n.uploads.Delete(l.Assignment)
	_ = http.NewResponseController(w).SetReadDeadline(n.deadline(l))
	src := &nodeBody{r: http.MaxBytesReader(w, r.Body, n.cfg.MaxResult)}
	var stopped bool
	stored, err := n.parts.Save(r.Context(), rec.Assignment.Result, func(dst io.Writer) error {
		if _, err := io.Copy(dst, src); err != nil {
			return err
		}
		now, _, _, err := n.book.get(l.Assignment)
		if stopped = err != nil || now.over(); stopped {
			return sallyport.Errorf("store result", sallyport.Canceled, "", "the run is over")
		}
		return nil
	})
	if err == nil {
		_, err = n.book.change(l.Assignment, func(r *record, exists bool) bool {
			if stopped = !exists || r.over(); stopped {
				return false
			}
			r.Result = &sallyport.SealedRef{Ref: r.Assignment.Result, Digest: stored.Digest, Size: stored.Size, Recipient: r.Assignment.Task.Recipient}
			return true
		})
	}
	switch {
	case stopped || src.err != nil:
		n.log.Warn("result refused", "assignment", l.Assignment, "over", stopped, "err", src.err)
		refuse(w)
	case err != nil:
		n.log.Error("result not kept", "assignment", l.Assignment, "err", err)
		unable(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// nodeBody tells the node's faults from the store's.
type nodeBody struct {
	r   io.Reader
	err error
}

func (b *nodeBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
