package transform

import "sallyport/anonymize"

// Over89 is what [Age90] writes for ages over 89.
const Over89 = "90+"

// Age90 is HIPAA's rule on ages, 45 CFR 164.514(b)(2)(i)(C): all ages over 89
// become one category of age 90 or older; others leave as they are. It reads
// ages in years, whole or with decimals; 89.5 is over 89. Dates that tell such
// an age are another column's matter.
type Age90 struct{}

var _ anonymize.Transform = Age90{}

func (Age90) Name() string { return "age90" }
func (Age90) Doc() string {
	return `ages over 89 become 90+ (HIPAA Safe Harbor); otherwise ("error")`
}

func (Age90) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

func (Age90) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("age90", args)
	suppress := a.suppress()
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		if string(value) == Over89 {
			return append(dst, Over89...), nil
		}
		years, exact, ok := parseFloor(value, 0)
		switch {
		case !ok || years < 0:
			return unreadable(dst, suppress, "a value is no age in years")
		case years > 89 || years == 89 && !exact:
			return append(dst, Over89...), nil
		}
		return append(dst, value...), nil
	}), nil
}
