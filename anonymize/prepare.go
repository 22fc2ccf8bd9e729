package anonymize

// watch is a Preparer's column that must be seen before it can be changed.
type watch struct {
	treatment   string
	column      *column // of the plan: it knows its place in the file
	filters     []filter
	prepare     func() (Preparation, error)
	preparation Preparation
	past        bool // only an earlier release has it
	failed      bool
}

// observe shows a record to the Preparations.
func (e *editor) observe(fields [][]byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.watched {
		if w.failed || !pass(w.filters, fields) {
			continue
		}
		if err := w.observe(fields[w.column.in]); err != nil {
			if !w.past {
				return inColumn(w.column, err)
			}
			w.failed = true // the source is not what it was; the verb will fail, too
		}
	}
	e.records.Add(1)
	return nil
}

func (w *watch) observe(v []byte) error {
	if !w.column.list {
		return w.preparation.Observe(v)
	}
	for item := range Items(v) {
		if err := w.preparation.Observe(item); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the Preparations that a reading is to fill. Two columns'
// treatments are never the same; two releases' may be.
func (e *editor) prepare() error {
	e.purpose = toPrepare
	var once []*watch
	seen := map[string]bool{}
	for _, w := range e.watched {
		if seen[w.treatment] {
			continue
		}
		seen[w.treatment] = true // those of this release come first
		var err error
		if w.preparation, err = w.prepare(); err != nil && !w.past {
			return inColumn(w.column, err)
		}
		w.failed = err != nil
		once = append(once, w)
	}
	e.watched = once
	return nil
}

// handOn hands the filled Preparations to the readings that follow.
func (e *editor) handOn() {
	e.prepared = map[string]Preparation{}
	for _, w := range e.watched {
		if !w.failed {
			e.prepared[w.treatment] = w.preparation
		}
	}
}
