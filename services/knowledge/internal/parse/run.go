package parse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits bound the child process that reads a document.
type Limits struct {
	// Memory is the most that it may hold in RAM, in bytes.
	Memory int64

	// CPU and Wall are how long it may work, and how long that may last.
	CPU, Wall time.Duration

	// Output is the most that it may answer, in bytes.
	Output int64
}

// DefaultLimits suffice for the documents of package parse's own bounds. See docs/knowledge.md for
// what was measured.
var DefaultLimits = Limits{
	Memory: 512 << 20, CPU: 90 * time.Second, Wall: 2 * time.Minute, Output: 4 * MaxText,
}

// Runner reads documents in child processes.
type Runner struct {
	// Program is the command line that calls Child with the type that is added to it.
	Program []string
	Limits  Limits

	// Cache is a directory for what Prepare makes.
	Cache    string
	prepared atomic.Bool

	// preparing is held by Prepare, for which PDFs wait.
	preparing sync.RWMutex
}

// patience is how long Prepare may take.
const patience = 10 * time.Minute

// Prepare compiles PDFium for this machine, which takes seconds, unless the Cache has it already.
// Without it each PDF takes as much longer.
func (r *Runner) Prepare(ctx context.Context) error {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	limits := r.Limits
	limits.CPU, limits.Wall = patience, patience
	if err := os.MkdirAll(r.Cache, 0o700); err != nil {
		return fmt.Errorf("prepare to read PDFs: %w", err)
	}

	f, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("prepare to read PDFs: %w", err)
	}
	defer f.Close()
	if _, err := r.run(ctx, prepare, f, limits); err != nil {
		return fmt.Errorf("prepare to read PDFs: %w", err)
	}
	r.prepared.Store(true)
	return nil
}

// answer is what a child writes.
type answer struct {
	Document *Document `json:"document,omitempty"`
	Refusal  *Refusal  `json:"refusal,omitempty"`
}

// watchEvery is how often the memory of a child is looked at.
const watchEvery = 10 * time.Millisecond

var (
	errMemory = errors.New("it takes more memory than a document may")
	errOutput = errors.New("it answers more than a document may")
)

// Run reads the document in the file. An error that is a *Refusal is about the document; any other
// is about the machine.
func (r *Runner) Run(ctx context.Context, t Type, f *os.File) (*Document, error) {
	if t == PDF {
		r.preparing.RLock()
		defer r.preparing.RUnlock()
	}
	return r.run(ctx, t, f, r.Limits)
}

func (r *Runner) run(
	ctx context.Context, t Type, f *os.File, limits Limits,
) (*Document, error) {
	// The child ends with the thread that starts it, which is to be as old as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	ctx, cancel := context.WithTimeout(ctx, limits.Wall)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	out := &bounded{most: limits.Output, full: func() { fail(errOutput) }}
	program := append(r.Program[1:len(r.Program):len(r.Program)], string(t))
	cmd := exec.CommandContext(ctx, r.Program[0], program...)
	cmd.Stdin, cmd.Stdout = f, out
	said := &beginning{}
	cmd.Stderr = said
	cmd.Env = []string{
		"GOMEMLIMIT=" + strconv.FormatInt(limits.Memory*3/4, 10), "GOMAXPROCS=2",
		cpuVariable + "=" + strconv.Itoa(int(limits.CPU/time.Second)),
		dataVariable + "=" + strconv.FormatInt(2*limits.Memory, 10),
	}
	if t == prepare || r.prepared.Load() {
		cmd.Env = append(cmd.Env, cacheVariable+"="+r.Cache)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("read a document: %w", err)
	}

	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(ctx, cmd.Process.Pid, limits.Memory, func() { fail(errMemory) })
	}()
	err := cmd.Wait()
	cause := context.Cause(ctx)
	fail(nil)
	<-watched

	switch {
	case errors.Is(cause, errMemory), err != nil && cause == nil && said.noMemory():
		return nil, broken("The document takes more than %d MB of memory to read.",
			limits.Memory>>20)
	case errors.Is(cause, errOutput):
		return nil, errTooLong
	case errors.Is(cause, context.DeadlineExceeded):
		return nil, broken("The document takes longer than %s to read.", limits.Wall)
	case cause != nil:
		return nil, cause
	case err != nil:
		// It was killed for the time that it worked, by a lack of memory, or by a document that
		// makes a library fail.
		return nil, broken("The document cannot be read: it is broken, or takes too long.")
	}

	var a answer
	if err := json.Unmarshal(out.kept.Bytes(), &a); err != nil {
		return nil, fmt.Errorf("read a document: %w", err)
	}
	if a.Refusal != nil {
		return nil, a.Refusal
	}
	if a.Document == nil {
		return nil, errors.New("read a document: the child answers nothing")
	}
	return a.Document, nil
}

// beginning keeps the beginning of what is written to it.
type beginning struct{ kept []byte }

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	const most = 1 << 10
	b.kept = append(b.kept, p[:min(len(p), most-len(b.kept))]...)
	return len(p), nil
}

// noMemory reports whether it is how a Go program ends that gets no more memory, which a thread's
// stack needs as well: the runtime makes one, or cgo where that is linked. How much RAM it has held
// says less: the kernel counts that of the process that started it as well.
func (b *beginning) noMemory() bool {
	for _, words := range []string{
		"out of memory", "cannot allocate memory", "failed to create new OS thread",
		"pthread_create failed",
	} {
		if bytes.Contains(b.kept, []byte(words)) {
			return true
		}
	}
	return false
}

// bounded keeps what is written to it, and calls full instead of keeping more than most.
type bounded struct {
	kept bytes.Buffer // not embedded: io.Copy would go past Write, to its ReadFrom
	most int64
	full func()
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.kept.Len()+len(p)) > b.most {
		b.full()
		return 0, io.ErrShortWrite
	}
	return b.kept.Write(p)
}

// watch calls exceeded if the process holds more memory than most, until ctx is done.
func watch(ctx context.Context, pid int, most int64, exceeded func()) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if resident(pid) > most {
			exceeded()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// resident returns how much RAM a process holds, 0 of one that has ended.
func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
