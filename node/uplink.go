package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sallyport"
	"sallyport/routing/network/wire"
)

// uplink is the node's NATS connection. It comes back by itself.
type uplink struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	up    chan struct{} // a token when connected (again)
	dead  chan struct{} // closed when it will not come back
	lease atomic.Int64

	mu      sync.Mutex
	current context.CancelFunc // of a wait that a reconnect makes pointless
	stops   map[string]context.CancelFunc
}

func dial(k *keep, log *slog.Logger) (*uplink, error) {
	const op = "connect"
	l := &uplink{up: make(chan struct{}, 1), dead: make(chan struct{}), stops: map[string]context.CancelFunc{}}
	l.setLease(time.Minute)
	connected := func(*nats.Conn) {
		select {
		case l.up <- struct{}{}:
		default:
		}
		l.interrupt()
	}
	var err error
	l.nc, err = nats.Connect("tls://"+k.place.NATS,
		nats.Secure(wire.ClientTLS(k.place.Pin)), nats.TLSHandshakeFirst(),
		nats.UserJWT(func() (string, error) { return k.credentials(), nil }, k.user.Sign),
		nats.CustomInboxPrefix(wire.InboxPrefix(k.place.Node)),
		nats.Name(k.place.Node), nats.IgnoreDiscoveredServers(),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(patience), nats.ReconnectBufSize(-1),
		nats.PingInterval(10*time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(5*time.Second),
		nats.ConnectHandler(connected), nats.ReconnectHandler(connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Debug("gateway gone", "err", err); l.interrupt() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Debug("nats", "err", err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(l.dead) }))
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	if l.js, err = jetstream.NewWithAPIPrefix(l.nc, wire.API); err != nil {
		l.close()
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	_, err = l.nc.Subscribe(wire.ControlSubject(k.place.Node), func(m *nats.Msg) {
		var c wire.Control
		if wire.Decode(m.Data, &c) == nil {
			l.stop(c.Stop)
		}
	})
	if err != nil {
		l.close()
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	return l, nil
}

func (l *uplink) close() { l.nc.Close() }

// untilDead returns when the connection is lost for good, which happens only
// when the gateway does not accept the node's credentials.
func (l *uplink) untilDead(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.dead:
	}
	err := l.nc.LastError()
	if errors.Is(err, wire.ErrPin) {
		return sallyport.E("connect", sallyport.Denied, err, "Somebody else answers at the gateway's address, or its certificate was changed: ask the lab.")
	}
	return sallyport.E("connect", sallyport.Denied, err, "The gateway removed this node, or its credentials ended after 30 days without contact: ask the lab for a new token.")
}

func (l *uplink) setLease(d time.Duration) {
	if d > 0 {
		l.lease.Store(int64(d))
	}
}

// renewal is how often a lease is renewed: three times in its life.
func (l *uplink) renewal() time.Duration { return time.Duration(l.lease.Load()) / 3 }

// ask sends a document and waits for the answer.
func (l *uplink) ask(ctx context.Context, subject string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, subject, wire.Encode(question))
	if err != nil {
		return sallyport.E("ask gateway", sallyport.Unavailable, err, "")
	}
	return wire.Decode(m.Data, answer)
}

// next waits for a job. It returns early, without one, whenever the connection
// came or went: the gateway has forgotten the question then.
func (l *uplink) next(ctx context.Context, node string) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	l.mu.Lock()
	l.current = cancel
	l.mu.Unlock()
	c, err := l.js.Consumer(ctx, wire.Jobs, node)
	if err != nil {
		return nil, err
	}
	return c.Next(jetstream.FetchContext(ctx))
}

func (l *uplink) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		l.current()
	}
}

// stoppable makes stop able to end what runs under the returned context.
func (l *uplink) stoppable(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stops[id] = cancel
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.stops, id)
	}
}

func (l *uplink) stop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel, ok := l.stops[id]; ok {
		cancel()
	}
}
