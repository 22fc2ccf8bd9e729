package audit

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

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
	FirstBad   *uint64 `json:"first_bad,omitempty"` // nil where no single record can be named
	Damage     string  `json:"damage,omitempty"`
	Explain    string  `json:"explain"`
}

// Verify reads a log's file from end to end and recomputes everything from the
// records' contents: each content against its leaf's commitment, each leaf
// against the one before, the Merkle tree (RFC 6962), its root against the
// signed checkpoint, and the whole against an older checkpoint. It needs no
// key but the public one and changes nothing.
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
	err = guard(op, func() error {
		return db.View(func(tx *bbolt.Tx) (err error) { v, err = verify(tx, opts); return err })
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
	err = l.view(op, func(tx *bbolt.Tx, _ rows) (err error) { v, err = verify(tx, opts); return err })
	if err != nil && sallyport.KindOf(err) == sallyport.Damaged {
		return Verification{Damage: Unreadable, Explain: err.Error()}, nil
	}
	return v, err
}

func verify(tx *bbolt.Tx, opts VerifyOptions) (Verification, error) {
	v := Verification{KeySource: KeyGiven, Checkpoint: text(tx, bucketHead, keyCheckpoint)}
	key := opts.VerifierKey
	if key == "" {
		v.KeySource, key = KeyInFile, text(tx, bucketAbout, keyVerifier)
	}
	var old Checkpoint
	var oldFault *fault
	if opts.Checkpoint != "" {
		c, err := ParseCheckpoint(opts.Checkpoint, key)
		switch {
		case err == nil:
			old = c
		case sallyport.KindOf(err) == sallyport.Damaged:
			oldFault = &fault{nil, SignatureWrong, "the checkpoint offered is not signed by the log's key: it is of another log, or this log was signed anew with another key"}
		case v.KeySource == KeyGiven || readableKey(key):
			return Verification{}, err
		}
	} else if opts.VerifierKey != "" && !readableKey(key) {
		_, err := ParseCheckpoint("", key)
		return Verification{}, err
	}

	r, err := openRows(tx)
	if err != nil {
		v.Damage, v.Explain = Removed, err.Error()
		return v, nil
	}
	own, err := ParseCheckpoint(v.Checkpoint, key)
	var headFault *fault
	if err != nil {
		headFault = &fault{nil, SignatureWrong, "the log's own checkpoint: " + err.Error()}
		if v.Checkpoint == "" {
			headFault = &fault{nil, Removed, "the log's signed checkpoint is missing"}
		}
		own.Size = countRows(r) // nobody vouches for a size: look at what is there
	}

	c, err := newChecker(r, 0, own)
	if err != nil {
		return v, err
	}
	var forked bool
	f := c.run(func(t *tree) {
		if t.size == old.Size && opts.Checkpoint != "" && oldFault == nil {
			forked = t.root() != old.Root
		}
		if opts.Progress != nil && (t.size%4096 == 0 || t.size == own.Size) {
			opts.Progress(t.size, own.Size)
		}
	})
	v.Records = c.tree.size
	root := c.tree.root()
	v.Root = base64.StdEncoding.EncodeToString(root[:])
	switch {
	case f != nil:
	case headFault != nil:
		f = headFault
	case root != own.Root:
		f = &fault{nil, Changed, "every record fits its neighbors, but together they do not have the root that was signed: some were rewritten with all that follows from them"}
	case aboutFault(tx, own.Origin, key) != nil:
		f = aboutFault(tx, own.Origin, key)
	case oldFault != nil:
		f = oldFault
	case forked:
		f = &fault{nil, Forked, fmt.Sprintf("the first %d records are not those that the checkpoint offered was signed over", old.Size)}
	case old.Size > own.Size:
		f = faultAt(own.Size, RolledBack, "the log ends before record %d, but the checkpoint offered counts %d records", own.Size, old.Size)
	default:
		v.Whole = true
		v.Explain = fmt.Sprintf("%d records: contents, chain, tree and signature agree", v.Records)
		if opts.Checkpoint != "" {
			v.Explain += fmt.Sprintf(", and the log continues the checkpoint of %d records", old.Size)
		}
		if v.KeySource == KeyInFile {
			v.Explain += "; the key was taken from the file itself: compare it with one kept elsewhere"
		}
		return v, nil
	}
	v.FirstBad, v.Damage, v.Explain = f.seq, f.damage, f.explain
	if headFault != nil && f != headFault {
		v.Explain += "; also, " + headFault.explain
	}
	return v, nil
}

// aboutFault checks what the file says about itself, and that it has nothing
// that this version does not know and could not have checked.
func aboutFault(tx *bbolt.Tx, origin, key string) *fault {
	known := map[string]map[string]string{
		bucketAbout: {keyFormat: fileFormat, keyOrigin: origin, keyVerifier: key},
		bucketHead:  {keyCheckpoint: text(tx, bucketHead, keyCheckpoint)},
		bucketBody:  nil, bucketLeaf: nil, bucketHash: nil,
	}
	var f *fault
	_ = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		want, ok := known[string(name)]
		if !ok {
			f = &fault{nil, Added, fmt.Sprintf("the file has a bucket %q that this version does not know", name)}
		}
		if want == nil {
			return nil
		}
		found := 0
		err := b.ForEach(func(k, val []byte) error {
			w, ok := want[string(k)]
			switch {
			case !ok:
				f = &fault{nil, Added, fmt.Sprintf("bucket %q has a row %q that this version does not know", name, k)}
			case w != string(val):
				f = &fault{nil, Changed, fmt.Sprintf("row %q of bucket %q is not what it was", k, name)}
			}
			found++
			return nil
		})
		if found < len(want) && f == nil {
			f = &fault{nil, Removed, fmt.Sprintf("a row of bucket %q is missing", name)}
		}
		return err
	})
	if f == nil && tx.Bucket([]byte(bucketAbout)) == nil {
		f = &fault{nil, Removed, "what the file says about itself is missing"}
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
	for _, b := range []*bbolt.Bucket{r.body, r.leaf, r.hash} {
		if k, _ := b.Cursor().Last(); len(k) == 8 {
			if at := binary.BigEndian.Uint64(k); at < maxSize {
				n = max(n, at+1)
			}
		}
	}
	return n
}
