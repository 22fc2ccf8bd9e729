package gateway

import (
	"time"

	"sallyport"
	"sallyport/policy"
)

// Subject is who asks, as a door identified them.
type Subject = policy.Subject

// Request is a job as it was submitted. What it says may only tighten what
// policy allows.
type Request struct {
	ID        sallyport.JobID       `json:"id"`
	Subject   Subject               `json:"subject"`
	Project   string                `json:"project"`
	Purpose   string                `json:"purpose"`
	Dataset   string                `json:"dataset"`
	Algorithm string                `json:"algorithm"`
	Args      []string              `json:"args,omitempty"`
	Where     sallyport.Destination `json:"where,omitempty"`     // "": policy chooses
	MaxPrice  sallyport.Money       `json:"max_price,omitempty"` // per node hour; 0: policy's cap
	Copies    int                   `json:"copies,omitempty"`    // 0: policy's number
	Submitted time.Time             `json:"submitted"`
	// Trace is the W3C trace ID that every record about the job carries.
	Trace string `json:"trace,omitempty"`
}

// State is where a job stands.
type State string

const (
	Queued    State = "queued"
	Running   State = "running"
	Reviewing State = "waiting for review" // people must agree before the result is given out
	Done      State = "done"
	Refused   State = "denied"   // policy said no, at either door
	Failed    State = "failed"   // could not be carried out; undone
	Canceled  State = "canceled" // the caller gave up; undone
)

// Final reports whether nothing more will happen to the job.
func (s State) Final() bool { return s == Done || s == Refused || s == Failed || s == Canceled }

// StepDone is a finished step, for people who watch.
type StepDone struct {
	Name  string    `json:"name"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Say   string    `json:"say"` // what it did, in one line
}

// Job is a request and what became of it. It holds no secret and no value of
// a dataset.
type Job struct {
	Request
	State  State  `json:"state"`
	Ending State  `json:"ending,omitempty"` // the end that was decided and is being carried out
	Step   string `json:"step,omitempty"`   // the step it is in
	// Reasons say why it was denied, failed or canceled; Hint what to do next.
	Reasons []string              `json:"reasons,omitempty"`
	Hint    string                `json:"hint,omitempty"`
	Side    sallyport.Destination `json:"side,omitempty"`
	Nodes   []string              `json:"nodes,omitempty"` // whose result was accepted
	Result  *sallyport.Ref        `json:"result,omitempty"`
	Digest  sallyport.Digest      `json:"digest,omitempty"` // of the result
	Cost    sallyport.Money       `json:"cost"`
	Review  *Awaited              `json:"review,omitempty"` // nil where policy asks for none
	Ended   time.Time             `json:"ended,omitzero"`
	Steps   []StepDone            `json:"steps,omitempty"`
	// Log is where the end of the module's standard error is kept. It may quote
	// the data, so it lies with the results and in no record.
	Log *sallyport.Ref `json:"log,omitempty"`
}

// ResultRef is where the job's opened result is kept, nil if there is none.
func ResultRef(j Job) *sallyport.Ref { return j.Result }

// LogRef is where the end of the module's standard error is kept, nil if it
// said nothing.
func LogRef(j Job) *sallyport.Ref { return j.Log }

// Event tells a watcher what happens to a job while it happens.
type Event struct {
	Job   sallyport.JobID `json:"job"`
	Step  string          `json:"step"`
	Phase string          `json:"phase"` // begin, progress, done, denied, failed, end
	Text  string          `json:"text,omitempty"`
	Time  time.Time       `json:"time"`
}
