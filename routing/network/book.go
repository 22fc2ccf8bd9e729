package network

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// States of a run.
const (
	queued   = "queued"
	leased   = "leased"
	running  = "running"
	finished = "finished"
	lost     = "lost"
)

// record is all the gateway knows of one run. Records are never changed in
// place: the book replaces them.
type record struct {
	Assignment routing.Assignment   `json:"assignment"`
	Began      time.Time            `json:"began"`
	Published  bool                 `json:"published"`
	Leased     time.Time            `json:"leased"`           // when the node first took it
	Steps      []routing.Event      `json:"steps"`            // without the last
	Result     *sallyport.SealedRef `json:"result,omitempty"` // as stored and measured here
	Ended      time.Time            `json:"ended"`
	Lost       string               `json:"lost,omitempty"`
	Outcome    *routing.Outcome     `json:"outcome,omitempty"`
}

func (r record) over() bool { return r.Outcome != nil || r.Lost != "" }

func (r record) state() string {
	if len(r.Steps) == 0 {
		return ""
	}
	return r.Steps[len(r.Steps)-1].State
}

// step adds a step. A node that begins again and again adds only so many.
func (r *record) step(now time.Time, state, text string) {
	if r.state() != state && len(r.Steps) < 32 {
		r.Steps = append(slices.Clone(r.Steps), routing.Event{Time: now, State: state, Text: text})
	}
}

// book holds the runs: those that are going on in memory and on disk, those
// that are over on disk. Every change is durable when its call returns.
type book struct {
	live, done shelf

	mu      sync.Mutex
	open    map[string]record
	changed chan struct{} // closed at the next change
}

func openBook(live, done shelf) (*book, error) {
	b := &book{live: live, done: done, open: map[string]record{}, changed: make(chan struct{})}
	ids, err := live.list()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		var r record
		if _, err := live.get(id, &r); err != nil {
			return nil, err
		}
		if over, err := done.get(id, &record{}); err != nil {
			return nil, err
		} else if over { // stopped between the two files
			if err := live.remove(id); err != nil {
				return nil, err
			}
			continue
		}
		b.open[id] = r
	}
	return b, nil
}

// get returns a run and the channel that is closed when any run changes.
func (b *book) get(id string) (record, bool, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok, err := b.find(id)
	return r, ok, b.changed, err
}

func (b *book) find(id string) (record, bool, error) {
	if r, ok := b.open[id]; ok {
		return r, true, nil
	}
	var r record
	ok, err := b.done.get(id, &r)
	return r, ok, err
}

// change replaces a run by what edit makes of it. A run that is not there is
// zero; edit returns false to leave all as it is.
func (b *book) change(id string, edit func(r *record, exists bool) bool) (record, error) {
	if !wire.ValidID(id) {
		return record{}, sallyport.Errorf("keep run", sallyport.Invalid, "", "the assignment's ID has characters that do not travel")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok, err := b.find(id)
	if err != nil {
		return record{}, err
	}
	wasOver := ok && r.over()
	if !edit(&r, ok) {
		return r, nil
	}
	switch {
	case r.over():
		if err := b.done.put(id, r); err != nil {
			return record{}, err
		}
		if !wasOver {
			if err := b.live.remove(id); err != nil {
				return record{}, err
			}
		}
		delete(b.open, id)
	default:
		if err := b.live.put(id, r); err != nil {
			return record{}, err
		}
		b.open[id] = r
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return r, nil
}

// running returns the runs that are not over.
func (b *book) running() map[string]record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.open)
}
