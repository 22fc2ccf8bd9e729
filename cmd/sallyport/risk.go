package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/risk"
)

// riskMemory bounds the class counts of one measurement.
const riskMemory = 512 << 20

type riskCmd struct {
	File string `arg:"" help:"The table."`

	Quasi        []string `required:"" placeholder:"COLUMN,..." help:"Columns by which a person could be recognized."`
	Sensitive    string   `placeholder:"COLUMN" help:"Also measure how well this column's values are hidden."`
	Threshold    float64  `default:"0.2" help:"Chance above which a record counts as exposed, 0 to 1."`
	Population   string   `placeholder:"N|FILE" help:"The population that the table was drawn from: its size, or a table of it with the same columns."`
	Contribution bool     `help:"Also measure what each column adds to the risk."`
}

func (riskCmd) Help() string {
	return `Counts the records that share their values of the named columns, and says how easily the people among them are recognized. It needs no gateway and no configuration, and changes nothing.

  sallyport risk patients.csv --quasi birth_year,sex,zip
  sallyport risk patients.csv --quasi birth_year,sex,zip --sensitive diagnosis --json
  sallyport risk patients.csv --quasi birth_year,sex,zip --population 83000

The count is exact. It charges 96 bytes for each distinct combination, 512 MiB at most (5.5 million of them); a table with more is refused, not estimated.`
}

// measured is a table's risk; the fields after the report are there where they
// were asked for.
type measured struct {
	risk.Report
	Sensitive    *measuredSensitive  `json:"sensitive,omitempty"`
	Population   *measuredPopulation `json:"population,omitempty"`
	Contribution []risk.Contribution `json:"contribution,omitempty"`
}

type measuredSensitive struct {
	Column string `json:"column"`
	risk.Sensitive
}

type measuredPopulation struct {
	Records int64 `json:"records"`
	// Estimated says that the journalist's and the marketer's figures are
	// estimates from the population's size.
	Estimated bool `json:"estimated"`
	// Missing is the records whose class the population's table does not hold
	// as often as the table does.
	Missing int64 `json:"missing"`
	// Shares of the population that are alone in their class, estimated; null
	// where the data do not allow a model's estimate.
	Unique *float64 `json:"unique_share"`
	Model  string   `json:"model,omitempty"` // whose estimate Unique is
	Pitman *float64 `json:"pitman"`
	Zayatz *float64 `json:"zayatz"`
	SNB    *float64 `json:"snb"`
}

func (c riskCmd) Run(a *app) error {
	m, err := c.measure(a.ctx)
	if err != nil {
		return err
	}
	if m.Population != nil && m.Population.Missing > 0 {
		fmt.Fprintf(a.errs, "warning: %d records are not in the population as often as in the table; their classes were taken to be no larger there.\n", m.Population.Missing)
	}
	if a.json {
		return a.printJSON(m)
	}
	c.show(a.out, m)
	return nil
}

func (c riskCmd) measure(ctx context.Context) (*measured, error) {
	memory, hash := risk.NewMemory(riskMemory), risk.NewHasher()
	t := &riskTable{quasi: c.Quasi, sensitive: c.Sensitive, hash: hash, census: risk.NewCensus(memory, c.Sensitive != "")}
	if c.Contribution && len(c.Quasi) > 1 {
		for range c.Quasi {
			t.without = append(t.without, risk.NewCensus(memory, false))
		}
	}
	if err := t.read(ctx, c.File); err != nil {
		return nil, err
	}
	m := &measured{}
	sizes := t.census.Sizes()
	if c.Population == "" {
		r, err := risk.Measure(sizes, c.Threshold)
		if err != nil {
			return nil, err
		}
		m.Report = r
	} else if err := c.againstPopulation(ctx, m, t, memory); err != nil {
		return nil, err
	}
	if c.Sensitive != "" {
		m.Sensitive = &measuredSensitive{c.Sensitive, t.census.Sensitive()}
	}
	for i, w := range t.without {
		r, err := risk.Measure(w.Sizes(), c.Threshold)
		if err != nil {
			return nil, err
		}
		m.Contribution = append(m.Contribution, risk.Contributes(c.Quasi[i], m.Report, r))
	}
	return m, nil
}

func (c riskCmd) againstPopulation(ctx context.Context, m *measured, t *riskTable, memory *risk.Memory) error {
	sizes := t.census.Sizes()
	p := &measuredPopulation{}
	m.Population = p
	n, err := strconv.ParseInt(c.Population, 10, 64)
	if p.Estimated = err == nil; p.Estimated {
		p.Records = n
		if m.Report, err = risk.MeasureSample(sizes, n, c.Threshold); err != nil {
			return err
		}
	} else {
		people := &riskTable{quasi: c.Quasi, hash: t.hash, census: risk.NewCensus(memory, false)}
		if err := people.read(ctx, c.Population); err != nil {
			return err
		}
		joined, missing := t.census.SizesIn(people.census)
		p.Records, p.Missing = people.census.Records(), missing
		if m.Report, err = risk.Measure(joined, c.Threshold); err != nil {
			return err
		}
	}
	if m.Report.Records == 0 || p.Records < m.Report.Records {
		return nil
	}
	u, err := risk.Unique(sizes, float64(m.Report.Records)/float64(p.Records))
	if err != nil {
		return err
	}
	finite := func(v float64) *float64 {
		if math.IsNaN(v) {
			return nil
		}
		return &v
	}
	p.Unique, p.Pitman, p.Zayatz, p.SNB = finite(u.Chosen), finite(u.Pitman), finite(u.Zayatz), finite(u.SNB)
	if p.Unique != nil {
		p.Model = u.Model
	}
	return nil
}

// riskTable is the Editor that counts a table; nothing of it leaves.
type riskTable struct {
	quasi     []string
	sensitive string
	hash      *risk.Hasher
	census    *risk.Census
	without   []*risk.Census // by quasi-identifier that is left out

	places []int
	value  []int
}

var _ anonymize.Editor = (*riskTable)(nil)

func (t *riskTable) read(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return sallyport.E("risk", sallyport.NotFound, err, "Name a file.")
	}
	defer f.Close()
	format, err := formatOf("risk", f)
	if err != nil {
		return err
	}
	return format.Rewrite(ctx, io.Discard, f, t)
}

// formatOf finds a source's format by its head. A table of one column has no
// delimiter to know it by, so a name that ends in .csv or .tsv is enough.
func formatOf(op string, f *os.File) (anonymize.Format, error) {
	head := make([]byte, 4096)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Name a file that can be read.")
	}
	for _, k := range formats() {
		name := strings.ToLower(f.Name())
		if k.Sniff(head[:n]) || k.Name() == "csv" && (strings.HasSuffix(name, ".csv") || strings.HasSuffix(name, ".tsv")) {
			return k.Format, nil
		}
	}
	return nil, sallyport.Errorf(op, sallyport.Unsupported, "`sallyport kinds` lists the formats.", "%s is not in a format that this binary reads", f.Name())
}

func (t *riskTable) Header(columns []string) ([]string, error) {
	place := func(name string) (int, error) {
		i := slices.Index(columns, name)
		if i < 0 {
			return 0, sallyport.Errorf("risk", sallyport.Invalid, "Its columns are "+strings.Join(columns, ", ")+".", "the table has no column %q", name)
		}
		if slices.Contains(columns[i+1:], name) {
			return 0, sallyport.Errorf("risk", sallyport.Invalid, "Give each column a name of its own.", "the table has two columns %q", name)
		}
		return i, nil
	}
	for i, name := range t.quasi {
		p, err := place(name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(t.quasi[:i], name) || name == t.sensitive {
			return nil, sallyport.Errorf("risk", sallyport.Invalid, "Name each column once.", "column %q is named twice", name)
		}
		t.places = append(t.places, p)
	}
	if t.sensitive != "" {
		p, err := place(t.sensitive)
		if err != nil {
			return nil, err
		}
		t.value = []int{p}
	}
	return columns, nil
}

func (t *riskTable) Record(fields [][]byte) ([][]byte, error) {
	var value risk.Key
	if t.value != nil {
		value = t.hash.Key(fields, t.value, -1)
	}
	ok := t.census.Add(t.hash.Key(fields, t.places, -1), value)
	for i, w := range t.without {
		ok = ok && w.Add(t.hash.Key(fields, t.places, i), risk.Key{})
	}
	if !ok {
		return nil, sallyport.Errorf("risk", sallyport.Exhausted, "Name fewer columns, or measure without --contribution and --sensitive.",
			"the table has more distinct combinations than fit in %d MiB", riskMemory>>20)
	}
	return nil, nil
}

func (c riskCmd) show(w io.Writer, m *measured) {
	percent := func(v float64) string { return strconv.FormatFloat(100*v, 'f', 2, 64) + "%" }
	pairs(w,
		"records", fmt.Sprint(m.Records),
		"classes", fmt.Sprint(m.Classes),
		"smallest class", fmt.Sprint(m.SmallestClass),
		"unique records", percent(m.UniqueShare),
		"counted over", list(c.Quasi))
	fmt.Fprintln(w)
	var rows [][]string
	for _, r := range []struct {
		name string
		a    risk.Attacker
	}{{"prosecutor", m.Prosecutor}, {"journalist", m.Journalist}, {"marketer", m.Marketer}} {
		rows = append(rows, []string{r.name, percent(r.a.Highest), percent(r.a.Average), percent(r.a.ShareAbove)})
	}
	table(w, []string{"attacker", "highest", "average", "records above " + percent(c.Threshold)}, rows)
	if p := m.Population; p != nil {
		estimate := func(v *float64) string {
			if v == nil {
				return "no estimate"
			}
			return percent(*v)
		}
		fmt.Fprintf(w, "\nPopulation of %d. ", p.Records)
		if p.Estimated {
			fmt.Fprint(w, "Its table is not known: journalist and marketer are estimates.")
		}
		fmt.Fprintln(w)
		unique := estimate(p.Unique)
		if p.Unique != nil {
			unique += " by " + p.Model
		}
		pairs(w, "unique in it", unique, "pitman", estimate(p.Pitman), "zayatz", estimate(p.Zayatz), "snb", estimate(p.SNB))
	}
	if s := m.Sensitive; s != nil {
		fmt.Fprintf(w, "\nHow %s is hidden in the classes, at worst\n", s.Column)
		pairs(w, "distinct values", fmt.Sprintf("%d of %d", s.Distinct, s.Values),
			"entropy l", strconv.FormatFloat(s.Entropy, 'f', 2, 64),
			"t-closeness", strconv.FormatFloat(s.Closeness, 'f', 3, 64)+" (equal distances)")
	}
	if len(m.Contribution) > 0 {
		fmt.Fprintln(w)
		rows = nil
		for _, k := range m.Contribution {
			rows = append(rows, []string{k.Column, percent(k.Average), percent(k.Unique), fmt.Sprint(k.Classes)})
		}
		table(w, []string{"what it adds", "average", "unique", "classes"}, rows)
	}
	if m.Population == nil {
		fmt.Fprintln(w, "\nWithout --population the table is taken to be its own: the cautious reading.")
	}
	fmt.Fprintln(w, "A column that could recognize a person and is not named here is not in these figures.")
}
