package bench

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"sallyport"
)

const peakMeans = "resident high-water mark (VmHWM)"

// peakMemory is the resident high-water mark of this process, in bytes.
//
// It is VmHWM of proc_pid_status(5), not ru_maxrss of getrusage(2): the latter
// survives execve, and a child made by vfork, as Go makes it, starts with its
// parent's mark.
func peakMemory() (int64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, sallyport.E("peak memory", sallyport.Unsupported, err, "Mount /proc.")
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			return 0, sallyport.E("peak memory", sallyport.Unsupported, err, "")
		}
		return kib << 10, nil
	}
	return 0, sallyport.E("peak memory", sallyport.Unsupported, fmt.Errorf("no VmHWM in /proc/self/status"), "")
}
