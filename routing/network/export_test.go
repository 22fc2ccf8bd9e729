package network

import "context"

// Waiting returns how many jobs are in the queue.
func (n *Network) Waiting(ctx context.Context) (uint64, error) {
	i, err := n.broker.jobs.Info(ctx)
	if err != nil {
		return 0, err
	}
	return i.State.Msgs, nil
}

// ParseLink is parseLink, for its fuzz test.
func ParseLink(s string) bool {
	l, body, mac, ok := parseLink(s)
	return ok && l.sign([]byte("key"), bound{}) != "" && body != "" && mac != nil
}
