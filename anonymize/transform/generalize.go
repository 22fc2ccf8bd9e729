package transform

import "sallyport/anonymize"

// Generalize replaces a number by the range it lies in, "[30,40)": from the
// lower bound, included, to the upper, excluded. Ranges are width wide and one
// begins at origin. Arithmetic is exact on integers and decimals. Exponents
// and digit groups are not read.
type Generalize struct{}

var _ anonymize.Transform = Generalize{}

func (Generalize) Name() string { return "generalize" }
func (Generalize) Doc() string {
	return `a number's range, "[30,40)"; width, origin (0), otherwise ("error")`
}

func (Generalize) Traits() anonymize.Traits { return anonymize.Traits{Opaque: true, Shared: true} }

func (Generalize) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("generalize", args)
	width, _ := a.number("width", true)
	origin, _ := a.number("origin", false)
	suppress := a.suppress()
	if a.err == nil && width.units <= 0 {
		a.fail("width", "must be greater than zero")
	}
	// Bounds are whole multiples of 10^-scale, so a value may be rounded down
	// to that scale without changing its range.
	scale := max(width.scale, origin.scale)
	w, fits1 := width.at(scale)
	o, fits2 := origin.at(scale)
	if a.err == nil && !(fits1 && fits2) {
		a.fail("width", "and origin are too far apart in scale")
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		v, _, ok := parseFloor(value, scale)
		if !ok {
			return unreadable(dst, suppress, "a value is no plain decimal number")
		}
		// |v|, |o| and w are below 10^18, so nothing here leaves int64.
		n := v - o
		below := n % w
		if below < 0 {
			below += w
		}
		dst = append(dst, '[')
		dst = appendDecimal(dst, v-below, scale)
		dst = append(dst, ',')
		dst = appendDecimal(dst, v-below+w, scale)
		return append(dst, ')'), nil
	}), nil
}
