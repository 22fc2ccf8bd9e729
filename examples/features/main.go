// Command features extracts features from a table: it reads CSV with a header
// from standard input and writes CSV with the columns feature, column, group
// and value to standard output. It is the example of a module for sallyport:
// one pass, bounded memory, the same output for the same input.
//
// Usage: features [--group COLUMN]
//
// For the table:
//
//	records, columns    how many
//
// For each column, in the order of the table:
//
//	kind                numeric, ordered, category, text or empty
//	filled, empty       records with and without a value; "" and the
//	                    suppression mark * are empty
//	distinct            different values; distinct_at_least beyond 1,000
//	mean, sd, min, max  of a numeric column; sd divides by n-1
//	quartile_1, median, quartile_3
//	                    of a numeric column, by nearest rank: exact up to 2,048
//	                    different numbers, else within 0.4 % (see sketch)
//	share               of the filled records with one value: of a category
//	                    column the ten most frequent, of an ordered column all
//	share_other         what the ten leave
//
// An ordered column holds ranges such as [30,40), years such as 1984 or months
// such as 1984-07, as generalization makes them. Its median is the value at the
// middle record, in that order.
//
// Then, for each category of one grouping column, its number of records and
// the mean and number of values of every numeric column within it. The grouping
// column is the one named, or the first that has 2 to 20 different values, each
// found twice on average or more, in the first 1,000 records; without one, this
// part is left out. Beyond 50 groups, the rest are counted together as "other".
package main

import (
	"errors"
	"io"
	"os"
	"strconv"
)

const (
	sampleRecords = 1000    // read before the grouping column is chosen
	sampleBytes   = 4 << 20 // or so many bytes
	maxChosen     = 20      // categories of a grouping column that is chosen
	maxGroups     = 50
	maxColumns    = 4096
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		os.Stderr.WriteString("features: " + err.Error() + "\n")
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	groupName := ""
	switch {
	case len(args) == 0:
	case len(args) == 2 && args[0] == "--group" && args[1] != "":
		groupName = args[1]
	default:
		return errors.New("usage: features [--group COLUMN], with CSV on standard input")
	}
	r := newReader(in)
	header, err := r.read()
	if err == io.EOF {
		return errors.New("the input is empty: CSV with a header line is expected")
	}
	if err != nil {
		return err
	}
	if len(header) > maxColumns {
		return errors.New("the table has more than " + strconv.Itoa(maxColumns) + " columns")
	}
	t := newTable(header)
	if groupName != "" {
		for i, name := range header {
			if name == groupName {
				t.group = i
			}
		}
		if t.group < 0 {
			return errors.New("there is no column " + strconv.Quote(groupName) + " to group by")
		}
	}
	if err := t.readAll(r); err != nil {
		return err
	}
	w := newWriter(out)
	t.write(w)
	return w.flush()
}

// table is everything that is kept of the input.
type table struct {
	records int64
	columns []*column
	group   int // the grouping column, or -1
	groups  map[string]*groupOf
	rest    *groupOf // records of the groups beyond maxGroups
}

// groupOf is one category of the grouping column: its records, and the moments
// of each column's numbers in them.
type groupOf struct {
	records int64
	moments []moments
}

func newTable(header []string) *table {
	t := &table{group: -1, groups: map[string]*groupOf{}}
	for _, name := range header {
		t.columns = append(t.columns, newColumn(name))
	}
	return t
}

// readAll reads the records. The first ones wait in memory until it is known
// which column groups them.
func (t *table) readAll(r *reader) error {
	var sample [][]string
	size := 0
	for t.group < 0 && len(sample) < sampleRecords && size < sampleBytes {
		rec, err := r.readFor(len(t.columns))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for _, v := range rec {
			size += len(v) + 16
		}
		sample = append(sample, rec)
	}
	if t.group < 0 {
		t.group = choose(sample, len(t.columns))
	}
	for _, rec := range sample {
		t.add(rec)
	}
	for {
		rec, err := r.readFor(len(t.columns))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		t.add(rec)
	}
}

// choose returns the first column with few categories, or -1.
func choose(sample [][]string, columns int) int {
	for c := range columns {
		seen := map[string]bool{}
		for _, rec := range sample {
			if seen[rec[c]] = true; len(seen) > maxChosen {
				break
			}
		}
		if len(seen) >= 2 && len(seen) <= maxChosen && 2*len(seen) <= len(sample) {
			return c
		}
	}
	return -1
}

func (t *table) add(rec []string) {
	t.records++
	var g *groupOf
	if t.group >= 0 {
		g = t.groupFor(rec[t.group])
		g.records++
	}
	for i, v := range rec {
		if x, ok := t.columns[i].add(v); ok && g != nil {
			g.moments[i].add(x)
		}
	}
}

func (t *table) groupFor(category string) *groupOf {
	if g := t.groups[category]; g != nil {
		return g
	}
	g := t.rest
	if g == nil {
		g = &groupOf{moments: make([]moments, len(t.columns))}
	}
	if len(t.groups) < maxGroups {
		t.groups[category] = g
	} else {
		t.rest = g
	}
	return g
}

func (t *table) write(w *writer) {
	w.row("feature", "column", "group", "value")
	w.row("records", "", "", count(t.records))
	w.row("columns", "", "", count(int64(len(t.columns))))
	for _, c := range t.columns {
		c.write(w)
	}
	if t.group < 0 {
		return
	}
	by := t.columns[t.group]
	emit := func(category string, g *groupOf) {
		w.row("group_records", by.name, category, count(g.records))
		for i, c := range t.columns {
			if m := g.moments[i]; i != t.group && c.kind() == numeric && m.n > 0 {
				w.row("group_values", c.name, category, count(m.n))
				w.row("group_mean", c.name, category, number(m.mean))
			}
		}
	}
	for _, category := range by.inOrder(keys(t.groups)) {
		emit(label(by.name, category), t.groups[category])
	}
	if t.rest != nil {
		emit("other", t.rest)
	}
}

// label names one category of a column in the group field.
func label(column, category string) string { return column + "=" + category }
