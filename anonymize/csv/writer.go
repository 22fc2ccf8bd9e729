package csv

import "bytes"

// writer appends records to out.
type writer struct {
	out    []byte
	comma  byte   // the delimiter
	quoted []bool // by column: its last value needed quotes, so the next may
}

// names appends the header. A name that holds any of the delimiters that
// readers find by themselves is quoted, so that they find the right one, as is
// one that starts as a byte order mark does.
func (w *writer) names(fields [][]byte) {
	for i, f := range fields {
		if i > 0 {
			w.out = append(w.out, w.comma)
		}
		w.value(f, special(f, w.comma) || bytes.ContainsAny(f, candidates) || len(f) == 0 || bytes.HasPrefix(f, utf8BOM))
	}
	w.out = append(w.out, '\n')
}

// record appends one record and its line end.
func (w *writer) record(fields [][]byte) {
	if w.quoted == nil {
		w.quoted = make([]bool, len(fields))
	}
	if !w.quick(fields) {
		w.careful(fields)
	}
}

// quick appends a record as most are: no value needs quotes but those of
// columns that needed them before, and these only because of a comma, as the
// range "[30,40)" does. It joins the fields and then looks at the whole with
// vector instructions. If the record is not so, it appends nothing and reports
// false.
func (w *writer) quick(fields [][]byte) bool {
	dst, start := w.out, len(w.out)
	commas, quotes := len(fields)-1, 0
	comma := []byte{w.comma}
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, w.comma)
		}
		if formula(f) {
			return false
		}
		if w.quoted[i] {
			n := bytes.Count(f, comma)
			if n == 0 {
				return false
			}
			commas += n
			quotes += 2
			dst = append(dst, '"')
			dst = append(dst, f...)
			dst = append(dst, '"')
			continue
		}
		dst = append(dst, f...)
	}
	record := dst[start:]
	if len(record) == 0 || // one empty value: a bare line end would be no record to most readers
		bytes.Count(record, comma) != commas || bytes.Count(record, quoteMark) != quotes ||
		bytes.IndexByte(record, '\n') >= 0 || bytes.IndexByte(record, '\r') >= 0 {
		return false
	}
	w.out = append(dst, '\n')
	return true
}

// careful appends a record field by field.
func (w *writer) careful(fields [][]byte) {
	for i, f := range fields {
		if i > 0 {
			w.out = append(w.out, w.comma)
		}
		w.quoted[i] = special(f, w.comma)
		w.value(f, w.quoted[i] || len(f) == 0 && len(fields) == 1)
	}
	w.out = append(w.out, '\n')
}

// value appends one value.
func (w *writer) value(f []byte, quote bool) {
	dst := w.out
	if quote {
		dst = append(dst, '"')
	}
	if formula(f) {
		dst = append(dst, '\'')
	}
	if quote {
		for {
			j := bytes.IndexByte(f, '"')
			if j < 0 {
				break
			}
			dst = append(dst, f[:j+1]...)
			dst = append(dst, '"')
			f = f[j+1:]
		}
	}
	dst = append(dst, f...)
	if quote {
		dst = append(dst, '"')
	}
	w.out = dst
}

// special reports whether f must be quoted.
func special(f []byte, comma byte) bool {
	for _, c := range f {
		if c == comma || c == '"' || c == '\n' || c == '\r' {
			return true
		}
	}
	return false
}

// formula reports whether a spreadsheet would calculate f: it starts as a
// formula does and is neither a number nor a lone sign (a usual mark of a
// missing value).
func formula(f []byte) bool {
	if len(f) == 0 {
		return false
	}
	switch f[0] {
	case '=', '@', '\t', '\r':
		return true
	case '+', '-':
		return len(f) > 1 && !numeric(f[1:])
	}
	return false
}

// numeric reports whether f is digits with an optional fraction (after a point
// or comma) and an optional exponent.
func numeric(f []byte) bool {
	digits, point, i := 0, false, 0
	for ; i < len(f); i++ {
		switch c := f[i]; {
		case c >= '0' && c <= '9':
			digits++
		case (c == '.' || c == ',') && !point:
			point = true
		case (c == 'e' || c == 'E') && digits > 0:
			e := f[i+1:]
			if len(e) > 0 && (e[0] == '+' || e[0] == '-') {
				e = e[1:]
			}
			for _, c := range e {
				if c < '0' || c > '9' {
					return false
				}
			}
			return len(e) > 0
		default:
			return false
		}
	}
	return digits > 0
}
