package stacks_test

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running peer.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output
	gone chan struct{} // closed when it has ended
}

// output collects what a process prints while the test reads it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}
func (o *output) String() string { o.mu.Lock(); defer o.mu.Unlock(); return o.buf.String() }

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{
		t:    t,
		cmd:  exec.Command(program, args...),
		out:  &output{},
		gone: make(chan struct{}),
	}

	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	go func() { _ = p.cmd.Wait(); close(p.gone) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.gone
		if t.Failed() {
			t.Logf("%s said:\n%s", program, p.out)
		}
	})

	return p
}

// stop asks the process to end, as Docker does, and waits for it.
func (p *process) stop(within time.Duration) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(within):
		p.t.Fatalf("still running %s after the stop", within)
	}
}

// await asks until the answer is true, the process is gone or a minute is over.
func (p *process) await(what string, ask func() bool) {
	p.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-p.gone:
			p.t.Fatalf("ended before %s", what)
		case <-deadline:
			p.t.Fatalf("a minute without %s", what)
		case <-tick.C:
		}
	}
}

// replaced is s with each old text, which it has to hold, replaced by the new one that follows it.
func replaced(t *testing.T, s string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(s, oldNew[i]) {
			t.Fatalf("%q is not in the text:\n%s", oldNew[i], s)
		}
		s = strings.ReplaceAll(s, oldNew[i], oldNew[i+1])
	}

	return s
}
