package planning

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

//go:embed page.html.tmpl
var pageText string

// Page writes the curve as one HTML file that needs nothing from elsewhere and
// runs nothing: a drawing, and the same numbers as tables. It holds no value of
// the table, only the names of columns.
func (r *Result) Page(w io.Writer, title string) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, r.page(title))
}

// The drawing's measures, in its own units.
const (
	plotWidth, plotHeight         = 720.0, 400.0
	plotLeft, plotRight           = 64.0, 24.0
	plotTop, plotBottom           = 24.0, 56.0
	innerWidth, innerHeight       = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
	plotFloor                     = plotHeight - plotBottom
	leastDecades                  = 1.0 // the risk axis shows at least 100 % to 10 %
	mostDecades                   = 6.0
	labelAbove, labelStep         = 12.0, 15.0
	labelWidth, labelHeight       = 46.0, 14.0
	gridSteps                     = 5
	tickAbove, tickBelow, tickGap = 4.0, 20.0, 8.0
)

type page struct {
	Title, Target, Desc   string
	Width, Height         float64
	Left, Right, Top, Low float64
	Grid                  []tick // utility
	Ticks                 []tick // risk
	Line                  string
	Dots                  []dot
	Drawn                 bool
	Rows                  []pageRow
	Columns               []string
	Choices               []pageChoice
	Harbor                []HarborRow
	Notes                 []string
	Before, Chosen        *pageRow
	Summary               string
}

type tick struct {
	At    float64
	Label string
}

type dot struct {
	X, Y, LabelX, LabelY float64
	Label                string
	Chosen               bool
	Title                string
}

type pageRow struct {
	K                                                 string
	Chosen, Reached                                   bool
	Utility, Highest, Average, Above, Unique, Kept, N string
	Steps                                             []pageStep
}

type pageStep struct{ Text, Utility string }

type pageChoice struct{ Column, Role, Identifier, Treatment, Useful, Evidence, Warning string }

func (r *Result) page(title string) page {
	p := page{Title: title, Target: r.Target.String(), Width: plotWidth, Height: plotHeight, Left: plotLeft, Right: plotWidth - plotRight, Top: plotTop, Low: plotFloor,
		Harbor: r.SafeHarbor, Notes: r.Notes}
	for _, c := range r.Columns {
		ch := pageChoice{Column: c.Column, Role: string(c.Role), Identifier: c.Identifier, Treatment: c.Treatment, Evidence: strings.Join(c.Evidence, "; "), Warning: c.Warning}
		if len(c.Ladder) > 0 {
			p.Columns = append(p.Columns, c.Column)
			ch.Useful = percent(c.Utility, 0)
		}
		p.Choices = append(p.Choices, ch)
	}
	if r.Before == nil || r.Chosen == nil {
		return p
	}
	points := r.Curve
	if len(points) == 0 {
		points = []Point{*r.Chosen}
	}
	all := append([]Point{*r.Before}, points...)
	for _, pt := range all {
		p.Rows = append(p.Rows, r.row(pt))
	}
	before, chosen := r.row(*r.Before), r.row(*r.Chosen)
	p.Before, p.Chosen = &before, &chosen
	p.Summary = fmt.Sprintf("The plan keeps %s of the information in the quasi-identifiers and lowers the highest chance of recognizing a record from %s to %s, the average from %s to %s; %d of %d records stay behind.",
		chosen.Utility, before.Highest, chosen.Highest, before.Average, chosen.Average, r.Chosen.Suppressed, r.Records)
	p.plot(r, all)
	return p
}

func (r *Result) row(pt Point) pageRow {
	row := pageRow{K: fmt.Sprint(pt.K), Reached: pt.Reached, Chosen: pt.K != 0 && pt.K == r.Chosen.K}
	if pt.K == 0 {
		row.K = "as is"
	}
	if !pt.Reached {
		return row
	}
	row.Utility, row.Highest, row.Average = percent(pt.Utility, 1), percent(pt.Prosecutor.Highest, 1), percent(pt.Prosecutor.Average, 2)
	row.Above, row.Unique, row.Kept, row.N = percent(pt.Prosecutor.ShareAbove, 1), percent(pt.UniqueShare, 2), percent(pt.Share, 2), fmt.Sprint(pt.Records)
	n := 0
	for _, c := range r.Columns {
		if len(c.Ladder) == 0 {
			continue
		}
		if pt.K == 0 {
			row.Steps = append(row.Steps, pageStep{asItIs.Text, percent(1, 0)})
		} else {
			row.Steps = append(row.Steps, pageStep{c.Ladder[pt.Levels[n]].Text, percent(pt.Columns[n], 0)})
		}
		n++
	}
	return row
}

// plot draws utility over the highest risk, which falls to the right on a
// logarithmic axis.
func (p *page) plot(r *Result, all []Point) {
	decades := leastDecades
	for _, pt := range all {
		if pt.Reached && pt.Prosecutor.Highest > 0 {
			decades = max(decades, -math.Log10(pt.Prosecutor.Highest))
		}
	}
	decades = min(decades, mostDecades) * 1.04
	x := func(risk float64) float64 { return plotLeft + min(1, -math.Log10(risk)/decades)*innerWidth }
	y := func(utility float64) float64 { return plotFloor - utility*innerHeight }
	for i := range gridSteps + 1 {
		u := float64(i) / gridSteps
		p.Grid = append(p.Grid, tick{y(u), percent(u, 0)})
	}
	for _, risk := range []float64{1, .5, .2, .1, .05, .02, .01, .005, .002, .001, 1e-4, 1e-5, 1e-6} {
		if -math.Log10(risk) <= decades {
			p.Ticks = append(p.Ticks, tick{x(risk), fmt.Sprintf("%g %%", 100*risk)})
		}
	}
	var line strings.Builder
	var desc []string
	var labels []dot
	for _, pt := range all {
		if !pt.Reached || pt.Prosecutor.Highest <= 0 {
			continue
		}
		d := dot{X: x(pt.Prosecutor.Highest), Y: y(pt.Utility), Label: fmt.Sprintf("k=%d", pt.K), Chosen: pt.K != 0 && pt.K == r.Chosen.K}
		if pt.K == 0 {
			d.Label = "as is"
		}
		d.Title = fmt.Sprintf("%s: highest risk %s, utility %s", d.Label, percent(pt.Prosecutor.Highest, 1), percent(pt.Utility, 1))
		desc = append(desc, d.Title)
		d.LabelX, d.LabelY = min(d.X+tickGap, plotWidth-plotRight-labelWidth), max(d.Y-labelAbove, labelHeight)
		for _, o := range labels { // names that would lie on each other go down
			if math.Abs(o.LabelX-d.LabelX) < labelWidth && math.Abs(o.LabelY-d.LabelY) < labelHeight {
				d.LabelY = o.LabelY + labelStep
			}
		}
		labels = append(labels, d)
		p.Dots = append(p.Dots, d)
		fmt.Fprintf(&line, "%.1f,%.1f ", d.X, d.Y)
	}
	p.Line, p.Drawn = strings.TrimSpace(line.String()), len(p.Dots) > 1
	p.Desc = "Utility over the highest risk of a record, which falls to the right. " + strings.Join(desc, "; ") + "."
}

// Below is where the labels of the risk axis stand.
func (p page) Below() float64 { return p.Low + tickBelow }

// Beside is where the labels of the utility axis end.
func (p page) Beside() float64 { return p.Left - tickGap }

// Middle is the middle of the risk axis.
func (p page) Middle() float64 { return (p.Left + p.Right) / 2 }

// Under is where the name of the risk axis stands.
func (p page) Under() float64 { return p.Height - tickAbove }
