package policy

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InputSchema is the JSON Schema of both input documents ([Admission], and
// [Releasing] with its further fields). Rules are type-checked against it when
// a bundle is loaded, so that a misspelt input.… is an error and not undefined.
//
//go:embed input.schema.json
var InputSchema string

// parseInput turns an input into the evaluator's values. Numbers stay exact.
func parseInput(in any, limit int) (ast.Value, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("the input has %d bytes, more than the %d allowed", len(b), limit)
	}
	return ast.ValueFromReader(bytes.NewReader(b))
}

func inputSchemas() (*ast.SchemaSet, error) {
	var schema any
	if err := json.Unmarshal([]byte(InputSchema), &schema); err != nil {
		return nil, err
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema)
	return set, nil
}
