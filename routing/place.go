package routing

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"sallyport"
)

// DefaultStale is how long after its last sign of life a node is still chosen.
const DefaultStale = 60 * time.Second

// Floor is the standing below which a node is not chosen. A newcomer is above
// it; a node caught with a wrong result is below, see [Standing].
const Floor = 0.01

// Snapshot is all that [Place] knows of the world.
type Snapshot struct {
	Now       time.Time
	Nodes     []Node
	Standings map[string]Standing // by node; a node without one is a newcomer
	Remaining sallyport.Money     // of the project's budget
	Exclude   map[string]string   // node → why it must not be chosen (again)
	Stale     time.Duration       // 0 is DefaultStale
}

// Placement is who runs a task and why. Every node of the snapshot is in
// exactly one of the three lists.
type Placement struct {
	Chosen  []Choice  `json:"chosen"`  // as many as the task wants copies, best first, no two of one operator
	Spare   []Choice  `json:"spare"`   // could have run it too, best first
	Refused []Refusal `json:"refused"` // could not, by node
}

// Choice is a node that passed every filter.
type Choice struct {
	Node    Node            `json:"node"`
	Cost    sallyport.Money `json:"cost"`  // at most: price × walltime
	Score   float64         `json:"score"` // cost ÷ P(correct and complete); the smaller the better
	Reasons []string        `json:"reasons"`
}

// Refusal says why a node cannot run the task.
type Refusal struct {
	Node string `json:"node"`
	Why  string `json:"why"`
}

// Place chooses where a task runs. It is pure: the same snapshot and task give
// the same placement, in whatever order the nodes come.
//
// Filters come first and nothing outweighs them: side, region, runner, memory,
// price cap, sign of life, exclusion, standing, budget. A task for one side
// never gets a node of the other, whatever its price or standing. Among the
// rest the smallest cost ÷ P(correct and complete) wins; ties go to the smaller
// node ID. One operator is one vote: copies go to different operators. The
// copies together stay within the task's budget and the project's remaining
// one, and if any choice does, Place finds one that does.
//
// Not enough nodes is a sallyport.Unavailable (the placement then still lists
// who was refused and who could have run it); a task that makes no sense a
// sallyport.Invalid.
func Place(s Snapshot, t Task) (Placement, error) {
	if err := checkTask(t); err != nil {
		return Placement{}, err
	}
	f := newFilter(s, t)
	var p Placement
	var fit []Choice
	for _, n := range s.Nodes {
		c, why := f.judge(n)
		if why != "" {
			p.Refused = append(p.Refused, Refusal{Node: n.ID, Why: why})
		} else {
			fit = append(fit, c)
		}
	}
	slices.SortFunc(p.Refused, func(a, b Refusal) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Why, b.Why)) })
	slices.SortFunc(fit, func(a, b Choice) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Node.ID, b.Node.ID))
	})

	chosen := pick(fit, t.Copies, f.budget)
	if chosen == nil {
		p.Spare = fit
		return p, tooFew(p, t, f.budget)
	}
	for i, c := range fit {
		if chosen[i] {
			c.Reasons = append(c.Reasons, fmt.Sprintf("rank %d of %d that could run it", i+1, len(fit)))
			p.Chosen = append(p.Chosen, c)
		} else {
			p.Spare = append(p.Spare, c)
		}
	}
	return p, nil
}

func checkTask(t Task) error {
	bad := func(format string, args ...any) error {
		return sallyport.Errorf("place", sallyport.Invalid, "", format, args...)
	}
	switch {
	case t.Side != sallyport.Local && t.Side != sallyport.Outside:
		return bad("the task says neither local nor outside but %q", t.Side)
	case t.Copies < 1:
		return bad("the task wants %d executions", t.Copies)
	case t.Walltime <= 0:
		return bad("the task has no walltime (%s)", t.Walltime)
	case t.Module.Runner == "":
		return bad("the task's module names no runner")
	case t.MemoryMB < 0 || t.Price < 0 || t.Budget < 0:
		return bad("a limit of the task is negative")
	}
	return nil
}

// filter holds what is the same for all nodes of one placement.
type filter struct {
	s      Snapshot
	t      Task
	stale  time.Duration
	budget sallyport.Money // for all copies
	ids    map[string]int
	caught map[string]string // operator outside → its node below the floor
}

func newFilter(s Snapshot, t Task) filter {
	f := filter{s: s, t: t, stale: s.Stale, budget: max(0, min(t.Budget, s.Remaining)),
		ids: make(map[string]int, len(s.Nodes)), caught: map[string]string{}}
	if f.stale <= 0 {
		f.stale = DefaultStale
	}
	for _, n := range s.Nodes {
		f.ids[n.ID]++
		if n.Side == sallyport.Outside && f.standing(n.ID).Score < Floor {
			if other, ok := f.caught[n.Operator]; !ok || n.ID < other {
				f.caught[n.Operator] = n.ID
			}
		}
	}
	return f
}

func (f *filter) standing(node string) Standing {
	if st, ok := f.s.Standings[node]; ok {
		return st
	}
	return newcomer()
}

// judge returns the choice n would be, or why it cannot be one.
func (f *filter) judge(n Node) (Choice, string) {
	t := f.t
	if n.ID == "" || n.Operator == "" || n.Recipient == "" {
		return Choice{}, "it does not say its ID, its operator and its recipient"
	}
	if f.ids[n.ID] > 1 {
		return Choice{}, "several nodes claim this ID"
	}
	if n.Side != t.Side {
		return Choice{}, fmt.Sprintf("it is %s, the task must run %s", orNothing(string(n.Side)), t.Side)
	}
	if len(t.Regions) > 0 && !slices.Contains(t.Regions, n.Region) {
		return Choice{}, fmt.Sprintf("it is in %s, allowed is %s", orNothing(n.Region), strings.Join(t.Regions, ", "))
	}
	if !slices.Contains(n.Hardware.Runners, t.Module.Runner) {
		return Choice{}, "it has no runner for " + t.Module.Runner
	}
	if n.Hardware.MemoryMB < t.MemoryMB {
		return Choice{}, fmt.Sprintf("it has %d MB of memory, the task needs %d", n.Hardware.MemoryMB, t.MemoryMB)
	}
	if n.Price < 0 {
		return Choice{}, "its price is negative"
	}
	if n.Price > t.Price {
		return Choice{}, fmt.Sprintf("it costs %s an hour, the cap is %s", n.Price, t.Price)
	}
	if age := f.s.Now.Sub(n.Seen); age > f.stale {
		return Choice{}, fmt.Sprintf("it was last seen more than %s ago", f.stale)
	} else if age < -f.stale {
		return Choice{}, "its last sign of life is in the future: a clock is wrong"
	}
	if why, ok := f.s.Exclude[n.ID]; ok {
		return Choice{}, "excluded: " + orNothing(why)
	}
	st := f.standing(n.ID)
	p := st.Score * st.completion()
	if !(st.Score >= Floor && st.Score <= 1 && p > 0) { // also for NaN
		return Choice{}, fmt.Sprintf("its standing %.3f is below %.3f (%g results wrong)", st.Score, Floor, st.Wrong)
	}
	if n.Side == sallyport.Outside {
		if other, ok := f.caught[n.Operator]; ok {
			return Choice{}, fmt.Sprintf("its operator's node %s is below the floor", other)
		}
	}
	cost, ok := costOf(n.Price, t.Walltime)
	if !ok || cost > f.budget {
		return Choice{}, fmt.Sprintf("%s for at most %s is beyond the budget left (%s)", n.Price, t.Walltime, f.budget)
	}
	// One millionth more, so that among free nodes the better standing wins.
	c := Choice{Node: n, Cost: cost, Score: (float64(cost) + 1) / p}
	c.Reasons = []string{
		fmt.Sprintf("costs at most %s (%s an hour)", cost, n.Price),
		fmt.Sprintf("standing %.3f (%g correct, %g lost)", st.Score, st.Correct, st.Lost),
	}
	return c, ""
}

func orNothing(s string) string {
	if s == "" {
		return "(not said)"
	}
	return s
}

// costOf is price × walltime, rounded up; false if it is more than Money holds.
func costOf(price sallyport.Money, walltime time.Duration) (sallyport.Money, bool) {
	hi, lo := bits.Mul64(uint64(price), uint64(walltime))
	if hi >= uint64(time.Hour) {
		return 0, false
	}
	q, rem := bits.Div64(hi, lo, uint64(time.Hour))
	if rem > 0 {
		q++
	}
	if q > math.MaxInt64 {
		return 0, false
	}
	return sallyport.Money(q), true
}

// pick marks the best n of fit (which is in order) with different operators
// and a total within budget, or returns nil if there are none. It takes a
// choice only if the cheapest others can still complete the set; so it finds a
// set whenever there is one.
func pick(fit []Choice, n int, budget sallyport.Money) map[int]bool {
	cheapest := map[string]sallyport.Money{}
	for _, c := range fit {
		if least, ok := cheapest[c.Node.Operator]; !ok || c.Cost < least {
			cheapest[c.Node.Operator] = c.Cost
		}
	}
	if len(cheapest) < n {
		return nil
	}
	type price struct {
		operator string
		cost     sallyport.Money
	}
	var order []price
	for op, cost := range cheapest {
		order = append(order, price{op, cost})
	}
	slices.SortFunc(order, func(a, b price) int { return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.operator, b.operator)) })

	chosen, used := map[int]bool{}, map[string]bool{}
	// completes says whether the cheapest operators still free, but for op, can
	// fill the set up within left.
	completes := func(op string, missing int, left sallyport.Money) bool {
		for _, o := range order {
			if missing == 0 {
				break
			}
			if o.operator == op || used[o.operator] {
				continue
			}
			if left -= o.cost; left < 0 {
				return false
			}
			missing--
		}
		return missing == 0
	}
	left := budget
	for i, c := range fit {
		if len(chosen) == n {
			break
		}
		op := c.Node.Operator
		if used[op] || c.Cost > left || !completes(op, n-len(chosen)-1, left-c.Cost) {
			continue
		}
		chosen[i], used[op] = true, true
		left -= c.Cost
	}
	if len(chosen) < n {
		return nil
	}
	return chosen
}

// tooFew says why there is no placement: what is missing, then why each lost.
func tooFew(p Placement, t Task, budget sallyport.Money) error {
	operators := map[string]bool{}
	for _, c := range p.Spare {
		operators[c.Node.Operator] = true
	}
	var b strings.Builder
	switch {
	case len(p.Spare)+len(p.Refused) == 0:
		fmt.Fprintf(&b, "no %s node is known", t.Side)
	case len(operators) < t.Copies:
		fmt.Fprintf(&b, "%d operators could run it, %d are needed", len(operators), t.Copies)
	default:
		fmt.Fprintf(&b, "%d executions cost more than the budget left (%s)", t.Copies, budget)
	}
	const most = 20
	for i, r := range p.Refused {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(p.Refused)-most)
			break
		}
		fmt.Fprintf(&b, "; %s: %s", orNothing(r.Node), r.Why)
	}
	return sallyport.Errorf("place", sallyport.Unavailable, "Wait for nodes, or change what the reasons name.", "%s", b.String())
}
