package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"sallyport"
	"sallyport/policies"
)

//go:embed sallyport.yaml.tmpl
var configTemplate string

type initCmd struct {
	Dir  string `arg:"" help:"Folder to make; it may exist, but must not hold a sallyport.yaml."`
	Site string `default:"my-lab" help:"The lab's name, which becomes the origin of its audit log."`
}

func (initCmd) Help() string {
	return `Writes sallyport.yaml with a comment on every key, the default policy bundle, and empty folders for the catalog, data and hierarchies.

  sallyport init lab
  sallyport serve --config lab/sallyport.yaml`
}

func (c initCmd) Run(a *app) error {
	if err := initDir(c.Dir, c.Site); err != nil {
		return err
	}
	file := filepath.Join(c.Dir, "sallyport.yaml")
	if a.json {
		return a.printJSON(map[string]string{"config": file})
	}
	fmt.Fprintf(a.out, `Made %s. Next:

  1. put a file into %s
  2. sallyport dataset scan %s/FILE.csv           what is in it, and what to do about it
  3. sallyport dataset add %s/FILE.csv --config %s
  4. sallyport serve --config %s
`, file, filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "data"), filepath.Join(c.Dir, "data"), file, file)
	return nil
}

// initDir makes a complete folder for a gateway.
func initDir(dir, site string) error {
	fail := func(err error) error {
		return sallyport.E("init", sallyport.Unavailable, err, "Choose a folder that you may write to.")
	}
	if !sallyport.JobID(site).Valid() {
		return sallyport.Errorf("init", sallyport.Invalid, "Use a-z, 0-9 and -.", "site %q", site)
	}
	file := filepath.Join(dir, "sallyport.yaml")
	if _, err := os.Stat(file); err == nil {
		return sallyport.Errorf("init", sallyport.Conflict, "Use it with --config, or choose another folder.", "%s exists already", file)
	}
	for _, d := range []string{".", "catalog", "data", "hierarchies"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return fail(err)
		}
	}
	err := fs.WalkDir(policies.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, "policies", filepath.FromSlash(p))
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		b, err := fs.ReadFile(policies.FS, p)
		if err != nil {
			return err
		}
		if _, err := os.Stat(to); err == nil {
			return nil // an edited bundle stays
		}
		return os.WriteFile(to, b, 0o600)
	})
	if err != nil {
		return fail(err)
	}
	me := "nobody"
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	text := strings.NewReplacer("{{site}}", site, "{{user}}", me).Replace(configTemplate)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	return nil
}
