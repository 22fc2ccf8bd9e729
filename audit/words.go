package audit

import (
	"iter"
	"strings"
	"unicode"
)

// maxWord is how many bytes of a word count, so that a long token is found by
// all of it and nothing endless is indexed.
const maxWord = 64

// words yields the words of a text, lower case: runs of letters and digits.
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for w := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			w = strings.ToLower(w)
			if !yield(w[:min(len(w), maxWord)]) {
				return
			}
		}
	}
}
