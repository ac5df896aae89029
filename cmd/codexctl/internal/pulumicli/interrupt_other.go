//go:build !unix

package pulumicli

import "os/exec"

func ownProcessGroup(*exec.Cmd) {}

// interrupt kills the CLI: there is no interrupt to send. `pulumi cancel` then frees the state.
func interrupt(cmd *exec.Cmd) error { return cmd.Process.Kill() }
