//go:build !unix

package keydir

import (
	"os"

	"sallyport"
)

// Lock refuses: without file locks two processes could have one folder.
func Lock(dir string) (*os.File, error) {
	return nil, sallyport.Errorf("open keys", sallyport.Unsupported, "Run the gateway on Linux or another Unix, or use another key issuer.",
		"key files need a system with file locks and file modes")
}
