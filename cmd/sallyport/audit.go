package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway/control"
)

type auditCmd struct {
	Ls         auditLsCmd         `cmd:"" help:"List records."`
	Show       auditShowCmd       `cmd:"" help:"Show one record in full."`
	Verify     auditVerifyCmd     `cmd:"" help:"Recompute everything and say whether the log is whole."`
	Checkpoint auditCheckpointCmd `cmd:"" help:"Print the signed checkpoint: keep it elsewhere, and no rollback goes unseen."`
	Proof      auditProofCmd      `cmd:"" help:"Write a proof of one record that anybody can check offline."`
	Erase      auditEraseCmd      `cmd:"" help:"Erase what the log holds about a person; every proof stays."`
	Hold       auditHoldCmd       `cmd:"" help:"Legal holds: what must not be erased."`
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
	r, err := c.Snapshot(ctx, a.asked)
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

type auditLsCmd struct {
	DB       string    `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
	Job      string    `help:"Only records of this job."`
	Dataset  string    `help:"Only records about this dataset."`
	Subject  string    `help:"Only records of this person."`
	Project  string    `help:"Only records of this project."`
	Purpose  string    `help:"Only records for this purpose."`
	Node     string    `help:"Only records about this node."`
	Step     string    `help:"Only this step: admit, hold, release, …"`
	Decision string    `help:"Only allow, deny or error."`
	Rule     string    `help:"Only decisions that this rule made, such as release.class."`
	Lease    string    `help:"Only records about this key."`
	Text     string    `help:"Only records with these words in their step or reasons."`
	Since    time.Time `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"Only from then on (RFC 3339)."`
	Until    time.Time `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"Only before then (RFC 3339)."`
	From     uint64    `placeholder:"N" help:"Only records from this number on."`
	Before   uint64    `placeholder:"N" help:"Only records before this number: the next page of the newest."`
	Limit    int       `short:"n" default:"0" help:"At most so many, the newest; 0 is all."`
}

func (auditLsCmd) Help() string {
	return `Examples:

  sallyport audit ls --decision deny
  sallyport audit ls --job burst --json
  sallyport audit ls --rule release.class --project pilot
  sallyport audit ls -n 50 --before 1200       # a page of 50, before record 1200
  sallyport audit ls --db copy-of-audit.db`
}

func (c auditLsCmd) Run(a *app) error {
	l, done, err := a.openLog(c.DB)
	if err != nil {
		return err
	}
	defer done()
	var recs []audit.Record
	for r, err := range l.Records(a.ctx, audit.Filter{Job: sallyport.JobID(c.Job), Dataset: c.Dataset, Subject: c.Subject,
		Project: c.Project, Purpose: c.Purpose, Node: c.Node, Step: c.Step, Decision: c.Decision, Rule: c.Rule, Lease: c.Lease, Text: c.Text,
		Since: c.Since, Until: c.Until, From: c.From, Before: c.Before, Limit: c.Limit, Newest: c.Limit > 0}) {
		if err != nil {
			return err
		}
		recs = append(recs, r)
	}
	if a.json {
		if recs == nil {
			recs = []audit.Record{}
		}
		return a.printJSON(recs)
	}
	auditTable(a.out, recs)
	return nil
}

func auditTable(w io.Writer, recs []audit.Record) {
	var rows [][]string
	for _, r := range recs {
		e := r.Entry
		rows = append(rows, []string{strconv.FormatUint(r.Seq, 10), clock(e.Time), string(e.Job), e.Step, string(e.Phase), e.Decision,
			e.Subject, e.Dataset, e.Node, clip(strings.Join(e.Reasons, "; "), 60)})
	}
	table(w, []string{"seq", "time", "job", "step", "phase", "decision", "who", "dataset", "node", "reasons"}, rows)
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

type auditShowCmd struct {
	Seq uint64 `arg:"" help:"The record's number."`
	DB  string `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
}

func (c auditShowCmd) Run(a *app) error {
	l, done, err := a.openLog(c.DB)
	if err != nil {
		return err
	}
	defer done()
	r, err := l.Get(c.Seq)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	e := r.Entry
	cost := ""
	if e.Cost != 0 {
		cost = e.Cost.String()
	}
	pairs(a.out, "record", fmt.Sprintf("%d  %s", r.Seq, r.Leaf), "time", clock(e.Time), "step", e.Step+" ("+string(e.Phase)+")", "job", string(e.Job),
		"who", e.Subject, "project", e.Project, "purpose", e.Purpose, "dataset", e.Dataset, "decision", e.Decision,
		"reasons", strings.Join(e.Reasons, "\n"), "rules", strings.Join(e.Rules, ", "), "policy", string(e.Policy), "data", string(e.Data),
		"lease", e.Lease, "node", e.Node, "cost", cost)
	if len(e.Detail) > 0 {
		var v any
		if err := json.Unmarshal(e.Detail, &v); err != nil {
			return err
		}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "\n%s\n", b)
	}
	return nil
}

type auditVerifyCmd struct {
	DB         string `name:"db" placeholder:"FILE" help:"Verify this copy of a log."`
	Checkpoint string `placeholder:"FILE" help:"An old checkpoint that the log must still contain."`
	Key        string `placeholder:"VKEY" help:"The log's verifier key. Without it the key in the file is used, which its owner could have replaced."`
}

func (auditVerifyCmd) Help() string {
	return `Recomputes every record, the hash chain, the Merkle tree and the signature. Exit code 0: whole; 1: damaged; 2: cannot tell.

  sallyport audit verify
  sallyport audit verify --db copy-of-audit.db --checkpoint last-week.txt`
}

func (c auditVerifyCmd) Run(a *app) error {
	cannotTell := func(err error) error {
		report(a.errs, err)
		return exitCode(2)
	}
	f, err := a.logFile(c.DB)
	if err != nil {
		return cannotTell(err)
	}
	defer f.Close()
	opts := audit.VerifyOptions{VerifierKey: c.Key}
	if c.Checkpoint != "" {
		b, err := os.ReadFile(c.Checkpoint)
		if err != nil {
			return cannotTell(sallyport.E("audit", sallyport.NotFound, err, "Name a file with a checkpoint, as `sallyport audit checkpoint` prints it."))
		}
		opts.Checkpoint = string(b)
	}
	v, err := audit.Verify(f.path, opts)
	if err != nil {
		return cannotTell(err)
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

func showVerification(w io.Writer, v audit.Verification) {
	if v.Whole {
		fmt.Fprintf(w, "whole: %d records, root %s, %s\n", v.Records, clip(v.Root, 20), v.KeySource)
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
