package audit

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport"
)

const (
	indexRows = 1024 // records of the smallest segment: so many at most, and one less, are read without an index
	indexFan  = 16   // so many segments of a size are merged into one
	feedRows  = 16 * indexRows
)

// The fields that records are found by: the first byte of a term.
const (
	fieldSubject  = 's'
	fieldDataset  = 'd'
	fieldProject  = 'p'
	fieldJob      = 'j'
	fieldNode     = 'n'
	fieldDecision = 'c'
	fieldRule     = 'r'
	fieldStep     = 't'
	fieldPurpose  = 'u'
	fieldLease    = 'l'
	fieldWord     = 'w'
	fieldAct      = 'a' // job and step
	fieldLeaseAct = 'A' // lease and step, without a job
)

// index finds records by what they say. It is a folder of segments, filled
// behind the writer, and never the truth: what it names is read from the log
// and matched again, what it does not cover yet is read through, and a segment
// that is damaged or of another log is made again. Values stand in it as HMACs
// only. Deleting the folder costs time, nothing else.
type index struct {
	log      *Log
	dir      string
	rows     uint64 // of the smallest segment
	readOnly bool
	key, tag []byte
	segs     atomic.Pointer[[]*segment] // in order, apart from each other
	failed   atomic.Pointer[error]      // why no segments are made any more

	mu    sync.Mutex // held by who changes segments
	cache map[string]term

	feedMu    sync.Mutex
	feedFirst uint64
	feedRows  []Entry

	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
}

// openIndex opens the index of a log; nil where there can be none.
func openIndex(l *Log, dir string, rows uint64, readOnly bool) *index {
	if l.keys == nil {
		return nil
	}
	x := &index{log: l, dir: dir, rows: cmp.Or(rows, indexRows), readOnly: readOnly, key: l.keys.indexKey, tag: deriveKey(l.keys.indexKey, "segment/1"),
		cache: map[string]term{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	x.segs.Store(new([]*segment))
	if err := x.load(); err != nil {
		x.failed.Store(&err)
		close(x.done)
		return x
	}
	if readOnly {
		close(x.done)
		return x
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	go x.run(ctx)
	x.nudge()
	return x
}

// load opens the segments that are of this log, and takes away the others.
func (x *index) load() error {
	if !x.readOnly {
		if err := os.MkdirAll(x.dir, 0o700); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(x.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []*segment
	for _, e := range entries {
		path := filepath.Join(x.dir, e.Name())
		if s, err := openSegment(path, x.tag); err == nil && x.belongs(s) {
			all = append(all, s)
		} else if err == nil || errors.Is(err, errSegment) {
			x.discard(path)
		} else {
			return err
		}
	}
	// Of two that overlap the larger stays: it was merged from the other.
	slices.SortFunc(all, func(a, b *segment) int {
		if a.from == b.from {
			return int(int64(b.to) - int64(a.to))
		}
		return compareSegments(a, b)
	})
	var kept []*segment
	for _, s := range all {
		if n := len(kept); n > 0 && s.from < kept[n-1].to {
			x.discard(s.path)
			continue
		}
		kept = append(kept, s)
	}
	x.segs.Store(&kept)
	return nil
}

func (x *index) discard(path string) {
	if !x.readOnly {
		_ = os.Remove(path) // what stays is not believed the next time either
	}
}

func (x *index) belongs(s *segment) bool {
	if s.to > x.log.Size() {
		return false
	}
	h, err := x.log.leafHash(s.to - 1)
	return err == nil && h == s.last
}

func (l *Log) leafHash(seq uint64) (h tlog.Hash, err error) {
	err = l.view("read audit log", func(_ *bbolt.Tx, r rows) error {
		raw := r.leaf.Get(seqKey(seq))
		if raw == nil {
			return damagedRecord(seq)
		}
		h = tlog.RecordHash(raw)
		return nil
	})
	return h, err
}

// feed takes what the writer made durable, so that it need not be read again.
func (x *index) feed(first uint64, batch []pending) {
	if x == nil || x.failed.Load() != nil {
		return
	}
	x.feedMu.Lock()
	if x.feedFirst+uint64(len(x.feedRows)) != first || len(x.feedRows)+len(batch) > feedRows {
		x.feedFirst, x.feedRows = first, x.feedRows[:0]
	}
	for i := range batch {
		e := batch[i].entry
		e.Detail = nil // not indexed, and large
		x.feedRows = append(x.feedRows, e)
	}
	x.feedMu.Unlock()
	if covered, _ := x.covered(); first+uint64(len(batch)) >= covered+x.rows {
		x.nudge()
	}
}

func (x *index) nudge() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// close waits for what is being done.
func (x *index) close() {
	if x == nil {
		return
	}
	if x.stop != nil {
		x.stop()
	}
	<-x.done
	for _, s := range *x.segs.Load() {
		_ = s.file.Close()
	}
}

func (x *index) run(ctx context.Context) {
	defer close(x.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		}
		for ctx.Err() == nil {
			more, err := x.step()
			if err != nil {
				x.failed.CompareAndSwap(nil, &err)
				return
			}
			if !more {
				break
			}
		}
	}
}

// step makes or merges one segment, and says whether there may be more to do.
func (x *index) step() (bool, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	segs := *x.segs.Load()
	if group := mergeable(segs); group != nil {
		last := group[len(group)-1]
		info := segmentInfo{from: group[0].from, to: last.to, last: last.last, tomb: group[0].tomb, opens: last.opens, times: mergedTimes(group)}
		for _, s := range group {
			info.tomb = min(info.tomb, s.tomb)
		}
		s, err := merge(x.dir, x.tag, group, info, func(term, uint64) bool { return false })
		if errors.Is(err, errSegment) {
			for _, s := range group { // which one is found out by making all again
				x.drop(s)
			}
			return true, nil
		}
		if err != nil {
			return false, err
		}
		x.put(s, group)
		return true, nil
	}
	from, opens := uint64(0), []openIntent(nil)
	for _, s := range segs {
		if s.from != from {
			break
		}
		from, opens = s.to, s.opens
	}
	if x.log.Size() < from+x.rows {
		return false, nil
	}
	s, err := x.build(from, opens)
	if err != nil {
		return false, err
	}
	x.put(s, nil)
	return true, nil
}

// mergeable returns segments that make a larger one, smallest first.
func mergeable(segs []*segment) []*segment {
	for i := 0; i+indexFan <= len(segs); i++ {
		group := segs[i : i+indexFan]
		size := group[0].to - group[0].from
		if group[0].from%(size*indexFan) != 0 || group[indexFan-1].to != group[0].from+size*indexFan {
			continue
		}
		if !slices.ContainsFunc(group, func(s *segment) bool { return s.to-s.from != size }) {
			return group
		}
	}
	return nil
}

// put takes a segment in the place of others. Files of segments that go are
// unlinked; a search that has them open goes on, and the runtime closes them.
func (x *index) put(s *segment, instead []*segment) {
	var out []*segment
	for _, old := range *x.segs.Load() {
		if !slices.Contains(instead, old) {
			out = append(out, old)
		}
	}
	if s != nil {
		out = append(out, s)
		slices.SortFunc(out, compareSegments)
	}
	x.segs.Store(&out)
	for _, old := range instead {
		if s == nil || old.path != s.path {
			x.discard(old.path)
		}
	}
}

func (x *index) drop(s *segment) { x.put(nil, []*segment{s}) }

// bad takes away a segment found damaged, and has it made again.
func (x *index) bad(s *segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(s)
	x.nudge()
}

// build makes the segment of the rows records from from on.
func (x *index) build(from uint64, opens []openIntent) (*segment, error) {
	info := segmentInfo{from: from, to: from + x.rows, tomb: x.log.acts.Load().last}
	var err error
	if info.last, err = x.log.leafHash(info.to - 1); err != nil {
		return nil, err
	}
	lists := map[term][]uint64{}
	open := openActs{of: map[term][]uint64{}}
	for _, o := range opens {
		open.of[o.act] = append(open.of[o.act], o.seq)
	}
	info.times = make([]int64, 0, 2*timeBlocks(info.from, info.to))
	err = x.entries(info.from, info.to, func(r Record) {
		for t := range x.terms(r) {
			lists[t] = append(lists[t], r.Seq)
		}
		open.note(x.cached, r)
		if r.Seq == info.from || r.Seq%timeRows == 0 {
			info.times = append(info.times, math.MaxInt64, math.MinInt64)
		}
		n, at := len(info.times), r.Entry.Time.Unix()
		info.times[n-2], info.times[n-1] = min(info.times[n-2], at), max(info.times[n-1], at)
	})
	if err != nil {
		return nil, err
	}
	info.opens = open.list()
	w, err := newSegmentWriter(x.dir, x.tag, info)
	if err != nil {
		return nil, err
	}
	terms := make([]term, 0, len(lists))
	for t := range lists {
		terms = append(terms, t)
	}
	slices.SortFunc(terms, term.compare)
	for _, t := range terms {
		w.add(t, lists[t])
	}
	return w.close()
}

// entries reads records: those that were fed, and the others from the log.
func (x *index) entries(from, to uint64, f func(Record)) error {
	erased := x.log.acts.Load().erased
	for from < to {
		x.feedMu.Lock()
		var fed []Entry
		if end := x.feedFirst + uint64(len(x.feedRows)); x.feedFirst <= from && from < end {
			fed = slices.Clone(x.feedRows[from-x.feedFirst : min(to, end)-x.feedFirst])
			if end <= to { // all used
				x.feedFirst, x.feedRows = end, x.feedRows[:0]
			}
		}
		x.feedMu.Unlock()
		for _, e := range fed {
			r := Record{Seq: from, Entry: e}
			if tomb, ok := erased.find(from); ok {
				r.Erased, r.Entry = &tomb, Entry{Time: e.Time, Step: e.Step, Phase: e.Phase}
			}
			f(r)
			from++
		}
		if from == to {
			break
		}
		recs, err := x.log.Read(from, int(min(to-from, 512)))
		if err != nil {
			return err
		}
		for _, r := range recs {
			f(r)
			from++
		}
	}
	return nil
}

// terms yields a record's terms, each once. Of a record that cannot be read
// only the step is known.
func (x *index) terms(r Record) map[term]struct{} {
	out := map[term]struct{}{}
	put := func(field byte, value string) {
		if value != "" {
			out[x.cached(field, value)] = struct{}{}
		}
	}
	e := r.Entry
	put(fieldStep, e.Step)
	if !r.readable() {
		return out
	}
	put(fieldSubject, e.Subject)
	put(fieldDataset, e.Dataset)
	put(fieldProject, e.Project)
	put(fieldJob, string(e.Job))
	put(fieldNode, e.Node)
	put(fieldDecision, e.Decision)
	put(fieldPurpose, e.Purpose)
	put(fieldLease, e.Lease)
	for _, rule := range e.Rules {
		put(fieldRule, rule)
	}
	for w := range e.words() {
		put(fieldWord, w)
	}
	return out
}

// words yields the words that an entry is found by: of its step and reasons.
func (e Entry) words() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, text := range append([]string{e.Step}, e.Reasons...) {
			for w := range words(text) {
				if !yield(w) {
					return
				}
			}
		}
	}
}

func (x *index) term(field byte, value string) (t term) {
	m := hmac.New(sha256.New, x.key)
	m.Write([]byte{field})
	m.Write([]byte(value))
	copy(t[1:], m.Sum(nil))
	t[0] = field
	return t
}

// cached is term for who holds mu: most values come again and again.
func (x *index) cached(field byte, value string) term {
	k := string(field) + value
	t, ok := x.cache[k]
	if !ok {
		if len(x.cache) >= 1<<15 {
			clear(x.cache)
		}
		t = x.term(field, value)
		x.cache[k] = t
	}
	return t
}

// forget takes out of the index what was erased. Steps stay: the leaves say them.
func (x *index) forget() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.cache)
	x.feedMu.Lock()
	clear(x.feedRows)
	x.feedFirst, x.feedRows = 0, nil
	x.feedMu.Unlock()
	a := x.log.acts.Load()
	for _, s := range *x.segs.Load() {
		if !a.erased.meets(s.from, s.to, s.tomb) {
			continue
		}
		info := s.segmentInfo
		info.tomb = a.last
		info.opens = slices.DeleteFunc(slices.Clone(info.opens), func(o openIntent) bool { _, gone := a.erased.find(o.seq); return gone })
		clean, err := merge(x.dir, x.tag, []*segment{s}, info, func(t term, seq uint64) bool {
			_, gone := a.erased.find(seq)
			return gone && t[0] != fieldStep
		})
		if errors.Is(err, errSegment) {
			x.drop(s)
			continue
		}
		if err != nil {
			x.drop(s) // better none than one that still knows
			return err
		}
		x.put(clean, []*segment{s})
	}
	x.nudge()
	return nil
}

// covered returns how many records from the first on are in segments, and the
// intents open there.
func (x *index) covered() (to uint64, opens []openIntent) {
	if x == nil {
		return 0, nil
	}
	for _, s := range *x.segs.Load() {
		if s.from != to {
			break
		}
		to, opens = s.to, s.opens
	}
	return to, opens
}

// Indexed returns how many records, from the first on, the search index
// covers, and the error after which it covers no more; searches then read
// through the others.
func (l *Log) Indexed() (records uint64, err error) {
	if l.index == nil {
		return 0, nil
	}
	if e := l.index.failed.Load(); e != nil {
		err = sallyport.E("index audit log", sallyport.Unavailable, *e, "Delete the folder of the index and restart.")
	}
	records, _ = l.index.covered()
	return records, err
}

// openActs follows intents and outcomes.
type openActs struct{ of map[term][]uint64 }

func (o openActs) note(termOf func(field byte, value string) term, r Record) {
	e := r.Entry
	if !r.readable() || e.Phase != Intent && e.Phase != Outcome {
		return
	}
	field, id := byte(fieldAct), string(e.Job)
	if id == "" {
		field, id = fieldLeaseAct, e.Lease
	}
	act := termOf(field, strings.Join([]string{id, e.Step}, "\x00"))
	if e.Phase == Intent {
		o.of[act] = append(o.of[act], r.Seq)
	} else {
		delete(o.of, act)
	}
}

// list returns the open intents in order.
func (o openActs) list() (out []openIntent) {
	for act, seqs := range o.of {
		for _, s := range seqs {
			out = append(out, openIntent{act, s})
		}
	}
	slices.SortFunc(out, func(a, b openIntent) int { return int(int64(a.seq) - int64(b.seq)) })
	return out
}
