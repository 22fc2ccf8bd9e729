package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport"
	"sallyport/audit"
	"sallyport/catalog"
	"sallyport/gateway"
	"sallyport/gateway/control"
	"sallyport/register"
	"sallyport/routing"
)

// lab is a gateway in a folder, run as a real process, and killed.
type lab struct {
	t   *testing.T
	dir string
	cfg *Config

	proc *exec.Cmd
	done chan error
}

// newLab makes a folder with the demo's tables. Sockets have short paths.
func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := initDir(dir, "crash-lab"); err != nil {
		t.Fatal(err)
	}
	if err := freeConsole(dir); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(io.Writer) error{"patients.csv": writePatients, "genotypes.csv": writeGenotypes} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data", name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range demoCatalog() {
		if _, err := cat.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	r, err := register.Open(cfg.registerFile())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Apply("", register.PutGrant{Dataset: "genotypes", Project: "pilot", Grant: register.Grant{By: "steward", Purposes: []string{"research"},
		Reason: "the lab's own", Since: time.Now().Add(-time.Hour), Until: time.Now().AddDate(1, 0, 0)}}); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: dir, cfg: cfg}
	t.Cleanup(l.stop)
	return l
}

// start runs the gateway's process; it dies at killAt ("step/point") if that
// is not empty.
func (l *lab) start(killAt string) *control.Client {
	l.t.Helper()
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), "SALLYPORT_TEST_GATEWAY="+l.dir, "SALLYPORT_TEST_KILL_AT="+killAt)
	dieWithParent(p)
	out, err := p.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(l.t.TempDir(), "gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	p.Stderr = log
	if err := p.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.proc, l.done = p, make(chan error, 1)
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { l.done <- p.Wait() }()
	if err != nil || line != "ready\n" {
		if killAt != "" { // it may die before it is ready: it continued at once
			return nil
		}
		b, _ := os.ReadFile(log.Name())
		l.t.Fatalf("gateway did not start: %v\n%s", err, b)
	}
	c, err := control.Dial(l.t.Context(), l.cfg.path(l.cfg.Socket))
	if err != nil && killAt == "" {
		l.t.Fatal(err)
	}
	return c
}

// killed waits until the gateway has died by SIGKILL.
func (l *lab) killed(at string) {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(90 * time.Second):
		_ = l.proc.Process.Signal(syscall.SIGQUIT)
		l.t.Fatalf("gateway never reached %s", at)
	}
	if ws, ok := l.proc.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		l.t.Fatalf("gateway ended by itself (%v) before %s", l.proc.ProcessState, at)
	}
	l.proc = nil
	l.noPlaintext(at)
}

func (l *lab) stop() {
	if l.proc == nil {
		return
	}
	_ = l.proc.Process.Signal(syscall.SIGTERM)
	<-l.done
	l.proc = nil
}

// noPlaintext looks into every file of the lab, except the source tables, for
// values that only a plain copy of the patients' table could hold.
func (l *lab) noPlaintext(when string) { l.noPlaintextBut("data", when) }

// noPlaintextOutside is noPlaintext where the source tables are in folder too.
func (l *lab) noPlaintextOutside(folder string) {
	l.t.Helper()
	os.RemoveAll(filepath.Join(l.dir, folder))
	l.noPlaintext("the end")
}

func (l *lab) noPlaintextBut(source, when string) {
	l.t.Helper()
	// A direct identifier, and the header of what leaves: the first must be
	// nowhere, the second only in ciphertext.
	canaries := [][]byte{[]byte("m000017@ward.example"), []byte("M000017"), []byte("mrn,age,sex,zip"), []byte("age,sex,zip,admitted")}
	err := filepath.WalkDir(l.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() {
			return nil // files come and go while nodes run
		}
		if strings.HasPrefix(p, filepath.Join(l.dir, source)+string(filepath.Separator)) {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return nil // as above
		}
		for _, c := range canaries {
			if bytes.Contains(b, c) {
				l.t.Errorf("killed at %s: %s holds plaintext (%q)", when, strings.TrimPrefix(p, l.dir), c)
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// nodes starts the outside: three processes that outlive the gateway.
func (l *lab) nodes(c *control.Client, more ...string) {
	l.t.Helper()
	for _, n := range demoNodes {
		token, err := c.Token(l.t.Context(), n.operator, time.Hour)
		if err != nil {
			l.t.Fatal(err)
		}
		p := exec.Command(os.Args[0], append([]string{"node", "run", "--dir", filepath.Join(l.dir, "nodes", n.name), "--name", n.name, "--region", n.region, "--price", n.price}, more...)...)
		p.Env = append(os.Environ(), "SALLYPORT_TEST_RUN=1", "SALLYPORT_NODE_TOKEN="+token)
		dieWithParent(p)
		if err := p.Start(); err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() {
			_ = p.Process.Signal(syscall.SIGTERM)
			_ = p.Wait()
		})
	}
	l.await("the nodes to come", func() bool {
		var nodes []routing.Node
		return c.Nodes(l.t.Context(), &nodes) == nil && len(nodes) == len(demoNodes)+1
	})
}

func (l *lab) await(what string, ok func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			l.t.Fatalf("waited too long for %s", what)
		case <-tick.C:
		}
	}
}

func (l *lab) submit(c *control.Client, id, dataset string, where sallyport.Destination) {
	l.t.Helper()
	_, err := c.Submit(l.t.Context(), control.Submission{As: "researcher", ID: sallyport.JobID(id), Project: "pilot", Purpose: "research",
		Dataset: dataset, Algorithm: "features", Where: where})
	if err != nil {
		l.t.Logf("submit: %v (the gateway may have died before it could answer)", err)
	}
}

// ended waits for the job's end, stops the gateway and checks what is left.
func (l *lab) ended(c *control.Client, id string, want gateway.State) gateway.Job {
	l.t.Helper()
	var job gateway.Job
	l.await(id+" to end", func() bool {
		var err error
		job, err = c.Job(l.t.Context(), sallyport.JobID(id))
		return err == nil && job.State.Final()
	})
	if job.State != want {
		l.t.Fatalf("job %s is %s (%v), want %s", id, job.State, job.Reasons, want)
	}
	l.stop()
	l.noPlaintext("the end")

	if v, err := audit.Verify(l.cfg.path(l.cfg.Audit), audit.VerifyOptions{}); err != nil || !v.Whole {
		l.t.Errorf("audit log: %+v, %v", v, err)
	}
	w, err := wire(l.t.Context(), l.cfg, discardLog(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer w.Close()
	leases, err := w.parts.Issuer.List(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, le := range leases {
		if le.Destroyed == nil {
			l.t.Errorf("lease %s (%s) outlived its job", le.ID, le.Release)
		}
	}
	for info, err := range w.parts.Hold.List(l.t.Context(), "jobs/") {
		l.t.Errorf("left in the hold: %v %v", info.Ref, err)
	}
	l.paidOnce(w, job)
	return job
}

// paidOnce checks that each execution was settled once and that the sum is what
// the job says it cost, and that no node ran an assignment twice.
func (l *lab) paidOnce(w *wiring, job gateway.Job) {
	l.t.Helper()
	entries, err := w.parts.Ledger.Entries(string(job.ID))
	if err != nil {
		l.t.Fatal(err)
	}
	var sum sallyport.Money
	for _, e := range entries {
		if e.State == routing.StateSettled {
			sum += e.Charge
		}
	}
	if sum != job.Cost {
		l.t.Errorf("ledger says %s, job says %s", sum, job.Cost)
	}
	runs := map[string]int{}
	for _, n := range demoNodes {
		b, err := os.ReadFile(filepath.Join(l.dir, "nodes", n.name, "runs.log"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && f[1] == "started" {
				runs[f[0]]++
			}
		}
	}
	for a, n := range runs {
		if n > 1 {
			l.t.Errorf("assignment %s ran %d times", a, n)
		}
	}
	if job.State == gateway.Done && job.Side == sallyport.Outside && len(runs) != 2 {
		l.t.Errorf("%d executions for 2 copies: %v", len(runs), runs)
	}
}

var pointsOfAStep = []string{"intent", "acted", "outcome", "journaled"}

// TestKilledAtEveryStepOutside kills one outside job's gateway at every point
// of every step, restarts it each time, and finds the job done, run and paid
// once, and no plaintext on disk at any moment.
func TestKilledAtEveryStepOutside(t *testing.T) {
	l := newLab(t)
	l.nodes(l.start(""))
	l.stop()
	first := true
	for _, step := range []string{"admit", "hold", "release", "place", "hand over", "run", "judge", "verify", "review", "keep", "close"} {
		for _, point := range pointsOfAStep {
			at := step + "/" + point
			c := l.start(at)
			if first {
				l.submit(c, "burst", "patients", sallyport.Outside)
				first = false
			}
			l.killed(at)
		}
	}
	l.start("end/decided")
	l.killed("end/decided")
	job := l.ended(l.start(""), "burst", gateway.Done)
	if len(job.Nodes) != 2 || job.Cost <= 0 {
		t.Errorf("nodes %v, cost %s", job.Nodes, job.Cost)
	}
}

// TestKilledAtEveryStepInside does the same to a job that policy keeps local.
func TestKilledAtEveryStepInside(t *testing.T) {
	l := newLab(t)
	for i, step := range []string{"admit", "hold", "release", "place", "hand over", "run", "judge", "verify", "review", "keep", "close"} {
		for j, point := range pointsOfAStep {
			at := step + "/" + point
			c := l.start(at)
			if i+j == 0 {
				l.submit(c, "inside", "genotypes", "")
			}
			l.killed(at)
		}
	}
	l.ended(l.start(""), "inside", gateway.Done)
}

// TestKilledWhileRefusing kills the gateway while door 2's no is carried out.
func TestKilledWhileRefusing(t *testing.T) {
	l := newLab(t)
	for i, at := range []string{"release/intent", "release/acted", "release/outcome", "end/decided", "discard/intent", "discard/acted", "discard/outcome"} {
		c := l.start(at)
		if i == 0 {
			l.submit(c, "fine", "patients-fine", sallyport.Outside)
		}
		l.killed(at)
	}
	job := l.ended(l.start(""), "fine", gateway.Refused)
	if len(job.Reasons) == 0 || !strings.Contains(strings.Join(job.Reasons, " "), "equivalence class") {
		t.Errorf("reasons: %v", job.Reasons)
	}
	if job.Result != nil {
		t.Error("a refused job has a result")
	}
}
