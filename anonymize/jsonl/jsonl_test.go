package jsonl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/codec"
	"sallyport/anonymize/formattest"
	"sallyport/anonymize/jsonl"
)

// headed is the format with a memory for the suite, which wants to read back
// what it wrote with the columns in the same order, and be there one record
// left or none. In a file without a header only an Editor can know that.
type headed struct {
	*jsonl.Format
	written []byte
	columns []string
}

func (h *headed) Rewrite(ctx context.Context, dst io.Writer, src anonymize.Source, edit anonymize.Editor) error {
	r, ok := edit.(*formattest.Recorder)
	b, whole := src.(*bytes.Reader)
	if !ok || !whole {
		return h.Format.Rewrite(ctx, dst, src, edit)
	}
	data := make([]byte, b.Len())
	if _, err := b.ReadAt(data, 0); err != nil && len(data) > 0 {
		return err
	}
	if h.written != nil && bytes.Equal(data, h.written) {
		edit = recorder{r, h.columns}
	}
	var out bytes.Buffer
	err := h.Format.Rewrite(ctx, io.MultiWriter(dst, &out), src, edit)
	h.written = append([]byte{}, out.Bytes()...)
	h.columns = slices.DeleteFunc(slices.Clone(r.Columns), func(c string) bool { return c == r.Drop })
	return err
}

// recorder is a Recorder that knows the columns.
type recorder struct {
	*formattest.Recorder
	known []string
}

func (r recorder) Columns() []string { return r.known }

func list(items ...string) string {
	var l []byte
	for _, i := range items {
		l = anonymize.AppendItem(l, []byte(i))
	}
	return string(l)
}

var bad = []formattest.Bad{
	{Name: "no object", Data: []byte("{\"a\":1}\n\"secret\"\n"), Says: "line 2, byte 1: no JSON object", Secret: "secret"},
	{Name: "an array", Data: []byte("[{\"a\":\"secret\"}]\n"), Says: "line 1, byte 1: an array", Secret: "secret"},
	{Name: "a document over several lines", Data: []byte("{\n  \"a\": \"secret\"\n}\n"), Says: "line 1, byte 2: the object does not end on its line", Secret: "secret"},
	{Name: "cut off", Data: []byte("{\"a\":1}\n{\"a\":\"secret"), Says: "line 2, byte 13: the object does not end", Secret: "secret"},
	{Name: "two on a line", Data: []byte("{\"a\":1}\n{\"a\":1} {\"a\":2}\n"), Says: "line 2, byte 9: more after the object"},
	{Name: "a comma after it", Data: []byte("{\"a\":1},\n"), Says: "line 1, byte 8: more after"},
	{Name: "a key twice", Data: []byte("\n{\"a\":1,\"secret\":2,\"secret\":3}\n"), Says: "line 2, byte 19: an object has a key twice", Secret: "secret"},
	{Name: "a key twice, spelled otherwise", Data: []byte(`{"a":1,"\u0061":2}`), Says: "line 1, byte 8: an object has a key twice"},
	{Name: "a key twice, holding nothing", Data: []byte(`{"a":1,"b":{},"b":[]}`), Says: "line 1, byte 15: an object has a key twice"},
	{Name: "a key twice, within", Data: []byte(`{"a":1,"b":[{"x":{},"x":{}}]}`), Says: "line 1, byte 21: an object has a key twice"},
	{Name: "no colon", Data: []byte(`{"a" 1}`), Says: "line 1, byte 6: not JSON: a colon"},
	{Name: "no value", Data: []byte(`{"a":}`), Says: "byte 6: not JSON: a value"},
	{Name: "no key", Data: []byte(`{a:1}`), Says: "byte 2: not JSON: a key"},
	{Name: "a comma too many", Data: []byte(`{"a":1,}`), Says: "byte 8: not JSON: a key"},
	{Name: "a comma too many in an array", Data: []byte(`{"a":[1,]}`), Says: "byte 9: not JSON: a value"},
	{Name: "no comma", Data: []byte(`{"a":1 "b":2}`), Says: "byte 8: not JSON: a comma or closing brace"},
	{Name: "no comma in an array", Data: []byte(`{"a":[1 2]}`), Says: "byte 9: not JSON: a comma or closing bracket"},
	{Name: "the wrong bracket", Data: []byte(`{"a":[1}`), Says: "byte 8: not JSON: a comma or closing bracket"},
	{Name: "NaN", Data: []byte(`{"a":NaN}`), Says: "byte 6: not JSON: a value"},
	{Name: "nul", Data: []byte(`{"a":nul}`), Says: "byte 6: not JSON: a value"},
	{Name: "single quotes", Data: []byte(`{'a':1}`), Says: "byte 2: not JSON: a key"},
	{Name: "a comment", Data: []byte("{\"a\":1} // secret\n"), Says: "byte 9: more after", Secret: "secret"},
	{Name: "leading zero", Data: []byte(`{"a":01}`), Says: "byte 7: not JSON"},
	{Name: "plus", Data: []byte(`{"a":+1}`), Says: "byte 6: not JSON"},
	{Name: "no fraction", Data: []byte(`{"a":1.}`), Says: "byte 6: not JSON: a number"},
	{Name: "no integer", Data: []byte(`{"a":-.5}`), Says: "byte 6: not JSON: a number"},
	{Name: "no exponent", Data: []byte(`{"a":1e+}`), Says: "byte 6: not JSON: a number"},
	{Name: "unknown escape", Data: []byte(`{"a":"\x41"}`), Says: "byte 8: not JSON: an escape"},
	{Name: "short escape", Data: []byte(`{"a":"\u00g1"}`), Says: "byte 7: not JSON: four hexadecimal digits"},
	{Name: "half a character", Data: []byte(`{"a":"x\ud83d"}`), Says: "byte 8: an escape that is half a character"},
	{Name: "half a character before another", Data: []byte(`{"a":"\ud83d\u0041"}`), Says: "byte 7: an escape that is half a character"},
	{Name: "the other half", Data: []byte(`{"a":"\ude00"}`), Says: "byte 7: an escape that is half a character"},
	{Name: "half a character in a key", Data: []byte(`{"\ud83d":1}`), Says: "byte 3: an escape that is half a character"},
	{Name: "a tab in a string", Data: []byte("{\"a\":\"sec\tret\"}"), Says: "byte 10: a control character", Secret: "ret"},
	{Name: "NUL", Data: []byte("{\"a\":1}\n{\"a\":\"\x00\"}"), Says: "line 2, byte 7: a control character"},
	{Name: "Latin-1", Data: []byte("{\"a\":1}\n{\"a\":\"M\xfcller\"}\n"), Says: "line 2, byte 8: not UTF-8", Secret: "ller"},
	{Name: "a surrogate in UTF-8", Data: []byte("{\"a\":\"\xed\xa0\x80\"}\n"), Says: "line 1, byte 7: not UTF-8"},
	{Name: "UTF-16", Data: []byte("\xff\xfe{\x00}\x00"), Says: "UTF-16"},
	{Name: "a second byte order mark", Data: []byte("\ufeff\ufeff{}"), Says: "line 1, byte 1: no JSON object"},
	{Name: "a record separator", Data: []byte("\x1e{\"a\":1}\n"), Says: "byte 1: no JSON object"},
	{Name: "too deep", Data: []byte("{\"a\":1}\n{\"a\":" + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}"), Says: "line 2, byte 69: nested more than 64 deep"},
	{Name: "far too deep", Data: []byte("{\"a\":" + strings.Repeat("[", 1e6)), Says: "line 1, byte 69: nested more than 64 deep"},
	{Name: "far too deep in objects", Data: []byte(strings.Repeat("{\"a\":", 1e6)), Says: "nested more than 64 deep"},
	{Name: "a long line", Data: append([]byte("{\"a\":1}\n{\"a\":\""), bytes.Repeat([]byte("x"), 17<<20)...), Says: "line 2: longer than 16 MiB"},
	{Name: "a long array", Data: append([]byte("["), bytes.Repeat([]byte("{},"), 6<<20)...), Says: "line 1: longer than 16 MiB"},
	{Name: "too many paths", Data: []byte(object(100_001)), Says: "too many paths"},
	{Name: "too long paths", Data: []byte(`{"` + strings.Repeat("x", 9<<20) + `":{"a":1}}`), Says: "too many paths, or too long ones"},
	{Name: "truncated gzip", Data: gzipped("{\"a\":1,\"b\":2}\n")[:20], Says: "cut off"},
}

// object is a line with n keys.
func object(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

func compressed(name, plain string) []byte {
	var b bytes.Buffer
	w, err := codec.Writer(&b, name)
	if err != nil {
		panic(err)
	}
	if _, err := io.WriteString(w, plain); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipped(plain string) []byte { return compressed("gzip", plain) }

func TestFormat(t *testing.T) {
	two := []string{"a", "b"}
	nested := `{"id":"1","name":[{"family":"x","given":["p","q"]},{"family":"y","given":[]}],"pos":{"x":1.50},"tags":["t"]}` + "\n" +
		`{"id":"2","name":[{"given":["r"],"family":"z"}],"tags":[],"pos":{"x":-2e3}}` + "\n"
	one := &headed{Format: jsonl.New()}
	formattest.Run(t, func() anonymize.Format { return one }, formattest.Samples{
		Good: []formattest.Sample{
			{Name: "plain", Data: []byte("{\"a\":1,\"b\":\"2\"}\n{\"a\":3,\"b\":\"4\"}\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "no last line end", Data: []byte("{\"a\":1,\"b\":2}\n{\"b\":4,\"a\":3}"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "CRLF, spaces and byte order mark", Data: []byte("\ufeff{ \"a\" : 1 ,\t\"b\":\"x\" }\r\n {\"a\":null,\"b\":\"\"} \r\n"), Columns: two, Records: [][]string{{"1", "x"}, {"", ""}}},
			{Name: "blank lines", Data: []byte("\n \t\r\n{\"a\":true,\"b\":false}\n\n\n{\"a\":3,\"b\":4}\n\r\n"), Columns: two, Records: [][]string{{"true", "false"}, {"3", "4"}}},
			{Name: "escapes", Data: []byte(`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","\u0062":"` + "\u2028é😀" + `"}` + "\n{\"a\":\"\\u0000\",\"b\":\"1\"}\n"), Columns: two,
				Records: [][]string{{"\"\\/\b\f\n\r\té😀", "\u2028é😀"}, {"\x00", "1"}}},
			{Name: "numbers", Data: []byte("{\"a\":-0,\"b\":1.50}\n{\"a\":123456789012345678901234567890,\"b\":1E-400}\n"), Columns: two, Records: [][]string{{"-0", "1.50"}, {"123456789012345678901234567890", "1E-400"}}},
			{Name: "keys", Data: []byte("{\"a.b\":1,\"\":2,\"[]\":3,\"x\\\"y\":{\"[0]\":4},\"é ü\":5}\n{\"a.b\":1,\"\":2,\"[]\":3,\"x\\\"y\":{\"[0]\":4},\"é ü\":5}\n"),
				Columns: []string{`["a.b"]`, `[""]`, `["[]"]`, `["x\"y"]["[0]"]`, "é ü"}, Records: [][]string{{"1", "2", "3", "4", "5"}, {"1", "2", "3", "4", "5"}}},
			{Name: "nested", Data: []byte(nested + nested), Columns: []string{"id", "name[].family", "name[].given[]", "pos.x", "tags[]"},
				Records: [][]string{{"1", list("x", "y"), list("p", "q"), "1.50", list("t")}, {"2", list("z"), list("r"), "-2e3", ""}, {"1", list("x", "y"), list("p", "q"), "1.50", list("t")}, {"2", list("z"), list("r"), "-2e3", ""}}[:4]},
			{Name: "gzip", Data: gzipped("{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":4}\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
			{Name: "zstd", Data: compressed("zstd", "{\"a\":1,\"b\":2}\n{\"a\":3,\"b\":4}\n"), Columns: two, Records: [][]string{{"1", "2"}, {"3", "4"}}},
		},
		Bad: bad,
		Foreign: [][]byte{[]byte("a,b\n1,2\n"), []byte("PAR1\x00\x01"), []byte("[{\"a\":1}]\n"), []byte("{\n  \"a\": 1\n}\n"), []byte("{\"a\":1},\n"), []byte("{'a':1}\n"),
			[]byte("\n \n"), []byte("{\\rtf1 text}\n"), []byte("{\"a\":\"\xff\"}\n"), []byte("{\"a\":1}{\"a\":2}\n"), []byte("#!/bin/sh\n{\"a\":1}\n"), gzipped("a,b\n1,2\n")},
		Large: func(size int64) anonymize.Source {
			return stream(`{"id":123456,"name":[{"family":"some\tone"}],"note":"a text"}`+"\n", size)
		},
	})
}

// What is bad is bad also where the columns are known.
func TestBadWhereColumnsAreKnown(t *testing.T) {
	for _, b := range bad {
		says := b.Says
		if strings.Contains(says, "paths") {
			says = "a value at a path that is not among the dataset's columns"
		}
		var out bytes.Buffer
		err := jsonl.New().Rewrite(t.Context(), &out, bytes.NewReader(b.Data), recorder{&formattest.Recorder{}, []string{"a", "a[]", "secret"}})
		if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), says) || sallyport.HintOf(err) == "" {
			t.Errorf("%s: got %v, want %q", b.Name, err, says)
		}
		if b.Secret != "" && strings.Contains(err.Error()+sallyport.HintOf(err), b.Secret) {
			t.Errorf("%s: %v quotes a value", b.Name, err)
		}
	}
}

func TestSniff(t *testing.T) {
	for _, head := range []string{
		"{}", "\ufeff \n{\"a\":1}\n{\n", "{\"a\":\"" + strings.Repeat("x", 4090), "{\"a\":\"é"[:7], "{\"a\":\"\\ud83d", "{\"a\":\"\\u00", "{\"a\":tr", "{\"a\":-", "{\"a\":12", "{\"a\":[1,", "{\"a\"", "{",
	} {
		if !jsonl.New().Sniff([]byte(head)) {
			t.Errorf("%.30q is not recognized", head)
		}
	}
	for _, head := range []string{"", "\n", "{\"a\":trx", "{\"a\":12x", "{\"a\":\"\\ud83dx", "{]"} {
		if jsonl.New().Sniff([]byte(head)) {
			t.Errorf("%.30q is recognized", head)
		}
	}
}

func TestOutput(t *testing.T) {
	upper := func(s string) string { return strings.ToUpper(s) }
	same := func(s string) string { return s }
	fixed := func(text string) func(string) string { return func(string) string { return text } }
	for _, c := range []struct {
		name, in string
		leaving  map[string]func(string) string
		other    map[string]bool
		want     string
	}{
		{"nothing leaves of a record", `{"a":1}` + "\n" + `{"b":2}`, map[string]func(string) string{"a": same}, nil, "{\"a\":1}\n{}\n"},
		{"keys keep their order and spelling is plain", `{ "b" : 2, "\u0061":1 }`, map[string]func(string) string{"a": same, "b": same}, nil, "{\"b\":2,\"a\":1}\n"},
		{"an unchanged token stays", `{"a":"\u0041\/","b":1.50e+1}`, map[string]func(string) string{"a": same, "b": same}, nil, `{"a":"\u0041\/","b":1.50e+1}` + "\n"},
		{"a changed string", `{"a":"x\"é\u0001"}`, map[string]func(string) string{"a": upper}, nil, `{"a":"X\"É\u0001"}` + "\n"},
		{"a changed number", `{"a":95}`, map[string]func(string) string{"a": fixed("90")}, nil, "{\"a\":90}\n"},
		{"a number made a range", `{"a":95}`, map[string]func(string) string{"a": fixed("[90,100)")}, nil, "{\"a\":\"[90,100)\"}\n"},
		{"a number made no JSON number", `{"a":95,"b":1,"c":1}`, map[string]func(string) string{"a": fixed("095"), "b": fixed("1 "), "c": fixed("0x1")}, nil, "{\"a\":\"095\",\"b\":\"1 \",\"c\":\"0x1\"}\n"},
		{"a string made a number", `{"a":"95"}`, map[string]func(string) string{"a": fixed("90")}, nil, "{\"a\":\"90\"}\n"},
		{"booleans", `{"a":true,"b":true,"c":true}`, map[string]func(string) string{"a": fixed("false"), "b": fixed("no"), "c": fixed("1")}, nil, "{\"a\":false,\"b\":\"no\",\"c\":\"1\"}\n"},
		{"emptied", `{"a":"x","b":1,"c":true}`, map[string]func(string) string{"a": fixed(""), "b": fixed(""), "c": fixed("")}, nil, "{\"a\":\"\",\"b\":null,\"c\":null}\n"},
		{"empty stays", `{"a":"","b":null}`, map[string]func(string) string{"a": fixed("x"), "b": fixed("x")}, nil, "{\"a\":\"\",\"b\":null}\n"},
		{"another type", `{"a":1,"b":true,"c":null,"d":"x"}`, map[string]func(string) string{"a": same, "b": same, "c": same, "d": same},
			map[string]bool{"a": true, "b": true, "c": true, "d": true}, "{\"a\":\"1\",\"b\":\"true\",\"c\":null,\"d\":\"x\"}\n"},
		{"emptied containers", `{"a":{"x":1},"b":[{"x":1},{"y":2},{"x":1}],"c":[[{"x":1}]],"d":4}`, map[string]func(string) string{"b[].y": same, "d": same}, nil, "{\"b\":[{\"y\":2}],\"d\":4}\n"},
		{"empty containers", `{"a":{},"b":[],"c":[{},[]],"d":1}` + "\n" + `{"a":{"x":1},"b":[1],"c":[{"x":1},[1]]}`, map[string]func(string) string{"a.x": same, "c[][]": same}, nil,
			"{\"a\":{},\"c\":[[]]}\n{\"a\":{\"x\":1},\"c\":[[1]]}\n"},
		{"null for an object", `{"a":null,"b":null,"c":[null]}` + "\n" + `{"a":{"x":1},"b":[1],"c":[{"x":1}]}`, map[string]func(string) string{"a.x": same, "c[].x": same}, nil,
			"{\"a\":null,\"c\":[null]}\n{\"a\":{\"x\":1},\"c\":[{\"x\":1}]}\n"},
		{"a value here, an object there", `{"a":1}` + "\n" + `{"a":{"b":2}}` + "\n" + `{"a":[3]}`, map[string]func(string) string{"a": same, "a[]": same}, nil, "{\"a\":1}\n{}\n{\"a\":[3]}\n"},
		{"items in document order", `{"l":[{"v":"x"},{"v":["y",{"v":"n"}]},{"v":"z"},{"v":null}]}`, map[string]func(string) string{"l[].v": upper, "l[].v[]": upper}, nil,
			`{"l":[{"v":"X"},{"v":["Y"]},{"v":"Z"},{"v":null}]}` + "\n"},
		{"cut inside a character", `{"a":"é"}`, map[string]func(string) string{"a": func(s string) string { return s[:1] }}, nil, "{\"a\":\"\ufffd\"}\n"},
	} {
		var out bytes.Buffer
		err := jsonl.New().Rewrite(t.Context(), &out, strings.NewReader(c.in), typed{&editor{release: release{leaving: c.leaving, other: c.other}}})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if out.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, out.String(), c.want)
		}
	}
}

// A Knower's columns are the header, in its order, also those that no record has.
func TestKnownColumns(t *testing.T) {
	known := []string{"z.q[]", "b", "a"}
	r := &formattest.Recorder{}
	if err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader(`{"a":1}`+"\n"+`{"b":2,"q":{},"r":[[],{}],"z":null}`), recorder{r, known}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Columns, known) || !slices.EqualFunc(r.Records, [][]string{{"", "", "1"}, {"", "2", ""}}, slices.Equal[[]string]) {
		t.Errorf("columns %q, records %q", r.Columns, r.Records)
	}
	for name, line := range map[string]string{
		"another key": `{"a":1,"secret":2}`, "a null": `{"a":1,"secret":null}`, "deeper": `{"a":{"secret":1}}`, "an item": `{"b":["secret"]}`, "within": `{"z":{"q":[{"secret":[[{"x":"y"}]]}]}}`, "a value": `{"z":"secret"}`,
	} {
		err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader("{}\n"+line), recorder{&formattest.Recorder{}, known})
		if sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "line 2, byte ") || !strings.Contains(err.Error(), "not among the dataset's columns") {
			t.Errorf("%s: %v", name, err)
		} else if text := err.Error() + sallyport.HintOf(err); strings.Contains(text, "secret") || !strings.Contains(text, "Scan") {
			t.Errorf("%s: %s", name, text)
		}
	}
	for _, columns := range [][]string{{"a", "a"}, {""}, {"a."}, {".a"}, {"[]"}, {"a[0]"}, {`["a"]`}, {`a["b"]`}, {`["a.b`}, {`["a.b"`}, {`["\u0061.b"]`}, {"a]"}, {"a\n"}, {"a[]b"}, {"a" + strings.Repeat("[]", 64)}} {
		if err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader("{}"), recorder{&formattest.Recorder{}, columns}); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("columns %q: %v", columns, err)
		}
	}
}

// Editors that answer out of turn are a bug of ours, not a broken file.
func TestWrongAnswers(t *testing.T) {
	for name, answer := range map[string][][]byte{
		"a column too few": {[]byte("1")}, "an item too many": {[]byte("1"), []byte("\x01x\x01y\x01z")}, "an item too few": {[]byte("1"), []byte("\x01x")}, "no list": {[]byte("1"), []byte("xyz")}, "no items": {[]byte("1"), {}},
	} {
		err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader(`{"a":1,"l":["p","q"]}`), wrong{answer: answer})
		if sallyport.KindOf(err) != sallyport.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, header := range [][]string{{"b"}, {"a", "a"}, {""}, {"l"}} {
		if err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader(`{"a":1,"l":["p","q"]}`), wrong{header: header}); sallyport.KindOf(err) != sallyport.Internal {
			t.Errorf("header %q: %v", header, err)
		}
	}
}

type wrong struct {
	header []string
	answer [][]byte
}

func (w wrong) Header(columns []string) ([]string, error) {
	if w.header != nil {
		return w.header, nil
	}
	return columns, nil
}
func (w wrong) Record([][]byte) ([][]byte, error) { return w.answer, nil }

func TestOptions(t *testing.T) {
	f, err := jsonl.New().With(map[string]string{"resource": "Patient"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != "jsonl" {
		t.Errorf("named %q", f.Name())
	}
	for line, ok := range map[string]bool{
		`{"resourceType":"Patient","id":"1"}`: true, `{"id":"1","resource\u0054ype": "P\u0061tient"}`: true,
		`{"resourceType":"Observation"}`: false, `{"id":"1"}`: false, `{"resourceType":1}`: false, `{"x":{"resourceType":"Patient"}}`: false, `{}`: false,
	} {
		err := f.Rewrite(t.Context(), io.Discard, strings.NewReader(`{"resourceType":"Patient"}`+"\n"+line), &formattest.Recorder{})
		if ok != (err == nil) || err != nil && (sallyport.KindOf(err) != sallyport.Invalid || !strings.Contains(err.Error(), "line 2, byte 1: resourceType is not Patient")) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, options := range []map[string]string{{"depth": "3"}, {"resource": ""}, {"resource": "a b"}, {"resource": "Patient", "x": ""}} {
		if _, err := jsonl.New().With(options); sallyport.KindOf(err) != sallyport.Invalid {
			t.Errorf("options %v: %v", options, err)
		}
	}
	if same, err := jsonl.New().With(nil); err != nil || same.Name() != "jsonl" {
		t.Errorf("no options: %v", err)
	}
}

// A line may be as long as the bound, and lie anywhere.
func TestLongLines(t *testing.T) {
	long := `{"a":"` + strings.Repeat("y", 16<<20-8) + `"}`
	file := strings.Repeat("{\"a\":1}\n", 1000) + long + "\n" + strings.Repeat("{\"a\":2}\n", 1000) + long
	r := &formattest.Recorder{}
	var out bytes.Buffer
	if err := jsonl.New().Rewrite(t.Context(), &out, strings.NewReader(file), r); err != nil {
		t.Fatal(err)
	}
	if len(r.Records) != 2002 || len(r.Records[1000][0]) != 16<<20-8 || out.String() != file+"\n" {
		t.Errorf("%d records, %d bytes of %d", len(r.Records), out.Len(), len(file))
	}
	err := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader(file+" "), recorder{&formattest.Recorder{}, []string{"a"}})
	if err == nil || !strings.Contains(err.Error(), "line 2002: longer") {
		t.Errorf("one byte more: %v", err)
	}
}

// A file of long lines takes the memory of a few of them, however many work on
// it. Each line is there about four times: in its buffer, without escapes, as a
// field and as it leaves.
func TestMemoryOfLongLines(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	src := stream(`{"a":["`+strings.Repeat(`x\n`, 4<<20)+`"]}`+"\n", 160<<20)
	edit := many{&sync.Mutex{}, map[string]int{}, new(int), ""}
	err := jsonl.NewWith(256<<10, 8).Rewrite(t.Context(), io.Discard, src, looks{edit, func() {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if most > before+192<<20 {
		t.Errorf("heap grew by %d bytes", most-before)
	}
}

// looks is a many that calls look for each record.
type looks struct {
	many
	look func()
}

func (l looks) Columns() []string               { return []string{"a[]"} }
func (l looks) Fork() (anonymize.Editor, error) { return l, nil }
func (l looks) Record(fields [][]byte) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	return fields, nil
}

// A file of 100 MB in one line is refused after its first 16 MiB.
func TestEndlessLineIsLeftUnread(t *testing.T) {
	src := stream(" ", 100<<20)
	if err := jsonl.New().Rewrite(t.Context(), io.Discard, src, recorder{&formattest.Recorder{}, []string{"a"}}); err == nil {
		t.Fatal("accepted")
	}
	if src.read > 18<<20 {
		t.Errorf("read %d bytes before refusing", src.read)
	}
}

// many is a Recorder's forking sister: it notes what all its forks were given.
type many struct {
	mu    *sync.Mutex
	seen  map[string]int
	forks *int
	fail  string // a first field that is refused
}

func (m many) Header(columns []string) ([]string, error) { return columns, nil }
func (m many) Columns() []string                         { return []string{"id", "l[].t", "x"} }
func (m many) Fork() (anonymize.Editor, error)           { *m.forks++; return m, nil }
func (m many) Record(fields [][]byte) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[string(fields[0])]++
	if m.fail == string(fields[0]) {
		return nil, errRefused
	}
	return fields, nil
}

var errRefused = errors.New("refused")

// However many work on it, the output is the same, and so is the first error.
func TestWorkersChangeNothing(t *testing.T) {
	const lines = 5000
	var file strings.Builder
	for i := range lines {
		fmt.Fprintf(&file, `{"id":%d,"l":[{"t":"text\t%d"},{}],"x":"%s"}`+"\n", i, i, strings.Repeat("x", i%100))
	}
	for _, workers := range []int{1, 2, 7} {
		for _, block := range []int{8, 100, 4096, 1 << 20} {
			f := jsonl.NewWith(block, workers)
			m := many{&sync.Mutex{}, map[string]int{}, new(int), ""}
			var out bytes.Buffer
			if err := f.Rewrite(t.Context(), &out, strings.NewReader(file.String()), m); err != nil {
				t.Fatal(err)
			}
			if out.String() != file.String() {
				t.Errorf("%d workers, blocks of %d: other output", workers, block)
			}
			if len(m.seen) != lines || *m.forks != workers-1 {
				t.Errorf("%d workers: %d records seen, %d forks", workers, len(m.seen), *m.forks)
			}
			m = many{&sync.Mutex{}, map[string]int{}, new(int), "1234"}
			err := f.Rewrite(t.Context(), io.Discard, strings.NewReader(file.String()), m)
			if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "line 1235") {
				t.Errorf("%d workers, blocks of %d: %v", workers, block, err)
			}
			broken := file.String()[:file.Len()/2] + "\n{\n" + strings.Repeat("x\n", lines)
			err = f.Rewrite(t.Context(), io.Discard, strings.NewReader(broken), many{&sync.Mutex{}, map[string]int{}, new(int), ""})
			one := jsonl.New().Rewrite(t.Context(), io.Discard, strings.NewReader(broken), recorder{&formattest.Recorder{}, m.Columns()})
			if err == nil || one == nil || err.Error() != one.Error() {
				t.Errorf("%d workers, blocks of %d: %v; alone: %v", workers, block, err, one)
			}
		}
	}
}

// What leaves is compressed as what came.
func TestCompression(t *testing.T) {
	plain := strings.Repeat("{\"a\":1,\"b\":\"x\"}\n", 50_000)
	for _, name := range []string{"gzip", "zstd"} {
		var out bytes.Buffer
		if err := jsonl.New().Rewrite(t.Context(), &out, bytes.NewReader(compressed(name, plain)), &formattest.Recorder{Drop: "b"}); err != nil {
			t.Fatal(err)
		}
		r, got, err := codec.Open(&out)
		if err != nil || got != name {
			t.Fatalf("%s became %q: %v", name, got, err)
		}
		text, err := io.ReadAll(r)
		if err != nil || string(text) != strings.Repeat("{\"a\":1}\n", 50_000) {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		r.Close()
	}
}

// TestNoAllocationPerRecord compares a short and a long file.
func TestNoAllocationPerRecord(t *testing.T) {
	pass := func(lines int) float64 {
		file := []byte(strings.Repeat(`{"id":1,"name":[{"g":["x\u00e9","y"]}],"n":{"v":1.5},"empty":null}`+"\n", lines))
		return testing.AllocsPerRun(3, func() {
			if err := jsonl.New().Rewrite(t.Context(), io.Discard, bytes.NewReader(file), pass{}); err != nil {
				t.Error(err)
			}
		})
	}
	if few, many := pass(10), pass(10_000); many > few+100 {
		t.Errorf("%v allocations for 10 records, %v for 10,000", few, many)
	}
}

type pass struct{}

func (pass) Header(columns []string) ([]string, error) { return columns, nil }
func (pass) Record(fields [][]byte) ([][]byte, error)  { return fields, nil }

// generated is a file made as it is read: one text again and again.
type generated struct {
	text     string
	at, size int64
	read     int64
}

func stream(text string, size int64) *generated {
	return &generated{text: text, size: size / int64(len(text)) * int64(len(text))}
}

func (g *generated) Read(b []byte) (int, error) {
	n, err := g.ReadAt(b, g.at)
	g.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (g *generated) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off < g.size {
		m := copy(b[n:min(int64(len(b)), int64(n)+g.size-off)], g.text[off%int64(len(g.text)):])
		n += m
		off += int64(m)
	}
	g.read += int64(n)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
