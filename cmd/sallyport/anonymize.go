package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/planning"
	reporting "sallyport/anonymize/report"
)

type anonymizeCmd struct {
	Paths []string `arg:"" optional:"" name:"path" help:"Tables to read: files, patterns, folders, or - for standard input; then where to write."`

	Plan   string   `placeholder:"PLAN.yaml" help:"What becomes of each column."`
	Out    string   `short:"o" placeholder:"PATH" help:"Where to write; every other path is then read."`
	Report []string `sep:"none" placeholder:"R.json|R.html|FOLDER" help:"Write a release report; may be said twice. A folder gets both forms for each table."`
	Key    string   `placeholder:"FILE" help:"Secret key, for verbs that need one."`
	NewKey string   `placeholder:"FILE" help:"Make a secret key first, and use it."`
	DryRun bool     `help:"Show what would happen and the risk; write no table."`
	Force  bool     `help:"Overwrite files that are there."`
	Jobs   int      `short:"j" default:"0" placeholder:"N" help:"Tables at once; otherwise one for each processor."`
	Spill  string   `placeholder:"FOLDER" help:"Folder for what does not fit in memory, encrypted; otherwise the system's."`
}

func (anonymizeCmd) Help() string {
	return `Does to each table what a plan says, and measures what leaves. It needs no gateway and no configuration. Several paths: the last is where to write, unless --out says it. One path alone goes to standard output.

  sallyport plan ward.csv -o ward.yaml
  sallyport anonymize ward.csv out.csv --plan ward.yaml --report out.html
  sallyport anonymize --new-key ward.key
  sallyport anonymize tables/ out/ --plan ward.yaml --key ward.key --report reports/
  sallyport anonymize 'data/*.csv' -o out/ --plan ward.yaml --dry-run
  zcat ward.csv.gz | sallyport anonymize - --plan ward.yaml > out.csv

A folder is read with those below it, which are kept; links that lead out of it are not followed. Every file in it must fit the plan: one that does not is listed as failed, the others go on, and the exit code is 1. No output is seen before it is whole, not even on standard output, and none is left of a file that failed. Outputs are readable by you alone.`
}

// anonymizedTable is what became of one table.
type anonymizedTable struct {
	In           string             `json:"in"`
	Out          string             `json:"out,omitempty"`
	Error        string             `json:"error,omitempty"`
	Hint         string             `json:"hint,omitempty"`
	Format       string             `json:"format,omitempty"`
	Before       *sallyport.Risk    `json:"before,omitempty"`
	After        *sallyport.Risk    `json:"after,omitempty"`
	Records      *reporting.Records `json:"records,omitempty"`
	Output       sallyport.Digest   `json:"output,omitempty"`
	Reports      []string           `json:"reports,omitempty"`
	ReportDigest sallyport.Digest   `json:"report_digest,omitempty"`
	Attention    []string           `json:"needs_attention,omitempty"`
	document     *reporting.Document
	err          error
}

// anonymizing is one run of the command.
type anonymizing struct {
	anonymizeCmd
	file     planning.File
	runner   *anonymize.Runner
	env      anonymize.PassEnv
	tables   *tables
	progress *passProgress
	now      time.Time
}

func (c anonymizeCmd) Run(a *app) error {
	if c.NewKey != "" {
		if c.Key != "" {
			return pathError(sallyport.Invalid, "Say one of the two.", "--key and --new-key")
		}
		if err := newTableKey(c.NewKey); err != nil {
			return err
		}
		fmt.Fprintf(a.errs, "The key is in %s. Keep it as you keep the data: with it tokens join, and some can be turned back.\n", c.NewKey)
		if len(c.Paths) == 0 {
			return nil
		}
		c.Key = c.NewKey
	}
	r, err := c.begin(a)
	if err != nil {
		return err
	}
	defer r.tables.close()
	results := r.all(a.ctx)
	r.progress.wipe()
	if a.ctx.Err() != nil {
		return sallyport.E("anonymize", sallyport.Canceled, context.Cause(a.ctx), "What was written is whole; run it again with --force, or for the rest.")
	}
	return r.show(a, results)
}

// begin checks everything that can be checked before a table is read.
func (c anonymizeCmd) begin(a *app) (*anonymizing, error) {
	ins, out := c.Paths, c.Out
	if out == "" && len(ins) > 1 {
		ins, out = ins[:len(ins)-1], ins[len(ins)-1]
	}
	switch {
	case len(ins) == 0:
		return nil, pathError(sallyport.Invalid, "Name a file, a folder, or - for standard input.", "nothing to read")
	case c.Plan == "":
		return nil, pathError(sallyport.Invalid, "`sallyport plan FILE -o PLAN.yaml` writes one to start from.", "--plan is missing")
	case c.Jobs < 0:
		return nil, pathError(sallyport.Invalid, "", "--jobs must be at least 1")
	}
	r := &anonymizing{anonymizeCmd: c, runner: tableRunner(), now: time.Now()}
	if r.Spill == "" {
		r.Spill = os.TempDir()
	}
	var err error
	if r.file, r.env, err = tableEnv(r.runner, c.Plan, c.Key); err != nil {
		return nil, err
	}
	if r.tables, err = findTables(ins, out); err != nil {
		return nil, err
	}
	if a.json && r.tables.files[0].out == "" && !c.DryRun {
		r.tables.close()
		return nil, pathError(sallyport.Invalid, "Name an output file.", "the table and --json cannot both go to standard output")
	}
	if err := r.placeReports(); err != nil {
		r.tables.close()
		return nil, err
	}
	if r.Jobs == 0 {
		r.Jobs = runtime.GOMAXPROCS(0)
	}
	r.Jobs = min(r.Jobs, len(r.tables.files))
	r.env.SpillDir, r.env.Contribution = r.Spill, len(c.Report) > 0
	r.env.CensusLimit = max(32<<20, anonymize.DefaultCensusLimit/int64(r.Jobs))
	r.progress = newPassProgress(a.errs, r.tables.files, r.tables.many, time.Now)
	return r, nil
}

// tableRunner is the pass with all that this binary can do.
func tableRunner() *anonymize.Runner {
	var f []anonymize.Format
	for _, k := range formats() {
		f = append(f, k.Format)
	}
	return anonymize.NewRunner(f, transforms())
}

// tableEnv reads a plan file and a key, and checks that they suffice.
func tableEnv(runner *anonymize.Runner, planFile, keyFile string) (planning.File, anonymize.PassEnv, error) {
	fail := func(err error) (planning.File, anonymize.PassEnv, error) {
		return planning.File{}, anonymize.PassEnv{}, err
	}
	f, err := os.Open(planFile)
	if err != nil {
		return fail(sallyport.E("read plan", sallyport.NotFound, err, "`sallyport plan FILE -o PLAN.yaml` writes one to start from."))
	}
	defer f.Close()
	plan, err := planning.Read(f)
	if err != nil {
		return fail(err)
	}
	var key *tableKey
	if keyFile != "" {
		if key, err = readTableKey(keyFile); err != nil {
			return fail(err)
		}
	}
	asked := false
	env := anonymize.PassEnv{
		Key: func(purpose string) []byte {
			asked = true
			return key.derive(purpose)
		},
		Hierarchy: planHierarchies(planFile, plan.Hierarchies),
	}
	check := plan.Plan("check")
	if check.Format == "" {
		check.Format = runner.Formats()[0].Name()
	}
	if err := runner.Check(check, env); err != nil {
		if asked && key == nil && sallyport.KindOf(err) == sallyport.Unavailable {
			return fail(pathError(sallyport.Invalid, "Make one with `sallyport anonymize --new-key FILE`, and name it by --key.", "the plan has a verb that needs a secret key"))
		}
		return fail(err)
	}
	env.Key = key.derive // by several goroutines
	return plan, env, nil
}

// planHierarchies opens hierarchies in the plan's folder for them, and nowhere else.
func planHierarchies(planFile, folder string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		if folder == "" {
			return nil, sallyport.Errorf("hierarchy", sallyport.NotFound, "Write `hierarchies: FOLDER` in the plan.", "the plan names no folder of hierarchies, in which to look for %q", name)
		}
		f, err := os.OpenInRoot(filepath.Join(filepath.Dir(planFile), filepath.FromSlash(folder)), name)
		if err != nil {
			return nil, sallyport.E("hierarchy", sallyport.NotFound, err, "Put it into the plan's folder of hierarchies.")
		}
		return f, nil
	}
}

// placeReports checks where reports are to go.
func (r *anonymizing) placeReports() error {
	for i, p := range r.Report {
		ext := strings.ToLower(filepath.Ext(p))
		file := (ext == ".json" || ext == ".html") && !isFolder(p)
		switch {
		case slices.Contains(r.Report[:i], p):
			return pathError(sallyport.Invalid, "", "the report %s is named twice", p)
		case file && r.tables.many:
			return pathError(sallyport.Invalid, "Name a folder: each table gets its own reports there.", "the reports of several tables cannot go to the one file %s", p)
		case !file && (!isFolder(p) && ext != "" && !strings.HasSuffix(p, "/")):
			return pathError(sallyport.Invalid, "Name it .json or .html, or name a folder.", "report %s: what form it should have cannot be told", p)
		}
		real := realPath(p)
		for _, f := range r.tables.files {
			if real == f.real || f.out != "" && real == realPath(f.out) {
				return pathError(sallyport.Invalid, "Name another file.", "the report %s would overwrite a table", p)
			}
		}
		for _, root := range r.tables.roots {
			if within(realPath(root.Name()), real) {
				return pathError(sallyport.Invalid, "Name one outside of it.", "the report %s is in the input folder %s, and would be read as input", p, root.Name())
			}
		}
	}
	return nil
}

// reportsOf lists the reports of a table.
func (r *anonymizing) reportsOf(f tableFile) []string {
	var out []string
	for _, p := range r.Report {
		if ext := strings.ToLower(filepath.Ext(p)); (ext == ".json" || ext == ".html") && !isFolder(p) {
			out = append(out, p)
			continue
		}
		at := filepath.Join(p, filepath.FromSlash(f.rel))
		out = append(out, at+".json", at+".html")
	}
	return out
}

// all anonymizes the tables, several at once.
func (r *anonymizing) all(ctx context.Context) []anonymizedTable {
	results := make([]anonymizedTable, len(r.tables.files))
	swept := map[string]bool{}
	for _, f := range r.tables.files {
		for _, p := range append(r.reportsOf(f), f.out) {
			if dir := filepath.Dir(p); p != "" && !swept[dir] {
				swept[dir] = true
				sweepOutputs(dir)
			}
		}
	}
	next := make(chan int)
	var workers sync.WaitGroup
	for range r.Jobs {
		workers.Go(func() {
			for i := range next {
				f := r.tables.files[i]
				results[i] = r.one(ctx, i, f)
				how := "done"
				if results[i].err != nil {
					how = "failed"
				}
				r.progress.end(i, f.size, f.name, how)
			}
		})
	}
	for i := range r.tables.files {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// one anonymizes a table.
func (r *anonymizing) one(ctx context.Context, i int, f tableFile) anonymizedTable {
	res := anonymizedTable{In: f.name, Out: f.out}
	if r.DryRun {
		res.Out = ""
	}
	if err := r.pass(ctx, i, f, &res); err != nil {
		res = anonymizedTable{In: f.name, Error: err.Error(), Hint: sallyport.HintOf(err), err: err}
	}
	return res
}

func (r *anonymizing) pass(ctx context.Context, i int, f tableFile, res *anonymizedTable) error {
	if f.bad != nil {
		return f.bad
	}
	reports := r.reportsOf(f)
	if !r.Force {
		for _, p := range append(slices.Clone(reports), res.Out) {
			if _, err := os.Lstat(p); p != "" && err == nil {
				return outputError(&fs.PathError{Op: "write", Path: p, Err: fs.ErrExist})
			}
		}
	}
	src, closeSource, err := r.source(ctx, f)
	if err != nil {
		return err
	}
	defer closeSource()
	plan, err := r.planFor(ctx, f, src)
	if err != nil {
		return err
	}
	var dst io.Writer = io.Discard
	var out *output
	var kept *spool
	switch {
	case r.DryRun:
	case f.out == "": // nothing is shown before all of it may be
		kept = newSpool(r.Spill)
		defer kept.Close()
		dst = kept
	default:
		if err := r.tables.prepare(f.out); err != nil {
			return err
		}
		if out, err = createOutput(f.out); err != nil {
			return err
		}
		defer out.discard()
		dst = out.File
	}
	env := r.env
	env.Progress = func(read, _ int64) { r.progress.at(i, f.size, read) }
	did, err := r.runner.Run(ctx, plan, env, dst, src)
	if err != nil {
		return err
	}
	doc := reporting.New(reporting.Input{Plan: plan, Report: did, Transforms: r.runner.Transforms(), Source: "plan file " + filepath.Base(r.Plan),
		About: []reporting.Fact{{Name: "Table", Value: filepath.ToSlash(f.rel)}, {Name: "Made by", Value: "sallyport " + version}}, Time: r.now})
	if res.ReportDigest, err = reporting.JSON(io.Discard, doc); err != nil {
		return err
	}
	if res.Reports, err = r.writeReports(reports, doc); err != nil {
		return err
	}
	switch {
	case out != nil:
		err = out.commit(r.Force)
	case kept != nil:
		_, err = io.Copy(os.Stdout, kept)
	}
	if err != nil {
		for _, p := range res.Reports { // of something that is not there
			os.Remove(p)
		}
		return err
	}
	res.Format, res.Before, res.After, res.Records = plan.Format, &did.Before, &did.After, &doc.Records
	res.Output, res.Attention, res.document = did.Output, doc.NeedAttention, &doc
	return nil
}

// tableSource is a Source that knows its size.
type tableSource struct {
	*os.File
	size int64
}

func (s tableSource) Size() int64 { return s.size }

var (
	_ anonymize.Sized = tableSource{}
	_ anonymize.Sized = (*spool)(nil)
)

// source opens a table. Standard input is kept, for it must be read again.
func (r *anonymizing) source(ctx context.Context, f tableFile) (anonymize.Sized, func() error, error) {
	if !f.stdin {
		file, err := f.open()
		if err != nil {
			return nil, nil, sallyport.E("", sallyport.Unavailable, err, "See that you may read it.")
		}
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, nil, sallyport.E("", sallyport.Unavailable, err, "")
		}
		return tableSource{file, info.Size()}, file.Close, nil
	}
	if info, err := os.Stdin.Stat(); err == nil && info.Mode().IsRegular() {
		if at, err := os.Stdin.Seek(0, io.SeekCurrent); err == nil && at == 0 {
			return tableSource{os.Stdin, info.Size()}, func() error { return nil }, nil
		}
	}
	s := newSpool(r.Spill)
	filled := make(chan error, 1)
	go func() { filled <- s.fill(os.Stdin) }()
	select {
	case err := <-filled:
		if err != nil {
			s.Close()
			return nil, nil, sallyport.E("read standard input", sallyport.Unavailable, err, "")
		}
		return s, s.Close, nil
	case <-ctx.Done(): // a read of a terminal does not end; the process will
		return nil, nil, sallyport.E("read standard input", sallyport.Canceled, context.Cause(ctx), "")
	}
}

// errHeader ends the reading of a table after its header.
var errHeader = errors.New("the header was read")

// header is an Editor that only learns a table's columns.
type header struct{ columns []string }

func (h *header) Header(columns []string) ([]string, error) {
	h.columns = slices.Clone(columns)
	return nil, errHeader
}

func (h *header) Record([][]byte) ([][]byte, error) { return nil, errHeader }

// knownHeader is a header of a table whose columns must be those of the plan,
// so that a format without a header need not look for them.
type knownHeader struct {
	header
	known []string
}

func (h *knownHeader) Columns() []string { return h.known }

var (
	_ anonymize.Editor = (*header)(nil)
	_ anonymize.Knower = (*knownHeader)(nil)
)

// planFor makes the plan of one table of the plan file.
func (r *anonymizing) planFor(ctx context.Context, f tableFile, src anonymize.Sized) (anonymize.Plan, error) {
	var none anonymize.Plan
	file := r.file
	if file.Format == "" {
		format, err := formatOf("", f.name, src)
		if err != nil {
			return none, err
		}
		file.Format = format.Name()
	}
	format, err := r.runner.Format(file.Format)
	if err != nil {
		return none, err
	}
	known := &knownHeader{}
	for _, c := range file.Columns {
		known.known = append(known.known, c.Name)
	}
	var look anonymize.Editor = known
	if file.DropOthers {
		look = &known.header
	}
	err = format.Rewrite(ctx, io.Discard, io.NewSectionReader(src, 0, src.Size()), look)
	switch {
	case err == nil:
		return none, pathError(sallyport.Invalid, "", "the file has no header")
	case !errors.Is(err, errHeader):
		return none, err
	}
	if file, err = fitPlan(file, known.columns); err != nil {
		return none, err
	}
	if file.SafeHarbor {
		if err := file.CheckSafeHarbor(); err != nil {
			return none, err
		}
	}
	return file.Plan(datasetID(f.rel)), nil
}

// fitPlan fits a plan to a table's columns. Names of the file are not quoted:
// where the header is missing they are values.
func fitPlan(file planning.File, columns []string) (planning.File, error) {
	named := map[string]bool{}
	for _, c := range file.Columns {
		named[c.Name] = true
	}
	seen := map[string]int{}
	for i, name := range columns {
		switch first, again := seen[name]; {
		case again:
			return file, pathError(sallyport.Invalid, "Give each column a name of its own.", "columns %d and %d of the file have the same name", first+1, i+1)
		case !named[name] && !file.DropOthers:
			return file, pathError(sallyport.Invalid, "Name it under `columns:` in the plan, or write `others: drop` there. If it is a value, the file has no header.",
				"column %d of the file is not in the plan", i+1)
		}
		seen[name] = i
	}
	for _, c := range file.Columns {
		if _, ok := seen[c.Name]; !ok {
			return file, pathError(sallyport.Invalid, "Take it out of the plan, or give the file that the plan was made for.", "the file lacks column %q of the plan", c.Name)
		}
	}
	return file.Complete(columns)
}

// writeReports writes the reports of a table, all or none.
func (r *anonymizing) writeReports(paths []string, doc reporting.Document) (done []string, err error) {
	defer func() {
		if err != nil {
			for _, p := range done {
				os.Remove(p)
			}
			done = nil
		}
	}()
	for _, p := range paths {
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return done, outputError(err)
		}
		o, err := createOutput(p)
		if err != nil {
			return done, err
		}
		write := reporting.JSON
		if strings.EqualFold(filepath.Ext(p), ".html") {
			write = reporting.HTML
		}
		if _, err := write(o, doc); err != nil {
			o.discard()
			return done, err
		}
		if err := o.commit(r.Force); err != nil {
			return done, err
		}
		done = append(done, p)
	}
	return done, nil
}
