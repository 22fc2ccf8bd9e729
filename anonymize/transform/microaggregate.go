package transform

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"sort"

	"sallyport"
	"sallyport/anonymize"
)

// Microaggregate replaces numbers by the mean of a group of at least k similar
// ones, so that no value points at fewer than k records while the column's mean
// stays, but for rounding. The groups are those with the least squared error of
// all (Hansen and Mukherjee, "A polynomial algorithm for optimal univariate
// microaggregation", IEEE TKDE 15(4), 2003, 1043-1044), except that records
// with equal values stay together, so that one value has one result.
//
// It must see the column first: it is an [anonymize.Preparer]. A plan may give
// the groups instead, as [low, high, mean] with both bounds included; then k is
// not needed and nothing is read beforehand. Means are rounded to places
// decimals, ties to even; without places, to as many as the column's values
// have, so that whole numbers stay whole.
//
// k holds for the records that were seen. If some of them are kept back later,
// fewer of a group may leave.
type Microaggregate struct{}

var (
	_ anonymize.Transform = Microaggregate{}
	_ anonymize.Preparer  = Microaggregate{}
)

// maxDistinct bounds the distinct values of a column that is microaggregated:
// about 50 MB.
const maxDistinct = 1 << 19

func (Microaggregate) Name() string { return "microaggregate" }
func (Microaggregate) Doc() string {
	return `the mean of a group of similar numbers; k (the least size, 2 to 1000) or groups ([[low, high, mean], ...]), places (decimals; as the column has), otherwise ("error")`
}

func (Microaggregate) Traits() anonymize.Traits {
	return anonymize.Traits{SameType: true, Shared: true}
}

// Bind gives the verb where the plan gives the groups. Without them it only
// checks the arguments: what it returns asks for [Microaggregate.Prepare].
func (Microaggregate) Bind(args map[string]any, _ anonymize.Env) (anonymize.Apply, error) {
	m, err := readMicroaggregate(args)
	if err != nil {
		return nil, err
	}
	if m.given != nil {
		return m.given.apply(m.suppress), nil
	}
	return func(dst, _, _ []byte) ([]byte, error) {
		return dst, sallyport.Errorf("microaggregate", sallyport.Internal, "", "the column was not read beforehand")
	}, nil
}

func (Microaggregate) Prepare(args map[string]any, _ anonymize.Env) (anonymize.Preparation, error) {
	m, err := readMicroaggregate(args)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// microaggregate is the verb bound to its arguments, and what it has seen.
type microaggregate struct {
	k        int64
	places   int // -1: as the column has
	suppress bool
	given    *groups // of the plan, or made by the first Bind
	counts   map[decimal]int64
}

func readMicroaggregate(args map[string]any) (*microaggregate, error) {
	a := read("microaggregate", args)
	m := &microaggregate{counts: map[decimal]int64{}}
	_, given := args["groups"]
	m.k = int64(a.integer("k", unless(given, 0), 2, 1000))
	m.places = a.integer("places", ptr(-1), 0, maxDigits-1)
	m.given = a.groups("groups", m.places)
	m.suppress = a.suppress()
	return m, a.done()
}

// unless makes an argument required where a condition does not hold.
func unless(condition bool, missing int) *int {
	if condition {
		return &missing
	}
	return nil
}

func (m *microaggregate) Observe(value []byte) error {
	if len(value) == 0 || m.given != nil {
		return nil
	}
	d, ok := parseDecimal(value)
	if !ok {
		if m.suppress {
			return nil
		}
		_, err := unreadable(nil, false, "a value is no plain decimal number")
		return err
	}
	if _, seen := m.counts[d]; !seen && len(m.counts) == maxDistinct {
		return sallyport.Errorf("microaggregate", sallyport.Exhausted, "Round the column or generalize it instead.",
			"the column has more than %d distinct values", maxDistinct)
	}
	m.counts[d]++
	return nil
}

func (m *microaggregate) Bind() (anonymize.Apply, error) {
	if m.given == nil {
		g, err := m.aggregate()
		if err != nil {
			return nil, err
		}
		m.given, m.counts = g, nil
	}
	return m.given.apply(m.suppress), nil
}

// aggregate makes the groups of what was seen.
func (m *microaggregate) aggregate() (*groups, error) {
	g := &groups{}
	for d := range m.counts {
		g.scale = max(g.scale, d.scale)
	}
	values := make([]int64, 0, len(m.counts))
	byValue := make(map[int64]int64, len(m.counts))
	total := int64(0)
	for d, n := range m.counts {
		v, fits := d.at(g.scale)
		if !fits {
			return nil, invalid("Round the column first, or generalize it.", "the column's values are too far apart in scale")
		}
		values = append(values, v)
		byValue[v] = n
		total += n
	}
	if total < m.k {
		if total == 0 || m.suppress {
			return g, nil
		}
		return nil, invalid(`Choose a smaller k, another verb, or set otherwise: "suppress".`, "the column has fewer than k values")
	}
	slices.Sort(values)
	counts := make([]int64, len(values))
	for i, v := range values {
		counts[i] = byValue[v]
	}
	places := m.places
	if places < 0 {
		places = g.scale
	}
	start := 0
	for _, end := range partition(values, counts, m.k) {
		mean, ok := meanOf(values[start:end], counts[start:end], g.scale, places)
		if !ok {
			return nil, invalid("Ask for fewer places.", "a mean has more than %d digits", maxDigits)
		}
		g.list = append(g.list, group{values[start], values[end-1], mean})
		start = end
	}
	return g, nil
}

// partition cuts sorted distinct values, each with the number of its records,
// into runs of at least k records whose squared errors about their means are
// least in sum, and returns where each run ends. There must be k records.
//
// It is the shortest path of Hansen and Mukherjee. A run that could be cut in
// two of k records each need not be looked at, since cutting never makes the
// error larger; so no more than about 2k values before each are.
func partition(values, counts []int64, k int64) []int {
	n := len(values)
	records := make([]int64, n+1) // before each value
	for i, c := range counts {
		records[i+1] = records[i] + c
	}
	cost := make([]float64, n+1)
	from := make([]int32, n+1)
	near := 0 // the last place from which at least k records lie before j
	for j := 1; j <= n; j++ {
		cost[j] = math.Inf(1)
		if records[j] < k {
			continue
		}
		for near+1 < j && records[j]-records[near+1] >= k {
			near++
		}
		var e errorSum
		for i := j - 1; i >= 0; i-- {
			if i < near && records[near]-records[i] >= k {
				break
			}
			// Differences to a value of the run keep what float64 would lose.
			e.add(float64(values[i]-values[j-1]), float64(counts[i]))
			if c := cost[i] + e.squares; i <= near && c < cost[j] {
				cost[j], from[j] = c, int32(i)
			}
		}
	}
	var ends []int
	for j := n; j > 0; j = int(from[j]) {
		ends = append(ends, j)
	}
	slices.Reverse(ends)
	return ends
}

// errorSum is the sum of squared differences to the mean, by West's update
// (Communications of the ACM 22(9), 1979). The conversions keep machines that
// fuse multiplication and addition from having results of their own.
type errorSum struct{ weight, mean, squares float64 }

func (e *errorSum) add(x, weight float64) {
	sum := e.weight + weight
	d := x - e.mean
	r := float64(d * weight / sum)
	e.mean += r
	e.squares += float64(float64(e.weight*d) * r)
	e.weight = sum
}

// meanOf is the mean of values in units of 10^-scale, exactly, then rounded to
// places decimals, ties to even.
func meanOf(values, counts []int64, scale, places int) (string, bool) {
	sum, n, t := new(big.Int), new(big.Int), new(big.Int)
	for i, v := range values {
		c := big.NewInt(counts[i])
		sum.Add(sum, t.Mul(big.NewInt(v), c))
		n.Add(n, c)
	}
	sum.Mul(sum, big.NewInt(pow10[places]))
	n.Mul(n, big.NewInt(pow10[scale]))
	q, r := new(big.Int).DivMod(sum, n, new(big.Int)) // 0 <= r < n
	if c := r.Lsh(r, 1).Cmp(n); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	if !q.IsInt64() || q.Int64() <= -pow10[maxDigits] || q.Int64() >= pow10[maxDigits] {
		return "", false
	}
	return string(appendPlaces(nil, q.Int64(), places, places)), true
}

// groups are ranges of values, in order, and what each becomes.
type groups struct {
	scale int
	list  []group
}

type group struct {
	low, high int64 // in units of 10^-scale, both included
	mean      string
}

func (g *groups) apply(suppress bool) anonymize.Apply {
	return notEmpty(func(dst, value, _ []byte) ([]byte, error) {
		v, exact, ok := parseFloor(value, g.scale)
		if !ok {
			return unreadable(dst, suppress, "a value is no plain decimal number")
		}
		i := sort.Search(len(g.list), func(i int) bool { return g.list[i].low > v }) - 1
		if i < 0 || v > g.list[i].high || v == g.list[i].high && !exact {
			return unreadable(dst, suppress, "a value lies in none of the groups")
		}
		return append(dst, g.list[i].mean...), nil
	})
}

// groups reads [[low, high, mean], ...]; nil if there is none.
func (a *arguments) groups(name string, places int) *groups {
	v, ok := a.get(name, false)
	if !ok || a.err != nil {
		return nil
	}
	list, _ := v.([]any)
	g := &groups{}
	bounds := make([][2]decimal, 0, len(list))
	for _, v := range list {
		row, _ := v.([]any)
		if len(row) != 3 {
			list = nil
			break
		}
		var d [3]decimal
		for i := range row {
			if d[i], ok = decimalOf(row[i]); !ok {
				list = nil
			}
		}
		if places >= 0 && places < d[2].scale {
			a.fail(name, "has a mean of more decimals than \"places\"")
		}
		bounds = append(bounds, [2]decimal{d[0], d[1]})
		g.list = append(g.list, group{mean: string(appendPlaces(nil, d[2].units, d[2].scale, places))})
		g.scale = max(g.scale, d[0].scale, d[1].scale)
	}
	if len(list) == 0 {
		a.fail(name, "must be a list of [low, high, mean]")
		return nil
	}
	for i := range g.list {
		low, fits1 := bounds[i][0].at(g.scale)
		high, fits2 := bounds[i][1].at(g.scale)
		if !fits1 || !fits2 {
			a.fail(name, "has bounds too far apart in scale")
		}
		g.list[i].low, g.list[i].high = low, high
	}
	slices.SortFunc(g.list, func(x, y group) int { return cmp.Compare(x.low, y.low) })
	for i := range g.list {
		if g.list[i].low > g.list[i].high || i > 0 && g.list[i].low <= g.list[i-1].high {
			a.fail(name, "has a group without values, or two that overlap")
		}
	}
	return g
}
