package main

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExportFollows: a receiver gets what is there, and then what is recorded,
// and the follower's own reading does not feed itself.
func TestExportFollows(t *testing.T) {
	l := newLab(t)
	client := l.start("")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var said bytes.Buffer
	c := exec.Command(testBinary(t), "audit", "export", "--format", "syslog", "--follow", "--every", "100ms", "--to", "tcp://"+listener.Addr().String(),
		"--config", filepath.Join(l.dir, "sallyport.yaml"))
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), "SALLYPORT_TEST_RUN=1", "SALLYPORT_STATE="+t.TempDir()), &said, &said
	dieWithParent(c)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(conn); s.Scan(); {
			lines <- s.Text()
		}
	}()
	await := func(what string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatalf("the stream ended before %q: %s", what, &said)
				}
				if strings.Contains(l, what) {
					return
				}
			case err := <-ended:
				t.Fatalf("%v before %q: %s", err, what, &said)
			case <-deadline:
				t.Fatalf("%q never came", what)
			}
		}
	}
	await(" export [audit@32473 ")
	if err := client.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	await(" rotate_keys ")
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v: %s", err, &said)
	}
	if !strings.Contains(said.String(), "records, 0 erased, 0 sealed") {
		t.Errorf("it ended with %s", &said)
	}
}
