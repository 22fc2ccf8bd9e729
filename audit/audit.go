// Package audit is the log that convicts: append-only, hash-chained, a Merkle
// tree over all records, its head signed. A record is durable before the act
// it speaks of.
//
// Each record has a content, the entry as JSON beside a random salt, and a
// leaf, which holds only number, time, step, the hash of the leaf before and a
// salted commitment to the content. Chain and tree (RFC 6962) are built over
// leaves, so that a content can be erased one day and all proofs still hold.
// The head is a C2SP checkpoint. [Log] writes and reads; [Verify] recomputes
// everything from a file, and needs only the public key.
package audit

import (
	"encoding/json"
	"time"

	"sallyport"
)

// Phase says which side of an act a record stands on.
type Phase string

const (
	Intent  Phase = "intent"  // before the act; without an outcome after it, the act may or may not have happened
	Outcome Phase = "outcome" // after the act
	Note    Phase = "note"    // a fact that is not an act of the passage
)

// Entry is what happened. It carries no secret and no value of a dataset.
type Entry struct {
	Time     time.Time        `json:"time"`
	Step     string           `json:"step"` // admit, hold, release, place, hand over, run, verify, keep, discard, …
	Phase    Phase            `json:"phase"`
	Job      sallyport.JobID  `json:"job,omitempty"`
	Subject  string           `json:"subject,omitempty"`
	Project  string           `json:"project,omitempty"`
	Purpose  string           `json:"purpose,omitempty"`
	Dataset  string           `json:"dataset,omitempty"`
	Decision string           `json:"decision,omitempty"` // allow, deny, error; empty where nothing was decided
	Reasons  []string         `json:"reasons,omitempty"`
	Rules    []string         `json:"rules,omitempty"`
	Policy   sallyport.Digest `json:"policy,omitempty"`
	Data     sallyport.Digest `json:"data,omitempty"`
	Lease    string           `json:"lease,omitempty"`
	Node     string           `json:"node,omitempty"`
	Cost     sallyport.Money  `json:"cost,omitempty"`
	// Detail is what else the step has to say, e.g. the policy input or the
	// measured risk: enough to derive the decision again.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Record is an entry with its place in the log.
type Record struct {
	Seq   uint64           `json:"seq"` // 0-based, without gaps
	Entry Entry            `json:"entry"`
	Leaf  sallyport.Digest `json:"leaf"` // RFC 6962 hash of the record's leaf
}

// Receipt is what an appender gets: proof that the record is in the log.
type Receipt struct {
	Seq        uint64           `json:"seq"`
	Leaf       sallyport.Digest `json:"leaf"`
	Checkpoint string           `json:"checkpoint"` // C2SP signed note covering the record
}
