package export

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
)

// syslogData is the ID of the structured data that carries a record. RFC 5424
// wants the number of an enterprise in it; 32473 is the one that RFC 5612 keeps
// for those who have none.
const syslogData = "audit@32473"

// facilityAudit is "log audit" (RFC 5424, table 1).
const facilityAudit = 13

const (
	severityError   = 3
	severityWarning = 4
	severityInfo    = 6
)

// maxValue is the most bytes of one value in a syslog or CEF line: receivers
// need not take more than 8 KiB in all. The log has the rest.
const maxValue = 1024

// Syslog writes one message a record as RFC 5424 says, each on a line: control
// characters are replaced by their pictures, so that none breaks a line. Details
// are left out, values are cut at 1 KiB; the leaf names the record in the log.
// The first message, of MSGID export, says what was asked for.
func Syslog(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	return each(w, recs,
		func(b *bufio.Writer) error { return line(b, SyslogAbout(a)) },
		func(b *bufio.Writer, r audit.Record) error { return line(b, SyslogMessage(a, r)) }, nil)
}

func line(b *bufio.Writer, s string) error {
	b.WriteString(s)
	return b.WriteByte('\n')
}

// SyslogAbout is the message that begins a stream, without a line's end.
func SyslogAbout(a About) string {
	return syslogLine(severityInfo, a.At, a, "export", [][2]string{{"by", a.By}, {"asked", a.Asked.String()}, {"size", strconv.FormatUint(a.Size, 10)},
		{"root", a.Root}, {"key", a.Key}}, "records of the audit log of "+a.Origin+": "+a.Asked.String())
}

// SyslogMessage is the message of one record, without a line's end.
func SyslogMessage(a About, r audit.Record) string {
	e := r.Entry
	severity := severityInfo
	switch e.Decision {
	case "deny":
		severity = severityWarning
	case "error":
		severity = severityError
	}
	return syslogLine(severity, e.Time, a, e.Step, append([][2]string{{"seq", strconv.FormatUint(r.Seq, 10)}}, values(r)...), said(r))
}

// values are what a record says, by name, without what is empty in it.
func values(r audit.Record) [][2]string {
	e := r.Entry
	cost := ""
	if e.Cost != 0 {
		cost = e.Cost.String()
	}
	var out [][2]string
	for _, v := range [][2]string{{"phase", string(e.Phase)}, {"job", string(e.Job)}, {"subject", e.Subject}, {"credential", e.Credential}, {"roles", join(e.Roles)},
		{"project", e.Project}, {"purpose", e.Purpose}, {"dataset", e.Dataset}, {"objects", join(e.Objects)}, {"columns", join(e.Columns)}, {"decision", e.Decision},
		{"reasons", join(e.Reasons)}, {"rules", join(e.Rules)}, {"policy", string(e.Policy)}, {"data", string(e.Data)}, {"lease", e.Lease}, {"node", e.Node},
		{"destination", string(e.Destination)}, {"request", string(e.Request)}, {"result", string(e.Result)}, {"trace", e.Trace}, {"cost", cost},
		{"state", stateOf(r)}, {"leaf", string(r.Leaf)}} {
		if v[1] != "" {
			out = append(out, v)
		}
	}
	return out
}

func syslogLine(severity int, at time.Time, a About, msgID string, data [][2]string, msg string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s sallyport - %s [%s", facilityAudit*8+severity, at.UTC().Format("2006-01-02T15:04:05.000000Z"),
		printable(a.Origin, 255), printable(msgID, 32), syslogData)
	for _, v := range data {
		b.WriteString(" " + v[0] + `="` + escapeParam(clip(plain(v[1]), maxValue)) + `"`)
	}
	fmt.Fprintf(&b, `][origin software="sallyport" swVersion="%s"] `, escapeParam(clip(plain(a.Version), 32)))
	b.WriteString("\uFEFF" + clip(plain(msg), 2*maxValue)) // the mark says that the text is UTF-8
	return b.String()
}

// printable makes a header field: printable ASCII without spaces, or "-".
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s = s[:min(len(s), most)]; s == "" {
		return "-"
	}
	return s
}

// escapeParam writes a PARAM-VALUE (RFC 5424, 6.3.3).
func escapeParam(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(s)
}
