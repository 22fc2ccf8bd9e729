package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checks is the one list of them.
func checks() []check {
	mk := func(name string, s Severity, run func(*pass), more string) check {
		return check{Rule{name, s, more}, run}
	}
	return []check{
		// What lets through, or never fires.
		mk("unreachable-deny", Error, unreachableDeny, "A denial that no verdict asks for denies nothing."),
		mk("unused-rule", Warning, unusedRule, "A rule that no verdict uses decides nothing, whatever its author believes."),
		mk("undefined-deny", Warning, undefinedDeny, "A condition over something undefined is not false but undefined: the denial then does not hold, and what should be denied passes."),
		mk("not-over-error", Warning, notOverError, "The gateway takes an error of a built-in function for a denial of the whole question; other evaluators take it for undefined, and `not` for yes."),
		mk("membership-of-reference", Error, membershipOfReference, "OPA's rule index before 1.22.2 took `x in {\"a\", input.y}` for undefined: a denial written so let everything through."),
		mk("missing-default", Warning, missingDefault, "Without a default the answer is undefined where no rule holds, and a rule that asks for it is undefined too."),
		mk("conflicting-rules", Warning, conflictingRules, "Two values for one rule are an error when both hold, and the answer is then no, for one input only."),
		mk("unconditional-with-conditions", Warning, unconditional, "A rule that always holds makes its siblings useless, or disagrees with them."),
		mk("impossible-not", Error, impossibleNot, "A set or object of rules is defined even when it is empty, so `not` of it never holds."),
		mk("not-equals-in-loop", Warning, notEqualsInLoop, "`x != list[_]` holds as soon as one element differs."),
		mk("constant-condition", Warning, constantCondition, "A condition that is always the same decides nothing."),
		mk("duplicate-rule", Warning, duplicateRule, "The second adds nothing; perhaps it was meant to say something else."),
		mk("redundant-existence-check", Warning, redundantExistence, "What is used later must exist anyway."),
		mk("unused-output-variable", Warning, unusedOutput, "A name that is used once binds nothing; perhaps another was meant."),
		mk("sprintf-arguments-mismatch", Error, sprintfMismatch, "The sentence would hold %!s(MISSING) or %!(EXTRA …)."),
		mk("rule-shadows-builtin", Warning, ruleShadows, "Inside the package the function can no longer be called."),
		mk("var-shadows-builtin", Warning, varShadows, "Within the rule the function can no longer be called."),
		// What reads more than it must.
		mk("linear-scan", Warning, linearScan, "The catalog, the site and the register grow: a scan of 5,000 entries costs 16 times a lookup by key."),
		// What nobody can explain later.
		mk("missing-label", Warning, missingLabel, "The verdict names the labels, and `policy explain` finds the rules by them."),
		mk("checks-table", Error, checksTable, "A check that is not listed is not waited for; one that is listed without a rule never passes."),
		mk("unknown-verb", Error, unknownVerb, "A mask that the gateway cannot fulfill is a denial at every request."),
		mk("missing-annotation", Warning, missingAnnotation, "The title and the description are what an explanation shows to people."),
		mk("annotation-without-metadata", Warning, annotationWithoutMetadata, "Without the line `# METADATA` it is a comment that no tool reads."),
		mk("invalid-metadata-attribute", Warning, invalidAttribute, "OPA ignores attributes that it does not know."),
		mk("unformatted", Warning, unformatted, "One form for all files keeps changes small."),
		// What nobody has tried.
		mk("untested-package", Warning, untestedPackage, "A rule without a test says what its author hopes."),
		mk("test-failed", Error, testFailed, ""),
		mk("coverage", Error, coverage, "What no test evaluates may be anything."),
		// Those of the loader and of the comments, for the list only.
		mk("non-determinism", Error, nil, moreRepeatable),
		mk("syntax", Error, nil, ""), mk("type", Error, nil, ""), mk("data", Error, nil, ""), mk("bundle", Error, nil, ""),
		mk("recursion", Error, nil, ""), mk("unknown-field", Error, nil, ""), mk("undefined-function", Error, nil, ""),
		mk("unused-variable", Error, nil, ""), mk("unsafe-variable", Error, nil, ""),
		mk("useless-ignore", Warning, nil, "A comment that silences nothing hides the next mistake."),
	}
}

// rules calls f with every rule of the bundle, else branches included.
func (p *pass) rules(f func(m module, r *ast.Rule)) {
	for _, m := range p.modules {
		if m.test {
			continue
		}
		for _, r := range m.Rules {
			for r := r; r != nil; r = r.Else {
				f(m, r)
			}
		}
	}
}

// exprs calls f with every expression of every rule, at any depth.
func (p *pass) exprs(f func(m module, r *ast.Rule, e *ast.Expr)) {
	p.rules(func(m module, r *ast.Rule) {
		visit := func(e *ast.Expr) bool { f(m, r, e); return false }
		for _, e := range r.Body {
			if !generated(e) {
				ast.WalkExprs(e, visit)
			}
		}
		ast.WalkExprs(r.Head, visit)
	})
}

// generated reports whether the parser added the expression: the body of a
// rule that has none.
func generated(e *ast.Expr) bool {
	t, ok := e.Terms.(*ast.Term)
	return ok && ast.Boolean(true).Equal(t.Value) && (e.Location == nil || string(e.Location.Text) != "true")
}

// conditions are a rule's expressions as written.
func conditions(r *ast.Rule) []*ast.Expr {
	var out []*ast.Expr
	for _, e := range r.Body {
		if !generated(e) {
			out = append(out, e)
		}
	}
	return out
}

func name(r *ast.Rule) string { return string(r.Head.Ref()[0].Value.(ast.Var)) }

// set reports whether a rule adds to a set, object whether to an object.
func set(r *ast.Rule) bool { return r.Head.RuleKind() == ast.MultiValue }
func object(r *ast.Rule) bool {
	return !set(r) && (r.Head.Key != nil || !r.Head.Ref().IsGround())
}

// complete reports whether the rule gives a document its one value.
func complete(r *ast.Rule) bool { return !set(r) && !object(r) }

func document(m module, r *ast.Rule) string {
	return m.Package.Path.String() + "." + r.Head.Ref().String()
}

// denies reports whether a rule's name says that it is a reason against.
func denies(r *ast.Rule) bool {
	n := name(r)
	for _, w := range []string{"deny", "denied", "denial", "violation", "forbid", "veto", "block"} {
		if strings.HasPrefix(n, w) {
			return true
		}
	}
	return false
}

// reached are the compiled rules that a verdict or an approval needs, by file and line.
func (p *pass) reached() map[string]bool {
	out := map[string]bool{}
	c := p.b.Compiler()
	var visit func(r *ast.Rule)
	visit = func(r *ast.Rule) {
		if key := where(r.Location); !out[key] {
			out[key] = true
			for dep := range c.Graph.Dependencies(r) {
				if d, ok := dep.(*ast.Rule); ok {
					visit(d)
				}
			}
		}
	}
	for _, entry := range []string{"data.sallyport.admit.verdict", "data.sallyport.release.verdict", "data.sallyport.approval.two_person", "data.sallyport.approval.may"} {
		for _, r := range c.GetRulesExact(ast.MustParseRef(entry)) {
			visit(r)
		}
	}
	for _, m := range p.modules {
		for _, r := range m.Rules {
			if slices.ContainsFunc(r.Annotations, func(a *ast.Annotations) bool { return a.Entrypoint }) {
				for _, r := range c.GetRulesExact(r.Ref().GroundPrefix()) {
					visit(r)
				}
			}
		}
	}
	return out
}

func where(l *ast.Location) string { return fmt.Sprintf("%s:%d:%d", l.File, l.Row, l.Col) }

func unreachableDeny(p *pass) {
	reached := p.reached()
	p.rules(func(_ module, r *ast.Rule) {
		if denies(r) && !reached[where(r.Location)] {
			p.report(r.Location, "Let the verdict ask for it, or remove it.", "no verdict depends on %s, so it denies nothing", r.Head.Ref())
		}
	})
}

func unusedRule(p *pass) {
	reached := p.reached()
	p.rules(func(m module, r *ast.Rule) {
		if !denies(r) && !reached[where(r.Location)] && !r.Default {
			p.report(r.Location, "Use it, remove it, or, if something outside asks for it, annotate it with entrypoint: true.",
				"no verdict depends on %s", r.Head.Ref())
		}
	})
}

// undefinedDeny looks for lookups by key in a denial: they are undefined where
// there is nothing to find.
func undefinedDeny(p *pass) {
	p.rules(func(m module, r *ast.Rule) {
		if !denies(r) || r.Default {
			return
		}
		for _, e := range conditions(r) {
			if e.Negated || !e.IsCall() || e.IsAssignment() {
				continue // under `not`, what is undefined makes the denial hold
			}
			for _, t := range e.Operands() {
				ref, ok := t.Value.(ast.Ref)
				if !ok || len(ref) < 2 {
					continue
				}
				lookup := slices.ContainsFunc(ref[1:], func(t *ast.Term) bool { return !ast.IsConstant(t.Value) })
				if lookup && isData(m, ref) {
					p.report(e.Location, fmt.Sprintf("Read it with object.get and a default that denies, or write the check as what must hold and deny what is not proved: not %s.", e.Location.Text),
						"%s does not hold where %s finds nothing", r.Head.Ref(), ref)
				}
			}
		}
	})
}

// isData reports whether a reference leads into data, by itself or an import.
func isData(m module, ref ast.Ref) bool {
	if ref[0].Value.Compare(ast.Var("data")) == 0 {
		return true
	}
	for _, i := range m.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok && i.Name().Equal(ref[0].Value) {
			return path[0].Value.Compare(ast.Var("data")) == 0
		}
	}
	return slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return ref[0].Value.Compare(r.Head.Ref()[0].Value) == 0 })
}

// canFail are functions that raise an error for some arguments of their type.
var canFail = []string{
	"to_number", "json.unmarshal", "yaml.unmarshal", "base64.decode", "base64url.decode", "hex.decode", "urlquery.decode", "urlquery.decode_object",
	"time.parse_rfc3339_ns", "time.parse_ns", "time.parse_duration_ns", "units.parse", "units.parse_bytes", "net.cidr_contains",
	"net.cidr_intersects", "semver.compare", "regex.match", "regex.split", "regex.find_n", "div", "rem", "json.patch",
}

func (p *pass) failing(x any) string {
	found := ""
	call := func(op string) {
		if found == "" && slices.Contains(canFail, op) {
			found = op
		}
	}
	ast.WalkTerms(x, func(t *ast.Term) bool {
		if c, ok := t.Value.(ast.Call); ok {
			call(c[0].String())
		}
		return false
	})
	ast.WalkExprs(x, func(e *ast.Expr) bool {
		if e.IsCall() {
			call(e.Operator().String())
		}
		return false
	})
	return found
}

func notOverError(p *pass) {
	p.exprs(func(m module, r *ast.Rule, e *ast.Expr) {
		if !e.Negated {
			return
		}
		const fix = "Check what is given to it first, e.g. by regex or is_number, or write the condition without not."
		if f := p.failing(e); f != "" {
			p.report(e.Location, fix, "not over %s, which is an error for some arguments", f)
			return
		}
		for _, o := range p.reads(m, e) {
			for _, c := range conditions(o) {
				if f := p.failing(c); f != "" {
					p.report(e.Location, fix, "not over %s, which calls %s, an error for some arguments", o.Head.Ref(), f)
					return
				}
			}
		}
	})
}

// reads are the module's own rules that an expression names.
func (p *pass) reads(m module, x any) []*ast.Rule {
	var out []*ast.Rule
	names := map[string]bool{}
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			names[string(v)] = true
		case ast.Ref:
			names[v[0].String()] = true
		}
		return false
	})
	for _, r := range m.Rules {
		if names[name(r)] {
			out = append(out, r)
		}
	}
	return out
}

func membershipOfReference(p *pass) {
	p.exprs(func(_ module, _ *ast.Rule, e *ast.Expr) {
		if !e.IsCall() || e.Operator().String() != "internal.member_2" || len(e.Operands()) != 2 {
			return
		}
		list := e.Operand(1)
		refs := false
		literal := func(t *ast.Term) {
			if ref, ok := t.Value.(ast.Ref); ok {
				refs = refs || ref[0].Value.Compare(ast.Var("input")) == 0
			}
		}
		switch v := list.Value.(type) {
		case ast.Set:
			v.Foreach(literal)
		case *ast.Array:
			v.Foreach(literal)
		}
		if refs {
			p.report(e.Location, "Write one rule for the constants and one that compares with the reference.", "%s asks whether a value is in a list that holds input", e.Location.Text)
		}
	})
}

func missingDefault(p *pass) {
	type doc struct {
		first *ast.Rule
		has   bool
	}
	docs := map[string]*doc{}
	var order []string
	p.rules(func(m module, r *ast.Rule) {
		if n := name(r); n != "verdict" && n != "allow" || !complete(r) || len(r.Head.Args) > 0 {
			return
		}
		key := document(m, r)
		d := docs[key]
		if d == nil {
			d = &doc{first: r}
			docs[key] = d
			order = append(order, key)
		}
		d.has = d.has || r.Default || len(conditions(r)) == 0
	})
	for _, key := range order {
		if d := docs[key]; !d.has {
			no := "false"
			if name(d.first) == "verdict" {
				no = `{"allow": false, "reasons": ["no rule allows this"], "rules": ["default"]}`
			}
			p.report(d.first.Location, fmt.Sprintf("Add: default %s := %s.", name(d.first), no), "%s has no default", d.first.Head.Ref())
		}
	}
}

// siblings calls f with each two complete rules of one document.
func (p *pass) siblings(f func(a, b *ast.Rule)) {
	all := map[string][]*ast.Rule{}
	p.rules(func(m module, r *ast.Rule) {
		if !complete(r) || r.Default || r.Head.Value == nil {
			return
		}
		key := document(m, r)
		for _, o := range all[key] {
			if o.Else == nil && slices.EqualFunc(o.Head.Args, r.Head.Args, (*ast.Term).Equal) && !isElse(m, r) {
				f(o, r)
			}
		}
		all[key] = append(all[key], r)
	})
}

// isElse reports whether a rule is another's else.
func isElse(m module, r *ast.Rule) bool {
	return !slices.Contains(m.Rules, r)
}

func conflictingRules(p *pass) {
	p.siblings(func(a, b *ast.Rule) {
		va, vb := a.Head.Value, b.Head.Value
		if !ast.IsConstant(va.Value) || !ast.IsConstant(vb.Value) || va.Equal(vb) {
			return
		}
		if ca, cb := conditions(a), conditions(b); len(ca) == len(cb) && same(ca, cb) {
			p.report(b.Location, "Make the conditions exclude each other, or write the second as else.",
				"%s is %s here and %s at line %d under the same conditions", b.Head.Ref(), vb, va, a.Location.Row)
		}
	})
}

func same(a, b []*ast.Expr) bool {
	return slices.EqualFunc(a, b, func(x, y *ast.Expr) bool { return x.Equal(y) })
}

func unconditional(p *pass) {
	p.siblings(func(a, b *ast.Rule) {
		ca, cb := len(conditions(a)), len(conditions(b))
		if (ca == 0) == (cb == 0) || hasPattern(a) || hasPattern(b) {
			return
		}
		always, other := a, b
		if cb == 0 {
			always, other = b, a
		}
		p.report(other.Location, "Make the unconditional one the default, or give it conditions.",
			"%s has conditions here and always holds at line %d", other.Head.Ref(), always.Location.Row)
	})
}

// hasPattern reports whether a function's parameters are conditions themselves.
func hasPattern(r *ast.Rule) bool {
	return slices.ContainsFunc(r.Head.Args, func(t *ast.Term) bool { _, ok := t.Value.(ast.Var); return !ok })
}

func testFailed(p *pass) {
	for _, t := range p.opts.Tests {
		if t.Pass || t.Skip {
			continue
		}
		p.report(&ast.Location{File: t.File, Row: t.Line, Col: 1}, fmt.Sprintf("Correct the rule or the test; `sallyport policy test --run %s --verbose` shows more.", t.Name),
			"%s.%s: %s", t.Package, t.Name, t.Fault)
	}
}

func coverage(p *pass) {
	c := p.opts.Coverage
	if c == nil || c.Percent >= p.opts.MinCoverage {
		return
	}
	missing := c.Missing
	more := ""
	if len(missing) > 5 {
		missing, more = missing[:5], fmt.Sprintf(" and %d more", len(c.Missing)-5)
	}
	p.report(nil, "Write tests that reach these lines: "+strings.Join(missing, ", ")+more+".",
		"the tests reach %.1f %% of the rules' lines, at least %g %% are wanted", c.Percent, p.opts.MinCoverage)
}

// untestedPackage looks for packages that no test reads, directly or through
// another package.
func untestedPackage(p *pass) {
	reads := map[string]map[string]bool{} // package → packages
	tested := map[string]bool{}
	var queue []string
	all := map[string]module{}
	for _, m := range p.modules {
		if !m.test {
			if _, ok := all[m.Package.Path.String()]; !ok {
				all[m.Package.Path.String()] = m
			}
		}
	}
	for _, m := range p.modules {
		pkg := m.Package.Path.String()
		if reads[pkg] == nil {
			reads[pkg] = map[string]bool{}
		}
		ast.WalkRefs(m.Module, func(ref ast.Ref) bool {
			for other := range all {
				if s := ref.String(); s == other || strings.HasPrefix(s, other+".") || strings.HasPrefix(s, other+"[") {
					reads[pkg][other] = true
				}
			}
			return false
		})
		if m.test {
			queue = append(queue, pkg)
		}
	}
	for len(queue) > 0 {
		pkg := queue[0]
		queue = queue[1:]
		if tested[pkg] {
			continue
		}
		tested[pkg] = true
		for other := range reads[pkg] {
			queue = append(queue, other)
		}
	}
	for pkg, m := range all {
		if !tested[pkg] && len(m.Rules) > 0 {
			p.report(m.Package.Location, "Write a file …_test.rego beside it with rules test_….", "no test asks for package %s", strings.TrimPrefix(pkg, "data."))
		}
	}
}
