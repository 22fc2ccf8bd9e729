package audit

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"sallyport"
)

const (
	readRows  = 1000    // records that Read returns when no limit is set
	readBytes = 8 << 20 // of bodies that one call or step reads, give or take one
)

// Filter says which records to read. Empty fields match everything. A record
// that cannot be read, because it is erased or there is no key, matches by
// step, time and number alone.
type Filter struct {
	Job      sallyport.JobID
	Dataset  string
	Subject  string
	Project  string
	Node     string
	Step     string
	Decision string
	Rule     string // one of the entry's rules
	Purpose  string
	Lease    string
	Text     string    // words, in any order and case, that all stand in the step or the reasons
	Since    time.Time // not before
	Until    time.Time // before
	From     uint64    // numbers from this one on: for the next page, one more than the last seen
	Before   uint64    // numbers below this one: for the next page, newest first, the last seen; 0: no bound
	Newest   bool      // newest first
	Limit    int       // at most so many; 0: all
}

// view runs f in a read transaction. Nothing that waits for a caller may run
// inside: an open transaction can keep the writer from growing the file.
func (l *Log) view(op string, f func(tx *bbolt.Tx, r rows) error) error {
	var err error
	for again := true; again; {
		db := l.db.Load()
		err = guard(op, func() error {
			return db.View(func(tx *bbolt.Tx) error {
				r, err := openRows(tx)
				if err != nil {
					return sallyport.E(op, sallyport.Damaged, err, "Run `audit verify` on the file.")
				}
				return f(tx, r)
			})
		})
		// An erasure may have put another file in its place just before.
		again = errors.Is(err, berrors.ErrDatabaseNotOpen) && l.db.Load() != db
	}
	if err != nil {
		l.mu.RLock()
		defer l.mu.RUnlock()
		if l.closed {
			return closedError(op)
		}
		return fileError(op, l.path, err)
	}
	return nil
}

// Get returns one record; [sallyport.NotFound] if the log has none of that
// number, [sallyport.Damaged] if it is not what was recorded.
func (l *Log) Get(seq uint64) (r Record, err error) {
	const op = "read audit log"
	if size := l.Size(); seq >= size {
		return r, sallyport.Errorf(op, sallyport.NotFound, "", "there is no record %d: the log has %d", seq, size)
	}
	err = l.view(op, func(_ *bbolt.Tx, b rows) error {
		key := seqKey(seq)
		r, err = l.record(seq, b.body.Get(key), b.leaf.Get(key))
		return err
	})
	return r, err
}

// Read returns records in order, starting at from, at most limit of them (1000
// if limit is not positive), and fewer where they are large. An empty answer
// means that the log ends before from.
func (l *Log) Read(from uint64, limit int) ([]Record, error) {
	if limit <= 0 {
		limit = readRows
	}
	var out []Record
	err := l.view("read audit log", func(_ *bbolt.Tx, b rows) error {
		size := 0
		for seq, end := from, l.Size(); seq < end && len(out) < limit && size < readBytes; seq++ {
			key := seqKey(seq)
			body := b.body.Get(key)
			r, err := l.record(seq, body, b.leaf.Get(key))
			if err != nil {
				return err
			}
			out, size = append(out, r), size+len(body)
		}
		return nil
	})
	return out, err
}

// Records yields the records that match, in order or newest first, as the log
// stands when the loop begins. The caller may take its time, and may append.
// After an error it yields no more. Where the search index covers the log only
// what it names is read; the answer is the same without it.
func (l *Log) Records(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		found := 0
		for seqs := range l.candidates(f, l.Size()) {
			for len(seqs) > 0 {
				if ctx.Err() != nil {
					yield(Record{}, sallyport.E("read audit log", sallyport.Canceled, context.Cause(ctx), ""))
					return
				}
				chunk, n, err := l.chunk(f, seqs)
				for _, r := range chunk {
					if !yield(r, nil) {
						return
					}
					if found++; found == f.Limit {
						return
					}
				}
				if err != nil {
					yield(Record{}, err)
					return
				}
				seqs = seqs[n:]
			}
		}
	}
}

// chunk looks at the next records, a bounded number, and returns those that
// match and how many it looked at.
func (l *Log) chunk(f Filter, seqs []uint64) (out []Record, n int, err error) {
	err = l.view("read audit log", func(_ *bbolt.Tx, b rows) error {
		for read := 0; n < len(seqs) && n < rowsAtOnce && read < readBytes; n++ {
			seq := seqs[n]
			key := seqKey(seq)
			raw, body := b.leaf.Get(key), b.body.Get(key)
			if !f.mayMatch(raw) {
				continue
			}
			r, err := l.record(seq, body, raw)
			if err != nil {
				return err
			}
			if f.match(r) {
				out, read = append(out, r), read+len(body)
			}
		}
		return nil
	})
	return out, n, err
}

// Orphans returns the intents, in order, that no outcome of the same job and
// step follows: acts that may or may not have happened, because the gateway
// ended between the two. Where a record has no job, its lease stands for it.
// It reads what the search index does not cover, at most some thousand records
// of a log with keys.
func (l *Log) Orphans() ([]Record, error) {
	to, opens := l.index.covered()
	termOf := keyless
	if l.index != nil {
		termOf = l.index.term
	}
	open := openActs{of: map[term][]uint64{}}
	for _, o := range opens {
		open.of[o.act] = append(open.of[o.act], o.seq)
	}
	for r, err := range l.Records(context.Background(), Filter{From: to}) {
		if err != nil {
			return nil, err
		}
		open.note(termOf, r)
	}
	var out []Record
	for _, o := range open.list() {
		r, err := l.Get(o.seq)
		if err != nil {
			return nil, err
		}
		if r.readable() { // it may have been erased since
			out = append(out, r)
		}
	}
	return out, nil
}

// Snapshot writes a copy of the log as it stands, itself a log that
// [OpenReadOnly] and [Verify] take. Appending goes on meanwhile. The keys do not
// go along: give [OpenRead] those of the log.
func (l *Log) Snapshot(w io.Writer) error {
	const op = "copy audit log"
	var werr error
	err := l.view(op, func(tx *bbolt.Tx, _ rows) error {
		_, werr = tx.WriteTo(w)
		return nil
	})
	if err == nil && werr != nil {
		return sallyport.E(op, cmp.Or(errKind(werr), sallyport.Unavailable), werr, "")
	}
	return err
}

// errKind returns the kind of the *sallyport.Error in err's tree, or nothing.
func errKind(err error) sallyport.Kind {
	if noRoom(err) {
		return sallyport.Exhausted
	}
	if k := sallyport.KindOf(err); k != sallyport.Internal {
		return k
	}
	return ""
}
