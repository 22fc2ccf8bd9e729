// Package transform holds the verbs of the obligation language, one file each.
//
// Two rules hold for all of them. An empty value stays empty: that it is
// missing is a fact of its own, and it forms its own equivalence class. And a
// value that a verb cannot read is an error, which ends the pass; the argument
// otherwise: "suppress" makes it [Suppressed] instead.
package transform

import "sallyport/anonymize"

// Suppressed is written in place of a value that may not leave, as in the
// hierarchies of ARX.
const Suppressed = "*"

// notEmpty keeps empty values empty.
func notEmpty(apply anonymize.Apply) anonymize.Apply {
	return func(dst, value, subject []byte) ([]byte, error) {
		if len(value) == 0 {
			return dst, nil
		}
		return apply(dst, value, subject)
	}
}

// unreadable answers for a value that the verb cannot read.
func unreadable(dst []byte, suppress bool, problem string) ([]byte, error) {
	if suppress {
		return append(dst, Suppressed...), nil
	}
	return dst, invalid(`Correct the value, choose another verb, or set otherwise: "suppress".`, "%s", problem)
}

// Reverser is a verb whose work the holder of the key can undo. Reverse takes
// the arguments and the Env that Bind was given, and returns the inverse of what
// Bind returns, except that an empty or suppressed value stays as it is. Each
// use is a re-identification: whoever calls it records it.
type Reverser interface {
	Reverse(args map[string]any, env anonymize.Env) (anonymize.Apply, error)
}
