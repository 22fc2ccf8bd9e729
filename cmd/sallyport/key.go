package main

import (
	"fmt"
	"time"

	"sallyport/gateway/control"
)

type keyCmd struct {
	New     keyNewCmd     `cmd:"" help:"Issue an access key for S3 clients, for one project and purpose."`
	Access  keyAccessCmd  `cmd:"" help:"List access keys."`
	Revoke  keyRevokeCmd  `cmd:"" help:"End an access key."`
	Ls      keyLsCmd      `cmd:"" help:"List every live key: who, what for, until when."`
	Rotate  keyRotateCmd  `cmd:"" help:"Exchange the issuer's own keys; leases and pseudonyms stay."`
	Destroy keyDestroyCmd `cmd:"" help:"Destroy a live key at once: what it sealed opens for nobody any more."`
}

type keyLsCmd struct{}

func (keyLsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	keys, err := client.Keys(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(keys)
	}
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{k.ID, k.What, k.Name, k.Who, k.Dataset, k.Project, k.Purpose, clock(k.Until), time.Until(k.Until).Round(time.Second).String()})
	}
	table(a.out, []string{"lease", "what", "name", "who", "dataset", "project", "purpose", "until", "left"}, rows)
	return nil
}

type keyDestroyCmd struct {
	Lease  string `arg:"" help:"The lease, as key ls shows it."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (keyDestroyCmd) Help() string {
	return `For emergencies: a job that needs the key fails and is undone, a view is made anew when it is asked for again.

  sallyport key ls
  sallyport key destroy wywbwdfmfr7tvpi3k5kqzdat3p --reason "node reported stolen"`
}

func (c keyDestroyCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	if err := client.DestroyKey(a.ctx, c.Lease, control.Judgment{As: c.As, Reason: c.Reason}); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"destroyed": c.Lease})
	}
	fmt.Fprintf(a.out, "%s is destroyed\n", c.Lease)
	return nil
}

type keyNewCmd struct {
	Project string        `required:"" short:"p" help:"Project that it is for."`
	Purpose string        `default:"research" help:"What it is for."`
	TTL     time.Duration `default:"8h" help:"How long it is good."`
	Note    string        `help:"Whatever you want to remember with it."`
	Env     bool          `help:"Print it as environment variables that S3 clients read."`
	As      string        `help:"Person to act as, if you run the gateway."`
}

func (keyNewCmd) Help() string {
	return `The secret is shown this once. Every answer to the key's requests passed both doors, for this person, project and purpose.

  sallyport key new --project pilot --ttl 8h
  eval "$(sallyport key new --project pilot --env)"; aws s3 ls --endpoint-url https://127.0.0.1:7443`
}

func (c keyNewCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	k, err := client.NewAccess(a.ctx, control.AccessRequest{As: c.As, Project: c.Project, Purpose: c.Purpose, Seconds: int(c.TTL.Seconds()), Note: c.Note})
	if err != nil {
		return err
	}
	switch {
	case a.json:
		return a.printJSON(k)
	case c.Env:
		fmt.Fprintf(a.out, "export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s\n", k.ID, k.Secret)
		return nil
	}
	pairs(a.out, "access key", k.ID, "secret", k.Secret, "person", k.Person, "project", k.Project, "purpose", k.Purpose, "until", clock(k.Until))
	fmt.Fprintln(a.errs, "The secret is not shown again.")
	return nil
}

type keyAccessCmd struct{}

func (keyAccessCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	list, err := client.Accesses(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, k := range list {
		state := "live"
		switch {
		case k.Revoked != nil:
			state = "revoked"
		case !k.Live(time.Now()):
			state = "ended"
		}
		rows = append(rows, []string{k.ID, state, k.Person, k.Project, k.Purpose, clock(k.Issued), clock(k.Until), k.Note})
	}
	table(a.out, []string{"access key", "state", "person", "project", "purpose", "issued", "until", "note"}, rows)
	return nil
}

type keyRevokeCmd struct {
	Key string `arg:"" help:"The access key, as key access shows it."`
	As  string `help:"Person to act as, if you run the gateway."`
}

func (c keyRevokeCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	if err := client.Revoke(a.ctx, c.Key, c.As); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"revoked": c.Key})
	}
	fmt.Fprintf(a.out, "%s is revoked\n", c.Key)
	return nil
}

type keyRotateCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (c keyRotateCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	if err := client.Rotate(a.ctx, c.As); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]bool{"rotated": true})
	}
	fmt.Fprintln(a.out, "The issuer has new keys. Replace the copy of the root in your safe, and destroy the old one.")
	return nil
}
