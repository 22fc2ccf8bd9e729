package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"sallyport"
)

// bbolt trusts its file: a damaged page can make it read out of bounds, follow
// a circle for ever or overflow the stack. These functions read the pages by
// plain file reads and check what bbolt will rely on, before bbolt sees them.
// Layout: bbolt v1.5.0, internal/common (page.go, meta.go, bucket.go).
const (
	pageHeader  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	pageElement = 16 // branch: pos, ksize uint32, id uint64; leaf: flags, pos, ksize, vsize uint32
	bucketHead0 = 16 // root uint64, sequence uint64

	pageBranch = 0x01
	pageLeaf   = 0x02
	pageMeta   = 0x04

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	maxDepth    = 32 // of pages; a tree of 2^64 rows is not half as deep
)

var errPages = errors.New("the file's pages do not hang together")

// heads is what the two meta pages say; valid[i] tells whether page i is good.
type heads struct {
	pageSize int64
	root     uint64 // of the newest valid head
	high     uint64 // pages in use
	txid     uint64
	valid    [2]bool
}

// readHeads reads both meta pages. Numbers are little-endian: that is what the
// machines write that this program is built for.
func readHeads(f io.ReaderAt) (heads, error) {
	var h heads
	// The page size stands in the pages themselves: try the first page, then
	// every place where the second one can be.
	for i, at := 0, int64(0); i <= 15; i++ {
		if m, ok := readHead(f, at); ok {
			if at == 0 || at == m.pageSize {
				h.pageSize = m.pageSize
				break
			}
		}
		at = 1024 << i
	}
	if h.pageSize == 0 {
		return h, sallyport.Errorf("", sallyport.Damaged, "Give the path of an audit log, or restore it from a snapshot.", "it is no audit log, or both its head pages are damaged")
	}
	for i := range h.valid {
		m, ok := readHead(f, int64(i)*h.pageSize)
		if h.valid[i] = ok && m.pageSize == h.pageSize; h.valid[i] && m.txid >= h.txid {
			h.root, h.high, h.txid = m.root, m.high, m.txid
		}
	}
	return h, nil
}

func readHead(f io.ReaderAt, at int64) (heads, bool) {
	var b [pageHeader + 64]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return heads{}, false
	}
	le, m := binary.LittleEndian, b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(m[:56])
	size := int64(le.Uint32(m[8:]))
	if le.Uint16(b[8:])&pageMeta == 0 || le.Uint32(m) != boltMagic || le.Uint32(m[4:]) != boltVersion ||
		le.Uint64(m[56:]) != sum.Sum64() || size < 1024 || size > 1<<24 || size&(size-1) != 0 {
		return heads{}, false
	}
	return heads{pageSize: size, root: le.Uint64(m[16:]), high: le.Uint64(m[40:]), txid: le.Uint64(m[48:])}, true
}

// checkHeads refuses a file that is no database or shorter than it says.
func checkHeads(path string) error {
	_, err := withHeads(path, func(*os.File, heads) error { return nil })
	return err
}

// checkPages walks every page in use. Memory: one bit a page and one page a
// level. It also tells whether one of the two heads is damaged.
func checkPages(path string) (oneHead bool, err error) {
	return withHeads(path, func(f *os.File, h heads) error {
		w := pageWalk{f: f, heads: h, seen: make([]uint64, h.high/64+1)}
		return w.page(h.root, 0)
	})
}

func withHeads(path string, use func(*os.File, heads) error) (oneHead bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, sallyport.Errorf("", sallyport.Invalid, "Give the path of an audit log.", "%s is not a file", path)
	}
	h, err := readHeads(f)
	if err != nil {
		return false, err
	}
	if h.high > uint64(info.Size())/uint64(h.pageSize) {
		return false, sallyport.Errorf("", sallyport.Damaged, "Restore it from a snapshot.", "the file is cut short: it says that it has %d pages of %d bytes", h.high, h.pageSize)
	}
	return !h.valid[0] || !h.valid[1], use(f, h)
}

type pageWalk struct {
	f *os.File
	heads
	seen []uint64
}

// page checks the tree below page id.
func (w *pageWalk) page(id uint64, depth int) error {
	if depth > maxDepth || id < 2 || id >= w.high {
		return fmt.Errorf("%w: page %d is out of place", errPages, id)
	}
	buf := make([]byte, w.pageSize)
	if _, err := w.f.ReadAt(buf, int64(id)*w.pageSize); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	le := binary.LittleEndian
	overflow := uint64(le.Uint32(buf[12:]))
	if le.Uint64(buf) != id || overflow >= w.high-id {
		return fmt.Errorf("%w: page %d bears another number or is too long", errPages, id)
	}
	for p := id; p <= id+overflow; p++ {
		if w.seen[p/64]&(1<<(p%64)) != 0 {
			return fmt.Errorf("%w: page %d is used twice", errPages, p)
		}
		w.seen[p/64] |= 1 << (p % 64)
	}
	size := (int64(overflow) + 1) * w.pageSize
	count := int64(le.Uint16(buf[10:]))
	if need := pageHeader + count*pageElement; need > size {
		return fmt.Errorf("%w: page %d has more rows than room", errPages, id)
	} else if need > int64(len(buf)) {
		buf = make([]byte, need)
		if _, err := w.f.ReadAt(buf, int64(id)*w.pageSize); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	return w.elements(id, buf, size, depth, func(at, n int64) ([]byte, error) {
		b := make([]byte, n)
		_, err := w.f.ReadAt(b, int64(id)*w.pageSize+at)
		return b, err
	})
}

// elements checks the rows of a page of size bytes whose element table is in
// buf; value reads other bytes of the page.
func (w *pageWalk) elements(id uint64, buf []byte, size int64, depth int, value func(at, n int64) ([]byte, error)) error {
	le := binary.LittleEndian
	flags, count := le.Uint16(buf[8:]), int64(le.Uint16(buf[10:]))
	if flags != pageBranch && flags != pageLeaf || flags == pageBranch && count == 0 {
		return fmt.Errorf("%w: page %d is of no known kind", errPages, id)
	}
	for i := range count {
		at := pageHeader + i*pageElement
		e := buf[at : at+pageElement]
		if flags == pageBranch {
			pos, ksize := int64(le.Uint32(e)), int64(le.Uint32(e[4:]))
			if ksize == 0 || at+pos+ksize > size {
				return fmt.Errorf("%w: a row of page %d is out of bounds", errPages, id)
			}
			if err := w.page(le.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		pos, ksize, vsize := int64(le.Uint32(e[4:])), int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
		if ksize == 0 || at+pos+ksize+vsize > size {
			return fmt.Errorf("%w: a row of page %d is out of bounds", errPages, id)
		}
		if le.Uint32(e)&1 == 0 {
			continue
		}
		if err := w.bucket(id, at+pos+ksize, vsize, depth, value); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a row that is itself a bucket: a root page, or a small page
// inside the row.
func (w *pageWalk) bucket(id uint64, at, size int64, depth int, value func(at, n int64) ([]byte, error)) error {
	if size < bucketHead0 || depth >= maxDepth {
		return fmt.Errorf("%w: a bucket in page %d is too short", errPages, id)
	}
	b, err := value(at, bucketHead0)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if root := binary.LittleEndian.Uint64(b); root != 0 {
		return w.page(root, depth+1)
	}
	// bbolt keeps a bucket inside its row only while it is under a quarter page.
	size -= bucketHead0
	if size < pageHeader || size > w.pageSize {
		return fmt.Errorf("%w: a bucket in page %d is too short", errPages, id)
	}
	if b, err = value(at+bucketHead0, size); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	count := int64(binary.LittleEndian.Uint16(b[10:]))
	if pageHeader+count*pageElement > size || binary.LittleEndian.Uint16(b[8:]) != pageLeaf {
		return fmt.Errorf("%w: a bucket in page %d has more rows than room", errPages, id)
	}
	return w.elements(id, b, size, depth+1, func(at, n int64) ([]byte, error) { return b[at : at+n], nil })
}
