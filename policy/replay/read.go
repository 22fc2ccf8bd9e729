package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport"
	"sallyport/policy"
)

// Entry is what a record of the audit log says, as far as it matters here. The
// caller takes it from there: this package knows no log.
type Entry struct {
	Record   uint64 // its number in the log
	Time     time.Time
	Step     string
	Phase    string // intent, outcome or note
	Decision string // allow, deny, error, or empty where nothing was decided

	Job, Subject, Project, Purpose, Dataset string

	Policy sallyport.Digest // what the decision was made by
	Data   sallyport.Digest // what it saw
	Detail json.RawMessage
}

// Decision is an answer of policy as a record holds it.
type Decision struct {
	Record uint64
	Time   time.Time
	Door   policy.Door // "" where the record names no policy
	Step   string

	Subject, Project, Purpose, Dataset, Job string

	Input    json.RawMessage // as it was asked
	Recorded policy.Verdict  // as it was answered
	Policy   sallyport.Digest
	Data     sallyport.Digest

	// Unfit says why it cannot be replayed; "" where it can.
	Unfit string
}

// Why a record cannot be replayed. They are counted by these words.
const (
	unfitNoAnswer   = "the step ended with an error before policy answered"
	unfitNoInput    = "the record holds no input"
	unfitDetail     = "the record's detail is not understood"
	unfitDoor       = "a step that is no door of this version: "
	unfitTwoTongues = "the record contradicts itself: its verdict and its other fields differ"
	unfitVersion    = "the input is of another version"
	unfitInput      = "the input is not understood by this version"
	unfitNoData     = "the data that the decision saw are not in the archive"
	unfitNoRules    = "the rules that decided are not in the archive"
	unfitDamaged    = "what the archive holds is damaged"
	unfitOldRules   = "the rules that decided do not load in this version"
)

// doors are the steps whose records hold a question to policy and its answer.
// Looks ask door 1 each time.
var doors = map[string]policy.Door{
	"admit": policy.AdmitDoor, "release": policy.ReleaseDoor,
	"look": policy.AdmitDoor, "list": policy.AdmitDoor, "prepare": policy.AdmitDoor,
}

// Unreadable is the decision in a record whose content cannot be had: that there
// was one is all that is known. ok is false where the step is no door's.
func Unreadable(record uint64, at time.Time, step, why string) (d Decision, ok bool) {
	door, ok := doors[step]
	return Decision{Record: record, Time: at, Step: step, Door: door, Unfit: why}, ok
}

// Read takes a decision from a record; ok is false where nothing was decided.
// An intent decides nothing. A decision that cannot be replayed says why in
// Unfit, and one that names no policy has no Door either.
func Read(e Entry) (d Decision, ok bool) {
	if e.Phase == "intent" || e.Decision == "" {
		return Decision{}, false
	}
	d = Decision{Record: e.Record, Time: e.Time, Step: e.Step, Subject: e.Subject, Project: e.Project, Purpose: e.Purpose,
		Dataset: e.Dataset, Job: e.Job, Policy: e.Policy, Data: e.Data}
	unfit := func(why string) (Decision, bool) {
		d.Unfit = why
		return d, true
	}
	door, known := doors[e.Step]
	if e.Policy == "" {
		switch {
		case e.Decision == "error" && (e.Step == "admit" || e.Step == "release"):
			d.Door = door
			return unfit(unfitNoAnswer)
		case e.Decision == "error":
			return Decision{}, false // a failure, and no answer to a question
		}
		return unfit(e.Step)
	}
	if !known {
		d.Door = policy.Door(e.Step)
		return unfit(unfitDoor + e.Step)
	}
	d.Door = door
	type asked struct {
		Input   json.RawMessage
		Verdict json.RawMessage
	}
	var detail struct {
		asked
		Asked asked
	}
	if len(e.Detail) == 0 {
		return unfit(unfitNoInput)
	}
	if err := json.Unmarshal(e.Detail, &detail); err != nil {
		return unfit(unfitDetail)
	}
	at := detail.asked
	if len(at.Input) == 0 {
		at = detail.Asked // of a look that was granted
	}
	if len(at.Input) == 0 || len(at.Verdict) == 0 {
		return unfit(unfitNoInput)
	}
	d.Input = at.Input
	if err := json.Unmarshal(at.Verdict, &d.Recorded); err != nil {
		return unfit(unfitDetail)
	}
	v := d.Recorded
	if v.Policy != e.Policy || v.Data != e.Data {
		return unfit(unfitTwoTongues)
	}
	// A look that policy allowed may have failed for another reason; a door's
	// own record says what policy said.
	if (e.Step == "admit" || e.Step == "release") && v.Allow != (e.Decision == "allow") {
		return unfit(unfitTwoTongues)
	}
	return d, true
}

// question is a decision's input, decoded once. It is put to the engine as the
// gateway put it: absent lists are recorded as null and asked as empty.
type question struct {
	admit   *policy.Admission
	release *policy.Releasing
}

func (d *Decision) question() (q question, err error) {
	var in *policy.Admission
	switch d.Door {
	case policy.AdmitDoor:
		q.admit = new(policy.Admission)
		in, err = q.admit, strict(d.Input, q.admit)
	case policy.ReleaseDoor:
		q.release = new(policy.Releasing)
		err = strict(d.Input, q.release)
		in = &q.release.Admission
	default:
		return q, errors.New(unfitDoor + string(d.Door))
	}
	switch {
	case err != nil:
		return q, fmt.Errorf("%s: %w", unfitInput, err)
	case in.Version != policy.InputVersion || in.Time.IsZero():
		return q, errors.New(unfitVersion)
	}
	return q, nil
}

// strict decodes without losing a field: what is unknown here the rules may
// have seen.
func strict(raw json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}
