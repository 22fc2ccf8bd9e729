package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// MaxEntry is the largest entry, in bytes of JSON.
const MaxEntry = 1 << 20

// A batch is bounded, so that one transaction is neither long nor large.
const (
	maxBatch      = 1024    // records
	maxBatchBytes = 8 << 20 // of bodies, give or take one entry
)

// Config says where a log is and who signs it.
type Config struct {
	Path   string // of the file; it is made if it is not there
	Origin string // names the log in its checkpoints, e.g. "lab.example/sallyport": no spaces, no plus
	Seed   []byte // 32 bytes, the Ed25519 key (RFC 8032) that signs checkpoints
	// Sign and Public sign instead of Seed, for a key that never leaves its
	// keeper. While Sign fails nothing is recorded, and so nothing done; the log
	// goes on when it works again.
	Sign   func(msg []byte) ([]byte, error)
	Public ed25519.PublicKey
	Now    func() time.Time // for entries without a time; nil: time.Now
}

// Log is an open audit log. Its methods may be called from many goroutines.
type Log struct {
	path   string
	db     *bbolt.DB
	signer *signer // nil: read only
	key    string
	now    func() time.Time
	head   atomic.Pointer[head]

	mu     sync.RWMutex // held for reading while an entry is handed to the writer
	closed bool
	queue  chan pending
	done   chan struct{}
	failed atomic.Pointer[sallyport.Error] // the write error after which nothing is taken any more
}

// head is where the log ends, as last made durable.
type head struct {
	size       uint64
	last       tlog.Hash // leaf hash of the last record
	checkpoint string
}

// pending is an entry on its way to the writer: all that does not depend on
// its place in the log is already done.
type pending struct {
	leaf  leaf
	body  []byte // salt and JSON
	reply chan reply
}

type reply struct {
	receipt Receipt
	err     error
}

// Open opens the log for appending, and makes it if there is none. One process
// has a log open for appending at a time: [sallyport.Unavailable] says that
// another has. Before it answers, the last records are verified against the
// signed checkpoint: [sallyport.Damaged] says that they do not fit, or that
// the file is none; [sallyport.Conflict] that it is the log of another origin
// or key.
func Open(cfg Config) (*Log, error) {
	const op = "open audit log"
	s, err := newSigner(cfg)
	if err != nil {
		return nil, sallyport.E(op, sallyport.Invalid, err, "Set the site's name and the log's signing key.")
	}
	if _, err := os.Stat(cfg.Path); errors.Is(err, fs.ErrNotExist) {
		if err := create(cfg.Path, s); err != nil {
			return nil, fileError("make audit log", cfg.Path, err)
		}
	}
	l, err := open(op, cfg.Path, false)
	if err != nil {
		return nil, err
	}
	if l.key != s.verifier {
		return nil, errors.Join(sallyport.Errorf(op, sallyport.Conflict, "Open it with the origin and key that it was made with, or start another log at another path.",
			"%s is signed by %s, not by %s", cfg.Path, l.key, s.verifier), l.db.Close())
	}
	l.signer, l.now = s, cfg.Now
	if l.now == nil {
		l.now = time.Now
	}
	l.queue, l.done = make(chan pending, maxBatch), make(chan struct{})
	go l.write()
	return l, nil
}

// OpenReadOnly opens a log, or a copy of one, for reading. It needs no key,
// and writes nothing. While a gateway has the log open for appending it
// answers [sallyport.Unavailable].
func OpenReadOnly(path string) (*Log, error) {
	return open("open audit log", path, true)
}

func open(op, path string, readOnly bool) (*Log, error) {
	db, err := openFile(op, path, readOnly)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path, db: db}
	err = l.view(op, func(tx *bbolt.Tx, r rows) error {
		l.key = text(tx, bucketAbout, keyVerifier)
		h, f, err := checkTail(tx, r, l.key)
		if err == nil && f != nil {
			err = sallyport.Errorf("", sallyport.Damaged, "Run `audit verify` on the file, keep it for examination, and restore a snapshot.", "%s: %s", f.damage, f.explain)
		}
		l.head.Store(h)
		return err
	})
	if err != nil {
		_ = db.Close()
		if sallyport.KindOf(err) == sallyport.Damaged {
			return nil, sallyport.Errorf(op, sallyport.Damaged, "", "%s: %w", path, err)
		}
		return nil, err
	}
	return l, nil
}

// checkTail verifies what the last transaction can have written: a crash or a
// damaged disk shows there first, and reading all would take too long.
func checkTail(tx *bbolt.Tx, r rows, key string) (*head, *fault, error) {
	if f := text(tx, bucketAbout, keyFormat); f != fileFormat {
		return nil, &fault{nil, Unreadable, "the file's format is not " + fileFormat}, nil
	}
	h := &head{checkpoint: text(tx, bucketHead, keyCheckpoint)}
	cp, err := ParseCheckpoint(h.checkpoint, key)
	if err != nil {
		return nil, &fault{nil, SignatureWrong, "the log's own checkpoint: " + err.Error()}, nil
	}
	h.size = cp.Size
	c, err := newChecker(r, cp.Size-min(cp.Size, maxBatch), cp)
	if err != nil {
		return nil, &fault{nil, Truncated, err.Error()}, nil
	}
	if f := c.run(nil); f != nil {
		return nil, f, nil
	}
	if c.tree.root() != cp.Root {
		return nil, &fault{nil, Changed, "the records do not have the root that was signed"}, nil
	}
	h.last = c.prev
	return h, nil, nil
}

// Append adds an entry and returns when it is durable: when the record, its
// place in the tree and a checkpoint signed over both are on disk. An entry
// without a time gets the log's. ctx counts until the entry is handed to the
// writer; from then on Append waits for the outcome, since a record that may
// or may not exist helps nobody.
//
// Errors: [sallyport.Invalid] for an entry that cannot be recorded,
// [sallyport.Canceled], [sallyport.Unsupported] on a log opened for reading;
// [sallyport.Exhausted] or [sallyport.Unavailable] when it cannot be written.
// After such a write error the log takes nothing any more until it is opened
// anew, and the entry may be found in it then or not: no record, no act.
func (l *Log) Append(ctx context.Context, e Entry) (Receipt, error) {
	const op = "append to audit log"
	if l.signer == nil {
		return Receipt{}, sallyport.Errorf(op, sallyport.Unsupported, "", "the log is open for reading only")
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
	}
	p, err := l.prepare(op, e)
	if err != nil {
		return Receipt{}, err
	}
	if err := l.enqueue(ctx, op, p); err != nil {
		return Receipt{}, err
	}
	r := <-p.reply
	return r.receipt, r.err
}

func (l *Log) prepare(op string, e Entry) (pending, error) {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	e.Time = e.Time.UTC().Round(0)
	if err := checkKind(e.Step, e.Phase); err != nil {
		return pending{}, sallyport.E(op, sallyport.Invalid, err, "")
	}
	js, err := json.Marshal(e)
	if err != nil {
		// encoding/json quotes the bytes that it could not make sense of, and
		// those may be anything.
		return pending{}, sallyport.Errorf(op, sallyport.Invalid, "Give a time between the years 0 and 9999, and JSON as detail.", "the entry of step %q cannot be written as JSON", e.Step)
	}
	if len(js) > MaxEntry {
		return pending{}, sallyport.Errorf(op, sallyport.Invalid, "Record a digest of what is large, and keep it elsewhere.",
			"the entry of step %q has %d bytes, more than %d", e.Step, len(js), MaxEntry)
	}
	body := make([]byte, saltSize, saltSize+len(js))
	rand.Read(body) // never fails
	body = append(body, js...)
	return pending{
		leaf:  leaf{Time: e.Time, Step: e.Step, Phase: e.Phase, Body: commitment(body[:saltSize], js)},
		body:  body,
		reply: make(chan reply, 1),
	}, nil
}

func (l *Log) enqueue(ctx context.Context, op string, p pending) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return closedError(op)
	}
	if err := l.failed.Load(); err != nil {
		return err
	}
	select {
	case l.queue <- p:
		return nil
	case <-ctx.Done():
		return sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
	}
}

func closedError(op string) error {
	return sallyport.Errorf(op, sallyport.Unavailable, "", "the log is closed")
}

// write is the one writer. It takes what is waiting, makes it durable in one
// transaction, and answers: the slower the disk, the larger the batch.
func (l *Log) write() {
	defer close(l.done)
	batch := make([]pending, 0, maxBatch)
	for p := range l.queue {
		batch = append(batch[:0], p)
		for size := len(p.body); len(batch) < maxBatch && size < maxBatchBytes; {
			select {
			case p, ok := <-l.queue:
				if ok {
					batch, size = append(batch, p), size+len(p.body)
					continue
				}
			default:
			}
			break
		}
		receipts, err := l.commit(batch)
		for i, p := range batch {
			if err != nil {
				p.reply <- reply{err: err}
			} else {
				p.reply <- reply{receipt: receipts[i]}
			}
			batch[i] = pending{}
		}
	}
}

// commit makes a batch durable. The first failure is the last: what the disk
// holds is then unknown until the log is opened anew and verified.
func (l *Log) commit(batch []pending) ([]Receipt, error) {
	const op = "append to audit log"
	if err := l.failed.Load(); err != nil {
		return nil, err
	}
	at := *l.head.Load()
	receipts := make([]Receipt, len(batch))
	err := guard(op, func() error {
		return l.db.Update(func(tx *bbolt.Tx) error {
			r, err := openRows(tx)
			if err != nil {
				return err
			}
			for _, b := range []*bbolt.Bucket{r.body, r.leaf, r.hash} {
				b.FillPercent = fillPercent
			}
			for i, p := range batch {
				p.leaf.Seq, p.leaf.Prev = at.size, at.last
				if at.last, err = put(r, p); err != nil {
					return err
				}
				receipts[i] = Receipt{Seq: at.size, Leaf: sallyport.DigestSum(at.last[:])}
				at.size++
			}
			root, err := tlog.TreeHash(int64(at.size), r)
			if err != nil {
				return err
			}
			if at.checkpoint, err = l.signer.checkpoint(at.size, root); err != nil {
				return err
			}
			return tx.Bucket([]byte(bucketHead)).Put([]byte(keyCheckpoint), []byte(at.checkpoint))
		})
	})
	if u, ok := errors.AsType[*unsigned](err); ok {
		return nil, sallyport.E(op, sallyport.Unavailable, u, "Look after the keeper of the log's signing key: until it signs, nothing is done.")
	}
	if err != nil {
		kind := sallyport.Unavailable
		if noRoom(err) {
			kind = sallyport.Exhausted
		}
		l.failed.CompareAndSwap(nil, sallyport.Errorf(op, kind, "Free disk space and restart: until then nothing is done that cannot be recorded.", "%s cannot be written: %w", l.path, err))
		return nil, l.failed.Load()
	}
	for i := range receipts {
		receipts[i].Checkpoint = at.checkpoint
	}
	l.head.Store(&at)
	return receipts, nil
}

// put writes one record's rows and returns its leaf hash.
func put(r rows, p pending) (tlog.Hash, error) {
	raw := p.leaf.append(make([]byte, 0, 256))
	h := tlog.RecordHash(raw)
	hashes, err := tlog.StoredHashesForRecordHash(int64(p.leaf.Seq), h, r)
	if err != nil {
		return h, err
	}
	row := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i := range hashes {
		row = append(row, hashes[i][:]...)
	}
	key := seqKey(p.leaf.Seq)
	return h, errors.Join(r.body.Put(key, p.body), r.leaf.Put(key, raw), r.hash.Put(key, row))
}

// Err returns the write error after which the log refuses entries, or nil.
func (l *Log) Err() error {
	if err := l.failed.Load(); err != nil {
		return err
	}
	return nil
}

// Close writes what was handed over, and closes the file. Entries that come
// later are refused.
func (l *Log) Close() error {
	l.mu.Lock()
	wasClosed := l.closed
	l.closed = true
	if !wasClosed && l.queue != nil {
		close(l.queue)
	}
	l.mu.Unlock()
	if wasClosed {
		return nil
	}
	if l.done != nil {
		<-l.done
	}
	if err := l.db.Close(); err != nil {
		return fileError("close audit log", l.path, err)
	}
	return nil
}

// VerifierKey returns the public key that the log's checkpoints are verified
// with, as "origin+hash+key" (https://c2sp.org/signed-note). Keep it where who
// can write the log cannot write.
func (l *Log) VerifierKey() string { return l.key }

// Size returns the number of records.
func (l *Log) Size() uint64 { return l.head.Load().size }

// Checkpoint returns the latest signed checkpoint. Whoever keeps one can tell
// later whether records before it were changed or taken away: see [Verify].
func (l *Log) Checkpoint() (string, error) { return l.head.Load().checkpoint, nil }
