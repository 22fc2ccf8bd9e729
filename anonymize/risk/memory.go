package risk

import (
	"slices"

	"sallyport"
)

// Memory is what the tables of several censuses may take together, in bytes.
// Where it is used up, the census that has taken most of those that may spill
// does so, whichever asked. Besides, each spilled census needs buffers of up to
// 64 KiB for each of its runs while they are merged, of which there are fewer
// than 32 of each size. Memory and its censuses are for one goroutine at a time.
type Memory struct {
	limit, left int64
	members     []*Census
}

// NewMemory allows so many bytes.
func NewMemory(bytes int64) *Memory { return &Memory{limit: bytes, left: bytes} }

// room sees to it that need bytes are left, for a census. If that census
// itself was spilled for it, room returns true at once: it may not need the
// bytes any more.
func (m *Memory) room(need int64, c *Census) (self bool, err error) {
	for m.left < need {
		big := m.largest()
		if big == nil {
			return false, full()
		}
		if err := big.spill(big == c); err != nil {
			return false, err
		}
		if big == c {
			return true, nil
		}
	}
	return false, nil
}

// free spills until need bytes are left, or nothing more can be had.
func (m *Memory) free(need int64) error {
	for m.left < need {
		big := m.largest()
		if big == nil {
			return nil
		}
		if err := big.spill(false); err != nil {
			return err
		}
	}
	return nil
}

// largest returns the census that has taken most of those that can give it back.
func (m *Memory) largest() *Census {
	var big *Census
	for _, c := range m.members {
		if c.vault != nil && c.pinned == 0 && c.taken > 0 && (big == nil || c.taken > big.taken) {
			big = c
		}
	}
	return big
}

func (m *Memory) leave(c *Census) {
	m.left += c.taken
	c.taken = 0
	m.members = slices.DeleteFunc(m.members, func(o *Census) bool { return o == c })
}

func full() error {
	return sallyport.Errorf("census", sallyport.Exhausted, "Generalize the quasi-identifiers more, name fewer of them, or allow more memory.",
		"the equivalence classes do not fit in the memory allowed for counting them")
}
