package jsonl

import (
	"bytes"
	"encoding/binary"

	"sallyport"
	"sallyport/anonymize"
)

// reader reads records and writes what leaves of them, for one goroutine.
//
// Which values leave does not depend on what the Editor answers, so while a
// record is being read all that surrounds the values is written already, into
// skeleton; slots say where the values go in.
type reader struct {
	lexer
	tree     *tree
	text     []bool // by place in what leaves: written as strings
	resource string // what resourceType must be; "" for anything
	grow     bool   // paths are being found: unknown ones are added, no value is kept

	fields  [][]byte // by column
	lists   [][]byte // by column; the fields of lists
	touched []int    // columns that are not empty in fields or lists
	answers [][]byte // what is left of the answer's lists, by place in what leaves

	skeleton []byte
	slots    []slot
	scratch  []byte // strings that had escapes, without these
	key      []byte // a key that had escapes

	serial uint64   // counts the objects
	seen   []uint64 // by node: the last object that had it as a member
	loose  map[string]struct{}
	typed  bool // resourceType was what it must be
	order  int  // counts the first appearances of paths
}

// slot is where a value goes.
type slot struct {
	at         int32 // in skeleton; no line is so long that it takes more bits
	start, end int32 // of its token in the line
	from, to   int32 // of its text in scratch, where it had escapes
	node       *node
	kind       kind
	escaped    bool
}

type kind uint8

const (
	null kind = iota
	boolean
	number
	text
)

func newReader(t *tree, asText []bool) *reader {
	return &reader{tree: t, text: asText, seen: make([]uint64, t.nodes),
		fields: make([][]byte, t.columns), lists: make([][]byte, t.columns), answers: make([][]byte, len(asText))}
}

const arrayHint = "JSON Lines has one object a line; an array of objects becomes that by: jq -c '.[]' FILE"

const unknownHint = "Scan the dataset again and describe the new columns in the catalog."

// record reads line, and reports whether it is well-formed; if not, fault says
// why. The fields are valid until the next call.
func (r *reader) record(line []byte) bool {
	r.reset(line)
	i := r.space(0)
	switch c := r.at(i); {
	case c == '[':
		r.fail(i, "an array, not an object", arrayHint)
		return false
	case c != '{':
		r.fail(i, "no JSON object", "JSON Lines has one JSON object a line, and nothing else.")
		return false
	}
	if i, _ = r.object(i, r.tree.root, 1); i < 0 {
		return false
	}
	if i = r.space(i); i < len(line) {
		r.fail(i, "more after the object", "JSON Lines has one object a line: end it with a line feed.")
		return false
	}
	if r.resource != "" && !r.typed {
		r.fail(0, "resourceType is not "+r.resource, "Put each type of resource into a file of its own, as FHIR bulk data has it, or leave out the option resource.")
		return false
	}
	for _, c := range r.touched {
		if len(r.lists[c]) > 0 {
			r.fields[c] = r.lists[c]
		}
	}
	return true
}

// reset makes r ready for line, and gives up buffers that one large record
// needed.
func (r *reader) reset(line []byte) {
	const keep = 1 << 20
	for _, c := range r.touched {
		r.fields[c], r.lists[c] = nil, r.lists[c][:0]
		if cap(r.lists[c]) > keep {
			r.lists[c] = nil
		}
	}
	if cap(r.skeleton) > keep {
		r.skeleton = nil
	}
	if cap(r.scratch) > keep {
		r.scratch = nil
	}
	if cap(r.slots) > keep/32 {
		r.slots = nil
	}
	if len(r.loose) > 0 {
		r.loose = nil
	}
	r.line, r.touched, r.slots, r.skeleton, r.scratch = line, r.touched[:0], r.slots[:0], r.skeleton[:0], r.scratch[:0]
	r.typed = false
}

// object reads the object at i and returns the place after it. It reports
// whether anything of it is in the skeleton.
func (r *reader) object(i int, n *node, depth int) (int, bool) {
	if depth > maxDepth {
		return r.deep(i), false
	}
	r.serial++
	serial := r.serial
	leaves := n != nil && n.below.members
	if leaves {
		r.skeleton = append(r.skeleton, '{')
	}
	if i = r.space(i + 1); r.at(i) == '}' {
		if leaves {
			r.skeleton = append(r.skeleton, '}')
		}
		return i + 1, leaves
	}
	wrote := false
	for guess := 0; ; {
		var kid *node
		start, colon := i, 0
		if n != nil && guess < len(n.kids) && bytes.HasPrefix(r.line[i:], n.kids[guess].head) {
			// The usual: the key that came here before, and no space after it.
			kid = n.kids[guess]
			colon = i + len(kid.head) - 1
		} else {
			if r.at(i) != '"' {
				return r.syntax(i, "a key"), false
			}
			end, escaped := r.str(i)
			if end < 0 {
				return -1, false
			}
			key := r.line[i+1 : end-1]
			if escaped {
				r.key = appendUnescaped(r.key[:0], key)
				key = r.key
			}
			if kid = n.member(key, guess); kid == nil && r.grow {
				if kid = r.tree.add(n, key); kid == nil {
					return r.many(i), false
				}
				r.seen = append(r.seen, 0)
			}
			if kid == nil && r.again(serial, key) {
				return r.twice(i), false
			}
			colon = r.space(end)
		}
		if kid != nil {
			if r.seen[kid.id] == serial {
				return r.twice(start), false
			}
			r.seen[kid.id] = serial
			guess = kid.place + 1
		}
		if r.at(colon) != ':' {
			return r.syntax(colon, "a colon"), false
		}
		i = r.space(colon + 1)
		if depth == 1 && r.resource != "" && kid != nil && kid.key == "resourceType" {
			r.typed = r.is(i, r.resource)
		}
		if kid != nil && kid.leaves {
			mark := len(r.skeleton)
			if wrote {
				r.skeleton = append(r.skeleton, ',')
			}
			r.skeleton = append(r.skeleton, kid.head...)
			var some bool
			if i, some = r.value(i, kid, depth); some {
				wrote = true
			} else {
				r.skeleton = r.skeleton[:mark]
			}
		} else {
			i, _ = r.value(i, kid, depth)
		}
		if i < 0 {
			return -1, false
		}
		i = r.space(i)
		switch r.at(i) {
		case ',':
			i = r.space(i + 1)
			continue
		case '}':
		default:
			return r.syntax(i, "a comma or closing brace"), false
		}
		if leaves && (wrote || depth == 1) {
			r.skeleton = append(r.skeleton, '}')
		}
		return i + 1, wrote
	}
}

// array reads the array at i, as object does.
func (r *reader) array(i int, n *node, depth int) (int, bool) {
	if depth > maxDepth {
		return r.deep(i), false
	}
	leaves := n != nil && n.below.items
	if leaves {
		r.skeleton = append(r.skeleton, '[')
	}
	if i = r.space(i + 1); r.at(i) == ']' {
		if leaves {
			r.skeleton = append(r.skeleton, ']')
		}
		return i + 1, leaves
	}
	var item *node
	if n != nil {
		item = n.item
	}
	if item == nil && r.grow {
		if item = r.tree.items(n); item == nil {
			return r.many(i), false
		}
		r.seen = append(r.seen, 0)
	}
	wrote := false
	for {
		mark := len(r.skeleton)
		if leaves && wrote {
			r.skeleton = append(r.skeleton, ',')
		}
		var some bool
		if i, some = r.value(i, item, depth); i < 0 {
			return -1, false
		}
		if some {
			wrote = true
		} else {
			r.skeleton = r.skeleton[:mark]
		}
		i = r.space(i)
		switch r.at(i) {
		case ',':
			i = r.space(i + 1)
			continue
		case ']':
		default:
			return r.syntax(i, "a comma or closing bracket"), false
		}
		if wrote {
			r.skeleton = append(r.skeleton, ']')
		}
		return i + 1, wrote
	}
}

// value reads the value at i, which stands at path n in a container that is
// nested depth deep; n is nil where the path is unknown.
func (r *reader) value(i int, n *node, depth int) (int, bool) {
	var k kind
	var end int
	var escaped bool
	switch r.at(i) {
	case '"':
		k = text
		end, escaped = r.str(i)
	case '{':
		return r.object(i, n, depth+1)
	case '[':
		return r.array(i, n, depth+1)
	case 't':
		k, end = boolean, r.word(i, "true")
	case 'f':
		k, end = boolean, r.word(i, "false")
	case 'n':
		end = r.word(i, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		k, end = number, r.number(i)
	default:
		return r.syntax(i, "a value"), false
	}
	if end < 0 {
		return -1, false
	}
	if r.grow {
		r.note(n, k)
		return end, false
	}
	if n == nil || n.column < 0 {
		if k == null && n.container() {
			if n.leaves {
				r.skeleton = append(r.skeleton, "null"...)
			}
			return end, n.leaves
		}
		return r.fail(i, "a value at a path that is not among the dataset's columns", unknownHint), false
	}
	s := slot{start: int32(i), end: int32(end), node: n, kind: k, escaped: escaped}
	if escaped {
		s.from = int32(len(r.scratch))
		r.scratch = appendUnescaped(r.scratch, r.line[i+1:end-1])
		s.to = int32(len(r.scratch))
	}
	if n.list {
		list := r.lists[n.column]
		if len(list) == 0 {
			r.touched = append(r.touched, n.column)
		}
		r.lists[n.column] = anonymize.AppendItem(list, r.textOf(&s))
	} else if k != null {
		r.touched = append(r.touched, n.column)
		r.fields[n.column] = r.textOf(&s)
	}
	if n.out < 0 {
		return end, false
	}
	s.at = int32(len(r.skeleton))
	r.slots = append(r.slots, s)
	return end, true
}

// textOf is what the Editor sees of the value of s.
func (r *reader) textOf(s *slot) []byte {
	switch {
	case s.kind == null:
		return nil
	case s.escaped:
		return r.scratch[s.from:s.to:s.to]
	case s.kind == text:
		return r.line[s.start+1 : s.end-1 : s.end-1]
	}
	return r.line[s.start:s.end:s.end]
}

// note marks that n has a value.
func (r *reader) note(n *node, k kind) {
	if !n.value && !n.null {
		n.first = r.order
		r.order++
	}
	if k == null {
		n.null = true
	} else {
		n.value = true
	}
}

// is reports whether the string want stands at i.
func (r *reader) is(i int, want string) bool {
	if r.at(i) != '"' {
		return false
	}
	end, escaped := r.str(i)
	if end < 0 {
		return false
	}
	if escaped {
		return string(appendUnescaped(nil, r.line[i+1:end-1])) == want
	}
	return string(r.line[i+1:end-1]) == want
}

// again reports whether the object has the unknown key a second time. An
// unknown key is no fault by itself: it may hold an empty object.
func (r *reader) again(serial uint64, key []byte) bool {
	if r.loose == nil {
		r.loose = map[string]struct{}{}
	}
	k := string(append(binary.LittleEndian.AppendUint64(nil, serial), key...))
	if _, ok := r.loose[k]; ok {
		return true
	}
	r.loose[k] = struct{}{}
	return false
}

func (r *reader) twice(at int) int {
	return r.fail(at, "an object has a key twice", "Remove one of the two: programs differ in which one they read (RFC 8259, section 4).")
}

func (r *reader) deep(at int) int {
	return r.fail(at, "nested more than 64 deep", "Flatten the records.")
}

func (r *reader) many(at int) int {
	err := tooMany("the file")
	return r.fail(at, "the file has too many paths, or too long ones", sallyport.HintOf(err))
}

// append appends the record as it leaves: line end included, answer in it.
func (r *reader) append(out []byte, answer [][]byte) ([]byte, error) {
	if len(answer) != len(r.answers) {
		return nil, sallyport.Errorf("jsonl", sallyport.Internal, "", "an answer of %d values for %d columns", len(answer), len(r.answers))
	}
	copy(r.answers, answer)
	done := int32(0)
	for k := range r.slots {
		s := &r.slots[k]
		out = append(out, r.skeleton[done:s.at]...)
		done = s.at
		v := r.answers[s.node.out]
		if s.node.list {
			n, w := binary.Uvarint(v)
			if w <= 0 || n > uint64(len(v)-w) {
				return nil, lost()
			}
			v, r.answers[s.node.out] = v[w:w+int(n)], v[w+int(n):]
		}
		out = r.appendValue(out, s, v)
	}
	for _, s := range r.slots {
		if s.node.list && len(r.answers[s.node.out]) > 0 {
			return nil, lost()
		}
	}
	if len(r.skeleton) == 0 { // nothing leaves of this record
		return append(out, "{}\n"...), nil
	}
	out = append(out, r.skeleton[done:]...)
	return append(out, '\n'), nil
}

func lost() error {
	return sallyport.Errorf("jsonl", sallyport.Internal, "", "a list was answered with another number of items")
}

// appendValue appends the value of s, which is v now.
func (r *reader) appendValue(out []byte, s *slot, v []byte) []byte {
	was := r.textOf(s)
	asText := r.text[s.node.out]
	if len(was) == 0 || (s.kind == text || !asText) && bytes.Equal(was, v) {
		return append(out, r.line[s.start:s.end]...)
	}
	if !asText && s.kind != text {
		switch {
		case len(v) == 0:
			return append(out, "null"...)
		case s.kind == number && numberEnd(v, 0) == len(v), s.kind == boolean && (string(v) == "true" || string(v) == "false"):
			return append(out, v...)
		}
	}
	return appendString(out, v)
}
