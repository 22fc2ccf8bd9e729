package policy

import (
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// approvalQuery is the set of acts that need two people.
const approvalQuery = "data.sallyport.approval.two_person"

// mayQuery is the set of acts outside the passage that a subject may do.
const mayQuery = "data.sallyport.approval.may"

// TwoPeople reports whether an act outside the passage, such as "key.destroy",
// needs two people. A bundle without the rule, or any error, means that it does.
func (e *Engine) TwoPeople(ctx context.Context, act string) (two bool) {
	defer func() {
		if recover() != nil {
			two = true
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Deadline)
	defer cancel()
	rs, err := e.now.Load().approval.Eval(ctx, rego.EvalInput(map[string]any{}))
	if err != nil || len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return true
	}
	acts, ok := rs[0].Expressions[0].Value.([]any)
	if !ok {
		return true
	}
	for _, a := range acts {
		if a == act || a == "*" {
			return true
		}
	}
	return false
}

// May reports whether a person may do an act outside the passage, such as
// "policy:approve". A bundle without the rule, or any error, means no.
func (e *Engine) May(ctx context.Context, who Subject, act string) (may bool) {
	defer func() {
		if recover() != nil {
			may = false
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Deadline)
	defer cancel()
	list(&who.Roles)
	list(&who.Projects)
	value, err := parseInput(map[string]any{"subject": who}, e.cfg.MaxInput)
	if err != nil {
		return false
	}
	rs, err := e.now.Load().may.Eval(ctx, rego.EvalParsedInput(value))
	if err != nil || len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return false
	}
	acts, ok := rs[0].Expressions[0].Value.([]any)
	return ok && slices.Contains(acts, any(act))
}

// RulesOnActs reports whether the bundle in force has a rule for [Engine.May].
func (e *Engine) RulesOnActs() bool {
	return len(e.now.Load().bundle.compiler.GetRulesExact(ast.MustParseRef(mayQuery))) > 0
}
