package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport"
	"sallyport/audit/memory"
	"sallyport/gateway/control"
)

// reach returns a client of the running gateway. The client remembers the
// largest checkpoint of the gateway's audit log that it saw, and fails loudly
// if a later one does not continue it.
func (a *app) reach(cfg *Config) (*control.Client, error) {
	socket := cfg.path(cfg.Socket)
	return control.DialWatched(a.ctx, socket, a.watch(socket))
}

// running is reach for commands that can do without a gateway: nil if none
// runs. A log whose history was changed is an error here too.
func (a *app) running(cfg *Config) (*control.Client, error) {
	c, err := a.reach(cfg)
	if err != nil {
		if sallyport.KindOf(err) == sallyport.Damaged {
			return nil, err
		}
		return nil, nil
	}
	return c, nil
}

// watch keeps checkpoints of the gateway at address. If they cannot be kept it
// warns once: the gateway can do nothing about it.
func (a *app) watch(address string) control.Watch {
	dir, err := stateDir()
	m := memory.New(filepath.Join(dir, "checkpoints"), time.Now)
	return func(ctx context.Context, line string, c *control.Client) error {
		err := err
		if err == nil {
			err = m.See(ctx, address, line, c)
		}
		if u, ok := errors.AsType[*memory.Unkept](err); ok {
			a.unkept.Do(func() {
				fmt.Fprintf(a.errs, "sallyport: warning: %v\nhint: Set SALLYPORT_STATE to a folder that you may write to; until then nobody here notices if the gateway's log is rolled back.\n", u)
			})
			return nil
		}
		return err
	}
}

// stateDir is where the command line remembers things.
func stateDir() (string, error) {
	if dir := os.Getenv("SALLYPORT_STATE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &memory.Unkept{Err: err}
	}
	return filepath.Join(dir, "sallyport"), nil
}
