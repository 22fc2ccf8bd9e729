// Package network is the outside: a market of nodes that belong to independent
// owners, over an embedded NATS JetStream server (queue and leases) and one
// HTTPS listener (enrolment and ciphertext).
//
// A node dials out; the gateway never dials in. What a node gets is ciphertext,
// a key wrapped to its own identity, and a module; what it says is a claim.
// One gateway is the meeting point: this is a federation with a center, not a
// peer-to-peer network.
package network

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// Config is what a site sets.
type Config struct {
	Dir       string        `yaml:"dir"`        // state; required
	HTTPS     string        `yaml:"https"`      // listen address; default "127.0.0.1:0", and then always the port chosen first
	NATS      string        `yaml:"nats"`       // the same for NATS
	Host      string        `yaml:"host"`       // name or address that nodes dial; default: the host of HTTPS
	Lease     time.Duration `yaml:"lease"`      // a node that is silent for so long loses its jobs; default 60s, at least 1s
	MaxResult int64         `yaml:"max_result"` // most bytes of a sealed result; default 4 GiB
}

// Parts are what the network needs of the gateway.
type Parts struct {
	// Open reads ciphertext from the hold, and says its size.
	Open func(ctx context.Context, ref sallyport.Ref) (io.ReadCloser, int64, error)
	// Save keeps ciphertext if and only if fill returns nil, and measures it.
	Save func(ctx context.Context, ref sallyport.Ref, fill func(io.Writer) error) (sallyport.SealedRef, error)
	// Module reads the code with this digest.
	Module func(ctx context.Context, digest sallyport.Digest) (io.ReadCloser, error)
	Now    func() time.Time
	Log    *slog.Logger // nil: silent
}

// Network is the routing.Backend of the outside nodes.
type Network struct {
	cfg    Config
	parts  Parts
	log    *slog.Logger
	state  *state
	broker *broker
	book   *book
	nodes  *registry
	opened time.Time

	listener net.Listener
	http     *http.Server
	addr     Addresses

	uploads sync.Map // assignment → in progress
	gate    sync.RWMutex
	closed  bool // under gate
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// Addresses are where the network listens.
type Addresses struct {
	HTTPS, NATS string // host:port
	Pin         string // SHA-256 of the certificate of both, hexadecimal
}

// Open starts the network, with the state in cfg.Dir or a new one. The context
// is for opening only; Close ends the network.
func Open(ctx context.Context, cfg Config, parts Parts) (*Network, error) {
	const op = "open network"
	if cfg.Dir == "" {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Set network.dir to a folder of the gateway's own.", "no folder for the network's state")
	}
	if parts.Open == nil || parts.Save == nil || parts.Module == nil {
		return nil, sallyport.Errorf(op, sallyport.Internal, "", "a part is missing")
	}
	if cfg.Lease == 0 {
		cfg.Lease = time.Minute
	}
	if cfg.MaxResult == 0 {
		cfg.MaxResult = 4 << 30
	}
	if cfg.Lease < time.Second || cfg.MaxResult < 0 {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "Give a lease of a second or more, and no negative max_result.", "lease %v, max_result %d", cfg.Lease, cfg.MaxResult)
	}
	if parts.Now == nil {
		parts.Now = time.Now
	}
	if parts.Log == nil {
		parts.Log = slog.New(slog.DiscardHandler)
	}
	n := &Network{cfg: cfg, parts: parts, log: parts.Log, opened: parts.Now()}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Network) open(ctx context.Context) error {
	host, _, err := net.SplitHostPort(n.cfg.HTTPS)
	if ip := net.ParseIP(host); n.cfg.Host == "" && err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return sallyport.Errorf("open network", sallyport.Invalid, "Set network.host to the name or address that nodes dial.", "%s is no address that a node could dial", n.cfg.HTTPS)
	}
	if n.state, err = loadState(n.cfg.Dir, n.parts.Now()); err != nil {
		return err
	}
	// The HTTPS port is taken first: a second gateway on this folder stops here.
	https := listenAddress(n.cfg.HTTPS, n.state.saved.HTTPS)
	if n.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", https); err != nil {
		return busyPort("listen for nodes", https, err)
	}
	var shelves [4]shelf
	for i, name := range []string{"nodes", "tokens", "runs", "ended"} {
		if shelves[i], err = newShelf(filepath.Join(n.cfg.Dir, name)); err != nil {
			return err
		}
	}
	if n.nodes, err = openRegistry(shelves[0], shelves[1]); err != nil {
		return err
	}
	if n.book, err = openBook(shelves[2], shelves[3]); err != nil {
		return err
	}
	members := n.nodes.members()
	if n.broker, err = startBroker(ctx, n.state, listenAddress(n.cfg.NATS, n.state.saved.NATS), members, n.log); err != nil {
		return err
	}
	for _, m := range members {
		if err := n.broker.consumer(ctx, m.ID, n.cfg.Lease); err != nil {
			return sallyport.E("open network", sallyport.Internal, err, "")
		}
	}
	if err := n.remember(); err != nil {
		return err
	}
	if err := n.listen(); err != nil {
		return sallyport.E("open network", sallyport.Internal, err, "")
	}
	n.serve()
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.work.Go(func() { n.watch(run) })
	return nil
}

// listenAddress is what to listen on: a configured address, whose port 0 means
// the one chosen the first time.
func listenAddress(configured, chosen string) string {
	if configured == "" {
		configured = "127.0.0.1:0"
	}
	host, port, err := net.SplitHostPort(configured)
	if err != nil || port != "0" || chosen == "" {
		return configured
	}
	_, port, err = net.SplitHostPort(chosen)
	if err != nil {
		return configured
	}
	return net.JoinHostPort(host, port)
}

// remember keeps the chosen addresses, because nodes do.
func (n *Network) remember() error {
	https, natsAddr := n.listener.Addr().String(), n.broker.srv.Addr().String()
	n.addr = Addresses{HTTPS: n.dial(https), NATS: n.dial(natsAddr), Pin: n.state.pin()}
	if n.state.saved.HTTPS == https && n.state.saved.NATS == natsAddr {
		return nil
	}
	n.state.saved.HTTPS, n.state.saved.NATS = https, natsAddr
	return n.state.save()
}

// dial is the address that nodes use for one we listen on.
func (n *Network) dial(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	host, _, herr := net.SplitHostPort(n.cfg.HTTPS)
	if n.cfg.Host != "" {
		host = n.cfg.Host
	} else if herr != nil || host == "" {
		host = "127.0.0.1"
	}
	if err != nil {
		return listen
	}
	return net.JoinHostPort(host, port)
}

// Addresses returns where nodes find the network.
func (n *Network) Addresses() Addresses { return n.addr }

// Name is "network".
func (n *Network) Name() string { return "network" }

// Close stops listening. Runs go on at their nodes, and are found again.
func (n *Network) Close() error {
	if n.stop != nil {
		n.stop()
	}
	if n.http != nil {
		n.http.Close()
	} else if n.listener != nil {
		n.listener.Close()
	}
	n.work.Wait()
	n.gate.Lock() // waits for those who are being served
	n.closed = true
	n.gate.Unlock()
	if n.broker != nil {
		n.broker.close()
	}
	return nil
}

// enter lets in a request, unless the network is closed; leave with the gate's RUnlock.
func (n *Network) enter() bool {
	n.gate.RLock()
	if n.closed {
		n.gate.RUnlock()
		return false
	}
	return true
}

// beat is how often a node shows that it lives.
func (n *Network) beat() time.Duration { return min(n.cfg.Lease/4, 3*time.Second) }

// Nodes returns the nodes that were heard of lately, with what they claim to have.
func (n *Network) Nodes(ctx context.Context) ([]routing.Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, sallyport.E("list nodes", sallyport.Canceled, err, "")
	}
	return n.nodes.seenSince(n.parts.Now().Add(-4 * n.beat())), nil
}

// Start gives an assignment to its node, once, whatever happens in between.
func (n *Network) Start(ctx context.Context, a routing.Assignment) (routing.Run, error) {
	op := "start " + a.ID
	if err := n.startable(a); err != nil {
		return nil, err
	}
	var conflict bool
	r, err := n.book.change(a.ID, func(r *record, exists bool) bool {
		now := n.parts.Now()
		switch {
		case !exists:
			*r = record{Assignment: a, Began: now}
			r.step(now, queued, "")
			return true
		case r.Assignment.Node.ID == "": // canceled before it was started
			r.Assignment, r.Outcome.Node = a, a.Node.ID
			return true
		}
		conflict = r.Assignment.Node.ID != a.Node.ID || r.Assignment.Task.Input.Digest != a.Task.Input.Digest || r.Assignment.Task.Module.Digest != a.Task.Module.Digest
		return false
	})
	if err != nil {
		return nil, err
	}
	if conflict {
		return nil, sallyport.Errorf(op, sallyport.Conflict, "Give every execution an ID of its own.", "another assignment with this ID exists")
	}
	if !r.over() && !r.Published {
		if member, ok := n.nodes.member(a.Node.ID); !ok || member.Removed {
			if err := n.lose(a.ID, "the node is not enrolled here"); err != nil {
				return nil, err
			}
			return &Run{n: n, id: a.ID}, nil
		}
		if err := n.publish(ctx, r.Assignment); err != nil {
			return nil, sallyport.E(op, sallyport.Unavailable, err, "")
		}
		_, err := n.book.change(a.ID, func(r *record, _ bool) bool {
			if r.over() { // canceled meanwhile
				return false
			}
			r.Published = true
			return true
		})
		if err != nil {
			return nil, err
		}
		if r, _, _, err := n.book.get(a.ID); err == nil && r.over() {
			n.withdraw(ctx, r.Assignment)
		}
	}
	return &Run{n: n, id: a.ID}, nil
}

func (n *Network) startable(a routing.Assignment) error {
	t := a.Task
	var why string
	switch {
	case !wire.ValidID(a.ID):
		why = "its ID has characters that do not travel"
	case a.Node.Backend != n.Name() || !wire.ValidID(a.Node.ID):
		why = "its node is not of the network"
	case t.Side != sallyport.Outside:
		why = "policy did not place it outside" // fail closed: a second look at the same fact
	case !wire.ValidDigest(t.Module.Digest) || !wire.ValidDigest(t.Input.Digest) || !wire.ValidDigest(a.Key.Digest):
		why = "a digest of its module, input or key is missing"
	case t.Recipient == "" || a.Result.Key == "":
		why = "it does not say where the result goes"
	case t.MemoryMB <= 0 || t.Walltime <= 0:
		why = "it has no limits of memory and time"
	case t.Module.Runner != "wasm":
		return sallyport.Errorf("start "+a.ID, sallyport.Unsupported, "Outside nodes run wasm modules only.", "runner %q is not for strangers' machines", t.Module.Runner)
	default:
		return nil
	}
	return sallyport.Errorf("start", sallyport.Invalid, "", "the assignment cannot be started: %s", why)
}

// Cancel ends a run, whatever its state. What was never started never will be.
func (n *Network) Cancel(ctx context.Context, assignment string) error {
	r, err := n.book.change(assignment, func(r *record, exists bool) bool {
		if exists && r.over() {
			return false
		}
		now := n.parts.Now()
		r.Ended = now
		r.Outcome = &routing.Outcome{Assignment: assignment, Node: r.Assignment.Node.ID, Exit: -1, Failure: "canceled"}
		return true
	})
	if err != nil {
		return err
	}
	if r.Assignment.Node.ID != "" {
		n.withdraw(ctx, r.Assignment)
	}
	return nil
}

// Remove ends a node's membership: its credentials, its queue and its runs.
func (n *Network) Remove(ctx context.Context, node string) error {
	member, err := n.nodes.remove(node, n.parts.Now())
	if err != nil {
		return err
	}
	if err := n.broker.admit(n.broker.nodeAccount(member)); err != nil {
		return sallyport.E("remove "+node, sallyport.Internal, err, "")
	}
	for id, r := range n.book.running() {
		if r.Assignment.Node.ID == node {
			if err := n.lose(id, "node removed"); err != nil {
				return err
			}
		}
	}
	if err := n.broker.forget(ctx, node); err != nil {
		return sallyport.E("remove "+node, sallyport.Unavailable, err, "")
	}
	return nil
}

var (
	_ routing.Backend  = (*Network)(nil)
	_ routing.Canceler = (*Network)(nil)
)
