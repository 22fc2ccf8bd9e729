// Package policy asks the two questions of the passage: may this dataset be
// used like this (door 1, [Engine.Admit]), and may what was made of it leave
// (door 2, [Engine.Release])? The rules are Rego, evaluated by OPA; anything
// that is not a clear yes is a no.
//
// A rule answers with a verdict document. Door 1's is
//
//	{"allow": bool, "reasons": […], "rules": […], "destination": "local" or "outside",
//	 "masks": {column: {verb: {argument: value}}}, "limits": {every field of Limits},
//	 "rows": [{"column": name, "in": [value, …]}, …]}
//
// and door 2's has allow, reasons and rules only; so may a denial at door 1.
// reasons, rules, rows and in are sets or arrays. The mask {} lets a column
// leave as it is, and a column without a mask does not leave. rows may be left
// out, and then all records may leave. Any other field, type or shape, two verbs
// or two row filters for one column, or a reason beside an allow is an error,
// and an error is a denial. policies/README.md explains the default
// bundle; [SchemaFS] describes what rules see and answer.
package policy

import (
	"time"

	"sallyport"
)

// InputVersion is the version of the input documents below.
const InputVersion = 1

// Subject is who asks.
type Subject struct {
	ID         string   `json:"id"`
	Roles      []string `json:"roles"`
	Projects   []string `json:"projects"`
	Credential string   `json:"credential"` // how they were identified, e.g. "unix:uid=1000"
}

// Request is what the job wants. It may only tighten what policy allows.
type Request struct {
	Algorithm string                `json:"algorithm"`
	Runner    string                `json:"runner,omitempty"`    // what kind of code it is: wasm or native; "" for a view, which runs none
	Module    sallyport.Digest      `json:"module"`              // of the code that would run
	Where     sallyport.Destination `json:"where,omitempty"`     // "" leaves the choice to policy
	MaxPrice  sallyport.Money       `json:"max_price,omitempty"` // per node hour; 0: policy's cap
	Copies    int                   `json:"copies,omitempty"`    // 0: policy's number
}

// Admission is the input of door 1 (query data.sallyport.admit.verdict).
// Time is part of the input, so that a decision can be repeated.
type Admission struct {
	Version int                 `json:"version"`
	Time    time.Time           `json:"time"`
	Job     sallyport.JobID     `json:"job"`
	Subject Subject             `json:"subject"`
	Project string              `json:"project"`
	Purpose string              `json:"purpose"`
	Dataset string              `json:"dataset"` // its entry is data.catalog.datasets[dataset]
	Request Request             `json:"request"`
	History []sallyport.Release `json:"history"` // earlier releases of the dataset, oldest first
}

// Facts are what was measured on the bytes in the hold.
type Facts struct {
	Risk     sallyport.Risk        `json:"risk"`
	Source   sallyport.Digest      `json:"source"` // of the data as read
	Plan     sallyport.Digest      `json:"plan"`
	Columns  []string              `json:"columns"`  // that would leave, in order
	Residual map[string]int64      `json:"residual"` // likely identifiers seen in what would leave, by type
	Cleared  []string              `json:"cleared"`  // columns that leave unchanged
	Actions  map[string]string     `json:"actions"`  // column → verb applied
	Rows     []sallyport.RowFilter `json:"rows"`     // row filters applied; what is measured is what passed them
	// Combined is the risk over all that earlier releases of the dataset to the
	// outside and this one say together: the class of a record is what each of
	// them says of its quasi-identifiers, and which of them it is in. nil where
	// none went outside before; to a rule it is then undefined.
	Combined *sallyport.Risk `json:"combined,omitempty"`
	// Undeclared are leaving columns that nobody declared quasi-identifiers and
	// whose values single people out all the same.
	Undeclared []Undeclared     `json:"undeclared"`
	Suppressed int64            `json:"suppressed"`       // records kept back because their class was too small
	Report     sallyport.Digest `json:"report,omitempty"` // of the release report
}

// Undeclared is a column that singles people out by itself.
type Undeclared struct {
	Column    string  `json:"column"`
	Unique    float64 `json:"unique_share"`        // records whose value of it no other has, 0 to 1
	Estimated bool    `json:"estimated,omitempty"` // from a sample of the values
}

// Releasing is the input of door 2 (query data.sallyport.release.verdict).
type Releasing struct {
	Admission
	Destination sallyport.Destination `json:"destination"`
	Admitted    Limits                `json:"admitted"` // what door 1 allowed
	Facts       Facts                 `json:"facts"`
}

// Limits bound what an allowed job may do.
type Limits struct {
	KeyTTL    int             `json:"key_ttl"`    // seconds a released key lives
	Price     sallyport.Money `json:"price"`      // cap per node hour
	Budget    sallyport.Money `json:"budget"`     // cap for the whole job
	Copies    int             `json:"copies"`     // independent executions that must agree
	Regions   []string        `json:"regions"`    // where it may run; empty: anywhere
	MinClass  int64           `json:"min_class"`  // smallest equivalence class that may leave
	MaxUnique float64         `json:"max_unique"` // largest share of unique records that may leave
	Reviews   int             `json:"reviews"`    // people who must agree before results are given out
}

// Verdict is the answer of either door. A Verdict without Allow is a denial,
// and Reasons says why in plain language.
type Verdict struct {
	Allow       bool                   `json:"allow"`
	Reasons     []string               `json:"reasons"` // why not; empty when allowed
	Rules       []string               `json:"rules"`   // labels of the rules that fired, sorted
	Destination sallyport.Destination  `json:"destination,omitempty"`
	Obligations []sallyport.Obligation `json:"obligations,omitempty"` // sorted by column
	// Rows are the filters that a record must all pass to leave, sorted by
	// column, their values sorted. None: every record may leave.
	Rows   []sallyport.RowFilter `json:"rows,omitempty"`
	Limits Limits                `json:"limits"`
	Policy sallyport.Digest      `json:"policy"` // of the bundle's rules
	Data   sallyport.Digest      `json:"data"`   // of the data they saw
}
