package main

import (
	"fmt"
	"io/fs"
	"os"

	"sallyport/policy"
)

// policyCmd is the first cut of the policy tools.
type policyCmd struct {
	Test policyTestCmd `cmd:"" help:"Run the bundle's own Rego tests."`
}

type policyTestCmd struct {
	Bundle string `placeholder:"DIR" help:"Test this bundle instead of the configured one."`
}

func (c policyTestCmd) Run(a *app) error {
	bundle, err := c.open(a)
	if err != nil {
		return err
	}
	results, err := policy.Test(a.ctx, bundle)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(results); err != nil {
			return err
		}
	}
	failed := 0
	for _, r := range results {
		if !r.Pass {
			failed++
			if !a.json {
				fmt.Fprintf(a.out, "FAIL %s.%s (%s:%d) %s\n", r.Package, r.Name, r.File, r.Line, r.Fault)
			}
		}
	}
	if !a.json {
		fmt.Fprintf(a.out, "%d passed, %d failed\n", len(results)-failed, failed)
	}
	if failed > 0 || len(results) == 0 {
		return exitCode(1)
	}
	return nil
}

func (c policyTestCmd) open(a *app) (fs.FS, error) {
	if c.Bundle != "" {
		return os.DirFS(c.Bundle), nil
	}
	cfg, err := loadConfig(a.config)
	if err != nil {
		return nil, err
	}
	return cfg.bundle()
}
