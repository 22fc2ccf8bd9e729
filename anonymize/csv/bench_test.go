package csv_test

import (
	"bytes"
	"encoding/binary"
	stdcsv "encoding/csv"
	"fmt"
	"io"
	"testing"

	"sallyport/anonymize/csv"
)

// table returns about size bytes: ten columns, about 100 bytes a row.
func table(size int) []byte {
	var b bytes.Buffer
	b.WriteString("patient_id,visit_id,birth_date,admitted,age,sex,zip,diagnosis,weight,note\n")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "P%07d,V%08d,19%02d-%02d-%02d,2021-%02d-%02d,%d,%c,%05d,I%02d.%d,%d.%d,stable after day %d\n",
			i/3, i, i%80+20, i%12+1, i%28+1, i%12+1, i%28+1, i%90, "FM"[i%2], i*7919%100000, i%99, i%9, 40+i%70, i%10, i%40)
	}
	return b.Bytes()
}

// sink copies what it is given, so that no writer can skip its work.
type sink struct{ b [64 << 10]byte }

func (s *sink) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		rest = rest[copy(s.b[:], rest):]
	}
	return len(b), nil
}

func BenchmarkRewrite(b *testing.B) {
	data := table(8 << 20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := csv.New().Rewrite(b.Context(), &sink{}, bytes.NewReader(data), pass{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDialects is BenchmarkRewrite for files that cost more to read; MB/s
// are of the file, compressed or not.
func BenchmarkDialects(b *testing.B) {
	plain := table(8 << 20)
	for _, c := range []struct {
		name, options string
		data          []byte
	}{
		{"plain", "", plain},
		{"gzip", "", gzipped(string(plain))},
		{"zstd", "", zstandard(string(plain))},
		{"windows-1252", "encoding=windows-1252", plain},
		{"utf-16le", "encoding=utf-16le", utf16(binary.LittleEndian, string(plain))},
		{"backslash", "escape=backslash", plain},
		{"null", "null=NA,NULL", plain},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := tuned(b, c.options)()
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				if err := f.Rewrite(b.Context(), &sink{}, bytes.NewReader(c.data), pass{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(plain))/1e6*float64(b.N)/b.Elapsed().Seconds(), "plain-MB/s")
		})
	}
}

// BenchmarkStandard copies the same bytes with encoding/csv, reusing records.
func BenchmarkStandard(b *testing.B) {
	data := table(8 << 20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r := stdcsv.NewReader(bytes.NewReader(data))
		r.ReuseRecord = true
		w := stdcsv.NewWriter(&sink{})
		for {
			record, err := r.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if err := w.Write(record); err != nil {
				b.Fatal(err)
			}
		}
		w.Flush()
	}
}
