// Package sandbox runs one module of untrusted code in a child process with
// its data on standard input and its result on standard output: no file
// system, no network, limited memory and time. Nothing is written to disk.
package sandbox

import (
	"context"
	"io"
	"time"
)

// Spec says what to run.
type Spec struct {
	Runner   string        // "wasm" (WASI preview 1) or "native" (a program of this machine)
	Path     string        // the .wasm file or the program
	Args     []string      // the module's arguments, without its name
	Stdin    io.Reader     // the input; read as a stream
	Stdout   io.Writer     // the result; written as a stream
	MemoryMB int64         // the module's memory, MiB; required
	Walltime time.Duration // killed after that; required
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
