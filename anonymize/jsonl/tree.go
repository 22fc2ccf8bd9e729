package jsonl

import (
	"cmp"
	"slices"

	"sallyport"
)

// tree is the paths of a file.
type tree struct {
	root    *node
	nodes   int // their number, the root included
	names   int // bytes of all paths together
	columns int
}

// node is one path. What stands there in a record is a value, an object whose
// members are kids, or an array whose items are at item.
type node struct {
	id    int    // below tree.nodes
	key   string // of the member
	head  []byte // the key as it is written, with its colon
	path  int    // bytes of the path's name
	list  bool   // the path goes through an array
	kids  []*node
	index map[string]*node // of kids, where they are many
	item  *node
	place int // in its parent's kids

	column int // of the value; -1 where the path has no value
	out    int // place of the value in what leaves, -1 if it does not leave
	leaves bool
	below  struct{ members, items bool } // whether columns there leave

	// While the paths are being found:
	value, null bool // seen
	first       int  // order of the first value or null
}

const manyKids = 8

func newTree() *tree { return &tree{root: &node{column: -1, out: -1}, nodes: 1} }

// plant returns the tree of columns.
func plant(columns []string) (*tree, error) {
	t := newTree()
	for i, name := range columns {
		steps, ok := parsePath(name)
		if !ok {
			return nil, invalid(`A column is a path such as id, name[].family or ["a.b"].c.`, "column %q is no path", name)
		}
		if depth := len(steps); depth > maxDepth {
			return nil, invalid("Leave it out: a record cannot hold it.", "column %q is nested more than %d deep", name, maxDepth)
		}
		n := t.root
		for _, s := range steps {
			if s.item {
				n = t.items(n)
			} else if kid := n.member([]byte(s.key), 0); kid != nil {
				n = kid
			} else {
				n = t.add(n, []byte(s.key))
			}
			if n == nil {
				return nil, tooMany("the columns")
			}
		}
		if n.column >= 0 {
			return nil, invalid("List it once.", "column %q stands twice", name)
		}
		n.column = i
	}
	t.columns = len(columns)
	return t, nil
}

func tooMany(what string) error {
	return invalid("Perhaps keys of the file are data, as in {\"4711\":{...}}: make them values first, for example with jq's to_entries.",
		"%s: more than %d paths, or %d bytes of paths", what, maxPaths, maxNames)
}

// member returns the kid called key, nil if there is none. The guess is the
// place among the kids where it is likely to be.
func (n *node) member(key []byte, guess int) *node {
	if n == nil {
		return nil
	}
	if guess < len(n.kids) && n.kids[guess].key == string(key) {
		return n.kids[guess]
	}
	if n.index != nil {
		return n.index[string(key)]
	}
	for _, kid := range n.kids {
		if kid.key == string(key) {
			return kid
		}
	}
	return nil
}

// add gives n a new kid. It returns nil if there are too many paths.
func (t *tree) add(n *node, key []byte) *node {
	kid := t.new(n)
	if kid == nil {
		return nil
	}
	kid.key, kid.place = string(key), len(n.kids)
	kid.head = append(appendString(nil, key), ':')
	if !t.count(kid, len(kid.head)) {
		return nil
	}
	n.kids = append(n.kids, kid)
	if n.index != nil {
		n.index[kid.key] = kid
	} else if len(n.kids) > manyKids {
		n.index = map[string]*node{}
		for _, k := range n.kids {
			n.index[k.key] = k
		}
	}
	return kid
}

// items returns the node of n's items, nil if there are too many paths.
func (t *tree) items(n *node) *node {
	if n.item == nil {
		item := t.new(n)
		if item == nil || !t.count(item, len("[]")) {
			return nil
		}
		item.list = true
		n.item = item
	}
	return n.item
}

func (t *tree) new(parent *node) *node {
	if t.nodes > maxPaths {
		return nil
	}
	t.nodes++
	return &node{id: t.nodes - 1, column: -1, out: -1, list: parent.list, path: parent.path}
}

// count adds the length of n's path to the sum, and says whether it is allowed.
func (t *tree) count(n *node, step int) bool {
	n.path += step
	t.names += n.path
	return t.names <= maxNames
}

// container reports whether the path is known to hold objects or arrays.
func (n *node) container() bool { return n != nil && (len(n.kids) > 0 || n.item != nil) }

// found returns the names of the columns that were seen, in order of first
// appearance.
func (t *tree) found() []string {
	var columns []column
	t.root.collect(nil, &columns)
	slices.SortFunc(columns, func(a, b column) int { return cmp.Compare(a.first, b.first) })
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

type column struct {
	name  string
	first int
}

// collect appends the columns at and below n, and reports whether there are any.
func (n *node) collect(name []byte, columns *[]column) bool {
	name = slices.Clip(name)
	below := false
	for _, kid := range n.kids {
		below = kid.collect(appendStep(name, step{key: kid.key}), columns) || below
	}
	if n.item != nil {
		below = n.item.collect(appendStep(name, step{item: true}), columns) || below
	}
	if n.value || n.null && !below {
		*columns = append(*columns, column{string(name), n.first})
		return true
	}
	return below
}

// leave notes which columns leave, and in what order they will be answered.
func (t *tree) leave(names []string) error {
	for i, name := range names {
		n := t.root
		steps, _ := parsePath(name)
		for _, s := range steps {
			if n == nil {
				break
			}
			if s.item {
				n = n.item
			} else {
				n = n.member([]byte(s.key), 0)
			}
		}
		if n == nil || n.column < 0 || n.out >= 0 {
			return sallyport.Errorf("jsonl", sallyport.Internal, "", "the answer to the header has a column that the header lacks, or one twice")
		}
		n.out = i
	}
	t.root.mark()
	return nil
}

// mark sets leaves and below.
func (n *node) mark() bool {
	for _, kid := range n.kids {
		if kid.mark() {
			n.below.members = true
		}
	}
	if n.item != nil {
		n.below.items = n.item.mark()
	}
	n.leaves = n.out >= 0 || n.below.members || n.below.items
	return n.leaves
}
