package audit

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"sallyport"
)

// Hold is a legal hold: while it is in force nothing that it covers is erased,
// neither on request nor by age. Exactly one of Subject, Dataset and Project
// says what it covers.
type Hold struct {
	Subject, Dataset, Project string
	By, Approved              string // who asked for it, and who agreed if anybody must
	Reason                    string
}

// Held is a hold in force. The name of a held person is not kept: Subject is
// the name of the person's key.
type Held struct {
	Seq                       uint64 // the record that states it
	Subject, Dataset, Project string
}

// Hold places a hold. It is in force when the record is durable, and until
// [Log.Release].
func (l *Log) Hold(ctx context.Context, h Hold) (Receipt, error) {
	const op = "hold records"
	n := 0
	for _, s := range []string{h.Subject, h.Dataset, h.Project} {
		if s != "" {
			n++
		}
	}
	if n != 1 || h.By == "" || h.Reason == "" {
		return Receipt{}, sallyport.Errorf(op, sallyport.Invalid, "Name one person, dataset or project, who asks for it and why.", "the hold does not say what it covers, for whom and why")
	}
	if l.readOnly {
		return Receipt{}, readOnlyError(op)
	}
	d := holdDetail{Dataset: h.Dataset, Project: h.Project, Approved: h.Approved}
	if h.Subject != "" {
		d.Subject = l.keys.name(h.Subject).String()
	}
	l.acting.Lock()
	defer l.acting.Unlock()
	return l.act(ctx, op, Entry{Step: stepHold, Phase: Note, Subject: h.By, Dataset: h.Dataset, Project: h.Project, Reasons: []string{h.Reason}}, d, false)
}

// Release ends the hold that a record states. [sallyport.NotFound] if none is
// in force by that number.
func (l *Log) Release(ctx context.Context, hold uint64, by, approved, reason string) (Receipt, error) {
	const op = "release hold"
	if by == "" || reason == "" {
		return Receipt{}, sallyport.Errorf(op, sallyport.Invalid, "Say who releases it and why.", "the release of hold %d does not say by whom and why", hold)
	}
	if l.readOnly {
		return Receipt{}, readOnlyError(op)
	}
	l.acting.Lock()
	defer l.acting.Unlock()
	if _, ok := l.acts.Load().holds[hold]; !ok {
		return Receipt{}, sallyport.Errorf(op, sallyport.NotFound, "", "no hold of number %d is in force", hold)
	}
	return l.act(ctx, op, Entry{Step: stepRelease, Phase: Note, Subject: by, Reasons: []string{reason}}, holdDetail{Hold: hold, Approved: approved}, false)
}

// Holds returns the holds in force, oldest first.
func (l *Log) Holds() []Held {
	var out []Held
	for seq, d := range l.acts.Load().holds {
		out = append(out, Held{Seq: seq, Subject: d.Subject, Dataset: d.Dataset, Project: d.Project})
	}
	slices.SortFunc(out, func(a, b Held) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return out
}

// act appends a record of an act on the log itself.
func (l *Log) act(ctx context.Context, op string, e Entry, detail any, clear bool) (Receipt, error) {
	p, err := l.prepareAct(op, e, detail, clear)
	if err == nil {
		err = l.enqueue(ctx, op, p)
	}
	if err != nil {
		return Receipt{}, err
	}
	r := <-p.reply
	return r.receipt, r.err
}

func (l *Log) prepareAct(op string, e Entry, detail any, clear bool) (pending, error) {
	var err error
	if e.Detail, err = json.Marshal(detail); err != nil {
		return pending{}, sallyport.E(op, sallyport.Invalid, err, "")
	}
	return l.prepare(op, e, clear)
}

// blocked answers whether a hold stands against erasing anything of a person,
// or against erasing a record of a dataset and project.
func (a *acts) blocked(name keyName, dataset, project string) (seq uint64, yes bool) {
	for seq, h := range a.holds {
		if h.Subject == name.String() || h.Dataset != "" && h.Dataset == dataset || h.Project != "" && h.Project == project {
			return seq, true
		}
	}
	return 0, false
}

// byContent says whether a hold can only be told from a record's content.
func (a *acts) byContent() bool {
	for _, h := range a.holds {
		if h.Dataset != "" || h.Project != "" {
			return true
		}
	}
	return false
}

func heldError(op string, seq uint64) error {
	return sallyport.Errorf(op, sallyport.Denied, "Have the hold released first: see record "+strconv.FormatUint(seq, 10)+".", "the legal hold of record %d covers it", seq)
}
