package identify

// The functions of this file take digits as numbers 0 to 9, not as characters.

// luhn is the check of ISO/IEC 7812-1 annex B.
func luhn(d []byte) bool {
	sum := 0
	for i := range d {
		n := int(d[len(d)-1-i])
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

// weighted returns the sum of digits times weights.
func weighted(d []byte, weights ...int) int {
	sum := 0
	for i, w := range weights {
		sum += int(d[i]) * w
	}
	return sum
}

func value(d []byte) int {
	n := 0
	for _, c := range d {
		n = n*10 + int(c)
	}
	return n
}

// card: the issuer ranges and lengths are those that the networks publish:
// Visa 4, Mastercard 51-55 and 2221-2720, American Express 34 and 37, Discover
// 6011, 644-649 and 65, Diners Club 300-305, 36, 38 and 39, JCB 3528-3589,
// UnionPay 62, Maestro is left out since its range is too wide to tell.
func card(d []byte) bool {
	n := len(d)
	if n < 13 || n > 19 {
		return false
	}
	p2, p3, p4 := value(d[:2]), value(d[:3]), value(d[:4])
	known := false
	switch {
	case d[0] == 4:
		known = n == 13 || n == 16 || n == 19
	case p2 >= 51 && p2 <= 55, p4 >= 2221 && p4 <= 2720, p4 >= 3528 && p4 <= 3589, p4 == 6011, p3 >= 644 && p3 <= 649, p2 == 65:
		known = n == 16
	case p2 == 34, p2 == 37:
		known = n == 15
	case p3 >= 300 && p3 <= 305, p2 == 36, p2 == 38, p2 == 39:
		known = n == 14
	case p2 == 62:
		known = n >= 16
	}
	return known && luhn(d)
}

// same reports whether all digits are equal: a filler, not a number.
func same(d []byte) bool {
	for _, c := range d {
		if c != d[0] {
			return false
		}
	}
	return true
}

// ssn: area, group and serial as the Social Security Administration gives them
// out (20 CFR 422.103; since 2011 at random, but never area 000, 666 or 900 to
// 999, group 00 or serial 0000).
func ssn(d []byte) bool {
	area := value(d[:3])
	return len(d) == 9 && area != 0 && area != 666 && area < 900 && value(d[3:5]) != 0 && value(d[5:]) != 0
}

// nhs: ISB 0149, weights 10 to 2, modulus 11.
func nhs(d []byte) bool {
	r := 11 - weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)%11
	return len(d) == 10 && r != 10 && r%11 == int(d[9]) && !same(d)
}

// steuerID: § 139b AO; ISO 7064 MOD 11,10; of the first ten digits one stands
// there two or three times, the others at most once.
func steuerID(d []byte) bool {
	if len(d) != 11 || d[0] == 0 {
		return false
	}
	var count [10]int
	p := 10
	for _, c := range d[:10] {
		count[c]++
		m := (int(c) + p) % 10
		if m == 0 {
			m = 10
		}
		p = m * 2 % 11
	}
	repeated := 0
	for _, n := range count {
		if n > 3 {
			return false
		}
		if n > 1 {
			repeated++
		}
	}
	return repeated == 1 && (11-p)%10 == int(d[10])
}

// nir: INSEE; sex, year, month, place, order, and 97 minus the rest modulo 97.
// Corsica's 2A and 2B count as 19 and 18 and are given so.
func nir(d []byte) bool {
	if len(d) != 15 || d[0] != 1 && d[0] != 2 {
		return false
	}
	month := value(d[3:5])
	return (month >= 1 && month <= 12 || month >= 20 && month <= 42 || month >= 50) && value(d[5:7]) != 0 && value(d[10:13]) != 0 &&
		97-value(d[:13])%97 == value(d[13:])
}

// dniLetter: Spain, Real Decreto 1553/2005 and the ministry's table, number
// modulo 23.
func dniLetter(n int) byte { return "TRWAGMYFPDXBNJZSQVHLCKE"[n%23] }

// bsn: the "elfproef" of the Dutch logical design of the BSN: weights 9 to 2
// and -1.
func bsn(d []byte) bool {
	return len(d) == 9 && weighted(d, 9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0 && !same(d)
}

// personnummer: Skatteverket SKV 704, ten digits with Luhn; the day is raised
// by 60 in a samordningsnummer.
func personnummer(d []byte) bool {
	if len(d) == 12 {
		d = d[2:]
	}
	if len(d) != 10 {
		return false
	}
	day := value(d[4:6])
	if day > 60 {
		day -= 60
	}
	return monthDay(value(d[2:4]), day) && luhn(d)
}

func monthDay(month, day int) bool { return month >= 1 && month <= 12 && day >= 1 && day <= 31 }

// hetuLetter: Finland, Digital and Population Data Services Agency: the nine
// digits modulo 31.
func hetuLetter(n int) byte { return "0123456789ABCDEFHJKLMNPRSTUVWXY"[n%31] }

// cpf: Receita Federal, two digits modulo 11.
func cpf(d []byte) bool {
	if len(d) != 11 || same(d) {
		return false
	}
	return weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10 == int(d[9]) &&
		weighted(d, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10 == int(d[10])
}

// aadhaar: UIDAI, twelve digits that do not begin with 0 or 1, the last by
// Verhoeff's dihedral check (J. Verhoeff, Error Detecting Decimal Codes, 1969).
func aadhaar(d []byte) bool { return len(d) == 12 && d[0] >= 2 && !same(d) && verhoeff(d) }

func verhoeff(d []byte) bool {
	permute := [10]byte{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}
	c := 0
	for i := range d {
		n := d[len(d)-1-i]
		for range i % 8 {
			n = permute[n]
		}
		c = dihedral(c, int(n))
	}
	return c == 0
}

// dihedral multiplies in the group D5: 0 to 4 are turns, 5 to 9 reflections.
func dihedral(a, b int) int {
	switch {
	case a < 5 && b < 5:
		return (a + b) % 5
	case a < 5:
		return (a+b-5)%5 + 5
	case b < 5:
		return (a-5-b+5)%5 + 5
	default:
		return (a - b + 5) % 5
	}
}

// sin: Canada, nine digits with Luhn; none begins with 0 or 8.
func sin(d []byte) bool { return len(d) == 9 && d[0] != 0 && d[0] != 8 && luhn(d) }

// medicare: Services Australia; eight digits, the first 2 to 6, a check digit
// of weights 1 3 7 9 modulo 10, an issue number, and perhaps the person's place.
func medicare(d []byte) bool {
	return (len(d) == 10 || len(d) == 11) && d[0] >= 2 && d[0] <= 6 && weighted(d, 1, 3, 7, 9, 1, 3, 7, 9)%10 == int(d[8]) && d[9] != 0
}

// tfn: Australian Taxation Office, nine digits, weights modulo 11.
func tfn(d []byte) bool {
	return len(d) == 9 && !same(d) && weighted(d, 1, 4, 3, 7, 5, 8, 6, 9, 10)%11 == 0
}

// codiceFiscale: Ministero delle Finanze, decree of 23 December 1976: letters
// of surname and name, year, month letter, day (women +40), place, check letter.
// The letters with which digits are replaced when two people share a code are
// not known here.
func codiceFiscale(t []byte) bool {
	if len(t) != 16 {
		return false
	}
	for i, c := range t {
		switch {
		case i < 6 || i == 8 || i == 11 || i == 15:
			if !isUpper(c) {
				return false
			}
		case !isDigit(c):
			return false
		}
	}
	day := int(t[9]-'0')*10 + int(t[10]-'0')
	if day > 40 {
		day -= 40
	}
	if day < 1 || day > 31 {
		return false
	}
	switch t[8] {
	case 'A', 'B', 'C', 'D', 'E', 'H', 'L', 'M', 'P', 'R', 'S', 'T':
	default:
		return false
	}
	odd := [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}
	sum := 0
	for i, c := range t[:15] {
		n := int(c - '0') // a digit counts as the letter of its place in the alphabet
		if isUpper(c) {
			n = int(c - 'A')
		}
		if i%2 == 0 {
			n = odd[n]
		}
		sum += n
	}
	return t[15] == byte('A'+sum%26)
}

// ibanLength returns the length of an IBAN of the country, 0 for one that is
// not known: SWIFT's IBAN registry (ISO 13616).
func ibanLength(country []byte) int {
	switch string(country) {
	case "NO":
		return 15
	case "BE":
		return 16
	case "DK", "FI", "FO", "GL", "NL":
		return 18
	case "MK", "SI":
		return 19
	case "AT", "BA", "EE", "KZ", "LT", "LU", "XK":
		return 20
	case "CH", "HR", "LI", "LV":
		return 21
	case "BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS":
		return 22
	case "AE", "GI", "IL":
		return 23
	case "AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG":
		return 24
	case "PT":
		return 25
	case "IS", "TR":
		return 26
	case "FR", "GR", "IT", "MC", "SM":
		return 27
	case "AL", "AZ", "CY", "DO", "GT", "HU", "LB", "PL":
		return 28
	case "BR", "EG", "PS", "QA", "UA":
		return 29
	case "JO", "KW", "MU":
		return 30
	case "MT":
		return 31
	}
	return 0
}

// iban97 checks an IBAN without spaces: ISO 7064 MOD 97-10 over the account,
// then country and check digits; a letter counts as 10 to 35.
func iban97(t []byte) bool {
	r := 0
	for i := range t {
		c := t[(i+4)%len(t)]
		switch {
		case isDigit(c):
			r = (r*10 + int(c-'0')) % 97
		case isUpper(c):
			r = (r*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return r == 1
}
