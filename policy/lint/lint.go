// Package lint finds in a policy bundle what compiles and is still wrong here:
// rules that let through what they should not, that never fire, that read more
// than they must, or that nobody can explain later. Several checks follow the
// bug rules that Regal documents for Rego, implemented anew.
package lint

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"sallyport"
	"sallyport/policy"
)

// Severity says whether a bundle with a finding should come into force.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is one thing that is wrong, where, and what to do about it.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"` // "" for the bundle as a whole
	Line     int      `json:"line,omitempty"`
	Col      int      `json:"col,omitempty"`
	Text     string   `json:"text"`
	Fix      string   `json:"fix"`
	More     string   `json:"more,omitempty"` // why it matters
}

// Options say what a bundle is checked against besides itself.
type Options struct {
	// Verbs are those that the gateway can fulfill; empty leaves verbs unchecked.
	Verbs []string
	// Tests and Coverage are of a run of the bundle's tests; nil leaves them out.
	Tests    []policy.TestResult
	Coverage *policy.Coverage
	// MinCoverage is the least share of lines that tests must reach, in percent.
	MinCoverage float64
}

// Rule describes one check.
type Rule struct {
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	More     string   `json:"more"`
}

// pass is one run over one bundle.
type pass struct {
	ctx     context.Context
	b       *policy.Bundle
	opts    Options
	modules []module
	now     check
	found   []Finding
}

type module struct {
	name string
	*ast.Module
	test bool
	src  []byte
}

type check struct {
	Rule
	run func(*pass)
}

// Rules lists what Check looks for, sorted by name.
func Rules() []Rule {
	var out []Rule
	for _, c := range checks() {
		out = append(out, c.Rule)
	}
	slices.SortFunc(out, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Check returns what is wrong with a bundle, sorted by file, line and rule.
// A comment
//
//	# sallyport-ignore: rule-name why it is right here
//
// before a line silences that rule there; one without a reason, or that silences
// nothing, is a finding itself.
func Check(ctx context.Context, b *policy.Bundle, opts Options) []Finding {
	p := &pass{ctx: ctx, b: b, opts: opts}
	modules := b.Modules()
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		src, _ := b.File(name)
		p.modules = append(p.modules, module{name, modules[name], strings.HasSuffix(name, "_test.rego"), src})
	}
	for _, p.now = range checks() {
		if p.now.run != nil && ctx.Err() == nil {
			p.now.run(p)
		}
	}
	p.suppress()
	return sorted(p.found)
}

// Load reads a bundle and checks it. What keeps it from being loaded, in the
// rules, their tests or their data, are findings too, and then the bundle is
// nil. The error is of a folder that holds no bundle.
func Load(ctx context.Context, fsys fs.FS, opts Options) (*policy.Bundle, []Finding, error) {
	b, err := policy.Load(ctx, fsys)
	if err == nil {
		found := append(Check(ctx, b, opts), brokenTests(b)...)
		return b, sorted(found), nil
	}
	if _, statErr := fs.Stat(fsys, "."); statErr != nil {
		return nil, nil, sallyport.E("policy check", sallyport.Invalid, statErr, "Name the folder that holds the rules with --bundle.")
	}
	if sallyport.KindOf(err) != sallyport.Invalid {
		return nil, nil, err
	}
	found := Refused(err)
	if len(found) == 0 {
		return nil, nil, err
	}
	return nil, sorted(found), nil
}

// brokenTests are syntax errors in tests, which a gateway would not notice.
func brokenTests(b *policy.Bundle) []Finding {
	var out []Finding
	for _, name := range b.Files() {
		if !strings.HasSuffix(name, "_test.rego") {
			continue
		}
		src, _ := b.File(name)
		_, err := ast.ParseModuleWithOpts(name, string(src), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		var list ast.Errors
		if !errors.As(err, &list) {
			continue
		}
		for _, e := range list {
			f := Finding{Rule: "syntax", Severity: Error, File: name, Text: e.Message, Fix: "Correct the test at that line."}
			if e.Location != nil {
				f.Line, f.Col = e.Location.Row, e.Location.Col
			}
			out = append(out, f)
		}
	}
	return out
}

var located = regexp.MustCompile(`^(?:load policy: )?([^\s:]+\.(?:rego|json|ya?ml)):(?:(\d+):)? ?(.*)$`)

// Refused turns the errors of a bundle that cannot be loaded into findings.
func Refused(err error) []Finding {
	var out []Finding
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		m := located.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[2])
		f := Finding{Severity: Error, File: m[1], Line: n, Text: m[3]}
		f.Rule, f.Fix, f.More = refusal(m[1], m[3])
		out = append(out, f)
	}
	if rest := sallyport.HintOf(err); len(out) == 0 && rest != "" {
		text := strings.TrimPrefix(err.Error(), "load policy: ")
		out = append(out, Finding{Rule: "bundle", Severity: Error, Text: strings.Join(strings.Fields(text), " "), Fix: rest})
	}
	return out
}

// refusal names the rule that an error of the parser or compiler belongs to.
func refusal(file, text string) (rule, fix, more string) {
	switch {
	case path.Ext(file) != ".rego":
		return "data", "Correct the JSON at that line.", ""
	case strings.HasPrefix(text, "undefined function "):
		name := strings.TrimPrefix(text, "undefined function ")
		known := slices.ContainsFunc(ast.CapabilitiesForThisVersion().Builtins, func(b *ast.Builtin) bool { return b.Name == name })
		switch {
		case strings.HasPrefix(name, "time.") && known:
			return "non-determinism", "Use input.time, which is in the record.", moreRepeatable
		case known:
			return "non-determinism", fmt.Sprintf("Do without %s: what it would fetch belongs into the input, the catalog, the site or the register.", name), moreRepeatable
		}
		return "undefined-function", "Correct the name, or import the package that defines it.", ""
	case strings.Contains(text, "recursive"):
		return "recursion", "Break the cycle: a rule may not need itself.", ""
	case strings.HasPrefix(text, "undefined ref: "):
		return "unknown-field", "Correct the field's name; the input's schema lists those that exist.", "A misspelt field is undefined, and a rule that asks `not` of it would hold."
	case strings.Contains(text, "unused"):
		return "unused-variable", "Remove the name, or use it.", ""
	case strings.Contains(text, "is unsafe"):
		return "unsafe-variable", "Define the name, or correct it: nothing gives it a value.", ""
	case strings.Contains(text, "match error"), strings.Contains(text, "invalid argument"), strings.Contains(text, "conflict"):
		return "type", "Correct the types; the input's schema says what each field is.", ""
	}
	return "syntax", "Correct the rule at that line; `sallyport policy fmt` shows how OPA reads a file.", ""
}

const moreRepeatable = "A decision must be repeatable from its record, years later: nothing may be asked of the network, the clock, a random source or the process."

func sorted(found []Finding) []Finding {
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(found)
}

// report adds a finding of the check that runs.
func (p *pass) report(at *ast.Location, fix, format string, args ...any) {
	f := Finding{Rule: p.now.Name, Severity: p.now.Severity, Text: fmt.Sprintf(format, args...), Fix: fix, More: p.now.More}
	if at != nil {
		f.File, f.Line, f.Col = at.File, at.Row, at.Col
	}
	p.found = append(p.found, f)
}

var ignore = regexp.MustCompile(`^\s*sallyport-ignore:\s*(\S*)\s*(.*)$`)

// suppress drops what comments silence, and reports comments that do it badly.
func (p *pass) suppress() {
	drop := map[int]bool{}
	for _, m := range p.modules {
		lines := bytes.Split(m.src, []byte("\n"))
		for _, c := range m.Comments {
			found := ignore.FindSubmatch(c.Text)
			if found == nil {
				continue
			}
			rule, reason := string(found[1]), string(found[2])
			// It is for the next line of code, with the comments before it.
			until := c.Location.Row
			for until < len(lines) {
				until++
				if t := bytes.TrimSpace(lines[until-1]); len(t) > 0 && t[0] != '#' {
					break
				}
			}
			hit := false
			for i, f := range p.found {
				if f.File == m.name && f.Rule == rule && f.Line > c.Location.Row && f.Line <= until {
					hit = true
					drop[i] = reason != ""
				}
			}
			p.now = check{Rule: Rule{Name: "useless-ignore", Severity: Warning}}
			switch {
			case !slices.ContainsFunc(checks(), func(c check) bool { return c.Name == rule }):
				p.report(c.Location, "Name a rule, as findings do: # sallyport-ignore: rule-name why.", "there is no rule %q to ignore", rule)
			case reason == "":
				p.report(c.Location, "Say after the rule's name why it is right here.", "%s is to be ignored without a reason", rule)
			case !hit:
				p.report(c.Location, "Remove the comment.", "there is nothing of %s to ignore here", rule)
			}
		}
	}
	kept := p.found[:0]
	for i, f := range p.found {
		if !drop[i] {
			kept = append(kept, f)
		}
	}
	p.found = kept
}

// Format returns a Rego file as `opa fmt` writes it.
func Format(name string, src []byte) ([]byte, error) {
	out, err := format.SourceWithOpts(name, src, format.Opts{RegoVersion: ast.RegoV1, ParserOptions: &ast.ParserOptions{RegoVersion: ast.RegoV1}})
	if err != nil {
		return nil, sallyport.E("format policy", sallyport.Invalid, err, "Correct the file at that line.")
	}
	return out, nil
}

func unformatted(p *pass) {
	for _, m := range p.modules {
		tidy, err := Format(m.name, m.src)
		if err != nil || bytes.Equal(tidy, m.src) {
			continue
		}
		line := 1
		a, b := bytes.Split(m.src, []byte("\n")), bytes.Split(tidy, []byte("\n"))
		for line <= len(a) && line <= len(b) && bytes.Equal(a[line-1], b[line-1]) {
			line++
		}
		p.report(&ast.Location{File: m.name, Row: line, Col: 1}, "Run `sallyport policy fmt --write`.", "the file is not as `opa fmt` writes it")
	}
}
