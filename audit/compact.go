package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"sallyport"
)

// compactSuffix ends the name of a log that is being written anew.
const compactSuffix = ".compact"

// compaction writes the log anew without some contents and puts it in the
// place of the old one, in one step: before it the log is as it was, after it
// the contents are gone and the tombstone is there. bbolt does not overwrite
// what it frees; only a new file has none of it.
type compaction struct {
	log     *Log
	op      string
	step    string // of the tombstone
	subject string // key name
	intent  uint64
	drop    func(seq uint64, l leaf, body []byte) (bool, error)
	unused  bool // destroy keys that nothing is sealed under any more

	dst     *bbolt.DB
	copied  uint64 // records in dst
	dropped spans
	used    map[keyName]bool
}

const (
	compactRows  = 4096
	compactBytes = 8 << 20
)

// run returns the number of the last tombstone.
func (c *compaction) run() (tomb uint64, err error) {
	l, tmp := c.log, c.log.path+compactSuffix
	c.used = map[keyName]bool{}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, l.fail(c.op, err)
	}
	// The lock of the file that will be the log is taken before it is the log.
	if c.dst, err = openNew(tmp); err != nil {
		return 0, l.fail(c.op, err)
	}
	swapped := false
	defer func() {
		if !swapped {
			_ = c.dst.Close()
			_ = os.Remove(tmp)
		}
	}()
	// Most of it while appending goes on, each part checked: what came while
	// the part before was copied, until that is little.
	for from := uint64(0); ; from = c.copied {
		if err := c.copyRows(); err != nil {
			return 0, err
		}
		if err := c.check(from, false); err != nil {
			return 0, err
		}
		if left := l.Size() - c.copied; left < compactRows || left > (c.copied-from)/2 {
			break
		}
	}
	// On disk as far as it goes, so that appending does not wait for all of it.
	if err := c.dst.Sync(); err != nil {
		return 0, l.fail(c.op, err)
	}
	// The rest, which is little, while appending waits.
	err = l.between(c.op, func() error {
		from := c.copied
		if err := c.copyRows(); err != nil {
			return err
		}
		tombs, err := l.tombstones(c.op, c.step, c.subject, c.intent, c.dropped)
		if err != nil {
			return err
		}
		c.dst.NoSync, c.dst.NoGrowSync = false, false
		at, _, err := l.writeTo(c.dst, *l.head.Load(), tombs, nil)
		if err == nil {
			err = c.dst.Sync()
		}
		if u, ok := errors.AsType[*unsigned](err); ok {
			return sallyport.E(c.op, sallyport.Unavailable, u, "Look after the keeper of the log's signing key, and start the gateway again to finish the erasure.")
		}
		if err != nil {
			return l.fail(c.op, err)
		}
		if err := c.check(from, true); err != nil {
			return err
		}
		if err := errors.Join(os.Rename(tmp, l.path), syncDir(filepath.Dir(l.path))); err != nil {
			return l.fail(c.op, err)
		}
		swapped = true
		tomb = at.size - 1
		old := l.db.Load()
		// In this order: who finds a content gone must find the tombstone.
		l.noteActs(l.head.Load().size, tombs)
		l.db.Store(c.dst)
		l.head.Store(&at)
		l.index.feed(at.size-uint64(len(tombs)), tombs)
		go old.Close() // waits for its readers; the file has no name any more
		return c.destroyUnused()
	})
	return tomb, err
}

// openNew makes an empty database without syncing each transaction: it counts
// only once it is whole.
func openNew(path string) (*bbolt.DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := openBolt(path, logOptions())
	if err == nil {
		db.AllocSize = allocSize
		db.NoSync, db.NoGrowSync = true, true
	}
	return db, err
}

// copyRows copies what the log has and dst has not.
func (c *compaction) copyRows() error {
	l := c.log
	size := l.Size()
	if c.copied == 0 {
		signed, err := c.copyHeads()
		if err != nil {
			return err
		}
		size = max(size, signed) // the head may already be newer
	}
	for c.copied < size {
		var werr error
		err := l.view(c.op, func(tx *bbolt.Tx, src rows) error {
			werr = c.dst.Update(func(tx *bbolt.Tx) error {
				dst, err := openRows(tx)
				if err != nil {
					return err
				}
				for _, b := range []*bbolt.Bucket{dst.body, dst.leaf, dst.hash, dst.act} {
					b.FillPercent = fillPercent
				}
				for n, bytes := 0, 0; c.copied < size && n < compactRows && bytes < compactBytes; n++ {
					m, err := c.copyRow(src, dst, c.copied)
					if err != nil {
						return err
					}
					bytes += m
					c.copied++
				}
				return nil
			})
			return werr
		})
		if err != nil {
			if werr == nil || sallyport.KindOf(werr) == sallyport.Damaged {
				return err
			}
			return l.fail(c.op, werr)
		}
	}
	return nil
}

// copyHeads returns the size that the copied checkpoint is signed over.
func (c *compaction) copyHeads() (uint64, error) {
	var all [][3]string
	var signed string
	err := c.log.view(c.op, func(tx *bbolt.Tx, _ rows) error {
		signed = text(tx, bucketHead, keyCheckpoint)
		for _, name := range []string{bucketAbout, bucketHead} {
			b := tx.Bucket([]byte(name))
			if b == nil {
				return sallyport.Errorf(c.op, sallyport.Damaged, "Run `audit verify` on the file.", "bucket %q is missing", name)
			}
			if err := b.ForEach(func(k, v []byte) error {
				all = append(all, [3]string{name, string(k), string(v)})
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	cp, err := ParseCheckpoint(signed, c.log.VerifierKey())
	if err != nil {
		return 0, err
	}
	if err := c.dst.Update(func(tx *bbolt.Tx) error { return putRows(tx, all) }); err != nil {
		return 0, c.log.fail(c.op, err)
	}
	return cp.Size, nil
}

func (c *compaction) copyRow(src, dst rows, seq uint64) (size int, err error) {
	key := seqKey(seq)
	raw, body, hash := src.leaf.Get(key), src.body.Get(key), src.hash.Get(key)
	lf, err := parseLeaf(raw)
	if err != nil || lf.Seq != seq || hash == nil {
		return 0, damagedRecord(seq)
	}
	if body == nil {
		if _, ok := c.log.acts.Load().erased.find(seq); !ok {
			return 0, damagedRecord(seq)
		}
	} else {
		drop, err := c.drop(seq, lf, body)
		if err != nil {
			return 0, damagedOr(err, seq)
		}
		if drop {
			c.dropped = c.dropped.add(seq)
		} else {
			if name, ok := bodyKey(body); ok {
				c.used[name] = true
			}
			if err := dst.body.Put(key, body); err != nil {
				return 0, err
			}
		}
	}
	if reserved(lf.Step) {
		if err := dst.act.Put(key, actRow); err != nil {
			return 0, err
		}
	}
	return len(body) + len(raw) + len(hash), errors.Join(dst.leaf.Put(key, raw), dst.hash.Put(key, hash))
}

func damagedOr(err error, seq uint64) error {
	if errors.Is(err, errBody) {
		return damagedRecord(seq)
	}
	return err
}

// check verifies dst from a record on: to the signed end if it has it, else to
// what is copied. What is before was checked before.
func (c *compaction) check(from uint64, end bool) error {
	if from == c.copied && !end {
		return nil
	}
	erased, err := c.log.acts.Load().erased.with(c.dropped)
	if err != nil {
		return sallyport.E(c.op, sallyport.Internal, err, "")
	}
	return guard(c.op, func() error {
		return c.dst.View(func(tx *bbolt.Tx) error {
			r, err := openRows(tx)
			if err != nil {
				return err
			}
			// The signed head is of the log as it was when the heads were copied,
			// or with the tombstone.
			cp, err := ParseCheckpoint(text(tx, bucketHead, keyCheckpoint), c.log.VerifierKey())
			if err != nil {
				return err
			}
			size := cp.Size
			if !end {
				cp.Size = c.copied
			}
			ch, err := newChecker(r, from, cp)
			if err != nil {
				return err
			}
			ch.erased = erased
			f := ch.run(func(t *tree) {
				if t.size == size && t.root() != cp.Root {
					err = sallyport.Errorf(c.op, sallyport.Damaged, "", "the records do not have the root that was signed")
				}
			})
			if f != nil {
				return sallyport.Errorf(c.op, sallyport.Damaged, "Run `audit verify` on the log, keep it for examination, and restore a snapshot.", "%s: %s", f.damage, f.explain)
			}
			return err
		})
	})
}

// destroyUnused destroys keys that no content is sealed under. The writer
// calls it: a record that is on its way is sealed anew.
func (c *compaction) destroyUnused() error {
	if !c.unused {
		return nil
	}
	keys := c.log.keys
	gens, _, err := keys.list()
	if err != nil {
		return err
	}
	own := keys.name(ownSubject)
	for name, gen := range gens {
		if name == own || c.used[name] {
			continue
		}
		if _, err := keys.destroy(name, gen); err != nil {
			return c.log.fail(c.op, fmt.Errorf("a key of the log: %w", err))
		}
	}
	return nil
}
