package model

import "sallyport"

// What is known of a node.
const (
	tested  byte = 1 << iota
	fails        // it cannot reach the goal, nor can any below it
	reaches      // it is above the border of the ordered condition
	pruned       // it costs more than a solution that is known, as all above it do
)

// lattice is the product of the attributes' levels. A node's number counts in
// mixed radix, the last attribute fastest, so that numbers follow lexical order.
type lattice struct {
	top    []int
	stride []int
	nodes  int
	tag    []byte
}

func newLattice(top []int) (*lattice, error) {
	l := &lattice{top: top, stride: make([]int, len(top)), nodes: 1}
	for i := len(top) - 1; i >= 0; i-- {
		l.stride[i] = l.nodes
		if l.nodes *= top[i] + 1; l.nodes > maxNodes {
			return nil, sallyport.Errorf("model", sallyport.Exhausted, "Use fewer columns, or hierarchies with fewer levels.",
				"the lattice has more than %d nodes", maxNodes)
		}
	}
	l.tag = make([]byte, l.nodes)
	return l, nil
}

func (l *lattice) level(n, col int) int { return n / l.stride[col] % (l.top[col] + 1) }

func (l *lattice) levels(n int, into []int) {
	for col := range l.top {
		into[col] = l.level(n, col)
	}
}

// down tags a node and all below it; up, all above it.
func (l *lattice) down(n int, tag byte) { l.spread(n, tag, true, 0) }
func (l *lattice) up(n int, tag byte)   { l.spread(n, tag, false, 0) }

func (l *lattice) spread(n int, tag byte, down bool, col int) {
	if col == len(l.top) {
		l.tag[n] |= tag
		return
	}
	steps, stride := l.top[col]-l.level(n, col), l.stride[col]
	if down {
		steps, stride = l.level(n, col), -stride
	}
	for i := 0; i <= steps; i++ {
		l.spread(n+i*stride, tag, down, col+1)
	}
}
