package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

func impossibleNot(p *pass) {
	p.exprs(func(m module, _ *ast.Rule, e *ast.Expr) {
		t, ok := e.Terms.(*ast.Term)
		if !ok || !e.Negated {
			return
		}
		switch v := t.Value.(type) {
		case ast.Set, *ast.Array, ast.Object, *ast.SetComprehension, *ast.ArrayComprehension, *ast.ObjectComprehension:
			p.report(e.Location, "Compare it with the empty set, list or object.", "not over a value that always exists never holds")
		case ast.Var, ast.Ref:
			for _, o := range p.modules {
				for _, r := range o.Rules {
					if (set(r) || object(r)) && resolves(m, v, o, r) {
						p.report(e.Location, fmt.Sprintf("Ask whether it is empty: %s == set() (or {} for an object).", t), "%s is a set or object of rules, which always exists: not over it never holds", t)
						return
					}
				}
			}
		}
	})
}

// resolves reports whether a name or reference in m is exactly rule r of o.
func resolves(m module, v ast.Value, o module, r *ast.Rule) bool {
	want := o.Package.Path.String() + "." + name(r)
	var ref ast.Ref
	switch v := v.(type) {
	case ast.Var:
		ref = ast.Ref{ast.NewTerm(v)}
	case ast.Ref:
		ref = v
	}
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return false
	}
	full := ref
	if head != "data" {
		full = m.Package.Path.Concat(append([]*ast.Term{ast.StringTerm(string(head))}, ref[1:]...))
		for _, i := range m.Imports {
			if path, ok := i.Path.Value.(ast.Ref); ok && i.Name() == head {
				full = path.Concat(ref[1:])
			}
		}
	}
	return full.String() == want
}

func notEqualsInLoop(p *pass) {
	p.exprs(func(_ module, _ *ast.Rule, e *ast.Expr) {
		if !e.IsCall() || e.Operator().String() != "neq" {
			return
		}
		for _, t := range e.Operands() {
			if ref, ok := t.Value.(ast.Ref); ok && slices.ContainsFunc(ref[1:], wildcard) {
				p.report(e.Location, "Write not x in list, or every y in list { x != y }.", "%s holds as soon as one element differs", e.Location.Text)
				return
			}
		}
	})
}

func wildcard(t *ast.Term) bool {
	v, ok := t.Value.(ast.Var)
	return ok && v.IsWildcard()
}

func constantCondition(p *pass) {
	p.exprs(func(_ module, _ *ast.Rule, e *ast.Expr) {
		if e.IsAssignment() {
			return
		}
		switch terms := e.Terms.(type) {
		case *ast.Term:
			if !ast.IsConstant(terms.Value) {
				return
			}
		case []*ast.Term:
			if !slices.Contains([]string{"eq", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2"}, terms[0].String()) ||
				!ast.IsConstant(terms[1].Value) || !ast.IsConstant(terms[2].Value) {
				return
			}
		default:
			return
		}
		p.report(e.Location, "Remove it, or compare with what was meant.", "%s is always the same", e.Location.Text)
	})
}

func duplicateRule(p *pass) {
	seen := map[string][]*ast.Rule{}
	p.rules(func(m module, r *ast.Rule) {
		key := document(m, r)
		for _, o := range seen[key] {
			if o.Head.String() == r.Head.String() && o.Body.String() == r.Body.String() && (o.Else == nil) == (r.Else == nil) && o.Default == r.Default {
				p.report(r.Location, "Remove one of them.", "%s is the same rule as at %s:%d", r.Head.Ref(), o.Location.File, o.Location.Row)
				break
			}
		}
		seen[key] = append(seen[key], r)
	})
}

func redundantExistence(p *pass) {
	p.rules(func(_ module, r *ast.Rule) {
		body := conditions(r)
		for i, e := range body {
			t, ok := e.Terms.(*ast.Term)
			if !ok || e.Negated || len(e.With) > 0 {
				continue
			}
			ref, ok := t.Value.(ast.Ref)
			if !ok || ref[0].Value.Compare(ast.Var("input")) != 0 {
				continue
			}
			for _, later := range body[i+1:] {
				terms, ok := later.Terms.([]*ast.Term)
				if !ok || later.Negated || len(later.With) > 0 {
					continue
				}
				if slices.ContainsFunc(terms[1:], t.Equal) {
					p.report(e.Location, "Remove it; if false is to be excluded too, write == true.", "%s is used again at line %d, which needs it to exist", t, later.Location.Row)
					break
				}
			}
		}
	})
}

// names are those of the rules of a module's package, in all its files.
func (p *pass) names(m module) map[string]bool {
	out := map[string]bool{}
	for _, o := range p.modules {
		if o.Package.Path.Equal(m.Package.Path) {
			for _, r := range o.Rules {
				out[name(r)] = true
			}
		}
	}
	return out
}

func unusedOutput(p *pass) {
	p.rules(func(m module, r *ast.Rule) {
		count := map[ast.Var]int{}
		in := map[ast.Var]*ast.Term{}
		walk := func(x any) {
			ast.WalkVars(x, func(v ast.Var) bool { count[v]++; return false })
			ast.WalkTerms(x, func(t *ast.Term) bool {
				ref, ok := t.Value.(ast.Ref)
				if !ok {
					return false
				}
				for _, k := range ref[1:] {
					if v, ok := k.Value.(ast.Var); ok && !v.IsWildcard() && !v.IsGenerated() {
						in[v] = t
					}
				}
				return false
			})
		}
		walk(r.Body)
		walk(r.Head)
		for v, t := range in {
			named := p.names(m)[string(v)] ||
				slices.ContainsFunc(m.Imports, func(i *ast.Import) bool { return i.Name() == v })
			if count[v] == 1 && !named && t.Location != nil {
				p.report(t.Location, "Write _ if every element is meant, or use the name.", "%s in %s is used nowhere else", v, t)
			}
		}
	})
}

func sprintfMismatch(p *pass) {
	look := func(terms []*ast.Term) {
		if len(terms) < 3 || terms[0].String() != "sprintf" {
			return
		}
		format, ok1 := terms[1].Value.(ast.String)
		args, ok2 := terms[2].Value.(*ast.Array)
		if !ok1 || !ok2 || strings.Contains(string(format), "%[") || strings.Contains(string(format), "*") {
			return
		}
		want := strings.Count(strings.ReplaceAll(string(format), "%%", ""), "%")
		if want != args.Len() {
			at := terms[1].Location
			if at == nil {
				at = terms[0].Location
			}
			p.report(at, "Give one argument for each %.", "sprintf has %d places and %d arguments", want, args.Len())
		}
	}
	p.rules(func(_ module, r *ast.Rule) {
		ast.WalkTerms(r, func(t *ast.Term) bool {
			if c, ok := t.Value.(ast.Call); ok {
				look(c)
			}
			return false
		})
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			if terms, ok := e.Terms.([]*ast.Term); ok {
				look(terms)
			}
			return false
		})
	})
}

// reserved are the names of functions, and the first parts of dotted ones.
func reserved() map[string]bool {
	out := map[string]bool{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if b.Infix != "" || strings.HasPrefix(b.Name, "internal.") {
			continue
		}
		head, _, _ := strings.Cut(b.Name, ".")
		out[head] = true
	}
	return out
}

func ruleShadows(p *pass) {
	taken := reserved()
	done := map[string]bool{}
	p.rules(func(m module, r *ast.Rule) {
		if n := name(r); taken[n] && !done[document(m, r)] {
			done[document(m, r)] = true
			p.report(r.Location, "Give the rule another name.", "the rule %s has the name of a built-in function", n)
		}
	})
}

func varShadows(p *pass) {
	taken := reserved()
	look := func(t *ast.Term) {
		if t == nil {
			return
		}
		ast.WalkVars(t, func(v ast.Var) bool {
			if taken[string(v)] {
				p.report(t.Location, "Give the variable another name.", "the variable %s has the name of a built-in function", v)
			}
			return false
		})
	}
	p.rules(func(_ module, r *ast.Rule) {
		for _, a := range r.Head.Args {
			look(a)
		}
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			if e.IsAssignment() {
				look(e.Operand(0))
			}
			if s, ok := e.Terms.(*ast.SomeDecl); ok {
				for _, t := range s.Symbols {
					if c, ok := t.Value.(ast.Call); ok {
						for _, v := range c[1 : len(c)-1] {
							look(v)
						}
					} else {
						look(t)
					}
				}
			}
			if v, ok := e.Terms.(*ast.Every); ok {
				look(v.Key)
				look(v.Value)
			}
			return false
		})
	})
}

// scanned are the data roots that grow with the site.
var scanned = []string{"catalog", "site", "register"}

// bigList is the length from which a list of the bundle's own data is better an object.
const bigList = 100

func linearScan(p *pass) {
	p.rules(func(m module, r *ast.Rule) {
		domain := func(t *ast.Term, at *ast.Location) {
			ref, ok := t.Value.(ast.Ref)
			if !ok || ref[0].Value.Compare(ast.Var("data")) != 0 || len(ref) < 2 {
				return
			}
			if !slices.ContainsFunc(ref[1:], func(t *ast.Term) bool { return !ast.IsConstant(t.Value) }) {
				p.scan(ref, at)
			}
		}
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			switch t := e.Terms.(type) {
			case *ast.SomeDecl:
				if c, ok := t.Symbols[0].Value.(ast.Call); ok {
					domain(c[len(c)-1], e.Location)
				}
			case *ast.Every:
				domain(t.Domain, e.Location)
			case []*ast.Term:
				// A key in an object is a lookup; a value in it is a scan.
				if t[0].String() == "internal.member_2" {
					domain(t[2], e.Location)
				}
			}
			return false
		})
		bound := variables(r)
		ast.WalkTerms(r, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if !ok || ref[0].Value.Compare(ast.Var("data")) != 0 {
				return false
			}
			for i, k := range ref {
				if v, ok := k.Value.(ast.Var); i > 1 && ok {
					if v.IsWildcard() || !bound[v] {
						p.scan(ref[:i], t.Location)
					}
					break
				} else if i > 0 && !ast.IsConstant(k.Value) {
					break
				}
			}
			return false
		})
	})
}

// variables are those that something else than a reference's key gives a value.
func variables(r *ast.Rule) map[ast.Var]bool {
	out := map[ast.Var]bool{}
	add := func(x any) { ast.WalkVars(x, func(v ast.Var) bool { out[v] = true; return false }) }
	for _, a := range r.Head.Args {
		add(a)
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		switch t := e.Terms.(type) {
		case *ast.SomeDecl:
			if c, ok := t.Symbols[0].Value.(ast.Call); ok {
				for _, v := range c[1 : len(c)-1] {
					add(v)
				}
			}
		case *ast.Every:
			if t.Key != nil {
				add(t.Key)
			}
			add(t.Value)
		case []*ast.Term:
			if e.IsAssignment() || e.IsEquality() {
				add(e.Operand(0))
			}
		}
		return false
	})
	return out
}

func (p *pass) scan(ref ast.Ref, at *ast.Location) {
	root, _ := ref[1].Value.(ast.String)
	if slices.Contains(scanned, string(root)) {
		p.report(at, "Look the entry up by its key, e.g. data.catalog.datasets[input.dataset].", "all of %s is gone through", ref)
		return
	}
	var v any = p.b.Data()
	for _, k := range ref[1:] {
		o, ok := v.(map[string]any)
		if !ok {
			return
		}
		s, ok := k.Value.(ast.String)
		if !ok {
			return
		}
		v = o[string(s)]
	}
	if l, ok := v.([]any); ok && len(l) > bigList {
		p.report(at, "Make the list an object, and look the entry up by its key.", "all %d elements of %s are gone through", len(l), ref)
	}
}
