package identify_test

// previous is what looked for residual identifiers before this package did:
// three types. The benchmarks measure against it.
type previous struct{ email, phone, ssn int64 }

// look examines one value. It looks closer only where an anchor (an @, or
// enough digits) stands.
func (r *previous) look(v []byte) {
	if len(v) < 6 {
		return
	}
	digits := 0
	at := false
	for _, c := range v {
		if c-'0' <= 9 {
			digits++
		}
		at = at || c == '@'
	}
	if at && hasEmail(v) {
		r.email++
	}
	if digits < 8 {
		return
	}
	switch number(v) {
	case looksSSN:
		r.ssn++
	case looksPhone:
		r.phone++
	}
}

// hasEmail reports whether an @ in v stands between a local part and a domain
// that ends in letters.
func hasEmail(v []byte) bool {
	for i := range v {
		if v[i] != '@' || i == 0 || !wordByte(v[i-1]) {
			continue
		}
		labels, letters, n := 0, true, 0
		j := i + 1
		for ; j < len(v); j++ {
			c := v[j]
			if c == '.' && n > 0 {
				labels++
				letters, n = true, 0
				continue
			}
			if !alnum(c) && c != '-' {
				break
			}
			letters = letters && c > '9'
			n++
		}
		if labels >= 1 && (n >= 2 && letters || n == 0 && labels >= 2) {
			return true
		}
	}
	return false
}

func alnum(c byte) bool { return c-'0' <= 9 || (c|0x20)-'a' < 26 }

func wordByte(c byte) bool { return alnum(c) || c == '_' || c == '-' || c == '+' || c == '%' }

type look int

const (
	looksNothing look = iota
	looksPhone
	looksSSN
)

// number looks at each run of digits and phone separators in v.
func number(v []byte) look {
	found := looksNothing
	for i := 0; i < len(v); {
		c := v[i]
		if c != '+' && c != '(' && c-'0' > 9 || i > 0 && (alnum(v[i-1]) || v[i-1] == '.' || v[i-1] == '-') {
			i++
			continue
		}
		l, n := run(v[i:])
		if l > found {
			found = l
		}
		i += max(n, 1)
	}
	return found
}

// run judges the run of digits and separators at the start of v and returns
// its length.
func run(v []byte) (look, int) {
	const most = 8
	var size, head [most]int // digits and leading number of each group
	groups, digits, i := 0, 0, 0
	international := v[0] == '+'
	bracket := false
	dashes := 0
	if international {
		i++
	}
	last := byte(0)
	for ; i < len(v); i++ {
		c := v[i]
		if c-'0' <= 9 {
			if last-'0' > 9 || groups == 0 {
				if groups++; groups > most {
					groups, digits = most, 100 // too many for any number; read on to the run's end
				}
			}
			digits++
			size[groups-1]++
			head[groups-1] = head[groups-1]*10 + int(c-'0')
			if head[groups-1] > 1e6 {
				head[groups-1] = 1e6
			}
			last = c
			continue
		}
		if c != ' ' && c != '-' && c != '.' && c != '/' && c != '(' && c != ')' {
			break
		}
		bracket = bracket || c == '('
		if c == '-' {
			dashes++
		}
		if (last == ' ' || last == '-' || last == '.' || last == '/') && c == last {
			break // two separators alike end a number
		}
		last = c
	}
	if i < len(v) && (alnum(v[i]) && last-'0' <= 9 || v[i] == ':') || groups == 0 {
		return looksNothing, i
	}
	if groups == 3 && size[0] == 3 && size[1] == 2 && size[2] == 4 && dashes == 2 && !international && !bracket {
		// Numbers that the Social Security Administration never gives out.
		if head[0] == 0 || head[0] == 666 || head[0] >= 900 || head[1] == 0 || head[2] == 0 {
			return looksNothing, i
		}
		return looksSSN, i
	}
	if digits > 15 || groups < 2 && !international {
		return looksNothing, i
	}
	if international {
		if digits >= 8 {
			return looksPhone, i
		}
		return looksNothing, i
	}
	if digits < 9 || date(size[:groups], head[:groups]) {
		return looksNothing, i
	}
	nanp := (groups == 3 && size[0] == 3 && size[1] == 3 && size[2] == 4 && head[0] >= 200 && head[1] >= 200) ||
		(groups == 4 && size[0] == 1 && head[0] == 1 && size[1] == 3 && size[2] == 3 && size[3] == 4)
	trunk := size[0] >= 2 && size[0] <= 5 && startsWithZero(v) && size[1] <= 8
	if nanp || trunk || bracket && digits >= 9 && groups >= 2 && groups <= 5 {
		return looksPhone, i
	}
	return looksNothing, i
}

func startsWithZero(v []byte) bool {
	for _, c := range v {
		if c-'0' <= 9 {
			return c == '0'
		}
	}
	return false
}

// date reports whether the first three groups are a date: year, month, day or
// day, month, year.
func date(size, head []int) bool {
	if len(size) < 3 {
		return false
	}
	day := func(n int) bool { return n >= 1 && n <= 31 }
	return size[0] == 4 && size[1] <= 2 && size[2] <= 2 && day(head[1]) && day(head[2]) ||
		size[0] <= 2 && size[1] <= 2 && size[2] == 4 && day(head[0]) && day(head[1])
}
