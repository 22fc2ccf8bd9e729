package rulebook

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy"
)

// Why an activation happened.
const (
	First    = "first"    // the operator's bundle, when the gateway first ran
	Publish  = "publish"  // an approved draft
	Rollback = "rollback" // a former version
)

// Activation says that a bundle came into force. It is signed, and names the
// one before: none can be taken out of the middle, changed, or made elsewhere.
type Activation struct {
	Number   int              `json:"number"` // from 1, without gaps
	Kind     string           `json:"kind"`
	Version  sallyport.Digest `json:"version"`
	Rules    sallyport.Digest `json:"rules"` // what audit records call policy
	Prior    sallyport.Digest `json:"prior"` // of the activation before, as signed; "" for the first
	At       time.Time        `json:"at"`
	By       string           `json:"by"`
	Approved []Approval       `json:"approved,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Origin   string           `json:"origin,omitempty"`
	Revision string           `json:"revision,omitempty"`
	// Replay is the digest of the report that was approved, Loosens the number
	// of past decisions it said would let more out.
	Replay  sallyport.Digest `json:"replay,omitempty"`
	Loosens int              `json:"loosens,omitempty"`
}

// signed is an activation's file. Activation is kept as the bytes that were
// signed.
type signed struct {
	Activation json.RawMessage `json:"activation"`
	Signature  []byte          `json:"signature"`
}

// context keeps a signature of another kind of message from being taken for one
// of an activation.
func message(raw []byte) []byte { return append([]byte("sallyport policy activation v1\n"), raw...) }

const activateStep = "activate policy"

func fileOf(number int) string { return fmt.Sprintf("%06d.json", number) }

// readActivations reads and checks all of them. A book is whole or it is
// nothing: whoever could leave out its end could bring an old rule back.
func (b *Book) readActivations() error {
	names, err := b.actions.names()
	if err != nil {
		return err
	}
	var prior sallyport.Digest
	for i, name := range names {
		raw, err := b.actions.read(name)
		if err != nil {
			return err
		}
		a, d, err := check(raw, b.cfg.Public)
		if err == nil {
			switch {
			case a.Number != i+1 || name != fileOf(a.Number):
				err = fmt.Errorf("it has the number %d", a.Number)
			case a.Prior != prior:
				err = errors.New("it does not name the activation before it")
			}
		}
		if err != nil {
			return damaged("activation %s: %w", name, err)
		}
		b.activations, prior = append(b.activations, a), d
	}
	return nil
}

func damaged(format string, args ...any) error {
	return sallyport.Errorf("rule book", sallyport.Damaged,
		"Restore state/policy from a backup; `sallyport audit ls --step 'activate policy'` tells what it must hold. The gateway does not start with rules that nobody can vouch for.",
		format, args...)
}

// check verifies one file and returns its activation and the digest that the
// next one must name.
func check(raw []byte, key ed25519.PublicKey) (a Activation, d sallyport.Digest, err error) {
	var s signed
	if err := strictly(raw, &s); err != nil {
		return a, "", err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Activation); err != nil {
		return a, "", err
	}
	if !ed25519.Verify(key, message(compact.Bytes()), s.Signature) {
		return a, "", errors.New("the signature is not this gateway's")
	}
	if err := strictly(s.Activation, &a); err != nil {
		return a, "", err
	}
	return a, sallyport.DigestOf(compact.Bytes()), nil
}

func strictly(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// settle holds the folder against the log, and finishes what a crash left
// between the two.
func (b *Book) settle(ctx context.Context) error {
	last, found, err := b.lastRecord(ctx)
	if err != nil {
		return err
	}
	have := len(b.activations)
	switch {
	case !found && have == 0:
		return nil
	case !found:
		return damaged("there are %d activations, and the audit log knows of none", have)
	case last.Phase == audit.Intent && last.number == have:
		// Signed, and then the gateway stopped: it is in force from now on.
		a := b.activations[have-1]
		return b.record(ctx, audit.Outcome, activateStep, a.By, a.Version, a, nil, "completed when the gateway started again")
	case last.Phase == audit.Intent && last.number == have+1:
		return b.record(ctx, audit.Outcome, activateStep, last.Subject, last.version, last.activation,
			sallyport.Errorf(activateStep, sallyport.Unavailable, "", "the gateway stopped before it was signed; the former bundle stays in force"))
	case last.Decision != "allow" && last.number == have+1:
		return nil
	case last.Decision == "allow" && last.number == have && b.activations[have-1].Version == last.version:
		return nil
	}
	return damaged("the audit log's last activation is number %d of version %s, and there are %d", last.number, last.version.Short(), have)
}

// logged is an activation as the audit log tells it.
type logged struct {
	audit.Entry
	activation Activation
	number     int
	version    sallyport.Digest
}

func (b *Book) lastRecord(ctx context.Context) (l logged, found bool, err error) {
	for r, err := range b.cfg.Log.Records(ctx, audit.Filter{Step: activateStep, Newest: true, Limit: 1}) {
		if err != nil {
			return l, false, err
		}
		var d struct {
			Version sallyport.Digest `json:"version"`
			Detail  Activation       `json:"detail"`
		}
		if err := json.Unmarshal(r.Entry.Detail, &d); err != nil {
			return l, false, sallyport.Errorf("rule book", sallyport.Damaged, "Run `sallyport audit verify`.", "record %d is not understood: %w", r.Seq, err)
		}
		return logged{r.Entry, d.Detail, d.Detail.Number, d.Version}, true, nil
	}
	return l, false, nil
}

// activate brings a bundle into force: recorded, signed, swapped, recorded.
// What fails before the swap leaves the former bundle in force.
func (b *Book) activate(ctx context.Context, bundle *policy.Bundle, a Activation) error {
	a.Number, a.Version, a.Rules, a.At = len(b.activations)+1, bundle.Version(), bundle.Rules(), b.cfg.Now().UTC()
	if n := len(b.activations); n > 0 {
		raw, err := b.actions.read(fileOf(n))
		if err != nil {
			return err
		}
		if _, a.Prior, err = check(raw, b.cfg.Public); err != nil {
			return damaged("activation %s: %w", fileOf(n), err)
		}
	}
	if err := b.record(ctx, audit.Intent, activateStep, a.By, a.Version, a, nil); err != nil {
		return err
	}
	err := b.enforce(ctx, bundle, a)
	return errors.Join(err, b.record(ctx, audit.Outcome, activateStep, a.By, a.Version, a, err))
}

func (b *Book) enforce(ctx context.Context, bundle *policy.Bundle, a Activation) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return sallyport.E(activateStep, sallyport.Internal, err, "")
	}
	signature, err := b.cfg.Sign(ctx, message(raw))
	if err != nil {
		return err
	}
	if !ed25519.Verify(b.cfg.Public, message(raw), signature) {
		return sallyport.Errorf(activateStep, sallyport.Unavailable, "Look at the issuer's signing key for policy.", "the signature does not fit the key")
	}
	file, err := json.Marshal(signed{raw, signature})
	if err != nil {
		return sallyport.E(activateStep, sallyport.Internal, err, "")
	}
	if err := b.actions.write(fileOf(a.Number), file); err != nil {
		return err
	}
	if b.engine != nil {
		if err := b.engine.SetBundle(ctx, bundle); err != nil {
			return errors.Join(err, b.actions.remove(fileOf(a.Number)))
		}
	}
	b.bundle, b.older = bundle, ""
	b.activations = append(b.activations, a)
	b.cfg.Slog.Info("policy: a bundle came into force", "version", a.Version.Short(), "number", a.Number, "kind", a.Kind, "by", a.By)
	return nil
}

// Rollback brings a former version back, at once: one person who may edit or
// approve is enough, since two agreed to it before. "" is the one before the
// version in force.
func (b *Book) Rollback(ctx context.Context, by policy.Subject, version sallyport.Digest, reason string) (Activation, error) {
	const op = "roll policy back"
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.may(ctx, b.engine, by, Edit) && !b.may(ctx, b.engine, by, Approve) {
		return Activation{}, b.refuse(ctx, op, by, version, sallyport.Errorf(op, sallyport.Denied, "Ask somebody who may edit or approve policy.", "%s may neither edit nor approve policy", by.ID))
	}
	if reason == "" {
		return Activation{}, sallyport.Errorf(op, sallyport.Invalid, "Say why with --reason; it is recorded.", "there is no reason")
	}
	current := b.bundle.Version()
	if version == "" {
		for _, a := range slices.Backward(b.activations) {
			if a.Version != current {
				version = a.Version
				break
			}
		}
		if version == "" {
			return Activation{}, sallyport.Errorf(op, sallyport.NotFound, "", "no other version was ever in force")
		}
	}
	was := slices.IndexFunc(b.activations, func(a Activation) bool { return a.Version == version })
	switch {
	case was < 0:
		return Activation{}, sallyport.Errorf(op, sallyport.NotFound, "`sallyport policy versions` lists those that were; others are published with `policy draft`.",
			"version %s was never in force", version.Short())
	case version == current:
		return Activation{}, sallyport.Errorf(op, sallyport.Conflict, "", "version %s is in force", version.Short())
	}
	bundle, err := b.load(ctx, version)
	if err != nil {
		return Activation{}, err
	}
	old := b.activations[was]
	err = b.activate(ctx, bundle, Activation{Kind: Rollback, By: by.ID, Reason: reason, Origin: old.Origin, Revision: old.Revision})
	if err != nil {
		return Activation{}, err
	}
	return b.activations[len(b.activations)-1], nil
}

// refuse records that somebody tried, and returns why not.
func (b *Book) refuse(ctx context.Context, step string, by policy.Subject, version sallyport.Digest, why error) error {
	return errors.Join(why, b.record(ctx, audit.Outcome, step, by.ID, version, nil, why))
}
