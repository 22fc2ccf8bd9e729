package planning

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/model"
)

// Step is one rung of a column's ladder: a treatment that hides all that the
// rung below hides, and more.
type Step struct {
	Verb string         `json:"verb"` // "" keeps the values
	Args map[string]any `json:"args,omitempty"`
	Text string         `json:"text"` // for people
}

var (
	asItIs  = Step{Text: "as it is"}
	dropped = Step{Verb: "drop", Text: "dropped"}
)

// Names of hierarchy files that mean something to the Safe Harbor: the site's
// table of three-digit ZIP codes, and the ages in bands that are written with a
// plan.
const (
	zip3File = "zip3.csv"
	ageFile  = "age90.csv"
)

// most is how many distinct values of a column may be unreadable, as a share,
// before it is no column of numbers or dates; those become *.
const mostUnreadable = 0.05

// ladder is what could become of one column, and why just that.
type ladder struct {
	steps     []Step
	why       string
	hierarchy *model.Hierarchy
	base      []int32 // number of a raw value → of its value on the lowest rung
}

// smith makes ladders.
type smith struct {
	transforms []anonymize.Transform
	files      []string // names of the hierarchy files
	open       func(string) (io.ReadCloser, error)
	harbor     bool
	now        time.Time
	generated  map[string][]byte // hierarchy files that were made for the plan
}

// verb finds a verb; nil if this binary lacks it.
func (s *smith) verb(name string) anonymize.Transform {
	for _, t := range s.transforms {
		if t.Name() == name {
			return t
		}
	}
	return nil
}

// bind makes a step's function; nil, nil keeps values.
func (s *smith) bind(column string, st Step) (anonymize.Apply, error) {
	if st.Verb == "" {
		return nil, nil
	}
	t := s.verb(st.Verb)
	if t == nil {
		return nil, sallyport.Errorf("plan", sallyport.Unsupported, "`sallyport kinds` lists the verbs.", "column %q: there is no verb %q", column, st.Verb)
	}
	apply, err := t.Bind(st.Args, anonymize.Env{Column: column, Key: func(string) []byte { return nil }, Hierarchy: s.hierarchy})
	if err != nil {
		return nil, sallyport.E(fmt.Sprintf("column %q", column), sallyport.KindOf(err), err, "")
	}
	return apply, nil
}

func (s *smith) hierarchy(name string) (io.ReadCloser, error) {
	if b, ok := s.generated[name]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	if !slices.Contains(s.files, name) || s.open == nil {
		return nil, sallyport.Errorf("hierarchy", sallyport.NotFound, "Put it into the folder of hierarchies.", "there is no hierarchy %q", name)
	}
	return s.open(name)
}

// can says that this binary has a verb that takes these arguments.
func (s *smith) can(verb string, args map[string]any) bool {
	_, err := s.bind("", Step{Verb: verb, Args: args})
	return err == nil
}

// file returns the hierarchy file of a column: COLUMN.csv, or what ends in
// hierarchy_COLUMN.csv, as ARX's examples do.
func (s *smith) file(column string) (string, error) {
	var found []string
	for _, name := range s.files {
		stem := strings.ToLower(strings.TrimSuffix(name, path.Ext(name)))
		want := strings.ToLower(column)
		if stem == want {
			return name, nil
		}
		if stem == "hierarchy_"+want || strings.HasSuffix(stem, "_hierarchy_"+want) {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		return "", sallyport.Errorf("plan", sallyport.Invalid, "Keep one, or name it "+column+".csv.", "column %q has two hierarchies: %s", column, strings.Join(found, ", "))
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return "", nil
}

// ladder builds the ladder of a quasi-identifier from its distinct values.
func (s *smith) ladder(c Column, values []string) (*ladder, error) {
	l := &ladder{}
	var err error
	if s.harbor && c.Identifier != "none" {
		err = s.harborSteps(l, c, values)
	} else {
		err = s.steps(l, c, values)
	}
	if err != nil {
		return nil, err
	}
	if len(l.steps) == 0 || l.steps[len(l.steps)-1].Verb != "drop" {
		l.steps = append(l.steps, dropped)
	}
	return l, s.fill(l, c, values)
}

// steps are those for a column that no rule but the target binds.
func (s *smith) steps(l *ladder, c Column, values []string) error {
	file, err := s.file(c.Name)
	if err != nil {
		return err
	}
	if file != "" {
		return s.fileSteps(l, file)
	}
	l.steps = []Step{asItIs}
	k := kindOf(values)
	switch {
	case len(values) <= 2:
		l.why = "two values at most: kept or dropped"
	case k.dates:
		s.dateSteps(l, k)
	case isPostal(c.Name) && k.longest >= 3 && k.longest <= 12:
		l.why = "postal codes: fewer and fewer characters"
		for n := min(k.longest-1, 4); n >= 1; n-- {
			l.steps = append(l.steps, Step{"prefix", map[string]any{"length": n, "fill": "*"}, fmt.Sprintf("first %d of %d characters", n, k.longest)})
		}
	case k.numbers && len(values) > 5:
		l.why = "numbers: wider and wider ranges"
		for _, w := range widths(k.least, k.most, k.whole) {
			l.steps = append(l.steps, Step{"generalize", map[string]any{"width": w, "otherwise": "suppress"}, "ranges of " + short(w)})
		}
	default:
		l.why = "words without a hierarchy file: kept or dropped"
	}
	return nil
}

func (s *smith) fileSteps(l *ladder, file string) error {
	r, err := s.hierarchy(file)
	if err != nil {
		return err
	}
	defer r.Close()
	lines := csv.NewReader(r)
	lines.Comma = ';'
	first, err := lines.Read()
	if err != nil {
		return sallyport.Errorf("hierarchy "+file, sallyport.Invalid, "Give every value a line with its ancestors, separated by semicolons.", "it cannot be read")
	}
	l.why = "levels of " + file
	l.steps = []Step{asItIs}
	for level := 1; level < len(first); level++ {
		l.steps = append(l.steps, Step{"hierarchy", map[string]any{"file": file, "level": level}, fmt.Sprintf("level %d of %s", level, file)})
	}
	return nil
}

func (s *smith) dateSteps(l *ladder, k kind) {
	l.why = "dates: coarser and coarser"
	args := func(to string) map[string]any {
		a := map[string]any{"to": to, "otherwise": "suppress"}
		if k.layout != "" {
			a["layout"] = k.layout
		}
		return a
	}
	if k.times && k.layout == "" {
		l.steps = append(l.steps, Step{"prefix", map[string]any{"length": 10}, "day"})
	}
	for _, to := range []string{"month", "quarter", "year", "decade"} {
		if s.can("date", args(to)) {
			l.steps = append(l.steps, Step{"date", args(to), to})
		}
	}
}

// harborSteps begin with what the Safe Harbor asks of a column's category.
func (s *smith) harborSteps(l *ladder, c Column, values []string) error {
	k := kindOf(values)
	switch c.Identifier {
	case "date":
		if !k.dates {
			l.why = "Safe Harbor: no dates that can be read, so nothing of it may leave"
			return nil
		}
		if oldest := s.now.Year() - 90; isBirth(c.Name) && k.firstYear <= oldest {
			l.why = fmt.Sprintf("Safe Harbor: people over 89 would show by their year of birth (%d or before)", oldest)
			return nil
		}
		s.dateSteps(l, k)
		l.steps = slices.DeleteFunc(l.steps, func(st Step) bool { return st.Verb != "date" || st.Args["to"] != "year" && st.Args["to"] != "decade" })
		l.why = "Safe Harbor: of dates the year at most"
	case "age":
		if !k.numbers {
			l.why = "Safe Harbor: no ages that can be read, so nothing of it may leave"
			return nil
		}
		l.why = "Safe Harbor: ages over 89 are one group"
		l.steps = []Step{s.age90()}
		if !k.whole {
			return nil // bands are by whole years
		}
		s.generated[ageFile] = ageBands()
		for level, text := range ageLevels[1:] {
			l.steps = append(l.steps, Step{"hierarchy", map[string]any{"file": ageFile, "level": level + 2, "unknown": "*"}, text})
		}
	case "geographic":
		if st, ok := s.zip3(values); ok {
			l.why = "Safe Harbor: three digits of a ZIP code whose area has more than 20,000 people"
			l.steps = []Step{st}
			return nil
		}
		l.why = "Safe Harbor: nothing smaller than a state, and these are no ZIP codes that can be shortened"
	default:
		l.why = "Safe Harbor: nothing of it may leave"
	}
	return nil
}

// age90 is what the Safe Harbor asks of ages.
func (s *smith) age90() Step {
	if s.can("age90", nil) {
		return Step{Verb: "age90", Text: "90 and over together"}
	}
	return Step{"cap", map[string]any{"top": 90, "label": "90+", "otherwise": "suppress"}, "90 and over together"}
}

// zip3 is what the Safe Harbor asks of ZIP codes, if the values are such.
func (s *smith) zip3(values []string) (Step, bool) {
	var all, zips int
	for _, v := range values {
		if v == "" {
			continue
		}
		all++
		if len(v) >= 5 && strings.Trim(v[:5], "0123456789") == "" && (len(v) == 5 || len(v) == 10 && v[5] == '-' && strings.Trim(v[6:], "0123456789") == "") {
			zips++
		}
	}
	if all == 0 || float64(all-zips) > mostUnreadable*float64(all) {
		return Step{}, false
	}
	if slices.Contains(s.files, zip3File) {
		return Step{"hierarchy", map[string]any{"file": zip3File, "level": 1}, "level 1 of " + zip3File}, true
	}
	for _, vintage := range []any{2020, "2020", 2010, "2010"} {
		if args := map[string]any{"vintage": vintage}; s.can("zip3", args) {
			return Step{"zip3", args, "ZIP3 of the census of " + fmt.Sprint(vintage)}, true
		}
	}
	return Step{}, false
}

// ageLevels are the levels of the hierarchy of ages from 1 on.
var ageLevels = []string{"90 and over together", "5 years, 90 and over together", "10 years, 90 and over together", "20 years, 90 and over together", "40 years, 90 and over together"}

// ageBands is a hierarchy file of the ages from 0 to 999 in bands that end
// before 90.
func ageBands() []byte {
	var b bytes.Buffer
	for age := range 1000 { // 999 is often written for unknown
		fmt.Fprint(&b, age)
		for _, width := range []int{1, 5, 10, 20, 40} {
			from := age / width * width
			switch to := min(from+width-1, 89); {
			case age >= 90:
				b.WriteString(";90+")
			case width == 1:
				fmt.Fprintf(&b, ";%d", age)
			default:
				fmt.Fprintf(&b, ";%d-%d", from, to)
			}
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// fill runs all values up the ladder with the verbs of the pass, so that what
// is searched is what will leave, and makes a hierarchy of it.
func (s *smith) fill(l *ladder, c Column, values []string) error {
	rungs := make([][]string, len(l.steps)) // rung → raw value → text
	for i, st := range l.steps {
		rungs[i] = values
		if st.Verb == "" {
			continue
		}
		rungs[i] = make([]string, len(values))
		if st.Verb == "drop" {
			for v := range values {
				rungs[i][v] = "*"
			}
			continue
		}
		apply, err := s.bind(c.Name, st)
		if err != nil {
			return err
		}
		var buf []byte
		for v, text := range values {
			if buf, err = apply(buf[:0], []byte(text), nil); err != nil {
				return sallyport.E(fmt.Sprintf("column %q, %s", c.Name, st.Text), sallyport.KindOf(err), err, "")
			}
			rungs[i][v] = string(buf)
		}
	}
	// A rung that does what the one below does, or drops in other words, is
	// none; nor is one that splits what the one below joins.
	keep := []int{0}
	for i := 1; i < len(rungs); i++ {
		below := rungs[keep[len(keep)-1]]
		switch last := i == len(rungs)-1; {
		case !last && !nests(below, rungs[i]):
			l.why += fmt.Sprintf("; without %s, which splits what %s joins", l.steps[i].Text, l.steps[keep[len(keep)-1]].Text)
		case !last && (nests(rungs[i], below) || single(rungs[i])):
		default:
			keep = append(keep, i)
		}
	}
	var steps []Step
	lines := [][]string{}
	number := map[string]int32{}
	l.base = make([]int32, len(values))
	for _, i := range keep {
		steps = append(steps, l.steps[i])
	}
	l.steps = steps
	for v := range values {
		low := rungs[keep[0]][v]
		if n, ok := number[low]; ok {
			l.base[v] = n
			continue
		}
		l.base[v] = int32(len(lines))
		number[low] = l.base[v]
		line := make([]string, len(keep))
		for j, i := range keep {
			line[j] = rungs[i][v]
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = append(lines, slices.Repeat([]string{"*"}, len(keep)))
	}
	h, err := model.NewHierarchy(c.Name, lines)
	l.hierarchy = h
	return err
}

// nests says that values which the lower rung joins stay together on the upper.
func nests(lower, upper []string) bool {
	up := map[string]string{}
	for i, low := range lower {
		if old, ok := up[low]; ok && old != upper[i] {
			return false
		}
		up[low] = upper[i]
	}
	return true
}

func single(rung []string) bool {
	for _, v := range rung {
		if v != rung[0] {
			return false
		}
	}
	return true
}

// kind is what a column's distinct values are.
type kind struct {
	numbers, whole bool
	least, most    float64
	dates, times   bool
	layout         string // of dates that are not ISO 8601
	firstYear      int
	longest        int // characters
}

var dateLayouts = []string{"02.01.2006", "01/02/2006", "02/01/2006"}

func kindOf(values []string) kind {
	k := kind{whole: true, least: math.Inf(1), most: math.Inf(-1), firstYear: math.MaxInt}
	var all, numbers, iso, times int
	layouts := make([]int, len(dateLayouts))
	years := make([]int, len(dateLayouts))
	for i := range years {
		years[i] = math.MaxInt
	}
	for _, v := range values {
		if v == "" {
			continue
		}
		all++
		k.longest = max(k.longest, len([]rune(v)))
		if f, whole, ok := number(v); ok {
			numbers++
			k.least, k.most = min(k.least, f), max(k.most, f)
			k.whole = k.whole && whole
		}
		if len(v) >= 10 {
			if t, err := time.Parse(time.DateOnly, v[:10]); err == nil && (len(v) == 10 || v[10] == 'T' || v[10] == ' ') {
				iso++
				k.firstYear = min(k.firstYear, t.Year())
				if len(v) > 10 {
					times++
				}
			}
			for i, layout := range dateLayouts {
				if t, err := time.Parse(layout, v); err == nil {
					layouts[i]++
					years[i] = min(years[i], t.Year())
				}
			}
		}
	}
	most := func(n int) bool { return all > 0 && float64(all-n) <= mostUnreadable*float64(all) }
	k.numbers = most(numbers)
	k.times = times > 0
	if k.dates = most(iso); !k.dates {
		fits := -1
		for i, n := range layouts {
			if !most(n) {
				continue
			}
			if fits >= 0 { // day and month cannot be told apart
				return k
			}
			fits = i
		}
		if fits >= 0 {
			k.dates, k.layout, k.firstYear = true, dateLayouts[fits], years[fits]
		}
	}
	return k
}

// number reads a plain decimal that is no code: 007 is one.
func number(v string) (f float64, whole, ok bool) {
	digits := strings.TrimLeft(v, "+-")
	if len(v)-len(digits) > 1 || digits == "" || len(digits) > 18 || strings.Trim(digits, "0123456789.") != "" ||
		len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		return 0, false, false
	}
	f, err := strconv.ParseFloat(v, 64)
	return f, !strings.Contains(digits, "."), err == nil
}

// widths are those of ranges that nest: each divides the next, and they read
// well: 1, 5, 10, 20, 40 times a power of ten. The finest makes ten to a hundred
// ranges of the spread, the coarsest two or more.
func widths(least, most float64, whole bool) []float64 {
	spread := most - least
	if !(spread > 0) || math.IsInf(spread, 0) {
		return nil
	}
	exp := math.Floor(math.Log10(spread / 10))
	unit := math.Pow(10, min(max(exp, -6), 12)) // 10 to 100 units in the spread, where it is no extreme
	var w []float64
	for _, m := range []float64{1, 5, 10, 20, 40} {
		v, _ := strconv.ParseFloat(strconv.FormatFloat(m*unit, 'g', 6, 64), 64)
		if v < spread && !(whole && (v <= 1 || v != math.Trunc(v))) {
			w = append(w, v)
		}
	}
	return w
}

func short(w float64) string { return strconv.FormatFloat(w, 'f', -1, 64) }
