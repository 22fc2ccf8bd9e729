package planning

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"sallyport"
	"sallyport/anonymize/model"
	"sallyport/anonymize/risk"
)

// before measures the table as it is.
func (p *planner) before() {
	g := p.gathered
	sizes := map[string]int64{}
	key := make([]byte, 0, 4*len(p.quasi))
	for r, n := range g.count {
		key = key[:0]
		for c := range p.quasi {
			v := g.at(r, c)
			key = append(key, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		sizes[string(key)] += n
	}
	records := make([]int64, 0, len(sizes))
	for _, n := range sizes {
		records = append(records, n)
	}
	for c := range p.quasi {
		counts := make([]int64, len(g.values[c]))
		for r, n := range g.count {
			counts[g.at(r, c)] += n
		}
		p.whole = append(p.whole, model.Entropy(counts)*float64(g.records))
	}
	report := measure(records, nil)
	p.result.Before = &Point{Reached: true, Utility: 1, Report: report}
}

// measure is the risk of classes, less those that stay behind.
func measure(records []int64, suppressed []bool) risk.Report {
	classes := map[int64]int64{}
	for i, n := range records {
		if suppressed == nil || !suppressed[i] {
			classes[n]++
		}
	}
	var sizes []risk.Size
	for n, c := range classes {
		sizes = append(sizes, risk.Size{Records: n, Classes: c})
	}
	slices.SortFunc(sizes, func(a, b risk.Size) int { return cmp.Compare(a.Records, b.Records) })
	report, err := risk.Measure(sizes, Threshold)
	if err != nil { // sizes are positive and the threshold is a chance
		panic(err)
	}
	return report
}

// search finds the treatment for one k.
func (p *planner) search(ctx context.Context, k int64) (Point, error) {
	criteria := append([]model.Criterion{model.KAnonymity{K: k}}, p.shapes...)
	pt := Point{K: k}
	limits := []float64{p.Target.Limit}
	if p.Target.T > 0 && p.Target.T < 1 && p.Target.Limit > 0 {
		limits = append(limits, p.Target.Limit/2, p.Target.Limit/4, 0)
	}
	if p.Target.strict() {
		limits = []float64{0}
	}
	for _, limit := range limits {
		goal := model.Goal{Criteria: criteria, Limit: limit, Loss: p.loss}
		s, err := model.Search(ctx, p.table, goal)
		if err != nil {
			if e, ok := errors.AsType[*sallyport.Error](err); ok && e.Kind == sallyport.NotFound {
				return pt, nil
			}
			return pt, err
		}
		pt.Checks += s.Checks
		_, g, _, err := model.Check(p.table, goal, s.Levels)
		if err != nil {
			return pt, err
		}
		suppressed, ok := p.settle(g)
		if !ok {
			continue
		}
		pt.Reached, pt.Levels, pt.Loss = true, s.Levels, s.Loss[0]
		pt.Suppressed, pt.Share = suppressed, float64(suppressed)/float64(p.table.Records())
		pt.Utility, pt.Columns = p.utility(p.loss.Kept(s.Levels, g))
		pt.Report = measure(g.Records, g.Suppressed)
		return pt, nil
	}
	return pt, nil
}

// utility is what is left of the information that the columns have as they
// are, of all, weighted, and of each. A column with one value tells nothing, and
// is whole.
func (p *planner) utility(kept []float64) (all float64, columns []float64) {
	columns = make([]float64, len(kept))
	var left, whole float64
	for n, bits := range kept {
		columns[n] = part(bits, p.whole[n])
		left += p.weights()[n] * bits
		whole += p.weights()[n] * p.whole[n]
	}
	return part(left, whole), columns
}

// part is a share of bits. Sums of bits are off by their rounding, which must
// not make all of them look like nearly all.
func part(bits, whole float64) float64 {
	const rounding = 1e-9
	switch share := bits / whole; {
	case whole <= 0 || share > 1-rounding:
		return 1
	case share < rounding:
		return 0
	default:
		return share
	}
}

// settle takes out of a grouping what the pass will: to take classes out moves
// the distribution from which closeness is measured, so that others may fail.
// It says how many records stay behind, and whether that is within the limit.
func (p *planner) settle(g *model.Grouping) (suppressed int64, ok bool) {
	for {
		suppressed = 0
		for class, out := range g.Suppressed {
			if out {
				suppressed += g.Records[class]
			}
		}
		if float64(suppressed) > p.Target.Limit*float64(p.table.Records()) {
			return suppressed, false
		}
		if p.Target.T <= 0 || p.Target.T >= 1 || suppressed == 0 || !g.Closer(p.Target.T) {
			return suppressed, true
		}
	}
}
