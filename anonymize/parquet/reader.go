package parquet

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
)

const (
	maxPage   = 128 << 20 // bytes of a page, decompressed
	maxHeader = 1 << 20   // bytes of a page's header, its statistics included
	maxList   = 16 << 20  // bytes of the list that a record holds in a column
	maxItems  = 1 << 20   // items of such a list
)

// budget bounds what all columns hold at once.
type budget struct{ used, most int64 }

// values are those of a page or a dictionary, as they are in the file.
type values struct {
	data  []byte
	width int    // bytes of each, where all have the same
	spans []span // where they are, else
}

func (v *values) at(i int) []byte {
	if v.width > 0 {
		return v.data[i*v.width : (i+1)*v.width : (i+1)*v.width]
	}
	s := v.spans[i]
	return v.data[s.from:s.to:s.to]
}

// cell is what a column holds in a record.
type cell struct {
	text []byte // for the editor
	raw  []byte // as it is in the file
	def  uint8  // the definition level

	// Of a list:
	entries []entry
	held    []byte // what raw of the entries points into
}

// entry is a value of a list, or where one could be.
type entry struct {
	rep, def uint8
	from, to int
}

// pageHeader is what we need of one.
type pageHeader struct {
	typ, size, packed         int32
	crc                       uint32
	checked                   bool
	values, nulls             int32
	encoding                  int32
	defEncoding, repEncoding  int32
	defBytes, repBytes        int32
	compressed, described, v2 bool
}

// column reads the chunks of a column, a page at a time.
type column struct {
	l      *leaf
	src    io.ReaderAt
	codecs *codecs
	budget *budget
	held   int64 // of the budget
	window int   // bytes read at least

	chunk chunk
	pos   int64 // of the next page
	left  int64 // values of the chunk that are in no page read so far

	buf   []byte // bytes of the file
	bufAt int64
	page  []byte // decompressed

	dict     values
	dictBuf  []byte
	dictLen  int // -1: there is none
	dictText []span
	textBuf  []byte

	reps, defs []uint8
	n, i       int // values of the page, nulls included; the next of them
	v          int // the next that is not null
	vals       values
	idx        []uint32 // places in the dictionary
	indexed    bool
	space      []byte // decoded values
	spanBuf    []span
}

// reset begins a chunk.
func (c *column) reset(k chunk) {
	c.chunk, c.pos, c.left = k, k.start, k.values
	c.buf, c.bufAt = c.buf[:0], 0
	c.dictLen, c.n, c.i, c.v = -1, 0, 0, 0
}

func (c *column) bad(err error) error {
	if ours, ok := errors.AsType[*sallyport.Error](err); ok {
		return ours
	}
	return invalid("Write the file again.", "column %q: %w", c.l.name, err)
}

// charge makes the column hold so many bytes at least.
func (c *column) charge(bytes int64) error {
	if bytes <= c.held {
		return nil
	}
	c.budget.used += bytes - c.held
	c.held = bytes
	if c.budget.used > c.budget.most {
		return invalid("Write the file again with smaller pages or fewer columns.", "column %q: the pages of a record's columns hold more than %d bytes", c.l.name, c.budget.most)
	}
	return nil
}

// fetch returns n bytes of the chunk from off on. They stay until the next call.
func (c *column) fetch(off int64, n int) ([]byte, error) {
	if c.bufAt <= off && off+int64(n) <= c.bufAt+int64(len(c.buf)) {
		return c.buf[off-c.bufAt:][:n:n], nil
	}
	size := int(min(int64(max(n, c.window)), c.chunk.start+c.chunk.size-off))
	if n > size {
		return nil, errShort
	}
	if cap(c.buf) < size {
		c.buf = make([]byte, size)
	}
	c.buf, c.bufAt = c.buf[:size], off
	if err := readAt(c.src, c.buf, off); err != nil {
		c.buf = c.buf[:0]
		return nil, err
	}
	return c.buf[:n:n], nil
}

// header reads the header of the next page.
func (c *column) header() (h pageHeader, err error) {
	rest := c.chunk.start + c.chunk.size - c.pos
	for size := min(rest, 512); ; size = min(rest, 8*size) {
		b, err := c.fetch(c.pos, int(size))
		if err != nil {
			return h, err
		}
		r := thriftReader{b: b}
		h = parseHeader(&r)
		if r.err == errShort && size < rest && size < maxHeader {
			continue
		}
		c.pos += int64(r.pos)
		return h, r.err
	}
}

func parseHeader(r *thriftReader) pageHeader {
	h := pageHeader{typ: -1, size: -1, packed: -1, values: -1, encoding: -1, compressed: true}
	r.structure(func(id int16, typ byte) {
		switch id {
		case 1:
			h.typ = r.i32(typ)
		case 2:
			h.size = r.i32(typ)
		case 3:
			h.packed = r.i32(typ)
		case 4:
			h.crc, h.checked = uint32(r.i32(typ)), true
		case 5, 7, 8:
			if typ != ctStruct || h.described {
				r.fail(errThrift)
				return
			}
			h.described = true
			h.v2 = id == 8
			r.structure(func(field int16, typ byte) {
				if id == 8 && field >= 2 { // numbers of DataPageHeaderV2
					switch field {
					case 2:
						h.nulls = r.i32(typ)
					case 4:
						h.encoding = r.i32(typ)
					case 5:
						h.defBytes = r.i32(typ)
					case 6:
						h.repBytes = r.i32(typ)
					case 7:
						h.compressed = r.bool(typ)
					default:
						r.skip(typ)
					}
					return
				}
				switch {
				case field == 1:
					h.values = r.i32(typ)
				case field == 2:
					h.encoding = r.i32(typ)
				case field == 3 && id == 5:
					h.defEncoding = r.i32(typ)
				case field == 4 && id == 5:
					h.repEncoding = r.i32(typ)
				default:
					r.skip(typ)
				}
			})
		default:
			r.skip(typ)
		}
	})
	return h
}

// next reads pages until there is a value.
func (c *column) next() error {
	for c.i == c.n {
		if c.left == 0 || c.pos >= c.chunk.start+c.chunk.size {
			return errors.New("there are fewer values than records")
		}
		h, err := c.header()
		if err != nil {
			return err
		}
		rest := c.chunk.start + c.chunk.size - c.pos
		switch {
		case h.packed < 0 || h.size < 0 || int64(h.packed) > rest:
			return errEncoding
		case h.size > maxPage || h.packed > maxPage:
			return errTooLarge
		case h.typ == pageIndex:
			c.pos += int64(h.packed)
			continue
		case !h.described || h.values < 0 || h.typ != pageData && h.typ != pageDataV2 && h.typ != pageDictionary:
			return errEncoding
		}
		// Levels, places in the dictionary or spans, and what they are made of.
		need := int64(h.packed) + 2*int64(h.size) + 24*int64(h.values) + int64(c.window)
		if h.typ == pageDictionary {
			need += 40 * int64(h.values)
		} else if int64(h.values) > c.left {
			return errors.New("there are more values than records")
		}
		need += int64(cap(c.dictBuf) + cap(c.textBuf) + 16*cap(c.dictText))
		if err := c.charge(need); err != nil {
			return err
		}
		b, err := c.fetch(c.pos, int(h.packed))
		if err != nil {
			return err
		}
		c.pos += int64(h.packed)
		if h.checked && crc32.ChecksumIEEE(b) != h.crc {
			return errors.New("the checksum of a page is wrong")
		}
		if h.typ == pageDictionary {
			err = c.dictionary(h, b)
		} else {
			err = c.data(h, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inflate returns size bytes that b holds compressed. They are in *space, or b
// itself.
func (c *column) inflate(space *[]byte, b []byte, size int, compressed bool) ([]byte, error) {
	if c.chunk.codec == codecNone || !compressed {
		if len(b) != size {
			return nil, errEncoding
		}
		return b, nil
	}
	if cap(*space) < size {
		*space = make([]byte, size)
	}
	out := (*space)[:size]
	if size == 0 {
		return out, nil
	}
	return out, c.codecs.decompress(c.chunk.codec, out, b)
}

func (c *column) dictionary(h pageHeader, b []byte) error {
	if c.dictLen >= 0 || c.left != c.chunk.values || h.encoding != encPlain && h.encoding != encPlainDictionary {
		return errEncoding
	}
	out, err := c.inflate(&c.page, b, int(h.size), true)
	if err != nil {
		return err
	}
	c.dictBuf = append(c.dictBuf[:0], out...)
	spans := c.dict.spans[:0]
	n := int(h.values)
	c.dict = values{width: c.l.width(), spans: spans}
	if err := c.plain(&c.dict, c.dictBuf, n, nil); err != nil {
		return err
	}
	c.dictLen = n
	c.dictText, c.textBuf = c.dictText[:0], c.textBuf[:0]
	for i := range n {
		from := len(c.textBuf)
		if c.textBuf, err = c.l.appendText(c.textBuf, c.dict.at(i)); err != nil {
			return err
		}
		if len(c.textBuf) > 4*maxPage {
			return errTooLarge
		}
		c.dictText = append(c.dictText, span{uint32(from), uint32(len(c.textBuf))})
	}
	return c.charge(c.held + int64(len(c.textBuf)))
}

// plain finds n values of PLAIN in b. Those of BOOLEAN are put in space.
func (c *column) plain(v *values, b []byte, n int, space []byte) error {
	switch {
	case c.l.physical == typeBoolean:
		if len(b) < (n+7)/8 {
			return errEncoding
		}
		v.data = unpack(space[:0], b, n, 1)
	case v.width > 0:
		if int64(len(b)) < int64(n)*int64(v.width) {
			return errEncoding
		}
		v.data = b[:n*v.width]
	default:
		var err error
		v.data = b
		v.spans, err = plainSpans(v.spans[:0], b, n)
		return err
	}
	return nil
}

func (c *column) data(h pageHeader, b []byte) error {
	n := int(h.values)
	if h.v2 != (h.typ == pageDataV2) {
		return errEncoding
	}
	var err error
	var reps, defs []byte
	if h.v2 {
		if h.repBytes < 0 || h.defBytes < 0 || int64(h.repBytes)+int64(h.defBytes) > int64(min(len(b), int(h.size))) {
			return errEncoding
		}
		reps, b = b[:h.repBytes], b[h.repBytes:]
		defs, b = b[:h.defBytes], b[h.defBytes:]
		size := int(h.size - h.repBytes - h.defBytes)
		if b, err = c.inflate(&c.page, b, size, h.compressed); err != nil {
			return err
		}
	} else {
		if b, err = c.inflate(&c.page, b, int(h.size), true); err != nil {
			return err
		}
		if c.l.rep > 0 {
			if reps, b, err = prefixed(b, h.repEncoding); err != nil {
				return err
			}
		}
		if c.l.def > 0 {
			if defs, b, err = prefixed(b, h.defEncoding); err != nil {
				return err
			}
		}
	}
	present := n
	c.reps, c.defs = c.reps[:0], c.defs[:0]
	if c.l.rep > 0 {
		if c.reps, err = levels(c.reps, reps, n, c.l.rep); err != nil {
			return err
		}
	}
	if c.l.def > 0 {
		if c.defs, err = levels(c.defs, defs, n, c.l.def); err != nil {
			return err
		}
		present = 0
		for _, d := range c.defs {
			if d == c.l.def {
				present++
			}
		}
	}
	if h.v2 && int(h.nulls) != n-present {
		return errEncoding
	}
	if err := c.decode(h.encoding, b, present); err != nil {
		return err
	}
	c.left -= int64(n)
	c.n, c.i, c.v = n, 0, 0
	return nil
}

// prefixed takes levels off the front of a page of the first version.
func prefixed(b []byte, encoding int32) (levels, rest []byte, err error) {
	if encoding != encRLE || len(b) < 4 {
		return nil, nil, errEncoding
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)) {
		return nil, nil, errEncoding
	}
	return b[:n], b[n:], nil
}

func levels(dst []uint8, b []byte, n int, most uint8) ([]uint8, error) {
	dst, err := decodeHybrid(grow(dst, n), b, n, levelWidth(most))
	if err != nil {
		return dst, err
	}
	for _, v := range dst {
		if v > most {
			return dst, errEncoding
		}
	}
	return dst, nil
}

// decode finds n values in b.
func (c *column) decode(encoding int32, b []byte, n int) (err error) {
	c.vals = values{width: c.l.width(), spans: c.spanBuf[:0]}
	c.indexed = false
	if n == 0 {
		return nil
	}
	physical := c.l.physical
	switch {
	case encoding == encPlain:
		if err = c.plain(&c.vals, b, n, c.space); physical == typeBoolean {
			c.space = c.vals.data
		}
	case encoding == encDictionary || encoding == encPlainDictionary:
		if c.dictLen < 0 || len(b) == 0 {
			return errEncoding
		}
		if cap(c.idx) < n {
			c.idx = make([]uint32, 0, n)
		}
		if c.idx, err = decodeHybrid(c.idx[:0], b[1:], n, int(b[0])); err != nil {
			return err
		}
		for _, i := range c.idx {
			if i >= uint32(c.dictLen) {
				return errEncoding
			}
		}
		c.indexed = true
	case encoding == encRLE && physical == typeBoolean:
		if b, _, err = prefixed(b, encRLE); err != nil {
			return err
		}
		c.space, err = decodeHybrid(c.space[:0], b, n, 1)
		c.vals.data = c.space
	case encoding == encDeltaBinary && (physical == typeInt32 || physical == typeInt64):
		var numbers []int64
		if numbers, _, err = decodeDelta(nil, b, n, 8*c.vals.width); err != nil || len(numbers) != n {
			return errEncoding
		}
		c.space = c.space[:0]
		for _, v := range numbers {
			c.space = c.l.appendInt(c.space, uint64(v))
		}
		c.vals.data = c.space
	case encoding == encDeltaLength && physical == typeBytes:
		c.vals.spans, c.vals.data, err = deltaLengthSpans(c.vals.spans, b, n)
	case encoding == encDeltaBytes && (physical == typeBytes || physical == typeFixed):
		c.vals.spans, c.space, err = deltaBytes(c.vals.spans, c.space[:0], b, n, maxPage)
		c.vals.data = c.space
		if err == nil && physical == typeFixed {
			for _, s := range c.vals.spans {
				if int(s.to-s.from) != c.vals.width {
					return errEncoding
				}
			}
		}
	case encoding == encByteStreamSplit && physical != typeBoolean && physical != typeInt96 && physical != typeBytes:
		c.space, err = unsplit(c.space[:0], b, n, c.vals.width)
		c.vals.data = c.space
	default:
		return errors.New("a page has an encoding that its type cannot have")
	}
	if c.vals.spans != nil {
		c.spanBuf = c.vals.spans
	}
	return err
}

// value returns the value that is next, and what it says, appended to scratch
// where it is not there already.
func (c *column) value(scratch []byte) (raw, text, rest []byte, err error) {
	v := c.v
	c.v++
	if c.indexed {
		i := c.idx[v]
		s := c.dictText[i]
		return c.dict.at(int(i)), c.textBuf[s.from:s.to:s.to], scratch, nil
	}
	raw = c.vals.at(v)
	if c.l.kind == kindText {
		if !utf8.Valid(raw) {
			return nil, nil, scratch, errNotUTF8
		}
		return raw, raw, scratch, nil
	}
	from := len(scratch)
	if scratch, err = c.l.appendText(scratch, raw); err != nil {
		return nil, nil, scratch, err
	}
	return raw, scratch[from:len(scratch):len(scratch)], scratch, nil
}

// flat reads the value of a record in a column that is no list.
func (c *column) flat(to *cell, scratch []byte) ([]byte, error) {
	if c.i == c.n {
		if err := c.next(); err != nil {
			return scratch, c.bad(err)
		}
	}
	to.def = c.l.def
	if c.l.def > 0 {
		to.def = c.defs[c.i]
	}
	c.i++
	to.raw, to.text = nil, nil
	if to.def < c.l.def {
		return scratch, nil
	}
	var err error
	if to.raw, to.text, scratch, err = c.value(scratch); err != nil {
		return scratch, c.bad(err)
	}
	return scratch, nil
}

// list reads the values of a record in a column that is a list. They are
// copied, as a list may go on in the next page.
func (c *column) list(to *cell, scratch []byte) ([]byte, error) {
	to.entries, to.held, to.text = to.entries[:0], to.held[:0], to.text[:0]
	for {
		if c.i == c.n {
			if c.left == 0 && len(to.entries) > 0 {
				break
			}
			if err := c.next(); err != nil {
				return scratch, c.bad(err)
			}
		}
		e := entry{rep: c.reps[c.i], def: c.defs[c.i]}
		if (e.rep == 0) != (len(to.entries) == 0) {
			if e.rep != 0 {
				return scratch, c.bad(errEncoding)
			}
			break
		}
		c.i++
		if e.def == c.l.def {
			raw, text, _, err := c.value(scratch)
			if err != nil {
				return scratch, c.bad(err)
			}
			e.from = len(to.held)
			to.held = append(to.held, raw...)
			e.to = len(to.held)
			to.text = anonymize.AppendItem(to.text, text)
		}
		to.entries = append(to.entries, e)
		if len(to.held) > maxList || len(to.text) > maxList || len(to.entries) > maxItems {
			return scratch, c.bad(errTooLarge)
		}
	}
	to.def = to.entries[0].def
	return scratch, nil
}

// done sees to it that the chunk holds nothing more.
func (c *column) done() error {
	if c.i != c.n || c.left != 0 {
		return c.bad(errors.New("there are more values than records"))
	}
	return nil
}
