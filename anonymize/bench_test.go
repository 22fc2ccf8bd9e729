package anonymize_test

import (
	"bytes"
	"fmt"
	"testing"

	"sallyport"
	"sallyport/anonymize"
)

// patients returns about size bytes of a generated table: ten columns, about
// 100 bytes a row.
func patients(size int) []byte {
	var b bytes.Buffer
	b.WriteString("patient_id,visit_id,birth_date,admitted,age,sex,zip,diagnosis,weight,note\n")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "P%07d,V%08d,19%02d-%02d-%02d,2021-%02d-%02d,%d,%c,%05d,I%02d.%d,%d.%d,stable after day %d\n",
			i/3, i, i%80+20, i%12+1, i%28+1, i%12+1, i%28+1, i%90, "FM"[i%2], i*7919%100000, i%99, i%9, 40+i%70, i%10, i%40)
	}
	return b.Bytes()
}

// patientPlan has two keyed pseudonyms, a date shift and three
// generalizations; diagnosis, weight and sex leave as they are.
func patientPlan() anonymize.Plan {
	column := func(name string, role sallyport.Role) sallyport.Column {
		return sallyport.Column{Name: name, Role: role}
	}
	return anonymize.Plan{Dataset: "patients", Format: "csv", Subject: "patient_id",
		Columns: []sallyport.Column{column("patient_id", sallyport.Direct), column("visit_id", sallyport.Direct),
			column("birth_date", sallyport.Quasi), column("admitted", sallyport.Insensitive), column("age", sallyport.Quasi),
			column("sex", sallyport.Quasi), column("zip", sallyport.Quasi), column("diagnosis", sallyport.Sensitive),
			column("weight", sallyport.Insensitive), column("note", sallyport.Insensitive)},
		Obligations: []sallyport.Obligation{
			{Column: "patient_id", Verb: "pseudonym"},
			{Column: "visit_id", Verb: "pseudonym", Args: map[string]any{"scope": "visit"}},
			{Column: "birth_date", Verb: "date", Args: map[string]any{"to": "year"}},
			{Column: "admitted", Verb: "shift_date", Args: map[string]any{"days": 365}},
			{Column: "age", Verb: "generalize", Args: map[string]any{"width": 10}},
			{Column: "sex"},
			{Column: "zip", Verb: "prefix", Args: map[string]any{"length": 3, "fill": "0"}},
			{Column: "diagnosis"},
			{Column: "weight"},
			{Column: "note", Verb: "drop"},
		}}
}

func testEnv() anonymize.PassEnv {
	return anonymize.PassEnv{Key: func(purpose string) []byte {
		key := make([]byte, 32)
		copy(key, purpose)
		return key
	}}
}

type sink struct{ b [256 << 10]byte }

func (s *sink) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		rest = rest[copy(s.b[:], rest):]
	}
	return len(b), nil
}

// BenchmarkRun is the whole pass of the design's figure, without the seal.
func BenchmarkRun(b *testing.B) {
	data := patients(8 << 20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := runner().Run(b.Context(), patientPlan(), testEnv(), &sink{}, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
