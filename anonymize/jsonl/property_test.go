package jsonl_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"

	"sallyport/anonymize"
	"sallyport/anonymize/jsonl"
)

var (
	keys    = []string{"a", "b", "id", "a.b", "", "[]", "größe", "x\ny", `q"`, "😀", "same", "sameone", "c", "d", "e", "f"}
	texts   = []string{"", "x", "34", "true", "null", "naïve", "😀", "two\nlines", `"`, `\`, "\u0000", "\u2028", "</a>", "a long text without any need for an escape", strings.Repeat("é\t", 40)}
	numbers = []string{"0", "-0", "1", "34", "1.0", "1.50", "-1e10", "1E+2", "12345678901234567890123456789", "0.1e-7"}
	changes = []func(string) string{
		func(s string) string { return s },
		func(s string) string { return s },
		strings.ToUpper,
		func(s string) string { return s + "0" },
		func(string) string { return "" },
		func(string) string { return "true" },
		func(string) string { return "+1\t\"\\\u0001" },
	}
)

// drawValue draws a value, and its text with spaces and escapes of all sorts.
func drawValue(t *rapid.T, out *strings.Builder, depth int) {
	gap := func() { out.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\t", " \r"}).Draw(t, "gap")) }
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	if depth == 0 {
		kind = 9
	}
	if depth > 4 && kind > 6 {
		kind = 0
	}
	switch kind {
	case 0, 1, 2:
		drawString(t, out, rapid.SampledFrom(texts).Draw(t, "text"))
	case 3, 4:
		out.WriteString(rapid.SampledFrom(numbers).Draw(t, "number"))
	case 5:
		out.WriteString(rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool"))
	case 6:
		out.WriteString("null")
	case 7:
		out.WriteByte('[')
		gap()
		for i := range rapid.IntRange(0, 4).Draw(t, "items") {
			if i > 0 {
				out.WriteByte(',')
			}
			gap()
			drawValue(t, out, depth+1)
			gap()
		}
		out.WriteByte(']')
	default:
		out.WriteByte('{')
		gap()
		for i, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 0, 6, rapid.ID[string]).Draw(t, "keys") {
			if i > 0 {
				out.WriteByte(',')
			}
			gap()
			drawString(t, out, key)
			gap()
			out.WriteByte(':')
			gap()
			drawValue(t, out, depth+1)
			gap()
		}
		out.WriteByte('}')
	}
}

func drawString(t *rapid.T, out *strings.Builder, s string) {
	if b, _ := json.Marshal(s); rapid.IntRange(0, 3).Draw(t, "spelling") > 0 {
		out.Write(b)
		return
	}
	out.WriteByte('"')
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(out, `\u%04X`, unit)
	}
	out.WriteByte('"')
}

// What the Editor is given, and what is written, is what the same steps over
// encoding/json give, whatever the file, the columns that leave, the changes,
// the size of blocks and the number of goroutines.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var file strings.Builder
		var records []*val
		for range rapid.IntRange(0, 6).Draw(t, "records") {
			var line strings.Builder
			drawValue(t, &line, 0)
			v, err := decode([]byte(line.String()))
			if err != nil {
				t.Fatalf("the test's own line %s: %v", line.String(), err)
			}
			records = append(records, v)
			file.WriteString(line.String() + rapid.SampledFrom([]string{"\n", "\r\n", "\n\n", "\n \r\n"}).Draw(t, "end"))
		}
		data := file.String()
		if rapid.Bool().Draw(t, "last line end missing") {
			data = strings.TrimRight(data, " \r\n")
		}
		if rapid.Bool().Draw(t, "byte order mark") {
			data = "\ufeff" + data
		}
		columns := referenceColumns(records)
		l := release{columns: columns, leaving: map[string]func(string) string{}, other: map[string]bool{}}
		for _, c := range columns {
			if rapid.IntRange(0, 2).Draw(t, "leaves") > 0 {
				l.leaving[c] = rapid.SampledFrom(changes).Draw(t, "change")
				l.other[c] = rapid.IntRange(0, 3).Draw(t, "other type") == 0
			}
		}
		keep := rapid.SliceOfN(rapid.IntRange(0, 3), len(records), len(records)).Draw(t, "keep")
		e := &editor{release: l, keep: func(i int) bool { return keep[i] > 0 }}
		var edit anonymize.Editor = typed{e}
		if rapid.Bool().Draw(t, "known") {
			edit = knower{e, columns}
		}
		f := jsonl.NewWith(rapid.SampledFrom([]int{3, 16, 100, 1 << 16}).Draw(t, "block"), 1)
		var out bytes.Buffer
		if err := f.Rewrite(t.Context(), &out, strings.NewReader(data), edit); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if !slices.Equal(e.columns, columns) {
			t.Fatalf("%q: columns %q, want %q", data, e.columns, columns)
		}
		var want []string
		for i, r := range records {
			if fields := referenceFields(r, columns); !slices.Equal(e.from[i], fields) {
				t.Fatalf("%q: record %d: fields %q, want %q", data, i, e.from[i], fields)
			}
			if keep[i] > 0 {
				want = append(want, l.write(r, nil, nil).encode())
			}
		}
		lines := slices.Collect(strings.Lines(out.String()))
		if len(lines) != len(want) {
			t.Fatalf("%q: written %q, want %q", data, lines, want)
		}
		for i, line := range lines {
			v, err := decode([]byte(line))
			if err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%q: written %q: %v", data, line, err)
			}
			if v.encode() != want[i] {
				t.Fatalf("%q: written %s, want %s", data, v.encode(), want[i])
			}
		}
	})
}

// typed hides nothing of an editor but is no Knower.
type typed struct{ *editor }

// Every path has one name, and every name that is accepted is a path's.
func TestPaths(t *testing.T) {
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "steps")
		var names []string
		var items []bool
		for i := range n {
			items = append(items, i > 0 && rapid.Bool().Draw(t, "item"))
			name := ""
			if !items[i] {
				name = rapid.OneOf(rapid.SampledFrom(keys), rapid.String(), rapid.StringMatching(`[.\[\]"a\\]{1,5}`)).Draw(t, "key")
			}
			names = append(names, name)
		}
		path := jsonl.Join(names, items)
		steps := fmt.Sprintf("%q %v", names, items)
		if other, ok := seen[path]; ok && other != steps {
			t.Fatalf("%q is the path of %s and of %s", path, other, steps)
		}
		seen[path] = steps
		if jsonl.New().List(path) != slices.Contains(items, true) {
			t.Fatalf("List(%q) of %s", path, steps)
		}
		// A file with just this path has just this column.
		var line strings.Builder
		for i := range names {
			if items[i] {
				line.WriteByte('[')
			} else {
				key, _ := json.Marshal(names[i])
				fmt.Fprintf(&line, "{%s:", key)
			}
		}
		line.WriteByte('1')
		for i := n - 1; i >= 0; i-- {
			line.WriteByte("}]"[map[bool]int{false: 0, true: 1}[items[i]]])
		}
		all := map[string]func(string) string{path: func(s string) string { return s }}
		for _, edit := range []anonymize.Editor{typed{&editor{release: release{leaving: all}}}, knower{&editor{release: release{leaving: all}}, []string{path}}} {
			var out bytes.Buffer
			if err := jsonl.New().Rewrite(t.Context(), &out, strings.NewReader(line.String()), edit); err != nil {
				t.Fatalf("%s: %v", line.String(), err)
			}
			got, err := decode(out.Bytes())
			want, _ := decode([]byte(line.String()))
			if err != nil || got.encode() != want.encode() {
				t.Fatalf("%s: written %s", line.String(), out.String())
			}
		}
	})
}
