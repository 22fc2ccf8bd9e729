package transform

import (
	"unicode/utf8"

	"sallyport/anonymize"
)

// Mask covers the characters of a value, one mark for each, except so many at
// its start and end. A value not longer than what would be kept is covered
// whole: a short one must not leave as it is.
type Mask struct{}

var _ anonymize.Transform = Mask{}

func (Mask) Name() string { return "mask" }
func (Mask) Doc() string {
	return `each character covered; keep_first (0), keep_last (0), char ("*")`
}

func (Mask) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

func (Mask) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("mask", args)
	first := a.integer("keep_first", ptr(0), 0, 1000)
	last := a.integer("keep_last", ptr(0), 0, 1000)
	char := a.text("char", ptr("*"))
	if a.err == nil && utf8.RuneCountInString(char) != 1 {
		a.fail("char", "must be one character")
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		n := utf8.RuneCount(value)
		head, tail := first, n-last
		if first+last >= n {
			head, tail = 0, n
		}
		for i := 0; len(value) > 0; i++ {
			_, size := utf8.DecodeRune(value)
			if i < head || i >= tail {
				dst = append(dst, value[:size]...)
			} else {
				dst = append(dst, char...)
			}
			value = value[size:]
		}
		return dst, nil
	}), nil
}
