package anonymize

import (
	"maps"
	"testing"
)

// FuzzMatchers feeds the hand-written matchers whatever there is: they must
// not panic, not allocate, and answer the same for the same value.
func FuzzMatchers(f *testing.F) {
	for _, s := range []string{"ann@example.org", "@.", "a@b.c", "+49 30 1234567", "(((", "+", "123-45-6789", "2021-01-02T03:04", "01.02.2021", "-1e5", "0x1p-2", "é日", "\xff\xfe"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		var a, b residual
		a.look(v)
		b.look(v)
		if !maps.Equal(a.counts(), b.counts()) {
			t.Errorf("two answers: %v, %v", a.counts(), b.counts())
		}
		for kind, n := range a.counts() {
			if n != 1 {
				t.Errorf("one value counted %d times as %s", n, kind)
			}
		}
		if len(v) == 0 {
			return
		}
		if kind, _ := shapeOf(v); kind < shapeText || kind >= shapeCount {
			t.Errorf("shape %d", kind)
		}
		var room [maxShape]byte
		if p := pattern(room[:0], v); len(p) == 0 || len(p) > maxShape {
			t.Errorf("pattern of %d bytes", len(p))
		}
		if n := words(v); n < 0 || n > 3 {
			t.Errorf("%d words", n)
		}
	})
}
