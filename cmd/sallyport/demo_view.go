package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"sallyport/gateway"
)

// view shows the demo as it happens: on a terminal one line a step, the
// current one alive; elsewhere plain lines; with --json nothing before the end.
type view struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	color bool
	quiet bool
	width int

	step  string    // of the live line
	text  string    // of the live line
	began time.Time // of the live line
	live  bool
	stop  chan struct{}
}

func newView(a *app) *view {
	v := &view{w: a.out, quiet: a.json, width: 100}
	if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		v.tty, v.color = true, os.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 40 {
			v.width = min(w, 140)
		}
	}
	return v
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (v *view) paint(code, s string) string {
	if !v.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (v *view) title(name, what string) {
	v.print(v.paint(bold, name) + v.paint(dim, "  "+what))
}

func (v *view) say(format string, args ...any) { v.print(fmt.Sprintf(format, args...)) }

func (v *view) print(lines string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.quiet {
		return
	}
	v.clear()
	fmt.Fprintln(v.w, lines)
}

func (v *view) job(j demoJob) {
	v.print("\n" + v.paint(bold+";"+cyan, j.title))
}

// event follows a job of the gateway.
func (v *view) event(e gateway.Event) {
	if e.Step == "end" {
		return // jobEnd says it
	}
	switch e.Phase {
	case "begin":
		v.begin(e.Step, "")
	case "progress":
		v.progress(e.Text)
	case "done":
		v.done(e.Step, e.Text)
	case "denied", "failed", "canceled":
		v.finish(e.Step, e.Text, e.Phase)
	}
}

// begin starts a live line.
func (v *view) begin(step, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.step, v.text, v.began = step, text, time.Now()
	if v.quiet || !v.tty {
		return
	}
	v.live = true
	v.draw(0)
	if v.stop == nil {
		v.stop = make(chan struct{})
		go v.spin(v.stop)
	}
}

func (v *view) progress(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text = text
}

func (v *view) spin(stop chan struct{}) {
	t := time.NewTicker(80 * time.Millisecond)
	defer t.Stop()
	for i := 1; ; i++ {
		select {
		case <-stop:
			return
		case <-t.C:
			v.mu.Lock()
			if v.live {
				v.draw(i)
			}
			v.mu.Unlock()
		}
	}
}

func (v *view) draw(i int) {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	line := fmt.Sprintf("  %c %-10s %6s  %s", frames[i%len(frames)], v.step, v.elapsed(), v.text)
	fmt.Fprint(v.w, "\r\x1b[K"+v.paint(dim, clip(line, v.width-1)))
}

func (v *view) clear() {
	if v.live {
		fmt.Fprint(v.w, "\r\x1b[K")
		v.live = false
	}
}

func (v *view) elapsed() string {
	d := time.Since(v.began)
	if d < 10*time.Second {
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
	return fmt.Sprintf("%.0fs", d.Seconds())
}

func (v *view) done(step, text string) { v.finish(step, text, "done") }

// finish turns the live line into a line that stays.
func (v *view) finish(step, text, phase string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.quiet {
		return
	}
	v.clear()
	mark, code := "✓", green
	switch phase {
	case "denied":
		mark, code = "✗", yellow
	case "failed", "canceled":
		mark, code = "✗", red
	}
	head := fmt.Sprintf("%-10s %6s  ", step, v.elapsed())
	lines := wrap(text, v.width-4-utf8.RuneCountInString(head))
	fmt.Fprintf(v.w, "  %s %s%s\n", v.paint(code, mark), v.paint(dim, head), lines[0])
	for _, l := range lines[1:] {
		fmt.Fprintf(v.w, "    %s%s\n", strings.Repeat(" ", utf8.RuneCountInString(head)), l)
	}
}

// wrap breaks text at spaces into lines of at most width runes.
func wrap(text string, width int) []string {
	width = max(width, 20)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func (v *view) jobEnd(j gateway.Job) {
	switch j.State {
	case gateway.Done:
		v.print("  " + v.paint(green, "done") + v.paint(dim, fmt.Sprintf("  ran %s, cost %s", j.Side, j.Cost)))
	default:
		v.print("  " + v.paint(yellow, string(j.State)))
	}
}

// close ends the live line.
func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	if v.stop != nil {
		close(v.stop)
		v.stop = nil
	}
}

// end shows the results, what they cost, the trail and the verdict.
func (v *view) end(r demoReport, dir string) {
	v.close()
	for _, j := range r.Jobs {
		if rows := featureRows(r.Results[string(j.ID)]); rows != nil {
			v.print("\n" + v.paint(bold, "Result of "+string(j.ID)))
			v.features(rows)
		}
	}
	v.print("\n" + v.paint(bold, "Cost"))
	v.print(fmt.Sprintf("  %s units of account for all outside executions", r.Cost))

	v.print("\n" + v.paint(bold, "Audit trail"))
	v.trail(r)
	v.print("\n" + v.paint(bold, "Checked afterwards, in the parts themselves"))
	for _, c := range r.Checks {
		mark, code := "✓", green
		if !c.OK {
			mark, code = "✗", red
		}
		note := ""
		if c.Note != "" {
			note = v.paint(dim, "  "+clip(c.Note, max(20, v.width-8-utf8.RuneCountInString(c.What))))
		}
		v.print("  " + v.paint(code, mark) + " " + c.What + note)
	}
	if dir != "" {
		me := programName()
		v.print(fmt.Sprintf("\nKept in %s. Look around:", dir))
		for _, c := range []string{"job ls", "job show burst", "audit ls --decision deny", "audit verify"} {
			v.print(fmt.Sprintf("  %s %s --config %s/sallyport.yaml", me, c, dir))
		}
	} else {
		v.print("\n" + v.paint(dim, "Nothing was kept; `sallyport demo --dir DIR` keeps it all."))
	}
	v.print(v.paint(dim, fmt.Sprintf("%.1f s", r.Seconds)))
}

// programName is what a person types to run this program again.
func programName() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./cmd/sallyport"
	}
	return "sallyport"
}

// trail shows one line a record, job by job.
func (v *view) trail(r demoReport) {
	last := ""
	for _, rec := range r.Records {
		e := rec.Entry
		if string(e.Job) != last {
			last = string(e.Job)
			v.print("  " + v.paint(bold, last))
		}
		decision := e.Decision
		switch decision {
		case "deny", "error":
			decision = v.paint(yellow, decision)
		case "allow":
			decision = v.paint(green, decision)
		}
		what := ""
		switch {
		case len(e.Reasons) > 0:
			what = strings.Join(e.Reasons, "; ")
		case e.Node != "" && e.Lease != "":
			what = "lease " + e.Lease + " → " + e.Node
		case e.Lease != "":
			what = "lease " + e.Lease
		case e.Node != "":
			what = e.Node
		}
		v.print(fmt.Sprintf("  %3d  %-10s %-8s %s %s", rec.Seq, e.Step, e.Phase, decision, v.paint(dim, clip(what, max(20, v.width-34)))))
	}
}

// features draws the shares and means of a features result as bars.
func (v *view) features(rows [][]string) {
	shown := 0
	for _, row := range rows {
		if len(row) != 4 || shown >= 14 {
			break
		}
		feature, column, group, value := row[0], row[1], row[2], row[3]
		var share float64
		bar := ""
		if feature == "share" {
			if _, err := fmt.Sscan(value, &share); err == nil {
				bar = v.paint(cyan, strings.Repeat("▇", int(share*30+0.5)))
			}
		}
		if feature != "share" && feature != "group_mean" && feature != "mean" {
			continue
		}
		v.print(fmt.Sprintf("  %-10s %-11s %-12s %10s %s", feature, column, group, value, bar))
		shown++
	}
	v.print(v.paint(dim, fmt.Sprintf("  … of %d rows", len(rows))))
}
