package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/catalog"
	"sallyport/gateway"
	"sallyport/policy"
)

// ownData copies the user's CSV into the demo's store, scans it, shows what it
// found, and writes a catalog entry whose plan is coarse enough for door 2, if
// there is one.
func (c demoCmd) ownData(ctx context.Context, cfg *Config, cat *catalog.Catalog, v *view) (string, error) {
	s, err := openSource(ctx, cfg, "data")
	if err != nil {
		return "", err
	}
	key := filepath.Base(c.Data)
	if err := putFile(ctx, s, "data", key, c.Data); err != nil {
		return "", err
	}
	v.begin("scan", key)
	prof, err := scanFile(ctx, c.Data, "")
	if err != nil {
		return "", err
	}
	v.done("scan", fmt.Sprintf("%d records, %d columns", prof.Records, len(prof.Columns)))
	if !v.quiet {
		showProfile(v.w, prof)
	}
	d := prof.Propose(datasetID(c.Data), "steward", sallyport.Ref{Store: "data", Key: key})
	d.Sensitivity, d.Purposes = sallyport.Confidential, []string{"research"}
	if err := coarsen(ctx, cfg, cat, &d, prof, c.Data, v); err != nil {
		return "", err
	}
	if _, err := cat.Add(d); err != nil {
		return "", err
	}
	return d.ID, nil
}

// coarsen withholds quasi-identifiers, those of most values first, until the
// smallest class is what policy asks for. It measures; it does not guess.
func coarsen(ctx context.Context, cfg *Config, cat *catalog.Catalog, d *sallyport.Dataset, prof anonymize.Profile, file string, v *view) error {
	distinct := map[string]int64{}
	for _, c := range prof.Columns {
		distinct[c.Name] = c.Distinct
	}
	for {
		verdict, err := tryAdmit(ctx, cfg, *d)
		if err != nil || !verdict.Allow {
			return err // the passage will say why
		}
		risk, err := measure(ctx, *d, verdict, file)
		if err != nil {
			return err
		}
		v.say("  plan measured: k=%d of at least %d wanted, %s unique", risk.SmallestClass, verdict.Limits.MinClass, percentOf(risk.Unique))
		if risk.SmallestClass >= verdict.Limits.MinClass {
			return nil
		}
		worst := -1
		for i, col := range d.Columns {
			if col.Role == sallyport.Quasi && col.Mask != nil && col.Mask.Verb != "drop" && slices.Contains(risk.Quasi, col.Name) &&
				(worst < 0 || distinct[col.Name] > distinct[d.Columns[worst].Name]) {
				worst = i
			}
		}
		if worst < 0 {
			return nil // nothing left to withhold; door 2 will judge
		}
		v.say("  withholding %s, the quasi-identifier of most values that is left", d.Columns[worst].Name)
		d.Columns[worst].Mask = mask("drop", nil)
	}
}

// tryAdmit asks door 1 what it would demand of the dataset, outside the record:
// nothing is read for it and nothing can leave by it.
func tryAdmit(ctx context.Context, cfg *Config, d sallyport.Dataset) (policy.Verdict, error) {
	bundle, err := cfg.bundle()
	if err != nil {
		return policy.Verdict{}, err
	}
	e, err := policy.New(ctx, policy.Config{Bundle: bundle, Overlay: map[string]any{
		"site": cfg.site(), "register": map[string]any{"grants": map[string]any{}, "consents": map[string]any{}, "exceptions": map[string]any{}}, "catalog": map[string]any{"datasets": map[string]any{d.ID: d}}}})
	if err != nil {
		return policy.Verdict{}, err
	}
	module := algorithms()["features"].algorithm("features").Module
	return e.Admit(ctx, policy.Admission{Version: policy.InputVersion, Time: time.Now().UTC(), Job: "plan", Dataset: d.ID, Project: "pilot", Purpose: "research",
		Subject: gateway.Subject{ID: "researcher", Roles: []string{"researcher"}, Projects: []string{"pilot"}, Credential: "demo"},
		Request: policy.Request{Algorithm: "features", Module: module.Digest, Runner: module.Runner, Where: sallyport.Outside}, History: []sallyport.Release{}})
}

// measure runs the pass into nowhere and returns what it measured.
func measure(ctx context.Context, d sallyport.Dataset, verdict policy.Verdict, file string) (sallyport.Risk, error) {
	f, err := os.Open(file)
	if err != nil {
		return sallyport.Risk{}, sallyport.E("demo", sallyport.NotFound, err, "")
	}
	defer f.Close()
	plan := anonymize.Plan{Dataset: d.ID, Format: d.Format, Columns: d.Columns, Subject: d.Subject, Obligations: verdict.Obligations, Rows: verdict.Rows}
	report, err := newRunner().Run(ctx, plan, anonymize.PassEnv{Key: func(string) []byte { return make([]byte, 32) }}, io.Discard, f)
	return report.After, err
}
