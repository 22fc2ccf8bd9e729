package audit

import (
	"crypto/sha256"
	"errors"
	"iter"
	"slices"
	"time"
)

const rowsAtOnce = 512 // records that one step of a search reads

// readable says whether Entry holds all that was recorded.
func (r Record) readable() bool { return !r.Sealed && r.Erased == nil }

// mayMatch passes over records without opening them, and never over one that
// matches. Damage in a record passed over is for [Verify] to find.
func (f Filter) mayMatch(raw []byte) bool {
	if f.Step == "" && f.Since.IsZero() && f.Until.IsZero() {
		return true
	}
	l, err := parseLeaf(raw)
	return err != nil || f.inTime(l.Time) && (f.Step == "" || l.Step == f.Step)
}

func (f Filter) inTime(t time.Time) bool {
	return (f.Since.IsZero() || !t.Before(f.Since)) && (f.Until.IsZero() || t.Before(f.Until))
}

// content says whether the filter asks for more than a leaf says.
func (f Filter) content() bool {
	return f.Job != "" || f.Dataset != "" || f.Subject != "" || f.Project != "" || f.Node != "" || f.Decision != "" ||
		f.Rule != "" || f.Purpose != "" || f.Lease != "" || f.Text != ""
}

func (f Filter) match(r Record) bool {
	e := r.Entry
	is := func(want, have string) bool { return want == "" || want == have }
	if r.Seq < f.From || f.Before != 0 && r.Seq >= f.Before || !is(f.Step, e.Step) || !f.inTime(e.Time) {
		return false
	}
	if !f.content() {
		return true
	}
	return r.readable() && is(string(f.Job), string(e.Job)) && is(f.Dataset, e.Dataset) && is(f.Subject, e.Subject) &&
		is(f.Project, e.Project) && is(f.Node, e.Node) && is(f.Decision, e.Decision) && is(f.Purpose, e.Purpose) && is(f.Lease, e.Lease) &&
		(f.Rule == "" || slices.Contains(e.Rules, f.Rule)) && f.inText(e)
}

// inText: a text without any word is in nothing.
func (f Filter) inText(e Entry) bool {
	if f.Text == "" {
		return true
	}
	have := map[string]bool{}
	for w := range e.words() {
		have[w] = true
	}
	any := false
	for w := range words(f.Text) {
		if any = true; !have[w] {
			return false
		}
	}
	return any
}

// terms returns what the index is asked for.
func (f Filter) terms(termOf func(field byte, value string) term) (out []term) {
	put := func(field byte, value string) {
		if value != "" {
			out = append(out, termOf(field, value))
		}
	}
	// The rarest first, as a rule: an empty list ends the search of a segment.
	put(fieldJob, string(f.Job))
	put(fieldLease, f.Lease)
	put(fieldNode, f.Node)
	put(fieldSubject, f.Subject)
	for w := range words(f.Text) {
		put(fieldWord, w)
	}
	put(fieldRule, f.Rule)
	put(fieldDataset, f.Dataset)
	put(fieldProject, f.Project)
	put(fieldPurpose, f.Purpose)
	put(fieldStep, f.Step)
	put(fieldDecision, f.Decision)
	return out
}

// keyless is a term for who has no index.
func keyless(field byte, value string) (t term) {
	h := sha256.Sum256([]byte(value))
	copy(t[1:], h[:])
	t[0] = field
	return t
}

// candidates yields, in the filter's order, numbers of records of which some
// may match, and all that do.
func (l *Log) candidates(f Filter, size uint64) iter.Seq[[]uint64] {
	return func(yield func([]uint64) bool) {
		lo, hi := f.From, size
		if f.Before != 0 {
			hi = min(hi, f.Before)
		}
		if lo >= hi {
			return
		}
		scan := func(from, to uint64) bool {
			for from < to {
				n := min(to-from, rowsAtOnce)
				at := from
				if f.Newest {
					at, to = to-n, to-n
				} else {
					from += n
				}
				seqs := make([]uint64, n)
				for i := range seqs {
					seqs[i] = at + uint64(i)
				}
				if f.Newest {
					slices.Reverse(seqs)
				}
				if !yield(seqs) {
					return false
				}
			}
			return true
		}
		for _, p := range l.index.parts(lo, hi, f.Newest) {
			if p.seg == nil {
				if !scan(p.from, p.to) {
					return
				}
				continue
			}
			seqs, all, err := l.index.search(p.seg, f)
			if err != nil {
				if errors.Is(err, errSegment) {
					l.index.bad(p.seg)
				}
				all = true
			}
			if all {
				// Of times, only blocks that can have them.
				for _, b := range p.blocks(f, err == nil) {
					if !scan(b.from, b.to) {
						return
					}
				}
				continue
			}
			i, _ := slices.BinarySearch(seqs, p.from)
			j, _ := slices.BinarySearch(seqs, p.to)
			seqs = seqs[i:j]
			if f.Newest {
				slices.Reverse(seqs)
			}
			if len(seqs) > 0 && !yield(seqs) {
				return
			}
		}
	}
}

// part is a range of records, within a segment or outside all.
type part struct {
	from, to uint64
	seg      *segment
}

// parts cuts a range where segments begin and end.
func (x *index) parts(lo, hi uint64, newest bool) (out []part) {
	if x != nil {
		for _, s := range *x.segs.Load() {
			if s.to <= lo || s.from >= hi {
				continue
			}
			if lo < s.from {
				out = append(out, part{lo, s.from, nil})
				lo = s.from
			}
			out = append(out, part{lo, min(hi, s.to), s})
			lo = min(hi, s.to)
		}
	}
	if lo < hi {
		out = append(out, part{lo, hi, nil})
	}
	if newest {
		slices.Reverse(out)
	}
	return out
}

// blocks returns the blocks of a part whose times the filter wants, in its order.
func (p part) blocks(f Filter, times bool) (out []part) {
	if !times || f.Since.IsZero() && f.Until.IsZero() {
		return []part{p}
	}
	for from := p.from; from < p.to; {
		to := min(p.to, (from/timeRows+1)*timeRows)
		if p.seg.mayBe(from, f.Since, f.Until) {
			if n := len(out); n > 0 && out[n-1].to == from {
				out[n-1].to = to
			} else {
				out = append(out, part{from, to, p.seg})
			}
		}
		from = to
	}
	if f.Newest {
		slices.Reverse(out)
	}
	return out
}

// search returns the records of a segment that have all the filter's terms,
// less those whose time cannot be; all says that the filter has no terms.
func (x *index) search(s *segment, f Filter) (seqs []uint64, all bool, err error) {
	terms := f.terms(x.term)
	if len(terms) == 0 {
		return nil, f.Text == "", nil // a text without words is in nothing
	}
	for i, t := range terms {
		list, err := s.find(t)
		if err != nil {
			return nil, false, err
		}
		if i == 0 {
			seqs = list
		} else {
			seqs = intersect(seqs, list)
		}
		if len(seqs) == 0 {
			return nil, false, nil
		}
	}
	if !f.Since.IsZero() || !f.Until.IsZero() {
		seqs = slices.DeleteFunc(seqs, func(seq uint64) bool { return !s.mayBe(seq, f.Since, f.Until) })
	}
	return seqs, false, nil
}

// intersect returns what is in both of two ascending lists.
func intersect(a, b []uint64) (out []uint64) {
	if len(a) > len(b) {
		a, b = b, a
	}
	for _, x := range a {
		i, ok := slices.BinarySearch(b, x)
		if b = b[i:]; ok {
			out = append(out, x)
		}
		if len(b) == 0 {
			break
		}
	}
	return out
}
