package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"sallyport"
)

// Bounds on what a file may ask of us. They are far above what the writers in
// use produce.
const (
	maxFooter   = 64 << 20  // bytes of the file metadata
	maxElements = 40_000    // nodes of the schema
	maxColumns  = 10_000    // leaves of the schema
	maxDepth    = 64        // nesting of the schema
	maxName     = 4 << 10   // bytes of a column's name, its path included
	maxFixed    = 1 << 20   // bytes of a fixed-length value
	maxChunks   = 2_000_000 // column chunks of the file
	// rowsPerByte bounds a file that says nothing at great length: as many
	// records as this for each of its bytes, after the first million.
	rowsPerByte = 20_000
	freeRows    = 1_000_000
)

const magic = "PAR1"

// Physical types, repetition types, page types and encodings of parquet.thrift.
const (
	typeBoolean = 0
	typeInt32   = 1
	typeInt64   = 2
	typeInt96   = 3
	typeFloat   = 4
	typeDouble  = 5
	typeBytes   = 6
	typeFixed   = 7

	required = 0
	optional = 1
	repeated = 2

	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3

	encPlain           = 0
	encPlainDictionary = 2
	encRLE             = 3
	encDeltaBinary     = 5
	encDeltaLength     = 6
	encDeltaBytes      = 7
	encDictionary      = 8
	encByteStreamSplit = 9
)

// node is an element of the schema.
type node struct {
	name       string
	physical   int32 // -1: a group
	length     int32 // of a FIXED_LEN_BYTE_ARRAY
	repetition int32
	children   int32
	converted  int32 // -1: none
	scale      int32
	precision  int32
	logical    logical
	older      bool // logical says what converted does, and stands not in the file

	nodes  []*node
	parent *node
	def    uint8 // definition level at which it is there
	rep    uint8
	leaf   int // place among the leaves; -1 for a group
}

// logical is a LogicalType: the number of the union's member (0: none) and
// what that member holds.
type logical struct {
	member int16
	utc    bool
	unit   int16 // 1 milliseconds, 2 microseconds, 3 nanoseconds
	width  int8
	signed bool
}

// chunk is where the values of a column in a row group are.
type chunk struct {
	start, size int64
	values      int64
	codec       int32
}

type rowGroup struct {
	rows   int64
	chunks []chunk
}

// file is what the footer says.
type file struct {
	root   *node
	leaves []*leaf
	rows   int64
	groups []rowGroup
}

// open reads and checks the footer.
func open(src io.ReaderAt, size int64) (*file, error) {
	if size == 0 {
		return nil, invalid("Give a Parquet file that was written to its end.", "the file is empty")
	}
	if size < int64(len(magic)+8) {
		return nil, notParquet()
	}
	var head [4]byte
	if err := readAt(src, head[:], 0); err != nil {
		return nil, err
	}
	var tail [8]byte
	if err := readAt(src, tail[:], size-8); err != nil {
		return nil, err
	}
	if string(head[:]) == "PARE" || string(tail[4:]) == "PARE" {
		return nil, encrypted()
	}
	if string(head[:]) != magic {
		return nil, notParquet()
	}
	if string(tail[4:]) != magic {
		return nil, invalid("Copy the file again, or write it again and close the writer.", "the file has no footer: it is truncated")
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if length > size-int64(len(magic)+8) {
		return nil, invalid("Copy the file again, or write it again.", "the footer is said to be longer than the file")
	}
	if length > maxFooter {
		return nil, invalid("Write fewer and larger row groups.", "the footer has %d bytes, more than %d", length, int64(maxFooter))
	}
	footer := make([]byte, length)
	if err := readAt(src, footer, size-8-length); err != nil {
		return nil, err
	}
	return parseFooter(footer, size-8-length, size)
}

// readAt fills b; a source that ends before is truncated.
func readAt(src io.ReaderAt, b []byte, off int64) error {
	n, err := src.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("Copy the file again.", "the file ends while it is read")
	}
	return sallyport.Errorf("parquet", sallyport.KindOf(err), "", "reading the file: %w", err)
}

func notParquet() error {
	return invalid("Give a file that starts and ends with PAR1.", "this is no Parquet file")
}

func encrypted() error {
	return invalid("Decrypt the file first: what is encrypted cannot be judged.", "the file is encrypted")
}

func damaged(err error) error {
	return invalid("Write the file again.", "the footer: %w", err)
}

// parser gathers what the footer says.
type parser struct {
	thriftReader
	f        file
	elements []*node
	end      int64 // where the row groups' bytes end
	signed   bool
}

func parseFooter(b []byte, end, size int64) (*file, error) {
	p := &parser{thriftReader: thriftReader{b: b}, end: end}
	p.f.rows = -1
	p.structure(func(id int16, typ byte) {
		switch id {
		case 2:
			n := p.list(typ, ctStruct)
			if n > maxElements {
				p.fail(fmt.Errorf("the schema has %d nodes, more than %d", n, maxElements))
				return
			}
			for i := 0; i < n && p.err == nil; i++ {
				p.elements = append(p.elements, p.element())
			}
			p.tree()
		case 3:
			p.f.rows = p.i64(typ)
		case 4:
			if p.f.root == nil {
				p.fail(errors.New("row groups come before the schema"))
				return
			}
			n := p.list(typ, ctStruct)
			if n > maxChunks || n*len(p.f.leaves) > maxChunks {
				p.fail(fmt.Errorf("there are more than %d column chunks", maxChunks))
				return
			}
			for i := 0; i < n && p.err == nil; i++ {
				p.rowGroup()
			}
		case 8, 9:
			p.signed = true
			p.skip(typ)
		default:
			p.skip(typ)
		}
	})
	switch {
	case p.err != nil:
		if _, ours := errors.AsType[*sallyport.Error](p.err); ours {
			return nil, p.err
		}
		return nil, damaged(p.err)
	case p.signed:
		return nil, encrypted()
	case p.pos != len(b):
		return nil, damaged(errors.New("bytes follow the metadata"))
	case p.f.root == nil:
		return nil, damaged(errors.New("there is no schema"))
	}
	var rows int64
	most := freeRows + rowsPerByte*size
	for _, g := range p.f.groups {
		if g.rows > most-rows {
			return nil, invalid("Write the file again with fewer records.", "the footer: more records than a file of %d bytes may hold", size)
		}
		rows += g.rows
	}
	if rows != p.f.rows {
		return nil, damaged(errors.New("the row groups have other records than the file"))
	}
	return &p.f, nil
}

func (p *parser) element() *node {
	n := &node{physical: -1, converted: -1, leaf: -1, repetition: -1}
	named := false
	p.structure(func(id int16, typ byte) {
		switch id {
		case 1:
			n.physical = p.i32(typ)
			if p.err == nil && (n.physical < 0 || n.physical > typeFixed) {
				p.fail(errors.New("a column has an unknown physical type"))
			}
		case 2:
			n.length = p.i32(typ)
		case 3:
			n.repetition = p.i32(typ)
		case 4:
			n.name, named = string(p.binary(typ)), true
		case 5:
			n.children = p.i32(typ)
		case 6:
			n.converted = p.i32(typ)
		case 7:
			n.scale = p.i32(typ)
		case 8:
			n.precision = p.i32(typ)
		case 10:
			if typ != ctStruct {
				p.fail(errThrift)
				return
			}
			p.logicalType(n)
		default:
			p.skip(typ)
		}
	})
	if p.err == nil && (!named || len(n.name) > maxName || !utf8.ValidString(n.name)) {
		p.fail(errors.New("a column's name is missing, too long or not UTF-8"))
	}
	return n
}

func (p *parser) logicalType(n *node) {
	p.structure(func(id int16, typ byte) {
		if n.logical.member != 0 || id <= 0 || typ != ctStruct {
			p.fail(errThrift)
			return
		}
		n.logical.member = id
		p.structure(func(field int16, typ byte) {
			switch {
			case id == logicalDecimal && field == 1:
				n.scale = p.i32(typ)
			case id == logicalDecimal && field == 2:
				n.precision = p.i32(typ)
			case (id == logicalTime || id == logicalTimestamp) && field == 1:
				n.logical.utc = p.bool(typ)
			case (id == logicalTime || id == logicalTimestamp) && field == 2:
				if typ != ctStruct {
					p.fail(errThrift)
					return
				}
				p.structure(func(unit int16, typ byte) {
					n.logical.unit = unit
					p.skip(typ)
				})
			case id == logicalInt && field == 1:
				if typ != ctByte {
					p.fail(errThrift)
				}
				n.logical.width = int8(p.byte())
			case id == logicalInt && field == 2:
				n.logical.signed = p.bool(typ)
			default:
				p.skip(typ)
			}
		})
	})
}

// tree makes a tree of the elements, which stand in depth-first order.
func (p *parser) tree() {
	if p.err != nil {
		return
	}
	if len(p.elements) == 0 || p.elements[0].physical >= 0 {
		p.fail(errors.New("there is no schema"))
		return
	}
	next := 0
	var grow func(parent *node, depth int) *node
	grow = func(parent *node, depth int) *node {
		if next >= len(p.elements) || depth > maxDepth {
			p.fail(errors.New("the schema is no tree, or nests too deep"))
			return nil
		}
		n := p.elements[next]
		next++
		n.parent = parent
		if parent != nil {
			n.def, n.rep = parent.def, parent.rep
			switch n.repetition {
			case required:
			case optional:
				n.def++
			case repeated:
				n.def++
				n.rep++
			default:
				p.fail(errors.New("a column has an unknown repetition type"))
				return nil
			}
		}
		if n.physical >= 0 {
			if n.children != 0 {
				p.fail(errors.New("a column has both a type and children"))
				return nil
			}
			if n.physical == typeFixed && (n.length <= 0 || n.length > maxFixed) {
				p.fail(fmt.Errorf("a column has values of %d bytes", n.length))
				return nil
			}
			n.leaf = len(p.f.leaves)
			p.f.leaves = append(p.f.leaves, &leaf{node: n})
			return n
		}
		if n.children < 0 || int(n.children) > len(p.elements)-next {
			p.fail(errors.New("the schema is no tree"))
			return nil
		}
		if n.children == 0 && parent != nil {
			p.fail(errors.New("a group of the schema is empty"))
			return nil
		}
		for i := int32(0); i < n.children && p.err == nil; i++ {
			n.nodes = append(n.nodes, grow(n, depth+1))
		}
		return n
	}
	root := grow(nil, 0)
	switch {
	case p.err != nil:
		return
	case next != len(p.elements):
		p.fail(errors.New("the schema is no tree"))
		return
	case len(p.f.leaves) == 0:
		p.fail(errors.New("the table has no columns"))
		return
	case len(p.f.leaves) > maxColumns:
		p.fail(invalid("Split the table, or leave columns out.", "the table has %d columns, more than %d", len(p.f.leaves), maxColumns))
		return
	}
	p.f.root = root
	if err := nameLeaves(p.f.leaves); err != nil {
		p.fail(err)
	}
}

func (p *parser) rowGroup() {
	g := rowGroup{rows: -1}
	p.structure(func(id int16, typ byte) {
		switch id {
		case 1:
			n := p.list(typ, ctStruct)
			if p.err == nil && n != len(p.f.leaves) {
				p.fail(errors.New("a row group has other columns than the schema"))
				return
			}
			g.chunks = make([]chunk, 0, n)
			for i := 0; i < n && p.err == nil; i++ {
				g.chunks = append(g.chunks, p.chunk(p.f.leaves[i]))
			}
		case 3:
			g.rows = p.i64(typ)
		default:
			p.skip(typ)
		}
	})
	if p.err != nil {
		return
	}
	if g.rows < 0 || len(g.chunks) != len(p.f.leaves) {
		p.fail(errors.New("a row group lacks its records or its columns"))
		return
	}
	for i, c := range g.chunks {
		if l := p.f.leaves[i]; c.values < g.rows || l.rep == 0 && c.values != g.rows {
			p.fail(fmt.Errorf("column %q has other records than its row group", l.name))
			return
		}
	}
	p.f.groups = append(p.f.groups, g)
}

func (p *parser) chunk(l *leaf) (c chunk) {
	described := false
	p.structure(func(id int16, typ byte) {
		switch id {
		case 1:
			if len(p.binary(typ)) > 0 {
				p.fail(invalid("Give a file that holds its data itself.", "column %q lies in another file", l.name))
			}
		case 3:
			if typ != ctStruct {
				p.fail(errThrift)
				return
			}
			c, described = p.chunkMeta(l), true
		case 8, 9:
			p.fail(encrypted())
		default:
			p.skip(typ)
		}
	})
	if p.err == nil && !described {
		p.fail(fmt.Errorf("a chunk of column %q is not described", l.name))
	}
	return c
}

func (p *parser) chunkMeta(l *leaf) chunk {
	c := chunk{values: -1, codec: -1, size: -1}
	physical, data, dictionary := int32(-1), int64(-1), int64(0)
	path := 0
	same := true
	p.structure(func(id int16, typ byte) {
		switch id {
		case 1:
			physical = p.i32(typ)
		case 3:
			n := p.list(typ, ctBinary)
			for i := 0; i < n && p.err == nil; i++ {
				name := p.bytes()
				same = same && i < len(l.path) && string(name) == l.path[i]
			}
			path = n
		case 4:
			c.codec = p.i32(typ)
		case 5:
			c.values = p.i64(typ)
		case 7:
			c.size = p.i64(typ)
		case 9:
			data = p.i64(typ)
		case 11:
			dictionary = p.i64(typ)
		default:
			p.skip(typ)
		}
	})
	if p.err != nil {
		return c
	}
	c.start = data
	if 0 < dictionary && dictionary < data {
		c.start = dictionary
	}
	switch {
	case physical != l.physical || !same || path != len(l.path):
		p.fail(fmt.Errorf("a chunk of column %q is of another column", l.name))
	case c.values < 0 || c.size < 0:
		p.fail(fmt.Errorf("a chunk of column %q lacks its size", l.name))
	case c.start < int64(len(magic)) || c.start > p.end || c.size > p.end-c.start:
		p.fail(fmt.Errorf("a chunk of column %q lies outside the file", l.name))
	}
	if err := knownCodec(c.codec); p.err == nil && err != nil {
		p.fail(invalid("Write the file with another compression.", "column %q: %w", l.name, err))
	}
	return c
}
