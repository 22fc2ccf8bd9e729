package planning

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/model"
	"sallyport/anonymize/risk"
)

// Threshold is the chance above which a record counts as exposed in the figures.
const Threshold = 0.2

// maxLattice bounds the treatments to search among; longer ladders lose rungs.
const maxLattice = 1 << 15

// Options is what planning is asked, and what it may use.
type Options struct {
	Target Target
	// Columns are what is known of columns already, from a catalog entry or an
	// earlier plan: role and identifier, and of those that are no
	// quasi-identifiers the treatment. The scan proposes what is not.
	Columns []Column
	Subject string
	// Quasi, if not empty, are all the quasi-identifiers: another column that
	// the scan takes for one is dropped. The others name columns of their role.
	Quasi, Sensitive, Direct, Insensitive []string
	// Hierarchies are the names of hierarchy files, and Hierarchy opens one.
	Hierarchies []string
	Hierarchy   func(name string) (io.ReadCloser, error)
	Transforms  []anonymize.Transform // the verbs there are
	Curve       []int64               // the k to draw besides the target's; none: no curve
	Memory      int64                 // bytes; 0: [DefaultMemory]
	Now         func() time.Time      // whose years tell who may be over 89
}

// Curve is the k that a curve is usually drawn for.
func Curve() []int64 { return []int64{2, 3, 5, 10, 20, 50, 100} }

// Result is a plan with the reasons for it.
type Result struct {
	File    File     `json:"-"`
	Target  Target   `json:"target"`
	Records int64    `json:"records"`
	Columns []Choice `json:"columns"` // the table's, in its order
	// Before is the table as it is; Chosen, what the plan makes of it. Both are
	// over the quasi-identifiers; nil where there are none.
	Before *Point  `json:"before"`
	Chosen *Point  `json:"chosen"`
	Curve  []Point `json:"curve"` // by k, the chosen one included

	Nodes      int               `json:"nodes"`        // treatments there are
	Checks     int               `json:"checks"`       // that had to be tried for the plan
	Combos     int               `json:"combinations"` // distinct ones in the table
	Notes      []string          `json:"notes"`        // for people: what was left out, and what to mind
	SafeHarbor []HarborRow       `json:"safe_harbor,omitempty"`
	Generated  map[string][]byte `json:"-"` // hierarchy files that the plan needs and that were made for it
}

// Choice is what a plan says of one column, with the evidence.
type Choice struct {
	Column     string         `json:"column"`
	Role       sallyport.Role `json:"role"`
	Identifier string         `json:"identifier"`
	Evidence   []string       `json:"evidence"` // for role, identifier and ladder
	Treatment  string         `json:"treatment"`
	Ladder     []Step         `json:"ladder,omitempty"` // of a quasi-identifier
	Level      int            `json:"level"`            // the chosen rung
	Utility    float64        `json:"utility"`          // what is left of a quasi-identifier's information, 0 to 1
	Weight     float64        `json:"weight"`           // of a quasi-identifier; else 0
	Warning    string         `json:"warning,omitempty"`
}

// Point is one treatment of the table and what it costs.
type Point struct {
	K           int64     `json:"k"`                // asked; 0 for the table as it is
	Reached     bool      `json:"reached"`          // false: no treatment does
	Levels      []int     `json:"levels,omitempty"` // of the quasi-identifiers, in the table's order
	Loss        float64   `json:"loss"`             // bits, weighted: what the search kept low
	Utility     float64   `json:"utility"`          // what is left of the information, 0 to 1, weighted
	Columns     []float64 `json:"utility_by_column,omitempty"`
	Suppressed  int64     `json:"suppressed"` // records that stay behind
	Share       float64   `json:"suppressed_share"`
	Checks      int       `json:"checks"`
	risk.Report           // of what leaves
}

// Make plans for a table: it reads it twice, to scan it and to count it.
func Make(ctx context.Context, format anonymize.Format, src anonymize.Sized, o Options) (*Result, error) {
	if err := o.Target.check(); err != nil {
		return nil, err
	}
	whole := func() anonymize.Source { return io.NewSectionReader(src, 0, src.Size()) }
	profile, err := anonymize.Scan(ctx, format, whole(), 0)
	if err != nil {
		return nil, err
	}
	p := &planner{Options: o, profile: profile, result: &Result{Target: o.Target, Records: profile.Records, Notes: []string{}, Curve: []Point{}}}
	p.smith = &smith{transforms: o.Transforms, files: o.Hierarchies, open: o.Hierarchy, harbor: o.Target.SafeHarbor, now: time.Time{}, generated: map[string][]byte{}}
	if o.Now != nil {
		p.smith.now = o.Now()
	}
	if lister, ok := format.(anonymize.Lister); ok {
		p.lists = lister.List
	}
	if err := p.roles(); err != nil {
		return nil, err
	}
	if err := p.others(); err != nil {
		return nil, err
	}
	var names []string
	for _, i := range slices.Concat(p.quasi, p.counted) {
		names = append(names, p.columns[i].Name)
	}
	if len(p.quasi) > 0 {
		g, err := gather(ctx, format, whole(), names, cmp.Or(o.Memory, DefaultMemory))
		if err != nil {
			return nil, err
		}
		if err := p.choose(ctx, g); err != nil {
			return nil, err
		}
	}
	return p.finish(format.Name())
}

// planner is the work on one plan.
type planner struct {
	Options
	profile anonymize.Profile
	smith   *smith
	lists   func(string) bool
	result  *Result

	columns []Column // the table's, in its order
	choices []Choice
	quasi   []int // places of quasi-identifiers
	counted []int // places of the sensitive columns that the target speaks of

	ladders  []*ladder // of quasi
	gathered *gathered
	table    *model.Table
	loss     *model.EntropyLoss
	shapes   []model.Criterion // besides k
	whole    []float64         // bits that each quasi-identifier holds as it is
}

func (p *planner) bad(hint, format string, args ...any) error {
	return sallyport.Errorf("plan", sallyport.Invalid, hint, format, args...)
}

// roles settles what each column is: what was said, or what the scan proposes.
func (p *planner) roles() error {
	var names []string
	for _, c := range p.profile.Columns {
		names = append(names, c.Name)
	}
	known := func(list []string) error {
		for _, name := range list {
			if !slices.Contains(names, name) {
				return p.bad("Its columns are "+strings.Join(names, ", ")+".", "the table has no column %q", name)
			}
		}
		return nil
	}
	said := map[string]sallyport.Role{}
	for role, list := range map[sallyport.Role][]string{sallyport.Quasi: p.Quasi, sallyport.Sensitive: p.Sensitive, sallyport.Direct: p.Direct, sallyport.Insensitive: p.Insensitive} {
		if err := known(list); err != nil {
			return err
		}
		for _, name := range list {
			if old, ok := said[name]; ok {
				if old == role {
					return p.bad("Name each column once.", "column %q is named twice", name)
				}
				return p.bad("Give it one role.", "column %q is named under two roles", name)
			}
			said[name] = role
		}
	}
	for _, k := range p.Target.Keep {
		if err := known([]string{k.Column}); err != nil {
			return err
		}
	}
	given := map[string]Column{}
	for _, c := range p.Columns {
		if err := known([]string{c.Name}); err != nil {
			return err
		}
		given[c.Name] = c
	}
	for i, prof := range p.profile.Columns {
		c := Column{Name: prof.Name, Role: prof.Role}
		ch := Choice{Column: prof.Name, Warning: prof.Warning, Evidence: slices.Clone(prof.Evidence)}
		g, isGiven := given[prof.Name]
		role, isSaid := said[prof.Name]
		switch {
		case isSaid:
			c.Role, ch.Evidence = role, append([]string{"you said so"}, ch.Evidence...)
		case isGiven && len(p.Quasi) > 0 && g.Role == sallyport.Quasi, !isGiven && len(p.Quasi) > 0 && c.Role == sallyport.Quasi:
			c.Role, c.Verb = sallyport.Quasi, "drop"
			ch.Warning = "could recognize a person, and is not named as a quasi-identifier: dropped; name it as one, or as insensitive to let it leave"
		case isGiven:
			c.Role, ch.Evidence = g.Role, append([]string{"it is described so"}, ch.Evidence...)
		}
		if isSaid && ch.Warning != "" && c.Role != prof.Role && (c.Role == sallyport.Quasi || c.Role == sallyport.Direct) {
			ch.Warning = ""
		}
		if c.Identifier = g.Identifier; c.Identifier == "" {
			var why string
			c.Identifier, why = identify(prof, c.Role)
			if c.Identifier != "none" || p.Target.SafeHarbor {
				ch.Evidence = append(ch.Evidence, c.Identifier+": "+why)
			}
		}
		if isGiven && g.Role == c.Role && c.Role != sallyport.Quasi {
			if c.Verb, c.Args = g.Verb, g.Args; c.Role == sallyport.Direct && c.Verb == "" {
				c.Verb = "drop" // whoever names people by itself does not stay as it is
			}
		} else if c.Role == sallyport.Direct {
			c.Verb = "drop"
			if m := prof.Mask; m != nil && m.Verb == "pseudonym" && p.smith.verb("pseudonym") != nil {
				c.Verb, c.Args = m.Verb, m.Args
			}
		}
		if c.Role == sallyport.Quasi && p.lists != nil && p.lists(c.Name) {
			c.Verb = "drop"
			ch.Warning = "a list of values in each record: what it tells together is not searched, so it is dropped"
		}
		p.columns, p.choices = append(p.columns, c), append(p.choices, ch)
		if c.Role == sallyport.Quasi && c.Verb == "" {
			p.quasi = append(p.quasi, i)
		}
	}
	if p.result.File.Subject = p.Options.Subject; p.Options.Subject == "" {
		for _, c := range p.columns {
			if c.Role == sallyport.Direct && c.Verb == "pseudonym" {
				p.result.File.Subject = c.Name
				break
			}
		}
	} else if err := known([]string{p.Options.Subject}); err != nil {
		return err
	}
	return nil
}

// others treats the columns that are no quasi-identifiers.
func (p *planner) others() error {
	for i := range p.columns {
		c := &p.columns[i]
		if p.Target.SafeHarbor && !(c.Role == sallyport.Quasi && c.Verb == "") {
			if ok, _ := satisfies(*c); !ok {
				p.harborOther(c, &p.choices[i])
			}
		}
		if c.Role == sallyport.Sensitive && !c.Drops() && p.Target.diversity() {
			p.counted = append(p.counted, i)
		}
	}
	if p.Target.diversity() && len(p.counted) == 0 {
		return p.bad("Name it with --sensitive, or leave l and t out.", "the target speaks of a sensitive column, and none leaves")
	}
	for _, k := range p.Target.Keep {
		i := slices.IndexFunc(p.columns, func(c Column) bool { return c.Name == k.Column })
		switch c := p.columns[i]; {
		case c.Role == sallyport.Direct:
			return p.bad("Leave it out of what is to be kept, or give it another role.", "column %q names people by itself and cannot be kept useful", c.Name)
		case c.Role == sallyport.Quasi && c.Verb == "drop":
			return p.bad("Name it with --quasi too.", "column %q is to be kept useful, but is dropped", c.Name)
		case c.Role != sallyport.Quasi:
			p.note("%s is no quasi-identifier: its weight changes nothing.", c.Name)
		}
	}
	return nil
}

// harborOther gives a column that is no quasi-identifier the mildest treatment
// that the Safe Harbor allows and that needs no look at the values.
func (p *planner) harborOther(c *Column, ch *Choice) {
	set := func(verb string, args map[string]any) {
		c.Verb, c.Args = verb, args
		ch.Evidence = append(ch.Evidence, "Safe Harbor: "+treatment(verb, args))
	}
	prof := p.profile.Columns[slices.IndexFunc(p.profile.Columns, func(q anonymize.ColumnProfile) bool { return q.Name == c.Name })]
	year := map[string]any{"to": "year", "otherwise": "suppress"}
	switch {
	case c.Role == sallyport.Direct:
		set("drop", nil)
	case c.Identifier == "age" && (prof.Type == "integer" || prof.Type == "number"):
		st := p.smith.age90()
		set(st.Verb, st.Args)
	case c.Identifier == "date" && !isBirth(c.Name) && strings.HasPrefix(prof.Pattern, "9999-99-99") && p.smith.can("date", year):
		set("date", year)
	default:
		set("drop", nil)
	}
}

func (p *planner) note(format string, args ...any) {
	p.result.Notes = append(p.result.Notes, fmt.Sprintf(format, args...))
}

// choose builds the ladders and the model's table, and searches.
func (p *planner) choose(ctx context.Context, g *gathered) error {
	p.gathered = g
	for n, i := range p.quasi {
		l, err := p.smith.ladder(p.columns[i], g.values[n])
		if err != nil {
			return err
		}
		p.ladders = append(p.ladders, l)
	}
	if err := p.thin(); err != nil {
		return err
	}
	if err := p.count(); err != nil {
		return err
	}
	p.result.Combos = len(g.count)
	p.before()
	if p.result.Records == 0 {
		return p.bad("Plan with a table that holds records.", "the table is empty")
	}
	ks := []int64{max(1, p.Target.K)}
	for _, k := range p.Options.Curve {
		if k <= g.records {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	for _, k := range slices.Compact(ks) {
		pt, err := p.search(ctx, k)
		if err != nil {
			return err
		}
		if k == max(1, p.Target.K) {
			if !pt.Reached {
				return sallyport.Errorf("plan", sallyport.NotFound, "Ask for less, raise the limit of records that may stay behind, or generalize a sensitive column with a hierarchy.",
					"no treatment of these columns reaches %s", p.Target)
			}
			chosen := pt
			p.result.Chosen, p.result.Checks = &chosen, pt.Checks
		}
		if len(p.Options.Curve) > 0 {
			p.result.Curve = append(p.result.Curve, pt)
		}
	}
	for n, i := range p.quasi {
		st := p.ladders[n].steps[p.result.Chosen.Levels[n]]
		p.columns[i].Verb, p.columns[i].Args = st.Verb, st.Args
		ch := &p.choices[i]
		ch.Ladder, ch.Level = p.ladders[n].steps, p.result.Chosen.Levels[n]
		ch.Utility, ch.Weight = p.result.Chosen.Columns[n], p.weights()[n]
		ch.Evidence = append(ch.Evidence, p.ladders[n].why)
	}
	return nil
}

// thin takes inner rungs out of the longest ladders until all treatments can be
// searched.
func (p *planner) thin() error {
	for {
		nodes, longest := 1, 0
		for n, l := range p.ladders {
			if nodes *= l.hierarchy.Levels(); nodes > 1<<40 {
				nodes = 1 << 40
			}
			if l.hierarchy.Levels() > p.ladders[longest].hierarchy.Levels() {
				longest = n
			}
		}
		if nodes <= maxLattice {
			p.result.Nodes = nodes
			return nil
		}
		l, c := p.ladders[longest], p.columns[p.quasi[longest]]
		if len(l.steps) <= 2 {
			return sallyport.Errorf("plan", sallyport.Exhausted, "Name fewer columns with --quasi, or drop some.",
				"%d quasi-identifiers have more treatments than can be searched, even if each is kept or dropped", len(p.quasi))
		}
		out := 1 + (len(l.steps)-2)/2
		if len(l.steps) > 3 {
			out = 1 // the finest: the coarse ones reach the target
		}
		p.note("%s: the rung %q was left out, to keep the search small.", c.Name, l.steps[out].Text)
		l.steps = slices.Delete(slices.Clone(l.steps), out, out+1)
		if err := p.smith.fill(l, c, p.gathered.values[longest]); err != nil {
			return err
		}
	}
}

// count makes the model's table.
func (p *planner) count() error {
	g := p.gathered
	var quasi, secret []*model.Hierarchy
	for _, l := range p.ladders {
		quasi = append(quasi, l.hierarchy)
	}
	var base [][]int32
	for n, i := range p.counted {
		l := &ladder{steps: []Step{{Verb: p.columns[i].Verb, Args: p.columns[i].Args, Text: "its treatment"}}}
		if t := p.smith.verb(p.columns[i].Verb); t != nil {
			if tr, ok := t.(interface{ Traits() anonymize.Traits }); ok && tr.Traits().Keyed {
				l.steps = []Step{asItIs} // a pseudonym tells apart what the value does
			}
		}
		if err := p.smith.fill(l, p.columns[i], g.values[len(p.quasi)+n]); err != nil {
			return err
		}
		secret, base = append(secret, l.hierarchy), append(base, l.base)
	}
	t, err := model.NewTable(quasi, secret)
	if err != nil {
		return err
	}
	q, s := make([]int32, len(quasi)), make([]int32, len(secret))
	for r, n := range g.count {
		for i, l := range p.ladders {
			q[i] = l.base[g.at(r, i)]
		}
		for i, b := range base {
			s[i] = b[g.at(r, len(q)+i)]
		}
		if err := t.Add(q, s, n); err != nil {
			return err
		}
	}
	p.table = t
	if p.loss, err = model.NewWeightedEntropyLoss(t, p.weights(), false); err != nil {
		return err
	}
	for i := range p.counted {
		if p.Target.L > 1 {
			p.shapes = append(p.shapes, model.DistinctDiversity{Attribute: i, L: p.Target.L})
		}
		if p.Target.EntropyL > 1 {
			p.shapes = append(p.shapes, model.EntropyDiversity{Attribute: i, L: p.Target.EntropyL})
		}
		if p.Target.RecursiveL > 1 {
			p.shapes = append(p.shapes, model.RecursiveDiversity{Attribute: i, C: p.Target.RecursiveC, L: p.Target.RecursiveL})
		}
		if p.Target.T > 0 && p.Target.T < 1 {
			p.shapes = append(p.shapes, model.Closeness{Attribute: i, T: p.Target.T, Distance: model.NewEqualDistance(t.SensitiveCounts(i))})
		}
	}
	return nil
}

func (p *planner) weights() []float64 {
	w := make([]float64, len(p.quasi))
	for n, i := range p.quasi {
		w[n] = 1
		for _, k := range p.Target.Keep {
			if k.Column == p.columns[i].Name {
				w[n] = k.Weight
			}
		}
	}
	return w
}

// finish puts the plan together.
func (p *planner) finish(format string) (*Result, error) {
	r := p.result
	r.File.Format, r.File.Columns, r.File.SafeHarbor = format, p.columns, p.Target.SafeHarbor
	leaving := 0
	for i, c := range p.columns {
		ch := &p.choices[i]
		ch.Role, ch.Identifier, ch.Treatment = c.Role, c.Identifier, treatment(c.Verb, c.Args)
		if !c.Drops() {
			leaving++
		}
		if c.Verb == "hierarchy" {
			name, _ := c.Args["file"].(string)
			if b, ok := p.smith.generated[name]; ok {
				if r.Generated == nil {
					r.Generated = map[string][]byte{}
				}
				r.Generated[name] = b
			}
		}
	}
	r.Columns = p.choices
	if p.Target.strict() {
		r.Notes = append(r.Notes, "Entropy and recursive diversity are reached by generalizing alone: the pass keeps records back by k, l and t. On a table that grows, plan again.")
	}
	if p.Target.classes() && len(p.quasi) > 0 {
		r.File.Suppress = &Suppress{K: max(1, p.Target.K), L: p.Target.L, T: p.Target.T, Limit: p.Target.Limit}
	}
	if leaving == 0 {
		return nil, sallyport.Errorf("plan", sallyport.NotFound, "Ask for less, or name fewer quasi-identifiers.", "nothing would leave: every column is dropped")
	}
	if p.Target.classes() && len(p.quasi) == 0 {
		r.Notes = append(r.Notes, "No column that leaves is a quasi-identifier: there are no classes to count.")
	}
	if p.Target.SafeHarbor {
		r.SafeHarbor = r.File.SafeHarborRows()
		if err := r.File.CheckSafeHarbor(); err != nil {
			return nil, err
		}
	}
	return r, nil
}
