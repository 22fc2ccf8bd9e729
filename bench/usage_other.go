//go:build !unix

package bench

import "time"

// cpuTime is not known here; figures of CPU time are then left out.
func cpuTime() time.Duration { return 0 }
