package csv

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sallyport/anonymize"
)

// dialect is how a file is written. Its zero bytes are found from the file, or
// mean that there is none.
type dialect struct {
	comma   byte // the delimiter; 0: one of candidates, by the first lines
	mark    byte // the quote; 0: quotes are bytes like others
	escape  bool // a backslash takes the meaning from a delimiter, quote, backslash or line end
	comment byte // lines that start with it are no records; 0: there are none
	bare    bool // there is no header: columns are c1, c2, ...
	eol     byte // ends a line: '\n', perhaps after '\r'; or '\r' alone; 0: by the first line
	text    encoded
	nulls   nulls
}

// candidates are the delimiters that need not be declared, the likelier first.
const candidates = ",;\t|"

// forward reports whether records must be told apart from the start on: where
// a quote counts depends on what stands before it.
func (d *dialect) forward() bool { return d.escape || d.comment != 0 }

// option sets what one option says, or returns what would be right.
type option struct {
	set  func(d *dialect, value string) bool
	want string
}

// options are by name. A function, as it is of use once for a pass.
func options() map[string]option {
	symbol := func(at func(d *dialect) *byte, words map[string]byte) func(*dialect, string) bool {
		return func(d *dialect, value string) bool {
			c, ok := words[value]
			if !ok {
				c, ok = ascii(value)
			}
			*at(d) = c
			return ok
		}
	}
	yes := func(at func(d *dialect) *bool, no, yes string) func(*dialect, string) bool {
		return func(d *dialect, value string) bool {
			*at(d) = value == yes
			return value == yes || value == no
		}
	}
	return map[string]option{
		"delimiter": {symbol(func(d *dialect) *byte { return &d.comma },
			map[string]byte{"comma": ',', "semicolon": ';', "tab": '\t', "bar": '|', "pipe": '|', "colon": ':', "space": ' '}),
			`comma, semicolon, tab, bar, colon, space, one ASCII character, or \x01 to \x7f`},
		"quote": {symbol(func(d *dialect) *byte { return &d.mark }, map[string]byte{"double": '"', "single": '\'', "none": 0}),
			`double, single, none, or one ASCII character`},
		"escape":  {yes(func(d *dialect) *bool { return &d.escape }, "double", "backslash"), "double (a quote inside quotes is written twice) or backslash"},
		"comment": {symbol(func(d *dialect) *byte { return &d.comment }, map[string]byte{"none": 0, "hash": '#'}), "none, hash, or one ASCII character"},
		"header":  {yes(func(d *dialect) *bool { return &d.bare }, "yes", "no"), "yes or no"},
		"encoding": {func(d *dialect, value string) (ok bool) { d.text, ok = encodingNamed(value); return ok },
			"utf-8, utf-16, utf-16le, utf-16be, windows-1252, iso-8859-1, iso-8859-15, or another name that the Encoding Standard or IANA gives"},
		"null": {func(d *dialect, value string) bool { d.nulls = newNulls(strings.Split(value, ",")); return true }, "spellings between commas"},
	}
}

// ascii reads one ASCII character that can have a meaning in a dialect.
func ascii(value string) (byte, bool) {
	c := byte(0)
	switch {
	case value == `\t`:
		c = '\t'
	case len(value) == 1:
		c = value[0]
	case len(value) == 4 && value[:2] == `\x`:
		n, err := strconv.ParseUint(value[2:], 16, 8)
		if err != nil {
			return 0, false
		}
		c = byte(n)
	}
	return c, c > 0 && c < utf8.RuneSelf && c != '\n' && c != '\r'
}

var _ anonymize.Tuned = (*Format)(nil)

// With returns the format for files of another dialect. The options, all of
// them optional:
//
//	delimiter  a byte, or comma, semicolon, tab, bar, colon, space
//	quote      a byte, or double (the default), single, none
//	escape     double (the default), or backslash
//	comment    a byte, or hash, none (the default): lines that start with it are left out
//	header     yes (the default), or no: the columns are called c1, c2, ...
//	encoding   utf-8, utf-16, windows-1252, ...
//	null       spellings of a missing value between commas, as NA,NULL,\N
//
// See the package's comment for what they mean.
func (f *Format) With(settings map[string]string) (anonymize.Format, error) {
	known := options()
	tuned := *f
	tuned.tuned = len(settings) > 0
	d := &tuned.dialect
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		o, ok := known[name]
		if !ok {
			return nil, invalid("Options of csv: "+strings.Join(slices.Sorted(maps.Keys(known)), ", ")+".", "unknown option %q", name)
		}
		if !o.set(d, settings[name]) {
			return nil, invalid("Write "+o.want+".", "option %s: unknown value %q", name, settings[name])
		}
	}
	meaning := map[byte]string{}
	for _, r := range []struct {
		c    byte
		what string
	}{{d.comma, "delimiter"}, {d.mark, "quote"}, {d.comment, "comment"}, {map[bool]byte{true: '\\'}[d.escape], "escape"}} {
		if before, ok := meaning[r.c]; ok && r.c != 0 {
			return nil, invalid("Each needs a character of its own.", "%s and %s are both %q", before, r.what, r.c)
		}
		meaning[r.c] = r.what
	}
	return &tuned, nil
}

// nulls are spellings of a missing value.
type nulls struct {
	spelt   map[string]bool
	longest int
}

func newNulls(spellings []string) nulls {
	n := nulls{spelt: map[string]bool{}}
	for _, s := range spellings {
		if s != "" {
			n.spelt[s] = true
			n.longest = max(n.longest, len(s))
		}
	}
	return n
}

// empty makes fields that are so spelt empty.
func (n nulls) empty(fields [][]byte) {
	if n.longest == 0 {
		return
	}
	for i, f := range fields {
		if len(f) <= n.longest && n.spelt[string(f)] {
			fields[i] = f[:0]
		}
	}
}

// lineEnd returns '\r' if the lines of the preview end with that alone.
func (d *dialect) lineEnd(preview []byte) byte {
	quoted, alone, start := false, false, true
	for i := 0; i < len(preview); i++ {
		c := preview[i]
		if start && c == d.comment && c != 0 {
			n := bytes.IndexAny(preview[i:], "\r\n")
			if n < 0 {
				break
			}
			i += n
			c = preview[i]
		}
		start = false
		switch {
		case c == '\\' && d.escape:
			i++
		case c == d.mark && c != 0:
			quoted = !quoted
		case quoted:
		case c == '\n':
			return '\n'
		case c == '\r' && i+1 < len(preview):
			if preview[i+1] == '\n' {
				return '\n'
			}
			alone, start = true, true
		case c == '\r' && len(preview) < previewSize: // the file's last byte
			alone = true
		}
	}
	if alone {
		return '\r'
	}
	return '\n'
}

// delimiter returns the candidate that stands most often outside quotes in the
// first record, of those that give all records of the preview as many fields;
// if there is none, of all. The earlier candidate wins a tie.
// The preview are the file's first bytes, and more holds the first record whole.
func (d *dialect) delimiter(preview, more []byte) byte {
	s := d.splitter(nil)
	whole := preview[:s.boundary(preview)]
	first := whole
	if len(whole) == 0 {
		first = more
	}
	count := d.count(first)
	order := []byte(candidates)
	slices.SortStableFunc(order, func(a, b byte) int { return cmp.Compare(count[b], count[a]) })
	for _, c := range order {
		if count[c] == 0 || len(whole) == 0 {
			break
		}
		trial := *d
		trial.comma = c
		if p := trial.parser(); p.consistent(bytes.Clone(whole)) { // the parser works in place
			return c
		}
	}
	return order[0]
}

// afterComments returns data from the first line on that is no comment.
func (d *dialect) afterComments(data []byte) []byte {
	for d.comment != 0 && len(data) > 0 && data[0] == d.comment {
		_, data, _ = bytes.Cut(data, []byte{d.eol})
	}
	return data
}

// count returns how often each candidate stands outside quotes in the first
// record of data.
func (d *dialect) count(data []byte) (count [utf8.RuneSelf]int) {
	data = d.afterComments(data)
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && d.escape:
			i++
		case c == d.mark && c != 0:
			quoted = !quoted
		case quoted:
		case c == d.eol:
			return count
		case strings.IndexByte(candidates, c) >= 0:
			count[c]++
		}
	}
	return count
}

// parser and splitter return the parts that read d, once d is settled.
func (d *dialect) parser() parser {
	return parser{dialect: d, eol: d.eol, stray: '\n' ^ '\r' ^ d.eol, comma: d.comma}
}

func (d *dialect) splitter(src io.Reader) *splitter {
	return &splitter{src: src, line: 1, eol: []byte{d.eol}, mark: []byte{d.mark}, dialect: d}
}
