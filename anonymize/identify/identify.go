// Package identify finds what looks like a direct identifier in the bytes of
// one value: addresses of people and machines, numbers that states, banks and
// insurers give out, dates of a life, names, and secrets.
//
// One pass over the bytes looks for anchors (an @, the start of a number, a
// colon, a few capitals); only there does a small recognizer written by hand
// look around. Nothing is searched twice, so that the time is linear in the
// length of the value.
//
// What is found is a fact on which a release is denied, so precision comes
// first. A check digit alone is no evidence: one random number in ten has a
// right one. A number is reported only if its own shape (groups and their
// separators) or a word before it ("NHS no.", "DOB") says what it is, and its
// check digits, where it has any, agree. A value that is nothing but a date or
// a run of digits is therefore never reported: what it is, its column's role
// has to say.
package identify

// Type is what a hit looks like.
type Type uint8

// The types, in the order of [Types].
const (
	Email Type = iota
	Phone
	SSN          // US social security number
	Date         // of birth, death, admission or discharge, by a word before it
	IBAN         // bank account, ISO 13616
	Card         // payment card, ISO/IEC 7812
	NHS          // United Kingdom, NHS number
	SteuerID     // Germany, tax identification number
	NIR          // France, social security number
	DNI          // Spain, DNI and NIE
	CodiceFisc   // Italy, codice fiscale
	BSN          // Netherlands, burgerservicenummer
	Personnummer // Sweden
	HETU         // Finland, henkilötunnus
	CPR          // Denmark
	CPF          // Brazil
	Aadhaar      // India
	SIN          // Canada, social insurance number
	Medicare     // Australia
	TFN          // Australia, tax file number
	IP           // IPv4 or IPv6
	MAC          // hardware address, EUI-48
	URL
	Secret  // private key, access token
	Address // street and house number
	Name    // of a person, by a title or a label before it

	// Count is how many types there are.
	Count = iota
)

var names = [Count]string{"email", "phone", "ssn", "date", "iban", "card", "nhs", "steuer_id", "nir", "dni", "codice_fiscale", "bsn",
	"personnummer", "hetu", "cpr", "cpf", "aadhaar", "sin", "medicare", "tfn", "ip", "mac", "url", "secret", "address", "name"}

// String returns the word by which policy knows the type.
func (t Type) String() string {
	if int(t) >= len(names) {
		return "unknown"
	}
	return names[t]
}

// Types returns all types.
func Types() []Type {
	all := make([]Type, Count)
	for i := range all {
		all[i] = Type(i)
	}
	return all
}

// Hit says that value[Start:End] looks like an identifier.
type Hit struct {
	Type       Type
	Start, End int
}

// Matcher finds identifiers. It has no state: the zero value is ready, and
// goroutines may share it.
type Matcher struct{}

// Shortest is the length in bytes of the shortest identifier that is found.
const Shortest = 6

// Find appends the hits in value to dst, in order and without overlaps, and
// returns it. It does not allocate unless dst must grow or a token is decoded.
func (Matcher) Find(dst []Hit, value []byte) []Hit {
	if len(value) < Shortest {
		return dst
	}
	s := scan{v: value, hits: dst, linked: -1}
	for i := 0; i < len(value); {
		a := anchors[value[i]]
		if a == none {
			i++
			continue
		}
		switch a {
		case digit:
			i = s.digits(i)
		case at:
			i = s.email(i)
		case colon:
			i = s.colon(i)
		case dash:
			i = s.dash(i)
		case underscore:
			i = s.underscore(i)
		case dot:
			i = s.dot(i)
		case title:
			i = s.title(i)
		case letterA:
			i = s.letterA(i)
		case letterJ:
			i = s.letterJ(i)
		}
	}
	return s.hits
}

// scan is one search.
type scan struct {
	v      []byte
	hits   []Hit
	end    int // of the last hit
	linked int // where a number starts that continues a long run; -1: none
}

// emit notes a hit and returns where to go on.
func (s *scan) emit(t Type, start, end int) int {
	if start >= s.end {
		s.hits = append(s.hits, Hit{t, start, end})
		s.end = end
	}
	return end
}

type anchor uint8

const (
	none anchor = iota
	digit
	at
	colon
	dash
	underscore
	dot
	title   // a capital with which a form of address begins
	letterA // AKIA…, AIza…
	letterJ // eyJ…
)

var anchors = [256]anchor{'0': digit, '1': digit, '2': digit, '3': digit, '4': digit, '5': digit, '6': digit, '7': digit, '8': digit, '9': digit,
	'@': at, ':': colon, '-': dash, '_': underscore, '.': dot, 'A': letterA, 'J': letterJ,
	'M': title, 'D': title, 'P': title, 'H': title, 'F': title, 'S': title}

func isDigit(c byte) bool { return c-'0' <= 9 }
func isUpper(c byte) bool { return c-'A' < 26 }
func isLower(c byte) bool { return c-'a' < 26 }
func isAlpha(c byte) bool { return (c|0x20)-'a' < 26 }
func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }
func isHex(c byte) bool   { return isDigit(c) || (c|0x20)-'a' < 6 }

// isLetter counts the bytes of letters beyond ASCII, too.
func isLetter(c byte) bool { return isAlpha(c) || c >= 0x80 }

// before returns the byte before i, a space at the start.
func (s *scan) before(i int) byte {
	if i <= 0 {
		return ' '
	}
	return s.v[i-1]
}

// byteAt returns the byte at i, a space beyond the end.
func (s *scan) byteAt(i int) byte {
	if i >= len(s.v) {
		return ' '
	}
	return s.v[i]
}

// has reports whether word stands at i.
func (s *scan) has(i int, word string) bool {
	return i >= 0 && i+len(word) <= len(s.v) && string(s.v[i:i+len(word)]) == word
}

// after returns the end of the run of bytes from i that ok accepts, at most
// most of them.
func (s *scan) after(i, most int, ok func(byte) bool) int {
	for n := 0; n < most && i < len(s.v) && ok(s.v[i]); n++ {
		i++
	}
	return i
}
