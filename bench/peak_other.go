//go:build !linux

package bench

import (
	"runtime"

	"sallyport"
)

const peakMeans = "memory taken from the system by the Go runtime"

// peakMemory elsewhere is what the Go runtime took from the system and has not
// given back: pages that were never touched count too, so it errs upwards.
func peakMemory() (int64, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.Sys == 0 {
		return 0, sallyport.Errorf("peak memory", sallyport.Unsupported, "", "the runtime gives no figures")
	}
	return int64(m.Sys), nil
}
