package transform

import "strconv"

// maxDigits is how many significant digits a number may have; 10^18 fits int64.
const maxDigits = 18

// decimal is units × 10^-scale, exactly.
type decimal struct {
	units int64
	scale int
}

var pow10 = [maxDigits + 1]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// parseDecimal reads an optional sign, digits and an optional fraction. Zeros
// at the end of the fraction do not count.
func parseDecimal(b []byte) (decimal, bool) {
	scale := 0
	for i := range b {
		if b[i] == '.' {
			for j := len(b) - 1; j > i; j-- {
				if b[j] != '0' {
					scale = j - i
					break
				}
			}
			break
		}
	}
	if scale > maxDigits {
		return decimal{}, false
	}
	units, exact, ok := parseFloor(b, scale)
	return decimal{units, scale}, ok && exact
}

// whole returns d as an integer, if it is one.
func (d decimal) whole() (int64, bool) { return d.units, d.scale == 0 }

// at returns d in units of 10^-scale, for scale ≥ d.scale.
func (d decimal) at(scale int) (int64, bool) {
	f := pow10[scale-d.scale]
	n := d.units * f
	return n, n/f == d.units && n > -pow10[maxDigits] && n < pow10[maxDigits]
}

// parseFloor reads b as a decimal number and returns it in units of
// 10^-scale, rounded down, and whether nothing was lost. It refuses exponents,
// spaces, digit groups and numbers beyond maxDigits digits at that scale.
func parseFloor(b []byte, scale int) (units int64, exact, ok bool) {
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	digits, fraction, point := 0, 0, false
	exact = true
	for _, c := range b {
		if c == '.' && !point {
			point = true
			continue
		}
		d := c - '0'
		if d > 9 {
			return 0, false, false
		}
		digits++
		if point {
			if fraction == scale {
				exact = exact && d == 0
				continue
			}
			fraction++
		}
		if units >= pow10[maxDigits-1] {
			return 0, false, false
		}
		units = units*10 + int64(d)
	}
	if digits == 0 {
		return 0, false, false
	}
	for ; fraction < scale; fraction++ {
		if units >= pow10[maxDigits-1] {
			return 0, false, false
		}
		units *= 10
	}
	if negative {
		units = -units
		if !exact {
			units--
		}
	}
	return units, exact, true
}

// appendDecimal appends units × 10^-scale without zeros at the end of the fraction.
func appendDecimal(dst []byte, units int64, scale int) []byte {
	if units < 0 {
		dst = append(dst, '-')
		units = -units
	}
	whole, rest := units/pow10[scale], units%pow10[scale]
	dst = strconv.AppendInt(dst, whole, 10)
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for p := pow10[scale] / 10; rest > 0; p /= 10 {
		dst = append(dst, byte('0'+rest/p))
		rest %= p
	}
	return dst
}

// appendPlaces is appendDecimal with exactly so many decimals, not fewer than
// scale; places below 0 writes as many as are needed.
func appendPlaces(dst []byte, units int64, scale, places int) []byte {
	if places < 0 {
		return appendDecimal(dst, units, scale)
	}
	if units < 0 {
		dst = append(dst, '-')
		units = -units
	}
	dst = strconv.AppendInt(dst, units/pow10[scale], 10)
	if places > 0 {
		dst = append(dst, '.')
		rest := units % pow10[scale]
		for i := range places {
			d := int64(0)
			if i < scale {
				d = rest / pow10[scale-1-i] % 10
			}
			dst = append(dst, byte('0'+d))
		}
	}
	return dst
}
