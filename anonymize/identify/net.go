package identify

// email judges the @ at i: a local part before it, and after it a domain whose
// last label is of letters (RFC 5321, section 4.1.2; quoted local parts and
// address literals are not known).
func (s *scan) email(i int) int {
	v := s.v
	start := i
	for start > 0 && i-start < 64 && localByte(v[start-1]) {
		start--
	}
	for start < i && (v[start] == '.' || v[start] == '-') {
		start++
	}
	if start == i || v[i-1] == '.' {
		return i + 1
	}
	end := s.domain(i + 1)
	if end == 0 {
		return i + 1
	}
	return s.emit(Email, start, end)
}

func localByte(c byte) bool {
	switch c {
	case '.', '_', '-', '+', '%', '\'':
		return true
	}
	return isAlnum(c) || c >= 0x80
}

// domain returns the end of a domain at i of two labels or more, the last of
// two letters or more; 0 if none stands there.
func (s *scan) domain(i int) int {
	v := s.v
	good := 0
	labels := 0
	for start := i; ; {
		end := start
		letters := true
		for end < len(v) && end-start < 64 && (isAlnum(v[end]) || v[end] == '-') {
			letters = letters && isAlpha(v[end])
			end++
		}
		if end == start {
			return good
		}
		labels++
		if labels > 1 && letters && end-start >= 2 {
			good = end
		} else if labels > 1 {
			good = 0
		}
		if end == len(v) || v[end] != '.' || labels > 32 {
			return good
		}
		start = end + 1
	}
}

// colon judges the colon at i: a URL, a hardware or network address, or a
// label before a name.
func (s *scan) colon(i int) int {
	if s.has(i, "://") {
		return s.url(i)
	}
	if i >= 2 {
		if k := s.mac(i - 2); k > 0 {
			return k
		}
	}
	if k := s.ipv6(i); k > 0 {
		return k
	}
	return s.label(i)
}

// url judges "://" at i.
func (s *scan) url(i int) int {
	start := i
	for start > 0 && i-start < 12 && (isAlnum(s.v[start-1]) || s.v[start-1] == '+') {
		start--
	}
	switch string(s.v[start:i]) {
	case "http", "https", "HTTP", "HTTPS", "Http", "Https", "ftp", "ftps", "sftp", "ssh", "s3", "gs", "smb", "ws", "wss", "ldap", "ldaps", "imap", "git", "svn",
		"rsync", "nfs", "postgres", "postgresql", "mysql", "mongodb", "redis", "amqp", "jdbc", "git+ssh", "webdav", "davs", "rtsp", "sip":
	default:
		return i + 3
	}
	host := i + 3
	end := s.after(host, len(s.v), urlByte)
	name := s.after(host, 255, func(c byte) bool { return isAlnum(c) || c == '-' || c == '.' || c == '_' })
	if end-host < 3 || vocabulary(s.v[host:name]) && s.byteAt(name) != '@' {
		return max(end, i+3)
	}
	return s.emit(URL, start, s.trim(host, end))
}

// trim returns end without the punctuation of the sentence around a URL.
func (s *scan) trim(from, end int) int {
	for end > from {
		switch s.v[end-1] {
		case '.', ',', ';', ':', ')', ']', '!', '?', '\'':
			end--
		default:
			return end
		}
	}
	return end
}

func urlByte(c byte) bool {
	return c > ' ' && c != '"' && c != '<' && c != '>' && c != '`' && c != '{' && c != '}' && c != '|' && c != '\\' && c != 0x7f
}

// vocabulary reports whether a host names terminologies and schemas, whose
// URLs are codes and identify nobody.
func vocabulary(host []byte) bool {
	for len(host) > 0 {
		switch string(host) {
		case "loinc.org", "snomed.info", "hl7.org", "unitsofmeasure.org", "w3.org", "schema.org", "who.int", "nlm.nih.gov", "ncbi.nlm.nih.gov", "purl.obolibrary.org",
			"purl.org", "dicom.nema.org", "ihe.net", "fhir.org", "json-schema.org", "ga4gh.org", "doi.org", "bioregistry.io", "identifiers.org", "orpha.net",
			"ebi.ac.uk", "ohdsi.org", "bfarm.de", "dimdi.de", "gematik.de", "medizininformatik-initiative.de", "xmlns.com", "iana.org", "ietf.org", "iso.org":
			return true
		}
		dot := 0
		for dot < len(host) && host[dot] != '.' {
			dot++
		}
		host = host[min(dot+1, len(host)):]
	}
	return false
}

// dot judges the dot at i: after www a host stands.
func (s *scan) dot(i int) int {
	if i < 3 || s.v[i-1] != 'w' || !s.has(i-3, "www") || !s.opens(i-3) {
		return i + 1
	}
	host := s.domain(i + 1)
	if host == 0 || vocabulary(s.v[i+1:host]) {
		return i + 1
	}
	return s.emit(URL, i-3, s.trim(host, s.after(host, len(s.v), urlByte)))
}

// mac finds six pairs of hexadecimal digits at i, parted by colons or hyphens
// (IEEE 802, EUI-48). One of decimal digits only needs a word before it.
func (s *scan) mac(i int) int {
	const size = 17
	if i < 0 || i+size > len(s.v) || !s.opens(i) || s.before(i) == ':' {
		return 0
	}
	v := s.v[i : i+size]
	letter := false
	for k := 0; k < size; k++ {
		switch {
		case k%3 == 2:
			if v[k] != ':' && v[k] != '-' || v[k] != v[2] {
				return 0
			}
		case !isHex(v[k]):
			return 0
		default:
			letter = letter || !isDigit(v[k])
		}
	}
	if i+size < len(s.v) {
		if c := s.v[i+size]; isAlnum(c) || c == '_' || (c == ':' || c == '-') && i+size+1 < len(s.v) && isAlnum(s.v[i+size+1]) {
			return 0
		}
	}
	if !letter && !s.context(i).has(MAC) {
		return 0
	}
	return s.emit(MAC, i, i+size)
}

// ipv6 judges the first colon of an address (RFC 4291, section 2.2): eight
// groups, or fewer around one "::". So that "a::b" in a program's text and
// times are not taken for one, a group must have three digits or more and one
// of them be decimal.
func (s *scan) ipv6(i int) int {
	v := s.v
	start := i
	for start > 0 && i-start < 5 && isHex(v[start-1]) {
		start--
	}
	if i-start > 4 || start == i || !s.opens(start) || s.before(start) == ':' {
		return 0
	}
	groups, gaps, wide := 0, 0, false
	end := start
	for end < len(v) && groups < 9 {
		e := s.after(end, 5, isHex)
		n := e - end
		if n > 4 {
			return 0
		}
		if n == 0 {
			break
		}
		decimal := false
		for _, c := range v[end:e] {
			decimal = decimal || isDigit(c)
		}
		wide = wide || n >= 3 && decimal
		groups++
		end = e
		if !s.has(end, ":") {
			break
		}
		if s.has(end, "::") {
			gaps++
			end += 2
			continue
		}
		if end+1 >= len(v) || !isHex(v[end+1]) {
			break // a colon after the address
		}
		end++
	}
	if !wide || gaps > 1 || gaps == 0 && groups != 8 || gaps == 1 && groups > 7 || end < len(v) && (isAlnum(v[end]) || v[end] == '_' || v[end] == ':' && gaps == 0) {
		return 0
	}
	return s.emit(IP, start, end)
}
