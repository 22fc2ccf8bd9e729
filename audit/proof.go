package audit

import (
	"encoding/base64"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

// MaxProof is the most hashes that a proof can have: one a level of the tree.
const MaxProof = 63

// Inclusion proves that record seq is in the tree of the first size records:
// the audit path of RFC 6962, section 2.1.1, the leaf's sibling first.
// [sallyport.Invalid] for a seq or size that the log does not have.
func (l *Log) Inclusion(seq, size uint64) (path []tlog.Hash, err error) {
	const op = "prove record"
	if have := l.Size(); seq >= size || size > have {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "record %d in a tree of %d records: the log has %d", seq, size, have)
	}
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		path, err = tlog.ProveRecord(int64(size), int64(seq), r)
		return proofError(op, err)
	})
	return path, err
}

// Consistency proves that the first old records are the beginning of the first
// size: the consistency proof of RFC 6962, section 2.1.2. It is empty where old
// is 0 or size, and nothing needs to be proved.
func (l *Log) Consistency(old, size uint64) (path []tlog.Hash, err error) {
	const op = "prove consistency"
	if have := l.Size(); old > size || size > have {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "from %d to %d records: the log has %d", old, size, have)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		path, err = tlog.ProveTree(int64(size), int64(old), r)
		return proofError(op, err)
	})
	return path, err
}

// Root returns the root of the tree of the first size records.
func (l *Log) Root(size uint64) (root tlog.Hash, err error) {
	const op = "read tree"
	if have := l.Size(); size > have {
		return root, sallyport.Errorf(op, sallyport.Invalid, "", "a tree of %d records: the log has %d", size, have)
	}
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		root, err = tlog.TreeHash(int64(size), r)
		return proofError(op, err)
	})
	return root, err
}

// ReadHashes makes the log a [tlog.HashReader], for proofs and tiles.
func (l *Log) ReadHashes(indexes []int64) (out []tlog.Hash, err error) {
	const op = "read tree"
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		out, err = r.ReadHashes(indexes)
		return proofError(op, err)
	})
	return out, err
}

var _ tlog.HashReader = (*Log)(nil)

// Leaves returns the canonical leaves of records from, from+1, …, at most n of
// them: what the tree is built over. A leaf holds nothing of its record but
// number, time, step, phase and salted digests.
func (l *Log) Leaves(from uint64, n int) (out [][]byte, err error) {
	const op = "read audit log"
	size := l.Size()
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		for seq := from; seq < size && len(out) < n; seq++ {
			raw := r.leaf.Get(seqKey(seq))
			if raw == nil {
				return damagedRecord(seq)
			}
			out = append(out, append([]byte(nil), raw...))
		}
		return nil
	})
	return out, err
}

// proofError says what hashes that are missing mean.
func proofError(op string, err error) error {
	if err == nil {
		return nil
	}
	return sallyport.E(op, sallyport.Damaged, err, "Run `audit verify` on the file.")
}

// Refuse makes the log take nothing any more until it is opened anew, as after
// a write error: for a log that turned out to be rolled back or forked, where
// each further record would deepen the fork. [Log.Err] returns why.
func (l *Log) Refuse(why error) {
	l.failed.CompareAndSwap(nil, sallyport.E("append to audit log", sallyport.KindOf(why), why, sallyport.HintOf(why)))
}

// CheckInclusion checks that leaf is record seq of the log that the checkpoint
// speaks of. [sallyport.Damaged] if it is not.
func CheckInclusion(path []tlog.Hash, leaf []byte, seq uint64, in Checkpoint) error {
	const op = "check record"
	if seq >= in.Size {
		return sallyport.Errorf(op, sallyport.Damaged, "", "record %d is not among the %d that the checkpoint counts", seq, in.Size)
	}
	if in.Size > maxSize || tlog.CheckRecord(path, int64(in.Size), in.Root, int64(seq), tlog.RecordHash(leaf)) != nil {
		return sallyport.Errorf(op, sallyport.Damaged, "The record, its number, the proof or the checkpoint was altered.",
			"the proof does not lead from record %d to the root of %d records", seq, in.Size)
	}
	return nil
}

// CheckConsistency checks that the log of checkpoint new continues that of
// old. [sallyport.Damaged] if that is not shown.
func CheckConsistency(path []tlog.Hash, old, new Checkpoint) error {
	const op = "check consistency"
	no := func(format string, args ...any) error {
		return sallyport.Errorf(op, sallyport.Damaged, "Keep both checkpoints: with the log's signatures they show that its past was changed.", format, args...)
	}
	switch {
	case old.Origin != new.Origin:
		return no("the checkpoints are of two logs, %q and %q", old.Origin, new.Origin)
	case old.Size > new.Size:
		return no("the log had %d records and has %d", old.Size, new.Size)
	case old.Size == new.Size && old.Root != new.Root:
		return no("the log has two roots for %d records", old.Size)
	case old.Size == 0 && old.Root != emptyRoot():
		return no("the log has a root for no records that is not the empty tree's")
	case old.Size == new.Size || old.Size == 0:
		if len(path) != 0 {
			return no("there is nothing to prove between %d and %d records, but a proof", old.Size, new.Size)
		}
		return nil
	case new.Size > maxSize || tlog.CheckTree(path, int64(new.Size), new.Root, int64(old.Size), old.Root) != nil:
		return no("the log of %d records is not shown to continue that of %d", new.Size, old.Size)
	}
	return nil
}

func emptyRoot() [32]byte {
	h, _ := tlog.TreeHash(0, nil)
	return h
}

// FormatHashes writes a proof's hashes in base64, one an element.
func FormatHashes(path []tlog.Hash) []string {
	out := make([]string, len(path))
	for i, h := range path {
		out[i] = h.String()
	}
	return out
}

// ParseHashes reads what [FormatHashes] writes, and nothing that means the same.
func ParseHashes(lines []string) ([]tlog.Hash, error) {
	const op = "read proof"
	if len(lines) > MaxProof {
		return nil, sallyport.Errorf(op, sallyport.Invalid, "", "a proof has at most %d hashes, not %d", MaxProof, len(lines))
	}
	var out []tlog.Hash
	for _, s := range lines {
		h, err := parseBase64Hash(s)
		if err != nil {
			return nil, sallyport.E(op, sallyport.Invalid, err, "")
		}
		out = append(out, h)
	}
	return out, nil
}

func parseBase64Hash(s string) (h tlog.Hash, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line breaks.
	if err != nil || len(b) != len(h) || base64.StdEncoding.EncodeToString(b) != s {
		return h, errors.New("a hash is not a SHA-256 in base64")
	}
	copy(h[:], b)
	return h, nil
}

// CheckpointLine is a signed checkpoint in one line, for a header: the whole
// note in standard base64. It takes well under a microsecond.
func CheckpointLine(signed string) string { return base64.StdEncoding.EncodeToString([]byte(signed)) }

// maxLine bounds what is decoded: a checkpoint with some dozens of signatures.
const maxLine = 64 << 10

// ParseCheckpointLine returns the signed checkpoint in a line; its signature
// is not looked at.
func ParseCheckpointLine(line string) (string, error) {
	const op = "read checkpoint"
	if len(line) > maxLine {
		return "", sallyport.Errorf(op, sallyport.Invalid, "", "the checkpoint has %d characters", len(line))
	}
	b, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || CheckpointLine(string(b)) != line {
		return "", sallyport.E(op, sallyport.Invalid, fmt.Errorf("the checkpoint is not in base64"), "")
	}
	return string(b), nil
}
