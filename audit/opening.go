package audit

import (
	"bytes"
	"encoding/json"
	"errors"

	"go.etcd.io/bbolt"

	"sallyport"
)

// Opening is the content of one record with the salt of its commitment: who
// has it and a proof of the record's leaf can show what the record said. It
// tells all that the record tells.
type Opening struct {
	Seq   uint64          `json:"seq"`
	Salt  []byte          `json:"salt"`
	Entry json.RawMessage `json:"entry"`
}

// Opening returns what opens the commitment of a record. [sallyport.NotFound]
// where the content was erased; [sallyport.Denied] where the log was opened
// without the key that it is sealed under.
func (l *Log) Opening(seq uint64) (o Opening, err error) {
	const op = "open record"
	if size := l.Size(); seq >= size {
		return o, sallyport.Errorf(op, sallyport.NotFound, "", "there is no record %d: the log has %d", seq, size)
	}
	err = l.view(op, func(_ *bbolt.Tx, r rows) error {
		body := r.body.Get(seqKey(seq))
		if body == nil {
			return sallyport.Errorf(op, sallyport.NotFound, "Its leaf can still be proved.", "the content of record %d was erased", seq)
		}
		salt, js, err := openBody(l.keys, body)
		if errors.Is(err, errNoKey) {
			return sallyport.Errorf(op, sallyport.Denied, "Open the log where its keys are.", "the content of record %d is sealed", seq)
		}
		if err != nil {
			return sallyport.E(op, sallyport.Damaged, err, "Run `audit verify` on the file.")
		}
		o = Opening{seq, bytes.Clone(salt), bytes.Clone(js)}
		return o.Check(r.leaf.Get(seqKey(seq)))
	})
	return o, err
}

// Check checks that this is what the leaf commits to. [sallyport.Damaged] if not.
func (o Opening) Check(rawLeaf []byte) error {
	l, err := parseLeaf(rawLeaf)
	// The content was written without spaces; a reader may have added some.
	var js bytes.Buffer
	if err == nil {
		err = json.Compact(&js, o.Entry)
	}
	if err != nil || l.Seq != o.Seq || len(o.Salt) != saltSize || commitment(o.Salt, js.Bytes()) != l.Body || !agrees(l, js.Bytes()) {
		return sallyport.Errorf("check record", sallyport.Damaged, "Either the content or the leaf was altered.", "the content is not what the leaf of record %d commits to", o.Seq)
	}
	return nil
}
