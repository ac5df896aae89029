package ollamatest

import (
	"os/exec"
	"syscall"
)

// ownGroup lets killGroup reach the runners, which are children of Ollama.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
