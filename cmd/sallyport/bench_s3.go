package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport"
	"sallyport/bench"
	"sallyport/catalog"
	"sallyport/gateway/identity"
)

type benchS3Cmd struct {
	Size    int    `placeholder:"MB" help:"Size of the large objects (500; 16 with --quick)."`
	Small   int    `placeholder:"N" help:"Requests for objects of 4 KiB (200; 20 with --quick)."`
	Streams int    `default:"16" help:"Concurrent downloads whose memory is measured."`
	Runs    int    `default:"3" help:"Runs of each; the median counts."`
	Quick   bool   `help:"Small objects, few requests."`
	Dir     string `placeholder:"DIR" help:"Where to write the data, up to ten times the size; removed at the end (the system's folder for temporary files)."`
}

func (benchS3Cmd) Help() string {
	return `Measures the S3 door of a gateway with the embedded defaults, without TLS, beside the standard library's file server, directly and behind its reverse proxy. Each server is a process of its own on loopback, and minio-go is the client of all. Progress goes to standard error.

  sallyport bench s3
  sallyport bench s3 --quick --json`
}

// benchKey is the object of each dataset that the bench makes.
const benchKey = "table.csv"

func (c benchS3Cmd) Run(a *app) (err error) {
	o := bench.S3Options{Size: 500, Small: 200, Streams: c.Streams, Runs: c.Runs, Key: benchKey, Tiny: "tiny", Progress: a.errs}
	if c.Quick {
		o.Size, o.Small = 16, 20
	}
	if c.Size != 0 {
		o.Size = c.Size
	}
	if c.Small != 0 {
		o.Small = c.Small
	}
	self, err := os.Executable()
	if err != nil {
		return sallyport.E("bench", sallyport.Unsupported, err, "")
	}
	if o.Dir, err = os.MkdirTemp(c.Dir, "sallyport-bench-"); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to with --dir.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	root := filepath.Join(o.Dir, "gateway")
	o.Door, o.Peer = []string{self, "bench", "door", root}, []string{self, "bench", "peer"}
	if err := layBench(a.ctx, root, &o); err != nil {
		return err
	}
	figures, err := bench.S3(a.ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}

// layBench makes a gateway's folder with the tables, each described as many
// times as there are runs: a view is made once for each dataset.
func layBench(ctx context.Context, root string, o *bench.S3Options) error {
	if err := initDir(root, "bench-lab"); err != nil {
		return err
	}
	cfg, err := loadConfig(filepath.Join(root, "sallyport.yaml"))
	if err != nil {
		return err
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return err
	}
	large := sallyport.Ref{Store: "data", Key: "large/" + benchKey}
	tiny := sallyport.Ref{Store: "data", Key: "tiny/" + benchKey}
	fmt.Fprintf(o.Progress, "bench: laying a table of %d MB into a store\n", o.Size)
	if err := layTable(ctx, cfg.path("data"), large, int64(o.Size)*bench.MB); err != nil {
		return err
	}
	if err := layTable(ctx, cfg.path("data"), tiny, bench.SmallBytes); err != nil {
		return err
	}
	// Inside, the default policy leaves all but direct identifiers as they are.
	add := func(d sallyport.Dataset, raw bool) error {
		for i, c := range d.Columns {
			if raw && c.Role == sallyport.Direct {
				d.Columns[i].Role, d.Columns[i].Mask = sallyport.Sensitive, nil
			}
		}
		_, err := cat.Add(d)
		return err
	}
	if err := add(bench.Dataset(o.Tiny, tiny), true); err != nil {
		return err
	}
	for run := range o.Runs {
		raw, masked := fmt.Sprintf("raw-%d", run+1), fmt.Sprintf("masked-%d", run+1)
		o.Raw, o.Masked = append(o.Raw, raw), append(o.Masked, masked)
		if err := errors.Join(add(bench.Dataset(raw, large), true), add(bench.Dataset(masked, large), false)); err != nil {
			return err
		}
	}
	return nil
}

// benchDoorCmd is the process of the gateway that is measured.
type benchDoorCmd struct {
	Dir string `arg:""`
}

// benchKeyTTL is longer than a bench takes.
const benchKeyTTL = 12 * time.Hour

func (c benchDoorCmd) Run(a *app) (err error) {
	cfg, err := loadConfig(filepath.Join(c.Dir, "sallyport.yaml"))
	if err != nil {
		return err
	}
	cfg.Backends = slices.DeleteFunc(cfg.Backends, func(k Kind) bool { return k.Kind != "local" })
	cfg.S3 = S3Config{Listen: "127.0.0.1:0", Plain: true, ScratchMB: 1 << 20}
	log := slog.New(slog.NewTextHandler(a.errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w, err := wire(a.ctx, cfg, log, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.gateway.Start(a.ctx); err != nil {
		return err
	}
	door, err := w.openS3(a.ctx, identity.NewDirectory(cfg.people(), identity.Operator()), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	key, secret, err := w.access.New(a.ctx, "researcher", "pilot", "research", benchKeyTTL)
	if err != nil {
		return err
	}
	go door.Serve() // ends with Close; the client notices
	return bench.Answer(a.ctx, os.Stdin, a.out, bench.Endpoint{
		Address: door.l.Addr().String(), Region: "us-east-1", AccessKey: key.ID, Secret: secret,
	})
}

// benchPeerCmd is the process of a peer.
type benchPeerCmd struct {
	Task string `arg:""`
}

func (c benchPeerCmd) Run(a *app) error { return bench.Peer(a.ctx, c.Task, os.Stdin, a.out) }
