package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sallyport"
	"sallyport/gateway"
)

func TestResultFacts(t *testing.T) {
	perRecord := "id,count\n" + strings.Repeat("x,12\n", 360)
	cases := map[string]struct {
		result   string
		want     gateway.ResultFacts
		warnings []string // each a part of one, in order
	}{
		"counts": {"ward,count\nsparrow,12\nsouth,3\neast,0\nwest,11\n",
			gateway.ResultFacts{Media: "text/csv", Records: 4, Columns: 2, Searched: true, CountColumns: 1, SmallCounts: 1}, []string{"1 counts are below 11"}},
		"no counts": {"ward,count\nsparrow,many\n", gateway.ResultFacts{Media: "text/csv", Records: 1, Columns: 2, Searched: true}, nil},
		"one a record": {perRecord, gateway.ResultFacts{Media: "text/csv", Records: 360, Columns: 2, Searched: true, PerRecord: true, CountColumns: 1},
			[]string{"each of the 360 records"}},
		"identifiers": {"who,n\nm17@ward.example,40\n212-555-0143 x,50\n123-45-6789,60\n",
			gateway.ResultFacts{Media: "text/csv", Records: 3, Columns: 2, Searched: true, CountColumns: 1, Identifiers: map[string]int64{"email": 1, "phone": 1, "ssn": 1}},
			[]string{"e-mail", "phone", "social security"}},
		"ragged": {"a,b\n1,2\n3\n", gateway.ResultFacts{Media: "text/csv", Searched: true, Malformed: "*"}, []string{"no well-formed table"}},
		"json":   {`{"mail": "m17@ward.example"}`, gateway.ResultFacts{Media: "application/json", Searched: true, Identifiers: map[string]int64{"email": 1}}, []string{"looks like application/json", "e-mail"}},
		"lines":  {"{\"a\":1}\n{\"a\":2}\n\n", gateway.ResultFacts{Media: "application/x-ndjson", Records: 2, Searched: true}, []string{"looks like application/x-ndjson"}},
		"binary": {"a,b\n1,2\n\x00\xff", gateway.ResultFacts{Media: "application/octet-stream"}, []string{"looks like application/octet-stream", "not searched"}},
		"gzip":   {"\x1f\x8b\x08\x00\x00", gateway.ResultFacts{Media: "application/x-gzip"}, []string{"looks like application/x-gzip", "not searched"}},
		"empty":  {"", gateway.ResultFacts{Media: "empty", Searched: true}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newReviewLab(t, 1, func(l *lab) {
				for name, a := range l.parts.Algorithms {
					a.Media = "text/csv"
					l.parts.Algorithms[name] = a
				}
			})
			l.gives(c.result)
			l.awaitReview(request("burst", "patients", sallyport.Outside))
			r, err := l.g.ReviewOf(ruth, "burst")
			if err != nil {
				t.Fatal(err)
			}
			got, warnings := r.Facts, r.Facts.Warnings
			want := c.want
			want.Size, want.Declared, want.Released, want.SmallBelow = int64(len(c.result)), "text/csv", 360, 11
			if want.Malformed == "*" {
				want.Malformed = got.Malformed
				if got.Malformed == "" {
					t.Error("it is taken for a table")
				}
			}
			for k, n := range want.Identifiers {
				if got.Identifiers[k] != n {
					t.Errorf("%d %s, want %d", got.Identifiers[k], k, n)
				}
			}
			if len(got.Identifiers) != len(want.Identifiers) {
				t.Errorf("identifiers %v", got.Identifiers)
			}
			got.Identifiers, want.Identifiers, got.Warnings = nil, nil, nil
			if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
				t.Errorf("facts\n%s, want\n%s", g, w)
			}
			if len(warnings) != len(c.warnings) {
				t.Errorf("warnings %q", warnings)
			}
			for i := range min(len(warnings), len(c.warnings)) {
				if !strings.Contains(warnings[i], c.warnings[i]) {
					t.Errorf("warning %q does not say %q", warnings[i], c.warnings[i])
				}
			}
			// The facts are on record, without a value.
			found := false
			for _, rec := range l.records("burst") {
				b, _ := json.Marshal(rec.Entry)
				found = found || rec.Entry.Step == "await review" && strings.Contains(string(b), `"small_below":11`)
				if strings.Contains(string(b), "ward.example") || strings.Contains(string(b), "sparrow") {
					t.Errorf("the record holds a value: %s", b)
				}
			}
			if !found {
				t.Error("the facts are not on record")
			}
		})
	}
}
