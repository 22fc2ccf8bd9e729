package network

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing/network/wire"
)

// userLife is how long a node's NATS credentials last. A node renews them when
// half of it is over.
const userLife = 30 * 24 * time.Hour

// broker is the embedded NATS server and the gateway's connection to it.
//
// Every node has an account of its own, which imports from the gateway's
// account the few subjects that are its own. NATS does not check against any
// permission where a request wants its answer: in one shared account a node
// could have the answer to an allowed question written into another's queue,
// or over an entry of a key-value bucket (seen with nats-server 2.15.2).
type broker struct {
	state    *state
	resolver *server.MemAccResolver
	srv      *server.Server
	nc       *nats.Conn
	js       jetstream.JetStream
	jobs     jetstream.Stream
}

// exports are what node accounts may import, with the node's ID at *.
var exports = []struct {
	subject string
	kind    jwt.ExportType
	answer  jwt.ResponseType
}{
	{"adv.*", jwt.Service, jwt.ResponseTypeSingleton},
	{"ask.*.*", jwt.Service, jwt.ResponseTypeSingleton},
	{"res.*.*", jwt.Service, jwt.ResponseTypeSingleton},
	{"$JS.API.CONSUMER.INFO.JOBS.*", jwt.Service, jwt.ResponseTypeSingleton},
	{"$JS.API.CONSUMER.MSG.NEXT.JOBS.*", jwt.Service, jwt.ResponseTypeStream},
	{"$JS.ACK.JOBS.*.>", jwt.Service, jwt.ResponseTypeSingleton},
	{"ctl.*", jwt.Stream, ""},
}

// startBroker listens on addr and lets in the given nodes.
func startBroker(ctx context.Context, st *state, addr string, nodes []nodeRecord, log *slog.Logger) (*broker, error) {
	const op = "start node network"
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Invalid, err, "Give nats as host:port.")
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Invalid, err, "Give nats as host:port.")
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	b := &broker{state: st, resolver: &server.MemAccResolver{}}
	operatorKey := public(st.operator)
	operator := jwt.NewOperatorClaims(operatorKey)
	operator.Name = "sallyport"
	account := jwt.NewAccountClaims(public(st.account))
	account.Name = "gateway"
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	for _, e := range exports {
		account.Exports.Add(&jwt.Export{Name: e.subject, Subject: jwt.Subject(e.subject), Type: e.kind, ResponseType: e.answer})
	}
	system := jwt.NewAccountClaims(public(st.system))
	system.Name = "system"
	for _, c := range []*jwt.AccountClaims{account, system} {
		if err := b.admit(c); err != nil {
			return nil, sallyport.E(op, sallyport.Internal, err, "")
		}
	}
	for _, n := range nodes {
		if err := b.admit(b.nodeAccount(n)); err != nil {
			return nil, sallyport.E(op, sallyport.Internal, err, "")
		}
	}
	opts := &server.Options{
		ServerName: "sallyport", Host: host, Port: port,
		TrustedOperators: []*jwt.OperatorClaims{operator}, AccountResolver: b.resolver, SystemAccount: public(st.system),
		JetStream: true, StoreDir: filepath.Join(st.dir, "jetstream"), SyncAlways: true,
		TLS: true, TLSTimeout: 5, TLSHandshakeFirst: true,
		TLSConfig:  &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{st.cert}},
		MaxPayload: wire.MaxDocument, AuthTimeout: 5, NoSigs: true, MaxControlLine: 4096, MaxConn: 10_000,
	}
	if port > 0 { // the server would only log that it cannot listen
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, busyPort(op, addr, err)
		}
		l.Close()
	}
	if b.srv, err = server.NewServer(opts); err != nil {
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	b.srv.SetLoggerV2(natsLog{log.With("part", "nats")}, false, false, false)
	b.srv.Start()
	if !b.srv.ReadyForConnections(30 * time.Second) {
		b.close()
		return nil, sallyport.Errorf(op, sallyport.Unavailable, "Read the log for what NATS said; the disk may be full or the port taken.", "the NATS server did not start")
	}
	if err := b.connect(ctx); err != nil {
		b.close()
		return nil, sallyport.E(op, sallyport.Internal, err, "")
	}
	return b, nil
}

func busyPort(op, addr string, err error) error {
	return sallyport.E(op, sallyport.Unavailable, err,
		fmt.Sprintf("Is another gateway running on this state folder? Else free %s: nodes know this address.", addr))
}

// connect gives the gateway its own connection, inside the process, and the
// work queue.
func (b *broker) connect(ctx context.Context) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	claims := jwt.NewUserClaims(public(pair))
	claims.Name = "gateway"
	token, err := claims.Encode(b.state.account)
	if err != nil {
		return err
	}
	b.nc, err = nats.Connect("", nats.InProcessServer(b.srv), nats.UserJWTAndSeed(token, string(seed)), nats.Name("gateway"), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return err
	}
	b.jobs, err = b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: wire.Jobs, Subjects: []string{wire.AllJobs}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		Duplicates: 24 * time.Hour, MaxMsgSize: wire.MaxDocument, Discard: jetstream.DiscardNew, MaxMsgs: 1_000_000,
	})
	return err
}

// admit makes an account known, or known anew.
func (b *broker) admit(c *jwt.AccountClaims) error {
	token, err := c.Encode(b.state.operator)
	if err != nil {
		return err
	}
	if err := b.resolver.Store(c.Subject, token); err != nil {
		return err
	}
	if b.srv == nil {
		return nil
	}
	acc, err := b.srv.LookupAccount(c.Subject)
	if err != nil {
		return err
	}
	b.srv.UpdateAccountClaims(acc, c)
	return nil
}

func (b *broker) nodeAccount(n nodeRecord) *jwt.AccountClaims {
	c := jwt.NewAccountClaims(n.Account)
	c.Name = n.ID
	c.SigningKeys.Add(public(b.state.signer))
	c.Limits.NatsLimits = jwt.NatsLimits{Subs: 64, Data: -1, Payload: wire.MaxDocument}
	c.Limits.AccountLimits = jwt.AccountLimits{Imports: int64(len(exports)), Exports: 0, Conn: 4, LeafNodeConn: 0}
	from := public(b.state.account)
	for _, e := range exports {
		subject := jwt.Subject(strings.Replace(e.subject, "*", n.ID, 1)) // the first star is the node
		i := &jwt.Import{Name: string(subject), Subject: subject, Account: from, Type: e.kind}
		if rest, ok := strings.CutPrefix(string(subject), "$JS.API"); ok {
			i.LocalSubject = jwt.RenamingSubject(wire.API + rest) // every account has a $JS.API of its own
		}
		c.Imports.Add(i)
	}
	if n.Removed {
		c.RevokeAt(jwt.All, time.Now()) // NATS judges credentials by the system's clock
	}
	return c
}

// credentials are a node's, good for userLife.
func (b *broker) credentials(n nodeRecord, now time.Time) (string, error) {
	c := jwt.NewUserClaims(n.Key)
	c.Name = n.ID
	c.IssuerAccount = n.Account
	c.Expires = now.Add(userLife).Unix()
	c.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	c.Permissions.Pub.Allow.Add(wire.AdvertSubject(n.ID), wire.AskSubject(n.ID, "*"), wire.ReportSubject(n.ID, "*"),
		wire.API+".CONSUMER.INFO.JOBS."+n.ID, wire.API+".CONSUMER.MSG.NEXT.JOBS."+n.ID, "$JS.ACK.JOBS."+n.ID+".>")
	c.Permissions.Sub.Allow.Add(wire.InboxPrefix(n.ID)+".>", wire.ControlSubject(n.ID))
	return c.Encode(b.state.signer)
}

// consumer makes sure that a node can get its jobs.
func (b *broker) consumer(ctx context.Context, node string, lease time.Duration) error {
	_, err := b.jobs.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: node, FilterSubject: wire.JobsOf(node), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: lease, MaxDeliver: -1, MaxAckPending: 1, MaxRequestBatch: 1, MaxWaiting: 16,
	})
	return err
}

// forget removes a node's consumer and whatever waits for it.
func (b *broker) forget(ctx context.Context, node string) error {
	if err := b.jobs.DeleteConsumer(ctx, node); err != nil && !strings.Contains(err.Error(), "not found") {
		return err
	}
	return b.jobs.Purge(ctx, jetstream.WithPurgeSubject(wire.JobsOf(node)))
}

func (b *broker) close() {
	if b.nc != nil {
		b.nc.Close()
	}
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func public(k nkeys.KeyPair) string {
	s, err := k.PublicKey()
	if err != nil {
		panic("network: a key of ours has no public half: " + err.Error())
	}
	return s
}

// natsLog sends what the server says to our log.
type natsLog struct{ log *slog.Logger }

func (l natsLog) Noticef(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l natsLog) Warnf(f string, v ...any)   { l.log.Warn(fmt.Sprintf(f, v...)) }
func (l natsLog) Fatalf(f string, v ...any)  { l.log.Error(fmt.Sprintf(f, v...)) }
func (l natsLog) Errorf(f string, v ...any)  { l.log.Error(fmt.Sprintf(f, v...)) }
func (l natsLog) Debugf(f string, v ...any)  { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l natsLog) Tracef(string, ...any)      {}
