package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
	"sallyport/policy/archive"
	"sallyport/policy/replay"
)

type policyExplainCmd struct {
	Record  string `arg:"" help:"Number of a decision's record, or a job: then its last decision."`
	With    string `placeholder:"DIR" help:"Explain what this bundle would answer, over the data of then."`
	Log     string `placeholder:"FILE" help:"Read this copy of a log."`
	Archive string `placeholder:"DIR" help:"Where rules and data are kept by digest (state/policy)."`
}

func (policyExplainCmd) Help() string {
	return `Puts a recorded question again to the rules that answered it, over the data that they saw, and shows why the answer is what it is: the rule with file and line, the condition that failed, what it compared, and what would have to be true for a yes.

  sallyport audit ls --decision deny
  sallyport policy explain 17
  sallyport policy explain job-3f2a
  sallyport policy explain 17 --with draft
  sallyport policy explain 17 --log copy-of-audit.db --archive copy-of-state/policy --json

With --json: {"record", "job", "step", "time", "bundle", "same", "recorded": VERDICT, "explanation": {"door", "verdict", "fault", "labels": [{"name", "title", "description", "reason", "rules": [RULE]}], "cut"}}; a RULE is {"rule", "title", "file", "line", "held", "conditions": [{"text", "file", "line", "holds", "values": [{"name", "value", "undefined"}], "wants", "why": [RULE]}]}. Values are in Rego's notation.

Exit code 0: explained; 1: the rules do not give the recorded answer, which is damage or a bug (with --with it is no fault); 2: it cannot be told.`
}

// explained is what the command prints as JSON.
type explained struct {
	Record      uint64             `json:"record"`
	Asked       string             `json:"asked,omitempty"` // how the record was found
	Job         string             `json:"job,omitempty"`
	Step        string             `json:"step"`
	Time        string             `json:"time"`
	Bundle      string             `json:"bundle,omitempty"` // --with
	Same        bool               `json:"same"`             // the recorded answer
	Recorded    policy.Verdict     `json:"recorded"`
	Explanation policy.Explanation `json:"explanation"`
	who         replay.Decision
}

func (c policyExplainCmd) Run(a *app) error {
	out, err := c.explain(a)
	if err != nil {
		if a.ctx.Err() != nil {
			return err
		}
		report(a.errs, err)
		return exitCode(2)
	}
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		showExplained(newView(a), out)
	}
	if !out.Same && c.With == "" {
		return exitCode(1)
	}
	return nil
}

func (c policyExplainCmd) explain(a *app) (explained, error) {
	l, err := a.readLog(reading{DB: c.Log})
	if err != nil {
		return explained{}, err
	}
	defer l.Close()
	d, asked, err := c.find(a, l)
	if err != nil {
		return explained{}, err
	}
	if d.Unfit != "" {
		return explained{}, sallyport.Errorf("policy explain", sallyport.Invalid, "`sallyport audit show "+strconv.FormatUint(d.Record, 10)+"` shows what there is.",
			"record %d cannot be asked again: %s", d.Record, d.Unfit)
	}
	e, err := c.engine(a, d)
	if err != nil {
		return explained{}, err
	}
	x, err := e.Explain(a.ctx, d.Door, d.Input)
	if err != nil {
		return explained{}, err
	}
	return explained{Record: d.Record, Asked: asked, Job: d.Job, Step: d.Step, Time: d.Time.UTC().Format("2006-01-02T15:04:05Z"),
		Bundle: c.With, Same: sameAnswer(d.Recorded, x.Verdict, c.With != ""), Recorded: d.Recorded, Explanation: x, who: d}, nil
}

// sameAnswer compares the verdicts as they are recorded. Another bundle's has
// other digests.
func sameAnswer(recorded, now policy.Verdict, other bool) bool {
	if other {
		now.Policy, now.Data = recorded.Policy, recorded.Data
	}
	var docs [2]any
	for i, v := range []policy.Verdict{recorded, now} {
		b, err := json.Marshal(v)
		if err != nil || json.Unmarshal(b, &docs[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(docs[0], docs[1])
}

// find looks up the decision that a number or a job means; asked says how the
// one was found where it is not the one that was named.
func (c policyExplainCmd) find(a *app, l recordSource) (d replay.Decision, asked string, err error) {
	n, err := strconv.ParseUint(c.Record, 10, 64)
	if err != nil {
		all, err := c.ofJob(a, l, sallyport.JobID(c.Record))
		if err != nil {
			return d, "", err
		}
		if len(all) == 0 {
			return d, "", sallyport.Errorf("policy explain", sallyport.NotFound, "`sallyport audit ls` shows records and jobs.",
				"no decision about a job %q is in the log", c.Record)
		}
		d = all[len(all)-1]
		return d, fmt.Sprintf("Record %d holds the last decision about %s.", d.Record, c.Record), nil
	}
	r, err := l.Get(n)
	if err != nil {
		return d, "", err
	}
	if d, ok := decision(r); ok {
		return d, "", nil
	}
	what := fmt.Sprintf("record %d is the %s of %s and decides nothing", n, r.Entry.Phase, r.Entry.Step)
	if r.Entry.Job == "" {
		return d, "", sallyport.Errorf("policy explain", sallyport.NotFound, "`sallyport audit ls --decision deny` shows the denials.", "%s", what)
	}
	all, err := c.ofJob(a, l, r.Entry.Job)
	if err != nil {
		return d, "", err
	}
	found := -1
	for i, o := range all {
		// An intent's decision follows it; another step's is the last before it.
		if o.Record < n {
			found = i
		} else if r.Entry.Phase == audit.Intent && o.Step == r.Entry.Step {
			found = i
			break
		}
	}
	if found < 0 && len(all) > 0 {
		found = 0
	}
	if found < 0 {
		return d, "", sallyport.Errorf("policy explain", sallyport.NotFound, "It may have been interrupted before policy answered.", "no decision about job %s is in the log", r.Entry.Job)
	}
	return all[found], fmt.Sprintf("R%s; record %d holds the decision.", what[1:], all[found].Record), nil
}

func (c policyExplainCmd) ofJob(a *app, l recordSource, job sallyport.JobID) ([]replay.Decision, error) {
	var out []replay.Decision
	for r, err := range l.Records(a.ctx, audit.Filter{Job: job}) {
		if err != nil {
			return nil, err
		}
		if d, ok := decision(r); ok {
			out = append(out, d)
		}
	}
	return out, nil
}

// decision takes the decision of one record; an approval is none of policy's doors.
func decision(r audit.Record) (replay.Decision, bool) {
	one := func(yield func(audit.Record, error) bool) { yield(r, nil) }
	for d := range decisions(one) {
		return d, d.Door != ""
	}
	return replay.Decision{}, false
}

// engine loads what decided, or what would decide.
func (c policyExplainCmd) engine(a *app, d replay.Decision) (*policy.Engine, error) {
	var kept *archive.Archive
	if c.Archive != "" {
		kept = archive.Open(c.Archive)
	} else {
		var err error
		if kept, err = a.archive(); err != nil {
			return nil, err
		}
	}
	data, err := kept.Data(d.Data)
	if err != nil {
		return nil, notKept("data", d.Data, err)
	}
	cfg := policy.Config{Deadline: policyDeadline}
	var files fs.FS
	if c.With != "" {
		if files, err = openBundle(a, c.With); err != nil {
			return nil, err
		}
	} else if files, err = kept.Rules(d.Policy); err != nil {
		return nil, notKept("rules", d.Policy, err)
	}
	b, err := policy.Load(a.ctx, files)
	if err != nil {
		return nil, err
	}
	if c.With != "" {
		return b.Over(a.ctx, data, cfg)
	}
	return b.Recorded(a.ctx, data, cfg)
}

// notKept says what is missing and how it can be had.
func notKept(what string, digest sallyport.Digest, err error) error {
	if sallyport.KindOf(err) != sallyport.NotFound {
		return err
	}
	return sallyport.E("policy explain", sallyport.NotFound, fmt.Errorf("the %s %s of this decision are not kept here: %w", what, digest, err),
		"Restore the folder state/policy from a backup, or name another with --archive DIR; --with DIR explains what a bundle at hand would answer, over data that are kept.")
}

func showExplained(v *view, out explained) {
	x := out.Explanation
	word, color := "DENIED", red
	if x.Verdict.Allow {
		word, color = "ALLOWED", green
	}
	if x.Fault != nil {
		word += ", because policy failed"
	}
	p := sheet{v}
	if out.Asked != "" {
		p.line(0, v.paint(dim, out.Asked))
	}
	head := fmt.Sprintf("  door %s, record %d, %s", x.Door, out.Record, out.Time)
	if out.Job != "" {
		head += ", job " + out.Job
	}
	p.line(0, v.paint(bold+";"+color, word)+head)
	d := out.who
	p.text(2, fmt.Sprintf("%s asked for %s, project %s, purpose %s", d.Subject, d.Dataset, d.Project, d.Purpose))
	switch {
	case out.Bundle != "" && out.Recorded.Allow != x.Verdict.Allow:
		p.text(2, v.paint(yellow, fmt.Sprintf("by %s; recorded was %s", out.Bundle, answer(out.Recorded.Allow))))
	case out.Bundle != "":
		p.text(2, "by "+out.Bundle+"; recorded was "+answer(out.Recorded.Allow)+" too")
	case out.Same:
		p.text(2, "The same rules over the same data give the recorded answer again.")
	default:
		p.line(0, v.paint(bold+";"+red, "NOT THE RECORDED ANSWER"))
		p.text(2, fmt.Sprintf("Recorded was %s by %s. The rules and data of these digests do not give it: the record, the archive or this program is not what it was. Run `sallyport audit verify`.",
			answer(out.Recorded.Allow), list(out.Recorded.Rules)))
		for _, r := range out.Recorded.Reasons {
			p.text(4, "recorded: "+r)
		}
	}
	if f := x.Fault; f != nil {
		p.line(0, "")
		p.text(2, f.Text)
		for _, at := range f.At {
			p.text(4, fmt.Sprintf("%s  %s", v.paint(cyan, fmt.Sprintf("%s:%d", at.File, at.Line)), at.Text))
		}
		p.values(6, f.Values)
		for _, s := range f.Say {
			p.text(4, s)
		}
	}
	for _, r := range x.Verdict.Reasons {
		if !slices.ContainsFunc(x.Labels, func(l policy.Label) bool { return l.Reason == r }) {
			p.line(0, "")
			p.text(2, r)
		}
	}
	for _, l := range x.Labels {
		p.label(l, x.Verdict.Allow)
	}
	if x.Cut {
		p.line(0, "")
		p.text(2, "There is more to tell than an explanation holds.")
	}
	p.line(0, "")
	p.text(2, v.paint(dim, "rules "+x.Verdict.Policy.Short()+"  data "+x.Verdict.Data.Short()))
}

func answer(allow bool) string {
	if allow {
		return "a yes"
	}
	return "a no"
}

// sheet prints within the terminal's width.
type sheet struct{ *view }

func (p sheet) line(in int, s string) {
	fmt.Fprintf(p.w, "%s\n", strings.TrimRight(strings.Repeat(" ", in)+s, " "))
}

// text wraps at spaces; what has none is left long. An escape has no width.
func (p sheet) text(in int, s string) {
	width, line, n := max(30, p.width-in), "", 0
	for _, word := range strings.Fields(s) {
		w := visible(word)
		if n > 0 && n+1+w > width {
			p.line(in, line)
			line, n = "", 0
		}
		if n > 0 {
			line, n = line+" ", n+1
		}
		line, n = line+word, n+w
	}
	p.line(in, line)
}

func visible(s string) int {
	n := utf8.RuneCountInString(s)
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return n
		}
		end := strings.IndexByte(s[i:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		s = s[i+end+1:]
	}
}

func (p sheet) label(l policy.Label, allowed bool) {
	if allowed {
		at := ""
		if len(l.Rules) > 0 {
			at = fmt.Sprintf("  %s:%d", l.Rules[0].File, l.Rules[0].Line)
		}
		if l.Name != "" {
			p.line(2, p.paint(bold, l.Name)+p.paint(cyan, at)+"  "+l.Title)
			return
		}
	}
	p.line(0, "")
	if l.Name != "" {
		p.line(2, p.paint(bold, l.Name)+"  "+l.Title)
	}
	if l.Reason != "" {
		p.text(4, l.Reason)
	}
	for i, r := range l.Rules {
		if i > 0 && !r.Held {
			p.line(4, p.paint(dim, "or"))
		}
		p.rule(4, r, allowed)
	}
	if len(l.Rules) == 0 && l.Name != "" {
		p.text(4, p.paint(dim, "no rule of the bundle has this label"))
	}
}

func (p sheet) rule(in int, r policy.RuleTrace, allowed bool) {
	did := "did not hold"
	if r.Held {
		did = "held"
	}
	head := fmt.Sprintf("%s  %s %s", p.paint(cyan, fmt.Sprintf("%s:%d", r.File, r.Line)), strings.TrimPrefix(r.Rule, "data."), did)
	if r.Title != "" && in > 4 {
		head += p.paint(dim, ": "+r.Title)
	}
	p.text(in, head)
	for _, c := range r.Conditions {
		p.condition(in+2, c, r.Line, r.Held)
	}
	if r.Held && !allowed && len(r.Conditions) > 0 && r.Conditions[len(r.Conditions)-1].Why == nil {
		p.text(in+2, p.paint(green, "for a yes:")+" one of these must not be so any more")
	}
}

func (p sheet) condition(in int, c policy.Condition, line int, held bool) {
	at := ""
	if c.Line != line {
		at = fmt.Sprintf("line %d  ", c.Line)
	}
	mark := p.paint(red, "✗ ")
	if c.Holds {
		mark = p.paint(yellow, "✓ ")
	}
	p.text(in, mark+p.paint(dim, at)+p.paint(bold, c.Text))
	p.values(in+4, c.Values)
	if c.Wants != "" && len(c.Why) == 0 {
		p.text(in+2, p.paint(green, "for a yes:")+" "+c.Wants)
	}
	for i, r := range c.Why {
		if i > 0 && !r.Held {
			p.line(in+2, p.paint(dim, "and"))
		}
		p.rule(in+2, r, held)
	}
}

func (p sheet) values(in int, values []policy.Value) {
	width := 0
	for _, v := range values {
		width = max(width, min(utf8.RuneCountInString(v.Name), 40))
	}
	for _, v := range values {
		s := v.Value
		if v.Undefined {
			s = "(nothing)"
		}
		room := max(30, p.width-in-max(width, utf8.RuneCountInString(v.Name))-3)
		p.line(in, fmt.Sprintf("%-*s = %s", width, v.Name, clip(s, room)))
	}
}
