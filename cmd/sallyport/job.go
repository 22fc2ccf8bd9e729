package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport"
	"sallyport/gateway"
	"sallyport/gateway/control"
	"sallyport/routing"
)

type jobCmd struct {
	Submit jobSubmitCmd `cmd:"" help:"Submit a job and, with --wait, watch it."`
	Ls     jobLsCmd     `cmd:"" help:"List jobs."`
	Show   jobShowCmd   `cmd:"" help:"Show a job, step by step."`
	Logs   jobLogsCmd   `cmd:"" help:"Print what a job's module said."`
	Result jobResultCmd `cmd:"" help:"Print or save a job's result."`
	Report jobReportCmd `cmd:"" help:"The release report: what was done to each field, and what was measured."`
	Review jobReviewCmd `cmd:"" help:"Look at results that wait for people to agree, and say so."`
	Cancel jobCancelCmd `cmd:"" help:"Give a job up: stop it and undo it."`
}

type jobSubmitCmd struct {
	Dataset   string   `arg:"" help:"Dataset, as the catalog calls it."`
	Algorithm string   `arg:"" optional:"" default:"features" help:"What to run; sallyport kinds lists the built-in ones."`
	Args      []string `arg:"" optional:"" passthrough:"" help:"The algorithm's own arguments, after --."`

	Project  string  `required:"" short:"p" help:"Project that it is for."`
	Purpose  string  `default:"research" help:"What it is for."`
	Where    string  `enum:"policy,local,outside" default:"policy" help:"policy, local or outside. It may only tighten what policy allows."`
	MaxPrice float64 `help:"Most that a node may cost an hour, in units of account; 0 leaves it to policy."`
	Copies   int     `help:"Independent executions that must agree; 0 leaves it to policy."`
	Name     string  `help:"The job's name; one is made up otherwise."`
	As       string  `help:"Person to act as, if you run the gateway."`
	Wait     bool    `short:"w" help:"Watch it until it has ended."`
}

func (jobSubmitCmd) Help() string {
	return `Examples:

  sallyport job submit patients --project pilot --wait
  sallyport job submit patients features --project pilot --where local -- --group sex`
}

func (c jobSubmitCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	s := control.Submission{As: c.As, ID: sallyport.JobID(c.Name), Project: c.Project, Purpose: c.Purpose, Dataset: c.Dataset,
		Algorithm: c.Algorithm, Args: trimDashes(c.Args), Where: sallyport.Destination(c.Where), MaxPrice: money(c.MaxPrice), Copies: c.Copies}
	if s.ID == "" {
		s.ID = newJobID()
	}
	if c.Where == "policy" {
		s.Where = ""
	}
	job, err := client.Submit(a.ctx, s)
	if err != nil {
		return err
	}
	if !c.Wait {
		if a.json {
			return a.printJSON(job)
		}
		fmt.Fprintf(a.out, "%s submitted. Watch it with `sallyport job show %s`.\n", job.ID, job.ID)
		return nil
	}
	for e, err := range client.Events(a.ctx, job.ID) {
		if err != nil {
			return err
		}
		if !a.json && e.Phase != "begin" && e.Phase != "progress" && e.Step != "end" {
			fmt.Fprintf(a.out, "%s  %-10s %s\n", e.Time.Local().Format(time.TimeOnly), e.Step, e.Text)
		}
	}
	if job, err = client.Job(a.ctx, job.ID); err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(job); err != nil {
			return err
		}
	} else {
		showEnd(a, job)
	}
	return endCode(job)
}

func trimDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// newJobID makes up a name that tells nothing: outside nodes see it.
func newJobID() sallyport.JobID {
	var b [6]byte
	_, _ = rand.Read(b[:])
	return sallyport.JobID("job-" + hex.EncodeToString(b[:]))
}

func showEnd(a *app, job gateway.Job) {
	switch job.State {
	case gateway.Done:
		fmt.Fprintf(a.out, "done: %s, cost %s. See it with `sallyport job result %s`.\n", job.Result, job.Cost, job.ID)
	default:
		fmt.Fprintf(a.out, "%s: %s\n", job.State, strings.Join(job.Reasons, "; "))
		if job.Hint != "" {
			fmt.Fprintf(a.out, "hint: %s\n", job.Hint)
		}
	}
}

// endCode is the exit code of a job's end.
func endCode(job gateway.Job) error {
	switch job.State {
	case gateway.Done:
		return nil
	case gateway.Refused:
		return exitCode(3)
	default:
		return exitCode(1)
	}
}

// dial connects to the running gateway.
func (a *app) dial() (*control.Client, *Config, error) {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, nil, err
	}
	c, err := a.reach(cfg)
	return c, cfg, err
}

// jobs reads jobs from the running gateway or, if none runs, from its journal.
func (a *app) jobs() ([]gateway.Job, error) {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, err
	}
	if c, err := a.running(cfg); c != nil {
		return c.Jobs(a.ctx)
	} else if err != nil {
		return nil, err
	}
	j, err := openJournal(cfg)
	if j == nil || err != nil {
		return nil, err
	}
	defer j.Close()
	return j.Jobs()
}

// openJournal opens the journal of a gateway that does not run; nil if it
// never did.
func openJournal(cfg *Config) (*gateway.Journal, error) {
	path := filepath.Join(cfg.path(cfg.State), "journal.db")
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	return gateway.OpenJournalReadOnly(path)
}

func (a *app) job(id string) (gateway.Job, error) {
	jobs, err := a.jobs()
	if err != nil {
		return gateway.Job{}, err
	}
	for _, j := range jobs {
		if string(j.ID) == id {
			return j, nil
		}
	}
	return gateway.Job{}, sallyport.Errorf("job", sallyport.NotFound, "`sallyport job ls` lists them.", "no job %q", id)
}

type jobLsCmd struct{}

func (jobLsCmd) Run(a *app) error {
	jobs, err := a.jobs()
	if err != nil {
		return err
	}
	if a.json {
		if jobs == nil {
			jobs = []gateway.Job{}
		}
		return a.printJSON(jobs)
	}
	var rows [][]string
	for _, j := range jobs {
		state := string(j.State)
		if j.State == gateway.Running {
			state += " (" + j.Step + ")"
		}
		if j.State == gateway.Reviewing {
			state += fmt.Sprintf(" (%d of %d agreed)", j.Review.Agreed, j.Review.Needs)
		}
		rows = append(rows, []string{string(j.ID), state, j.Dataset, j.Purpose, j.Subject.ID, string(j.Side), j.Cost.String(), clock(j.Submitted)})
	}
	table(a.out, []string{"job", "state", "dataset", "purpose", "who", "side", "cost", "submitted"}, rows)
	return nil
}

type jobShowCmd struct {
	Job string `arg:"" help:"The job's name."`
}

func (c jobShowCmd) Run(a *app) error {
	j, err := a.job(c.Job)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(j)
	}
	result := ""
	if j.Result != nil {
		result = j.Result.String() + " " + j.Digest.Short()
	}
	review := ""
	if r := j.Review; r != nil {
		review = fmt.Sprintf("%d of %d people agreed", r.Agreed, r.Needs)
		if j.State == gateway.Reviewing {
			review += ", until " + clock(r.Until)
		}
	}
	pairs(a.out, "job", string(j.ID), "state", string(j.State), "review", review, "who", j.Subject.ID+" ("+j.Subject.Credential+")",
		"project", j.Project, "purpose", j.Purpose, "dataset", j.Dataset, "algorithm", strings.Join(append([]string{j.Algorithm}, j.Args...), " "),
		"side", string(j.Side), "nodes", strings.Join(j.Nodes, ", "), "cost", j.Cost.String(), "result", result,
		"submitted", clock(j.Submitted), "ended", clock(j.Ended), "reasons", strings.Join(j.Reasons, "\n"), "hint", j.Hint)
	fmt.Fprintln(a.out)
	var rows [][]string
	for _, s := range j.Steps {
		rows = append(rows, []string{s.Name, s.Ended.Sub(s.Began).Round(time.Millisecond).String(), s.Say})
	}
	table(a.out, []string{"step", "took", "what"}, rows)
	return nil
}

type jobLogsCmd struct {
	Job string `arg:"" help:"The job's name."`
}

func (c jobLogsCmd) Run(a *app) error {
	client, cfg, err := a.dial()
	var r io.ReadCloser
	if err == nil {
		r, err = client.Log(a.ctx, sallyport.JobID(c.Job))
	} else if cfg != nil {
		r, err = stored(a.ctx, a, cfg, c.Job, gateway.LogRef)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if !a.json {
		_, err = io.Copy(a.out, r)
		return err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return a.printJSON(map[string]string{"log": string(b)})
}

type jobResultCmd struct {
	Job string `arg:"" help:"The job's name."`
	Out string `short:"o" placeholder:"FILE" help:"Save it there instead of printing it."`
}

func (c jobResultCmd) Run(a *app) error {
	client, cfg, err := a.dial()
	var r io.ReadCloser
	if err == nil {
		r, err = client.Result(a.ctx, sallyport.JobID(c.Job))
	} else if cfg != nil {
		r, err = stored(a.ctx, a, cfg, c.Job, gateway.ResultRef)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if c.Out == "" {
		_, err = io.Copy(a.out, r)
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return sallyport.E("save result", sallyport.Conflict, err, "Choose another file.")
	}
	if _, err = io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// stored opens what a gateway that does not run kept of a job.
func stored(ctx context.Context, a *app, cfg *Config, id string, ref func(gateway.Job) *sallyport.Ref) (io.ReadCloser, error) {
	j, err := a.job(id)
	if err != nil {
		return nil, err
	}
	to := ref(j)
	if to == nil && j.State == gateway.Done { // only a silent module leaves nothing
		return io.NopCloser(strings.NewReader("")), nil
	}
	if to == nil {
		return nil, sallyport.Errorf("result", sallyport.NotFound, "`sallyport job show` tells how it ended.", "job %s is %s and has no result", id, j.State)
	}
	s, err := opener{cfg: cfg, name: "results"}.stores().Open(ctx, cfg.Results.Kind, cfg.decoder("$.results", cfg.Results))
	if err != nil {
		return nil, configError(err)
	}
	return s.Open(ctx, *to)
}

type jobCancelCmd struct {
	Job string `arg:"" help:"The job's name."`
	As  string `help:"Person to act as, if you run the gateway."`
}

func (c jobCancelCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	j, err := client.Cancel(a.ctx, sallyport.JobID(c.Job), c.As)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(j)
	}
	fmt.Fprintf(a.out, "%s is %s\n", j.ID, j.State)
	return nil
}

type nodeLsCmd struct{}

func (nodeLsCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	var nodes []routing.Node
	if err := client.Nodes(a.ctx, &nodes); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(nodes)
	}
	var rows [][]string
	for _, n := range nodes {
		rows = append(rows, []string{n.ID, n.Operator, string(n.Side), n.Region, n.Price.String(), fmt.Sprint(n.Hardware.Cores),
			fmt.Sprintf("%d MiB", n.Hardware.MemoryMB), fmt.Sprint(len(n.Hardware.GPUs)), clock(n.Seen)})
	}
	table(a.out, []string{"node", "operator", "side", "region", "price/h", "cores", "memory", "gpus", "seen"}, rows)
	return nil
}

type nodeTokenCmd struct {
	Operator string        `arg:"" help:"Who owns the node. One operator is one vote when results are compared."`
	TTL      time.Duration `default:"1h" help:"How long the token can be used, once."`
}

func (nodeTokenCmd) Help() string {
	return `The owner then runs:

  sallyport-node run --dir node --token TOKEN`
}

func (c nodeTokenCmd) Run(a *app) error {
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	t, err := client.Token(a.ctx, c.Operator, c.TTL)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"token": t})
	}
	fmt.Fprintln(a.out, t)
	return nil
}
