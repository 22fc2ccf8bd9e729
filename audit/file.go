package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// The file is a bbolt database with six buckets. Keys of the last four are
// sequence numbers, 8 bytes big-endian.
//
//	about  what the file is: format, origin, the first verifier key
//	head   the latest signed checkpoint, and for each change of the signing key the old one's last
//	body   salt (32 bytes) and the entry as JSON, sealed; no row for an erased record
//	leaf   the canonical leaf
//	hash   the leaf hash, then the hashes of the subtrees it completes, upwards
//	act    a row for each act on the log itself: holds, erasures, changes of key
const fileFormat = "sallyport-audit/2"

const (
	bucketAbout = "about"
	bucketHead  = "head"
	bucketBody  = "body"
	bucketLeaf  = "leaf"
	bucketHash  = "hash"
	bucketAct   = "act"

	keyFormat     = "format"
	keyOrigin     = "origin"
	keyVerifier   = "verifier key"
	keyCheckpoint = "checkpoint"
)

// lockPatience is how long opening waits for another process to let go.
const lockPatience = time.Second

// fillPercent: rows are only ever added at the end, so pages can be full.
const fillPercent = 1.0

// rows are the buckets whose rows are filed by record.
type rows struct{ body, leaf, hash, act *bbolt.Bucket }

func openRows(tx *bbolt.Tx) (rows, error) {
	r := rows{tx.Bucket([]byte(bucketBody)), tx.Bucket([]byte(bucketLeaf)), tx.Bucket([]byte(bucketHash)), tx.Bucket([]byte(bucketAct))}
	for name, b := range map[string]*bbolt.Bucket{bucketBody: r.body, bucketLeaf: r.leaf, bucketHash: r.hash, bucketAct: r.act} {
		if b == nil {
			return rows{}, fmt.Errorf("bucket %q is missing", name)
		}
	}
	return r, nil
}

// ReadHashes makes the hash bucket a [tlog.HashReader]. Inside a write
// transaction it also sees the rows put by it, so that a batch can build on
// its own hashes.
func (r rows) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		// Subtree n of a level is completed by its last leaf.
		last := uint64(n+1)<<uint(level) - 1
		row := r.hash.Get(seqKey(last))
		at := level * tlog.HashSize
		if len(row) < at+tlog.HashSize {
			return nil, fmt.Errorf("the tree's hashes at record %d are missing", last)
		}
		copy(out[i][:], row[at:])
	}
	return out, nil
}

var _ tlog.HashReader = rows{}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// text reads a row of a bucket that may itself be missing.
func text(tx *bbolt.Tx, bucket, key string) string {
	if b := tx.Bucket([]byte(bucket)); b != nil {
		return string(b.Get([]byte(key)))
	}
	return ""
}

// create makes an empty log beside path and moves it there whole, so that a
// crash leaves either no file or a good one, and the directory entry is durable.
func create(path string, s *signer) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp.Name(), 0o600, &bbolt.Options{Timeout: lockPatience})
	if err != nil {
		return err
	}
	root, _ := tlog.TreeHash(0, nil)
	signed, err := s.checkpoint(0, root)
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			return putRows(tx, [][3]string{
				{bucketAbout, keyFormat, fileFormat}, {bucketAbout, keyOrigin, s.name}, {bucketAbout, keyVerifier, s.verifier},
				{bucketHead, keyCheckpoint, signed},
			})
		})
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Link, not rename: two creators must not replace each other's log. Who has
	// made it first may have taken away the other's beginning.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(path); there != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

// clearBeginnings takes away what a crash left of [create]. Such a name may be
// a second one of the log's file, which would keep the contents that an
// erasure takes out of the log by putting another file in its place.
func clearBeginnings(path string) error {
	dir, prefix := filepath.Dir(path), filepath.Base(path)+".new-"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), prefix); ok && strings.Trim(n, "0123456789") == "" {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// putRows makes the buckets of an empty log and puts rows (bucket, key, value).
func putRows(tx *bbolt.Tx, rows [][3]string) error {
	for _, name := range []string{bucketAbout, bucketHead, bucketBody, bucketLeaf, bucketHash, bucketAct} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if err := tx.Bucket([]byte(row[0])).Put([]byte(row[1]), []byte(row[2])); err != nil {
			return err
		}
	}
	return nil
}

// allocSize is how much a file grows at a time.
const allocSize = 4 << 20

// logOptions are those of a log open for appending. It maps more than the file
// is long: growing the map waits for every reader, and would make appends wait
// for a long snapshot.
func logOptions() *bbolt.Options {
	room := 0
	if strconv.IntSize == 64 {
		room = 16 << 30
	}
	return &bbolt.Options{Timeout: lockPatience, InitialMmapSize: room, FreelistType: bbolt.FreelistMapType, NoStatistics: true}
}

func openBolt(path string, opts *bbolt.Options) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, opts)
	if errors.Is(err, syscall.ENOMEM) {
		opts.InitialMmapSize = 0 // the process may not have so much address space
		db, err = bbolt.Open(path, 0o600, opts)
	}
	return db, err
}

// openFile opens the database. It looks at the file's size first, since a
// mapping that is longer than its file faults when read.
func openFile(op, path string, readOnly bool) (db *bbolt.DB, err error) {
	err = guard(op, func() error {
		if err := checkHeads(path); err != nil {
			return err
		}
		opts := logOptions()
		if readOnly {
			opts.ReadOnly, opts.InitialMmapSize = true, 0
		}
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		db, err = openBolt(path, opts)
		if err != nil {
			return err
		}
		// The lock is on the file, and an erasure puts another in its place:
		// who waited for the lock of the old one has a file without a name.
		after, err := os.Stat(path)
		if err == nil && !os.SameFile(before, after) {
			err = berrors.ErrTimeout
		}
		if err == nil && !readOnly {
			err = clearBeginnings(path)
		}
		if err != nil {
			err = errors.Join(err, db.Close())
		}
		return err
	})
	if err != nil {
		return nil, fileError(op, path, err)
	}
	db.AllocSize = allocSize
	return db, nil
}

func fileError(op, path string, err error) error {
	if _, ok := errors.AsType[*sallyport.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return sallyport.Errorf(op, sallyport.Unavailable, "Another process, most likely the gateway, holds it: ask that one, or work on a snapshot of the log.", "%s is in use", path)
	case errors.Is(err, fs.ErrNotExist):
		return sallyport.Errorf(op, sallyport.NotFound, "Give the path of an audit log.", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return sallyport.Errorf(op, sallyport.Unavailable, "Run as the user that owns the log.", "%w", err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return sallyport.Errorf(op, sallyport.Damaged, "Restore it from a snapshot.", "%s is no audit log, or its first pages are damaged: %w", path, err)
	case noRoom(err):
		return sallyport.Errorf(op, sallyport.Exhausted, "Free disk space.", "%w", err)
	}
	return sallyport.Errorf(op, sallyport.Unavailable, "", "%s: %w", path, err)
}

// noRoom also looks at the words: bbolt drops the cause when it cannot grow
// its file.
func noRoom(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EFBIG, syscall.EDQUOT} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// guard turns a panic inside f into a Damaged error: bbolt panics on pages it
// cannot make sense of, and reading a mapped page that the disk does not give
// back is a fault.
func guard(op string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = sallyport.Errorf(op, sallyport.Damaged, "Keep the file for examination and restore a snapshot.", "the file cannot be read: %v", r)
		}
	}()
	return f()
}
