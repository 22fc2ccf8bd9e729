package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport"
	"sallyport/audit"
	"sallyport/audit/export"
	"sallyport/gateway/control"
)

type auditCmd struct {
	Ls         auditLsCmd         `cmd:"" help:"List records."`
	Show       auditShowCmd       `cmd:"" help:"Show one record in full."`
	Verify     auditVerifyCmd     `cmd:"" help:"Recompute everything and say whether the log is whole."`
	Checkpoint auditCheckpointCmd `cmd:"" help:"Print the signed checkpoint: keep it elsewhere, and no rollback goes unseen."`
	Export     auditExportCmd     `cmd:"" help:"Write records for others: evidence pack, CSV, FHIR, OCSF, RO-Crate, syslog, CEF."`
	Proof      auditProofCmd      `cmd:"" help:"Write a proof of one record that anybody can check offline."`
	Review     auditReviewCmd     `cmd:"" help:"Review ranges of the log: status, note, flag, sign."`
	Erase      auditEraseCmd      `cmd:"" help:"Erase what the log holds about a person; every proof stays."`
	Hold       auditHoldCmd       `cmd:"" help:"Legal holds: what must not be erased."`
	Retain     auditRetainCmd     `cmd:"" help:"Apply the rules of retention now."`
	CheckProof auditCheckProofCmd `cmd:"" help:"Check such a proof."`
	Tiles      auditTilesCmd      `cmd:"" help:"Export the log's tree as a folder that any C2SP monitor reads."`
	CheckTiles auditCheckTilesCmd `cmd:"" help:"Check such a folder from end to end."`
}

// logFile is where commands read the log: a file that was named, the live
// gateway's (a consistent copy of it), or the file of one that does not run.
type logFile struct {
	path   string
	keys   string // folder of the keys of its contents; "": beside it
	remove bool
}

func (l logFile) Close() {
	if l.remove {
		os.Remove(l.path)
	}
}

func (a *app) logFile(db string) (logFile, error) {
	if db != "" {
		if _, err := os.Stat(db); err != nil {
			return logFile{}, sallyport.E("audit", sallyport.NotFound, err, "Name the log's file with --db.")
		}
		f := logFile{path: db}
		if _, err := os.Stat(db + ".keys"); err != nil {
			// A copy of this site's log is read with this site's keys. Another's is
			// not: the keys' names do not fit, and its contents stay sealed.
			if cfg, err := loadConfig(a.config); err == nil {
				f.keys = cfg.auditKeys()
			}
		}
		return f, nil
	}
	cfg, err := loadConfig(a.config)
	if err != nil {
		return logFile{}, err
	}
	c, err := a.running(cfg)
	if err != nil {
		return logFile{}, err
	}
	if c == nil {
		path := cfg.path(cfg.Audit)
		if _, err := os.Stat(path); err != nil {
			return logFile{}, sallyport.Errorf("audit", sallyport.NotFound, "It is made when the gateway first runs.", "no log in %s yet", path)
		}
		return logFile{path: path}, nil
	}
	f, err := a.copyLog(a.ctx, c)
	f.keys = cfg.auditKeys()
	return f, err
}

// auditKeys is the folder of the keys that the log's contents are sealed under.
func (c *Config) auditKeys() string { return c.path(c.Audit) + ".keys" }

func (a *app) copyLog(ctx context.Context, c *control.Client) (logFile, error) {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return logFile{}, err
	}
	defer r.Close()
	f, err := os.CreateTemp("", "sallyport-audit-*.db")
	if err != nil {
		return logFile{}, sallyport.E("audit", sallyport.Unavailable, err, "Set TMPDIR to a folder with room.")
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return logFile{}, sallyport.E("audit", sallyport.Unavailable, err, "The gateway may have stopped; try again.")
	}
	return logFile{path: f.Name(), remove: true}, nil
}

// openLog opens the log that logFile finds; done closes it.
func (a *app) openLog(db string) (l *audit.Log, done func(), err error) {
	f, err := a.logFile(db)
	if err != nil {
		return nil, nil, err
	}
	if l, err = audit.OpenRead(audit.ReadConfig{Path: f.path, Keys: f.keys}); err != nil {
		f.Close()
		return nil, nil, err
	}
	return l, func() { l.Close(); f.Close() }, nil
}

type auditVerifyCmd struct {
	DB         string `name:"db" placeholder:"FILE" help:"Verify this copy of a log, or this evidence pack."`
	Checkpoint string `placeholder:"FILE" help:"An old checkpoint that the log must still contain."`
	Key        string `placeholder:"VKEY" help:"The log's verifier key. Without it the key in the file is used, which its owner could have replaced."`
}

func (auditVerifyCmd) Help() string {
	return `Recomputes every record, the hash chain, the Merkle tree and the signature; of an evidence pack, everything in it. It needs no keys of contents: with them, which it has where the gateway does not run, it also checks what the records say. Verifying is no reading, and on no record.

Exit code 0: whole; 1: damaged, and which record is the first that is bad, and how; 2: cannot tell.

  sallyport audit verify
  sallyport audit verify --db copy-of-audit.db --checkpoint last-week.txt
  sallyport audit verify --db evidence.zip --key VKEY`
}

func (c auditVerifyCmd) Run(a *app) error {
	v, err := c.verify(a)
	if err != nil {
		report(a.errs, err)
		return exitCode(2)
	}
	if a.json {
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else {
		showVerification(a.out, v)
	}
	if !v.Whole {
		return exitCode(1)
	}
	return nil
}

func (c auditVerifyCmd) verify(a *app) (audit.Verification, error) {
	if c.DB != "" && export.IsPack(c.DB) {
		if c.Checkpoint != "" {
			return audit.Verification{}, sallyport.Errorf("audit verify", sallyport.Unsupported, "Verify the log, or a copy of it, against the old checkpoint.",
				"an evidence pack holds a part of the log, and cannot show that the log still contains what an old checkpoint covered")
		}
		return export.VerifyPack(c.DB, c.Key)
	}
	f, err := a.logFile(c.DB)
	if err != nil {
		return audit.Verification{}, err
	}
	defer f.Close()
	opts := audit.VerifyOptions{VerifierKey: c.Key, Keys: f.keys}
	if c.Checkpoint != "" {
		b, err := os.ReadFile(c.Checkpoint)
		if err != nil {
			return audit.Verification{}, sallyport.E("audit verify", sallyport.NotFound, err, "Name a file with a checkpoint, as `sallyport audit checkpoint` prints it.")
		}
		opts.Checkpoint = string(b)
	}
	if !f.remove { // while a gateway runs, its issuer is not to be had
		if opts.Master, err = a.master(); err != nil {
			fmt.Fprintf(a.errs, "sallyport: note: what records say is checked in its sealed form only: %v\n", err)
		}
	}
	v, err := audit.Verify(f.path, opts)
	if sallyport.KindOf(err) == sallyport.Conflict {
		// The keys beside the copy are another site's: do without.
		opts.Master, opts.Keys = nil, f.path+".no-keys"
		v, err = audit.Verify(f.path, opts)
	}
	return v, err
}

func showVerification(w io.Writer, v audit.Verification) {
	if v.Whole {
		fmt.Fprintf(w, "whole: %d records, root %s, %s\n", v.Records, clip(v.Root, 20), v.KeySource)
		for _, n := range []struct {
			of  uint64
			say string
		}{{v.Erased, "erased, each with a tombstone"}, {v.Sealed, "checked in their sealed form: there are no keys here"}, {v.Lost, "that nobody can read: their key is lost"}} {
			if n.of > 0 {
				fmt.Fprintf(w, "       %d contents %s\n", n.of, n.say)
			}
		}
		return
	}
	at := ""
	if v.FirstBad != nil {
		at = fmt.Sprintf(" at record %d", *v.FirstBad)
	}
	fmt.Fprintf(w, "DAMAGED: %s%s: %s\n", v.Damage, at, v.Explain)
}

type auditCheckpointCmd struct {
	DB string `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
}

func (c auditCheckpointCmd) Run(a *app) error {
	l, done, err := a.openLog(c.DB)
	if err != nil {
		return err
	}
	defer done()
	cp, err := l.Checkpoint()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"checkpoint": cp, "key": l.VerifierKey()})
	}
	fmt.Fprint(a.out, cp)
	fmt.Fprintf(a.errs, "verifier key: %s\n", l.VerifierKey())
	return nil
}
