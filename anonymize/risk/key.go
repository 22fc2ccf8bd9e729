package risk

import (
	"encoding/binary"
	"hash/maphash"
)

// Key stands for a class or a value: 128 bits of a hash with a secret seed.
type Key struct{ hi, lo uint64 }

// KeyOf makes a key of two independent 64-bit hashes. Both must be spread
// evenly: a census places keys by their bits as they are.
func KeyOf(hi, lo uint64) Key { return Key{hi, lo} }

// Hasher makes keys of tuples of values. Keys of two hashers cannot be compared.
//
// Two tuples with the same key would be counted as one. If both 64-bit halves
// behave as independent random functions, the chance of any collision among n
// tuples is below n²/2^129: 2e-23 for a hundred million. maphash is no
// cryptographic hash, but its seeds are secret and drawn anew, so nobody can
// prepare data for it.
type Hasher struct {
	a, b maphash.Seed
	buf  []byte
}

// NewHasher makes a hasher with a seed of its own.
func NewHasher() *Hasher { return &Hasher{a: maphash.MakeSeed(), b: maphash.MakeSeed()} }

// Key returns the key of the fields at the given places, but for the place
// skip; a negative one skips nothing. Each value is preceded by its length, so
// that ("ab","c") and ("a","bc") differ.
func (h *Hasher) Key(fields [][]byte, places []int, skip int) Key {
	h.buf = h.buf[:0]
	for i, p := range places {
		if i == skip {
			continue
		}
		h.buf = binary.AppendUvarint(h.buf, uint64(len(fields[p])))
		h.buf = append(h.buf, fields[p]...)
	}
	return h.key(h.buf)
}

func (h *Hasher) key(value []byte) Key {
	return Key{maphash.Bytes(h.a, value), maphash.Bytes(h.b, value)}
}
