// Package issuertest is the conformance suite of [seal.Issuer].
package issuertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport"
	"sallyport/seal"
)

// clock is a clock that only a test moves. Safe for concurrent use.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Run runs the suite. open makes a fresh, empty issuer that reads the time
// from now, and cleans up after itself with t.Cleanup. An issuer that is also
// a [seal.Deriver] is tested as one.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) seal.Issuer) {
	start := func(t *testing.T) (seal.Issuer, *clock) {
		c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		return open(t, c.now), c
	}
	for name, test := range map[string]func(*testing.T, seal.Issuer, *clock){
		"Issue":       testIssue,
		"Idempotent":  testIdempotent,
		"Expiry":      testExpiry,
		"Destroy":     testDestroy,
		"Unknown":     testUnknown,
		"BadInput":    testBadInput,
		"List":        testList,
		"Concurrency": testConcurrency,
		"Canceled":    testCanceled,
		"Derive":      testDerive,
	} {
		t.Run(name, func(t *testing.T) {
			i, c := start(t)
			test(t, i, c)
		})
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantKind(t *testing.T, err error, kind sallyport.Kind) {
	t.Helper()
	if _, ok := errors.AsType[*sallyport.Error](err); !ok || sallyport.KindOf(err) != kind {
		t.Fatalf("error %v, want one of kind %q", err, kind)
	}
}

func testIssue(t *testing.T, i seal.Issuer, c *clock) {
	ctx := t.Context()
	a := must(i.Issue(ctx, "job-1", time.Hour))(t)
	if a.ID == "" || a.Release != "job-1" || !a.Issued.Equal(c.now()) || !a.Until.Equal(c.now().Add(time.Hour)) || a.Destroyed != nil || a.Reason != "" {
		t.Fatalf("lease %+v", a)
	}
	var file bytes.Buffer
	w := must(seal.Writer(&file, a.Recipient))(t)
	if _, err := io.WriteString(w, "for this release"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	key := must(i.Fetch(ctx, a.ID))(t)
	if key.Recipient() != a.Recipient {
		t.Fatal("the key is not that of the lease")
	}
	r := must(seal.Reader(&file, key))(t)
	if got := must(io.ReadAll(r))(t); string(got) != "for this release" {
		t.Fatalf("opened %q", got)
	}
	b := must(i.Issue(ctx, "job-2", time.Hour))(t)
	if b.ID == a.ID || b.Recipient == a.Recipient {
		t.Fatal("two releases share a key")
	}
}

func testIdempotent(t *testing.T, i seal.Issuer, c *clock) {
	ctx := t.Context()
	a := must(i.Issue(ctx, "job-1", time.Hour))(t)
	c.add(time.Minute)
	b := must(i.Issue(ctx, "job-1", 24*time.Hour))(t)
	if b.ID != a.ID || b.Recipient != a.Recipient || !b.Until.Equal(a.Until) || !b.Issued.Equal(a.Issued) {
		t.Fatalf("asked again:\n%+v\n%+v", a, b)
	}
	if n := len(must(i.List(ctx))(t)); n != 1 {
		t.Fatalf("%d leases", n)
	}
}

func testExpiry(t *testing.T, i seal.Issuer, c *clock) {
	ctx := t.Context()
	a := must(i.Issue(ctx, "job-1", time.Hour))(t)
	c.add(time.Hour - time.Nanosecond)
	must(i.Fetch(ctx, a.ID))(t)
	c.add(time.Nanosecond)
	_, err := i.Fetch(ctx, a.ID)
	wantKind(t, err, sallyport.NotFound)
	_, err = i.Issue(ctx, "job-1", time.Hour)
	wantKind(t, err, sallyport.Conflict)
	if err := i.Destroy(ctx, a.ID, "expired"); err != nil {
		t.Fatal(err)
	}
	list := must(i.List(ctx))(t)
	if len(list) != 1 || list[0].Destroyed == nil {
		t.Fatalf("list %+v", list)
	}
}

func testDestroy(t *testing.T, i seal.Issuer, c *clock) {
	ctx := t.Context()
	a := must(i.Issue(ctx, "job-1", time.Hour))(t)
	b := must(i.Issue(ctx, "job-2", time.Hour))(t)
	c.add(time.Minute)
	at := c.now()
	for range 2 { // the second time is no error and changes nothing
		if err := i.Destroy(ctx, a.ID, "refused at release"); err != nil {
			t.Fatal(err)
		}
		_, err := i.Fetch(ctx, a.ID)
		wantKind(t, err, sallyport.NotFound)
		_, err = i.Issue(ctx, "job-1", time.Hour)
		wantKind(t, err, sallyport.Conflict)
		list := must(i.List(ctx))(t)
		k := slices.IndexFunc(list, func(l seal.Lease) bool { return l.ID == a.ID })
		if len(list) != 2 || k < 0 {
			t.Fatalf("no tombstone in %+v", list)
		}
		l := list[k]
		if l.Destroyed == nil || !l.Destroyed.Equal(at) || l.Reason != "refused at release" || l.Release != "job-1" || l.Recipient != a.Recipient {
			t.Fatalf("tombstone %+v", l)
		}
		c.add(time.Minute)
	}
	if err := i.Destroy(ctx, a.ID, "another reason"); err != nil {
		t.Fatal(err)
	}
	for _, l := range must(i.List(ctx))(t) {
		if l.ID == a.ID && l.Reason != "refused at release" {
			t.Fatal("the reason was rewritten")
		}
	}
	if k := must(i.Fetch(ctx, b.ID))(t); k.Recipient() != b.Recipient {
		t.Fatal("another lease suffered")
	}
}

func testUnknown(t *testing.T, i seal.Issuer, _ *clock) {
	ctx := t.Context()
	a := must(i.Issue(ctx, "job-1", time.Hour))(t)
	for _, id := range []string{"", "x", "../x", "/etc/passwd", "job-1", a.ID + "x", a.ID[:len(a.ID)-1], "./" + a.ID, a.ID + "\x00", strings.Repeat("a", 10000)} {
		_, err := i.Fetch(ctx, id)
		wantKind(t, err, sallyport.NotFound)
		wantKind(t, i.Destroy(ctx, id, "r"), sallyport.NotFound)
	}
	must(i.Fetch(ctx, a.ID))(t)
}

func testBadInput(t *testing.T, i seal.Issuer, _ *clock) {
	ctx := t.Context()
	for _, ttl := range []time.Duration{0, -1} {
		_, err := i.Issue(ctx, "job-1", ttl)
		wantKind(t, err, sallyport.Invalid)
	}
	for _, release := range []string{"", "a\nb", "a\x00", "\xff"} {
		_, err := i.Issue(ctx, release, time.Hour)
		wantKind(t, err, sallyport.Invalid)
	}
	if list := must(i.List(ctx))(t); len(list) != 0 {
		t.Fatalf("refused requests left %+v", list)
	}
	// Strange but good: a release is a name, not a path.
	for _, release := range []string{"../../x", "/", "Größe ☃", "a b", "%2e"} {
		a := must(i.Issue(ctx, release, time.Hour))(t)
		if k := must(i.Fetch(ctx, a.ID))(t); k.Recipient() != a.Recipient {
			t.Fatal("another key")
		}
	}
}

func testList(t *testing.T, i seal.Issuer, c *clock) {
	ctx := t.Context()
	if list := must(i.List(ctx))(t); len(list) != 0 {
		t.Fatalf("a fresh issuer lists %+v", list)
	}
	var want []string
	for n := range 5 {
		l := must(i.Issue(ctx, fmt.Sprintf("job-%d", 9-n), time.Hour))(t)
		want = append(want, l.ID)
		c.add(time.Second)
	}
	if err := i.Destroy(ctx, want[1], "r"); err != nil {
		t.Fatal(err)
	}
	list := must(i.List(ctx))(t)
	var got []string
	for _, l := range list {
		got = append(got, l.ID)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("order %v, want %v", got, want)
	}
	b := must(json.Marshal(list))(t)
	if strings.Contains(strings.ToUpper(string(b)), "SECRET-KEY") {
		t.Fatal("a lease holds a secret")
	}
	*list[1].Destroyed = time.Time{} // a caller's copy is his own
	list[0].Recipient = "x"
	again := must(i.List(ctx))(t)
	if again[0].Recipient == "x" || again[1].Destroyed.IsZero() {
		t.Fatal("the list shares memory with the issuer")
	}
}

func testConcurrency(t *testing.T, i seal.Issuer, _ *clock) {
	ctx := t.Context()
	const workers, releases = 8, 4
	ids := make([][releases]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range releases {
				l, err := i.Issue(ctx, fmt.Sprintf("job-%d", r), time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				ids[w][r] = l.ID
				if k, err := i.Fetch(ctx, l.ID); err != nil || k.Recipient() != l.Recipient {
					t.Error("another key", err)
				}
			}
		})
	}
	wg.Wait()
	for w := range ids {
		if ids[w] != ids[0] {
			t.Fatal("one release was issued two keys")
		}
	}
	for w := range workers {
		wg.Go(func() {
			for r := range releases {
				if err := i.Destroy(ctx, ids[0][r], fmt.Sprint(w)); err != nil {
					t.Error(err)
				}
				_, err := i.Fetch(ctx, ids[0][r])
				if sallyport.KindOf(err) != sallyport.NotFound || err == nil {
					t.Error("fetched after Destroy returned", err)
				}
			}
		})
	}
	wg.Wait()
}

func testCanceled(t *testing.T, i seal.Issuer, _ *clock) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Issue(ctx, "job-1", time.Hour); err == nil {
		t.Fatal("issued for a caller who gave up")
	}
	if list := must(i.List(t.Context()))(t); len(list) != 0 {
		t.Fatalf("left %+v", list)
	}
}

func testDerive(t *testing.T, i seal.Issuer, c *clock) {
	d, ok := i.(seal.Deriver)
	if !ok {
		t.Skip("not a Deriver")
	}
	ctx := t.Context()
	seen := map[string]string{}
	for _, p := range []string{"a", "b", "ab", "a/b", "pseudonym/project-7", "pseudonym/project-8", strings.Repeat("x", 500)} {
		one := must(d.Derive(ctx, p))(t)
		c.add(time.Hour)
		two := must(d.Derive(ctx, p))(t)
		if len(one) != 32 || !bytes.Equal(one, two) {
			t.Fatalf("%s: %d bytes, stable: %v", p, len(one), bytes.Equal(one, two))
		}
		if q, dup := seen[string(one)]; dup {
			t.Fatalf("%s and %s give the same secret", p, q)
		}
		seen[string(one)] = p
		clear(one)
		if bytes.Equal(one, must(d.Derive(ctx, p))(t)) {
			t.Fatal("the secret is shared memory")
		}
	}
	_, err := d.Derive(ctx, "")
	wantKind(t, err, sallyport.Invalid)
}
