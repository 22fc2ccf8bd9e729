package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// fault is the first thing found wrong. seq is nil where no single record can
// be named.
type fault struct {
	seq     *uint64
	damage  string
	explain string
	// noContent: a content is missing that no tombstone speaks of.
	noContent bool
}

func faultAt(seq uint64, damage, format string, args ...any) *fault {
	return &fault{seq: &seq, damage: damage, explain: fmt.Sprintf(format, args...)}
}

// tree is the RFC 6962 tree over the leaves seen so far, kept as the roots of
// its complete subtrees, largest first: log₂ n hashes. It is worked out from
// leaves alone and so independent of the stored hashes.
type tree struct {
	size  uint64
	roots []tlog.Hash
}

// add takes the next leaf hash and returns it with the hashes of the subtrees
// that it completes, upwards: what a row of the hash bucket holds.
func (t *tree) add(h tlog.Hash, row []byte) []byte {
	row = append(row, h[:]...)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.roots) - 1
		h = tlog.NodeHash(t.roots[last], h)
		t.roots = t.roots[:last]
		row = append(row, h[:]...)
	}
	t.roots = append(t.roots, h)
	t.size++
	return row
}

func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.roots[i], h)
	}
	return h
}

// treeAt reads the tree of a given size out of the stored hashes.
func treeAt(r rows, size uint64) (tree, error) {
	t := tree{size: size}
	var at uint64
	var indexes []int64
	for level := 62; level >= 0; level-- {
		if size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(at>>level)))
			at += 1 << level
		}
	}
	var err error
	t.roots, err = r.ReadHashes(indexes)
	return t, err
}

// checker goes through records in order and recomputes all that follows from
// their bodies.
type checker struct {
	rows   rows
	tree   tree
	prev   tlog.Hash // leaf hash of the record before
	signed Checkpoint
	erased spans
	keys   *keyring // nil: contents are only checked in their sealed form
	row    []byte   // scratch
	err    error    // what kept it from looking

	gone, sealed, lost uint64 // records erased, without keys to read them, without their key
}

// newChecker starts at record from, believing the hashes stored before it.
// signed is the log's own checkpoint, as far as one can be trusted.
func newChecker(r rows, from uint64, signed Checkpoint) (*checker, error) {
	c := &checker{rows: r, signed: signed}
	if from == 0 {
		return c, nil
	}
	var err error
	if c.tree, err = treeAt(r, from); err != nil {
		return nil, err
	}
	h, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(from-1))})
	if err != nil {
		return nil, err
	}
	c.prev = h[0]
	return c, nil
}

// run checks the records from the checker's place up to the signed size, and
// that no rows follow. after, if not nil, is called when the tree has grown by a record.
func (c *checker) run(after func(*tree)) *fault {
	size := c.signed.Size
	var keys, vals [4][]byte
	cur := [4]*bbolt.Cursor{c.rows.body.Cursor(), c.rows.leaf.Cursor(), c.rows.hash.Cursor(), c.rows.act.Cursor()}
	part := [4]string{"content", "leaf", "hashes", "the log's own acts"}
	from := seqKey(c.tree.size)
	for i := range cur {
		if c.tree.size == 0 {
			keys[i], vals[i] = cur[i].First() // not Seek: a short key must not hide before the first
		} else {
			keys[i], vals[i] = cur[i].Seek(from)
		}
	}
	for c.tree.size < size {
		seq := c.tree.size
		key := seqKey(seq)
		var has [4]bool
		here, gone, done := 0, "", 0
		for i := range keys {
			switch {
			case keys[i] == nil:
				done++
			case bytes.Equal(keys[i], key):
				has[i] = true
				here++
			case len(keys[i]) != len(key):
				return faultAt(seq, Added, "near record %d a row without a number is filed among the %s", seq, part[i])
			}
			if i < 3 && !has[i] {
				gone = part[i]
			}
		}
		tomb, erased := c.erased.find(seq)
		switch {
		case here == 0 && done == len(keys):
			return faultAt(seq, Truncated, "the records from %d on are missing: the signed checkpoint counts %d", seq, size)
		case here == 0:
			return faultAt(seq, Removed, "record %d is missing, records after it are there", seq)
		case has[0] && erased:
			return faultAt(seq, Added, "record %d is erased, says record %d, but its content is there", seq, tomb)
		case gone == part[0] && erased && has[1] && has[2]:
		case gone != "":
			f := faultAt(seq, Removed, "the %s of record %d is missing", gone, seq)
			f.noContent = gone == part[0]
			return f
		}
		body := vals[0]
		if erased {
			body = nil
		} else if body == nil {
			body = []byte{} // a bucket where a row should be
		}
		if f := c.record(seq, body, vals[1], vals[2], has[3]); f != nil {
			return f
		}
		if after != nil {
			after(&c.tree)
		}
		for i := range cur {
			if has[i] {
				keys[i], vals[i] = cur[i].Next()
			}
		}
	}
	for i := range keys {
		if keys[i] != nil {
			return faultAt(size, Added, "rows follow the last record that the signed checkpoint counts, among the %s", part[i])
		}
	}
	return nil
}

// record checks the next record; body is nil for an erased one.
func (c *checker) record(seq uint64, body, raw, hashes []byte, act bool) *fault {
	l, err := parseLeaf(raw)
	if err != nil {
		return faultAt(seq, Changed, "the leaf of record %d is not one that this log writes", seq)
	}
	if l.Seq != seq {
		if at, ok := c.findLeaf(func(l leaf) bool { return l.Seq == seq }); ok {
			return faultAt(seq, Reordered, "record %d stands in the place of record %d, which is found at %d", l.Seq, seq, at)
		}
		return faultAt(seq, Removed, "record %d stands in the place of record %d, which is gone", l.Seq, seq)
	}
	h := tlog.RecordHash(raw)
	if !bytes.HasPrefix(hashes, h[:]) {
		return faultAt(seq, Changed, "the leaf of record %d does not have the hash that the tree keeps of it", seq)
	}
	if l.Prev != c.prev {
		if seq == 0 {
			return faultAt(0, Changed, "the first record says that one stands before it")
		}
		if c.vouched(seq, h, l.Prev) {
			return faultAt(seq-1, Changed, "record %d does not have the hash that record %d keeps of it", seq-1, seq)
		}
		return faultAt(seq, Changed, "record %d does not follow record %d", seq, seq-1)
	}
	if f := c.content(seq, l, body); f != nil {
		return f
	}
	if act != reserved(l.Step) {
		if act {
			return faultAt(seq, Added, "record %d is listed as an act on the log, which it is not", seq)
		}
		return faultAt(seq, Removed, "record %d, an act on the log, is not listed as one", seq)
	}
	c.row = c.tree.add(h, c.row[:0])
	if !bytes.Equal(c.row, hashes) {
		return faultAt(seq, Changed, "the tree's hashes stored with record %d are not those of the records up to it", seq)
	}
	c.prev = h
	return nil
}

// content checks a stored body against its leaf: its sealed form always, what
// it says with the key.
func (c *checker) content(seq uint64, l leaf, body []byte) *fault {
	if body == nil {
		c.gone++
		return nil
	}
	if want := sha256.Sum256(body); want != l.Sealed {
		if at, ok := c.findLeaf(func(l leaf) bool { return l.Sealed == want }); ok {
			return faultAt(seq, Reordered, "the content of record %d is that of record %d", seq, at)
		}
		return faultAt(seq, Changed, "the content of record %d is not what its leaf commits to", seq)
	}
	salt, js, err := openBody(c.keys, body)
	switch {
	case errors.Is(err, errNoKey) && c.keys == nil:
		c.sealed++
		return nil
	case errors.Is(err, errNoKey):
		c.lost++
		return nil
	case err != nil && sallyport.KindOf(err) == sallyport.Unavailable:
		c.err = err
		return nil
	case err != nil || commitment(salt, js) != l.Body:
		return faultAt(seq, Changed, "the content of record %d is not what its leaf commits to", seq)
	}
	if !agrees(l, js) {
		return faultAt(seq, Changed, "time, step or phase of record %d are not those of its leaf", seq)
	}
	return nil
}

// vouched tells which of two neighbors that contradict each other is to blame.
// h is the leaf hash of record seq, and prev the one that it has of the record
// before. True: the record after seq knows it by that hash or, at the end of
// the log, both hashes lead to the signed root; so the record before is false.
func (c *checker) vouched(seq uint64, h, prev tlog.Hash) bool {
	if seq+1 < c.signed.Size {
		next, err := parseLeaf(c.rows.leaf.Get(seqKey(seq + 1)))
		return err == nil && next.Prev == h
	}
	t, err := treeAt(c.rows, seq-1)
	if err != nil {
		return false
	}
	t.add(prev, nil)
	t.add(h, nil)
	return t.root() == c.signed.Root
}

// findLeaf looks through all leaves. It is used once, to explain a fault.
func (c *checker) findLeaf(is func(leaf) bool) (at uint64, ok bool) {
	cur := c.rows.leaf.Cursor()
	for k, v := cur.First(); k != nil; k, v = cur.Next() {
		if l, err := parseLeaf(v); err == nil && len(k) == 8 && is(l) {
			return binary.BigEndian.Uint64(k), true
		}
	}
	return 0, false
}
