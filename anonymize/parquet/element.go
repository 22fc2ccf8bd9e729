package parquet

// schema writes the nodes that lead to a column that leaves.
func (w *writer) schema(t *thriftWriter) {
	leaving := make(map[*node]*output)
	count := make(map[*node]int32)
	for i := range w.cols {
		o := &w.cols[i]
		leaving[o.l.node] = o
		for n := o.l.node; ; n = n.parent {
			known := count[n] > 0
			if n != o.l.node {
				count[n]++ // a child more
			}
			if known || n.parent == nil {
				break
			}
		}
	}
	t.list(2, len(leaving)+len(count), ctStruct)
	var walk func(n *node)
	walk = func(n *node) {
		if o := leaving[n]; o != nil {
			o.element(t)
			return
		}
		if count[n] == 0 {
			return
		}
		t.begin()
		if n.parent != nil {
			t.i32(3, n.repetition)
			t.string(4, n.name)
		} else {
			t.string(4, "schema")
		}
		t.i32(5, count[n])
		if converted, member := n.annotation(count); converted >= 0 {
			if n.converted >= 0 {
				t.i32(6, converted)
			}
			if n.logical.member != 0 {
				t.member(member, nil)
			}
		}
		t.end()
		for _, m := range n.nodes {
			walk(m)
		}
	}
	walk(w.file.root)
}

// annotation is what a group is in the output: a list, a map, or neither (-1).
// Where keys or values of a map do not leave, the rest is a list.
func (n *node) annotation(count map[*node]int32) (converted int32, member int16) {
	switch {
	case n.isList():
		return convertedList, logicalList
	case n.isMap() && len(n.nodes) == 1 && n.nodes[0].repetition == repeated:
		if count[n.nodes[0]] == n.nodes[0].children {
			return convertedMap, logicalMap
		}
		return convertedList, logicalList
	}
	return -1, 0
}

// member writes a LogicalType.
func (t *thriftWriter) member(id int16, inside func()) {
	t.open(10)
	t.open(id)
	if inside != nil {
		inside()
	}
	t.end()
	t.end()
}

// element writes the schema element of a column.
func (o *output) element(t *thriftWriter) {
	l := o.l
	t.begin()
	t.i32(1, o.physical())
	if o.same && l.physical == typeFixed {
		t.i32(2, l.length)
	}
	repetition := l.repetition
	if o.null {
		repetition = optional
	}
	t.i32(3, repetition)
	t.string(4, l.node.name)
	if !o.same {
		t.i32(6, convertedUTF8)
		t.member(logicalString, nil)
		t.end()
		return
	}
	if l.converted >= 0 {
		t.i32(6, l.converted)
	}
	if l.logical.member == logicalDecimal {
		t.i32(7, l.scale)
		t.i32(8, l.precision)
	}
	if l.logical.member != 0 && !l.older {
		t.member(l.logical.member, func() {
			switch l.logical.member {
			case logicalDecimal:
				t.i32(1, l.scale)
				t.i32(2, l.precision)
			case logicalTime, logicalTimestamp:
				t.bool(1, l.logical.utc)
				t.open(2)
				t.open(l.logical.unit)
				t.end()
				t.end()
			case logicalInt:
				t.i8(1, l.logical.width)
				t.bool(2, l.logical.signed)
			}
		})
	}
	t.end()
}
