package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	argv0     = "sallyport-sandbox" // argv[0] of a child
	envOrder  = "SALLYPORT_SANDBOX" // its order, JSON
	logSize   = 64 << 10
	pipeBlock = 64 << 10
	// grace is how long a reader or writer of the caller's may stay blocked
	// after the child is gone before Run returns without it.
	grace = time.Second
)

// order is what the parent tells the child. It holds no data.
type order struct {
	Runner   string   `json:"runner"` // wasm, native, or probe
	Path     string   `json:"path"`   // for messages; a wasm module comes as a file descriptor
	Args     []string `json:"args"`
	MemoryMB int64    `json:"memory_mb"`
	CPU      uint64   `json:"cpu"` // seconds of processor time
	CacheDir string   `json:"cache_dir"`
}

// report is what the child tells the parent when the module ended. A native
// program that was started reports by its exit status alone.
type report struct {
	Exit   int    `json:"exit"`
	Fault  string `json:"fault,omitempty"`  // "", module, memory, crash
	Detail string `json:"detail,omitempty"` // for people
	Done   bool   `json:"done"`
}

// Run runs one module to its end. It returns an error if the module could not
// be started, was stopped (ErrWalltime, the context's error), broke down
// (ErrMemory, ErrCrash, ErrModule), if Stdin could not be read to its end, or
// if Stdout refused bytes. A module that leaves input unread is not at fault.
//
// When Run returns nil it has written everything to Stdout. A Read of Stdin
// that blocks for more than a second after the module's end, or after an error
// a Write so long, is left behind.
func Run(ctx context.Context, s Spec) (Result, error) {
	switch {
	case Child():
		return Result{}, errors.New("sandbox: this is a child already: does main call sandbox.Main?")
	case s.Runner != "wasm" && s.Runner != "native":
		return Result{}, fmt.Errorf("sandbox: unknown runner %q: there are wasm and native", s.Runner)
	case s.MemoryMB <= 0 || s.Walltime <= 0:
		return Result{}, errors.New("sandbox: a module needs a memory limit and a time limit")
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	path, err := filepath.Abs(s.Path)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrModule, err)
	}
	module, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrModule, err)
	}
	defer module.Close()
	o := order{Runner: s.Runner, Path: path, Args: s.Args, MemoryMB: s.MemoryMB, CPU: cpuSeconds(s.Walltime)}
	if s.CacheDir != "" && s.Runner == "wasm" {
		if o.CacheDir, err = filepath.Abs(s.CacheDir); err != nil {
			return Result{}, err
		}
		// Compiled code is code that later runs believe: the owner's alone.
		if err := os.MkdirAll(o.CacheDir, 0o700); err != nil {
			return Result{}, fmt.Errorf("sandbox: cache directory: %w", err)
		}
	}
	return run(ctx, s, o, module)
}

// cpuSeconds is the processor time that a module of so much wall time can use
// at most: the kernel's own limit, for the case that nobody is left to kill it.
func cpuSeconds(wall time.Duration) uint64 {
	return uint64(wall/time.Second)*uint64(runtime.NumCPU()) + 2
}

// run starts the child, moves the streams and judges the end.
func run(ctx context.Context, s Spec, o order, module *os.File) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, s.Walltime, ErrWalltime)
	defer stop()

	p, err := startChild(o, module, levels())
	if err != nil {
		return Result{}, err
	}
	begin := time.Now()
	quit := context.AfterFunc(ctx, p.kill)
	defer quit()

	fail := func(err error) { cancel(err); p.kill() }
	var in, out, log, told stream
	in.start(func() error { return feed(p.stdin, s.Stdin, fail) })
	out.start(func() error { return drain(s.Stdout, p.stdout, fail) })
	tail := newTail(logSize)
	log.start(func() error { return drain(tail, p.stderr, nil) })
	var rep report
	told.start(func() (err error) { rep, err = listen(p.status); return err })

	state := p.wait() // the child and its group are gone
	res := Result{Seconds: time.Since(begin).Seconds()}
	out.joinUntil(ctx, grace)
	log.join(grace)
	told.join(grace)
	inDone := in.join(grace)
	p.close() // wakes those that a process which fled the group keeps waiting
	<-log.done
	<-told.done
	res.Log = tail.text()

	if cause := context.Cause(ctx); cause != nil {
		return res, cause // the first thing that went wrong: time, caller or a stream
	}
	if out.err != nil {
		return res, out.err
	}
	if inDone && in.err != nil {
		return res, in.err
	}
	if told.err != nil {
		return res, fmt.Errorf("%w: its report is unreadable", ErrCrash)
	}
	res.Exit = rep.Exit
	return res, verdict(o, rep, state, &res)
}

// listen reads the child's report: a line that only says hello, and, unless
// the child became a native program or died, a second one.
func listen(status io.Reader) (rep report, err error) {
	b, err := io.ReadAll(io.LimitReader(status, 16<<10))
	if err != nil {
		return rep, err
	}
	if _, second, _ := bytes.Cut(b, []byte("\n")); len(second) > 0 {
		err = json.Unmarshal(second, &rep)
	}
	return rep, err
}

// probe reports whether a child can be started with these namespaces.
func probe(level uintptr) bool {
	p, err := startChild(order{Runner: "probe"}, nil, []uintptr{level})
	if err != nil {
		return false
	}
	defer p.close()
	_ = p.status.SetReadDeadline(time.Now().Add(10 * time.Second))
	rep, err := listen(p.status)
	p.kill()
	p.wait()
	return err == nil && rep.Done
}

// verdict says what the end of the child means.
func verdict(o order, rep report, state *os.ProcessState, res *Result) error {
	detail := strings.ToValidUTF8(rep.Detail, "\uFFFD")
	switch rep.Fault {
	case "module":
		return fmt.Errorf("%w: %s", ErrModule, detail)
	case "memory":
		return fmt.Errorf("%w (%d MiB)", ErrMemory, o.MemoryMB)
	case "crash":
		return fmt.Errorf("%w: %s", ErrCrash, detail)
	}
	if rep.Done {
		return nil
	}
	if name := signaled(state); name != "" {
		if state.UserTime()+state.SystemTime() >= time.Duration(o.CPU)*time.Second {
			return fmt.Errorf("%w (processor time)", ErrWalltime)
		}
		return fmt.Errorf("%w: killed by %s", ErrCrash, name)
	}
	res.Exit = state.ExitCode()
	if o.Runner == "native" {
		return nil
	}
	if strings.Contains(res.Log, "out of memory") || strings.Contains(res.Log, "cannot allocate memory") {
		return fmt.Errorf("%w (%d MiB): the child ran out", ErrMemory, o.MemoryMB)
	}
	return fmt.Errorf("%w: its process ended with status %d and no report", ErrCrash, res.Exit)
}

// child is a started child process.
type child struct {
	stdin, stdout, stderr, status *os.File
	ended                         chan *os.ProcessState

	mu   sync.Mutex
	proc *os.Process
	gone bool // about to be reaped: the number may soon be another's
}

func (c *child) wait() *os.ProcessState { return <-c.ended }

func (c *child) close() {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr, c.status} {
		f.Close()
	}
}

// startChild starts this binary as a child with the strongest isolation that
// the system permits. The thread that starts it stays until it ended: on Linux
// the death signal comes when that thread, not only its process, dies.
func startChild(o order, module *os.File, levels []uintptr) (*child, error) {
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var theirs, ours [4]*os.File
	closeAll := func(fs []*os.File) {
		for _, f := range fs {
			if f != nil {
				f.Close()
			}
		}
	}
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(theirs[:])
			closeAll(ours[:])
			return nil, err
		}
		theirs[i], ours[i] = w, r
		if i == 0 {
			theirs[i], ours[i] = r, w
		}
	}
	c := &child{stdin: ours[0], stdout: ours[1], stderr: ours[2], status: ours[3], ended: make(chan *os.ProcessState, 1)}
	exe, err := self()
	if err != nil {
		closeAll(theirs[:])
		c.close()
		return nil, err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var cmd *exec.Cmd
		var err error
		for _, level := range levels {
			cmd = &exec.Cmd{
				Path: exe, Args: []string{argv0},
				Env: []string{envOrder + "=" + string(line)}, Dir: string(filepath.Separator),
				Stdin: theirs[0], Stdout: theirs[1], Stderr: theirs[2],
				ExtraFiles:  []*os.File{theirs[3]},
				SysProcAttr: attributes(level),
			}
			if module != nil {
				cmd.ExtraFiles = append(cmd.ExtraFiles, module)
			}
			if err = cmd.Start(); err == nil || !refused(err) {
				break
			}
		}
		closeAll(theirs[:])
		if err != nil {
			started <- fmt.Errorf("sandbox: starting the child: %w", err)
			return
		}
		c.proc = cmd.Process
		started <- nil
		if waitUnreaped(cmd.Process) {
			c.mu.Lock()
			c.gone = true
			killGroup(cmd.Process) // what the child started and left behind
			c.mu.Unlock()
		}
		_ = cmd.Wait() // the state says it all
		c.ended <- cmd.ProcessState
	}()
	if err := <-started; err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// kill ends the child and everything it started.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		killGroup(c.proc)
	}
}

// stream is one goroutine that moves bytes.
type stream struct {
	err  error // valid once done is closed
	done chan struct{}
}

func (s *stream) start(f func() error) {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = f()
	}()
}

// join waits for the stream, at most so long, and reports whether it ended.
func (s *stream) join(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-s.done:
		return true
	case <-t.C:
		return false
	}
}

// joinUntil waits for the stream as long as ctx lives, and then a little more:
// what a module has written is still to be delivered to a slow writer.
func (s *stream) joinUntil(ctx context.Context, limit time.Duration) bool {
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
		return s.join(limit)
	}
}

// feed copies the input into the child. A child that no longer reads is no
// error. A failing reader is: fail kills the child before its input closes, so
// that a torn input never looks like a whole one.
func feed(to *os.File, from io.Reader, fail func(error)) error {
	defer to.Close()
	if from == nil {
		return nil
	}
	buf := make([]byte, pipeBlock)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			err = fmt.Errorf("reading the module's input: %w", err)
			fail(err)
			return err
		}
	}
}

// drain copies what the child writes. A failing writer calls fail.
func drain(to io.Writer, from *os.File, fail func(error)) error {
	if to == nil {
		to = io.Discard
	}
	buf := make([]byte, pipeBlock)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			m, werr := to.Write(buf[:n])
			if werr == nil && m < n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				werr = fmt.Errorf("writing the module's result: %w", werr)
				if fail != nil {
					fail(werr)
				}
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	buf []byte
}

func newTail(n int) *tail { return &tail{max: n} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - t.max; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

// text returns what was kept as valid UTF-8, still at most max bytes.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.ToValidUTF8(string(t.buf), "\uFFFD")
	for len(s) > t.max { // a replacement is longer than the byte it stands for
		s = strings.ToValidUTF8(s[len(s)-t.max:], "")
	}
	return s
}
