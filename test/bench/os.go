package main

import (
	"io/fs"
	"os/exec"
	"syscall"
)

// ownProcessGroup keeps the terminal's Ctrl-C from the program. It would get two interrupts, and
// Pulumi and compose end at once at the second.
func ownProcessGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func interrupt(cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGINT) }

// owner returns the owner of a file; 0 stands for root and for unknown.
func owner(info fs.FileInfo) (uid, gid int) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return 0, 0
}
