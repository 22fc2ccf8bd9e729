// Command checklog reads `go test -json` on its standard input and prints what
// a person wants to know: a line a package, everything that a failed test said,
// which tests were skipped and why, and the sum. It exits 1 if a test failed or
// none ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of test2json (see `go doc test2json`).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func main() { os.Exit(summarize(os.Stdin, os.Stdout)) }

func summarize(in io.Reader, out io.Writer) int {
	said := map[string]*strings.Builder{} // package and test → output
	var skipped []string
	passed, failed, broken := 0, 0, 0
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text()) // of the go command itself
			continue
		}
		id := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if said[id] == nil {
				said[id] = &strings.Builder{}
			}
			said[id].WriteString(e.Output)
		case "pass", "skip", "fail":
			text := ""
			if b := said[id]; b != nil {
				text = b.String()
			}
			delete(said, id)
			switch {
			case e.Test == "" && e.Action == "fail":
				broken++
				fmt.Fprintf(out, "FAIL %s\t%.1fs\n%s", e.Package, e.Elapsed, tail(text))
			case e.Test == "" && e.Action == "pass":
				fmt.Fprintf(out, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
			case e.Test == "":
			case e.Action == "pass":
				passed++
			case e.Action == "fail":
				failed++
				fmt.Fprintf(out, "--- FAIL: %s %s\n%s", e.Package, e.Test, tail(text))
			default:
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text)))
			}
		}
	}
	for _, s := range skipped {
		fmt.Fprintf(out, "SKIP %s\n", s)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if failed+broken > 0 || passed == 0 || lines.Err() != nil {
		return 1
	}
	return 0
}

// tail keeps the end of what a test said, where the failure is.
func tail(s string) string {
	const most = 12 << 10
	if len(s) <= most {
		return s
	}
	return "[…]\n" + s[len(s)-most:]
}

// reason is the last thing that a skipped test said before it was skipped.
func reason(s string) string {
	last := ""
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			last = line
		}
	}
	return last
}
