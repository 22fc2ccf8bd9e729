package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"sallyport"
	"sallyport/routing"
)

// Commands are what an owner can say: the whole of sallyport-node, and a branch
// of sallyport. Their Run methods want a context.Context and an [Output] bound.
type Commands struct {
	Run      RunCommand      `cmd:"" help:"Run this machine as a node, until it is interrupted."`
	Hardware HardwareCommand `cmd:"" help:"Show what this machine would advertise."`
	Version  VersionCommand  `cmd:"" help:"Show the version of this program."`
}

// RunCommand is sallyport-node run.
type RunCommand struct {
	Dir     string `required:"" type:"path" help:"Folder of the node: its identity, its place at the gateway, modules, the log of runs."`
	Token   string `help:"Enrolment token that the lab gave you. Needed the first time only." env:"SALLYPORT_NODE_TOKEN"`
	Name    string `help:"Name of this machine; the node is called after you and it."`
	Region  string `help:"Where this machine stands, for example eu-central. Fixed at enrolment."`
	Price   string `default:"0" help:"Your price an hour, in the lab's unit of account, for example 0.25."`
	Memory  int64  `default:"0" placeholder:"MB" help:"Most memory for one module, MiB. 0: all there is."`
	Vault   string `placeholder:"ADDRESS" help:"The lab's Vault, if this machine can reach it: a token is then handed over instead of a key, good once."`
	VaultCA string `name:"vault-ca" placeholder:"FILE" help:"Certificate authority of the Vault (PEM)."`
	VaultNS string `name:"vault-namespace" help:"Namespace in the Vault."`
	Verbose bool   `short:"v" help:"Say more."`
}

// Help is shown by --help.
func (RunCommand) Help() string {
	return `The node dials out to the gateway named in the token; nothing needs to reach this machine. Data arrives sealed to this node and only ciphertext and modules touch the disk. Modules run in a sandbox without files or network.

Examples:
  sallyport-node run --dir ~/.sallyport-node --token sallyport-node-1.eyJ… --name a100 --region eu-central --price 0.25
  sallyport-node run --dir ~/.sallyport-node --price 0.20

Every execution leaves a line in DIR/runs.log.`
}

// Run runs the node.
func (c *RunCommand) Run(ctx context.Context, _ Output) error {
	price, err := parseMoney(c.Price)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	var keeper *Keeper
	if c.Vault != "" {
		keeper = &Keeper{Address: c.Vault, CA: c.VaultCA, Namespace: c.VaultNS}
	}
	return Run(ctx, Config{Keeper: keeper, Dir: c.Dir, Token: c.Token, Name: c.Name, Region: c.Region, Price: price, MemoryMB: c.Memory, Log: log})
}

// HardwareCommand is sallyport-node hardware.
type HardwareCommand struct {
	JSON bool `help:"One JSON object, as it is advertised."`
}

// Help is shown by --help.
func (HardwareCommand) Help() string {
	return `What cannot be read is called unknown, never guessed.

Examples:
  sallyport-node hardware
  sallyport-node hardware --json`
}

// Run prints the hardware.
func (c *HardwareCommand) Run(ctx context.Context, out Output) error {
	h := Detect(ctx)
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(h)
	}
	return printHardware(out, h)
}

func printHardware(w io.Writer, h routing.Hardware) error {
	memory := unknown
	if h.MemoryMB > 0 {
		memory = fmt.Sprintf("%d MiB", h.MemoryMB)
	}
	_, err := fmt.Fprintf(w, "cpu      %s, %d cores\nmemory   %s\nsystem   %s/%s\n", h.CPU, h.Cores, memory, h.OS, h.Arch)
	if len(h.GPUs) == 0 && err == nil {
		_, err = fmt.Fprintln(w, "gpu      none found (nvidia-smi lists none, or is not here)")
	}
	for _, g := range h.GPUs {
		size := "memory " + unknown
		if g.MemoryMB > 0 {
			size = fmt.Sprintf("%d MiB", g.MemoryMB)
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "gpu      %s, %s\n", g.Model, size)
		}
	}
	return err
}

// VersionCommand is sallyport-node version.
type VersionCommand struct{}

// Run prints the version that the Go toolchain recorded.
func (VersionCommand) Run(out Output) error {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	_, err := fmt.Fprintf(out, "sallyport-node %s\n", version)
	return err
}

// Output is where commands print.
type Output interface{ io.Writer }

// Main is the whole of the program sallyport-node: it returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli Commands
	status := -1
	parser, err := kong.New(&cli, kong.Name("sallyport-node"), kong.UsageOnError(),
		kong.Description("Offer this machine to labs: sealed work in, sealed results out."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { status = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(stdout, (*Output)(nil)))
	if err != nil {
		fmt.Fprintln(stderr, "sallyport-node:", err)
		return 70
	}
	call, err := parser.Parse(args)
	switch {
	case status >= 0: // --help has been shown
		return status
	case err != nil:
		fmt.Fprintln(stderr, "sallyport-node:", err)
		fmt.Fprintln(stderr, "Run sallyport-node --help to see what there is.")
		return 2
	}
	if err := call.Run(); err != nil {
		fmt.Fprintln(stderr, "sallyport-node:", err)
		if hint := sallyport.HintOf(err); hint != "" {
			fmt.Fprintln(stderr, hint)
		}
		return 1
	}
	return 0
}

// parseMoney reads an amount of whole units, such as 0.25.
func parseMoney(s string) (sallyport.Money, error) {
	bad := sallyport.Errorf("read price", sallyport.Invalid, "Give an amount such as 0.25, with at most six decimals.", "%q is no price", s)
	if len(s) > 20 || strings.Trim(s, "0123456789.") != "" { // no exponents: they could be huge
		return 0, bad
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, bad
	}
	r.Mul(r, new(big.Rat).SetInt64(int64(sallyport.Unit)))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, bad
	}
	return sallyport.Money(r.Num().Int64()), nil
}
