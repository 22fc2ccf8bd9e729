package keydir

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport"
	"sallyport/seal"
)

// CheckWord keeps what becomes part of files and derivations plain.
func CheckWord(op, what, s string) error {
	if s == "" || len(s) > 512 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return sallyport.Errorf(op, sallyport.Invalid, "", "a %s is 1 to 512 bytes of printable text", what)
	}
	return nil
}

// OldestFirst sorts leases as seal.Issuer lists them.
func OldestFirst(list []seal.Lease) {
	slices.SortFunc(list, func(a, b seal.Lease) int {
		return cmp.Or(a.Issued.Compare(b.Issued), cmp.Compare(a.ID, b.ID))
	})
}
