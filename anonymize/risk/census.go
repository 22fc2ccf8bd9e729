package risk

import (
	"context"
	"errors"
	"slices"

	"sallyport"
)

// Options says what a census may use.
type Options struct {
	// Memory is shared with other censuses.
	Memory *Memory
	// Dir is where sorted runs go when memory is short: temporary files, sealed
	// under a key that lives in this process only, without a name where the
	// system allows it. "" means that the census may not spill: it is Exhausted.
	Dir string
	// Sensitive is the number of sensitive columns.
	Sensitive int
}

// Census counts records by class, exactly. In memory a class costs at most 32
// bytes, and a pair of a class and a sensitive value 54, but for small tables;
// on disk 24 and 40.
//
// An Add that fails as Exhausted has counted nothing, and the census can still
// be measured; after any other error it is of no use. It must be closed.
type Census struct {
	memory  *Memory
	vault   *vault // nil: it may not spill
	classes counter[[3]uint64]
	pairs   []counter[[5]uint64] // by sensitive column
	records int64
	taken   int64 // bytes of memory
	pinned  int   // being read: it must not spill
	settled bool  // the pairs in memory are sorted, to be read
	closed  bool
	err     error  // why it is of no use
	touched uint64 // keeps the compiler from leaving the reads ahead out
}

// counter is a table and what of it was spilled.
type counter[S slot] struct {
	table[S]
	runs runs[S]
}

// NewCensus makes an empty census.
func NewCensus(o Options) *Census {
	c := &Census{memory: o.Memory, pairs: make([]counter[[5]uint64], o.Sensitive)}
	if o.Dir != "" {
		c.vault = &vault{dir: o.Dir}
	}
	o.Memory.members = append(o.Memory.members, c)
	return c
}

// Add counts a record of a census without sensitive columns. It is Exhausted
// only where the census may not spill, and no other can make room.
func (c *Census) Add(class Key) error { return c.AddSensitive(class, nil) }

// AddSensitive counts a record with one value for each sensitive column.
func (c *Census) AddSensitive(class Key, values []Key) error {
	if err := c.ready(len(values), len(c.pairs)); err != nil {
		return err
	}
	return c.count(class, values)
}

// AddBatch counts records faster than one by one: several places in memory are
// looked up at once. values holds the values of the sensitive columns, one
// record after the other; it is empty if there are none. If it fails, Records
// tells how many of them were counted.
func (c *Census) AddBatch(classes, values []Key) error {
	n := len(c.pairs)
	if err := c.ready(len(values), n*len(classes)); err != nil {
		return err
	}
	const ahead = 64
	var sum uint64
	for i := 0; i < len(classes); i += ahead {
		part := classes[i:min(i+ahead, len(classes))]
		for j, k := range part {
			sum += c.classes.touch(k.hi)
			for s := range n {
				sum += c.pairs[s].touch(place(k, values[(i+j)*n+s]))
			}
		}
		if n == 0 {
			for _, k := range part {
				if err := add(c, &c.classes.table, &[3]uint64{1, k.hi, k.lo}); err != nil {
					return err
				}
				c.records++
			}
			continue
		}
		for j, k := range part {
			at := (i + j) * n
			if err := c.count(k, values[at:at+n]); err != nil {
				return err
			}
		}
	}
	c.touched = sum
	return nil
}

func (c *Census) ready(values, want int) error {
	switch {
	case c.err != nil:
		return c.err
	case c.closed:
		return sallyport.Errorf("census", sallyport.Internal, "", "a closed census cannot count")
	case values != want:
		return sallyport.Errorf("census", sallyport.Internal, "", "%d sensitive values for %d", values, want)
	case c.settled && c.vault == nil:
		return sallyport.Errorf("census", sallyport.Internal, "", "sensitive columns were measured: their census cannot go on")
	case c.settled:
		return c.spill(false)
	}
	return nil
}

// count counts one record, wholly or not at all.
func (c *Census) count(class Key, values []Key) error {
	k := [3]uint64{1, class.hi, class.lo}
	if len(values) > 0 {
		// Each table must have a place before any counts.
		again := true
		for tries := 0; again; tries++ {
			if tries == 4 { // there is not even memory for one shard of each
				return full()
			}
			again = false
			if s := shardOf(&k); !c.classes.spare(s) && c.classes.get(&k) == 0 {
				if err := grow(c, &c.classes.table, s); err != nil {
					return err
				}
				again = true
			}
			for i, v := range values {
				p := pairOf(class, v)
				if s := shardOf(&p); !c.pairs[i].spare(s) && c.pairs[i].get(&p) == 0 {
					if err := grow(c, &c.pairs[i].table, s); err != nil {
						return err
					}
					again = true
				}
			}
		}
	}
	if err := add(c, &c.classes.table, &k); err != nil {
		return err
	}
	for i, v := range values {
		p := pairOf(class, v)
		if err := add(c, &c.pairs[i].table, &p); err != nil {
			c.err = err // half counted
			return err
		}
	}
	c.records++
	return nil
}

func add[S slot](c *Census, t *table[S], k *S) error {
	for !t.add(k) {
		if err := grow(c, t, shardOf(k)); err != nil {
			return err
		}
	}
	return nil
}

// grow makes a shard larger, or spills and so empties it.
func grow[S slot](c *Census, t *table[S], s int) error {
	homes, size := t.next(s)
	for ; ; size = wider(size) {
		need, old := int64(size)*bytesOf[S](), int64(cap(t.shard[s]))*bytesOf[S]()
		// The old shard is freed only afterwards.
		if self, err := c.memory.room(need, c); err != nil || self {
			return err
		}
		if t.resize(s, homes, size) {
			c.take(need - old)
			return nil
		}
	}
}

func (c *Census) take(n int64) {
	c.taken += n
	c.memory.left -= n
}

// spread makes the sum of two keys differ from twice one, and spreads it.
const spread = 0x9e3779b97f4a7c15

// place is where a pair belongs in its table: spread by class and value, for a
// class may have many values and a value many classes. With the class it gives
// the value back.
func place(class, value Key) uint64 { return class.hi*spread + value.hi }

func pairOf(class, value Key) [5]uint64 {
	return [5]uint64{1, place(class, value), class.hi, class.lo, value.lo}
}

// settle sorts the pairs in memory by class and then by value, each shard for
// itself; they can only be read then.
func (c *Census) settle() {
	if c.settled {
		return
	}
	c.settled = len(c.pairs) > 0
	for i := range c.pairs {
		t := &c.pairs[i].table
		for s := range shards {
			used := t.shard[s][:0]
			for _, p := range t.shard[s] {
				if p[0] > 0 {
					used = append(used, [5]uint64{p[0], p[2], p[3], p[1] - p[2]*spread, p[4]})
				}
			}
			slices.SortFunc(used, compare[[5]uint64])
			t.shard[s] = used
		}
	}
}

func compare[S slot](a, b S) int {
	switch {
	case before(&a, &b):
		return -1
	case before(&b, &a):
		return 1
	}
	return 0
}

func (t *table[S]) sources(ctx context.Context, ordered bool) (out []*source[S]) {
	if ordered {
		return []*source[S]{memorySource(ctx, t.shard[:]...)}
	}
	for s := range shards {
		if len(t.shard[s]) > 0 {
			out = append(out, memorySource(ctx, t.shard[s]))
		}
	}
	return out
}

// spill writes the tables to runs. keep says that those that were well used
// stay as large as they are.
func (c *Census) spill(keep bool) (err error) {
	c.settle()
	err = spillTable(c.vault, &c.classes, true, keep)
	for i := range c.pairs {
		err = errors.Join(err, spillTable(c.vault, &c.pairs[i], false, keep))
	}
	c.settled = false
	if err != nil {
		c.err = err
		return err
	}
	left := c.classes.bytes()
	for i := range c.pairs {
		left += c.pairs[i].bytes()
	}
	c.take(left - c.taken)
	return nil
}

func spillTable[S slot](v *vault, t *counter[S], ordered, keep bool) error {
	used, room := t.load()
	if used > 0 {
		m, err := merge(t.sources(context.Background(), ordered))
		if err != nil {
			return err
		}
		r, err := write(v, m.next)
		if err != nil {
			return err
		}
		if err := t.runs.add(r); err != nil {
			return err
		}
	}
	t.empty(keep && used > 0 && 2*used >= room)
	return nil
}

// Records returns how many were counted.
func (c *Census) Records() int64 { return c.records }

// Spilled returns the bytes that were written to disk so far.
func (c *Census) Spilled() int64 {
	if c.vault == nil {
		return 0
	}
	return c.vault.written
}

// Close gives memory and files back.
func (c *Census) Close() error {
	c.closed = true
	c.classes.empty(false)
	err := c.classes.runs.close()
	for i := range c.pairs {
		c.pairs[i].empty(false)
		err = errors.Join(err, c.pairs[i].runs.close())
	}
	c.memory.leave(c)
	return err
}

// read checks that a census can be read.
func (c *Census) read() error {
	if c.err == nil && c.closed {
		return sallyport.Errorf("census", sallyport.Internal, "", "a closed census cannot be read")
	}
	return c.err
}

// stream returns the classes in order.
func (c *Census) stream(ctx context.Context) (*merged[[3]uint64], error) {
	return merge(append(c.classes.sources(ctx, true), c.classes.runs.sources(ctx)...))
}

// Sizes returns the class sizes, smallest first. More may be added afterwards.
func (c *Census) Sizes(ctx context.Context) ([]Size, error) {
	if err := c.read(); err != nil {
		return nil, err
	}
	m, err := c.stream(ctx)
	if err != nil {
		return nil, err
	}
	var few [256]int64 // most classes are small
	by := map[int64]int64{}
	for {
		s, ok, err := m.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if s[0] < uint64(len(few)) {
			few[s[0]]++
		} else {
			by[int64(s[0])]++
		}
	}
	for n, classes := range few {
		if classes > 0 {
			by[int64(n)] = classes
		}
	}
	out := make([]Size, 0, len(by))
	for _, n := range sortedKeys(by) {
		out = append(out, Size{Records: n, Classes: by[n]})
	}
	return out, nil
}

// SizesIn returns the class sizes with those that the classes have in a
// population counted with the same hasher, and the number of records whose
// class has fewer records there: a population that holds the table has none.
// Such a class is taken to have as many as the table.
func (c *Census) SizesIn(ctx context.Context, population *Census) (sizes []Size, missing int64, err error) {
	if err := errors.Join(c.read(), population.read()); err != nil {
		return nil, 0, err
	}
	table, err := c.stream(ctx)
	if err != nil {
		return nil, 0, err
	}
	people, err := population.stream(ctx)
	if err != nil {
		return nil, 0, err
	}
	by := map[[2]int64]int64{}
	p, more, err := people.next()
	for err == nil {
		var s [3]uint64
		var ok bool
		if s, ok, err = table.next(); !ok {
			break
		}
		for more && err == nil && before(&p, &s) {
			p, more, err = people.next()
		}
		n, in := int64(s[0]), int64(0)
		if more && same(&p, &s) {
			in = int64(p[0])
		}
		if in < n {
			missing += n
			in = n
		}
		by[[2]int64{n, in}]++
	}
	if err != nil {
		return nil, 0, err
	}
	for k, classes := range by {
		sizes = append(sizes, Size{Records: k[0], Population: k[1], Classes: classes})
	}
	return ordered(sizes), missing, nil
}
