// Package routing chooses where a job runs, keeps what it costs, and judges
// what comes back. Choosing is pure ([Place]); backends do the I/O.
package routing

import (
	"context"
	"iter"
	"time"

	"sallyport"
)

// GPU is one accelerator as its owner advertises it.
type GPU struct {
	Model    string `json:"model"`
	MemoryMB int64  `json:"memory_mb"`
}

// Hardware is what a node says it has. Advertisements are claims.
type Hardware struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	MemoryMB int64    `json:"memory_mb"`
	GPUs     []GPU    `json:"gpus"`
	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	Runners  []string `json:"runners"` // "wasm", "native"
}

// Node is one place where a task can run.
type Node struct {
	ID        string                `json:"id"`
	Operator  string                `json:"operator"` // who owns it; one operator is one vote
	Backend   string                `json:"backend"`
	Side      sallyport.Destination `json:"side"`
	Region    string                `json:"region"`
	Recipient string                `json:"recipient"` // age recipient of the node's own identity
	Hardware  Hardware              `json:"hardware"`
	Price     sallyport.Money       `json:"price"`            // per hour
	Tokens    bool                  `json:"tokens,omitempty"` // can trade a token for a key, where the keys' keeper gives tokens
	Seen      time.Time             `json:"seen"`             // last sign of life
}

// Module is the code of a task. Runner "wasm" runs a WASI preview 1 command:
// the input is its standard input, the result its standard output. Runner
// "native" runs a program of the lab's own machine the same way.
type Module struct {
	Name   string           `json:"name"`
	Digest sallyport.Digest `json:"digest"`
	Runner string           `json:"runner"`
	Args   []string         `json:"args,omitempty"`
}

// Task is what is to be run, as routing knows it: references and limits, never data.
type Task struct {
	Job       sallyport.JobID       `json:"job"`
	Module    Module                `json:"module"`
	Side      sallyport.Destination `json:"side"`    // where policy lets it run
	Regions   []string              `json:"regions"` // empty: anywhere
	Input     sallyport.SealedRef   `json:"input"`
	Recipient string                `json:"recipient"` // results are sealed to this age recipient
	MemoryMB  int64                 `json:"memory_mb"`
	Walltime  time.Duration         `json:"walltime"` // nanoseconds
	Price     sallyport.Money       `json:"price"`    // cap per node hour
	Budget    sallyport.Money       `json:"budget"`   // cap for all executions together
	Copies    int                   `json:"copies"`   // independent executions wanted
}

// Assignment is one execution of a task on one node. ID is the same whenever
// the same execution is asked for again, and different for any other.
type Assignment struct {
	ID     string              `json:"id"` // job, attempt and node, e.g. "j1-1-n2"
	Task   Task                `json:"task"`
	Node   Node                `json:"node"`
	Key    sallyport.SealedRef `json:"key"`    // the release's identity, sealed to the node's recipient
	Result sallyport.Ref       `json:"result"` // where the sealed result goes
}

// Outcome is how an execution ended. It is the node's claim until verified.
type Outcome struct {
	Assignment string              `json:"assignment"`
	Node       string              `json:"node"`
	Exit       int                 `json:"exit"`              // of the module; 0 is success
	Failure    string              `json:"failure,omitempty"` // why there is no result; empty on success
	Result     sallyport.SealedRef `json:"result"`
	Claim      sallyport.Digest    `json:"claim"`   // of the result before sealing
	Seconds    float64             `json:"seconds"` // time the module ran
	Log        string              `json:"log"`     // end of the module's standard error, at most 64 KiB
}

// Event is a step in the life of a run. The last event of a run has an Outcome.
type Event struct {
	Time    time.Time `json:"time"`
	State   string    `json:"state"` // queued, leased, running, finished, lost
	Text    string    `json:"text,omitempty"`
	Outcome *Outcome  `json:"outcome,omitempty"`
}

// Run is one execution in progress. Events may be called again, from any
// process, and then begins anew; it ends after the event with the Outcome, or
// with an error (sallyport.Unavailable when the node was lost and the lease
// ran out). Cancel makes the run stop as soon as it can; it is idempotent.
type Run interface {
	ID() string
	Events(ctx context.Context) iter.Seq2[Event, error]
	Cancel(ctx context.Context) error
}

// Backend runs assignments. Its signatures carry sealed references, never
// streams of data: nothing plain crosses.
//
// Start is idempotent by Assignment.ID: asked again, by this process or by one
// that was restarted, it returns the run that exists and executes nothing twice.
type Backend interface {
	Name() string
	Nodes(ctx context.Context) ([]Node, error)
	Start(ctx context.Context, a Assignment) (Run, error)
}

// Canceler is an optional power of a Backend: to end an execution by its
// assignment's ID, whether it was started, is running, or ended long ago. What
// was never started never will be.
type Canceler interface {
	Cancel(ctx context.Context, assignment string) error
}
