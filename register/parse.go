package register

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// version is the format of the file.
const version = 1

// parse reads a file. It is decoded by hand and not by encoding/json, which
// takes "Until" for "until", null for nothing, and the last of two equal keys.
func parse(src []byte) (*state, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	v, err := value(dec, "", 0)
	if err != nil {
		if f, ok := errors.AsType[*fault](err); ok {
			return nil, f
		}
		line := 1 + bytes.Count(src[:min(int(dec.InputOffset()), len(src))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w", line, plainly(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the register")
	}
	f := &reading{}
	s := f.state(v)
	if f.err != nil {
		return nil, f.err
	}
	return s, s.check()
}

func plainly(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends in the middle")
	}
	return err
}

// maxDepth is that of a grant's list, and a little more.
const maxDepth = 8

// value reads one JSON value; a key that is there twice is a fault.
func value(dec *json.Decoder, path string, depth int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	d, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth == maxDepth {
		return nil, at(path, "is nested too deeply")
	}
	if d == '[' {
		list := []any{}
		for dec.More() {
			v, err := value(dec, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	object := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		under := join(key)
		if path != "" {
			under = path + "." + under
		}
		if _, ok := object[key]; ok {
			return nil, at(under, "is there twice")
		}
		if object[key], err = value(dec, under, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token()
	return object, err
}

// reading keeps the first fault; after it every answer is empty.
type reading struct{ err error }

func (r *reading) fail(path, format string, args ...any) {
	if r.err == nil {
		if path == "" {
			path = "the register"
		}
		r.err = at(path, format, args...)
	}
}

func (r *reading) state(v any) *state {
	s := empty()
	top := r.object("", v, "version", "grants", "consents", "exceptions", "pending")
	if r.err != nil {
		return s
	}
	if n, ok := top["version"].(json.Number); !ok || n.String() != fmt.Sprint(version) {
		r.fail("version", "is not %d, which this program reads and writes", version)
	}
	r.each("grants", top, func(path, dataset string, v any) {
		s.Grants[dataset] = map[string]Grant{}
		r.entries(path, v, func(path, project string, v any) {
			o := r.object(path, v, "purposes", "people", "since", "until", "by", "reason")
			s.Grants[dataset][project] = Grant{By: r.text(path, o, "by"), People: r.list(path, o, "people"), Purposes: r.list(path, o, "purposes"),
				Reason: r.text(path, o, "reason"), Since: r.time(path, o, "since"), Until: r.time(path, o, "until")}
		})
	})
	r.each("consents", top, func(path, dataset string, v any) {
		s.Consents[dataset] = map[string]Consent{}
		r.entries(path, v, func(path, purpose string, v any) {
			o := r.object(path, v, "basis", "since", "until", "by", "withdrawn")
			s.Consents[dataset][purpose] = Consent{Basis: r.text(path, o, "basis"), By: r.text(path, o, "by"),
				Since: r.time(path, o, "since"), Until: r.time(path, o, "until"), Withdrawn: r.bool(path, o, "withdrawn")}
		})
	})
	r.each("exceptions", top, func(path, id string, v any) { s.Exceptions[id] = r.exception(path, v, "approved_by") })
	r.each("pending", top, func(path, id string, v any) { s.Pending[id] = r.exception(path, v) })
	return s
}

func (r *reading) exception(path string, v any, also ...string) Exception {
	o := r.object(path, v, append(also, "checks", "dataset", "project", "purpose", "since", "until", "asked_by", "reason")...)
	e := Exception{ApprovedBy: r.text(path, o, "approved_by"), AskedBy: r.text(path, o, "asked_by"), Checks: r.list(path, o, "checks"),
		Dataset: r.text(path, o, "dataset"), Project: r.text(path, o, "project"), Purpose: r.text(path, o, "purpose"),
		Reason: r.text(path, o, "reason"), Since: r.time(path, o, "since"), Until: r.time(path, o, "until")}
	if _, ok := o["purpose"]; ok && e.Purpose == "" {
		r.fail(path+".purpose", "is empty; leave it out for every purpose")
	}
	return e
}

// object checks the type and the names of an object's fields.
func (r *reading) object(path string, v any, known ...string) map[string]any {
	o, ok := v.(map[string]any)
	if !ok {
		r.fail(path, "is %s, not an object", kind(v))
		return nil
	}
	for _, k := range sorted(o) {
		if !contains(known, k) {
			r.fail(strings.TrimPrefix(path+"."+join(k), "."), "is not known here; known are %s", strings.Join(known, ", "))
		}
	}
	return o
}

// each goes over a member of the top level, which may be absent.
func (r *reading) each(name string, top map[string]any, f func(path, key string, v any)) {
	if v, ok := top[name]; ok {
		r.entries(name, v, f)
	}
}

func (r *reading) entries(path string, v any, f func(path, key string, v any)) {
	o, ok := v.(map[string]any)
	if !ok {
		r.fail(path, "is %s, not an object", kind(v))
		return
	}
	for _, k := range sorted(o) {
		if r.err != nil {
			return
		}
		f(path+"."+join(k), k, o[k])
	}
}

func (r *reading) text(path string, o map[string]any, name string) string {
	v, ok := o[name]
	s, is := v.(string)
	if ok && !is {
		r.fail(path+"."+name, "is %s, not a text", kind(v))
	}
	return s
}

func (r *reading) bool(path string, o map[string]any, name string) bool {
	v, ok := o[name]
	b, is := v.(bool)
	if ok && !is {
		r.fail(path+"."+name, "is %s, not true or false", kind(v))
	}
	return b
}

func (r *reading) list(path string, o map[string]any, name string) []string {
	v, ok := o[name]
	if !ok {
		return nil
	}
	l, is := v.([]any)
	if !is {
		r.fail(path+"."+name, "is %s, not a list", kind(v))
		return nil
	}
	out := make([]string, 0, len(l))
	for i, x := range l {
		s, is := x.(string)
		if !is {
			r.fail(fmt.Sprintf("%s.%s[%d]", path, name, i), "is %s, not a text", kind(x))
			return nil
		}
		out = append(out, s)
	}
	return out
}

func (r *reading) time(path string, o map[string]any, name string) time.Time {
	s := r.text(path, o, name)
	if s == "" {
		if _, ok := o[name]; ok {
			r.fail(path+"."+name, "is empty")
		}
		return time.Time{} // check tells whether it is missed
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		if len(s) > 60 {
			s = s[:60]
		}
		r.fail(path+"."+name, "%q is not a time; one looks like 2027-01-01T00:00:00Z (RFC 3339)", s)
	}
	return t.UTC()
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	}
	return "an object"
}
