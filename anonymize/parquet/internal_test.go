package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	peer "github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"sallyport"
	"sallyport/anonymize"
)

// The calendar is that of the standard library.
func TestCalendar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		day := rapid.Int64Range(-200_000_000, 200_000_000).Draw(t, "day")
		y, m, d := civil(day)
		want := time.Unix(0, 0).UTC().AddDate(0, 0, int(day))
		if int(y) != want.Year() || m != int(want.Month()) || d != want.Day() {
			t.Fatalf("day %d is %d-%d-%d, want %v", day, y, m, d, want)
		}
		if back, rest, ok := parseDate(appendDate(nil, day)); !ok || len(rest) > 0 || back != day {
			t.Fatalf("day %d reads back as %d", day, back)
		}
	})
}

// Every value of every kind says something that reads back as the same bits;
// only the many bit patterns of NaN are one text.
func TestTextReadsBack(t *testing.T) {
	node := func(physical, length int32, l logical, precision, scale int32) *leaf {
		n := &node{physical: physical, length: length, converted: -1, logical: l, precision: precision, scale: scale}
		return &leaf{node: n, kind: kindOf(n)}
	}
	leaves := map[string]*leaf{
		"bool":   node(typeBoolean, 0, logical{}, 0, 0),
		"int32":  node(typeInt32, 0, logical{}, 0, 0),
		"int64":  node(typeInt64, 0, logical{}, 0, 0),
		"uint32": node(typeInt32, 0, logical{member: logicalInt, width: 32}, 0, 0),
		"uint64": node(typeInt64, 0, logical{member: logicalInt, width: 64}, 0, 0),
		"float":  node(typeFloat, 0, logical{}, 0, 0),
		"double": node(typeDouble, 0, logical{}, 0, 0),
		"date":   node(typeInt32, 0, logical{member: logicalDate}, 0, 0),
		"millis": node(typeInt64, 0, logical{member: logicalTimestamp, unit: 1}, 0, 0),
		"micros": node(typeInt64, 0, logical{member: logicalTimestamp, unit: 2, utc: true}, 0, 0),
		"nanos":  node(typeInt64, 0, logical{member: logicalTimestamp, unit: 3}, 0, 0),
		"uuid":   node(typeFixed, 16, logical{member: logicalUUID}, 0, 0),
		"fixed":  node(typeFixed, 7, logical{member: logicalDecimal}, 40, 9),
	}
	for name, l := range leaves {
		if l.kind == kindOpaque {
			t.Fatalf("%s is opaque", name)
		}
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				raw := rapid.SliceOfN(rapid.Byte(), l.width(), l.width()).Draw(t, "raw")
				if l.kind == kindBool {
					raw[0] &= 1
				}
				if name == "millis" { // years of nine digits at most
					binary.LittleEndian.PutUint64(raw, uint64(rapid.Int64Range(math.MinInt64/4000, math.MaxInt64/4000).Draw(t, "ms")))
				}
				text, err := l.appendText(nil, raw)
				if err != nil {
					t.Fatal(err)
				}
				back, ok := l.parseText(nil, text)
				if l.kind == kindFloat && string(text) == "NaN" {
					return
				}
				if !ok || !bytes.Equal(back, raw) {
					t.Fatalf("%x says %q, which reads back as %x, %v", raw, text, back, ok)
				}
			})
		})
	}
}

func TestParse(t *testing.T) {
	l := func(physical int32, lg logical, precision, scale int32) *leaf {
		n := &node{physical: physical, converted: -1, logical: lg, precision: precision, scale: scale}
		return &leaf{node: n, kind: kindOf(n)}
	}
	decimal := l(typeInt32, logical{member: logicalDecimal}, 5, 2)
	stamp := l(typeInt64, logical{member: logicalTimestamp, unit: 1}, 0, 0)
	for _, c := range []struct {
		l    *leaf
		text string
		want int64 // -1: refused
	}{
		{decimal, "12.3", 1230}, {decimal, "12.300", 1230}, {decimal, "999.99", 99999}, {decimal, "1000", -1}, {decimal, "1.234", -1}, {decimal, ".5", -1},
		{decimal, "5.", -1}, {decimal, "", -1}, {decimal, "1e2", -1}, {decimal, "--1", -1}, {decimal, "+1", -1}, {decimal, "0012", 1200},
		{stamp, "1970-01-01", 0}, {stamp, "1970-01-01T00:00:01.5", 1500}, {stamp, "1970-01-01 00:01", 60000}, {stamp, "1970-01-01T00:00:01.0001", -1},
		{stamp, "1970-01-01T24:00:00", -1}, {stamp, "1970-02-30", -1}, {stamp, "1970-01-01T00:00:00Z", -1}, {stamp, "1970-1-1", -1}, {stamp, "x", -1},
		{l(typeInt32, logical{member: logicalInt, width: 8, signed: true}, 0, 0), "128", -1},
		{l(typeInt32, logical{member: logicalInt, width: 8}, 0, 0), "128", 128},
		{l(typeInt32, logical{member: logicalTime, unit: 1}, 0, 0), "24:00:00", 86400000},
		{l(typeInt32, logical{member: logicalTime, unit: 1}, 0, 0), "24:00:01", -1},
	} {
		raw, ok := c.l.parseText(nil, []byte(c.text))
		if ok != (c.want >= 0) || ok && c.l.int(raw) != c.want {
			t.Errorf("%q: %x, %v, want %d", c.text, raw, ok, c.want)
		}
	}
}

// What appendHybrid writes, decodeHybrid reads, and the library too.
func TestHybrid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 32).Draw(t, "width")
		var src []uint32
		for range rapid.IntRange(0, 30).Draw(t, "runs") {
			v := rapid.Uint32().Draw(t, "value") >> (32 - width)
			for range rapid.IntRange(1, 20).Draw(t, "times") {
				src = append(src, v)
			}
		}
		b := appendHybrid(nil, src, width)
		back, err := decodeHybrid[uint32](nil, b, len(src), width)
		if err != nil || !slices.Equal(back, src) {
			t.Fatalf("%v reads back as %v: %v", src, back, err)
		}
		_, _ = decodeHybrid[uint32](nil, b[:len(b)/2], len(src), width)
	})
}

// Deltas as the library writes them.
func TestDelta(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := rapid.SliceOf(rapid.Int64()).Draw(t, "values")
		b, err := peer.DeltaBinaryPacked.EncodeInt64(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := decodeDelta(nil, b, len(src), 64)
		if err != nil || !slices.Equal(back, src) {
			t.Fatalf("%v reads back as %v: %v", src, back, err)
		}
		if len(src) > 0 {
			if _, _, err := decodeDelta(nil, b, len(src)-1, 64); err == nil {
				t.Fatal("more values than asked for")
			}
		}
	})
}

// Nothing that the compact protocol can say nests or promises its way to memory.
func TestHostileThrift(t *testing.T) {
	for name, b := range map[string][]byte{
		"nested structs":  bytes.Repeat([]byte{0x1c}, 1<<20),
		"nested lists":    append([]byte{0x19}, bytes.Repeat([]byte{0x19}, 1<<20)...),
		"a list too long": {0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a long text":     {0x68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"a map too long":  {0x1b, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x11},
		"an endless int":  bytes.Repeat([]byte{0xff}, 100),
		"a field twice":   {0x15, 0x02, 0x05, 0x02, 0x02, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			n := testing.AllocsPerRun(1, func() {
				if _, err := parseFooter(b, 1000, 2000); sallyport.KindOf(err) != sallyport.Invalid {
					t.Errorf("got %v", err)
				}
			})
			if n > 1000 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// schema makes the footer of a table without records.
func schema(elements ...func(*thriftWriter)) []byte {
	var w thriftWriter
	w.begin()
	w.i32(1, 1)
	w.list(2, len(elements), ctStruct)
	for _, e := range elements {
		w.begin()
		e(&w)
		w.end()
	}
	w.i64(3, 0)
	w.list(4, 0, ctStruct)
	w.end()
	return w.b
}

func group(name string, children int32) func(*thriftWriter) {
	return func(w *thriftWriter) { w.i32(3, optional); w.string(4, name); w.i32(5, children) }
}

func column32(name string) func(*thriftWriter) {
	return func(w *thriftWriter) { w.i32(1, typeInt32); w.i32(3, required); w.string(4, name) }
}

func TestHostileSchemas(t *testing.T) {
	deep := []func(*thriftWriter){}
	for range 1000 {
		deep = append(deep, group("g", 1))
	}
	wide := []func(*thriftWriter){group("root", 20_000)}
	for range 20_000 {
		wide = append(wide, column32("c"))
	}
	cases := map[string][]byte{
		"deep":               schema(append(deep, column32("c"))...),
		"wide":               schema(wide...),
		"many children":      schema(group("root", math.MaxInt32), column32("c")),
		"negative children":  schema(group("root", -1), column32("c")),
		"too few children":   schema(group("root", 1), column32("a"), column32("b")),
		"no columns":         schema(group("root", 0)),
		"an empty group":     schema(group("root", 2), group("g", 0), column32("a")),
		"the same name":      schema(group("root", 2), column32("a"), column32("a")),
		"the same path":      schema(group("root", 2), column32("a.b"), group("a", 1), column32("b")),
		"no name":            schema(group("root", 1), column32("")),
		"a list's name":      schema(group("root", 1), column32("a[]")),
		"not UTF-8":          schema(group("root", 1), column32("\xff")),
		"a leaf as the root": schema(column32("a")),
		"unknown repetition": schema(group("root", 1), func(w *thriftWriter) { w.i32(1, 1); w.i32(3, 7); w.string(4, "a") }),
		"an unknown type":    schema(group("root", 1), func(w *thriftWriter) { w.i32(1, 99); w.i32(3, 0); w.string(4, "a") }),
		"fixed of 2 GiB":     schema(group("root", 1), func(w *thriftWriter) { w.i32(1, 7); w.i32(2, math.MaxInt32); w.i32(3, 0); w.string(4, "a") }),
		"no elements":        schema(),
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := parseFooter(b, 1000, 2000)
			if sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
	if f, err := parseFooter(schema(group("root", 2), column32("a"), group("b", 1), column32("c")), 1000, 2000); err != nil || len(f.leaves) != 2 || f.leaves[1].name != "b.c" {
		t.Errorf("a good one: %v", err)
	}
}

// table is a file of one INT32 column with one chunk of the given pages.
func table(rows, size, start int64, codec int32, pages []byte) []byte {
	b := append([]byte(magic), pages...)
	if size < 0 {
		size = int64(len(pages))
	}
	var w thriftWriter
	w.begin()
	w.i32(1, 1)
	w.list(2, 2, ctStruct)
	for _, e := range []func(*thriftWriter){group("root", 1), column32("a")} {
		w.begin()
		e(&w)
		w.end()
	}
	w.i64(3, rows)
	w.list(4, 1, ctStruct)
	w.begin()
	w.list(1, 1, ctStruct)
	w.begin()
	w.open(3)
	w.i32(1, typeInt32)
	w.list(3, 1, ctBinary)
	w.text("a")
	w.i32(4, codec)
	w.i64(5, rows)
	w.i64(7, size)
	w.i64(9, start)
	w.end()
	w.end()
	w.i64(3, rows)
	w.end()
	w.end()
	b = append(b, w.b...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.b)))
	return append(b, magic...)
}

// pageOf makes a page that claims what it likes.
func pageOf(size, packed, n, encoding int32, body []byte) []byte {
	var w thriftWriter
	w.begin()
	w.i32(1, pageData)
	w.i32(2, size)
	w.i32(3, packed)
	w.open(5)
	w.i32(1, n)
	w.i32(2, encoding)
	w.i32(3, encRLE)
	w.i32(4, encRLE)
	w.end()
	w.end()
	return append(w.b, body...)
}

type pass1 struct{}

func (pass1) Header(c []string) ([]string, error) { return c, nil }
func (pass1) Record(f [][]byte) ([][]byte, error) { return f, nil }
func run(b []byte, e anonymize.Editor) error {
	return New().Rewrite(noContext{}, io.Discard, bytes.NewReader(b), e)
}

// noContext never ends.
type noContext struct{}

func (noContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (noContext) Done() <-chan struct{}       { return nil }
func (noContext) Err() error                  { return nil }
func (noContext) Value(any) any               { return nil }

func TestHostilePages(t *testing.T) {
	eight := make([]byte, 8)
	if err := run(table(2, -1, 4, codecNone, pageOf(8, 8, 2, encPlain, eight)), pass1{}); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	bomb := func(codec int32) []byte {
		var c codecs
		defer c.close()
		b, err := c.compress(codec, nil, make([]byte, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		return table(2, -1, 4, codec, pageOf(8, int32(len(b)), 2, encPlain, b))
	}
	huge := func(codec int32) []byte { return table(2, -1, 4, codec, pageOf(math.MaxInt32, 8, 2, encPlain, eight)) }
	delta := append(binary.AppendUvarint([]byte{0x80, 0x01, 0x04}, 1<<40), 0)
	cases := map[string][]byte{
		"packed beyond the chunk":   table(2, -1, 4, codecNone, pageOf(8, 1000, 2, encPlain, eight)),
		"negative sizes":            table(2, -1, 4, codecNone, pageOf(-8, -8, 2, encPlain, eight)),
		"negative count":            table(2, -1, 4, codecNone, pageOf(8, 8, -2, encPlain, eight)),
		"more values than bytes":    table(1e6, -1, 4, codecNone, pageOf(8, 8, 1e6, encPlain, eight)),
		"more values than records":  table(2, -1, 4, codecNone, pageOf(8, 8, math.MaxInt32, encPlain, eight)),
		"fewer values":              table(2, -1, 4, codecNone, pageOf(4, 4, 1, encPlain, eight[:4])),
		"pages without values":      table(2, -1, 4, codecNone, bytes.Repeat(pageOf(0, 0, 0, encPlain, nil), 1000)),
		"no dictionary":             table(2, -1, 4, codecNone, pageOf(8, 8, 2, encDictionary, eight)),
		"delta of 2^40 values":      table(2, -1, 4, codecNone, pageOf(int32(len(delta)), int32(len(delta)), 2, encDeltaBinary, delta)),
		"an encoding of bytes":      table(2, -1, 4, codecNone, pageOf(8, 8, 2, encDeltaBytes, eight)),
		"sizes that differ":         table(2, -1, 4, codecNone, pageOf(4, 8, 2, encPlain, eight)),
		"records without end":       table(math.MaxInt64, -1, 4, codecNone, pageOf(8, 8, 2, encPlain, eight)),
		"a chunk outside the file":  table(2, 1<<40, 4, codecNone, nil),
		"a chunk that wraps around": table(2, math.MaxInt64, math.MaxInt64, codecNone, nil),
		"a chunk before the file":   table(2, 8, -4, codecNone, nil),
		"a chunk in the footer":     table(2, 40, 20, codecNone, pageOf(8, 8, 2, encPlain, eight)),
		"LZO":                       table(2, -1, 4, 3, pageOf(8, 8, 2, encPlain, eight)),
		"no such codec":             table(2, -1, 4, -7, pageOf(8, 8, 2, encPlain, eight)),
	}
	for name, codec := range map[string]int32{"snappy": codecSnappy, "gzip": codecGzip, "brotli": codecBrotli, "zstd": codecZstd, "lz4": codecLZ4} {
		cases[name+" bomb"] = bomb(codec)
		cases[name+" page of 2 GiB"] = huge(codec)
		cases[name+" nonsense"] = table(2, -1, 4, codec, pageOf(8, 8, 2, encPlain, []byte{0xff, 1, 2, 0xff, 4, 5, 6, 7}))
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			if err := run(b, pass1{}); sallyport.KindOf(err) != sallyport.Invalid || sallyport.HintOf(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The pages that all columns hold at once are bounded together.
func TestBudget(t *testing.T) {
	page := make([]byte, 400_000)
	b := table(100_000, -1, 4, codecNone, pageOf(400_000, 400_000, 100_000, encPlain, page))
	f := New()
	f.pages = 1 << 20
	if err := f.Rewrite(t.Context(), io.Discard, bytes.NewReader(b), pass1{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("got %v", err)
	}
	// A row group that would be too large is written in parts.
	f = New()
	f.group = 100_000
	var out bytes.Buffer
	if err := f.Rewrite(t.Context(), &out, bytes.NewReader(b), pass1{}); err != nil {
		t.Fatal(err)
	}
	back, err := open(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || len(back.groups) < 2 || back.rows != 100_000 {
		t.Errorf("%v", err)
	}
}

// panicking panics when it is read.
type panicking struct{ io.Reader }

func (panicking) ReadAt([]byte, int64) (int, error) { panic("mark") }
func (panicking) Size() int64                       { return 100 }

type panics struct{ pass1 }

func (panics) Record([][]byte) ([][]byte, error) { panic("mark") }

// A panic while a file is read is the file's; that of an editor is its own.
func TestPanics(t *testing.T) {
	if err := New().Rewrite(t.Context(), io.Discard, panicking{}, pass1{}); sallyport.KindOf(err) != sallyport.Invalid {
		t.Errorf("got %v", err)
	}
	defer func() {
		if recover() != "mark" {
			t.Error("an editor's panic was hidden")
		}
	}()
	_ = run(table(2, -1, 4, codecNone, pageOf(8, 8, 2, encPlain, make([]byte, 8))), panics{})
}

// The end of a source that does not know it is found, and its errors come back.
func TestSizeOf(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 1000, 1 << 16} {
		r := bytes.NewReader(make([]byte, n))
		got, err := sizeOf(struct {
			io.Reader
			io.ReaderAt
		}{r, r})
		if err != nil || got != int64(n) {
			t.Errorf("size %d, want %d: %v", got, n, err)
		}
	}
	mark := errors.New("mark")
	if _, err := sizeOf(struct {
		io.Reader
		io.ReaderAt
	}{nil, failing{mark}}); !errors.Is(err, mark) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
