// Package wire is what a gateway and a node say to each other: the subjects,
// the paths and the JSON documents, and nothing that does I/O.
//
// A node dials out. Over NATS (TLS) it sends [Advert], asks [Ask], reports
// [Report] and gets [Job]; over HTTPS it enrolls once and moves ciphertext.
// Every document is decoded strictly, with [Decode]: what is unknown is refused.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"sallyport"
	"sallyport/routing"
)

// Jobs is the JetStream work queue. A node has a consumer of its own in it,
// called by the node's ID: with a shared one, a node could acknowledge
// another's job.
const Jobs = "JOBS"

// API is where a node reaches its consumer of [Jobs]: JetStream's API prefix in
// a node's own account.
const API = "lab.API"

// AllJobs are the subjects of [Jobs].
const AllJobs = "job.to.*.*"

// JobsOf are the subjects of one node's jobs.
func JobsOf(node string) string { return "job.to." + node + ".*" }

// JobSubject is where one assignment waits for its node.
func JobSubject(node, assignment string) string { return "job.to." + node + "." + assignment }

// AdvertSubject is where a node says that it lives and what it has.
func AdvertSubject(node string) string { return "adv." + node }

// AskSubject is where a node asks whether it may go on with an assignment.
func AskSubject(node, assignment string) string { return "ask." + node + "." + assignment }

// ReportSubject is where a node reports how an assignment ended.
func ReportSubject(node, assignment string) string { return "res." + node + "." + assignment }

// ControlSubject is where a node is told to stop one.
func ControlSubject(node string) string { return "ctl." + node }

// InboxPrefix is the only place where a node can hear answers.
func InboxPrefix(node string) string { return "_INBOX." + node }

// The HTTPS paths. Every refusal is the same 403.
const (
	EnrollPath = "/v1/enroll"  // POST Enroll → Enrolled
	ParcelPath = "/v1/parcel/" // GET + link → ciphertext or module
	ResultPath = "/v1/result/" // PUT + link ← sealed result
)

// SignatureHeader carries the node's nkey signature of [Signed], base64 (URL
// alphabet, no padding): a link that was overheard is no use to anyone else.
const SignatureHeader = "Sallyport-Signature"

// Signed is what a node signs to use a link.
func Signed(method, path string) []byte { return []byte("sallyport link\n" + method + "\n" + path) }

// EnrollSigned is what a node signs to prove that it holds the key it enrolls.
func EnrollSigned(secret, recipient string) []byte {
	return []byte("sallyport enroll\n" + secret + "\n" + recipient)
}

// Enroll asks for admission with a one-time secret.
type Enroll struct {
	Secret    string `json:"secret"`    // from the token
	Key       string `json:"key"`       // public user nkey, "U…"
	Proof     string `json:"proof"`     // signature of EnrollSigned, base64url
	Recipient string `json:"recipient"` // age recipient of the node's identity
	Name      string `json:"name"`      // wish; may be empty
	Region    string `json:"region"`    // may be empty
}

// Enrolled is the answer.
type Enrolled struct {
	Node     string `json:"node"` // the node's ID from now on
	Operator string `json:"operator"`
	NATS     string `json:"nats"` // host:port
	JWT      string `json:"jwt"`  // NATS user credentials, bound to the key
}

// Advert is a sign of life and what the node claims to have.
type Advert struct {
	Hardware routing.Hardware `json:"hardware"`
	Price    sallyport.Money  `json:"price"`            // per hour
	Tokens   bool             `json:"tokens,omitempty"` // it can trade hand-over tokens
	Renew    bool             `json:"renew,omitempty"`
}

// Welcome answers an [Advert].
type Welcome struct {
	Beat  time.Duration `json:"beat"`  // how often to advertise
	Lease time.Duration `json:"lease"` // a silent node loses its jobs after that
	JWT   string        `json:"jwt,omitempty"`
}

// Job is what a node is told about an assignment: no prices, no places in the
// lab's stores, no key.
type Job struct {
	ID        string           `json:"id"`
	Node      string           `json:"node"`
	Module    routing.Module   `json:"module"`
	Input     sallyport.Digest `json:"input"` // of the ciphertext
	Size      int64            `json:"size"`  // of the ciphertext, bytes
	Key       sallyport.Digest `json:"key"`   // of the wrapped key
	Recipient string           `json:"recipient"`
	MemoryMB  int64            `json:"memory_mb"`
	Walltime  time.Duration    `json:"walltime"`
}

// What a node may say in an [Ask].
const (
	Take    = "take"    // may I begin? gives me links
	Running = "running" // the module runs
	Alive   = "alive"   // still at it
)

// Ask is a node's question about one assignment.
type Ask struct {
	State string `json:"state"` // Take, Running or Alive
}

// Answer is the gateway's. Without Go the node stops, drops what it has of the
// assignment and acknowledges the job.
type Answer struct {
	Go    bool   `json:"go"`
	Links *Links `json:"links,omitempty"` // to a Take
}

// Links open one thing each, for a while, for one node.
type Links struct {
	Key    string    `json:"key"`
	Input  string    `json:"input"`
	Module string    `json:"module"`
	Result string    `json:"result"`
	Until  time.Time `json:"until"`
}

// Report is how a node says an assignment ended. What was stored is not in it:
// the gateway measured that itself.
type Report struct {
	Exit    int              `json:"exit"`
	Failure string           `json:"failure,omitempty"`
	Claim   sallyport.Digest `json:"claim,omitempty"`
	Seconds float64          `json:"seconds"`
	Log     string           `json:"log,omitempty"`
}

// Receipt answers a [Report]: it is durable, or the assignment had ended before.
type Receipt struct {
	Settled bool `json:"settled"`
}

// Control tells a node to stop an assignment.
type Control struct {
	Stop string `json:"stop"`
}

// Most bytes of a document that comes over NATS or to [EnrollPath].
const MaxDocument = 256 << 10

// Encode is json.Marshal for documents of this package, which cannot fail.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("wire: " + err.Error())
	}
	return b
}

// Decode fills v from exactly one JSON document without unknown fields.
func Decode(b []byte, v any) error {
	const op = "read message"
	if len(b) > MaxDocument {
		return sallyport.Errorf(op, sallyport.Invalid, "", "larger than %d bytes", MaxDocument)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return sallyport.Errorf(op, sallyport.Invalid, "Run the same version at both ends.", "not the expected document")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return sallyport.Errorf(op, sallyport.Invalid, "", "more than one document")
	}
	return nil
}

// ValidID says whether an ID of a node or an assignment can stand in subjects,
// paths and file names: 1 to 200 of a-z, 0-9 and '-', not starting with '-'.
func ValidID(id string) bool {
	if id == "" || len(id) > 200 || id[0] == '-' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// ValidDigest says whether d is "sha256:" and 64 lower-case hexadecimal digits.
func ValidDigest(d sallyport.Digest) bool {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
