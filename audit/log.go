package audit

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	// Master is 32 secret bytes that the keys of contents are wrapped under. nil:
	// the log makes one and keeps it in the folder of keys, which protects
	// copies of the log's file, but not copies of the folder.
	Master  []byte
	Keys    string           // folder of the keys; "": Path + ".keys"
	Index   string           // folder of the search index; "": Path + ".index"
	segment uint64           // records of the index's smallest segment; 0: indexRows
	Now     func() time.Time // for entries without a time; nil: time.Now
}

// ReadConfig says which log to read, and with which keys.
type ReadConfig struct {
	Path string
	// Master and Keys are as in [Config]. Where there are no keys, records show
	// only what their leaves say.
	Master []byte
	Keys   string
	Index  string // as in [Config]; where there is no index, all is read
}

func (c ReadConfig) keys() string  { return cmp.Or(c.Keys, c.Path+".keys") }
func (c ReadConfig) index() string { return cmp.Or(c.Index, c.Path+".index") }

// Log is an open audit log. Its methods may be called from many goroutines.
type Log struct {
	path     string
	db       atomic.Pointer[bbolt.DB] // an erasure replaces it
	keys     *keyring                 // nil: none
	index    *index                   // nil: none
	readOnly bool
	signer   *signer // the writer's
	now      func() time.Time
	head     atomic.Pointer[head]
	acts     atomic.Pointer[acts]

	acting sync.Mutex   // one act on the log itself at a time
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
	entry Entry
	key   *subjectKey // nil: kept clear
	plain []byte      // salt and JSON
	body  []byte      // the stored form
	reply chan reply
	// run, instead of an entry, is called by the writer between batches.
	run func()
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
	rc := ReadConfig{Path: cfg.Path, Master: cfg.Master, Keys: cfg.Keys, Index: cfg.Index}
	l, err := open(op, rc, false)
	if err != nil {
		return nil, err
	}
	if key := l.VerifierKey(); key != s.verifier {
		return nil, errors.Join(sallyport.Errorf(op, sallyport.Conflict, "Open it with the origin and key that it was made with, or start another log at another path.",
			"%s is signed by %s, not by %s", cfg.Path, key, s.verifier), l.db.Load().Close())
	}
	l.signer, l.now = s, cfg.Now
	if l.now == nil {
		l.now = time.Now
	}
	if l.keys, err = makeKeyring(rc.keys(), cfg.Master); err != nil {
		return nil, errors.Join(fileError(op, rc.keys(), err), l.db.Load().Close())
	}
	l.queue, l.done = make(chan pending, maxBatch), make(chan struct{})
	go l.write()
	if _, _, err := l.finish(); err != nil {
		return nil, errors.Join(sallyport.E(op, sallyport.KindOf(err), err, "An erasure was begun and must be finished first."), l.Close())
	}
	// Nothing is appended yet, so the writer does not see the index come.
	if l.index = openIndex(l, rc.index(), cfg.segment, false); l.index != nil {
		if err := l.index.forget(); err != nil { // of an erasure that a crash cut off
			return nil, errors.Join(fileError(op, rc.index(), err), l.Close())
		}
	}
	return l, nil
}

// OpenReadOnly opens a log, or a copy of one, for reading, with the keys and
// index beside it if there are any. It writes nothing. While a gateway has the
// log open for appending it answers [sallyport.Unavailable].
func OpenReadOnly(path string) (*Log, error) { return OpenRead(ReadConfig{Path: path}) }

// OpenRead is [OpenReadOnly] with the keys of somewhere else: for a copy of a
// log, the folder of the live one and its master. [sallyport.Conflict] says
// that the keys are of another master.
func OpenRead(cfg ReadConfig) (*Log, error) {
	l, err := open("open audit log", cfg, true)
	if err == nil {
		l.index = openIndex(l, cfg.index(), 0, true)
	}
	return l, err
}

func open(op string, cfg ReadConfig, readOnly bool) (*Log, error) {
	path := cfg.Path
	db, err := openFile(op, path, readOnly)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path, readOnly: readOnly}
	l.db.Store(db)
	if l.keys, err = openKeyring(cfg.keys(), cfg.Master); err != nil {
		_ = db.Close()
		return nil, fileError(op, cfg.keys(), err)
	}
	err = l.view(op, func(tx *bbolt.Tx, r rows) error {
		h, a, f, err := checkTail(tx, r, l.keys)
		if err == nil && f != nil {
			err = sallyport.Errorf("", sallyport.Damaged, "Run `audit verify` on the file, keep it for examination, and restore a snapshot.", "%s: %s", f.damage, f.explain)
		}
		l.head.Store(h)
		l.acts.Store(a)
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
func checkTail(tx *bbolt.Tx, r rows, keys *keyring) (*head, *acts, *fault, error) {
	if f := text(tx, bucketAbout, keyFormat); f != fileFormat {
		return nil, nil, &fault{damage: Unreadable, explain: "the file's format is not " + fileFormat}, nil
	}
	h := &head{checkpoint: text(tx, bucketHead, keyCheckpoint)}
	a, f := readActs(tx, r, keys)
	if f != nil {
		return nil, nil, f, nil
	}
	cp, err := ParseCheckpoint(h.checkpoint, a.key())
	if err != nil {
		return nil, nil, &fault{damage: SignatureWrong, explain: "the log's own checkpoint: " + err.Error()}, nil
	}
	h.size = cp.Size
	c, err := newChecker(r, cp.Size-min(cp.Size, maxBatch), cp)
	if err != nil {
		return nil, nil, &fault{damage: Truncated, explain: err.Error()}, nil
	}
	c.keys, c.erased = keys, a.erased
	if f := c.run(nil); f != nil {
		return nil, nil, f, nil
	}
	if c.err != nil {
		return nil, nil, nil, c.err
	}
	if c.tree.root() != cp.Root {
		return nil, nil, &fault{damage: Changed, explain: "the records do not have the root that was signed"}, nil
	}
	h.last = c.prev
	return h, a, nil, nil
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
	if l.readOnly {
		return Receipt{}, readOnlyError(op)
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
	}
	if reserved(e.Step) {
		return Receipt{}, sallyport.Errorf(op, sallyport.Invalid, "Give the step another name.", "step %q is of the log's own acts", e.Step)
	}
	p, err := l.prepare(op, e, false)
	if err != nil {
		return Receipt{}, err
	}
	if err := l.enqueue(ctx, op, p); err != nil {
		return Receipt{}, err
	}
	r := <-p.reply
	return r.receipt, r.err
}

func readOnlyError(op string) error {
	return sallyport.Errorf(op, sallyport.Unsupported, "", "the log is open for reading only")
}

// prepare seals an entry, or leaves it clear.
func (l *Log) prepare(op string, e Entry, clear bool) (pending, error) {
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
	p := pending{entry: e, plain: make([]byte, saltSize, saltSize+len(js)), reply: make(chan reply, 1)}
	rand.Read(p.plain) // never fails
	p.plain = append(p.plain, js...)
	p.leaf = leaf{Time: e.Time, Step: e.Step, Phase: e.Phase, Body: commitment(p.plain[:saltSize], js)}
	if !clear {
		if p.key, err = l.keys.subject(keyOwner(e)); err != nil {
			return pending{}, l.fail(op, fmt.Errorf("a key of the log: %w", err))
		}
	}
	p.seal()
	return p, nil
}

func (p *pending) seal() {
	p.body = sealBody(p.key, p.plain)
	p.leaf.Sealed = sha256.Sum256(p.body)
}

// keyOwner returns whose key an entry is sealed under. What must stay when a
// person's records go is the log's own.
func keyOwner(e Entry) string {
	if reserved(e.Step) || permanent(e.Step) {
		return ownSubject
	}
	return e.Subject
}

// permanent says whether records of a step outlive retention and erasure: those
// that say which rules were in force and who signed for them.
func permanent(step string) bool {
	for w := range words(step) {
		switch w {
		case "policy", "sign", "signed", "signature", "approve":
			return true
		}
	}
	return false
}

// fail stops the log for good.
func (l *Log) fail(op string, err error) error {
	kind := sallyport.Unavailable
	if noRoom(err) {
		kind = sallyport.Exhausted
	}
	l.failed.CompareAndSwap(nil, sallyport.Errorf(op, kind, "Free disk space and restart: until then nothing is done that cannot be recorded.", "%s cannot be written: %w", l.path, err))
	return l.failed.Load()
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
		batch = batch[:0]
		var run func()
		for size := 0; ; {
			if run = p.run; run != nil {
				break
			}
			batch, size = append(batch, p), size+len(p.body)
			if len(batch) == maxBatch || size >= maxBatchBytes {
				break
			}
			var ok bool
			select {
			case p, ok = <-l.queue:
			default:
			}
			if !ok {
				break
			}
		}
		if len(batch) > 0 {
			receipts, err := l.commit(batch, nil)
			for i, p := range batch {
				if err != nil {
					p.reply <- reply{err: err}
				} else {
					p.reply <- reply{receipt: receipts[i]}
				}
				batch[i] = pending{}
			}
		}
		if run != nil {
			run()
		}
	}
}

// between has the writer call f between two batches, and waits for it: no
// record is made durable meanwhile.
func (l *Log) between(op string, f func() error) error {
	done := make(chan error, 1)
	if err := l.enqueue(context.Background(), op, pending{run: func() {
		if err := l.failed.Load(); err != nil { // what the file holds is not known
			done <- err
			return
		}
		done <- f()
	}}); err != nil {
		return err
	}
	return <-done
}

// commit makes a batch durable; also puts more into the same transaction. Only
// the writer calls it. The first failure is the last: what the disk holds is
// then unknown until the log is opened anew and verified.
func (l *Log) commit(batch []pending, also func(tx *bbolt.Tx, at *head) error) ([]Receipt, error) {
	const op = "append to audit log"
	if err := l.failed.Load(); err != nil {
		return nil, err
	}
	for i := range batch {
		if p := &batch[i]; p.key != nil && p.key.gone.Load() {
			// Sealed while the key was being destroyed. The record is newer than
			// the erasure and gets a new key.
			var err error
			if p.key, err = l.keys.subject(keyOwner(p.entry)); err != nil {
				return nil, l.fail(op, fmt.Errorf("a key of the log: %w", err))
			}
			p.seal()
		}
	}
	at, receipts, err := l.writeTo(l.db.Load(), *l.head.Load(), batch, also)
	if u, ok := errors.AsType[*unsigned](err); ok {
		return nil, sallyport.E(op, sallyport.Unavailable, u, "Look after the keeper of the log's signing key: until it signs, nothing is done.")
	}
	if err != nil {
		return nil, l.fail(op, err)
	}
	l.noteActs(at.size-uint64(len(batch)), batch)
	l.head.Store(&at)
	l.index.feed(at.size-uint64(len(batch)), batch)
	return receipts, nil
}

// writeTo puts a batch behind a head into a database, and returns the new head.
func (l *Log) writeTo(db *bbolt.DB, at head, batch []pending, also func(tx *bbolt.Tx, at *head) error) (head, []Receipt, error) {
	receipts := make([]Receipt, len(batch))
	err := guard("append to audit log", func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			r, err := openRows(tx)
			if err != nil {
				return err
			}
			for _, b := range []*bbolt.Bucket{r.body, r.leaf, r.hash, r.act} {
				b.FillPercent = fillPercent
			}
			for i := range batch {
				p := &batch[i]
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
			if err := tx.Bucket([]byte(bucketHead)).Put([]byte(keyCheckpoint), []byte(at.checkpoint)); err != nil || also == nil {
				return err
			}
			return also(tx, &at)
		})
	})
	for i := range receipts {
		receipts[i].Checkpoint = at.checkpoint
	}
	return at, receipts, err
}

// put writes one record's rows and returns its leaf hash.
func put(r rows, p *pending) (tlog.Hash, error) {
	raw := p.leaf.append(make([]byte, 0, 320))
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
	if reserved(p.leaf.Step) {
		if err := r.act.Put(key, actRow); err != nil {
			return h, err
		}
	}
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
	l.index.close()
	if err := l.db.Load().Close(); err != nil {
		return fileError("close audit log", l.path, err)
	}
	return nil
}

// VerifierKey returns the public key that the log's checkpoints are verified
// with, as "origin+hash+key" (https://c2sp.org/signed-note). Keep it where who
// can write the log cannot write.
func (l *Log) VerifierKey() string { return l.acts.Load().key() }

// VerifierKeys returns the keys that signed the log's checkpoints, first to
// latest: more than one if the key was changed ([Log.ChangeKey]). [Verify]
// follows them from whichever of them it is given.
func (l *Log) VerifierKeys() []string { return slices.Clone(l.acts.Load().keys) }

// Size returns the number of records.
func (l *Log) Size() uint64 { return l.head.Load().size }

// Checkpoint returns the latest signed checkpoint. Whoever keeps one can tell
// later whether records before it were changed or taken away: see [Verify].
func (l *Log) Checkpoint() (string, error) { return l.head.Load().checkpoint, nil }
