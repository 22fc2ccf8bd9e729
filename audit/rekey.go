package audit

import (
	"context"
	"crypto/ed25519"

	"go.etcd.io/bbolt"

	"sallyport"
)

// SigningKey is a key that signs checkpoints: a seed, or a function with its
// public key, as in [Config].
type SigningKey struct {
	Seed   []byte
	Sign   func(msg []byte) ([]byte, error)
	Public ed25519.PublicKey
}

// ChangeKey hands the log over to another signing key. The record of it names
// the new key; the old key signs a checkpoint over that record, which the log
// keeps, and the new one signs from there on. [Verify] follows the keys from
// any of them, so whoever kept the first key or an old checkpoint can go on
// with it. The old key must still sign: where it is lost, nobody can tell a
// handover from a forgery, and a new log is needed.
//
// After this the log must be opened with the new key ([Config]); the old one
// is refused. A key that was stolen should be changed too, but its thief can
// still forge a log that ends before the change: keep the new key, or a
// checkpoint from after it, where one kept the first.
func (l *Log) ChangeKey(ctx context.Context, by, reason string, key SigningKey) (Receipt, error) {
	const op = "change the log's signing key"
	if l.readOnly {
		return Receipt{}, readOnlyError(op)
	}
	if by == "" || reason == "" {
		return Receipt{}, sallyport.Errorf(op, sallyport.Invalid, "Say who changes it and why.", "the change of key does not say by whom and why")
	}
	l.acting.Lock()
	defer l.acting.Unlock()
	if err := ctx.Err(); err != nil {
		return Receipt{}, sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
	}
	cp, err := ParseCheckpoint(l.head.Load().checkpoint, l.VerifierKey())
	if err != nil {
		return Receipt{}, err
	}
	next, err := newSigner(Config{Origin: cp.Origin, Seed: key.Seed, Sign: key.Sign, Public: key.Public})
	if err != nil {
		return Receipt{}, sallyport.E(op, sallyport.Invalid, err, "")
	}
	for _, k := range l.acts.Load().keys {
		if k == next.verifier {
			return Receipt{}, sallyport.Errorf(op, sallyport.Invalid, "Make a new key.", "the log is or was signed by this key already")
		}
	}
	// Who did it and why is sealed, like all that names people; the handover
	// itself must be read by everybody.
	if _, err := l.act(ctx, op, Entry{Step: stepKey, Phase: Intent, Subject: by, Reasons: []string{reason}}, keyChange{l.VerifierKey(), next.verifier}, false); err != nil {
		return Receipt{}, err
	}
	var out Receipt
	err = l.between(op, func() error {
		p, err := l.prepareAct(op, Entry{Step: stepKey, Phase: Outcome}, keyChange{l.VerifierKey(), next.verifier}, true)
		if err != nil {
			return err
		}
		receipts, err := l.commit([]pending{p}, func(tx *bbolt.Tx, at *head) error {
			root, err := headRoot(at, l.VerifierKey())
			if err != nil {
				return err
			}
			b := tx.Bucket([]byte(bucketHead))
			if err := b.Put([]byte(handoverKey(at.size-1)), []byte(at.checkpoint)); err != nil {
				return err
			}
			if at.checkpoint, err = next.checkpoint(at.size, root); err != nil {
				return err
			}
			return b.Put([]byte(keyCheckpoint), []byte(at.checkpoint))
		})
		if err == nil {
			l.signer, out = next, receipts[0]
		}
		return err
	})
	return out, err
}

func headRoot(at *head, key string) ([32]byte, error) {
	cp, err := ParseCheckpoint(at.checkpoint, key)
	return cp.Root, err
}
