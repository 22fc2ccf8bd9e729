package planning

import (
	"context"
	"encoding/binary"
	"io"
	"slices"

	"sallyport"
	"sallyport/anonymize"
)

// DefaultMemory bounds, in bytes, what planning holds of a table where nobody
// says otherwise.
const DefaultMemory = 512 << 20

// What one distinct value of a column and one distinct combination cost, about,
// besides their bytes: entries of maps that double, here and in the model.
const (
	valueCost = 112
	comboCost = 224
	codeCost  = 20 // of one code in a combination
)

// gathered is a table as the counts of its distinct combinations, with values
// numbered by column. Nothing is sampled.
type gathered struct {
	columns []string
	values  [][]string // column → number → value
	codes   []int32    // combination after combination
	count   []int64
	records int64

	memory int64
	places []int
	number []map[string]int32
	combos map[string]int32
	key    []byte
	row    []int32
}

var _ anonymize.Editor = (*gathered)(nil)

// gather reads a table once and counts what the named columns hold together.
func gather(ctx context.Context, f anonymize.Format, src anonymize.Source, columns []string, memory int64) (*gathered, error) {
	g := &gathered{columns: columns, memory: memory, combos: map[string]int32{}, values: make([][]string, len(columns)), row: make([]int32, len(columns))}
	for range columns {
		g.number = append(g.number, map[string]int32{})
	}
	if err := f.Rewrite(ctx, io.Discard, src, g); err != nil {
		return nil, err
	}
	g.number, g.combos = nil, nil
	return g, nil
}

func (g *gathered) Header(names []string) ([]string, error) {
	for _, c := range g.columns {
		i := slices.Index(names, c)
		if i < 0 {
			return nil, sallyport.Errorf("plan", sallyport.Invalid, "", "the table has no column %q", c)
		}
		g.places = append(g.places, i)
	}
	return names, nil
}

func (g *gathered) Record(fields [][]byte) ([][]byte, error) {
	g.key = g.key[:0]
	for i, p := range g.places {
		v := fields[p]
		n, ok := g.number[i][string(v)]
		if !ok {
			if g.memory -= valueCost + 2*int64(len(v)); g.memory < 0 {
				return nil, g.full()
			}
			n = int32(len(g.values[i]))
			s := string(v)
			g.number[i][s] = n
			g.values[i] = append(g.values[i], s)
		}
		g.row[i] = n
		g.key = binary.LittleEndian.AppendUint32(g.key, uint32(n))
	}
	r, ok := g.combos[string(g.key)]
	if !ok {
		if g.memory -= comboCost + codeCost*int64(len(g.row)); g.memory < 0 {
			return nil, g.full()
		}
		r = int32(len(g.count))
		g.combos[string(g.key)] = r
		g.codes = append(g.codes, g.row...)
		g.count = append(g.count, 0)
	}
	g.count[r]++
	g.records++
	return nil, nil
}

func (g *gathered) full() error {
	return sallyport.Errorf("plan", sallyport.Exhausted, "Allow more with --memory, name fewer columns with --quasi, or plan on a table whose columns are coarser. Nothing is sampled.",
		"the distinct combinations of %d columns do not fit into the memory allowed (%d combinations of %d records so far)", len(g.columns), len(g.count), g.records)
}

// at returns the number of a combination's value in a column.
func (g *gathered) at(combo, column int) int32 { return g.codes[combo*len(g.columns)+column] }
