package export

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestFrames(t *testing.T) {
	var got bytes.Buffer
	f := NewFrames(&got)
	for _, part := range []string{"<110>1 a", "b\n", "", "<1>1 é\n<2>1 c\n<3>1 unfinished"} {
		if n, err := f.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "9 <110>1 ab7 <1>1 é6 <2>1 c"; got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
	got.Reset()
	f.Reset(&got)
	f.Write([]byte("<4>1 d\n"))
	if got.String() != "6 <4>1 d" {
		t.Errorf("after a reset: %q", got.String())
	}
}

// However a stream is cut into writes, the frames are the same.
func TestFramesOfAnyWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := []byte(rapid.StringMatching(`([a-z]{0,9}\n){0,9}`).Draw(t, "lines"))
		var whole, parts bytes.Buffer
		NewFrames(&whole).Write(all)
		f := NewFrames(&parts)
		for len(all) > 0 {
			n := rapid.IntRange(1, len(all)).Draw(t, "part")
			f.Write(all[:n])
			all = all[n:]
		}
		if whole.String() != parts.String() {
			t.Errorf("%q and %q", whole.String(), parts.String())
		}
	})
}
