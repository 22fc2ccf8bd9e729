package report

import "sallyport/anonymize/planning"

// SafeHarbor is the list of 45 CFR 164.514(b)(2)(i), row by row. It says what
// was declared and done, and never that an identifier is absent: a table may
// hold what nobody declared.
type SafeHarbor struct {
	Rows []HarborRow `json:"rows"` // (A) to (R)
	// Unsaid are the columns that leave and of which nobody has said in which
	// category, if any, they fall.
	Unsaid []string `json:"unsaid"`
	// None are the columns that leave and were declared to be in no category.
	None []string `json:"none"`
}

// HarborRow is one of the 18 categories.
type HarborRow struct {
	Letter   string         `json:"letter"`
	Category string         `json:"category"`
	Columns  []HarborColumn `json:"columns"` // empty: no column is declared to fall under it
}

// HarborColumn is a column that was declared to fall under a category.
type HarborColumn struct {
	Column    string `json:"column"`
	Treatment string `json:"treatment"`
	// Satisfies says that the treatment is one that the category's text permits,
	// by its form; whether the data are as declared no program can know.
	Satisfies bool   `json:"satisfies"`
	Mind      string `json:"mind,omitempty"` // what would satisfy it, or what to mind
}

// safeHarbor judges the columns as a plan file's are judged.
func safeHarbor(fields []Field) SafeHarbor {
	h := SafeHarbor{Rows: []HarborRow{}, Unsaid: []string{}, None: []string{}}
	var f planning.File
	treatments := map[string]string{}
	said := map[string]bool{}
	for _, c := range fields {
		verb := c.Verb
		switch {
		case !c.Leaves:
			verb = "drop"
		case verb == "keep":
			verb = ""
		}
		f.Columns = append(f.Columns, planning.Column{Name: c.Column, Role: c.Role, Identifier: c.Identifier, Verb: verb, Args: c.Args})
		treatments[c.Column] = c.Treatment
	}
	for _, r := range f.SafeHarborRows() {
		if r.Letter == "" { // of which nobody has said anything
			continue
		}
		row := HarborRow{Letter: r.Letter, Category: r.Title, Columns: []HarborColumn{}}
		for _, c := range r.Columns {
			row.Columns = append(row.Columns, HarborColumn{c.Column, treatments[c.Column], c.Satisfied, c.Why})
			said[c.Column] = true
		}
		h.Rows = append(h.Rows, row)
	}
	for _, c := range fields {
		switch {
		case !c.Leaves || said[c.Column]:
		case c.Identifier == "none":
			h.None = append(h.None, c.Column)
		default:
			h.Unsaid = append(h.Unsaid, c.Column)
		}
	}
	return h
}
