package anonymize

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize/identify"
)

// Profile is what a scan learnt about a file. It holds no value of it, only
// counts, shapes and proposals; column names are the file's.
type Profile struct {
	Format  string          `json:"format"`
	Records int64           `json:"records"`
	Whole   bool            `json:"whole"` // false where the scan stopped at its limit
	Columns []ColumnProfile `json:"columns"`
}

// ColumnProfile describes one column. Shares are of its non-empty values, 0 to 1.
type ColumnProfile struct {
	Name      string  `json:"name"`
	Type      string  `json:"type"` // text, integer, number, date, time, boolean
	Empty     int64   `json:"empty"`
	Distinct  int64   `json:"distinct"`            // distinct non-empty values
	Estimated bool    `json:"estimated,omitempty"` // Distinct and Unique are estimates
	Unique    float64 `json:"unique_share"`        // values that occur once
	MinLength int     `json:"min_length"`          // characters
	MaxLength int     `json:"max_length"`
	// Pattern is the most frequent shape of the values, 9 for a digit, A and a
	// for letters, + for more of the same; PatternShare is how many have it.
	Pattern      string  `json:"pattern,omitempty"`
	PatternShare float64 `json:"pattern_share"`

	Role sallyport.Role `json:"role"` // proposed
	// Identifier is the proposed Safe Harbor category (see
	// sallyport.Column.Identifier); "" where a person has to say.
	Identifier string          `json:"identifier,omitempty"`
	Mask       *sallyport.Mask `json:"mask,omitempty"` // proposed for a de-identified release
	Evidence   []string        `json:"evidence"`       // why, for people
	// Warning is set where nearly every value is unique and yet the column is
	// proposed neither as a direct nor as a quasi-identifier.
	Warning string `json:"warning,omitempty"`
}

const (
	scanMemory   = 64 << 20 // bytes for counting distinct values, over all columns
	distinctSlot = 48       // bytes that one distinct value costs, about
	maxPatterns  = 64       // shapes counted for a column; later ones are not
	maxShape     = 32       // bytes of a shape

	maxCalled       = 10_000 // values of a column that are read after its name
	maxCalledLength = 256    // bytes of such a value: a longer one has words of its own
)

// Scan profiles a file: its records until limit bytes of values were seen, or
// all if limit is 0. Memory is bounded; where a column has more distinct values
// than fit, their number is estimated.
func Scan(ctx context.Context, f Format, src Source, limit int64) (Profile, error) {
	s := &scanner{limit: limit}
	s.lists, _ = f.(Lister)
	err := f.Rewrite(ctx, io.Discard, src, s)
	whole := err == nil
	if err != nil && !errors.Is(err, errEnough) {
		return Profile{}, err
	}
	p := Profile{Format: f.Name(), Records: s.records, Whole: whole, Columns: []ColumnProfile{}}
	for _, c := range s.columns {
		p.Columns = append(p.Columns, c.profile(s.records))
	}
	subject := ""
	for i := range p.Columns {
		if c := &p.Columns[i]; c.Role == sallyport.Direct && c.Mask.Verb == "pseudonym" && subject == "" {
			subject = c.Name
		}
	}
	for i := range p.Columns {
		proposeMask(&p.Columns[i], s.columns[i], subject != "")
	}
	return p, nil
}

// Propose returns a catalog entry to start from: every column with its
// proposed role and mask, the first pseudonymized identifier as subject,
// confidential, and no purpose yet: its steward decides.
func (p Profile) Propose(id, owner string, loc sallyport.Ref) sallyport.Dataset {
	d := sallyport.Dataset{ID: id, Owner: owner, Location: loc, Format: p.Format, Sensitivity: sallyport.Confidential, Purposes: []string{}}
	for _, c := range p.Columns {
		d.Columns = append(d.Columns, sallyport.Column{Name: c.Name, Role: c.Role, Type: c.Type, Mask: c.Mask, Identifier: c.Identifier})
		if d.Subject == "" && c.Role == sallyport.Direct && c.Mask != nil && c.Mask.Verb == "pseudonym" {
			d.Subject = c.Name
		}
	}
	return d
}

var errEnough = errors.New("enough was scanned")

// scanner is the Editor of a scan; nothing leaves.
type scanner struct {
	limit   int64
	lists   Lister // nil: the format has no lists
	columns []*scanned
	records int64
	bytes   int64
}

func (s *scanner) Header(names []string) ([]string, error) {
	room := max(64, min(1<<20, scanMemory/distinctSlot/max(1, len(names))))
	for _, name := range names {
		s.columns = append(s.columns, &scanned{name: name, list: s.lists != nil && s.lists.List(name), called: introduction(name), distinct: newSample(room), patterns: map[string]int64{},
			minLength: math.MaxInt, min: math.Inf(1), max: math.Inf(-1)})
	}
	return names, nil
}

func (s *scanner) Record(fields [][]byte) ([][]byte, error) {
	for i, v := range fields {
		c := s.columns[i]
		if c.list {
			for item := range Items(v) {
				c.add(item)
			}
		}
		if !c.list || len(v) == 0 {
			c.add(v)
		}
		s.bytes += int64(len(v)) + 1
	}
	s.records++
	if s.limit > 0 && s.bytes >= s.limit {
		return nil, errEnough
	}
	return fields, nil
}

// scanned gathers what is learnt about one column.
type scanned struct {
	name      string
	list      bool
	empty, n  int64 // empty and other values
	shapes    [shapeCount]int64
	minLength int
	maxLength int
	spaces    int64 // values of three words or more
	distinct  *sample
	patterns  map[string]int64
	shape     [maxShape]byte
	residual  residual
	called    []byte                // the column's name as words before a value would say it
	calls     [identify.Count]int64 // of the first maxCalled values, those that are identifiers when so called
	room      []identify.Hit
	min, max  float64 // of numbers; only their order of magnitude leaves this struct
}

func (c *scanned) add(v []byte) {
	if len(v) == 0 {
		c.empty++
		return
	}
	c.n++
	length := utf8.RuneCount(v)
	c.minLength, c.maxLength = min(c.minLength, length), max(c.maxLength, length)
	kind, number := shapeOf(v)
	c.shapes[kind]++
	if kind == shapeInteger || kind == shapeNumber {
		c.min, c.max = min(c.min, number), max(c.max, number)
	}
	if words(v) >= 3 {
		c.spaces++
	}
	c.residual.look(v)
	if c.n <= maxCalled {
		c.call(v)
	}
	c.distinct.add(spread(v))
	p := pattern(c.shape[:0], v)
	if n, ok := c.patterns[string(p)]; ok || len(c.patterns) < maxPatterns {
		c.patterns[string(p)] = n + 1
	}
}

// introduction is what is read before a column's values, since a name like
// "NHS no." says what a number below it is.
func introduction(name string) []byte {
	words := strings.Join(parts(name), " ")
	if words == "" {
		return nil
	}
	return []byte(words + ": ")
}

// call looks for what a value is once its column's name is read before it.
func (c *scanned) call(v []byte) {
	if c.called == nil || len(v) > maxCalledLength {
		return
	}
	n := len(c.called)
	c.called = append(c.called, v...)
	c.room = identify.Matcher{}.Find(c.room[:0], c.called)
	c.called = c.called[:n]
	var seen uint32
	for _, h := range c.room {
		if bit := uint32(1) << h.Type; h.End > n && seen&bit == 0 {
			seen |= bit
			c.calls[h.Type]++
		}
	}
}

// calledShare is the share of values that are of a type once the column's name
// is read before them.
func (c *scanned) calledShare(t identify.Type) float64 {
	if c.n == 0 {
		return 0
	}
	return float64(c.calls[t]) / float64(min(c.n, maxCalled))
}

func (c *scanned) share(n int64) float64 {
	if c.n == 0 {
		return 0
	}
	return float64(n) / float64(c.n)
}

// kind is the narrowest type that all values fit.
func (c *scanned) kind() string {
	all := func(shapes ...shape) bool {
		var n int64
		for _, s := range shapes {
			n += c.shapes[s]
		}
		return n == c.n && c.n > 0
	}
	switch {
	case all(shapeBoolean):
		return "boolean"
	case all(shapeInteger):
		return "integer"
	case all(shapeInteger, shapeNumber):
		return "number"
	case all(shapeDate):
		return "date"
	case all(shapeTime), all(shapeTime, shapeDate):
		return "time"
	}
	return "text"
}

func (c *scanned) profile(records int64) ColumnProfile {
	p := ColumnProfile{Name: c.name, Type: c.kind(), Empty: c.empty, MaxLength: c.maxLength, Evidence: []string{}}
	if c.n > 0 {
		p.MinLength = c.minLength
	}
	var unique int64
	p.Distinct, unique, p.Estimated = c.distinct.counts()
	p.Distinct = min(p.Distinct, c.n)
	p.Unique = min(1, c.share(unique))
	var most int64
	for shape, n := range c.patterns {
		if n > most || n == most && shape < p.Pattern {
			p.Pattern, most = shape, n
		}
	}
	p.PatternShare = c.share(most)
	proposeRole(&p, c)
	return p
}
