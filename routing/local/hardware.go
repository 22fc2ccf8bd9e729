package local

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"sallyport/routing"
)

// hardware reads what this machine is. What cannot be read stays empty.
func hardware() routing.Hardware {
	h := routing.Hardware{Cores: runtime.NumCPU(), GPUs: []routing.GPU{}, OS: runtime.GOOS, Arch: runtime.GOARCH}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		h.CPU = field(f, "model name")
		f.Close()
	}
	if f, err := os.Open("/proc/meminfo"); err == nil {
		h.MemoryMB = kibibytes(field(f, "MemTotal")) >> 10
		f.Close()
	}
	return h
}

// field returns the first value of a name in lines such as "name : value".
func field(r io.Reader, name string) string {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if n, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// kibibytes reads "123 kB", which in /proc are units of 1024 bytes (proc(5)).
func kibibytes(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
