package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/gateway"
	"sallyport/internal/sandbox"
)

// TestMain lets the test binary stand in for the program: as itself in scripts,
// as a sandbox child, as a node, and as a gateway that kills itself where the
// test says.
func TestMain(m *testing.M) {
	if sandbox.Child() {
		sandbox.Main()
	}
	if os.Getenv("SALLYPORT_TEST_RUN") == "1" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	if dir := os.Getenv("SALLYPORT_TEST_GATEWAY"); dir != "" {
		os.Exit(doomedGateway(dir, os.Getenv("SALLYPORT_TEST_KILL_AT")))
	}
	testscript.Main(m, map[string]func(){
		"sallyport": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// doomedGateway serves until it reaches "step/point", where it dies as by
// kill -9: no deferred call runs, nothing is flushed.
func doomedGateway(dir, killAt string) int {
	cfg, err := loadConfig(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		return report(os.Stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = serve(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), func(p *gateway.Parts) {
		p.Point = func(step, point string) {
			if step+"/"+point == killAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until the signal arrives
			}
		}
	}, func(*wiring) error {
		fmt.Println("ready")
		<-ctx.Done()
		return nil
	})
	return report(os.Stderr, err)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"flip":      flipByte,
			"awaitfile": awaitFile,
			"await":     awaitOutput,
			"keyof":     printed("keyof", "key"),
			"versionof": printed("versionof", "version"),
			"holdof":    firstHold,
			"replace":   replaceText,
			"freeport":  freeAddress,
		},
	})
}

// flipByte FILE TEXT changes one byte inside the first occurrence of TEXT.
func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE TEXT")
	}
	file := ts.MkAbs(args[0])
	b, err := os.ReadFile(file)
	ts.Check(err)
	i := strings.Index(string(b), args[1])
	if i < 0 {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	b[i] ^= 1
	ts.Check(os.WriteFile(file, b, 0o600))
}

// printed makes a command that sets a variable to a field of the JSON that was
// just printed.
func printed(name, field string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: %s VAR", name)
		}
		var out map[string]any
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &out))
		v, ok := out[field].(string)
		if !ok {
			ts.Fatalf("there is no %s in what was printed", field)
		}
		ts.Setenv(args[0], v)
	}
}

// firstHold VAR sets a variable to the number of the first hold that was just listed.
func firstHold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: holdof VAR")
	}
	var list []struct{ Seq uint64 }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &list))
	if len(list) == 0 {
		ts.Fatalf("no hold was listed")
	}
	ts.Setenv(args[0], strconv.FormatUint(list[0].Seq, 10))
}

// replaceText FILE OLD NEW replaces the one place where a file holds a text.
func replaceText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	file := ts.MkAbs(args[0])
	b, err := os.ReadFile(file)
	ts.Check(err)
	if strings.Count(string(b), args[1]) != 1 {
		ts.Fatalf("%s does not hold %q once", args[0], args[1])
	}
	ts.Check(os.WriteFile(file, []byte(strings.Replace(string(b), args[1], args[2], 1)), 0o600))
}

// freeAddress VAR sets a variable to a loopback address that was free just now.
func freeAddress(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// awaitFile FILE waits until a file is there.
func awaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaitfile FILE")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never came", args[0])
		}
	}
}

// awaitOutput TEXT COMMAND... repeats a command until its output holds TEXT.
func awaitOutput(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await TEXT COMMAND...")
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v never said %q: %v", args[1:], args[0], err)
		}
		time.Sleep(50 * time.Millisecond) // between two runs of a program
	}
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
