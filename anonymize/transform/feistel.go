package transform

import (
	"crypto/cipher"
	"encoding/binary"
	"math/big"
	"math/bits"
)

// feistel is FF1, the format-preserving mode of NIST SP 800-38G (March 2016),
// algorithms 7 and 8: ten Feistel rounds over the two halves of a string of
// digits in some radix, with AES in CBC-MAC as the round function. It keeps
// buffers, so it is for one goroutine.
type feistel struct {
	block  cipher.Block
	radix  uint64 // 2 to 256 here; the standard goes to 2^16
	tweak  []byte
	shapes map[int]*shape // by the number of digits; at most maxDigitsFF1
	sum    [16]byte
	stream []byte
}

// maxDigitsFF1 bounds the digits of a value, and with them what is kept.
const maxDigitsFF1 = 256

// shape is what does not change among strings of one length: u, v, b and d of
// the standard, radix^u and radix^v, the first block of the round function
// encrypted, and the blocks after it, where a round writes its number and half.
type shape struct {
	u, v, b, d int
	mu, mv     uint64 // 0 where they do not fit
	bu, bv     *big.Int
	first      [16]byte
	q          []byte
}

func newFeistel(block cipher.Block, radix int, tweak []byte) *feistel {
	return &feistel{block: block, radix: uint64(radix), tweak: tweak, shapes: map[int]*shape{}}
}

func (f *feistel) shape(n int) *shape {
	if s := f.shapes[n]; s != nil {
		return s
	}
	s := &shape{u: n / 2, v: n - n/2}
	power := func(m int) *big.Int {
		return new(big.Int).Exp(new(big.Int).SetUint64(f.radix), big.NewInt(int64(m)), nil)
	}
	s.bu, s.bv = power(s.u), power(s.v)
	// ⌈v log2 radix⌉ is the length in bits of the greatest number of v digits.
	s.b = (new(big.Int).Sub(s.bv, big.NewInt(1)).BitLen() + 7) / 8
	s.d = (s.b+3)/4*4 + 4
	if s.bv.BitLen() <= 63 {
		s.mu, s.mv = s.bu.Uint64(), s.bv.Uint64()
	}
	t := len(f.tweak)
	p := [16]byte{1, 2, 1, byte(f.radix >> 16), byte(f.radix >> 8), byte(f.radix), 10, byte(s.u)}
	binary.BigEndian.PutUint32(p[8:], uint32(n))
	binary.BigEndian.PutUint32(p[12:], uint32(t))
	f.block.Encrypt(s.first[:], p[:])
	s.q = make([]byte, (t+1+s.b+15)/16*16)
	copy(s.q, f.tweak)
	f.shapes[n] = s
	return s
}

// round is the round function's first d bytes, of the blocks in s.q.
func (f *feistel) round(s *shape, i int) []byte {
	s.q[len(s.q)-s.b-1] = byte(i)
	f.sum = s.first
	for at := 0; at < len(s.q); at += 16 {
		for j := range f.sum {
			f.sum[j] ^= s.q[at+j]
		}
		f.block.Encrypt(f.sum[:], f.sum[:])
	}
	if s.d <= 16 {
		return f.sum[:s.d]
	}
	f.stream = append(f.stream[:0], f.sum[:]...)
	for j := uint64(1); len(f.stream) < s.d; j++ {
		x := f.sum
		binary.BigEndian.PutUint64(x[8:], binary.BigEndian.Uint64(x[8:])^j)
		f.block.Encrypt(x[:], x[:])
		f.stream = append(f.stream, x[:]...)
	}
	return f.stream[:s.d]
}

// encrypt replaces digits, each below the radix, by as many others; decrypt is
// its inverse.
func (f *feistel) encrypt(digits []byte) { f.crypt(digits, false) }
func (f *feistel) decrypt(digits []byte) { f.crypt(digits, true) }

func (f *feistel) crypt(digits []byte, back bool) {
	s := f.shape(len(digits))
	if s.mv != 0 {
		f.small(s, digits, back)
	} else {
		f.large(s, digits, back)
	}
}

// small works where each half is a number below 2^63.
func (f *feistel) small(s *shape, digits []byte, back bool) {
	a, b := f.number(digits[:s.u]), f.number(digits[s.u:])
	// y is the round function of x, modulo the power of radix of round i.
	y := func(i int, x uint64) (uint64, uint64) {
		var half [8]byte
		binary.BigEndian.PutUint64(half[:], x)
		copy(s.q[len(s.q)-s.b:], half[8-s.b:])
		r := f.round(s, i) // 8 or 12 bytes
		hi := uint64(0)
		if s.d == 12 {
			hi, r = uint64(binary.BigEndian.Uint32(r)), r[4:]
		}
		m := s.mu
		if i%2 == 1 {
			m = s.mv
		}
		return bits.Rem64(hi, binary.BigEndian.Uint64(r), m), m
	}
	for i := range 10 {
		if back {
			v, m := y(9-i, a)
			a, b = (b+m-v)%m, a
		} else {
			v, m := y(i, b)
			a, b = b, (a+v)%m
		}
	}
	f.write(digits[:s.u], a)
	f.write(digits[s.u:], b)
}

func (f *feistel) number(digits []byte) uint64 {
	n := uint64(0)
	for _, d := range digits {
		n = n*f.radix + uint64(d)
	}
	return n
}

func (f *feistel) write(digits []byte, n uint64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte(n % f.radix)
		n /= f.radix
	}
}

// large is small for any length.
func (f *feistel) large(s *shape, digits []byte, back bool) {
	radix := new(big.Int).SetUint64(f.radix)
	number := func(digits []byte) *big.Int {
		n := new(big.Int)
		for _, d := range digits {
			n.Add(n.Mul(n, radix), big.NewInt(int64(d)))
		}
		return n
	}
	y := func(i int, x *big.Int) (*big.Int, *big.Int) {
		x.FillBytes(s.q[len(s.q)-s.b:])
		m := s.bu
		if i%2 == 1 {
			m = s.bv
		}
		return new(big.Int).SetBytes(f.round(s, i)), m
	}
	a, b := number(digits[:s.u]), number(digits[s.u:])
	for i := range 10 {
		if back {
			v, m := y(9-i, a)
			v.Sub(b, v)
			a, b = v.Mod(v, m), a // Mod is Euclidean: never negative
		} else {
			v, m := y(i, b)
			v.Add(a, v)
			a, b = b, v.Mod(v, m)
		}
	}
	digit := new(big.Int)
	write := func(digits []byte, n *big.Int) {
		for i := len(digits) - 1; i >= 0; i-- {
			n.QuoRem(n, radix, digit)
			digits[i] = byte(digit.Uint64())
		}
	}
	write(digits[:s.u], a)
	write(digits[s.u:], b)
}
