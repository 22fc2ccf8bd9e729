package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/audit/witness"
)

// WitnessConfig says who vouches for the audit log's checkpoints: machines of
// other departments or labs that run `sallyport witness serve`, or any other
// witness of the C2SP protocol.
type WitnessConfig struct {
	By     []witness.Peer `yaml:"by"`
	Quorum int            `yaml:"quorum"` // how many must cosign; 0 is all
	Every  time.Duration  `yaml:"every"`  // how often a new checkpoint is submitted; 0 is a minute
	CA     string         `yaml:"ca"`     // PEM file of the authority of their certificates; empty: the system's
}

// openWitnesses returns a client of the witnesses, nil where none is configured.
func (w *wiring) openWitnesses(log *slog.Logger) (*witness.Client, error) {
	c := w.cfg.Witness
	if len(c.By) == 0 {
		return nil, nil
	}
	client, err := witnessHTTP(w.cfg.path(c.CA))
	if err != nil {
		return nil, err
	}
	return witness.NewClient(witness.Config{Witnesses: c.By, Quorum: c.Quorum, Every: c.Every},
		witness.Parts{Log: w.parts.Audit, Path: witness.Kept(w.cfg.path(w.cfg.Audit)), HTTP: client, Now: w.now, Slog: log})
}

// haveCosigned has checkpoints cosigned until ctx ends. If a witness holds a
// signed checkpoint that the log does not continue, nothing is recorded any
// more, and so nothing done.
func (w *wiring) haveCosigned(ctx context.Context, c *witness.Client, log *slog.Logger) {
	if err := c.Run(ctx); err != nil {
		w.parts.Audit.Refuse(err)
		log.Error("the audit log is not the one that was witnessed: nothing is done until it is restored", "err", err)
	}
}

func witnessHTTP(ca string) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if ca != "" {
		pem, err := os.ReadFile(ca)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return nil, sallyport.Errorf("witness", sallyport.Invalid, "Name a PEM file with certificates.", "no certificates in %s", ca)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: t}, nil
}

type witnessCmd struct {
	Init  witnessInitCmd  `cmd:"" help:"Make a witness's key, or show the one that is there."`
	Serve witnessServeCmd `cmd:"" help:"Be a witness: remember other gateways' checkpoints and cosign those that continue them."`
	Ls    witnessLsCmd    `cmd:"" help:"List what a witness saw, or who cosigned this gateway's log."`
}

type witnessInitCmd struct {
	Dir  string `arg:"" help:"Folder of the witness's key and memory; made if it is not there."`
	Name string `help:"Name of a new witness, such as witness.example; by default the host's."`
}

func (c witnessInitCmd) Run(a *app) error {
	k, err := witnessKey(c.Dir, c.Name)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"name": k.Name(), "key": k.String()})
	}
	fmt.Fprintln(a.out, k)
	return nil
}

type witnessServeCmd struct {
	Dir    string   `required:"" help:"Folder of the witness's key and memory; made if it is not there. Never restore it from a backup: a witness that forgets can be made to vouch for two histories."`
	Listen string   `default:"127.0.0.1:7490" help:"Address."`
	Log    []string `required:"" placeholder:"VKEY" help:"Verifier key of a log to follow, as audit checkpoint prints it; may be given many times."`
	Name   string   `help:"Name of a new witness, such as witness.example; by default the host's."`
	Cert   string   `name:"tls-cert" placeholder:"FILE" help:"Certificate, PEM; without it there is no TLS."`
	Key    string   `name:"tls-key" placeholder:"FILE" help:"Its key, PEM."`
}

func (witnessServeCmd) Help() string {
	return `Run it on a machine that the gateway's administrators cannot change. It speaks the C2SP witness protocol (c2sp.org/tlog-witness) with Ed25519 cosignatures. Requests need no login: only a log's own signature counts.

  sallyport witness serve --dir witness --log my-lab+1a2b3c4d+AbC...

and in the gateway's sallyport.yaml, with the key that it prints:

  witness:
    by:
      - url: http://127.0.0.1:7490
        key: witness.example+5e6f7a8b+BDe...`
}

func (c witnessServeCmd) Run(a *app) error {
	if (c.Cert == "") != (c.Key == "") {
		return sallyport.Errorf("witness", sallyport.Invalid, "Give both of --tls-cert and --tls-key, or none.", "a certificate needs its key")
	}
	signer, err := witnessKey(c.Dir, c.Name)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.errs, nil))
	s, err := witness.Open(witness.ServerConfig{Path: filepath.Join(c.Dir, "witness.db"), Signer: signer, Logs: c.Log, Now: time.Now, Log: log})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return errors.Join(sallyport.E("witness", sallyport.Unavailable, err, "Set another address with --listen."), s.Close())
	}
	scheme := "http"
	if c.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return errors.Join(sallyport.E("witness", sallyport.Invalid, err, ""), l.Close(), s.Close())
		}
		l, scheme = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), "https"
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	address := scheme + "://" + l.Addr().String()
	if a.json {
		err = a.printJSON(map[string]any{"url": address, "key": signer.String()})
	} else {
		pairs(a.out, "url", address, "key", signer.String())
	}
	stopped := context.AfterFunc(a.ctx, func() {
		// What is being answered is answered; what is new is refused.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = web.Shutdown(ctx)
	})
	if err == nil {
		if err = web.Serve(l); errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
	}
	stopped()
	return errors.Join(err, s.Close())
}

const witnessKeyFile = "witness.key"

// witnessKey reads the witness's key, or makes one. The file holds the key in
// the form of other witnesses: PRIVATE+KEY+name+hash+key.
func witnessKey(dir, name string) (*audit.Cosigner, error) {
	const op = "witness key"
	file := filepath.Join(dir, witnessKeyFile)
	b, err := os.ReadFile(file)
	if err == nil {
		k, err := parseSecretKey(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, sallyport.E(op, sallyport.Damaged, err, "Restore "+file+", or begin as a new witness in another folder.")
		}
		if name != "" && name != k.Name() {
			return nil, sallyport.Errorf(op, sallyport.Conflict, "Leave out --name, or use another folder.", "the witness in %s is called %s", dir, k.Name())
		}
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	if _, err := os.Stat(filepath.Join(dir, "witness.db")); err == nil {
		return nil, sallyport.Errorf(op, sallyport.Damaged, "Restore it, or begin as a new witness in another folder.", "%s has a memory but no key", dir)
	}
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, sallyport.E(op, sallyport.Invalid, err, "Give --name.")
		}
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails
	k, err := audit.NewCosigner(name, seed)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Choose a folder that you may write to.")
	}
	text := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s\n", k.Name(), k.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{4}, seed...)))
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	return k, nil
}

func parseSecretKey(s string) (*audit.Cosigner, error) {
	rest, ok := strings.CutPrefix(s, "PRIVATE+KEY+")
	parts := strings.SplitN(rest, "+", 3)
	if !ok || len(parts) != 3 {
		return nil, errors.New("the file is not a witness's key")
	}
	b, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(b) != 1+ed25519.SeedSize || b[0] != 4 {
		return nil, errors.New("the file is not an Ed25519 key for cosignatures")
	}
	k, err := audit.NewCosigner(parts[0], b[1:])
	if err == nil && fmt.Sprintf("%08x", k.KeyHash()) != parts[1] {
		err = errors.New("the key is not the one that its hash is of")
	}
	return k, err
}

type witnessLsCmd struct {
	URL string `name:"url" help:"Ask the witness at this address what it saw."`
	CA  string `name:"ca" placeholder:"FILE" help:"Authority of the witness's certificate, PEM."`
}

func (witnessLsCmd) Help() string {
	return `Without --url: the witnesses in sallyport.yaml, and which checkpoint of this gateway's log each of them cosigned last, as far as a quorum did.

  sallyport witness ls
  sallyport witness ls --url http://127.0.0.1:7490`
}

func (c witnessLsCmd) Run(a *app) error {
	if c.URL != "" {
		return c.seen(a)
	}
	cfg, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	l, done, err := a.openLog("")
	if err != nil {
		return err
	}
	defer done()
	signed, err := witness.ReadKept(witness.Kept(cfg.path(cfg.Audit)))
	if err != nil {
		return err
	}
	type row struct {
		Witness string     `json:"witness"`
		URL     string     `json:"url"`
		Key     string     `json:"key"`
		Size    uint64     `json:"size"` // of the checkpoint that it cosigned
		Time    *time.Time `json:"time,omitempty"`
		Behind  uint64     `json:"behind"` // records since then
	}
	list := []row{}
	var keys []audit.WitnessKey
	for _, p := range cfg.Witness.By {
		k, err := audit.ParseWitnessKey(p.Key)
		if err != nil {
			return err
		}
		keys = append(keys, k)
		list = append(list, row{Witness: k.Name(), URL: p.URL, Key: p.Key, Behind: l.Size()})
	}
	if signed != "" {
		cp, cosigs, err := audit.ParseCosigned(signed, l.VerifierKey(), keys)
		if err != nil {
			return err
		}
		for _, s := range cosigs {
			for i := range list {
				if list[i].Key == s.Key {
					list[i].Size, list[i].Time, list[i].Behind = cp.Size, &s.Time, l.Size()-min(cp.Size, l.Size())
				}
			}
		}
	}
	if a.json {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, r := range list {
		when := "never"
		if r.Time != nil {
			when = clock(*r.Time)
		}
		rows = append(rows, []string{r.Witness, r.URL, strconv.FormatUint(r.Size, 10), when, strconv.FormatUint(r.Behind, 10)})
	}
	table(a.out, []string{"witness", "url", "cosigned", "when", "behind"}, rows)
	return nil
}

func (c witnessLsCmd) seen(a *app) error {
	client, err := witnessHTTP(c.CA)
	if err != nil {
		return err
	}
	list, err := witness.Ask(a.ctx, client, c.URL)
	if err != nil {
		return err
	}
	forked := false
	var rows [][]string
	for _, s := range list {
		state := "one history"
		if len(s.Forks) > 0 {
			forked, state = true, fmt.Sprintf("FORKED: %d checkpoints contradict it", len(s.Forks))
		}
		rows = append(rows, []string{s.Origin, strconv.FormatUint(s.Size, 10), clip(s.Root, 20), state})
	}
	if a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	} else {
		table(a.out, []string{"log", "size", "root", "state"}, rows)
	}
	if forked {
		return exitCode(1)
	}
	return nil
}
