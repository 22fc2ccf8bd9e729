package store_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"sallyport"
	"sallyport/store"
)

// FuzzCheckRef: whatever passes is a path that stays below its root and has no
// second spelling.
func FuzzCheckRef(f *testing.F) {
	for _, key := range []string{"a/b.csv", "..", "a/../b", "/a", "a//b", "a\\b", "a\x00", "...", "", "a/.", "\xff"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := store.CheckRef("test", "s", sallyport.Ref{Store: "s", Key: key})
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Invalid {
				t.Fatal(err)
			}
			return
		}
		if path.Clean(key) != key || !filepath.IsLocal(key) || key == "." || strings.ContainsAny(key, "\x00\\") {
			t.Fatalf("%q passes", key)
		}
	})
}
