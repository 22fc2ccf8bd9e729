package anonymize

import (
	"context"
	"slices"

	"sallyport"
	"sallyport/anonymize/risk"
)

// meter is a census that may give way to a more important one where memory is
// short, and then keeps the figures of what it had counted.
type meter struct {
	census  *risk.Census
	stopped bool
	final   []risk.Size
}

func newMeter(memory *risk.Memory, dir string, sensitive int) *meter {
	return &meter{census: risk.NewCensus(risk.Options{Memory: memory, Dir: dir, Sensitive: sensitive})}
}

// stop ends counting, keeps the figures so far and gives the memory back.
func (m *meter) stop() {
	if m.stopped {
		return
	}
	m.stopped = true
	m.final, _ = m.census.Sizes(context.Background()) // none, if they cannot be had: the figures are not exact anyway
	m.census.Close()
}

// add counts records with m, for whom less important censuses give way, and
// which gives way itself if it is not the most important. nil counts nothing.
func (e *editor) add(m *meter, classes, values []risk.Key) error {
	for m != nil && !m.stopped {
		had := m.census.Records()
		err := m.census.AddBatch(classes, values)
		if err == nil {
			return nil
		}
		if m == e.secret && !e.env.Diversity {
			m.stop() // it has its own memory, so the others need not give way
			return nil
		}
		i := slices.IndexFunc(e.yields, func(y *meter) bool { return !y.stopped })
		if i < 0 {
			return err
		}
		e.yields[i].stop()
		done := int(m.census.Records() - had)
		if len(values) > 0 {
			values = values[done*len(values)/len(classes):]
		}
		classes = classes[done:]
	}
	return nil
}

// sizes returns the class sizes; exact only if every record was counted.
func (m *meter) sizes(ctx context.Context, records int64) (sizes []risk.Size, exact bool, err error) {
	if m.stopped {
		return m.final, false, nil
	}
	if sizes, err = m.census.Sizes(ctx); err != nil {
		return nil, false, err
	}
	return sizes, m.census.Records() == records, nil
}

// riskOf puts figures into the words of policy.
func riskOf(r risk.Report, exact bool, quasi []string) sallyport.Risk {
	return sallyport.Risk{Records: r.Records, Classes: r.Classes, SmallestClass: r.SmallestClass, Unique: r.UniqueShare,
		Highest: r.Prosecutor.Highest, Average: r.Prosecutor.Average, Exact: exact, Quasi: append([]string{}, quasi...)}
}
