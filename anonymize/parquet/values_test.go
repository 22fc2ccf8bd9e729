package parquet_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	peer "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"sallyport"
	"sallyport/anonymize/parquet"
)

type encoded struct {
	I32   int32    `parquet:"i32,delta"`
	I64   int64    `parquet:"i64,delta"`
	U8    uint8    `parquet:"u8"`
	U64   uint64   `parquet:"u64,dict"`
	S1    string   `parquet:"s1,delta"`
	S2    string   `parquet:"s2,dict"`
	S3    *string  `parquet:"s3,plain"`
	F32   float32  `parquet:"f32,split"`
	F64   float64  `parquet:"f64,split"`
	F     float64  `parquet:"f,dict"`
	Bool  bool     `parquet:"bool"`
	Opt   *bool    `parquet:"opt"`
	UUID  [16]byte `parquet:"uuid,uuid"`
	List  []int32  `parquet:"list,list"`
	Items []struct {
		A int64   `parquet:"a"`
		B *string `parquet:"b"`
		C []bool  `parquet:"c"`
	} `parquet:"items"`
	Map map[string]int32 `parquet:"map"`
}

func encodedRows(n int) []encoded {
	rows := make([]encoded, n)
	for i := range rows {
		r := &rows[i]
		*r = encoded{I32: int32(i*i*7919) - math.MaxInt32, I64: math.MinInt64 + int64(i)*1e15, U8: uint8(i), U64: math.MaxUint64 - uint64(i%3),
			S1: strings.Repeat("abc", i%9) + fmt.Sprint(i), S2: fmt.Sprint(i % 5), F32: float32(i) / 3, F64: float64(i) / 3, F: math.NaN(), Bool: i%3 == 0}
		for k := range r.UUID {
			r.UUID[k] = byte(i * k)
		}
		if i%4 != 0 {
			r.S3, r.Opt = text(strings.Repeat("z", i%4-1)), ptr(i%2 == 0)
		}
		for k := range i % 6 {
			r.List = append(r.List, int32(k))
			r.Items = append(r.Items, struct {
				A int64   `parquet:"a"`
				B *string `parquet:"b"`
				C []bool  `parquet:"c"`
			}{int64(k), r.S3, make([]bool, k%3)})
		}
		if i%2 == 0 {
			r.Map = map[string]int32{"k": int32(i)}
		}
	}
	rows[1].F = math.Float64frombits(0x7ff8dead00000001) // a NaN of its own
	rows[2].F, rows[3].F64 = math.Copysign(0, -1), math.Inf(-1)
	rows[4].F32 = math.Float32frombits(1)
	return rows
}

func ptr[T any](v T) *T { return &v }

// Whatever a library that is not ours wrote, it reads in the copy, to the bit.
// It cannot read LZ4 pages that do not compress, by whomever; DuckDB's tests
// read those.
func TestCopy(t *testing.T) {
	rows := encodedRows(3000)
	for name, options := range map[string][]peer.WriterOption{
		"one page":            {peer.DataPageVersion(2)},
		"small pages":         {peer.PageBufferSize(300), peer.Compression(&peer.Snappy)},
		"version 1":           {peer.DataPageVersion(1), peer.PageBufferSize(1000)},
		"version 1, zstd":     {peer.DataPageVersion(1), peer.Compression(&peer.Zstd), peer.MaxRowsPerRowGroup(700)},
		"brotli":              {peer.Compression(&peer.Brotli)},
		"dictionary overflow": {peer.DictionaryMaxBytes(100), peer.PageBufferSize(500)},
	} {
		t.Run(name, func(t *testing.T) {
			out := rewrite(t, write(t, rows, options...), &editor{})
			back := read[encoded](t, out)
			for i := range rows {
				// NaN is not equal to itself: compare its bits.
				if math.Float64bits(back[i].F) != math.Float64bits(rows[i].F) {
					t.Fatalf("record %d: %x is not %x", i, math.Float64bits(back[i].F), math.Float64bits(rows[i].F))
				}
				back[i].F = 0
				want := rows[i]
				want.F = 0
				if a, b := fmt.Sprintf("%#v", dereferenced(back[i])), fmt.Sprintf("%#v", dereferenced(want)); a != b {
					t.Fatalf("record %d:\n%s\n%s", i, a, b)
				}
			}
		})
	}
}

// dereferenced shows what pointers point to.
func dereferenced(e encoded) []any {
	show := func(p *string) string {
		if p == nil {
			return "null"
		}
		return "=" + *p
	}
	out := []any{e.I32, e.I64, e.U8, e.U64, e.S1, e.S2, show(e.S3), e.F32, math.Float64bits(e.F64), e.Bool, e.Opt == nil || *e.Opt, e.Opt == nil, e.UUID, fmt.Sprint(e.List), fmt.Sprint(e.Map)}
	for _, i := range e.Items {
		out = append(out, i.A, show(i.B), fmt.Sprint(i.C))
	}
	return out
}

// The older timestamps have no zone; the decimals have their digits.
func TestText(t *testing.T) {
	type row struct {
		Old  deprecated.Int96 `parquet:"old"`
		Dec  int64            `parquet:"dec,decimal(2:18)"`
		Fix  [3]byte          `parquet:"fix,decimal(1:6)"`
		Byte []byte           `parquet:"bytes"`
		Opt  *int32           `parquet:"opt"`
		Date int32            `parquet:"date,date"`
	}
	data := write(t, []row{
		{deprecated.Int96{0: 0, 1: 0, 2: 2440588}, -5, [3]byte{0xff, 0xff, 0xff}, []byte("text"), nil, -719529},
		{deprecated.Int96{0: 1000000001, 1: 0, 2: 2440589}, 123456789012345678, [3]byte{0x01, 0, 0}, []byte{0xff, 0x00}, ptr(int32(5)), math.MaxInt32},
	})
	var got [][]string
	e := &editor{drop: map[string]bool{"bytes": true}, change: map[string]func(string) string{}}
	note := &noting{editor: e, to: &got}
	var out bytes.Buffer
	if err := parquet.New().Rewrite(t.Context(), &out, bytes.NewReader(data), note); err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"1970-01-01T00:00:00", "-0.05", "-0.1", "text", "", "-000001-12-31"},
		{"1970-01-02T00:00:01.000000001", "1234567890123456.78", "6553.6", "ff00", "5", "+5881580-07-11"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// Bytes that are no text do not leave.
	e = &editor{}
	err := parquet.New().Rewrite(t.Context(), &out, bytes.NewReader(data), e)
	if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), `"bytes"`) {
		t.Errorf("bytes that are no text: %v", err)
	}
	// Every kind takes its own text back, and null for what it has not.
	same := func(s string) string { return s + "" }
	e = &editor{drop: map[string]bool{"bytes": true}, change: map[string]func(string) string{
		"old": func(string) string { return "2020-02-29T12:00:00.5" }, "dec": func(string) string { return "-1.5" }, "fix": func(string) string { return "*" },
		"opt": func(string) string { return "12" }, "date": same,
	}}
	type back struct {
		Old  *deprecated.Int96 `parquet:"old"`
		Dec  *int64            `parquet:"dec,decimal(2:18)"`
		Fix  *[3]byte          `parquet:"fix,decimal(1:6)"`
		Opt  *int32            `parquet:"opt"`
		Date *int32            `parquet:"date,date"`
	}
	for i, r := range read[back](t, rewrite(t, data, e)) {
		if *r.Dec != -150 || r.Fix != nil || *r.Opt != 12 || r.Old[2] != 2458909 || *r.Date != []int32{-719529, math.MaxInt32}[i] {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}

// noting notes what the editor is given.
type noting struct {
	*editor
	to *[][]string
}

func (n *noting) Record(fields [][]byte) ([][]byte, error) {
	var r []string
	for _, f := range fields {
		r = append(r, string(f))
	}
	*n.to = append(*n.to, r)
	return n.editor.Record(fields)
}
