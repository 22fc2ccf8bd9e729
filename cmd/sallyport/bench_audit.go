package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"sallyport"
	"sallyport/audit"
	"sallyport/bench"
)

type benchAuditCmd struct {
	Records int           `placeholder:"N" help:"Records of the log that is searched and verified (1000000; 20000 with --quick)."`
	Burst   time.Duration `placeholder:"TIME" help:"How long each contender appends in a run (2s; 100ms with --quick)."`
	Ask     int           `placeholder:"N" help:"Questions of each kind (200; 20 with --quick)."`
	Runs    int           `default:"3" help:"Runs of appending; the median counts."`
	Quick   bool          `help:"Few records."`
	Dir     string        `placeholder:"DIR" help:"Where to write the logs, about 1.5 GB a million records; removed at the end (the system's folder for temporary files)."`
}

func (benchAuditCmd) Help() string {
	return `Measures the audit log: how many records become durable a second with 1, 16, 64 and 256 writers, beside bare fdatasync and plain bbolt on the same disk in the same run; then, on one large log, searches, proofs, opening and verification, and what a record takes on disk. Put --dir on the disk that will hold the log. Progress goes to standard error.

  sallyport bench audit
  sallyport bench audit --records 10000000
  sallyport bench audit --quick --json`
}

func (c benchAuditCmd) Run(a *app) (err error) {
	b := &auditBench{benchAuditCmd: c, progress: a.errs}
	records, ask, burst := 1_000_000, 200, 2*time.Second
	if c.Quick {
		records, ask, burst = 20_000, 20, 100*time.Millisecond
	}
	b.Records, b.Ask, b.Burst = cmp.Or(c.Records, records), cmp.Or(c.Ask, ask), cmp.Or(c.Burst, burst)
	if b.Records < auditJob || b.Ask < 1 || b.Burst < 1 || b.Runs < 1 {
		return sallyport.Errorf("bench", sallyport.Invalid, "Ask for 12 records and one of everything else, at least.", "%d records, %d questions, bursts of %v, %d runs", b.Records, b.Ask, b.Burst, b.Runs)
	}
	if b.dir, err = os.MkdirTemp(c.Dir, "sallyport-bench-"); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to with --dir.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	figures, err := b.appends(a.ctx)
	if err != nil {
		return err
	}
	more, err := b.large(a.ctx)
	if err != nil {
		return err
	}
	figures = append(figures, more...)
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}

type auditBench struct {
	benchAuditCmd
	progress io.Writer
	dir      string
}

func (b *auditBench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: audit: "+format+"\n", args...)
}

var auditWriters = []int{1, 16, 64, 256}

// auditTime is when the first record of a generated log is made.
var auditTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	auditJob     = 12 // records of a job: six steps, each with an intent and an outcome
	auditSyncB   = 512
	auditPeople  = 1000
	auditSegment = 1024          // fewer records wait for the index
	auditKnown   = 50 * auditJob // records after which the same 50 people come again
)

var auditDenials = []string{
	"no consent of the subject on record", "the purpose is not one of the dataset's", "the grant has ended", "too few rows in a class",
	"the project's budget is spent", "the destination is outside and the dataset is restricted", "the algorithm is not on the list", "the column is a direct identifier",
}

// auditEntry is a record as a site's are, about 500 bytes of JSON: a thousand
// people, 200 datasets, 100 projects, 300 nodes, 60 rules, one denial in 50.
func auditEntry(i int) audit.Entry {
	job := i / auditJob
	step := []string{"admit", "hold", "release", "place", "hand over", "keep"}[i/2%6]
	e := audit.Entry{
		Time: auditTime.Add(time.Duration(i) * time.Second), Step: step, Phase: []audit.Phase{audit.Intent, audit.Outcome}[i%2],
		Job: sallyport.JobID("job-" + strconv.Itoa(job)), Subject: "person-" + strconv.Itoa(job%auditPeople), Roles: []string{"researcher"},
		Project: "project-" + strconv.Itoa(job%100), Purpose: "research", Dataset: "set-" + strconv.Itoa(job*7%200), Columns: []string{"age", "sex", "zip"},
		Node: "node-" + strconv.Itoa(job*11%300), Decision: "allow", Rules: []string{"rule-" + strconv.Itoa(i%60)}, Reasons: []string{"the purpose fits, and the grant is in force"},
		Policy: "sha256:5b2b9b0f6a9d2f3e4c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b", Lease: "lease-" + strconv.Itoa(job),
		Detail: json.RawMessage(`{"measured":{"k":11,"classes":1042,"rows":36000},"route":"local"}`),
	}
	if i%50 == 0 {
		e.Decision, e.Reasons = "deny", []string{auditDenials[i/50%len(auditDenials)]}
	}
	return e
}

// auditPlain are bytes as long as a record's entry, for the peers.
func auditPlain() []byte {
	b, err := json.Marshal(auditEntry(0))
	if err != nil {
		panic(err) // of constants
	}
	return b
}

func (b *auditBench) open(path string) (*audit.Log, error) {
	return audit.Open(audit.Config{Path: path, Origin: "bench.example/sallyport", Seed: bytes.Repeat([]byte{1}, ed25519.SeedSize)})
}

// auditBurst is one contender and what it did, a value a run.
type auditBurst struct {
	name             string
	writers          int
	prepare          func(dir string) (act func(n int) error, done func() error, err error)
	rate, p50s, p99s []float64
}

// appends measures how fast records become durable.
func (b *auditBench) appends(ctx context.Context) ([]bench.Figure, error) {
	sync := &auditBurst{name: "fdatasync", writers: 1, prepare: prepareSync}
	all := []*auditBurst{sync}
	var ours, plain []*auditBurst
	for _, n := range auditWriters {
		o := &auditBurst{name: "append", writers: n, prepare: func(dir string) (func(int) error, func() error, error) {
			l, err := b.open(filepath.Join(dir, "audit.db"))
			if err != nil {
				return nil, nil, err
			}
			act := func(n int) error { _, err := l.Append(ctx, auditEntry(n%auditKnown)); return err }
			for n := 0; n < auditKnown && err == nil; n += auditJob { // makes the people's keys
				err = act(n)
			}
			return act, l.Close, err
		}}
		p := &auditBurst{name: "bbolt", writers: n, prepare: preparePlain(n > 1)}
		ours, plain, all = append(ours, o), append(plain, p), append(all, p, o)
	}
	for run := range b.Runs {
		for _, c := range all {
			b.say("run %d of %d: %s, %d writers", run+1, b.Runs, c.name, c.writers)
			if err := c.measure(ctx, b.dir, b.Burst); err != nil {
				return nil, err
			}
		}
	}
	note := fmt.Sprintf("%s; %s, %v each; a record is an entry of %d bytes, sealed, its leaf, its tree hashes and the checkpoint signed over them, of 50 people who are known already; fdatasync: one of %d bytes overwritten in place",
		bench.Machine(), bench.Times(b.Runs), b.Burst, len(auditPlain()), auditSyncB)
	out := []bench.Figure{bench.New("fdatasync", bench.Median(sync.rate), "1/s", note), bench.New("fdatasync, p99", bench.Median(sync.p99s), "ms", note)}
	for i, o := range ours {
		name := fmt.Sprintf("append, %d writers", o.writers)
		if o.writers == 1 {
			name = "append, 1 writer"
		}
		how := "bbolt, as many bytes a record, a transaction each"
		if o.writers > 1 {
			how = "bbolt, as many bytes a record, DB.Batch"
		}
		out = append(out,
			bench.New(name, bench.Median(o.rate), "records/s", note).Against("fdatasync by 1 writer", bench.Median(sync.rate)),
			bench.New(name, bench.Median(o.rate), "records/s", note).Against(how, bench.Median(plain[i].rate)),
			bench.New(name+", p50", bench.Median(o.p50s), "ms", note).Against(how, bench.Median(plain[i].p50s)),
			bench.New(name+", p99", bench.Median(o.p99s), "ms", note).Against(how, bench.Median(plain[i].p99s)))
	}
	return out, nil
}

// measure has the writers act for a while, in a new folder.
func (c *auditBurst) measure(ctx context.Context, root string, burst time.Duration) error {
	if err := ctx.Err(); err != nil {
		return sallyport.E("bench", sallyport.Canceled, err, "")
	}
	dir, err := os.MkdirTemp(root, "burst-")
	if err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	act, done, err := c.prepare(dir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	took, errs := make([][]time.Duration, c.writers), make([]error, c.writers)
	began := time.Now()
	for w := range c.writers {
		wg.Go(func() {
			for at := time.Now(); at.Sub(began) < burst && errs[w] == nil; {
				errs[w] = act(int(next.Add(1)))
				now := time.Now()
				took[w], at = append(took[w], now.Sub(at)), now
			}
		})
	}
	wg.Wait()
	whole := time.Since(began)
	if err := errors.Join(append(errs, done(), os.RemoveAll(dir))...); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	all := slices.Concat(took...)
	c.rate = append(c.rate, float64(len(all))/whole.Seconds())
	c.p50s, c.p99s = append(c.p50s, quantileMS(all, 50)), append(c.p99s, quantileMS(all, 99))
	return nil
}

// quantileMS sorts.
func quantileMS(took []time.Duration, percent int) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[min(len(took)-1, len(took)*percent/100)].Nanoseconds()) / 1e6
}

// prepareSync overwrites a file in place and syncs each time.
func prepareSync(dir string) (func(int) error, func() error, error) {
	const slots = 4096
	f, err := os.Create(filepath.Join(dir, "f"))
	if err == nil {
		_, err = f.Write(make([]byte, slots*auditSyncB))
	}
	if err == nil {
		err = f.Sync()
	}
	block := make([]byte, auditSyncB)
	return func(n int) error {
		if _, err := f.WriteAt(block, int64(n%slots)*auditSyncB); err != nil {
			return err
		}
		return dataSync(f)
	}, f.Close, err
}

// preparePlain puts rows of a record's length behind each other.
func preparePlain(batch bool) func(dir string) (func(int) error, func() error, error) {
	return func(dir string) (func(int) error, func() error, error) {
		db, err := bbolt.Open(filepath.Join(dir, "plain.db"), 0o600, nil)
		if err != nil {
			return nil, nil, err
		}
		name, row := []byte("rows"), auditPlain()
		err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(name); return err })
		put := db.Update
		if batch {
			put = db.Batch
		}
		return func(n int) error {
			return put(func(tx *bbolt.Tx) error {
				b := tx.Bucket(name)
				b.FillPercent = 1
				return b.Put(fmt.Appendf(nil, "%016x", n), row)
			})
		}, db.Close, err
	}
}

// large measures what is done with a log of many records.
func (b *auditBench) large(ctx context.Context) ([]bench.Figure, error) {
	path := filepath.Join(b.dir, "audit.db")
	l, err := b.open(path)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%s; a log of %d records of %d people, filled by 64 writers", bench.Machine(), b.Records, auditPeople)
	out, err := b.fill(ctx, l, note)
	for _, measure := range []func(context.Context, *audit.Log, string) ([]bench.Figure, error){b.searches, b.proofs} {
		if err == nil {
			var more []bench.Figure
			more, err = measure(ctx, l, note)
			out = append(out, more...)
		}
	}
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	out = append(out, b.sizes(path, note)...)
	more, err := b.restarts(path, note)
	if err != nil {
		return nil, err
	}
	out = append(out, more...)
	more, err = b.verifies(path, note)
	return append(out, more...), err
}

// fill makes the log: each writer takes one job after the other.
func (b *auditBench) fill(ctx context.Context, l *audit.Log, note string) ([]bench.Figure, error) {
	const writers = 64
	b.say("filling a log with %d records", b.Records)
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, writers)
	began := time.Now()
	for w := range writers {
		wg.Go(func() {
			for errs[w] == nil {
				first := int(next.Add(auditJob)) - auditJob
				for i := first; i < min(first+auditJob, b.Records) && errs[w] == nil; i++ {
					_, errs[w] = l.Append(ctx, auditEntry(i))
				}
				if first >= b.Records {
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b.say("filled in %v; waiting for the index", took.Round(time.Millisecond))
	at, err := l.Indexed()
	began = time.Now()
	for since := began; err == nil && l.Size()-at >= auditSegment && time.Since(since) < time.Minute; {
		select {
		case <-ctx.Done():
			return nil, sallyport.E("bench", sallyport.Canceled, ctx.Err(), "")
		case <-time.After(50 * time.Millisecond):
		}
		was := at
		if at, err = l.Indexed(); at != was {
			since = time.Now()
		}
	}
	lag := time.Since(began)
	if err != nil {
		return nil, err
	}
	return []bench.Figure{
		bench.New("filling a log, 64 writers", float64(b.Records)/took.Seconds(), "records/s", note+"; the index is made meanwhile"),
		bench.New("index complete, after the last record", lag.Seconds(), "s", fmt.Sprintf("%s; but for the last %d records, which are read through", note, l.Size()-at)),
	}, nil
}

// searches asks for first pages of 50, newest first.
func (b *auditBench) searches(ctx context.Context, l *audit.Log, note string) ([]bench.Figure, error) {
	r := rand.New(rand.NewPCG(1, 2)) // not a key
	pick := func(what string, n int) string { return what + "-" + strconv.Itoa(r.IntN(n)) }
	jobs := max(1, b.Records/auditJob)
	words := []string{"no consent", "grant ended", "few rows class", "budget spent", "direct identifier"}
	kinds := []struct {
		name string
		ask  func() audit.Filter
	}{
		{"by person", func() audit.Filter { return audit.Filter{Subject: pick("person", auditPeople)} }},
		{"by dataset", func() audit.Filter { return audit.Filter{Dataset: pick("set", 200)} }},
		{"by rule", func() audit.Filter { return audit.Filter{Rule: pick("rule", 60)} }},
		{"by text", func() audit.Filter { return audit.Filter{Text: words[r.IntN(len(words))]} }},
		{"by job", func() audit.Filter { return audit.Filter{Job: sallyport.JobID(pick("job", jobs))} }},
		{"denied, by dataset", func() audit.Filter { return audit.Filter{Dataset: pick("set", 200), Decision: "deny"} }},
		{"by person and text", func() audit.Filter {
			return audit.Filter{Subject: pick("person", auditPeople), Text: words[r.IntN(len(words))]}
		}},
		{"by person, from the middle on", func() audit.Filter {
			return audit.Filter{Subject: pick("person", auditPeople), Before: uint64(b.Records/2 + 1)}
		}},
		{"denied within an hour", func() audit.Filter {
			from := auditTime.Add(time.Duration(r.IntN(b.Records)) * time.Second)
			return audit.Filter{Decision: "deny", Since: from, Until: from.Add(time.Hour)}
		}},
		{"for somebody who never asked", func() audit.Filter { return audit.Filter{Subject: pick("nobody", auditPeople)} }},
		{"without a condition", func() audit.Filter { return audit.Filter{} }},
	}
	note = fmt.Sprintf("%s; first page of 50, newest first, %d different questions, records opened and checked", note, b.Ask)
	var out []bench.Figure
	for _, k := range kinds {
		b.say("search %s", k.name)
		var took []time.Duration
		found := 0
		for range b.Ask {
			f := k.ask()
			f.Newest, f.Limit = true, 50
			began := time.Now()
			for _, err := range l.Records(ctx, f) {
				if err != nil {
					return nil, err
				}
				found++
			}
			took = append(took, time.Since(began))
		}
		p50, p99 := quantileMS(took, 50), quantileMS(took, 99)
		b.say("found %.1f records on average", float64(found)/float64(b.Ask))
		out = append(out, bench.New("search "+k.name+", p50", p50, "ms", note), bench.New("search "+k.name+", p99", p99, "ms", note))
	}
	return out, nil
}

// proofs measures what evidence of single records takes.
func (b *auditBench) proofs(_ context.Context, l *audit.Log, note string) ([]bench.Figure, error) {
	b.say("proofs")
	signed, err := l.Checkpoint()
	if err != nil {
		return nil, err
	}
	cp, err := audit.ParseCheckpoint(signed, l.VerifierKey())
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(3, 4)) // not a key
	var made, checked, grown []time.Duration
	for range max(b.Ask, 100) {
		seq := r.Uint64N(cp.Size)
		began := time.Now()
		path, err := l.Inclusion(seq, cp.Size)
		if err != nil {
			return nil, err
		}
		made = append(made, time.Since(began))
		leaf, err := l.Leaves(seq, 1)
		if err != nil {
			return nil, err
		}
		began = time.Now()
		if err := audit.CheckInclusion(path, leaf[0], seq, cp); err != nil {
			return nil, err
		}
		checked = append(checked, time.Since(began))
		began = time.Now()
		if _, err := l.Consistency(seq+1, cp.Size); err != nil {
			return nil, err
		}
		grown = append(grown, time.Since(began))
	}
	us := func(name string, took []time.Duration) bench.Figure {
		return bench.New(name, quantileMS(took, 50)*1000, "µs", note+"; p50 over random records")
	}
	return []bench.Figure{us("proof of a record, made", made), us("proof of a record, checked", checked), us("proof that the log only grew, made", grown)}, nil
}

// sizes says what a record takes on disk.
func (b *auditBench) sizes(path, note string) []bench.Figure {
	var out []bench.Figure
	for _, p := range []struct{ name, path string }{{"log", path}, {"keys", path + ".keys"}, {"search index", path + ".index"}} {
		size := int64(0)
		_ = filepath.WalkDir(p.path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				size += info.Size()
			}
			return err
		})
		n := fmt.Sprintf("%s; an entry has %d bytes of JSON", note, len(auditPlain()))
		out = append(out, bench.New("bytes a record, "+p.name, float64(size)/float64(b.Records), "B", n))
	}
	return out
}

// restarts measures how long the log takes until it can be appended to.
func (b *auditBench) restarts(path, note string) ([]bench.Figure, error) {
	b.say("restart")
	var opened, orphans []float64
	for range b.Runs {
		began := time.Now()
		l, err := b.open(path)
		if err != nil {
			return nil, err
		}
		opened = append(opened, float64(time.Since(began).Microseconds())/1000)
		began = time.Now()
		_, err = l.Orphans()
		orphans = append(orphans, float64(time.Since(began).Microseconds())/1000)
		if err := errors.Join(err, l.Close()); err != nil {
			return nil, err
		}
	}
	note += "; " + bench.Times(b.Runs)
	return []bench.Figure{
		bench.New("restart, until it takes records", bench.Median(opened), "ms", note+"; the tail is verified"),
		bench.New("restart, list of acts without an outcome", bench.Median(orphans), "ms", note),
	}, nil
}

// verifies recomputes everything, with keys and without.
func (b *auditBench) verifies(path, note string) ([]bench.Figure, error) {
	nowhere := filepath.Join(b.dir, "nowhere")
	var seconds [2]float64
	for i, keys := range []string{"", nowhere} {
		b.say("verify, keys: %v", keys == "")
		began := time.Now()
		v, err := audit.Verify(path, audit.VerifyOptions{Keys: keys})
		if err == nil && (!v.Whole || v.Records != uint64(b.Records)) {
			err = sallyport.Errorf("bench", sallyport.Internal, "", "the log of %d records is found otherwise: %s", b.Records, v.Explain)
		}
		if err != nil {
			return nil, err
		}
		seconds[i] = time.Since(began).Seconds()
	}
	b.say("digest of the file")
	began := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	_, err = io.Copy(sha256.New(), f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, sallyport.E("bench", sallyport.Unavailable, err, "")
	}
	digest := time.Since(began).Seconds()
	peer := "SHA-256 of the file"
	return []bench.Figure{
		bench.New("verify, with keys", seconds[0], "s", note).Against(peer, digest),
		bench.New("verify, without keys", seconds[1], "s", note+"; contents only in their sealed form").Against(peer, digest),
		bench.New("verify, with keys", float64(b.Records)/seconds[0], "records/s", note),
	}, nil
}
