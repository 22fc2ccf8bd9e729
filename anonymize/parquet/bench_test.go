package parquet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	peer "github.com/parquet-go/parquet-go"

	"sallyport/anonymize/parquet"
)

type patient struct {
	Patient   string  `parquet:"patient_id"`
	Visit     string  `parquet:"visit_id"`
	Birth     int32   `parquet:"birth_date,date"`
	Age       int32   `parquet:"age"`
	Sex       string  `parquet:"sex,dict"`
	Zip       string  `parquet:"zip,dict"`
	Diagnosis string  `parquet:"diagnosis,dict"`
	Weight    float64 `parquet:"weight"`
	Note      string  `parquet:"note"`
}

func patients(n int) []patient {
	rows := make([]patient, n)
	for i := range rows {
		rows[i] = patient{fmt.Sprintf("P%07d", i/3), fmt.Sprintf("V%08d", i), int32(i % 20000), int32(i % 90), "FM"[i%2 : i%2+1], fmt.Sprintf("%05d", i*7919%100000),
			fmt.Sprintf("I%02d.%d", i%99, i%9), 40 + float64(i%700)/10, fmt.Sprintf("stable after day %d", i%40)}
	}
	return rows
}

// copied lets everything pass with its type and counts the bytes of text.
type copied struct{ bytes int64 }

func (*copied) Header(columns []string) ([]string, error) { return columns, nil }
func (*copied) SameType(string) bool                      { return true }
func (c *copied) Record(fields [][]byte) ([][]byte, error) {
	for _, f := range fields {
		c.bytes += int64(len(f)) + 1
	}
	return fields, nil
}

// MB/s are of the values as text, as CSV would have them.
func BenchmarkRewrite(b *testing.B) {
	for name, codec := range map[string]peer.WriterOption{"none": peer.Compression(&peer.Uncompressed), "snappy": peer.Compression(&peer.Snappy), "zstd": peer.Compression(&peer.Zstd)} {
		data := write(b, patients(100_000), codec, peer.MaxRowsPerRowGroup(50_000))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := &copied{}
				if err := parquet.New().Rewrite(b.Context(), io.Discard, bytes.NewReader(data), c); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(c.bytes)
			}
		})
	}
}

// BenchmarkLibrary copies the same rows with the library, as structs of Go.
func BenchmarkLibrary(b *testing.B) {
	data := write(b, patients(100_000), peer.Compression(&peer.Snappy), peer.MaxRowsPerRowGroup(50_000))
	c := &copied{}
	if err := parquet.New().Rewrite(b.Context(), io.Discard, bytes.NewReader(data), c); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(c.bytes)
	b.ReportAllocs()
	rows := make([]patient, 1000)
	for b.Loop() {
		r := peer.NewGenericReader[patient](bytes.NewReader(data))
		w := peer.NewGenericWriter[patient](io.Discard, peer.Compression(&peer.Snappy), peer.MaxRowsPerRowGroup(50_000))
		for {
			n, err := r.Read(rows)
			if _, err := w.Write(rows[:n]); err != nil {
				b.Fatal(err)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := errors.Join(r.Close(), w.Close()); err != nil {
			b.Fatal(err)
		}
	}
}
