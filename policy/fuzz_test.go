package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzParseJSON: what is accepted is what encoding/json reads, and nothing
// that encoding/json refuses is accepted.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.50, null, true, "x"]}`, `{"a":1,"a":2}`, `[1,]`, `{"a"}`, `{} {}`, `1e5`, "", `{"a": {"b": {}}}`, `[`, `nul`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := parseJSON(src)
		dec := json.NewDecoder(bytes.NewReader(src))
		dec.UseNumber()
		var want any
		if !json.Valid(src) {
			if err == nil {
				t.Fatalf("accepted %q", src)
			}
			return
		}
		if err != nil {
			return // a key twice, or too deep
		}
		if err := dec.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, want %v (%v)", src, got, want, err)
		}
	})
}

// FuzzDecodeVerdict: no document makes the decoder panic, and what it lets
// through as allowed has every field that bounds the job.
func FuzzDecodeVerdict(f *testing.F) {
	for _, s := range []string{
		`{"allow": true, "reasons": [], "rules": ["r"], "destination": "local", "masks": {"a": {"drop": {}}}, "limits": {"key_ttl": 1, "price": 0, "budget": 0, "copies": 1, "regions": [], "min_class": 0, "max_unique": 0, "reviews": 0}}`,
		`{"allow": false, "reasons": ["x"], "rules": []}`, `{"allow": true}`, `[]`, `null`, `{"masks": {"a": {"b": {}, "c": {}}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		doc, err := parseJSON(src)
		if err != nil {
			return
		}
		for _, known := range []fields{admitFields, releaseFields} {
			v, err := decodeVerdict(doc, known)
			if err != nil && v.Allow {
				t.Fatal("allowed with an error")
			}
			if !v.Allow {
				continue
			}
			if len(v.Reasons) > 0 || len(v.Rules) == 0 {
				t.Fatalf("%+v", v)
			}
			if len(known) == len(admitFields) && (v.Destination == "" || v.Limits.KeyTTL < 1 || v.Limits.Copies < 1 || v.Limits.Regions == nil) {
				t.Fatalf("%+v", v)
			}
		}
	})
}
