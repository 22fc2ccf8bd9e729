package anonymize

import (
	"context"
	"math"

	"sallyport"
)

// maxCounts bounds how often the source is counted until the distances settle.
const maxCounts = 32

// check judges what is asked for.
func (s *Suppression) check() error {
	switch {
	case s == nil:
		return nil
	case s.K < 0 || s.L < 0:
		return invalid("Give numbers of records and of values.", "suppression to k = %d and l = %d", s.K, s.L)
	case math.IsNaN(s.T) || s.T < 0:
		return invalid("Give a distance from 0 to 1.", "suppression to an impossible distance t")
	case !(s.Limit >= 0 && s.Limit <= 1):
		return invalid("Give a share of the records from 0 to 1.", "the limit of suppression is no share")
	}
	return nil
}

// asks reports whether any class could fail.
func (s *Suppression) asks() bool { return s != nil && (s.K > 1 || s.L > 1 || s.close()) }

// close reports whether distances are asked for.
func (s *Suppression) close() bool { return s.T > 0 && s.T < 1 }

// over returns which of the sensitive columns must be counted.
func (s *Suppression) over(sensitive []int) []int {
	if s.L <= 1 && !s.close() {
		return nil
	}
	return sensitive
}

// sort finds the classes that fail, reading the source as often as it takes.
func (p *run) sort(ctx context.Context) error {
	s := p.plan.Suppress
	if !s.asks() {
		return nil
	}
	var all, back int64
	for range maxCounts {
		e, err := p.count(ctx)
		if err != nil {
			return err
		}
		if all == 0 {
			all = e.records.Load() // nothing is kept back in the first
		}
		var l int64
		var t float64
		if len(e.secretIn) > 0 { // else there is nothing to be told or to be close to
			l, t = s.L, s.T
		}
		again := t > 0 && t < 1
		set, n, err := e.after.census.Failing(ctx, s.K, l, t)
		e.close()
		if err != nil {
			return err
		}
		if n == 0 {
			set.Close()
			return nil
		}
		p.failing = append(p.failing, set)
		if back += n; float64(back) > s.Limit*float64(all) {
			return sallyport.Errorf("anonymize", sallyport.Invalid, "Generalize the quasi-identifiers more, or let more records be kept back.",
				"%d of %d records (%s) are in classes that must not leave; the limit is %s", back, all, percent(float64(back)/float64(all)), percent(s.Limit))
		}
		if !again {
			return nil
		}
	}
	return sallyport.Errorf("anonymize", sallyport.Invalid, "Generalize the sensitive columns or the quasi-identifiers more.",
		"the distances do not settle: each time that classes are kept back, others fail")
}

// count is one reading that counts the classes that are not kept back yet.
func (p *run) count(ctx context.Context) (*editor, error) {
	e, err := p.runner.editor(p.plan, p.session)
	if err != nil {
		return nil, err
	}
	e.purpose = toCount
	if err := p.before(ctx, e); err != nil {
		e.close()
		return nil, err
	}
	if err := e.settle(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}
