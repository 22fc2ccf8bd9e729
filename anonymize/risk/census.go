package risk

import (
	"encoding/binary"
	"hash/maphash"
	"math"
)

// Key stands for a class or a value: 128 bits of a hash with a secret seed.
type Key struct{ hi, lo uint64 }

// Hasher makes keys of tuples of values. Keys of two hashers cannot be compared.
type Hasher struct {
	a, b maphash.Seed
	buf  []byte
}

// NewHasher makes a hasher with a seed of its own.
func NewHasher() *Hasher { return &Hasher{a: maphash.MakeSeed(), b: maphash.MakeSeed()} }

// Key returns the key of the fields at the given places, but for the place
// skip; a negative one skips nothing.
func (h *Hasher) Key(fields [][]byte, places []int, skip int) Key {
	h.buf = h.buf[:0]
	for i, p := range places {
		if i == skip {
			continue
		}
		h.buf = binary.AppendUvarint(h.buf, uint64(len(fields[p])))
		h.buf = append(h.buf, fields[p]...)
	}
	return Key{maphash.Bytes(h.a, h.buf), maphash.Bytes(h.b, h.buf)}
}

// Memory is what several censuses may take together, in bytes.
type Memory struct{ left int64 }

// NewMemory allows so many bytes.
func NewMemory(bytes int64) *Memory { return &Memory{bytes} }

// What one entry costs, about, measured with Go 1.26's maps: the slot, what of
// the table is free while it doubles, and what waits for the collector.
const (
	classCost   = 96
	pairCost    = 128
	measureCost = 72 // of a class, while a sensitive column is measured
)

func (m *Memory) take(n int64) bool {
	if m.left < n {
		return false
	}
	m.left -= n
	return true
}

// Census counts records by class, exactly. It charges 96 bytes a class, and
// with a sensitive column 72 more and 128 a pair of class and value, whatever
// the number of records.
type Census struct {
	memory  *Memory
	cost    int64 // of a class
	records int64
	classes map[Key]int64
	pairs   map[[2]Key]int64
	values  map[Key]int64
}

// NewCensus makes an empty census; sensitive says whether it also counts the
// values of a sensitive column.
func NewCensus(m *Memory, sensitive bool) *Census {
	c := &Census{memory: m, cost: classCost, classes: map[Key]int64{}}
	if sensitive {
		c.pairs, c.values = map[[2]Key]int64{}, map[Key]int64{}
		c.cost += measureCost
	}
	return c
}

// Add counts a record. It reports false where memory has run out; the census is
// then no longer exact and must not be used.
func (c *Census) Add(class, value Key) bool {
	n, ok := c.classes[class]
	if !ok && !c.memory.take(c.cost) {
		return false
	}
	c.classes[class] = n + 1
	c.records++
	if c.pairs == nil {
		return true
	}
	pair := [2]Key{class, value}
	n, ok = c.pairs[pair]
	if !ok && !c.memory.take(pairCost) {
		return false
	}
	c.pairs[pair] = n + 1
	n, ok = c.values[value]
	if !ok && !c.memory.take(classCost) {
		return false
	}
	c.values[value] = n + 1
	return true
}

// Release gives the memory back; the census is empty then.
func (c *Census) Release() {
	c.memory.left += c.cost*int64(len(c.classes)) + classCost*int64(len(c.values)) + pairCost*int64(len(c.pairs))
	c.classes, c.pairs, c.values, c.records = nil, nil, nil, 0
}

// Records returns how many were counted.
func (c *Census) Records() int64 { return c.records }

// Sizes returns the class sizes, smallest first.
func (c *Census) Sizes() []Size {
	return Sizes(func(yield func(int64) bool) {
		for _, n := range c.classes {
			if !yield(n) {
				return
			}
		}
	})
}

// SizesIn returns the class sizes with those that the classes have in a
// population counted with the same hasher, and the number of records whose
// class has fewer records there: a population that holds the table has none.
// Such a class is taken to have as many as the table.
func (c *Census) SizesIn(population *Census) (sizes []Size, missing int64) {
	by := map[[2]int64]int64{}
	for k, n := range c.classes {
		p := population.classes[k]
		if p < n {
			missing += n
			p = n
		}
		by[[2]int64{n, p}]++
	}
	for k, classes := range by {
		sizes = append(sizes, Size{Records: k[0], Population: k[1], Classes: classes})
	}
	return ordered(sizes), missing
}

// Sensitive is how well a sensitive column's values are hidden in the classes.
type Sensitive struct {
	Values    int64   `json:"values"`    // distinct in the table
	Distinct  int64   `json:"distinct"`  // distinct l-diversity: the fewest values in a class
	Entropy   float64 `json:"entropy"`   // entropy l-diversity: 2 to the least entropy of a class
	Closeness float64 `json:"closeness"` // t-closeness with equal distances: the largest of a class
}

// Sensitive measures the sensitive column; the zero value for an empty table.
func (c *Census) Sensitive() Sensitive {
	type class struct {
		distinct   int64
		bits, away float64
	}
	if c.records == 0 || c.pairs == nil {
		return Sensitive{}
	}
	by := make(map[Key]class, len(c.classes))
	for pair, n := range c.pairs {
		k := by[pair[0]]
		p := float64(n) / float64(c.classes[pair[0]])
		q := float64(c.values[pair[1]]) / float64(c.records)
		k.distinct++
		k.bits -= p * math.Log2(p)
		k.away += max(0, p-q) // what is too much in the class is too little elsewhere
		by[pair[0]] = k
	}
	s := Sensitive{Values: int64(len(c.values)), Distinct: math.MaxInt64, Entropy: math.Inf(1)}
	for _, k := range by {
		s.Distinct = min(s.Distinct, k.distinct)
		s.Entropy = min(s.Entropy, math.Exp2(k.bits))
		s.Closeness = max(s.Closeness, k.away)
	}
	return s
}
