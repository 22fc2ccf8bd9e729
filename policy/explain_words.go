package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// condition describes one expression under a solution of those before it.
func (x *explainer) condition(s *source, e *ast.Expr, sol solution, holds bool, depth int) Condition {
	at := place(s.rule.Location)
	if e.Location != nil {
		at = place(e.Location)
	}
	c := Condition{Text: at.Text, File: at.File, Line: at.Line, Holds: holds}
	if x.headOf(e) {
		c.Text = "the value " + c.Text
	}
	if every, ok := e.Terms.(*ast.Every); ok && !holds {
		x.every(&c, s, every, sol, depth)
		return c
	}
	c.Values = x.values(s.module, e, sol)
	if holds {
		c.Why = x.behind(s, e, sol, !e.Negated, depth)
		return c
	}
	c.Wants = x.wants(s, e, sol)
	c.Why = x.behind(s, e, sol, e.Negated, depth)
	return c
}

func (x *explainer) headOf(e *ast.Expr) bool {
	ops := e.Operands()
	return e.IsEquality() && len(ops) == 2 && ast.Var("sallyport_head").Equal(ops[0].Value)
}

// every finds the elements that break it.
func (x *explainer) every(c *Condition, s *source, every *ast.Every, sol solution, depth int) {
	domain, _ := x.eval(s.module, every.Domain, sol)
	if domain == nil {
		c.Values = []Value{{Name: name(every.Domain), Undefined: true}}
		c.Wants = x.missing(s.module, every.Domain, sol)
		c.Why = x.behindTerm(s, every.Domain, sol, nil, false, depth)
		return
	}
	bad := 0
	each := func(key, value *ast.Term) {
		inner := solution{}
		for k, v := range sol {
			inner[k] = v
		}
		bindVar := func(t, v *ast.Term) {
			if t == nil {
				return
			}
			if name, ok := t.Value.(ast.Var); ok && !name.IsWildcard() {
				inner[name] = v
			}
		}
		bindVar(every.Key, key)
		bindVar(every.Value, value)
		var done []*ast.Expr
		for _, e := range every.Body {
			done = append(done, e)
			sols, err := x.solve(s.module, slices.Concat(bind(ast.Body(done), inner), done), 1)
			if err == nil && len(sols) > 0 {
				continue
			}
			if bad++; bad <= maxSolutions {
				ic := x.condition(s, e, inner, false, depth)
				c.Values = append(c.Values, ic.Values...)
				c.Why = append(c.Why, ic.Why...)
				if c.Wants != "" {
					c.Wants += "; "
				}
				c.Wants += ic.Wants
			}
			return
		}
	}
	switch v := domain.Value.(type) {
	case *ast.Array:
		for i := range min(v.Len(), maxQueries) {
			each(ast.IntNumberTerm(i), v.Elem(i))
		}
	case ast.Set:
		for _, t := range v.Slice() {
			each(t, t)
		}
	case ast.Object:
		v.Foreach(each)
	}
	if bad > maxSolutions {
		c.Wants += fmt.Sprintf("; and %d more", bad-maxSolutions)
	}
}

// operands are what an expression is about: the two sides of a comparison, the
// arguments of a call, or the one term.
func operands(e *ast.Expr) []*ast.Term {
	switch t := e.Terms.(type) {
	case *ast.Term:
		return []*ast.Term{t}
	case []*ast.Term:
		return t[1:]
	case *ast.SomeDecl:
		if len(t.Symbols) == 1 {
			if call, ok := t.Symbols[0].Value.(ast.Call); ok {
				return []*ast.Term{call[len(call)-1]}
			}
		}
	case *ast.Every:
		return []*ast.Term{t.Domain}
	}
	return nil
}

// values looks up what an expression compares: its operands, and the
// references and variables within them.
func (x *explainer) values(m *ast.Module, e *ast.Expr, sol solution) []Value {
	var out []Value
	add := func(t *ast.Term) {
		n := name(t)
		if ast.IsConstant(t.Value) || strings.HasPrefix(n, "sallyport_") || slices.ContainsFunc(out, func(v Value) bool { return v.Name == n }) || len(out) >= 12 {
			return
		}
		if v, ok := t.Value.(ast.Var); ok && (v.IsWildcard() || v.IsGenerated() || sol[v] == nil && !x.isName(m, v)) {
			return
		}
		v, err := x.eval(m, t, sol)
		if err != nil {
			return
		}
		if v == nil {
			out = append(out, Value{Name: n, Undefined: true})
			return
		}
		out = append(out, Value{Name: n, Value: clip(v.String(), maxValue)})
	}
	var inner func(t *ast.Term)
	inner = func(t *ast.Term) {
		switch v := t.Value.(type) {
		case ast.Var:
			add(t)
		case ast.Ref:
			add(t)
			for _, p := range v[1:] {
				inner(p)
			}
		case ast.Call:
			add(t)
			for _, p := range v[1:] {
				inner(p)
			}
		case *ast.Array:
			v.Foreach(inner)
		case ast.Set:
			v.Foreach(inner)
		case ast.Object:
			v.Foreach(func(k, v *ast.Term) { inner(k); inner(v) })
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			add(t)
		}
	}
	for _, t := range operands(e) {
		inner(t)
	}
	return out
}

// isName reports whether a variable stands for a rule, an import, input or data.
func (x *explainer) isName(m *ast.Module, v ast.Var) bool {
	if v == "input" || v == "data" {
		return true
	}
	for _, i := range m.Imports {
		if i.Name() == v {
			return true
		}
	}
	return slices.ContainsFunc(x.sources, func(s *source) bool {
		return s.module.Package.Path.Equal(m.Package.Path) && s.rule.Head.Ref()[0].Value.Compare(v) == 0
	})
}

// name is a term as it was written.
func name(t *ast.Term) string {
	if t.Location != nil {
		switch t.Value.(type) {
		case ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			if text := string(t.Location.Text); text != "" {
				return clip(strings.Join(strings.Fields(text), " "), maxValue/2)
			}
		}
	}
	return clip(t.String(), maxValue/2)
}

// wants says what an expression that failed would need.
func (x *explainer) wants(s *source, e *ast.Expr, sol solution) string {
	ops := operands(e)
	if e.Negated {
		for _, t := range ops {
			if v, _ := x.eval(s.module, t, sol); v != nil && len(ops) == 1 {
				return fmt.Sprintf("%s must be false or absent; it is %s", name(t), show(v))
			}
		}
		return "this must not be so: " + clip(strings.TrimPrefix(place(e.Location).Text, "not "), maxValue)
	}
	vals := make([]*ast.Term, len(ops))
	for i, t := range ops {
		if v, ok := t.Value.(ast.Var); ok && !x.isName(s.module, v) && sol[v] == nil {
			continue // to be bound by this expression
		}
		var err error
		if vals[i], err = x.eval(s.module, t, sol); err != nil {
			return ""
		}
		if vals[i] == nil {
			return x.missing(s.module, t, sol)
		}
	}
	if len(ops) == 0 {
		return ""
	}
	if e.IsSome() {
		return fmt.Sprintf("%s must not be empty", name(ops[0]))
	}
	if len(ops) == 1 && !e.IsCall() {
		return fmt.Sprintf("%s must be true; it is %s", name(ops[0]), show(vals[0]))
	}
	if len(ops) < 2 || vals[0] == nil || vals[1] == nil {
		return "this must be so: " + place(e.Location).Text
	}
	return compare(e.Operator().String(), ops, vals)
}

// compare puts a comparison that failed into words.
func compare(op string, ops, vals []*ast.Term) string {
	// The constant, or what the table says, is the measure; the other is measured.
	a, b := 0, 1
	if turned, ok := map[string]string{"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte", "eq": "eq", "equal": "equal", "neq": "neq"}[op]; ok &&
		ast.IsConstant(ops[0].Value) && !ast.IsConstant(ops[1].Value) {
		a, b, op = 1, 0, turned
	}
	times := isTime(vals[a]) && isTime(vals[b])
	if x, y := nanoseconds(vals[a]), nanoseconds(vals[b]); x != nil && y != nil {
		vals, times = slices.Clone(vals), true
		vals[a], vals[b] = x, y
	}
	left, right := named(ops[a], vals[a]), named(ops[b], vals[b])
	say := func(number, time string) string {
		if times {
			return fmt.Sprintf("%s must be %s %s", left, time, right)
		}
		return fmt.Sprintf("%s must be %s %s", left, number, right)
	}
	switch op {
	case "lt":
		return say("less than", "before")
	case "lte":
		return say("at most", "at or before")
	case "gt":
		return say("more than", "after")
	case "gte":
		return say("at least", "at or after")
	case "neq":
		return fmt.Sprintf("%s must differ from %s", left, right)
	case "internal.member_2":
		return fmt.Sprintf("%s must be one of %s", left, right)
	case "eq", "equal":
		if empty(vals[b]) {
			return left + " must be empty"
		}
		return fmt.Sprintf("%s must equal %s", left, right)
	case "internal.member_3":
		return fmt.Sprintf("%s: %s must be in it", named(ops[0], vals[0]), named(ops[1], vals[1]))
	}
	return fmt.Sprintf("%s and %s must satisfy %s", left, right, op)
}

func empty(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Set:
		return v.Len() == 0
	case *ast.Array:
		return v.Len() == 0
	case ast.Object:
		return v.Len() == 0
	}
	return false
}

// named is an operand with its value.
func named(t, v *ast.Term) string {
	if ast.IsConstant(t.Value) {
		return show(v)
	}
	return fmt.Sprintf("%s (%s)", name(t), show(v))
}

func show(v *ast.Term) string { return clip(v.String(), maxValue) }

func isTime(t *ast.Term) bool {
	s, ok := t.Value.(ast.String)
	if !ok {
		return false
	}
	_, err := time.Parse(time.RFC3339, string(s))
	return err == nil
}

// nanoseconds returns, as a time, a number that can only be one: nanoseconds
// since 1970, as Rego's time functions count, between 1973 and 2262.
func nanoseconds(t *ast.Term) *ast.Term {
	n, ok := t.Value.(ast.Number)
	if !ok {
		return nil
	}
	if ns, ok := n.Int64(); ok && ns > 1e17 {
		return ast.StringTerm(time.Unix(0, ns).UTC().Format(time.RFC3339Nano))
	}
	return nil
}

// missing says which part of an undefined term does not exist.
func (x *explainer) missing(m *ast.Module, t *ast.Term, sol solution) string {
	if rules := x.resolve(m, t); len(rules) > 0 {
		if v, err := x.eval(nil, ast.NewTerm(rules[0].path), nil); err == nil && v == nil {
			return fmt.Sprintf("%s must have a value; no rule gives %s one", name(t), strings.TrimPrefix(rules[0].path.String(), "data."))
		}
	}
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		// A call is undefined if an argument is, or if the function has no answer.
		if call, ok := t.Value.(ast.Call); ok {
			for _, arg := range call[1:] {
				if v, err := x.eval(m, arg, sol); err == nil && v == nil {
					return x.missing(m, arg, sol)
				}
			}
			return name(t) + " has no value for these arguments"
		}
		return name(t) + " does not exist"
	}
	known, shown := ast.Ref{ref[0]}, ref[0].String()
	for i, p := range ref[1:] {
		key, err := x.eval(m, p, sol)
		if _, isVar := p.Value.(ast.Var); isVar && key == nil {
			break // to be iterated over
		}
		if err != nil || key == nil {
			return x.missing(m, p, sol)
		}
		next := append(known.Copy(), key)
		label := next.String()
		if v, err := x.eval(m, ast.NewTerm(next), sol); err == nil && v == nil && !x.packageLike(m, next) {
			say := label + " does not exist"
			if i > 0 || known[0].Value.Compare(ast.Var("input")) != 0 {
				if had, _ := x.eval(m, ast.NewTerm(known), sol); had != nil {
					say += x.keys(known, had)
				}
			}
			return say
		}
		known, shown = next, label
	}
	if len(ref) == 1 || len(known) == len(ref) {
		return name(t) + " does not exist"
	}
	return shown + " has nothing that fits"
}

// packageLike reports whether a reference is a prefix of a rule's path, which
// has no value of its own where no rule in it has.
func (x *explainer) packageLike(m *ast.Module, ref ast.Ref) bool {
	full := ref
	for _, i := range m.Imports {
		if i.Name().Equal(ref[0].Value) {
			full = i.Path.Value.(ast.Ref).Concat(ref[1:])
		}
	}
	return slices.ContainsFunc(x.sources, func(s *source) bool { return len(full) < len(s.path) && s.path.HasPrefix(full) })
}

// keys lists what there is where something else was looked for.
func (x *explainer) keys(known ast.Ref, had *ast.Term) string {
	obj, ok := had.Value.(ast.Object)
	if !ok || len(known) < 2 {
		return ""
	}
	var names []string
	for _, k := range obj.Keys() {
		if s, ok := k.Value.(ast.String); ok {
			names = append(names, string(s))
		}
	}
	switch {
	case len(names) == 0:
		return fmt.Sprintf(" (%s is empty)", known)
	case len(names) > 8:
		return fmt.Sprintf(" (%s has %d others)", known, len(names))
	}
	return fmt.Sprintf(" (%s has %s)", known, strings.Join(names, ", "))
}

// behind explains the rules that gave the values of an expression. against is
// set where what they gave stands in the way: then those that held are told,
// otherwise those that did not.
func (x *explainer) behind(s *source, e *ast.Expr, sol solution, against bool, depth int) []RuleTrace {
	if depth >= maxDepth {
		return nil
	}
	if call, ok := e.Terms.([]*ast.Term); ok && !e.IsEquality() && !e.IsAssignment() {
		if rules := x.resolve(s.module, call[0]); len(rules) > 0 {
			return x.call(s, rules, call[1:], sol, e.Negated == against, depth)
		}
	}
	var out []RuleTrace
	for _, t := range operands(e) {
		out = append(out, x.behindTerm(s, t, sol, e, against, depth)...)
	}
	return out
}

func (x *explainer) call(s *source, rules []*source, args []*ast.Term, sol solution, wanted bool, depth int) []RuleTrace {
	var vals []*ast.Term
	for _, a := range args {
		v, err := x.eval(s.module, a, sol)
		if err != nil || v == nil {
			return nil
		}
		vals = append(vals, v)
	}
	return x.explainRules(rules, vals, true, depth+1)
}

// behindTerm explains the rules behind one operand: those of a value that is
// undefined or false and should not be; those of a value that is there and
// should not be; those of the checks that it names.
func (x *explainer) behindTerm(s *source, t *ast.Term, sol solution, e *ast.Expr, against bool, depth int) []RuleTrace {
	if call, ok := t.Value.(ast.Call); ok {
		rules := x.resolve(s.module, call[0])
		if len(rules) == 0 {
			var out []RuleTrace
			for _, a := range call[1:] {
				out = append(out, x.behindTerm(s, a, sol, e, against, depth)...)
			}
			return out
		}
		if v, err := x.eval(s.module, t, sol); err != nil || v != nil {
			return nil
		}
		return x.call(s, rules, call[1:], sol, true, depth)
	}
	rules := x.resolve(s.module, t)
	if len(rules) == 0 {
		ref, ok := t.Value.(ast.Ref)
		if !ok {
			return nil
		}
		// Nothing is found where it looks because what it looks with is undefined.
		var out []RuleTrace
		for _, p := range ref[1:] {
			if v, err := x.eval(s.module, p, sol); !ast.IsConstant(p.Value) && err == nil && v == nil {
				out = append(out, x.behindTerm(s, p, sol, nil, false, depth)...)
			}
		}
		return out
	}
	// The document itself, not what is taken out of it.
	ref := rules[0].path
	doc, err := x.eval(nil, ast.NewTerm(ref), nil)
	if err != nil {
		return nil
	}
	if doc != nil && rules[0].path[len(ref)-1].Value.Compare(ast.String("verdict")) == 0 {
		return nil
	}
	off := doc == nil || ast.Boolean(false).Equal(doc.Value)
	switch {
	case off:
		return x.explainRules(rules, nil, true, depth+1)
	case empty(doc) && !against && e != nil && !x.wantsEmpty(s, e, t):
		return x.explainRules(rules, nil, true, depth+1)
	case ast.Boolean(true).Equal(doc.Value):
		if against {
			return x.explainRules(rules, nil, false, depth+1)
		}
		return nil
	}
	if labels := x.checks(rules[0], doc); len(labels) > 0 {
		var out []RuleTrace
		for _, l := range labels {
			out = append(out, x.explainLabel(l, depth+1)...)
		}
		return out
	}
	if set, ok := doc.Value.(ast.Set); ok && set.Len() > 0 && rules[0].rule.Head.RuleKind() == ast.MultiValue && x.wantsEmpty(s, e, t) {
		return x.explainRules(rules, nil, false, depth+1)
	}
	return nil
}

// wantsEmpty reports whether an expression compares a set with nothing.
func (x *explainer) wantsEmpty(s *source, e *ast.Expr, t *ast.Term) bool {
	if e == nil {
		return false
	}
	for _, o := range operands(e) {
		if o != t && ast.IsConstant(o.Value) {
			return empty(o) || ast.Number("0").Equal(o.Value)
		}
		if call, ok := o.Value.(ast.Call); ok && len(call) == 1 && call[0].String() == "set" {
			return true
		}
	}
	return false
}

// checks are the labels in a set that are all labels of rules that did not
// hold; of those, the causes that the package's own verdict names.
func (x *explainer) checks(s *source, doc *ast.Term) []string {
	set, ok := doc.Value.(ast.Set)
	if !ok || set.Len() == 0 || set.Len() > 40 {
		return nil
	}
	var names []string
	for _, t := range set.Slice() {
		l, ok := t.Value.(ast.String)
		if !ok || !slices.ContainsFunc(x.sources, func(s *source) bool { return s.label == string(l) || keyIs(s.rule, string(l)) }) {
			return nil
		}
		names = append(names, string(l))
	}
	causes := s.module.Package.Path.Concat([]*ast.Term{ast.StringTerm("verdict"), ast.StringTerm("rules")})
	if v, err := x.eval(nil, ast.NewTerm(causes), nil); err == nil && v != nil {
		var some []string
		for _, n := range names {
			in := false
			switch list := v.Value.(type) {
			case ast.Set:
				in = list.Contains(ast.StringTerm(n))
			case *ast.Array:
				list.Foreach(func(t *ast.Term) { in = in || ast.String(n).Equal(t.Value) })
			}
			if in {
				some = append(some, n)
			}
		}
		if len(some) > 0 {
			return some
		}
	}
	return names
}

// resolve are the rules that a reference or name in a module leads to.
func (x *explainer) resolve(m *ast.Module, t *ast.Term) []*source {
	ref, ok := t.Value.(ast.Ref)
	if v, isVar := t.Value.(ast.Var); isVar {
		ref, ok = ast.Ref{ast.VarTerm(string(v))}, true
	}
	if !ok || len(ref) == 0 {
		return nil
	}
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		return nil
	}
	full := ref
	if head != "data" {
		full = nil
		for _, i := range m.Imports {
			if path, ok := i.Path.Value.(ast.Ref); ok && i.Name() == head && len(path) > 0 {
				full = path.Concat(ref[1:])
			}
		}
		if full == nil {
			full = m.Package.Path.Append(ast.StringTerm(string(head))).Concat(ref[1:])
		}
	}
	for n := len(full); n > 1; n-- {
		if rules := x.named(full[:n]); len(rules) > 0 {
			return rules
		}
	}
	return nil
}
