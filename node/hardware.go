package node

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"sallyport/routing"
)

// unknown stands for what could not be read: a guess would be a false claim.
const unknown = "unknown"

// Detect reads what this machine has. CPU is "unknown" and MemoryMB 0 where the
// system does not say. GPUs are those that nvidia-smi lists (NVIDIA's driver,
// --query-gpu); without it, none are claimed.
func Detect(ctx context.Context) routing.Hardware {
	h := routing.Hardware{CPU: unknown, Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		GPUs: []routing.GPU{}, Runners: []string{"wasm"}}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		h.CPU = cpuModel(f)
		f.Close()
	}
	if f, err := os.Open("/proc/meminfo"); err == nil {
		h.MemoryMB = memoryMB(f)
		f.Close()
	}
	h.GPUs = gpus(ctx)
	return h
}

// cpuModel reads /proc/cpuinfo (proc(5)): "model name" on x86, "Model" or
// "Hardware" on some Arm boards; other Arm kernels name none.
func cpuModel(r io.Reader) string {
	found := map[string]string{}
	for s := bufio.NewScanner(r); s.Scan(); {
		k, v, ok := strings.Cut(s.Text(), ":")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		if _, seen := found[k]; ok && !seen && v != "" {
			found[k] = v
		}
	}
	for _, k := range []string{"model name", "Model", "Hardware", "cpu"} {
		if v, ok := found[k]; ok {
			return v
		}
	}
	return unknown
}

// memoryMB reads MemTotal of /proc/meminfo (proc(5)), which is in KiB.
func memoryMB(r io.Reader) int64 {
	for s := bufio.NewScanner(r); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "MemTotal:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0
		}
		kib, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil || kib < 0 {
			return 0
		}
		return kib / 1024
	}
	return 0
}

func gpus(ctx context.Context) []routing.GPU {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return []routing.GPU{}
	}
	return parseGPUs(out)
}

// parseGPUs reads nvidia-smi's "name, MiB" lines. Memory that it does not give
// as a number ("[N/A]") is 0.
func parseGPUs(out []byte) []routing.GPU {
	list := []routing.GPU{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		i := strings.LastIndex(s.Text(), ",")
		if i <= 0 {
			continue // a message, not a GPU
		}
		name := strings.TrimSpace(s.Text()[:i])
		if name == "" {
			continue
		}
		mb, err := strconv.ParseInt(strings.TrimSpace(s.Text()[i+1:]), 10, 64)
		if err != nil || mb < 0 {
			mb = 0
		}
		list = append(list, routing.GPU{Model: name, MemoryMB: mb})
	}
	return list
}
