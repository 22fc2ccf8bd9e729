package transform

import (
	"maps"
	"slices"
	"strings"

	"sallyport/anonymize"
)

// ZIP3 is HIPAA's rule on ZIP codes, 45 CFR 164.514(b)(2)(i)(B): the first
// three digits, or 000 where the area of all ZIP codes that begin so has 20,000
// people or fewer. The areas are those of one census, which vintage names; the
// rule asks for the current publicly available one. A prefix that no place with
// inhabitants has, such as those of the military and of single buildings,
// becomes 000 as well: nothing says that more than 20,000 people live there.
//
// It reads ZIP codes of five digits, ZIP+4 with or without the hyphen, and
// three digits. One that has lost its leading zeros cannot be told from a wrong
// one, and is refused.
type ZIP3 struct{}

var _ anonymize.Transform = ZIP3{}

func (ZIP3) Name() string { return "zip3" }
func (ZIP3) Doc() string {
	return `a ZIP code's first three digits, 000 for areas of at most 20,000 people (HIPAA Safe Harbor); vintage (the census: 2000, 2010 or 2020), otherwise ("error")`
}

// Traits says nothing of the type: as a number, 036 would lose its zero.
func (ZIP3) Traits() anonymize.Traits { return anonymize.Traits{Shared: true} }

// smallZIP3 returns the three-digit areas of 20,000 people or fewer, by census.
//
// 2000: Department of Health and Human Services, "Guidance Regarding Methods
// for De-identification of Protected Health Information" (26 November 2012),
// the 17 restricted ZIP codes; also 67 FR 53182, 53233-53234 (14 August 2002)
// for an earlier list.
//
// 2010: Census Bureau, Census 2010, Summary File 1, table P1, population by
// five-digit ZIP Code Tabulation Area, added up by the first three digits.
//
// 2020: Census Bureau, Census 2020, Demographic and Housing Characteristics
// File, table P1, likewise: 33,774 areas, 334,726,586 people. The list is the
// same as ten years before.
func smallZIP3() map[string]string {
	return map[string]string{
		"2000": "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893",
		"2010": "036 059 102 202 203 204 205 369 556 692 753 772 821 823 878 879 884 893",
		"2020": "036 059 102 202 203 204 205 369 556 692 753 772 821 823 878 879 884 893",
	}
}

// inhabitedZIP3 holds the 894 three-digit prefixes that the areas of Census
// 2020 have, in ranges. It serves all vintages: their lists name the small areas,
// not those that do not exist.
const inhabitedZIP3 = "006-007 009-054 056-089 100-191 193-212 214-268 270-310 312-331 333-339 341-342 344 346-347 349-352 354-374 " +
	"376-398 400-418 420-427 430-458 460-508 510-516 520-528 530-532 534-535 537-551 553-554 556-567 570-577 580-588 590-620 " +
	"622-631 633-641 644-648 650-658 660-662 664-681 683-693 700-701 703-708 710-714 716-731 734-741 743-770 772-816 820-838 " +
	"840-841 843-847 850-853 855-857 859-860 863-865 870-871 873-875 877-884 890-891 893-895 897-898 900 902-908 910-928 " +
	"930-937 939-941 943-961 967-968 970-986 988-999"

// zip3Table says of each of the thousand prefixes whether it may leave.
func zip3Table(small string) *[1000]bool {
	var t [1000]bool
	number := func(s string) int {
		n, _ := digits([]byte(s))
		return n
	}
	for r := range strings.FieldsSeq(inhabitedZIP3) {
		first, last, ok := strings.Cut(r, "-")
		if !ok {
			last = first
		}
		for n := number(first); n <= number(last); n++ {
			t[n] = true
		}
	}
	for p := range strings.FieldsSeq(small) {
		t[number(p)] = false
	}
	return &t
}

func (ZIP3) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	known := smallZIP3()
	a := read("zip3", args)
	vintage := a.year("vintage", slices.Sorted(maps.Keys(known)))
	suppress := a.suppress()
	if err := a.done(); err != nil {
		return nil, err
	}
	leaves := zip3Table(known[vintage])
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		prefix, ok := zipPrefix(value)
		switch {
		case !ok:
			return unreadable(dst, suppress, "a value is no ZIP code with all its digits")
		case !leaves[prefix]:
			return append(dst, "000"...), nil
		}
		return append(dst, value[:3]...), nil
	}), nil
}

// zipPrefix reads 12345, 12345-6789, 123456789 or 123.
func zipPrefix(b []byte) (int, bool) {
	switch {
	case len(b) == 10 && b[5] == '-':
		if _, ok := digits(b[6:]); !ok {
			return 0, false
		}
		b = b[:5]
	case len(b) != 3 && len(b) != 5 && len(b) != 9:
		return 0, false
	}
	if _, ok := digits(b); !ok {
		return 0, false
	}
	return digits(b[:3])
}

// year reads one of several years, written as a number or a string.
func (a *arguments) year(name string, known []string) string {
	v, ok := a.get(name, false)
	s, isText := v.(string)
	if d, isNumber := decimalOf(v); isNumber && !isText {
		s = string(appendDecimal(nil, d.units, d.scale))
	}
	if !ok || !slices.Contains(known, s) {
		a.fail(name, "must be one of: %s", strings.Join(known, ", "))
	}
	return s
}
