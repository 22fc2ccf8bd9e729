package witness

import (
	"bufio"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
)

// TestMain lets the test binary be a witness that can be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("SALLYPORT_TEST_WITNESS"); path != "" {
		os.Exit(doomed(path, os.Getenv("SALLYPORT_TEST_LOG")))
	}
	os.Exit(m.Run())
}

func doomed(path, key string) int {
	c, err := audit.NewCosigner("witness.example/w", seed(40))
	if err == nil {
		var s *Server
		s, err = Open(ServerConfig{Path: path, Signer: c, Logs: []string{key}, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			fmt.Println(httptest.NewServer(s).URL)
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A witness that is killed at any moment remembers all that it signed.
func TestKilled(t *testing.T) {
	const n = 400
	l := newLog(t, n)
	k := logSigner(t, l)
	path := filepath.Join(t.TempDir(), "witness.db")
	var acked, tried uint64
	for kill := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SALLYPORT_TEST_WITNESS="+path, "SALLYPORT_TEST_LOG="+l.VerifierKey())
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		address, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		// The kill falls somewhere into a request, after some that went well.
		after := rand.IntN(20)
		for i := 0; ; i++ {
			if tried = acked + 1; tried > n {
				t.Fatal("the log is too short")
			}
			if i == after {
				go func() {
					for range rand.IntN(20000) { // any moment of a request
					}
					_ = cmd.Process.Kill()
				}()
			}
			body := request{acked, consistency(t, l, acked, tried), sign(t, k, tried, root(t, l, tried))}.format()
			res, err := http.Post(strings.TrimSpace(address)+"/add-checkpoint", "text/plain", strings.NewReader(string(body)))
			if err != nil {
				break
			}
			res.Body.Close()
			if res.StatusCode == http.StatusConflict && i == 0 {
				acked++ // remembered, but killed before it could answer
				continue
			}
			if res.StatusCode != http.StatusOK {
				t.Fatalf("kill %d: %s at %d", kill, res.Status, tried)
			}
			acked = tried
		}
		_ = cmd.Wait()
		s := newServer(t, path, l)
		seen, err := s.Seen()
		if err != nil || seen[0].Size < acked || seen[0].Size > tried {
			t.Fatalf("kill %d: signed %d, tried %d, remembers %+v (%v)", kill, acked, tried, seen, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked == 0 {
		t.Error("nothing was signed")
	}
}
