// Package sandbox runs one module of untrusted code in a child process with
// its data on standard input and its result on standard output: no file
// system, no network, limited memory and time. Nothing is written to disk but
// compiled code, where a cache directory is given.
//
// The child is this same binary, started again, so every main and TestMain of
// a binary that calls [Run] begins with
//
//	if sandbox.Child() {
//		sandbox.Main()
//	}
//
// A "wasm" module is a WASI preview 1 command. It gets three byte streams, its
// arguments, and nothing else: no directory, no socket, no environment. Its
// clock and its random source are fixed and its input arrives in whole blocks,
// so that the same module, arguments and input give the same output; between
// processor types the WebAssembly specification leaves open only the bits of a
// NaN. The interpreter is wazero.
//
// A "native" program is the lab's own, not a stranger's: it sees the file
// system, but can write no file, and has no network where the system permits
// it (see [Isolation]).
//
// The child is killed when its time is over, when the context ends, and, on
// Linux, when the process that started it dies.
package sandbox

import (
	"context"
	"errors"
	"io"
	"time"
)

// Spec says what to run.
type Spec struct {
	Runner   string        // "wasm" (WASI preview 1) or "native" (a program of this machine)
	Path     string        // the .wasm file or the program
	Args     []string      // the module's arguments, without its name
	Stdin    io.Reader     // the input; read as a stream; nil is empty
	Stdout   io.Writer     // the result; written as a stream; nil discards it
	MemoryMB int64         // the module's memory, MiB; required; wasm cannot use more than 4096
	Walltime time.Duration // killed after that, compiling included; required
	CacheDir string        // for compiled modules; "" compiles anew each time
}

// Result is how a module ended.
type Result struct {
	Exit    int     // its exit code
	Seconds float64 // wall time from start to end
	Log     string  // end of its standard error, at most 64 KiB, valid UTF-8
}

// Runner is what [Run] is: nodes and backends take one, so that a test can
// pass another.
type Runner func(ctx context.Context, s Spec) (Result, error)

// What can end a module before it ends itself. A module's own exit code, zero
// or not, is no error: it is [Result.Exit]. The Result beside one of these
// still has the time and the log; anything written to Stdout is to be thrown away.
var (
	ErrWalltime = errors.New("the module was stopped: its time was over")
	ErrMemory   = errors.New("the module failed: it wanted more memory than it may use")
	ErrModule   = errors.New("the module cannot be run")
	ErrCrash    = errors.New("the module crashed")
)
