package anonymize

import (
	"bytes"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// shape is what one value looks like by itself.
type shape int

const (
	shapeText shape = iota
	shapeInteger
	shapeNumber
	shapeDate
	shapeTime
	shapeBoolean
	shapeCount
)

// shapeOf classifies a value, and gives its size where it is a number.
func shapeOf(v []byte) (shape, float64) {
	if len(v) > 40 {
		return shapeText, 0
	}
	if c := v[0]; c-'0' <= 9 || c == '-' || c == '+' || c == '.' {
		switch n, ok := dateLength(v); {
		case ok && n == len(v):
			return shapeDate, 0
		case ok && (v[n] == 'T' || v[n] == ' ') && clock(v[n+1:]), clock(v):
			return shapeTime, 0
		}
		for _, c := range v { // no Inf, no hexadecimal, no underscores
			if c-'0' > 9 && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
				return shapeText, 0
			}
		}
		f, err := strconv.ParseFloat(string(v), 64)
		switch {
		case err != nil:
			return shapeText, 0
		case len(v) > 1 && v[0] == '0' && v[1]-'0' <= 9:
			return shapeText, 0 // a code: leading zeros would be lost in a number
		case bytes.ContainsAny(v, ".eE"):
			return shapeNumber, f
		}
		return shapeInteger, f
	}
	for _, word := range [...]string{"true", "false", "yes", "no"} {
		if len(v) == len(word) && bytes.EqualFold(v, []byte(word)) {
			return shapeBoolean, 0
		}
	}
	return shapeText, 0
}

// dateLength reports whether v starts with a date as 2006-01-02, 02.01.2006 or
// 01/02/2006, and its length.
func dateLength(v []byte) (int, bool) {
	if len(v) < 10 {
		return 0, false
	}
	two := func(i, most int) bool {
		a, b := v[i]-'0', v[i+1]-'0'
		n := int(a)*10 + int(b)
		return a <= 9 && b <= 9 && n >= 1 && n <= most
	}
	year := func(i int) bool {
		return (v[i] == '1' || v[i] == '2') && v[i+1]-'0' <= 9 && v[i+2]-'0' <= 9 && v[i+3]-'0' <= 9
	}
	switch {
	case v[4] == '-' && v[7] == '-':
		return 10, year(0) && two(5, 12) && two(8, 31)
	case (v[2] == '.' || v[2] == '/') && v[5] == v[2]:
		return 10, year(6) && two(0, 31) && two(3, 31)
	}
	return 0, false
}

// clock reports whether v starts with hh:mm.
func clock(v []byte) bool {
	return len(v) >= 5 && v[2] == ':' && v[0]-'0' <= 2 && v[1]-'0' <= 9 && v[3]-'0' <= 5 && v[4]-'0' <= 9
}

// words counts runs of non-space characters, up to 3.
func words(v []byte) int {
	n, inside := 0, false
	for _, c := range v {
		if c == ' ' {
			inside = false
		} else if !inside {
			inside = true
			if n++; n == 3 {
				break
			}
		}
	}
	return n
}

// pattern appends the shape of v: a digit is 9, letters are A or a, a run of
// letters is one of them and +, other ASCII stays. It is cut at cap(dst).
func pattern(dst, v []byte) []byte {
	last := byte(0)
	for len(v) > 0 && len(dst) < cap(dst)-1 {
		r, n := utf8.DecodeRune(v)
		v = v[n:]
		c := byte('?')
		switch {
		case unicode.IsDigit(r):
			c = '9'
		case unicode.IsUpper(r):
			c = 'A'
		case unicode.IsLetter(r):
			c = 'a'
		case r < utf8.RuneSelf && unicode.IsPrint(r):
			c = byte(r)
		}
		if c == last && (c == 'a' || c == 'A') {
			if dst[len(dst)-1] != '+' {
				dst = append(dst, '+')
			}
			continue
		}
		last = c
		dst = append(dst, c)
	}
	return dst
}
