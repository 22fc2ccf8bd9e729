package main

import (
	"fmt"
	"maps"
	"slices"

	"sallyport"
	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/gateway/control"
)

type auditReviewCmd struct {
	Status reviewStatusCmd `cmd:"" default:"withargs" help:"How much nobody has signed for, and what is in it (the default)."`
	Note   reviewNoteCmd   `cmd:"" help:"Put a note on a record."`
	Flag   reviewFlagCmd   `cmd:"" help:"Flag a record: somebody must look into it."`
	Unflag reviewUnflagCmd `cmd:"" help:"Take a flag back."`
	Sign   reviewSignCmd   `cmd:"" help:"Sign off the records since the last sign-off."`
	Ls     reviewLsCmd     `cmd:"" help:"List the sign-offs."`
	File   reviewFileCmd   `cmd:"" help:"Write a sign-off as a file that others can check."`
	Check  reviewCheckCmd  `cmd:"" help:"Check such files, offline."`
}

func (auditReviewCmd) Help() string {
	return `An officer reviews the log in ranges that follow each other without a gap. A sign-off is a signed note of who, when, what it means, which records, and the root of the tree that holds them.

  sallyport audit review
  sallyport audit review flag 17 "why at night?"
  sallyport audit review sign --meaning "reviewed; record 17 is being looked into" --out 2026-11.json
  sallyport audit review check 2026-11.json --key VKEY --log-key VKEY`
}

type reviewStatusCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (reviewStatusCmd) Help() string {
	return `How many records nobody has signed for is told to everybody whom the gateway knows; who acted, flags and notes to those who may read the log.

  sallyport audit review --json`
}

func (c reviewStatusCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	r, err := client.LogReview(a.ctx, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	v := newView(a)
	p := sheet{v}
	n := r.Counts
	if n.Records == 0 {
		p.line(0, v.paint(green, "Every record is signed for."))
	} else {
		p.line(0, v.paint(bold, fmt.Sprintf("%s records that nobody signed for", thousands(int(n.Records))))+fmt.Sprintf(", %d to %d", r.From, r.To-1))
	}
	if r.Last != nil {
		p.text(2, fmt.Sprintf("the last sign-off: %s at %s, records %d to %d: %s", r.Last.Name, clock(r.Last.Time), r.Last.From, r.Last.To-1, r.Last.Meaning))
	} else if !r.Since.IsZero() {
		p.line(2, "the last sign-off: "+clock(r.Since))
	}
	p.line(0, "")
	count := func(n uint64) string { return thousands(int(n)) }
	pairs(v.w, "denied", count(n.Denied), "failed", count(n.Failed), "overrides", count(n.Overrides), "exports", count(n.Exports),
		"rules, grants", count(n.Policy), "looks at data", count(n.Looks), "looks at the log", count(n.Reads), "unreadable", count(n.Unread))
	if len(r.People) > 0 {
		p.line(0, "")
		p.line(0, v.paint(bold, "Who acted"))
		who := slices.SortedFunc(maps.Keys(r.People), func(a, b string) int { return int(int64(r.People[b]) - int64(r.People[a])) })
		for _, id := range who[:min(len(who), 20)] {
			p.line(2, fmt.Sprintf("%-24s %s", id, count(r.People[id])))
		}
		if len(who) > 20 {
			p.line(2, v.paint(dim, fmt.Sprintf("and %d more: --json", len(who)-20)))
		}
	}
	said := func(title string, marks []gateway.Mark) {
		if len(marks) == 0 {
			return
		}
		p.line(0, "")
		p.line(0, v.paint(bold, title))
		for _, m := range marks {
			p.text(2, fmt.Sprintf("record %d: %s (%s, %s)", m.Record, m.Text, m.By, clock(m.Time)))
		}
	}
	said("Flags that nobody took back", r.Flags)
	said("Notes on records that nobody signed for", r.Notes)
	return nil
}

type reviewNoteCmd struct {
	Seq  uint64 `arg:"" help:"The record's number."`
	Text string `arg:"" help:"The note."`
	As   string `help:"Person to act as, if you run the gateway."`
}

func (c reviewNoteCmd) Run(a *app) error { return a.mark("note", c.Seq, c.Text, c.As) }

type reviewFlagCmd struct {
	Seq    uint64 `arg:"" help:"The record's number."`
	Reason string `arg:"" help:"Why somebody must look into it."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (c reviewFlagCmd) Run(a *app) error { return a.mark("flag", c.Seq, c.Reason, c.As) }

type reviewUnflagCmd struct {
	Seq    uint64 `arg:"" help:"The record's number."`
	Reason string `arg:"" help:"What was found."`
	As     string `help:"Person to act as, if you run the gateway."`
}

func (c reviewUnflagCmd) Run(a *app) error { return a.mark("unflag", c.Seq, c.Reason, c.As) }

func (a *app) mark(kind string, seq uint64, text, as string) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	r, err := client.MarkRecord(a.ctx, control.LogAct{As: as, Kind: kind, Record: seq, Text: text})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	fmt.Fprintf(a.out, "%s on record %d; record %d says so\n", kind, seq, r.Seq)
	return nil
}

type reviewSignCmd struct {
	To      *uint64 `placeholder:"SEQ" help:"The last record of the range; otherwise the last there is."`
	Meaning string  `required:"" help:"What your signature says, in one line."`
	Out     string  `short:"o" placeholder:"FILE" help:"Also write the sign-off there."`
	As      string  `help:"Person to act as, if you run the gateway."`
}

func (reviewSignCmd) Help() string {
	return `The range begins where the last sign-off ended. Records of your own in it are counted and named with the answer; where only you acted, somebody else must sign.

  sallyport audit review sign --meaning "reviewed, nothing to object to" --out 2026-11.json
  sallyport audit review sign --to 4711 --meaning "reviewed up to the incident of 3 November"`
}

func (c reviewSignCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	s, err := client.SignOffLog(a.ctx, control.LogAct{As: c.As, To: c.To, Text: c.Meaning})
	if err != nil {
		return err
	}
	if c.Out != "" {
		if err := writeSignOff(c.Out, s); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.out, "%s signed for records %d to %d; record %d says so\n", s.Name, s.From, s.To-1, s.Seq)
	if s.Own > 0 {
		fmt.Fprintf(a.errs, "sallyport: note: %d of these records are of %s, who signed: sallyport audit ls --subject %s\n", s.Own, s.Name, s.Name)
	}
	return nil
}

func writeSignOff(file string, s gateway.SignedOff) error {
	b, err := s.Signed.Format()
	if err != nil {
		return err
	}
	return writeFile(file, b)
}

type reviewLsCmd struct {
	As string `help:"Person to act as, if you run the gateway."`
}

func (c reviewLsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	all, err := client.SignOffs(a.ctx, c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(all)
	}
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{fmt.Sprint(s.Seq), fmt.Sprintf("%d-%d", s.From, s.To-1), s.Name, clock(s.Time), fmt.Sprint(s.Own), clip(s.Meaning, 60)})
	}
	table(a.out, []string{"seq", "records", "who", "when", "own", "meaning"}, rows)
	return nil
}

type reviewFileCmd struct {
	Seq *uint64 `arg:"" optional:"" help:"The sign-off's record; otherwise the last sign-off."`
	Out string  `short:"o" required:"" placeholder:"FILE" help:"Write it there."`
	As  string  `help:"Person to act as, if you run the gateway."`
}

func (c reviewFileCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	all, err := client.SignOffs(a.ctx, c.As)
	if err != nil {
		return err
	}
	for _, s := range slices.Backward(all) {
		if c.Seq == nil || s.Seq == *c.Seq {
			return writeSignOff(c.Out, s)
		}
	}
	return sallyport.Errorf("audit review", sallyport.NotFound, "`sallyport audit review ls` lists them.", "there is no such sign-off")
}

type reviewCheckCmd struct {
	Files  []string `arg:"" name:"file" help:"Sign-offs, oldest first: several must follow each other without a gap."`
	Key    string   `required:"" placeholder:"VKEY" help:"The key of reviews, from whom you trust; audit review --json tells it."`
	LogKey string   `placeholder:"VKEY" help:"The log's verifier key: also checks that a log signed by it begins with the records that were reviewed."`
}

func (reviewCheckCmd) Help() string {
	return `Needs no gateway. Exit code 0: signed, and in order; 1: not what it claims, altered, or with a gap.

  sallyport audit review check 2026-10.json 2026-11.json --key VKEY --log-key VKEY`
}

func (c reviewCheckCmd) Run(a *app) error {
	var all []audit.SignOff
	var before string
	for i, file := range c.Files {
		b, err := readBounded(file, audit.MaxSignedRange)
		if err != nil {
			return err
		}
		r, err := audit.ParseSignedRange(b)
		if err != nil {
			return err
		}
		s, err := r.Check(c.Key, c.LogKey)
		if err != nil {
			return sallyport.E("audit review", sallyport.KindOf(err), fmt.Errorf("%s: %w", file, err), sallyport.HintOf(err))
		}
		if i > 0 && !s.Follows(all[i-1], before) {
			return sallyport.Errorf("audit review", sallyport.Damaged, "Ask for the sign-offs between them.", "%s does not follow %s", file, c.Files[i-1])
		}
		all, before = append(all, s), r.SignOff
	}
	if a.json {
		return a.printJSON(all)
	}
	for _, s := range all {
		fmt.Fprintf(a.out, "%s signed for records %d to %d of the log of %s at %s: %s\n", s.Name, s.From, s.To-1, s.Origin, clock(s.Time), s.Meaning)
	}
	if c.LogKey == "" {
		fmt.Fprintln(a.errs, "note: without --log-key nothing was said about whether the log holds these records")
	}
	return nil
}
