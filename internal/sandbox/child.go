package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// maxModule is the largest module that is read, bytes.
const maxModule = 64 << 20

// File descriptors of a child beside the standard three.
const (
	statusFD = 3
	moduleFD = 4
)

// Child reports whether this process was started by [Run] to be a child. It
// then has to call [Main] before it does anything else.
func Child() bool {
	return len(os.Args) > 0 && os.Args[0] == argv0 && os.Getenv(envOrder) != ""
}

// Main does a child's work. It never returns.
func Main() {
	status := os.NewFile(statusFD, "status")
	// Says hello. If the parent died before the kernel was told to tell us,
	// nobody reads this, and the write ends us.
	if status == nil || say(status, report{}) != nil {
		os.Exit(1)
	}
	var o order
	rep := report{Fault: "crash"}
	if err := json.Unmarshal([]byte(os.Getenv(envOrder)), &o); err != nil {
		rep.Detail = "unreadable order"
	} else {
		os.Clearenv()
		switch o.Runner {
		case "wasm":
			rep = wasm(o, os.NewFile(moduleFD, "module"))
		case "native":
			rep = native(o) // returns only if the program could not be started
		case "probe":
			rep = report{}
		}
	}
	rep.Done = true
	if say(status, rep) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func say(w io.Writer, rep report) error {
	rep.Detail = rep.Detail[:min(len(rep.Detail), 2<<10)]
	b, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// wasm compiles and runs a module. Writing files is possible until the module
// is compiled, for the cache, and no longer when its code starts.
func wasm(o order, f *os.File) (rep report) {
	mem := &allowance{limit: uint64(min(o.MemoryMB, 4096)) << 20}
	defer func() {
		if v := recover(); v != nil {
			rep = fault(mem, fmt.Sprint(v))
		}
	}()
	debug.SetMemoryLimit(256<<20 + o.MemoryMB<<20)
	closeInherited(statusFD, moduleFD)
	if err := limitWasm(o); err != nil {
		return report{Fault: "crash", Detail: "setting limits: " + err.Error()}
	}
	code, err := io.ReadAll(io.LimitReader(f, maxModule+1))
	f.Close()
	if err != nil {
		return report{Fault: "module", Detail: "it cannot be read: " + err.Error()}
	}
	if len(code) > maxModule {
		return report{Fault: "module", Detail: "it is larger than 64 MiB"}
	}

	ctx := experimental.WithMemoryAllocator(context.Background(), mem)
	r, compiled, err := compile(ctx, o.CacheDir, code)
	if err != nil {
		return report{Fault: "module", Detail: oneLine(err)}
	}
	if _, ok := compiled.ExportedFunctions()["_start"]; !ok {
		return report{Fault: "module", Detail: "it is not a WASI command: it exports no _start"}
	}
	if err := sealWasm(); err != nil {
		return report{Fault: "crash", Detail: "setting limits: " + err.Error()}
	}
	config := wazero.NewModuleConfig().
		WithName("").
		WithArgs(append([]string{filepath.Base(o.Path)}, o.Args...)...).
		WithStdin(&blocks{r: os.Stdin}).
		WithStdout(struct{ io.Writer }{os.Stdout}).
		WithStderr(struct{ io.Writer }{os.Stderr})
	_, err = r.InstantiateModule(ctx, compiled, config)
	if err == nil {
		return report{}
	}
	if e, ok := errors.AsType[*sys.ExitError](err); ok {
		rep := report{Exit: int(e.ExitCode())}
		if rep.Exit != 0 && mem.refused {
			rep.Fault = "memory"
		}
		return rep
	}
	return fault(mem, oneLine(err))
}

// fault reports a module that broke down.
func fault(mem *allowance, detail string) report {
	if mem.refused {
		return report{Fault: "memory"}
	}
	return report{Fault: "crash", Detail: detail}
}

// compile makes a runtime that has WASI and nothing else, and the module's
// machine code. A cache that cannot be used only costs time.
func compile(ctx context.Context, cacheDir string, code []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	config := wazero.NewRuntimeConfig() // no WithCloseOnContextDone: it costs a factor of five, and the parent kills
	if cacheDir != "" {
		if cache, err := wazero.NewCompilationCacheWithDir(cacheDir); err == nil {
			if r, m, err := compileWith(ctx, config.WithCompilationCache(cache), code); err == nil {
				return r, m, nil
			}
		}
	}
	return compileWith(ctx, config, code)
}

func compileWith(ctx context.Context, config wazero.RuntimeConfig, code []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	r := wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return nil, nil, err
	}
	m, err := r.CompileModule(ctx, code)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range m.ImportedFunctions() {
		if from, name, ok := f.Import(); ok && from != wasi_snapshot_preview1.ModuleName {
			return nil, nil, fmt.Errorf("it wants %q of %q: only %s is given", name, from, wasi_snapshot_preview1.ModuleName)
		}
	}
	return r, m, nil
}

// oneLine is the first line of an error's text: wazero appends a stack.
func oneLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// blocks hands its input on in full blocks, so that how a module sees its
// input does not depend on how fast it came.
type blocks struct{ r io.Reader }

func (b *blocks) Read(p []byte) (int, error) {
	n, err := io.ReadFull(b.r, p)
	if err == io.ErrUnexpectedEOF {
		err = nil // the next read says EOF
	}
	return n, err
}

// allowance is the memory a module may have. wazero's own page limit would do,
// but would not tell a module that ran out from one that failed.
type allowance struct {
	limit   uint64
	refused bool
}

// Allocate implements experimental.MemoryAllocator.
func (a *allowance) Allocate(_, most uint64) experimental.LinearMemory {
	return &memory{a: a, buf: make([]byte, min(most, a.limit))} // untouched pages cost nothing
}

type memory struct {
	a   *allowance
	buf []byte
}

func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.buf)) {
		m.a.refused = true
		return nil
	}
	return m.buf[:size]
}

func (m *memory) Free() { m.buf = nil }
