package csv_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/formattest"
)

func TestFormat(t *testing.T) {
	two := []string{"a", "b"}
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
			{Name: "UTF-16", Data: []byte("\xff\xfea\x00,\x00b\x00"), Says: "UTF-16"},
			{Name: "lone CR", Data: []byte("a,b\n1,2\r3,4\n"), Says: "line 2: a carriage return"},
			{Name: "old Mac", Data: []byte("a,b\r1,2\r3,4\r"), Says: "line 1: a carriage return"},
			{Name: "lone CR after a quote", Data: []byte("a,b\n1,\"2\"\r3,4\n"), Says: "line 2: a carriage return"},
			{Name: "same name twice", Data: []byte("a,b,a\n1,2,3\n"), Says: "columns 1 and 3 have the same name"},
			{Name: "no name", Data: []byte("a, ,c\n1,2,3\n"), Says: "column 2 has no name"},
			{Name: "too many columns", Data: []byte(strings.Repeat("x,", 10_000) + "x\n"), Says: "10001 columns"},
			{Name: "long line", Data: append([]byte("a,b\n1,2\n"), bytes.Repeat([]byte("x"), 2<<20)...), Says: "line 3: a record longer"},
			{Name: "long quoted line", Data: append([]byte("a,b\n1,2\n3,\""), bytes.Repeat([]byte("x\n"), 1<<20)...), Says: "line 3: a quote is not closed within"},
			{Name: "long line with quotes", Data: append([]byte("a,b\n1,2\n\"3\","), bytes.Repeat([]byte("x"), 2<<20)...), Says: "line 3: a record longer"},
		},
		Foreign: [][]byte{[]byte(`{"a":1,"b":2}`), []byte("PAR1\x00\x01,a,b"), []byte("hello world\nthis is text\n"), []byte("a,b\n1,2,3\n")},
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
