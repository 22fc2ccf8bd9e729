// Command sallyport-node is what a GPU owner runs: it takes sealed work from
// one lab's gateway and gives sealed results back.
package main

import (
	"os"

	"sallyport/internal/sandbox"
	"sallyport/node"
)

func main() {
	if sandbox.Child() {
		sandbox.Main()
	}
	os.Exit(node.Main(os.Args[1:], os.Stdout, os.Stderr))
}
