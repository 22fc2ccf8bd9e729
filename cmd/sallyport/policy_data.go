package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sallyport"
	"sallyport/audit"
	"sallyport/policy/archive"
)

// archive opens what the configured gateway keeps of its rules and data.
func (a *app) archive() (*archive.Archive, error) {
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, err
	}
	return archive.Open(cfg.policyFolder()), nil
}

type policyDataCmd struct {
	Record string `arg:"" optional:"" help:"Number of a decision's record, or a digest of data; the last decision's if left out."`
	Path   string `arg:"" optional:"" help:"Only this: site.people.ada, catalog.datasets.cohort, register.grants."`
	Diff   string `placeholder:"RECORD" help:"Show what differs from the data that this record's decision saw."`
	DB     string `name:"db" placeholder:"FILE" help:"Find the record in this copy of a log."`
}

func (policyDataCmd) Help() string {
	return `Shows the data that a decision saw: catalog, site, register and the bundle's tables, as they were then. Without a path it lists the roots with their digests.

  sallyport policy data                          # of the last decision
  sallyport policy data 17 site.people.ada
  sallyport policy data 17 --diff 4              # what changed between the two`
}

func (c policyDataCmd) Run(a *app) error {
	kept, err := a.archive()
	if err != nil {
		return err
	}
	digest, err := c.digest(a, c.Record)
	if err != nil {
		return err
	}
	if c.Diff != "" {
		return c.diff(a, kept, digest)
	}
	roots, err := kept.Roots(digest)
	if err != nil {
		return err
	}
	if c.Path == "" {
		if a.json {
			return a.printJSON(map[string]any{"data": digest, "roots": roots})
		}
		fmt.Fprintf(a.out, "data %s\n", digest)
		var rows [][]string
		for _, root := range slices.Sorted(maps.Keys(roots)) {
			rows = append(rows, []string{root, roots[root].Short()})
		}
		table(a.out, []string{"root", "digest"}, rows)
		fmt.Fprintln(a.out, "\nAdd a path to see inside, such as `sallyport policy data "+recordOr(c.Record, "RECORD")+" site.projects`.")
		return nil
	}
	all, err := kept.Data(digest)
	if err != nil {
		return err
	}
	v, err := lookUp(all, c.Path)
	if err != nil {
		return err
	}
	return a.printJSON(v)
}

func recordOr(record, otherwise string) string {
	if record == "" {
		return otherwise
	}
	return record
}

// digest finds the data of a record, or of the last decision.
func (c policyDataCmd) digest(a *app, record string) (sallyport.Digest, error) {
	if strings.HasPrefix(record, "sha256:") {
		return sallyport.Digest(record), nil
	}
	l, err := a.readLog(reading{DB: c.DB})
	if err != nil {
		return "", err
	}
	defer l.Close()
	if record == "" {
		for r, err := range l.Records(a.ctx, audit.Filter{Newest: true}) {
			if err != nil {
				return "", err
			}
			if r.Entry.Data != "" {
				return r.Entry.Data, nil
			}
		}
		return "", sallyport.Errorf("policy data", sallyport.NotFound, "", "nothing was decided yet")
	}
	n, err := strconv.ParseUint(record, 10, 64)
	if err != nil {
		return "", sallyport.Errorf("policy data", sallyport.Invalid, "`sallyport audit ls` shows the numbers.", "%q is no record's number and no digest", record)
	}
	r, err := l.Get(n)
	if err != nil {
		return "", err
	}
	if r.Entry.Data == "" {
		return "", sallyport.Errorf("policy data", sallyport.NotFound, "Name the record of a decision: an outcome of admit or release.",
			"record %d (%s, %s) is no decision of policy", n, r.Entry.Step, r.Entry.Phase)
	}
	return r.Entry.Data, nil
}

func (c policyDataCmd) diff(a *app, kept *archive.Archive, now sallyport.Digest) error {
	before, err := c.digest(a, c.Diff)
	if err != nil {
		return err
	}
	x, err := kept.Data(before)
	if err != nil {
		return err
	}
	y, err := kept.Data(now)
	if err != nil {
		return err
	}
	changes := []dataChange{}
	differ("", x, y, func(path string, was, is any) { changes = append(changes, dataChange{path, was, is}) })
	if a.json {
		return a.printJSON(changes)
	}
	if len(changes) == 0 {
		fmt.Fprintln(a.out, "The data are the same.")
		return nil
	}
	var rows [][]string
	for _, ch := range changes {
		rows = append(rows, []string{ch.Path, jsonText(ch.Was), jsonText(ch.Is)})
	}
	table(a.out, []string{"path", "was", "is"}, rows)
	return nil
}

type dataChange struct {
	Path string `json:"path"`
	Was  any    `json:"was"` // null where it was not there
	Is   any    `json:"is"`  // null where it is not there any more
}

// differ tells where two values differ, as deep as objects go.
func differ(path string, x, y any, tell func(path string, was, is any)) {
	a, aok := x.(map[string]any)
	b, bok := y.(map[string]any)
	if !aok || !bok {
		if jsonText(x) != jsonText(y) {
			tell(path, x, y)
		}
		return
	}
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		differ(strings.TrimPrefix(path+"."+k, "."), a[k], b[k], tell)
	}
}

func jsonText(v any) string {
	if v == nil {
		return "–"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// lookUp follows a path of keys and list positions. A key may itself hold dots:
// the longest that is there counts.
func lookUp(v any, path string) (any, error) {
	parts := strings.Split(path, ".")
	for i := 0; i < len(parts); {
		next, used := step(v, parts[i:])
		if used == 0 {
			hint := ""
			if m, ok := v.(map[string]any); ok {
				keys := slices.Sorted(maps.Keys(m))
				hint = "There is: " + strings.Join(keys[:min(len(keys), 20)], ", ") + "."
			}
			return nil, sallyport.Errorf("policy data", sallyport.NotFound, hint, "no %q at %q", strings.Join(parts[i:], "."), strings.Join(parts[:i], "."))
		}
		v, i = next, i+used
	}
	return v, nil
}

func step(v any, parts []string) (next any, used int) {
	switch v := v.(type) {
	case map[string]any:
		for n := len(parts); n > 0; n-- {
			if x, ok := v[strings.Join(parts[:n], ".")]; ok {
				return x, n
			}
		}
	case []any:
		if i, err := strconv.Atoi(parts[0]); err == nil && i >= 0 && i < len(v) {
			return v[i], 1
		}
	}
	return nil, 0
}
