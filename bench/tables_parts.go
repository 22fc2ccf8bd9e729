package bench

import (
	"context"
	stdcsv "encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/csv"
	"sallyport/anonymize/identify"
	"sallyport/anonymize/model"
	"sallyport/anonymize/planning"
	"sallyport/anonymize/risk"
	"sallyport/anonymize/transform"
)

// census counts records that are nearly all in classes of their own, in memory
// and with most of them spilled.
func (o TableOptions) census(ctx context.Context) ([]Figure, error) {
	var spilled int64
	count := func(memory int64) func() error {
		return func() error {
			c := risk.NewCensus(risk.Options{Memory: risk.NewMemory(memory), Dir: o.Dir})
			defer c.Close()
			classes := uint64(o.Census - o.Census/8)
			batch := make([]risk.Key, 0, 512)
			for i := range o.Census {
				x := mix(uint64(i) % classes)
				if batch = append(batch, risk.KeyOf(x, mix(x+1))); len(batch) == cap(batch) || i == o.Census-1 {
					if err := c.AddBatch(batch, nil); err != nil {
						return err
					}
					batch = batch[:0]
				}
			}
			sizes, err := c.Sizes(ctx)
			if err != nil {
				return err
			}
			var records, found int64
			for _, s := range sizes {
				records += s.Records * s.Classes
				found += s.Classes
			}
			if records != o.Census || found != int64(classes) {
				return sallyport.Errorf("bench", sallyport.Internal, "", "the census counted %d of %d records and %d of %d classes", records, o.Census, found, classes)
			}
			spilled = c.Spilled()
			return nil
		}
	}
	limit := max(1<<20, 4*o.Census)
	at, err := o.rates(ctx, float64(o.Census)/1e6,
		&contender{name: "census in memory", run: count(max(1<<20, 128*o.Census))}, // more than it takes
		&contender{name: "census, spilling", run: count(limit)})
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; %s; %d records, three in four alone in their class and the others in pairs, counted exactly and read out by size", Machine(), Times(o.Runs), o.Census)
	return []Figure{New("census in memory", at[0], "million records/s", note),
		New(fmt.Sprintf("census at a limit of %.1f MiB", float64(limit)/(1<<20)), at[1], "million records/s",
			fmt.Sprintf("%s; %.1f MB spilled in sealed runs", note, float64(spilled)/MB)).Against("the same in memory", at[0])}, nil
}

// adultColumns are those of ARX's copy of the Adult table, in its order.
var adultColumns = []string{"sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation", "salary-class"}

// adultTable reads the Adult table with all columns as quasi-identifiers.
func (o TableOptions) adultTable() (*model.Table, error) {
	read := func(name string) ([][]string, error) {
		f, err := os.Open(filepath.Join(o.Adult, name))
		if err != nil {
			return nil, errNoAdult(err)
		}
		defer f.Close()
		r := stdcsv.NewReader(f)
		r.Comma = ';'
		lines, err := r.ReadAll()
		if err == nil && len(lines) == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, sallyport.E("bench", sallyport.Invalid, err, "Name the folder of ARX's copy of the table with --adult.")
		}
		return lines, nil
	}
	var quasi []*model.Hierarchy
	for _, name := range adultColumns {
		lines, err := read(adultHierarchy(name))
		if err != nil {
			return nil, err
		}
		h, err := model.NewHierarchy(name, lines)
		if err != nil {
			return nil, err
		}
		quasi = append(quasi, h)
	}
	table, err := model.NewTable(quasi, nil)
	if err != nil {
		return nil, err
	}
	lines, err := read("adult.csv")
	if err != nil {
		return nil, err
	}
	for _, line := range lines[1:] {
		if err := table.AddValues(line, nil); err != nil {
			return nil, err
		}
	}
	return table, nil
}

func errNoAdult(err error) error {
	return sallyport.E("bench", sallyport.NotFound, err, "Name the folder of adult.csv and its hierarchies with --adult.")
}

func adultHierarchy(column string) string { return "adult_hierarchy_" + column + ".csv" }

// search looks for k-anonymity in the Adult table: the search alone, and what
// the plan command does, from the file on.
func (o TableOptions) search(ctx context.Context) ([]Figure, error) {
	if o.Adult == "" {
		o.say("left out: the search in the Adult table, as no folder with it was named")
		return nil, nil
	}
	table, err := o.adultTable()
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; %s", Machine(), Times(o.Runs))
	var figures []Figure
	for _, goal := range []struct {
		k     int64
		limit float64
	}{{5, 0.04}, {5, 0}} {
		var s model.Solution
		name := fmt.Sprintf("search in the Adult table, k=%d, limit %g %%", goal.k, 100*goal.limit)
		rate, err := o.rates(ctx, 1, &contender{name: name, run: func() (err error) {
			s, err = model.Search(ctx, table, model.Goal{Criteria: []model.Criterion{model.KAnonymity{K: goal.k}}, Limit: goal.limit, Loss: model.NewEntropyLoss(table, false)})
			return err
		}})
		if err != nil {
			return nil, err
		}
		figures = append(figures,
			New(name, 1000/rate[0], "ms", fmt.Sprintf("%s; %d records, 9 quasi-identifiers, exact, by non-uniform entropy; one core; the table is in memory", note, table.Records())),
			New(name+": checks", float64(s.Checks), fmt.Sprintf("of %d", s.Nodes),
				fmt.Sprintf("the same every time; levels %v, %d records kept back; target: 100 at most", s.Levels, s.Suppressed)))
	}
	var r *planning.Result
	rate, err := o.rates(ctx, 1, &contender{name: "plan of the Adult table", run: func() (err error) {
		r, err = o.planAdult(ctx)
		return err
	}})
	if err != nil {
		return nil, err
	}
	return append(figures, New("plan of the Adult table", 1000/rate[0], "ms",
		fmt.Sprintf("%s; k=5, limit 4 %%; from the file to the plan and its curve, %d checks for the plan itself", note, r.Checks))), nil
}

func (o TableOptions) planAdult(ctx context.Context) (*planning.Result, error) {
	f, err := os.Open(filepath.Join(o.Adult, "adult.csv"))
	if err != nil {
		return nil, errNoAdult(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, failed(err)
	}
	var names []string
	for _, c := range adultColumns {
		names = append(names, adultHierarchy(c))
	}
	return planning.Make(ctx, csv.New(), io.NewSectionReader(f, 0, st.Size()), planning.Options{Target: planning.Target{K: 5, Limit: 0.04}, Quasi: adultColumns,
		Hierarchies: names, Hierarchy: func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(o.Adult, name)) }, Now: time.Now,
		Transforms: []anonymize.Transform{transform.Hierarchy{}, transform.Generalize{}, transform.Prefix{}, transform.Date{}, transform.Drop{}, transform.Pseudonym{}}})
}

// identifiers are regular expressions for what the matcher looks for, as one
// would write them for Go: without check digits, and without a look at the
// words around.
var identifiers = []string{
	`[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`,        // e-mail
	`(?:\+\d{1,3}[ -]?)?(?:\(\d{1,4}\)[ -]?)?\d{2,5}[ /.-]\d{2,4}[ .-]?\d{2,8}`, // phone
	`\b\d{3}-\d{2}-\d{4}\b`,                                                             // SSN
	`\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b`,                             // date
	`\b[A-Z]{2}\d{2} ?(?:[A-Z0-9]{4} ?){2,7}[A-Z0-9]{1,4}\b`,                            // IBAN
	`\b(?:\d{4}[ -]?){3}\d{1,7}\b`,                                                      // card
	`\b\d{1,3}(?:[ .-]?\d{3}){2,3}(?:-?\d{2})?\b`,                                       // national numbers of digits
	`\b[XYZ]?\d{7,8}-?[A-Z]\b`,                                                          // DNI, NIE
	`\b[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]\b`,                                        // codice fiscale
	`\b\d{6}[-+A]\d{3}[0-9A-Z]\b`,                                                       // HETU, personnummer
	`\b(?:\d{1,3}\.){3}\d{1,3}\b`,                                                       // IPv4
	`\b(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}\b|(?:[0-9a-fA-F]{1,4}:)+:[0-9a-fA-F:]+`, // IPv6
	`\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b`,                                       // MAC
	`\b(?:https?|ftp|s3)://[^\s"<>]+|\bwww\.[^\s"<>]+`,                                  // URL
	`-----BEGIN [A-Z ]*PRIVATE KEY-----|AGE-SECRET-KEY-1[A-Z0-9]+|\b(?:AKIA|ASIA)[A-Z2-7]{16}\b|\bgh[pousr]_\w{36}|\bxox[abprs]-[\w-]{20,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+`, // secrets
	`\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|Avenue|Road|Lane|St|Ave|Rd)\b|[A-ZÄÖÜ][a-zäöü]+(?:straße|str\.) \d+`,                                                      // address
	`\b(?:Mr|Mrs|Ms|Dr|Prof|Herr|Frau)\.? [A-Z]\p{L}+`, // name after its title
}

// notes are made-up lines from a ward, size bytes of them, and how many of them
// name somebody's telephone, e-mail address and date.
func notes(size int) (lines [][]byte, naming int) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := 0; size > 0; i++ {
		s := fmt.Sprintf("The patient was seen on day %d after the operation and reported mild pain; blood pressure was %d/%d, heart rate %d, and the wound had healed.",
			i, 100+r.IntN(60), 60+r.IntN(30), 50+r.IntN(60))
		if i%5 == 0 {
			naming++
			s += fmt.Sprintf(" To be reached at 030/%08d or by e-mail, p%d@example.org, since 12.03.20%02d.", r.IntN(1e8), i, i%20)
		}
		lines, size = append(lines, []byte(s)), size-len(s)
	}
	return lines, naming
}

// matcher looks for identifiers in made-up notes of a ward.
func (o TableOptions) matcher(ctx context.Context) ([]Figure, error) {
	lines, naming := notes(min(2*MB, o.Size*MB/16))
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	var each []*regexp.Regexp
	for _, p := range identifiers {
		each = append(each, regexp.MustCompile(p))
	}
	union := regexp.MustCompile(strings.Join(identifiers, "|"))
	var mails int
	var room []identify.Hit
	at, err := o.rates(ctx, float64(size)/MB,
		&contender{name: "matcher", run: func() error {
			mails = 0
			for _, line := range lines {
				room = identify.Matcher{}.Find(room[:0], line)
				for _, h := range room {
					if h.Type == identify.Email {
						mails++
					}
				}
			}
			return nil
		}},
		&contender{name: "regular expressions, one after another", run: func() error {
			for _, line := range lines {
				for _, p := range each {
					p.FindAllIndex(line, -1)
				}
			}
			return nil
		}},
		&contender{name: "regular expressions, one for all", run: func() error {
			for _, line := range lines {
				union.FindAllIndex(line, -1)
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	if mails != naming {
		return nil, sallyport.Errorf("bench", sallyport.Internal, "", "the matcher found %d of %d e-mail addresses", mails, naming)
	}
	f := New("matcher of identifiers", at[0], "MB/s", fmt.Sprintf("%s; %s; one core; %d types with check digits and words around, in %.2g MB of made-up notes, one in five with three identifiers; target: 20 times at least",
		Machine(), Times(o.Runs), identify.Count, float64(size)/MB))
	return []Figure{f.Against(fmt.Sprintf("Go's regexp, %d patterns for the same types, one after another", len(identifiers)), at[1]),
		f.Against("Go's regexp, the patterns as one", at[2])}, nil
}
