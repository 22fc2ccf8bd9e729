package network

import (
	"context"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// maxLog is how much of a module's standard error is kept.
const maxLog = 64 << 10

// listen hears the nodes. Whom a message is from is in its subject: NATS lets
// a node publish under its own name only.
func (n *Network) listen() error {
	for subject, handle := range map[string]func(node, assignment string, body []byte) any{
		"adv.*": n.hearAdvert, "ask.*.*": n.hearAsk, "res.*.*": n.hearReport,
	} {
		_, err := n.broker.nc.Subscribe(subject, func(m *nats.Msg) {
			if !n.enter() {
				return
			}
			defer n.gate.RUnlock()
			parts := append(strings.Split(m.Subject, "."), "")
			if member, ok := n.nodes.member(parts[1]); !ok || member.Removed {
				return
			}
			answer := handle(parts[1], parts[2], m.Data)
			if answer == nil || m.Reply == "" {
				return
			}
			if err := m.Respond(wire.Encode(answer)); err != nil {
				n.log.Warn("answer not sent", "node", parts[1], "err", err)
			}
		})
		if err != nil {
			return err
		}
	}
	return n.broker.nc.Flush()
}

func (n *Network) hearAdvert(node, _ string, body []byte) any {
	var a wire.Advert
	if err := wire.Decode(body, &a); err != nil {
		n.log.Warn("advert not understood", "node", node, "err", err)
		return nil
	}
	now := n.parts.Now()
	if !n.nodes.hear(node, a, now) {
		return nil
	}
	w := wire.Welcome{Beat: n.beat(), Lease: n.cfg.Lease}
	if a.Renew {
		member, _ := n.nodes.member(node)
		token, err := n.broker.credentials(member, time.Now()) // NATS judges by the system's clock
		if err != nil {
			n.log.Error("credentials not renewed", "node", node, "err", err)
		}
		w.JWT = token
	}
	return w
}

// hearAsk says whether a node may begin or go on.
func (n *Network) hearAsk(node, id string, body []byte) any {
	var ask wire.Ask
	if err := wire.Decode(body, &ask); err != nil {
		n.log.Warn("question not understood", "node", node, "err", err)
		return nil
	}
	now := n.parts.Now()
	n.nodes.alive(node, now)
	var mine bool
	r, err := n.book.change(id, func(r *record, exists bool) bool {
		if mine = exists && !r.over() && r.Assignment.Node.ID == node; !mine {
			return false
		}
		switch ask.State {
		case wire.Take:
			if r.Leased.IsZero() {
				r.Leased = now
			}
			if r.state() == queued { // later it is a node that begins again, or wants to deliver
				r.step(now, leased, "")
			}
		case wire.Running:
			r.step(now, running, "")
		default:
			return false
		}
		return true
	})
	switch {
	case err != nil && sallyport.KindOf(err) != sallyport.Invalid:
		n.log.Error("run not kept", "assignment", id, "err", err)
		return nil // no answer: the node asks again
	case !mine:
		return wire.Answer{}
	case ask.State == wire.Take:
		return wire.Answer{Go: true, Links: n.links(r.Assignment, now)}
	}
	return wire.Answer{Go: true}
}

// links are good while the run may take, and never longer than the key's lease.
func (n *Network) links(a routing.Assignment, now time.Time) *wire.Links {
	until := now.Add(a.Task.Walltime + n.cfg.Lease + 5*time.Minute)
	if end := a.Task.Input.Until; !end.IsZero() && end.Before(until) {
		until = end
	}
	sign := func(what string) string {
		return link{a.ID, what, until.Unix()}.sign(n.state.links, n.bound(a, what))
	}
	return &wire.Links{Key: sign(linkKey), Input: sign(linkInput), Module: sign(linkModule), Result: sign(linkResult), Until: until}
}

func (n *Network) bound(a routing.Assignment, what string) bound {
	b := bound{node: a.Node.ID}
	switch what {
	case linkKey:
		b.ref, b.digest = a.Key.Ref.String(), a.Key.Digest
	case linkInput:
		b.ref, b.digest = a.Task.Input.Ref.String(), a.Task.Input.Digest
	case linkModule:
		b.ref, b.digest = a.Task.Module.Name, a.Task.Module.Digest
	case linkResult:
		b.ref = a.Result.String()
	}
	return b
}

// hearReport ends a run with what its node claims, as far as it can be true.
func (n *Network) hearReport(node, id string, body []byte) any {
	var rep wire.Report
	if err := wire.Decode(body, &rep); err != nil {
		n.log.Warn("report not understood", "node", node, "err", err)
		return nil
	}
	now := n.parts.Now()
	n.nodes.alive(node, now)
	r, err := n.book.change(id, func(r *record, exists bool) bool {
		if !exists || r.over() || r.Assignment.Node.ID != node {
			return false
		}
		oc := judge(rep, *r, now)
		r.Outcome, r.Ended = &oc, now
		return true
	})
	switch {
	case err != nil && sallyport.KindOf(err) != sallyport.Invalid:
		n.log.Error("outcome not kept", "assignment", id, "err", err)
		return nil // the node reports again
	case err == nil && r.Assignment.Node.ID == node: // should it forget to acknowledge
		if err := n.purge(context.Background(), r.Assignment); err != nil {
			n.log.Warn("ended job is still in the queue", "assignment", id, "err", err)
		}
	}
	return wire.Receipt{Settled: true}
}

// judge makes an outcome of a report. The result is the one that was stored
// here, measured here; the time cannot be longer than what passed.
func judge(rep wire.Report, r record, now time.Time) routing.Outcome {
	oc := routing.Outcome{Assignment: r.Assignment.ID, Node: r.Assignment.Node.ID, Exit: rep.Exit,
		Failure: clean(rep.Failure, 500), Log: tail(rep.Log, maxLog)}
	passed := 0.0
	if !r.Leased.IsZero() {
		passed = now.Sub(r.Leased).Seconds()
	}
	if !math.IsNaN(rep.Seconds) {
		oc.Seconds = max(0, min(rep.Seconds, passed))
	}
	if oc.Failure == "" {
		switch {
		case rep.Exit != 0:
			oc.Failure = "the module failed"
		case r.Result == nil:
			oc.Failure = "the node says it succeeded, but stored no result"
		case !wire.ValidDigest(rep.Claim):
			oc.Failure = "the node does not say what its result is"
		}
		if oc.Failure != "" && oc.Exit == 0 {
			oc.Exit = -1
		}
	}
	if oc.Failure == "" {
		oc.Result, oc.Claim = *r.Result, rep.Claim
	} else if oc.Exit == 0 {
		oc.Exit = -1
	}
	return oc
}

// tail is the last n bytes of s, as valid UTF-8.
func tail(s string, n int) string {
	s = s[max(0, len(s)-n):]
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "")
	}
	return s
}
