//go:build !unix

package main

import (
	"io/fs"
	"os/exec"
)

func ownProcessGroup(*exec.Cmd) {}

// There is no interrupt to send.
func interrupt(cmd *exec.Cmd) error { return cmd.Process.Kill() }

// There are no owners as Docker means them.
func owner(fs.FileInfo) (uid, gid int) { return 0, 0 }
