package routing

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"sallyport"
)

// Ledger keeps what executions cost and how nodes behaved. Spending has two
// phases, so that a crash or a lying provider cannot overspend: Reserve before
// anything is bought, Settle or Cancel after. All of it is by assignment and
// idempotent: to do a step again is no error, to do it differently a
// sallyport.Conflict. What a method did is durable when it returns nil.
// Safe for concurrent use; one process at a time has the file open.
type Ledger struct{ db *bbolt.DB }

// States of an entry.
const (
	StateReserved = "reserved"
	StateSettled  = "settled"
	StateCanceled = "canceled"
)

// Entry is one reservation and what became of it.
type Entry struct {
	Assignment string          `json:"assignment"`
	Job        string          `json:"job"`
	Project    string          `json:"project"`
	Reserved   sallyport.Money `json:"reserved"`
	Charge     sallyport.Money `json:"charge"` // once settled
	State      string          `json:"state"`
	Number     uint64          `json:"number"` // order of reservation in this ledger
}

// account is the sum over a project's or job's entries.
type account struct {
	Spent    sallyport.Money `json:"spent"`
	Reserved sallyport.Money `json:"reserved"` // open reservations
}

// Verdict is how an execution turned out once it was verified.
type Verdict string

const (
	Correct Verdict = "correct" // agreed with, or equal to the local re-run
	Wrong   Verdict = "wrong"   // another result than the truth
	Lost    Verdict = "lost"    // no result: crashed, timed out, left
)

// Standing is a node's record. Correctness and availability are counted apart:
// a crash is no lie.
//
// Score is the 5 % quantile of the Beta distribution of correctness on a flat
// prior: the share of correct results the node exceeds with 95 % confidence,
// 0.05^(1/(n+1)) after n correct results and none wrong (0.05 for a newcomer,
// 0.76 after 10, 0.97 after 100). One wrong result makes it 0, below [Floor]:
// spot checks bound what a saboteur gets through only if the caught one is out
// (Sarmenta, FGCS 18, 2002). [Ledger.Pardon] lets a node begin anew.
type Standing struct {
	Correct float64 `json:"correct"`
	Wrong   float64 `json:"wrong"`
	Lost    float64 `json:"lost"`
	Score   float64 `json:"score"`
}

func newcomer() Standing { return Standing{}.scored() }

func (s Standing) scored() Standing {
	s.Score = 0
	if s.Wrong == 0 {
		s.Score = math.Pow(0.05, 1/(s.Correct+1))
	}
	return s
}

// completion estimates P(complete): the mean, with one completed execution as
// the benefit of doubt.
func (s Standing) completion() float64 {
	done := s.Correct + s.Wrong + 1
	return done / (done + s.Lost)
}

var (
	bucketEntries   = []byte("entries")   // assignment → Entry
	bucketJobs      = []byte("jobs")      // job NUL assignment → nothing
	bucketProjects  = []byte("projects")  // project → account
	bucketVerdicts  = []byte("verdicts")  // assignment → judged
	bucketStandings = []byte("standings") // node → Standing
)

type judged struct {
	Node    string  `json:"node"`
	Verdict Verdict `json:"verdict"`
}

// OpenLedger opens or makes the ledger file, of mode 0600. While another
// process has it open it fails with sallyport.Conflict after a second.
func OpenLedger(path string) (*Ledger, error) {
	const op = "open ledger"
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, sallyport.Errorf(op, sallyport.Conflict, "Stop the other gateway first.", "another process uses %s", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, sallyport.E(op+" "+path, sallyport.Damaged, err, "Restore the file from a copy; do not begin a new one, budgets would be spent twice.")
	case errors.Is(err, fs.ErrPermission):
		return nil, sallyport.E(op, sallyport.Denied, err, "")
	case err != nil:
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketJobs, bucketProjects, bucketVerdicts, bucketStandings} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, sallyport.E(op, sallyport.Unavailable, err, "")
	}
	return &Ledger{db: db}, nil
}

// Close closes the file.
func (l *Ledger) Close() error { return l.db.Close() }

// Reserve sets amount aside for an execution. It fails with
// sallyport.Exhausted if what the project has spent and reserved would then be
// more than budget.
func (l *Ledger) Reserve(job, assignment, project string, amount, budget sallyport.Money) error {
	const op = "reserve"
	if !word(job) || !word(assignment) || !word(project) || amount < 0 {
		return sallyport.Errorf(op, sallyport.Invalid, "", "job %q, assignment %q, project %q, amount %s", job, assignment, project, amount)
	}
	return l.update(op, func(tx *bbolt.Tx) error {
		entries := tx.Bucket(bucketEntries)
		var e Entry
		if ok, err := load(entries, assignment, &e); err != nil {
			return err
		} else if ok {
			if e.Job == job && e.Project == project && e.Reserved == amount && e.State != StateCanceled {
				return nil
			}
			return sallyport.Errorf(op, sallyport.Conflict, "Use a new assignment.", "%s is %s already, for %s of job %s", assignment, e.State, e.Reserved, e.Job)
		}
		var sum account
		if _, err := load(tx.Bucket(bucketProjects), project, &sum); err != nil {
			return err
		}
		// Each is at least 0, so the differences cannot overflow.
		if free := max(budget, 0) - sum.Spent - sum.Reserved; amount > free {
			return sallyport.Errorf(op, sallyport.Exhausted, "Raise the project's budget, or wait until reservations are settled.",
				"project %s has spent %s and reserved %s of %s; %s more is too much", project, sum.Spent, sum.Reserved, budget, amount)
		}
		n, err := entries.NextSequence()
		if err != nil {
			return err
		}
		sum.Reserved += amount
		e = Entry{Assignment: assignment, Job: job, Project: project, Reserved: amount, State: StateReserved, Number: n}
		return errors.Join(
			save(entries, assignment, e),
			tx.Bucket(bucketJobs).Put([]byte(job+"\x00"+assignment), nil),
			save(tx.Bucket(bucketProjects), project, sum),
		)
	})
}

// Settle books what a reserved execution really cost, at most what was
// reserved, and frees the rest.
func (l *Ledger) Settle(assignment string, charge sallyport.Money) error {
	const op = "settle"
	return l.end(op, assignment, func(e *Entry) (bool, error) {
		switch {
		case e.State == StateSettled && e.Charge == charge:
			return false, nil
		case e.State != StateReserved:
			return false, sallyport.Errorf(op, sallyport.Conflict, "", "%s is %s already, at %s", assignment, e.State, e.Charge)
		case charge < 0 || charge > e.Reserved:
			return false, sallyport.Errorf(op, sallyport.Invalid, "Pay at most what was reserved, and question the bill.",
				"%s of %s reserved for %s", charge, e.Reserved, assignment)
		}
		e.State, e.Charge = StateSettled, charge
		return true, nil
	})
}

// Cancel frees what was reserved for an execution that cost nothing.
func (l *Ledger) Cancel(assignment string) error {
	const op = "cancel reservation"
	return l.end(op, assignment, func(e *Entry) (bool, error) {
		switch e.State {
		case StateCanceled:
			return false, nil
		case StateReserved:
			e.State = StateCanceled
			return true, nil
		}
		return false, sallyport.Errorf(op, sallyport.Conflict, "", "%s is %s already", assignment, e.State)
	})
}

// end takes a reservation to its end, which change decides.
func (l *Ledger) end(op, assignment string, change func(*Entry) (bool, error)) error {
	return l.update(op, func(tx *bbolt.Tx) error {
		var e Entry
		if ok, err := load(tx.Bucket(bucketEntries), assignment, &e); err != nil {
			return err
		} else if !ok {
			return sallyport.Errorf(op, sallyport.NotFound, "", "nothing was reserved for %q", assignment)
		}
		changed, err := change(&e)
		if err != nil || !changed {
			return err
		}
		var sum account
		if _, err := load(tx.Bucket(bucketProjects), e.Project, &sum); err != nil {
			return err
		}
		sum.Reserved -= e.Reserved
		sum.Spent += e.Charge
		return errors.Join(save(tx.Bucket(bucketEntries), assignment, e), save(tx.Bucket(bucketProjects), e.Project, sum))
	})
}

// Spent returns what a project has spent, and what is reserved beside.
func (l *Ledger) Spent(project string) (spent, reserved sallyport.Money, err error) {
	var sum account
	err = l.view("read spending", func(tx *bbolt.Tx) error {
		_, err := load(tx.Bucket(bucketProjects), project, &sum)
		return err
	})
	return sum.Spent, sum.Reserved, err
}

// JobCost returns what a job's executions have cost, and what is reserved beside.
func (l *Ledger) JobCost(job string) (spent, reserved sallyport.Money, err error) {
	list, err := l.Entries(job)
	for _, e := range list {
		spent += e.Charge
		if e.State == StateReserved {
			reserved += e.Reserved
		}
	}
	return spent, reserved, err
}

// Entries returns a job's entries in the order of reservation.
func (l *Ledger) Entries(job string) ([]Entry, error) {
	var list []Entry
	err := l.view("read entries", func(tx *bbolt.Tx) error {
		prefix := job + "\x00"
		c := tx.Bucket(bucketJobs).Cursor()
		for k, _ := c.Seek([]byte(prefix)); strings.HasPrefix(string(k), prefix); k, _ = c.Next() {
			var e Entry
			if _, err := load(tx.Bucket(bucketEntries), string(k[len(prefix):]), &e); err != nil {
				return err
			}
			list = append(list, e)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	return list, err
}

// Judge counts how an execution turned out, once.
func (l *Ledger) Judge(assignment, node string, verdict Verdict) error {
	const op = "judge"
	if !word(assignment) || !word(node) || verdict != Correct && verdict != Wrong && verdict != Lost {
		return sallyport.Errorf(op, sallyport.Invalid, "", "assignment %q, node %q, verdict %q", assignment, node, verdict)
	}
	return l.update(op, func(tx *bbolt.Tx) error {
		var before judged
		if ok, err := load(tx.Bucket(bucketVerdicts), assignment, &before); err != nil {
			return err
		} else if ok {
			if before == (judged{node, verdict}) {
				return nil
			}
			return sallyport.Errorf(op, sallyport.Conflict, "", "%s on %s is judged %s already", assignment, before.Node, before.Verdict)
		}
		var st Standing
		if _, err := load(tx.Bucket(bucketStandings), node, &st); err != nil {
			return err
		}
		switch verdict {
		case Correct:
			st.Correct++
		case Wrong:
			st.Wrong++
		case Lost:
			st.Lost++
		}
		return errors.Join(
			save(tx.Bucket(bucketVerdicts), assignment, judged{node, verdict}),
			save(tx.Bucket(bucketStandings), node, st.scored()),
		)
	})
}

// Pardon makes a node a newcomer again, after somebody looked into the matter.
// What it earned is gone with what it lost.
func (l *Ledger) Pardon(node string) error {
	return l.update("pardon", func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketStandings).Delete([]byte(node))
	})
}

// Standings returns the standing of every node that was ever judged, by node.
func (l *Ledger) Standings() (map[string]Standing, error) {
	all := map[string]Standing{}
	err := l.view("read standings", func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketStandings)
		return b.ForEach(func(k, _ []byte) error {
			var st Standing
			_, err := load(b, string(k), &st)
			all[string(k)] = st
			return err
		})
	})
	return all, err
}

// Standing returns a node's standing; that of a newcomer for an unknown one.
func (l *Ledger) Standing(node string) (Standing, error) {
	st := newcomer()
	err := l.view("read standing", func(tx *bbolt.Tx) error {
		_, err := load(tx.Bucket(bucketStandings), node, &st)
		return err
	})
	return st, err
}

func (l *Ledger) update(op string, do func(*bbolt.Tx) error) error { return ours(op, l.db.Update(do)) }
func (l *Ledger) view(op string, do func(*bbolt.Tx) error) error   { return ours(op, l.db.View(do)) }

func ours(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sallyport.Error](err); ok {
		return err
	}
	return sallyport.E("ledger: "+op, sallyport.Unavailable, err, "")
}

// word: a name that can be a key, and be joined with NUL.
func word(s string) bool { return s != "" && len(s) <= 1024 && !strings.Contains(s, "\x00") }

func load(b *bbolt.Bucket, key string, into any) (bool, error) {
	v := b.Get([]byte(key))
	if v == nil {
		return false, nil
	}
	if err := json.Unmarshal(v, into); err != nil {
		return false, sallyport.Errorf("read ledger", sallyport.Damaged, "Restore the ledger from a copy.", "the record of %q cannot be read", key)
	}
	return true, nil
}

func save(b *bbolt.Bucket, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), text)
}
