package anonymize

import "sallyport/anonymize/identify"

// residual counts, by type, the values that still look like direct identifiers
// in what leaves. It is a warning light, no proof: few false alarms matter more
// here than completeness, since free text must not leave unread anyway.
type residual struct {
	email, phone, ssn int64 // by which columns are told apart
	others            [identify.Count]int64
	room              []identify.Hit
}

func (r *residual) counts() map[string]int64 {
	m := map[string]int64{}
	for _, t := range identify.Types() {
		if n := *r.of(t); n > 0 {
			m[t.String()] = n
		}
	}
	return m
}

func (r *residual) of(t identify.Type) *int64 {
	switch t {
	case identify.Email:
		return &r.email
	case identify.Phone:
		return &r.phone
	case identify.SSN:
		return &r.ssn
	default:
		return &r.others[t]
	}
}

func (r *residual) add(o residual) {
	for _, t := range identify.Types() {
		*r.of(t) += *o.of(t)
	}
}

// look examines one value. A value counts once for each type that is in it,
// however often.
func (r *residual) look(v []byte) {
	if len(v) < identify.Shortest {
		return
	}
	r.room = identify.Matcher{}.Find(r.room[:0], v)
	var seen uint32
	for _, h := range r.room {
		if bit := uint32(1) << h.Type; seen&bit == 0 {
			seen |= bit
			*r.of(h.Type)++
		}
	}
}
