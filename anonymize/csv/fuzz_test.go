package csv_test

import (
	"bytes"
	stdcsv "encoding/csv"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/formattest"
)

// FuzzAgainstStandard holds the tokenizer against encoding/csv: what we accept,
// it reads alike; what we write, it reads back; in what pieces the bytes arrive
// changes nothing; and what we refuse is refused as Invalid.
func FuzzAgainstStandard(f *testing.F) {
	for _, s := range []string{
		"a,b\n1,2\n", "a;b\r\n1;\"2\"\r\n", "\ufeffa\tb\n1\t\"x\ty\"\n", "a|b\n\"\"\"\"|\n", "a,b\n\"1\n2\",3", "a\n\"\"\n",
		"a,b\n1\n", "a,b\n1,\"2\n", "a,b\n1,2\"\n", "a,b\n\n", "=a,b\n+1,-x\n", "a\r\nb\r", "\"a\"\"\",b\n1,2\n\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := &formattest.Recorder{}
		var out bytes.Buffer
		err := csv.New().Rewrite(t.Context(), &out, bytes.NewReader(data), got)

		slow := &formattest.Recorder{}
		var slowOut bytes.Buffer
		slowErr := csv.NewWith(8, 1).Rewrite(t.Context(), &slowOut, oneByte{bytes.NewReader(data)}, slow)
		if (err == nil) != (slowErr == nil) || err != nil && err.Error() != slowErr.Error() {
			t.Fatalf("at once: %v; in small blocks: %v", err, slowErr)
		}
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatalf("refused, but not as Invalid: %v", err)
			}
			return
		}
		if !bytes.Equal(out.Bytes(), slowOut.Bytes()) {
			t.Fatalf("at once %q; in small blocks %q", out.Bytes(), slowOut.Bytes())
		}

		if !utf8.Valid(data) || carriageReturns(data) {
			return // encoding/csv knows no other encoding and no such lines; FuzzDialects sees to them
		}
		want := standard(t, bytes.TrimPrefix(data, []byte("\ufeff")), comma(got, data))
		all := append([][]string{got.Columns}, got.Records...)
		if !slices.EqualFunc(all, want, equalButCR) {
			t.Fatalf("we read %q, encoding/csv %q", all, want)
		}
		for _, record := range all {
			for i := range record {
				record[i] = guarded(record[i])
			}
		}
		if back := standard(t, out.Bytes(), comma(&formattest.Recorder{Columns: all[0]}, out.Bytes())); !slices.EqualFunc(back, all, equalButCR) {
			t.Fatalf("written %q, read back %q", all, back)
		}
	})
}

type oneByte struct{ *bytes.Reader }

func (o oneByte) Read(b []byte) (int, error) { return iotest.OneByteReader(o.Reader).Read(b) }

// standard reads data with encoding/csv.
func standard(t *testing.T, data []byte, comma rune) [][]string {
	t.Helper()
	r := stdcsv.NewReader(bytes.NewReader(data))
	r.Comma = comma
	records, err := r.ReadAll()
	if err != nil {
		t.Fatalf("encoding/csv refuses %q: %v", data, err)
	}
	return records
}

// equalButCR compares records as encoding/csv sees them: it reads CRLF inside
// quotes as LF.
func equalButCR(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool {
		return strings.ReplaceAll(x, "\r\n", "\n") == strings.ReplaceAll(y, "\r\n", "\n")
	})
}

// carriageReturns reports whether a line of data, which was accepted, ends with
// that alone.
func carriageReturns(data []byte) bool {
	quoted := false
	for i, c := range data {
		if c == '"' {
			quoted = !quoted
		}
		if c == '\r' && !quoted && i+1 < len(data) && data[i+1] != '\n' {
			return true
		}
	}
	return false
}

// comma finds the delimiter that gives the header that we read.
func comma(r *formattest.Recorder, data []byte) rune {
	for _, c := range ",;\t|" {
		s := stdcsv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		s.Comma = c
		if header, err := s.Read(); err == nil && equalButCR(header, r.Columns) {
			return c
		}
	}
	return ','
}

// guarded is the formula rule, written once more and otherwise.
func guarded(s string) string {
	if s == "" || !strings.ContainsRune("=@+-\t\r", rune(s[0])) || s == "+" || s == "-" {
		return s
	}
	number := strings.TrimLeft(s[:1], "+-") == ""
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(s[1:]), "e")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	number = number && digits(strings.Replace(strings.Replace(mantissa, ",", ".", 1), ".", "", 1))
	if hasExponent {
		if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
			exponent = exponent[1:]
		}
		number = number && digits(exponent)
	}
	if number {
		return s
	}
	return "'" + s
}
