package transform

import (
	"crypto/aes"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport/anonymize"
)

// FF1 replaces a value by another of the same form: the same number of
// characters, of the same alphabet, one to one (NIST SP 800-38G, mode FF1, with
// AES-256 under a key of the project). Whoever holds the key can undo it, so
// what leaves is pseudonymized, not anonymous (GDPR, recital 26).
//
// Strings that are too short can be found by trial, so a domain of fewer than
// 1,000,000 values is refused, as revision 1 of the standard demands (second
// draft, February 2025): six digits, or four letters and digits. Equal
// values have equal results, in all columns of the same alphabet, tweak and
// scope. Nothing tells whether a result was tampered with: any string of the
// form can be undone, to something.
type FF1 struct{}

var (
	_ anonymize.Transform = FF1{}
	_ Reverser            = FF1{}
)

func (FF1) Name() string { return "ff1" }
func (FF1) Doc() string {
	return `another value of the same form, reversible with the key; alphabet (digits, hex, lower, upper, letters, lower_alnum, upper_alnum, alnum), length (any), keep (characters that stay; ""), tweak ("", "column" or a text), scope (all columns alike), otherwise ("error")`
}

// Traits says nothing of the type: as a number, 0012345 would lose its zeros,
// and could not be undone.
func (FF1) Traits() anonymize.Traits {
	return anonymize.Traits{Keyed: true, Opaque: true, Reversible: true}
}

// leastDomain is how many values a string of an FF1 alphabet must be able to have.
const leastDomain = 1_000_000

const (
	decimalDigits = "0123456789"
	lowerLetters  = "abcdefghijklmnopqrstuvwxyz"
	upperLetters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// alphabets returns the characters of an alphabet, a digit's value being its place.
func alphabets() map[string]string {
	return map[string]string{
		"digits":      decimalDigits,
		"hex":         decimalDigits + "abcdef",
		"lower":       lowerLetters,
		"upper":       upperLetters,
		"letters":     upperLetters + lowerLetters,
		"lower_alnum": decimalDigits + lowerLetters,
		"upper_alnum": decimalDigits + upperLetters,
		"alnum":       decimalDigits + upperLetters + lowerLetters,
	}
}

func (FF1) Bind(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	f, err := readFF1(args, env)
	if err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		return f.apply(dst, value, f.cipher.encrypt)
	}), nil
}

func (FF1) Reverse(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	f, err := readFF1(args, env)
	if err != nil {
		return nil, err
	}
	suppressed := f.suppress
	f.suppress = false // no other value can have become what Bind does not write
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		if suppressed && string(value) == Suppressed {
			return append(dst, Suppressed...), nil
		}
		return f.apply(dst, value, f.cipher.decrypt)
	}), nil
}

// ff1 is the verb bound to its arguments.
type ff1 struct {
	cipher   *feistel
	alphabet string
	place    [256]int16 // of a character in the alphabet, or -1
	keep     string
	length   int // 0: any
	least    int
	suppress bool
	digits   []byte
}

func readFF1(args map[string]any, env anonymize.Env) (*ff1, error) {
	known := alphabets()
	a := read("ff1", args)
	f := &ff1{alphabet: known[a.choice("alphabet", nil, slices.Sorted(maps.Keys(known))...)]}
	f.length = a.integer("length", ptr(0), 1, maxDigitsFF1)
	f.keep = a.text("keep", ptr(""))
	tweak := a.text("tweak", ptr(""))
	scope := a.text("scope", ptr(""))
	f.suppress = a.suppress()
	if a.err == nil && (strings.ContainsAny(f.keep, f.alphabet) || !utf8.ValidString(f.keep) || len(f.keep) > 64) {
		a.fail("keep", "must be a few characters outside the alphabet")
	}
	if len(tweak) > 128 {
		a.fail("tweak", "must not be longer than 128 bytes")
	}
	if a.err == nil {
		f.least = shortest(len(f.alphabet))
		if f.length > 0 && f.length < f.least {
			a.fail("length", "leaves a domain of fewer than 1,000,000 values, which can be found by trial; %d characters of this alphabet are the least", f.least)
		}
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	key, err := derive("ff1", scope, 32, env)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// No column's name can be taken for a text.
	var t []byte
	switch tweak {
	case "":
	case "column":
		t = append([]byte("column\x00"), env.Column...)
	default:
		t = append([]byte("text\x00"), tweak...)
	}
	f.cipher = newFeistel(block, len(f.alphabet), t)
	for i := range f.place {
		f.place[i] = int16(strings.IndexByte(f.alphabet, byte(i)))
	}
	return f, nil
}

// shortest is the least length of strings over so many characters that makes a
// domain of leastDomain.
func shortest(radix int) int {
	n := 0
	for size := 1; size < leastDomain; size *= radix {
		n++
	}
	return n
}

// apply gathers the characters of the alphabet, lets crypt change them, and
// writes them where they were.
func (f *ff1) apply(dst, value []byte, crypt func([]byte)) ([]byte, error) {
	f.digits = f.digits[:0]
	for i := 0; i < len(value); {
		if p := f.place[value[i]]; p >= 0 {
			f.digits = append(f.digits, byte(p))
			i++
			continue
		}
		r, size := utf8.DecodeRune(value[i:])
		if r == utf8.RuneError && size == 1 || !strings.ContainsRune(f.keep, r) {
			return unreadable(dst, f.suppress, "a value has a character outside the alphabet")
		}
		i += size
	}
	n := len(f.digits)
	switch {
	case f.length > 0 && n != f.length:
		return unreadable(dst, f.suppress, "a value has not the length that was declared")
	case n < f.least:
		return unreadable(dst, f.suppress, "a value is so short that its domain has fewer than 1,000,000 values")
	case n > maxDigitsFF1:
		return unreadable(dst, f.suppress, "a value is longer than 256 characters")
	}
	crypt(f.digits)
	start, next := len(dst), 0
	dst = append(dst, value...)
	for i, c := range value {
		if f.place[c] >= 0 {
			dst[start+i] = f.alphabet[f.digits[next]]
			next++
		}
	}
	return dst, nil
}
