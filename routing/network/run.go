package network

import (
	"context"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// Run is one execution on an outside node.
type Run struct {
	n  *Network
	id string
}

// ID is the assignment's.
func (r *Run) ID() string { return r.id }

// Cancel is [Network.Cancel].
func (r *Run) Cancel(ctx context.Context) error { return r.n.Cancel(ctx, r.id) }

// Events tells the run's life from its beginning, and waits for its end.
func (r *Run) Events(ctx context.Context) iter.Seq2[routing.Event, error] {
	return func(yield func(routing.Event, error) bool) {
		for told := 0; ; {
			rec, ok, changed, err := r.n.book.get(r.id)
			if err == nil && !ok {
				err = sallyport.Errorf("follow "+r.id, sallyport.NotFound, "", "no such run")
			}
			if err != nil {
				yield(routing.Event{}, err)
				return
			}
			for ; told < len(rec.Steps); told++ {
				if !yield(rec.Steps[told], nil) {
					return
				}
			}
			switch {
			case rec.Outcome != nil:
				oc := *rec.Outcome
				yield(routing.Event{Time: rec.Ended, State: finished, Text: oc.Failure, Outcome: &oc}, nil)
				return
			case rec.Lost != "":
				yield(routing.Event{}, lostError(r.id, rec))
				return
			}
			select {
			case <-ctx.Done():
				yield(routing.Event{}, sallyport.E("follow "+r.id, sallyport.Canceled, context.Cause(ctx), ""))
				return
			case <-changed:
			}
		}
	}
}

func lostError(id string, r record) error {
	return sallyport.Errorf("follow "+id, sallyport.Unavailable, "Place it on another node.", "node %s lost: %s", r.Assignment.Node.ID, r.Lost)
}

// publish puts the job into its node's queue. The book knows whether it was
// published; the message ID covers a crash between the two.
func (n *Network) publish(ctx context.Context, a routing.Assignment) error {
	job := wire.Job{ID: a.ID, Node: a.Node.ID, Module: a.Task.Module, Input: a.Task.Input.Digest, Size: a.Task.Input.Size,
		Key: a.Key.Digest, Recipient: a.Task.Recipient, MemoryMB: a.Task.MemoryMB, Walltime: a.Task.Walltime}
	_, err := n.broker.js.Publish(ctx, wire.JobSubject(a.Node.ID, a.ID), wire.Encode(job), jetstream.WithMsgID(a.ID))
	return err
}

// withdraw takes a job that is over out of the queue and tells its node. If
// either fails the node still learns it: nothing goes on without being asked.
func (n *Network) withdraw(ctx context.Context, a routing.Assignment) {
	err := n.purge(ctx, a)
	if err == nil {
		err = n.broker.nc.Publish(wire.ControlSubject(a.Node.ID), wire.Encode(wire.Control{Stop: a.ID}))
	}
	if err != nil {
		n.log.Warn("job could not be withdrawn; its node will be told when it asks", "assignment", a.ID, "err", err)
	}
}

func (n *Network) purge(ctx context.Context, a routing.Assignment) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return n.broker.jobs.Purge(ctx, jetstream.WithPurgeSubject(wire.JobSubject(a.Node.ID, a.ID)))
}

// lose ends a run without an outcome, so that it can be placed elsewhere and
// will never run here. A run that is over stays as it is.
func (n *Network) lose(id, why string) error {
	r, err := n.book.change(id, func(r *record, exists bool) bool {
		if !exists || r.over() {
			return false
		}
		r.Lost, r.Ended = why, n.parts.Now()
		r.step(r.Ended, lost, why)
		return true
	})
	if err != nil || r.Lost == "" {
		return err
	}
	n.log.Warn("run lost", "assignment", id, "node", r.Assignment.Node.ID, "why", why)
	n.withdraw(context.Background(), r.Assignment)
	return nil
}

// watch looks for nodes that went silent while they held a job.
func (n *Network) watch(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, n.cfg.Lease/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.sweep()
		}
	}
}

// sweep loses the runs whose node's lease ran out. A gateway that was away
// itself counts from its own return.
func (n *Network) sweep() {
	now := n.parts.Now()
	for id, r := range n.book.running() {
		last := n.nodes.seen(r.Assignment.Node.ID)
		for _, t := range []time.Time{n.opened, r.Began} {
			if t.After(last) {
				last = t
			}
		}
		if now.Sub(last) > n.cfg.Lease {
			if err := n.lose(id, "no sign of life for longer than its lease"); err != nil {
				n.log.Error("lost run could not be recorded", "assignment", id, "err", err)
			}
		}
	}
}

var _ routing.Run = (*Run)(nil)
