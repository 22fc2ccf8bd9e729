package main

import (
	"fmt"
	"strconv"

	"sallyport/gateway/control"
)

type auditEraseCmd struct {
	Subject string `required:"" help:"Whose records: the person's name in them."`
	Reason  string `required:"" help:"Why. It stays, so it must not name the person."`
	Basis   string `required:"" help:"The law or rule that demands it, such as \"GDPR Art. 17(1)(b)\"."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (auditEraseCmd) Help() string {
	return `Erases what the log holds about a person: what the records say, the index, and the key that it was sealed under, so that copies of the log cannot be read either. Numbers, times, steps and every proof stay, and a record says what was erased. Two people must say the same within an hour. A legal hold stops it. Afterwards the whole log is verified.

  sallyport audit erase --subject ada --reason "left the lab; request 17" --basis "GDPR Art. 17(1)(b)"`
}

func (c auditEraseCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	e, err := client.Erase(a.ctx, control.OfficerAct{As: c.As, Subject: c.Subject, Reason: c.Reason, Basis: c.Basis})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(e)
	}
	fmt.Fprintf(a.out, "erased %d records (%s), asked by %s, approved by %s; record %d says so\n", e.Records, clip(e.Ranges, 60), e.By, e.Approved, e.Tombstone)
	showVerification(a.out, e.Verified)
	return nil
}

type auditHoldCmd struct {
	Add     holdAddCmd     `cmd:"" help:"Keep records of a person, dataset or project from being erased."`
	Ls      holdLsCmd      `cmd:"" help:"List the holds that stand."`
	Release holdReleaseCmd `cmd:"" help:"End a hold."`
}

type holdAddCmd struct {
	Subject string `help:"Of this person."`
	Dataset string `help:"About this dataset."`
	Project string `help:"Of this project."`
	Reason  string `required:"" help:"Why, such as a case number; it is recorded."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (holdAddCmd) Help() string {
	return `While a legal hold stands, nothing that it covers is erased, and no retention rule takes it away.

  sallyport audit hold add --dataset genotypes --reason "case 2026-114"`
}

func (c holdAddCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	r, err := client.Hold(a.ctx, control.OfficerAct{As: c.As, Subject: c.Subject, Dataset: c.Dataset, Project: c.Project, Reason: c.Reason})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.out, "hold %d stands\n", r.Seq)
	return nil
}

type holdLsCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (holdLsCmd) Help() string {
	return `A held person is shown as a code only, since the list outlives them.

  sallyport audit hold ls`
}

func (c holdLsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	list, err := client.Holds(a.ctx, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "No hold stands.")
		return nil
	}
	var rows [][]string
	for _, h := range list {
		rows = append(rows, []string{strconv.FormatUint(h.Hold, 10), clip(h.Person, 12), h.Dataset, h.Project, h.By, clock(h.Time), clip(h.Reason, 60)})
	}
	table(a.out, []string{"hold", "person", "dataset", "project", "by", "since", "reason"}, rows)
	return nil
}

type holdReleaseCmd struct {
	Hold   uint64 `arg:"" help:"The hold's number, as audit hold ls shows it."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (c holdReleaseCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	r, err := client.ReleaseHold(a.ctx, control.OfficerAct{As: c.As, Hold: c.Hold, Reason: c.Reason})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.out, "hold %d is released (record %d)\n", c.Hold, r.Seq)
	return nil
}
