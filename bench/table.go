package bench

import (
	"io"

	"sallyport"
	"sallyport/anonymize"
)

// header names the ten columns of the generated table.
const header = "mrn,encounter,age,sex,zip,admitted,visit,diagnosis,hba1c,codes\n"

// rowSize is the length of every row, its line end included. The last column
// fills up what the others leave, so that row n can be made without the rows
// before it, and ReadAt costs no more than Read.
const rowSize = 100

// Table is a generated CSV of a ward's encounters that takes no memory: rows
// are made when they are read. Nobody in it exists. It is deterministic.
type Table struct {
	rows     int64
	patients int64
	few      bool
	off      int64
}

var _ anonymize.Source = (*Table)(nil)

// NewTable returns a table of about size bytes. With few, its raw
// quasi-identifiers fall into at most 2,880 classes; without, nearly every
// record is alone in its class, which is how such tables are.
func NewTable(size int64, few bool) *Table {
	rows := max(1, (size-int64(len(header)))/rowSize)
	return &Table{rows: rows, patients: max(1, rows/4), few: few}
}

// Size returns the exact number of bytes.
func (t *Table) Size() int64 { return int64(len(header)) + t.rows*rowSize }

// Read reads on.
func (t *Table) Read(p []byte) (int, error) {
	n, err := t.ReadAt(p, t.off)
	t.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt may be called concurrently.
func (t *Table) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(header)) {
		n = copy(p, header[off:])
	}
	var buf [rowSize]byte
	for n < len(p) {
		at := off + int64(n) - int64(len(header))
		row := at / rowSize
		if row >= t.rows {
			return n, io.EOF
		}
		skip := at % rowSize
		if skip == 0 && len(p)-n >= rowSize {
			t.row(p[n:n+rowSize:n+rowSize], row)
			n += rowSize
			continue
		}
		t.row(buf[:], row)
		n += copy(p[n:], buf[skip:])
	}
	return n, nil
}

// row writes row n into b, which has room for exactly rowSize bytes.
func (t *Table) row(b []byte, n int64) {
	who, when := draw(mix(uint64(n))), draw(mix(^uint64(n)))
	ages, zips, days := uint64(70), uint64(1000), uint64(28)
	if t.few {
		ages, zips, days = 5, 4, 1
	}
	w := append(b[:0], 'M')
	w = digits(w, mix(uint64(n%t.patients)), 9) // two rows of a patient lie far apart
	w = append(w, ",E"...)
	w = digits(w, uint64(n), 10)
	w = append(w, ',')
	w = digits(w, 20+who.below(ages), 2)
	w = append(w, ',', "FM"[who.below(2)], ',')
	w = digits(w, [...]uint64{10, 20, 80}[who.below(3)], 2)
	w = digits(w, who.below(zips), 3)
	w = append(w, ',')
	w = date(w, 2024+when.below(2), 1+when.below(12), 1+when.below(days))
	w = append(w, ',')
	w = date(w, 2018+when.below(6), 1+when.below(12), 1+when.below(28))
	w = append(w, ',')
	w = append(w, diagnoses[who.below(8)]...)
	w = append(w, ',')
	if v := 40 + who.below(80); v < 100 {
		w = append(digits(w, v/10, 1), '.', '0'+byte(v%10), ',')
	} else {
		w = append(digits(w, v/10, 2), '.', '0'+byte(v%10), ',')
	}
	for codes := draw(mix(uint64(who))); len(w) < rowSize-1; {
		code := diagnoses[codes.below(8)]
		w = append(w, code[:min(len(code), rowSize-1-len(w))]...)
		if len(w) < rowSize-1 {
			w = append(w, ' ')
		}
	}
	b[rowSize-1] = '\n'
}

// draw is a random number from which smaller ones are taken.
type draw uint64

func (d *draw) below(n uint64) uint64 {
	v := uint64(*d) % n
	*d /= draw(n)
	return v
}

func date(w []byte, year, month, day uint64) []byte {
	w = append(digits(w, year, 4), '-')
	w = append(digits(w, month, 2), '-')
	return digits(w, day, 2)
}

// diagnoses are ICD-10 categories.
var diagnoses = [...]string{"I10", "E11", "I25", "J44", "N18", "E78", "I48", "M54"}

// digits appends the last n decimal digits of v.
func digits(w []byte, v uint64, n int) []byte {
	w = append(w, "0000000000"[:n]...)
	for i := len(w) - 1; i >= len(w)-n; i-- {
		w[i] = '0' + byte(v%10)
		v /= 10
	}
	return w
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Dataset is the catalog entry of a Table at location: two direct identifiers
// that become pseudonyms, a date that is shifted, three quasi-identifiers that
// are generalized and one that stays, three columns left as they are.
func Dataset(id string, location sallyport.Ref) sallyport.Dataset {
	mask := func(verb string, args map[string]any) *sallyport.Mask { return &sallyport.Mask{Verb: verb, Args: args} }
	return sallyport.Dataset{
		ID: id, Title: "Generated encounters", Owner: "steward", Location: location, Format: "csv",
		Sensitivity: sallyport.Confidential, Purposes: []string{"research"}, Subject: "mrn",
		Columns: []sallyport.Column{
			{Name: "mrn", Role: sallyport.Direct, Type: "text", Mask: mask("pseudonym", nil)},
			{Name: "encounter", Role: sallyport.Direct, Type: "text", Mask: mask("pseudonym", nil)},
			{Name: "age", Role: sallyport.Quasi, Type: "integer", Mask: mask("generalize", map[string]any{"width": 10})},
			{Name: "sex", Role: sallyport.Quasi, Type: "text"},
			{Name: "zip", Role: sallyport.Quasi, Type: "text", Mask: mask("prefix", map[string]any{"length": 2})},
			{Name: "admitted", Role: sallyport.Quasi, Type: "date", Mask: mask("date", map[string]any{"to": "year"})},
			{Name: "visit", Role: sallyport.Sensitive, Type: "date", Mask: mask("shift_date", map[string]any{"days": 365})},
			{Name: "diagnosis", Role: sallyport.Sensitive, Type: "text"},
			{Name: "hba1c", Role: sallyport.Sensitive, Type: "number"},
			{Name: "codes", Role: sallyport.Sensitive, Type: "text"},
		},
	}
}

// plan is what policy would demand of a Dataset that leaves: every mask of its
// steward.
func plan(d sallyport.Dataset) anonymize.Plan {
	p := anonymize.Plan{Dataset: d.ID, Format: d.Format, Columns: d.Columns, Subject: d.Subject}
	for _, c := range d.Columns {
		o := sallyport.Obligation{Column: c.Name}
		if c.Mask != nil {
			o.Verb, o.Args = c.Mask.Verb, c.Mask.Args
		}
		p.Obligations = append(p.Obligations, o)
	}
	return p
}

// sink takes bytes as a writer to memory does: it copies each, and keeps the
// last. A writer that only counts would flatter whoever writes to it.
type sink struct {
	n    int64
	ring [256 << 10]byte
}

func (s *sink) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := copy(s.ring[s.n%int64(len(s.ring)):], p)
		s.n += int64(n)
		p = p[n:]
	}
	return written, nil
}
