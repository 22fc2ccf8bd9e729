package transform

import "sallyport/anonymize"

// Cap is top and bottom coding: values at or beyond a bound become one label,
// so that the very old or the very rich do not stand out. Others leave as
// they are. HIPAA's ages over 89 are {top: 90, label: "90+"}.
type Cap struct{}

var _ anonymize.Transform = Cap{}

func (Cap) Name() string { return "cap" }
func (Cap) Doc() string {
	return `top and bottom coding; top, bottom (one or both), label (">=top"), bottom_label ("<=bottom"), otherwise ("error")`
}

func (Cap) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

func (Cap) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("cap", args)
	top, hasTop := a.number("top", false)
	bottom, hasBottom := a.number("bottom", false)
	above := a.text("label", ptr(">="+string(appendDecimal(nil, top.units, top.scale))))
	under := a.text("bottom_label", ptr("<="+string(appendDecimal(nil, bottom.units, bottom.scale))))
	suppress := a.suppress()
	if a.err == nil && !hasTop && !hasBottom {
		a.fail("top", "or \"bottom\" is needed")
	}
	scale := max(top.scale, bottom.scale)
	t, fits1 := top.at(scale)
	b, fits2 := bottom.at(scale)
	if a.err == nil && !(fits1 && fits2) {
		a.fail("top", "and bottom are too far apart in scale")
	}
	if a.err == nil && hasTop && hasBottom && b >= t {
		a.fail("bottom", "must be less than top")
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		v, exact, ok := parseFloor(value, scale)
		switch {
		case !ok:
			return unreadable(dst, suppress, "a value is no plain decimal number")
		case hasTop && v >= t:
			return append(dst, above...), nil
		case hasBottom && (v < b || v == b && exact):
			return append(dst, under...), nil
		}
		return append(dst, value...), nil
	}), nil
}
