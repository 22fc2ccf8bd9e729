package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/catalog"
	"sallyport/store"
)

type datasetCmd struct {
	Add  datasetAddCmd  `cmd:"" help:"Scan a file and write its catalog entry."`
	Ls   datasetLsCmd   `cmd:"" help:"List the catalog."`
	Show datasetShowCmd `cmd:"" help:"Show an entry and what has left of it."`
	Scan datasetScanCmd `cmd:"" help:"Profile a file and propose its catalog entry."`

	Prepare datasetPrepareCmd `cmd:"" help:"Make a dataset's view ahead of its first reader."`
	Inbox   datasetInboxCmd   `cmd:"" help:"Uploads in quarantine: ls, accept, reject."`
}

type datasetScanCmd struct {
	File  string `arg:"" help:"The file to look at."`
	Owner string `default:"steward" help:"Owner for the proposed entry."`
	Entry bool   `help:"Print only the proposed entry, as YAML."`
	dialect
}

func (datasetScanCmd) Help() string {
	return `Reads the whole file once and keeps none of its values. The proposal is a guess with its evidence: read it before you use it.

  sallyport dataset scan patients.csv
  sallyport dataset scan patients.csv --entry > catalog/patients.yaml`
}

func (c datasetScanCmd) Run(a *app) error {
	prof, err := scanFile(a.ctx, c.File, c.Format)
	if err != nil {
		return err
	}
	d := prof.Propose(datasetID(c.File), c.Owner, sallyport.Ref{Store: "data", Key: filepath.Base(c.File)})
	entry, err := catalog.Format(d)
	if err != nil {
		return err
	}
	switch {
	case c.Entry:
		_, err = a.out.Write(entry)
		return err
	case a.json:
		return a.printJSON(map[string]any{"profile": prof, "entry": d})
	}
	showProfile(a.out, prof)
	fmt.Fprintf(a.out, "\nProposed catalog entry:\n\n%s", entry)
	return nil
}

func showProfile(w io.Writer, prof anonymize.Profile) {
	fmt.Fprintf(w, "%s, %d records, %d columns\n\n", prof.Format, prof.Records, len(prof.Columns))
	var rows [][]string
	for _, c := range prof.Columns {
		mask := "-"
		if c.Mask != nil && c.Mask.Verb != "" {
			mask = c.Mask.Verb
		}
		evidence := strings.Join(c.Evidence, "; ")
		if c.Warning != "" {
			evidence = "! " + c.Warning + "; " + evidence
		}
		rows = append(rows, []string{c.Name, c.Type, percentOf(c.Unique), percentOf(share(c.Empty, prof.Records)), string(c.Role), mask, clip(evidence, 70)})
	}
	table(w, []string{"column", "type", "unique", "empty", "role", "mask", "evidence"}, rows)
}

func share(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func percentOf(share float64) string { return fmt.Sprintf("%.1f %%", share*100) }

// datasetID makes an ID of a file's name.
func datasetID(file string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
	}
	id := strings.Trim(b.String(), "-")
	if len(id) > 48 {
		id = strings.Trim(id[:48], "-")
	}
	if id == "" {
		return "dataset"
	}
	return id
}

func scanFile(ctx context.Context, file, format string) (anonymize.Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return anonymize.Profile{}, sallyport.E("scan", sallyport.NotFound, err, "Name a file.")
	}
	defer f.Close()
	return scan(ctx, file, f, format)
}

// scan profiles a file of a declared format, or of the one that its head shows.
func scan(ctx context.Context, name string, src anonymize.Source, format string) (anonymize.Profile, error) {
	if format != "" {
		f, err := newRunner().Format(format)
		if err != nil {
			return anonymize.Profile{}, err
		}
		p, err := anonymize.Scan(ctx, f, src, 0)
		p.Format = format // with its options
		return p, err
	}
	f, err := formatOf("scan", name, src)
	if err != nil {
		return anonymize.Profile{}, err
	}
	return anonymize.Scan(ctx, f, src, 0)
}

type datasetAddCmd struct {
	File string `arg:"" help:"The file, or its key in the store."`

	ID          string   `help:"The dataset's name; from the file's otherwise."`
	Owner       string   `default:"steward" help:"Who answers for it."`
	Store       string   `default:"data" help:"Store that it lies in."`
	Sensitivity string   `enum:"public,internal,confidential,restricted" default:"confidential" help:"public, internal, confidential or restricted."`
	Purpose     []string `default:"research" help:"What it may be used for."`
	Residency   []string `help:"Regions where it may be processed; none means anywhere."`
	dialect
}

func (datasetAddCmd) Help() string {
	return `Scans the file, writes a catalog entry with the proposed roles and masks, and copies the file into the store if it is not there. Then edit the entry: you know better.

  sallyport dataset add data/patients.csv
  sallyport dataset add ward.csv --id ward --sensitivity restricted --purpose research,quality`
}

func (c datasetAddCmd) Run(a *app) error {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	s, err := openSource(a.ctx, cfg, c.Store)
	if err != nil {
		return err
	}
	key := filepath.Base(c.File)
	if _, err := os.Stat(c.File); err == nil {
		if err := putFile(a.ctx, s, c.Store, key, c.File); err != nil {
			return err
		}
	} else {
		key = filepath.ToSlash(c.File)
	}
	ref := sallyport.Ref{Store: c.Store, Key: key}
	obj, err := s.Open(a.ctx, ref)
	if err != nil {
		return err
	}
	defer obj.Close()
	prof, err := scan(a.ctx, key, obj, c.Format)
	if err != nil {
		return err
	}
	id := c.ID
	if id == "" {
		id = datasetID(key)
	}
	d := prof.Propose(id, c.Owner, ref)
	d.Sensitivity, d.Purposes, d.Residency = sallyport.Sensitivity(c.Sensitivity), c.Purpose, c.Residency
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return err
	}
	path, err := cat.Add(d)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"entry": d, "file": path})
	}
	showProfile(a.out, prof)
	fmt.Fprintf(a.out, "\nAdded %s as %s: %s\nRead the roles and masks there before you release anything.\n", id, c.Sensitivity, path)
	return nil
}

func openSource(ctx context.Context, cfg *Config, name string) (store.Store, error) {
	k, ok := cfg.Stores[name]
	if !ok {
		return nil, sallyport.Errorf("store", sallyport.NotFound, "Name it under `stores:` in the configuration.", "no store %q", name)
	}
	s, err := opener{cfg: cfg, name: name}.stores().Open(ctx, k.Kind, cfg.decoder("$.stores."+name, k))
	if err != nil {
		return nil, configError(err)
	}
	return s, nil
}

// putFile copies a file into the store, unless an object of the same size is
// there already (which the file usually is itself).
func putFile(ctx context.Context, s store.Store, name, key, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return sallyport.E("add dataset", sallyport.NotFound, err, "")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sallyport.E("add dataset", sallyport.Unavailable, err, "")
	}
	ref := sallyport.Ref{Store: name, Key: key}
	if obj, err := s.Open(ctx, ref); err == nil {
		size := obj.Info().Size
		obj.Close()
		if size == info.Size() {
			return nil
		}
		return sallyport.Errorf("add dataset", sallyport.Conflict, "Give the file another name.", "%s exists already and differs", ref)
	}
	_, err = s.Put(ctx, ref, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
	return err
}

type datasetLsCmd struct{}

func (datasetLsCmd) Run(a *app) error {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(cat.All())
	}
	var rows [][]string
	for _, d := range cat.All() {
		rows = append(rows, []string{d.ID, string(d.Sensitivity), d.Owner, d.Location.String(), fmt.Sprint(len(d.Columns)), list(d.Purposes), list(d.Residency)})
	}
	table(a.out, []string{"dataset", "class", "owner", "location", "columns", "purposes", "residency"}, rows)
	return nil
}

type datasetShowCmd struct {
	Dataset string `arg:"" help:"The dataset's name."`
}

func (c datasetShowCmd) Run(a *app) error {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(cfg.path(cfg.Catalog))
	if err != nil {
		return err
	}
	d, err := cat.Get(c.Dataset)
	if err != nil {
		return err
	}
	releases, err := a.releases(cfg, d.ID)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"entry": d, "releases": releases})
	}
	pairs(a.out, "dataset", d.ID, "title", d.Title, "class", string(d.Sensitivity), "owner", d.Owner, "location", d.Location.String(),
		"format", d.Format, "purposes", list(d.Purposes), "residency", list(d.Residency), "subject", d.Subject)
	fmt.Fprintln(a.out)
	var rows [][]string
	for _, col := range d.Columns {
		rows = append(rows, []string{col.Name, string(col.Role), col.Type, maskText(col.Mask)})
	}
	table(a.out, []string{"column", "role", "type", "proposed mask"}, rows)
	fmt.Fprintf(a.out, "\n%d releases\n", len(releases))
	if len(releases) == 0 {
		return nil
	}
	rows = nil
	for _, r := range releases {
		rows = append(rows, []string{clock(r.Time), string(r.Job), string(r.Destination), fmt.Sprint(r.Risk.Records), fmt.Sprint(r.Risk.SmallestClass), percentOf(r.Risk.Unique), r.Plan.Short()})
	}
	table(a.out, []string{"time", "job", "side", "records", "k", "unique", "plan"}, rows)
	return nil
}

func (a *app) releases(cfg *Config, dataset string) ([]sallyport.Release, error) {
	if c, err := a.running(cfg); c != nil {
		return c.Releases(a.ctx, dataset)
	} else if err != nil {
		return nil, err
	}
	j, err := openJournal(cfg)
	if j == nil || err != nil {
		return []sallyport.Release{}, err
	}
	defer j.Close()
	return j.Releases(dataset)
}

func maskText(m *sallyport.Mask) string {
	if m == nil {
		return "-"
	}
	var args []string
	for k, v := range m.Args {
		args = append(args, fmt.Sprintf("%s: %v", k, v))
	}
	return strings.TrimSpace(m.Verb + " " + strings.Join(args, ", "))
}
