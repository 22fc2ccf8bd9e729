package replay

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sallyport"
)

// Direction says how an answer compares with the one before it.
type Direction string

// Directions. One that nobody can vouch for is Changed, and counted with Weaker.
const (
	Weaker   Direction = "weaker"   // more can be seen or done
	Changed  Direction = "changed"  // neither can be said to tell less
	Stronger Direction = "stronger" // less can be seen or done
	Neutral  Direction = "neutral"  // written differently, tells no more
	Same     Direction = "same"
)

// Loosens reports whether a change counts as less strict.
func (d Direction) Loosens() bool { return d == Weaker || d == Changed }

// judgment is a direction with a reason where it needs one.
type judgment struct {
	Direction Direction
	Why       string
}

// both joins what is said about the parts of one answer: part weaker and part
// stronger is no order.
func both(a, b judgment) judgment {
	why := a.Why
	if b.Why != "" && b.Why != why {
		why = strings.TrimPrefix(why+"; "+b.Why, "; ")
	}
	rank := []Direction{Same, Neutral, Stronger, Weaker, Changed}
	x, y := max(slices.Index(rank, a.Direction), slices.Index(rank, b.Direction)), min(slices.Index(rank, a.Direction), slices.Index(rank, b.Direction))
	if rank[x] == Weaker && rank[y] == Stronger {
		return judgment{Changed, why}
	}
	return judgment{rank[x], why}
}

// The verbs with an order of their own; every other verb stands between
// replace, which tells nothing but that a value is there, and keep.
const (
	withheld = "" // no obligation, or drop: the column does not leave
	keep     = "keep"
	replace  = "replace"
)

// mask is what becomes of a column.
type mask struct {
	verb string
	args map[string]any
}

func maskOf(o *sallyport.Obligation) mask {
	switch {
	case o == nil || o.Verb == "drop":
		return mask{verb: withheld}
	case o.Verb == "":
		return mask{verb: keep}
	}
	return mask{o.Verb, o.Args}
}

func (m mask) String() string {
	if m.verb == withheld {
		return "withheld"
	}
	if len(m.args) == 0 {
		return m.verb
	}
	parts := make([]string, 0, len(m.args))
	for _, k := range slices.Sorted(maps.Keys(m.args)) {
		v, err := json.Marshal(m.args[k])
		if err != nil {
			v = []byte("?")
		}
		parts = append(parts, k+" "+strings.Trim(string(v), `"`))
	}
	return m.verb + " (" + strings.Join(parts, ", ") + ")"
}

// compareMasks says whether after tells less of a value than before. Two masks
// have an order where one can be computed from the other: then who sees the one
// learns nothing from it that the other would not tell.
func compareMasks(before, after mask) judgment {
	switch {
	case before.verb == after.verb && reflect.DeepEqual(before.args, after.args):
		return judgment{Same, ""}
	case before.verb == after.verb:
		return compareArgs(before.verb, before.args, after.args)
	case after.verb == withheld:
		return judgment{Stronger, "the column does not leave any more"}
	case before.verb == withheld:
		return judgment{Weaker, "the column did not leave before"}
	case after.verb == keep:
		return judgment{Weaker, "the values leave as they are"}
	case before.verb == keep:
		return judgment{Stronger, "the values left as they are"}
	case after.verb == replace:
		return judgment{Stronger, "only a constant leaves"}
	case before.verb == replace:
		return judgment{Weaker, "only a constant left before"}
	}
	return judgment{Changed, before.verb + " and " + after.verb + " have no order"}
}

// order compares one argument of a verb; a missing argument is nil.
type order func(before, after any) judgment

// verbs are the arguments whose order is known. Arguments of one verb that
// matter only together are joined in compareArgs.
var verbs = map[string]map[string]order{
	"replace":    {"value": neutral("another constant")},
	"generalize": {"width": wider, "origin": other("the ranges begin elsewhere"), "otherwise": strictness},
	"date":       {"to": coarserDate, "layout": other("dates are read in another way"), "otherwise": strictness},
	"shift_date": {"days": number(+1, "moved further", "moved less far"), "layout": other("dates are read in another way"), "otherwise": strictness},
	"prefix":     {"length": number(-1, "fewer characters stay", "more characters stay"), "fill": fill},
	"cap": {"top": bound(-1), "bottom": bound(+1), "label": neutral("another label"), "bottom_label": neutral("another label"),
		"otherwise": strictness},
	"hierarchy": {"level": number(+1, "a farther ancestor", "a nearer ancestor"), "file": other("another hierarchy"), "unknown": unknown},
	"mask":      {"keep_first": kept, "keep_last": kept, "char": neutral("another mark")},
	"pseudonym": {"length": neutral("tokens of another length"), "prefix": neutral("another prefix"), "scope": scope},
	"ff1": {"alphabet": other("tokens of another alphabet"), "length": oneLength, "keep": keptCharacters, "tweak": scope, "scope": scope,
		"otherwise": strictness},
	"encrypt": {"prefix": neutral("another prefix"), "encoding": neutral("tokens in other characters"), "scope": scope},
	"round":   {"places": neutral("numbers written with other decimals"), "otherwise": strictness},
	"microaggregate": {"k": largerGroups, "groups": other("the groups are others"), "places": other("means are rounded in another way"),
		"otherwise": strictness},
	"zip3":  {"vintage": census, "otherwise": strictness},
	"age90": {"otherwise": strictness},
}

func compareArgs(verb string, before, after map[string]any) judgment {
	known := verbs[verb]
	if known == nil {
		return judgment{Changed, "the order of " + verb + "'s arguments is not known"}
	}
	names := map[string]bool{}
	for _, args := range []map[string]any{before, after} {
		for name := range args {
			names[name] = true
		}
	}
	j := judgment{Same, ""}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := before[name], after[name]
		if verb == "round" && name == "to" {
			continue // below, with the places that stand for it where it is left out
		}
		if reflect.DeepEqual(a, b) {
			continue
		}
		compare := known[name]
		if compare == nil {
			return judgment{Changed, "argument " + name + " of " + verb + " is not known"}
		}
		j = both(j, compare(a, b))
	}
	if verb == "round" {
		j = both(j, rounder(multiple(before), multiple(after)))
	}
	if verb == "mask" && j.Direction == Stronger && shows(after) {
		// A value not longer than what would be kept is covered whole.
		return judgment{Changed, "fewer characters stay, but short values that were covered whole now show some"}
	}
	return j
}

// shows reports whether a mask leaves any character.
func shows(args map[string]any) bool {
	for _, name := range []string{"keep_first", "keep_last"} {
		if x, ok := args[name]; ok && x != 0.0 {
			return true
		}
	}
	return false
}

func neutral(why string) order { return func(_, _ any) judgment { return judgment{Neutral, why} } }

// other is for an argument whose values have no order. Left out is the zero.
func other(why string) order {
	zero := func(x any) bool { return x == nil || x == "" || x == 0.0 }
	return func(before, after any) judgment {
		if zero(before) && zero(after) {
			return judgment{Neutral, ""}
		}
		return judgment{Changed, why}
	}
}

// number orders numbers that must be there: up is +1 where more is stronger.
func number(up int, stronger, weaker string) order {
	return func(before, after any) judgment {
		a, b := rational(before), rational(after)
		if a == nil || b == nil {
			return judgment{Changed, "an argument is not a number"}
		}
		return direction(b.Cmp(a)*up, stronger, weaker)
	}
}

// direction reads a comparison: positive is stronger.
func direction(n int, stronger, weaker string) judgment {
	switch {
	case n > 0:
		return judgment{Stronger, stronger}
	case n < 0:
		return judgment{Weaker, weaker}
	}
	return judgment{Same, ""}
}

// rational reads a number as the shortest decimal that denotes it, which is how
// the verbs read it.
func rational(x any) *big.Rat {
	f, ok := x.(float64)
	if !ok {
		return nil
	}
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	if !ok {
		return nil
	}
	return r
}

// wider orders the widths of ranges. Ranges of which one does not lie within
// one of the others are no generalization of them: beside an earlier release
// they narrow a value down. That they begin at the same place is for origin.
func wider(before, after any) judgment {
	a, b := rational(before), rational(after)
	if a == nil || b == nil || a.Sign() <= 0 || b.Sign() <= 0 {
		return judgment{Changed, "a width is not a number above 0"}
	}
	if b.Cmp(a) < 0 {
		return judgment{Weaker, "narrower ranges"}
	}
	if !new(big.Rat).Quo(b, a).IsInt() {
		return judgment{Changed, "wider ranges that cut across the former: with an earlier release they narrow a value down"}
	}
	return judgment{Stronger, "wider ranges"}
}

// multiple is what round rounds to: without it, to the last of its places.
func multiple(args map[string]any) any {
	if to, ok := args["to"]; ok {
		return to
	}
	places, ok := args["places"].(float64)
	if !ok || places != math.Trunc(places) || places < 0 || places > 18 {
		return nil
	}
	return math.Pow10(-int(places))
}

// rounder orders the multiples that numbers are rounded to. What rounds to 50
// can be told from what rounds to 10, but not from what rounds to 25 or to 5 in
// the middle: only a multiple of the former by 1, 5, 9, … has its ends, and the
// ties at them, where the former had some.
func rounder(before, after any) judgment {
	a, b := rational(before), rational(after)
	if a == nil || b == nil || a.Sign() <= 0 || b.Sign() <= 0 {
		return judgment{Changed, "what is rounded to is not a number above 0"}
	}
	switch b.Cmp(a) {
	case 0:
		return judgment{Same, ""}
	case -1:
		return judgment{Weaker, "rounded less"}
	}
	q := new(big.Rat).Quo(b, a)
	if !q.IsInt() || new(big.Int).And(q.Num(), big.NewInt(3)).Cmp(big.NewInt(1)) != 0 {
		return judgment{Changed, "rounded more, but across the former: with an earlier release that narrows a value down"}
	}
	return judgment{Stronger, "rounded more"}
}

// largerGroups: larger groups are not made of the smaller ones.
func largerGroups(before, after any) judgment {
	a, b := rational(before), rational(after)
	switch {
	case a == nil || b == nil:
		return judgment{Changed, "the groups are made in another way"}
	case b.Cmp(a) < 0:
		return judgment{Weaker, "smaller groups"}
	}
	return judgment{Changed, "larger groups that cut across the former: with an earlier release they narrow a value down"}
}

// census orders the censuses that say which postal areas are small. Those of
// 2010 and 2020 name the same; that of 2000 names some that these do not, and
// these some that it does not.
func census(before, after any) judgment {
	year := func(x any) string {
		if f, ok := x.(float64); ok {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
		s, _ := x.(string)
		return s
	}
	alike := []string{"2010", "2020"}
	a, b := year(before), year(after)
	if a == b && a != "" || slices.Contains(alike, a) && slices.Contains(alike, b) {
		return judgment{Neutral, "the same postal areas"}
	}
	return judgment{Changed, "other postal areas are shown"}
}

// oneLength: tokens of values of another length are refused or suppressed.
func oneLength(before, after any) judgment {
	free := func(x any) bool { return x == nil || x == 0.0 }
	switch {
	case free(before) && free(after):
		return judgment{Neutral, ""}
	case free(before):
		return judgment{Stronger, "only values of one length leave"}
	case free(after):
		return judgment{Weaker, "values of any length leave"}
	}
	return judgment{Changed, "values of another length leave"}
}

// keptCharacters: a character that is not of the alphabet stays, or its value
// is refused or suppressed.
func keptCharacters(before, after any) judgment {
	characters := func(x any) []string {
		s, _ := x.(string)
		return strings.Split(s, "")
	}
	j := subset(characters(before), characters(after), "fewer characters stay", "more characters stay", "other characters stay")
	if j.Direction == Same {
		j.Direction = Neutral
	}
	return j
}

// coarserDate: months make quarters and those years; weeks make none of them.
func coarserDate(before, after any) judgment {
	steps := []any{"month", "quarter", "year"}
	a, b := slices.Index(steps, before), slices.Index(steps, after)
	switch {
	case a < 0 || b < 0:
		return judgment{Changed, fmt.Sprintf("%v and %v cut across each other", before, after)}
	case b > a:
		return judgment{Stronger, "coarser dates"}
	}
	return judgment{Weaker, "finer dates"}
}

// bound orders an end of top or bottom coding; up is +1 where higher is
// stronger. Without a bound nothing is coded.
func bound(up int) order {
	within := number(up, "more values are coded", "fewer values are coded")
	return func(before, after any) judgment {
		switch {
		case after == nil:
			return judgment{Weaker, "a bound is gone"}
		case before == nil:
			return judgment{Stronger, "a further bound"}
		}
		return within(before, after)
	}
}

// strictness: a value that cannot be read ends the job, or is suppressed and
// the others leave.
func strictness(before, after any) judgment {
	lax := func(x any) bool { return x == "suppress" }
	switch {
	case lax(after) && !lax(before):
		return judgment{Weaker, "a value that cannot be read no longer ends the job"}
	case lax(before) && !lax(after):
		return judgment{Stronger, "a value that cannot be read ends the job"}
	}
	return judgment{Neutral, ""}
}

func unknown(before, after any) judgment {
	lax := func(x any) bool { return x != nil && x != "" }
	switch {
	case lax(after) && !lax(before):
		return judgment{Weaker, "a value that the hierarchy does not know no longer ends the job"}
	case lax(before) && !lax(after):
		return judgment{Stronger, "a value that the hierarchy does not know ends the job"}
	}
	return judgment{Neutral, "another word for unknown values"}
}

// fill keeps a value's length visible.
func fill(before, after any) judgment {
	shows := func(x any) bool { return x != nil && x != "" }
	switch {
	case shows(after) && !shows(before):
		return judgment{Weaker, "the length of a value shows"}
	case shows(before) && !shows(after):
		return judgment{Stronger, "the length of a value does not show any more"}
	}
	return judgment{Neutral, "another character to fill with"}
}

// kept orders how many characters a mask leaves; none is what is left out.
func kept(before, after any) judgment {
	zero := func(x any) *big.Rat {
		if x == nil {
			return new(big.Rat)
		}
		return rational(x)
	}
	a, b := zero(before), zero(after)
	switch {
	case a == nil || b == nil:
		return judgment{Changed, "an argument is not a number"}
	case b.Cmp(a) > 0:
		return judgment{Weaker, "more characters stay"}
	case b.Cmp(a) == 0:
		return judgment{Same, ""}
	}
	return judgment{Stronger, "fewer characters stay"}
}

// scope: tokens of one scope join with each other, those without one with all
// of the project.
func scope(before, after any) judgment {
	none := func(x any) bool { return x == nil || x == "" }
	switch {
	case none(before) && none(after):
		return judgment{Neutral, ""}
	case none(after):
		return judgment{Weaker, "tokens join with other columns"}
	case none(before):
		return judgment{Stronger, "tokens no longer join with other columns"}
	}
	return judgment{Changed, "tokens join with other columns than before"}
}
