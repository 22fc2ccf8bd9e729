package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// follower is `audit export --follow` to a receiver.
type follower struct {
	t     *testing.T
	cmd   *exec.Cmd
	said  bytes.Buffer
	ended chan error
}

func follow(t *testing.T, l *lab, args ...string) *follower {
	t.Helper()
	f := &follower{t: t, ended: make(chan error, 1)}
	f.cmd = exec.Command(testBinary(t), append([]string{"audit", "export", "--format", "syslog", "--follow", "--every", "100ms",
		"--config", filepath.Join(l.dir, "sallyport.yaml")}, args...)...)
	f.cmd.Env, f.cmd.Stdout, f.cmd.Stderr = append(os.Environ(), "SALLYPORT_TEST_RUN=1", "SALLYPORT_STATE="+t.TempDir()), &f.said, &f.said
	dieWithParent(f.cmd)
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { f.ended <- f.cmd.Wait() }()
	return f
}

// stop interrupts it, which is how it ends well.
func (f *follower) stop() {
	f.t.Helper()
	if err := f.cmd.Process.Signal(syscall.SIGINT); err != nil {
		f.t.Fatal(err)
	}
	if err := <-f.ended; err != nil {
		f.t.Errorf("%v: %s", err, &f.said)
	}
}

// await waits until what says that a thing is there.
func (f *follower) await(what string, there func() bool) {
	f.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !there() {
		select {
		case err := <-f.ended:
			f.t.Fatalf("%v before %s: %s", err, what, &f.said)
		case <-deadline:
			f.t.Fatalf("%s never came", what)
		case <-tick.C:
		}
	}
}

// TestExportToRsyslog sends to the syslog server of Debian over TLS, takes it
// away, and finds in its file what was recorded while it was gone.
func TestExportToRsyslog(t *testing.T) {
	program := need(t, "rsyslogd")
	if found, _ := filepath.Glob("/usr/lib/*/rsyslog/lmnsd_gtls.so"); len(found) == 0 {
		need(t, "rsyslog-gnutls")
	}
	l := newLab(t)
	client := l.start("")
	dir := t.TempDir()
	ca, cert, key := certificate(t, dir)
	port := fmt.Sprint(freePort(t))
	out := filepath.Join(dir, "received")
	conf := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
global(workDirectory="%[1]s" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="%[2]s" defaultNetstreamDriverCertFile="%[3]s" defaultNetstreamDriverKeyFile="%[4]s")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="%[5]s")
template(name="raw" type="string" string="%%rawmsg%%\n")
action(type="omfile" file="%[6]s" template="raw" asyncWriting="off" flushOnTXEnd="on")
`, dir, ca, cert, key, port, out), 0o600); err != nil {
		t.Fatal(err)
	}
	server := func() (stop func()) {
		t.Helper()
		c := exec.Command(program, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
		var said bytes.Buffer
		c.Stdout, c.Stderr = &said, &said
		dieWithParent(c)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; {
			if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("rsyslogd does not listen: %s", &said)
			}
		}
		return func() {
			c.Process.Signal(syscall.SIGTERM)
			c.Wait()
		}
	}
	received := func(what string) func() bool {
		return func() bool {
			b, _ := os.ReadFile(out)
			return strings.Contains(string(b), what)
		}
	}

	stop := server()
	f := follow(t, l, "--to", "tls://127.0.0.1:"+port, "--ca", ca)
	f.await("what was asked", received(" export [audit@32473 "))
	f.await("the first record", received(`seq="0"`))
	stop()
	if err := client.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	stop = server()
	defer stop()
	f.await("what was recorded meanwhile", received(" rotate_keys "))
	f.stop()

	// No certificate of another is taken for the receiver's.
	other, _, _ := certificate(t, t.TempDir())
	c := exec.Command(testBinary(t), "audit", "export", "--format", "syslog", "--to", "tls://127.0.0.1:"+port, "--ca", other, "--config", filepath.Join(l.dir, "sallyport.yaml"))
	c.Env = append(os.Environ(), "SALLYPORT_TEST_RUN=1", "SALLYPORT_STATE="+t.TempDir())
	if said, err := c.CombinedOutput(); err == nil || !strings.Contains(string(said), "certificate") {
		t.Errorf("%v: %s", err, said)
	}
}

// TestExportFindsReceiverAgain: a plain receiver that went away and came back
// has each record at least once.
func TestExportFindsReceiverAgain(t *testing.T) {
	l := newLab(t)
	client := l.start("")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	f := follow(t, l, "--to", "tcp://"+listener.Addr().String())
	accept := func() net.Conn {
		t.Helper()
		listener.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
		conn, err := listener.Accept()
		if err != nil {
			f.cmd.Process.Signal(syscall.SIGQUIT)
			<-f.ended
			t.Fatal(err, f.said.String())
		}
		return conn
	}
	conn := accept()
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetLinger(0) // gone without a farewell
	conn.Close()
	if err := client.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	conn = accept()
	defer conn.Close()
	var text strings.Builder
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	for s := bufio.NewScanner(conn); !strings.Contains(text.String(), " rotate_keys ") && s.Scan(); {
		text.WriteString(s.Text() + "\n")
	}
	f.stop()
	for _, want := range []string{" export [audit@32473 ", `seq="0"`, " rotate_keys "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the receiver that came back never had %q; the follower said %s", want, &f.said)
		}
	}
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pk}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, cert, key
}
