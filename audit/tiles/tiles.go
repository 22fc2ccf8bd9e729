// Package tiles writes an audit log as a C2SP tlog-tiles directory
// (https://c2sp.org/tlog-tiles), which any static web server can show and any
// monitor of such logs can read, and checks such a directory.
//
//	checkpoint            the signed head
//	tile/<L>/<N>          256 hashes of level L, or tile/<L>/<N>.p/<W> with W of them
//	tile/entries/<N>      the leaves that the hashes of tile/0/<N> are of
//
// Entries are leaves: they tell when and at which step something was recorded,
// and nothing more.
package tiles

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
	"sallyport/audit"
)

const (
	height = 8
	width  = 1 << height // of a full tile
)

// tilePath is a tile's path in the directory. Level -1 is the entries'.
func tilePath(level int, n int64, w int) string {
	name := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		name = fmt.Sprintf("x%03d/%s", n%1000, name)
	}
	l := "entries"
	if level >= 0 {
		l = strconv.Itoa(level)
	}
	name = path.Join("tile", l, name)
	if w < width {
		name += ".p/" + strconv.Itoa(w)
	}
	return name
}

// Written says what an export did.
type Written struct {
	Size  uint64 `json:"size"`  // records in the directory
	Old   uint64 `json:"old"`   // records that were there before
	Files int    `json:"files"` // written
}

// Write brings the directory up to the log's latest checkpoint, or to a given
// one of the log, such as one that witnesses have cosigned. Full tiles that are
// there are not written again. The checkpoint is written last: a crash leaves a
// directory that is good as of the checkpoint before.
//
// Errors: [sallyport.Conflict] if the directory is another log's,
// [sallyport.Damaged] if it is not an earlier state of this one.
func Write(dir string, l *audit.Log, checkpoint string) (Written, error) {
	const op = "write tiles"
	if checkpoint == "" {
		var err error
		if checkpoint, err = l.Checkpoint(); err != nil {
			return Written{}, err
		}
	}
	cp, err := audit.ParseCheckpoint(checkpoint, l.VerifierKey())
	if err != nil {
		return Written{}, err
	}
	if root, err := l.Root(cp.Size); err != nil {
		return Written{}, err
	} else if root != cp.Root {
		return Written{}, sallyport.Errorf(op, sallyport.Damaged, "Run `audit verify` with this checkpoint.", "the checkpoint of %d records is not of this log's history", cp.Size)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Written{}, fileError(op, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Written{}, fileError(op, err)
	}
	defer root.Close()
	w := writer{root: root, log: l, dirs: map[string]bool{}}
	out := Written{Size: cp.Size}
	if out.Old, err = w.old(cp.Size); err != nil {
		return out, err
	}
	if err := w.tiles(int64(out.Old), int64(cp.Size)); err != nil {
		return out, err
	}
	if err := w.sync(); err != nil { // a checkpoint must not outlive its tiles
		return out, err
	}
	if err := w.put("checkpoint", []byte(checkpoint)); err != nil {
		return out, err
	}
	out.Files = w.files
	return out, w.sync()
}

type writer struct {
	root  *os.Root
	log   *audit.Log
	files int
	dirs  map[string]bool // whose names are not durable yet
}

// old returns the size of the tree that is in the directory.
func (w *writer) old(size uint64) (uint64, error) {
	const op = "write tiles"
	b, err := w.root.ReadFile("checkpoint")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fileError(op, err)
	}
	have, err := audit.ParseCheckpoint(string(b), w.log.VerifierKey())
	if err != nil {
		return 0, sallyport.E(op, sallyport.Conflict, err, "Choose an empty folder: the checkpoint in this one is not of this log.")
	}
	if have.Size > size {
		return 0, sallyport.Errorf(op, sallyport.Damaged, "Keep the folder: with its checkpoint it shows that the log was rolled back.", "the folder has %d records, the log %d", have.Size, size)
	}
	root, err := w.log.Root(have.Size)
	if err != nil {
		return 0, err
	}
	if root != have.Root {
		return 0, sallyport.Errorf(op, sallyport.Damaged, "Keep the folder: with its checkpoint it shows that the log's past was changed.", "the folder's %d records are not the log's", have.Size)
	}
	return have.Size, nil
}

func (w *writer) tiles(old, size int64) error {
	for _, t := range tlog.NewTiles(height, old, size) {
		data, err := tlog.ReadTileData(t, w.log)
		if err != nil {
			return err
		}
		if err := w.tile(t.L, t.N, t.W, data); err != nil {
			return err
		}
		if t.L > 0 {
			continue
		}
		if data, err = w.entries(t.N, t.W); err != nil {
			return err
		}
		if err := w.tile(-1, t.N, t.W, data); err != nil {
			return err
		}
	}
	return nil
}

// entries reads a bundle: each leaf after its length in two bytes.
func (w *writer) entries(n int64, count int) ([]byte, error) {
	leaves, err := w.log.Leaves(uint64(n)*width, count)
	if err != nil {
		return nil, err
	}
	if len(leaves) != count {
		return nil, sallyport.Errorf("write tiles", sallyport.Damaged, "Run `audit verify` on the log.", "leaves from %d on are missing", n*width+int64(len(leaves)))
	}
	var b []byte
	for _, l := range leaves {
		if len(l) > 1<<16-1 {
			return nil, sallyport.Errorf("write tiles", sallyport.Internal, "", "a leaf has %d bytes", len(l))
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(l))), l...)
	}
	return b, nil
}

func (w *writer) tile(level int, n int64, count int, data []byte) error {
	name := tilePath(level, n, count)
	if have, err := w.root.ReadFile(name); err == nil && bytes.Equal(have, data) {
		return nil
	} else if err == nil && count == width {
		return sallyport.Errorf("write tiles", sallyport.Damaged, "Check the folder, and export to an empty one.", "%s is there and has other bytes; full tiles never change", name)
	}
	if err := w.put(name, data); err != nil {
		return err
	}
	if count < width {
		return nil
	}
	if err := w.root.RemoveAll(tilePath(level, n, width) + ".p"); err != nil {
		return fileError("write tiles", err)
	}
	return nil
}

// put writes a file whole or not at all.
func (w *writer) put(name string, data []byte) error {
	const op = "write tiles"
	dir := path.Dir(name)
	if err := w.root.MkdirAll(dir, 0o755); err != nil {
		return fileError(op, err)
	}
	f, err := w.root.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fileError(op, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fileError(op, err)
	}
	if err := w.root.Rename(name+".new", name); err != nil {
		return fileError(op, err)
	}
	w.files++
	for ; !w.dirs[dir]; dir = path.Dir(dir) {
		w.dirs[dir] = true
	}
	return nil
}

// sync makes the names of what was put durable.
func (w *writer) sync() error {
	for dir := range w.dirs {
		d, err := w.root.Open(dir)
		if err != nil {
			return fileError("write tiles", err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return fileError("write tiles", err)
		}
	}
	clear(w.dirs)
	return nil
}

func fileError(op string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sallyport.E(op, sallyport.NotFound, err, "Name a folder that `sallyport audit tiles` wrote.")
	case errors.Is(err, fs.ErrPermission):
		return sallyport.E(op, sallyport.Unavailable, err, "Choose a folder that you may write to.")
	}
	return sallyport.E(op, sallyport.Unavailable, err, "")
}

// Check reads a directory from end to end: every entry against its hash, every
// tile against those below, the root against the checkpoint, its signature with
// the log's verifier key. [sallyport.Damaged] says what does not fit. Memory is
// one tile a level.
func Check(dir, verifierKey string) (audit.Checkpoint, error) {
	r, err := open(dir, verifierKey)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	defer r.root.Close()
	return r.cp, r.check()
}

type reader struct {
	root   *os.Root
	signed string
	cp     audit.Checkpoint
}

func open(dir, verifierKey string) (*reader, error) {
	const op = "read tiles"
	root, err := os.OpenRoot(filepath.Clean(dir))
	if err != nil {
		return nil, fileError(op, err)
	}
	b, err := root.ReadFile("checkpoint")
	if err == nil {
		var cp audit.Checkpoint
		if cp, err = audit.ParseCheckpoint(string(b), verifierKey); err == nil {
			return &reader{root, string(b), cp}, nil
		}
	} else {
		err = fileError(op, err)
	}
	return nil, errors.Join(err, root.Close())
}

func damaged(format string, args ...any) error {
	return sallyport.Errorf("check tiles", sallyport.Damaged, "Ask the log for the folder anew; keep this one if the log gives another.", format, args...)
}

// level is what is worked out of one level of tiles.
type level struct {
	n    int64  // of the tile that is being filled
	data []byte // its hashes so far
}

func (r *reader) check() error {
	var levels []level
	var tree stack
	size := int64(r.cp.Size)
	for n := int64(0); n*width < size; n++ {
		count := int(min(size-n*width, width))
		leaves, err := r.bundle(n, count)
		if err != nil {
			return err
		}
		for _, l := range leaves {
			h := tlog.RecordHash(l)
			tree.add(h)
			if levels, err = r.push(levels, 0, h); err != nil {
				return err
			}
		}
	}
	for l, lv := range levels {
		if len(lv.data) > 0 {
			if err := r.compare(l, lv); err != nil {
				return err
			}
		}
	}
	if tree.root() != r.cp.Root {
		return damaged("the %d entries do not have the root that was signed", size)
	}
	return nil
}

// push adds a hash to a level, compares a tile that is full, and passes its
// hash up.
func (r *reader) push(levels []level, l int, h tlog.Hash) ([]level, error) {
	if l == len(levels) {
		levels = append(levels, level{})
	}
	lv := &levels[l]
	lv.data = append(lv.data, h[:]...)
	if len(lv.data) < width*tlog.HashSize {
		return levels, nil
	}
	if err := r.compare(l, *lv); err != nil {
		return levels, err
	}
	var up stack
	for i := 0; i < len(lv.data); i += tlog.HashSize {
		up.add(tlog.Hash(lv.data[i : i+tlog.HashSize]))
	}
	lv.n, lv.data = lv.n+1, lv.data[:0]
	return r.push(levels, l+1, up.root())
}

func (r *reader) compare(l int, lv level) error {
	name := tilePath(l, lv.n, len(lv.data)/tlog.HashSize)
	have, whole, err := r.read(name, l, lv.n)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(have, lv.data) || whole && len(have) != len(lv.data) {
		return damaged("the hashes in %s are not those of what is below them", name)
	}
	return nil
}

// read reads a tile or, if a partial one is gone, the full one that begins with
// it; whole tells whether it is the tile itself.
func (r *reader) read(name string, l int, n int64) (b []byte, whole bool, err error) {
	b, err = r.root.ReadFile(name)
	if whole = err == nil; errors.Is(err, fs.ErrNotExist) {
		b, err = r.root.ReadFile(tilePath(l, n, width))
	}
	if err != nil {
		return nil, false, damaged("%s cannot be read: %w", name, err)
	}
	return b, whole, nil
}

func (r *reader) bundle(n int64, count int) ([][]byte, error) {
	name := tilePath(-1, n, count)
	b, whole, err := r.read(name, -1, n)
	if err != nil {
		return nil, err
	}
	leaves, rest, err := parseBundle(b, count)
	if err == nil && whole && len(rest) > 0 {
		err = fmt.Errorf("the bundle holds more than %d entries", count)
	}
	if err != nil {
		return nil, damaged("%s: %w", name, err)
	}
	return leaves, nil
}

// parseBundle takes count entries off b.
func parseBundle(b []byte, count int) (leaves [][]byte, rest []byte, err error) {
	for range count {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, nil, errors.New("the bundle is cut short")
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		leaves, b = append(leaves, b[2:n]), b[n:]
	}
	return leaves, b, nil
}

// stack is an RFC 6962 tree as the roots of its complete subtrees.
type stack struct {
	size  uint64
	roots []tlog.Hash
}

func (s *stack) add(h tlog.Hash) {
	for n := s.size; n&1 == 1; n >>= 1 {
		last := len(s.roots) - 1
		h, s.roots = tlog.NodeHash(s.roots[last], h), s.roots[:last]
	}
	s.roots, s.size = append(s.roots, h), s.size+1
}

func (s *stack) root() tlog.Hash {
	if s.size == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := s.roots[len(s.roots)-1]
	for i := len(s.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(s.roots[i], h)
	}
	return h
}

// Prove makes the proof of an entry out of a directory alone, reading only the
// tiles on its path; what it returns is checked.
func Prove(dir, verifierKey string, seq uint64) (audit.Proof, error) {
	r, err := open(dir, verifierKey)
	if err != nil {
		return audit.Proof{}, err
	}
	defer r.root.Close()
	if seq >= r.cp.Size {
		return audit.Proof{}, sallyport.Errorf("read tiles", sallyport.NotFound, "", "there is no entry %d among %d", seq, r.cp.Size)
	}
	n, size := int64(seq/width), int64(r.cp.Size)
	leaves, err := r.bundle(n, int(min(size-n*width, width)))
	if err != nil {
		return audit.Proof{}, err
	}
	p := audit.Proof{Extra: leaves[seq%width], Index: seq, Checkpoint: r.signed}
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: r.cp.Root}, tileReader{r})
	if p.Path, err = tlog.ProveRecord(size, int64(seq), hashes); err != nil {
		return audit.Proof{}, damaged("the tiles on the path of entry %d do not fit the checkpoint: %w", seq, err)
	}
	return p, audit.CheckInclusion(p.Path, p.Extra, seq, r.cp)
}

type tileReader struct{ *reader }

func (tileReader) Height() int                     { return height }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r tileReader) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range list {
		b, _, err := r.read(tilePath(t.L, t.N, t.W), t.L, t.N)
		if err != nil {
			return nil, err
		}
		if len(b) < t.W*tlog.HashSize {
			return nil, damaged("%s is cut short", tilePath(t.L, t.N, t.W))
		}
		out = append(out, b[:t.W*tlog.HashSize])
	}
	return out, nil
}

var _ tlog.TileReader = tileReader{}
