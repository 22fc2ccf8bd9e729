package anonymize

import (
	"sallyport"
	"sallyport/anonymize/risk"
)

// Threshold is the chance of being recognized above which a record counts for
// the attackers' share_above: one in five, a class of fewer than five (the
// smallest cell that many data custodians release; K. El Emam, Guide to the
// De-Identification of Personal Health Information, 2013, chapter 16).
const Threshold = 0.2

// Report is what the pass did and measured.
type Report struct {
	Plan     sallyport.Digest `json:"plan"`   // of the plan's canonical JSON
	Source   sallyport.Digest `json:"source"` // of the bytes read
	Output   sallyport.Digest `json:"output"` // of the bytes written, before sealing
	BytesIn  int64            `json:"bytes_in"`
	BytesOut int64            `json:"bytes_out"`
	// Before is over the raw values of all quasi-identifiers of the file,
	// leaving or not. After is over the values that leave: those of quasi-
	// identifiers, and of direct identifiers that are no keyed pseudonyms.
	// Both, and Residual and Changed, are over the records that leave only:
	// those that were kept back are in Filtered or Suppressed and nowhere else.
	Before   sallyport.Risk    `json:"before"`
	After    sallyport.Risk    `json:"after"`
	Columns  []string          `json:"columns"`
	Dropped  []string          `json:"dropped"`  // columns that did not leave
	Actions  map[string]string `json:"actions"`  // column that left → verb, "keep" for unchanged
	Residual map[string]int64  `json:"residual"` // likely identifiers seen in what left, by type
	Changed  map[string]int64  `json:"changed"`  // column → values that the transform altered
	Filtered int64             `json:"filtered"` // records that did not leave, by the plan's Rows
	// Suppressed is how many records did not leave by the plan's Suppress.
	Suppressed int64 `json:"suppressed"`
	// Combined is the risk of what left in any of the plan's Earlier releases or
	// leaves now, to someone who has all of them and can tell which records of
	// theirs belong together; nil where the plan names none. The class of a
	// record is what the releases that it is in say of its quasi-identifiers, and
	// which releases they are: a record that is in one and not in another can be
	// told apart by that alone.
	Combined *sallyport.Risk `json:"combined,omitempty"`
	// Undeclared are columns that leave as sensitive or insensitive and yet
	// single people out, so that k promises too much if others can know them.
	Undeclared []Undeclared `json:"undeclared"`
	Attackers  Attackers    `json:"attackers"`
	Sizes      SizePair     `json:"sizes"`
	// Contribution is what each quasi-identifier adds to the risk of what leaves,
	// in file order; empty unless PassEnv asked for it.
	Contribution []risk.Contribution `json:"contribution"`
	Fields       []Field             `json:"fields"` // the file's columns, in file order
}

// Undeclared is a column that singles people out by itself, though it was not
// declared to be an identifier.
type Undeclared struct {
	Column    string  `json:"column"`
	Unique    float64 `json:"unique_share"` // of the records that leave, those whose value no other has
	Estimated bool    `json:"estimated"`    // Unique was drawn from a sample of the values
}

// Attackers is what the prosecutor, the journalist and the marketer can do,
// with [Threshold], to the raw table and to what leaves.
type Attackers struct {
	Before risk.Report `json:"before"`
	After  risk.Report `json:"after"`
}

// SizePair holds the class sizes of the raw table and of what leaves.
type SizePair struct {
	Before []SizeCount `json:"before"`
	After  []SizeCount `json:"after"`
}

// SizeCount is one bar of a histogram: the classes with Least to Most records.
type SizeCount struct {
	Least   int64 `json:"least"`
	Most    int64 `json:"most"` // 0: no upper bound
	Classes int64 `json:"classes"`
	Records int64 `json:"records"`
}

// Field is what became of one column of the file.
type Field struct {
	Column     string         `json:"column"`
	Role       sallyport.Role `json:"role"`
	Identifier string         `json:"identifier,omitempty"` // Safe Harbor category, as the catalog says
	// Verb is what policy demanded: "keep", or a verb; "" where it said nothing.
	Verb   string         `json:"verb"`
	Args   map[string]any `json:"args,omitempty"`
	Leaves bool           `json:"leaves"`
	Values int64          `json:"values"` // values seen in records that left (of lists: items)
	// Changed is how many of them the verb altered; 0 for a column that does
	// not leave.
	Changed int64 `json:"changed"`
	// Distinct is how many different values left, from a sample of them where
	// Estimated. It is counted, and else 0, of columns that leave without being
	// an identifier, quasi-identifier or pseudonym.
	Distinct  int64 `json:"distinct"`
	Estimated bool  `json:"estimated"`
}

// bars are the class sizes of the histogram: from each to the next less one.
var bars = [...]int64{1, 2, 3, 5, 10, 20, 50, 100, 1000}

// histogram gathers class sizes in bars; all bars are there, empty or not.
func histogram(sizes []risk.Size) []SizeCount {
	out := make([]SizeCount, len(bars))
	for i, least := range bars {
		out[i].Least = least
		if i+1 < len(bars) {
			out[i].Most = bars[i+1] - 1
		}
	}
	for _, s := range sizes {
		i := len(bars) - 1
		for s.Records < bars[i] {
			i--
		}
		out[i].Classes += s.Classes
		out[i].Records += s.Classes * s.Records
	}
	return out
}
