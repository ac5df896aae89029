//go:build !unix

package main

import (
	"io/fs"
	"os/exec"
)

func ownProcessGroup(*exec.Cmd) {}

// interrupt kills the program: there is no interrupt to send.
func interrupt(cmd *exec.Cmd) error { return cmd.Process.Kill() }

// owner returns root: there are no owners as Docker knows them.
func owner(fs.FileInfo) (uid, gid int) { return 0, 0 }
