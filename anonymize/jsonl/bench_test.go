package jsonl_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"sallyport/anonymize/jsonl"
)

// flat returns about size bytes of flat records, ten members each.
func flat(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `{"patient_id":"P%07d","visit_id":"V%08d","birth_date":"19%02d-%02d-%02d","admitted":"2021-%02d-%02d","age":%d,"sex":"%c","zip":"%05d","diagnosis":"I%02d.%d","weight":%d.%d,"note":"stable after day %d"}`+"\n",
			i/3, i, i%80+20, i%12+1, i%28+1, i%12+1, i%28+1, i%90, "FM"[i%2], i*7919%100000, i%99, i%9, 40+i%70, i%10, i%40)
	}
	return b.Bytes()
}

// nested returns about size bytes of FHIR patients.
func nested(b *testing.B, size int) []byte {
	one := read(b, "Patient.ndjson")
	return bytes.Repeat(one, size/len(one)+1)
}

// sink copies what it is given, so that no writer can skip its work.
type sink struct{ b [64 << 10]byte }

func (s *sink) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		rest = rest[copy(s.b[:], rest):]
	}
	return len(b), nil
}

// knows is an Editor that changes nothing and knows the columns.
type knows struct {
	pass
	columns []string
}

func (k knows) Columns() []string { return k.columns }

func BenchmarkRewrite(b *testing.B) {
	for name, data := range map[string][]byte{"flat": flat(8 << 20), "fhir": nested(b, 8<<20)} {
		b.Run(name, func(b *testing.B) {
			e := &editor{}
			if err := jsonl.New().Rewrite(b.Context(), io.Discard, bytes.NewReader(data), typed{e}); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := jsonl.New().Rewrite(b.Context(), &sink{}, bytes.NewReader(data), knows{columns: e.columns}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/twice", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := jsonl.New().Rewrite(b.Context(), &sink{}, bytes.NewReader(data), pass{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStandard copies the same bytes with encoding/json: into maps, as a
// program must that does not know the records' shape.
func BenchmarkStandard(b *testing.B) {
	for name, data := range map[string][]byte{"flat": flat(8 << 20), "fhir": nested(b, 8<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				d, e := json.NewDecoder(bytes.NewReader(data)), json.NewEncoder(&sink{})
				d.UseNumber()
				for {
					var record map[string]any
					if err := d.Decode(&record); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
					if err := e.Encode(record); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
