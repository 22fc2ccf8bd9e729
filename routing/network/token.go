package network

import (
	"context"
	"time"

	"sallyport"
	"sallyport/routing/network/wire"
)

// Token makes an enrolment token for one node of operator, good once within
// ttl. It is a secret: whoever has it can become that node.
func (n *Network) Token(ctx context.Context, operator string, ttl time.Duration) (string, error) {
	const op = "make token"
	if err := ctx.Err(); err != nil {
		return "", sallyport.E(op, sallyport.Canceled, err, "")
	}
	if !wire.ValidID(operator) || len(operator) > 40 {
		return "", sallyport.Errorf(op, sallyport.Invalid, "Use 1 to 40 of a-z, 0-9 and '-'.", "the operator's name cannot be part of a node's ID")
	}
	if ttl <= 0 {
		return "", sallyport.Errorf(op, sallyport.Invalid, "Give a time to live, for example 1h.", "a token that is over already")
	}
	secret, err := n.nodes.issue(operator, n.parts.Now().Add(ttl))
	if err != nil {
		return "", err
	}
	return wire.Token{Address: n.addr.HTTPS, Pin: n.addr.Pin, Secret: secret}.String(), nil
}
