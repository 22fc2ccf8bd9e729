// Package export writes records of the audit log in the formats that others
// read: an evidence pack that anybody can check offline, JSON lines, CSV, FHIR
// AuditEvents, OCSF events, an RO-Crate of a project, syslog and CEF.
//
// All writers stream: they hold one record at a time, or one line a job. Each
// says in its output what was asked for, by whom, when, and of which state of
// the log. A record whose content is erased or sealed is written as such, with
// what its leaf says, and counted: it is never left out.
//
// Records hold no value of a dataset. They do name people: who asked, who
// agreed, who decided. What is written here is personal data of theirs.
package export

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode"

	"sallyport"
	"sallyport/audit"
)

// About says what an export is of. It stands in every output.
type About struct {
	Format     string    `json:"format"`
	Asked      Asked     `json:"asked"` // the filter
	At         time.Time `json:"at"`
	By         string    `json:"by"` // who asked for it
	Origin     string    `json:"origin"`
	Size       uint64    `json:"size"` // of the log at that time
	Root       string    `json:"root"` // of its tree, in base64
	Key        string    `json:"key"`  // the log's verifier key
	Checkpoint string    `json:"checkpoint,omitempty"`
	Version    string    `json:"sallyport"` // of the program
}

// NewAbout fills in what a log's signed checkpoint says. key is the log's
// verifier key, by names the person who asked, version the program.
func NewAbout(format, signed, key string, f audit.Filter, at time.Time, by, version string) (About, error) {
	cp, err := audit.ParseCheckpoint(signed, key)
	if err != nil {
		return About{}, err
	}
	return About{Format: format, Asked: asked(f), At: at.UTC().Truncate(time.Second), By: by, Origin: cp.Origin, Size: cp.Size,
		Root: base64.StdEncoding.EncodeToString(cp.Root[:]), Key: key, Checkpoint: signed, Version: version}, nil
}

// Asked is an [audit.Filter] as an export states it. Nothing: all records.
type Asked struct {
	Job      sallyport.JobID `json:"job,omitempty"`
	Dataset  string          `json:"dataset,omitempty"`
	Subject  string          `json:"subject,omitempty"`
	Project  string          `json:"project,omitempty"`
	Node     string          `json:"node,omitempty"`
	Step     string          `json:"step,omitempty"`
	Decision string          `json:"decision,omitempty"`
	Rule     string          `json:"rule,omitempty"`
	Purpose  string          `json:"purpose,omitempty"`
	Lease    string          `json:"lease,omitempty"`
	Text     string          `json:"text,omitempty"`
	Since    *time.Time      `json:"since,omitempty"`
	Until    *time.Time      `json:"until,omitempty"`
	From     uint64          `json:"from,omitempty"`
	Before   uint64          `json:"before,omitempty"`
	Newest   bool            `json:"newest_first,omitempty"`
	Limit    int             `json:"limit,omitempty"`
}

func asked(f audit.Filter) Asked {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return Asked{f.Job, f.Dataset, f.Subject, f.Project, f.Node, f.Step, f.Decision, f.Rule, f.Purpose, f.Lease, f.Text,
		at(f.Since), at(f.Until), f.From, f.Before, f.Newest, f.Limit}
}

// String writes what was asked for in words of the filter.
func (a Asked) String() string {
	b, err := json.Marshal(a)
	if err != nil || string(b) == "{}" {
		return "all records"
	}
	return string(b)
}

// Summary counts what an export holds.
type Summary struct {
	Records uint64  `json:"records"`
	First   *uint64 `json:"first,omitempty"` // numbers of records, lowest and highest
	Last    *uint64 `json:"last,omitempty"`
	Sealed  uint64  `json:"sealed"` // there is a content but no key
	Erased  uint64  `json:"erased"`
	// Missing are policies that an evidence pack names and does not hold.
	Missing []sallyport.Digest `json:"missing_policies,omitempty"`
}

// Count adds a record.
func (s *Summary) Count(r audit.Record) {
	s.Records++
	if s.First == nil || r.Seq < *s.First {
		s.First = &r.Seq
	}
	if s.Last == nil || r.Seq > *s.Last {
		s.Last = &r.Seq
	}
	if r.Sealed {
		s.Sealed++
	}
	if r.Erased != nil {
		s.Erased++
	}
}

// Writer writes records in one format. An error ends it, and what was written
// until then is no export.
type Writer func(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error)

// each calls f for every record. Its writes go through a buffer.
func each(w io.Writer, recs iter.Seq2[audit.Record, error], head func(*bufio.Writer) error, f func(*bufio.Writer, audit.Record) error, tail func(*bufio.Writer, Summary) error) (s Summary, err error) {
	const op = "export"
	b := bufio.NewWriterSize(w, 64<<10)
	if head != nil {
		if err := head(b); err != nil {
			return s, writeError(op, err)
		}
	}
	for r, err := range recs {
		if err != nil {
			return s, err
		}
		if err := f(b, r); err != nil {
			return s, writeError(op, err)
		}
		s.Count(r)
	}
	if tail != nil {
		err = tail(b, s)
	}
	if err == nil {
		err = b.Flush()
	}
	return s, writeError(op, err)
}

func writeError(op string, err error) error {
	if err == nil {
		return nil
	}
	if k := sallyport.KindOf(err); k != sallyport.Internal {
		return err
	}
	return sallyport.E(op, sallyport.Unavailable, err, "Free disk space, or export to another place.")
}

// jsonLine writes v on a line of its own.
func jsonLine(b *bufio.Writer, v any) error {
	js, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b.Write(js)
	return b.WriteByte('\n')
}

// JSONLines writes {"export": …}, one record a line, and {"summary": …}.
func JSONLines(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	return each(w, recs,
		func(b *bufio.Writer) error { return jsonLine(b, map[string]About{"export": a}) },
		func(b *bufio.Writer, r audit.Record) error { return jsonLine(b, r) },
		func(b *bufio.Writer, s Summary) error { return jsonLine(b, map[string]Summary{"summary": s}) })
}

// act is what kind of thing a record speaks of, for formats that tell.
type act int

const (
	other      act = iota
	decided        // by policy, about a dataset
	read           // an object was looked at
	listed         // names were looked at
	written        // something was put in
	disclosed      // data, or the key to it, left the site
	destroyed      // keys or ciphertext were destroyed, or records erased
	changed        // rules, keys or the register were changed
	identified     // somebody was not who they said
	logRead        // the log itself was looked at
)

// kindOf sorts a record by its step. Steps that are not known are other.
func kindOf(r audit.Record) act {
	e := r.Entry
	step := baseStep(e.Step)
	refused := e.Decision == "deny" || e.Decision == "error"
	switch {
	case step == "identify":
		return identified
	case step == "hand over" && e.Phase == audit.Outcome && !refused && leaves(e):
		return disclosed
	case (step == "look" || step == "prepare") && !refused:
		return read
	case step == "list" && !refused:
		return listed
	case e.Decision != "" && e.Policy != "" && e.Dataset != "" && e.Subject != "":
		return decided
	}
	for w := range strings.FieldsSeq(step) {
		switch w {
		case "audit", "log":
			return logRead
		case "destroy", "discard", "expire", "close", "remove", "erase", "retire", "reject", "evict":
			return destroyed
		case "activate", "rotate", "grant", "revoke", "consent", "approve", "withdraw", "rollback", "draft", "exception":
			return changed
		case "upload", "accept", "keep":
			return written
		}
	}
	return other
}

// baseStep takes the number of a further attempt off a step.
func baseStep(step string) string {
	return strings.TrimRightFunc(step, func(r rune) bool { return unicode.IsDigit(r) || r == ' ' })
}

// leaves says whether a hand-over goes to a machine that is not the lab's.
func leaves(e audit.Entry) bool {
	if e.Destination != "" {
		return e.Destination == sallyport.Outside
	}
	var d struct {
		Assignments []struct {
			Task struct {
				Side sallyport.Destination `json:"side"`
			} `json:"task"`
		} `json:"assignments"`
	}
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &d) != nil {
		return false
	}
	for _, a := range d.Assignments {
		if a.Task.Side == sallyport.Outside {
			return true
		}
	}
	return false
}

// said is one line on what a record says, for a person.
func said(r audit.Record) string {
	e := r.Entry
	s := e.Step + " (" + string(e.Phase) + ")"
	if e.Decision != "" {
		s += ": " + e.Decision
	}
	if len(e.Reasons) > 0 {
		s += ": " + strings.Join(e.Reasons, "; ")
	}
	if state := stateOf(r); state != "" {
		s += ": " + state
	}
	return s
}

// stateOf says why a record has no content here.
func stateOf(r audit.Record) string {
	switch {
	case r.Erased != nil:
		return fmt.Sprintf("content erased, as record %d says", *r.Erased)
	case r.Sealed:
		return "content sealed"
	}
	return ""
}

// plain replaces what must not stand in a line of text: control characters
// become their pictures (U+2400 and on), bytes that are no UTF-8 U+FFFD.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x20:
			return 0x2400 + r
		case r == 0x7f:
			return 0x2421
		case r >= 0x80 && r < 0xa0, r == 0x2028, r == 0x2029:
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// clip shortens a text to at most n bytes, on a character's border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n - len("…")
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
