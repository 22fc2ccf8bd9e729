//go:build !unix

package keyfile

import (
	"os"

	"sallyport"
)

func lock(dir string) (*os.File, error) {
	return nil, sallyport.Errorf("open keys", sallyport.Unsupported, "Run the gateway on Linux or another Unix, or use another key issuer.",
		"key files need a system with file locks and file modes")
}
