// Package node is the far end: what the owner of a GPU runs. A node dials out
// to one gateway, says what it has, and runs what it is given: sealed input in,
// sealed result out. On its disk there is only ciphertext, and modules.
package node

import (
	"context"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/routing"
	"sallyport/routing/network/wire"
)

// Config is what the owner decides.
type Config struct {
	Dir      string          // the node's state; its owner's alone
	Token    string          // the first time, or after a removal; ignored once enrolled with it
	Name     string          // a wish; the ID is "<operator>-<name>"
	Region   string          // where the machine stands; fixed at enrolment
	Price    sallyport.Money // per hour
	MemoryMB int64           // most memory for a module, and what is advertised; 0: all the machine has
	Run      sandbox.Runner  // nil: sandbox.Run
	Log      *slog.Logger    // nil: silent
	Keeper   *Keeper         // where tokens are traded for keys; nil: keys are handed over themselves

	// Tamper changes results before they are hashed and sealed, so that a test
	// can have a node that lies. No shipped binary sets it.
	Tamper func(io.Writer) io.Writer
}

// patience is how long to wait before trying again what failed.
const patience = 500 * time.Millisecond

// node is a running one.
type node struct {
	cfg      Config
	log      *slog.Logger
	keep     *keep
	door     *door
	hardware routing.Hardware
	link     *uplink
}

// Run is a node's whole life: it enrolls if it must, and works until ctx ends,
// which is no error. sallyport.Denied means that the gateway does not know the
// node any more, or that the other end is not the pinned gateway.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Run == nil {
		cfg.Run = sandbox.Run
	}
	k, err := openKeep(cfg.Dir)
	if err != nil {
		return err
	}
	defer k.close()
	if err := enroll(ctx, cfg, k); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if cfg.Keeper != nil {
		if _, err := cfg.Keeper.client(); err != nil {
			return err
		}
	}
	n := &node{cfg: cfg, log: cfg.Log.With("node", k.place.Node), keep: k, door: newDoor(k), hardware: Detect(ctx)}
	if cfg.MemoryMB > 0 {
		n.hardware.MemoryMB = cfg.MemoryMB
	}
	if n.link, err = dial(k, n.log); err != nil {
		return err
	}
	defer n.link.close()
	n.log.Info("node works", "gateway", k.place.Gateway)
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error { return n.link.untilDead(work) })
	group.Go(func() error { return n.advertise(work) })
	group.Go(func() error { return n.serve(work) })
	err = group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// advertise shows the gateway, again and again, that the node lives.
func (n *node) advertise(ctx context.Context) error {
	beat := time.Second
	for {
		var w wire.Welcome
		a := wire.Advert{Hardware: n.hardware, Price: n.cfg.Price, Tokens: n.cfg.Keeper != nil, Renew: n.keep.renewable(time.Now())}
		err := n.link.ask(ctx, wire.AdvertSubject(n.keep.place.Node), a, &w)
		switch {
		case err != nil && ctx.Err() == nil:
			n.log.Debug("gateway does not answer", "err", err)
		case err == nil:
			n.link.setLease(w.Lease)
			beat = min(max(w.Beat, 10*time.Millisecond), time.Minute)
			if w.JWT != "" {
				if err := n.keep.renew(w.JWT); err != nil {
					n.log.Error("new credentials not kept", "err", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.link.up: // connected again: say so at once
		case <-time.After(beat):
		}
	}
}

// pause waits a little before trying again; false when ctx ended.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(patience):
		return true
	}
}
