package export

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
)

// csvColumns are fixed: columns may be added at the end, never moved.
var csvColumns = [...]string{"seq", "time", "step", "phase", "job", "subject", "credential", "roles", "project", "purpose", "dataset", "objects",
	"columns", "decision", "reasons", "rules", "policy", "data", "lease", "node", "destination", "request", "result", "trace", "cost", "state", "leaf", "detail"}

// CSV writes a table as RFC 4180 says, in UTF-8: the names of the columns, a
// row of step "export" without a number that says in its detail what was asked
// for, and one row a record. Lists are joined with "; ".
//
// A cell that a spreadsheet would take for a formula, because it begins with
// = + - @ or a control character, gets a ' before it, which spreadsheets do
// not show (OWASP, CSV Injection). [Uncell] takes it off again.
func CSV(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	var c *csv.Writer
	row := func(cells ...string) error {
		for i, s := range cells {
			cells[i] = Cell(s)
		}
		return c.Write(cells)
	}
	return each(w, recs, func(b *bufio.Writer) error {
		c = csv.NewWriter(b)
		c.UseCRLF = true
		about, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if err := c.Write(csvColumns[:]); err != nil {
			return err
		}
		cells := make([]string, len(csvColumns))
		cells[1], cells[2], cells[3], cells[5], cells[len(cells)-1] = stamp(a.At), "export", string(audit.Note), a.By, string(about)
		return row(cells...)
	}, func(_ *bufio.Writer, r audit.Record) error {
		e := r.Entry
		cost := ""
		if e.Cost != 0 {
			cost = e.Cost.String()
		}
		return row(strconv.FormatUint(r.Seq, 10), stamp(e.Time), e.Step, string(e.Phase), string(e.Job), e.Subject, e.Credential, join(e.Roles), e.Project,
			e.Purpose, e.Dataset, join(e.Objects), join(e.Columns), e.Decision, join(e.Reasons), join(e.Rules), string(e.Policy), string(e.Data), e.Lease,
			e.Node, string(e.Destination), string(e.Request), string(e.Result), e.Trace, cost, stateOf(r), string(r.Leaf), string(e.Detail))
	}, func(*bufio.Writer, Summary) error {
		c.Flush()
		return c.Error()
	})
}

func join(list []string) string { return strings.Join(list, "; ") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Cell makes a text safe to open in a spreadsheet.
func Cell(s string) string {
	// Readers of CSV may make one line break of the two kinds.
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	if s != "" && (strings.ContainsRune("=+-@'", rune(s[0])) || s[0] < 0x20 || strings.HasPrefix(s, "＝") || strings.HasPrefix(s, "＋") ||
		strings.HasPrefix(s, "－") || strings.HasPrefix(s, "＠")) {
		return "'" + s
	}
	return s
}

// Uncell undoes [Cell], for readers that are no spreadsheet.
func Uncell(s string) string { return strings.TrimPrefix(s, "'") }
