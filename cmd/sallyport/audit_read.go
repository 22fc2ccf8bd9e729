package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/audit/witness"
	"sallyport/gateway"
	"sallyport/gateway/control"
	"sallyport/gateway/identity"
	"sallyport/seal"
)

// recordSource is a log as commands read it.
type recordSource interface {
	Records(ctx context.Context, f audit.Filter) iter.Seq2[audit.Record, error]
	Get(seq uint64) (audit.Record, error)
}

// reading says who reads a log, and which.
type reading struct {
	DB   string `name:"db" placeholder:"FILE" help:"Read this copy of a log."`
	Keys string `placeholder:"DIR" help:"Folder of the keys of the copy's contents; otherwise FILE.keys, or this site's."`
	Why  string `help:"Why you read it; it is recorded."`
	As   string `help:"Person to act as, if you run the gateway."`
}

// logReader reads a log so that each reading is on record: it asks the running
// gateway, or appends to the log of one that does not run. Of a copy, or of a
// log that cannot be appended to, it says that nothing recorded the reading.
type logReader struct {
	a       *app
	reading reading
	client  *control.Client // or
	log     *audit.Log
	own     bool // the log is open for appending
	by      gateway.Subject
	opened  *audit.Opening // of the latest record that [logReader.Opened] gave
	close   []func()
}

var _ recordSource = (*logReader)(nil)

// readLog opens the log for reading on record.
func (a *app) readLog(r reading) (*logReader, error) {
	out := &logReader{a: a, reading: r}
	cfg, err := loadConfig(a.config)
	if r.DB != "" && (err != nil || !sameFile(r.DB, cfg.path(cfg.Audit))) {
		return out, out.openCopy()
	}
	if err != nil {
		return nil, err
	}
	if out.client, err = a.running(cfg); err != nil || out.client != nil {
		return out, err
	}
	return out, out.openStopped(cfg)
}

// sameFile: the site's own log is no copy, however it is named.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Close ends the reading.
func (r *logReader) Close() {
	for _, f := range slices.Backward(r.close) {
		f()
	}
	r.close = nil
}

// unrecorded tells people that a reading leaves no trace.
func (r *logReader) unrecorded(why string) {
	fmt.Fprintf(r.a.errs, "sallyport: note: this reading is on no record: %s\n", why)
}

// openCopy opens a file that was named. Its keys lie beside it, or are this
// site's; the master that they are wrapped under may be the site's too.
func (r *logReader) openCopy() error {
	f, err := r.a.logFile(r.reading.DB)
	if err != nil {
		return err
	}
	rc := audit.ReadConfig{Path: f.path, Keys: cmp.Or(r.reading.Keys, f.keys)}
	if rc.Keys != "" {
		if _, err := os.Stat(rc.Keys); err != nil && r.reading.Keys != "" {
			return sallyport.E("audit", sallyport.NotFound, err, "Name the folder of keys, such as audit.db.keys of the gateway.")
		}
	}
	if rc.Master, err = r.a.master(); err != nil {
		fmt.Fprintf(r.a.errs, "sallyport: note: contents may stay sealed: %v\n", err)
	}
	r.log, err = audit.OpenRead(rc)
	if rc.Master != nil && sallyport.KindOf(err) == sallyport.Conflict {
		// Keys of another master, such as those of a log that keeps its own.
		rc.Master = nil
		r.log, err = audit.OpenRead(rc)
	}
	if err != nil {
		return err
	}
	r.close = append(r.close, func() { r.log.Close() })
	r.unrecorded("it is of a copy")
	if rec, err := r.log.Get(0); rc.Master == nil && err == nil && rec.Sealed {
		fmt.Fprintln(r.a.errs, "sallyport: note: contents stay sealed: their keys' master is with the issuer of the site; name its configuration with --config and the folder of keys with --keys")
	}
	return nil
}

// master derives the master of this site's log keys; nil where there is no
// configuration at hand, or its gateway never ran.
func (a *app) master() ([]byte, error) {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, nil
	}
	if _, err := os.Stat(cfg.auditKeys()); err != nil {
		return nil, nil
	}
	issuer, err := a.issuer(cfg)
	if err != nil {
		return nil, err
	}
	defer issuer.Close()
	return issuer.Derive(a.ctx, auditMaster)
}

func (a *app) issuer(cfg *Config) (keyIssuer, error) {
	issuer, err := opener{cfg: cfg, now: time.Now}.issuers().Open(a.ctx, cfg.Issuer.Kind, cfg.decoder("$.issuer", cfg.Issuer))
	if err != nil {
		return nil, configError(err)
	}
	return issuer, nil
}

// openStopped opens the log of a gateway that does not run, for appending if
// that can be.
func (r *logReader) openStopped(cfg *Config) error {
	path := cfg.path(cfg.Audit)
	if _, err := os.Stat(path); err != nil {
		return sallyport.Errorf("audit", sallyport.NotFound, "It is made when the gateway first runs.", "no log in %s yet", path)
	}
	r.by = gateway.Subject{ID: gateway.OperatorID, Credential: fmt.Sprintf("unix:uid=%d", os.Getuid())}
	if r.reading.As != "" {
		who, err := identity.NewDirectory(cfg.people(), identity.Operator()).Identify(identity.Operator(), r.reading.As)
		if err != nil {
			return err
		}
		r.by = gateway.Subject{ID: who.ID, Roles: who.Roles, Projects: who.Projects, Credential: who.Credential}
	}
	rc, why := r.openOwn(cfg, path)
	if r.log != nil {
		return nil
	}
	var err error
	if r.log, err = audit.OpenRead(rc); err != nil {
		return err
	}
	r.close = append(r.close, func() { r.log.Close() })
	r.unrecorded(why.Error())
	return nil
}

// openOwn opens the log for appending. Where that cannot be it says why, and
// how the log can be read.
func (r *logReader) openOwn(cfg *Config, path string) (audit.ReadConfig, error) {
	rc := audit.ReadConfig{Path: path}
	issuer, err := r.a.issuer(cfg)
	if err != nil {
		return rc, err
	}
	defer issuer.Close()
	ac, err := auditConfig(r.a.ctx, cfg, issuer, time.Now)
	if err != nil {
		return rc, err
	}
	rc.Master = ac.Master
	l, err := audit.Open(ac)
	if err != nil {
		return rc, err
	}
	// What is appended to a log that was rolled back makes a fork.
	if err := witness.CheckKept(l, witness.Kept(path)); err != nil {
		return rc, errors.Join(err, l.Close())
	}
	r.log, r.own = l, true
	r.close = append(r.close, func() { l.Close() })
	return rc, nil
}

// Records yields what matches; each call is a reading of its own.
func (r *logReader) Records(ctx context.Context, f audit.Filter) iter.Seq2[audit.Record, error] {
	q := gateway.LogQuery{Filter: f, What: clip(r.a.asked, 300), Why: r.reading.Why}
	switch {
	case r.client != nil:
		return r.client.ReadLog(ctx, control.LogQuestion{As: r.reading.As, LogQuery: q})
	case !r.own:
		return r.log.Records(ctx, f)
	}
	recs, err := gateway.ReadLog(ctx, r.log, time.Now, r.by, q)
	if err != nil {
		return func(yield func(audit.Record, error) bool) { yield(audit.Record{}, err) }
	}
	return recs
}

// Opened is Records for who will ask for each record's Opening when they have
// it: that is the same reading, and not recorded once more.
func (r *logReader) Opened(ctx context.Context, f audit.Filter) iter.Seq2[audit.Record, error] {
	q := gateway.LogQuery{Filter: f, What: clip(r.a.asked, 300), Why: r.reading.Why, Openings: true}
	switch {
	case r.client != nil:
		return r.client.ReadOpenings(ctx, control.LogQuestion{As: r.reading.As, LogQuery: q}, func(o audit.Opening) { r.opened = &o })
	case !r.own:
		return r.log.Records(ctx, f)
	}
	recs, err := gateway.ReadLog(ctx, r.log, time.Now, r.by, q)
	return func(yield func(audit.Record, error) bool) {
		if err != nil {
			yield(audit.Record{}, err)
			return
		}
		for rec, err := range recs {
			if err == nil && rec.Erased == nil && !rec.Sealed {
				var o audit.Opening
				if o, err = r.log.Opening(rec.Seq); err == nil {
					r.opened = &o
				}
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Get returns one record.
func (r *logReader) Get(seq uint64) (out audit.Record, err error) {
	for rec, err := range r.Records(r.a.ctx, audit.Filter{From: seq, Before: seq + 1}) {
		return rec, err
	}
	return out, sallyport.Errorf("read log", sallyport.NotFound, "`sallyport audit ls` shows the numbers.", "there is no record %d", seq)
}

// Show returns one record with what explains it.
func (r *logReader) Show(seq uint64) (gateway.Shown, error) {
	switch {
	case r.client != nil:
		return r.client.ShowRecord(r.a.ctx, control.LogAct{As: r.reading.As, Record: seq, Why: r.reading.Why})
	case r.own:
		return gateway.ShowRecord(r.a.ctx, r.log, time.Now, r.by, seq, r.reading.Why)
	}
	return gateway.ExplainRecord(r.a.ctx, r.log, seq)
}

// Opening returns what opens a record's commitment.
func (r *logReader) Opening(seq uint64) (audit.Opening, error) {
	if o := r.opened; o != nil && o.Seq == seq {
		return *o, nil
	}
	what := clip(r.a.asked, 300)
	switch {
	case r.client != nil:
		return r.client.OpenRecord(r.a.ctx, control.LogAct{As: r.reading.As, Record: seq, What: what, Why: r.reading.Why})
	case r.own:
		return gateway.OpenRecord(r.a.ctx, r.log, time.Now, r.by, seq, what, r.reading.Why)
	}
	return r.log.Opening(seq)
}

// Prove returns a proof that a record is in the log. It holds no content, and
// so is no reading.
func (r *logReader) Prove(seq uint64) (audit.Proof, error) {
	if r.client != nil {
		return r.client.ProveRecord(r.a.ctx, seq, r.reading.As)
	}
	return gateway.ProveRecord(r.log, seq)
}

// Checkpoint returns the log's checkpoint now and its verifier key.
func (r *logReader) Checkpoint() (signed, key string, err error) {
	if r.client != nil {
		return r.client.Checkpoint(r.a.ctx)
	}
	signed, err = r.log.Checkpoint()
	return signed, r.log.VerifierKey(), err
}

// By is who the reading is recorded as, as far as it is known here.
func (r *logReader) By() string { return cmp.Or(r.reading.As, r.by.ID, gateway.OperatorID) }

// auditMaster is what the master of the log's keys is derived for.
const auditMaster = "audit/contents"

// auditConfig is how the site's log is opened. An issuer that can sign keeps
// the signing key to itself; of another one it is derived. The master that the
// contents' keys are wrapped under is derived in any case, so that the folder
// of keys alone opens nothing.
func auditConfig(ctx context.Context, cfg *Config, issuer keyIssuer, now func() time.Time) (audit.Config, error) {
	out := audit.Config{Path: cfg.path(cfg.Audit), Origin: cfg.Site, Now: now}
	key, err := signingKey(ctx, issuer, checkpointKey, "audit/checkpoint")
	if err != nil {
		return out, err
	}
	out.Seed, out.Sign, out.Public = key.Seed, key.Sign, key.Public
	out.Master, err = issuer.Derive(ctx, auditMaster)
	return out, err
}

// signingKey is a key by name where the issuer can sign, and one that is
// derived for a purpose where not.
func signingKey(ctx context.Context, issuer keyIssuer, name, purpose string) (k audit.SigningKey, err error) {
	if s, ok := issuer.(seal.Signer); ok {
		k.Sign = func(msg []byte) ([]byte, error) { return s.Sign(context.WithoutCancel(ctx), name, msg) }
		k.Public, err = s.PublicKey(ctx, name)
		return k, err
	}
	if k.Seed, err = issuer.Derive(ctx, purpose); err == nil && len(k.Seed) != ed25519.SeedSize {
		err = sallyport.Errorf("signing key", sallyport.Internal, "", "the issuer derived %d bytes", len(k.Seed))
	}
	return k, err
}

type auditLsCmd struct {
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
	After    *uint64   `placeholder:"N" help:"Only records after this number: the next page, oldest first."`
	Before   *uint64   `placeholder:"N" help:"Only records before this number: the next page, newest first."`
	Limit    int       `short:"n" default:"0" help:"At most so many, the newest unless --after or --oldest is given; 0 is all."`
	Newest   bool      `xor:"order" help:"Newest first."`
	Oldest   bool      `xor:"order" help:"Oldest first."`
	reading
}

func (auditLsCmd) Help() string {
	return `Asks the running gateway, or reads the file if none runs. That you read it, what you asked for and --why are themselves recorded.

Examples:

  sallyport audit ls --decision deny
  sallyport audit ls --job burst --json
  sallyport audit ls --rule release.class --project pilot
  sallyport audit ls --text "alone in their class" --why "case 12"
  sallyport audit ls -n 50 --before 1200       # a page of 50, before record 1200
  sallyport audit ls --db copy-of-audit.db`
}

func (c auditLsCmd) filter() (f audit.Filter, none bool) {
	f = audit.Filter{Job: sallyport.JobID(c.Job), Dataset: c.Dataset, Subject: c.Subject, Project: c.Project, Purpose: c.Purpose,
		Node: c.Node, Step: c.Step, Decision: c.Decision, Rule: c.Rule, Lease: c.Lease, Text: c.Text, Since: c.Since, Until: c.Until, Limit: c.Limit,
		Newest: c.Newest || c.Limit > 0 && !c.Oldest && c.After == nil}
	if c.After != nil {
		f.From = *c.After + 1
	}
	if c.Before != nil {
		f.Before, none = *c.Before, *c.Before == 0
	}
	return f, none
}

func (c auditLsCmd) Run(a *app) error {
	if c.Limit < 0 {
		return sallyport.Errorf("audit ls", sallyport.Invalid, "", "a limit of %d records", c.Limit)
	}
	l, err := a.readLog(c.reading)
	if err != nil {
		return err
	}
	defer l.Close()
	f, none := c.filter()
	var recs []audit.Record
	if !none {
		for r, err := range l.Records(a.ctx, f) {
			if err != nil {
				return err
			}
			recs = append(recs, r)
		}
	}
	if a.json {
		return a.printJSON(nonNilList(recs))
	}
	auditTable(a.out, recs)
	if n := len(recs); c.Limit > 0 && n == c.Limit {
		flag, last := "after", recs[n-1].Seq
		if f.Newest {
			flag = "before"
		}
		fmt.Fprintf(a.errs, "more: --%s %d\n", flag, last)
	}
	return nil
}

func auditTable(w io.Writer, recs []audit.Record) {
	var rows [][]string
	for _, r := range recs {
		e := r.Entry
		rows = append(rows, []string{strconv.FormatUint(r.Seq, 10), clock(e.Time), string(e.Job), e.Step, string(e.Phase), e.Decision,
			e.Subject, e.Dataset, e.Node, clip(cmp.Or(noContent(r), strings.Join(e.Reasons, "; ")), 60)})
	}
	table(w, []string{"seq", "time", "job", "step", "phase", "decision", "who", "dataset", "node", "reasons"}, rows)
}

// noContent says why a record shows no content; "" where it does.
func noContent(r audit.Record) string {
	switch {
	case r.Erased != nil:
		return fmt.Sprintf("(erased, see record %d)", *r.Erased)
	case r.Sealed:
		return "(sealed: there is no key for it here)"
	}
	return ""
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
