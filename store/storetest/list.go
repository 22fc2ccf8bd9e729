package storetest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func testList(t *testing.T, s suite) {
	all := []string{"a", "a-b", "a.b/c", "a0", "ab/c/d", "ab/c-d", "ab/c.d", "ab/c0", "ab/d", "b/a", "b/b", "b0", "é", "z/z/z/z"}
	for _, key := range slices.Backward(all) {
		s.put(t, key, key)
	}
	for _, prefix := range append([]string{"", "a", "ab", "ab/", "ab/c", "ab/c/", "ab/c/d", "ab/c/d/", "ab/c/de", "b", "b/", "z", "z/z/", "z/z/z/z", "c", "é", "\xc3"}, all...) {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		slices.Sort(want)
		if got := s.keys(t, prefix); !slices.Equal(got, want) {
			t.Errorf("prefix %q\n got %q\nwant %q", prefix, got, want)
		}
	}
	n := 0
	for range s.List(t.Context(), "") { // to stop early is allowed
		if n++; n == 3 {
			break
		}
	}
	list := s.List(t.Context(), "b") // and to range twice
	for range 2 {
		n = 0
		for range list {
			n++
		}
		if n != 3 {
			t.Fatalf("%d objects", n)
		}
	}
}

func testListAndRemove(t *testing.T, s suite) {
	for n := range 30 {
		s.put(t, fmt.Sprintf("d%d/%d", n%3, n), "x")
	}
	n := 0
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), info.Ref); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 30 || len(s.keys(t, "")) != 0 {
		t.Fatalf("%d seen, %d left", n, len(s.keys(t, "")))
	}
}

// testModel does random things, the same in every run, to the store and to a map.
func testModel(t *testing.T, s suite) {
	keys := []string{"a", "b/c", "b/d", "b/e/f", "g-h", "g/h", "z"}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 0))
		model := map[string]string{}
		for _, key := range s.keys(t, "") {
			if err := s.Remove(t.Context(), s.ref(key)); err != nil {
				t.Fatal(err)
			}
		}
		var steps []string
		for range 1 + r.IntN(12) {
			key := keys[r.IntN(len(keys))]
			switch r.IntN(3) {
			case 0:
				text := strings.Repeat(string('a'+rune(r.IntN(26))), r.IntN(100))
				s.put(t, key, text)
				model[key] = text
				steps = append(steps, "put "+key)
			case 1:
				if _, err := s.Put(t.Context(), s.ref(key), func(w io.Writer) error {
					io.WriteString(w, "garbage")
					return errors.New("no")
				}); err == nil {
					t.Fatal("committed")
				}
				steps = append(steps, "fail "+key)
			case 2:
				if err := s.Remove(t.Context(), s.ref(key)); err != nil {
					t.Fatal(err)
				}
				delete(model, key)
				steps = append(steps, "remove "+key)
			}
		}
		if got, want := s.keys(t, ""), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
			t.Fatalf("listed %q, want %q after %q", got, want, steps)
		}
		for key, text := range model {
			if got := s.get(t, key); got != text {
				t.Fatalf("%q holds %q, want %q after %q", key, got, text, steps)
			}
		}
	}
}
