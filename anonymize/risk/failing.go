package risk

import (
	"context"

	"sallyport"
)

// Set is a set of classes, held in memory. Several goroutines may ask it at once.
type Set struct {
	memory  *Memory
	classes table[[3]uint64]
	taken   int64
	len     int64
}

// Has reports whether a class is in the set.
func (s *Set) Has(k Key) bool { return s.classes.get(&[3]uint64{0, k.hi, k.lo}) != 0 }

// Len returns the number of classes in the set.
func (s *Set) Len() int64 { return s.len }

// Close gives the set's memory back.
func (s *Set) Close() {
	s.memory.left += s.taken
	s.taken, s.len = 0, 0
	s.classes.empty(false)
}

// put adds a class and reports whether it is new.
func (s *Set) put(k *[3]uint64) (bool, error) {
	if s.classes.get(k) != 0 {
		return false, nil
	}
	t, i := &s.classes, shardOf(k)
	for !t.add(k) {
		homes, size := t.next(i)
		for ; ; size = wider(size) {
			need, old := int64(size)*bytesOf[[3]uint64](), int64(cap(t.shard[i]))*bytesOf[[3]uint64]()
			if _, err := s.memory.room(need, nil); err != nil {
				return false, err
			}
			if t.resize(i, homes, size) {
				s.taken += need - old
				s.memory.left -= need - old
				break
			}
		}
	}
	s.len++
	return true, nil
}

// Failing returns the classes that fail, and the number of records in them: a
// class with fewer than k records, or in which a sensitive column has fewer
// than l distinct values, or is farther than t from the whole table. A k or l
// of 0 is not asked for, nor is a t of 0, or of 1 or more.
//
// The set takes 24 to 32 bytes a class of the census's memory. Where they do
// not fit, the error is Exhausted, and the number of records, if k alone was
// asked for, is right nevertheless.
func (c *Census) Failing(ctx context.Context, k, l int64, t float64) (_ *Set, records int64, err error) {
	if err := c.read(); err != nil {
		return nil, 0, err
	}
	diverse, near := l > 0, t > 0 && t < 1
	if (diverse || near) && len(c.pairs) == 0 {
		return nil, 0, sallyport.Errorf("census", sallyport.Invalid, "Ask for k alone, or let a sensitive column leave.", "diversity and closeness were asked for, and there is no sensitive column")
	}
	if !c.classes.runs.none() { // leave all memory to the set
		if err := c.spill(false); err != nil {
			return nil, 0, err
		}
	}
	if diverse || near {
		if err := c.memory.free(c.memory.limit / 2); err != nil {
			return nil, 0, err
		}
	}
	c.pinned++
	defer func() { c.pinned-- }()
	set := &Set{memory: c.memory}
	defer func() {
		if err != nil {
			set.Close()
		}
	}()
	m, err := c.stream(ctx)
	if err != nil {
		return nil, 0, err
	}
	var full error
	for {
		s, ok, err := m.next()
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			break
		}
		if int64(s[0]) >= k {
			continue
		}
		records += int64(s[0])
		if full == nil {
			if _, full = set.put(&s); full != nil {
				set.Close()
			}
		}
	}
	if full != nil {
		return nil, records, full
	}
	for i := range c.pairs {
		if !diverse && !near {
			break
		}
		_, err := c.profiles(ctx, i, func(class *[3]uint64, p profile) error {
			if !(diverse && p.distinct < l || near && p.closeness > t) {
				return nil
			}
			fresh, err := set.put(class)
			if fresh {
				records += int64(class[0])
			}
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return set, records, nil
}
