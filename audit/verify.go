package audit

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"

	"sallyport"
)

// What [Verify] can find wrong: the values of [Verification.Damage].
const (
	Changed        = "changed"         // a record or what is kept with it has other bytes
	Removed        = "removed"         // a record, or a part of it, is gone from the middle
	Added          = "added"           // there is more than the signed checkpoint counts
	Reordered      = "reordered"       // records or their contents have changed places
	Truncated      = "truncated"       // the last records are gone; the signed checkpoint counts more
	RolledBack     = "rolled back"     // the log is whole but older than the checkpoint offered
	Forked         = "forked"          // the log's past is not that of the checkpoint offered
	SignatureWrong = "signature wrong" // a checkpoint is not signed by the key
	Unreadable     = "unreadable"      // the file is no audit log, or its pages are damaged
)

// Where the verifier key came from: the values of [Verification.KeySource].
const (
	KeyGiven  = "given"   // by the caller
	KeyInFile = "in file" // whoever can rewrite the file can replace it
)

// VerifyOptions says what to hold a log against.
type VerifyOptions struct {
	// VerifierKey is the log's public key, kept apart from the log. Empty: the
	// one stored in the file, which shows only that the file agrees with itself.
	VerifierKey string
	// Checkpoint is an old signed checkpoint of this log, whole text. The log
	// must then be a continuation of it.
	Checkpoint string
	// Keys and Master are as in [ReadConfig]: with them contents are also held
	// against their commitments, without them only in their sealed form.
	Keys   string
	Master []byte
	// Progress, if not nil, is told now and then how many records are done.
	Progress func(done, total uint64)
}

// Verification is what [Verify] found.
type Verification struct {
	Whole      bool    `json:"whole"`
	Records    uint64  `json:"records"` // found good, from the first on
	Root       string  `json:"root,omitempty"`
	Checkpoint string  `json:"checkpoint,omitempty"` // the log's own, as stored: the one to keep for next time
	KeySource  string  `json:"key_source,omitempty"`
	Erased     uint64  `json:"erased,omitempty"`    // records whose content is erased, each with a tombstone
	Sealed     uint64  `json:"sealed,omitempty"`    // contents that were only checked in their sealed form: no keys
	Lost       uint64  `json:"lost,omitempty"`      // contents that nobody can read: their key is not among the keys
	FirstBad   *uint64 `json:"first_bad,omitempty"` // nil where no single record can be named
	Damage     string  `json:"damage,omitempty"`
	Explain    string  `json:"explain"`
}

// Verify reads a log's file from end to end and recomputes everything from the
// records' contents: each content in its sealed form against its leaf, and with
// the keys what it says against its commitment; each leaf against the one
// before, the Merkle tree (RFC 6962), its root against the signed checkpoint,
// and the whole against an older checkpoint. A content that is not there must
// be on a tombstone. Verify needs no key but the public one and changes nothing.
//
// Where the signing key was changed, the old one signed the log up to the
// record that names the new one, and Verify follows that from the key given.
// The keys before it are then the log's word.
//
// Damage is a finding, not an error: the error is for what kept Verify from
// looking ([sallyport.NotFound], [sallyport.Unavailable] while another process
// has the log open, [sallyport.Invalid] for options that make no sense).
// Memory is bounded whatever the size of the log, and whatever the file holds.
//
// A log can only show that it agrees with itself and with its key. That
// records were taken off its end, or all rewritten by a thief of the key, shows
// against an old checkpoint alone.
func Verify(path string, opts VerifyOptions) (Verification, error) {
	const op = "verify audit log"
	v, err := verifyFile(op, path, opts)
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, errPages), sallyport.KindOf(err) == sallyport.Damaged:
		return Verification{Damage: Unreadable, Explain: err.Error()}, nil
	}
	return Verification{}, fileError(op, path, err)
}

func verifyFile(op, path string, opts VerifyOptions) (v Verification, err error) {
	// Opening locks the file against a gateway; only then do its pages hold still.
	db, err := openFile(op, path, true)
	if err != nil {
		return v, err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	oneHead, err := checkPages(path)
	if err != nil {
		return v, err
	}
	keys, err := openKeyring(ReadConfig{Path: path, Keys: opts.Keys}.keys(), opts.Master)
	if err != nil {
		return v, err
	}
	err = guard(op, func() error {
		return db.View(func(tx *bbolt.Tx) (err error) { v, err = verify(tx, opts, keys); return err })
	})
	if err == nil && oneHead && v.Whole {
		v.Whole, v.Damage = false, Unreadable
		v.Explain = "one of the file's two head pages is damaged: the latest records may be missing, what is left is whole"
	}
	return v, err
}

// Verify does what the function [Verify] does to the log while it is open,
// as it stood at the call.
func (l *Log) Verify(opts VerifyOptions) (v Verification, err error) {
	const op = "verify audit log"
	err = l.view(op, func(tx *bbolt.Tx, _ rows) (err error) { v, err = verify(tx, opts, l.keys); return err })
	if err != nil && sallyport.KindOf(err) == sallyport.Damaged {
		return Verification{Damage: Unreadable, Explain: err.Error()}, nil
	}
	return v, err
}

func verify(tx *bbolt.Tx, opts VerifyOptions, keys *keyring) (Verification, error) {
	v := Verification{KeySource: KeyGiven, Checkpoint: text(tx, bucketHead, keyCheckpoint)}
	r, err := openRows(tx)
	if err != nil {
		v.Damage, v.Explain = Removed, err.Error()
		return v, nil
	}
	a, actFault := readActs(tx, r, keys)
	chain, err := keyChain(a, opts.VerifierKey)
	if err != nil {
		return Verification{}, err
	}
	if opts.VerifierKey == "" {
		v.KeySource = KeyInFile
	}
	var old Checkpoint
	var oldFault *fault
	if opts.Checkpoint != "" {
		for i := len(chain) - 1; i >= 0; i-- {
			if old, err = ParseCheckpoint(opts.Checkpoint, chain[i]); err == nil {
				break
			}
		}
		switch {
		case err == nil:
		case sallyport.KindOf(err) == sallyport.Damaged:
			oldFault = &fault{damage: SignatureWrong, explain: "the checkpoint offered is not signed by the log's key: it is of another log, or this log was signed anew with another key"}
		case v.KeySource == KeyGiven || readableKey(chain[0]):
			return Verification{}, err
		}
	}
	own, err := ParseCheckpoint(v.Checkpoint, chain[len(chain)-1])
	var headFault *fault
	if err != nil {
		headFault = &fault{damage: SignatureWrong, explain: "the log's own checkpoint: " + err.Error()}
		if v.Checkpoint == "" {
			headFault = &fault{damage: Removed, explain: "the log's signed checkpoint is missing"}
		}
		own.Size = countRows(r) // nobody vouches for a size: look at what is there
	}

	c, err := newChecker(r, 0, own)
	if err != nil {
		return v, err
	}
	c.keys, c.erased = keys, a.erased
	var forked bool
	var keyFault *fault
	next := 0 // change of key
	f := c.run(func(t *tree) {
		if t.size == old.Size && opts.Checkpoint != "" && oldFault == nil {
			forked = t.root() != old.Root
		}
		if next < len(a.changed) && t.size == a.changed[next]+1 {
			if keyFault == nil {
				keyFault = checkHandover(tx, a, next, t)
			}
			next++
		}
		if opts.Progress != nil && (t.size%4096 == 0 || t.size == own.Size) {
			opts.Progress(t.size, own.Size)
		}
	})
	if c.err != nil {
		return v, c.err
	}
	v.Records, v.Erased, v.Sealed, v.Lost = c.tree.size, c.gone, c.sealed, c.lost
	root := c.tree.root()
	v.Root = base64.StdEncoding.EncodeToString(root[:])
	// Of an act that cannot be read it is not known which records it says are erased.
	if actFault != nil && (f == nil || f.noContent || actFault.seq != nil && (f.seq == nil || *actFault.seq <= *f.seq)) {
		f = actFault
	}
	about := aboutFault(tx, own.Origin, a)
	if about == nil && opts.VerifierKey != "" && !slices.Contains(a.keys, opts.VerifierKey) {
		about = &fault{damage: Changed, explain: "the verifier key in the file is not the one given"}
	}
	switch {
	case f != nil:
	case headFault != nil:
		f = headFault
	case root != own.Root:
		f = &fault{damage: Changed, explain: "every record fits its neighbors, but together they do not have the root that was signed: some were rewritten with all that follows from them"}
	case keyFault != nil:
		f = keyFault
	case about != nil:
		f = about
	case oldFault != nil:
		f = oldFault
	case forked:
		f = &fault{damage: Forked, explain: fmt.Sprintf("the first %d records are not those that the checkpoint offered was signed over", old.Size)}
	case old.Size > own.Size:
		f = faultAt(own.Size, RolledBack, "the log ends before record %d, but the checkpoint offered counts %d records", own.Size, old.Size)
	default:
		v.Whole = true
		v.Explain = v.explain(opts, old, len(a.changed))
		return v, nil
	}
	v.FirstBad, v.Damage, v.Explain = f.seq, f.damage, f.explain
	if headFault != nil && f != headFault {
		v.Explain += "; also, " + headFault.explain
	}
	return v, nil
}

func (v Verification) explain(opts VerifyOptions, old Checkpoint, changes int) string {
	s := fmt.Sprintf("%d records: contents, chain, tree and signature agree", v.Records)
	if opts.Checkpoint != "" {
		s += fmt.Sprintf(", and the log continues the checkpoint of %d records", old.Size)
	}
	if v.Erased > 0 {
		s += fmt.Sprintf("; the contents of %d are erased, as the log says", v.Erased)
	}
	if v.Sealed > 0 {
		s += fmt.Sprintf("; %d contents were checked in their sealed form, without the keys to read them", v.Sealed)
	}
	if v.Lost > 0 {
		s += fmt.Sprintf("; %d contents cannot be read by anybody: their key is lost, and no erasure says so", v.Lost)
	}
	if changes > 0 {
		s += fmt.Sprintf("; the signing key was changed %d times, each time signed for by the one before", changes)
	}
	if v.KeySource == KeyInFile {
		s += "; the key was taken from the file itself: compare it with one kept elsewhere"
	}
	return s
}

// keyChain returns the keys that can have signed for this log, given one of
// them, or one that is none of them, which then stands alone.
func keyChain(a *acts, given string) ([]string, error) {
	if given == "" || slices.Contains(a.keys, given) {
		return a.keys, nil
	}
	if !readableKey(given) {
		_, err := ParseCheckpoint("", given)
		return nil, err
	}
	return []string{given}, nil
}

// handoverKey is the head row of the last checkpoint by the key that record
// seq replaced.
func handoverKey(seq uint64) string { return fmt.Sprintf("%s %d", keyCheckpoint, seq) }

// checkHandover checks that the key before signed the log up to the record
// that names the next one.
func checkHandover(tx *bbolt.Tx, a *acts, i int, t *tree) *fault {
	seq := a.changed[i]
	cp, err := ParseCheckpoint(text(tx, bucketHead, handoverKey(seq)), a.keys[i])
	switch {
	case err != nil:
		return faultAt(seq, SignatureWrong, "record %d names another signing key, but the one before did not sign for it", seq)
	case cp.Size != t.size || cp.Root != t.root():
		return faultAt(seq, Forked, "the records up to %d, which names another signing key, are not those that the key before signed", seq)
	}
	return nil
}

// aboutFault checks what the file says about itself, and that it has nothing
// that this version does not know and could not have checked.
func aboutFault(tx *bbolt.Tx, origin string, a *acts) *fault {
	head := map[string]string{keyCheckpoint: text(tx, bucketHead, keyCheckpoint)}
	for _, seq := range a.changed {
		head[handoverKey(seq)] = text(tx, bucketHead, handoverKey(seq)) // checked before
	}
	known := map[string]map[string]string{
		bucketAbout: {keyFormat: fileFormat, keyOrigin: origin, keyVerifier: a.keys[0]},
		bucketHead:  head,
		bucketBody:  nil, bucketLeaf: nil, bucketHash: nil, bucketAct: nil,
	}
	var f *fault
	_ = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		want, ok := known[string(name)]
		if !ok {
			f = &fault{damage: Added, explain: fmt.Sprintf("the file has a bucket %q that this version does not know", name)}
		}
		if want == nil {
			return nil
		}
		found := 0
		err := b.ForEach(func(k, val []byte) error {
			w, ok := want[string(k)]
			switch {
			case !ok:
				f = &fault{damage: Added, explain: fmt.Sprintf("bucket %q has a row %q that this version does not know", name, k)}
			case w != string(val):
				f = &fault{damage: Changed, explain: fmt.Sprintf("row %q of bucket %q is not what it was", k, name)}
			}
			found++
			return nil
		})
		if found < len(want) && f == nil {
			f = &fault{damage: Removed, explain: fmt.Sprintf("a row of bucket %q is missing", name)}
		}
		return err
	})
	if f == nil && tx.Bucket([]byte(bucketAbout)) == nil {
		f = &fault{damage: Removed, explain: "what the file says about itself is missing"}
	}
	return f
}

func readableKey(key string) bool {
	_, err := note.NewVerifier(key)
	return err == nil
}

// countRows returns one more than the highest record of which a part is there.
func countRows(r rows) uint64 {
	var n uint64
	for _, b := range []*bbolt.Bucket{r.body, r.leaf, r.hash, r.act} {
		if k, _ := b.Cursor().Last(); len(k) == 8 {
			if at := binary.BigEndian.Uint64(k); at < maxSize {
				n = max(n, at+1)
			}
		}
	}
	return n
}
