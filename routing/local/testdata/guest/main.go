// Command guest is the module that the tests of package local run: its
// argument is the behavior that package backendtest asks for.
package main

import (
	"io"
	"os"
	"time"
)

func main() {
	switch os.Args[1] {
	case "echo":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			os.Exit(1)
		}
	case "fail":
		_, _ = io.CopyN(os.Stdout, os.Stdin, 100)
		os.Stderr.WriteString("it failed\n")
		os.Exit(3)
	case "hang":
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(time.Hour)
	default:
		os.Exit(2)
	}
}
