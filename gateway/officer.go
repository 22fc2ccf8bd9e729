package gateway

import (
	"context"
	"encoding/json"

	"sallyport"
	"sallyport/audit"
)

// This file is what a compliance officer does to the log besides reading it.

// RecordReading puts on record that somebody is about to read the log, and what
// they asked for. Nobody reads it unseen.
func (g *Gateway) RecordReading(ctx context.Context, who, credential, asked string) error {
	detail, err := json.Marshal(map[string]string{"asked": asked})
	if err != nil {
		return sallyport.E("read log", sallyport.Internal, err, "")
	}
	_, err = g.parts.Audit.Append(ctx, audit.Entry{Time: g.now().UTC(), Step: "read log", Phase: audit.Note, Subject: who, Credential: credential, Detail: detail})
	return err
}

// officerMay refuses who may not do an act on the log, and records that they tried.
func (g *Gateway) officerMay(ctx context.Context, by Subject, act, step string) error {
	if by.ID != "" && g.May(ctx, by, act, "officer") {
		return nil
	}
	err := sallyport.Errorf(step, sallyport.Denied, "Ask a compliance officer.", "%s may not do this (%s)", by.ID, act)
	e := audit.Entry{Time: g.now().UTC(), Step: "refused: " + step, Phase: audit.Note, Subject: by.ID, Decision: "deny", Reasons: []string{err.Error()}}
	if _, recErr := g.parts.Audit.Append(ctx, e); recErr != nil {
		return recErr
	}
	return err
}

// EraseRecords erases what the log holds about a person: contents, index and
// key. Numbers, times, steps and proofs stay. Policy says whether two people
// must ask; a legal hold stops it.
func (g *Gateway) EraseRecords(ctx context.Context, by Subject, person, reason, basis string) (audit.Erased, error) {
	const step = "erase"
	if person == "" || reason == "" || basis == "" {
		return audit.Erased{}, sallyport.Errorf(step, sallyport.Invalid, "Say --subject, --reason and --basis; the reason must not name the person.", "person, reason and legal basis are all needed")
	}
	if err := g.officerMay(ctx, by, "audit:erase", step); err != nil {
		return audit.Erased{}, err
	}
	first, err := g.confirmBy(ctx, by, "audit.erase", person, reason)
	if err != nil {
		return audit.Erased{}, err
	}
	e := audit.Erasure{Subject: person, By: by.ID, Reason: reason, Basis: basis}
	if first != "" {
		e.By, e.Approved = first, by.ID
	}
	return g.parts.Audit.Erase(ctx, e)
}

// HoldRecords keeps what the log holds of a person, dataset or project from
// being erased, until the hold is released.
func (g *Gateway) HoldRecords(ctx context.Context, by Subject, h audit.Hold) (audit.Receipt, error) {
	if err := g.officerMay(ctx, by, "audit:hold", "hold"); err != nil {
		return audit.Receipt{}, err
	}
	h.By = by.ID
	return g.parts.Audit.Hold(ctx, h)
}

// ReleaseHold ends a hold, named by the record that states it.
func (g *Gateway) ReleaseHold(ctx context.Context, by Subject, hold uint64, reason string) (audit.Receipt, error) {
	if err := g.officerMay(ctx, by, "audit:hold", "release hold"); err != nil {
		return audit.Receipt{}, err
	}
	return g.parts.Audit.Release(ctx, hold, by.ID, "", reason)
}
