package model

import "sallyport"

// Hierarchy is a generalization hierarchy of one attribute. Level 0 is the
// values themselves; each level's values are numbered from 0.
type Hierarchy struct {
	name   string
	up     [][]int32  // level → value → its ancestor
	values [][]string // level → ancestor → text
	code   map[string]int32
}

// NewHierarchy makes a hierarchy of lines: a value, then its ancestors from
// near to far, all lines of the same length. Values that share an ancestor must
// share all that follow it; else a class would split as it is generalized, and
// no search could rely on a level hiding more than the one below.
func NewHierarchy(name string, lines [][]string) (*Hierarchy, error) {
	bad := func(hint, format string, args ...any) (*Hierarchy, error) {
		return nil, sallyport.Errorf("hierarchy "+name, sallyport.Invalid, hint, format, args...)
	}
	if len(lines) == 0 || len(lines[0]) == 0 {
		return bad("Give every value a line with its ancestors.", "it is empty")
	}
	levels := len(lines[0])
	h := &Hierarchy{name: name, up: make([][]int32, levels), values: make([][]string, levels), code: map[string]int32{}}
	number := make([]map[string]int32, levels)
	above := make([][]int32, levels) // level → ancestor → its ancestor one level up
	for l := range levels {
		number[l] = map[string]int32{}
	}
	for i, line := range lines {
		if len(line) != levels {
			return bad("Give every value the same number of levels.", "line %d has %d levels, the first %d", i+1, len(line)-1, levels-1)
		}
		if _, ok := number[0][line[0]]; ok {
			return bad("Keep one of the two lines.", "line %d: a value that an earlier line has", i+1)
		}
		below := int32(-1)
		for l, text := range line {
			id, ok := number[l][text]
			if !ok {
				id = int32(len(h.values[l]))
				number[l][text] = id
				h.values[l] = append(h.values[l], text)
				above[l] = append(above[l], -1)
			}
			h.up[l] = append(h.up[l], id)
			if l > 0 {
				if old := above[l-1][below]; old >= 0 && old != id {
					return bad("Name the ancestors so that each has one parent.", "line %d: the ancestor at level %d has another parent in an earlier line", i+1, l-1)
				}
				above[l-1][below] = id
			}
			below = id
		}
	}
	h.code = number[0]
	return h, nil
}

// Flat is the hierarchy of values that can be kept or suppressed: level 1 is *.
func Flat(name string, values []string) (*Hierarchy, error) {
	lines := make([][]string, len(values))
	for i, v := range values {
		lines[i] = []string{v, "*"}
	}
	return NewHierarchy(name, lines)
}

// Name returns the attribute's name.
func (h *Hierarchy) Name() string { return h.name }

// Levels returns the number of levels, level 0 included.
func (h *Hierarchy) Levels() int { return len(h.up) }

// Size returns the number of values at a level.
func (h *Hierarchy) Size(level int) int { return len(h.values[level]) }

// Code returns the number of a value; false if the hierarchy lacks it.
func (h *Hierarchy) Code(value string) (int32, bool) {
	c, ok := h.code[value]
	return c, ok
}

// Value returns the text that a value has at a level.
func (h *Hierarchy) Value(code int32, level int) string {
	return h.values[level][h.up[level][code]]
}
