package policy

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// parseInput turns an input into the evaluator's values. Numbers stay exact.
func parseInput(in any, limit int) (ast.Value, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	return parseRaw(b, limit)
}

// parseRaw is parseInput of an input that is JSON already.
func parseRaw(b []byte, limit int) (ast.Value, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("the input has %d bytes, more than the %d allowed", len(b), limit)
	}
	return ast.ValueFromReader(bytes.NewReader(b))
}

// decodeInput reads a recorded input. A field that is unknown here would be
// lost on the typed side and seen by the rules: such a record is not understood.
func decodeInput(raw json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("the recorded input is not understood: %w", err)
	}
	return nil
}
