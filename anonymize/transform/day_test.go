package transform

import (
	"testing"
	"time"
)

// Every day of the calendar has the number and the date that package time
// gives it.
func TestDaysAreNumberedAsTimeDoes(t *testing.T) {
	at := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	first := day{1, 1, 1}.number()
	for i := 0; at.Year() <= 9999; i++ {
		y, m, d := at.Date()
		want := day{y, int(m), d}
		if n := want.number(); n != first+i || dayOf(n) != want {
			t.Fatalf("%v has number %d, want %d, and back %v", want, n, first+i, dayOf(n))
		}
		at = at.AddDate(0, 0, 1)
	}
}
