package transform

import (
	"sallyport"
	"sallyport/anonymize"
)

// Drop keeps a column from leaving. It says aloud what no obligation says
// silently.
type Drop struct{}

var _ anonymize.Transform = Drop{}

func (Drop) Name() string { return "drop" }
func (Drop) Doc() string  { return "the column does not leave; no arguments" }

// Traits says that the column does not leave.
func (Drop) Traits() anonymize.Traits {
	return anonymize.Traits{Drops: true, Opaque: true, Shared: true}
}

func (Drop) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	if err := read("drop", args).done(); err != nil {
		return nil, err
	}
	return func(dst, _, _ []byte) ([]byte, error) {
		return dst, sallyport.Errorf("drop", sallyport.Internal, "", "a dropped column was about to leave")
	}, nil
}
