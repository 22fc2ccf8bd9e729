package routing_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport"
	"sallyport/routing"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func wantKind(t testing.TB, err error, kind sallyport.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || sallyport.KindOf(err) != kind {
		t.Fatalf("error %v is %s, want %s", err, sallyport.KindOf(err), kind)
	}
}

func node(id string, change ...func(*routing.Node)) routing.Node {
	n := routing.Node{ID: id, Operator: "op-" + id, Side: sallyport.Outside, Region: "de", Recipient: "age1" + id,
		Hardware: routing.Hardware{MemoryMB: 4096, Runners: []string{"wasm"}}, Price: 2 * sallyport.Unit, Seen: now}
	for _, c := range change {
		c(&n)
	}
	return n
}

func task(change ...func(*routing.Task)) routing.Task {
	t := routing.Task{Job: "j1", Module: routing.Module{Name: "m", Runner: "wasm"}, Side: sallyport.Outside, MemoryMB: 1024,
		Walltime: time.Hour, Price: 5 * sallyport.Unit, Budget: 20 * sallyport.Unit, Copies: 1}
	for _, c := range change {
		c(&t)
	}
	return t
}

func snapshot(nodes ...routing.Node) routing.Snapshot {
	return routing.Snapshot{Now: now, Nodes: nodes, Remaining: 100 * sallyport.Unit}
}

func ids(list []routing.Choice) (out []string) {
	for _, c := range list {
		out = append(out, c.Node.ID)
	}
	return out
}

func TestPlaceFilters(t *testing.T) {
	good := node("good")
	for why, c := range map[string]struct {
		node func(*routing.Node)
		task func(*routing.Task)
		snap func(*routing.Snapshot)
	}{
		"must run outside":               {node: func(n *routing.Node) { n.Side = sallyport.Local; n.Price = 0 }},
		"it is (not said)":               {node: func(n *routing.Node) { n.Side = "" }},
		"it is OUTSIDE":                  {node: func(n *routing.Node) { n.Side = "OUTSIDE" }},
		"it is in us, allowed is de, fr": {node: func(n *routing.Node) { n.Region = "us" }, task: func(t *routing.Task) { t.Regions = []string{"de", "fr"} }},
		"it is in (not said), allowed":   {node: func(n *routing.Node) { n.Region = "" }, task: func(t *routing.Task) { t.Regions = []string{"de"} }},
		"no runner for wasm":             {node: func(n *routing.Node) { n.Hardware.Runners = []string{"native"} }},
		"1023 MB of memory":              {node: func(n *routing.Node) { n.Hardware.MemoryMB = 1023 }},
		"the cap is 5":                   {node: func(n *routing.Node) { n.Price = 5*sallyport.Unit + 1 }},
		"price is negative":              {node: func(n *routing.Node) { n.Price = -1 }},
		"more than 1m0s ago":             {node: func(n *routing.Node) { n.Seen = now.Add(-time.Minute - 1) }},
		"more than 5s ago":               {node: func(n *routing.Node) { n.Seen = now.Add(-6 * time.Second) }, snap: func(s *routing.Snapshot) { s.Stale = 5 * time.Second }},
		"in the future":                  {node: func(n *routing.Node) { n.Seen = now.Add(time.Hour) }},
		"excluded: lost the last run":    {snap: func(s *routing.Snapshot) { s.Exclude = map[string]string{"bad": "lost the last run"} }},
		"excluded: (not said)":           {snap: func(s *routing.Snapshot) { s.Exclude = map[string]string{"bad": ""} }},
		"standing 0.000 is below":        {snap: func(s *routing.Snapshot) { s.Standings = map[string]routing.Standing{"bad": {Correct: 99, Wrong: 1}} }},
		"standing NaN":                   {snap: func(s *routing.Snapshot) { s.Standings = map[string]routing.Standing{"bad": {Score: math.NaN()}} }},
		"beyond the budget left (" + (3 * sallyport.Unit / 2).String() + ")": {snap: func(s *routing.Snapshot) { s.Remaining = 3 * sallyport.Unit / 2 }},
		"beyond the budget left (" + sallyport.Money(0).String() + ")":       {snap: func(s *routing.Snapshot) { s.Remaining = -7 }},
		"its recipient": {node: func(n *routing.Node) { n.Recipient = "" }},
		"its operator":  {node: func(n *routing.Node) { n.Operator = "" }},
	} {
		bad := node("bad")
		if c.node != nil {
			c.node(&bad)
		}
		good.Price = 0 // the budget is no matter to it
		s, tk := snapshot(bad, good), task()
		if c.task != nil {
			c.task(&tk)
		}
		if c.snap != nil {
			c.snap(&s)
		}
		p, err := routing.Place(s, tk)
		if err != nil {
			t.Errorf("%s: %v", why, err)
			continue
		}
		if !slices.Equal(ids(p.Chosen), []string{"good"}) || len(p.Refused) != 1 || p.Refused[0].Node != "bad" || !strings.Contains(p.Refused[0].Why, why) {
			t.Errorf("%s: chosen %v, refused %+v", why, ids(p.Chosen), p.Refused)
		}
		s.Nodes = s.Nodes[:1]
		p, err = routing.Place(s, tk)
		wantKind(t, err, sallyport.Unavailable)
		if len(p.Chosen) != 0 || !strings.Contains(err.Error(), "bad: ") || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestPlaceBadTasks(t *testing.T) {
	for name, change := range map[string]func(*routing.Task){
		"no side":      func(t *routing.Task) { t.Side = "" },
		"unknown side": func(t *routing.Task) { t.Side = "both" },
		"no copies":    func(t *routing.Task) { t.Copies = 0 },
		"no walltime":  func(t *routing.Task) { t.Walltime = 0 },
		"no runner":    func(t *routing.Task) { t.Module.Runner = "" },
		"memory":       func(t *routing.Task) { t.MemoryMB = -1 },
		"price":        func(t *routing.Task) { t.Price = -1 },
		"budget":       func(t *routing.Task) { t.Budget = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			n := node("n", func(n *routing.Node) { n.Side = ""; n.Hardware.Runners = []string{""} })
			p, err := routing.Place(snapshot(node("m"), n), task(change))
			wantKind(t, err, sallyport.Invalid)
			if len(p.Chosen)+len(p.Spare) != 0 {
				t.Fatal("somebody was chosen all the same")
			}
		})
	}
}

func TestPlaceChoice(t *testing.T) {
	price := func(m sallyport.Money) func(*routing.Node) {
		return func(n *routing.Node) { n.Price = m * sallyport.Unit }
	}
	op := func(o string) func(*routing.Node) { return func(n *routing.Node) { n.Operator = o } }
	known := map[string]routing.Standing{"b": {Correct: 100, Score: .971}, "c": {Correct: 100, Lost: 300, Score: .971}}
	for name, c := range map[string]struct {
		nodes          []routing.Node
		standings      map[string]routing.Standing
		copies         int
		budget         sallyport.Money
		chosen, spares []string
	}{
		"cheapest":                      {nodes: []routing.Node{node("a", price(3)), node("b", price(1)), node("c", price(2))}, copies: 1, chosen: []string{"b"}, spares: []string{"c", "a"}},
		"ties go to the smaller ID":     {nodes: []routing.Node{node("c"), node("a"), node("b")}, copies: 2, chosen: []string{"a", "b"}, spares: []string{"c"}},
		"proved beats cheap":            {nodes: []routing.Node{node("a", price(1)), node("b", price(4))}, standings: known, copies: 1, chosen: []string{"b"}, spares: []string{"a"}},
		"so does reliable":              {nodes: []routing.Node{node("b", price(3)), node("c", price(2))}, standings: known, copies: 1, chosen: []string{"b"}, spares: []string{"c"}},
		"free ones compare by standing": {nodes: []routing.Node{node("a", price(0)), node("b", price(0))}, standings: known, copies: 1, chosen: []string{"b"}, spares: []string{"a"}},
		"one operator is one vote":      {nodes: []routing.Node{node("a", op("x"), price(1)), node("b", op("x"), price(2)), node("c", op("y"), price(5))}, copies: 2, chosen: []string{"a", "c"}, spares: []string{"b"}},
		"three within a budget":         {nodes: []routing.Node{node("b", price(4)), node("x", price(1)), node("y", price(1)), node("z", price(2))}, standings: known, copies: 3, budget: 4, chosen: []string{"x", "y", "z"}, spares: []string{"b"}},
		"the best that still fits":      {nodes: []routing.Node{node("b", price(4)), node("x", price(1)), node("y", price(1)), node("z", price(2))}, standings: known, copies: 3, budget: 6, chosen: []string{"b", "x", "y"}, spares: []string{"z"}},
		"the cheaper node of one vote":  {nodes: []routing.Node{node("b", price(4), op("o")), node("x", price(1), op("o")), node("y", price(2))}, standings: known, copies: 2, budget: 3, chosen: []string{"x", "y"}, spares: nil},
	} {
		tk := task(func(t *routing.Task) {
			t.Copies = c.copies
			if c.budget > 0 {
				t.Budget = c.budget * sallyport.Unit
			}
		})
		s := snapshot(c.nodes...)
		s.Standings = c.standings
		p, err := routing.Place(s, tk)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "the cheaper node of one vote" { // b alone is beyond the budget
			if len(p.Refused) != 1 || p.Refused[0].Node != "b" {
				t.Errorf("%s: refused %v", name, p.Refused)
			}
		}
		if !slices.Equal(ids(p.Chosen), c.chosen) || !slices.Equal(ids(p.Spare), c.spares) {
			t.Errorf("%s: chosen %v, spare %v", name, ids(p.Chosen), ids(p.Spare))
		}
		for _, ch := range append(p.Chosen, p.Spare...) {
			if len(ch.Reasons) == 0 {
				t.Errorf("%s: %s has no reasons", name, ch.Node.ID)
			}
		}
	}
}

func TestPlaceTooFew(t *testing.T) {
	same := func(n *routing.Node) { n.Operator = "one" }
	p, err := routing.Place(snapshot(node("a", same), node("b", same)), task(func(t *routing.Task) { t.Copies = 2 }))
	wantKind(t, err, sallyport.Unavailable)
	if !strings.Contains(err.Error(), "1 operators could run it, 2 are needed") || len(p.Chosen) != 0 || len(p.Spare) != 2 {
		t.Fatal(err, p)
	}
	_, err = routing.Place(snapshot(node("a"), node("b")), task(func(t *routing.Task) { t.Copies = 2; t.Budget = 3 * sallyport.Unit }))
	wantKind(t, err, sallyport.Unavailable)
	if !strings.Contains(err.Error(), "2 executions cost more than the budget left ("+(3*sallyport.Unit).String()+")") {
		t.Fatal(err)
	}
	_, err = routing.Place(snapshot(), task())
	wantKind(t, err, sallyport.Unavailable)
	_, err = routing.Place(snapshot(node("a"), node("a")), task())
	if err == nil || !strings.Contains(err.Error(), "several nodes claim this ID") {
		t.Fatal(err)
	}
	// A caught node takes its operator's others with it, outside.
	s := snapshot(node("a", same), node("b", same))
	s.Standings = map[string]routing.Standing{"a": {Wrong: 1}}
	_, err = routing.Place(s, task())
	if err == nil || !strings.Contains(err.Error(), "b: its operator's node a is below the floor") {
		t.Fatal(err)
	}
	// A price beyond what Money holds is no overflow into a bargain.
	for _, dear := range []sallyport.Money{1 << 62, math.MaxInt64, math.MaxInt64 / 3} {
		for _, long := range []time.Duration{1 << 44, 1000 * time.Hour, math.MaxInt64} {
			s := snapshot(node("a", func(n *routing.Node) { n.Price = dear }))
			s.Remaining = math.MaxInt64
			_, err = routing.Place(s, task(func(t *routing.Task) { t.Price, t.Budget, t.Walltime = math.MaxInt64, math.MaxInt64, long }))
			wantKind(t, err, sallyport.Unavailable)
		}
	}
	var many []routing.Node
	for n := range 1000 {
		many = append(many, node(fmt.Sprint("n", n), func(n *routing.Node) { n.Region = "us" }))
	}
	_, err = routing.Place(snapshot(many...), task(func(t *routing.Task) { t.Regions = []string{"de"} }))
	if len(err.Error()) > 2000 || !strings.Contains(err.Error(), "and 980 more") {
		t.Fatalf("%d bytes of error", len(err.Error()))
	}
}

func TestCostRoundsUp(t *testing.T) {
	n := node("a", func(n *routing.Node) { n.Price = 1 })
	p, err := routing.Place(snapshot(n), task(func(t *routing.Task) { t.Walltime = time.Nanosecond }))
	if err != nil || p.Chosen[0].Cost != 1 {
		t.Fatal(p, err)
	}
	n.Price = 3 * sallyport.Unit
	p, err = routing.Place(snapshot(n), task(func(t *routing.Task) { t.Walltime = 40 * time.Minute }))
	if err != nil || p.Chosen[0].Cost != 2*sallyport.Unit {
		t.Fatal(p, err)
	}
}

func drawNodes(t *rapid.T) []routing.Node {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) routing.Node {
		return routing.Node{
			ID:        rapid.SampledFrom([]string{"", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"}).Draw(t, "id"),
			Operator:  rapid.SampledFrom([]string{"", "o1", "o2", "o3", "o4"}).Draw(t, "operator"),
			Recipient: rapid.SampledFrom([]string{"r", "r", "r", ""}).Draw(t, "recipient"),
			Side:      rapid.SampledFrom([]sallyport.Destination{sallyport.Local, sallyport.Outside, sallyport.Outside, ""}).Draw(t, "side"),
			Region:    rapid.SampledFrom([]string{"de", "fr", ""}).Draw(t, "region"),
			Hardware: routing.Hardware{MemoryMB: int64(rapid.IntRange(-1, 4).Draw(t, "memory")),
				Runners: rapid.SampledFrom([][]string{nil, {"wasm"}, {"wasm", "native"}}).Draw(t, "runners")},
			Price: sallyport.Money(rapid.IntRange(-1, 10).Draw(t, "price")),
			Seen:  now.Add(time.Duration(rapid.IntRange(-90, 90).Draw(t, "seen")) * time.Second),
		}
	}), 0, 12).Draw(t, "nodes")
}

func drawTask(t *rapid.T) routing.Task {
	return task(func(k *routing.Task) {
		k.Side = rapid.SampledFrom([]sallyport.Destination{sallyport.Local, sallyport.Outside}).Draw(t, "task side")
		k.Regions = rapid.SampledFrom([][]string{nil, {"de"}, {"de", "fr"}}).Draw(t, "regions")
		k.MemoryMB = int64(rapid.IntRange(0, 3).Draw(t, "memory"))
		k.Walltime = time.Duration(rapid.IntRange(1, 5).Draw(t, "hours")) * 30 * time.Minute
		k.Price = sallyport.Money(rapid.IntRange(0, 10).Draw(t, "cap"))
		k.Budget = sallyport.Money(rapid.IntRange(0, 40).Draw(t, "budget"))
		k.Copies = rapid.IntRange(1, 3).Draw(t, "copies")
	})
}

func drawSnapshot(t *rapid.T) routing.Snapshot {
	s := routing.Snapshot{Now: now, Nodes: drawNodes(t), Remaining: sallyport.Money(rapid.IntRange(-1, 40).Draw(t, "remaining")),
		Standings: map[string]routing.Standing{}, Exclude: map[string]string{}}
	for _, n := range s.Nodes {
		switch rapid.IntRange(0, 5).Draw(t, "standing") {
		case 0:
			s.Standings[n.ID] = routing.Standing{Wrong: 1, Correct: 50}
		case 1:
			s.Standings[n.ID] = routing.Standing{Correct: 10, Lost: 2, Score: .76}
		case 2:
			s.Exclude[n.ID] = "lost"
		}
	}
	return s
}

// eligible is who passed the filters, whether there were enough or not.
func eligible(p routing.Placement) []string {
	out := append(ids(p.Chosen), ids(p.Spare)...)
	slices.Sort(out)
	return out
}

// TestPlaceNeverViolates says all filters again, in the plainest way, and
// checks each placement against them; and against every subset of nodes, that
// a possible placement is found.
func TestPlaceNeverViolates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, k := drawSnapshot(t), drawTask(t)
		p, err := routing.Place(s, k)
		count := map[string]int{}
		for _, n := range s.Nodes {
			count[n.ID]++
		}
		for _, c := range append(slices.Clone(p.Chosen), p.Spare...) {
			n := c.Node
			_, excluded := s.Exclude[n.ID]
			if n.Side != k.Side || len(k.Regions) > 0 && !slices.Contains(k.Regions, n.Region) || n.Price > k.Price || n.Price < 0 ||
				n.Hardware.MemoryMB < k.MemoryMB || !slices.Contains(n.Hardware.Runners, k.Module.Runner) || now.Sub(n.Seen).Abs() > time.Minute ||
				excluded || s.Standings[n.ID].Wrong > 0 || c.Cost > k.Budget || c.Cost > max(0, s.Remaining) || n.ID == "" || n.Operator == "" || n.Recipient == "" || count[n.ID] > 1 ||
				float64(c.Cost) < float64(n.Price)*k.Walltime.Hours() {
				t.Fatalf("%+v could not run %+v", c, k)
			}
		}
		if got := len(p.Chosen) + len(p.Spare) + len(p.Refused); got != len(s.Nodes) {
			t.Fatalf("%d of %d nodes accounted for", got, len(s.Nodes))
		}
		for _, r := range p.Refused {
			if r.Why == "" {
				t.Fatal("refused without a reason")
			}
		}
		if err != nil {
			if sallyport.KindOf(err) != sallyport.Unavailable || len(p.Chosen) != 0 {
				t.Fatal(err, p.Chosen)
			}
			if possible(p.Spare, k.Copies, max(0, min(k.Budget, s.Remaining))) {
				t.Fatalf("a placement was possible: %v", err)
			}
			return
		}
		operators, total := map[string]bool{}, sallyport.Money(0)
		for _, c := range p.Chosen {
			operators[c.Node.Operator] = true
			total += c.Cost
		}
		if len(p.Chosen) != k.Copies || len(operators) != k.Copies || total > k.Budget || total > max(0, s.Remaining) {
			t.Fatalf("%d nodes of %d operators for %d copies, %s", len(p.Chosen), len(operators), k.Copies, total)
		}
	})
}

// possible tries all sets.
func possible(list []routing.Choice, copies int, budget sallyport.Money) bool {
	for set := range 1 << len(list) {
		operators, n, total := map[string]bool{}, 0, sallyport.Money(0)
		for i, c := range list {
			if set>>i&1 == 1 {
				operators[c.Node.Operator] = true
				n++
				total += c.Cost
			}
		}
		if n == copies && len(operators) == copies && total <= budget {
			return true
		}
	}
	return false
}

func TestPlaceIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, k := drawSnapshot(t), drawTask(t)
		p, err := routing.Place(s, k)
		before := slices.Clone(s.Nodes)
		s.Nodes = rapid.Permutation(s.Nodes).Draw(t, "order")
		q, err2 := routing.Place(s, k)
		if !reflect.DeepEqual(p, q) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("order matters:\n%+v %v\n%+v %v\n%v", p, err, q, err2, before)
		}
	})
}

func TestTighteningNeverAdds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, k := drawSnapshot(t), drawTask(t)
		p, err := routing.Place(s, k)
		less := func(m sallyport.Money) sallyport.Money {
			return m - sallyport.Money(rapid.IntRange(0, int(m)).Draw(t, "less"))
		}
		switch rapid.IntRange(0, 8).Draw(t, "what") {
		case 0:
			k.Price = less(k.Price)
		case 1:
			k.Budget = less(k.Budget)
		case 2:
			s.Remaining -= sallyport.Money(rapid.IntRange(0, 20).Draw(t, "less"))
		case 3:
			k.MemoryMB++
		case 4:
			if k.Regions == nil {
				k.Regions = []string{"de", "fr"}
			} else {
				k.Regions = k.Regions[:1]
			}
		case 5:
			s.Exclude["n1"] = "again"
		case 6:
			s.Stale = time.Duration(rapid.IntRange(1, 60).Draw(t, "stale")) * time.Second
		case 7:
			k.Copies++
		case 8:
			s.Standings["n2"] = routing.Standing{Wrong: 1}
		}
		q, err2 := routing.Place(s, k)
		was := eligible(p)
		for _, id := range eligible(q) {
			if !slices.Contains(was, id) {
				t.Fatalf("%s was added", id)
			}
		}
		if err != nil && err2 == nil {
			t.Fatal("tightened, and suddenly possible")
		}
	})
}

// TestNothingMovesAcross: no property of a node or of a request but the task's
// side decides the side (invariant: sensitive stays).
func TestNothingMovesAcross(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, k := drawSnapshot(t), drawTask(t)
		k.Side = sallyport.Local
		for i := range s.Nodes { // make the outside irresistible
			if s.Nodes[i].Side != sallyport.Local {
				s.Nodes[i].Price, s.Nodes[i].Seen, s.Nodes[i].Region = 0, now, "de"
				s.Standings[s.Nodes[i].ID] = routing.Standing{Correct: 1e6, Score: 1}
			}
		}
		p, _ := routing.Place(s, k)
		for _, c := range append(p.Chosen, p.Spare...) {
			if c.Node.Side != sallyport.Local {
				t.Fatalf("a local task got %+v", c.Node)
			}
		}
	})
}

func BenchmarkPlace10k(b *testing.B) {
	var nodes []routing.Node
	for i := range 10_000 {
		nodes = append(nodes, node(fmt.Sprintf("n%05d", i), func(n *routing.Node) {
			n.Price = sallyport.Money(i%97) * sallyport.Unit / 10
			n.Region = []string{"de", "fr", "us"}[i%3]
		}))
	}
	s, k := snapshot(nodes...), task(func(t *routing.Task) { t.Regions = []string{"de"} })
	for b.Loop() {
		if _, err := routing.Place(s, k); err != nil {
			b.Fatal(err)
		}
	}
}
