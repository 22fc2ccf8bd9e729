package model

import (
	"encoding/binary"
	"math"

	"sallyport"
)

// Table is a dataset as counts of its distinct combinations of quasi-identifiers
// and sensitive values. Its size is that of the combinations, not the records.
type Table struct {
	quasi     []*Hierarchy
	sensitive []*Hierarchy
	row       map[string]int32
	codes     []int32 // row-major, quasi then sensitive
	count     []int64
	records   int64
	key       []byte
}

// NewTable makes an empty table over quasi-identifiers and sensitive attributes.
func NewTable(quasi, sensitive []*Hierarchy) (*Table, error) {
	if len(quasi) == 0 {
		return nil, sallyport.Errorf("model", sallyport.Invalid, "Name the columns by which a person could be recognized.", "there is no quasi-identifier")
	}
	return &Table{quasi: quasi, sensitive: sensitive, row: map[string]int32{}}, nil
}

// Add counts n records with these values, named by their codes.
func (t *Table) Add(quasi, sensitive []int32, n int64) error {
	bad := func(format string, args ...any) error {
		return sallyport.Errorf("model", sallyport.Invalid, "", format, args...)
	}
	if len(quasi) != len(t.quasi) || len(sensitive) != len(t.sensitive) {
		return bad("a record of %d and %d values for a table of %d and %d", len(quasi), len(sensitive), len(t.quasi), len(t.sensitive))
	}
	if n <= 0 || t.records > math.MaxInt64-n {
		return bad("%d records cannot be counted", n)
	}
	t.key = t.key[:0]
	for i, c := range quasi {
		if c < 0 || int(c) >= t.quasi[i].Size(0) {
			return bad("attribute %s has no value %d", t.quasi[i].name, c)
		}
		t.key = binary.LittleEndian.AppendUint32(t.key, uint32(c))
	}
	for i, c := range sensitive {
		if c < 0 || int(c) >= t.sensitive[i].Size(0) {
			return bad("attribute %s has no value %d", t.sensitive[i].name, c)
		}
		t.key = binary.LittleEndian.AppendUint32(t.key, uint32(c))
	}
	r, ok := t.row[string(t.key)]
	if !ok {
		if len(t.count) == math.MaxInt32 {
			return sallyport.Errorf("model", sallyport.Exhausted, "Round or generalize the columns first.", "more than %d distinct combinations", math.MaxInt32)
		}
		r = int32(len(t.count))
		t.row[string(t.key)] = r
		t.codes = append(append(t.codes, quasi...), sensitive...)
		t.count = append(t.count, 0)
	}
	t.count[r] += n
	t.records += n
	return nil
}

// AddValues counts one record by its values as texts.
func (t *Table) AddValues(quasi, sensitive []string) error {
	codes := make([]int32, 0, 16)
	if len(quasi) != len(t.quasi) || len(sensitive) != len(t.sensitive) {
		return sallyport.Errorf("model", sallyport.Invalid, "", "a record of %d and %d values for a table of %d and %d", len(quasi), len(sensitive), len(t.quasi), len(t.sensitive))
	}
	look := func(h *Hierarchy, v string) error {
		c, ok := h.Code(v)
		if !ok {
			return sallyport.Errorf("hierarchy "+h.name, sallyport.Invalid, "Add the value to the hierarchy.", "it lacks a value of the table")
		}
		codes = append(codes, c)
		return nil
	}
	for i, v := range quasi {
		if err := look(t.quasi[i], v); err != nil {
			return err
		}
	}
	for i, v := range sensitive {
		if err := look(t.sensitive[i], v); err != nil {
			return err
		}
	}
	return t.Add(codes[:len(quasi)], codes[len(quasi):], 1)
}

// Records returns the number of records.
func (t *Table) Records() int64 { return t.records }

// Rows returns the number of distinct combinations; rows are numbered in the
// order in which they came.
func (t *Table) Rows() int { return len(t.count) }

// Height returns the top of the lattice: every attribute's highest level.
func (t *Table) Height() []int {
	top := make([]int, len(t.quasi))
	for i, h := range t.quasi {
		top[i] = h.Levels() - 1
	}
	return top
}

func (t *Table) at(row, column int) int32 {
	return t.codes[row*(len(t.quasi)+len(t.sensitive))+column]
}

// leaves returns how many records have each value of a quasi-identifier.
func (t *Table) leaves(column int) []int64 {
	n := make([]int64, t.quasi[column].Size(0))
	for r := range t.count {
		n[t.at(r, column)] += t.count[r]
	}
	return n
}

// Grouping is a table's equivalence classes at some levels.
type Grouping struct {
	Class      []int32 // row → class; classes are numbered as they are met
	Records    []int64 // class → records
	Suppressed []bool  // class → its records do not leave
	table      *Table
}

// Group returns the equivalence classes at the given levels, none suppressed.
func (t *Table) Group(levels []int) *Grouping {
	rows := make([]int32, len(t.count))
	for i := range rows {
		rows[i] = int32(i)
	}
	return t.group(rows, levels)
}

func (t *Table) group(rows []int32, levels []int) *Grouping {
	g := &Grouping{Class: make([]int32, len(rows)), table: t}
	keys := make([]uint64, len(rows))
	room := uint64(1) // keys are below it
	for col, h := range t.quasi {
		size := uint64(h.Size(levels[col]))
		if size == 1 {
			continue
		}
		if room > math.MaxUint64/size {
			room = renumber(keys)
		}
		up := h.up[levels[col]]
		for i, r := range rows {
			keys[i] = keys[i]*size + uint64(up[t.at(int(r), col)])
		}
		room *= size
	}
	number := make(map[uint64]int32, 1024)
	for i, r := range rows {
		c, ok := number[keys[i]]
		if !ok {
			c = int32(len(g.Records))
			number[keys[i]] = c
			g.Records = append(g.Records, 0)
		}
		g.Class[i] = c
		g.Records[c] += t.count[r]
	}
	g.Suppressed = make([]bool, len(g.Records))
	return g
}

// renumber replaces keys by small numbers, so that more columns fit.
func renumber(keys []uint64) uint64 {
	number := map[uint64]uint64{}
	for i, k := range keys {
		n, ok := number[k]
		if !ok {
			n = uint64(len(number))
			number[k] = n
		}
		keys[i] = n
	}
	return uint64(max(1, len(number)))
}

// each calls visit for every class with its counts of sensitive values, which
// are valid during the call only.
func (g *Grouping) each(rows []int32, visit func(class int, c Class)) {
	t := g.table
	c := Class{Counts: make([][]int64, len(t.sensitive))}
	if len(t.sensitive) == 0 {
		for i, n := range g.Records {
			c.Records = n
			visit(i, c)
		}
		return
	}
	for i, h := range t.sensitive {
		c.Counts[i] = make([]int64, h.Size(0))
	}
	start := make([]int32, len(g.Records)+1)
	for _, k := range g.Class {
		start[k+1]++
	}
	for i := range g.Records {
		start[i+1] += start[i]
	}
	order, next := make([]int32, len(g.Class)), append([]int32{}, start...)
	for i, k := range g.Class {
		order[next[k]] = int32(i)
		next[k]++
	}
	for k, n := range g.Records {
		c.Records = n
		members := order[start[k]:start[k+1]]
		for _, i := range members {
			r := i
			if rows != nil {
				r = rows[i]
			}
			for s := range c.Counts {
				c.Counts[s][t.at(int(r), len(t.quasi)+s)] += t.count[r]
			}
		}
		visit(k, c)
		for _, i := range members {
			r := i
			if rows != nil {
				r = rows[i]
			}
			for s := range c.Counts {
				c.Counts[s][t.at(int(r), len(t.quasi)+s)] = 0
			}
		}
	}
}

// Closer suppresses, of the classes that are left, those whose distribution of
// a sensitive attribute is farther than t, by equal distances, from that of all
// that are left, and says whether there were any. To take classes out moves
// what the others are measured from: who wants closeness among what leaves
// repeats it until there are none.
func (g *Grouping) Closer(t float64) (failed bool) {
	left := make([][]int64, len(g.table.sensitive))
	for i, h := range g.table.sensitive {
		left[i] = make([]int64, h.Size(0))
	}
	g.each(nil, func(class int, c Class) {
		if !g.Suppressed[class] {
			for i, counts := range c.Counts {
				for v, n := range counts {
					left[i][v] += n
				}
			}
		}
	})
	var models []Closeness
	for i := range left {
		models = append(models, Closeness{i, t, NewEqualDistance(left[i])})
	}
	g.each(nil, func(class int, c Class) {
		for _, m := range models {
			if !g.Suppressed[class] && !m.Holds(c) {
				g.Suppressed[class], failed = true, true
			}
		}
	})
	return failed
}
