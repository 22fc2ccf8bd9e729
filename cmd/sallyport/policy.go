package main

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"sallyport"
	"sallyport/policy"
	"sallyport/policy/lint"
)

// policyCmd is what a policy admin works with.
type policyCmd struct {
	Check    policyCheckCmd    `cmd:"" help:"All of it at once: compile, lint, format, tests, coverage."`
	Lint     policyLintCmd     `cmd:"" help:"Find what compiles and is still wrong."`
	Fmt      policyFmtCmd      `cmd:"" help:"Show or write the files as opa fmt writes them."`
	Test     policyTestCmd     `cmd:"" help:"Run the bundle's own Rego tests."`
	Explain  policyExplainCmd  `cmd:"" help:"Say why a decision was as it was, to the line, and what would make it a yes."`
	Replay   policyReplayCmd   `cmd:"" help:"Ask a candidate bundle what it would have answered: the audit log, put to it again."`
	Status   policyStatusCmd   `cmd:"" help:"What is in force, what waits, what the source has."`
	Draft    policyDraftCmd    `cmd:"" help:"Hand in a bundle: it is checked, tested and replayed."`
	Drafts   policyDraftsCmd   `cmd:"" help:"List drafts."`
	Show     policyShowCmd     `cmd:"" help:"Show a draft and what it would change."`
	Approve  policyApproveCmd  `cmd:"" help:"Approve somebody else's draft; the last approval activates it."`
	Withdraw policyWithdrawCmd `cmd:"" help:"End a draft that waits."`
	Rollback policyRollbackCmd `cmd:"" help:"Bring a former version back at once."`
	Versions policyVersionsCmd `cmd:"" help:"List every activation."`
	Export   policyExportCmd   `cmd:"" help:"Write the files of a kept version."`
	Data     policyDataCmd     `cmd:"" help:"Show the data that a decision saw."`
}

type policyTestCmd struct {
	Bundle   string `placeholder:"DIR" help:"Test this bundle instead of the configured one."`
	Only     string `name:"run" placeholder:"REGEX" help:"Only tests whose name, as package.test_name, matches."`
	Coverage bool   `help:"Also say which lines no test reaches."`
	Verbose  bool   `short:"v" help:"Also list the tests that pass, and what they print."`
}

func (policyTestCmd) Help() string {
	return `Examples:

  sallyport policy test
  sallyport policy test --bundle draft --run admit --verbose
  sallyport policy test --coverage

Exit code 0: all pass; 1: a test fails, or there is none; 2: the bundle cannot be found or read.`
}

// tested is what the command prints as JSON.
type tested struct {
	Passed   int                 `json:"passed"`
	Failed   int                 `json:"failed"`
	Skipped  int                 `json:"skipped"`
	Tests    []policy.TestResult `json:"tests"`
	Coverage *policy.Coverage    `json:"coverage,omitempty"` // with --coverage
}

func (c policyTestCmd) Run(a *app) error {
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return sallyport.E("policy test", sallyport.Invalid, err, "--run takes a regular expression of Go's syntax.")
	}
	files, err := c.open(a)
	if err != nil {
		return bundleError(err)
	}
	// What cannot be compiled is shown as the compiler's findings are.
	if b, found, err := lint.Load(a.ctx, files, lint.Options{}); err != nil {
		return bundleError(err)
	} else if b == nil {
		return showFindings(a, found)
	}
	results, covered, err := policy.TestWithCoverage(a.ctx, files)
	if err != nil {
		report(a.errs, err)
		return exitCode(1)
	}
	var out tested
	out.Tests = []policy.TestResult{}
	if c.Coverage {
		out.Coverage = &covered
	}
	for _, r := range results {
		if !only.MatchString(r.Package + "." + r.Name) {
			continue
		}
		out.Tests = append(out.Tests, r)
		switch {
		case r.Skip:
			out.Skipped++
		case r.Pass:
			out.Passed++
		default:
			out.Failed++
		}
	}
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		c.show(a, out)
	}
	if out.Failed > 0 || out.Passed == 0 {
		return exitCode(1)
	}
	return nil
}

func (c policyTestCmd) show(a *app, out tested) {
	v := newView(a)
	for _, r := range out.Tests {
		word, text := v.paint(green, "PASS"), ""
		switch {
		case r.Skip:
			word = v.paint(yellow, "SKIP")
		case !r.Pass:
			word, text = v.paint(red, "FAIL"), " "+r.Fault
		}
		if r.Pass && !c.Verbose {
			continue
		}
		fmt.Fprintf(a.out, "%s %s.%s (%s:%d)%s\n", word, r.Package, r.Name, r.File, r.Line, text)
		if r.Output != "" && (c.Verbose || !r.Pass) {
			for line := range strings.Lines(r.Output) {
				fmt.Fprintf(a.out, "     | %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	fmt.Fprintf(a.out, "%d passed, %d failed", out.Passed, out.Failed)
	if out.Skipped > 0 {
		fmt.Fprintf(a.out, ", %d skipped", out.Skipped)
	}
	fmt.Fprintln(a.out)
	if out.Passed+out.Failed+out.Skipped == 0 {
		fmt.Fprintln(a.out, "There is no test. Write rules named test_… in files named …_test.rego.")
	}
	if out.Coverage != nil {
		fmt.Fprintf(a.out, "%.1f %% of the rules' lines are reached\n", out.Coverage.Percent)
		for _, at := range out.Coverage.Missing {
			fmt.Fprintf(a.out, "%s: no test reaches this\n", at)
		}
	}
}

func (c policyTestCmd) open(a *app) (fs.FS, error) { return openBundle(a, c.Bundle) }

// openBundle opens a named folder, or the configured bundle.
func openBundle(a *app, dir string) (fs.FS, error) {
	if dir != "" {
		switch s, err := os.Stat(dir); {
		case err != nil:
			return nil, sallyport.E("policy", sallyport.Invalid, err, "Name the folder that holds the rules with --bundle.")
		case !s.IsDir():
			return nil, sallyport.Errorf("policy", sallyport.Invalid, "Name the folder that holds the rules with --bundle.", "%s is a file", dir)
		}
		return os.DirFS(dir), nil
	}
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, err
	}
	return cfg.bundle()
}

// bundleError makes an error of finding the bundle one of usage: exit code 1
// is for findings.
func bundleError(err error) error {
	switch sallyport.KindOf(err) {
	case sallyport.Invalid, sallyport.Canceled, sallyport.Unavailable:
		return err
	}
	return sallyport.E("", sallyport.Invalid, err, "")
}
