package transform

import "sallyport/anonymize"

// Round replaces a number by the nearest multiple of to; one that lies in the
// middle of two goes to the even one of them, so that rounding pulls neither up
// nor down (IEEE 754 roundTiesToEven; 25 to tens is 20, 35 is 40). Arithmetic is
// exact on integers and decimals; exponents and digit groups are not read.
// places says how many decimals are written; without it, as many as are needed.
type Round struct{}

var _ anonymize.Transform = Round{}

func (Round) Name() string { return "round" }
func (Round) Doc() string {
	return `the nearest multiple, ties to the even one; to, places (decimals written), one or both, otherwise ("error")`
}

func (Round) Traits() anonymize.Traits { return anonymize.Traits{SameType: true, Shared: true} }

func (Round) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("round", args)
	to, hasTo := a.number("to", false)
	places := a.integer("places", ptr(-1), 0, maxDigits-1)
	suppress := a.suppress()
	switch {
	case a.err != nil:
	case !hasTo && places < 0:
		a.fail("to", `or "places" is needed`)
	case !hasTo:
		to = decimal{1, places}
	case to.units <= 0:
		a.fail("to", "must be greater than zero")
	case places >= 0 && places < to.scale:
		a.fail("places", "must not be fewer than the decimals of \"to\"")
	}
	// One digit more than the multiples have makes half of one a whole number.
	scale := to.scale + 1
	if a.err == nil && scale > maxDigits {
		a.fail("to", "has too many decimals")
	}
	var width int64
	if a.err == nil {
		var fits bool
		if width, fits = to.at(scale); !fits {
			a.fail("to", "is too large")
		}
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		v, exact, ok := parseFloor(value, scale)
		if !ok {
			return unreadable(dst, suppress, "a value is no plain decimal number")
		}
		n := v / width
		below := v % width
		if below < 0 {
			n, below = n-1, below+width
		}
		if half := width / 2; below > half || below == half && (!exact || n%2 != 0) {
			n++
		}
		// |n × width| is below 2 × 10^18.
		return appendPlaces(dst, n*(width/10), to.scale, places), nil
	}), nil
}
