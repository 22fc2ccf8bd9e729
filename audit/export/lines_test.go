package export

import (
	"encoding/csv"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport/audit"
)

// formula is how a spreadsheet tells a formula.
func formula(s string) bool { return s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) }

func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "a", "=1+1", "+1", "-1", "@x", "\tx", "'x", "a\"b", "a,b", "a\nb", "a\r\nb", "\r", "\xff", "＝1", "''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := audit.Record{Entry: audit.Entry{Time: testTime, Step: "admit", Phase: audit.Note, Subject: s}}
		out, _ := exported(t, CSV, []audit.Record{r})
		if !utf8.ValidString(out) {
			t.Fatal("not UTF-8")
		}
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 3 {
			t.Fatalf("%d rows", len(rows))
		}
		for _, row := range rows {
			if len(row) != len(csvColumns) {
				t.Fatalf("%d columns", len(row))
			}
			for _, cell := range row {
				if formula(cell) {
					t.Fatalf("%q is a formula", cell)
				}
			}
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(s, "\uFFFD"))
		if got := Uncell(rows[2][5]); got != want {
			t.Fatalf("%q came back as %q", want, got)
		}
	})
}

var syslogForm = regexp.MustCompile(`^<(1(?:0[4-9]|1[01]))>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) sallyport - ([!-~]{1,32}) `)

// parseSyslog reads a line as RFC 5424, section 6, says.
func parseSyslog(t *testing.T, l string) (msgID string, params map[string]string, msg string) {
	t.Helper()
	m := syslogForm.FindStringSubmatch(l)
	if m == nil {
		t.Fatalf("%q is no message of RFC 5424", l)
	}
	rest := l[len(m[0]):]
	params = map[string]string{}
	for strings.HasPrefix(rest, "[") {
		id, after, _ := strings.Cut(rest[1:], " ")
		if !regexp.MustCompile(`^[!#-<>-\\^-~]{1,32}$`).MatchString(id) {
			t.Fatalf("SD-ID %q", id)
		}
		rest = " " + after
		for strings.HasPrefix(rest, " ") {
			name, after, ok := strings.Cut(rest[1:], `="`)
			if !ok || len(name) > 32 || strings.ContainsAny(name, ` ="]`) {
				t.Fatalf("PARAM-NAME %q", name)
			}
			var v strings.Builder
			i := 0
			for ; after[i] != '"'; i++ {
				if after[i] == '\\' && strings.IndexByte(`"\]`, after[i+1]) >= 0 {
					i++
				} else if after[i] == ']' {
					t.Fatalf("an ] stands unescaped in %q", l)
				}
				v.WriteByte(after[i])
			}
			params[name] = v.String()
			rest = after[i+1:]
		}
		if !strings.HasPrefix(rest, "]") {
			t.Fatalf("structured data ends with %q", rest)
		}
		rest = rest[1:]
	}
	msg, ok := strings.CutPrefix(rest, " \uFEFF")
	if !ok {
		t.Fatalf("the message of %q does not begin with a byte order mark", l)
	}
	return m[4], params, msg
}

// parseCEF reads a line as the guide to CEF says: seven fields, pairs.
func parseCEF(t *testing.T, l string) (header []string, ext map[string]string) {
	t.Helper()
	var field strings.Builder
	i := 0
	for ; i < len(l) && len(header) < 7; i++ {
		switch {
		case l[i] == '\\':
			i++
			field.WriteByte(l[i])
		case l[i] == '|':
			header = append(header, field.String())
			field.Reset()
		default:
			field.WriteByte(l[i])
		}
	}
	if len(header) != 7 || header[0] != "CEF:0" {
		t.Fatalf("%q is no CEF: %q", l, header)
	}
	ext = map[string]string{}
	rest := l[i:]
	// A key is what stands between a space and an = that is not escaped.
	keys := regexp.MustCompile(`(?:^| )([A-Za-z0-9]+)=`)
	for rest != "" {
		m := keys.FindStringSubmatchIndex(rest)
		if m == nil || m[0] != 0 {
			t.Fatalf("no key at %q", rest)
		}
		key := rest[m[2]:m[3]]
		rest = rest[m[1]:]
		end := len(rest)
		if n := keys.FindStringIndex(rest); n != nil {
			end = n[0]
			if end == 0 && rest[0] != ' ' {
				t.Fatalf("an = stands unescaped at %q", rest)
			}
		}
		v := rest[:end]
		if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(v, `\\`, ""), `\=`, ""), "=") {
			t.Fatalf("an = stands unescaped in %q", v)
		}
		ext[key] = strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n").Replace(v)
		rest = rest[end:]
	}
	return header, ext
}

// cut is what a value becomes on a line.
func cut(s string) string { return clip(plain(s), maxValue) }

func FuzzSyslog(f *testing.F) {
	for _, s := range []string{"a", `"`, `\`, `]`, `\"]`, "a\nb", "a b=\"c\"", "\xff", "\u2028", "x\x00y", `\\`, strings.Repeat("é", 1000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := audit.Entry{Time: testTime, Step: s, Phase: audit.Note, Subject: s, Reasons: []string{s}, Decision: "deny"}
		out, _ := exported(t, Syslog, []audit.Record{{Seq: 7, Entry: e}})
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != 2 || !utf8.ValidString(out) {
			t.Fatalf("%d lines: %q", len(lines), out)
		}
		parseSyslog(t, lines[0])
		_, params, _ := parseSyslog(t, lines[1])
		if params["subject"] != cut(s) || params["reasons"] != cut(s) || params["seq"] != "7" {
			t.Fatalf("%q came back as %q", s, params)
		}
		if len(lines[1]) > 8192 && len(s) < 500 {
			t.Fatalf("a line of %d bytes", len(lines[1]))
		}
	})
}

func FuzzCEF(f *testing.F) {
	for _, s := range []string{"a", `|`, `\`, `=`, `\=`, `a=b c=d`, "a\nb", "a\r\nb", " x ", "\xff", "\x00", `\\n`, `x|y=z\`, strings.Repeat("=", 2000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := audit.Entry{Time: testTime, Step: s, Phase: audit.Note, Subject: s, Dataset: "d", Reasons: []string{"r"}, Decision: "deny"}
		out, _ := exported(t, CEF, []audit.Record{{Seq: 7, Entry: e}})
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != 2 || !utf8.ValidString(out) {
			t.Fatalf("%d lines: %q", len(lines), out)
		}
		parseCEF(t, lines[0])
		header, ext := parseCEF(t, lines[1])
		if header[4] != cut(s) {
			t.Fatalf("step %q came back as %q", s, header[4])
		}
		var want []string
		for l := range strings.SplitSeq(clip(strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\uFFFD"), maxValue), "\n") {
			want = append(want, plain(l))
		}
		if w := strings.TrimRight(strings.Join(want, "\n"), " "); ext["suser"] != w {
			t.Fatalf("%q came back as %q", w, ext["suser"])
		}
		if ext["externalId"] != "7" || ext["cs1"] != "d" || ext["cs1Label"] != "dataset" {
			t.Fatalf("%q", ext)
		}
	})
}
