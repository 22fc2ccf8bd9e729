package policy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// explainer evaluates parts of rules over what one decision saw.
type explainer struct {
	ctx     context.Context
	s       *state
	txn     storage.Transaction
	input   *ast.Term
	at      time.Time
	verdict ast.Ref
	sources []*source
	queries int
	cut     bool
	busy    []*source // rules being explained, so that none explains itself
	cache   topdown.VirtualCache
}

// solution is a value for each variable of a rule.
type solution map[ast.Var]*ast.Term

var (
	errBounds = errors.New("the explanation's bounds are reached")
)

// solve returns at most n solutions of expressions of a module's rule.
func (x *explainer) solve(m *ast.Module, exprs []*ast.Expr, n int) ([]solution, error) {
	if len(exprs) == 0 {
		return []solution{{}}, nil
	}
	if x.queries++; x.queries > maxQueries || x.ctx.Err() != nil {
		x.cut = true
		return nil, errBounds
	}
	body := make(ast.Body, 0, len(exprs))
	for _, e := range exprs {
		body.Append(e.Copy())
	}
	compiler := x.s.bundle.compiler.QueryCompiler().WithStrict(false)
	if m != nil {
		compiler = compiler.WithContext(ast.NewQueryContext().WithPackage(m.Package).WithImports(m.Imports))
	}
	compiled, err := compiler.Compile(body)
	if err != nil {
		return nil, err
	}
	cancel := topdown.NewCancel()
	defer context.AfterFunc(x.ctx, cancel.Cancel)()
	var out []solution
	names := compiler.RewrittenVars()
	// What rules give is the same for every query over the same input. A query is
	// not stopped at the last solution wanted: that would leave the cache torn.
	if x.cache == nil {
		x.cache = topdown.NewVirtualCache()
	}
	err = topdown.NewQuery(compiled).WithVirtualCache(x.cache).WithQueryCompiler(compiler).WithCompiler(x.s.bundle.compiler).WithStore(x.s.store).WithTransaction(x.txn).
		WithInput(x.input).WithCancel(cancel).WithTime(x.at).WithStrictBuiltinErrors(true).
		Iter(x.ctx, func(r topdown.QueryResult) error {
			sol := solution{}
			for name, v := range r {
				if to, ok := names[name]; ok {
					name = to
				}
				if !strings.HasPrefix(string(name), "$") && !strings.HasPrefix(string(name), "__") {
					sol[name] = v
				}
			}
			if len(out) < n && !slices.ContainsFunc(out, func(s solution) bool { return maps.EqualFunc(s, sol, (*ast.Term).Equal) }) {
				out = append(out, sol)
			}
			return nil
		})
	if err != nil {
		x.cache = nil // it may hold what was half done
	}
	return out, err
}

// eval returns a term's value under a solution; nil if it is undefined.
func (x *explainer) eval(m *ast.Module, t *ast.Term, sol solution) (*ast.Term, error) {
	if ast.IsConstant(t.Value) {
		return t, nil
	}
	if v, ok := t.Value.(ast.Var); ok && sol[v] != nil {
		return sol[v], nil
	}
	const name = ast.Var("sallyport_value")
	e := ast.Assign.Expr(ast.VarTerm(string(name)), t)
	sols, err := x.solve(m, append(bind(t, sol), e), 1)
	if err != nil || len(sols) == 0 {
		return nil, err
	}
	return sols[0][name], nil
}

// bind assigns their values to the variables of a term or expression.
func bind(in any, sol solution) []*ast.Expr {
	var out []*ast.Expr
	done := map[ast.Var]bool{}
	ast.WalkVars(in, func(v ast.Var) bool {
		if val := sol[v]; val != nil && !done[v] {
			done[v] = true
			out = append(out, ast.Assign.Expr(ast.VarTerm(string(v)), val))
		}
		return false
	})
	return out
}

// body is the rule's conditions, its arguments' bindings not included.
func (s *source) body() []*ast.Expr {
	var out []*ast.Expr
	for _, e := range s.rule.Body {
		// A rule without conditions has the body `true`.
		if t, ok := e.Terms.(*ast.Term); ok && !e.Negated && ast.Boolean(true).Equal(t.Value) {
			continue
		}
		out = append(out, e)
	}
	return out
}

// exprs are the rule's conditions and then what its head looks up: a head that
// is undefined makes the rule so.
func (s *source) exprs() []*ast.Expr {
	out := s.body()
	head := s.rule.Head
	terms := []*ast.Term{head.Value}
	if head.RuleKind() == ast.MultiValue {
		terms = []*ast.Term{head.Key}
	}
	for _, t := range head.Ref()[1:] {
		if head.RuleKind() != ast.MultiValue && !t.IsGround() {
			terms = append(terms, t)
		}
	}
	for _, t := range terms {
		if t == nil || ast.IsConstant(t.Value) {
			continue
		}
		if _, ok := t.Value.(ast.Var); ok && s.declares(t.Value.(ast.Var)) {
			continue
		}
		e := ast.Equality.Expr(ast.VarTerm("sallyport_head"), t)
		e.SetLocation(t.Location)
		if t.Location == nil {
			e.SetLocation(s.rule.Location)
		}
		out = append(out, e)
	}
	return out
}

// declares reports whether a variable of the head is bound by the body.
func (s *source) declares(v ast.Var) bool {
	found := false
	ast.WalkVars(s.rule.Body, func(w ast.Var) bool {
		found = found || v == w
		return found
	})
	for _, a := range s.rule.Head.Args {
		ast.WalkVars(a, func(w ast.Var) bool {
			found = found || v == w
			return found
		})
	}
	return found
}

// trace describes a rule.
func (s *source) trace(held bool) RuleTrace {
	t := RuleTrace{Rule: s.path.String(), Held: held}
	t.Title, _ = s.title()
	if l := s.rule.Location; l != nil {
		t.File, t.Line = l.File, l.Row
	}
	return t
}

// named are the rules of a path.
func (x *explainer) named(path ast.Ref) []*source {
	var out []*source
	for _, s := range x.sources {
		if s.path.Equal(path) {
			out = append(out, s)
		}
	}
	return out
}

// arguments bind a function's parameters to values.
func arguments(s *source, args []*ast.Term) []*ast.Expr {
	var out []*ast.Expr
	for i, p := range s.rule.Head.Args {
		if i >= len(args) || args[i] == nil {
			break
		}
		v, isVar := p.Value.(ast.Var)
		switch {
		case isVar && v.IsWildcard():
		case isVar:
			out = append(out, ast.Assign.Expr(p.Copy(), args[i]))
		default:
			out = append(out, ast.Equality.Expr(p.Copy(), args[i]))
		}
	}
	return out
}

// explainRules explains the rules of one document. If one held, and should not
// have, only those that did.
func (x *explainer) explainRules(rules []*source, args []*ast.Term, wanted bool, depth int) []RuleTrace {
	var held, missed []RuleTrace
	for _, s := range rules {
		if s.rule.Default {
			continue
		}
		t := x.explainRule(s, nil, args, depth)
		if t.Held {
			held = append(held, t)
		} else {
			missed = append(missed, t)
		}
	}
	// A verdict's rule that held is the denial; so is what held where it must not.
	if len(held) > 0 {
		return held
	}
	if !wanted {
		return nil
	}
	return missed
}

// explainRule evaluates a rule's conditions one after the other. It stops at
// the first without a solution: the furthest that is reached.
func (x *explainer) explainRule(s *source, more []*ast.Expr, args []*ast.Term, depth int) RuleTrace {
	t := s.trace(false)
	if depth > maxDepth || slices.Contains(x.busy, s) {
		return t
	}
	x.busy = append(x.busy, s)
	defer func() { x.busy = x.busy[:len(x.busy)-1] }()
	bound := arguments(s, args)
	exprs := slices.Concat(s.exprs(), more)
	if sols, err := x.solve(s.module, slices.Concat(bound, exprs), 1); err == nil && len(sols) > 0 {
		t.Held = true
		for _, e := range s.body() {
			t.Conditions = append(t.Conditions, x.condition(s, e, sols[0], true, depth))
		}
		return t
	}
	reached := []solution{{}}
	if len(bound) > 0 {
		var err error
		if reached, err = x.solve(s.module, bound, 1); err != nil || len(reached) == 0 {
			return t // the rule is for other arguments
		}
	}
	var waiting []*ast.Expr
	done := slices.Clone(bound)
	for len(exprs) > 0 {
		e := exprs[0]
		exprs = exprs[1:]
		sols, err := x.solve(s.module, append(slices.Clone(done), e), maxSolutions)
		if unsafe(err) && len(exprs) > 0 {
			// It needs a variable that a later condition binds.
			waiting = append(waiting, e)
			continue
		}
		if errors.Is(err, errBounds) {
			return t
		}
		if err == nil && len(sols) > 0 {
			done, reached = append(done, e), sols
			exprs = append(waiting, exprs...)
			waiting = nil
			continue
		}
		for _, sol := range reached {
			c := x.condition(s, e, sol, false, depth)
			if err != nil && !unsafe(err) {
				c.Wants = "it raised an error: " + clip(plainError(err), maxValue)
			}
			if !slices.ContainsFunc(t.Conditions, func(o Condition) bool { return o.Wants == c.Wants && slices.Equal(o.Values, c.Values) }) {
				t.Conditions = append(t.Conditions, c)
			}
		}
		return t
	}
	return t
}

func unsafe(err error) bool {
	var list ast.Errors
	return errors.As(err, &list) && slices.ContainsFunc(list, func(e *ast.Error) bool { return e.Code == ast.UnsafeVarErr })
}
