package transform

import (
	"unicode/utf8"

	"sallyport/anonymize"
)

// Prefix keeps the first characters of a value, as in three-digit postal
// codes. With fill, the others are replaced one for one, so that the length
// still shows; without, they are cut off.
type Prefix struct{}

var _ anonymize.Transform = Prefix{}

func (Prefix) Name() string { return "prefix" }
func (Prefix) Doc() string {
	return "the first characters; length, fill (a character for each of the rest; none)"
}

func (Prefix) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

func (Prefix) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("prefix", args)
	length := a.integer("length", nil, 1, 1000)
	fill := a.text("fill", ptr(""))
	if a.err == nil && utf8.RuneCountInString(fill) > 1 {
		a.fail("fill", "must be one character")
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		cut := 0
		for i := 0; i < length && cut < len(value); i++ {
			_, size := utf8.DecodeRune(value[cut:])
			cut += size
		}
		dst = append(dst, value[:cut]...)
		if fill != "" {
			for range utf8.RuneCount(value[cut:]) {
				dst = append(dst, fill...)
			}
		}
		return dst, nil
	}), nil
}
