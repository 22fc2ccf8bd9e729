package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing/network/wire"
)

// door is the gateway's HTTPS door, seen from outside.
type door struct {
	client *http.Client
	base   string
	user   nkeys.KeyPair
}

func newDoor(k *keep) *door { return doorTo(k.place.Gateway, k.place.Pin, k.user) }

func doorTo(address, pin string, user nkeys.KeyPair) *door {
	return &door{base: "https://" + address, user: user, client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: wire.ClientTLS(pin), TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Minute},
		// A redirect would lead away from the pinned gateway.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// errRefused is the one answer that trying again does not change.
var errRefused = errors.New("the gateway refused")

// do sends one request. No error of it has the link in it, which is a secret.
func (d *door) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, errors.New("the gateway's address is not one")
	}
	sig, err := d.user.Sign(wire.Signed(method, req.URL.Path))
	if err != nil {
		return nil, err
	}
	req.Header.Set(wire.SignatureHeader, base64.RawURLEncoding.EncodeToString(sig))
	resp, err := d.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, err
	}
	switch {
	case resp.StatusCode/100 == 2:
		return resp, nil
	case resp.StatusCode == http.StatusForbidden:
		err = errRefused
	default:
		err = fmt.Errorf("the gateway answered %d", resp.StatusCode)
	}
	resp.Body.Close()
	return nil, err
}

// fetch copies what a link stands for and returns its digest. More than most
// bytes are an error.
func (d *door) fetch(ctx context.Context, link string, dst io.Writer, most int64) (sallyport.Digest, error) {
	resp, err := d.do(ctx, http.MethodGet, wire.ParcelPath+link, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(resp.Body, most+1))
	if err != nil {
		return "", err
	}
	if n > most {
		return "", sallyport.Errorf("fetch", sallyport.Damaged, "", "longer than announced")
	}
	return sallyport.DigestSum(h.Sum(nil)), nil
}

// deliver puts a sealed result.
func (d *door) deliver(ctx context.Context, link string, src io.Reader) error {
	resp, err := d.do(ctx, http.MethodPut, wire.ResultPath+link, src)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// enroll gives the node its place, if it has none or was given a new token.
func enroll(ctx context.Context, cfg Config, k *keep) error {
	const op = "enroll"
	used := string(sallyport.DigestOf([]byte(cfg.Token)))
	if k.place.Node != "" && (cfg.Token == "" || k.place.Token == used) {
		return nil
	}
	if cfg.Token == "" {
		return sallyport.Errorf(op, sallyport.Invalid, "Ask the lab for a token and give it with --token.", "this node is not enrolled")
	}
	t, err := wire.ParseToken(cfg.Token)
	if err != nil {
		return err
	}
	recipient := k.key.Recipient()
	proof, err := k.user.Sign(wire.EnrollSigned(t.Secret, recipient))
	if err != nil {
		return sallyport.E(op, sallyport.Internal, err, "")
	}
	pub, err := k.user.PublicKey()
	if err != nil {
		return sallyport.E(op, sallyport.Internal, err, "")
	}
	e := wire.Enroll{Secret: t.Secret, Key: pub, Proof: base64.RawURLEncoding.EncodeToString(proof),
		Recipient: recipient, Name: cfg.Name, Region: cfg.Region}
	d := doorTo(t.Address, t.Pin, k.user)
	resp, err := d.do(ctx, http.MethodPost, wire.EnrollPath, bytes.NewReader(wire.Encode(e)))
	switch {
	case errors.Is(err, wire.ErrPin):
		return sallyport.E(op, sallyport.Denied, err, "Somebody else answers at the gateway's address, or its certificate was changed: ask the lab.")
	case errors.Is(err, errRefused):
		return sallyport.E(op, sallyport.Denied, err, "A token is good once and for a while: ask the lab for a new one. Names and regions are a-z, 0-9 and '-'.")
	case err != nil:
		return sallyport.E(op, sallyport.Unavailable, err, "Is the gateway running, and can this machine reach it?")
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxDocument))
	if err != nil {
		return sallyport.E(op, sallyport.Unavailable, err, "Start the node again with the same token.")
	}
	var got wire.Enrolled
	if err := wire.Decode(b, &got); err != nil {
		return err
	}
	if !wire.ValidID(got.Node) || got.JWT == "" {
		return sallyport.Errorf(op, sallyport.Damaged, "", "the gateway's answer is not complete")
	}
	k.place.Gateway, k.place.Pin, k.place.Token, k.place.Enrolled = t.Address, t.Pin, used, got
	return k.save()
}
