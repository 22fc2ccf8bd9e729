// Package report writes down one release for people who must answer for it: an
// ethics board, a data protection officer, an auditor. It says what was done to
// each field and by which rule, how easily people were and are recognized, what
// the release is still good for, and what is not known. It judges nothing that
// door 2 has not judged, and never says that a release is anonymous.
//
// [New] gathers the facts into a [Document]; [JSON] and [HTML] write it. Both
// are deterministic. The digest of the JSON names the report in the audit log,
// and the HTML shows it.
package report

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/risk"
)

// Version is the version of the JSON that this package writes. It is raised
// when a field changes its meaning or goes; a new field does not raise it.
const Version = 1

// Input is what a report is made of.
type Input struct {
	Plan   anonymize.Plan
	Report anonymize.Report
	// Transforms are the verbs of the pass, for their traits and words.
	Transforms []anonymize.Transform
	// Rules says of a column by which rule its treatment was demanded, as policy
	// labels it. Columns without a label get Source.
	Rules map[string]string
	// Source names what decided where no rule is named: the plan file.
	Source string
	// About is what else identifies the release, in this order: job, project.
	About []Fact
	Time  time.Time // of the release; the zero time is left out
}

// Fact is a name and what it stands for.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Document is a release report. Shares and chances are 0 to 1.
type Document struct {
	Version int              `json:"version"`
	Dataset string           `json:"dataset"`
	Time    time.Time        `json:"time,omitzero"`
	About   []Fact           `json:"about"`
	Format  string           `json:"format"`
	Plan    sallyport.Digest `json:"plan"`   // of the plan's canonical JSON
	Source  sallyport.Digest `json:"source"` // of the bytes read
	Output  sallyport.Digest `json:"output"` // of the bytes that leave, before sealing
	Bytes   Bytes            `json:"bytes"`
	Records Records          `json:"records"`

	Fields        []Field                `json:"fields"` // in file order
	RowFilters    []string               `json:"row_filters"`
	Suppression   *anonymize.Suppression `json:"suppression,omitempty"`
	Risk          Risk                   `json:"risk"`
	SafeHarbor    SafeHarbor             `json:"safe_harbor"`
	Residual      []Residual             `json:"residual"` // by type, in alphabetical order
	Undeclared    []anonymize.Undeclared `json:"undeclared"`
	Pseudonyms    Pseudonyms             `json:"pseudonyms"`
	NotMeasured   []string               `json:"not_measured"` // what this report cannot say
	NeedAttention []string               `json:"needs_attention"`
}

// Bytes are sizes before sealing.
type Bytes struct {
	In  int64 `json:"in"`
	Out int64 `json:"out"`
}

// Records says where the records of the source went.
type Records struct {
	Read       int64 `json:"read"`
	Left       int64 `json:"left"`
	Filtered   int64 `json:"filtered"`   // kept back by row filters
	Suppressed int64 `json:"suppressed"` // kept back by the company they are in
}

// Field is what became of one column.
type Field struct {
	anonymize.Field
	Treatment    string   `json:"treatment"`     // in words
	Rule         string   `json:"rule"`          // who demanded it
	ChangedShare *float64 `json:"changed_share"` // of the values that leave; null for a column that does not
	Keyed        bool     `json:"keyed"`
	Reversible   bool     `json:"reversible"`
}

// Risk is how easily people are recognized, before and after. Where a figure
// was not counted exactly, Exact of the risk that holds it is false.
type Risk struct {
	Threshold    float64             `json:"threshold"` // of the attackers' share_above
	Before       sallyport.Risk      `json:"before"`
	After        sallyport.Risk      `json:"after"`
	Attackers    anonymize.Attackers `json:"attackers"`
	Sizes        []Sizes             `json:"sizes"`
	Contribution []risk.Contribution `json:"contribution"`
	// Combined is the risk of this and the earlier releases of the dataset
	// together; null where there is none.
	Combined *sallyport.Risk   `json:"combined"`
	Earlier  []sallyport.JobID `json:"earlier"`
}

// Sizes is one bar of the class sizes, before and after.
type Sizes struct {
	Least  int64 `json:"least"`
	Most   int64 `json:"most"` // 0: no upper bound
	Before Bar   `json:"before"`
	After  Bar   `json:"after"`
}

// Bar is how many classes are of a size, and the records in them.
type Bar struct {
	Classes int64   `json:"classes"`
	Records int64   `json:"records"`
	Share   float64 `json:"share"` // of all records
}

// Residual is likely identifiers that were seen in what leaves.
type Residual struct {
	Type   string `json:"type"`
	Values int64  `json:"values"`
}

// Pseudonyms are the columns that leave as keyed tokens.
type Pseudonyms struct {
	Keyed      []string `json:"keyed"`
	Reversible []string `json:"reversible"` // of them, those that the key undoes
	Note       string   `json:"note"`
}

// New makes the report of a pass that succeeded.
func New(in Input) Document {
	r := in.Report
	d := Document{
		Version: Version, Dataset: in.Plan.Dataset, About: orEmpty(in.About), Format: in.Plan.Format,
		Plan: r.Plan, Source: r.Source, Output: r.Output, Bytes: Bytes{r.BytesIn, r.BytesOut},
		Records: Records{
			Read: r.After.Records + r.Filtered + r.Suppressed,
			Left: r.After.Records, Filtered: r.Filtered, Suppressed: r.Suppressed,
		},
		Fields: []Field{}, RowFilters: []string{}, Suppression: in.Plan.Suppress,
		Risk: Risk{
			Threshold: anonymize.Threshold, Before: r.Before, After: r.After, Attackers: r.Attackers, Sizes: sizes(r),
			Contribution: orEmpty(r.Contribution), Combined: r.Combined, Earlier: []sallyport.JobID{},
		},
		Residual: []Residual{}, Undeclared: orEmpty(r.Undeclared),
	}
	for _, k := range []*sallyport.Risk{&d.Risk.Before, &d.Risk.After} {
		k.Quasi = orEmpty(k.Quasi)
	}
	if c := r.Combined; c != nil {
		k := *c
		k.Quasi = orEmpty(k.Quasi)
		d.Risk.Combined = &k
	}
	if !in.Time.IsZero() {
		d.Time = in.Time.UTC().Truncate(time.Second)
	}
	for _, f := range in.Plan.Rows {
		d.RowFilters = append(d.RowFilters, f.Column) // its values are the dataset's
	}
	for _, e := range in.Plan.Earlier {
		d.Risk.Earlier = append(d.Risk.Earlier, e.Job)
	}
	for _, f := range r.Fields {
		d.Fields = append(d.Fields, field(in, f))
	}
	for _, t := range slices.Sorted(maps.Keys(r.Residual)) {
		if n := r.Residual[t]; n > 0 {
			d.Residual = append(d.Residual, Residual{t, n})
		}
	}
	d.SafeHarbor = safeHarbor(d.Fields)
	d.Pseudonyms = pseudonyms(d.Fields)
	d.NotMeasured = notMeasured(d)
	d.NeedAttention = attention(d)
	return d
}

// orEmpty makes a list that JSON writes as [] and that nobody else holds.
func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

func field(in Input, f anonymize.Field) Field {
	out := Field{Field: f, Rule: in.Source}
	if label := in.Rules[f.Column]; label != "" {
		out.Rule = label
	}
	if out.Rule == "" {
		out.Rule = "plan"
	}
	for _, t := range in.Transforms {
		if t.Name() != f.Verb {
			continue
		}
		if t, ok := t.(interface{ Traits() anonymize.Traits }); ok && f.Leaves {
			out.Keyed, out.Reversible = t.Traits().Keyed, t.Traits().Reversible
		}
	}
	out.Treatment = treatment(f)
	if f.Leaves {
		share := 0.0
		if f.Values > 0 {
			share = float64(f.Changed) / float64(f.Values)
		}
		out.ChangedShare = &share
	}
	return out
}

// treatment says in words what was done to a column.
func treatment(f anonymize.Field) string {
	switch {
	case f.Verb == "" && f.Leaves, f.Verb == "keep":
		return "kept as it is"
	case f.Verb == "":
		return "does not leave: nothing lets it"
	case !f.Leaves:
		return "does not leave: " + f.Verb
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(f.Args)) {
		args = append(args, name+": "+argument(f.Args[name]))
	}
	if args == nil {
		return f.Verb
	}
	return f.Verb + " (" + strings.Join(args, ", ") + ")"
}

func sizes(r anonymize.Report) []Sizes {
	out := []Sizes{}
	bar := func(c anonymize.SizeCount, all int64) Bar {
		b := Bar{Classes: c.Classes, Records: c.Records}
		if all > 0 {
			b.Share = float64(c.Records) / float64(all)
		}
		return b
	}
	at := func(least, most int64) *Sizes {
		for i := range out {
			if out[i].Least == least {
				return &out[i]
			}
		}
		out = append(out, Sizes{Least: least, Most: most})
		return &out[len(out)-1]
	}
	for _, c := range r.Sizes.Before {
		at(c.Least, c.Most).Before = bar(c, r.Before.Records)
	}
	for _, c := range r.Sizes.After {
		at(c.Least, c.Most).After = bar(c, r.After.Records)
	}
	slices.SortFunc(out, func(a, b Sizes) int { return int(min(1, max(-1, a.Least-b.Least))) })
	return out
}
