package parquet

import (
	"encoding/binary"
	"errors"
)

// The file metadata and the page headers are Thrift structs in the compact
// protocol (Apache Thrift, "Thrift Compact protocol encoding"). Only what a
// table needs is read, and nothing is allocated for what is passed over, so a
// hostile footer costs no more than its own length.

// Types of the compact protocol.
const (
	ctStop   = 0
	ctTrue   = 1
	ctFalse  = 2
	ctByte   = 3
	ctI16    = 4
	ctI32    = 5
	ctI64    = 6
	ctDouble = 7
	ctBinary = 8
	ctList   = 9
	ctSet    = 10
	ctMap    = 11
	ctStruct = 12
)

const maxThriftDepth = 16 // Parquet's own structs nest 6 deep

var (
	errShort  = errors.New("the metadata ends too soon")
	errThrift = errors.New("the metadata is malformed")
)

// thriftReader reads from b. The first error stays, and everything read after
// it is zero.
type thriftReader struct {
	b     []byte
	pos   int
	depth int
	err   error
}

func (r *thriftReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *thriftReader) byte() byte {
	if r.err != nil {
		return 0
	}
	if r.pos >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

func (r *thriftReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.pos:])
	if n <= 0 {
		if n == 0 {
			r.fail(errShort)
		} else {
			r.fail(errThrift)
		}
		return 0
	}
	r.pos += n
	return v
}

func (r *thriftReader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// bytes returns a binary field in place.
func (r *thriftReader) bytes() []byte {
	n := r.uvarint()
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.pos) {
		r.fail(errShort)
		return nil
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// structure calls field for each field of a struct. field must read the value,
// or leave it to skip. A field that stands twice is refused: two programs may
// take different ones.
func (r *thriftReader) structure(field func(id int16, typ byte)) {
	if r.depth++; r.depth > maxThriftDepth {
		r.fail(errThrift)
	}
	defer func() { r.depth-- }()
	var seen uint64
	id := int16(0)
	for r.err == nil {
		c := r.byte()
		typ := c & 0x0f
		if r.err != nil || typ == ctStop {
			return
		}
		if delta := int16(c >> 4); delta != 0 {
			id += delta
		} else {
			id = int16(r.varint())
		}
		if 0 <= id && id < 64 {
			if seen&(1<<id) != 0 {
				r.fail(errThrift)
				return
			}
			seen |= 1 << id
		}
		field(id, typ)
	}
}

// list reads the head of a list whose items must be of type want. Its answer
// is at most the bytes that are left, as an item takes one at least.
func (r *thriftReader) list(typ, want byte) int {
	if typ != ctList {
		r.fail(errThrift)
		return 0
	}
	n, item := r.listHead()
	if n > 0 && item != want && !(want == ctTrue && item == ctFalse) {
		r.fail(errThrift)
		return 0
	}
	return n
}

func (r *thriftReader) listHead() (n int, item byte) {
	c := r.byte()
	size := uint64(c >> 4)
	if size == 15 {
		size = r.uvarint()
	}
	if r.err == nil && size > uint64(len(r.b)-r.pos) {
		r.fail(errShort)
	}
	if r.err != nil {
		return 0, 0
	}
	return int(size), c & 0x0f
}

func (r *thriftReader) i32(typ byte) int32 {
	if typ != ctI32 {
		r.fail(errThrift)
		return 0
	}
	v := r.varint()
	if int64(int32(v)) != v {
		r.fail(errThrift)
		return 0
	}
	return int32(v)
}

func (r *thriftReader) i64(typ byte) int64 {
	if typ != ctI64 {
		r.fail(errThrift)
		return 0
	}
	return r.varint()
}

func (r *thriftReader) bool(typ byte) bool {
	if typ != ctTrue && typ != ctFalse {
		r.fail(errThrift)
	}
	return typ == ctTrue
}

func (r *thriftReader) binary(typ byte) []byte {
	if typ != ctBinary {
		r.fail(errThrift)
		return nil
	}
	return r.bytes()
}

// skip passes over a value.
func (r *thriftReader) skip(typ byte) { r.pass(typ, false) }

func (r *thriftReader) pass(typ byte, item bool) {
	if r.err != nil {
		return
	}
	switch typ {
	case ctTrue, ctFalse:
		if item { // in a list a bool has a byte of its own
			r.byte()
		}
	case ctByte:
		r.byte()
	case ctI16, ctI32, ctI64:
		r.uvarint()
	case ctDouble:
		for range 8 {
			r.byte()
		}
	case ctBinary:
		r.bytes()
	case ctList, ctSet:
		n, typ := r.listHead()
		r.nest(func() {
			for range n {
				r.pass(typ, true)
			}
		})
	case ctMap:
		n := r.uvarint()
		if n == 0 || r.err != nil {
			return
		}
		if n > uint64(len(r.b)-r.pos) {
			r.fail(errShort)
			return
		}
		c := r.byte()
		r.nest(func() {
			for range n {
				r.pass(c>>4, true)
				r.pass(c&0x0f, true)
				if r.err != nil {
					return
				}
			}
		})
	case ctStruct:
		r.structure(func(_ int16, typ byte) { r.skip(typ) })
	default:
		r.fail(errThrift)
	}
}

func (r *thriftReader) nest(inside func()) {
	if r.depth++; r.depth > maxThriftDepth {
		r.fail(errThrift)
	}
	if r.err == nil {
		inside()
	}
	r.depth--
}

// thriftWriter appends to b.
type thriftWriter struct {
	b    []byte
	last []int16 // ids of the last fields of the open structs
}

func (w *thriftWriter) begin() { w.last = append(w.last, 0) }

func (w *thriftWriter) end() {
	w.b = append(w.b, ctStop)
	w.last = w.last[:len(w.last)-1]
}

func (w *thriftWriter) field(id int16, typ byte) {
	last := &w.last[len(w.last)-1]
	if delta := id - *last; 0 < delta && delta < 16 {
		w.b = append(w.b, byte(delta)<<4|typ)
	} else {
		w.b = append(w.b, typ)
		w.varint(int64(id))
	}
	*last = id
}

func (w *thriftWriter) varint(v int64) {
	w.b = binary.AppendUvarint(w.b, uint64(v)<<1^uint64(v>>63))
}

func (w *thriftWriter) i32(id int16, v int32) { w.field(id, ctI32); w.varint(int64(v)) }
func (w *thriftWriter) i64(id int16, v int64) { w.field(id, ctI64); w.varint(v) }

func (w *thriftWriter) bool(id int16, v bool) {
	if v {
		w.field(id, ctTrue)
	} else {
		w.field(id, ctFalse)
	}
}

func (w *thriftWriter) i8(id int16, v int8) {
	w.field(id, ctByte)
	w.b = append(w.b, byte(v))
}

func (w *thriftWriter) text(s string) {
	w.b = binary.AppendUvarint(w.b, uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *thriftWriter) string(id int16, s string) { w.field(id, ctBinary); w.text(s) }

func (w *thriftWriter) list(id int16, n int, item byte) {
	w.field(id, ctList)
	if n < 15 {
		w.b = append(w.b, byte(n)<<4|item)
	} else {
		w.b = append(w.b, 0xf0|item)
		w.b = binary.AppendUvarint(w.b, uint64(n))
	}
}

// open begins a struct that is a field.
func (w *thriftWriter) open(id int16) { w.field(id, ctStruct); w.begin() }
