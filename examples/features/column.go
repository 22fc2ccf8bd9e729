package main

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	maxDistinct = 1000 // categories kept of a column
	maxCategory = 256  // bytes of a category; longer values are text
	topShares   = 10
)

// kind is what a column's values are, judged over all of them.
type kind string

const (
	empty    kind = "empty"
	numeric  kind = "numeric"
	ordered  kind = "ordered"
	category kind = "category"
	text     kind = "text"
)

// column is what is kept of one column.
type column struct {
	name            string
	filled, missing int64
	numbers, ranks  int64            // values that are a number; a range, year or month
	categories      map[string]int64 // nil once there were too many
	moments         moments
	sketch          *sketch
}

func newColumn(name string) *column {
	return &column{name: name, categories: map[string]int64{}, sketch: newSketch()}
}

// add counts a value and returns its number, if it is one.
func (c *column) add(v string) (x float64, ok bool) {
	v = strings.TrimSpace(v)
	if v == "" || v == "*" {
		c.missing++
		return 0, false
	}
	c.filled++
	if c.categories != nil {
		if n, known := c.categories[v]; known || len(c.categories) < maxDistinct && len(v) <= maxCategory {
			c.categories[v] = n + 1
		} else {
			c.categories = nil
		}
	}
	if _, ok := rank(v); ok {
		c.ranks++
	}
	if c.numbers < c.filled-1 {
		return 0, false // an earlier value was none: the column is not numeric
	}
	if x, ok = parse(v); ok {
		c.numbers++
		c.moments.add(x)
		c.sketch.add(x)
	}
	return x, ok
}

func (c *column) kind() kind {
	switch {
	case c.filled == 0:
		return empty
	case c.ranks == c.filled && c.categories != nil:
		return ordered
	case c.numbers == c.filled:
		return numeric
	case c.categories != nil:
		return category
	}
	return text
}

func (c *column) write(w *writer) {
	k := c.kind()
	w.row("kind", c.name, "", string(k))
	w.row("filled", c.name, "", count(c.filled))
	w.row("empty", c.name, "", count(c.missing))
	if c.categories != nil {
		w.row("distinct", c.name, "", count(int64(len(c.categories))))
	} else {
		w.row("distinct_at_least", c.name, "", count(maxDistinct+1))
	}
	switch k {
	case numeric:
		w.row("mean", c.name, "", number(c.moments.mean))
		w.row("sd", c.name, "", number(c.moments.sd()))
		w.row("min", c.name, "", exact(c.moments.min))
		w.row("quartile_1", c.name, "", exact(c.sketch.quantile(1, 4)))
		w.row("median", c.name, "", exact(c.sketch.quantile(2, 4)))
		w.row("quartile_3", c.name, "", exact(c.sketch.quantile(3, 4)))
		w.row("max", c.name, "", exact(c.moments.max))
	case ordered:
		var below int64
		median := ""
		all := c.inOrder(keys(c.categories))
		for _, v := range all {
			if below += c.categories[v]; 2*below >= c.filled {
				median = v
				break
			}
		}
		w.row("median", c.name, "", median)
		for _, v := range all {
			w.row("share", c.name, label(c.name, v), share(c.categories[v], c.filled))
		}
	case category:
		all := keys(c.categories)
		slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(c.categories[b], c.categories[a]) })
		var rest int64
		for i, v := range all {
			if i < topShares {
				w.row("share", c.name, label(c.name, v), share(c.categories[v], c.filled))
			} else {
				rest += c.categories[v]
			}
		}
		if rest > 0 {
			w.row("share_other", c.name, "", share(rest, c.filled))
		}
	}
}

// inOrder sorts categories: by their place if they have one or are numbers,
// and those that have none after them, by bytes.
func (c *column) inOrder(vs []string) []string {
	place := func(v string) float64 {
		if x, ok := rank(v); ok {
			return x
		}
		if x, ok := parse(v); ok {
			return x
		}
		return math.Inf(1)
	}
	slices.SortStableFunc(vs, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	return vs
}

// keys returns the keys sorted by bytes.
func keys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// parse reads a decimal number. Names of infinities and of what is no number,
// hexadecimal and underscores are not data.
func parse(v string) (float64, bool) {
	if v == "" || len(v) > 64 {
		return 0, false
	}
	for i := range len(v) {
		if c := v[i]; !(c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E') {
			return 0, false
		}
	}
	x, err := strconv.ParseFloat(v, 64)
	return x + 0, err == nil // minus zero becomes zero
}

// rank places a generalized value: a year 1800 to 2199, a month, or a range
// with brackets. An open end is written as nothing, inf or -inf; a range
// without a lower end comes first.
func rank(v string) (float64, bool) {
	digits := func(s string) bool {
		for i := range len(s) {
			if s[i] < '0' || s[i] > '9' {
				return false
			}
		}
		return true
	}
	if len(v) == 4 || len(v) == 7 && v[4] == '-' {
		year := v[:4]
		if digits(year) && year >= "1800" && year <= "2199" {
			y, _ := strconv.Atoi(year)
			if len(v) == 4 {
				return float64(y), true
			}
			if m := v[5:]; digits(m) && m >= "01" && m <= "12" {
				n, _ := strconv.Atoi(m)
				return float64(y) + float64(n)/16, true
			}
		}
		return 0, false
	}
	if len(v) < 3 || v[0] != '[' && v[0] != '(' || v[len(v)-1] != ')' && v[len(v)-1] != ']' {
		return 0, false
	}
	low, high, ok := strings.Cut(v[1:len(v)-1], ",")
	if !ok {
		return 0, false
	}
	low, high = strings.TrimSpace(low), strings.TrimSpace(high)
	if _, ok := parse(high); !ok && high != "" && high != "inf" && high != "+inf" {
		return 0, false
	}
	if low == "" || low == "-inf" {
		return math.Inf(-1), true
	}
	return parse(low)
}

// count formats a whole number.
func count(n int64) string { return strconv.FormatInt(n, 10) }

// share formats n of all with four decimals.
func share(n, all int64) string { return strconv.FormatFloat(float64(n)/float64(all), 'f', 4, 64) }

// number formats a computed value with six significant digits.
func number(x float64) string {
	short, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 5, 64), 64)
	if err != nil {
		short = x
	}
	return exact(short)
}

// exact formats a value with the fewest digits that tell it from any other.
func exact(x float64) string {
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.FormatFloat(x, 'e', -1, 64)
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}
