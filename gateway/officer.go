package gateway

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
)

// This file is what a compliance officer does to the log besides reading it.

// officerMay refuses who may not do an act on the log, and records that they tried.
func (g *Gateway) officerMay(ctx context.Context, by Subject, act, step string) error {
	if by.ID != "" && g.May(ctx, by, act, "officer") {
		return nil
	}
	err := sallyport.Errorf(step, sallyport.Denied, "Ask a compliance officer.", "%s may not do this (%s)", by.ID, act)
	e := audit.Entry{Time: g.now().UTC(), Step: "refused: " + step, Phase: audit.Note, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Decision: "deny", Reasons: []string{err.Error()}, Trace: newTrace()}
	if _, recErr := g.parts.Audit.Append(ctx, e); recErr != nil {
		return recErr
	}
	return err
}

// ErasedRecords is what an erasure took, and what the log is found to be after it.
type ErasedRecords struct {
	audit.Erased
	By       string             `json:"by"`       // who asked for it
	Approved string             `json:"approved"` // who agreed
	Verified audit.Verification `json:"verified"` // every proof, recomputed
}

// EraseRecords erases what the log holds about a person: contents, index and
// key. Numbers, times, steps and proofs stay, which is verified before it
// answers. Two people must say the same within an hour, whatever policy says;
// a legal hold stops it.
func (g *Gateway) EraseRecords(ctx context.Context, by Subject, person, reason, basis string) (ErasedRecords, error) {
	const step = "erase"
	if err := g.officerMay(ctx, by, "audit:erase", step); err != nil {
		return ErasedRecords{}, err
	}
	if person == "" {
		return ErasedRecords{}, sallyport.Errorf(step, sallyport.Invalid, "Name the person with --subject.", "nobody is named")
	}
	for _, s := range []string{reason, basis} {
		if err := checkReason(step, s); err != nil {
			return ErasedRecords{}, err
		}
		// The first record of it would stay, too.
		if strings.Contains(s, person) {
			return ErasedRecords{}, sallyport.Errorf(step, sallyport.Invalid, "Give a reason without the name: it stays in the log.", "reason or basis name the person to be erased")
		}
	}
	first, err := g.secondToErase(ctx, by, person, reason, basis)
	if err != nil {
		return ErasedRecords{}, err
	}
	out := ErasedRecords{By: first, Approved: by.ID}
	out.Erased, err = g.parts.Audit.Erase(ctx, audit.Erasure{Subject: person, By: first, Approved: by.ID, Reason: reason, Basis: basis})
	if err != nil {
		return ErasedRecords{}, err
	}
	g.unreviewed.forget() // counts of a person who is not there any more
	out.Verified, err = g.parts.Audit.Verify(audit.VerifyOptions{})
	if err == nil && !out.Verified.Whole {
		err = sallyport.Errorf(step, sallyport.Damaged, "Run `sallyport audit verify`.", "the records were erased, and the log is not whole: %s", out.Verified.Explain)
	}
	return out, err
}

// secondToErase returns who asked first, if by is a second person who says the
// same. Otherwise by is the first. What is recorded of that does not name whom
// it is about: it stays when the person goes.
func (g *Gateway) secondToErase(ctx context.Context, by Subject, person, reason, basis string) (first string, err error) {
	const act, step = "audit.erase", "ask to erase"
	say := reason + "\x00" + basis
	g.mu.Lock()
	asked, ok := g.pending[act+" "+person]
	ok = ok && g.now().Sub(asked.at) <= confirmWithin
	switch {
	case !ok:
		g.pending[act+" "+person] = request{by: by.ID, at: g.now(), say: say}
	case asked.by != by.ID && asked.say == say:
		delete(g.pending, act+" "+person)
	}
	g.mu.Unlock()
	switch {
	case ok && asked.by == by.ID:
		return "", sallyport.Errorf(act, sallyport.Denied, "Ask a second person.", "two people must agree, and %s asked already", by.ID)
	case ok && asked.say != say:
		was, on, _ := strings.Cut(asked.say, "\x00")
		return "", sallyport.Errorf(act, sallyport.Conflict, "Say the same to agree, or wait for an hour.", "%s asked for it because of %q, on the basis of %q", asked.by, was, on)
	case ok:
		return asked.by, nil
	}
	detail, err := json.Marshal(map[string]string{"basis": basis})
	if err != nil {
		return "", sallyport.E(act, sallyport.Internal, err, "")
	}
	e := audit.Entry{Time: g.now().UTC(), Step: step, Phase: audit.Note, Subject: by.ID, Credential: by.Credential, Roles: by.Roles,
		Reasons: []string{"waits for a second person: " + reason}, Detail: detail, Trace: newTrace()}
	if _, err := g.parts.Audit.Append(ctx, e); err != nil {
		g.mu.Lock()
		delete(g.pending, act+" "+person)
		g.mu.Unlock()
		return "", err
	}
	return "", sallyport.Errorf(act, sallyport.Denied, "Ask a second person to say the same within an hour.", "two people must agree to an erasure; %s is the first", by.ID)
}

// HoldRecords keeps what the log holds of a person, dataset or project from
// being erased, until the hold is released.
func (g *Gateway) HoldRecords(ctx context.Context, by Subject, h audit.Hold) (audit.Receipt, error) {
	if err := g.officerMay(ctx, by, "audit:hold", "hold"); err != nil {
		return audit.Receipt{}, err
	}
	if err := checkReason("hold", h.Reason); err != nil {
		return audit.Receipt{}, err
	}
	if h.Subject != "" && strings.Contains(h.Reason, h.Subject) {
		return audit.Receipt{}, sallyport.Errorf("hold", sallyport.Invalid, "Give a reason without the name: it stays in the log.", "the reason names the person")
	}
	h.By = by.ID
	return g.parts.Audit.Hold(ctx, h)
}

// ReleaseHold ends a hold, named by the record that states it.
func (g *Gateway) ReleaseHold(ctx context.Context, by Subject, hold uint64, reason string) (audit.Receipt, error) {
	if err := g.officerMay(ctx, by, "audit:hold", "release hold"); err != nil {
		return audit.Receipt{}, err
	}
	if err := checkReason("release hold", reason); err != nil {
		return audit.Receipt{}, err
	}
	return g.parts.Audit.Release(ctx, hold, by.ID, "", reason)
}

// LegalHold is a hold in force, with what its record says.
type LegalHold struct {
	Hold    uint64    `json:"seq"`              // its number: the record that states it
	Person  string    `json:"person,omitempty"` // a code: the name is not kept
	Dataset string    `json:"dataset,omitempty"`
	Project string    `json:"project,omitempty"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Time    time.Time `json:"time"`
}

// Holds returns the legal holds in force, oldest first.
func (g *Gateway) Holds() ([]LegalHold, error) {
	out := []LegalHold{}
	for _, h := range g.parts.Audit.Holds() {
		r, err := g.parts.Audit.Get(h.Seq)
		if err != nil {
			return nil, err
		}
		out = append(out, LegalHold{Hold: h.Seq, Person: h.Subject, Dataset: h.Dataset, Project: h.Project, By: r.Entry.Subject,
			Reason: strings.Join(r.Entry.Reasons, "; "), Time: r.Entry.Time})
	}
	return out, nil
}
