package csv_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/formattest"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct{ name, value, says string }{
		{"separator", ",", "unknown option"},
		{"delimiter", "", "delimiter"}, {"delimiter", "ab", "delimiter"}, {"delimiter", "é", "delimiter"}, {"delimiter", "\n", "delimiter"},
		{"delimiter", `\x00`, "delimiter"}, {"delimiter", `\x80`, "delimiter"}, {"delimiter", `\xzz`, "delimiter"},
		{"delimiter", `"`, "delimiter and quote"}, {"quote", "both", "quote"}, {"escape", "slash", "escape"}, {"comment", "//", "comment"},
		{"header", "maybe", "header"}, {"encoding", "klingon", "encoding"}, {"encoding", "utf-7", "encoding"}, {"encoding", "iso-2022-jp", "encoding"},
		{"encoding", "csISO2022JP", "encoding"}, {"encoding", "hz-gb-2312", "encoding"}, {"encoding", "replacement", "encoding"}, {"encoding", "", "encoding"},
	} {
		_, err := csv.New().With(map[string]string{c.name: c.value})
		if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), c.says) || sallyport.HintOf(err) == "" {
			t.Errorf("%s=%s: %v (%s)", c.name, c.value, err, sallyport.HintOf(err))
		}
	}
	if _, err := csv.New().With(map[string]string{"escape": "backslash", "quote": `\`}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("one character for two things: %v", err)
	}
	for _, name := range []string{"windows-1252", "Windows-1252", "cp1252", "latin1", "latin-1", "ISO-8859-1", "iso-8859-15", "windows-1251", "koi8-r", "IBM850", "macintosh",
		"shift_jis", "euc-jp", "gbk", "gb18030", "big5", "euc-kr", "utf-16le", "UTF-16BE", "utf-16", "utf-32le", "UTF-8", "us-ascii"} {
		if _, err := csv.New().With(map[string]string{"encoding": name}); err != nil {
			t.Errorf("encoding=%s: %v", name, err)
		}
	}
	// Latin-1 is not Windows-1252: byte 0x80 is a control character, not the euro.
	for name, want := range map[string]string{"iso-8859-1": "\u0080", "windows-1252": "€"} {
		r := &formattest.Recorder{}
		if err := tuned(t, "encoding="+name)().Rewrite(t.Context(), io.Discard, strings.NewReader("a,b\n1,\x80\n"), r); err != nil || r.Records[0][1] != want {
			t.Errorf("%s: %v, %q", name, err, r.Records)
		}
	}
	if f, err := csv.New().With(nil); err != nil || f.Sniff([]byte("one column\n")) {
		t.Errorf("no options: %v", err)
	}
}

func TestSniff(t *testing.T) {
	utf16Text := utf16(binary.LittleEndian, "\ufeffa,b\n1,2\n"+strings.Repeat("3,日\n", 2000))
	for _, c := range []struct {
		about, options, head string
		want                 bool
	}{
		{"Latin-1: Rewrite says what to declare", "", "name,b\nM\xfcller,2\n", true},
		{"UTF-16", "", string(utf16Text[:4096]), true},
		{"UTF-16, an odd number of bytes", "", string(utf16Text[:4095]), true},
		{"zstd", "", string(zstandard(strings.Repeat("a,b\n", 100_000))[:60]), true},
		{"gzip, cut off", "", string(gzipped(strings.Repeat("a,b\n1,2\n", 100_000))[:500]), true},
		{"a header that is longer", "", strings.Repeat("abcdefgh;", 455) + "a", true},
		{"a header in quotes that is longer", "", strings.Repeat(`"a;b";`, 682) + `"a;`, true},
		{"names in brackets", "", "[a],{b}\n1,2\n", true},
		{"one in braces", "", "{id},name\n1,2\n", true},
		{"one column", "", "name\nx\n", false},
		{"one column, declared", "header=yes", "name\nx\n", true},
		{"ragged, declared", "delimiter=comma", "a,b\n1,2,3\n", true},
		{"JSON Lines, declared", "delimiter=comma", "{\"a\":1,\"b\":2}\n", false},
		{"binary, declared", "delimiter=comma", "a,b\n\x00\x01", false},
		{"nothing, declared", "delimiter=comma", "", false},
		{"a control character as delimiter", `delimiter=\x01`, "a\x01b\n1\x012\n", true},
		{"the same, not declared", "", "a\x01b\n1\x012\n", false},
		{"JSON that is not declared so", "comment=hash", "# {\na,b\n1,2\n", true},
	} {
		if got := tuned(t, c.options)().Sniff([]byte(c.head)); got != c.want {
			t.Errorf("%s: %v", c.about, got)
		}
	}
}

// The hint for what was not declared names the option.
func TestHintsNameOptions(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"a,b\n\xe4,2\n", "csv;encoding=windows-1252"},
		{string(utf16(binary.LittleEndian, "a,b\n1,2\n")), "csv;encoding=utf-16le"},
		{"a#b,c\n1#2,3\n4,5,6\n", "csv;delimiter="},
	} {
		err := csv.New().Rewrite(t.Context(), io.Discard, strings.NewReader(c.file), pass{})
		if !strings.Contains(sallyport.HintOf(err), c.want) {
			t.Errorf("%v (%s)", err, sallyport.HintOf(err))
		}
	}
}

// dialects are sets of options for the tests below.
var dialects = []string{
	"", "delimiter=tab", "quote=single", "quote=none", "escape=backslash", "escape=backslash quote=none delimiter=comma", "comment=hash",
	"comment=hash escape=backslash header=no", "header=no null=NA,1", "encoding=windows-1252", "encoding=utf-16le", "encoding=shift_jis comment=hash",
}

// FuzzDialects sees to it that in no dialect the seams between chunks or the
// number of workers matter, that what is refused is Invalid, and that what is
// written is read by the format without options, to the same values.
func FuzzDialects(f *testing.F) {
	for i, s := range []string{"a,b\n1,2\n", "a\tb\n\"x\ty\"\t\n", "a,'b'\n'1''',2\n", "a,\"b\n1,2\n", "a,b\n\"\\\"\",\\,\n", "a,b\n\\N,x\\\ny\n", "#\"\na,b\n#\n1,2\n\n",
		"#c\r1,2\r#\r3,\"#\r\"\r", "1,2\nNA,x\n", "a,b\n\x80,\xe4\n", "a\x00,\x00b\x00\n\x00=\x00,\x00", "a,b\n#\x95\\\n\x95\\,2\n"} {
		f.Add([]byte(s), uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		options := dialects[int(which)%len(dialects)]
		format := tuned(t, options)()
		format.Sniff(data)
		got := &formattest.Recorder{}
		var out bytes.Buffer
		err := format.Rewrite(t.Context(), &out, bytes.NewReader(data), got)
		if err != nil && sallyport.KindOf(err) != sallyport.Invalid {
			t.Fatalf("refused, but not as Invalid: %v", err)
		}
		for _, workers := range []int{1, 3} {
			var slow bytes.Buffer
			m := many{&sync.Mutex{}, map[string]int{}, new(int), "\x00"}
			slowErr := csv.InBlocks(format, 8, workers).Rewrite(t.Context(), &slow, oneByte{bytes.NewReader(data)}, m)
			if (err == nil) != (slowErr == nil) || err != nil && err.Error() != slowErr.Error() {
				t.Fatalf("%s: at once: %v; in small blocks: %v", options, err, slowErr)
			}
			if err == nil && !bytes.Equal(out.Bytes(), slow.Bytes()) {
				t.Fatalf("%s: at once %q; in small blocks %q", options, out.Bytes(), slow.Bytes())
			}
		}
		if err != nil {
			return
		}
		again := &formattest.Recorder{}
		if err := csv.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(out.Bytes()), again); err != nil {
			// Two names may be one when they have got an apostrophe.
			if strings.Contains(err.Error(), "same name") {
				return
			}
			t.Fatalf("%s: its output %q is refused: %v", options, out.Bytes(), err)
		}
		all, back := append([][]string{got.Columns}, got.Records...), append([][]string{again.Columns}, again.Records...)
		for _, record := range all {
			for i := range record {
				record[i] = guarded(record[i])
			}
		}
		if !slices.EqualFunc(all, back, slices.Equal[[]string]) {
			t.Fatalf("%s: we read %q; of its output, %q", options, all, back)
		}
	})
}

// TestDialects writes random tables in random dialects, by a writer that was
// made for nothing else, and reads them back.
func TestDialects(t *testing.T) {
	encodings := map[string]struct {
		how     encoding.Encoding
		letters []string
	}{
		"utf-8":        {encoding.Nop, []string{"é", "日", "𝄞"}},
		"windows-1252": {charmap.Windows1252, []string{"é", "€", "ß"}},
		"shift_jis":    {japanese.ShiftJIS, []string{"表", "日", "ｱ"}},                                      // the first ends in a byte that is a backslash elsewhere
		"utf-16le":     {unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), []string{"é", "਍", "𝄞"}}, // the second is 0d 0a
		"utf-16":       {unicode.UTF16(unicode.BigEndian, unicode.UseBOM), []string{"∂", "਍", "𝄞"}},
	}
	rapid.Check(t, func(t *rapid.T) {
		w := reference{T: t,
			comma:   rapid.SampledFrom([]string{",", ";", "\t", "|", " ", "~", "\x01"}).Draw(t, "delimiter"),
			mark:    rapid.SampledFrom([]string{`"`, "'", ""}).Draw(t, "quote"),
			escape:  rapid.Bool().Draw(t, "escape"),
			comment: rapid.SampledFrom([]string{"", "#", "%"}).Draw(t, "comment"),
			eol:     rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "line end"),
		}
		name := rapid.SampledFrom([]string{"utf-8", "windows-1252", "shift_jis", "utf-16le", "utf-16"}).Draw(t, "encoding")
		header := rapid.Bool().Draw(t, "header")
		letters := append([]string{"a", "1", w.comma, w.mark, `\`, "\n", "\r", "\r\n", "#", "%", `"`, ",", "NA"}, encodings[name].letters...)
		value := rapid.Custom(func(t *rapid.T) string {
			return w.fit(strings.Join(rapid.SliceOfN(rapid.SampledFrom(letters), 0, 6).Draw(t, "letters"), ""))
		})
		columns := rapid.IntRange(2, 5).Draw(t, "columns")
		var want formattest.Recorder
		for i := range columns {
			want.Columns = append(want.Columns, "c"+strconv.Itoa(i+1))
			if header {
				want.Columns[i] += value.Draw(t, "name")
			}
		}
		var text strings.Builder
		w.comments(&text)
		if header {
			w.record(&text, want.Columns)
		}
		for range rapid.IntRange(1, 8).Draw(t, "records") {
			record := rapid.SliceOfN(value, columns, columns).Draw(t, "record")
			w.comments(&text)
			w.record(&text, record)
			for i := range record {
				if record[i] == "NA" {
					record[i] = ""
				}
			}
			want.Records = append(want.Records, record)
		}
		file, err := encodings[name].how.NewEncoder().Bytes([]byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		options := map[string]string{"delimiter": w.comma, "quote": w.mark, "encoding": name, "null": "NA", "header": "yes", "comment": w.comment}
		if w.mark == "" {
			options["quote"] = "none"
		}
		if w.comment == "" {
			options["comment"] = "none"
		}
		if !header {
			options["header"] = "no"
		}
		if w.escape {
			options["escape"] = "backslash"
		}
		format, err := csv.New().With(options)
		if err != nil {
			t.Fatal(err)
		}
		got := &formattest.Recorder{}
		block := rapid.SampledFrom([]int{8, 50, 1 << 16}).Draw(t, "block")
		if err := csv.InBlocks(format, block, 1).Rewrite(t.Context(), io.Discard, bytes.NewReader(file), got); err != nil {
			t.Fatalf("%v: %q: %v (%s)", options, text.String(), err, sallyport.HintOf(err))
		}
		if !slices.Equal(got.Columns, want.Columns) || !slices.EqualFunc(got.Records, want.Records, slices.Equal[[]string]) {
			t.Fatalf("%v: %q:\nread %q %q\nwant %q %q", options, text.String(), got.Columns, got.Records, want.Columns, want.Records)
		}
	})
}

// reference writes a dialect in every way that it allows.
type reference struct {
	*rapid.T
	comma, mark, comment, eol string
	escape                    bool
}

// end is the byte that ends a line.
func (w reference) end() string { return w.eol[len(w.eol)-1:] }

// fit leaves out of a value what the dialect cannot write.
func (w reference) fit(v string) string {
	if w.mark == "" {
		v = strings.ReplaceAll(v, "\r\n", "")
		for _, c := range []string{"\n", "\r", w.comma} {
			if !w.escape || c != w.end() && c != w.comma {
				v = strings.ReplaceAll(v, c, "")
			}
		}
		if w.comment != "" {
			v = strings.ReplaceAll(v, w.comment, "")
		}
	}
	return v
}

func (w reference) comments(b *strings.Builder) {
	for w.comment != "" && rapid.IntRange(0, 3).Draw(w.T, "comment?") == 0 {
		b.WriteString(w.comment + rapid.SampledFrom([]string{"", `it's "so"`, `\`, w.comma}).Draw(w.T, "comment") + w.eol)
	}
}

func (w reference) record(b *strings.Builder, fields []string) {
	for i, f := range fields {
		if i > 0 {
			b.WriteString(w.comma)
		}
		quote := w.mark != "" && (rapid.Bool().Draw(w.T, "quote?") || !w.escape && strings.ContainsAny(f, w.comma+w.mark+"\r\n") ||
			strings.ContainsAny(f, "\r\n") || i == 0 && w.comment != "" && strings.HasPrefix(f, w.comment))
		if quote {
			b.WriteString(w.mark)
		}
		for _, c := range f {
			s := string(c)
			switch {
			case w.escape && s == `\`, w.escape && s == w.mark && (!quote || rapid.Bool().Draw(w.T, "escape?")),
				w.escape && !quote && (s == w.comma || s == w.end()):
				b.WriteString(`\`)
			case quote && s == w.mark:
				b.WriteString(s)
			}
			b.WriteString(s)
		}
		if quote {
			b.WriteString(w.mark)
		}
	}
	b.WriteString(w.eol)
}

// A table of 100,000 columns passes, in memory that such rows need.
func TestManyColumns(t *testing.T) {
	const columns = 100_000
	var file strings.Builder
	for row := range 20 {
		for i := range columns {
			if i > 0 {
				file.WriteByte(',')
			}
			if row == 0 {
				file.WriteByte('g')
			}
			file.WriteString(strconv.Itoa(i))
		}
		file.WriteByte('\n')
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := &counting{}
	if err := csv.New().Rewrite(t.Context(), out, strings.NewReader(file.String()), pass{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if out.n != int64(file.Len()) {
		t.Errorf("%d bytes in, %d out", file.Len(), out.n)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 96<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
}

type counting struct{ n int64 }

func (c *counting) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }
