package main

import (
	"fmt"
	"time"

	"sallyport/gateway/control"
)

type keyCmd struct {
	Ls      keyLsCmd      `cmd:"" help:"List every live key: who, what for, until when."`
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
