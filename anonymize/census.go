package anonymize

import (
	"math"

	"sallyport"
)

// budget is memory that several censuses share, in bytes.
type budget struct{ left int64 }

const (
	shards     = 256
	slotSize   = 24 // bytes of one slot
	firstSlots = 16 // slots of a shard when it is first used
)

// slot is one equivalence class: its hash and its number of records. A free
// slot has no records.
type slot struct {
	class
	n uint64
}

// census counts records by equivalence class exactly. It is an open-addressing
// table in 256 shards that grow one by one, so that growing costs the memory
// of one shard more and no long pause.
type census struct {
	budget  *budget
	shard   [shards][]slot
	used    [shards]int
	taken   int64 // bytes drawn from budget
	stopped bool

	// What the census had counted when it was stopped.
	final sallyport.Risk
}

func newCensus(b *budget) *census { return &census{budget: b} }

// add counts one record of class k. It reports false, and counts nothing, if
// the class is new and the budget has no room for it.
func (c *census) add(k class) bool {
	s := k.hi >> 56
	table := c.shard[s]
	if 4*c.used[s] >= 3*len(table) {
		if !c.grow(int(s)) {
			// A known class still needs no room.
			if p := probe(table, k); p != nil && p.n > 0 {
				p.n++
				return true
			}
			return false
		}
		table = c.shard[s]
	}
	p := probe(table, k)
	if p.n == 0 {
		p.class = k
		c.used[s]++
	}
	p.n++
	return true
}

// warm reads the places of classes that are about to be added, so that their
// cache misses overlap instead of following each other. Its answer has no meaning.
func (c *census) warm(classes []class) (sum uint64) {
	for _, k := range classes {
		if table := c.shard[k.hi>>56]; len(table) > 0 {
			sum += table[k.lo&uint64(len(table)-1)].n
		}
	}
	return sum
}

// probe returns the slot of a class, or the free slot where it belongs; nil
// for an empty table. A table is never full.
func probe(table []slot, k class) *slot {
	if len(table) == 0 {
		return nil
	}
	mask := uint64(len(table) - 1)
	for i := k.lo & mask; ; i = (i + 1) & mask {
		p := &table[i]
		if p.n == 0 || p.class == k {
			return p
		}
	}
}

// grow makes a shard four times as large while it is small, then twice, if the
// budget allows.
func (c *census) grow(s int) bool {
	old := c.shard[s]
	size := max(firstSlots, 2*len(old))
	if len(old) < 1024 {
		size = max(firstSlots, 4*len(old))
	}
	need := int64(size) * slotSize
	if need > c.budget.left { // the old table is freed only afterwards
		return false
	}
	table := make([]slot, size)
	for _, p := range old {
		if p.n > 0 {
			*probe(table, p.class) = p
		}
	}
	c.shard[s] = table
	freed := int64(len(old)) * slotSize
	c.budget.left -= need - freed
	c.taken += need - freed
	return true
}

// stop ends counting, keeps the figures so far and gives the memory back.
func (c *census) stop() {
	if c.stopped {
		return
	}
	c.final = c.measure()
	c.stopped = true
	c.shard = [shards][]slot{}
	c.budget.left += c.taken
	c.taken = 0
}

// measure computes the figures over the classes counted so far.
func (c *census) measure() sallyport.Risk {
	var r sallyport.Risk
	var unique int64
	smallest := uint64(math.MaxUint64)
	for _, table := range c.shard {
		for _, p := range table {
			if p.n == 0 {
				continue
			}
			r.Classes++
			r.Records += int64(p.n)
			smallest = min(smallest, p.n)
			if p.n == 1 {
				unique++
			}
		}
	}
	if r.Records > 0 {
		r.SmallestClass = int64(smallest)
		r.Unique = float64(unique) / float64(r.Records)
		r.Highest = 1 / float64(smallest)
		r.Average = float64(r.Classes) / float64(r.Records)
	}
	return r
}

// risk returns the figures; exact only if every record was counted.
func (c *census) risk(records int64, quasi []string) sallyport.Risk {
	r := c.final
	if !c.stopped {
		r = c.measure()
	}
	r.Exact = !c.stopped && r.Records == records
	r.Quasi = append([]string{}, quasi...)
	return r
}
