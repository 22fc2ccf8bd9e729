package main

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/risk"
)

type riskCmd struct {
	File string `arg:"" help:"The table."`

	Quasi        []string `required:"" placeholder:"COLUMN,..." help:"Columns by which a person could be recognized."`
	Sensitive    string   `placeholder:"COLUMN" help:"Also measure how well this column's values are hidden."`
	Threshold    float64  `default:"0.2" help:"Chance above which a record counts as exposed, 0 to 1."`
	Population   string   `placeholder:"N|FILE" help:"The population that the table was drawn from: its size, or a table of it with the same columns."`
	Contribution bool     `help:"Also measure what each column adds to the risk."`
	Memory       byteSize `default:"512MiB" placeholder:"SIZE" help:"Memory to use, about (${default})."`
	Spill        string   `placeholder:"FOLDER" help:"Folder, on a disk, for what does not fit in memory, encrypted; otherwise the system's for temporary files."`
	dialect
}

func (riskCmd) Help() string {
	return `Counts the records that share their values of the named columns, and says how easily the people among them are recognized. It needs no gateway and no configuration, and changes nothing.

  sallyport risk patients.csv --quasi birth_year,sex,zip
  sallyport risk patients.csv --quasi birth_year,sex,zip --sensitive diagnosis --json
  sallyport risk patients.csv --quasi birth_year,sex,zip --population 83000

The count is exact, whatever the table's size: what does not fit in --memory is sorted and spilled to --spill, encrypted with a key that is never written, about 24 bytes for each distinct combination and 40 for each with a sensitive value; with --contribution, as much again for each column.`
}

// byteSize is a number of bytes that is written with a unit: 512MiB.
type byteSize int64

// UnmarshalText reads a whole number and a unit.
func (b *byteSize) UnmarshalText(text []byte) error {
	units := []struct {
		name  string
		bytes int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(string(text), u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
				break
			}
			*b = byteSize(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is no size: write a whole number and a unit, such as 512MiB or 2GiB", text)
}

var _ encoding.TextUnmarshaler = (*byteSize)(nil)

// leastRiskMemory is what the program takes besides what it counts.
const leastRiskMemory = 64 << 20

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
	m, err := c.measure(a.ctx, newRiskProgress(a.errs, time.Now))
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

func (c riskCmd) measure(ctx context.Context, progress *riskProgress) (m *measured, err error) {
	if c.Memory < leastRiskMemory {
		return nil, sallyport.Errorf("risk", sallyport.Invalid, fmt.Sprintf("Allow at least %d MiB.", leastRiskMemory>>20), "%d bytes of memory are too few", c.Memory)
	}
	// Tables that grow leave their old memory to the collector: half is for
	// what is counted, and the collector is told of the rest.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(c.Memory) * 7 / 8))
	dir, err := os.MkdirTemp(c.Spill, "sallyport-risk-*")
	if err != nil {
		return nil, sallyport.E("risk", sallyport.Unavailable, err, "Name a folder that can be written to with --spill.")
	}
	defer func() {
		progress.wipe()
		if e := os.RemoveAll(dir); err == nil && e != nil {
			err = sallyport.E("risk", sallyport.Unavailable, e, "Remove the folder by hand; what is left in it cannot be read.")
		}
	}()
	counts := risk.Options{Memory: risk.NewMemory(int64(c.Memory) / 2), Dir: dir}
	t := &riskTable{dialect: c.dialect, quasi: c.Quasi, sensitive: c.Sensitive, hash: risk.NewHasher(), progress: progress}
	defer func() { err = errors.Join(err, t.close()) }()
	if c.Contribution && len(c.Quasi) > 1 {
		for range c.Quasi {
			t.without = append(t.without, risk.NewCensus(counts))
		}
	}
	of := counts
	of.Sensitive = min(1, len(c.Sensitive))
	t.census = risk.NewCensus(of)
	if err := t.read(ctx, c.File); err != nil {
		return nil, err
	}
	m = &measured{}
	sizes, err := t.census.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	if c.Population == "" {
		r, err := risk.Measure(sizes, c.Threshold)
		if err != nil {
			return nil, err
		}
		m.Report = r
	} else if err := c.againstPopulation(ctx, m, t, counts); err != nil {
		return nil, err
	}
	if c.Sensitive != "" {
		s, err := t.census.Sensitive(ctx)
		if err != nil {
			return nil, err
		}
		m.Sensitive = &measuredSensitive{c.Sensitive, s[0]}
	}
	for i, w := range t.without {
		sizes, err := w.Sizes(ctx)
		if err != nil {
			return nil, err
		}
		r, err := risk.Measure(sizes, c.Threshold)
		if err != nil {
			return nil, err
		}
		m.Contribution = append(m.Contribution, risk.Contributes(c.Quasi[i], m.Report, r))
	}
	return m, nil
}

func (c riskCmd) againstPopulation(ctx context.Context, m *measured, t *riskTable, counts risk.Options) (err error) {
	sizes, err := t.census.Sizes(ctx)
	if err != nil {
		return err
	}
	p := &measuredPopulation{}
	m.Population = p
	n, err := strconv.ParseInt(c.Population, 10, 64)
	if p.Estimated = err == nil; p.Estimated {
		p.Records = n
		if m.Report, err = risk.MeasureSample(sizes, n, c.Threshold); err != nil {
			return err
		}
	} else {
		people := &riskTable{dialect: c.dialect, quasi: c.Quasi, hash: t.hash, census: risk.NewCensus(counts), progress: t.progress}
		defer func() { err = errors.Join(err, people.close()) }()
		if err := people.read(ctx, c.Population); err != nil {
			return err
		}
		joined, missing, err := t.census.SizesIn(ctx, people.census)
		if err != nil {
			return err
		}
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
	dialect   dialect

	places   []int
	value    []int
	progress *riskProgress

	keys, values []risk.Key   // of the records not yet counted
	fewer        [][]risk.Key // the same, by quasi-identifier that is left out
}

// riskBatch is how many records are noted before they are counted.
const riskBatch = 512

var _ anonymize.Editor = (*riskTable)(nil)

func (t *riskTable) read(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return sallyport.E("risk", sallyport.NotFound, err, "Name a file.")
	}
	defer f.Close()
	format, err := t.dialect.of("risk", f)
	if err != nil {
		return err
	}
	src := &countedFile{File: f}
	if info, err := f.Stat(); err == nil {
		src.size = info.Size()
	}
	t.progress.begin(file, src)
	t.fewer = make([][]risk.Key, len(t.without))
	if err := format.Rewrite(ctx, io.Discard, src, t); err != nil {
		return err
	}
	return t.count()
}

func (t *riskTable) close() error {
	var err error
	for _, c := range append(t.without, t.census) {
		err = errors.Join(err, c.Close())
	}
	return err
}

// countedFile knows how far it was read. A format reads it from one goroutine
// at a time.
type countedFile struct {
	*os.File
	size int64
	read atomic.Int64
}

var _ anonymize.Sized = (*countedFile)(nil)

func (f *countedFile) Size() int64 { return f.size }

func (f *countedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.read.Add(int64(n))
	return n, err
}

// dialect is how a file is written, where its first bytes do not tell.
type dialect struct {
	Format string `placeholder:"FORMAT" help:"Its format, with options where it needs them: csv;encoding=windows-1252 (docs/tables.md); found by its first bytes otherwise."`
}

// of returns the declared format, or the one that the file's first bytes show.
func (d dialect) of(op string, f *os.File) (anonymize.Format, error) {
	if d.Format != "" {
		return newRunner().Format(d.Format)
	}
	return formatOf(op, f.Name(), f)
}

// formatOf finds a source's format by its head. A table of one column has no
// delimiter to know it by, so a name that ends in .csv or .tsv is enough.
func formatOf(op, name string, src io.ReaderAt) (anonymize.Format, error) {
	head := make([]byte, anonymize.HeadSize)
	n, err := src.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, sallyport.E(op, sallyport.Unavailable, err, "Name a file that can be read.")
	}
	r := newRunner()
	if f, err := r.Sniff(head[:n]); err == nil {
		return f, nil
	}
	if ext := strings.ToLower(filepath.Ext(name)); ext == ".csv" || ext == ".tsv" {
		return r.Format("csv")
	}
	return nil, sallyport.Errorf(op, sallyport.Unsupported, "`sallyport kinds` lists the formats.", "%s is not in a format that this binary reads", name)
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
	t.keys = append(t.keys, t.hash.Key(fields, t.places, -1))
	if t.value != nil {
		t.values = append(t.values, t.hash.Key(fields, t.value, -1))
	}
	for i := range t.without {
		t.fewer[i] = append(t.fewer[i], t.hash.Key(fields, t.places, i))
	}
	if len(t.keys) < riskBatch {
		return nil, nil
	}
	return nil, t.count()
}

func (t *riskTable) count() error {
	if err := t.census.AddBatch(t.keys, t.values); err != nil {
		return err
	}
	t.keys, t.values = t.keys[:0], t.values[:0]
	for i, w := range t.without {
		if err := w.AddBatch(t.fewer[i], nil); err != nil {
			return err
		}
		t.fewer[i] = t.fewer[i][:0]
	}
	t.progress.at(t.census.Records())
	return nil
}

// riskProgress says on standard error how far a long measurement is: on a
// terminal one line that lives, elsewhere a line now and then.
type riskProgress struct {
	w   io.Writer
	tty bool
	now func() time.Time

	file  string
	src   *countedFile
	next  time.Time // when something is said
	shown bool
}

func newRiskProgress(w io.Writer, now func() time.Time) *riskProgress {
	f, ok := w.(*os.File)
	return &riskProgress{w: w, now: now, tty: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"}
}

// begin says which file is read now.
func (p *riskProgress) begin(file string, src *countedFile) {
	p.file, p.src = file, src
	p.next = p.now().Add(p.pause())
}

// pause is how long nothing is said.
func (p *riskProgress) pause() time.Duration {
	if !p.tty {
		return 30 * time.Second
	}
	return time.Second / 2
}

// at says that so many records are counted.
func (p *riskProgress) at(records int64) {
	now := p.now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(p.pause())
	line := fmt.Sprintf("%s: %d records", p.file, records)
	if read, size := p.src.read.Load(), p.src.size; size > 0 {
		line += fmt.Sprintf(", %.0f of %.0f MB (%d %%)", float64(read)/1e6, float64(size)/1e6, 100*min(read, size)/size)
	}
	if !p.tty {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	p.shown = true
}

// wipe takes the line away.
func (p *riskProgress) wipe() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
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
