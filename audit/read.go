package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"iter"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

const (
	readRows  = 1000    // records that Read returns when no limit is set
	readBytes = 8 << 20 // of bodies that one call or step reads, give or take one
)

// Filter says which records to read. Empty fields match everything.
type Filter struct {
	Job      sallyport.JobID
	Dataset  string
	Subject  string
	Step     string
	Decision string
	Since    time.Time // not before
	Until    time.Time // before
	Newest   bool      // newest first
	Limit    int       // at most so many; 0: all
}

// view runs f in a read transaction. Nothing that waits for a caller may run
// inside: an open transaction can keep the writer from growing the file.
func (l *Log) view(op string, f func(tx *bbolt.Tx, r rows) error) error {
	err := guard(op, func() error {
		return l.db.View(func(tx *bbolt.Tx) error {
			r, err := openRows(tx)
			if err != nil {
				return sallyport.E(op, sallyport.Damaged, err, "Run `audit verify` on the file.")
			}
			return f(tx, r)
		})
	})
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

// record reads one record, and holds its content against its leaf: a reader
// must not be shown what the log does not stand for.
func record(seq uint64, body, raw []byte) (Record, error) {
	l, err := parseLeaf(raw)
	if err != nil || l.Seq != seq || len(body) < saltSize || commitment(body[:saltSize], body[saltSize:]) != l.Body {
		return Record{}, damagedRecord(seq)
	}
	r := Record{Seq: seq}
	if err := json.Unmarshal(body[saltSize:], &r.Entry); err != nil {
		return Record{}, damagedRecord(seq)
	}
	h := tlog.RecordHash(raw)
	r.Leaf = sallyport.DigestSum(h[:])
	return r, nil
}

func damagedRecord(seq uint64) error {
	return sallyport.Errorf("read audit log", sallyport.Damaged, "Run `audit verify` on the file.", "record %d is not what was recorded", seq)
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
		r, err = record(seq, b.body.Get(key), b.leaf.Get(key))
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
			r, err := record(seq, body, b.leaf.Get(key))
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
// After an error it yields no more.
func (l *Log) Records(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		size, found := l.Size(), 0
		for done := uint64(0); done < size; {
			if ctx.Err() != nil {
				yield(Record{}, sallyport.E("read audit log", sallyport.Canceled, context.Cause(ctx), ""))
				return
			}
			chunk, n, err := l.chunk(f, done, size)
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
			done += n
		}
	}
}

// chunk looks at the next records, a bounded number, of which done are behind
// us, and returns those that match and how many it looked at.
func (l *Log) chunk(f Filter, done, size uint64) (out []Record, n uint64, err error) {
	const rowsAtOnce = 512
	err = l.view("read audit log", func(_ *bbolt.Tx, b rows) error {
		for read := 0; done+n < size && n < rowsAtOnce && read < readBytes; n++ {
			seq := done + n
			if f.Newest {
				seq = size - 1 - seq
			}
			key := seqKey(seq)
			raw, body := b.leaf.Get(key), b.body.Get(key)
			if !f.mayMatch(raw, body) {
				continue
			}
			r, err := record(seq, body, raw)
			if err != nil {
				return err
			}
			if f.match(r.Entry) {
				out, read = append(out, r), read+len(body)
			}
		}
		return nil
	})
	return out, n, err
}

// mayMatch passes over most records without decoding them, and never over one
// that matches. Damage in a record passed over is for [Verify] to find.
func (f Filter) mayMatch(raw, body []byte) bool {
	if f.Job != "" && f.Job.Valid() && len(body) > 0 && !bytes.Contains(body, []byte(`"job":"`+string(f.Job)+`"`)) {
		return false
	}
	if f.Step == "" && f.Since.IsZero() && f.Until.IsZero() {
		return true
	}
	l, err := parseLeaf(raw)
	return err != nil || f.inTime(l.Time) && (f.Step == "" || l.Step == f.Step)
}

func (f Filter) inTime(t time.Time) bool {
	return (f.Since.IsZero() || !t.Before(f.Since)) && (f.Until.IsZero() || t.Before(f.Until))
}

func (f Filter) match(e Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(string(f.Job), string(e.Job)) && is(f.Dataset, e.Dataset) && is(f.Subject, e.Subject) &&
		is(f.Step, e.Step) && is(f.Decision, e.Decision) && f.inTime(e.Time)
}

// Orphans returns the intents, in order, that no outcome of the same job and
// step follows: acts that may or may not have happened, because the gateway
// ended between the two. Where a record has no job, its lease stands for it.
// It reads the whole log.
func (l *Log) Orphans() ([]Record, error) {
	type act struct {
		job         sallyport.JobID
		step, lease string
	}
	open := map[act][]Record{}
	for r, err := range l.Records(context.Background(), Filter{}) {
		if err != nil {
			return nil, err
		}
		a := act{job: r.Entry.Job, step: r.Entry.Step}
		if a.job == "" {
			a.lease = r.Entry.Lease
		}
		switch r.Entry.Phase {
		case Intent:
			open[a] = append(open[a], r)
		case Outcome:
			delete(open, a)
		}
	}
	var out []Record
	for _, rs := range open {
		out = append(out, rs...)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return out, nil
}

// Snapshot writes a copy of the log as it stands, itself a log that
// [OpenReadOnly] and [Verify] take. Appending goes on meanwhile.
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
