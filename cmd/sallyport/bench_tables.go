package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"sallyport"
	"sallyport/bench"
)

type benchTablesCmd struct {
	Size   int    `placeholder:"MB" help:"Size of the table as CSV (32; 4 with --quick)."`
	Big    int    `placeholder:"MB" help:"Size of the larger table whose memory is measured (1024; 64 with --quick), beside one of 10 MB."`
	Census int64  `placeholder:"N" help:"Records that the census counts, about 100 bytes of memory each (10000000; 500000 with --quick)."`
	Runs   int    `default:"3" help:"Runs of each; the median counts."`
	Quick  bool   `help:"Small tables."`
	Python string `placeholder:"FILE" help:"Interpreter that has pandas, and presidio-structured if that is to be measured (the one that the project's checks install, if it is there; 'none' for none)."`
	Adult  string `env:"SALLYPORT_ADULT" placeholder:"DIR" help:"Folder with ARX's adult.csv and its hierarchies, for the search; without it that is left out."`
	Dir    string `placeholder:"DIR" help:"Where to write the tables, up to 6 times --size and 1.5 times --big; removed at the end (the system's folder for temporary files)."`
}

func (benchTablesCmd) Help() string {
	return `Measures, each beside its peer in the same run: the pass over CSV, compressed CSV, JSON Lines and Parquet, beside age and the library that Go programs would take; pandas and Presidio on the same CSV; the exact census in memory and spilling; the search for k-anonymity; the matcher of identifiers; and peak memory, each at two sizes. The tables are generated. What is left out is named with the progress, on standard error.

  sallyport bench tables --quick
  sallyport bench tables --python venv/bin/python3 --adult data/adult --json
  sallyport bench tables --big 10240`
}

func (c benchTablesCmd) Run(a *app) (err error) {
	o := bench.TableOptions{Options: bench.Options{Size: 32, Big: 1024, Runs: c.Runs, Progress: a.errs}, Census: 10_000_000, Python: c.Python, Adult: c.Adult}
	if c.Quick {
		o.Size, o.Big, o.Census = 4, 64, 500_000
	}
	o.Size, o.Big, o.Census = cmp.Or(c.Size, o.Size), cmp.Or(c.Big, o.Big), cmp.Or(c.Census, o.Census)
	switch c.Python {
	case "none":
		o.Python = ""
	case "":
		o.Python = checkedPython()
	}
	self, err := os.Executable()
	if err != nil {
		return sallyport.E("bench", sallyport.Unsupported, err, "")
	}
	o.Child = []string{self, "bench", "child"}
	if o.Dir, err = os.MkdirTemp(c.Dir, "sallyport-bench-"); err != nil {
		return sallyport.E("bench", sallyport.Unavailable, err, "Name a folder that you may write to with --dir.")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	figures, err := bench.Tables(a.ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(figures)
	}
	printFigures(a.out, figures)
	return nil
}

// checkedPython is the interpreter of the environment that ./check makes for
// clients and peers of PyPI; "" where there is none.
func checkedPython() string {
	tools := os.Getenv("SALLYPORT_TOOLS")
	if tools == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		tools = filepath.Join(home, ".cache", "sallyport", "tools")
	}
	python := filepath.Join(tools, "python", "bin", "python3")
	if _, err := os.Stat(python); err != nil {
		return ""
	}
	return python
}
