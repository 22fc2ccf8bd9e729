package audit

import "sallyport"

// CheckRetention refuses rules that [Log.Retain] would refuse.
func CheckRetention(rules []Retention) error {
	seen := map[string]bool{}
	for _, r := range rules {
		if r.Age <= 0 || seen[r.Step] || reserved(r.Step) || permanent(r.Step) {
			return sallyport.Errorf("retire records", sallyport.Invalid, "Give each step one rule with an age above zero; records of policies, signatures and erasures are kept for good.", "the rule for step %q cannot be kept", r.Step)
		}
		seen[r.Step] = true
	}
	return nil
}
