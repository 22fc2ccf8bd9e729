package identify

// capital reports whether a capital letter stands at i: of ASCII, or of Latin-1
// (UTF-8 0xC3 0x80 to 0x9E).
func (s *scan) capital(i int) bool {
	c := s.byteAt(i)
	return isUpper(c) || c == 0xc3 && s.byteAt(i+1) >= 0x80 && s.byteAt(i+1) <= 0x9e
}

// properWord returns the end of a word at i that begins with a capital and has
// small letters after it, 0 if there is none. O'Brien and McDonald are such,
// too; abbreviations and codes are not.
func (s *scan) properWord(i int) int {
	if !s.capital(i) {
		return 0
	}
	end, small := i+1, 0
	for end < len(s.v) && end-i < 40 {
		c := s.v[end]
		switch {
		case isLower(c), c >= 0x80:
			small++
		case isUpper(c), (c == '\'' || c == '-') && end+1 < len(s.v) && isAlpha(s.v[end+1]):
		default:
			if small == 0 || isDigit(c) || c == '_' {
				return 0
			}
			return end
		}
		end++
	}
	if small == 0 {
		return 0
	}
	return end
}

// title judges the capital at i: a form of address before a proper word is a
// person's name. "Ms" and "Mr" are read only so written: MS and MR are methods.
func (s *scan) title(i int) int {
	if i+Shortest > len(s.v) || !maybeForm(s.v[i], s.v[i+1], s.v[i+2]) {
		return i + 1
	}
	if c := s.before(i); isAlnum(c) || c >= 0x80 || c == '_' || c == '-' {
		return i + 1
	}
	at := s.form(i)
	if at == 0 {
		return i + 1
	}
	for next := s.form(at); next > 0; next = s.form(at) {
		at = next
	}
	if s.has(at, "med. ") { // Dr. med.
		at += len("med. ")
	}
	end := s.properWord(at)
	if end == 0 || office(s.v[at:end]) {
		return max(at, i+1)
	}
	for range 2 { // further names
		next := 0
		if s.byteAt(end) == ' ' {
			next = s.properWord(end + 1)
		}
		if next == 0 || office(s.v[end+1:next]) {
			break
		}
		end = next
	}
	return s.emit(Name, i, end)
}

// maybeForm tells quickly that no form of address begins with three bytes.
func maybeForm(a, b, c byte) bool {
	switch a {
	case 'M':
		return b == 'r' || b == 's' || b == 'm' || b == 'l' || b == 'o' && c == 'n' || b == 'a' && c == 'd'
	case 'D':
		return b == 'r'
	case 'P':
		return b == 'r' && c == 'o'
	case 'H':
		return b == 'e' && c == 'r'
	case 'F':
		return b == 'r' && c == 'a'
	default: // S
		return b == 'r' || b == 'i' && c == 'g' || b == 'e' && c == 0xc3
	}
}

// form reads a form of address and the space after it and returns what follows,
// 0 if there is none.
func (s *scan) form(i int) int {
	end := s.after(i, 12, isLetter)
	switch string(s.v[i:end]) {
	case "Mr", "Mrs", "Ms", "Dr", "Prof", "Herr", "Herrn", "Frau", "Mme", "Mlle", "Monsieur", "Madame", "Sra", "Dra", "Señor", "Señora", "Signor", "Signora", "Professor":
	default:
		return 0
	}
	if s.byteAt(end) == '.' {
		end++
	}
	if end >= len(s.v) || s.v[end] != ' ' {
		return 0
	}
	return end + 1
}

// office reports whether a word after a title is no name.
func office(word []byte) bool {
	switch string(word) {
	case "Who", "Office", "Ward", "Clinic", "Hospital", "Chair", "Visit", "Name", "Names", "Note", "Notes", "Report", "Referral", "Score", "Rate", "Level", "Appointment",
		"Emeritus", "Doktor", "Professor", "Specialty", "The", "And", "Or", "No", "Not", "Yes", "None", "Unknown", "On", "In", "Of", "At":
		return true
	}
	return false
}

// label judges the colon at i: after "Patient:" or "name:" a known given name
// stands, alone or beside another proper word. Quotes as in JSON do not matter.
func (s *scan) label(i int) int {
	end := i
	for end > 0 && i-end < 2 && (s.v[end-1] == ' ' || s.v[end-1] == '"' || s.v[end-1] == '\'') {
		end--
	}
	start := end
	for start > 0 && end-start < 20 && isLetter(s.v[start-1]) {
		start--
	}
	var room [20]byte
	n := copy(room[:], s.v[start:end])
	if n == 0 || n == 20 {
		return i + 1
	}
	for k := range room[:n] {
		if isUpper(room[k]) {
			room[k] |= 0x20
		}
	}
	switch string(room[:n]) {
	case "name", "names", "patient", "patientin", "surname", "firstname", "lastname", "fullname", "forename", "vorname", "nachname", "nom", "prénom", "nombre", "apellido", "nome",
		"cognome", "paciente", "paziente", "mother", "father", "spouse", "wife", "husband", "mutter", "vater", "proband", "physician", "doctor", "surgeon", "nurse", "contact", "given", "family":
	default:
		return i + 1
	}
	at := i + 1
	for at < len(s.v) && at-i < 4 && (s.v[at] == ' ' || s.v[at] == '"' || s.v[at] == '\'' || s.v[at] == '[') {
		at++
	}
	first := s.properWord(at)
	if first == 0 {
		return i + 1
	}
	next := first
	if s.byteAt(next) == ',' {
		next++
	}
	second := 0
	if s.byteAt(next) == ' ' {
		second = s.properWord(next + 1)
	}
	switch {
	case given(s.v[at:first]):
		return s.emit(Name, at, max(first, second))
	case second > 0 && given(s.v[next+1:second]):
		return s.emit(Name, at, second)
	}
	return i + 1
}

// given knows some given names that are common in North America and Europe. The
// list was made for this package; it leaves out names that are words or places
// as often (Grace, Will, Mark, Virginia, Jordan).
func given(word []byte) bool {
	switch string(word) {
	case "James", "John", "Robert", "Michael", "William", "David", "Richard", "Joseph", "Thomas", "Charles", "Daniel", "Matthew", "Anthony", "Steven", "Paul", "Andrew", "Joshua",
		"Kenneth", "Kevin", "Brian", "George", "Timothy", "Edward", "Jason", "Jeffrey", "Ryan", "Jacob", "Nicholas", "Eric", "Jonathan", "Stephen", "Larry", "Justin", "Scott",
		"Brandon", "Benjamin", "Samuel", "Gregory", "Alexander", "Patrick", "Peter", "Oliver", "Harry", "Liam", "Noah", "Ethan", "Simon", "Martin", "Philip",
		"Mary", "Patricia", "Jennifer", "Linda", "Elizabeth", "Barbara", "Susan", "Jessica", "Sarah", "Karen", "Lisa", "Nancy", "Sandra", "Ashley", "Emily", "Kimberly", "Margaret",
		"Donna", "Michelle", "Carol", "Amanda", "Melissa", "Deborah", "Stephanie", "Rebecca", "Laura", "Helen", "Amy", "Anna", "Emma", "Olivia", "Sophia", "Rachel", "Catherine", "Julia",
		"Christine", "Maria", "Diane", "Alice", "Julie", "Heather", "Hannah", "Charlotte", "Jane", "Ann", "Anne",
		"Hans", "Klaus", "Jürgen", "Wolfgang", "Stefan", "Andreas", "Matthias", "Uwe", "Bernd", "Günter", "Günther", "Heinz", "Helmut", "Werner", "Dieter", "Horst", "Karl", "Jan",
		"Lukas", "Jonas", "Felix", "Sebastian", "Tobias", "Florian", "Ursula", "Monika", "Petra", "Sabine", "Renate", "Helga", "Karin", "Brigitte", "Ingrid", "Erika", "Andrea", "Claudia",
		"Susanne", "Gabriele", "Heike", "Katharina", "Johanna", "Lena", "Sophie", "Marie",
		"Jean", "Pierre", "Michel", "Philippe", "Alain", "Nicolas", "Christophe", "François", "Laurent", "Luc", "Isabelle", "Nathalie", "Sylvie", "Françoise", "Monique", "Camille", "Céline",
		"Jose", "José", "Juan", "Carlos", "Luis", "Miguel", "Antonio", "Francisco", "Manuel", "Javier", "Pedro", "Carmen", "Ana", "Isabel", "Pilar", "Lucia", "Lucía", "Cristina",
		"Giuseppe", "Giovanni", "Marco", "Luca", "Francesco", "Alessandro", "Paolo", "Roberto", "Giulia", "Chiara", "Francesca", "Paola", "Elena", "Sara", "Valentina",
		"Lars", "Erik", "Anders", "Johan", "Kristina", "Pieter", "Willem", "Piotr", "Tomasz", "Agnieszka", "Katarzyna", "Mohammed", "Muhammad", "Ahmed", "Fatima", "Ali", "Omar":
		return true
	}
	return false
}

// street judges a number of at most five digits from i to end: before it a
// German, Dutch or Swedish street's name, or after it an English, French or
// Spanish one. It returns the address's end, 0 if there is none.
func (s *scan) street(i, end int) int {
	if i >= 6 && s.v[i-1] == ' ' {
		switch s.v[i-2] {
		case 'e', '.', 't', 'n', 'g':
			if start := s.streetBefore(i - 1); start >= 0 {
				if isLower(s.byteAt(end)) && !isAlnum(s.byteAt(end+1)) {
					end++
				}
				if !isAlnum(s.byteAt(end)) {
					return s.emit(Address, start, end)
				}
			}
		}
	}
	if end+5 < len(s.v) && (s.v[end] == ' ' || s.v[end] == ',') && s.opens(i) {
		at := end + 1
		if s.v[end] == ',' {
			if s.v[at] != ' ' {
				return 0
			}
			at++
		}
		if k := s.streetAfter(at); k > 0 {
			return s.emit(Address, i, k)
		}
	}
	return 0
}

// streetBefore returns where the street's name that ends at end starts, -1 if
// there is none.
func (s *scan) streetBefore(end int) int {
	start := end
	for start > 0 && end-start < 40 && (isLetter(s.v[start-1]) || s.v[start-1] == '-' || s.v[start-1] == '.' && start == end) {
		start--
	}
	for start < end && s.v[start] == '-' {
		start++
	}
	word := s.v[start:end]
	for _, ending := range [...]string{"straße", "strasse", "str.", "gasse", "allee", "straat", "gatan", "vägen", "weg"} {
		n := len(word) - len(ending)
		if n < 0 || string(word[n:]) != ending {
			continue
		}
		if n >= 3 && s.capital(start) && ending != "weg" || n >= 4 && s.capital(start) && (string(word[n-1:n]) == "r" || string(word[n-1:n]) == "n") {
			return start
		}
	}
	// Two words: Berliner Straße, Lange Gasse.
	switch string(word) {
	case "Straße", "Strasse", "Str.", "Gasse", "Allee":
		if start > 4 && s.v[start-1] == ' ' {
			first := start - 1
			for first > 0 && start-first < 40 && isLetter(s.v[first-1]) {
				first--
			}
			if s.properWord(first) == start-1 {
				return first
			}
		}
	}
	return -1
}

// streetAfter returns the end of a street's name at i, 0 if there is none.
func (s *scan) streetAfter(i int) int {
	word := s.after(i, 12, isLetter)
	switch string(s.v[i:word]) {
	case "rue", "avenue", "boulevard", "chemin", "impasse", "allée": // 12 rue de la Paix
		for range 5 {
			if s.byteAt(word) != ' ' {
				return 0
			}
			if end := s.properWord(word + 1); end > 0 {
				return end
			}
			next := s.after(word+1, 4, isLetter)
			if next == word+1 {
				return 0
			}
			word = next
		}
		return 0
	}
	if !s.capital(i) {
		return 0
	}
	at := i
	for n := range 4 { // 221 Old Baker Street
		end := s.properWord(at)
		if end == 0 {
			return 0
		}
		if n > 0 {
			switch string(s.v[at:end]) {
			case "Street", "Avenue", "Road", "Lane", "Drive", "Boulevard", "Terrace", "Crescent", "Parkway", "Highway", "St", "Ave", "Rd", "Blvd", "Ln", "Dr":
				return end
			}
		}
		if s.byteAt(end) != ' ' {
			return 0
		}
		at = end + 1
	}
	return 0
}

// wordedDate judges a number of one or two digits from i to end that may be the
// day in "12 March 1984", "4. Mai 1984" or "March 12, 1984", after a word that
// says which day that was. It returns the date's end, 0 if there is none.
func (s *scan) wordedDate(i, end int) int {
	if end-i > 2 || !s.opens(i) {
		return 0
	}
	at := end
	if c := s.byteAt(at); c == '.' || c == ',' {
		at++
	}
	if s.byteAt(at) != ' ' {
		return 0
	}
	at++
	start := i
	if isDigit(s.byteAt(at)) { // the month stands before
		if i < 4 || s.v[i-1] != ' ' {
			return 0
		}
		start = i - 1
		for start > 0 && i-start < 12 && isLetter(s.v[start-1]) {
			start--
		}
		if !month(s.v[start : i-1]) {
			return 0
		}
	} else {
		word := s.after(at, 12, isLetter)
		if word == at || !month(s.v[at:word]) {
			return 0
		}
		at = word
		if s.byteAt(at) == '.' {
			at++
		}
		if s.byteAt(at) != ' ' {
			return 0
		}
		at++
	}
	year := s.after(at, 5, isDigit)
	if year-at != 4 || !s.closes(year) || !s.context(start).has(Date) {
		return 0
	}
	return s.emit(Date, start, year)
}

func month(word []byte) bool {
	switch string(word) {
	case "Jan", "January", "Januar", "janvier", "enero", "gennaio", "Feb", "February", "Februar", "février", "febrero", "febbraio", "Mar", "March", "März", "mars", "marzo",
		"Apr", "April", "avril", "abril", "aprile", "May", "Mai", "mai", "mayo", "maggio", "Jun", "June", "Juni", "juin", "junio", "giugno", "Jul", "July", "Juli", "juillet",
		"julio", "luglio", "Aug", "August", "août", "agosto", "Sep", "Sept", "September", "septembre", "septiembre", "settembre", "Oct", "October", "Okt", "Oktober",
		"octobre", "octubre", "ottobre", "Nov", "November", "novembre", "noviembre", "Dec", "December", "Dez", "Dezember", "décembre", "diciembre", "dicembre":
		return true
	}
	return false
}
