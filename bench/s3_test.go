package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport"
	"sallyport/bench"
)

func TestS3OptionsAreChecked(t *testing.T) {
	for _, o := range []bench.S3Options{{}, {Size: 1, Runs: 1, Small: 1, Streams: 1}, {Size: 1, Runs: 2, Small: 1, Streams: 1, Raw: []string{"a"}, Masked: []string{"b"}}} {
		if _, err := bench.S3(t.Context(), o); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestPeers: what the door is measured against serves and keeps what it should.
func TestPeers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	direct := startPeer(t, map[string]string{"files": dir})
	proxy := startPeer(t, map[string]string{"upstream": "http://" + direct.Address})
	ask := func(method, url, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, p := range []bench.Endpoint{direct, proxy} {
		url := "http://" + p.Address
		if code, body := ask(http.MethodGet, url+"/a", ""); code != 200 || body != "hello" {
			t.Errorf("GET: %d %q", code, body)
		}
		if code, _ := ask(http.MethodPut, url+"/b", "new"); code != 200 {
			t.Errorf("PUT: %d", code)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || string(b) != "new" {
			t.Errorf("kept %q, %v", b, err)
		}
		if code, _ := ask(http.MethodDelete, url+"/b", ""); code != http.StatusNoContent {
			t.Errorf("DELETE: %d", code)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, task := range []string{"", "{}", `{"files":"a","upstream":"b"}`} {
		if err := bench.Peer(t.Context(), task, strings.NewReader(""), io.Discard); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("task %q: %v", task, err)
		}
	}
}

// startPeer runs a peer in this process, until its input ends.
func startPeer(t *testing.T, task map[string]string) (e bench.Endpoint) {
	t.Helper()
	arg, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	in, stop := io.Pipe()
	out, said := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- bench.Peer(context.Background(), string(arg), in, said) }()
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if _, err := io.WriteString(stop, "used\n"); err != nil {
		t.Fatal(err)
	}
	var used struct{ Peak int64 }
	line, err = lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &used)
	}
	if err != nil || used.Peak <= 0 {
		t.Errorf("used: %s, %v", line, err)
	}
	return e
}
