package audit

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"sallyport"
)

// Erasure is a request to erase all that the log says of a person.
type Erasure struct {
	Subject string // whose records
	// By asks for it and Approved agrees: two people, neither of them the log's
	// business to tell apart by more than their names.
	By, Approved string
	Reason       string // must not name the person: the reason stays
	Basis        string // the law or rule that demands it, e.g. "GDPR Art. 17(1)(b)"
}

// Erased says what an erasure took.
type Erased struct {
	Records   uint64 `json:"records"`
	Intent    uint64 `json:"intent"`    // the record that says who asked and why
	Tombstone uint64 `json:"tombstone"` // the record that says which records are erased; the last, if there are several
	Ranges    string `json:"ranges"`    // of their numbers, e.g. "0-4,7"
}

// Retention is how long contents of records are kept: those of a step, or with
// Step "" of every step that no other rule names.
type Retention struct {
	Step string
	Age  time.Duration
}

// maxRanges bounds a tombstone: more ranges go into several.
const maxRanges = 20000

// Erase makes the contents of a person's records unreadable, in the log and in
// every copy of it, and then takes them out of the log: it records the intent,
// destroys the person's key, writes the log anew without the contents, and
// records the tombstone. Numbers, times, steps and leaves stay, so all proofs
// and old checkpoints hold. Records of policies and signatures stay (they are
// sealed under the log's own key), as do records of others that name the
// person in their text. A record made after the intent gets a new key.
//
// A crash at any point is survived: the next [Open] finishes what was begun.
// Copies of the folder of keys that are older are not reached: they must not
// be kept longer than an erasure may take.
//
// The log's file is written anew in full, which needs as much room on the disk
// again and takes time with its size; appending goes on but for a moment.
//
// Errors: [sallyport.Invalid], [sallyport.NotFound] if the log has nothing of
// the person, [sallyport.Denied] under a legal hold, [sallyport.Damaged] if
// the log is, [sallyport.Exhausted] or [sallyport.Unavailable] when something
// cannot be written; the log takes nothing any more then until it is opened anew.
func (l *Log) Erase(ctx context.Context, e Erasure) (Erased, error) {
	const op = "erase records"
	switch {
	case e.Subject == "" || e.By == "" || e.Approved == "" || e.Reason == "" || e.Basis == "":
		return Erased{}, sallyport.Errorf(op, sallyport.Invalid, "", "an erasure names the person, who asks for it, who approved it, why, and on what basis")
	case e.By == e.Approved:
		return Erased{}, sallyport.Errorf(op, sallyport.Denied, "Have a second person approve it.", "who asks for an erasure cannot approve it")
	case strings.Contains(e.Reason, e.Subject) || strings.Contains(e.Basis, e.Subject):
		return Erased{}, sallyport.Errorf(op, sallyport.Invalid, "Give a reason without the name: it stays in the log.", "the reason names the person to be erased")
	case l.readOnly:
		return Erased{}, readOnlyError(op)
	}
	l.acting.Lock()
	defer l.acting.Unlock()
	name := l.keys.name(e.Subject)
	if subject, done, err := l.finish(); err != nil || subject == name.String() {
		return done, err // begun before, and now done
	}
	found, err := l.mayErase(ctx, op, name, 0)
	if err != nil {
		return Erased{}, err
	}
	if !found {
		return Erased{}, sallyport.Errorf(op, sallyport.NotFound, "", "the log has no content of this person")
	}
	looked := l.Size()
	if err := ctx.Err(); err != nil { // from here on it is carried through
		return Erased{}, sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
	}
	d := erasureDetail{Subject: name.String(), Approved: e.Approved, Basis: e.Basis}
	err = l.between(op, func() error {
		// Records that came since the look are few: look at those too, while
		// none can come.
		if _, err := l.mayErase(context.Background(), op, name, looked); err != nil {
			return err
		}
		k, err := l.keys.named(name)
		if err == nil {
			d.Gen = hex.EncodeToString(k.gen[:])
		} else if !errors.Is(err, errNoKey) {
			return err
		}
		p, err := l.prepareAct(op, Entry{Step: stepErase, Phase: Intent, Subject: e.By, Reasons: []string{e.Reason}}, d, false)
		if err != nil {
			return err
		}
		// The record first, then the act. All records before it are sealed
		// under the key that goes, all after it under another.
		if _, err := l.commit([]pending{p}, nil); err != nil {
			return err
		}
		return l.destroyKey(op, &d)
	})
	if err != nil {
		return Erased{}, err
	}
	return l.carryOut(op)
}

// mayErase tells whether the log has anything of a person from a number on,
// and refuses if a hold covers any of it.
func (l *Log) mayErase(ctx context.Context, op string, name keyName, from uint64) (found bool, err error) {
	a := l.acts.Load()
	if a.unclear {
		return false, unclearError(op)
	}
	if seq, held := a.blocked(name, "", ""); held {
		return false, heldError(op, seq)
	}
	err = l.eachBody(ctx, op, from, func(_ uint64, _ leaf, body []byte) error {
		if k, ok := bodyKey(body); !ok || k != name {
			return nil
		}
		found = true
		if !a.byContent() {
			return nil
		}
		hold, held, err := l.held(a, body)
		if err == nil && held {
			err = heldError(op, hold)
		}
		return err
	})
	return found, err
}

func unclearError(op string) error {
	return sallyport.Errorf(op, sallyport.Unavailable, "Restore the log's own key into the folder of keys.", "which records are under legal hold cannot be read, so nothing is erased")
}

// held tells whether a hold covers a record. One that cannot be read may be
// covered by any hold.
func (l *Log) held(a *acts, body []byte) (hold uint64, yes bool, err error) {
	name, _ := bodyKey(body)
	if hold, yes := a.blocked(name, "", ""); yes || !a.byContent() {
		return hold, yes, nil
	}
	_, js, err := openBody(l.keys, body)
	if errors.Is(err, errNoKey) {
		for seq, h := range a.holds {
			if h.Subject == "" {
				return seq, true, nil
			}
		}
	}
	if err != nil {
		return 0, false, err
	}
	var e struct{ Dataset, Project string }
	if err := json.Unmarshal(js, &e); err != nil {
		return 0, false, errBody
	}
	hold, yes = a.blocked(name, e.Dataset, e.Project)
	return hold, yes, nil
}

// eachBody goes through the stored bodies in steps, so that no transaction is long.
func (l *Log) eachBody(ctx context.Context, op string, from uint64, f func(seq uint64, lf leaf, body []byte) error) error {
	for at := from; ; {
		if err := ctx.Err(); err != nil {
			return sallyport.E(op, sallyport.Canceled, context.Cause(ctx), "")
		}
		n := 0
		err := l.view(op, func(_ *bbolt.Tx, r rows) error {
			bodies, leaves := r.body.Cursor(), r.leaf.Cursor()
			for k, v := bodies.Seek(seqKey(at)); k != nil && n < 4096; k, v = bodies.Next() {
				if len(k) != 8 {
					return sallyport.Errorf(op, sallyport.Damaged, "Run `audit verify` on the file.", "a row without a number is filed among the contents")
				}
				seq := binary.BigEndian.Uint64(k)
				_, raw := leaves.Seek(k)
				lf, err := parseLeaf(raw)
				if err != nil || lf.Seq != seq {
					return damagedRecord(seq)
				}
				if err := f(seq, lf, v); err != nil {
					return err
				}
				n, at = n+1, seq+1
			}
			return nil
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// Retain erases contents that are older than the rules say, all at once, with
// one tombstone. Records under legal hold, of policies and signatures, and the
// log's own acts stay whatever the rules say; so does what cannot be read while
// a hold by dataset or project is in force. A person's key is destroyed when
// no content is left under it; until then copies of the log still open.
//
// It answers with nothing done and nothing recorded when nothing is old enough.
func (l *Log) Retain(ctx context.Context, rules []Retention) (Erased, error) {
	const op = "retire records"
	if l.readOnly {
		return Erased{}, readOnlyError(op)
	}
	if err := CheckRetention(rules); err != nil {
		return Erased{}, err
	}
	var d erasureDetail
	now := l.now().UTC()
	for _, r := range rules {
		d.Rules = append(d.Rules, cutoff{r.Step, now.Add(-r.Age).Round(0)})
	}
	l.acting.Lock()
	defer l.acting.Unlock()
	if _, _, err := l.finish(); err != nil {
		return Erased{}, err
	}
	a := l.acts.Load()
	if a.unclear {
		return Erased{}, unclearError(op)
	}
	errFound := errors.New("found")
	err := l.eachBody(ctx, op, 0, func(_ uint64, lf leaf, body []byte) error {
		if drop, err := l.retires(d.Rules, a, lf, body); err != nil || !drop {
			return err
		}
		return errFound
	})
	if err == nil {
		return Erased{}, nil
	}
	if !errors.Is(err, errFound) {
		return Erased{}, err
	}
	if _, err := l.act(ctx, op, Entry{Step: stepRetire, Phase: Intent, Reasons: []string{"older than the rules of retention allow"}}, d, false); err != nil {
		return Erased{}, err
	}
	return l.carryOut(op)
}

// retires says whether the rules of retention take a content.
func (l *Log) retires(rules []cutoff, a *acts, lf leaf, body []byte) (bool, error) {
	if reserved(lf.Step) || permanent(lf.Step) {
		return false, nil
	}
	i := slices.IndexFunc(rules, func(c cutoff) bool { return c.Step == lf.Step })
	if i < 0 {
		i = slices.IndexFunc(rules, func(c cutoff) bool { return c.Step == "" })
	}
	if i < 0 || !lf.Time.Before(rules[i].Before) {
		return false, nil
	}
	_, held, err := l.held(a, body)
	return !held, err
}

// finish carries out an erasure that was begun and has no tombstone yet, and
// says whose it was.
func (l *Log) finish() (subject string, done Erased, err error) {
	const op = "finish an erasure"
	a := l.acts.Load()
	if a.begun == nil {
		return "", done, nil
	}
	if err = l.between(op, func() error { return l.destroyKey(op, a.begun) }); err == nil {
		done, err = l.carryOut(op)
	}
	return a.begun.Subject, done, err
}

// destroyKey is called by the writer, so that no record is being made durable
// under the key. It does nothing the second time.
func (l *Log) destroyKey(op string, d *erasureDetail) error {
	if d.Gen == "" {
		return nil
	}
	name, ok := parseKeyName(d.Subject)
	gen, err := hex.DecodeString(d.Gen)
	if !ok || err != nil || len(gen) != keyGenSize {
		return sallyport.Errorf(op, sallyport.Damaged, "", "the erasure does not say which key is to go")
	}
	if _, err := l.keys.destroy(name, keyGen(gen)); err != nil {
		return l.fail(op, fmt.Errorf("a key of the log: %w", err))
	}
	return nil
}

// carryOut does what the begun erasure says: the key is destroyed, the contents
// go, the tombstone comes.
func (l *Log) carryOut(op string) (Erased, error) {
	a := l.acts.Load()
	d, scope := a.begun, a.begunSeq
	if d == nil {
		return Erased{}, sallyport.Errorf(op, sallyport.Internal, "", "no erasure is begun")
	}
	c := compaction{log: l, op: op, intent: scope, step: stepRetire}
	name, byName := parseKeyName(d.Subject)
	if byName {
		c.step, c.subject = stepErase, d.Subject
		c.drop = func(seq uint64, lf leaf, body []byte) (bool, error) {
			k, ok := bodyKey(body)
			return ok && k == name && seq < scope, nil
		}
	} else {
		c.drop = func(seq uint64, lf leaf, body []byte) (bool, error) {
			if seq >= scope {
				return false, nil
			}
			return l.retires(d.Rules, a, lf, body)
		}
		c.unused = true
	}
	tomb, err := c.run()
	if err != nil {
		return Erased{}, err
	}
	if l.index != nil {
		if err := l.index.forget(); err != nil {
			return Erased{}, l.fail(op, fmt.Errorf("the search index: %w", err))
		}
	}
	return Erased{Records: c.dropped.count(), Intent: scope, Tombstone: tomb, Ranges: c.dropped.String()}, nil
}

// tombstones returns the records that say what was erased.
func (l *Log) tombstones(op, step, subject string, intent uint64, gone spans) ([]pending, error) {
	var out []pending
	for i := 0; i == 0 || i < len(gone); i += maxRanges {
		part := gone[i:min(i+maxRanges, len(gone))]
		t := tombstone{Act: intent, Subject: subject, Records: part.count(), Ranges: part.String(), More: i+maxRanges < len(gone)}
		p, err := l.prepareAct(op, Entry{Step: step, Phase: Outcome, Reasons: []string{"erased the contents of " + strconv.FormatUint(t.Records, 10) + " records"}}, t, true)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
