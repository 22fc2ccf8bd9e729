package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"sallyport"
	"sallyport/gateway/control"
	"sallyport/gateway/rulebook"
	"sallyport/policy"
	"sallyport/policy/replay"
	"sallyport/policy/source"
)

// This file is how a bundle comes into force, as people do it: draft, show,
// approve, withdraw, rollback.

type policyStatusCmd struct{}

func (policyStatusCmd) Help() string {
	return `Shows which version is in force since when and by whom, what the configured source has now, and which drafts wait for approval.

  sallyport policy status`
}

func (policyStatusCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	s, err := client.PolicyStatus(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(s)
	}
	act := s.Active
	pairs(a.out, "in force", fmt.Sprintf("version %s, rules %s", act.Version.Short(), act.Rules.Short()),
		"since", clock(act.At), "by", activationBy(act), "origin", originOf(act.Origin, act.Revision))
	if s.Older != "" {
		fmt.Fprintf(a.out, "\nAN OLDER BUNDLE IS IN FORCE: %s\n", s.Older)
	}
	if f := s.Following; f.State != "" {
		fmt.Fprintf(a.out, "\n%s: %s", f.Origin, f.State)
		if f.Version != "" && f.State != "in force" {
			fmt.Fprintf(a.out, ", version %s", f.Version.Short())
		}
		fmt.Fprintln(a.out)
		if f.Trouble != "" {
			fmt.Fprintf(a.out, "  %s\n", strings.ReplaceAll(f.Trouble, "\n", "\n  "))
		}
	}
	if len(s.Waiting) > 0 {
		fmt.Fprintln(a.out, "\nwaiting for approval:")
		draftTable(a.out, s.Waiting)
		fmt.Fprintln(a.out, "\n`sallyport policy show VERSION` shows what would change.")
	}
	return nil
}

func activationBy(a rulebook.Activation) string {
	who := []string{a.By}
	for _, p := range a.Approved {
		who = append(who, "approved by "+p.By)
	}
	out := strings.Join(who, ", ") + " (" + a.Kind + ")"
	if a.Reason != "" {
		out += ": " + a.Reason
	}
	return out
}

func originOf(origin, revision string) string {
	if revision != "" {
		return origin + ", " + revision
	}
	return origin
}

func draftTable(w io.Writer, list []rulebook.Draft) {
	var rows [][]string
	for _, d := range list {
		state := d.State
		if d.State == rulebook.Waiting {
			state = fmt.Sprintf("waiting, %d of %d approvals", len(d.Approvals), d.Needs)
		}
		c := d.Comparison
		rows = append(rows, []string{d.Version.Short(), clock(d.At), d.By.ID, state, thousands(c.Loosens()), thousands(c.AllowDeny + c.Stronger), d.Note})
	}
	table(w, []string{"version", "at", "by", "state", "looser", "stricter", "note"}, rows)
}

type policyDraftsCmd struct{}

func (policyDraftsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	list, err := client.PolicyDrafts(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "There are no drafts. `sallyport policy draft --bundle DIR` makes one.")
		return nil
	}
	draftTable(a.out, list)
	return nil
}

type policyDraftCmd struct {
	Bundle string `required:"" placeholder:"DIR" help:"The bundle to bring into force."`
	Note   string `help:"What it is for; it is recorded."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (policyDraftCmd) Help() string {
	return `Hands a bundle to the running gateway, which compiles, lints and tests it and replays it over what was decided. A draft that passes waits for another person's approval; the bundle in force stays until then.

  sallyport policy draft --bundle policies --note "k=10 for internal data"
  sallyport policy show 3f2a91c0b7d4
  sallyport policy approve 3f2a91c0b7d4`
}

func (c policyDraftCmd) Run(a *app) error {
	src, err := source.OpenDir(source.DirConfig{Path: c.Bundle})
	if err != nil {
		return err
	}
	candidate, _, err := src.Fetch(a.ctx, source.Candidate{})
	if err != nil {
		return err
	}
	bundle, err := policy.Load(a.ctx, candidate.FS)
	if err != nil {
		return err
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := bundle.WriteZip(&buf); err != nil {
		return err
	}
	report, wipe := a.gateProgress()
	d, err := client.ProposePolicy(a.ctx, c.As, c.Note, src.String(), &buf, report)
	wipe()
	if d.Version == "" {
		return err
	}
	if a.json {
		if e := a.printJSON(d); e != nil {
			return e
		}
	} else {
		showDraft(a.out, d)
	}
	return err
}

// gateProgress draws one line on a terminal; wipe removes it.
func (a *app) gateProgress() (report func(rulebook.Progress), wipe func()) {
	f, ok := a.errs.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil, func() {}
	}
	return func(p rulebook.Progress) {
		line := p.Stage
		if p.Done > 0 {
			line += ": " + decided(p.Done)
		}
		fmt.Fprintf(f, "\r\x1b[K%s", line)
	}, func() { fmt.Fprint(f, "\r\x1b[K") }
}

func showDraft(w io.Writer, d rulebook.Draft) {
	by := d.By.ID
	if d.Signed != "" {
		by += ", signed by " + d.Signed
	}
	pairs(w, "draft", d.Version.Short()+"  rules "+d.Rules.Short(), "state", stateOf(d), "by", by, "at", clock(d.At),
		"note", d.Note, "origin", originOf(d.Origin, d.Revision), "base", d.Base.Short(),
		"tests", fmt.Sprintf("%d, reaching %.1f %% of the lines", d.Tests, d.Coverage))
	for _, f := range d.Findings {
		kind := "warning"
		if f.Error {
			kind = "error"
		}
		fmt.Fprintf(w, "%s: %s\n", kind, f)
		if f.Fix != "" {
			fmt.Fprintf(w, "  fix: %s\n", f.Fix)
		}
	}
	if d.State == rulebook.Refused {
		return
	}
	c := d.Comparison
	fmt.Fprintln(w)
	var r replay.Report
	if len(c.Report) > 0 && json.Unmarshal(c.Report, &r) == nil {
		showReplay(w, replayed{Report: r, Loosens: r.Loosens()})
	} else {
		fmt.Fprintf(w, "replayed %s: %d denied before and allowed now, %d weaker, %d allowed before and denied now, %d stronger, %d not replayable\n",
			decided(c.Replayed), c.DenyAllow, c.Weaker, c.AllowDeny, c.Stronger, c.Unreplayed)
	}
	if d.State == rulebook.Waiting {
		more := ""
		if n := c.Loosens(); n > 0 {
			more = fmt.Sprintf(" --loosens %d", n)
		}
		fmt.Fprintf(w, "\nnext: another person runs `sallyport policy approve %s%s`\n", d.Version.Short(), more)
	}
}

func stateOf(d rulebook.Draft) string {
	s := d.State
	if s == rulebook.Waiting {
		s = fmt.Sprintf("waiting for approval, has %d of %d", len(d.Approvals), d.Needs)
	}
	if d.Ended != "" {
		s += " (" + d.Ended + ")"
	}
	return s
}

type policyShowCmd struct {
	Version string `arg:"" help:"A draft's version, or its first digits."`
}

func (policyShowCmd) Help() string {
	return `Shows a draft: its checks, and which past decisions it would change, the dangerous ones first.

  sallyport policy show 3f2a91c0b7d4
  sallyport policy show 3f2a91c0b7d4 --json`
}

func (c policyShowCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	d, err := client.PolicyDraft(a.ctx, c.Version)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	showDraft(a.out, d)
	return nil
}

type policyApproveCmd struct {
	Version string `arg:"" help:"A draft's version, or its first digits."`
	Loosens int    `help:"How many past decisions it would loosen, as policy show says: to say that you saw them."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (policyApproveCmd) Help() string {
	return `Approves a draft of somebody else. It is replayed once more, over what was decided since; with the last approval that is needed it comes into force at once.

  sallyport policy approve 3f2a91c0b7d4
  sallyport policy approve 3f2a91c0b7d4 --loosens 12`
}

func (c policyApproveCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	report, wipe := a.gateProgress()
	d, err := client.ApprovePolicy(a.ctx, c.Version, control.PolicyAct{As: c.As, Loosens: c.Loosens}, report)
	wipe()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	if d.State != rulebook.Active {
		fmt.Fprintf(a.out, "approved; %d of %d approvals are there\n", len(d.Approvals), d.Needs)
		return nil
	}
	fmt.Fprintf(a.out, "version %s is in force (%s)\n", d.Version.Short(), d.Ended)
	return nil
}

type policyWithdrawCmd struct {
	Version string `arg:"" help:"A draft's version, or its first digits."`
	Reason  string `required:"" help:"Why; it is recorded."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (c policyWithdrawCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	d, err := client.WithdrawPolicy(a.ctx, c.Version, control.PolicyAct{As: c.As, Reason: c.Reason})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d)
	}
	fmt.Fprintf(a.out, "draft %s is withdrawn\n", d.Version.Short())
	return nil
}

type policyVersionsCmd struct{}

func (policyVersionsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	list, err := client.PolicyVersions(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	var rows [][]string
	for _, v := range slices.Backward(list) {
		rows = append(rows, []string{fmt.Sprint(v.Number), v.Version.Short(), v.Rules.Short(), clock(v.At), activationBy(v)})
	}
	table(a.out, []string{"nr", "version", "rules", "since", "by"}, rows)
	return nil
}

type policyRollbackCmd struct {
	Version string `arg:"" optional:"" help:"A former version, or its first digits; the one before the present if left out."`
	Reason  string `required:"" help:"Why; it is recorded."`
	As      string `help:"Person to act as, if you run the gateway."`
}

func (policyRollbackCmd) Help() string {
	return `Brings a former version back at once. One person is enough: two agreed to it before.

  sallyport policy rollback --reason "the new rule denies the nightly jobs"
  sallyport policy versions
  sallyport policy rollback 9b12d07aa3f1 --reason "as agreed with the board"`
}

func (c policyRollbackCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	var version sallyport.Digest
	if c.Version != "" {
		list, err := client.PolicyVersions(a.ctx)
		if err != nil {
			return err
		}
		if version, err = pickVersion(list, c.Version); err != nil {
			return err
		}
	}
	act, err := client.RollbackPolicy(a.ctx, control.PolicyAct{As: c.As, Version: version, Reason: c.Reason})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(act)
	}
	fmt.Fprintf(a.out, "version %s is in force again (activation %d)\n", act.Version.Short(), act.Number)
	return nil
}

// pickVersion finds the one version that begins with some digits.
func pickVersion(list []rulebook.Activation, digits string) (sallyport.Digest, error) {
	var found []sallyport.Digest
	for _, v := range list {
		if string(v.Version) == digits || len(digits) >= 4 && strings.HasPrefix(v.Version.Short(), digits) {
			if !slices.Contains(found, v.Version) {
				found = append(found, v.Version)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", sallyport.Errorf("policy version", sallyport.NotFound, "`sallyport policy versions` lists them.", "no version %q was ever in force", digits)
	}
	return "", sallyport.Errorf("policy version", sallyport.Invalid, "Give more digits.", "%d versions begin with %s", len(found), digits)
}

type policyExportCmd struct {
	Version string `arg:"" help:"A version or the digest of rules, whole: as policy versions --json, policy drafts --json or an audit record name it."`
	Dir     string `arg:"" help:"Folder to write it to; it must not exist."`
}

func (policyExportCmd) Help() string {
	return `Writes the files of a kept bundle, in force or not, into a new folder. Works while the gateway is stopped.

  sallyport policy export sha256:… old-bundle
  sallyport policy check --bundle old-bundle`
}

func (c policyExportCmd) Run(a *app) error {
	kept, err := a.archive()
	if err != nil {
		return err
	}
	files, err := kept.Version(sallyport.Digest(c.Version))
	if sallyport.KindOf(err) == sallyport.NotFound {
		files, err = kept.Rules(sallyport.Digest(c.Version))
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		return sallyport.E("export policy", sallyport.Conflict, err, "Name a folder that does not exist yet.")
	}
	if err := os.CopyFS(c.Dir, files); err != nil {
		return sallyport.E("export policy", sallyport.Exhausted, err, "")
	}
	if a.json {
		return a.printJSON(map[string]string{"version": c.Version, "dir": filepath.Clean(c.Dir)})
	}
	fmt.Fprintf(a.out, "written to %s\n", c.Dir)
	return nil
}
