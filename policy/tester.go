package policy

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"sallyport"
)

// TestResult is the outcome of one Rego test (a rule test_… in a *_test.rego).
type TestResult struct {
	Package  string        `json:"package"`
	Name     string        `json:"name"`
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Pass     bool          `json:"pass"`
	Skip     bool          `json:"skip,omitempty"` // todo_test_…
	Fault    string        `json:"fault,omitempty"`
	Output   string        `json:"output,omitempty"` // of print
	Duration time.Duration `json:"duration"`
}

// Coverage is how much of a bundle's rules its tests evaluate.
type Coverage struct {
	Percent float64  `json:"percent"` // of lines of rules, tests not counted
	Missing []string `json:"missing"` // file:line of what no test reaches
}

// testDeadline bounds one test, so that a loop that never ends is a failing test.
const testDeadline = 5 * time.Second

// Test runs a bundle's own tests, on its own data, and returns the results
// sorted by file and line. The error is non-nil only if they could not be run:
// a bundle with a failing test is a result, a bundle without tests is none.
func Test(ctx context.Context, fsys fs.FS) ([]TestResult, error) {
	results, _, err := TestWithCoverage(ctx, fsys)
	return results, err
}

// TestWithCoverage is [Test] and says what the tests left out.
func TestWithCoverage(ctx context.Context, fsys fs.FS) ([]TestResult, Coverage, error) {
	fail := func(err error) ([]TestResult, Coverage, error) {
		return nil, Coverage{}, sallyport.E("test policy", sallyport.Invalid, err, "")
	}
	b, err := load(fsys)
	if err != nil {
		return fail(err)
	}
	if b.badTests != nil {
		return fail(invalid(b.badTests, "Correct the test at that line."))
	}
	all := b.Modules()
	// Compiled here first for errors with our words; the runner then compiles
	// again, with its own stages, from modules that are as parsed.
	if _, err := b.compile(ctx, all); err != nil {
		return fail(err)
	}
	schemas, err := inputSchemas()
	if err != nil {
		return fail(err)
	}
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(schemas).WithEnablePrintStatements(true)
	store := inmem.NewFromObjectWithOpts(b.data, inmem.OptRoundTripOnWrite(true), inmem.OptReturnASTValuesOnRead(true))
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return fail(err)
	}
	defer store.Abort(ctx, txn)
	covered := cover.New()
	done, err := tester.NewRunner().
		SetCompiler(compiler).
		SetStore(store).
		SetModules(all).
		SetCoverageQueryTracer(covered).
		CapturePrintOutput(true).
		RaiseBuiltinErrors(true).
		SetTimeout(testDeadline).
		RunTests(ctx, txn)
	if err != nil {
		return fail(describe(err))
	}
	var results []TestResult
	for r := range done {
		t := TestResult{Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name, File: r.Location.File, Line: r.Location.Row,
			Pass: r.Pass(), Skip: r.Skip, Output: string(r.Output), Duration: r.Duration}
		switch {
		case r.Error != nil:
			t.Fault = describe(r.Error).Error()
		case r.Fail:
			t.Fault = "the test is not true"
		}
		results = append(results, t)
	}
	if err := ctx.Err(); err != nil {
		return nil, Coverage{}, sallyport.E("test policy", sallyport.Canceled, err, "")
	}
	slices.SortFunc(results, func(x, y TestResult) int {
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Name, y.Name))
	})
	report := covered.Report(b.rules)
	c := Coverage{Percent: 100}
	lines, hit := 0, 0
	for _, name := range slices.Sorted(maps.Keys(b.rules)) {
		f := report.Files[name]
		if f == nil {
			continue
		}
		lines += f.CoveredLines + f.NotCoveredLines
		hit += f.CoveredLines
		for _, r := range f.NotCovered {
			c.Missing = append(c.Missing, fmt.Sprintf("%s:%d", name, r.Start.Row))
		}
	}
	if lines > 0 {
		c.Percent = 100 * float64(hit) / float64(lines)
	}
	c.Missing = slices.Compact(c.Missing)
	return results, c, nil
}
