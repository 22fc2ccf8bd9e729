package report

import (
	"fmt"
	"math"
)

// plot is a drawing whose places are computed: rows from top to bottom, each
// with what was before and what is after, on an axis from 0 to 100 %. Before is
// drawn hollow and after filled, so that no colour is needed to tell them apart.
type plot struct {
	Height int
	Ticks  []tick
	Rows   []row
	Empty  bool
}

type tick struct {
	X    string
	Text string
}

type row struct {
	Label  string
	Head   bool // the first row of a group
	Group  string
	Y      int // of the row's upper edge
	Middle int
	Before mark
	After  mark
	Left   string // of the line between the two
	Width  string
}

type mark struct {
	X     string // of its end
	Width string // from the axis
	Text  string
}

const (
	plotLeft  = 190.0 // where the axis begins
	plotWidth = 420.0 // of 100 %
)

func at(share float64) float64 {
	if math.IsNaN(share) {
		share = 0
	}
	return plotLeft + plotWidth*min(1, max(0, share))
}

func place(v float64) string { return fmt.Sprintf("%.1f", v) }

func markOf(share float64) mark {
	return mark{X: place(at(share)), Width: place(at(share) - plotLeft), Text: percent(share)}
}

func ticks() []tick {
	var t []tick
	for _, p := range []int{0, 25, 50, 75, 100} {
		t = append(t, tick{place(at(float64(p) / 100)), fmt.Sprintf("%d %%", p)})
	}
	return t
}

// histogram draws the share of records by the size of their class.
func histogram(r Risk) plot {
	p := plot{Ticks: ticks(), Empty: r.Before.Records == 0 && r.After.Records == 0}
	for i, s := range r.Sizes {
		label := thousands(s.Least)
		switch {
		case s.Most == 0:
			label += " or more"
		case s.Most > s.Least:
			label += " to " + thousands(s.Most)
		}
		p.Rows = append(p.Rows, row{Label: label, Y: 24 + 34*i, Middle: 24 + 34*i + 15, Before: markOf(s.Before.Share), After: markOf(s.After.Share)})
	}
	p.Height = 24 + 34*len(p.Rows) + 6
	return p
}

// attackers draws what each can do, before and after.
func attackers(r Risk) plot {
	p := plot{Ticks: ticks()}
	y := 24
	add := func(group, label string, head bool, before, after float64) {
		b, a := at(before), at(after)
		p.Rows = append(p.Rows, row{Label: label, Group: group, Head: head, Y: y, Middle: y + 12, Before: markOf(before), After: markOf(after),
			Left: place(min(a, b)), Width: place(math.Abs(a - b))})
		y += 24
	}
	above := "share above " + percent(r.Threshold)
	b, a := r.Attackers.Before, r.Attackers.After
	add("Prosecutor", "highest", true, b.Prosecutor.Highest, a.Prosecutor.Highest)
	add("Prosecutor", "average", false, b.Prosecutor.Average, a.Prosecutor.Average)
	add("Prosecutor", above, false, b.Prosecutor.ShareAbove, a.Prosecutor.ShareAbove)
	y += 10
	add("Journalist", "highest", true, b.Journalist.Highest, a.Journalist.Highest)
	add("Journalist", "average", false, b.Journalist.Average, a.Journalist.Average)
	add("Journalist", above, false, b.Journalist.ShareAbove, a.Journalist.ShareAbove)
	y += 10
	add("Marketer", "average", true, b.Marketer.Average, a.Marketer.Average)
	p.Height = y + 6
	return p
}
