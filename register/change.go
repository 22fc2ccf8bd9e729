package register

import (
	"slices"
	"time"

	"sallyport"
)

// Change is one step of a transaction. What it carries is fit for a record.
type Change interface {
	apply(*state) error
}

// PutGrant gives a project a grant. Over an existing one it is a
// [sallyport.Conflict], unless Replace says that it takes its place.
type PutGrant struct {
	Dataset string `json:"dataset"`
	Project string `json:"project"`
	Grant   Grant  `json:"grant"`
	Replace bool   `json:"replace,omitempty"`
}

// RemoveGrant takes a grant back.
type RemoveGrant struct {
	Dataset string `json:"dataset"`
	Project string `json:"project"`
}

// PutConsent puts a consent on record. Over an existing one that is not
// withdrawn it is a [sallyport.Conflict], unless Replace is set.
type PutConsent struct {
	Dataset string  `json:"dataset"`
	Purpose string  `json:"purpose"`
	Consent Consent `json:"consent"`
	Replace bool    `json:"replace,omitempty"`
}

// WithdrawConsent marks a consent as withdrawn. It stays on record.
type WithdrawConsent struct {
	Dataset string `json:"dataset"`
	Purpose string `json:"purpose"`
}

// AskException asks for an exception, which waits for approval.
type AskException struct {
	ID        string    `json:"id"`
	Exception Exception `json:"exception"`
}

// ApproveException approves an exception that waits. Who asked for it may not.
type ApproveException struct {
	ID string `json:"id"`
	By string `json:"by"`
}

// EndException removes an exception, approved or not.
type EndException struct {
	ID string `json:"id"`
}

const op = "register"

func conflict(hint, format string, args ...any) error {
	return sallyport.Errorf(op, sallyport.Conflict, hint, format, args...)
}

func notFound(hint, format string, args ...any) error {
	return sallyport.Errorf(op, sallyport.NotFound, hint, format, args...)
}

func (c PutGrant) apply(s *state) error {
	g := c.Grant.clone()
	normalList(&g.Purposes)
	normalList(&g.People)
	normalTime(&g.Since)
	normalTime(&g.Until)
	if err := checkGrant(c.Dataset, c.Project, g); err != nil {
		return err
	}
	if old, ok := s.Grants[c.Dataset][c.Project]; ok && !c.Replace {
		return conflict("Replace it with --replace, or revoke it first.", "project %s has a grant of dataset %s already, until %s", c.Project, c.Dataset, old.Until.Format(time.RFC3339))
	}
	if s.Grants[c.Dataset] == nil {
		s.Grants[c.Dataset] = map[string]Grant{}
	}
	s.Grants[c.Dataset][c.Project] = g
	return nil
}

func (c RemoveGrant) apply(s *state) error {
	if _, ok := s.Grants[c.Dataset][c.Project]; !ok {
		return notFound("`sallyport grant ls` lists them.", "project %s has no grant of dataset %s", c.Project, c.Dataset)
	}
	delete(s.Grants[c.Dataset], c.Project)
	if len(s.Grants[c.Dataset]) == 0 {
		delete(s.Grants, c.Dataset)
	}
	return nil
}

func (c PutConsent) apply(s *state) error {
	k := c.Consent
	normalTime(&k.Since)
	normalTime(&k.Until)
	if err := checkConsent(c.Dataset, c.Purpose, k); err != nil {
		return err
	}
	if k.Withdrawn {
		return invalidAt("withdrawn", "a consent that is put on record is not withdrawn")
	}
	if old, ok := s.Consents[c.Dataset][c.Purpose]; ok && !old.Withdrawn && !c.Replace {
		return conflict("Replace it with --replace, or withdraw it first.", "a consent to %s is on record for dataset %s already", c.Purpose, c.Dataset)
	}
	if s.Consents[c.Dataset] == nil {
		s.Consents[c.Dataset] = map[string]Consent{}
	}
	s.Consents[c.Dataset][c.Purpose] = k
	return nil
}

func (c WithdrawConsent) apply(s *state) error {
	k, ok := s.Consents[c.Dataset][c.Purpose]
	if !ok {
		return notFound("`sallyport consent ls` lists them.", "no consent to %s is on record for dataset %s", c.Purpose, c.Dataset)
	}
	if k.Withdrawn {
		return conflict("", "the consent to %s for dataset %s is withdrawn already", c.Purpose, c.Dataset)
	}
	k.Withdrawn = true
	s.Consents[c.Dataset][c.Purpose] = k
	return nil
}

// maxPending bounds what anybody may ask for without a second person.
const maxPending = 1000

func (c AskException) apply(s *state) error {
	e := c.Exception.clone()
	normalList(&e.Checks)
	normalTime(&e.Since)
	normalTime(&e.Until)
	if err := checkException(c.ID, e, false); err != nil {
		return err
	}
	_, asked := s.Pending[c.ID]
	if _, there := s.Exceptions[c.ID]; asked || there {
		return conflict("", "exception %s exists already", c.ID)
	}
	if len(s.Pending) >= maxPending {
		return sallyport.Errorf(op, sallyport.Exhausted, "An officer ends those that nobody wants: sallyport exception end.", "%d exceptions wait for approval already", len(s.Pending))
	}
	s.Pending[c.ID] = e
	return nil
}

func (c ApproveException) apply(s *state) error {
	e, ok := s.Pending[c.ID]
	if !ok {
		if _, there := s.Exceptions[c.ID]; there {
			return conflict("", "exception %s is approved already", c.ID)
		}
		return notFound("`sallyport exception ls` lists them.", "no exception %q waits for approval", c.ID)
	}
	if e.AskedBy == c.By {
		return sallyport.Errorf(op, sallyport.Denied, "Ask a second person.", "%s asked for exception %s, and cannot approve it", c.By, c.ID)
	}
	e.ApprovedBy = c.By
	if err := checkException(c.ID, e, true); err != nil {
		return err
	}
	delete(s.Pending, c.ID)
	s.Exceptions[c.ID] = e
	return nil
}

func (c EndException) apply(s *state) error {
	_, asked := s.Pending[c.ID]
	_, there := s.Exceptions[c.ID]
	if !asked && !there {
		return notFound("`sallyport exception ls` lists them.", "no exception %q", c.ID)
	}
	delete(s.Pending, c.ID)
	delete(s.Exceptions, c.ID)
	return nil
}

// normalList sorts, and drops what is there twice; nil stays nil.
func normalList(s *[]string) {
	slices.Sort(*s)
	*s = slices.Compact(*s)
}

// normalTime cuts to whole seconds: an end moves forward, never back.
func normalTime(t *time.Time) {
	if !t.IsZero() {
		*t = t.UTC().Truncate(time.Second)
	}
}
