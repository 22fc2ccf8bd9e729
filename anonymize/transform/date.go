package transform

import (
	"time"

	"sallyport/anonymize"
)

// Date coarsens a date to its year ("2021"), quarter ("2021-Q1"), month
// ("2021-03") or ISO week ("2021-W05"; the week's year). It reads ISO 8601
// dates, with or without a time of day, or what layout says in the terms of
// Go's time package ("02.01.2006").
type Date struct{}

var _ anonymize.Transform = Date{}

func (Date) Name() string { return "date" }
func (Date) Doc() string {
	return `a date made coarser; to (year, quarter, month or week), layout (ISO 8601), otherwise ("error")`
}

func (Date) Traits() anonymize.Traits { return anonymize.Traits{Opaque: true, Shared: true} }

func (Date) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	a := read("date", args)
	to := a.choice("to", nil, "year", "quarter", "month", "week")
	layout := a.layout()
	suppress := a.suppress()
	if err := a.done(); err != nil {
		return nil, err
	}
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		d, _, ok := parse(value, layout)
		if !ok {
			return unreadable(dst, suppress, "a value is no date of the expected form")
		}
		if to == "week" {
			y, w := time.Date(d.year, time.Month(d.month), d.day, 0, 0, 0, 0, time.UTC).ISOWeek()
			dst = append(appendPadded(dst, y, 4), "-W"...)
			return appendPadded(dst, w, 2), nil
		}
		dst = appendPadded(dst, d.year, 4)
		switch to {
		case "quarter":
			dst = append(dst, '-', 'Q', byte('1'+(d.month-1)/3))
		case "month":
			dst = appendPadded(append(dst, '-'), d.month, 2)
		}
		return dst, nil
	}), nil
}

// layout reads the argument layout: empty for ISO 8601, else one that tells
// year, month and day.
func (a *arguments) layout() string {
	layout := a.text("layout", ptr(""))
	if layout == "" || a.err != nil {
		return ""
	}
	probe := time.Date(2019, 11, 23, 0, 0, 0, 0, time.UTC)
	back, err := time.Parse(layout, probe.Format(layout))
	if err != nil || back.Year() != 2019 || back.Month() != 11 || back.Day() != 23 {
		a.fail("layout", "must show year, month and day of Go's reference time, for example \"02.01.2006\"")
	}
	return layout
}

// parse reads a date by layout, or ISO 8601 where there is none.
func parse(value []byte, layout string) (day, []byte, bool) {
	if layout == "" {
		return parseDay(value)
	}
	t, err := time.Parse(layout, string(value))
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return day{}, nil, false
	}
	return day{t.Year(), int(t.Month()), t.Day()}, nil, true
}
