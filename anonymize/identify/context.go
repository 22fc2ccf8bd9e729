package identify

// set is a set of types.
type set uint32

func (s set) has(t Type) bool { return s>>t&1 == 1 }

const (
	reach    = 48 // bytes before a number in which a word about it may stand
	longWord = 32 // bytes
)

// context returns what the words before start say that a number there is.
func (s *scan) context(start int) set {
	var found set
	var word [longWord]byte
	i := start
	stop := max(0, start-reach)
	for i > stop {
		for i > stop && !isLetter(s.v[i-1]) {
			i--
		}
		end := i
		for i > stop && isLetter(s.v[i-1]) {
			i--
		}
		if n := end - i; n >= 2 && n <= longWord && (i == 0 || !isLetter(s.v[i-1])) {
			for k, c := range s.v[i:end] {
				if isUpper(c) {
					c |= 0x20
				}
				word[k] = c
			}
			found |= announces(word[:n])
		}
	}
	return found
}

// announces returns the types of numbers that word stands before.
func announces(word []byte) set {
	switch string(word) {
	case "tel", "tél", "phone", "telephone", "téléphone", "telefon", "telefonnummer", "telefono", "teléfono", "telefoon", "mobile", "mobil", "handy", "fax", "telefax",
		"móvil", "cellphone", "puhelin", "whatsapp":
		return 1 << Phone
	case "ssn", "social":
		return 1 << SSN
	case "nhs":
		return 1 << NHS
	case "steuer", "steuerid", "steueridentifikationsnummer", "idnr", "tin":
		return 1 << SteuerID
	case "nir", "insee", "sécurité", "sécu", "secu":
		return 1 << NIR
	case "dni", "nif", "nie":
		return 1 << DNI
	case "bsn", "burgerservicenummer", "sofinummer":
		return 1 << BSN
	case "personnummer", "personnr", "samordningsnummer":
		return 1<<Personnummer | 1<<CPR
	case "hetu", "henkilötunnus", "personbeteckning":
		return 1 << HETU
	case "cpr", "cprnr":
		return 1 << CPR
	case "cpf":
		return 1 << CPF
	case "aadhaar", "aadhar", "uidai":
		return 1 << Aadhaar
	case "sin", "nas":
		return 1 << SIN
	case "medicare":
		return 1 << Medicare
	case "tfn", "tax":
		return 1 << TFN
	case "card", "visa", "mastercard", "amex", "credit", "debit", "kreditkarte", "karte", "carte", "tarjeta", "carta", "pan":
		return 1 << Card
	case "birth", "born", "dob", "birthdate", "birthday", "geb", "geboren", "geburtsdatum", "geburtstag", "né", "née", "naissance", "nacido", "nacida", "nacimiento",
		"nato", "nata", "nascita", "geboortedatum", "född", "syntynyt",
		"died", "deceased", "death", "gestorben", "verstorben", "décédé", "décédée", "décès",
		"admitted", "admission", "discharged", "discharge", "aufnahme", "aufgenommen", "entlassung", "entlassen":
		return 1 << Date
	case "ip", "host", "server", "addr":
		return 1 << IP
	case "mac":
		return 1 << MAC
	}
	return 0
}
