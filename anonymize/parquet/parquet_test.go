package parquet_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	peer "github.com/parquet-go/parquet-go"

	"sallyport/anonymize"
	"sallyport/anonymize/formattest"
	"sallyport/anonymize/parquet"
)

// write makes a file of rows with a library that is not ours.
func write[T any](t testing.TB, rows []T, options ...peer.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := peer.NewGenericWriter[T](&b, options...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type two struct {
	A string `parquet:"a"`
	B string `parquet:"b"`
}

type visit struct {
	ID      int64    `parquet:"id"`
	Address *address `parquet:"address"`
	Weight  float64  `parquet:"weight"`
	Tags    []string `parquet:"tags,list"`
}

type address struct {
	City string  `parquet:"city,optional"`
	Zip  *string `parquet:"zip"`
}

func text(s string) *string { return &s }

func visits() []visit {
	return []visit{
		{1, &address{"Bern", text("3011")}, 0.1, []string{"a", "b,c"}},
		{2, nil, 1e300, nil},
		{-3, &address{"", nil}, math.Copysign(0, -1), []string{""}},
	}
}

func TestFormat(t *testing.T) {
	plain := write(t, []two{{"1", "2"}, {"3", ""}})
	records := [][]string{{"1", "2"}, {"3", ""}}
	v := visits()
	nested := formattest.Sample{
		Columns: []string{"id", "address.city", "address.zip", "weight", "tags[]"},
		Records: [][]string{{"1", "Bern", "3011", "0.1", "\x01a\x03b,c"}, {"2", "", "", "1e+300", ""}, {"-3", "", "", "-0", "\x00"}},
	}
	good := []formattest.Sample{{Name: "plain", Data: plain, Columns: []string{"a", "b"}, Records: records}}
	for name, options := range map[string][]peer.WriterOption{
		"uncompressed": nil,
		"snappy":       {peer.Compression(&peer.Snappy)},
		"gzip":         {peer.Compression(&peer.Gzip)},
		"zstd":         {peer.Compression(&peer.Zstd)},
		"lz4":          {peer.Compression(&peer.Lz4Raw)},
		"brotli":       {peer.Compression(&peer.Brotli)},
		"version 1":    {peer.DataPageVersion(1)},
		"row groups":   {peer.MaxRowsPerRowGroup(1)},
	} {
		s := nested
		s.Name = name
		s.Data = write(t, v, options...)
		good = append(good, s)
	}
	flip := func(at int, with string) []byte {
		b := bytes.Clone(plain)
		if at < 0 {
			at += len(b)
		}
		copy(b[at:], with)
		return b
	}
	type latin struct {
		A string `parquet:"a"`
		B string `parquet:"b"`
	}
	formattest.Run(t, func() anonymize.Format { return parquet.New() }, formattest.Samples{
		Good: good,
		Bad: []formattest.Bad{
			{Name: "empty", Says: "empty"},
			{Name: "short", Data: []byte("PAR1PAR1"), Says: "no Parquet file"},
			{Name: "text", Data: []byte("a,b\n1,2\n3,4\n5,6\n"), Says: "no Parquet file"},
			{Name: "truncated", Data: plain[:len(plain)-20], Says: "truncated"},
			{Name: "head alone", Data: plain[:20], Says: "truncated"},
			{Name: "encrypted", Data: flip(0, "PARE"), Says: "encrypted"},
			{Name: "encrypted footer", Data: flip(-4, "PARE"), Says: "encrypted"},
			{Name: "footer longer than the file", Data: flip(-8, "\xff\xff\xff\x00"), Says: "longer than the file"},
			{Name: "no footer", Data: []byte("PAR1\x00\x00\x00\x00PAR1"), Says: "footer"},
			{Name: "Latin-1", Data: write(t, []latin{{"x", "M\xfcsecret"}}), Says: `column "b": a text is not UTF-8`, Secret: "secret"},
			{Name: "page overwritten", Data: flip(4, strings.Repeat("\xff", 30)), Says: `column "a"`},
		},
		Foreign: [][]byte{[]byte("a,b\n1,2\n"), []byte(`{"a":1}`), []byte("PAR"), []byte("ORC PAR1")},
		Large:   func(size int64) anonymize.Source { return large(t, size) },
	})
}

type wide struct {
	ID   int64  `parquet:"id"`
	Name string `parquet:"name,optional,dict,snappy"`
	Note string `parquet:"note"`
}

// large is a file on disk.
func large(t testing.TB, size int64) anonymize.Source {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "large.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	w := peer.NewGenericWriter[wide](f, peer.MaxRowsPerRowGroup(20_000), peer.PageBufferSize(64<<10))
	rows := make([]wide, 1000)
	for n := int64(0); n*40 < size; n += int64(len(rows)) {
		for i := range rows {
			rows[i] = wide{n + int64(i), "someone", "a note of some length"}
		}
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sized{f}
}

type sized struct{ *os.File }

func (s sized) Size() int64 {
	info, err := s.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// editor lets columns leave and changes their values.
type editor struct {
	drop   map[string]bool
	text   map[string]bool // leave as text
	change map[string]func(string) string
	keep   func(i int) bool

	columns []string
	out     []int
	records int
}

func (e *editor) Header(columns []string) ([]string, error) {
	e.columns = columns
	var leaving []string
	for i, c := range columns {
		if !e.drop[c] {
			leaving = append(leaving, c)
			e.out = append(e.out, i)
		}
	}
	return leaving, nil
}

func (e *editor) SameType(column string) bool { return !e.text[column] }

func (e *editor) Record(fields [][]byte) ([][]byte, error) {
	e.records++
	if e.keep != nil && !e.keep(e.records-1) {
		return nil, nil
	}
	out := make([][]byte, len(e.out))
	for i, k := range e.out {
		c := e.columns[k]
		out[i] = fields[k]
		change := e.change[c]
		if change == nil {
			continue
		}
		if !strings.Contains(c, "[]") {
			out[i] = []byte(change(string(fields[k])))
			continue
		}
		var list []byte
		for item := range anonymize.Items(fields[k]) {
			list = anonymize.AppendItem(list, []byte(change(string(item))))
		}
		out[i] = list
	}
	return out, nil
}

func rewrite(t testing.TB, data []byte, e *editor) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := parquet.New().Rewrite(t.Context(), &out, bytes.NewReader(data), e); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads a file with a library that is not ours.
func read[T any](t testing.TB, data []byte) []T {
	t.Helper()
	r := peer.NewGenericReader[T](bytes.NewReader(data))
	defer func() { _ = r.Close() }()
	rows := make([]T, r.NumRows())
	if n, err := r.Read(rows); n != len(rows) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %d of %d rows: %v", n, len(rows), err)
	}
	return rows
}
