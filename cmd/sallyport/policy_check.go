package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sallyport"
	"sallyport/policy"
	"sallyport/policy/lint"
)

type policyCheckCmd struct {
	Bundle      string  `placeholder:"DIR" help:"Check this bundle instead of the configured one."`
	MinCoverage float64 `default:"95" placeholder:"PERCENT" help:"Least share of the rules' lines that tests must reach (95)."`
}

func (policyCheckCmd) Help() string {
	return `Compiles the rules strictly and against the schemas of input and data, looks for what lint finds, runs the tests and measures what they reach. Each finding says where and how to mend it:

  sallyport policy check
  sallyport policy check --bundle draft --min-coverage 80
  sallyport policy check --json

With --json: {"clean", "version", "findings": [{"rule", "severity", "file", "line", "col", "text", "fix", "more"}], "tests": {"passed", "failed", "skipped"}, "coverage": {"percent", "missing"}}.

A comment before a line silences one rule there, and must say why:

  # sallyport-ignore: linear-scan there are never more than ten

Exit code 0: clean; 1: findings; 2: the bundle cannot be found or read.`
}

// checked is what the commands check and lint print as JSON.
type checked struct {
	Clean    bool             `json:"clean"`
	Version  sallyport.Digest `json:"version,omitempty"` // of a bundle that compiles
	Findings []lint.Finding   `json:"findings"`
	Tests    *testCounts      `json:"tests,omitempty"`
	Coverage *policy.Coverage `json:"coverage,omitempty"`
}

type testCounts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

func (c policyCheckCmd) Run(a *app) error {
	if !(c.MinCoverage >= 0 && c.MinCoverage <= 100) {
		return sallyport.Errorf("policy check", sallyport.Invalid, "Give a share in percent, such as 95.", "--min-coverage %g is none", c.MinCoverage)
	}
	files, err := openBundle(a, c.Bundle)
	if err != nil {
		return bundleError(err)
	}
	out, err := checkBundle(a, files, c.MinCoverage)
	if err != nil {
		return bundleError(err)
	}
	return showChecked(a, out)
}

// checkBundle lints a bundle with a run of its tests.
func checkBundle(a *app, files fs.FS, minCoverage float64) (checked, error) {
	opts := lint.Options{Verbs: verbs(), MinCoverage: minCoverage}
	b, found, err := lint.Load(a.ctx, files, opts)
	if err != nil || b == nil {
		return checked{Findings: found}, err
	}
	out := checked{Version: b.Version()}
	results, covered, err := policy.TestWithCoverage(a.ctx, files)
	if err == nil {
		opts.Tests, opts.Coverage = results, &covered
		out.Coverage, out.Tests = &covered, &testCounts{}
		for _, r := range results {
			switch {
			case r.Skip:
				out.Tests.Skipped++
			case r.Pass:
				out.Tests.Passed++
			default:
				out.Tests.Failed++
			}
		}
		_, found, err = lint.Load(a.ctx, files, opts)
	} else if sallyport.KindOf(err) == sallyport.Invalid {
		// The rules compile and the tests do not.
		found, err = append(found, lint.Refused(err)...), nil
	}
	out.Findings = found
	return out, err
}

func verbs() []string {
	var out []string
	for _, t := range transforms() {
		out = append(out, t.Name())
	}
	return out
}

type policyLintCmd struct {
	Bundle string `placeholder:"DIR" help:"Check this bundle instead of the configured one."`
	Rules  bool   `help:"List what is looked for, and why."`
}

func (policyLintCmd) Help() string {
	return `Finds what compiles and is still wrong: denials that never fire, conditions that are always the same, scans of what grows, checks that nobody waits for, rules without a label or a title. See also check, which runs the tests too.

  sallyport policy lint
  sallyport policy lint --bundle draft --json
  sallyport policy lint --rules

Exit code 0: clean; 1: findings; 2: the bundle cannot be found or read.`
}

func (c policyLintCmd) Run(a *app) error {
	if c.Rules {
		if a.json {
			return a.printJSON(lint.Rules())
		}
		var rows [][]string
		for _, r := range lint.Rules() {
			rows = append(rows, []string{r.Name, string(r.Severity), r.More})
		}
		table(a.out, []string{"rule", "severity", "why"}, rows)
		return nil
	}
	files, err := openBundle(a, c.Bundle)
	if err != nil {
		return bundleError(err)
	}
	b, found, err := lint.Load(a.ctx, files, lint.Options{Verbs: verbs()})
	if err != nil {
		return bundleError(err)
	}
	out := checked{Findings: found}
	if b != nil {
		out.Version = b.Version()
	}
	return showChecked(a, out)
}

func showFindings(a *app, found []lint.Finding) error {
	return showChecked(a, checked{Findings: found})
}

// showChecked prints findings as compilers do, each with what to do.
func showChecked(a *app, out checked) error {
	if out.Clean = len(out.Findings) == 0; out.Clean {
		out.Findings = []lint.Finding{}
	}
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		v := newView(a)
		errs := 0
		for _, f := range out.Findings {
			color := yellow
			if f.Severity == lint.Error {
				color = red
				errs++
			}
			fmt.Fprintf(a.out, "%s%s: %s %s\n", at(f), v.paint(color, string(f.Severity)), f.Text, v.paint(dim, "("+f.Rule+")"))
			fmt.Fprintf(a.out, "    fix: %s\n", f.Fix)
			if f.More != "" {
				fmt.Fprintf(a.out, "    %s\n", v.paint(dim, "why: "+f.More))
			}
		}
		var sum []string
		if out.Tests != nil {
			sum = append(sum, fmt.Sprintf("%d tests passed, %d failed", out.Tests.Passed, out.Tests.Failed))
		}
		if out.Coverage != nil {
			sum = append(sum, fmt.Sprintf("%.1f %% of the rules' lines reached", out.Coverage.Percent))
		}
		switch n := len(out.Findings); {
		case n == 0:
			sum = append(sum, v.paint(green, "clean"))
		default:
			sum = append(sum, fmt.Sprintf("%d errors, %d warnings", errs, n-errs))
		}
		fmt.Fprintln(a.out, strings.Join(sum, "; "))
	}
	if !out.Clean {
		return exitCode(1)
	}
	return nil
}

func at(f lint.Finding) string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	case f.Col == 0:
		return fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	return fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Col)
}

type policyFmtCmd struct {
	Bundle string `placeholder:"DIR" help:"Look at this bundle instead of the configured one."`
	Write  bool   `short:"w" help:"Write the files anew. Needs --bundle."`
	Diff   bool   `short:"d" help:"Show what would change."`
}

func (policyFmtCmd) Help() string {
	return `Lists the Rego files that are not as opa fmt writes them.

  sallyport policy fmt
  sallyport policy fmt --diff
  sallyport policy fmt --bundle draft --write

Exit code 0: all are, or have been written; 1: some are not, or cannot be parsed; 2: the bundle cannot be found.`
}

func (c policyFmtCmd) Run(a *app) error {
	if c.Write && c.Bundle == "" {
		return sallyport.Errorf("policy fmt", sallyport.Invalid, "Name the folder: sallyport policy fmt --write --bundle DIR.",
			"--write without --bundle could change the rules that a gateway follows")
	}
	files, err := openBundle(a, c.Bundle)
	if err != nil {
		return bundleError(err)
	}
	changed, broken, seen := []string{}, 0, 0
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".rego" {
			return err
		}
		seen++
		src, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		tidy, err := lint.Format(name, src)
		if err != nil {
			broken++
			report(a.errs, err)
			return nil
		}
		if bytes.Equal(src, tidy) {
			return nil
		}
		changed = append(changed, name)
		if c.Write {
			return replaceFile(filepath.Join(c.Bundle, filepath.FromSlash(name)), tidy)
		}
		if c.Diff && !a.json {
			showDiff(a, name, src, tidy)
		}
		return nil
	})
	if err != nil {
		return sallyport.E("policy fmt", sallyport.Invalid, err, "Name the folder that holds the rules with --bundle.")
	}
	if seen == 0 {
		return sallyport.Errorf("policy fmt", sallyport.Invalid, "Name the folder that holds the rules with --bundle.", "the bundle holds no .rego file")
	}
	if a.json {
		if err := a.printJSON(map[string]any{"changed": changed, "written": c.Write, "broken": broken}); err != nil {
			return err
		}
	} else if !c.Diff {
		for _, name := range changed {
			fmt.Fprintln(a.out, name)
		}
	}
	if broken > 0 || len(changed) > 0 && !c.Write {
		return exitCode(1)
	}
	return nil
}

// replaceFile writes a file beside the old one and puts it in its place.
func replaceFile(name string, content []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// showDiff prints the lines that differ, by the longest common subsequence.
func showDiff(a *app, name string, before, after []byte) {
	v := newView(a)
	x, y := lines(before), lines(after)
	// Equal ends are cut off first: what differs is usually short.
	start := 0
	for start < len(x) && start < len(y) && x[start] == y[start] {
		start++
	}
	end := 0
	for end < len(x)-start && end < len(y)-start && x[len(x)-1-end] == y[len(y)-1-end] {
		end++
	}
	mx, my := x[start:len(x)-end], y[start:len(y)-end]
	fmt.Fprintf(a.out, "%s\n", v.paint(bold, fmt.Sprintf("%s:%d", name, start+1)))
	del := func(s string) { fmt.Fprintln(a.out, v.paint(red, "-"+s)) }
	add := func(s string) { fmt.Fprintln(a.out, v.paint(green, "+"+s)) }
	if len(mx)*len(my) > 4<<20 {
		for _, s := range mx {
			del(s)
		}
		for _, s := range my {
			add(s)
		}
		return
	}
	common := make([][]int, len(mx)+1)
	for i := range common {
		common[i] = make([]int, len(my)+1)
	}
	for i := len(mx) - 1; i >= 0; i-- {
		for j := len(my) - 1; j >= 0; j-- {
			if mx[i] == my[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(mx) || j < len(my) {
		switch {
		case i < len(mx) && j < len(my) && mx[i] == my[j]:
			fmt.Fprintln(a.out, " "+mx[i])
			i, j = i+1, j+1
		case j == len(my) || i < len(mx) && common[i+1][j] >= common[i][j+1]:
			del(mx[i])
			i++
		default:
			add(my[j])
			j++
		}
	}
}

func lines(b []byte) []string { return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") }
