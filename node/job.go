package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/routing/network/wire"
	"sallyport/seal"
)

// Bounds that no honest gateway reaches.
const (
	maxKey    = 64 << 10
	maxModule = 512 << 20
	maxStarts = 3 // a module that takes the node down with it is given up then
	refusals  = 3
)

// errDropped means that the gateway does not want this assignment any more.
var errDropped = errors.New("the gateway ended the assignment")

// serve takes one job after the other until ctx ends.
func (n *node) serve(ctx context.Context) error {
	for {
		msg, err := n.link.next(ctx, n.keep.place.Node)
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				n.log.Debug("no job", "err", err)
			}
			if !pause(ctx) {
				return ctx.Err()
			}
			continue
		}
		n.handle(ctx, msg)
	}
}

// handle brings one delivery to its end: acknowledged only when the gateway
// has the outcome, or wants none.
func (n *node) handle(ctx context.Context, msg jetstream.Msg) {
	var job wire.Job
	err := wire.Decode(msg.Data(), &job)
	if err != nil || job.Node != n.keep.place.Node || !wire.ValidID(job.ID) || msg.Subject() != wire.JobSubject(job.Node, job.ID) {
		n.log.Warn("a message in the queue is no job of this node")
		_ = msg.Term()
		return
	}
	log := n.log.With("assignment", job.ID)
	work, done := n.link.stoppable(ctx, job.ID)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		n.renew(work, msg, job.ID)
	}()
	err = n.settle(work, job)
	if err != nil && work.Err() != nil && ctx.Err() == nil {
		err = errDropped // told to stop, by message or by answer
	}
	done()
	<-renewing
	switch {
	case ctx.Err() != nil && err != nil: // the node stops; the job waits for its return
		_ = msg.Nak()
		return
	case errors.Is(err, errDropped):
		log.Info("assignment dropped")
	case err != nil: // the disk: what else settle can meet it tries again itself
		log.Error("assignment not settled", "err", err)
		_ = msg.NakWithDelay(10 * patience)
		return
	}
	if err := n.keep.drop(job.ID); err != nil {
		log.Warn("sealed files are left", "err", err)
	}
	ack, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := msg.DoubleAck(ack); err != nil {
		log.Debug("not acknowledged; it comes again and is answered from memory", "err", err)
	}
}

// renew keeps the lease, and asks whether to go on.
func (n *node) renew(ctx context.Context, msg jetstream.Msg, id string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.link.renewal()):
		}
		_ = msg.InProgress()
		var a wire.Answer
		if n.link.ask(ctx, wire.AskSubject(n.keep.place.Node, id), wire.Ask{State: wire.Alive}, &a) == nil && !a.Go {
			n.link.stop(id)
		}
	}
}

// settle gets an outcome, by memory or by running, and brings it to the gateway.
func (n *node) settle(ctx context.Context, job wire.Job) error {
	o, ok, err := n.keep.finished(job.ID)
	if err != nil {
		return err
	}
	if !ok {
		if o, err = n.execute(ctx, job); err != nil {
			return err
		}
		if err := n.keep.finish(job.ID, o); err != nil {
			return err
		}
	}
	if o.Result {
		err := n.upload(ctx, job.ID)
		if errors.Is(err, errRefused) || errors.Is(err, os.ErrNotExist) {
			o.Report = wire.Report{Exit: -1, Failure: "the gateway refused the result", Seconds: o.Report.Seconds, Log: o.Report.Log}
			if errors.Is(err, os.ErrNotExist) {
				o.Report.Failure = "the node has lost the result"
			}
			o.Result, err = false, n.keep.finish(job.ID, o)
		}
		if err != nil {
			return err
		}
	}
	for {
		var r wire.Receipt
		err := n.link.ask(ctx, wire.ReportSubject(n.keep.place.Node, job.ID), o.Report, &r)
		if err == nil && r.Settled {
			// The sealed result goes with the work; a later delivery only reports.
			if o.Result {
				o.Result = false
				return n.keep.finish(job.ID, o)
			}
			return nil
		}
		if !pause(ctx) {
			return ctx.Err()
		}
	}
}

// take asks for links until the gateway answers.
func (n *node) take(ctx context.Context, id string) (wire.Links, error) {
	for {
		var a wire.Answer
		err := n.link.ask(ctx, wire.AskSubject(n.keep.place.Node, id), wire.Ask{State: wire.Take}, &a)
		switch {
		case err == nil && !a.Go:
			return wire.Links{}, errDropped
		case err == nil && a.Links != nil:
			return *a.Links, nil
		}
		if !pause(ctx) {
			return wire.Links{}, ctx.Err()
		}
	}
}

// transfer moves one thing, however often the gateway goes away meanwhile. A
// refusal may be a link that has expired, so it is believed only when repeated.
func (n *node) transfer(ctx context.Context, id string, move func(wire.Links) error) error {
	for refused := 0; ; {
		links, err := n.take(ctx, id)
		if err != nil {
			return err
		}
		err = move(links)
		if _, final := errors.AsType[*sallyport.Error](err); err == nil || final || errors.Is(err, os.ErrNotExist) {
			return err
		}
		if errors.Is(err, errRefused) {
			if refused++; refused == refusals {
				return err
			}
		}
		n.log.Debug("transfer failed, trying again", "assignment", id, "err", err)
		if !pause(ctx) {
			return ctx.Err()
		}
	}
}

func (n *node) upload(ctx context.Context, id string) error {
	return n.transfer(ctx, id, func(l wire.Links) error {
		f, err := os.Open(n.keep.path("work", id, "result.age"))
		if err != nil {
			return err
		}
		defer f.Close()
		return n.door.deliver(ctx, l.Result, f)
	})
}

// execute runs a job that was not run before. An error means that there is no
// outcome: the node or the assignment ends, or the node's own disk fails.
func (n *node) execute(ctx context.Context, job wire.Job) (outcome, error) {
	failed := func(format string, args ...any) (outcome, error) {
		return outcome{Report: wire.Report{Exit: -1, Failure: fmt.Sprintf(format, args...)}}, nil
	}
	switch {
	case job.Module.Runner != "wasm":
		return failed("this node runs wasm modules only")
	case !wire.ValidDigest(job.Module.Digest) || !wire.ValidDigest(job.Input) || !wire.ValidDigest(job.Key) || job.Walltime <= 0 || job.MemoryMB <= 0:
		return failed("the job is not complete")
	case n.hardware.MemoryMB > 0 && job.MemoryMB > n.hardware.MemoryMB:
		return failed("the job wants %d MiB, this node offers %d", job.MemoryMB, n.hardware.MemoryMB)
	}
	if err := os.MkdirAll(n.keep.path("work", job.ID), 0o700); err != nil {
		return outcome{}, diskError("prepare work", err)
	}
	key, module, err := n.gather(ctx, job)
	if err != nil {
		if stop := (ctx.Err() != nil || errors.Is(err, errDropped)); stop {
			return outcome{}, err
		}
		switch sallyport.KindOf(err) {
		case sallyport.Damaged, sallyport.Denied:
			return failed("what the gateway gave cannot be used: %v", err)
		case sallyport.Internal: // no *sallyport.Error: a refusal
			return failed("not given by the gateway: %v", err)
		}
		return outcome{}, err
	}
	starts, err := n.keep.starts(job.ID)
	if err != nil {
		return outcome{}, err
	}
	if starts > maxStarts {
		return failed("given up: the node stopped %d times while this module ran", maxStarts)
	}
	var a wire.Answer
	if n.link.ask(ctx, wire.AskSubject(job.Node, job.ID), wire.Ask{State: wire.Running}, &a) == nil && !a.Go {
		return outcome{}, errDropped
	}
	if err := n.keep.note(job.ID, "started"); err != nil {
		return outcome{}, err
	}
	o, err := n.run(ctx, job, key, module)
	if err != nil {
		return outcome{}, err
	}
	return o, n.keep.note(job.ID, "finished")
}

// gather fetches key, input and module, and checks each against its digest
// before anything of it is used. The key stays in memory, and is the caller's.
func (n *node) gather(ctx context.Context, job wire.Job) (key *seal.Key, module string, err error) {
	var wrapped bytes.Buffer
	err = n.transfer(ctx, job.ID, func(l wire.Links) error {
		wrapped.Reset()
		d, err := n.door.fetch(ctx, l.Key, &wrapped, maxKey)
		return same("key", d, job.Key, err)
	})
	if err != nil {
		return nil, "", err
	}
	var trade func(string) (*seal.Key, error)
	if n.cfg.Keeper != nil {
		trade = func(token string) (*seal.Key, error) { return n.cfg.Keeper.trade(ctx, token) }
	}
	if key, err = n.keep.key.Take(wrapped.Bytes(), trade); err != nil {
		return nil, "", err
	}
	most := job.Size
	if most <= 0 {
		most = 1 << 40
	}
	err = n.fetchFile(ctx, job.ID, n.keep.path("work", job.ID, "input.age"), job.Input, most, func(l wire.Links) string { return l.Input })
	if err != nil {
		return nil, "", err
	}
	module = n.keep.path("modules", strings.TrimPrefix(string(job.Module.Digest), "sha256:")+".wasm")
	err = n.fetchFile(ctx, job.ID, module, job.Module.Digest, maxModule, func(l wire.Links) string { return l.Module })
	return key, module, err
}

func same(what string, got, want sallyport.Digest, err error) error {
	if err == nil && got != want {
		return sallyport.Errorf("fetch "+what, sallyport.Damaged, "", "its digest is not the one announced")
	}
	return err
}

// fetchFile gets a file with this digest, unless it is there already.
func (n *node) fetchFile(ctx context.Context, id, path string, want sallyport.Digest, most int64, pick func(wire.Links) string) error {
	if d, err := digestOf(path); err == nil && d == want {
		return nil
	}
	return n.transfer(ctx, id, func(l wire.Links) error {
		var broken error // of the connection: no fault of the disk's
		err := replaceFile(path, func(w io.Writer) error {
			d, err := n.door.fetch(ctx, pick(l), w, most)
			broken = same("file", d, want, err)
			return broken
		})
		if broken != nil {
			return broken
		}
		return err
	})
}

func digestOf(path string) (sallyport.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return sallyport.DigestSum(h.Sum(nil)), nil
}

// run decrypts into the module and seals what comes out, as a stream: no plain
// byte reaches the disk.
func (n *node) run(ctx context.Context, job wire.Job, key *seal.Key, module string) (outcome, error) {
	in, err := os.Open(n.keep.path("work", job.ID, "input.age"))
	if err != nil {
		return outcome{}, diskError("read input", err)
	}
	defer in.Close()
	var res sandbox.Result
	var claim sallyport.Digest
	var ended error
	err = replaceFile(n.keep.path("work", job.ID, "result.age"), func(w io.Writer) error {
		plain, err := seal.Reader(in, key)
		if err != nil {
			ended = err
			return ended
		}
		sealed, err := seal.Writer(w, job.Recipient)
		if err != nil {
			ended = err
			return ended
		}
		sum := sha256.New()
		var out io.Writer = io.MultiWriter(sum, sealed)
		if n.cfg.Tamper != nil {
			out = n.cfg.Tamper(out)
		}
		res, ended = n.cfg.Run(ctx, sandbox.Spec{Runner: job.Module.Runner, Path: module, Args: job.Module.Args, Stdin: plain, Stdout: out,
			MemoryMB: job.MemoryMB, Walltime: job.Walltime, CacheDir: n.keep.path("cache")})
		if c, ok := out.(io.Closer); ok && ended == nil && n.cfg.Tamper != nil {
			ended = c.Close()
		}
		if ended != nil {
			return ended
		}
		claim = sallyport.DigestSum(sum.Sum(nil))
		return sealed.Close()
	})
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	o := outcome{Report: wire.Report{Exit: res.Exit, Seconds: res.Seconds, Log: res.Log}}
	switch {
	case ended != nil:
		o.Report.Exit, o.Report.Failure = -1, why(ended)
	case err != nil:
		return outcome{}, err
	case res.Exit != 0:
		o.Report.Failure = fmt.Sprintf("the module ended with exit code %d", res.Exit)
	default:
		o.Report.Claim, o.Result = claim, true
	}
	for len(wire.Encode(o.Report)) > wire.MaxDocument-1024 { // escapes can make a log six times as long
		o.Report.Log = strings.ToValidUTF8(o.Report.Log[len(o.Report.Log)/2:], "")
	}
	return o, nil
}

// why says how a module was ended, in words that hold nothing of its data.
func why(err error) string {
	for _, known := range []error{sandbox.ErrWalltime, sandbox.ErrMemory, sandbox.ErrModule, sandbox.ErrCrash} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if e, ok := errors.AsType[*sallyport.Error](err); ok {
		return "input or result: " + string(e.Kind)
	}
	return "the module could not be run to its end"
}
