package model

import (
	"context"
	"math"
	"slices"

	"sallyport"
)

// maxNodes bounds the lattice that a search may visit: a byte and a bound each.
const maxNodes = 1 << 20

// maxCovered bounds the lattices that are searched by covering, which looks at
// every node for every check.
const maxCovered = 1 << 17

// Goal is what a search looks for.
type Goal struct {
	Criteria []Criterion
	// Limit is the share of the records that may be suppressed, 0 to 1: those
	// of the classes for which a criterion does not hold.
	Limit float64
	Loss  Loss
}

// Solution is what a search found.
type Solution struct {
	Levels     []int // of the table's quasi-identifiers, in order
	Loss       Value
	Classes    int64 // that leave
	Smallest   int64 // records of the smallest of them; 0 if none leaves
	Suppressed int64 // records
	Nodes      int   // of the lattice
	Checks     int   // groupings that were made
}

// checked is what one check of a node learnt.
type checked struct {
	holds      bool
	possible   bool // the records in classes smaller than any criterion allows are within the limit
	suppressed int64
	classes    int64
	smallest   int64
}

// Check groups the table at the given levels and marks the classes to suppress.
// Its answer says whether the goal is reached; Loss is set then.
func Check(t *Table, goal Goal, levels []int) (Solution, *Grouping, bool, error) {
	if err := check(t, goal.Criteria, goal.Limit); err != nil {
		return Solution{}, nil, false, err
	}
	if err := t.fits(levels); err != nil {
		return Solution{}, nil, false, err
	}
	g := t.Group(levels)
	c := examine(g, nil, goal.Criteria, allowed(t.records, goal.Limit))
	s := Solution{Levels: slices.Clone(levels), Classes: c.classes, Smallest: c.smallest, Suppressed: c.suppressed, Checks: 1}
	if c.holds && goal.Loss != nil {
		s.Loss, _ = goal.Loss.Of(levels, g)
	}
	return s, g, c.holds, nil
}

func (t *Table) fits(levels []int) error {
	top := t.Height()
	ok := len(levels) == len(top)
	for i := 0; ok && i < len(top); i++ {
		ok = levels[i] >= 0 && levels[i] <= top[i]
	}
	if !ok {
		return sallyport.Errorf("model", sallyport.Invalid, "", "levels %v do not fit a lattice up to %v", levels, top)
	}
	return nil
}

// allowed is how many records may be suppressed.
func allowed(records int64, limit float64) int64 { return int64(limit * float64(records)) }

func examine(g *Grouping, rows []int32, criteria []Criterion, limit int64) checked {
	var least int64
	for _, m := range criteria {
		least = max(least, m.Least())
	}
	var c checked
	var small int64
	for _, n := range g.Records {
		if n < least {
			small += n
		}
	}
	if c.possible = small <= limit; !c.possible {
		return c
	}
	g.each(rows, func(class int, k Class) {
		for _, m := range criteria {
			if !m.Holds(k) {
				g.Suppressed[class] = true
				c.suppressed += k.Records
				return
			}
		}
		if c.classes == 0 || k.Records < c.smallest {
			c.smallest = k.Records
		}
		c.classes++
	})
	c.holds = c.suppressed <= limit
	return c
}

// Search finds the levels with the least loss at which the goal is reached; of
// several with the same loss, those that come first in lexical order. It is
// exact: no node that could be better is left out. Its answer is a
// sallyport.NotFound where even the top of the lattice does not do.
func Search(ctx context.Context, t *Table, goal Goal) (Solution, error) {
	return searchWith(ctx, t, goal, maxCovered)
}

func searchWith(ctx context.Context, t *Table, goal Goal, covered int) (Solution, error) {
	if err := check(t, goal.Criteria, goal.Limit); err != nil {
		return Solution{}, err
	}
	if goal.Loss == nil {
		return Solution{}, sallyport.Errorf("model", sallyport.Invalid, "", "there is no loss to keep low")
	}
	l, err := newLattice(t.Height())
	if err != nil {
		return Solution{}, err
	}
	s := &search{ctx: ctx, table: t, goal: goal, lattice: l, limit: allowed(t.records, goal.Limit), covered: covered, best: -1}
	s.ordered = s.limit == 0
	if !s.ordered {
		s.ordered = !slices.ContainsFunc(goal.Criteria, func(m Criterion) bool { return !m.Absorbs() })
	}
	s.bounds()
	if err := s.climb(); err != nil {
		return Solution{}, err
	}
	if !s.ordered || !goal.Loss.Fixed() {
		if err := s.sweep(); err != nil {
			return Solution{}, err
		}
	}
	if s.best < 0 {
		return Solution{}, sallyport.Errorf("model", sallyport.NotFound, "Ask for less, allow more suppression, or generalize a sensitive column.",
			"no generalization reaches the goal")
	}
	s.found.Nodes, s.found.Checks = l.nodes, s.checks
	return s.found, nil
}

type search struct {
	ctx     context.Context
	table   *Table
	goal    Goal
	lattice *lattice
	limit   int64
	covered int // nodes of the largest lattice to search by covering
	// ordered says that every node above one that reaches the goal reaches it.
	ordered bool
	bound   []Value // node → loss at least; nil if the loss has no bounds
	order   []int32 // nodes by bound
	checks  int
	best    int
	found   Solution
}

// bounds sorts the nodes by what they cost at least.
func (s *search) bounds() {
	l := s.lattice
	s.order = make([]int32, l.nodes)
	levels := make([]int, len(l.top))
	known := s.goal.Loss.Bound(levels) != nil
	if known {
		s.bound = make([]Value, l.nodes)
	}
	height := make([]int, l.nodes)
	for n := range l.nodes {
		s.order[n] = int32(n)
		l.levels(n, levels)
		for _, lev := range levels {
			height[n] += lev
		}
		if known {
			s.bound[n] = s.goal.Loss.Bound(levels)
		}
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		if known {
			if c := slices.Compare(s.bound[a], s.bound[b]); c != 0 {
				return c
			}
		} else if c := height[a] - height[b]; c != 0 {
			return c
		}
		return int(a - b)
	})
}

// worthless says that a node cannot be better than the best so far.
func (s *search) worthless(n int) bool {
	if s.best < 0 || s.bound == nil {
		return false
	}
	c := slices.Compare(s.bound[n], s.found.Loss)
	return c > 0 || c == 0 && n >= s.best
}

// test checks a node, tags what follows from the answer, and keeps the node if
// it is the best so far. In an ordered lattice its answer is whether the node
// reaches the goal, in another whether one at or above the node might.
func (s *search) test(n int) (bool, error) {
	if err := s.ctx.Err(); err != nil {
		return false, sallyport.E("model", sallyport.Canceled, err, "")
	}
	l := s.lattice
	levels := make([]int, len(l.top))
	l.levels(n, levels)
	g := s.table.Group(levels)
	c := examine(g, nil, s.goal.Criteria, s.limit)
	s.checks++
	l.tag[n] |= tested
	if !c.possible || s.ordered && !c.holds {
		l.down(n, fails)
	}
	if s.ordered && c.holds || !s.ordered && c.possible {
		l.up(n, reaches)
	}
	if c.holds {
		loss, bound := s.goal.Loss.Of(levels, g)
		if cmp := slices.Compare(loss, s.found.Loss); s.best < 0 || cmp < 0 || cmp == 0 && n < s.best {
			s.best = n
			s.found = Solution{Levels: levels, Loss: loss, Classes: c.classes, Smallest: c.smallest, Suppressed: c.suppressed}
		}
		if slices.Compare(bound, s.found.Loss) > 0 {
			l.up(n, pruned)
		}
	}
	if s.ordered {
		return c.holds, nil
	}
	return c.possible, nil
}

// climb tags the whole lattice as below or above the border of the ordered
// condition, as far as nodes there could be better than the best: first along
// one path upward, then by covering in small lattices, and along more paths in
// large ones.
func (s *search) climb() error {
	for _, start := range s.order {
		for s.open(int(start)) {
			if err := s.bisect(s.path(int(start))); err != nil {
				return err
			}
			if s.best >= 0 && s.lattice.nodes <= s.covered {
				return s.cover()
			}
		}
	}
	return nil
}

// open says that a node is undecided and could be better than the best.
func (s *search) open(n int) bool {
	return s.lattice.tag[n]&(fails|reaches|pruned) == 0 && !s.worthless(n)
}

// bisect searches a path for the border by halving (Flash).
func (s *search) bisect(path []int) error {
	lo, hi := 0, len(path)-1
	for mid := hi; lo <= hi; mid = (lo + hi) / 2 {
		// The end of the path first: if it fails, so does all below it.
		ok, err := s.test(path[mid])
		if err != nil {
			return err
		}
		if ok {
			hi = mid - 1
		} else {
			lo = mid + 1
		}
	}
	return nil
}

// cover decides all open nodes. Each time it checks the node that promises to
// decide most: the number of open nodes at and below it, times the chance that
// it fails, which excludes them all. The chance is a guess by how much entropy
// the node loses beside the best, and the guess learns from each answer; a wrong
// one costs checks and never the answer.
func (s *search) cover() error {
	l := s.lattice
	guess := s.entropies()
	below := make([]int32, l.nodes)
	center, width := 0.05, 0.05 // as shares of the best node's entropy
	for {
		left := 0
		for n := range below {
			below[n] = 0
			if s.open(n) {
				below[n] = 1
				left++
			}
		}
		if left == 0 {
			return nil
		}
		for col, stride := range l.stride {
			for n := range below {
				if l.level(n, col) > 0 {
					below[n] += below[n-stride]
				}
			}
		}
		pick, most := -1, 0.0
		around := max(1, guess[max(0, s.best)])
		for n, c := range below {
			if c == 0 || l.tag[n]&(fails|reaches|pruned) != 0 {
				continue
			}
			chance := 1 / (1 + math.Exp((guess[n]/around-1-center)/width))
			if worth := float64(c) * chance; pick < 0 || worth > most {
				pick, most = n, worth
			}
		}
		ok, err := s.test(pick)
		if err != nil {
			return err
		}
		if ok {
			center -= width / 5
		} else {
			center += width / 10
		}
	}
}

// entropies returns the entropy that each node loses.
func (s *search) entropies() []float64 {
	l, loss := s.lattice, NewEntropyLoss(s.table, false)
	bits := make([]float64, l.nodes)
	levels := make([]int, len(l.top))
	for n := range bits {
		l.levels(n, levels)
		bits[n] = loss.Bound(levels)[0]
	}
	return bits
}

// path goes up from a node through nodes that are undecided and could still be
// better than the best, to the cheapest next one each time.
func (s *search) path(n int) []int {
	l := s.lattice
	path := []int{n}
	for {
		next := -1
		for col, stride := range l.stride {
			m := n + stride
			if l.level(n, col) == l.top[col] || !s.open(m) {
				continue
			}
			if next < 0 || s.cheaper(m, next) {
				next = m
			}
		}
		if next < 0 {
			return path
		}
		path, n = append(path, next), next
	}
}

func (s *search) cheaper(a, b int) bool {
	if s.bound == nil {
		return a > b // the last columns first: any fixed order does
	}
	c := slices.Compare(s.bound[a], s.bound[b])
	return c < 0 || c == 0 && a < b
}

// sweep checks every node that is left and could be better than the best.
func (s *search) sweep() error {
	l := s.lattice
	for _, n := range s.order {
		if s.worthless(int(n)) || l.tag[n]&(fails|pruned|tested) != 0 {
			continue
		}
		if _, err := s.test(int(n)); err != nil {
			return err
		}
	}
	return nil
}
