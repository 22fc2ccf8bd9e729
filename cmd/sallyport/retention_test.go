package main

import (
	"errors"
	"testing"
	"time"

	"sallyport/audit"
)

func TestAges(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"1d": day, "90d": 90 * day, "10y": 3650 * day, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute,
		"": 0, "0d": 0, "-1d": 0, "1.5y": 0, "300y": 0, "d": 0, "soon": 0, "0s": 0, "-1h": 0, "99999999y": 0,
	} {
		var a Age
		err := a.UnmarshalYAML(func(v any) error { *v.(*string) = s; return nil })
		if time.Duration(a) != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %v, %v", s, time.Duration(a), err)
		}
	}
	if err := new(Age).UnmarshalYAML(func(any) error { return errors.New("a list") }); err == nil {
		t.Error("a list is an age")
	}
}

func TestRetentionInTheLogsWords(t *testing.T) {
	c := Config{Retention: map[string]Age{"*": Age(time.Hour), "look": Age(time.Minute)}}
	got := c.retention()
	if len(got) != 2 || got[0] != (audit.Retention{Age: time.Hour}) || got[1] != (audit.Retention{Step: "look", Age: time.Minute}) {
		t.Errorf("%+v", got)
	}
	if err := audit.CheckRetention(got); err != nil {
		t.Error(err)
	}
	for _, step := range []string{"activate policy", "sign off log", "erase records"} {
		if audit.CheckRetention([]audit.Retention{{Step: step, Age: time.Hour}}) == nil {
			t.Errorf("records of %q may go by age", step)
		}
	}
}
