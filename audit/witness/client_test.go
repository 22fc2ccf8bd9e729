package witness

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fwitness "github.com/transparency-dev/formats/witness"

	"sallyport"
	"sallyport/audit"
)

// house is a witness that can be reached.
type house struct {
	*Server
	web  *httptest.Server
	peer Peer
}

func newHouse(t testing.TB, l *audit.Log, name string, b byte) *house {
	t.Helper()
	c, err := audit.NewCosigner(name, seed(b))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(ServerConfig{Path: filepath.Join(t.TempDir(), "witness.db"), Signer: c, Logs: []string{l.VerifierKey()},
		Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { web.Close(); s.Close() })
	return &house{s, web, Peer{URL: web.URL, Key: c.String()}}
}

func parts(l *audit.Log, path string) Parts {
	return Parts{Log: l, Path: path, Now: func() time.Time { return noon }, Slog: slog.New(slog.DiscardHandler)}
}

func newClient(t testing.TB, l *audit.Log, path string, quorum int, peers ...Peer) *Client {
	t.Helper()
	c, err := NewClient(Config{Witnesses: peers, Quorum: quorum}, parts(l, path))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCosign(t *testing.T) {
	l := newLog(t, 5)
	one, two := newHouse(t, l, "witness.example/one", 41), newHouse(t, l, "witness.example/two", 42)
	path := filepath.Join(t.TempDir(), "audit.db.cosigned")
	c := newClient(t, l, path, 0, one.peer, two.peer)
	for range 3 {
		signed, err := c.Cosign(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []*house{one, two} { // another implementation accepts it
			u, err := url.Parse(h.web.URL)
			if err != nil {
				t.Fatal(err)
			}
			w, err := fwitness.New(h.peer.Key, u)
			if err != nil {
				t.Fatal(err)
			}
			if !w.Satisfied([]byte(signed)) {
				t.Errorf("%s has not cosigned %q", h.peer.Key, signed)
			}
		}
		kept, err := ReadKept(path)
		if err != nil || kept != signed || c.Newest() != signed {
			t.Errorf("kept %q, %v", kept, err)
		}
		p, err := l.Prove(2, kept)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Check(audit.Trust{VerifierKey: l.VerifierKey(), Witnesses: c.keys(), Quorum: 2}); err != nil || len(got.Cosignatures) != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		grow(t, l, 3)
	}

	// A client that forgot all, and one that reads what was kept.
	if _, err := newClient(t, l, filepath.Join(t.TempDir(), "x"), 0, one.peer, two.peer).Cosign(t.Context()); err != nil {
		t.Error(err)
	}
	grow(t, l, 1)
	again := newClient(t, l, path, 0, one.peer, two.peer)
	if st := again.Status(); len(st) != 2 || st[0].Size != 11 || !st[0].Time.Equal(noon) {
		t.Errorf("%+v", st)
	}
	if _, err := again.Cosign(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestQuorum(t *testing.T) {
	l := newLog(t, 5)
	one, two := newHouse(t, l, "witness.example/one", 41), newHouse(t, l, "witness.example/two", 42)
	two.web.Close()
	path := filepath.Join(t.TempDir(), "kept")
	if _, err := newClient(t, l, path, 2, one.peer, two.peer).Cosign(t.Context()); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("one of two: %v", err)
	}
	if kept, _ := ReadKept(path); kept != "" {
		t.Error("kept without a quorum")
	}
	c := newClient(t, l, path, 1, one.peer, two.peer)
	if _, err := c.Cosign(t.Context()); err != nil {
		t.Error(err)
	}
	if st := c.Status(); st[0].Err != "" || st[1].Err == "" || st[1].Damage != "" {
		t.Errorf("%+v", st)
	}
	for name, cfg := range map[string]Config{
		"none":         {},
		"too many":     {Witnesses: []Peer{one.peer}, Quorum: 2},
		"twice":        {Witnesses: []Peer{one.peer, one.peer}},
		"no address":   {Witnesses: []Peer{{URL: "there", Key: one.peer.Key}}},
		"a log's key":  {Witnesses: []Peer{{URL: one.peer.URL, Key: l.VerifierKey()}}},
		"less than 0":  {Witnesses: []Peer{one.peer}, Quorum: -1},
		"not an https": {Witnesses: []Peer{{URL: "file:///x", Key: one.peer.Key}}},
	} {
		if _, err := NewClient(cfg, parts(l, path)); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The log's file is replaced by an older copy, or by another history of the
// same key: both the kept checkpoint and the witness's memory show it.
func TestRolledBackAndForked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	l := openLog(t, path, 7)
	grow(t, l, 5)
	old := filepath.Join(t.TempDir(), "audit.db")
	copyLog(t, l, old)
	grow(t, l, 5)
	w := newHouse(t, l, "witness.example/one", 41)
	kept := Kept(path)
	if _, err := newClient(t, l, kept, 0, w.peer).Cosign(t.Context()); err != nil {
		t.Fatal(err)
	}

	check := func(name, word string, l *audit.Log) {
		t.Helper()
		if err := CheckKept(l, kept); sallyport.KindOf(err) != sallyport.Damaged || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the kept checkpoint says %v", name, err)
		}
		if _, err := NewClient(Config{Witnesses: []Peer{w.peer}}, parts(l, kept)); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%s: a client starts: %v", name, err)
		}
		// Who replaced the log also removed the kept checkpoint.
		away := filepath.Join(t.TempDir(), "kept")
		c := newClient(t, l, away, 0, w.peer)
		_, err := c.Cosign(t.Context())
		if sallyport.KindOf(err) != sallyport.Damaged || !strings.Contains(err.Error(), word) || c.Status()[0].Damage == "" {
			t.Errorf("%s: the witness says %v", name, err)
		}
		if b, err := os.ReadFile(away + ".contradiction"); err != nil {
			t.Errorf("%s: no evidence: %v", name, err)
		} else if cp, err := audit.ParseCheckpoint(string(b), l.VerifierKey()); err != nil || cp.Size != 10 {
			t.Errorf("%s: evidence %+v, %v", name, cp, err)
		}
		if err := c.Run(t.Context()); sallyport.KindOf(err) != sallyport.Damaged {
			t.Errorf("%s: Run: %v", name, err)
		}
	}
	back := openLog(t, old, 7)
	check("older copy", "rolled back", back)
	grow(t, back, 5)
	check("other records, as many", "forked", back)
	grow(t, back, 5)
	check("other records, more", "forked", back)
	if err := CheckKept(l, kept); err != nil {
		t.Errorf("the log itself: %v", err)
	}
	if err := CheckKept(openLog(t, filepath.Join(t.TempDir(), "audit.db"), 8), kept); sallyport.KindOf(err) != sallyport.Damaged {
		t.Errorf("another key: %v", err)
	}
}

// A witness that lies, or somebody on the way, can withhold a signature and no
// more: not have a bad one kept, and not stop the gateway.
func TestLyingWitness(t *testing.T) {
	l := newLog(t, 5)
	honest := newHouse(t, l, "witness.example/one", 41)
	other := newHouse(t, l, "witness.example/two", 42)
	signed, err := newClient(t, l, filepath.Join(t.TempDir(), "x"), 0, other.peer).Cosign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	theirs := signed[strings.LastIndex(signed, "— "):]
	stranger := openLog(t, filepath.Join(t.TempDir(), "audit.db"), 9)
	grow(t, stranger, 9)
	strange, err := stranger.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"nothing":         func(w http.ResponseWriter, r *http.Request) {},
		"noise":           func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "— witness.example/one AAAA") },
		"another's line":  func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, theirs) },
		"larger size":     conflict("1000\n", sizeMedia, nil),
		"size, no number": conflict("x\n", sizeMedia, nil),
		"moving size": func() http.HandlerFunc {
			n := 0
			return func(w http.ResponseWriter, r *http.Request) {
				n++
				conflict(fmt.Sprintf("%d\n", n%4), sizeMedia, nil)(w, r)
			}
		}(),
		"conflict":          conflict("no\n", "text/plain", nil),
		"a stranger's head": conflict("1000\n", sizeMedia, []Sight{{Origin: origin, Checkpoint: strange}}),
		"our own head":      conflict("1000\n", sizeMedia, []Sight{{Origin: origin, Checkpoint: signed}}),
		"unprovable":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(422) },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("—", 1<<12)); err != nil {
					return
				}
			}
		},
	} {
		web := httptest.NewServer(h)
		path := filepath.Join(t.TempDir(), "kept")
		c := newClient(t, l, path, 0, Peer{URL: web.URL, Key: honest.peer.Key})
		if _, err := c.Cosign(t.Context()); sallyport.KindOf(err) != sallyport.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if kept, _ := ReadKept(path); kept != "" {
			t.Errorf("%s: kept %q", name, kept)
		}
		web.Close()
	}
}

func conflict(body, media string, seen []Sight) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if seen == nil {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, `[{"origin":%q,"checkpoint":%q}]`, seen[0].Origin, seen[0].Checkpoint)
			return
		}
		w.Header().Set("Content-Type", media)
		w.WriteHeader(409)
		io.WriteString(w, body)
	}
}

// Run tries again until the witness is there, and goes on as the log grows.
func TestRun(t *testing.T) {
	l := newLog(t, 3)
	w := newHouse(t, l, "witness.example/one", 41)
	asked := make(chan int, 100)
	n := 0
	p := parts(l, filepath.Join(t.TempDir(), "kept"))
	p.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		n++
		defer func(n int) { asked <- n }(n)
		if n < 3 {
			return nil, io.ErrUnexpectedEOF
		}
		return http.DefaultTransport.RoundTrip(r)
	})}
	c, err := NewClient(Config{Witnesses: []Peer{w.peer}, Every: time.Millisecond}, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for range 3 {
		<-asked
	}
	grow(t, l, 1)
	<-asked
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if kept, err := ReadKept(p.Path); err != nil || !strings.Contains(kept, "witness.example/one") {
		t.Errorf("%q, %v", kept, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
