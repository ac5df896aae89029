//go:build !unix

package pulumicli

import "os/exec"

func ownProcessGroup(*exec.Cmd) {}

// There is no interrupt to send: the CLI is ended, and `pulumi cancel` frees the state.
func interrupt(cmd *exec.Cmd) error { return cmd.Process.Kill() }
