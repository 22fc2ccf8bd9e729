package risk

import (
	"context"

	"sallyport"
)

// source gives slots in order, in batches; free slots among them are skipped.
type source[S slot] struct {
	batch []S
	i     int
	more  func() ([]S, error) // the next batch; empty at the end
}

func (s *source[S]) next() (*S, error) {
	for {
		for s.i < len(s.batch) {
			p := &s.batch[s.i]
			s.i++
			if (*p)[0] != 0 {
				return p, nil
			}
		}
		var err error
		if s.batch, err = s.more(); err != nil || len(s.batch) == 0 {
			return nil, err
		}
		s.i = 0
	}
}

// memorySource reads shards, which must be in order: one after the other.
func memorySource[S slot](ctx context.Context, shards ...[]S) *source[S] {
	return &source[S]{more: func() ([]S, error) {
		if err := ctx.Err(); err != nil {
			return nil, sallyport.E("census", sallyport.Canceled, err, "")
		}
		for len(shards) > 0 {
			batch := shards[0]
			if shards = shards[1:]; len(batch) > 0 {
				return batch, nil
			}
		}
		return nil, nil
	}}
}

// merged gives what several sources hold, in order, and each key once.
type merged[S slot] struct {
	heap []head[S]
	err  error
}

type head[S slot] struct {
	slot   S
	source *source[S]
}

func merge[S slot](sources []*source[S]) (*merged[S], error) {
	m := &merged[S]{}
	for _, s := range sources {
		p, err := s.next()
		if err != nil {
			return nil, err
		}
		if p != nil {
			m.heap = append(m.heap, head[S]{*p, s})
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m, nil
}

func (m *merged[S]) sink(i int) {
	h := m.heap
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if r := least + 1; r < len(h) && before(&h[r].slot, &h[least].slot) {
			least = r
		}
		if !before(&h[least].slot, &h[i].slot) {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// pull replaces the first head by the next of its source.
func (m *merged[S]) pull() error {
	p, err := m.heap[0].source.next()
	if err != nil {
		return err
	}
	if p != nil {
		m.heap[0].slot = *p
	} else {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	}
	m.sink(0)
	return nil
}

// next returns the next slot; false at the end.
func (m *merged[S]) next() (S, bool, error) {
	var s S
	if m.err != nil || len(m.heap) == 0 {
		return s, false, m.err
	}
	s = m.heap[0].slot
	if m.err = m.pull(); m.err != nil {
		return s, false, m.err
	}
	for len(m.heap) > 0 && same(&m.heap[0].slot, &s) {
		s[0] += m.heap[0].slot[0]
		if m.err = m.pull(); m.err != nil {
			return s, false, m.err
		}
	}
	return s, true, nil
}
