package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/gateway"
	"sallyport/register"
)

// registerFile is where grants, consents and exceptions are kept.
func (c *Config) registerFile() string {
	if c.Register == "" {
		return filepath.Join(c.path(c.State), "register.json")
	}
	return c.path(c.Register)
}

// contents reads the register from the running gateway or, if none runs, from
// its file.
func (a *app) contents(as string) (gateway.RegisterContents, error) {
	client, cfg, err := a.dial()
	if err == nil {
		return client.Register(a.ctx, as)
	}
	if cfg == nil || sallyport.KindOf(err) != sallyport.Unavailable {
		return gateway.RegisterContents{}, err
	}
	r, err := register.Open(cfg.registerFile())
	if err != nil {
		return gateway.RegisterContents{}, err
	}
	return r.Contents(), nil
}

type grantCmd struct {
	Add    grantAddCmd    `cmd:"" help:"Let a project use a dataset, for a while."`
	Ls     grantLsCmd     `cmd:"" help:"List grants, those that end soon marked."`
	Revoke grantRevokeCmd `cmd:"" help:"Take a grant back."`
}

const whenHelp = "a date such as 2027-01-01, a time as in RFC 3339, or from now on: 90d, 12w, 8h."

type grantAddCmd struct {
	Dataset string   `required:"" short:"d" help:"The dataset."`
	Project string   `required:"" short:"p" help:"The project."`
	Purpose []string `default:"research" help:"What for; may be said more than once."`
	Person  []string `help:"Only this member; may be said more than once. Otherwise every member."`
	Since   string   `placeholder:"WHEN" help:"When it begins; otherwise now."`
	Until   string   `required:"" placeholder:"WHEN" help:"When it ends: a date, a time, or 90d."`
	Reason  string   `required:"" help:"Why; it is recorded."`
	Replace bool     `help:"Take the place of a grant that is still good."`
	As      string   `help:"Person to act as, if you run the gateway."`
}

func (grantAddCmd) Help() string {
	return `The owner of a dataset, or a steward, lets a project use it. WHEN is ` + whenHelp + `

  sallyport grant add --dataset genotypes --project pilot --until 2027-01-01 --reason "protocol 7"
  sallyport grant add -d genotypes -p pilot --purpose research --person ada --until 90d --reason "her thesis"`
}

func (c grantAddCmd) Run(a *app) error {
	since, until, err := span(c.Since, c.Until)
	if err != nil {
		return err
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.Grant(a.ctx, c.As, gateway.GrantRequest{Dataset: c.Dataset, Project: c.Project, Purposes: c.Purpose, People: c.Person,
		Since: since, Until: until, Reason: c.Reason, Replace: c.Replace})
	return a.changed(out, err, "project %s may use dataset %s until %s", c.Project, c.Dataset, clock(until))
}

type grantLsCmd struct {
	Dataset string `short:"d" help:"Only of this dataset."`
	Project string `short:"p" help:"Only of this project."`
	Expired bool   `help:"Only those that ran out."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (grantLsCmd) Help() string {
	return `Reads the running gateway, or the file if none runs. A grant that ends within two weeks is marked as ending.

  sallyport grant ls
  sallyport grant ls --dataset genotypes --expired`
}

// grantLine is a grant and how it stands.
type grantLine struct {
	gateway.Granted
	State string `json:"state"`
}

func (c grantLsCmd) Run(a *app) error {
	all, err := a.contents(c.As)
	if err != nil {
		return err
	}
	now, lines, rows := time.Now(), []grantLine{}, [][]string{}
	for _, g := range all.Grants {
		state := standing(now, g.Since, g.Until)
		if c.Dataset != "" && g.Dataset != c.Dataset || c.Project != "" && g.Project != c.Project || c.Expired && state != "expired" {
			continue
		}
		who := "every member"
		if g.People != nil {
			who = list(g.People)
		}
		lines = append(lines, grantLine{g, state})
		rows = append(rows, []string{g.Dataset, g.Project, list(g.Purposes), who, state, clock(g.Since), clock(g.Until), left(now, g.Until), g.By, g.Reason})
	}
	if a.json {
		return a.printJSON(lines)
	}
	table(a.out, []string{"dataset", "project", "purposes", "who", "state", "since", "until", "left", "by", "reason"}, rows)
	return nil
}

type grantRevokeCmd struct {
	Dataset string `required:"" short:"d" help:"The dataset."`
	Project string `required:"" short:"p" help:"The project."`
	Reason  string `required:"" help:"Why; it is recorded."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (grantRevokeCmd) Help() string {
	return `Jobs that wait between the doors are asked about again, and denied.

  sallyport grant revoke --dataset genotypes --project pilot --reason "the protocol ended"`
}

func (c grantRevokeCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.RevokeGrant(a.ctx, c.As, gateway.Ending{Dataset: c.Dataset, Project: c.Project, Reason: c.Reason})
	return a.changed(out, err, "project %s has no grant of dataset %s any more", c.Project, c.Dataset)
}

type consentCmd struct {
	Add      consentAddCmd      `cmd:"" help:"Put on record what a dataset's subjects consented to."`
	Ls       consentLsCmd       `cmd:"" help:"List consents."`
	Withdraw consentWithdrawCmd `cmd:"" help:"Mark a consent as withdrawn."`
}

type consentAddCmd struct {
	Dataset string `required:"" short:"d" help:"The dataset."`
	Purpose string `default:"research" help:"What was consented to."`
	Basis   string `required:"" help:"What the consent says and where it is filed; no name of a subject."`
	Since   string `placeholder:"WHEN" help:"When it began; otherwise now."`
	Until   string `placeholder:"WHEN" help:"When it ends; otherwise it has no end."`
	Replace bool   `help:"Take the place of a consent that is still good."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (consentAddCmd) Help() string {
	return `WHEN is ` + whenHelp + `

  sallyport consent add --dataset genotypes --purpose research --basis "form 3 of 2024, study office, binder 12"`
}

func (c consentAddCmd) Run(a *app) error {
	since, until, err := span(c.Since, c.Until)
	if err != nil {
		return err
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.RecordConsent(a.ctx, c.As, gateway.ConsentRequest{Dataset: c.Dataset, Purpose: c.Purpose, Basis: c.Basis, Since: since, Until: until, Replace: c.Replace})
	return a.changed(out, err, "consent to %s is on record for dataset %s", c.Purpose, c.Dataset)
}

type consentLsCmd struct {
	Dataset string `short:"d" help:"Only of this dataset."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (consentLsCmd) Help() string {
	return `Reads the running gateway, or the file if none runs.

  sallyport consent ls --dataset genotypes`
}

type consentLine struct {
	gateway.Consented
	State string `json:"state"`
}

func (c consentLsCmd) Run(a *app) error {
	all, err := a.contents(c.As)
	if err != nil {
		return err
	}
	now, lines, rows := time.Now(), []consentLine{}, [][]string{}
	for _, k := range all.Consents {
		if c.Dataset != "" && k.Dataset != c.Dataset {
			continue
		}
		state := standing(now, k.Since, k.Until)
		if k.Withdrawn {
			state = "withdrawn"
		}
		lines = append(lines, consentLine{k, state})
		rows = append(rows, []string{k.Dataset, k.Purpose, state, clock(k.Since), orDash(clock(k.Until)), orDash(left(now, k.Until)), k.By, k.Basis})
	}
	if a.json {
		return a.printJSON(lines)
	}
	table(a.out, []string{"dataset", "purpose", "state", "since", "until", "left", "by", "basis"}, rows)
	return nil
}

type consentWithdrawCmd struct {
	Dataset string `required:"" short:"d" help:"The dataset."`
	Purpose string `default:"research" help:"What was consented to."`
	Reason  string `required:"" help:"Why; it is recorded."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (consentWithdrawCmd) Help() string {
	return `It stays on record, as withdrawn.

  sallyport consent withdraw --dataset genotypes --purpose research --reason "letter of 3 March"`
}

func (c consentWithdrawCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.WithdrawConsent(a.ctx, c.As, gateway.Ending{Dataset: c.Dataset, Purpose: c.Purpose, Reason: c.Reason})
	return a.changed(out, err, "consent to %s is withdrawn for dataset %s", c.Purpose, c.Dataset)
}

type exceptionCmd struct {
	Ask     exceptionAskCmd     `cmd:"" help:"Ask that a check of policy passes, for one dataset and project, for a while."`
	Ls      exceptionLsCmd      `cmd:"" help:"List exceptions, those that wait for a second person too."`
	Approve exceptionApproveCmd `cmd:"" help:"Let an exception that somebody else asked for take effect."`
	End     exceptionEndCmd     `cmd:"" help:"End an exception, or a request for one."`
}

type exceptionAskCmd struct {
	Check   []string `required:"" help:"Label of the check, as a denial names it; may be said more than once."`
	Dataset string   `required:"" short:"d" help:"The dataset."`
	Project string   `required:"" short:"p" help:"The project."`
	Purpose string   `help:"Only for this purpose; otherwise for every one."`
	Since   string   `placeholder:"WHEN" help:"When it begins; otherwise now."`
	Until   string   `required:"" placeholder:"WHEN" help:"When it ends: a date, a time, or 7d."`
	Reason  string   `required:"" help:"Why; it is recorded."`
	As      string   `help:"Person to act as, if you run the gateway."`
}

func (exceptionAskCmd) Help() string {
	return `It has no effect until an officer, an approver or an admin who is somebody else approves it. WHEN is ` + whenHelp + `

  sallyport exception ask --check admit.project_purpose --dataset patients --project pilot --until 7d --reason "audit of the ward"`
}

func (c exceptionAskCmd) Run(a *app) error {
	since, until, err := span(c.Since, c.Until)
	if err != nil {
		return err
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.AskException(a.ctx, c.As, gateway.ExceptionRequest{Checks: c.Check, Dataset: c.Dataset, Project: c.Project, Purpose: c.Purpose,
		Since: since, Until: until, Reason: c.Reason})
	return a.changed(out, err, "%s waits for a second person: sallyport exception approve %s", out.ID, out.ID)
}

type exceptionLsCmd struct {
	Pending bool   `help:"Only those that wait for a second person."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (exceptionLsCmd) Help() string {
	return `Reads the running gateway, or the file if none runs.

  sallyport exception ls --pending`
}

type exceptionLine struct {
	gateway.Excepted
	State string `json:"state"`
}

func (c exceptionLsCmd) Run(a *app) error {
	all, err := a.contents(c.As)
	if err != nil {
		return err
	}
	now, lines, rows := time.Now(), []exceptionLine{}, [][]string{}
	add := func(x gateway.Excepted, state string) {
		lines = append(lines, exceptionLine{x, state})
		purpose := x.Purpose
		if purpose == "" {
			purpose = "every one"
		}
		rows = append(rows, []string{x.ID, state, list(x.Checks), x.Dataset, x.Project, purpose, clock(x.Until), left(now, x.Until), x.AskedBy, orDash(x.ApprovedBy), x.Reason})
	}
	for _, x := range all.Pending {
		state := "waits"
		if !now.Before(x.Until) {
			state = "expired"
		}
		add(x, state)
	}
	for _, x := range all.Exceptions {
		if !c.Pending {
			add(x, standing(now, x.Since, x.Until))
		}
	}
	if a.json {
		return a.printJSON(lines)
	}
	table(a.out, []string{"exception", "state", "checks", "dataset", "project", "purpose", "until", "left", "asked by", "approved by", "reason"}, rows)
	return nil
}

type exceptionApproveCmd struct {
	ID     string `arg:"" help:"The exception, as exception ls shows it."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (exceptionApproveCmd) Help() string {
	return `Who asked for it cannot approve it.

  sallyport exception approve ex-0123456789abcdef0123 --reason "seen the protocol"`
}

func (c exceptionApproveCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.ApproveException(a.ctx, c.As, gateway.Ending{ID: c.ID, Reason: c.Reason})
	return a.changed(out, err, "%s is in force", c.ID)
}

type exceptionEndCmd struct {
	ID     string `arg:"" help:"The exception, as exception ls shows it."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (exceptionEndCmd) Help() string {
	return `Ends one that is in force, and refuses one that waits.

  sallyport exception end ex-0123456789abcdef0123 --reason "the audit is over"`
}

func (c exceptionEndCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	out, err := client.EndException(a.ctx, c.As, gateway.Ending{ID: c.ID, Reason: c.Reason})
	return a.changed(out, err, "%s is ended", c.ID)
}

// changed says what became of a change.
func (a *app) changed(out gateway.Changed, err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(out)
	}
	fmt.Fprintf(a.out, format+"\n", args...)
	return nil
}

// soon is how long before its end something is marked as ending.
const soon = 14 * 24 * time.Hour

// standing says how something stands that is good from since to until; a zero
// until is no end.
func standing(now, since, until time.Time) string {
	switch {
	case now.Before(since):
		return "not yet"
	case until.IsZero():
		return "good"
	case !now.Before(until):
		return "expired"
	case until.Sub(now) < soon:
		return "ending"
	}
	return "good"
}

// left is how long something is good, for people.
func left(now, until time.Time) string {
	switch d := until.Sub(now); {
	case until.IsZero():
		return ""
	case d <= 0:
		return "-"
	case d < 48*time.Hour:
		return d.Round(time.Minute).String()
	default:
		return strconv.Itoa(int(d.Hours()/24)) + " days"
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// span reads --since and --until, either of which may be empty.
func span(since, until string) (from, to time.Time, err error) {
	now := time.Now()
	if since != "" {
		if from, err = moment("--since", since, time.Time{}); err != nil {
			return from, to, err
		}
	}
	if until != "" {
		to, err = moment("--until", until, now)
	}
	return from, to, err
}

// moment reads a date (its first moment, local time), a time, or a span after
// now; a zero now takes no spans.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if !now.IsZero() {
		if d, ok := duration(s); ok {
			return now.Add(d), nil
		}
	}
	hint := "Say a date such as 2027-01-01, or a time such as 2027-01-01T12:00:00Z."
	if !now.IsZero() {
		hint = "Say " + whenHelp
	}
	return time.Time{}, sallyport.Errorf(flag, sallyport.Invalid, hint, "%q is no time", s)
}

// duration reads what time.ParseDuration does, and whole days and weeks.
func duration(s string) (time.Duration, bool) {
	for unit, day := range map[string]int{"d": 1, "w": 7} {
		if n, err := strconv.Atoi(strings.TrimSuffix(s, unit)); strings.HasSuffix(s, unit) && err == nil {
			return time.Duration(n*day) * 24 * time.Hour, n > 0 && n < 100*365
		}
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0
}
