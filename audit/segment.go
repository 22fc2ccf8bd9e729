package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A segment is one file of the search index. It covers the records of a range
// and is never changed, only replaced:
//
//	blocks   terms in order, each with the records that have it; each block ends in a tag
//	footer   the range and what it was made from, where the blocks are, times, open intents
//	trailer  length of the footer (8 bytes), tag over both, magic
//
// Tags are HMAC-SHA256, cut to 16 bytes, under a key derived from the log's
// master, over the place of the bytes as well: a segment that was damaged,
// torn or made by another is noticed when it is read, and never believed.
const (
	segmentMagic = "sallyport-index/1\n"
	segmentTag   = 16
	segmentTail  = 8 + segmentTag + len(segmentMagic)
	blockBytes   = 4096 // a block ends when it is as long; one term is never in two
	maxFooter    = 1 << 28
	timeRows     = 1024 // records whose least and largest time are kept together
)

var errSegment = errors.New("the segment is damaged")

// term names a word of an entry's field: one byte for the field, then an HMAC
// of field and value.
type term [16]byte

func (t term) compare(u term) int { return bytes.Compare(t[:], u[:]) }

// openIntent is an intent that no outcome follows yet. act names job (or lease)
// and step as a term does.
type openIntent struct {
	act term
	seq uint64
}

// segmentInfo is what a segment says of itself.
type segmentInfo struct {
	from, to uint64
	last     tlog.Hash    // leaf hash of record to-1: ties the segment to this log
	tomb     uint64       // tombstones below this number are accounted for
	opens    []openIntent // as the log stands at to
	times    []int64      // of each timeRows records least and largest Unix second
}

type fence struct {
	first  term
	offset int64
	length int64
}

type segment struct {
	segmentInfo
	path   string
	file   *os.File
	tag    []byte // key
	fences []fence
}

func segmentName(from, to uint64) string { return fmt.Sprintf("%016x-%016x.seg", from, to) }

func tagOf(key []byte, from, to uint64, offset int64, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	var head [24]byte
	binary.BigEndian.PutUint64(head[:], from)
	binary.BigEndian.PutUint64(head[8:], to)
	binary.BigEndian.PutUint64(head[16:], uint64(offset))
	m.Write(head[:])
	m.Write(b)
	return m.Sum(nil)[:segmentTag]
}

// segmentWriter writes a segment, term by term in order.
type segmentWriter struct {
	segmentInfo
	dir    string
	tag    []byte
	file   *os.File
	out    *bufio.Writer
	offset int64
	block  []byte
	first  term
	fences []fence
	err    error
}

func newSegmentWriter(dir string, tag []byte, info segmentInfo) (*segmentWriter, error) {
	f, err := os.CreateTemp(dir, newPrefix+"*")
	if err != nil {
		return nil, err
	}
	return &segmentWriter{segmentInfo: info, dir: dir, tag: tag, file: f, out: bufio.NewWriterSize(f, 1<<16)}, nil
}

// add takes a term and its records, ascending.
func (w *segmentWriter) add(t term, seqs []uint64) {
	if len(seqs) == 0 || w.err != nil {
		return
	}
	list := make([]byte, 0, len(seqs)+4)
	at := w.from
	for _, s := range seqs {
		list = binary.AppendUvarint(list, s-at)
		at = s
	}
	if len(w.block) > 0 && len(w.block)+len(list) > blockBytes {
		w.flush()
	}
	if len(w.block) == 0 {
		w.first = t
	}
	w.block = append(w.block, t[:]...)
	w.block = binary.AppendUvarint(w.block, uint64(len(list)))
	w.block = append(w.block, list...)
}

func (w *segmentWriter) flush() {
	if len(w.block) == 0 || w.err != nil {
		return
	}
	b := append(w.block, tagOf(w.tag, w.from, w.to, w.offset, w.block)...)
	_, w.err = w.out.Write(b)
	w.fences = append(w.fences, fence{w.first, w.offset, int64(len(b))})
	w.offset += int64(len(b))
	w.block = w.block[:0]
}

// close puts the segment in its place. It is not synced: what a crash makes of
// it is noticed and made again.
func (w *segmentWriter) close() (*segment, error) {
	w.flush()
	f := w.footer()
	_, err := w.out.Write(f)
	err = errors.Join(w.err, err, w.out.Flush())
	path := filepath.Join(w.dir, segmentName(w.from, w.to))
	if err == nil {
		err = os.Rename(w.file.Name(), path)
	}
	if err != nil {
		w.abort()
		return nil, err
	}
	return &segment{segmentInfo: w.segmentInfo, path: path, file: w.file, tag: w.tag, fences: w.fences}, nil
}

func (w *segmentWriter) abort() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

func (w *segmentWriter) footer() []byte {
	b := binary.BigEndian.AppendUint64(nil, w.from)
	b = binary.BigEndian.AppendUint64(b, w.to)
	b = append(b, w.last[:]...)
	b = binary.BigEndian.AppendUint64(b, w.tomb)
	b = binary.BigEndian.AppendUint64(b, uint64(len(w.opens)))
	for _, o := range w.opens {
		b = binary.BigEndian.AppendUint64(append(b, o.act[:]...), o.seq)
	}
	for _, t := range w.times {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	for _, f := range w.fences {
		b = binary.BigEndian.AppendUint64(append(b, f.first[:]...), uint64(f.length))
	}
	n := len(b)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	b = append(b, tagOf(w.tag, w.from, w.to, math.MaxInt64, b)...)
	return append(b, segmentMagic...)
}

// openSegment reads a segment's footer. [errSegment] says that it is none.
func openSegment(path string, tag []byte) (s *segment, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, segmentTail)
	if info.Size() < int64(segmentTail) {
		return nil, errSegment
	}
	if _, err := f.ReadAt(tail, info.Size()-int64(segmentTail)); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(tail)
	if string(tail[8+segmentTag:]) != segmentMagic || n > maxFooter || int64(n) > info.Size()-int64(segmentTail) {
		return nil, errSegment
	}
	b := make([]byte, n+8)
	end := info.Size() - int64(segmentTail) - int64(n)
	if _, err := f.ReadAt(b, end); err != nil {
		return nil, err
	}
	s = &segment{path: path, file: f, tag: tag}
	if n < 64 {
		return nil, errSegment
	}
	s.from, s.to = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if !hmac.Equal(tagOf(tag, s.from, s.to, math.MaxInt64, b), tail[8:8+segmentTag]) ||
		filepath.Base(path) != segmentName(s.from, s.to) || s.from >= s.to {
		return nil, errSegment
	}
	// What follows is ours: the tag says so.
	b = b[16:n]
	copy(s.last[:], b)
	b = b[len(s.last):]
	u64 := func() uint64 {
		x := binary.BigEndian.Uint64(b)
		b = b[8:]
		return x
	}
	s.tomb = u64()
	s.opens = make([]openIntent, u64())
	for i := range s.opens {
		copy(s.opens[i].act[:], b)
		b = b[16:]
		s.opens[i].seq = u64()
	}
	s.times = make([]int64, 2*timeBlocks(s.from, s.to))
	for i := range s.times {
		s.times[i] = int64(u64())
	}
	var offset int64
	for len(b) > 0 {
		var f fence
		copy(f.first[:], b)
		b = b[16:]
		f.offset, f.length = offset, int64(u64())
		offset += f.length
		s.fences = append(s.fences, f)
	}
	if offset != end {
		return nil, errSegment
	}
	return s, nil
}

// timeBlocks returns how many blocks of timeRows records a range touches.
func timeBlocks(from, to uint64) int { return int((to-1)/timeRows - from/timeRows + 1) }

// block reads and checks a block.
func (s *segment) block(i int) ([]byte, error) {
	f := s.fences[i]
	b := make([]byte, f.length)
	if _, err := s.file.ReadAt(b, f.offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = errSegment
		}
		return nil, err
	}
	if len(b) < segmentTag {
		return nil, errSegment
	}
	n := len(b) - segmentTag
	if !hmac.Equal(tagOf(s.tag, s.from, s.to, f.offset, b[:n]), b[n:]) {
		return nil, errSegment
	}
	return b[:n], nil
}

// next cuts the first term and its list off a block.
func nextTerm(b []byte) (t term, list, rest []byte, err error) {
	if len(b) < len(t)+1 {
		return t, nil, nil, errSegment
	}
	copy(t[:], b)
	b = b[len(t):]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return t, nil, nil, errSegment
	}
	return t, b[k:][:n], b[k:][n:], nil
}

func (s *segment) decode(list []byte) ([]uint64, error) {
	out := make([]uint64, 0, len(list))
	at := s.from
	for len(list) > 0 {
		d, k := binary.Uvarint(list)
		if k <= 0 {
			return nil, errSegment
		}
		at, list = at+d, list[k:]
		out = append(out, at)
	}
	return out, nil
}

// find returns the records that have a term, ascending.
func (s *segment) find(t term) ([]uint64, error) {
	i, exact := slices.BinarySearchFunc(s.fences, t, func(f fence, t term) int { return f.first.compare(t) })
	if !exact {
		if i == 0 {
			return nil, nil
		}
		i--
	}
	b, err := s.block(i)
	if err != nil {
		return nil, err
	}
	for len(b) > 0 {
		u, list, rest, err := nextTerm(b)
		if err != nil {
			return nil, err
		}
		if u == t {
			return s.decode(list)
		}
		b = rest
	}
	return nil, nil
}

// between says whether a record of the block that seq is in can be of the times.
func (s *segment) mayBe(seq uint64, since, until time.Time) bool {
	i := int(seq/timeRows-s.from/timeRows) * 2
	return (since.IsZero() || s.times[i+1] >= since.Unix()) && (until.IsZero() || s.times[i] <= until.Unix())
}

// cursor walks a segment's terms in order.
type cursor struct {
	s     *segment
	next  int
	block []byte
	term  term
	list  []byte
	ok    bool
}

func (c *cursor) advance() (err error) {
	for len(c.block) == 0 {
		if c.next == len(c.s.fences) {
			c.ok = false
			return nil
		}
		if c.block, err = c.s.block(c.next); err != nil {
			return err
		}
		c.next++
	}
	c.ok = true
	c.term, c.list, c.block, err = nextTerm(c.block)
	return err
}

// merge writes adjacent segments as one, without the records that drop names.
func merge(dir string, tag []byte, in []*segment, info segmentInfo, drop func(t term, seq uint64) bool) (*segment, error) {
	w, err := newSegmentWriter(dir, tag, info)
	if err != nil {
		return nil, err
	}
	cursors := make([]*cursor, len(in))
	for i, s := range in {
		cursors[i] = &cursor{s: s}
		if err := cursors[i].advance(); err != nil {
			w.abort()
			return nil, err
		}
	}
	for {
		var least *cursor
		for _, c := range cursors {
			if c.ok && (least == nil || c.term.compare(least.term) < 0) {
				least = c
			}
		}
		if least == nil {
			return w.close()
		}
		t := least.term
		var all []uint64
		for _, c := range cursors {
			if !c.ok || c.term != t {
				continue
			}
			seqs, err := c.s.decode(c.list)
			if err == nil {
				err = c.advance()
			}
			if err != nil {
				w.abort()
				return nil, err
			}
			for _, s := range seqs {
				if !drop(t, s) {
					all = append(all, s)
				}
			}
		}
		w.add(t, all)
	}
}

// mergedTimes puts the times of adjacent ranges together.
func mergedTimes(in []*segment) []int64 {
	from, to := in[0].from, in[len(in)-1].to
	out := make([]int64, 2*timeBlocks(from, to))
	for i := range out {
		out[i] = [2]int64{math.MaxInt64, math.MinInt64}[i%2]
	}
	for _, s := range in {
		base := int(s.from/timeRows-from/timeRows) * 2
		for i, t := range s.times {
			if i%2 == 0 {
				out[base+i] = min(out[base+i], t)
			} else {
				out[base+i] = max(out[base+i], t)
			}
		}
	}
	return out
}

// compareSegments orders by range.
func compareSegments(a, b *segment) int { return cmp.Compare(a.from, b.from) }
