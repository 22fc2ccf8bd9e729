package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets a child end when this process is killed.
func dieWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
