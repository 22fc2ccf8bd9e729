package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport"
	reporting "sallyport/anonymize/report"
	"sallyport/audit"
	"sallyport/gateway"
)

type jobReportCmd struct {
	Job string `arg:"" help:"The job."`
	Out string `short:"o" placeholder:"FILE" help:"Write there: a page for people if it ends in .html, otherwise JSON. The file must not exist."`
	reading
}

func (jobReportCmd) Help() string {
	return `The release report says what was done to each field, how easily people were and are recognized, and how the release stands to HIPAA Safe Harbor, whether it left or was refused. It is made again from what the gateway kept of the job, for those who may see the job; or, where no gateway runs and with --db, from the log, which is a reading and recorded. That it is the same as the one then is checked by the digest on record.

  sallyport job report burst -o burst.html
  sallyport job report burst -o burst.json`
}

func (c jobReportCmd) Run(a *app) error {
	d, err := c.described(a)
	if err != nil {
		return err
	}
	want := d.ReleaseReport
	doc, err := describe(d.Described)
	if err != nil {
		return err
	}
	got, err := reporting.JSON(io.Discard, doc)
	if err != nil {
		return err
	}
	if got != want {
		return sallyport.Errorf("job report", sallyport.Damaged, "Another version of sallyport made it; use that one.",
			"the report made again has digest %s, and the one on record %s", got.Short(), want.Short())
	}
	write := reporting.JSON
	if strings.HasSuffix(c.Out, ".html") {
		write = reporting.HTML
	}
	if c.Out == "" {
		_, err := write(a.out, doc)
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return sallyport.E("job report", sallyport.Conflict, err, "Name a file that does not exist.")
	}
	if _, err = write(f, doc); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(c.Out)
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"job": c.Job, "file": c.Out, "digest": got})
	}
	fmt.Fprintf(a.out, "%s: the report that is on record as %s\n", c.Out, got)
	return nil
}

// described asks the gateway, or the log where none runs.
func (c jobReportCmd) described(a *app) (d gateway.DescribedJob, err error) {
	if c.DB == "" {
		cfg, err := loadConfig(a.config)
		if err != nil {
			return d, err
		}
		client, err := a.running(cfg)
		if err != nil {
			return d, err
		}
		if client != nil {
			return client.Described(a.ctx, sallyport.JobID(c.Job))
		}
	}
	l, err := a.readLog(c.reading)
	if err != nil {
		return d, err
	}
	defer l.Close()
	return c.find(a, l)
}

// find returns what the job's latest pass was described by.
func (c jobReportCmd) find(a *app, l *logReader) (d gateway.DescribedJob, err error) {
	for r, err := range l.Records(a.ctx, audit.Filter{Job: sallyport.JobID(c.Job)}) {
		if err != nil {
			return d, err
		}
		var facts gateway.DescribedJob
		if r.Entry.Phase != audit.Outcome || json.Unmarshal(r.Entry.Detail, &facts) != nil || facts.ReleaseReport == "" {
			continue
		}
		d = facts
	}
	if d.ReleaseReport == "" {
		return d, sallyport.Errorf("job report", sallyport.NotFound, "`sallyport job show` says how far it came; a job that policy denied at door 1 has none.", "no pass of job %q is on record", c.Job)
	}
	return d, nil
}

// describe makes the release report of a pass. What it is made from goes
// through JSON first, so that it is the same when it comes from the log.
func describe(d gateway.Described) (reporting.Document, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return reporting.Document{}, err
	}
	d = gateway.Described{}
	if err := json.Unmarshal(b, &d); err != nil {
		return reporting.Document{}, err
	}
	return reporting.New(reporting.Input{Plan: d.Plan, Report: d.Report, Transforms: transforms(), Source: "policy " + d.Policy.Short(), Time: d.Time,
		About: []reporting.Fact{{Name: "job", Value: string(d.Job)}, {Name: "project", Value: d.Project}, {Name: "purpose", Value: d.Purpose}}}), nil
}

// describeDigest is how the gateway names the report on record.
func describeDigest(d gateway.Described) (sallyport.Digest, error) {
	doc, err := describe(d)
	if err != nil {
		return "", err
	}
	return reporting.JSON(io.Discard, doc)
}
