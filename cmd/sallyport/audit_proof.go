package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport"
	"sallyport/audit"
	"sallyport/audit/tiles"
	"sallyport/audit/witness"
)

type auditProofCmd struct {
	Seq    uint64 `arg:"" help:"The record's number."`
	Out    string `short:"o" placeholder:"FILE" help:"Write the proof there, by custom NAME.tlog-proof."`
	Record string `placeholder:"FILE" help:"Also write the record's content there, with the salt that opens its commitment: it tells all that the record tells."`
	DB     string `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
	Why    string `help:"Why you read the record's content; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (auditProofCmd) Help() string {
	return `The proof is a C2SP tlog-proof: the record's leaf, its path in the tree, and a signed checkpoint; the one that witnesses cosigned, if it covers the record. A leaf tells number, time, step and salted digests, no content.

  sallyport audit proof 17 --out 17.tlog-proof
  sallyport audit proof 17 --out 17.tlog-proof --record 17.json`
}

func (c auditProofCmd) Run(a *app) error {
	if c.Record != "" {
		if err := c.open(a); err != nil {
			return err
		}
	}
	p, key, err := c.prove(a)
	if err != nil {
		return err
	}
	switch {
	case c.Out != "":
		if err := writeFile(c.Out, p.Format()); err != nil {
			return err
		}
		if !a.json {
			fmt.Fprintf(a.out, "%s proves record %d\n", c.Out, c.Seq)
		}
	case !a.json:
		_, err := a.out.Write(p.Format())
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"seq": c.Seq, "file": c.Out, "proof": string(p.Format()), "key": key})
	}
	return nil
}

// prove asks the gateway for the proof. Where witnesses cosign, or no gateway
// runs, it is taken from the log itself.
func (c auditProofCmd) prove(a *app) (p audit.Proof, key string, err error) {
	if c.DB == "" {
		cfg, err := loadConfig(a.config)
		if err != nil {
			return p, "", err
		}
		client, err := a.running(cfg)
		if err != nil {
			return p, "", err
		}
		if kept, err := witness.ReadKept(witness.Kept(cfg.path(cfg.Audit))); client != nil && err == nil && kept == "" {
			if _, key, err = client.Checkpoint(a.ctx); err != nil {
				return p, "", err
			}
			p, err = client.ProveRecord(a.ctx, c.Seq, c.As)
			return p, key, err
		}
	}
	l, done, err := a.openLog(c.DB)
	if err != nil {
		return p, "", err
	}
	defer done()
	p, err = l.Prove(c.Seq, a.cosigned(l, c.DB, c.Seq))
	return p, l.VerifierKey(), err
}

// open writes the record's content, which is a reading, and recorded.
func (c auditProofCmd) open(a *app) error {
	l, err := a.readLog(reading{DB: c.DB, Why: c.Why, As: c.As})
	if err != nil {
		return err
	}
	defer l.Close()
	o, err := l.Opening(c.Seq)
	if err != nil {
		return err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return writeFile(c.Record, append(b, '\n'))
}

// cosigned returns the checkpoint that witnesses cosigned if it covers a
// record, "" if there is none such: then the log's own is as good as it gets.
func (a *app) cosigned(l *audit.Log, db string, seq uint64) string {
	path := db
	if path == "" {
		cfg, err := loadConfig(a.config)
		if err != nil {
			return ""
		}
		path = cfg.path(cfg.Audit)
	}
	signed, err := witness.ReadKept(witness.Kept(path))
	if err != nil || signed == "" {
		return ""
	}
	cp, err := audit.ParseCheckpoint(signed, l.VerifierKey())
	if err != nil || seq >= cp.Size || cp.Size > l.Size() {
		return ""
	}
	return signed
}

func writeFile(name string, b []byte) error {
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return sallyport.E("write file", sallyport.Unavailable, err, "Choose a folder that you may write to.")
	}
	return nil
}

type auditCheckProofCmd struct {
	File    string   `arg:"" help:"The proof."`
	Key     string   `required:"" placeholder:"VKEY" help:"The log's verifier key, from whom you trust."`
	Record  string   `placeholder:"FILE" help:"The record's content, as audit proof --record writes it."`
	Witness []string `placeholder:"VKEY" help:"The verifier key of a witness whom you trust; may be given many times."`
	Quorum  int      `default:"-1" help:"How many of the witnesses must have cosigned; all, if not given."`
}

func (auditCheckProofCmd) Help() string {
	return `Exit code 0: proved; 1: not what it claims, or altered; 3: too few witnesses.

  sallyport audit check-proof 17.tlog-proof --key my-lab+1a2b3c4d+AbC... --record 17.json`
}

func (c auditCheckProofCmd) Run(a *app) error {
	trust := audit.Trust{VerifierKey: c.Key, Quorum: c.Quorum}
	for _, s := range c.Witness {
		k, err := audit.ParseWitnessKey(s)
		if err != nil {
			return err
		}
		trust.Witnesses = append(trust.Witnesses, k)
	}
	if c.Quorum < 0 {
		trust.Quorum = len(trust.Witnesses)
	}
	if trust.Quorum > len(trust.Witnesses) {
		return sallyport.Errorf("check proof", sallyport.Invalid, "Name each with --witness.", "%d witnesses must have cosigned, but %d are named", trust.Quorum, len(trust.Witnesses))
	}
	b, err := readBounded(c.File, audit.MaxProofFile)
	if err != nil {
		return err
	}
	p, err := audit.ParseProof(b)
	if err != nil {
		return err
	}
	got, err := p.Check(trust)
	if err != nil {
		return err
	}
	var o *audit.Opening
	if c.Record != "" {
		b, err := readBounded(c.Record, 2*audit.MaxEntry)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &o); err != nil || o == nil {
			return sallyport.Errorf("check proof", sallyport.Invalid, "`sallyport audit proof --record` writes one.", "%s is not a record's content", c.Record)
		}
		if err := o.Check([]byte(got.Leaf)); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(map[string]any{"proved": true, "seq": got.Seq, "leaf": got.Leaf, "content": o != nil, "origin": got.Checkpoint.Origin,
			"size": got.Checkpoint.Size, "root": base64.StdEncoding.EncodeToString(got.Checkpoint.Root[:]), "cosignatures": nonNilList(got.Cosignatures)})
	}
	fmt.Fprintf(a.out, "proved: record %d of %d in the log of %s\n\n%s", got.Seq, got.Checkpoint.Size, got.Checkpoint.Origin, got.Leaf)
	for _, s := range got.Cosignatures {
		fmt.Fprintf(a.out, "cosigned by %s at %s\n", s.Witness, clock(s.Time))
	}
	if o != nil {
		fmt.Fprintf(a.out, "\nand its content is\n\n%s\n", o.Entry)
	}
	return nil
}

func nonNilList[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// readBounded reads a small file.
func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, sallyport.E("read file", sallyport.NotFound, err, "")
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, sallyport.E("read file", sallyport.Unavailable, err, "")
	}
	if int64(len(b)) > most {
		return nil, sallyport.Errorf("read file", sallyport.Invalid, "", "%s is larger than %d bytes", name, most)
	}
	return b, nil
}

type auditTilesCmd struct {
	Dir string `arg:"" help:"Folder to write to; one written before is brought up to date."`
	DB  string `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
}

func (auditTilesCmd) Help() string {
	return `Writes a C2SP tlog-tiles folder: checkpoint, tile/<level>/<n>, tile/entries/<n>. Entries are leaves, which hold number, time, step and salted digests, no content. Any web server can show the folder, any monitor of such logs can read it.

  sallyport audit tiles /srv/www/log`
}

func (c auditTilesCmd) Run(a *app) error {
	l, done, err := a.openLog(c.DB)
	if err != nil {
		return err
	}
	defer done()
	w, err := tiles.Write(c.Dir, l, "")
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(w)
	}
	fmt.Fprintf(a.out, "%s holds %d records (%d more), %d files written\n", c.Dir, w.Size, w.Size-w.Old, w.Files)
	return nil
}

type auditCheckTilesCmd struct {
	Dir string `arg:"" help:"The folder."`
	Key string `required:"" placeholder:"VKEY" help:"The log's verifier key, from whom you trust."`
}

func (auditCheckTilesCmd) Help() string {
	return strings.TrimSpace(`
Reads every entry and every tile, and holds all against the signed checkpoint. Exit code 0: whole; 1: damaged.

  sallyport audit check-tiles /srv/www/log --key my-lab+1a2b3c4d+AbC...`)
}

func (c auditCheckTilesCmd) Run(a *app) error {
	cp, err := tiles.Check(c.Dir, c.Key)
	if err != nil {
		return err
	}
	root := base64.StdEncoding.EncodeToString(cp.Root[:])
	if a.json {
		return a.printJSON(map[string]any{"whole": true, "origin": cp.Origin, "size": cp.Size, "root": root})
	}
	fmt.Fprintf(a.out, "whole: %d entries of %s, root %s\n", cp.Size, cp.Origin, clip(root, 20))
	return nil
}
