package ordered_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sallyport/internal/ordered"
)

type job struct{ n, squared int }

// However the workers take turns, results come in order, and each once.
func TestInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs, workers := rapid.IntRange(1, 60).Draw(t, "jobs"), rapid.IntRange(1, 6).Draw(t, "workers")
		fail := rapid.IntRange(0, 2*jobs).Draw(t, "fails at")
		where := rapid.SampledFrom([]string{"cut", "work", "use", "nowhere"}).Draw(t, "where")
		mark := errors.New("mark")
		at := func(place string, n int) error {
			if place == where && n == fail {
				return mark
			}
			return nil
		}
		next, released := 0, 0
		var do []func(*job) error
		for range workers {
			do = append(do, func(j *job) error {
				j.squared = j.n * j.n
				return at("work", j.n)
			})
		}
		var got []int
		err := ordered.Run(do, func(j *job) (bool, error) {
			if err := at("cut", next); err != nil {
				return false, err
			}
			j.n = next
			next++
			return next < jobs, nil
		}, func(j *job) error {
			if err := at("use", j.n); err != nil {
				return err
			}
			got = append(got, j.squared)
			return nil
		}, func(*job) { released++ })
		if cut := min(next, jobs); released != cut {
			t.Fatalf("%d released of %d that were cut", released, cut)
		}
		want := jobs
		if where != "nowhere" && fail < jobs {
			want = fail
			if !errors.Is(err, mark) {
				t.Fatalf("got %v", err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		var all []int
		for n := range want {
			all = append(all, n*n)
		}
		if !slices.Equal(got, all) {
			t.Fatalf("used %v, want %v", got, all)
		}
	})
}

// A slow user does not let the cutter run ahead without end.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := 0
		work := []func(*job) error{func(*job) error { return nil }, func(*job) error { return nil }}
		used := 0
		err := ordered.Run(work, func(j *job) (bool, error) {
			cut++
			return cut < 100, nil
		}, func(*job) error {
			time.Sleep(time.Second) // of the test's own clock
			synctest.Wait()
			if used++; cut > used+5 {
				t.Errorf("%d cut when %d were used", cut, used)
			}
			return nil
		}, nil)
		if err != nil || used != 100 {
			t.Errorf("%d used, %v", used, err)
		}
	})
}
