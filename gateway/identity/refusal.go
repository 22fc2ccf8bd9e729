package identity

import (
	"errors"
	"fmt"
	"strings"

	"sallyport"
)

// refusal is a denial with two texts: what the refused may read, and why.
type refusal struct{ outside, reason string }

func (r *refusal) Error() string { return r.outside }

// refuse returns a sallyport.Denied that says outside; the formatted reason is
// for the log.
func refuse(op, hint, outside, reason string, args ...any) error {
	return sallyport.E(op, sallyport.Denied, &refusal{outside, fmt.Sprintf(reason, args...)}, hint)
}

// Reason says why err refused, for the gateway's own log. It holds no secret,
// but may tell a stranger more than they should know, such as that a key once
// existed. For other errors it is their text.
func Reason(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reason
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// clip makes foreign text fit for a message: one line, printable, short.
func clip(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
