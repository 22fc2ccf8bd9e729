package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"sallyport"
	"sallyport/audit"
	"sallyport/audit/export"
)

type auditExportCmd struct {
	Format string `required:"" enum:"evidence,jsonl,csv,fhir,fhir-bundle,ocsf,ro-crate,syslog,cef" help:"evidence, jsonl, csv, fhir, fhir-bundle, ocsf, ro-crate, syslog or cef."`
	Out    string `short:"o" placeholder:"FILE" help:"Write there; the file must not exist. Otherwise to standard output."`
	receiver
	Follow   bool          `help:"Syslog and CEF: go on with what is recorded from now on, until interrupted."`
	Every    time.Duration `default:"2s" help:"How often --follow looks for more."`
	Job      string        `help:"Only records of this job."`
	Dataset  string        `help:"Only records about this dataset."`
	Subject  string        `help:"Only records of this person."`
	Project  string        `help:"Only records of this project."`
	Step     string        `help:"Only this step: admit, hold, release, …"`
	Decision string        `help:"Only allow, deny or error."`
	Since    time.Time     `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"Only from then on (RFC 3339)."`
	Until    time.Time     `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"Only before then (RFC 3339)."`
	reading
}

func (auditExportCmd) Help() string {
	return `Every export says in itself what was asked for, by whom, when, and of which state of the log; and that it was made is recorded. Erased and sealed records are exported as such and counted. Exports name people.

  sallyport audit export --format evidence --job burst --out burst.zip
  sallyport audit export --format csv --decision deny --out denied.csv
  sallyport audit export --format fhir --since 2026-01-01T00:00:00Z --out january.ndjson
  sallyport audit export --format ro-crate --project pilot --out ro-crate-metadata.json
  sallyport audit export --format syslog --follow --to tls://siem.example:6514 --ca siem-ca.pem

A receiver that goes away while --follow sends is connected to again, and is sent the last messages once more: it may see one twice, and knows it by its seq.`
}

func (c auditExportCmd) filter() audit.Filter {
	return audit.Filter{Job: sallyport.JobID(c.Job), Dataset: c.Dataset, Subject: c.Subject, Project: c.Project, Step: c.Step, Decision: c.Decision, Since: c.Since, Until: c.Until}
}

// writer returns how a format is written; nil for the pack.
func (c auditExportCmd) writer() export.Writer {
	switch c.Format {
	case "jsonl":
		return export.JSONLines
	case "csv":
		return export.CSV
	case "fhir":
		return export.FHIR
	case "fhir-bundle":
		return export.FHIRBundle
	case "ocsf":
		return export.OCSF
	case "ro-crate":
		return export.ROCrate
	case "syslog":
		return export.Syslog
	case "cef":
		return export.CEF
	}
	return nil
}

func (c auditExportCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	l, err := a.readLog(c.reading)
	if err != nil {
		return err
	}
	defer l.Close()
	out, err := c.open(a)
	if err != nil {
		return err
	}
	s, err := c.export(a, l, out)
	if cerr := out.close(err == nil); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return c.summary(a, s)
}

func (c auditExportCmd) check() error {
	no := func(hint, format string, args ...any) error {
		return sallyport.Errorf("audit export", sallyport.Invalid, hint, format, args...)
	}
	lines := c.Format == "syslog" || c.Format == "cef"
	switch {
	case c.To != "" && !lines:
		return no("Use --format syslog or cef, or --out.", "--to sends lines, and %s has none to send", c.Format)
	case c.Follow && !lines:
		return no("Use --format syslog or cef.", "--follow needs a format of lines, not %s", c.Format)
	case c.To != "" && c.Out != "":
		return no("Give one of them.", "--to and --out are two places")
	case c.Format == "evidence" && c.Out == "":
		return no("Name a file with --out PACK.zip.", "an evidence pack is a zip archive, not text")
	case c.Follow && !c.Until.IsZero():
		return no("Leave one out.", "--follow has no end, and --until sets one")
	case c.Follow && c.DB != "":
		return no("Leave out --db to follow the gateway's log.", "a copy of a log does not grow")
	case c.Every < 100*time.Millisecond:
		return no("", "--every %s is too often", c.Every)
	}
	return c.receiver.check()
}

func (c auditExportCmd) export(a *app, l *logReader, out *exportOut) (export.Summary, error) {
	tell, wipe := a.exportProgress()
	defer wipe()
	f := c.filter()
	if c.Format == "evidence" {
		return c.evidence(a, l, f, out, tell)
	}
	signed, key, err := l.Checkpoint()
	if err != nil {
		return export.Summary{}, err
	}
	about, err := export.NewAbout(c.Format, signed, key, f, time.Now(), l.By(), version)
	if err != nil {
		return export.Summary{}, err
	}
	if c.Follow {
		return c.follow(a, l, about, out)
	}
	var n uint64
	recs := bounded(a.ctx, l, f, about.Size)
	return c.writer()(out, about, func(yield func(audit.Record, error) bool) {
		for r, err := range recs {
			if n++; n%1000 == 0 {
				tell(n)
			}
			if !yield(r, err) {
				return
			}
		}
	})
}

// bounded reads up to the checkpoint that an export names. What is recorded
// meanwhile, such as the export itself, is not in it.
func bounded(ctx context.Context, l *logReader, f audit.Filter, size uint64) iter.Seq2[audit.Record, error] {
	if size == 0 || f.From >= size {
		return func(func(audit.Record, error) bool) {}
	}
	f.Before = size
	return l.Records(ctx, f)
}

// evidence takes leaves and proofs from the log itself. While a gateway has it,
// that is a copy, and the gateway opens the contents, on record.
func (c auditExportCmd) evidence(a *app, l *logReader, f audit.Filter, out io.Writer, tell func(uint64)) (export.Summary, error) {
	p := export.Pack{Log: l.log, Filter: f, Records: l.Opened, At: time.Now(), By: l.By(), Version: version, Progress: tell}
	if l.client != nil {
		file, err := a.logFile("")
		if err != nil {
			return export.Summary{}, err
		}
		defer file.Close()
		if p.Log, err = audit.OpenRead(audit.ReadConfig{Path: file.path, Keys: file.path + ".none"}); err != nil {
			return export.Summary{}, err
		}
		defer p.Log.Close()
		p.Opening = l.Opening
	}
	p.Cosigned = a.cosigned(p.Log, c.DB, 0)
	if kept, err := a.archive(); err == nil {
		p.Policy = func(d sallyport.Digest) (fs.FS, error) { return kept.Rules(d) }
	}
	return export.Evidence(a.ctx, out, p)
}

// followFlush is how many bytes of messages are sent at once.
const followFlush = 64 << 10

// follow sends what is there, and then what comes. Each look at the log is a
// record of its own, which the next look finds: only when there is more than
// that one it looks at once again.
func (c auditExportCmd) follow(a *app, l *logReader, about export.About, out *exportOut) (s export.Summary, err error) {
	from, size := uint64(0), about.Size
	message := export.SyslogMessage
	first := export.SyslogAbout(about)
	if c.Format == "cef" {
		message, first = export.CEFEvent, export.CEFAbout(about)
	}
	b := bufio.NewWriterSize(out, 2*followFlush)
	b.WriteString(first + "\n")
	// sure is where to begin again if the receiver goes away: what was flushed
	// just before may not have arrived.
	sure, counted := uint64(0), uint64(0)
	for {
		f := c.filter()
		f.From = from
		err := error(nil)
		for r, rerr := range bounded(a.ctx, l, f, size) {
			if rerr != nil {
				return s, stopped(a.ctx, rerr)
			}
			if b.WriteString(message(about, r) + "\n"); b.Buffered() >= followFlush {
				if err = b.Flush(); err != nil {
					break
				}
				sure, from = from, r.Seq+1
			}
			if r.Seq >= counted {
				s.Count(r)
				counted = r.Seq + 1
			}
		}
		if err == nil {
			err = b.Flush()
		}
		select {
		case <-out.gone:
			err = io.ErrUnexpectedEOF
		default:
		}
		if err != nil {
			if c.To == "" {
				return s, sallyport.E("audit export", sallyport.Unavailable, err, "Start it again: it writes all from the beginning, or from --since.")
			}
			conn, err := c.again(a.ctx, a.errs, err)
			if err != nil {
				return s, stopped(a.ctx, err)
			}
			out.close(false)
			*out = *sendTo(conn)
			b.Reset(out)
			b.WriteString(first + "\n")
			from = sure
			continue
		}
		if from < size {
			sure, from = from, size
		}
		now, err := c.size(l)
		if err == nil && now <= size+1 {
			now, err = c.wait(a.ctx, l, now, out.gone)
		}
		if err != nil {
			return s, stopped(a.ctx, err)
		}
		size = now
	}
}

// wait returns the size of the log when it is larger than had, or nobody
// receives any more.
func (c auditExportCmd) wait(ctx context.Context, l *logReader, had uint64, gone <-chan struct{}) (uint64, error) {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-gone:
			return had, nil
		case <-tick.C:
		}
		if now, err := c.size(l); err != nil || now > had {
			return now, err
		}
	}
}

func (c auditExportCmd) size(l *logReader) (uint64, error) {
	signed, key, err := l.Checkpoint()
	if err != nil {
		return 0, err
	}
	cp, err := audit.ParseCheckpoint(signed, key)
	return cp.Size, err
}

// stopped: an interrupt is how following ends.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// exportOut is a file that appears when it is whole, a connection, or standard
// output.
type exportOut struct {
	io.Writer
	close func(good bool) error
	gone  <-chan struct{} // closed when nobody receives any more; nil: that is not known
}

// sendTo returns an output that is a connection.
func sendTo(conn *receiving) *exportOut {
	return &exportOut{conn, func(bool) error { return conn.Close() }, conn.gone}
}

func (c auditExportCmd) open(a *app) (*exportOut, error) {
	const op = "audit export"
	switch {
	case c.To != "":
		conn, err := c.dial(a.ctx)
		if err != nil {
			return nil, err
		}
		return sendTo(conn), nil
	case c.Out == "":
		return &exportOut{a.out, func(bool) error { return nil }, nil}, nil
	}
	exists := sallyport.Errorf(op, sallyport.Conflict, "Name another file, or move that one away.", "%s is there already", c.Out)
	if _, err := os.Lstat(c.Out); err == nil {
		return nil, exists
	}
	f, err := os.CreateTemp(filepath.Dir(c.Out), ".export-*")
	if err != nil {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Choose a folder that you may write to.")
	}
	return &exportOut{f, func(good bool) error {
		defer os.Remove(f.Name())
		err := f.Sync()
		if err = errors.Join(err, f.Close()); err != nil || !good {
			return err
		}
		// A link, unlike a rename, never replaces what came to be there meanwhile.
		if err = os.Link(f.Name(), c.Out); errors.Is(err, fs.ErrExist) {
			return exists
		}
		if err != nil {
			return sallyport.E(op, sallyport.Unavailable, err, "Choose a folder that you may write to.")
		}
		return nil
	}, nil}, nil
}

// summary says what is in the export: on standard output, unless that is where
// the export went.
func (c auditExportCmd) summary(a *app, s export.Summary) error {
	to := a.out
	if c.Out == "" && c.To == "" {
		to = a.errs
	}
	if a.json {
		return (&app{out: to}).printJSON(struct {
			Format string `json:"format"`
			Out    string `json:"out,omitempty"`
			export.Summary
		}{c.Format, c.Out, s})
	}
	where := ""
	if c.Out != "" {
		where = " in " + c.Out
	}
	fmt.Fprintf(to, "%s records%s, %d erased, %d sealed\n", thousands(int(s.Records)), where, s.Erased, s.Sealed)
	for _, d := range s.Missing {
		fmt.Fprintf(a.errs, "sallyport: note: the policy bundle %s is not kept here and so not in the pack\n", d.Short())
	}
	return nil
}

// exportProgress draws one line on a terminal; wipe takes it away.
func (a *app) exportProgress() (tell func(uint64), wipe func()) {
	f, ok := a.errs.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return func(uint64) {}, func() {}
	}
	var last time.Time
	return func(n uint64) {
		if now := time.Now(); now.Sub(last) >= 200*time.Millisecond {
			last = now
			fmt.Fprintf(f, "\r\x1b[Kexporting: %s records", thousands(int(n)))
		}
	}, func() { fmt.Fprint(f, "\r\x1b[K") }
}
