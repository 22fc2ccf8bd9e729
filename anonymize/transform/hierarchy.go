package transform

import (
	"encoding/csv"
	"errors"
	"io"

	"sallyport"
	"sallyport/anonymize"
)

// maxHierarchy bounds the bytes of a hierarchy file, which is held in memory.
const maxHierarchy = 64 << 20

// Hierarchy replaces a value by its ancestor in a generalization hierarchy of
// the site: a file in ARX's form, one line a value, its ancestors after it from
// near to far, separated by semicolons. Level 0 is the value itself.
type Hierarchy struct{}

var _ anonymize.Transform = Hierarchy{}

func (Hierarchy) Name() string { return "hierarchy" }
func (Hierarchy) Doc() string {
	return "the value's ancestor; file, level, unknown (what a value that the file lacks becomes; an error)"
}

func (Hierarchy) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

func (Hierarchy) Bind(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	a := read("hierarchy", args)
	file := a.text("file", nil)
	level := a.integer("level", nil, 0, 100)
	unknown := a.text("unknown", ptr(""))
	_, replace := args["unknown"]
	if a.err == nil && replace && unknown == "" {
		a.fail("unknown", "must not be empty")
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	if env.Hierarchy == nil {
		return nil, sallyport.Errorf("hierarchy", sallyport.NotFound, "Configure where the site keeps its hierarchies.", "no hierarchy %q", file)
	}
	r, err := env.Hierarchy(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	ancestors, err := readHierarchy(r, file, level)
	if err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		ancestor, ok := ancestors[string(value)]
		if !ok && !replace {
			return dst, invalid(`Add the value to the hierarchy, or set unknown: "*".`, "hierarchy %q does not hold a value", file)
		}
		if !ok {
			ancestor = unknown
		}
		return append(dst, ancestor...), nil
	}), nil
}

func readHierarchy(r io.Reader, file string, level int) (map[string]string, error) {
	limited := &io.LimitedReader{R: r, N: maxHierarchy + 1}
	lines := csv.NewReader(limited)
	lines.Comma = ';'
	lines.FieldsPerRecord = -1
	ancestors := map[string]string{}
	names := map[string]string{} // one copy of each ancestor
	width := 0
	for {
		record, err := lines.Read()
		if limited.N == 0 {
			return nil, invalid("Split it, or use another verb.", "hierarchy %q is larger than %d bytes", file, maxHierarchy)
		}
		if err == io.EOF {
			break
		}
		if pe, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, invalid("Correct its quotes.", "hierarchy %q, line %d: %v", file, pe.Line, pe.Err)
		}
		if err != nil {
			return nil, err
		}
		line, _ := lines.FieldPos(0)
		if width == 0 {
			width = len(record)
		}
		if len(record) != width {
			return nil, invalid("Give every value the same number of levels.", "hierarchy %q, line %d: %d levels, the first line has %d", file, line, len(record)-1, width-1)
		}
		if level >= width {
			return nil, invalid("", "hierarchy %q has levels 0 to %d, not %d", file, width-1, level)
		}
		ancestor, ok := names[record[level]]
		if !ok {
			ancestor = record[level]
			names[ancestor] = ancestor
		}
		if old, ok := ancestors[record[0]]; ok && old != ancestor {
			return nil, invalid("Keep one of the two lines.", "hierarchy %q, line %d: a value has a second ancestor", file, line)
		}
		ancestors[record[0]] = ancestor
	}
	if width == 0 {
		return nil, invalid("", "hierarchy %q is empty", file)
	}
	return ancestors, nil
}
