package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"math/bits"
	"slices"
	"unicode/utf8"

	"sallyport"
	"sallyport/anonymize"
)

const (
	dictBytes   = 256 << 10 // bytes of a dictionary
	dictEntries = 16 << 10
)

// output is a column that leaves.
type output struct {
	l        *leaf
	in       int  // place in the file
	at       int  // place in the editor's answer
	same     bool // it keeps its type
	null     bool // it may be null in the output
	def      uint8
	codec    int32
	boolean  bool
	width    int
	plainish bool // a dictionary was no use

	// The page that is being filled.
	reps, defs []uint8
	data       []byte
	idx        []uint32
	pageHeld   int

	// The chunk.
	pages        []byte // headers and compressed pages
	size, packed int64  // of the pages with their headers: decompressed, and as they are
	values       int64
	dict         map[string]uint32
	dictData     []byte
	inDict       bool // the page is indexed
	dictUsed     bool
	plainUsed    bool

	// What a record holds.
	value   []byte
	level   uint8
	present bool
	entries []entry
}

// partial is a group of which not every column leaves.
type partial struct {
	def     uint8
	columns []int
}

// writer writes the output.
type writer struct {
	dst      io.Writer
	pass     *pass
	file     *file
	cols     []output
	partials []partial
	off      int64

	rows, most int64 // in the row group; in one at most
	held       int   // bytes of the row group, about
	groupLimit int

	total   int64
	groups  thriftWriter // the row groups written, for the footer
	nGroups int
	plain   []byte
	packed  []byte
	space   []byte // parsed values of a record
}

func newWriter(dst io.Writer, p *pass, f *file, leaving []string, same []bool, limit int) (*writer, error) {
	in, err := places(f.leaves, leaving)
	if err != nil {
		return nil, err
	}
	if len(in) == 0 {
		return nil, invalid("Let a column leave.", "no column leaves")
	}
	w := &writer{dst: dst, pass: p, file: f, groupLimit: limit, most: 1}
	for i, place := range in {
		l := f.leaves[place]
		o := output{l: l, in: place, at: i, same: same[i], null: l.repetition == optional, def: l.def}
		if o.same {
			o.boolean, o.width = l.physical == typeBoolean, l.width()
			if l.repetition != optional && l.kind != kindText {
				o.null = true
				o.def++
			}
		}
		if len(f.groups) > 0 {
			o.codec = f.groups[0].chunks[place].codec
		}
		w.cols = append(w.cols, o)
	}
	// A leaf that repeats cannot be null itself.
	for i := range w.cols {
		if o := &w.cols[i]; o.l.repetition == repeated {
			o.null, o.def = false, o.l.def
		}
	}
	slices.SortFunc(w.cols, func(a, b output) int { return cmp.Compare(a.in, b.in) })
	w.findPartials(f.root)
	for _, g := range f.groups {
		w.most = max(w.most, g.rows)
	}
	w.begin()
	return w, w.write([]byte(magic))
}

// findPartials notes the structs that must not tell by their being there what
// a column that does not leave holds. It returns how many leaves n has.
func (w *writer) findPartials(n *node) int {
	if n.physical >= 0 {
		return 1
	}
	leaves := 0
	for _, m := range n.nodes {
		leaves += w.findPartials(m)
	}
	if n.repetition != optional || n.rep > 0 {
		return leaves
	}
	var leaving []int
	for i := range w.cols {
		for m := w.cols[i].l.node; m != nil; m = m.parent {
			if m == n {
				leaving = append(leaving, i)
			}
		}
	}
	if 0 < len(leaving) && len(leaving) < leaves {
		w.partials = append(w.partials, partial{n.def, leaving})
	}
	return leaves
}

func (w *writer) write(b []byte) error {
	w.pass.outside = true
	n, err := w.dst.Write(b)
	w.pass.outside = false
	w.off += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// begin begins a row group.
func (w *writer) begin() {
	w.rows, w.held = 0, 0
	for i := range w.cols {
		o := &w.cols[i]
		o.pages, o.dictData = o.pages[:0], o.dictData[:0]
		o.size, o.packed, o.values = 0, 0, 0
		o.dictUsed, o.plainUsed = false, false
		o.inDict = !o.plainish && !o.boolean
		if o.inDict && o.dict == nil {
			o.dict = make(map[string]uint32)
		}
		clear(o.dict)
	}
}

// record writes what leaves of a record.
func (w *writer) record(cells []cell, out [][]byte) error {
	w.space = w.space[:0]
	for i := range w.cols {
		o := &w.cols[i]
		var err error
		if o.l.rep > 0 {
			err = w.list(o, &cells[o.in], out[o.at])
		} else {
			c := &cells[o.in]
			o.value, o.level, o.present, err = w.settle(o, c.def, c.raw, c.text, out[o.at])
		}
		if err != nil {
			return err
		}
	}
	for _, p := range w.partials {
		there := false
		for _, i := range p.columns {
			there = there || w.cols[i].present
		}
		if there {
			continue
		}
		for _, i := range p.columns {
			o := &w.cols[i]
			o.level = min(o.level, p.def-1)
			if o.l.rep > 0 {
				o.entries[0].def = o.level
			}
		}
	}
	for i := range w.cols {
		o := &w.cols[i]
		if o.l.rep == 0 {
			w.put(o, 0, o.level, o.value)
			continue
		}
		for _, e := range o.entries {
			w.put(o, e.rep, e.def, w.space[e.from:e.to])
		}
	}
	w.rows++
	for i := range w.cols {
		o := &w.cols[i]
		if len(o.data)+4*len(o.idx) >= pageBytes || len(o.defs) >= pageRows || w.rows%pageRows == 0 {
			if err := w.page(o); err != nil {
				return err
			}
		}
	}
	if w.rows == w.most || w.held >= w.groupLimit {
		return w.flush()
	}
	return nil
}

// settle decides what a field that was text, and is now, is written as.
func (w *writer) settle(o *output, def uint8, raw, text, now []byte) (value []byte, level uint8, present bool, err error) {
	unchanged := bytes.Equal(text, now)
	if def == o.l.def {
		switch {
		case unchanged && o.l.kind == kindBinary && !utf8.Valid(raw):
			return nil, 0, false, invalid("Drop the column, or give it as text.", "column %q holds bytes that are no text", o.l.name)
		case unchanged && o.same:
			return raw, o.def, true, nil
		case unchanged:
			return text, o.def, true, nil
		case len(now) == 0 && o.null:
			return nil, o.def - 1, false, nil
		}
	} else if unchanged || def+1 != o.l.def || o.l.repetition != optional {
		// It is null, or what it is in is absent.
		return nil, def, false, nil
	}
	if !o.same {
		if !utf8.Valid(now) {
			return nil, 0, false, sallyport.Errorf("parquet", sallyport.Internal, "", "column %q: a transform made text that is not UTF-8", o.l.name)
		}
		return now, o.def, true, nil
	}
	from := len(w.space)
	parsed, ok := o.l.parseText(w.space, now)
	w.space = parsed
	switch {
	case ok:
		return parsed[from:len(parsed):len(parsed)], o.def, true, nil
	case o.null:
		return nil, o.def - 1, false, nil
	}
	return nil, 0, false, invalid("Let the transform keep to the type, or let it make text.", "column %q: a transform made a value that is none of the column's type, and it cannot be null", o.l.name)
}

// list settles the items of a list one by one. Its shape stays.
func (w *writer) list(o *output, c *cell, now []byte) error {
	o.entries = o.entries[:0]
	// Items follow each other in both; each present entry takes one.
	for _, e := range c.entries {
		out := entry{rep: e.rep, def: e.def}
		var value []byte
		if e.def == o.l.def {
			item, rest, ok := cut(now)
			old, oldRest, _ := cut(c.text)
			if !ok {
				return sallyport.Errorf("parquet", sallyport.Internal, "", "column %q: a list came back with fewer items", o.l.name)
			}
			now, c.text = rest, oldRest
			var err error
			if value, out.def, _, err = w.settle(o, e.def, c.held[e.from:e.to], old, item); err != nil {
				return err
			}
		}
		// Values are kept as places, as space may move.
		out.from = len(w.space)
		w.space = append(w.space, value...)
		out.to = len(w.space)
		o.entries = append(o.entries, out)
	}
	if len(now) > 0 {
		return sallyport.Errorf("parquet", sallyport.Internal, "", "column %q: a list came back with more items", o.l.name)
	}
	o.level = o.entries[0].def
	o.present = len(o.entries) > 1 || c.entries[0].def >= repeatedAt(o.l.node)
	return nil
}

// cut takes the first item off a list field.
func cut(list []byte) (item, rest []byte, ok bool) {
	for item := range anonymize.Items(list) {
		_, w := binary.Uvarint(list)
		return item, list[w+len(item):], true
	}
	return nil, list, false
}

// repeatedAt is the definition level at which the outermost list has an item.
func repeatedAt(n *node) uint8 {
	def := n.def
	for m := n; m != nil; m = m.parent {
		if m.repetition == repeated {
			def = m.def
		}
	}
	return def
}

// put appends a value to the page.
func (w *writer) put(o *output, rep, level uint8, value []byte) {
	grown := 2
	if o.l.rep > 0 {
		o.reps = append(o.reps, rep)
	}
	o.defs = append(o.defs, level)
	if level == o.def {
		if o.inDict {
			i, ok := o.dict[string(value)]
			if !ok && len(o.dict) < dictEntries && len(o.dictData)+len(value) < dictBytes {
				i, ok = uint32(len(o.dict)), true
				o.dict[string(value)] = i
				o.dictData = o.plainValue(o.dictData, value)
				w.held += 2*len(value) + 64
			}
			if ok {
				o.idx = append(o.idx, i)
				grown += 4
			} else {
				w.leaveDictionary(o)
			}
		}
		if !o.inDict {
			before := len(o.data)
			o.data = o.plainValue(o.data, value)
			grown += len(o.data) - before
		}
	}
	o.pageHeld += grown
	w.held += grown
}

func (o *output) plainValue(dst, value []byte) []byte {
	if o.width == 0 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	}
	return append(dst, value...)
}

// leaveDictionary writes the values of the page, and those to come, plainly.
func (w *writer) leaveDictionary(o *output) {
	o.inDict, o.plainish = false, true
	var spans []span
	if o.width == 0 {
		spans, _ = plainSpans(nil, o.dictData, len(o.dict))
	}
	before := len(o.data)
	for _, i := range o.idx {
		if o.width > 0 {
			o.data = append(o.data, o.dictData[int(i)*o.width:(int(i)+1)*o.width]...)
		} else {
			o.data = o.plainValue(o.data, o.dictData[spans[i].from:spans[i].to])
		}
	}
	o.idx = o.idx[:0]
	w.held += len(o.data) - before
	o.pageHeld += len(o.data) - before
}

// page ends the page of a column.
func (w *writer) page(o *output) error {
	if len(o.defs) == 0 {
		return nil
	}
	b := w.plain[:0]
	prefix := func(v []uint8, most uint8) {
		if most == 0 {
			return
		}
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		b = appendHybrid(b, v, levelWidth(most))
		binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	prefix(o.reps, o.l.rep)
	prefix(o.defs, o.def)
	encoding := int32(encPlain)
	switch {
	case o.inDict:
		encoding = encDictionary
		width := max(1, bits.Len(uint(max(len(o.dict), 1)-1)))
		b = append(b, byte(width))
		b = appendHybrid(b, o.idx, width)
		o.dictUsed = true
	case o.boolean:
		o.plainUsed = true
		for i := 0; i < len(o.data); i += 8 {
			var c byte
			for k, v := range o.data[i:min(i+8, len(o.data))] {
				c |= (v & 1) << k
			}
			b = append(b, c)
		}
	default:
		o.plainUsed = true
		b = append(b, o.data...)
	}
	w.plain = b
	before := len(o.pages)
	n := len(o.defs)
	err := w.appendPage(o, &o.pages, b, func(t *thriftWriter) {
		t.open(5)
		t.i32(1, int32(n))
		t.i32(2, encoding)
		t.i32(3, encRLE)
		t.i32(4, encRLE)
		t.end()
	}, pageData)
	if err != nil {
		return err
	}
	o.values += int64(n)
	w.held += len(o.pages) - before - o.pageHeld
	o.pageHeld = 0
	// Where most values differ, a dictionary only costs.
	if o.inDict && len(o.dict) > n/2 && n >= 1000 {
		o.idx = o.idx[:0]
		w.leaveDictionary(o)
	}
	o.reps, o.defs, o.data, o.idx = o.reps[:0], o.defs[:0], o.data[:0], o.idx[:0]
	return nil
}

// appendPage compresses b and appends it to dst after its header.
func (w *writer) appendPage(o *output, dst *[]byte, b []byte, about func(*thriftWriter), typ int32) error {
	var err error
	if w.packed, err = w.pass.codecs.compress(o.codec, w.packed[:0], b); err != nil {
		return sallyport.Errorf("parquet", sallyport.Internal, "", "column %q: compressing: %w", o.l.name, err)
	}
	t := thriftWriter{b: *dst}
	at := len(t.b)
	t.begin()
	t.i32(1, typ)
	t.i32(2, int32(len(b)))
	t.i32(3, int32(len(w.packed)))
	about(&t)
	t.end()
	head := len(t.b) - at
	*dst = append(t.b, w.packed...)
	o.size += int64(head + len(b))
	o.packed += int64(head + len(w.packed))
	return nil
}

// flush writes the row group.
func (w *writer) flush() error {
	if w.rows == 0 {
		return nil
	}
	g := &w.groups
	start := w.off
	var size, packed int64
	g.begin()
	g.list(1, len(w.cols), ctStruct)
	for i := range w.cols {
		o := &w.cols[i]
		if err := w.page(o); err != nil {
			return err
		}
		dictionary := int64(0)
		if o.dictUsed {
			dictionary = w.off
			var b []byte
			entries := int32(len(o.dict))
			err := w.appendPage(o, &b, o.dictData, func(t *thriftWriter) {
				t.open(7)
				t.i32(1, entries)
				t.i32(2, encPlain)
				t.end()
			}, pageDictionary)
			if err != nil {
				return err
			}
			if err := w.write(b); err != nil {
				return err
			}
		}
		data := w.off
		if err := w.write(o.pages); err != nil {
			return err
		}
		w.chunk(o, data, dictionary)
		size, packed = size+o.size, packed+o.packed
	}
	g.i64(2, size)
	g.i64(3, w.rows)
	g.i64(5, start)
	g.i64(6, packed)
	g.end()
	w.nGroups++
	w.total += w.rows
	w.begin()
	return nil
}

// chunk describes a column's chunk for the footer.
func (w *writer) chunk(o *output, data, dictionary int64) {
	g := &w.groups
	g.begin()
	g.i64(2, 0) // file_offset: of no use any more, says the specification
	g.open(3)
	g.i32(1, o.physical())
	encodings := []int64{encRLE}
	if o.dictUsed || o.plainUsed {
		encodings = append(encodings, encPlain)
	}
	if o.dictUsed {
		encodings = append(encodings, encDictionary)
	}
	g.list(2, len(encodings), ctI32)
	for _, e := range encodings {
		g.varint(e)
	}
	g.list(3, len(o.l.path), ctBinary)
	for _, name := range o.l.path {
		g.text(name)
	}
	g.i32(4, o.codec)
	g.i64(5, o.values)
	g.i64(6, o.size)
	g.i64(7, o.packed)
	g.i64(9, data)
	if dictionary > 0 {
		g.i64(11, dictionary)
	}
	g.end()
	g.end()
}

func (o *output) physical() int32 {
	if o.same {
		return o.l.physical
	}
	return typeBytes
}

// close writes what is left and the footer.
func (w *writer) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	var t thriftWriter
	t.begin()
	t.i32(1, 1)
	w.schema(&t)
	t.i64(3, w.total)
	t.list(4, w.nGroups, ctStruct)
	t.b = append(t.b, w.groups.b...)
	t.string(6, "sallyport")
	t.end()
	t.b = binary.LittleEndian.AppendUint32(t.b, uint32(len(t.b)))
	t.b = append(t.b, magic...)
	return w.write(t.b)
}
