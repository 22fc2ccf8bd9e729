package identify

// longToken is the longest identifier of letters and digits without a break.
const longToken = 34

// token is called at a digit within a run of letters and digits. It returns
// the run's end.
func (s *scan) token(i int) int {
	v := s.v
	end := i + 1
	for end < len(v) && isAlnum(v[end]) {
		end++
	}
	start := i
	for start > 0 && i-start <= longToken && isAlnum(v[start-1]) {
		start--
	}
	if i-start > longToken || !s.opens(start) {
		return end
	}
	t := v[start:end]
	if len(t) >= 4 && isUpper(t[0]) && isUpper(t[1]) && isDigit(t[2]) && isDigit(t[3]) {
		if e := s.iban(start); e > 0 {
			return s.emit(IBAN, start, e)
		}
	}
	if !s.closes(end) {
		return end
	}
	switch len(t) {
	case 9:
		if s.dni(start) {
			return s.end
		}
	case 11:
		if isDigit(t[0]) && s.hetu(start) {
			return s.end
		}
	case 15:
		if s.nirCorsica(t, start) {
			return s.end
		}
	case 16:
		if codiceFiscale(t) {
			return s.emit(CodiceFisc, start, end)
		}
	}
	return end
}

// iban reads an IBAN at start, in one piece or in groups of four, and returns
// its end, 0 if there is none.
func (s *scan) iban(start int) int {
	want := ibanLength(s.v[start : start+2])
	if want == 0 {
		return 0
	}
	var room [longToken]byte
	n, i := 0, start
	spaced := s.byteAt(start+4) == ' '
	for n < want {
		if spaced && n > 0 && n%4 == 0 {
			if s.byteAt(i) != ' ' {
				return 0
			}
			i++
		}
		c := s.byteAt(i)
		if !isDigit(c) && !isUpper(c) {
			return 0
		}
		room[n] = c
		n, i = n+1, i+1
	}
	if i < len(s.v) && (isAlnum(s.v[i]) || s.v[i] == '_') || !iban97(room[:n]) {
		return 0
	}
	return i
}

// dni finds eight digits and a letter, or X, Y or Z, seven digits and a letter,
// perhaps with hyphens, after a word that announces them.
func (s *scan) dni(start int) bool {
	n, i := 0, start
	want := 8
	switch c := s.v[start]; c {
	case 'X', 'Y', 'Z':
		n, want = int(c-'X'), 7
		i++
		if s.byteAt(i) == '-' {
			i++
		}
	}
	for range want {
		c := s.byteAt(i)
		if !isDigit(c) {
			return false
		}
		n = n*10 + int(c-'0')
		i++
	}
	if s.byteAt(i) == '-' {
		i++
	}
	if s.byteAt(i) != dniLetter(n) || !s.closes(i+1) || !s.opens(start) || !s.context(start).has(DNI) {
		return false
	}
	s.emit(DNI, start, i+1)
	return true
}

// hetu finds day, month and year, the century's sign, three digits and the
// check character. One that ends in a digit could be any number, so a word must
// announce it.
func (s *scan) hetu(start int) bool {
	if start+11 > len(s.v) || !s.opens(start) || !s.closes(start+11) {
		return false
	}
	t := s.v[start : start+11]
	n := 0
	for i, c := range t[:10] {
		if i == 6 {
			continue
		}
		if !isDigit(c) {
			return false
		}
		n = n*10 + int(c-'0')
	}
	switch t[6] {
	case '+', '-', 'A', 'B', 'C', 'D', 'E', 'F', 'U', 'V', 'W', 'X', 'Y':
	default:
		return false
	}
	day, month, person := n/10_000_000, n/100_000%100, n%1000
	if !monthDay(month, day) || person < 2 || hetuLetter(n) != t[10] || isDigit(t[10]) && !s.context(start).has(HETU) {
		return false
	}
	s.emit(HETU, start, start+11)
	return true
}

// nirCorsica knows a French number of somebody born in the departments 2A and
// 2B, in one piece.
func (s *scan) nirCorsica(t []byte, start int) bool {
	if t[5] != '2' || t[6] != 'A' && t[6] != 'B' {
		return false
	}
	var d [15]byte
	for i, c := range t {
		if i != 6 && !isDigit(c) {
			return false
		}
		d[i] = c - '0'
	}
	d[5], d[6] = 1, 9
	if t[6] == 'B' {
		d[6] = 8
	}
	if !nir(d[:]) {
		return false
	}
	s.emit(NIR, start, start+len(t))
	return true
}
