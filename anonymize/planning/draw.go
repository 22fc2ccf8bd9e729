package planning

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// barWidth is the characters of a full bar on a terminal.
const barWidth = 16

// Draw draws the curve for a terminal: for each k what is left of the
// information and what risk is left, the plan's own marked.
func (r *Result) Draw(w io.Writer) error {
	if len(r.Curve) == 0 || r.Before == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %-5s  %-*s  %-*s  %8s  %8s  %9s\n", "k", barWidth+6, "USEFUL", barWidth+6, "HIGHEST RISK", "AVERAGE", "UNIQUE", "KEPT BACK")
	for _, p := range append([]Point{*r.Before}, r.Curve...) {
		name, mark := fmt.Sprint(p.K), " "
		if p.K == 0 {
			name = "as is"
		}
		if r.Chosen != nil && p.K == r.Chosen.K {
			mark = "▸"
		}
		if !p.Reached {
			fmt.Fprintf(&b, "%s %-5s  no treatment reaches it\n", mark, name)
			continue
		}
		fmt.Fprintf(&b, "%s %-5s  %s %5s  %s %5s  %8s  %8s  %9s\n", mark, name, bar(p.Utility), percent(p.Utility, 0), bar(p.Prosecutor.Highest), percent(p.Prosecutor.Highest, 0),
			percent(p.Prosecutor.Average, 2), percent(p.UniqueShare, 2), percent(p.Share, 2))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// bar is a share as blocks, to an eighth of a character, padded. What is not
// nothing shows.
func bar(share float64) string {
	eighths := int(share*barWidth*8 + 0.5)
	if share > 0 {
		eighths = max(1, eighths)
	}
	eighths = min(eighths, barWidth*8)
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s + strings.Repeat(" ", barWidth-utf8.RuneCountInString(s))
}

// percent never rounds to all or to nothing what is not.
func percent(share float64, digits int) string {
	s := fmt.Sprintf("%.*f %%", digits, 100*share)
	least := fmt.Sprintf("%.*f", digits, 0.0)
	switch {
	case share > 0 && strings.TrimSuffix(s, " %") == least:
		return "<" + fmt.Sprintf("%.*f %%", digits, pow10(-digits))
	case share < 1 && strings.HasPrefix(s, "100"):
		return ">" + fmt.Sprintf("%.*f %%", digits, 100-pow10(-digits))
	}
	return s
}

func pow10(n int) float64 {
	f := 1.0
	for ; n < 0; n++ {
		f /= 10
	}
	return f
}
