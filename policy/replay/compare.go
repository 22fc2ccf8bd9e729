package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport"
	"sallyport/policy"
)

// change is one thing in which two answers that both allow differ.
type change struct {
	kind, name    string
	before, after string
	judgment
}

// compare lists in what two allowing verdicts differ, by kind and name.
func compare(before, after policy.Verdict) []change {
	var out []change
	add := func(kind, name, a, b string, j judgment) {
		if j.Direction != Same {
			out = append(out, change{kind, name, a, b, j})
		}
	}
	if before.Destination != after.Destination {
		j := judgment{Stronger, "the data stay inside"}
		if after.Destination == sallyport.Outside {
			j = judgment{Weaker, "the data may leave"}
		}
		add("destination", "", string(before.Destination), string(after.Destination), j)
	}
	a, b := byColumn(before.Obligations), byColumn(after.Obligations)
	for _, column := range union(a, b) {
		x, y := maskOf(a[column]), maskOf(b[column])
		add("mask", column, x.String(), y.String(), compareMasks(x, y))
	}
	rows(before.Rows, after.Rows, add)
	limits(before, after, add)
	return out
}

func byColumn(list []sallyport.Obligation) map[string]*sallyport.Obligation {
	m := make(map[string]*sallyport.Obligation, len(list))
	for i := range list {
		m[list[i].Column] = &list[i]
	}
	return m
}

// union returns the keys of both, sorted.
func union[V any](a, b map[string]V) []string {
	var all []string
	for k := range a {
		all = append(all, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	return all
}

type adder func(kind, name, before, after string, j judgment)

// rows compares row filters, all of which a record must pass.
func rows(before, after []sallyport.RowFilter, add adder) {
	index := func(list []sallyport.RowFilter) map[string][]string {
		m := map[string][]string{}
		for _, f := range list {
			m[f.Column] = f.In
		}
		return m
	}
	a, b := index(before), index(after)
	for _, column := range union(a, b) {
		was, had := a[column]
		is, has := b[column]
		j := judgment{Stronger, "only some records leave"}
		switch {
		case had && has:
			j = subset(was, is, "fewer records leave", "more records leave", "other records leave")
		case had:
			j = judgment{Weaker, "all records leave"}
		}
		add("rows", column, filterText(was, had), filterText(is, has), j)
	}
}

// subset compares two sets of which a smaller one is stronger.
func subset(before, after []string, stronger, weaker, other string) judgment {
	within := func(a, b []string) bool {
		has := make(map[string]bool, len(b))
		for _, x := range b {
			has[x] = true
		}
		return !slices.ContainsFunc(a, func(x string) bool { return !has[x] })
	}
	fewer, more := within(after, before), within(before, after)
	switch {
	case fewer && more:
		return judgment{Same, ""}
	case fewer:
		return judgment{Stronger, stronger}
	case more:
		return judgment{Weaker, weaker}
	}
	return judgment{Changed, other}
}

// filterText is short, and another text for another list.
func filterText(in []string, there bool) string {
	switch {
	case !there:
		return "all"
	case len(in) > 8:
		raw, _ := json.Marshal(in) // strings always encode
		return fmt.Sprintf("in %d values (%s)", len(in), sallyport.DigestOf(raw).Short())
	}
	return "in " + strings.Join(in, ", ")
}

func limits(before, after policy.Verdict, add adder) {
	a, b := before.Limits, after.Limits
	number := func(name string, a, b int64, moreIsStronger bool, text func(int64) string) {
		n := 0
		switch {
		case b > a:
			n = 1
		case b < a:
			n = -1
		}
		up := "higher"
		if n < 0 {
			up = "lower"
		}
		if !moreIsStronger {
			n = -n
		}
		add("limit", name, text(a), text(b), direction(n, up, up))
	}
	plain := func(n int64) string { return strconv.FormatInt(n, 10) }
	money := func(n int64) string { return sallyport.Money(n).String() }
	number("budget", int64(a.Budget), int64(b.Budget), false, money)
	number("copies", int64(a.Copies), int64(b.Copies), true, plain)
	number("key_ttl", int64(a.KeyTTL), int64(b.KeyTTL), false, seconds)
	if a.MaxUnique != b.MaxUnique {
		n, why := 1, "lower"
		if b.MaxUnique > a.MaxUnique {
			n, why = -1, "higher"
		}
		share := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
		add("limit", "max_unique", share(a.MaxUnique), share(b.MaxUnique), direction(n, why, why))
	}
	number("min_class", a.MinClass, b.MinClass, true, plain)
	number("price", int64(a.Price), int64(b.Price), false, money)
	number("reviews", int64(a.Reviews), int64(b.Reviews), true, plain)
	// Inside the data are where they always are: regions speak of the outside.
	if before.Destination == sallyport.Outside && after.Destination == sallyport.Outside {
		add("limit", "regions", regionText(a.Regions), regionText(b.Regions), regions(a.Regions, b.Regions))
	}
}

func seconds(n int64) string {
	s := (time.Duration(n) * time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// regions compares lists of which an empty one means anywhere.
func regions(before, after []string) judgment {
	switch {
	case len(before) == 0 && len(after) == 0:
		return judgment{Same, ""}
	case len(after) == 0:
		return judgment{Weaker, "anywhere"}
	case len(before) == 0:
		return judgment{Stronger, "no longer anywhere"}
	}
	return subset(before, after, "fewer regions", "more regions", "other regions")
}

func regionText(list []string) string {
	if len(list) == 0 {
		return "anywhere"
	}
	return strings.Join(slices.Sorted(slices.Values(list)), ", ")
}

// difference names what a reproduced verdict has otherwise than the recorded.
func difference(recorded, now policy.Verdict) (string, error) {
	var names []string
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"allow", recorded.Allow, now.Allow}, {"reasons", recorded.Reasons, now.Reasons}, {"rules", recorded.Rules, now.Rules},
		{"destination", recorded.Destination, now.Destination}, {"obligations", recorded.Obligations, now.Obligations},
		{"rows", recorded.Rows, now.Rows}, {"limits", recorded.Limits, now.Limits},
		{"policy", recorded.Policy, now.Policy}, {"data", recorded.Data, now.Data},
	} {
		a, err := json.Marshal(part.a)
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(part.b)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(a, b) {
			names = append(names, part.name)
		}
	}
	return strings.Join(names, ", "), nil
}
