package anonymize

import "sallyport"

// filter is one row filter of the plan, bound to its place in the file. It is
// never changed once the header is known, so all hands share it.
type filter struct {
	column *column
	in     int // place in the file
	list   bool
	values map[string]struct{}
}

// passes reports whether the record's raw value is one of the filter's. Of a
// list, all items must be, so that no record tells of rows that nobody allowed;
// a list without items counts as the empty value.
func (f *filter) passes(fields [][]byte) bool {
	v := fields[f.in]
	if f.list && len(v) > 0 {
		for item := range Items(v) {
			if _, ok := f.values[string(item)]; !ok {
				return false
			}
		}
		return true
	}
	_, ok := f.values[string(v)] // the compiler makes no copy for a lookup
	return ok
}

// pass reports whether all filters let a record pass.
func pass(filters []filter, fields [][]byte) bool {
	for i := range filters {
		if !filters[i].passes(fields) {
			return false
		}
	}
	return true
}

// locate tells filters where their columns are, once the header is known.
func locate(filters []filter) {
	for i := range filters {
		filters[i].in, filters[i].list = filters[i].column.in, filters[i].column.list
	}
}

// filters binds the row filters of a plan to its columns. The header, once
// read, tells their places in the file.
func filters(rows []sallyport.RowFilter, known map[string]*column) ([]filter, error) {
	var out []filter
	seen := map[string]bool{}
	for _, r := range rows {
		c := known[r.Column]
		if c == nil {
			return nil, invalid("Correct the row filter, or add the column to the catalog.", "a row filter names column %q, which the catalog does not list", r.Column)
		}
		if seen[r.Column] {
			return nil, invalid("Let policy give one row filter a column.", "two row filters of column %q", r.Column)
		}
		seen[r.Column] = true
		f := filter{column: c, in: -1, values: make(map[string]struct{}, len(r.In))}
		for _, v := range r.In {
			f.values[v] = struct{}{}
		}
		out = append(out, f)
	}
	return out, nil
}
