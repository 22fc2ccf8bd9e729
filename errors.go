package sallyport

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of failure an [Error] is. Each door maps a Kind to its
// own code (exit status, HTTP status, S3 code) in one table.
type Kind string

const (
	Denied      Kind = "denied"      // policy said no; final for this request
	Invalid     Kind = "invalid"     // the request, file or configuration is wrong
	NotFound    Kind = "not found"   // the named thing does not exist
	Conflict    Kind = "conflict"    // it exists already, or is in another state
	Unavailable Kind = "unavailable" // a part cannot be reached now; may be tried again
	Exhausted   Kind = "exhausted"   // disk, memory, budget or time has run out
	Damaged     Kind = "damaged"     // bytes are not what they were: tampered, truncated, forged
	Unsupported Kind = "unsupported" // understood, but this binary cannot do it
	Canceled    Kind = "canceled"    // the caller gave up
	Internal    Kind = "internal"    // a bug of ours
)

// Error says what was done to what (Op), what sort of failure it was (Kind),
// the cause (Err), and what to do next (Hint, one sentence, may be empty).
// Neither text may hold a secret or a value of a dataset.
type Error struct {
	Op   string
	Kind Kind
	Hint string
	Err  error
}

// E returns an *Error. A nil err is replaced by the kind's own words.
func E(op string, kind Kind, err error, hint string) *Error {
	if err == nil {
		err = errors.New(string(kind))
	}
	return &Error{Op: op, Kind: kind, Hint: hint, Err: err}
}

// Errorf is [E] with a formatted cause; %w works as in [fmt.Errorf].
func Errorf(op string, kind Kind, hint, format string, args ...any) *Error {
	return E(op, kind, fmt.Errorf(format, args...), hint)
}

func (e *Error) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost *Error in err's tree, and Internal
// for any other error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// HintOf returns the hints in err's tree, outermost first, joined by a space.
func HintOf(err error) string {
	var hints []string
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			break
		}
		if e.Hint != "" {
			hints = append(hints, e.Hint)
		}
		err = e.Err
	}
	return strings.Join(hints, " ")
}
