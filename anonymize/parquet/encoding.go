package parquet

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Encodings of values, as Encodings.md of the format's specification has them.
// No decoder makes room for what a page only claims to hold: callers say how
// many values there may be at most, and how many bytes.

var (
	errEncoding = errors.New("a page is not as its header says")
	errTooLarge = errors.New("a page holds more than is allowed at once")
)

// decodeHybrid appends n values of the given width from the hybrid of runs and
// bit-packed groups.
func decodeHybrid[T uint8 | uint32](dst []T, b []byte, n, width int) ([]T, error) {
	if width > 32 {
		return dst, errEncoding
	}
	for n > 0 {
		head, w := binary.Uvarint(b)
		if w <= 0 {
			return dst, errEncoding
		}
		b = b[w:]
		count := head >> 1
		if head&1 == 0 {
			bytes := (width + 7) / 8
			if len(b) < bytes || count == 0 {
				return dst, errEncoding
			}
			v := uint64(0)
			for i := range bytes {
				v |= uint64(b[i]) << (8 * i)
			}
			if v >= 1<<width {
				return dst, errEncoding
			}
			b = b[bytes:]
			m := int(min(count, uint64(n)))
			for range m {
				dst = append(dst, T(v))
			}
			n -= m
			continue
		}
		// Groups of 8 values, width bytes each. Some writers leave off the
		// padding of the last group.
		m := n
		if count < uint64((n+7)/8) {
			m = int(count) * 8
		}
		if count == 0 || len(b) < (m*width+7)/8 {
			return dst, errEncoding
		}
		dst = unpack(dst, b, m, width)
		n -= m
		if n > 0 {
			b = b[int(count)*width:]
		}
	}
	return dst, nil
}

// unpack appends n bit-packed values, least significant bit first.
func unpack[T uint8 | uint32](dst []T, b []byte, n, width int) []T {
	mask := uint64(1)<<width - 1
	bit := 0
	i := 0
	for ; i < n && bit>>3+8 <= len(b); i++ {
		v := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7)
		dst = append(dst, T(v&mask))
		bit += width
	}
	for ; i < n; i++ {
		var v uint64
		for k := 0; k < 8 && bit>>3+k < len(b); k++ {
			v |= uint64(b[bit>>3+k]) << (8 * k)
		}
		dst = append(dst, T(v>>(bit&7)&mask))
		bit += width
	}
	return dst
}

// appendHybrid appends src in the hybrid encoding: a run where a value stands
// eight times or more, else groups of eight.
func appendHybrid[T uint8 | uint32](dst []byte, src []T, width int) []byte {
	bytes := (width + 7) / 8
	run := func(i int) int {
		j := i + 1
		for j < len(src) && src[j] == src[i] {
			j++
		}
		return j - i
	}
	for i := 0; i < len(src); {
		if n := run(i); n >= 8 || n == len(src)-i {
			dst = binary.AppendUvarint(dst, uint64(n)<<1)
			for k := range bytes {
				dst = append(dst, byte(uint64(src[i])>>(8*k)))
			}
			i += n
			continue
		}
		// Groups go on until one begins with a run.
		j := i
		for j < len(src) && (j == i || run(j) < 8) {
			j = min(j+8, len(src))
		}
		groups := (j - i + 7) / 8
		dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
		var acc uint64
		have := 0
		for k := range groups * 8 {
			if i+k < j {
				acc |= uint64(src[i+k]) << have
			}
			for have += width; have >= 8; have -= 8 {
				dst = append(dst, byte(acc))
				acc >>= 8
			}
		}
		i = j
	}
	return dst
}

// span is where a value lies in a page's bytes.
type span struct{ from, to uint32 }

// plainSpans finds n values that each stand after their length.
func plainSpans(dst []span, b []byte, n int) ([]span, error) {
	at := 0
	for range n {
		if len(b)-at < 4 {
			return dst, errEncoding
		}
		size := binary.LittleEndian.Uint32(b[at:])
		at += 4
		if uint64(size) > uint64(len(b)-at) {
			return dst, errEncoding
		}
		dst = append(dst, span{uint32(at), uint32(at) + size})
		at += int(size)
	}
	return dst, nil
}

// decodeDelta appends the values of DELTA_BINARY_PACKED, at most n, and returns
// what follows them. Arithmetic wraps, as the specification wants it.
func decodeDelta(dst []int64, b []byte, n, bitsOf int) ([]int64, []byte, error) {
	uvarint := func() uint64 {
		v, w := binary.Uvarint(b)
		if w <= 0 {
			w, v = len(b), 1<<63
		}
		b = b[w:]
		return v
	}
	block, minis, total := uvarint(), uvarint(), uvarint()
	first, w := binary.Varint(b)
	if w <= 0 || block == 0 || block%128 != 0 || block > 1<<16 || minis == 0 || minis > block/32 || block%minis != 0 || block/minis%32 != 0 || total > uint64(n) {
		return dst, b, errEncoding
	}
	b = b[w:]
	if total == 0 {
		return dst, b, nil
	}
	per := int(block / minis)
	dst = append(dst, first)
	left := int(total) - 1
	last := first
	for left > 0 {
		least, w := binary.Varint(b)
		if w <= 0 || len(b)-w < int(minis) {
			return dst, b, errEncoding
		}
		widths := b[w : w+int(minis)]
		b = b[w+int(minis):]
		for _, width := range widths {
			if left == 0 {
				break
			}
			if int(width) > bitsOf {
				return dst, b, errEncoding
			}
			size := per * int(width) / 8
			m := min(per, left)
			if need := (m*int(width) + 7) / 8; len(b) < need {
				return dst, b, errEncoding
			}
			bit := 0
			for range m {
				last += least + int64(bitsAt(b, bit, int(width)))
				if bitsOf == 32 {
					last = int64(int32(last))
				}
				dst = append(dst, last)
				bit += int(width)
			}
			b = b[min(size, len(b)):]
			left -= m
		}
	}
	return dst, b, nil
}

// bitsAt reads width bits, at most 64, from bit on.
func bitsAt(b []byte, bit, width int) uint64 {
	if width == 0 {
		return 0
	}
	at, shift := bit>>3, bit&7
	var lo uint64
	if at+8 <= len(b) {
		lo = binary.LittleEndian.Uint64(b[at:])
	} else {
		for k := 0; at+k < len(b); k++ {
			lo |= uint64(b[at+k]) << (8 * k)
		}
	}
	v := lo >> shift
	if shift+width > 64 && at+8 < len(b) {
		v |= uint64(b[at+8]) << (64 - shift)
	}
	return v & (^uint64(0) >> (64 - width))
}

// deltaLengthSpans finds n values of DELTA_LENGTH_BYTE_ARRAY.
func deltaLengthSpans(dst []span, b []byte, n int) ([]span, []byte, error) {
	lengths, rest, err := decodeDelta(nil, b, n, 32)
	if err != nil || len(lengths) != n {
		return dst, nil, errEncoding
	}
	at := int64(0)
	for _, size := range lengths {
		if size < 0 || size > int64(len(rest))-at {
			return dst, nil, errEncoding
		}
		dst = append(dst, span{uint32(at), uint32(at + size)})
		at += size
	}
	return dst, rest, nil
}

// deltaBytes decodes n values of DELTA_BYTE_ARRAY into at most limit bytes.
func deltaBytes(dst []span, out, b []byte, n, limit int) ([]span, []byte, error) {
	prefixes, rest, err := decodeDelta(nil, b, n, 32)
	if err != nil || len(prefixes) != n {
		return dst, out, errEncoding
	}
	suffixes, rest, err := deltaLengthSpans(nil, rest, n)
	if err != nil {
		return dst, out, err
	}
	var last span
	for i, s := range suffixes {
		p := prefixes[i]
		if p < 0 || p > int64(last.to-last.from) {
			return dst, out, errEncoding
		}
		if len(out)+int(p)+int(s.to-s.from) > limit {
			return dst, out, errTooLarge
		}
		from := uint32(len(out))
		out = append(out, out[last.from:last.from+uint32(p)]...)
		out = append(out, rest[s.from:s.to]...)
		last = span{from, uint32(len(out))}
		dst = append(dst, last)
	}
	return dst, out, nil
}

// unsplit undoes BYTE_STREAM_SPLIT for n values of the given width.
func unsplit(dst, b []byte, n, width int) ([]byte, error) {
	if width <= 0 || len(b) < n*width {
		return dst, errEncoding
	}
	for i := range n {
		for k := range width {
			dst = append(dst, b[k*n+i])
		}
	}
	return dst, nil
}

// levelWidth is the bits of a level that is at most most.
func levelWidth(most uint8) int { return bits.Len8(most) }
