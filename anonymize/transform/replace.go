package transform

import "sallyport/anonymize"

// Replace writes one constant for every value.
type Replace struct{}

var _ anonymize.Transform = Replace{}

func (Replace) Name() string { return "replace" }
func (Replace) Doc() string  { return "one constant for every value; value" }

func (Replace) Traits() anonymize.Traits { return anonymize.Traits{Opaque: true, Shared: true} }

func (Replace) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("replace", args)
	constant := a.text("value", nil)
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, _, _ []byte) ([]byte, error) { return append(dst, constant...), nil }), nil
}
