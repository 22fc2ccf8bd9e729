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

// The file is a bbolt database with five buckets. Keys of the last three are
// sequence numbers, 8 bytes big-endian.
//
//	about  what the file is: format, origin, verifier key
//	head   the latest signed checkpoint
//	body   salt (32 bytes), then the entry as JSON: both go when a record is erased
//	leaf   the canonical leaf
//	hash   the leaf hash, then the hashes of the subtrees it completes, upwards
const fileFormat = "sallyport-audit/1"

const (
	bucketAbout = "about"
	bucketHead  = "head"
	bucketBody  = "body"
	bucketLeaf  = "leaf"
	bucketHash  = "hash"

	keyFormat     = "format"
	keyOrigin     = "origin"
	keyVerifier   = "verifier key"
	keyCheckpoint = "checkpoint"
)

// lockPatience is how long opening waits for another process to let go.
const lockPatience = time.Second

// fillPercent: rows are only ever added at the end, so pages can be full.
const fillPercent = 1.0

// rows are the buckets that hold one row a record.
type rows struct{ body, leaf, hash *bbolt.Bucket }

func openRows(tx *bbolt.Tx) (rows, error) {
	r := rows{tx.Bucket([]byte(bucketBody)), tx.Bucket([]byte(bucketLeaf)), tx.Bucket([]byte(bucketHash))}
	for name, b := range map[string]*bbolt.Bucket{bucketBody: r.body, bucketLeaf: r.leaf, bucketHash: r.hash} {
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
			for _, row := range [][3]string{
				{bucketAbout, keyFormat, fileFormat}, {bucketAbout, keyOrigin, s.name}, {bucketAbout, keyVerifier, s.verifier},
				{bucketHead, keyCheckpoint, signed}, {bucketBody}, {bucketLeaf}, {bucketHash},
			} {
				b, err := tx.CreateBucketIfNotExists([]byte(row[0]))
				if err != nil {
					return err
				}
				if row[1] != "" {
					if err := b.Put([]byte(row[1]), []byte(row[2])); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Link, not rename: two creators must not replace each other's log.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openFile opens the database. It looks at the file's size first, since a
// mapping that is longer than its file faults when read.
func openFile(op, path string, readOnly bool) (db *bbolt.DB, err error) {
	err = guard(op, func() error {
		if err := checkHeads(path); err != nil {
			return err
		}
		// Map more than the file is long: growing the map waits for every
		// reader, and would make appends wait for a long snapshot.
		room := 0
		if !readOnly && strconv.IntSize == 64 {
			room = 16 << 30
		}
		opts := bbolt.Options{ReadOnly: readOnly, Timeout: lockPatience,
			InitialMmapSize: room, FreelistType: bbolt.FreelistMapType, NoStatistics: true}
		if db, err = bbolt.Open(path, 0o600, &opts); errors.Is(err, syscall.ENOMEM) {
			opts.InitialMmapSize = 0 // the process may not have so much address space
			db, err = bbolt.Open(path, 0o600, &opts)
		}
		return err
	})
	if err != nil {
		return nil, fileError(op, path, err)
	}
	db.AllocSize = 4 << 20
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
