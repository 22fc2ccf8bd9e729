package csv_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	utf16units "unicode/utf16"

	"sallyport/anonymize"
	"sallyport/anonymize/codec"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/formattest"
)

var long = strings.Repeat("long name ", 50)

// tuned returns a maker of the format with options, as "delimiter=tab null=NA".
func tuned(t testing.TB, options string) func() anonymize.Format {
	set := map[string]string{}
	for _, o := range strings.Fields(options) {
		name, value, _ := strings.Cut(o, "=")
		set[name] = value
	}
	return func() anonymize.Format {
		f, err := csv.New().With(set)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
}

// utf16 writes text in UTF-16.
func utf16(order binary.AppendByteOrder, text string) (b []byte) {
	for _, unit := range utf16units.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return b
}

// gzipped compresses with the standard library, not with what is tested.
func gzipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(text string) []byte {
	var b bytes.Buffer
	w, _ := codec.Writer(&b, "zstd")
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

// wrong alters the byte that many before the end.
func wrong(b []byte, before int) []byte {
	b[len(b)-before] ^= 1
	return b
}

// bomb is a gzip file of about 1 MiB that becomes head and a GiB of text.
func bomb(head, text string) func() anonymize.Source {
	return func() anonymize.Source {
		part := gzipped(strings.Repeat(text, 16<<20/len(text)))
		return bytes.NewReader(append(gzipped(head), bytes.Repeat(part, 64)...))
	}
}

func TestFormat(t *testing.T) {
	two := []string{"a", "b"}
	three := [][]string{{"1", "2"}, {"3", "4"}}
	plain := func() anonymize.Format { return csv.New() }
	// good is a sample in a declared dialect; what is written needs none.
	good := func(options, data string, columns []string, records ...[]string) formattest.Sample {
		return formattest.Sample{Name: options, Data: []byte(data), Columns: columns, Records: records, Make: tuned(t, options), Back: plain}
	}
	bad := func(options, data, says string) formattest.Bad {
		return formattest.Bad{Name: options + " " + says, Data: []byte(data), Says: says, Make: tuned(t, options)}
	}
	formattest.Run(t, func() anonymize.Format { return csv.New() }, formattest.Samples{
		Good: []formattest.Sample{
			{Name: "plain", Data: []byte("a,b\n1,2\n3,4\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "no last line end", Data: []byte("a,b\n1,2\n3,4"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "CRLF and semicolons", Data: []byte("a;b\r\n1;2,5\r\n3;4\r\n"), Columns: two, Records: [][]string{{"1", "2,5"}, {"3", "4"}}},
			{Name: "tabs and BOM", Data: []byte("\ufeffa\tb\n1\t2\n3\t4\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "bars", Data: []byte("a|b\n1|2\n|\n"), Columns: two, Records: [][]string{{"1", "2"}, {"", ""}}},
			{Name: "quotes", Data: []byte("a,\"b\"\n\"x,\"\"y\"\"\",\"two\nlines\r\nthree\"\n\"\",\"\"\"\"\n"), Columns: two, Records: [][]string{{`x,"y"`, "two\nlines\r\nthree"}, {"", `"`}}},
			{Name: "blank lines at the end", Data: []byte("a,b\n1,2\n3,4\n\n\r\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "not ASCII", Data: []byte("ä,日本\né,ü\n€,𝄞\n"), Columns: []string{"ä", "日本"}, Records: [][]string{{"é", "ü"}, {"€", "𝄞"}}},
			{Name: "header in quotes with commas", Data: []byte("\"a,b,c,d\";x\n1;2\n3;4\n"), Columns: []string{"a,b,c,d", "x"}, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "old Mac", Data: []byte("a,b\r1,2\r\"x\ny\",\"4\r\"\r"), Columns: two, Records: [][]string{{"1", "2"}, {"x\ny", "4\r"}}},
			{Name: "delimiter by the lines, not the names", Data: []byte("weight, in kg, dry;b\n1,5;2\n3;4\n"), Columns: []string{"weight, in kg, dry", "b"}, Records: [][]string{{"1,5", "2"}, {"3", "4"}}},
			{Name: "names of all kinds", Data: []byte("\"a \"\"b\"\"\",\" \tc\",\"d\ne\",{id},[x],#,'\n1,2,3,4,5,6,7\n1,2,3,4,5,6,7\n"),
				Columns: []string{`a "b"`, " \tc", "d\ne", "{id}", "[x]", "#", "'"}, Records: [][]string{{"1", "2", "3", "4", "5", "6", "7"}, {"1", "2", "3", "4", "5", "6", "7"}}},
			{Name: "long names", Data: []byte(long + "," + long + "é\n1,2\n3,4\n"), Columns: []string{long, long + "é"}, Records: three},
			{Name: "names longer than a head", Data: []byte(strings.Repeat(long, 9) + ",b\n1,2\n3,4\n"), Columns: []string{strings.Repeat(long, 9), "b"}, Records: three, Odd: true},
			{Name: "spellings of NULL are values", Data: []byte("a,b\nNA,NULL\n\\N,null\n"), Columns: two, Records: [][]string{{"NA", "NULL"}, {`\N`, "null"}}},
			{Name: "UTF-16, little end", Data: utf16(binary.LittleEndian, "\ufeffa,b\r\né,\"日𝄞\"\r\n3,4\r\n"), Columns: two, Records: [][]string{{"é", "日𝄞"}, {"3", "4"}}},
			{Name: "UTF-16, big end", Data: utf16(binary.BigEndian, "\ufeffa\tb\né\t日𝄞\n3\t4"), Columns: two, Records: [][]string{{"é", "日𝄞"}, {"3", "4"}}},
			{Name: "gzip", Data: gzipped("a;b\n1;2\n3;4\n"), Columns: two, Records: three},
			{Name: "gzip, two members", Data: append(gzipped("a;b\n1;"), gzipped("2\n3;4\n")...), Columns: two, Records: three},
			{Name: "zstd", Data: zstandard("a|b\n1|2\n3|4\n"), Columns: two, Records: three},
			{Name: "gzip, UTF-16", Data: gzipped(string(utf16(binary.LittleEndian, "\ufeffa,b\n1,2\n3,4\n"))), Columns: two, Records: three},
			good("encoding=windows-1252", "name,b\nM\xfcller \x80,2\n\x8a,4\n", []string{"name", "b"}, []string{"Müller €", "2"}, []string{"Š", "4"}),
			good("encoding=latin-1", "\xe4,b\nM\xfcller,2\n3,4\n", []string{"ä", "b"}, []string{"Müller", "2"}, []string{"3", "4"}),
			good("encoding=shift_jis", "a,b\n\x93\xfa,\"\x95\\\"\n3,4\n", two, []string{"日", "表"}, []string{"3", "4"}), // the second byte of 表 is a backslash
			good("encoding=GB18030", "a,b\n\xc8\xd5,2\n3,4\n", two, []string{"日", "2"}, []string{"3", "4"}),
			good("encoding=utf-16le", string(utf16(binary.LittleEndian, "a,b\n1,2\n3,4\n")), two, three...),
			good("encoding=utf-16", string(utf16(binary.BigEndian, "\ufeffa,b\n1,2\n3,4\n")), two, three...),
			good("encoding=utf-8", "\ufeffa,b\n1,2\n3,4\n", two, three...),
			good("delimiter=space quote=single", "a 'b '\n'it''s' \"2\n'3\n' 4\n", []string{"a", "b "}, []string{"it's", `"2`}, []string{"3\n", "4"}),
			good("delimiter=\\x01 quote=none", "a\x01b\n\"1\x01'2\n3,\x014|\n", two, []string{`"1`, "'2"}, []string{"3,", "4|"}),
			good("delimiter=~", "a~b\n1~\"~\"\n3~4\n", two, []string{"1", "~"}, []string{"3", "4"}),
			good("delimiter=comma", "a;x,b;y;z\n1,2\n3,4\n", []string{"a;x", "b;y;z"}, three...),
			good("escape=backslash", "a,b\n\"x\\\"y\",\"\\\\\"\n1\\,5,\"\"\"\n\"\n", two, []string{`x"y`, `\`}, []string{"1,5", "\"\n"}),
			good("delimiter=tab quote=none escape=backslash null=\\N", "a\tb\n\\N\tx\\\ty\nline\\\nend\t4\n", two, []string{"", "x\ty"}, []string{"line\nend", "4"}),
			good("escape=backslash delimiter=comma", "a,b\n\\N,2\n3,4\n", two, []string{`\N`, "2"}, []string{"3", "4"}),
			good("comment=hash", "# it's \"so\n#\na,b\n1,2\n# x\n3,\"4\n#5\"\n#\n\n# end", two, []string{"1", "2"}, []string{"3", "4\n#5"}),
			good("comment=;", ";c\r\na,b\r\n1,2\r\n;c,d,e\r\n3,4\r\n", two, three...),
			good("comment=hash header=no", "# c\r1;2\r3;4", []string{"c1", "c2"}, three...),
			good("header=no", "1,2\n3,4\n", []string{"c1", "c2"}, three...),
			good("header=no delimiter=bar", "\"1\"\"\"|2\n|4\n", []string{"c1", "c2"}, []string{`1"`, "2"}, []string{"", "4"}),
			good("null=NA,NULL,\\N,-", "NA,b\nNA,\"NULL\"\n\\N,-\n-1,na\n", []string{"NA", "b"}, []string{"", ""}, []string{"", ""}, []string{"-1", "na"}),
		},
		Bad: []formattest.Bad{
			{Name: "empty", Says: "empty"},
			{Name: "only blank lines", Data: []byte("\n\n"), Says: "line 1 is blank"},
			{Name: "only a byte order mark", Data: []byte("\ufeff"), Says: "empty"},
			{Name: "blank first line", Data: []byte("\na,b\n"), Says: "line 1 is blank"},
			{Name: "too few fields", Data: []byte("a,b\n1,2\nsecret\n"), Says: "line 3: 1 fields", Secret: "secret"},
			{Name: "too many fields", Data: []byte("a,b\n1,secret,3\n"), Says: "line 2: 3 fields", Secret: "secret"},
			{Name: "blank line inside", Data: []byte("a,b\n1,2\n\n3,4\n"), Says: "line 3 is blank"},
			{Name: "bare quote", Data: []byte("a,b\n1,se\"cret\n"), Says: "line 2: a quote inside", Secret: "cret"},
			{Name: "bare quote, later quotes", Data: []byte("a,b\n1,5\" tall\n\"x\",2\n" + strings.Repeat("1,2\n", 1e6)), Says: "line 2: a quote inside", Secret: "tall"},
			{Name: "text after a quote", Data: []byte("a,b\n\"x\ny\"secret,2\n"), Says: "line 3: text after", Secret: "secret"},
			{Name: "unterminated", Data: []byte("a,b\n1,2\n3,\"secret\n\n"), Says: "line 3: a quote is not closed", Secret: "secret"},
			{Name: "NUL", Data: []byte("a,b\n1,2\n3,sec\x00ret\n"), Says: "line 3: a NUL", Secret: "ret"},
			{Name: "NUL in quotes", Data: []byte("a,b\n1,\"2\n\x00\"\n"), Says: "line 3: a NUL"},
			{Name: "Latin-1", Data: []byte("a,b\n1,M\xfcller\n"), Says: "line 2: not UTF-8", Secret: "ller"},
			{Name: "Latin-1 in the header", Data: []byte("a,\xe4\n1,M\xfcller\n"), Says: "line 1: not UTF-8", Secret: "ller"},
			{Name: "UTF-16 without a mark", Data: utf16(binary.LittleEndian, "a,b\n1,2\n"), Says: "line 1: a NUL"},
			{Name: "UTF-16 that stops halfway", Data: utf16(binary.LittleEndian, "\ufeffa,b\n1,2\n3,4")[:23], Says: "line 3: not utf-16le"},
			{Name: "half a surrogate pair", Data: append(utf16(binary.LittleEndian, "\ufeffa,b\n1,"), "\x34\xd8\n\x00"...), Says: "line 2: not utf-16le"},
			{Name: "UTF-8 in the middle of UTF-16", Data: append(utf16(binary.BigEndian, "\ufeffa,b\n1,2\n"), "3,4\n5,6\n7,secret\n"...), Secret: "secret"},
			{Name: "mixed encodings", Data: []byte("a,b\né,1\nM\xfcller,2\n"), Says: "line 3: not UTF-8", Secret: "ller"},
			{Name: "lone CR", Data: []byte("a,b\n1,2\r3,4\n"), Says: "line 2: a carriage return"},
			{Name: "line feed among carriage returns", Data: []byte("a,b\r1,2\r" + strings.Repeat("3,4\r", 2000) + "5,6\n7,8\r"), Says: "line 2003: a line feed"},
			{Name: "line feed after a quote among carriage returns", Data: []byte("a,b\r1,2\r" + strings.Repeat("3,4\r", 2000) + "5,\"6\"\n7,8\r"), Says: "line 2003: a line feed"},
			{Name: "CR, then LF", Data: []byte("a,b\r1,2\r3,4\n"), Says: "line 1: a carriage return"},
			{Name: "lone CR after a quote", Data: []byte("a,b\n1,\"2\"\r3,4\n"), Says: "line 2: a carriage return"},
			{Name: "same name twice", Data: []byte("a,b,a\n1,2,3\n"), Says: "columns 1 and 3 have the same name"},
			{Name: "no name", Data: []byte("a, ,c\n1,2,3\n"), Says: "column 2 has no name"},
			{Name: "too many columns", Data: []byte(strings.Repeat("x,", 100_000) + "x\n"), Says: "100001 columns"},
			{Name: "long line", Data: append([]byte("a,b\n1,2\n"), bytes.Repeat([]byte("x"), 2<<20)...), Says: "line 3: a record longer"},
			{Name: "long quoted line", Data: append([]byte("a,b\n1,2\n3,\""), bytes.Repeat([]byte("x\n"), 1<<20)...), Says: "line 3: a quote is not closed within"},
			{Name: "long line with quotes", Data: append([]byte("a,b\n1,2\n\"3\","), bytes.Repeat([]byte("x"), 2<<20)...), Says: "line 3: a record longer"},
			{Name: "gzip cut off", Data: gzipped("a,b\n1,2\n3,4\n")[:28], Says: "cut off"},
			{Name: "gzip of nothing", Data: gzipped(""), Says: "empty"},
			{Name: "gzip with a wrong sum", Data: wrong(gzipped("a,b\n1,2\n"), 6), Says: "damaged"},
			{Name: "gzip and more", Data: append(gzipped("a,b\n1,2\n"), "3,4\n5,6\n7,8\n"...), Says: "damaged"},
			{Name: "zstd cut off", Data: zstandard("a,b\n1,2\n3,4\n")[:20], Says: "cut off"},
			{Name: "gzip in gzip", Data: gzipped(string(gzipped("a,b\n1,2\n")))},
			{Name: "Parquet", Data: []byte("PAR1\x15\x04\x15\x0c\x15\x10\x4c,\x00\x00"), Says: "line 1"},
			{Name: "a bomb of zeros", Says: "line 1: a record longer", Source: bomb("", "\x00")},
			{Name: "a bomb of records", Says: "more than 250 times", Source: bomb("a,b\n", "1,2\n")},
			{Name: "a bomb of one quote", Says: "not closed within", Source: bomb("a,b\n\"", "\n")},
			bad("encoding=windows-1252", "\ufeffa,b\n1,2\n", "byte order mark says utf-8, not windows-1252"),
			bad("encoding=utf-16be", "\xff\xfea\x00,\x00b\x00", "byte order mark says utf-16le, not utf-16be"),
			bad("encoding=utf-16", "a,b\n1,2\n", "no byte order mark"),
			bad("encoding=windows-1252", "a,b\nMüller,Björn\nBärbel,Jürgen\n", "the file is UTF-8, not windows-1252"),
			bad("encoding=windows-1252", "a,b\n1,2\n\x81,4\n", "line 3: not windows-1252"),
			bad("encoding=shift_jis", "a,b\n1,2\n\x93,4\n", "line 3: not shift_jis"),
			bad("encoding=utf-8", "a,b\n\xe4,2\n", "line 2: not UTF-8"),
			bad("escape=backslash", "a,b\n\\n,2\n", "line 2: a backslash before"),
			bad("escape=backslash", "a,b\n\"\\N\",2\n", "line 2: a backslash before"),
			bad("escape=backslash", "a,b\n1,\"2\\\"\n", "line 2: a quote is not closed"),
			bad("escape=backslash", "a,b\n1,2\\", "line 2: a backslash before"),
			bad("escape=backslash", "a,b\n1\\\n,2\n1,2,3\n", "line 4: 3 fields"),
			bad("comment=hash", "# only\n# comments\n", "empty"),
			bad("comment=hash", "# c\n\na,b\n1,2\n", "line 2 is blank"),
			bad("comment=hash", "a,b\n1,2\n\n# c\n3,4\n", "line 3 is blank"),
			bad("comment=hash", "a,b\n1,2\n #3\n", "line 3: 1 fields"),
			bad("header=no", "", "empty"),
			bad("header=no", "1,2\n3\n", "line 2: 1 fields"),
			bad("quote=none", "a,b\n\"1,2\",3\n", "line 2: 3 fields"),
			bad("delimiter=semicolon", "a,b\n1;2\n", "line 2: 2 fields"),
		},
		Foreign: [][]byte{[]byte(`{"a":1,"b":2}`), []byte("PAR1\x00\x01,a,b"), []byte("hello world\nthis is text\n"), []byte("a,b\n1,2,3\n"),
			[]byte("{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":4}\n"), []byte("\ufeff {\"a\":[1,2],\"b\":\"x"), []byte("[{\"a\":1,\"b\":2},\n{\"a\":3,\"b\":4}]"),
			gzipped("{\"a\":1,\"b\":2}\n{\"a\":1,\"b\":2}\n"), zstandard("{\"a\":1,\"b\":2}\n"), gzipped(string(gzipped("a,b\n1,2\n"))),
			[]byte("<p>a,b\n<p>c,d\n"), []byte("<?xml version='1.0', encoding='x'?>\n"), []byte("\x7fELF\x02\x01\x01,a,b\n"), []byte("\x1f\x8b\x08"), []byte("\x28\xb5\x2f\xfd"),
			[]byte("PK\x03\x04,\x14,\n"), []byte("\x89PNG\r\n\x1a\n"), []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []byte("\n\n"), []byte(",,\n1,2,3\n"), bytes.Repeat([]byte{0}, 200)},
		Large: func(size int64) anonymize.Source {
			return stream("id,name,note\n", "123456,someone,\"a \"\"note\"\"\"\n", size)
		},
	})
}

// A record may be as long as the bound, and lie anywhere.
func TestLongRecords(t *testing.T) {
	long := strings.Repeat("y", 1<<20-3)
	file := "a,b\n" + strings.Repeat("1,2\n", 1000) + long + ",\n" + strings.Repeat("3,4\n", 1000)
	r := &formattest.Recorder{}
	if err := csv.New().Rewrite(t.Context(), io.Discard, strings.NewReader(file), r); err != nil {
		t.Fatal(err)
	}
	if len(r.Records) != 2001 || r.Records[1000][0] != long {
		t.Errorf("%d records", len(r.Records))
	}
}

// A file of 100 MB in one line is refused after its first MiB.
func TestEndlessLineIsLeftUnread(t *testing.T) {
	src := stream("a,b\n", "x", 100<<20)
	if err := csv.New().Rewrite(t.Context(), io.Discard, src, &formattest.Recorder{}); err == nil {
		t.Fatal("accepted")
	}
	if src.read > 4<<20 {
		t.Errorf("read %d bytes before refusing", src.read)
	}
}

// many is a Recorder's forking sister: it notes what all its forks were given.
type many struct {
	mu    *sync.Mutex
	seen  map[string]int
	forks *int
	fail  string // a first field that is refused
}

func (m many) Header(columns []string) ([]string, error) { return columns, nil }
func (m many) Fork() (anonymize.Editor, error)           { *m.forks++; return m, nil }
func (m many) Record(fields [][]byte) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[string(fields[0])]++
	if m.fail == string(fields[0]) {
		return nil, errRefused
	}
	return fields, nil
}

var errRefused = errors.New("refused")

// However many work on it, the output is the same, and so is the first error.
func TestWorkersChangeNothing(t *testing.T) {
	const lines = 5000
	var file strings.Builder
	file.WriteString("id,text\n")
	for i := range lines {
		fmt.Fprintf(&file, "%d,\"a \"\"quoted\"\"\ntext %d\"\n", i, i)
	}
	for _, workers := range []int{1, 2, 7} {
		for _, block := range []int{8, 100, 4096, 1 << 20} {
			m := many{&sync.Mutex{}, map[string]int{}, new(int), ""}
			var out bytes.Buffer
			if err := csv.NewWith(block, workers).Rewrite(t.Context(), &out, strings.NewReader(file.String()), m); err != nil {
				t.Fatal(err)
			}
			if out.String() != file.String() {
				t.Errorf("%d workers, blocks of %d: other output", workers, block)
			}
			if len(m.seen) != lines || *m.forks != workers-1 {
				t.Errorf("%d workers: %d records seen, %d forks", workers, len(m.seen), *m.forks)
			}
			m = many{&sync.Mutex{}, map[string]int{}, new(int), "1234"}
			err := csv.NewWith(block, workers).Rewrite(t.Context(), io.Discard, strings.NewReader(file.String()), m)
			if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "line 2470") {
				t.Errorf("%d workers, blocks of %d: %v", workers, block, err)
			}
			bad := file.String()[:file.Len()/2] + "\n1,2,3\n" + strings.Repeat("x\n", lines)
			err = csv.NewWith(block, workers).Rewrite(t.Context(), io.Discard, strings.NewReader(bad), many{&sync.Mutex{}, map[string]int{}, new(int), ""})
			one := csv.New().Rewrite(t.Context(), io.Discard, strings.NewReader(bad), &formattest.Recorder{})
			if err == nil || one == nil || err.Error() != one.Error() {
				t.Errorf("%d workers, blocks of %d: %v; alone: %v", workers, block, err, one)
			}
		}
	}
}

func TestOutput(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"the delimiter stays", "a;b\n1,5;\"2;5\"\n", "a;b\n1,5;\"2;5\"\n"},
		{"tabs stay", "a\tb\r\n1,5\t2\r\n", "a\tb\n1,5\t2\n"},
		{"names must not mislead", "\"a,b\"|c;d\n1|2\n", "\"a,b\"|\"c;d\"\n1|2\n"},
		{"one column", "\"a;b\"\n\"1,5\"\n", "\"a;b\"\n\"1,5\"\n"},
		{"one empty value", "a\n\"\"\nx\n", "a\n\"\"\nx\n"},
		{"quotes only where needed", "\"a\",\"b\"\n\"1\",\"2,3\"\n", "a,b\n1,\"2,3\"\n"},
		{"line ends in values", "a,b\n\"1\r\n2\",\"\"\"\"\n", "a,b\n\"1\r\n2\",\"\"\"\"\n"},
		{"formulas", "a,=b\n=1+1,@x\n+SUM(A1),-cmd|x\n", "a,'=b\n'=1+1,'@x\n'+SUM(A1),'-cmd|x\n"},
		{"quoted formula", "a,b\n\"=A1,A2\",\"\t\"\n", "a,b\n\"'=A1,A2\",'\t\n"},
		{"numbers are no formulas", "a,b\n-1,+2.5\n-1e-9,-\n", "a,b\n-1,+2.5\n-1e-9,-\n"},
		{"header only", "a,b\n", "a,b\n"},
	} {
		var out bytes.Buffer
		if err := csv.New().Rewrite(t.Context(), &out, strings.NewReader(c.in), &formattest.Recorder{}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if out.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, out.String(), c.want)
		}
	}
}

// TestNoAllocationPerRecord compares a short and a long file.
func TestNoAllocationPerRecord(t *testing.T) {
	pass := func(lines int) float64 {
		file := []byte("id,name,note\n" + strings.Repeat("1,x,plain\n2,y,\"quo\"\"ted\"\n", lines))
		return testing.AllocsPerRun(3, func() {
			if err := csv.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(file), pass{}); err != nil {
				t.Error(err)
			}
		})
	}
	if few, many := pass(10), pass(10_000); many > few+100 {
		t.Errorf("%v allocations for 20 records, %v for 20,000", few, many)
	}
}

type pass struct{}

func (pass) Header(columns []string) ([]string, error) { return columns, nil }
func (pass) Record(fields [][]byte) ([][]byte, error)  { return fields, nil }

// generated is a file made as it is read: a head, then one text again and again.
type generated struct {
	text       string
	head       string
	left, read int64
	at         int
}

func stream(head, text string, size int64) *generated {
	return &generated{head: head, text: text, left: size / int64(len(text)) * int64(len(text))}
}

func (g *generated) Read(b []byte) (int, error) {
	n := copy(b, g.head)
	g.head = g.head[n:]
	for n < len(b) && g.left > 0 {
		m := copy(b[n:min(int64(len(b)), int64(n)+g.left)], g.text[g.at:])
		g.at = (g.at + m) % len(g.text)
		g.left -= int64(m)
		n += m
	}
	g.read += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (g *generated) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
