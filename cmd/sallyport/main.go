// Command sallyport is the gateway and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"

	"sallyport"
	"sallyport/internal/sandbox"
	"sallyport/node"
)

// version is what `sallyport version` prints.
const version = "0.1.0"

// cli is the grammar and the help.
type cli struct {
	Config string `short:"c" default:"sallyport.yaml" placeholder:"FILE" help:"Configuration file."`
	JSON   bool   `name:"json" help:"Print JSON instead of tables."`

	Demo       demoCmd       `cmd:"" help:"Take generated data through both doors, start to finish, on this machine alone."`
	Init       initCmd       `cmd:"" help:"Write a commented configuration, the default policy and a catalog."`
	Serve      serveCmd      `cmd:"" help:"Run the gateway."`
	Dataset    datasetCmd    `cmd:"" help:"Describe datasets: add, ls, show, scan, prepare, inbox."`
	Risk       riskCmd       `cmd:"" help:"Measure how easily the people in a table are recognized; needs no gateway."`
	Plan       planCmd       `cmd:"" help:"Turn a target such as \"k=5, keep age useful\" into a plan for a table, and draw what it costs."`
	Anonymize  anonymizeCmd  `cmd:"" help:"Do to tables what a plan says, and report what leaves; needs no gateway."`
	Reidentify reidentifyCmd `cmd:"" help:"Turn tokens back into what was there, on record; needs no gateway."`
	Grant      grantCmd      `cmd:"" help:"Let projects use datasets for a while: add, ls, revoke."`
	Consent    consentCmd    `cmd:"" help:"What a dataset's subjects agreed to: add, ls, withdraw."`
	Exception  exceptionCmd  `cmd:"" help:"Exceptions from policy, agreed by two people: ask, approve, ls, end."`
	Job        jobCmd        `cmd:"" help:"Use datasets: submit, ls, show, logs, result, report, review, cancel."`
	Key        keyCmd        `cmd:"" help:"Access keys and live keys: new, access, revoke, ls, destroy."`
	Audit      auditCmd      `cmd:"" help:"See, prove, review and export what happened: ls, show, verify, review, export."`
	Policy     policyCmd     `cmd:"" help:"Check, replay, publish, explain: the rules that decide."`
	Witness    witnessCmd    `cmd:"" help:"Vouch for other labs' logs, and see who vouches for this one: init, serve, ls."`
	Node       nodeCmd       `cmd:"" help:"Nodes of the outside: ls, token; and run one from this binary."`
	Bench      benchCmd      `cmd:"" help:"Measure this binary beside its peers."`
	Kinds      kindsCmd      `cmd:"" help:"List what this binary can do."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

const description = `A data gateway with two doors that are never both open.

Exit codes: 0 done; 1 failed, or damage found; 2 wrong usage or configuration;
3 denied by policy; 4 something cannot be reached; 130 interrupted.`

func main() {
	if sandbox.Child() {
		sandbox.Main()
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// app is what every command is given.
type app struct {
	ctx    context.Context
	out    io.Writer
	errs   io.Writer
	config string
	json   bool
	unkept sync.Once // says that checkpoints cannot be remembered
	asked  string    // the command, for the record of who read the log
}

func run(args []string, out, errs io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c, kong.Name("sallyport"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(out, errs), kong.Exit(func(n int) { code = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		return report(errs, err)
	}
	k, err := parser.Parse(args)
	if code >= 0 { // --help
		return code
	}
	if err != nil {
		fmt.Fprintf(errs, "sallyport: %v\nhint: `%s --help` shows how.\n", err, commandOf(err))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k.BindTo(ctx, (*context.Context)(nil))
	k.BindTo(out, (*node.Output)(nil))
	err = k.Run(&app{ctx: ctx, out: out, errs: errs, config: c.Config, json: c.JSON, asked: strings.Join(args, " ")})
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(errs, "sallyport: interrupted")
		return 130
	}
	return report(errs, err)
}

// commandOf returns the command that could not be read, as far as it is one.
func commandOf(err error) string {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil || parse.Context.Selected() == nil {
		return "sallyport"
	}
	return parse.Context.Selected().FullPath()
}

// exitCode is an error that has been shown already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// report prints an error with its hint and returns the exit code of its kind.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	fmt.Fprintf(w, "sallyport: %v\n", err)
	if hint := sallyport.HintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	switch sallyport.KindOf(err) {
	case sallyport.Denied:
		return 3
	case sallyport.Unavailable:
		return 4
	case sallyport.Invalid:
		return 2
	case sallyport.Canceled:
		return 130
	}
	return 1
}

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	if a.json {
		return a.printJSON(map[string]string{"version": version})
	}
	fmt.Fprintln(a.out, version)
	return nil
}

// nodeCmd joins what the gateway says of nodes with the node's own commands.
type nodeCmd struct {
	Ls    nodeLsCmd       `cmd:"" help:"List the nodes on offer."`
	Token nodeTokenCmd    `cmd:"" help:"Make a one-time token with which an owner enrolls a node."`
	Run   node.RunCommand `cmd:"" help:"Run this machine as a node (the same as sallyport-node run)."`
}
