package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit/export"
)

// receiver is where syslog and CEF lines are sent.
type receiver struct {
	To   string `placeholder:"ADDRESS" help:"Send syslog or CEF lines to tls://HOST:PORT (RFC 5425), tcp://HOST:PORT or unix:///PATH."`
	CA   string `name:"ca" placeholder:"FILE" help:"Certificates that a tls:// receiver's must come from; otherwise those of this system."`
	Cert string `placeholder:"FILE" help:"Certificate to show a tls:// receiver."`
	Key  string `name:"cert-key" placeholder:"FILE" help:"Its private key."`
}

func (r receiver) check() error {
	no := func(hint, format string, args ...any) error {
		return sallyport.Errorf("audit export", sallyport.Invalid, hint, format, args...)
	}
	network, address, ok := strings.Cut(r.To, "://")
	switch {
	case r.To == "" && (r.CA != "" || r.Cert != "" || r.Key != ""):
		return no("Add --to tls://HOST:6514.", "--ca, --cert and --cert-key are for a receiver, and there is none")
	case r.To == "":
		return nil
	case !ok || address == "" || network != "tls" && network != "tcp" && network != "unix":
		return no("Use tls://log.example:6514, tcp://127.0.0.1:601 or unix:///run/log.sock.", "%q is no address to send to", r.To)
	case network != "tls" && (r.CA != "" || r.Cert != "" || r.Key != ""):
		return no("Send to tls://HOST:6514.", "--ca, --cert and --cert-key are for tls://, not %s://", network)
	case (r.Cert == "") != (r.Key == ""):
		return no("", "--cert and --cert-key belong together")
	}
	return nil
}

// dial connects. What is written goes out in the frames that the receiver's
// transport wants: lines, or over TLS counted octets.
func (r receiver) dial(ctx context.Context) (*receiving, error) {
	const op = "audit export"
	network, address, _ := strings.Cut(r.To, "://")
	if network != "tls" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, sallyport.E(op, sallyport.Unavailable, err, "Start the receiver first.")
		}
		return watch(conn, conn), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			return nil, sallyport.E(op, sallyport.Invalid, err, "Name a file of certificates with --ca.")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sallyport.Errorf(op, sallyport.Invalid, "Name a file of PEM certificates.", "%s holds no certificate", r.CA)
		}
	}
	if r.Cert != "" {
		pair, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			return nil, sallyport.E(op, sallyport.Invalid, err, "Name a certificate and its key, both in PEM.")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	d := tls.Dialer{Config: config}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Start the receiver first; if its certificate is not trusted, name its issuer with --ca.")
	}
	return watch(conn, export.NewFrames(conn)), nil
}

// receiving is a connection to a receiver.
type receiving struct {
	io.Writer
	io.Closer
	gone chan struct{} // closed when the receiver has ended it
}

// watch reads from conn, which only tells of its end: receivers say nothing.
// Writing alone would not tell until the second message that gets lost.
func watch(conn net.Conn, w io.Writer) *receiving {
	r := &receiving{w, conn, make(chan struct{})}
	go func() {
		defer close(r.gone)
		io.Copy(io.Discard, conn)
	}()
	return r
}

// again connects anew, however long the receiver is away, until ctx ends.
func (r receiver) again(ctx context.Context, errs io.Writer, cause error) (*receiving, error) {
	fmt.Fprintf(errs, "sallyport: the receiver is gone (%v); trying again\n", cause)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 30*time.Second) {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
		if conn, err := r.dial(ctx); err == nil {
			fmt.Fprintln(errs, "sallyport: the receiver is back; what it may have missed is sent again")
			return conn, nil
		}
	}
}
