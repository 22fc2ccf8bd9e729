package planning

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/internal/strict"
)

// Version is the version of the plan file that this package writes and reads.
const Version = 1

// maxFile bounds the bytes of a plan file.
const maxFile = 4 << 20

// File is a plan as people read and write it, in YAML: what becomes of each
// column of a table.
type File struct {
	Format  string // of the table, with its options; "" is found by the table's head
	Subject string // column that identifies the data subject; "" if none
	// Columns are the table's, each once. [Read] sorts them by name, so that
	// files that say the same make the same plan; [File.Write] keeps the order.
	Columns []Column
	// DropOthers lets columns that the plan does not name stay behind. Without
	// it a table with such a column is refused.
	DropOthers  bool
	Suppress    *Suppress // records of classes that fail do not leave; nil: all leave
	Hierarchies string    // folder of hierarchy files, relative to the plan file; "" if none
	// SafeHarbor demands that every column's treatment satisfies the HIPAA Safe
	// Harbor; see [File.SafeHarborRows].
	SafeHarbor bool
}

// Column is what a plan says of one column.
type Column struct {
	Name       string
	Role       sallyport.Role
	Identifier string // category of the Safe Harbor, one of [Identifiers]; "" where nobody has said
	Verb       string // a verb of the pass; "" keeps the values as they are
	Args       map[string]any
}

// Drops says that the column does not leave.
func (c Column) Drops() bool { return c.Verb == "drop" }

// Suppress says which records do not leave, and how many at most.
type Suppress struct {
	K     int64   `yaml:"k"`               // records that a class has at least
	L     int64   `yaml:"l,omitempty"`     // distinct values that each sensitive column has in a class at least; 0: not asked
	T     float64 `yaml:"t,omitempty"`     // distance of a class's distribution from the table's at most, 0 to 1; 0: not asked
	Limit float64 `yaml:"limit,omitempty"` // share of the records that may stay behind, 0 to 1
}

// document is the YAML of a plan file.
type document struct {
	Version     int                   `yaml:"version"`
	Format      string                `yaml:"format,omitempty"`
	Subject     string                `yaml:"subject,omitempty"`
	Columns     map[string]columnYAML `yaml:"columns"`
	Others      string                `yaml:"others,omitempty"`
	Suppress    *Suppress             `yaml:"suppress,omitempty"`
	Hierarchies string                `yaml:"hierarchies,omitempty"`
	SafeHarbor  bool                  `yaml:"safe_harbor,omitempty"`
}

type columnYAML struct {
	Role       string `yaml:"role"`
	Identifier string `yaml:"identifier,omitempty"`
	Do         any    `yaml:"do"`
}

// Identifiers are the words for the categories of 45 CFR 164.514(b)(2)(i), as
// the catalog and the default policy have them; the last is for a column that
// is none of them.
func Identifiers() []string {
	return []string{"name", "geographic", "date", "age", "telephone", "fax", "email", "ssn", "record", "beneficiary",
		"account", "license", "vehicle", "device", "url", "ip", "biometric", "photo", "other", "none"}
}

// Read decodes a plan file strictly: what it does not know is a
// sallyport.Invalid that names the line. Verbs and their arguments are checked
// by the pass.
func Read(r io.Reader) (File, error) {
	fail := func(err error) (File, error) {
		return File{}, sallyport.E("read plan", sallyport.Invalid, err, "`sallyport plan FILE -o PLAN.yaml` writes a complete plan to start from.")
	}
	src, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return File{}, sallyport.E("read plan", sallyport.Unavailable, err, "")
	}
	doc, err := strict.Parse("plan", src)
	if err != nil {
		return fail(err)
	}
	var d document
	if err := doc.Decode(&d); err != nil {
		return fail(err)
	}
	at := func(p string, format string, args ...any) (File, error) { return fail(doc.Errorf(p, format, args...)) }
	switch {
	case d.Version != Version:
		return at("$.version", "version is %d: this binary reads version %d", d.Version, Version)
	case len(d.Columns) == 0:
		return at("$.columns", "columns is empty: nothing could leave")
	case d.Others != "" && d.Others != "drop":
		return at("$.others", "others is %q: it is drop, or absent", d.Others)
	}
	f := File{Format: d.Format, Subject: d.Subject, DropOthers: d.Others == "drop", Suppress: d.Suppress, Hierarchies: d.Hierarchies, SafeHarbor: d.SafeHarbor}
	if s := f.Suppress; s != nil {
		if err := s.check(); err != nil {
			return at("$.suppress", "%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Columns)) {
		c := d.Columns[name]
		p := yamlPath(name)
		if name == "" {
			return at("$.columns", "a column has no name")
		}
		if !sallyport.Role(c.Role).Valid() {
			return at(p+".role", "column %q has role %q: it is direct, quasi, sensitive or insensitive", name, c.Role)
		}
		if c.Identifier != "" && !slices.Contains(Identifiers(), c.Identifier) {
			return at(p+".identifier", "column %q has identifier %q: it is one of %s", name, c.Identifier, strings.Join(Identifiers(), ", "))
		}
		col := Column{Name: name, Role: sallyport.Role(c.Role), Identifier: c.Identifier}
		var problem string
		if col.Verb, col.Args, problem = deed(c.Do); problem != "" {
			return at(p+".do", "column %q: %s", name, problem)
		}
		f.Columns = append(f.Columns, col)
	}
	if f.Subject != "" && f.column(f.Subject) == nil {
		return at("$.subject", "subject %q is not among the columns", f.Subject)
	}
	return f, nil
}

// yamlPath is the place of a column in the document; odd names have none.
func yamlPath(name string) string {
	if plain(name) {
		return "$.columns." + name
	}
	return "$.columns"
}

func (s Suppress) check() error {
	switch {
	case s.K < 1:
		return fmt.Errorf("k is %d: a class has at least 1 record", s.K)
	case s.L < 0:
		return fmt.Errorf("l is %d: it is at least 1, or absent", s.L)
	case math.IsNaN(s.T) || s.T < 0 || s.T > 1:
		return fmt.Errorf("t is %g: it is from 0 to 1", s.T)
	case math.IsNaN(s.Limit) || s.Limit < 0 || s.Limit > 1:
		return fmt.Errorf("limit is %g: it is a share of the records, from 0 to 1", s.Limit)
	}
	return nil
}

// deed reads what is to be done: a word, or a verb with its arguments.
func deed(do any) (verb string, args map[string]any, problem string) {
	const hint = "do is keep, drop, or one verb with its arguments, as in {generalize: {width: 10}}"
	switch do := do.(type) {
	case string:
		if do == "" {
			return "", nil, hint
		}
		if do == "keep" {
			do = ""
		}
		return do, nil, ""
	case map[string]any:
		if len(do) != 1 {
			return "", nil, hint
		}
		for verb, a := range do {
			args, ok := a.(map[string]any)
			if a != nil && !ok || verb == "" {
				return "", nil, hint
			}
			if verb == "keep" {
				if len(args) > 0 {
					return "", nil, "keep takes no arguments"
				}
				verb = ""
			}
			if len(args) == 0 {
				args = nil
			}
			return verb, args, ""
		}
	}
	return "", nil, hint
}

func (f File) column(name string) *Column {
	for i := range f.Columns {
		if f.Columns[i].Name == name {
			return &f.Columns[i]
		}
	}
	return nil
}

// Complete returns the plan for a table with these columns: those that it does
// not name are added and dropped where it says so, and refused otherwise, as is
// a column that the table lacks. The answer's columns are in the table's order.
func (f File) Complete(columns []string) (File, error) {
	bad := func(hint, format string, args ...any) (File, error) {
		return File{}, sallyport.Errorf("plan", sallyport.Invalid, hint, format, args...)
	}
	out := f
	out.Columns = make([]Column, 0, len(columns))
	for i, name := range columns {
		if slices.Contains(columns[:i], name) {
			return bad("Give each column a name of its own.", "the table has two columns %q", name)
		}
		switch c := f.column(name); {
		case c != nil:
			out.Columns = append(out.Columns, *c)
		case f.DropOthers:
			// Nobody has said what it is, so it counts as the worst.
			out.Columns = append(out.Columns, Column{Name: name, Role: sallyport.Direct, Verb: "drop"})
		default:
			return bad("Name it under columns, or write others: drop.", "the table has a column %q, which the plan does not name", name)
		}
	}
	for _, c := range f.Columns {
		if !slices.Contains(columns, c.Name) {
			return bad("Its columns are "+strings.Join(columns, ", ")+".", "the plan names column %q, which the table lacks", c.Name)
		}
	}
	return out, nil
}

// Plan returns the plan of a pass. Every column has an obligation, drop being
// one of them.
func (f File) Plan(dataset string) anonymize.Plan {
	p := anonymize.Plan{Dataset: dataset, Format: f.Format, Subject: f.Subject}
	for _, c := range f.Columns {
		p.Columns = append(p.Columns, sallyport.Column{Name: c.Name, Role: c.Role, Identifier: c.Identifier})
		p.Obligations = append(p.Obligations, sallyport.Obligation{Column: c.Name, Verb: c.Verb, Args: c.Args})
	}
	if s := f.Suppress; s != nil {
		p.Suppress = &anonymize.Suppression{K: s.K, L: s.L, T: s.T, Limit: s.Limit}
	}
	return p
}

// Write writes the plan so that Read reads the same back, one line a column.
func (f File) Write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# sallyport plan: what becomes of each column\nversion: %d\n", Version)
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, scalar(value))
		}
	}
	line("format", f.Format)
	line("subject", f.Subject)
	b.WriteString("columns:\n")
	width := 0
	for _, c := range f.Columns {
		width = max(width, len(scalar(c.Name)))
	}
	for _, c := range f.Columns {
		fmt.Fprintf(&b, "  %-*s {role: %s", width+1, scalar(c.Name)+":", c.Role)
		if c.Identifier != "" {
			fmt.Fprintf(&b, ", identifier: %s", scalar(c.Identifier))
		}
		b.WriteString(", do: ")
		switch {
		case c.Verb == "":
			b.WriteString("keep")
		case len(c.Args) == 0 && c.Verb == "drop":
			b.WriteString("drop")
		default:
			fmt.Fprintf(&b, "{%s: ", scalar(c.Verb))
			if err := flow(&b, c.Args); err != nil {
				return sallyport.E("write plan", sallyport.Invalid, err, "")
			}
			b.WriteByte('}')
		}
		b.WriteString("}\n")
	}
	if f.DropOthers {
		line("others", "drop")
	}
	if s := f.Suppress; s != nil {
		fmt.Fprintf(&b, "suppress: {k: %d", s.K)
		if s.L != 0 {
			fmt.Fprintf(&b, ", l: %d", s.L)
		}
		if s.T != 0 {
			fmt.Fprintf(&b, ", t: %s", float(s.T))
		}
		fmt.Fprintf(&b, ", limit: %s}\n", float(s.Limit))
	}
	line("hierarchies", f.Hierarchies)
	if f.SafeHarbor {
		b.WriteString("safe_harbor: true\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// flow writes a value in YAML's flow style, keys sorted.
func flow(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(scalar(k) + ": ")
			if err := flow(b, v[k]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := flow(b, item); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case string:
		b.WriteString(scalar(v))
	case bool, int, int64, uint64:
		fmt.Fprint(b, v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Errorf("an argument is no number")
		}
		b.WriteString(float(v))
	default:
		return fmt.Errorf("an argument is neither text, number, list nor map")
	}
	return nil
}

func float(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// scalar writes a text plain where it can be read as nothing else, and in
// double quotes, as JSON does, where not.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // no string fails
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || i > 0 && (c == '-' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"}, strings.ToLower(s))
}

// arguments is a verb's arguments as the plan file has them, without braces.
func arguments(args map[string]any) string {
	var b bytes.Buffer
	if err := flow(&b, args); err != nil {
		return "…"
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), "{"), "}")
}
