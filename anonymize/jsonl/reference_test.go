package jsonl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport/anonymize"
	"sallyport/anonymize/jsonl"
)

// The same as the package does, written once more over encoding/json, for whole
// files in memory and in the plainest way.

// val is a JSON value whose members keep their order.
type val struct {
	kind  byte // one of { [ " 0 t n
	text  string
	keys  []string
	parts []*val // members or items
}

var errTwice = errors.New("a key twice")

// decode reads one JSON value, and refuses keys that stand twice.
func decode(line []byte) (*val, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	v, err := decodeNext(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more after the value")
	}
	return v, nil
}

func decodeNext(d *json.Decoder) (*val, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return &val{kind: '"', text: t}, nil
	case json.Number:
		return &val{kind: '0', text: t.String()}, nil
	case bool:
		return &val{kind: 't', text: fmt.Sprint(t)}, nil
	case nil:
		return &val{kind: 'n'}, nil
	case json.Delim:
		v := &val{kind: byte(t)}
		for d.More() {
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, err
				}
				if slices.Contains(v.keys, key.(string)) {
					return nil, errTwice
				}
				v.keys = append(v.keys, key.(string))
			}
			part, err := decodeNext(d)
			if err != nil {
				return nil, err
			}
			v.parts = append(v.parts, part)
		}
		_, err := d.Token()
		return v, err
	}
	return nil, errors.New("no value")
}

// encode writes v for comparison.
func (v *val) encode() string {
	switch v.kind {
	case '"':
		b, _ := json.Marshal(v.text)
		return string(b)
	case 'n':
		return "null"
	case '{', '[':
		var parts []string
		for i, p := range v.parts {
			s := p.encode()
			if v.kind == '{' {
				key, _ := json.Marshal(v.keys[i])
				s = string(key) + ":" + s
			}
			parts = append(parts, s)
		}
		if v.kind == '{' {
			return "{" + strings.Join(parts, ",") + "}"
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return v.text
}

// walk calls see for each value of v that is neither object nor array.
func (v *val) walk(keys []string, items []bool, see func(path string, v *val)) {
	switch v.kind {
	case '{', '[':
		for i, p := range v.parts {
			key := ""
			if v.kind == '{' {
				key = v.keys[i]
			}
			p.walk(append(slices.Clip(keys), key), append(slices.Clip(items), v.kind == '['), see)
		}
	default:
		see(jsonl.Join(keys, items), v)
	}
}

// referenceColumns are the paths of records, in order of first appearance.
func referenceColumns(records []*val) []string {
	var order []string
	value := map[string]bool{}
	for _, r := range records {
		r.walk(nil, nil, func(path string, v *val) {
			if !slices.Contains(order, path) {
				order = append(order, path)
			}
			value[path] = value[path] || v.kind != 'n'
		})
	}
	// A path with nothing but null is a column only if no column is below it.
	below := func(path string) bool {
		return slices.ContainsFunc(order, func(other string) bool {
			rest, ok := strings.CutPrefix(other, path)
			return ok && rest != "" && strings.ContainsRune(".[", rune(rest[0]))
		})
	}
	return slices.DeleteFunc(order, func(path string) bool { return !value[path] && below(path) })
}

// referenceFields are the fields of a record.
func referenceFields(r *val, columns []string) []string {
	fields := make([]string, len(columns))
	r.walk(nil, nil, func(path string, v *val) {
		i := slices.Index(columns, path)
		if i < 0 {
			return
		}
		if jsonl.New().List(path) {
			fields[i] = string(anonymize.AppendItem([]byte(fields[i]), []byte(v.text)))
		} else {
			fields[i] = v.text
		}
	})
	return fields
}

// release is what becomes of a file.
type release struct {
	columns []string
	leaving map[string]func(string) string // how a value is changed
	other   map[string]bool                // columns whose type changes
}

// write returns r as it leaves, nil if nothing is left of it.
func (l release) write(r *val, keys []string, items []bool) *val {
	path := jsonl.Join(keys, items)
	switch r.kind {
	case '{', '[':
		if len(r.parts) == 0 && l.below(path, r.kind) {
			return r
		}
		w := &val{kind: r.kind}
		for i, p := range r.parts {
			key := ""
			if r.kind == '{' {
				key = r.keys[i]
			}
			if q := l.write(p, append(slices.Clip(keys), key), append(slices.Clip(items), r.kind == '[')); q != nil {
				w.parts = append(w.parts, q)
				w.keys = append(w.keys, key)
			}
		}
		if len(w.parts) == 0 && len(keys) > 0 {
			return nil
		}
		return w
	}
	if !slices.Contains(l.columns, path) { // a null
		if l.below(path, '{') || l.below(path, '[') {
			return r
		}
		return nil
	}
	change := l.leaving[path]
	if change == nil {
		return nil
	}
	if r.text == "" {
		return r
	}
	text := change(r.text)
	switch {
	case r.kind == '"' || l.other[path]:
	case text == "":
		return &val{kind: 'n'}
	case r.kind == '0' && json.Valid([]byte(text)) && strings.Trim(text, "0123456789.eE+-") == "",
		r.kind == 't' && (text == "true" || text == "false"):
		return &val{kind: r.kind, text: text}
	}
	return &val{kind: '"', text: text}
}

// below reports whether a column leaves of the members or items at path.
func (l release) below(path string, kind byte) bool {
	for column := range l.leaving {
		rest, ok := strings.CutPrefix(column, path)
		if !ok || rest == "" {
			continue
		}
		if item := strings.HasPrefix(rest, "[]"); kind == '[' && item || kind == '{' && !item && (path == "" || strings.ContainsRune(".[", rune(rest[0]))) {
			return true
		}
	}
	return false
}

// editor releases as release says, and notes what it is given.
type editor struct {
	release
	from    [][]string // records
	leaves  []string
	changes []func(string) string
	lists   []bool
	places  []int
	keep    func(i int) bool
}

func (e *editor) Header(columns []string) ([]string, error) {
	e.columns = slices.Clone(columns)
	for i, c := range columns {
		if change := e.leaving[c]; change != nil {
			e.leaves = append(e.leaves, c)
			e.changes = append(e.changes, change)
			e.lists = append(e.lists, jsonl.New().List(c))
			e.places = append(e.places, i)
		}
	}
	return e.leaves, nil
}

func (e *editor) Record(fields [][]byte) ([][]byte, error) {
	var texts []string
	for _, f := range fields {
		texts = append(texts, string(f))
	}
	e.from = append(e.from, texts)
	if e.keep != nil && !e.keep(len(e.from)-1) {
		return nil, nil
	}
	answer := make([][]byte, len(e.leaves))
	for i, place := range e.places {
		if !e.lists[i] {
			answer[i] = []byte(e.changes[i](texts[place]))
			continue
		}
		for item := range anonymize.Items(fields[place]) {
			answer[i] = anonymize.AppendItem(answer[i], []byte(e.changes[i](string(item))))
		}
	}
	return answer, nil
}

func (e *editor) SameType(column string) bool { return !e.other[column] }

// knower is an editor that knows the columns.
type knower struct {
	*editor
	known []string
}

func (k knower) Columns() []string { return k.known }
