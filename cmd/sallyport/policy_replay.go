package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
	"sallyport/policy/archive"
	"sallyport/policy/replay"
)

type policyReplayCmd struct {
	Bundle    string `placeholder:"DIR" help:"The candidate; without it the configured bundle."`
	Since     string `placeholder:"WHEN" help:"Only decisions from then on: 2026-10-01, a time (RFC 3339), or 30d, 12h ago."`
	Until     string `placeholder:"WHEN" help:"Only decisions before then."`
	Data      string `enum:"recorded,now" default:"recorded" help:"Catalog, site and register as each decision saw them (recorded), or as the newest record saw them (now)."`
	Log       string `placeholder:"FILE" help:"Read this copy of a log."`
	Archive   string `placeholder:"DIR" help:"Where rules and data are kept by digest (state/policy)."`
	Reproduce bool   `help:"Also ask the rules that decided, and report where they do not give the recorded answer."`
	Workers   int    `placeholder:"N" help:"Evaluate so many at a time (one a core)."`
}

func (policyReplayCmd) Help() string {
	return `Puts every decision of the audit log to a candidate bundle again and shows what would have been answered otherwise: what was denied and would be allowed first, then masks and limits that would be weaker, then what would be stricter, then what could not be replayed and why. The candidate's own tables count; the catalog, the site and the register are those that each decision saw. Works beside a running gateway.

  sallyport policy replay --bundle draft
  sallyport policy replay --bundle draft --since 30d --reproduce
  sallyport policy replay --bundle draft --log copy-of-audit.db --archive copy-of-state/policy --json

Exit code 0: nothing would be less strict; 1: something would, which is no fault but must be meant; 2: it cannot be told, because of an error, of the candidate or another, or because nothing could be replayed.`
}

// replayed is what the command prints as JSON.
type replayed struct {
	replay.Report
	Loosens   int              `json:"loosens"` // decisions that would be less strict
	Digest    sallyport.Digest `json:"digest"`  // of the report
	Seconds   float64          `json:"seconds"`
	PerSecond float64          `json:"per_second"`
}

func (c policyReplayCmd) Run(a *app) error {
	r, err := c.replay(a)
	if err != nil {
		if a.ctx.Err() != nil {
			return err
		}
		report(a.errs, err)
		return exitCode(2)
	}
	if a.json {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		showReplay(a.out, r)
	}
	switch {
	case r.Loosens > 0:
		return exitCode(1)
	case r.Failures() > 0, r.Decisions > 0 && r.Replayed == 0:
		return exitCode(2)
	}
	return nil
}

func (c policyReplayCmd) replay(a *app) (replayed, error) {
	cfg := replay.Config{Workers: c.Workers, Reproduce: c.Reproduce, Deadline: policyDeadline}
	filter, err := c.window(time.Now())
	if err != nil {
		return replayed{}, err
	}
	files, err := policyTestCmd{Bundle: c.Bundle}.open(a)
	if err != nil {
		return replayed{}, err
	}
	if cfg.Candidate, err = policy.Load(a.ctx, files); err != nil {
		return replayed{}, err
	}
	kept, err := c.archive(a)
	if err != nil {
		return replayed{}, err
	}
	cfg.Base = kept
	l, err := a.readLog(reading{DB: c.Log})
	if err != nil {
		return replayed{}, err
	}
	defer l.Close()
	if c.Data == "now" {
		if cfg.Now, err = newestData(a, l, kept); err != nil {
			return replayed{}, err
		}
	}
	began := time.Now()
	shown := a.replayProgress(&cfg, began)
	rep, err := replay.Run(a.ctx, cfg, decisions(l.Records(a.ctx, filter)))
	shown()
	if err != nil {
		return replayed{}, err
	}
	took := time.Since(began).Seconds()
	return replayed{Report: rep, Loosens: rep.Loosens(), Digest: rep.Digest(), Seconds: took, PerSecond: float64(rep.Replayed) / max(took, 1e-9)}, nil
}

func (c policyReplayCmd) window(now time.Time) (f audit.Filter, err error) {
	if f.Since, err = when("--since", c.Since, now); err != nil {
		return f, err
	}
	f.Until, err = when("--until", c.Until, now)
	return f, err
}

// when reads a point in time as people write it; a day begins in local time.
func when(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, time.Local); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, sallyport.Errorf("policy replay", sallyport.Invalid, "Write 2026-10-01, 2026-10-01T12:00:00Z, 30d or 12h.", "%s %q is no time", flag, s)
	}
	return t, nil
}

func (c policyReplayCmd) archive(a *app) (*archive.Archive, error) {
	dir := c.Archive
	if dir == "" {
		cfg, err := loadConfig(a.config)
		if err != nil {
			return nil, err
		}
		dir = cfg.policyFolder()
	} else if _, err := os.Stat(dir); err != nil {
		return nil, sallyport.E("policy replay", sallyport.NotFound, err, "Name the folder state/policy of the gateway, or a copy of it.")
	}
	return archive.Open(dir), nil
}

// newestData are the data that the newest record saw.
func newestData(a *app, l recordSource, kept *archive.Archive) (map[string]any, error) {
	for r, err := range l.Records(a.ctx, audit.Filter{Newest: true}) {
		if err != nil {
			return nil, err
		}
		if r.Entry.Data != "" {
			return kept.Data(r.Entry.Data)
		}
	}
	return map[string]any{}, nil
}

// replayProgress draws one line on a terminal; the function that it returns
// wipes it.
func (a *app) replayProgress(cfg *replay.Config, began time.Time) (wipe func()) {
	f, ok := a.errs.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return func() {}
	}
	var last time.Time
	cfg.Progress = func(done, _ int) {
		now := time.Now()
		if now.Sub(last) < 200*time.Millisecond {
			return
		}
		last = now
		fmt.Fprintf(f, "\r\x1b[Kreplaying: %s decisions, %s/s", thousands(done), thousands(int(float64(done)/now.Sub(began).Seconds())))
	}
	return func() { fmt.Fprint(f, "\r\x1b[K") }
}

// thousands groups digits, for people.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// decided counts decisions in words.
func decided(n int) string {
	if n == 1 {
		return "1 decision"
	}
	return thousands(n) + " decisions"
}

const (
	replayNames    = 6  // shown of a list of names
	replayExamples = 3  // shown of a direction
	replayLines    = 20 // shown of a table
)

func showReplay(w io.Writer, r replayed) {
	if r.Decisions == 0 {
		fmt.Fprintln(w, "The history is empty: there is no decision to replay in this time.")
		showElsewhere(w, r)
		return
	}
	over := "each over the data it saw"
	if r.Over == "now" {
		over = "over today's data"
	}
	pairs(w, "candidate", r.Candidate.Short()+"  rules "+r.Rules.Short(),
		"history", fmt.Sprintf("%s, records %d to %d, %s to %s", decided(r.Decisions), r.First, r.Last, clock(r.From), clock(r.To)),
		"replayed", fmt.Sprintf("%s, %s", thousands(r.Replayed), over))

	if r.Loosens > 0 {
		fmt.Fprintf(w, "\nLESS STRICT: %s\n", decided(r.Loosens))
		showFlip(w, r, replay.DenyAllow, "denied before, allowed now", "no longer denied by")
		showChanges(w, r, r.Looser, "allowed before and now, with something weaker or not comparable", replay.Weaker, replay.Changed)
	}
	stronger := slices.ContainsFunc(r.Changes, func(c replay.Change) bool { return c.Direction == replay.Stronger })
	if n := r.Flipped(replay.AllowDeny) + r.Flipped(replay.AllowError) + r.Tighter; n > 0 || stronger {
		fmt.Fprintf(w, "\nSTRICTER: %s\n", decided(n))
		showFlip(w, r, replay.AllowDeny, "allowed before, denied now", "now denied by")
		showFlip(w, r, replay.AllowError, "allowed before, now an error of the candidate, and so a denial", "error")
		title := "allowed before and now, with things only stronger"
		if r.Tighter == 0 {
			title = "in decisions that are less strict as well, and count there"
		}
		showChanges(w, r, r.Tighter, title, replay.Stronger)
	}
	if r.OtherForm > 0 {
		showChanges(w, r, r.OtherForm, "allowed before and now, written differently", replay.Neutral)
	}
	showCounts(w, "THE CANDIDATE FAILS", r.Errors)
	showCounts(w, "NOT REPLAYED", r.NotReplayed)
	fmt.Fprintf(w, "\nTHE SAME: %s", decided(r.Unchanged))
	if r.OtherReasons > 0 {
		fmt.Fprintf(w, "; denied as before but for other reasons: %s", thousands(r.OtherReasons))
	}
	fmt.Fprintln(w)
	showReproduction(w, r.Reproduction)
	showElsewhere(w, r)
	if r.Left > 0 {
		fmt.Fprintf(w, "%s lines had no room in the report.\n", thousands(r.Left))
	}
	showReplayEnd(w, r)
}

func showReplayEnd(w io.Writer, r replayed) {
	fmt.Fprintln(w)
	switch {
	case r.Replayed == 0:
		fmt.Fprintln(w, "Nothing could be replayed, so nothing is known.")
	case r.Loosens > 0:
		fmt.Fprintf(w, "%s would be less strict. To publish it, say so: %d.\n", decided(r.Loosens), r.Loosens)
	case r.Failures() > 0:
		fmt.Fprintf(w, "Nothing would be less strict, but the candidate fails for %s.\n", decided(r.Failures()))
	case r.Replayed < r.Decisions:
		fmt.Fprintln(w, "Nothing that could be replayed would be less strict.")
	default:
		fmt.Fprintln(w, "Nothing would be less strict.")
	}
	fmt.Fprintf(w, "report %s; %s in %.2f s: %s/s\n", r.Digest.Short(), decided(r.Replayed), r.Seconds, thousands(int(r.PerSecond)))
}

// showFlip shows the decisions of one direction: how many, for whom, by which
// rules, and a few of them.
func showFlip(w io.Writer, r replayed, direction, title, rules string) {
	i := slices.IndexFunc(r.Flips, func(f replay.Flip) bool { return f.Direction == direction })
	if i < 0 {
		return
	}
	f := r.Flips[i]
	fmt.Fprintf(w, "\n  %s: %s\n", title, thousands(f.Count))
	p := indented{w, "    "}
	pairs(p, "who", names(f.People), "project", names(f.Projects), "dataset", names(f.Datasets), "purpose", names(f.Purposes), rules, names(f.Rules))
	for _, e := range f.Examples[:min(replayExamples, len(f.Examples))] {
		fmt.Fprintln(w)
		pairs(p, fmt.Sprintf("record %d", e.Record), fmt.Sprintf("%s, %s: %s for %s, project %s", clock(e.Time), e.Door, e.Dataset, e.Purpose, e.Project),
			"  who", e.Subject, "  before", said(e.Before), "  now", said(e.After))
	}
}

// indented starts every line that is written to it with spaces. Lines are
// written whole.
type indented struct {
	w  io.Writer
	by string
}

func (i indented) Write(b []byte) (int, error) {
	if _, err := io.WriteString(i.w, i.by); err != nil {
		return 0, err
	}
	return i.w.Write(b)
}

func said(a replay.Answer) string {
	switch {
	case a.Error != "":
		return a.Error
	case a.Allow:
		return "yes"
	}
	return "no: " + strings.Join(a.Reasons, "\n")
}

// names lists the most frequent.
func names(list []replay.Count) string {
	var out []string
	for i, c := range list {
		if i == replayNames {
			out = append(out, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		name := c.Name
		if name == "" {
			name = "(none)"
		}
		out = append(out, fmt.Sprintf("%s %s", name, thousands(c.Count)))
	}
	return strings.Join(out, ", ")
}

func records(list []uint64, count int) string {
	var out []string
	for _, n := range list[:min(3, len(list))] {
		out = append(out, strconv.FormatUint(n, 10))
	}
	if count > len(out) {
		out = append(out, "…")
	}
	return strings.Join(out, " ")
}

func showChanges(w io.Writer, r replayed, count int, title string, directions ...replay.Direction) {
	var rows [][]string
	left := 0
	for _, c := range r.Changes {
		if !slices.Contains(directions, c.Direction) {
			continue
		}
		if len(rows) == replayLines {
			left++
			continue
		}
		what := c.Kind
		if c.Name != "" {
			what += " " + c.Name
		}
		rows = append(rows, []string{"   ", c.Dataset, what, c.Before, c.After, string(c.Direction), thousands(c.Count), records(c.Records, c.Count), c.Why})
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n  %s", title)
	if count > 0 {
		fmt.Fprintf(w, ": %s", thousands(count))
	}
	fmt.Fprintln(w)
	table(w, []string{"   ", "dataset", "what", "before", "now", "is", "times", "records", "why"}, rows)
	if left > 0 {
		fmt.Fprintf(w, "    and %d more lines; --json has them all\n", left)
	}
}

func showCounts(w io.Writer, title string, list []replay.Count) {
	if len(list) == 0 {
		return
	}
	n := 0
	for _, c := range list {
		n += c.Count
	}
	fmt.Fprintf(w, "\n%s: %s\n", title, decided(n))
	var rows [][]string
	for _, c := range list[:min(replayLines, len(list))] {
		rows = append(rows, []string{"   ", thousands(c.Count), c.Name, records(c.Records, c.Count)})
	}
	table(w, []string{"   ", "times", "why", "records"}, rows)
	if len(list) > replayLines {
		fmt.Fprintf(w, "    and %d more reasons; --json has them all\n", len(list)-replayLines)
	}
}

func showReproduction(w io.Writer, p *replay.Reproduction) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "REPRODUCED: %s of %s exactly as recorded\n", thousands(p.Exact), thousands(p.Tried))
	if len(p.Different) > 0 {
		fmt.Fprintln(w, "  These records do not follow from their rules and data: they were changed, or rules are not repeatable. Run `sallyport audit verify`.")
		showCounts(w, "  DIFFERENT IN", p.Different)
	}
	if len(p.NotTried) > 0 {
		showCounts(w, "  NOT TRIED", p.NotTried)
	}
}

// showElsewhere is one line: no policy was asked there, or none is named.
func showElsewhere(w io.Writer, r replayed) {
	if len(r.Elsewhere) > 0 {
		fmt.Fprintf(w, "Not counted are decisions whose records name no policy, by step: %s\n", names(r.Elsewhere))
	}
}
