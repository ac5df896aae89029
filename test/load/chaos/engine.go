//go:build unix

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidFile is where dockerd notes its process, and containerdPidFile where its containerd does, in
// the folder of its socket. A machine that starts anew has neither.
const (
	pidFile           = "/var/run/docker.pid"
	containerdPidFile = "containerd.pid"
)

// Engine is a Docker engine of this machine that was started as a plain process and has started its
// containerd itself. It takes root.
type Engine struct {
	proc   string // where the kernel tells of processes
	pid    int
	socket string // of its containerd
	signal func(pid int) error

	// What dockerd was started with; log is where its output goes.
	argv, env []string
	dir, log  string
}

// FindEngine finds the one Docker engine of this machine.
func FindEngine() (*Engine, error) {
	return findEngine("/proc", func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) })
}

func findEngine(proc string, signal func(int) error) (*Engine, error) {
	e := &Engine{proc: proc, signal: signal}
	all, err := e.processes()
	if err != nil {
		return nil, err
	}

	var found []process
	for _, p := range all {
		if p.program() == "dockerd" {
			found = append(found, p)
		}
	}

	if len(found) != 1 {
		return nil, fmt.Errorf("%d processes are called dockerd, want one", len(found))
	}

	e.pid, e.argv = found[0].pid, found[0].argv
	if e.socket, err = socket(family(all, e.pid)); err != nil {
		return nil, err
	}

	of := filepath.Join(proc, strconv.Itoa(e.pid))
	env, err := os.ReadFile(filepath.Join(of, "environ"))
	if err != nil {
		return nil, err
	}

	e.env = strings.Split(strings.TrimRight(string(env), "\x00"), "\x00")
	if e.dir, err = os.Readlink(filepath.Join(of, "cwd")); err != nil {
		return nil, err
	}

	e.log = os.DevNull
	if file, err := os.Readlink(filepath.Join(of, "fd", "2")); err == nil {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			e.log = file
		}
	}

	return e, nil
}

// Kill ends everything of the engine at once, as a machine does that loses its power: dockerd, its
// containerd, every shim, and every process in a container. It returns how many processes those
// were, when none is left.
func (e *Engine) Kill(ctx context.Context) (int, error) {
	all, err := e.processes()
	if err != nil {
		return 0, err
	}

	doomed := family(all, e.pid)
	// A shim outlives its containerd: it is a child of the first process.
	for _, p := range all {
		shim := strings.HasPrefix(p.program(), "containerd-shim")
		if shim && p.option("-address") == e.socket {
			doomed = append(doomed, family(all, p.pid)...)
		}
	}

	// The engine first: it would start again what ends before it.
	for _, p := range doomed {
		if err := e.signal(p.pid); err != nil && !errors.Is(err, syscall.ESRCH) {
			return 0, fmt.Errorf("process %d (%s): %w", p.pid, p.program(), err)
		}
	}

	return len(doomed), await(ctx, func() (bool, error) {
		left, err := e.processes()
		return !slices.ContainsFunc(left, func(p process) bool {
			return slices.ContainsFunc(doomed, func(d process) bool { return d.pid == p.pid })
		}), err
	})
}

// Start starts the engine as it was started before, and returns when it answers.
func (e *Engine) Start(ctx context.Context) error {
	for _, f := range []string{pidFile, filepath.Join(filepath.Dir(e.socket), containerdPidFile)} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}

	log, err := os.OpenFile(e.log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer log.Close()

	cmd := exec.Command(e.argv[0], e.argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = e.env, e.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this program
	if err := cmd.Start(); err != nil {
		return err
	}

	e.pid = cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if exec.CommandContext(ctx, "docker", "version").Run() == nil {
			return nil
		}

		select {
		case err := <-ended:
			return fmt.Errorf("dockerd ended: %w; its log is %s", err, e.log)
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w; its log is %s", ctx.Err(), e.log)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// process is one of this machine.
type process struct {
	pid, parent int
	argv        []string
}

func (p process) program() string {
	if len(p.argv) == 0 {
		return ""
	}
	return filepath.Base(p.argv[0])
}

// option is the argument behind the one with that name.
func (p process) option(name string) string {
	if i := slices.Index(p.argv, name); i >= 0 && i+1 < len(p.argv) {
		return p.argv[i+1]
	}
	return ""
}

// processes are all that live. Those of the kernel and those that wait for their parent have no
// arguments, and are left out.
func (e *Engine) processes() ([]process, error) {
	entries, err := os.ReadDir(e.proc)
	if err != nil {
		return nil, err
	}

	var out []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}

		of := filepath.Join(e.proc, entry.Name())
		args, err := os.ReadFile(filepath.Join(of, "cmdline"))
		stat, statErr := os.ReadFile(filepath.Join(of, "stat"))
		if err != nil || statErr != nil || len(args) == 0 {
			continue // it has ended meanwhile
		}

		// PID (NAME) STATE PARENT ...; a name may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s/stat: %q is not what the kernel writes", of, stat)
		}

		parent, err := strconv.Atoi(string(fields[1]))
		if err != nil {
			return nil, fmt.Errorf("%s/stat: %w", of, err)
		}

		argv := strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
		out = append(out, process{pid, parent, argv})
	}

	return out, nil
}

// family is a process and all that descend from it, parents before their children.
func family(all []process, pid int) []process {
	var out []process
	for _, p := range all {
		if p.pid == pid {
			out = append(out, p)
		}
	}

	for i := 0; i < len(out); i++ {
		for _, p := range all {
			if p.parent == out[i].pid {
				out = append(out, p)
			}
		}
	}

	return out
}

// socket is where the containerd of an engine listens, which names it to its shims.
func socket(engine []process) (string, error) {
	for _, p := range engine {
		if p.program() == "containerd" && p.option("--config") != "" {
			return filepath.Join(filepath.Dir(p.option("--config")), "containerd.sock"), nil
		}
	}
	return "", errors.New("dockerd has no containerd of its own: " +
		"one that systemd runs cannot be killed with it")
}
