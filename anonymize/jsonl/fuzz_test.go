package jsonl_test

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize/jsonl"
)

// FuzzAgainstStandard holds the reader against encoding/json: what we accept,
// it reads alike, and what it reads as lines of objects without a key twice,
// we accept. In what pieces the bytes arrive changes nothing, and what we
// refuse is refused as Invalid.
func FuzzAgainstStandard(f *testing.F) {
	for _, s := range []string{
		"", "{}\n", "\ufeff{\"a\":1}\r\n\n{\"a\":[1,{\"b\":null}]}", `{"a":{"b":"\u00e9\ud83d\ude00\n"},"a.b":-1.5e+3}`, `{"a":[[],{}],"b":true}`,
		`{"a":1,"\u0061":2}`, `{"a":"\ud83d"}`, "{\"a\":\"\xff\"}", "{\n\"a\":1}", "[{}]", `{"a":01}`, `{"a":1}{"b":2}`, "{\"a\":null}\n{\"a\":{\"b\":[null]}}",
		"\xff\xfe{\x00}\x00", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd\x04\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = jsonl.New().Sniff(data)
		all := func(s string) string { return s }
		e := &editor{}
		var out bytes.Buffer
		columns, err := columnsOf(t, data)
		if err == nil {
			e.leaving = map[string]func(string) string{}
			for _, c := range columns {
				e.leaving[c] = all
			}
			err = jsonl.New().Rewrite(t.Context(), &out, bytes.NewReader(data), knower{e, columns})
		}
		slow := &editor{release: e.release}
		var slowOut bytes.Buffer
		slowErr := jsonl.NewWith(3, 1).Rewrite(t.Context(), &slowOut, oneByte{bytes.NewReader(data)}, typed{slow})
		if (err == nil) != (slowErr == nil) || err != nil && err.Error() != slowErr.Error() {
			t.Fatalf("at once: %v; in small blocks: %v", err, slowErr)
		}
		if bytes.HasPrefix(data, []byte("\x1f\x8b")) || len(data) > 3 && string(data[1:4]) == "\x2a\x4d\x18" || bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")) {
			if err != nil && sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatalf("refused, but not as Invalid: %v", err)
			}
			return
		}
		records, standardErr := standard(data)
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatalf("refused, but not as Invalid: %v", err)
			}
			if standardErr == nil && utf8.Valid(data) && !surrogate.Match(data) && !strings.Contains(err.Error(), "deep") && !strings.Contains(err.Error(), "paths") {
				t.Fatalf("%q: refused, but not by encoding/json: %v", data, err)
			}
			return
		}
		if standardErr != nil {
			t.Fatalf("%q: accepted, but not by encoding/json: %v", data, standardErr)
		}
		if want := referenceColumns(records); !slices.Equal(columns, want) {
			t.Fatalf("%q: columns %q, want %q", data, columns, want)
		}
		if !bytes.Equal(out.Bytes(), slowOut.Bytes()) {
			t.Fatalf("at once %q; in small blocks %q", out.Bytes(), slowOut.Bytes())
		}
		back, err := standard(out.Bytes())
		if err != nil || len(back) != len(records) || len(e.from) != len(records) {
			t.Fatalf("%q: written %q: %d records of %d, %v", data, out.Bytes(), len(back), len(records), err)
		}
		for i, r := range records {
			if fields := referenceFields(r, columns); !slices.Equal(e.from[i], fields) {
				t.Fatalf("%q: record %d: fields %q, want %q", data, i, e.from[i], fields)
			}
			if got, want := back[i].encode(), e.write(r, nil, nil).encode(); got != want {
				t.Fatalf("%q: record %d written as %s, want %s", data, i, got, want)
			}
		}
	})
}

var surrogate = regexp.MustCompile(`(?i)\\ud[89a-f]`)

// columnsOf returns the columns that are found in data.
func columnsOf(t *testing.T, data []byte) ([]string, error) {
	e := &editor{}
	err := jsonl.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(data), typed{e})
	return e.columns, err
}

// standard reads lines with encoding/json.
func standard(data []byte) ([]*val, error) {
	var records []*val
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		if len(bytes.Trim(line, " \t\r\n")) == 0 {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(line, &object); err != nil {
			return nil, err
		}
		v, err := decode(line)
		if err != nil {
			return nil, err
		}
		if v.kind != '{' {
			return nil, io.ErrUnexpectedEOF
		}
		records = append(records, v)
	}
	return records, nil
}

type oneByte struct{ *bytes.Reader }

func (o oneByte) Read(b []byte) (int, error) { return iotest.OneByteReader(o.Reader).Read(b) }
