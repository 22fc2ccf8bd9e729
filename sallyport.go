package sallyport

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// JobID names one job for its whole life, in every store, log and ledger.
// It is a lower-case word of letters, digits and dashes; see [JobID.Valid].
type JobID string

// Valid reports whether the ID can stand in file names, subjects and URLs as
// it is: 1 to 64 of a-z, 0-9 and '-', not starting with '-'.
func (id JobID) Valid() bool {
	if len(id) == 0 || len(id) > 64 || id[0] == '-' {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// Digest is a SHA-256 as "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestSum(sum[:])
}

// DigestSum returns the digest whose 32 bytes are sum, as hash.Hash.Sum gives.
func DigestSum(sum []byte) Digest { return Digest("sha256:" + hex.EncodeToString(sum)) }

// Short returns the first 12 hexadecimal digits, for people.
func (d Digest) Short() string {
	s := strings.TrimPrefix(string(d), "sha256:")
	return s[:min(12, len(s))]
}

// Ref names bytes at rest: a store by its name in the configuration, a
// slash-separated key in it, and a version where the store keeps versions.
type Ref struct {
	Store   string `json:"store" yaml:"store"`
	Key     string `json:"key" yaml:"key"`
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
}

func (r Ref) String() string {
	s := r.Store + ":" + r.Key
	if r.Version != "" {
		s += "@" + r.Version
	}
	return s
}

// SealedRef names ciphertext and says who can open it until when. It is all
// that ever leaves: no backend is given a stream of data.
type SealedRef struct {
	Ref       Ref       `json:"ref"`
	Digest    Digest    `json:"digest"`    // of the ciphertext
	Size      int64     `json:"size"`      // of the ciphertext, bytes
	Recipient string    `json:"recipient"` // age recipient the bytes are sealed to
	Until     time.Time `json:"until"`     // end of the lease on the key
}

// Money is an amount in millionths of the site's unit of account.
type Money int64

// Unit is one whole unit of account.
const Unit Money = 1_000_000

func (m Money) String() string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	s := fmt.Sprintf("%s%d.%06d", sign, m/Unit, m%Unit)
	for strings.HasSuffix(s, "0") && !strings.HasSuffix(s[:len(s)-2], ".") {
		s = s[:len(s)-1]
	}
	return s
}

// Destination says on which side of the wall work runs.
type Destination string

const (
	Local   Destination = "local"   // the lab's own machines
	Outside Destination = "outside" // machines of independent owners
)

// Sensitivity is a dataset's class, from least to most guarded.
type Sensitivity string

const (
	Public       Sensitivity = "public"
	InternalUse  Sensitivity = "internal"
	Confidential Sensitivity = "confidential"
	Restricted   Sensitivity = "restricted"
)

// Valid reports whether s is one of the four classes.
func (s Sensitivity) Valid() bool {
	return s == Public || s == InternalUse || s == Confidential || s == Restricted
}

// Role is what a column may tell about a person. The terms are those of the
// statistical disclosure control literature (ISO/IEC 20889).
type Role string

const (
	Direct      Role = "direct"      // direct identifier: names one person by itself
	Quasi       Role = "quasi"       // quasi-identifier: singles out in combination
	Sensitive   Role = "sensitive"   // what must not be learnt about a person
	Insensitive Role = "insensitive" // none of these
)

// Valid reports whether r is one of the four roles.
func (r Role) Valid() bool {
	return r == Direct || r == Quasi || r == Sensitive || r == Insensitive
}

// Mask says what is to be done to a column before it leaves: a transform's
// name and its arguments. The empty Verb leaves the value as it is.
type Mask struct {
	Verb string         `json:"verb"`
	Args map[string]any `json:"args,omitempty"`
}

// Column is one column of a dataset as its steward described it.
type Column struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	Type string `json:"type,omitempty"` // text, integer, number, date, time, boolean
	// Mask is what the steward proposes for a de-identified release; policy
	// decides. nil proposes nothing.
	Mask *Mask `json:"mask,omitempty"`
	// Identifier is the category of 45 CFR 164.514(b)(2)(i) (HIPAA Safe Harbor)
	// that the column falls under, in one word: name, date, ssn; "none" for a
	// column that is none of them, "" where nobody has said.
	Identifier string `json:"identifier,omitempty"`
}

// Suppression says which records do not leave because of the company they are
// in: those whose class has fewer than K records, or in which a sensitive column
// that leaves has fewer than L distinct values, or is farther than T from its
// distribution over all records that pass the row filters. K, L of 0 or 1 and T
// of 0 or at least 1 ask for nothing.
type Suppression struct {
	K int64   `json:"k"`
	L int64   `json:"l,omitempty"`
	T float64 `json:"t,omitempty"`
	// Limit is the largest share, 0 to 1, of the records that pass the row
	// filters that may be kept back; beyond it the pass fails, Invalid.
	Limit float64 `json:"limit"`
}

// Dataset is a catalog entry.
type Dataset struct {
	ID          string      `json:"id"`
	Title       string      `json:"title,omitempty"`
	Owner       string      `json:"owner"`
	Location    Ref         `json:"location"`
	Format      string      `json:"format"` // a Format's name: csv
	Sensitivity Sensitivity `json:"sensitivity"`
	Residency   []string    `json:"residency,omitempty"` // regions it may be processed in; empty: anywhere
	Purposes    []string    `json:"purposes"`            // what it may be used for
	Subject     string      `json:"subject,omitempty"`   // column that identifies the data subject
	Standard    string      `json:"standard,omitempty"`  // masking standard it is held to outside, e.g. safe_harbor; "": none
	Consent     bool        `json:"consent,omitempty"`   // whether a use needs a consent on record
	// Suppress keeps records in small classes back from what goes outside; nil
	// keeps none.
	Suppress *Suppression `json:"suppress,omitempty"`
	Columns  []Column     `json:"columns"`
}

// Obligation is what policy demands of one column that may leave. A column
// without an obligation does not leave; Verb "" (keep) lets it leave as it is.
type Obligation struct {
	Column string         `json:"column"`
	Verb   string         `json:"verb"`
	Args   map[string]any `json:"args,omitempty"`
}

// RowFilter bounds what leaves by rows: a record leaves only if its raw value
// of Column, before any transform, is one of In, byte for byte. Of several
// filters all must hold. An empty In lets nothing leave.
type RowFilter struct {
	Column string   `json:"column"`
	In     []string `json:"in"`
}

// Risk is the re-identification risk of a table, measured over the equivalence
// classes of its quasi-identifiers. Anonymize measures it on what leaves,
// policy judges it. Shares are of records, 0 to 1.
type Risk struct {
	Records       int64   `json:"records"`
	Classes       int64   `json:"classes"`        // equivalence classes
	SmallestClass int64   `json:"smallest_class"` // k; 0 for an empty table
	Unique        float64 `json:"unique_share"`   // records alone in their class
	Highest       float64 `json:"highest"`        // prosecutor risk of the worst record: 1/k
	Average       float64 `json:"average"`        // prosecutor risk, mean over records: classes/records
	// Exact is false where counting stopped at a memory limit; the other
	// figures then describe only the records counted and cannot support a release.
	Exact bool     `json:"exact"`
	Quasi []string `json:"quasi"` // the columns counted over, in file order
	// Diversity is l: the fewest distinct values that a sensitive column has
	// within one class (distinct l-diversity, Machanavajjhala et al. 2006).
	// Closeness is t: the largest distance between a sensitive column's
	// distribution within a class and in the whole table, 0 to 1 (t-closeness,
	// Li et al. 2007). nil is not measured, and then not in the JSON either: to
	// a rule it is undefined, while null would be less than any number.
	Diversity *int64   `json:"diversity,omitempty"`
	Closeness *float64 `json:"closeness,omitempty"`
}

// Release is one line of a dataset's release history: what left, to which
// side, and how risky it was measured to be.
type Release struct {
	Job         JobID       `json:"job"`
	Dataset     string      `json:"dataset"`
	Time        time.Time   `json:"time"`
	Destination Destination `json:"destination"`
	Source      Digest      `json:"source"` // of the data as read
	Plan        Digest      `json:"plan"`
	Risk        Risk        `json:"risk"`
	// What left, so that a later release can be measured together with it.
	Obligations []Obligation `json:"obligations,omitempty"`
	Rows        []RowFilter  `json:"rows,omitempty"`
}
