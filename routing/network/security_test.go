package network_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/node"
	"sallyport/routing"
	"sallyport/routing/network"
	"sallyport/routing/network/wire"
)

// rogue is somebody with a member's credentials and other ideas.
type rogue struct {
	t    *testing.T
	id   string
	nc   *nats.Conn
	user nkeys.KeyPair
	http *http.Client
	base string
	errs chan error
}

// rogue makes one of a node that has enrolled and stopped.
func (l *lab) rogue(name string) (*rogue, routing.Node) {
	l.t.Helper()
	f, n := l.node(name)
	f.halt()
	b, err := os.ReadFile(filepath.Join(f.cfg.Dir, "node.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	var place struct{ Seed, Gateway, Pin, NATS, JWT string }
	if err := json.Unmarshal(b, &place); err != nil {
		l.t.Fatal(err)
	}
	r := &rogue{t: l.t, id: n.ID, base: "https://" + place.Gateway, errs: make(chan error, 100),
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: wire.ClientTLS(place.Pin), ForceAttemptHTTP2: true}}}
	if r.user, err = nkeys.FromSeed([]byte(place.Seed)); err != nil {
		l.t.Fatal(err)
	}
	r.nc, err = nats.Connect("tls://"+place.NATS, nats.Secure(wire.ClientTLS(place.Pin)), nats.TLSHandshakeFirst(),
		nats.UserJWTAndSeed(place.JWT, place.Seed), nats.CustomInboxPrefix(wire.InboxPrefix(n.ID)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r.errs <- err }))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(r.nc.Close)
	return r, n
}

func (r *rogue) ask(subject string, question, answer any) {
	r.t.Helper()
	m, err := r.nc.Request(subject, wire.Encode(question), 10*time.Second)
	if err == nil {
		err = wire.Decode(m.Data, answer)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// forbidden fails unless the server refuses what do does.
func (r *rogue) forbidden(what string, do func() error) {
	r.t.Helper()
	if err := do(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		r.t.Fatal(err)
	}
	if err := arrive(r.t, r.errs); !errors.Is(err, nats.ErrPermissionViolation) {
		r.t.Errorf("%s: %v", what, err)
	}
}

func TestMemberCannotReachAnother(t *testing.T) {
	l := newLab(t)
	run, began, gate := gated()
	victim, n2 := l.node("n2", func(c *node.Config) { c.Run = run })
	r, n3 := l.rogue("n3")
	a := l.assignment("j1-1-op-n2", n2, "row")
	going := l.start(a)
	arrive(t, began)
	waiting := l.start(l.assignment("j2-1-op-n2", n2, "row"))
	for _, subject := range []string{"job.to.op-n2.*", "job.>", ">", "_INBOX.op-n2.>", "_INBOX.>", "ctl.op-n2", "adv.*", "res.>", "$JS.>", "_R_.>"} {
		r.forbidden("subscribe "+subject, func() error { _, err := r.nc.SubscribeSync(subject); return err })
	}
	ack := "$JS.ACK.JOBS.op-n2.1.1.1.1700000000000000000.1"
	for _, subject := range []string{"job.to.op-n2.j9", "job.to.op-n3.j9", "adv.op-n2", "ask.op-n2." + a.ID, "res.op-n2." + a.ID, ack,
		wire.API + ".CONSUMER.MSG.NEXT.JOBS.op-n2", wire.API + ".CONSUMER.INFO.JOBS.op-n2", "$JS.API.STREAM.PURGE.JOBS", "$JS.API.CONSUMER.DELETE.JOBS.op-n2",
		"$JS.API.CONSUMER.MSG.NEXT.JOBS.op-n2", "_INBOX.op-n2.x", "ctl.op-n2", "$SYS.REQ.SERVER.PING"} {
		r.forbidden("publish "+subject, func() error { return r.nc.Publish(subject, []byte("+ACK")) })
	}
	// NATS does not check where an allowed request wants its answer. In a
	// shared account the first would have put a message into the queue.
	report := wire.ReportSubject("op-n2", a.ID)
	for _, reply := range []string{"job.to.op-n2.j9", report, "adv.op-n2", "$JS.API.STREAM.PURGE.JOBS", "$JS.API.STREAM.DELETE.JOBS", "ctl.op-n2",
		wire.API + ".CONSUMER.MSG.NEXT.JOBS.op-n2"} {
		for _, allowed := range []string{wire.API + ".CONSUMER.INFO.JOBS.op-n3", wire.API + ".CONSUMER.MSG.NEXT.JOBS.op-n3", wire.AdvertSubject("op-n3"), wire.ReportSubject("op-n3", a.ID)} {
			if err := r.nc.PublishRequest(allowed, reply, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An ack subject as reply is refused by the server itself, with the connection's end or without.
	_ = r.nc.PublishRequest(wire.API+".CONSUMER.INFO.JOBS.op-n3", ack, nil)
	// A job of the rogue's own, aimed at the victim's queue.
	own := l.assignment("j3-1-op-n3", n3, "row")
	l.start(own)
	if err := r.nc.PublishRequest(wire.API+".CONSUMER.MSG.NEXT.JOBS.op-n3", "job.to.op-n2."+own.ID, []byte(`{"batch":1,"expires":1000000000}`)); err != nil {
		t.Fatal(err)
	}
	// By their own names they may speak, but not about the other's run.
	var answer wire.Answer
	r.ask(wire.AskSubject("op-n3", a.ID), wire.Ask{State: wire.Take}, &answer)
	if answer.Go || answer.Links != nil {
		t.Error("got links to another's parcel")
	}
	var receipt wire.Receipt
	r.ask(wire.ReportSubject("op-n3", a.ID), wire.Report{Failure: "ended by a rogue"}, &receipt)
	if n, err := l.net.Waiting(t.Context()); err != nil || n != 3 {
		t.Errorf("%d jobs in the queue, want 3 (%v)", n, err)
	}
	// The job was not acknowledged for the victim: it comes again after a restart.
	victim.halt()
	victim.cfg.Token = ""
	victim.start()
	arrive(t, began)
	close(gate)
	for _, run := range []routing.Run{going, waiting} {
		if oc := l.done(run); oc.Failure != "" || l.result(oc) != "ROW" || oc.Node != n2.ID {
			t.Errorf("outcome %+v", oc)
		}
	}
	if s, _ := victim.count(own.ID); s != 0 {
		t.Error("the victim ran another's job")
	}
}

type reply struct {
	status int
	body   string
	header http.Header
}

func (r *rogue) send(method, path string, body io.Reader, sign nkeys.KeyPair) reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	if sign != nil {
		sig, err := sign.Sign(wire.Signed(method, path))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set(wire.SignatureHeader, base64.RawURLEncoding.EncodeToString(sig))
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Header.Del("Date")
	return reply{resp.StatusCode, string(b), resp.Header}
}

func TestLinks(t *testing.T) {
	l := newLab(t, func(c *network.Config) { c.MaxResult = 1000; c.Lease = time.Hour })
	r, n := l.rogue("n1")
	other, _ := l.rogue("n2")
	a := l.assignment("j1-1-op-n1", n, "row")
	run := l.start(a)
	var got wire.Answer
	r.ask(wire.AskSubject(n.ID, a.ID), wire.Ask{State: wire.Take}, &got)
	if !got.Go || got.Links == nil {
		t.Fatal("no links")
	}
	links := *got.Links
	for what, link := range map[string]string{"key": links.Key, "input": links.Input, "module": links.Module} {
		if g := r.send("GET", wire.ParcelPath+link, nil, r.user); g.status != 200 || len(g.body) == 0 {
			t.Errorf("%s: %d", what, g.status)
		}
	}
	flip := func(s string, i int) string {
		b := []byte(s)
		b[i] ^= 1
		return string(b)
	}
	body, mac, _ := strings.Cut(links.Input, ".")
	refused := map[string]func() reply{
		"no signature":        func() reply { return r.send("GET", wire.ParcelPath+links.Input, nil, nil) },
		"another's signature": func() reply { return r.send("GET", wire.ParcelPath+links.Input, nil, other.user) },
		"changed link":        func() reply { return r.send("GET", wire.ParcelPath+flip(links.Input, 8), nil, r.user) },
		"changed MAC":         func() reply { return r.send("GET", wire.ParcelPath+flip(links.Input, len(body)+3), nil, r.user) },
		"no MAC":              func() reply { return r.send("GET", wire.ParcelPath+body+".", nil, r.user) },
		"other kind": func() reply {
			raw, _ := base64.RawURLEncoding.DecodeString(body)
			swapped := base64.RawURLEncoding.EncodeToString(bytes.Replace(raw, []byte(`"input"`), []byte(`"key"`), 1))
			return r.send("GET", wire.ParcelPath+swapped+"."+mac, nil, r.user)
		},
		"result as parcel": func() reply { return r.send("GET", wire.ParcelPath+links.Result, nil, r.user) },
		"parcel as result": func() reply {
			return r.send("PUT", wire.ResultPath+links.Input, strings.NewReader("x"), r.user)
		},
		"too large": func() reply {
			return r.send("PUT", wire.ResultPath+links.Result, bytes.NewReader(make([]byte, 1001)), r.user)
		},
		"too large, stream": func() reply {
			return r.send("PUT", wire.ResultPath+links.Result, io.LimitReader(zeros{}, 1001), r.user)
		},
		"nothing":        func() reply { return r.send("GET", wire.ParcelPath, nil, r.user) },
		"elsewhere":      func() reply { return r.send("GET", "/", nil, nil) },
		"odd path":       func() reply { return r.send("GET", "//v1/../v1/enroll", nil, nil) },
		"other method":   func() reply { return r.send("DELETE", wire.ParcelPath+links.Input, nil, r.user) },
		"enroll garbage": func() reply { return r.send("POST", wire.EnrollPath, strings.NewReader("{"), nil) },
		"enroll unknown": func() reply {
			return r.send("POST", wire.EnrollPath, bytes.NewReader(wire.Encode(wire.Enroll{Secret: strings.Repeat("0", 64)})), nil)
		},
	}
	want := refused["no signature"]()
	check := func(what string, got reply) {
		t.Helper()
		got.header.Del("Connection")
		if got.status != http.StatusForbidden || got.body != "refused\n" || len(got.header) != len(want.header) {
			t.Errorf("%s: %d %q %v", what, got.status, got.body, got.header)
		}
	}
	for what, do := range refused {
		check(what, do())
	}
	l.mu.Lock()
	_, stored := l.hold[a.Result.String()]
	l.mu.Unlock()
	if stored {
		t.Error("a refused result was stored")
	}
	// Success without a result is none.
	var receipt wire.Receipt
	b := l.assignment("j1-2-op-n1", n, "row")
	second := l.start(b)
	r.ask(wire.ReportSubject(n.ID, b.ID), wire.Report{Claim: claim("x"), Seconds: 1e9}, &receipt)
	if oc := l.done(second); oc.Failure == "" || oc.Claim != "" || oc.Seconds > 1 {
		t.Errorf("outcome %+v", oc)
	}
	// The right body, then the end of the run, then the end of time.
	if g := r.send("PUT", wire.ResultPath+links.Result, bytes.NewReader(make([]byte, 1000)), r.user); g.status != 204 {
		t.Errorf("result: %d", g.status)
	}
	fresh := l.assignment("j1-3-op-n1", n, "row")
	l.start(fresh)
	r.ask(wire.AskSubject(n.ID, fresh.ID), wire.Ask{State: wire.Take}, &got)
	if err := run.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("canceled", r.send("GET", wire.ParcelPath+links.Input, nil, r.user))
	check("canceled", r.send("PUT", wire.ResultPath+links.Result, strings.NewReader("x"), r.user))
	if g := r.send("GET", wire.ParcelPath+got.Links.Input, nil, r.user); g.status != 200 {
		t.Errorf("fresh link: %d", g.status)
	}
	l.forward(got.Links.Until.Sub(l.clock()))
	check("expired", r.send("GET", wire.ParcelPath+got.Links.Input, nil, r.user))
	check("expired", r.send("PUT", wire.ResultPath+got.Links.Result, strings.NewReader("x"), r.user))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTokens(t *testing.T) {
	l := newLab(t)
	token := func(ttl time.Duration) string {
		t.Helper()
		s, err := l.net.Token(t.Context(), "op", ttl)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	enroll := func(what, token string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := node.Run(ctx, node.Config{Dir: t.TempDir(), Token: token, Name: "x", Run: upper})
		if k := sallyport.KindOf(err); err == nil || k != sallyport.Denied && k != sallyport.Invalid {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.Contains(err.Error()+sallyport.HintOf(err), token) && token != "" {
			t.Errorf("%s: the error repeats the token", what)
		}
	}
	old := token(time.Minute)
	late := token(time.Hour)
	l.restart() // tokens survive it
	f, n := l.node("n1", func(c *node.Config) { c.Token = late })
	enroll("used", late)
	l.forward(time.Minute)
	enroll("expired", old)
	enroll("none", "")
	enroll("garbage", late[:len(late)-3])
	good, err := wire.ParseToken(token(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	wrong := good
	wrong.Secret = strings.Repeat("0", 64)
	enroll("wrong secret", wrong.String())
	wrong = good
	wrong.Pin = strings.Repeat("0", 64)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := node.Run(ctx, node.Config{Dir: t.TempDir(), Token: wrong.String()}); sallyport.KindOf(err) != sallyport.Denied || !errors.Is(err, wire.ErrPin) {
		t.Errorf("wrong pin: %v", err)
	}
	// A node that lost the answer asks again with the same token and key.
	f.halt()
	path := filepath.Join(f.cfg.Dir, "node.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var seed struct {
		Seed string `json:"seed"`
	}
	if err := json.Unmarshal(b, &seed); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, wire.Encode(seed), 0o600); err != nil {
		t.Fatal(err)
	}
	before := l.clock()
	f.start()
	eventually(t, "it is the same node again", func() bool { return l.seen(n.ID).Seen.After(before) })
	for _, operator := range []string{"", "Op", "a.b", "*", strings.Repeat("a", 41)} {
		if _, err := l.net.Token(t.Context(), operator, time.Hour); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("token for %q: %v", operator, err)
		}
	}
}

func TestOneGatewayAFolder(t *testing.T) {
	l := newLab(t)
	if _, err := network.Open(t.Context(), l.cfg, network.Parts{Open: l.read, Save: l.save, Module: l.module}); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Fatalf("second gateway: %v", err)
	}
	addr := l.net.Addresses()
	l.restart()
	if got := l.net.Addresses(); got != addr {
		t.Fatalf("addresses changed from %v to %v", addr, got)
	}
	if _, err := network.Open(t.Context(), network.Config{Dir: t.TempDir(), HTTPS: "0.0.0.0:0"}, network.Parts{Open: l.read, Save: l.save, Module: l.module}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Fatalf("an address nobody can dial: %v", err)
	}
}

func FuzzLink(f *testing.F) {
	f.Add("eyJhIjoiajEiLCJ3Ijoia2V5IiwieCI6MX0.AAAA")
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if network.ParseLink(s) && (len(s) > 1024 || !strings.Contains(s, ".")) {
			t.Errorf("%q is a link", s)
		}
	})
}
