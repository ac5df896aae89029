package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is a measured program, run on this machine without a container.
type process struct {
	name string
	cmd  *exec.Cmd
	log  bytes.Buffer

	// done is closed when the program has ended.
	done chan struct{}

	// coldStart is the time from exec to the first 200 of its health path.
	coldStart time.Duration
}

// startTimeout bounds the wait for a program's health.
const startTimeout = 60 * time.Second

// start runs a program with the environment env, in the folder that it has for its HOME, and waits
// until url answers 200. Without a url it does not wait.
func (t tools) start(
	ctx context.Context, name, url string, env []string, argv ...string,
) (*process, error) {
	dir := "" // the bench's own
	for _, kv := range env {
		if home, ok := strings.CutPrefix(kv, "HOME="); ok {
			dir = home
		}
	}

	p := &process{name: name, done: make(chan struct{})}
	p.cmd = t.command(ctx, dir, argv[0], argv[1:]...)
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	go func() {
		_ = p.cmd.Wait() // the exit code after an interrupt does not matter
		close(p.done)
	}()

	if url == "" {
		return p, nil
	}

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := p.await(ctx, url)
	if p.coldStart = time.Since(begin); err == nil {
		return p, nil
	}

	p.stop()
	return nil, fmt.Errorf("%s: %s: %w; its log:\n%s", name, url, err, tail(p.log.String(), 20))
}

// await waits until url answers 200. It asks every millisecond, as milliseconds are measured.
func (p *process) await(ctx context.Context, url string) error {
	for {
		err := get(ctx, url)
		if err == nil {
			return nil
		}

		select {
		case <-p.done:
			return errors.New("the program has ended")
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body) // only for the message
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(b.String()))
	}

	return nil
}

// awaitReady waits until url answers 200, asking twenty times a second.
func awaitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := get(ctx, url)
		if err == nil {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready within %s: %w", url, startTimeout, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop interrupts the program and waits for its end, or kills it after stopGrace.
func (p *process) stop() {
	_ = interrupt(p.cmd)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// rss returns the resident memory of the process in bytes, without its children's.
func (p *process) rss() (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, absentError{"/proc", "resident memory is read on Linux only"}
	}

	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb * 1024, err
		}
	}

	return 0, fmt.Errorf("%s: no VmRSS: it has ended", p.name)
}

// ticks is the number of units of processor time in a second, as /proc counts it.
const ticks = 100

// cpu returns the processor time of the process in seconds, without its children's.
func (p *process) cpu() (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0, absentError{"/proc", "processor time is read on Linux only"}
	}

	// After the program's name, which may hold anything: user is the 14th field, system the 15th.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%s: /proc/stat has %d fields", p.name, len(f))
	}

	user, errUser := strconv.ParseFloat(f[11], 64)
	system, errSystem := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticks, errors.Join(errUser, errSystem)
}

// freePort returns a free port on loopback.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
