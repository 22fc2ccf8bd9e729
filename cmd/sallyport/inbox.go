package main

import (
	"fmt"
	"time"

	"sallyport/gateway"
	"sallyport/gateway/control"
)

type datasetPrepareCmd struct {
	Dataset string `arg:"" help:"The dataset's name."`
	Project string `required:"" short:"p" help:"Project that it is for."`
	Purpose string `default:"research" help:"What it is for."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (datasetPrepareCmd) Help() string {
	return `Makes the view that you would be given, through both doors, so that the first reader does not wait for it.

  sallyport dataset prepare patients --project pilot`
}

func (c datasetPrepareCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	v := newView(a)
	info, err := client.Prepare(a.ctx, control.Preparation{As: c.As, Project: c.Project, Purpose: c.Purpose, Dataset: c.Dataset}, v.event)
	v.close()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(info)
	}
	fmt.Fprintf(a.out, "%s is ready: %s, %d bytes, %s\n", c.Dataset, info.Key, info.Size, info.Digest.Short())
	return nil
}

type datasetInboxCmd struct {
	Ls     inboxLsCmd     `cmd:"" default:"1" help:"List the uploads that wait for a steward."`
	Accept inboxAcceptCmd `cmd:"" help:"Take an upload out of quarantine, as a dataset of its own."`
	Reject inboxRejectCmd `cmd:"" help:"End an upload: its key is destroyed, its ciphertext removed."`
}

type inboxLsCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (c inboxLsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	list, err := client.Inbox(a.ctx, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{u.ID, u.Bucket, u.Object.Key, u.By, u.Project, fmt.Sprint(u.Object.Size), found(u), u.Object.Modified.Local().Format(time.DateTime)})
	}
	table(a.out, []string{"upload", "dataset", "key", "who", "project", "bytes", "found", "when"}, rows)
	return nil
}

func found(u gateway.Upload) string {
	if u.Profile == nil {
		return u.Problem
	}
	return fmt.Sprintf("%s, %d records, %d columns", u.Profile.Format, u.Profile.Records, len(u.Profile.Columns))
}

type inboxAcceptCmd struct {
	Upload string `arg:"" help:"The upload, as inbox ls shows it."`
	ID     string `required:"" help:"The name of the dataset that it becomes."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (c inboxAcceptCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	d, err := client.Accept(a.ctx, c.Upload, control.Judgment{As: c.As, ID: c.ID})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	fmt.Fprintf(a.out, "%s is dataset %s now, %s. Read the roles and masks of its entry.\n", c.Upload, d.ID, d.Sensitivity)
	return nil
}

type inboxRejectCmd struct {
	Upload string `arg:"" help:"The upload, as inbox ls shows it."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (c inboxRejectCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	if err := client.Reject(a.ctx, c.Upload, control.Judgment{As: c.As, Reason: c.Reason}); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"rejected": c.Upload})
	}
	fmt.Fprintf(a.out, "%s is gone\n", c.Upload)
	return nil
}
