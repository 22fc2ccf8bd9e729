package parquet

// Dates are of the proleptic Gregorian calendar, as ISO 8601 writes them. Years
// outside 0000 to 9999 have a sign and at least six digits (expanded form), so
// that every number of days is a date and every date a number of days.

const (
	julianEpoch = 2440588 // the Julian day number of 1970-01-01
	maxYear     = 400_000_000
)

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// days400 is the days of 400 years, after which the calendar repeats.
const days400 = 146097

// civil is the date of a day since 1970-01-01. The year is reckoned from March,
// so that the day that leap years have more is its last.
func civil(day int64) (year int64, month, dom int) {
	day += 719468 // from 0000-03-01
	era := floorDiv(day, days400)
	d := day - era*days400 // 0 to 146096
	y := (d - d/1460 + d/36524 - d/146096) / 365
	d -= 365*y + y/4 - y/100
	m := (5*d + 2) / 153 // 0 is March
	dom = int(d-(153*m+2)/5) + 1
	year = y + era*400
	if m < 10 {
		return year, int(m) + 3, dom
	}
	return year + 1, int(m) - 9, dom
}

// dayOf is the reverse of civil.
func dayOf(year int64, month, dom int) int64 {
	m := int64(month) - 3
	if m < 0 {
		m += 12
		year--
	}
	era := floorDiv(year, 400)
	y := year - era*400
	return era*days400 + 365*y + y/4 - y/100 + (153*m+2)/5 + int64(dom) - 1 - 719468
}

func appendDate(dst []byte, day int64) []byte {
	y, m, d := civil(day)
	switch {
	case y < 0:
		dst = appendPadded(append(dst, '-'), -y, 6)
	case y > 9999:
		dst = appendPadded(append(dst, '+'), y, 6)
	default:
		dst = appendPadded(dst, y, 4)
	}
	dst = appendPadded(append(dst, '-'), int64(m), 2)
	return appendPadded(append(dst, '-'), int64(d), 2)
}

func appendPadded(dst []byte, v int64, width int) []byte {
	var space [20]byte
	i := len(space)
	for v > 0 || width > 0 {
		i--
		space[i] = byte('0' + v%10)
		v /= 10
		width--
	}
	return append(dst, space[i:]...)
}

// appendTime writes a time of day; the fraction has no zeros at its end.
func appendTime(dst []byte, sec, frac, per int64) []byte {
	dst = appendPadded(dst, sec/3600, 2)
	dst = appendPadded(append(dst, ':'), sec/60%60, 2)
	dst = appendPadded(append(dst, ':'), sec%60, 2)
	if frac == 0 {
		return dst
	}
	width := 0
	for p := per; p > 1; p /= 10 {
		width++
	}
	for frac%10 == 0 {
		frac /= 10
		width--
	}
	return appendPadded(append(dst, '.'), frac, width)
}

func appendTimestamp(dst []byte, sec, frac, per int64) []byte {
	day := floorDiv(sec, 86400)
	dst = append(appendDate(dst, day), 'T')
	return appendTime(dst, sec-day*86400, frac, per)
}

// number reads digits at the start of b, least to most of them.
func number(b []byte, least, most int) (v int64, rest []byte, ok bool) {
	n := 0
	for n < len(b) && n < most && b[n]-'0' <= 9 {
		v = 10*v + int64(b[n]-'0')
		n++
	}
	return v, b[n:], n >= least
}

func literal(b []byte, c byte) ([]byte, bool) {
	if len(b) == 0 || b[0] != c {
		return b, false
	}
	return b[1:], true
}

func parseDate(b []byte) (day int64, rest []byte, ok bool) {
	sign := int64(1)
	var y, m, d int64
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		if b[0] == '-' {
			sign = -1
		}
		y, b, ok = number(b[1:], 6, 9)
	} else {
		y, b, ok = number(b, 4, 4)
	}
	if !ok || y > maxYear {
		return 0, b, false
	}
	if b, ok = literal(b, '-'); !ok {
		return 0, b, false
	}
	if m, b, ok = number(b, 2, 2); !ok || m < 1 || m > 12 {
		return 0, b, false
	}
	if b, ok = literal(b, '-'); !ok {
		return 0, b, false
	}
	if d, b, ok = number(b, 2, 2); !ok || d < 1 || d > 31 {
		return 0, b, false
	}
	day = dayOf(sign*y, int(m), int(d))
	if back, bm, bd := civil(day); back != sign*y || bm != int(m) || bd != int(d) {
		return 0, b, false // the 31st of April
	}
	return day, b, true
}

// parseTime reads hh:mm, hh:mm:ss or hh:mm:ss.fraction, all of b. A fraction
// finer than the unit is no value of the type, but for zeros.
func parseTime(b []byte, per int64) (sec, frac int64, ok bool) {
	h, b, ok := number(b, 2, 2)
	if !ok || h > 24 {
		return 0, 0, false
	}
	if b, ok = literal(b, ':'); !ok {
		return 0, 0, false
	}
	m, b, ok := number(b, 2, 2)
	if !ok || m > 59 {
		return 0, 0, false
	}
	var s int64
	if len(b) > 0 {
		if b, ok = literal(b, ':'); !ok {
			return 0, 0, false
		}
		if s, b, ok = number(b, 2, 2); !ok || s > 59 {
			return 0, 0, false
		}
	}
	if len(b) > 0 {
		if b, ok = literal(b, '.'); !ok || len(b) == 0 {
			return 0, 0, false
		}
		unit := per
		for _, c := range b {
			if c-'0' > 9 {
				return 0, 0, false
			}
			if unit /= 10; unit == 0 && c != '0' {
				return 0, 0, false
			}
			frac += int64(c-'0') * unit
		}
	}
	sec = h*3600 + m*60 + s
	return sec, frac, sec < 86400 || sec == 86400 && frac == 0
}

// parseTimestamp reads a date, T or a space, and a time of day; or a date
// alone, which is its midnight.
func parseTimestamp(b []byte, per int64) (sec, frac int64, ok bool) {
	day, rest, ok := parseDate(b)
	if !ok || len(rest) == 0 {
		return day * 86400, 0, ok
	}
	if rest[0] != 'T' && rest[0] != ' ' {
		return 0, 0, false
	}
	s, frac, ok := parseTime(rest[1:], per)
	return day*86400 + s, frac, ok && s < 86400
}
