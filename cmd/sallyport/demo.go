package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/catalog"
	"sallyport/gateway"
)

type demoCmd struct {
	Dir  string `placeholder:"DIR" help:"Keep everything there; otherwise it is removed at the end."`
	Data string `placeholder:"FILE" help:"Take this CSV of yours through, instead of the generated tables."`
}

func (demoCmd) Help() string {
	return `Starts a gateway with its embedded defaults and three outside nodes as processes of their own, and takes data through both doors: a job that goes out, one that stays, and two that are refused. The tables are generated; nobody in them exists.

  sallyport demo
  sallyport demo --dir lab          then: sallyport audit ls --config lab/sallyport.yaml
  sallyport demo --data my.csv`
}

// demoJob is one job of the show and what must become of it.
type demoJob struct {
	title string
	req   gateway.Request
	state gateway.State
	side  sallyport.Destination
	door  string // where it must be refused: admit or release
}

// check is one thing that must have happened.
type check struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Note string `json:"note,omitempty"`
}

// demoReport is what --json prints.
type demoReport struct {
	Dir      string             `json:"dir,omitempty"`
	Jobs     []gateway.Job      `json:"jobs"`
	Cost     sallyport.Money    `json:"cost"`
	Audit    audit.Verification `json:"audit"`
	Records  []audit.Record     `json:"records"`
	Checks   []check            `json:"checks"`
	Results  map[string]string  `json:"results"` // job → the start of its result
	Seconds  float64            `json:"seconds"`
	AllRight bool               `json:"all_right"`
}

func (c demoCmd) Run(a *app) (err error) {
	began := time.Now()
	dir := c.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
			return sallyport.E("demo", sallyport.Unavailable, err, "Name a folder with --dir.")
		}
		defer os.RemoveAll(dir)
	}
	if err := initDir(dir, "demo-lab"); err != nil {
		return err
	}
	v := newView(a)
	v.title("sallyport demo", "two doors, never both open")
	if err := freeConsole(dir); err != nil {
		return err
	}
	cfg, err := loadConfig(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		return err
	}
	jobs, err := c.prepare(a.ctx, cfg, v)
	if err != nil {
		return err
	}
	report := demoReport{Dir: c.Dir, Results: map[string]string{}}
	log := slog.New(slog.NewTextHandler(logFileFor(dir), nil))
	err = serve(a.ctx, cfg, log, func(p *gateway.Parts) { p.Observe = v.event }, func(w *wiring) error {
		stop, err := startNodes(a.ctx, w, dir, v)
		if err != nil {
			return err
		}
		defer stop()
		if c.Data == "" {
			if err := grantDemo(a.ctx, w, v); err != nil {
				return err
			}
		}
		for _, j := range jobs {
			v.job(j)
			job, err := runDemoJob(a.ctx, w, j)
			if err != nil {
				return err
			}
			v.jobEnd(job)
			report.Jobs = append(report.Jobs, job)
			report.Cost += job.Cost
			checks, err := inspect(a.ctx, w, j, job)
			if err != nil {
				return err
			}
			report.Checks = append(report.Checks, checks...)
			if job.Result != nil {
				if report.Results[string(job.ID)], err = resultHead(a.ctx, w, job); err != nil {
					return err
				}
			}
		}
		return c.collect(a.ctx, w, &report)
	})
	if err != nil {
		return err
	}
	report.Seconds = time.Since(began).Seconds()
	report.AllRight = !slices.ContainsFunc(report.Checks, func(c check) bool { return !c.OK })
	if a.json {
		if err := a.printJSON(report); err != nil {
			return err
		}
	} else {
		v.end(report, c.Dir)
	}
	if !report.AllRight {
		return exitCode(1)
	}
	return nil
}

// prepare fills the folder and says which jobs are to be run.
func (c demoCmd) prepare(ctx context.Context, cfg *Config, v *view) ([]demoJob, error) {
	req := func(id, dataset string, where sallyport.Destination, args ...string) gateway.Request {
		return gateway.Request{ID: sallyport.JobID(id), Project: "pilot", Purpose: "research", Dataset: dataset, Algorithm: "features", Args: args, Where: where,
			Subject: gateway.Subject{ID: "researcher", Roles: []string{"researcher"}, Projects: []string{"pilot"}, Credential: "demo"}}
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return nil, err
	}
	if c.Data != "" {
		id, err := c.ownData(ctx, cfg, cat, v)
		if err != nil {
			return nil, err
		}
		return []demoJob{{"burst: your table goes out, de-identified", req("burst", id, sallyport.Outside), gateway.Done, sallyport.Outside, ""}}, nil
	}
	v.say("Generating two tables (seed %d; nobody in them exists).", demoSeed)
	for name, write := range map[string]func(io.Writer) error{"patients.csv": writePatients, "genotypes.csv": writeGenotypes} {
		f, err := os.OpenFile(filepath.Join(cfg.path("data"), name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, sallyport.E("demo", sallyport.Unavailable, err, "")
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return nil, sallyport.E("demo", sallyport.Exhausted, err, "Free disk space.")
		}
	}
	for _, d := range demoCatalog() {
		if _, err := cat.Add(d); err != nil {
			return nil, err
		}
	}
	return []demoJob{
		{"burst: a confidential table goes out, de-identified", req("burst", "patients", sallyport.Outside, "--group", "age"), gateway.Done, sallyport.Outside, ""},
		{"sensitive: a restricted table stays on the local backend", req("sensitive", "genotypes", ""), gateway.Done, sallyport.Local, ""},
		{"refusal at door 1: the restricted table may not go out", req("refused-at-door-1", "genotypes", sallyport.Outside), gateway.Refused, "", "admit"},
		{"refusal at door 2: a finer plan is measured, and is too risky", req("refused-at-door-2", "patients-fine", sallyport.Outside), gateway.Refused, "", "release"},
	}, nil
}

// grantDemo lets the project use the restricted table, as its steward would:
// policy wants that on record.
func grantDemo(ctx context.Context, w *wiring, v *view) error {
	v.begin("grant", "genotypes to pilot")
	until := w.now().AddDate(0, 3, 0)
	_, err := w.gateway.Grant(ctx, gateway.Subject{ID: "steward", Roles: []string{"steward"}, Credential: "demo"}, gateway.GrantRequest{
		Dataset: "genotypes", Project: "pilot", Purposes: []string{"research"}, Until: until, Reason: "the demo's restricted table"})
	if err != nil {
		return err
	}
	v.done("grant", "the steward lets pilot use genotypes until "+until.Format(time.DateOnly)+", on record")
	return nil
}

func runDemoJob(ctx context.Context, w *wiring, j demoJob) (gateway.Job, error) {
	if _, err := w.gateway.Submit(ctx, j.req); err != nil {
		return gateway.Job{}, err
	}
	return w.gateway.Wait(ctx, j.req.ID)
}

// inspect checks what a job left behind, in the parts themselves.
func inspect(ctx context.Context, w *wiring, want demoJob, job gateway.Job) ([]check, error) {
	name := string(job.ID) + ": "
	out := []check{{name + "ended " + string(want.state), job.State == want.state, strings.Join(job.Reasons, "; ")}}
	leases, err := w.parts.Issuer.List(ctx)
	if err != nil {
		return nil, err
	}
	live, had := 0, 0
	for _, l := range leases {
		if strings.HasSuffix(l.Release, "/"+string(job.ID)) {
			had++
			if l.Destroyed == nil {
				live++
			} else if _, err := w.parts.Issuer.Fetch(ctx, l.ID); err == nil {
				live++
			}
		}
	}
	left := 0
	for _, err := range w.parts.Hold.List(ctx, "jobs/"+string(job.ID)+"/") {
		if err != nil {
			return nil, err
		}
		left++
	}
	out = append(out, check{name + "no key and no ciphertext is left", live == 0 && left == 0, fmt.Sprintf("%d keys destroyed", had)})
	decided := map[string]string{}
	for r, err := range w.parts.Audit.Records(ctx, audit.Filter{Job: job.ID}) {
		if err != nil {
			return nil, err
		}
		if r.Entry.Phase == audit.Outcome {
			decided[r.Entry.Step] = r.Entry.Decision
		}
	}
	switch want.door {
	case "admit":
		out = append(out, check{name + "denied at door 1, recorded, and no key was ever made", decided["admit"] == "deny" && had == 0, ""})
	case "release":
		_, discarded := decided["discard"]
		out = append(out, check{name + "denied at door 2, and its end recorded", decided["release"] == "deny" && discarded && had > 0, ""})
	default:
		out = append(out, check{name + "placed " + string(want.side), job.Side == want.side, strings.Join(job.Nodes, ", ")})
		if want.side == sallyport.Outside {
			out = append(out, check{name + "independent nodes agreed, and were paid", len(job.Nodes) >= 2 && job.Cost > 0, "cost " + job.Cost.String()})
		}
	}
	return out, nil
}

func (c demoCmd) collect(ctx context.Context, w *wiring, report *demoReport) error {
	orphans, err := w.parts.Audit.Orphans()
	if err != nil {
		return err
	}
	for r, err := range w.parts.Audit.Records(ctx, audit.Filter{}) {
		if err != nil {
			return err
		}
		r.Entry.Detail = nil
		report.Records = append(report.Records, r)
	}
	f, err := os.CreateTemp("", "sallyport-audit-*.db")
	if err != nil {
		return sallyport.E("demo", sallyport.Unavailable, err, "")
	}
	defer os.Remove(f.Name())
	if err := errors.Join(w.parts.Audit.Snapshot(f), f.Close()); err != nil {
		return err
	}
	if report.Audit, err = audit.Verify(f.Name(), audit.VerifyOptions{VerifierKey: w.parts.Audit.VerifierKey()}); err != nil {
		return err
	}
	report.Checks = append(report.Checks,
		check{"audit: every intent has its outcome", len(orphans) == 0, fmt.Sprintf("%d records", len(report.Records))},
		check{"audit: the log is whole", report.Audit.Whole, "a copy, recomputed from the records"})
	return nil
}

// resultHead reads the start of a result, for showing.
func resultHead(ctx context.Context, w *wiring, job gateway.Job) (string, error) {
	r, err := w.gateway.OpenResult(ctx, job.ID)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	return string(b), err
}

// demoNodes are three owners who know nothing of each other.
var demoNodes = []struct{ name, operator, region, price string }{
	{"aurora", "operator-a", "eu-north", "0.38"},
	{"basalt", "operator-b", "eu-west", "0.45"},
	{"cedar", "operator-c", "eu-south", "0.61"},
}

// startNodes runs this binary again, three times, as outside nodes.
func startNodes(ctx context.Context, w *wiring, dir string, v *view) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, sallyport.E("demo", sallyport.Internal, err, "")
	}
	var procs []*exec.Cmd
	stop = func() {
		for _, p := range procs {
			_ = p.Process.Signal(os.Interrupt)
		}
		for _, p := range procs {
			_ = p.Wait()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	v.begin("nodes", "starting three nodes of three owners")
	for _, n := range demoNodes {
		token, err := w.network.Token(ctx, n.operator, time.Hour)
		if err != nil {
			return stop, err
		}
		p := exec.Command(self, "node", "run", "--dir", filepath.Join(dir, "nodes", n.name), "--name", n.name,
			"--region", n.region, "--price", n.price)
		// By the environment: arguments are for everybody on the machine to read.
		p.Env = append(os.Environ(), "SALLYPORT_NODE_TOKEN="+token)
		p.Stderr = logFileFor(filepath.Join(dir, "nodes-"+n.name))
		p.WaitDelay = 5 * time.Second
		dieWithParent(p)
		if err := p.Start(); err != nil {
			return stop, sallyport.E("demo", sallyport.Unavailable, err, "")
		}
		procs = append(procs, p)
	}
	return stop, awaitNodes(ctx, w, len(demoNodes), v)
}

func awaitNodes(ctx context.Context, w *wiring, want int, v *view) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		nodes, err := w.network.Nodes(ctx)
		if err != nil {
			return err
		}
		if len(nodes) >= want {
			var said []string
			for _, n := range nodes {
				said = append(said, fmt.Sprintf("%s (%s, %s, %s/h)", n.ID, n.Operator, n.Region, n.Price))
			}
			v.done("nodes", strings.Join(said, ", "))
			return nil
		}
		select {
		case <-ctx.Done():
			return sallyport.Errorf("demo", sallyport.Unavailable, "The nodes' logs are in the folder; keep it with --dir.", "only %d of %d nodes came", len(nodes), want)
		case <-tick.C:
		}
	}
}

// freeConsole gives the demo's console address a port of its own, so that it
// runs beside another gateway.
func freeConsole(dir string) error {
	file := filepath.Join(dir, "sallyport.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		return sallyport.E("demo", sallyport.Internal, err, "")
	}
	b = bytes.Replace(b, []byte("127.0.0.1:7480"), []byte("127.0.0.1:0"), 1)
	return os.WriteFile(file, b, 0o600)
}

// logFileFor appends to DIR.log inside the demo's folder, or goes nowhere.
func logFileFor(base string) io.Writer {
	name := filepath.Join(base, "gateway.log")
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		name = base + ".log"
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return io.Discard
	}
	return f
}

// featureRows parses a result of the features module.
func featureRows(result string) [][]string {
	rows, err := csv.NewReader(strings.NewReader(result)).ReadAll()
	if err != nil || len(rows) < 2 {
		return nil
	}
	return rows[1:]
}
