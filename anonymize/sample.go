package anonymize

import (
	"encoding/binary"
	"math/bits"
)

// sample counts distinct values by their hashes: exactly up to a number, and
// then by adaptive sampling (Wegman's method, analyzed by P. Flajolet, "On
// adaptive sampling", Computing 43, 1990): only hashes with depth zero bits are
// kept, each standing for 2^depth values; the standard error is 1.2/√most.
//
// What it holds in the end does not depend on the order of the values, nor on
// how they were dealt out to samples that are merged.
type sample struct {
	most  int // hashes kept
	depth uint
	mask  uint64 // hashes with one of these bits are not kept
	used  int
	shift uint     // of a hash, to its place
	slots []uint64 // open addressing; the lowest bit: seen again; 0 is free
}

const firstSlots = 1 << 6

func newSample(most int) *sample { return &sample{most: most} }

// add counts one value by its hash, of which the lowest bit is not used.
func (s *sample) add(hash uint64) {
	if hash&s.mask == 0 {
		s.put(hash&^1, false)
	}
}

// put notes a hash; again says that it was seen more than once already.
func (s *sample) put(hash uint64, again bool) {
	if hash == 0 {
		hash = 1 << 63 // 0 is a free slot
	}
	if s.slots == nil {
		s.resize(firstSlots)
	}
	last := len(s.slots) - 1
	for i := int(hash >> s.shift); ; i = (i + 1) & last {
		switch p := &s.slots[i]; {
		case *p&^1 == hash:
			*p |= 1
			return
		case *p == 0:
			*p = hash
			if again {
				*p |= 1
			}
			if s.used++; s.used > s.most {
				s.deepen(s.depth + 1)
			} else if 2*s.used > len(s.slots) {
				s.resize(2 * len(s.slots))
			}
			return
		}
	}
}

// deepen drops hashes until at most s.most have depth zero bits, or more.
func (s *sample) deepen(depth uint) {
	for {
		s.depth, s.mask = depth, (1<<depth-1)<<1
		s.resize(max(firstSlots, len(s.slots)))
		if s.used <= s.most {
			return
		}
		depth++
	}
}

// resize puts the hashes that are still kept into a table of so many slots.
func (s *sample) resize(slots int) {
	old := s.slots
	s.slots, s.used, s.shift = make([]uint64, slots), 0, 64
	for n := slots; n > 1; n >>= 1 {
		s.shift--
	}
	for _, p := range old {
		if p == 0 || p&s.mask != 0 {
			continue
		}
		i := int(p >> s.shift)
		for s.slots[i] != 0 {
			i = (i + 1) & (slots - 1)
		}
		s.slots[i] = p
		s.used++
	}
}

// merge adds what another sample of the same size saw.
func (s *sample) merge(o *sample) {
	if o.depth > s.depth {
		s.deepen(o.depth)
	}
	for _, p := range o.slots {
		if p != 0 && p&s.mask == 0 {
			s.put(p&^1, p&1 == 1)
		}
	}
}

// counts returns how many values were seen, and how many of them once.
func (s *sample) counts() (distinct, unique int64, estimated bool) {
	for _, p := range s.slots {
		if p != 0 {
			distinct++
			if p&1 == 0 {
				unique++
			}
		}
	}
	return distinct << s.depth, unique << s.depth, s.depth > 0
}

// spread hashes a value, eight bytes at a time by multiplying and folding (the
// step of wyhash, Wang Yi 2020; the factors are digits of pi). Unlike the keys of
// classes it has no seed, so that an estimate is the same each time.
func spread(v []byte) uint64 {
	h := uint64(len(v)) ^ 0x243f6a8885a308d3
	for len(v) >= 8 {
		h = fold(h^binary.LittleEndian.Uint64(v), 0x13198a2e03707345)
		v = v[8:]
	}
	var rest uint64
	for i, c := range v {
		rest |= uint64(c) << (8 * i)
	}
	h = fold(h^rest, 0xa4093822299f31d1)
	return fold(h^0x082efa98ec4e6c89, 0x452821e638d01377)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
