package replay

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/policy"
)

// Bounds of a report. Counts go on where lists end.
const (
	maxRecords  = 8    // example records of one line
	maxExamples = 10   // examples of one direction of flips, in full
	maxLines    = 5000 // lines of one list
)

// Report says what a candidate would have answered. Its lists are sorted, most
// frequent first, and it has no time of its own: the same history and candidate
// give the same report.
type Report struct {
	Candidate sallyport.Digest `json:"candidate"` // version of the bundle
	Rules     sallyport.Digest `json:"rules"`
	Over      string           `json:"over"` // recorded or now: the data it was asked with

	Decisions int       `json:"decisions"`     // in the history, replayed or not
	Replayed  int       `json:"replayed"`      // the sum of the flips and the five counts after them
	First     uint64    `json:"first"`         // record
	Last      uint64    `json:"last"`          // record
	From      time.Time `json:"from,omitzero"` // of the first
	To        time.Time `json:"to,omitzero"`   // of the last

	Flips        []Flip `json:"flips"`         // the most dangerous first
	Looser       int    `json:"looser"`        // allowed by both, and something is weaker or cannot be compared
	Tighter      int    `json:"tighter"`       // allowed by both, and things are only stronger
	OtherForm    int    `json:"other_form"`    // allowed by both, and things are only written differently
	OtherReasons int    `json:"other_reasons"` // denied by both, for other reasons
	Unchanged    int    `json:"unchanged"`

	Changes     []Change `json:"changes"`      // what is weaker, changed, stronger or written differently
	Errors      []Count  `json:"errors"`       // of the candidate; each is a denial
	NotReplayed []Count  `json:"not_replayed"` // by reason
	Elsewhere   []Count  `json:"elsewhere"`    // decided by records that name no policy, by step; not in Decisions

	Reproduction *Reproduction `json:"reproduction,omitempty"`
	// Left counts what had no room in the lists above any more.
	Left int `json:"left"`
}

// Count is how often something was met, with the first records where.
type Count struct {
	Name    string   `json:"name"`
	Count   int      `json:"count"`
	Records []uint64 `json:"records"`
}

// The directions of a flip. An error of the candidate is a denial.
const (
	DenyAllow  = "deny→allow"
	AllowDeny  = "allow→deny"
	AllowError = "allow→error"
	DenyError  = "deny→error"
)

var directions = []string{DenyAllow, AllowDeny, AllowError, DenyError}

// Flip is all decisions that flip in one direction: for whom, and by which
// rules: those that no longer deny, or that newly do.
type Flip struct {
	Direction string    `json:"direction"`
	Count     int       `json:"count"`
	People    []Count   `json:"people"`
	Projects  []Count   `json:"projects"`
	Datasets  []Count   `json:"datasets"`
	Purposes  []Count   `json:"purposes"`
	Rules     []Count   `json:"rules"`
	Examples  []Example `json:"examples"` // the first
}

// Example is one decision that flips.
type Example struct {
	Record  uint64      `json:"record"`
	Time    time.Time   `json:"time"`
	Door    policy.Door `json:"door"`
	Job     string      `json:"job"`
	Subject string      `json:"subject"`
	Project string      `json:"project"`
	Purpose string      `json:"purpose"`
	Dataset string      `json:"dataset"`
	Before  Answer      `json:"before"`
	After   Answer      `json:"after"`
}

// Answer is a verdict for people.
type Answer struct {
	Allow   bool     `json:"allow"`
	Reasons []string `json:"reasons"`
	Rules   []string `json:"rules"`
	Error   string   `json:"error,omitempty"`
}

// Change is one obligation, row filter or limit that differs where both allow.
type Change struct {
	Direction Direction `json:"direction"`
	Kind      string    `json:"kind"` // destination, mask, rows or limit
	Dataset   string    `json:"dataset"`
	Name      string    `json:"name"` // of the column or limit
	Before    string    `json:"before"`
	After     string    `json:"after"`
	Why       string    `json:"why"`
	Count     int       `json:"count"`
	Records   []uint64  `json:"records"`
}

// Reproduction says whether the records still give their own answers.
type Reproduction struct {
	Tried     int     `json:"tried"`
	Exact     int     `json:"exact"`
	Different []Count `json:"different"` // by what differs: a sign of a changed record, or of rules that are not repeatable
	NotTried  []Count `json:"not_tried"` // by reason
}

// Flipped is how many decisions flip in a direction.
func (r Report) Flipped(direction string) int {
	for _, f := range r.Flips {
		if f.Direction == direction {
			return f.Count
		}
	}
	return 0
}

// Loosens is how many decisions would be less strict: denied before and
// allowed now, or allowed with something weaker or not comparable. Who
// publishes the candidate must say this number.
func (r Report) Loosens() int { return r.Flipped(DenyAllow) + r.Looser }

// Failures is how many evaluations of the candidate ended with an error.
func (r Report) Failures() int { return r.Flipped(AllowError) + r.Flipped(DenyError) }

// Digest names what the report says, so that an approval can tell which one it
// was given for.
func (r Report) Digest() sallyport.Digest {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return sallyport.DigestOf(raw)
}

// lines counts by name.
type lines map[string]*Count

// line counts one more of a name; it reports false where there is no room.
func (l lines) line(name string, record uint64) bool {
	c := l[name]
	if c == nil {
		if len(l) >= maxLines {
			return false
		}
		c = &Count{Name: name}
		l[name] = c
	}
	c.Count++
	c.Records = example(c.Records, record)
	return true
}

func example(list []uint64, record uint64) []uint64 {
	if len(list) < maxRecords && (len(list) == 0 || list[len(list)-1] != record) {
		return append(list, record)
	}
	return list
}

func (l lines) sorted() []Count {
	out := make([]Count, 0, len(l))
	for _, c := range l {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name)) })
	return out
}

// flipTally counts the flips of one direction.
type flipTally struct {
	count                                       int
	people, projects, datasets, purposes, rules lines
	examples                                    []Example
}

// changeKey is what makes two changes one line.
type changeKey struct {
	direction                          Direction
	kind, dataset, name, before, after string
}

// tally makes a report. It is told decisions in their order, by one goroutine.
type tally struct {
	report                   Report
	flips                    map[string]*flipTally
	changes                  map[changeKey]*Change
	errors, unfit, elsewhere lines
	different, notTried      lines
	proof                    Reproduction
}

func newTally(b *policy.Bundle) *tally {
	return &tally{report: Report{Candidate: b.Version(), Rules: b.Rules(), Over: "recorded"},
		flips: map[string]*flipTally{}, changes: map[changeKey]*Change{},
		errors: lines{}, unfit: lines{}, elsewhere: lines{}, different: lines{}, notTried: lines{}}
}

func (t *tally) count(l lines, name string, record uint64) {
	if !l.line(name, record) {
		t.report.Left++
	}
}

func (t *tally) add(d *Decision, o *outcome) {
	r := &t.report
	if d.Door == "" {
		t.count(t.elsewhere, d.Step, d.Record)
		return
	}
	if r.Decisions == 0 {
		r.First, r.From = d.Record, d.Time.UTC()
	}
	r.Last, r.To = d.Record, d.Time.UTC()
	r.Decisions++
	if o.unfit != "" {
		t.count(t.unfit, o.unfit, d.Record)
		return
	}
	r.Replayed++
	t.prove(d, o)
	before, after := d.Recorded, o.after
	switch {
	case o.err != nil:
		what := clip(o.err.Error())
		t.count(t.errors, what, d.Record)
		direction := DenyError
		if before.Allow {
			direction = AllowError
		}
		t.flip(direction, d, o, []string{what})
	case !before.Allow && after.Allow:
		t.flip(DenyAllow, d, o, before.Rules)
	case before.Allow && !after.Allow:
		t.flip(AllowDeny, d, o, after.Rules)
	case before.Allow:
		t.allowed(d, compare(before, after))
	case slices.Equal(before.Rules, after.Rules) && slices.Equal(before.Reasons, after.Reasons):
		r.Unchanged++
	default:
		r.OtherReasons++
	}
}

func (t *tally) prove(d *Decision, o *outcome) {
	switch {
	case o.unproved != "":
		t.count(t.notTried, o.unproved, d.Record)
		return
	case o.differs != "":
		t.count(t.different, o.differs, d.Record)
	default:
		t.proof.Exact++
	}
	t.proof.Tried++
}

func (t *tally) flip(direction string, d *Decision, o *outcome, rules []string) {
	f := t.flips[direction]
	if f == nil {
		f = &flipTally{people: lines{}, projects: lines{}, datasets: lines{}, purposes: lines{}, rules: lines{}}
		t.flips[direction] = f
	}
	f.count++
	t.count(f.people, d.Subject, d.Record)
	t.count(f.projects, d.Project, d.Record)
	t.count(f.datasets, d.Dataset, d.Record)
	t.count(f.purposes, d.Purpose, d.Record)
	for _, rule := range rules {
		t.count(f.rules, rule, d.Record)
	}
	if len(f.examples) == maxExamples {
		return
	}
	e := Example{Record: d.Record, Time: d.Time.UTC(), Door: d.Door, Job: d.Job, Subject: d.Subject, Project: d.Project,
		Purpose: d.Purpose, Dataset: d.Dataset, Before: answer(d.Recorded), After: answer(o.after)}
	if o.err != nil {
		e.After.Error = clip(o.err.Error())
	}
	f.examples = append(f.examples, e)
}

func answer(v policy.Verdict) Answer {
	return Answer{Allow: v.Allow, Reasons: append([]string{}, v.Reasons...), Rules: append([]string{}, v.Rules...)}
}

func (t *tally) allowed(d *Decision, changes []change) {
	looser, tighter := false, false
	for _, c := range changes {
		looser = looser || c.Direction.Loosens()
		tighter = tighter || c.Direction == Stronger
		key := changeKey{c.Direction, c.kind, d.Dataset, c.name, c.before, c.after}
		line := t.changes[key]
		if line == nil {
			if len(t.changes) >= maxLines {
				t.report.Left++
				continue
			}
			line = &Change{Direction: c.Direction, Kind: c.kind, Dataset: d.Dataset, Name: c.name, Before: c.before, After: c.after, Why: c.Why}
			t.changes[key] = line
		}
		line.Count++
		line.Records = example(line.Records, d.Record)
	}
	switch {
	case looser:
		t.report.Looser++
	case tighter:
		t.report.Tighter++
	case len(changes) > 0:
		t.report.OtherForm++
	default:
		t.report.Unchanged++
	}
}

func (t *tally) finish() Report {
	r := t.report
	r.Flips = []Flip{}
	for _, direction := range directions {
		if f := t.flips[direction]; f != nil {
			r.Flips = append(r.Flips, Flip{Direction: direction, Count: f.count, People: f.people.sorted(), Projects: f.projects.sorted(),
				Datasets: f.datasets.sorted(), Purposes: f.purposes.sorted(), Rules: f.rules.sorted(), Examples: f.examples})
		}
	}
	r.Changes = make([]Change, 0, len(t.changes))
	for _, c := range slices.Collect(maps.Values(t.changes)) {
		r.Changes = append(r.Changes, *c)
	}
	rank := []Direction{Weaker, Changed, Stronger, Neutral}
	slices.SortFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(rank, a.Direction), slices.Index(rank, b.Direction)), cmp.Compare(b.Count, a.Count),
			strings.Compare(a.Kind, b.Kind), strings.Compare(a.Dataset, b.Dataset), strings.Compare(a.Name, b.Name),
			strings.Compare(a.Before, b.Before), strings.Compare(a.After, b.After))
	})
	r.Errors, r.NotReplayed, r.Elsewhere = t.errors.sorted(), t.unfit.sorted(), t.elsewhere.sorted()
	if r.Reproduction != nil {
		t.proof.Different, t.proof.NotTried = t.different.sorted(), t.notTried.sorted()
	}
	return r
}
