package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// passProgress says how far a command is: on a terminal one line that lives,
// elsewhere a line for each file that ends.
type passProgress struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	lines bool
	now   func() time.Time

	began, drawn time.Time
	files, ended int
	total, read  int64
	of           []int64 // bytes read of each file
}

func newPassProgress(w io.Writer, files []tableFile, lines bool, now func() time.Time) *passProgress {
	p := &passProgress{w: w, lines: lines, now: now, began: now(), files: len(files), of: make([]int64, len(files))}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.tty = true
	}
	for _, f := range files {
		p.total += f.size
	}
	return p
}

// at says that so many bytes of a file are read. A pass that reads a file twice
// begins anew; what is shown never goes back.
func (p *passProgress) at(file int, size, read int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size > 0 {
		read = min(read, size)
	}
	if read > p.of[file] {
		p.read += read - p.of[file]
		p.of[file] = read
	}
	p.draw(false)
}

// end says that a file is done, or has failed.
func (p *passProgress) end(file int, size int64, name, how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended++
	p.read += size - p.of[file]
	p.of[file] = size
	if p.lines && !p.tty {
		fmt.Fprintf(p.w, "%d/%d %s %s\n", p.ended, p.files, name, how)
	}
	p.draw(true)
}

// wipe takes the line away.
func (p *passProgress) wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (p *passProgress) draw(now bool) {
	t := p.now()
	if !p.tty || !now && t.Sub(p.drawn) < 200*time.Millisecond {
		return
	}
	p.drawn = t
	fmt.Fprintf(p.w, "\r\x1b[K%s", p.line(t.Sub(p.began)))
}

// line is what is drawn after so much time.
func (p *passProgress) line(spent time.Duration) string {
	s := "anonymizing"
	if p.files > 1 {
		s += fmt.Sprintf(" %d/%d files", p.ended, p.files)
	}
	const mb = 1e6
	rate := float64(p.read) / max(spent.Seconds(), 1e-9)
	if p.total <= 0 {
		return fmt.Sprintf("%s, %.1f MB, %.1f MB/s", s, float64(p.read)/mb, rate/mb)
	}
	s += fmt.Sprintf(", %.1f of %.1f MB (%d %%), %.1f MB/s", float64(p.read)/mb, float64(p.total)/mb, 100*p.read/p.total, rate/mb)
	if left := float64(p.total - p.read); left > 0 && rate > 0 && spent > time.Second {
		s += ", " + time.Duration(left/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return s
}
