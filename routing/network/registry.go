package network

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	"sallyport"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// nodeRecord is a member: what was fixed when it enrolled. The region and the
// recipient are among it, so that a node cannot change them later.
type nodeRecord struct {
	ID        string    `json:"id"`
	Operator  string    `json:"operator"`
	Region    string    `json:"region"`
	Recipient string    `json:"recipient"`
	Key       string    `json:"key"`     // public user nkey
	Account   string    `json:"account"` // public account nkey; its seed was thrown away
	Enrolled  time.Time `json:"enrolled"`
	Removed   bool      `json:"removed"`
	Ended     time.Time `json:"ended"`
}

// tokenRecord is an enrolment token: its secret is known by its hash only.
type tokenRecord struct {
	Operator string    `json:"operator"`
	Until    time.Time `json:"until"`
	UsedBy   string    `json:"used_by"` // public user nkey
	Node     string    `json:"node"`
}

// registry knows the members, durably, and what they last said, in memory.
type registry struct {
	nodes, tokens shelf

	mu   sync.Mutex
	all  map[string]nodeRecord
	said map[string]routing.Node
}

func openRegistry(nodes, tokens shelf) (*registry, error) {
	r := &registry{nodes: nodes, tokens: tokens, all: map[string]nodeRecord{}, said: map[string]routing.Node{}}
	ids, err := nodes.list()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		var n nodeRecord
		if _, err := nodes.get(id, &n); err != nil {
			return nil, err
		}
		r.all[id] = n
	}
	return r, nil
}

// members returns the nodes that are still members.
func (r *registry) members() []nodeRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []nodeRecord
	for _, n := range r.all {
		if !n.Removed {
			out = append(out, n)
		}
	}
	return out
}

func (r *registry) member(id string) (nodeRecord, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.all[id]
	return n, ok
}

func (r *registry) seen(id string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said[id].Seen
}

// hear keeps what a node says of itself, beside what is known of it. It
// returns false for a stranger.
func (r *registry) hear(id string, a wire.Advert, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.all[id]
	if !ok || n.Removed {
		return false
	}
	r.said[id] = routing.Node{ID: id, Operator: n.Operator, Backend: "network", Side: sallyport.Outside, Region: n.Region,
		Recipient: n.Recipient, Hardware: tidy(a.Hardware), Price: max(0, a.Price), Tokens: a.Tokens, Seen: now}
	return true
}

// alive notes a sign of life that is no advert.
func (r *registry) alive(id string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.said[id]; ok {
		n.Seen = now
		r.said[id] = n
	}
}

func (r *registry) seenSince(t time.Time) []routing.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []routing.Node
	for _, n := range r.said {
		if !n.Seen.Before(t) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b routing.Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (r *registry) remove(id string, now time.Time) (nodeRecord, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.all[id]
	if !ok {
		return n, sallyport.Errorf("remove node", sallyport.NotFound, "List the nodes to see their IDs.", "no node with this ID is enrolled")
	}
	if !n.Removed {
		n.Removed, n.Ended = true, now
		if err := r.nodes.put(id, n); err != nil {
			return n, err
		}
		r.all[id] = n
		delete(r.said, id)
	}
	return n, nil
}

// issue makes a token for one node of an operator.
func (r *registry) issue(operator string, until time.Time) (secret string, err error) {
	secret = hex.EncodeToString(randomBytes(32))
	return secret, r.tokens.put(tokenID(secret), tokenRecord{Operator: operator, Until: until})
}

func tokenID(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// enroll admits the holder of a token that is good. It is done once for a
// token; the same key may ask again, as a node does that lost the answer, and
// gets the same place.
func (r *registry) enroll(e wire.Enroll, now time.Time) (nodeRecord, bool, error) {
	if !enrollable(e) {
		return nodeRecord{}, false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var t tokenRecord
	id := tokenID(e.Secret)
	ok, err := r.tokens.get(id, &t)
	if err != nil || !ok || !now.Before(t.Until) || (t.UsedBy != "" && t.UsedBy != e.Key) {
		return nodeRecord{}, false, err
	}
	for _, n := range r.all {
		if n.Key == e.Key { // again, with the same or a newer token
			if n.Removed || n.Operator != t.Operator || n.Recipient != e.Recipient || n.Region != e.Region {
				return nodeRecord{}, false, nil
			}
			t.UsedBy, t.Node = e.Key, n.ID
			return n, true, r.tokens.put(id, t)
		}
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		return nodeRecord{}, false, sallyport.E("enroll", sallyport.Internal, err, "")
	}
	n := nodeRecord{ID: r.freeID(t.Operator, e.Name), Operator: t.Operator, Region: e.Region, Recipient: e.Recipient,
		Key: e.Key, Account: public(account), Enrolled: now}
	// The token first: a crash between the two must not leave it good for another.
	t.UsedBy, t.Node = e.Key, n.ID
	if err := r.tokens.put(id, t); err != nil {
		return nodeRecord{}, false, err
	}
	if err := r.nodes.put(n.ID, n); err != nil {
		return nodeRecord{}, false, err
	}
	r.all[n.ID] = n
	return n, true, nil
}

// freeID is a node's ID: the operator's name, so that nobody takes another's,
// and the wish of the node.
func (r *registry) freeID(operator, name string) string {
	id := operator
	if name != "" && name != operator {
		id += "-" + name
	}
	for i := 2; ; i++ {
		try := id
		if i > 2 {
			try = fmt.Sprintf("%s-%d", id, i-1)
		}
		if _, taken := r.all[try]; !taken {
			return try
		}
	}
}

func enrollable(e wire.Enroll) bool {
	return len(e.Secret) == 64 && nkeys.IsValidPublicUserKey(e.Key) &&
		(e.Name == "" || wire.ValidID(e.Name) && len(e.Name) <= 40) &&
		len(e.Region) <= 40 && e.Region == clean(e.Region, 40) &&
		strings.HasPrefix(e.Recipient, "age1") && len(e.Recipient) <= 4096 && strings.Trim(e.Recipient, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// tidy bounds what a node claims: it is shown to people and kept in records.
func tidy(h routing.Hardware) routing.Hardware {
	h.CPU, h.OS, h.Arch = clean(h.CPU, 120), clean(h.OS, 40), clean(h.Arch, 40)
	h.Cores, h.MemoryMB = max(0, h.Cores), max(0, h.MemoryMB)
	h.GPUs = slices.Clone(h.GPUs[:min(len(h.GPUs), 64)])
	for i := range h.GPUs {
		h.GPUs[i].Model, h.GPUs[i].MemoryMB = clean(h.GPUs[i].Model, 120), max(0, h.GPUs[i].MemoryMB)
	}
	var runners []string
	for _, r := range h.Runners {
		if r == "wasm" { // whatever else it offers, we do not ask for it
			runners = []string{r}
		}
	}
	h.Runners = runners
	return h
}

// clean keeps printable ASCII, at most n characters.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), n)])
}
