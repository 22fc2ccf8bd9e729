package policy

import (
	"context"

	"github.com/open-policy-agent/opa/v1/rego"
)

// approvalQuery is the set of acts that need two people.
const approvalQuery = "data.sallyport.approval.two_person"

// TwoPeople reports whether an act outside the passage, such as "key.destroy",
// needs two people. A bundle without the rule, or any error, means that it does.
func (e *Engine) TwoPeople(ctx context.Context, act string) (two bool) {
	defer func() {
		if recover() != nil {
			two = true
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
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
