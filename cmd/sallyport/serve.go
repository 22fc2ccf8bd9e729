package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/control"
	"sallyport/gateway/identity"
)

type serveCmd struct {
	LogFormat string `enum:"text,json" default:"text" help:"text or json."`
}

func (serveCmd) Help() string {
	return `Opens every part that the configuration names, continues what a crash or stop interrupted, and takes jobs until it is interrupted.

  sallyport serve --config lab/sallyport.yaml`
}

func (c serveCmd) Run(a *app) error {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	var h slog.Handler = slog.NewTextHandler(a.errs, nil)
	if c.LogFormat == "json" {
		h = slog.NewJSONHandler(a.errs, nil)
	}
	log := slog.New(h)
	return serve(a.ctx, cfg, log, nil, func(w *wiring) error {
		log.Info("gateway is ready", "site", cfg.Site, "socket", cfg.path(cfg.Socket), "console", cfg.Console.Listen)
		<-a.ctx.Done()
		log.Info("stopping; unfinished jobs continue at the next start")
		return nil
	})
}

// serve runs a gateway with its doors while use runs.
func serve(ctx context.Context, cfg *Config, log *slog.Logger, change func(*gateway.Parts), use func(*wiring) error) (err error) {
	l, err := control.Listen(cfg.path(cfg.Socket))
	if err != nil {
		return err
	}
	defer l.Close()
	w, err := wire(ctx, cfg, log, change)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	orphans, err := w.parts.Audit.Orphans()
	if err != nil {
		return err
	}
	for _, o := range orphans {
		log.Warn("an act was begun and its outcome is not recorded", "seq", o.Seq, "job", o.Entry.Job, "step", o.Entry.Step)
	}
	var enroller control.Enroller
	if w.network != nil {
		enroller = w.network
	}
	people := identity.NewDirectory(cfg.people(), identity.Operator())
	door := control.New(w.gateway, people, enroller, w.access, log)
	door.UseBook(w.book)
	witnesses, err := w.openWitnesses(log)
	if err != nil {
		return err
	}
	console, err := reserve(cfg.Console.Listen)
	if err != nil {
		return err
	}
	if err := w.gateway.Start(ctx); err != nil {
		return err
	}
	s3, err := w.openS3(ctx, people, log)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error { return door.Serve(l) })
	if console != nil {
		group.Go(func() error {
			if err := console.Serve(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	if s3 != nil {
		log.Info("S3 door is open", "address", s3.l.Addr().String(), "certificate", s3.fingerprint)
		group.Go(func() error {
			if err := s3.Serve(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	sweeping, stopSweeping := context.WithCancel(ctx)
	defer stopSweeping()
	if w.access != nil {
		group.Go(func() error { return sweepAccess(sweeping, w, log) })
	}
	group.Go(func() error { w.follow(sweeping); return nil })
	if len(w.parts.Retention) > 0 {
		group.Go(func() error { retireDaily(sweeping, w.gateway, log); return nil })
	}
	if witnesses != nil {
		group.Go(func() error { w.haveCosigned(sweeping, witnesses, log); return nil })
	}
	err = use(w)
	stopSweeping()
	w.gateway.Stop()
	err = errors.Join(err, door.Close())
	if s3 != nil {
		err = errors.Join(err, s3.Close())
	}
	if console != nil {
		err = errors.Join(err, console.Close())
	}
	return errors.Join(err, group.Wait())
}

// sweepAccess erases the secrets of access keys that ended.
func sweepAccess(ctx context.Context, w *wiring, log *slog.Logger) error {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if _, err := w.access.Sweep(ctx); err != nil {
				log.Error("access keys could not be swept", "err", err)
			}
		}
	}
}

// reserved holds the console's address until there is a console, and says so.
type reserved struct {
	*http.Server
	l net.Listener
}

func reserve(addr string) (*reserved, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, sallyport.E("console", sallyport.Unavailable, err, "Set another address under `console:`, or leave it out.")
	}
	return &reserved{l: l, Server: &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprintln(w, "This address is reserved for sallyport's web console, which this version does not have. Use the command line: sallyport job ls, sallyport audit ls.")
		}),
	}}, nil
}

func (r *reserved) Serve() error { return r.Server.Serve(r.l) }
