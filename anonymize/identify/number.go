package identify

// maxGroups is how many groups of digits one number may have; a longer run is
// a list of numbers.
const maxGroups = 12

// group is a run of digits and the separator before it.
type group struct {
	start, end int
	sep        byte // ' ', '-', '.', '/' or, where brackets stand, '('
}

func (g group) size() int { return g.end - g.start }

// digits is called at a digit after which nothing was looked at.
func (s *scan) digits(i int) int {
	v := s.v
	if c := s.before(i); isAlpha(c) || c == '_' {
		return s.token(i)
	}
	end := i + 1
	for end < len(v) && isDigit(v[end]) {
		end++
	}
	if i == 0 && len(v) == len("2006-01-02") && end == 4 && isoDate(v) {
		return len(v) // the most frequent value with digits; nothing else is written so
	}
	alone := i == 0 || v[i-1] != '+' && (v[i-1] != '(' || end == len(v) || v[end] != ')')
	if alone {
		if end == len(v) {
			if i >= 3 { // a word may stand before
				if end-i <= 5 {
					s.street(i, end)
				} else {
					s.bare(i, end)
				}
			}
			return end
		}
		c := v[end]
		if c == '.' && end+1 < len(v) && isDigit(v[end+1]) { // a decimal number?
			k := end + 2
			for k < len(v) && isDigit(v[k]) {
				k++
			}
			if k == len(v) && (i == 0 || v[i-1] != ' ') {
				return k
			}
		}
		if end-i == 2 && (c == ':' || c == '-') {
			if k := s.mac(i); k > 0 {
				return k
			}
		}
		if isAlpha(c) {
			if i >= 6 && end-i <= 5 && isLower(c) {
				if k := s.street(i, end); k > 0 {
					return k
				}
			}
			return s.token(i)
		}
		if end-i <= 5 && c != '-' && c != '/' {
			if k := s.street(i, end); k > 0 {
				return k
			}
			if k := s.wordedDate(i, end); k > 0 {
				return k
			}
		}
	}
	return s.chain(i, end)
}

// isoDate reports whether ten bytes are written like 2006-01-02.
func isoDate(v []byte) bool {
	return v[4] == '-' && isDigit(v[5]) && isDigit(v[6]) && v[7] == '-' && isDigit(v[8]) && isDigit(v[9])
}

// chain reads the groups of digits from i on and looks at them together, then
// at those that no space parts. end is the end of the first group.
func (s *scan) chain(i, end int) int {
	v := s.v
	var g [maxGroups]group
	g[0] = group{i, end, 0}
	n, j := 1, end
	long := false
	for {
		k, sep := separator(v, j)
		if k == 0 {
			break
		}
		if n == maxGroups {
			long = true
			break
		}
		e := k + 1
		for e < len(v) && isDigit(v[e]) {
			e++
		}
		g[n] = group{k, e, sep}
		n, j = n+1, e
	}
	c := number{s: s, g: g[:n], leftOK: s.opens(i), rightOK: !long && s.closes(j), joined: s.linked == i}
	c.begin = i
	closed := false // the bracket before the first group closes within the number
	for k := 1; k < n; k++ {
		if g[k].sep == '(' {
			closed = v[g[k-1].end] == ')'
			break
		}
	}
	for k := i; k > 0 && i-k < 2 && (v[k-1] == '+' || v[k-1] == '(' && closed); k-- {
		c.begin = k - 1
		c.plus = c.plus || v[k-1] == '+'
	}
	if c.begin < i {
		c.leftOK = s.opens(c.begin)
	}
	s.linked = -1
	if long {
		// Go on where the last part without a space began, if it is not the run's start.
		last := n - 1
		for last > 0 && g[last].sep != ' ' {
			last--
		}
		if last == 0 {
			for j < len(v) && (isDigit(v[j]) || v[j] == '-' || v[j] == '.' || v[j] == '/') {
				j++
			}
			return j
		}
		c.g = g[:last]
		s.linked, j = g[last].start, g[last].start
		c.joined = true // no number has so many groups
		c.rightOK = true
	}
	c.look()
	if !long && j < len(v) && isAlpha(v[j]) {
		// The last group belongs to a word, as in 131052A308T or 00-1a-2b.
		last := g[n-1].start
		if n > 1 && g[n-1].sep == '-' && g[n-2].size() == 6 && s.hetu(g[n-2].start) {
			return max(s.end, s.token(last))
		}
		return max(j, s.token(last))
	}
	if n >= 1 && g[n-1].size() == 8 && j+1 < len(v) && v[j] == '-' && isUpper(v[j+1]) {
		s.dni(g[n-1].start)
	}
	return max(j, s.end)
}

// separator reads what may part two groups of one number at i and returns
// where the next group starts, 0 if none does.
func separator(v []byte, i int) (int, byte) {
	k := i
	var sep byte
	for k < len(v) && k-i < 4 {
		switch c := v[k]; c {
		case ' ':
			if sep == 0 {
				sep = ' '
			} else if v[k-1] == ' ' {
				return 0, 0
			}
		case '-', '.':
			if sep != 0 && sep != '(' {
				return 0, 0
			}
			if sep == 0 {
				sep = c
			}
		case '/':
			if sep == '/' || sep == '-' || sep == '.' {
				return 0, 0
			}
			if sep != '(' {
				sep = '/'
			}
		case '(', ')':
			if sep != 0 && sep != ' ' && sep != '(' {
				return 0, 0
			}
			sep = '('
		default:
			if k == i || !isDigit(c) || (sep == '-' || sep == '.') && k-i > 1 {
				return 0, 0
			}
			return k, sep
		}
		k++
	}
	return 0, 0
}

// opens reports whether a number may begin at i.
func (s *scan) opens(i int) bool {
	if i == 0 {
		return true
	}
	switch c := s.v[i-1]; c {
	case '-', '.', '_', '/', '\\', '+', '%', '@', '~', '^', '*', '&':
		return false
	default:
		return !isAlnum(c)
	}
}

// closes reports whether a number may end at i.
func (s *scan) closes(i int) bool {
	if i == len(s.v) {
		return true
	}
	switch c := s.v[i]; c {
	case '-', '.', '/', ':':
		return i+1 == len(s.v) || !isAlnum(s.v[i+1]) && s.v[i+1] != '_' && s.v[i+1] != c
	case '_', '%', '@', '~', '^', '*', '=', '\\':
		return false
	default:
		return !isAlnum(c)
	}
}

// number is a chain of groups.
type number struct {
	s               *scan
	g               []group
	begin           int // of the + or bracket before the first group
	plus            bool
	leftOK, rightOK bool
	joined          bool // part of a longer list
}

// look looks at the chain's stretches between dates, then at their parts
// without spaces.
func (c *number) look() {
	n := len(c.g)
	start := 0
	for a := 0; a < n; {
		b := a + 1
		for b < n && c.g[b].sep != ' ' && c.g[b].sep != '(' {
			b++
		}
		if c.isDate(a, b) {
			c.stretch(start, a)
			c.part(a, b)
			start = b
		}
		a = b
	}
	c.stretch(start, n)
}

func (c *number) stretch(start, end int) {
	if start == end {
		return
	}
	if !c.joined && c.try(start, end, true) {
		return
	}
	for a := start; a < end; {
		b := a + 1
		for b < end && c.g[b].sep != ' ' && c.g[b].sep != '(' {
			b++
		}
		if a > start || b < end || c.joined {
			c.part(a, b)
		}
		a = b
	}
}

func (c *number) part(a, b int) {
	if a > 0 && c.g[a].sep == '(' || b < len(c.g) && c.g[b].sep == '(' {
		return
	}
	c.try(a, b, false)
}

// try judges groups a to b as one number. whole: nothing else stands in its run.
func (c *number) try(a, b int, whole bool) bool {
	n := len(c.g)
	s, g := c.s, c.g[a:b]
	if len(g) == 1 && g[0].size() < 7 {
		return false
	}
	port := len(g) == 4 && b == n && s.byteAt(g[3].end) == ':' // an address may have one
	if a == 0 && !c.leftOK || b == n && !c.rightOK && !port {
		return false
	}
	begin, plus := g[0].start, false
	if a == 0 {
		begin, plus = c.begin, c.plus
	}
	end := g[len(g)-1].end
	if len(g) == 3 && c.isDate(a, b) {
		if c.leftOK && c.rightOK && begin >= 3 && s.context(begin).has(Date) {
			s.emit(Date, begin, end)
			return true
		}
		return false
	}
	var room [32]byte
	var shape uint64
	seps := separators(0)
	d := room[:0]
	for i, x := range g {
		if x.size() > 15 && len(g) > 1 || len(d)+x.size() > len(room) {
			return false
		}
		shape = shape<<4 | uint64(min(x.size(), 15))
		for _, ch := range s.v[x.start:x.end] {
			d = append(d, ch-'0')
		}
		if i > 0 {
			seps.add(x.sep)
		}
	}
	if len(d) < 4 {
		return false
	}
	if t, ok := shaped(shape, seps, d, plus); ok && !port {
		s.emit(t, begin, end)
		return true
	}
	if len(g) == 4 && seps == dots && !plus && c.ipv4(g) {
		s.emit(IP, begin, end)
		return true
	}
	if b == n && !c.rightOK {
		return false
	}
	if len(g) >= 4 && c.cards(g, seps, d) {
		return true
	}
	if decimal := len(g) == 2 && seps == dots; decimal {
		return false
	}
	if !plus && len(d) >= 7 && begin >= 3 {
		if t, ok := national(d, s.context(begin)); ok {
			s.emit(t, begin, end)
			return true
		}
	}
	if phone(g, shape, seps, d, plus, whole) {
		s.emit(Phone, begin, end)
		return true
	}
	return false
}

// bare looks at a run of digits with nothing but a word before it.
func (s *scan) bare(start, end int) {
	n := end - start
	if n < 7 || n > 19 || !s.opens(start) {
		return
	}
	var room [19]byte
	for i, ch := range s.v[start:end] {
		room[i] = ch - '0'
	}
	if t, ok := national(room[:n], s.context(start)); ok {
		s.emit(t, start, end)
	}
}

// separators is the set of separators between the groups of a number.
type separators uint8

const (
	spaces separators = 1 << iota
	dashes
	dots
	slashes
	brackets
)

func (s *separators) add(c byte) {
	switch c {
	case ' ':
		*s |= spaces
	case '-':
		*s |= dashes
	case '.':
		*s |= dots
	case '/':
		*s |= slashes
	default:
		*s |= brackets
	}
}

// shaped knows the numbers whose groups and separators are their own.
func shaped(shape uint64, seps separators, d []byte, plus bool) (Type, bool) {
	if plus {
		return 0, false
	}
	switch shape {
	case 0x324:
		return SSN, seps == dashes && ssn(d)
	case 0x3332:
		return CPF, seps == dots|dashes && cpf(d)
	case 0x1222332:
		return NIR, seps == spaces && nir(d)
	case 0x4444, 0x465, 0x464, 0x44443:
		return Card, (seps == spaces || seps == dashes) && card(d)
	}
	return 0, false
}

// cards finds a card's number at the start of a run that goes on with its
// expiry and the like.
func (c *number) cards(g []group, seps separators, d []byte) bool {
	if len(g) < 5 || g[4].size() == 4 || seps&dots != 0 {
		return false
	}
	for i, x := range g[:4] {
		if x.size() != 4 || i > 0 && x.sep != g[1].sep {
			return false
		}
	}
	if (g[1].sep != ' ' && g[1].sep != '-') || !card(d[:16]) {
		return false
	}
	c.s.emit(Card, g[0].start, g[3].end)
	return true
}

// national knows the numbers that a word before them must announce.
func national(d []byte, said set) (Type, bool) {
	if said == 0 {
		return 0, false
	}
	n := len(d)
	switch {
	case said.has(Card) && card(d):
		return Card, true
	case n == 9 && said.has(SSN) && ssn(d):
		return SSN, true
	case n == 10 && said.has(NHS) && nhs(d):
		return NHS, true
	case said.has(SteuerID) && steuerID(d):
		return SteuerID, true
	case said.has(NIR) && nir(d):
		return NIR, true
	case said.has(BSN) && bsn(d):
		return BSN, true
	case said.has(Personnummer) && personnummer(d):
		return Personnummer, true
	case said.has(CPR) && n == 10 && monthDay(value(d[2:4]), value(d[:2])): // its check digit is no longer given since 2007
		return CPR, true
	case said.has(CPF) && cpf(d):
		return CPF, true
	case said.has(Aadhaar) && aadhaar(d):
		return Aadhaar, true
	case said.has(SIN) && sin(d):
		return SIN, true
	case said.has(Medicare) && medicare(d):
		return Medicare, true
	case said.has(TFN) && tfn(d):
		return TFN, true
	case said.has(Phone) && n >= 7 && n <= 15 && !same(d):
		return Phone, true
	}
	return 0, false
}

// phone knows the shapes of E.164 and of national plans whose trunk prefix is
// 0, and the North American plan's.
func phone(g []group, shape uint64, seps separators, d []byte, plus, whole bool) bool {
	n := len(d)
	if plus {
		return n >= 8 && n <= 15 && d[0] != 0 && !same(d)
	}
	if !whole && seps&spaces != 0 {
		return false
	}
	area := func(d []byte) bool { return d[0] >= 2 && d[3] >= 2 } // NXX-NXX
	switch shape {
	case 0x334:
		return area(d) && !same(d)
	case 0x1334:
		return d[0] == 1 && area(d[1:])
	}
	if n < 9 || n > 15 || len(g) < 2 {
		return false
	}
	if seps&brackets != 0 {
		return whole && len(g) <= 5
	}
	if d[0] != 0 {
		return false
	}
	if d[1] == 0 { // 00 and a country code
		return seps == spaces && g[0].size() >= 3 && g[0].size() <= 5 && d[2] != 0 && n >= 11 && len(g) >= 3
	}
	if n > 12 || g[0].size() < 2 || g[0].size() > 5 || g[len(g)-1].size() < 2 || g[1].size() > 8 {
		return false
	}
	if seps == dashes {
		switch shape {
		case 0x442, 0x532, 0x541, 0x542: // US National Drug Codes, 21 CFR 207.33, and as billed
			return false
		}
		if len(g) == 2 && n < 10 {
			return false
		}
	}
	return true
}

// isDate reports whether groups a to b are year, month, day or day, month,
// year (or the month before the day), parted alike.
func (c *number) isDate(a, b int) bool {
	if b-a != 3 {
		return false
	}
	x, y, z := c.g[a], c.g[a+1], c.g[a+2]
	if y.sep != z.sep || y.sep == ' ' || y.sep == '(' {
		return false
	}
	v := c.s.v
	num := func(g group) int {
		n := 0
		for _, ch := range v[g.start:g.end] {
			n = n*10 + int(ch-'0')
		}
		return n
	}
	if x.size() == 4 && y.size() <= 2 && z.size() <= 2 {
		return monthDay(num(y), num(z))
	}
	if x.size() > 2 || y.size() > 2 || z.size() != 4 && z.size() != 2 {
		return false
	}
	return monthDay(num(y), num(x)) || monthDay(num(x), num(y))
}

// ipv4 tells addresses from version and section numbers: an address has an
// octet of three digits, or a word before it.
func (c *number) ipv4(g []group) bool {
	s := c.s
	wide := false
	var octet [4]int
	for i, x := range g {
		if x.size() > 3 || x.size() > 1 && s.v[x.start] == '0' {
			return false
		}
		for _, ch := range s.v[x.start:x.end] {
			octet[i] = octet[i]*10 + int(ch-'0')
		}
		if octet[i] > 255 {
			return false
		}
		wide = wide || octet[i] >= 100
	}
	if octet[0] == 0 || octet[0] == 127 || octet[0] == 255 { // this network, loopback, masks
		return false
	}
	return wide || s.context(g[0].start).has(IP)
}
