package store

import (
	"strings"
	"unicode/utf8"

	"sallyport"
)

// MaxKey bounds a key, in bytes; it is that of S3.
const MaxKey = 1024

// CheckRef says whether ref may name an object of the store called name: every
// Store asks it before it touches the medium. The error is a sallyport.Invalid.
func CheckRef(op, name string, ref sallyport.Ref) error {
	if ref.Store != name {
		return sallyport.Errorf(op, sallyport.Invalid, "", "%q lies in store %q, this is %q", ref.Key, ref.Store, name)
	}
	if why := badKey(ref.Key); why != "" {
		return sallyport.Errorf(op, sallyport.Invalid, "A key is like runs/7/result.csv.", "the key %.100q %s", ref.Key, why)
	}
	return nil
}

func badKey(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > MaxKey:
		return "is longer than 1024 bytes"
	case !utf8.ValidString(key):
		return "is not UTF-8"
	case strings.ContainsAny(key, "\x00\\"):
		return "holds a NUL or a backslash"
	case key[0] == '/':
		return "is absolute"
	}
	for elem := range strings.SplitSeq(key, "/") {
		switch elem {
		case "":
			return "has an empty element"
		case ".", "..":
			return "has an element " + elem
		}
	}
	return ""
}
