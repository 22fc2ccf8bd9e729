// Package audit is the log that convicts: append-only, hash-chained, a Merkle
// tree over all records, its head signed. A record is durable before the act
// it speaks of.
//
// Each record has a content, the entry as JSON beside a random salt, sealed
// under a key of the person it is about, and a leaf, which holds only number,
// time, step, the hash of the leaf before, a salted commitment to the content
// and a hash of its sealed form. Chain and tree (RFC 6962) are built over
// leaves, so that a content can be erased ([Log.Erase]) and all proofs still
// hold. The head is a C2SP checkpoint. [Log] writes and reads; [Verify]
// recomputes everything from a file, and needs only the public key.
//
// Beside the file stand two folders: the keys, without which contents are
// unreadable, and a search index, which can be deleted at any time.
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
	Time    time.Time       `json:"time"`
	Step    string          `json:"step"` // admit, hold, release, place, hand over, run, verify, keep, discard, …
	Phase   Phase           `json:"phase"`
	Job     sallyport.JobID `json:"job,omitempty"`
	Subject string          `json:"subject,omitempty"` // who asked; the content is sealed under this person's key
	// Credential is how the subject proved who they are, e.g. the ID of an
	// access key or the issuer of a token: never the secret.
	Credential  string                `json:"credential,omitempty"`
	Roles       []string              `json:"roles,omitempty"`
	Project     string                `json:"project,omitempty"`
	Purpose     string                `json:"purpose,omitempty"`
	Dataset     string                `json:"dataset,omitempty"`
	Objects     []string              `json:"objects,omitempty"`  // keys in the dataset
	Columns     []string              `json:"columns,omitempty"`  // columns or tags of it
	Decision    string                `json:"decision,omitempty"` // allow, deny, error; empty where nothing was decided
	Reasons     []string              `json:"reasons,omitempty"`
	Rules       []string              `json:"rules,omitempty"`
	Policy      sallyport.Digest      `json:"policy,omitempty"`
	Data        sallyport.Digest      `json:"data,omitempty"`
	Lease       string                `json:"lease,omitempty"`
	Node        string                `json:"node,omitempty"`
	Destination sallyport.Destination `json:"destination,omitempty"`
	Request     sallyport.Digest      `json:"request,omitempty"` // of what was asked
	Result      sallyport.Digest      `json:"result,omitempty"`  // of what came of it
	Trace       string                `json:"trace,omitempty"`   // W3C trace ID
	Cost        sallyport.Money       `json:"cost,omitempty"`
	// Detail is what else the step has to say, e.g. the policy input or the
	// measured risk: enough to derive the decision again.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Record is an entry with its place in the log.
type Record struct {
	Seq   uint64           `json:"seq"` // 0-based, without gaps
	Entry Entry            `json:"entry"`
	Leaf  sallyport.Digest `json:"leaf"` // RFC 6962 hash of the record's leaf
	// Sealed: the content is there but there is no key to read it with, because
	// the log was opened without keys or this one is lost. Entry then holds what
	// the leaf says: time, step and phase.
	Sealed bool `json:"sealed,omitempty"`
	// Erased is the number of the record that says that this one's content was
	// erased. Entry then holds what the leaf says.
	Erased *uint64 `json:"erased,omitempty"`
}

// Receipt is what an appender gets: proof that the record is in the log.
type Receipt struct {
	Seq        uint64           `json:"seq"`
	Leaf       sallyport.Digest `json:"leaf"`
	Checkpoint string           `json:"checkpoint"` // C2SP signed note covering the record
}
