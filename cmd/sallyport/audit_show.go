package main

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/witness"
	"sallyport/gateway"
)

type auditShowCmd struct {
	Seq    uint64 `arg:"" help:"The record's number."`
	Detail bool   `help:"Also print what the step itself had to say: a decision's input and verdict, measured risk, …"`
	reading
}

func (auditShowCmd) Help() string {
	return `One record explained: what was decided and by which rules, who asked for what and why, what happened to the same job before and after, and the proof that the record is in the log, checked here. That you looked is itself recorded.

  sallyport audit show 17
  sallyport audit show 17 --detail --why "case 12"
  sallyport policy explain 17                  # the rules, line by line`
}

// shown is what audit show prints as JSON: a record, what explains it, and what
// its proof was found to show.
type shown struct {
	gateway.Shown
	Size     uint64              `json:"size"` // records of the tree that it was proved to be in
	Root     string              `json:"root"`
	Cosigned []audit.Cosignature `json:"cosigned"` // of the latest cosigned checkpoint that covers it
}

func (c auditShowCmd) Run(a *app) error {
	l, err := a.readLog(c.reading)
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := l.Show(c.Seq)
	if err != nil {
		return err
	}
	out, err := a.proved(s, c.DB)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(out)
	}
	showRecord(newView(a), out, c.Detail)
	return nil
}

// proved checks a record's proof here, and looks for witnesses.
func (a *app) proved(s gateway.Shown, db string) (shown, error) {
	out := shown{Shown: s, Cosigned: []audit.Cosignature{}}
	path, err := audit.ParseHashes(s.Path)
	if err != nil {
		return out, err
	}
	p, err := (audit.Proof{Extra: []byte(s.Leaf), Index: s.Record.Seq, Path: path, Checkpoint: s.Signed}).Check(audit.Trust{VerifierKey: s.Key})
	if err != nil {
		return out, err
	}
	out.Size, out.Root = p.Checkpoint.Size, base64.StdEncoding.EncodeToString(p.Checkpoint.Root[:])
	cfg, err := loadConfig(a.config)
	if err != nil {
		return out, nil
	}
	kept, err := witness.ReadKept(witness.Kept(cmp.Or(db, cfg.path(cfg.Audit))))
	if err != nil || kept == "" {
		return out, nil
	}
	var keys []audit.WitnessKey
	for _, by := range cfg.Witness.By {
		if k, err := audit.ParseWitnessKey(by.Key); err == nil {
			keys = append(keys, k)
		}
	}
	if cp, cosigs, err := audit.ParseCosigned(kept, s.Key, keys); err == nil && s.Record.Seq < cp.Size {
		out.Cosigned = nonNilList(cosigs)
	}
	return out, nil
}

// showRecord prints a record for people.
func showRecord(v *view, s shown, detail bool) {
	p, r, e := sheet{v}, s.Record, s.Record.Entry
	p.line(0, v.paint(bold, fmt.Sprintf("Record %d", r.Seq))+v.paint(dim, fmt.Sprintf("  %s, %s, %s", e.Step, e.Phase, clock(e.Time))))
	switch {
	case noContent(r) != "":
		p.line(0, v.paint(yellow, strings.Trim(noContent(r), "()"))+"; its place in the log is proved all the same")
	case e.Decision == "allow":
		p.line(0, v.paint(green, "ALLOWED"))
	case e.Decision == "deny":
		p.line(0, v.paint(red, "DENIED"))
	case e.Decision != "":
		p.line(0, v.paint(red, strings.ToUpper(e.Decision)))
	}
	for _, why := range e.Reasons {
		p.text(2, why)
	}
	p.line(0, "")
	about := func(more ...string) string {
		more = slices.DeleteFunc(more, func(s string) bool { return s == "" })
		return strings.Join(more, ", ")
	}
	and := func(word, of string) string {
		if of == "" {
			return ""
		}
		return word + of
	}
	cost := ""
	if e.Cost != 0 {
		cost = e.Cost.String()
	}
	who := e.Subject
	if in := about(strings.Join(e.Roles, ", "), e.Credential); in != "" && who != "" {
		who += " (" + in + ")"
	}
	pairs(v.w, "who", who, "what", about(and("dataset ", e.Dataset), strings.Join(e.Objects, " "), and("columns ", strings.Join(e.Columns, " "))),
		"why", about(e.Purpose, and("project ", e.Project), and("job ", string(e.Job))), "where", about(string(e.Destination), and("node ", e.Node)),
		"rules", strings.Join(e.Rules, "\n"), "policy", string(e.Policy), "data", string(e.Data), "key", e.Lease, "asked", string(e.Request),
		"result", string(e.Result), "cost", cost, "trace", e.Trace)
	if len(s.Timeline) > 1 {
		p.line(0, "")
		p.line(0, v.paint(bold, "What happened to "+string(e.Job)))
		if s.Earlier {
			p.line(4, v.paint(dim, "… earlier: sallyport audit ls --job "+string(e.Job)))
		}
		for _, t := range s.Timeline {
			said := about(t.Entry.Step, string(t.Entry.Phase), t.Entry.Decision, noContent(t), strings.Join(t.Entry.Reasons, "; "))
			line := fmt.Sprintf("%6d  %s  %s", t.Seq, t.Entry.Time.Local().Format(time.TimeOnly), clip(said, max(30, v.width-24)))
			if t.Seq == r.Seq {
				p.line(2, v.paint(cyan, "→ "+line))
				continue
			}
			p.line(4, line)
		}
		if s.Later {
			p.line(4, v.paint(dim, "… later: sallyport audit ls --job "+string(e.Job)))
		}
	}
	p.line(0, "")
	p.line(0, v.paint(bold, "Proof"))
	p.line(2, fmt.Sprintf("in the tree of %d records with root %s", s.Size, s.Root))
	p.line(2, fmt.Sprintf("checked here, by %d hashes and the signature of %s", len(s.Path), clip(s.Key, 60)))
	if len(s.Cosigned) == 0 {
		p.line(2, v.paint(dim, "no witness has cosigned it yet"))
	}
	for _, w := range s.Cosigned {
		p.line(2, fmt.Sprintf("cosigned by %s at %s", w.Witness, clock(w.Time)))
	}
	p.line(0, "")
	p.line(0, v.paint(bold, "Review"))
	if s.Reviewed == nil {
		p.line(2, "nobody signed for it yet")
	} else {
		p.text(2, fmt.Sprintf("%s signed for records %d to %d at %s: %s", s.Reviewed.Name, s.Reviewed.From, s.Reviewed.To-1, clock(s.Reviewed.Time), s.Reviewed.Meaning))
	}
	for _, m := range s.Marks {
		p.text(2, fmt.Sprintf("%s by %s at %s: %s", m.Kind, m.By, clock(m.Time), m.Text))
	}
	switch {
	case len(e.Detail) == 0:
	case !detail:
		p.line(0, "")
		p.line(0, v.paint(dim, fmt.Sprintf("The step has %d bytes more to say: --detail", len(e.Detail))))
	default:
		var b bytes.Buffer
		if json.Indent(&b, e.Detail, "", "  ") == nil {
			fmt.Fprintf(v.w, "\n%s\n", b.Bytes())
		}
	}
}
