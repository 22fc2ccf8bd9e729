// Command upper is a module: its input in upper case.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

func main() {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if _, err := os.ReadFile("/etc/hosts"); err == nil {
		fmt.Fprintln(os.Stderr, "there is a file system here")
		os.Exit(3)
	}
	if _, err := os.Stdout.Write(bytes.ToUpper(b)); err != nil {
		os.Exit(4)
	}
}
