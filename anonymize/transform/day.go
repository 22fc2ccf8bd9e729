package transform

// day is a calendar day of the proleptic Gregorian calendar.
type day struct{ year, month, day int }

// parseDay reads "2006-01-02" at the start of b (ISO 8601) and returns what
// follows: nothing, or a time of day after T or a space.
func parseDay(b []byte) (d day, rest []byte, ok bool) {
	if len(b) < 10 || b[4] != '-' || b[7] != '-' {
		return day{}, nil, false
	}
	y, ok1 := digits(b[:4])
	m, ok2 := digits(b[5:7])
	n, ok3 := digits(b[8:10])
	d = day{y, m, n}
	if !ok1 || !ok2 || !ok3 || y == 0 || m < 1 || m > 12 || n < 1 || n > daysIn(y, m) {
		return day{}, nil, false
	}
	rest = b[10:]
	if len(rest) == 0 {
		return d, rest, true
	}
	return d, rest, (rest[0] == 'T' || rest[0] == ' ') && timeOfDay(rest[1:])
}

// timeOfDay reports whether b is hh:mm, hh:mm:ss or hh:mm:ss.fraction, with an
// optional Z or ±hh:mm after it.
func timeOfDay(b []byte) bool {
	part := func(most int) bool {
		if len(b) < 2 {
			return false
		}
		n, ok := digits(b[:2])
		b = b[2:]
		return ok && n <= most
	}
	colon := func() bool {
		if len(b) == 0 || b[0] != ':' {
			return false
		}
		b = b[1:]
		return true
	}
	if !part(23) || !colon() || !part(59) {
		return false
	}
	if colon() {
		if !part(60) { // a leap second
			return false
		}
		if len(b) > 0 && b[0] == '.' {
			n := 1
			for n < len(b) && b[n]-'0' <= 9 {
				n++
			}
			if n == 1 {
				return false
			}
			b = b[n:]
		}
	}
	switch {
	case len(b) == 0:
		return true
	case b[0] == 'Z':
		return len(b) == 1
	case b[0] == '+' || b[0] == '-':
		b = b[1:]
		if !part(23) {
			return false
		}
		if len(b) == 0 {
			return true
		}
		colon() // optional
		return part(59) && len(b) == 0
	}
	return false
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// Days are numbered from March 1 of year 0, so that a leap day ends its year.
// A year of 365 days, a leap day every 4 but not every 100 but every 400 years.
const (
	daysIn4   = 4*365 + 1
	daysIn100 = 25*daysIn4 - 1
	daysIn400 = 4*daysIn100 + 1
)

// daysBefore holds the days between March 1 and the first of each month from March.
var daysBefore = [12]int{0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337}

// number counts days; the difference of two is their distance.
func (d day) number() int {
	y, m := d.year, d.month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	return y*365 + y/4 - y/100 + y/400 + daysBefore[m] + d.day - 1
}

// dayOf is the inverse of number, for numbers that are not negative.
func dayOf(n int) day {
	y := n / daysIn400 * 400
	n %= daysIn400
	c := min(n/daysIn100, 3)
	n -= c * daysIn100
	q := n / daysIn4
	n %= daysIn4
	r := min(n/365, 3)
	n -= r * 365
	y += c*100 + q*4 + r
	m := min(n/30, 11)
	if daysBefore[m] > n {
		m--
	}
	n -= daysBefore[m]
	if m += 3; m > 12 {
		y, m = y+1, m-12
	}
	return day{y, m, n + 1}
}

// appendDay appends "2006-01-02".
func appendDay(dst []byte, d day) []byte {
	dst = appendPadded(dst, d.year, 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, d.month, 2)
	dst = append(dst, '-')
	return appendPadded(dst, d.day, 2)
}

func appendPadded(dst []byte, n, width int) []byte {
	at := len(dst) + width
	for range width {
		dst = append(dst, '0')
	}
	for i := at - 1; n > 0 && i >= at-width; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}
