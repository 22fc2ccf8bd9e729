package transform

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"sallyport"
	"sallyport/anonymize"
)

// ShiftDate moves dates by a number of days that is the same for all dates of
// a subject, in every column and file of the project, so that intervals stay.
// The offset is drawn by HMAC-SHA256 of the subject's value under the
// project's key, from 1 to days in either direction, never 0: give columns whose
// intervals matter the same days. How a date is written does not change the
// offset. A time of day stays as it is.
type ShiftDate struct{}

var _ anonymize.Transform = ShiftDate{}

func (ShiftDate) Name() string { return "shift_date" }
func (ShiftDate) Doc() string {
	return `dates moved by a secret offset of the subject; days (the most), layout (ISO 8601), otherwise ("error")`
}

func (ShiftDate) Traits() anonymize.Traits {
	return anonymize.Traits{Opaque: true, Subject: true, SameType: true}
}

func (ShiftDate) Bind(args map[string]any, env anonymize.Env) (anonymize.Apply, error) {
	a := read("shift_date", args)
	days := a.integer("days", nil, 1, 36500)
	layout := a.layout()
	suppress := a.suppress()
	if err := a.done(); err != nil {
		return nil, err
	}
	key, err := secret("shift_date", env)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	var sum [sha256.Size]byte
	var last []byte // records of one subject often follow each other
	offset := 0
	return notEmpty(func(dst, value, subject []byte) ([]byte, error) {
		if len(subject) == 0 {
			if suppress {
				return append(dst, Suppressed...), nil
			}
			return dst, sallyport.Errorf("", sallyport.Invalid, `Give every record a subject, or set otherwise: "suppress".`, "the record names no subject to shift dates for")
		}
		d, rest, ok := parse(value, layout)
		if !ok {
			return unreadable(dst, suppress, "a value is no date of the expected form")
		}
		if offset == 0 || string(last) != string(subject) {
			mac.Reset()
			mac.Write(subject)
			offset = draw(mac.Sum(sum[:0]), days)
			last = append(last[:0], subject...)
		}
		n := d.number() + offset
		moved := dayOf(max(n, 0))
		if n < 0 || moved.year < 1 || moved.year > 9999 {
			return unreadable(dst, suppress, "a date leaves the calendar when it is moved")
		}
		if layout != "" {
			t, err := time.Parse(layout, string(value))
			if err != nil {
				return unreadable(dst, suppress, "a value is no date of the expected form")
			}
			return t.AddDate(0, 0, offset).AppendFormat(dst, layout), nil
		}
		return append(appendDay(dst, moved), rest...), nil
	}), nil
}

// draw maps 8 secret bytes to an offset from -days to days without 0. The
// modulo's bias is below 2^-46.
func draw(sum []byte, days int) int {
	n := int(binary.BigEndian.Uint64(sum) % uint64(2*days))
	if n < days {
		return n - days
	}
	return n - days + 1
}
