package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport"
	"sallyport/anonymize"
	"sallyport/anonymize/planning"
	"sallyport/anonymize/transform"
	"sallyport/gateway"
)

type reidentifyCmd struct {
	Tokens []string `arg:"" optional:"" name:"token" help:"Tokens of one column, as they left."`

	File   string `placeholder:"FILE" help:"Take the tokens from a table instead."`
	Column string `placeholder:"COLUMN" help:"The column that they are from; may be left out where only one can be turned back."`
	Plan   string `placeholder:"PLAN.yaml" help:"The plan by which they were made."`
	Key    string `placeholder:"FILE" help:"The key with which they were made."`
	Job    string `placeholder:"JOB" help:"The gateway's job that they left in, instead of a plan and a key: the gateway has both."`
	Reason string `required:"" help:"Why; it is recorded."`
	As     string `help:"With --job: person to act as, if you run the gateway."`
}

func (reidentifyCmd) Help() string {
	return `Turns tokens of the verbs encrypt and ff1 back into what was there. Whoever has the key can; what left by the verb pseudonym cannot be turned back. A token of encrypt that was made with another key is refused; one of ff1 turns into something else, for nothing in it tells.

  sallyport reidentify mfzwizltoqxhe3lpoizq --column patient_id --plan ward.yaml --key ward.key --reason "recall of lot 7"
  sallyport reidentify --file findings.csv --column patient_id --plan ward.yaml --key ward.key --reason "recall of lot 7" --json

Each use is recorded before anything is turned back, in a file beside the key (KEY.uses.jsonl): time, user, reason, column, how many, and the digests of the tokens. If that cannot be written, nothing is turned back. The file is append-only by habit, not by force: where that must be proved, let a gateway keep the key.

  sallyport reidentify mfzwizltoqxhe3lpoizq --column mrn --job burst --reason "recall of lot 7"

With --job the gateway turns them back, for the owner of the dataset and nobody else, and the audit log has who, what for and which tokens before a value is there.`
}

// reidentifyMost bounds the tokens of one use, so that a record names each.
const reidentifyMost = 10_000

// reidentified is one token and what was there.
type reidentified struct {
	Token string `json:"token"`
	Value string `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

func (c reidentifyCmd) Run(a *app) error {
	if strings.TrimSpace(c.Reason) == "" {
		return reidentifyError(sallyport.Invalid, "Say in a few words why.", "--reason is empty")
	}
	if len(c.Tokens) == 0 == (c.File == "") {
		return reidentifyError(sallyport.Invalid, "Name tokens, or a file by --file.", "tokens come from the command line or from a file: one of the two")
	}
	if c.Job != "" {
		return c.ask(a)
	}
	if c.Plan == "" || c.Key == "" || c.As != "" {
		return reidentifyError(sallyport.Invalid, "Give --plan and --key, or --job.", "what made the tokens is not named")
	}
	runner := tableRunner()
	file, env, err := tableEnv(runner, c.Plan, c.Key)
	if err != nil {
		return err
	}
	column, reverse, err := reverser(runner, file, env, c.Column)
	if err != nil {
		return err
	}
	tokens := c.Tokens
	if c.File != "" {
		if tokens, err = tokensOf(a.ctx, runner, c.File, file, column); err != nil {
			return err
		}
	}
	if len(tokens) > reidentifyMost {
		return reidentifyError(sallyport.Exhausted, "Turn them back in parts.", "more than %d tokens, the most for one use", reidentifyMost)
	}
	if len(tokens) == 0 {
		return reidentifyError(sallyport.NotFound, "", "column %q holds no token", column)
	}
	plan, err := os.ReadFile(c.Plan)
	if err != nil {
		return sallyport.E("reidentify", sallyport.NotFound, err, "")
	}
	if err := recordUse(c.Key, keyUse{Time: time.Now().UTC(), User: localUser(), Reason: c.Reason, Column: column, Plan: sallyport.DigestOf(plan), File: c.File,
		Values: len(tokens), Tokens: digestsOf(tokens)}); err != nil {
		return err
	}
	var out []reidentified
	for _, token := range tokens {
		r := reidentified{Token: token}
		value, err := reverse(nil, []byte(token), nil)
		if err != nil {
			r.Error = err.Error()
		} else {
			r.Value = string(value)
		}
		out = append(out, r)
	}
	return showReidentified(a, out)
}

// ask lets the gateway do it.
func (c reidentifyCmd) ask(a *app) error {
	switch {
	case c.Plan != "" || c.Key != "":
		return reidentifyError(sallyport.Invalid, "Leave --plan and --key out: the gateway has both.", "--job names what made the tokens, and so do --plan and --key")
	case c.Column == "":
		return reidentifyError(sallyport.Invalid, "Name it by --column.", "a job's column is not named")
	case c.File != "":
		return reidentifyError(sallyport.Invalid, "Name tokens on the command line.", "--file goes with --plan and --key")
	}
	client, _, err := a.dial()
	if err != nil {
		return err
	}
	got, err := client.Reidentify(a.ctx, c.As, gateway.Reidentification{Job: sallyport.JobID(c.Job), Column: c.Column, Tokens: c.Tokens, Reason: c.Reason})
	if err != nil {
		return err
	}
	var out []reidentified
	for _, r := range got {
		out = append(out, reidentified(r))
	}
	return showReidentified(a, out)
}

func showReidentified(a *app, out []reidentified) error {
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		var rows [][]string
		for _, r := range out {
			if r.Error == "" {
				rows = append(rows, []string{r.Token, r.Value})
			}
		}
		if len(rows) > 0 {
			table(a.out, []string{"token", "value"}, rows)
		}
		for _, r := range out {
			if r.Error != "" {
				fmt.Fprintf(a.errs, "failed: %s: %s\n", r.Token, r.Error)
			}
		}
	}
	failed := 0
	for _, r := range out {
		if r.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		fmt.Fprintf(a.errs, "sallyport: %d of %d tokens could not be turned back\n", failed, len(out))
		return exitCode(1)
	}
	return nil
}

func reidentifyError(kind sallyport.Kind, hint, format string, args ...any) error {
	return sallyport.Errorf("reidentify", kind, hint, format, args...)
}

// reverser finds the column and what undoes its verb.
func reverser(runner *anonymize.Runner, file planning.File, env anonymize.PassEnv, column string) (string, anonymize.Apply, error) {
	fail := func(hint, format string, args ...any) (string, anonymize.Apply, error) {
		return "", nil, reidentifyError(sallyport.Invalid, hint, format, args...)
	}
	verbs := map[string]transform.Reverser{}
	for _, t := range runner.Transforms() {
		if r, ok := t.(transform.Reverser); ok {
			verbs[t.Name()] = r
		}
	}
	var names []string
	for _, c := range file.Columns {
		if verbs[c.Verb] != nil {
			names = append(names, c.Name)
		}
	}
	switch {
	case len(names) == 0:
		return fail("Only values that left by encrypt or ff1 can be turned back.", "no column of the plan can be turned back")
	case column == "" && len(names) > 1:
		return fail("Name one by --column: "+strings.Join(names, ", ")+".", "%d columns of the plan can be turned back", len(names))
	case column == "":
		column = names[0]
	case !slices.Contains(names, column):
		return fail("These can: "+strings.Join(names, ", ")+".", "column %q of the plan cannot be turned back", column)
	}
	for _, c := range file.Columns {
		if c.Name == column {
			apply, err := verbs[c.Verb].Reverse(c.Args, anonymize.Env{Column: c.Name, Key: env.Key, Hierarchy: env.Hierarchy})
			return column, apply, err
		}
	}
	return fail("", "the plan has no column %q", column)
}

// tokensOf reads the distinct tokens of a column of a table, in its order.
func tokensOf(ctx context.Context, runner *anonymize.Runner, name string, file planning.File, column string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, sallyport.E("reidentify", sallyport.NotFound, err, "Name a table.")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, sallyport.E("reidentify", sallyport.Unavailable, err, "")
	}
	format, err := formatOf("reidentify", name, f)
	if err != nil {
		return nil, err
	}
	t := &tokenTable{column: column, seen: map[string]bool{}}
	if l, ok := format.(anonymize.Lister); ok && l.List(column) {
		t.list = true
	}
	if err := format.Rewrite(ctx, io.Discard, tableSource{f, info.Size()}, t); err != nil && !errors.Is(err, errTooMany) {
		return nil, err
	}
	return t.tokens, nil
}

var errTooMany = errors.New("too many tokens")

// tokenTable is the Editor that gathers a column's values; nothing leaves.
type tokenTable struct {
	column string
	list   bool
	place  int
	seen   map[string]bool
	tokens []string
}

var _ anonymize.Editor = (*tokenTable)(nil)

func (t *tokenTable) Header(columns []string) ([]string, error) {
	if t.place = slices.Index(columns, t.column); t.place < 0 {
		return nil, reidentifyError(sallyport.Invalid, "Its columns are "+strings.Join(columns, ", ")+".", "the table has no column %q", t.column)
	}
	return columns, nil
}

func (t *tokenTable) Record(fields [][]byte) ([][]byte, error) {
	add := func(v []byte) {
		if len(v) > 0 && !bytes.Equal(v, []byte(transform.Suppressed)) && !t.seen[string(v)] {
			t.seen[string(v)] = true
			t.tokens = append(t.tokens, string(v))
		}
	}
	if t.list {
		for v := range anonymize.Items(fields[t.place]) {
			add(v)
		}
	} else {
		add(fields[t.place])
	}
	if len(t.tokens) > reidentifyMost {
		return nil, errTooMany
	}
	return nil, nil
}
