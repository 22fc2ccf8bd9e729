package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sallyport"
	"sallyport/bench"
	"sallyport/catalog"
	"sallyport/gateway"
	"sallyport/seal/vault"
	"sallyport/store/dir"
)

type benchCmd struct {
	Passage benchPassageCmd `cmd:"" help:"Time and memory of the passage, beside age and encoding/csv."`
	Tables  benchTablesCmd  `cmd:"" help:"Every format, the census, the search for a plan and the matcher, beside their peers."`
	Seal    benchSealCmd    `cmd:"" help:"Sealing, opening and keys, beside age and the bare cipher."`
	Policy  benchPolicyCmd  `cmd:"" help:"Decisions, their replay, and how new rules come into force, beside plain OPA."`
	S3      benchS3Cmd      `cmd:"" name:"s3" help:"The S3 door, beside a bare file server and reverse proxy."`
	Audit   benchAuditCmd   `cmd:"" help:"The audit log: appending, searching, proving and verifying, beside fdatasync and bbolt."`
	Child   benchChildCmd   `cmd:"" hidden:""`
	Door    benchDoorCmd    `cmd:"" hidden:""`
	Peer    benchPeerCmd    `cmd:"" hidden:""`
}

type benchPassageCmd struct {
	Size  int    `placeholder:"MB" help:"Size of the table whose throughput is measured (64; 8 with --quick)."`
	Big   int    `placeholder:"MB" help:"Size of the larger table whose memory is measured (1024; 64 with --quick)."`
	Runs  int    `default:"3" help:"Runs of each; the median counts."`
	Quick bool   `help:"Small tables."`
	Dir   string `placeholder:"DIR" help:"Where to write the data, up to 1.5 times the larger table; removed at the end (the system's folder for temporary files)."`
}

func (benchPassageCmd) Help() string {
	return `Measures, each beside its peer in the same run: how fast the pass between the doors is, how much memory it takes at two sizes, and how long each step of a job takes with the embedded defaults. The tables are generated. Progress goes to standard error.

  sallyport bench passage
  sallyport bench passage --quick --json`
}

func (c benchPassageCmd) Run(a *app) (err error) {
	o := bench.Options{Size: 64, Big: 1024, Runs: c.Runs, Progress: a.errs}
	if c.Quick {
		o.Size, o.Big = 8, 64
	}
	if c.Size != 0 {
		o.Size = c.Size
	}
	if c.Big != 0 {
		o.Big = c.Big
	}
	self, err := os.Executable()
	if err != nil {
		return sallyport.E("bench", sallyport.Unsupported, err, "")
	}
	o.Child = []string{self, "bench", "child"}
	if o.Dir, err = os.MkdirTemp(c.Dir, "sallyport-bench-"); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to with --dir.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()

	figures, err := bench.Passage(a.ctx, o)
	if err != nil {
		return err
	}
	steps, err := benchSteps(a.ctx, o)
	if err != nil {
		return err
	}
	figures = append(figures, steps...)
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}

// printFigures prints a table, and below it the notes, each once.
func printFigures(w io.Writer, figures []bench.Figure) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	var notes []string
	var rows [][]string
	for _, f := range figures {
		row := []string{f.Figure, number(f.Value), f.Unit, "", "", "", ""}
		if f.Peer != "" {
			row[3], row[4], row[5] = number(f.Ratio), number(f.PeerValue), f.Peer
		}
		if f.Note != "" {
			n := slices.Index(notes, f.Note)
			if n < 0 {
				n, notes = len(notes), append(notes, f.Note)
			}
			row[6] = fmt.Sprintf("(%d)", n+1)
		}
		rows = append(rows, row)
	}
	table(w, []string{"figure", "value", "unit", "ratio", "peer's", "peer", "note"}, rows)
	fmt.Fprintln(w)
	for i, n := range notes {
		fmt.Fprintf(w, "(%d) %s\n", i+1, n)
	}
}

// stepTableMB is the size of the table that real jobs take through both doors.
const stepTableMB = 10

// benchSteps takes real jobs through the passage, with the embedded defaults
// and the local backend alone, and says how long each step took.
func benchSteps(ctx context.Context, o bench.Options) ([]bench.Figure, error) {
	size := min(stepTableMB, o.Big)
	root := filepath.Join(o.Dir, "gateway")
	if err := initDir(root, "bench-lab"); err != nil {
		return nil, err
	}
	cfg, err := loadConfig(filepath.Join(root, "sallyport.yaml"))
	if err != nil {
		return nil, err
	}
	cfg.Backends = slices.DeleteFunc(cfg.Backends, func(k Kind) bool { return k.Kind != "local" })
	data := sallyport.Ref{Store: "data", Key: "bench.csv"}
	if err := layTable(ctx, cfg.path("data"), data, int64(size)*bench.MB); err != nil {
		return nil, err
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return nil, err
	}
	if _, err := cat.Add(bench.Dataset("bench", data)); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	w, err := wire(ctx, cfg, log, nil)
	if err != nil {
		return nil, err
	}
	var jobs []gateway.Job
	err = w.gateway.Start(ctx)
	for run := 0; err == nil && run < o.Runs; run++ {
		fmt.Fprintf(o.Progress, "bench: steps: job %d of %d over %d MB\n", run+1, o.Runs, size)
		var job gateway.Job
		if job, err = benchJob(ctx, w, run); err == nil {
			jobs = append(jobs, job)
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return stepFigures(jobs, fmt.Sprintf("%s; %s of a job over %d MB on the local backend, audit log and hold synced; inside, policy leaves all but direct identifiers as they are",
		bench.Machine(), bench.Times(len(jobs)), size)), nil
}

func layTable(ctx context.Context, folder string, to sallyport.Ref, size int64) error {
	s, err := dir.Open(to.Store, dir.Config{Path: folder})
	if err != nil {
		return err
	}
	_, err = s.Put(ctx, to, func(w io.Writer) error {
		_, err := io.Copy(w, bench.NewTable(size, false))
		return err
	})
	return errors.Join(err, s.Close())
}

func benchJob(ctx context.Context, w *wiring, run int) (gateway.Job, error) {
	id := sallyport.JobID(fmt.Sprintf("bench-%d", run+1))
	_, err := w.gateway.Submit(ctx, gateway.Request{ID: id, Project: "pilot", Purpose: "research", Dataset: "bench", Algorithm: "features", Where: sallyport.Local,
		Subject: gateway.Subject{ID: "researcher", Roles: []string{"researcher"}, Projects: []string{"pilot"}, Credential: "bench"}})
	if err != nil {
		return gateway.Job{}, err
	}
	job, err := w.gateway.Wait(ctx, id)
	if err != nil {
		return job, err
	}
	if job.State != gateway.Done {
		return job, sallyport.Errorf("bench", sallyport.Internal, job.Hint, "job %s is %s: %v", id, job.State, job.Reasons)
	}
	return job, nil
}

// stepFigures gives the median of each step in the order in which the first
// job took them, and of the whole.
func stepFigures(jobs []gateway.Job, note string) []bench.Figure {
	const ms = float64(time.Millisecond)
	var order []string
	took := map[string][]float64{}
	var whole []float64
	for _, j := range jobs {
		for _, s := range j.Steps {
			if took[s.Name] == nil {
				order = append(order, s.Name)
			}
			took[s.Name] = append(took[s.Name], float64(s.Ended.Sub(s.Began))/ms)
		}
		whole = append(whole, float64(j.Ended.Sub(j.Submitted))/ms)
	}
	var out []bench.Figure
	for _, name := range order {
		out = append(out, bench.New("step "+name, bench.Median(took[name]), "ms", note))
	}
	return append(out, bench.New("whole job", bench.Median(whole), "ms", note+"; from submitted to ended, with the journal between the steps"))
}

// benchChildCmd is the process whose memory is measured.
type benchChildCmd struct {
	Task string `arg:""`
}

func (c benchChildCmd) Run(a *app) error { return bench.Child(a.ctx, c.Task, a.out) }

type benchSealCmd struct {
	Size           int    `placeholder:"MB" help:"What is sealed and opened at a time, in memory (256; 16 with --quick)."`
	Reads          int    `placeholder:"N" help:"Random reads a run (5000; 500 with --quick)."`
	Keys           int    `placeholder:"N" help:"Keys that are issued and destroyed (100; 10 with --quick)."`
	Runs           int    `default:"3" help:"Runs of each; the median counts."`
	Quick          bool   `help:"Few bytes, few keys."`
	Dir            string `placeholder:"DIR" help:"Where to write keys; removed at the end (the system's folder for temporary files)."`
	Vault          string `placeholder:"URL" help:"Measure keys on this Vault, too."`
	VaultTokenFile string `placeholder:"FILE" help:"File with the token for it, mode 0600."`
	VaultMount     string `default:"transit" help:"Where its transit engine is mounted."`
	VaultCAFile    string `name:"vault-ca-file" placeholder:"FILE" help:"Who signs its certificate (the system's)."`
}

func (benchSealCmd) Help() string {
	return `Measures, each beside its peer in the same run and on one core as well as on all: sealing and opening, reads at random offsets, and what the life of a release's key costs on the embedded issuer. With a Vault its keys are measured, too: they are deleted from it at the end, and the token needs the rights of the gateway's policy (docs/vault.md). A server for development will do: ` + "`vault server -dev`, then `vault secrets enable transit`" + `. Progress goes to standard error.

  sallyport bench seal
  sallyport bench seal --vault http://127.0.0.1:8200 --vault-token-file token`
}

func (c benchSealCmd) Run(a *app) error {
	o := bench.SealOptions{Size: 256, Reads: 5000, Keys: 100, Runs: c.Runs, Dir: c.Dir, Progress: a.errs}
	if c.Quick {
		o.Size, o.Reads, o.Keys = 16, 500, 10
	}
	o.Size, o.Reads, o.Keys = cmp.Or(c.Size, o.Size), cmp.Or(c.Reads, o.Reads), cmp.Or(c.Keys, o.Keys)
	if (c.Vault == "") != (c.VaultTokenFile == "") {
		return sallyport.Errorf("bench", sallyport.Invalid, "Give --vault and --vault-token-file, or neither.", "half a Vault is named")
	}
	if c.Vault != "" {
		o.Vault = &vault.Config{Address: c.Vault, Mount: c.VaultMount, CAFile: c.VaultCAFile, Auth: vault.Auth{TokenFile: c.VaultTokenFile}}
	}
	figures, err := bench.Seal(a.ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}
