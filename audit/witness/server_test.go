package witness

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/audit"
)

const origin = "lab.example/sallyport"

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func seed(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func openLog(t testing.TB, path string, key byte) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Config{Path: path, Origin: origin, Seed: seed(key)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newLog(t testing.TB, n int) *audit.Log {
	t.Helper()
	l := openLog(t, filepath.Join(t.TempDir(), "audit.db"), 7)
	grow(t, l, n)
	return l
}

func grow(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), audit.Entry{Step: "admit", Phase: audit.Note}); err != nil {
				t.Error(err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
}

// logSigner signs any head, as a thief of the log's key could.
func logSigner(t testing.TB, l *audit.Log) note.Signer {
	t.Helper()
	parts := strings.SplitN(l.VerifierKey(), "+", 3)
	s, err := note.NewSigner("PRIVATE+KEY+" + parts[0] + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed(7)...)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s note.Signer, size uint64, root tlog.Hash, more ...string) string {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n%s", origin, size, root, strings.Join(more, ""))}, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newServer(t testing.TB, path string, l *audit.Log) *Server {
	t.Helper()
	c, err := audit.NewCosigner("witness.example/w", seed(40))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(ServerConfig{Path: path, Signer: c, Logs: []string{l.VerifierKey()}, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func root(t testing.TB, l *audit.Log, size uint64) tlog.Hash {
	t.Helper()
	h, err := l.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func consistency(t testing.TB, l *audit.Log, old, size uint64) []tlog.Hash {
	t.Helper()
	p, err := l.Consistency(old, size)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every answer that the protocol names.
func TestAnswers(t *testing.T) {
	l := newLog(t, 20)
	k := logSigner(t, l)
	s := newServer(t, filepath.Join(t.TempDir(), "witness.db"), l)
	web := httptest.NewServer(s)
	defer web.Close()
	head := func(n uint64, more ...string) string { return sign(t, k, n, root(t, l, n), more...) }
	forged := func(n uint64) string { return sign(t, k, n, tlog.Hash{byte(n)}) }
	strangerSkey, _, err := note.GenerateKey(nil2rand{}, origin)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewSigner(strangerSkey)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]tlog.Hash, audit.MaxProof+1)

	for _, c := range []struct {
		name   string
		body   string
		status int
		answer string // of a conflict; "" is not looked at
	}{
		{"no body", "", 400, ""},
		{"no empty line", "old 0\n" + head(5), 400, ""},
		{"leading zero", "old 00\n\n" + head(5), 400, ""},
		{"sign", "old +0\n\n" + head(5), 400, ""},
		{"carriage return", "old 0\r\n\n" + head(5), 400, ""},
		{"hash that is none", "old 0\nAAAA\n\n" + head(5), 400, ""},
		{"hash with loose bits", "old 0\n" + strings.Repeat("A", 42) + "B=\n\n" + head(5), 400, ""},
		{"too many hashes", string(request{0, many, head(5)}.format()), 400, ""},
		{"no note", "old 0\n\nhello\n", 400, ""},
		{"size with a zero", "old 0\n\n" + strings.Replace(head(5), "\n5\n", "\n05\n", 1), 400, ""},
		{"unknown log", "old 0\n\n" + strings.ReplaceAll(head(5), origin, "elsewhere"), 404, ""},
		{"unknown key", "old 0\n\n" + sign(t, stranger, 5, root(t, l, 5)), 403, ""},
		{"altered", "old 0\n\n" + strings.Replace(head(5), "\n5\n", "\n6\n", 1), 403, ""},
		{"old above size", string(request{6, nil, head(5)}.format()), 400, ""},
		{"old of what was never seen", string(request{3, consistency(t, l, 3, 5), head(5)}.format()), 409, "0\n"},
		{"proof from nothing", string(request{0, many[:1], head(5)}.format()), 422, ""},
		{"false root of nothing", string(request{0, nil, forged(0)}.format()), 422, ""},
		{"nothing", string(request{0, nil, head(0)}.format()), 200, ""},
		{"first", string(request{0, nil, head(5)}.format()), 200, ""},
		{"first again, from nothing", string(request{0, nil, head(5)}.format()), 409, "5\n"},
		{"same", string(request{5, nil, head(5)}.format()), 200, ""},
		{"same with a proof", string(request{5, many[:1], head(5)}.format()), 422, ""},
		{"same size, another root", string(request{5, nil, forged(5)}.format()), 409, ""},
		{"smaller", string(request{0, nil, head(4)}.format()), 409, "5\n"},
		{"larger, wrong old", string(request{4, consistency(t, l, 4, 9), head(9)}.format()), 409, "5\n"},
		{"larger, no proof", string(request{5, nil, head(9)}.format()), 422, ""},
		{"larger, proof of another", string(request{5, consistency(t, l, 4, 9), head(9)}.format()), 422, ""},
		{"larger, forged", string(request{5, consistency(t, l, 5, 9), forged(9)}.format()), 422, ""},
		{"larger, with an extension line", string(request{5, consistency(t, l, 5, 9), head(9, "more\n")}.format()), 200, ""},
		{"signed by others too", string(request{9, consistency(t, l, 9, 20), head(20) + "— someone AAAAAAAA\n"}.format()), 200, ""},
	} {
		res, err := http.Post(web.URL+"/add-checkpoint", "text/plain", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != c.status {
			t.Errorf("%s: %d %q, want %d", c.name, res.StatusCode, b, c.status)
		}
		if c.answer != "" && (string(b) != c.answer || res.Header.Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: %q (%s), want %q", c.name, b, res.Header.Get("Content-Type"), c.answer)
		}
		if (res.StatusCode == 200) != (strings.HasPrefix(string(b), "— witness.example/w ") && strings.Count(string(b), "\n") == 1 && strings.HasSuffix(string(b), "\n")) {
			t.Errorf("%s: answer %q", c.name, b)
		}
	}
	for path, want := range map[string]int{"/": 200, "/add-checkpoint": 405, "/else": 404} {
		res, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s: %d", path, res.StatusCode)
		}
	}
	seen, err := s.Seen()
	if err != nil || len(seen) != 1 || seen[0].Size != 20 || len(seen[0].Forks) != 1 {
		t.Errorf("%+v, %v", seen, err)
	}
}

// nil2rand is a fixed source for a key that nobody trusts.
type nil2rand struct{}

func (nil2rand) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Two histories of one key, the same up to a point. Whatever is submitted in
// whatever order, with restarts between, all that the witness ever signs is of
// one of them, and never goes back.
func TestNeverTwoHistories(t *testing.T) {
	const common, n = 12, 30
	path := filepath.Join(t.TempDir(), "audit.db")
	a := openLog(t, path, 7)
	grow(t, a, common)
	copied := filepath.Join(t.TempDir(), "audit.db")
	copyLog(t, a, copied)
	b := openLog(t, copied, 7)
	grow(t, a, n-common)
	grow(t, b, n-common)
	k := logSigner(t, a)
	logs := []*audit.Log{a, b}
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		file := filepath.Join(dir, fmt.Sprint(run))
		s := newServer(t, file, a)
		defer func() { s.Close() }()
		var last uint64
		ofA, ofB := true, true
		for range rapid.IntRange(1, 12).Draw(r, "requests") {
			if rapid.IntRange(0, 9).Draw(r, "restart") == 0 {
				s.Close()
				s = newServer(t, file, a)
			}
			l := logs[rapid.IntRange(0, 1).Draw(r, "log")]
			size := rapid.Uint64Range(0, n).Draw(r, "size")
			old := last
			if rapid.IntRange(0, 4).Draw(r, "guess") == 0 {
				old = rapid.Uint64Range(0, n).Draw(r, "old")
			}
			prover := l
			if rapid.IntRange(0, 4).Draw(r, "mix") == 0 {
				prover = logs[rapid.IntRange(0, 1).Draw(r, "prover")]
			}
			proof, _ := prover.Consistency(old, size)
			h := root(t, l, size)
			line, err := s.Add(request{old, proof, sign(t, k, size, h)}.format())
			if err != nil {
				continue
			}
			if line == "" || size < last {
				r.Fatalf("signed %d after %d (%q)", size, last, line)
			}
			last = size
			ofA, ofB = ofA && h == root(t, a, size), ofB && h == root(t, b, size)
			if !ofA && !ofB {
				r.Fatalf("signed two histories")
			}
		}
		seen, err := s.Seen()
		if err != nil || seen[0].Size != last {
			r.Fatalf("remembers %+v, not %d (%v)", seen, last, err)
		}
	})
}

func copyLog(t testing.TB, l *audit.Log, to string) {
	t.Helper()
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Snapshot(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Requests at once: sizes that were signed never contradict the last one.
func TestRequestsAtOnce(t *testing.T) {
	l := newLog(t, 40)
	k := logSigner(t, l)
	s := newServer(t, filepath.Join(t.TempDir(), "witness.db"), l)
	var wg sync.WaitGroup
	for i := range uint64(40) {
		body := request{i / 2, consistency(t, l, i/2, i), sign(t, k, i, root(t, l, i))}.format()
		wg.Go(func() { _, _ = s.Add(body) })
	}
	wg.Wait()
	seen, err := s.Seen()
	if err != nil {
		t.Fatal(err)
	}
	cp, err := audit.ParseCheckpoint(seen[0].Checkpoint, l.VerifierKey())
	if seen[0].Checkpoint != "" && (err != nil || root(t, l, cp.Size) != cp.Root) {
		t.Errorf("%+v, %v", cp, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	l := newLog(t, 1)
	path := filepath.Join(t.TempDir(), "witness.db")
	s := newServer(t, path, l)
	if _, err := Open(ServerConfig{Path: path, Signer: s.signer, Now: s.now, Log: s.log}); sallyport.KindOf(err) != sallyport.Unavailable {
		t.Errorf("two at once: %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("old 0\n\nlab\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\n— lab AAAA\n"))
	f.Add([]byte("old 12\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\nx"))
	f.Add([]byte("old 01\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err == nil && !bytes.Equal(r.format(), b) {
			t.Fatalf("%q is read as %+v", b, r)
		}
		_, _ = parseHead(noteText(r.checkpoint))
	})
}
