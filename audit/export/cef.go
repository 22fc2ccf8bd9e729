package export

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"sallyport/audit"
)

// CEF writes one line a record in the ArcSight Common Event Format, version 0:
//
//	CEF:0|sallyport|sallyport|VERSION|STEP|NAME|SEVERITY|EXTENSION
//
// Keys are those of the ArcSight dictionary; what has none there is in the six
// device custom strings, each with its label, and in msg. Details are left out,
// values are cut at 1 KiB. The first line, of step export, says what was asked
// for.
func CEF(w io.Writer, a About, recs iter.Seq2[audit.Record, error]) (Summary, error) {
	return each(w, recs,
		func(b *bufio.Writer) error { return line(b, CEFAbout(a)) },
		func(b *bufio.Writer, r audit.Record) error { return line(b, CEFEvent(a, r)) }, nil)
}

// CEFAbout is the line that begins a stream, without its end.
func CEFAbout(a About) string {
	return cefLine(a, "export", "records of the audit log", 1, [][2]string{{"rt", strconv.FormatInt(a.At.UnixMilli(), 10)}, {"dvchost", a.Origin}, {"suser", a.By},
		{"cs1", a.Root}, {"cs1Label", "root"}, {"cs2", a.Key}, {"cs2Label", "verifier key"}, {"cn1", strconv.FormatUint(a.Size, 10)}, {"cn1Label", "size"},
		{"msg", a.Asked.String()}})
}

// CEFEvent is the line of one record, without its end.
func CEFEvent(a About, r audit.Record) string {
	e := r.Entry
	severity := 1
	outcome := ""
	switch e.Decision {
	case "allow":
		outcome = "success"
	case "deny":
		severity, outcome = 5, "failure"
	case "error":
		severity, outcome = 7, "failure"
	}
	ext := [][2]string{{"externalId", strconv.FormatUint(r.Seq, 10)}, {"rt", strconv.FormatInt(e.Time.UnixMilli(), 10)}, {"dvchost", a.Origin},
		{"cat", string(e.Phase)}, {"suser", e.Subject}, {"spriv", join(e.Roles)}, {"dhost", e.Node}, {"act", e.Decision}, {"outcome", outcome},
		{"reason", join(e.Reasons)}, {"fname", join(e.Objects)}, {"fileHash", string(r.Leaf)}}
	for i, v := range [][2]string{{"dataset", e.Dataset}, {"project", e.Project}, {"purpose", e.Purpose}, {"job", string(e.Job)}, {"rules", join(e.Rules)}, {"policy", string(e.Policy)}} {
		if v[1] != "" {
			key := "cs" + strconv.Itoa(i+1)
			ext = append(ext, [2]string{key, v[1]}, [2]string{key + "Label", v[0]})
		}
	}
	if e.Lease != "" {
		ext = append(ext, [2]string{"flexString1", e.Lease}, [2]string{"flexString1Label", "lease"})
	}
	if e.Trace != "" {
		ext = append(ext, [2]string{"flexString2", e.Trace}, [2]string{"flexString2Label", "trace"})
	}
	return cefLine(a, e.Step, e.Step+" "+string(e.Phase), severity, append(ext, [2]string{"msg", said(r)}))
}

func cefLine(a About, id, name string, severity int, ext [][2]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|sallyport|sallyport|%s|%s|%s|%d|", escapeHeader(a.Version), escapeHeader(id), escapeHeader(name), severity)
	first := true
	for _, v := range ext {
		if v[1] == "" {
			continue
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(v[0] + "=" + escapeExtension(v[1]))
	}
	return b.String()
}

// escapeHeader escapes \ and | in a field before the extension.
func escapeHeader(s string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`).Replace(clip(plain(s), maxValue))
}

// escapeExtension escapes \, = and line breaks in a value of the extension.
// A space at its end would be taken for the one between two pairs.
func escapeExtension(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\uFFFD")
	lines := strings.Split(clip(s, maxValue), "\n")
	for i, l := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `=`, `\=`).Replace(plain(l))
	}
	return strings.TrimRight(strings.Join(lines, `\n`), " ")
}
