// Command drain runs a server and, told to stop, stops it when the requests that it has are done:
//
//	drain PORT COMMAND [ARGS...]
//
// It is the first process of Ollama's container: Ollama by itself ends its streams at once, so that
// people would lose half an answer whenever a replica goes. A request is a connection to PORT: ml
// opens one for each, or uses one again in its first seconds. What is not done when the container's
// grace ends is killed with it. A second signal stops the server at once.
//
// While it waits it accepts connections to PORT+1, and closes them. By that ml knows that this
// replica goes, and sends new requests to another one if there is one.
//
// Where the stack's services speak TLS it ends TLS at PORT, for those whom TLS_CALLERS names, and
// the command serves at OLLAMA_HOST behind it (tls.go).
//
//	drain relay PORT
//
// connects its standard input and output to PORT in the container. By that codexctl reaches an
// Ollama whose network has no way in.
//
//	drain read FILE
//
// writes the file to its standard output. By that codexctl copies a model from one replica to another:
// Ollama shows nobody its files, and its image need not have a program that does.
//
// It uses the standard library only and is built without the repository's go.mod: an update of some
// dependency must not make a new image, for which every Ollama would load its model again.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// lookEvery is the time between two looks at the connections.
	lookEvery = 100 * time.Millisecond
	// newsTime is how long after the signal a client may not know that this replica goes. Requests
	// that come in this time are waited for. Later ones are not: a single replica, which is asked
	// as long as it answers, would never stop.
	newsTime = 15 * time.Second
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
	}
	os.Exit(code)
}

// run returns the server's exit code.
func run(args []string) (int, error) {
	if len(args) < 2 {
		return 2, errors.New("usage: drain PORT COMMAND [ARGS...] | relay PORT | read FILE")
	}

	switch args[0] {
	case "relay":
		return exitCode(relay(args[1], os.Stdin, os.Stdout))
	case "read":
		return exitCode(read(args[1], os.Stdout))
	}

	port, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil || port == 0 {
		return 2, fmt.Errorf("%q is no port", args[0])
	}

	front, err := newFront(int(port))
	if err != nil {
		return 2, err
	}
	if front != nil {
		go front.serve() // until this process ends, as the server does
	}

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	server := exec.Command(args[1], args[2:]...)
	server.Stdin, server.Stdout, server.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return 127, err
	}

	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	select {
	case err = <-ended:
	case s := <-signals:
		drain(int(port), signals, ended)
		_ = server.Process.Signal(s) // it may have ended by itself
		err = <-ended
	}

	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := failed.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return failed.ExitCode(), nil
	}

	return 0, err
}

// exitCode returns the error of a command and its exit code.
func exitCode(err error) (int, error) {
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// relay copies in to a connection to the port and what comes back to out, until the server ends the
// connection.
func relay(port string, in io.Reader, out io.Writer) error {
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	defer c.Close()

	go func() {
		_, _ = io.Copy(c, in) // a server that has enough says so, and ends the connection
		_ = c.(*net.TCPConn).CloseWrite()
	}()

	_, err = io.Copy(out, c)
	return err
}

// read copies the file to out.
func read(file string, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	_, err = io.Copy(out, f)
	return err
}

// drain waits until no connection is left that came in newsTime, a second signal comes, or the
// server ends. It leaves the server's end in the channel.
func drain(port int, again <-chan os.Signal, ended chan error) {
	fmt.Fprintln(os.Stderr, "drain: stopping when the answers that are being written are done")
	defer tell(port + 1)()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var pending []string
	for start := time.Now(); ; {
		now := established(port)
		if time.Since(start) < newsTime {
			pending = now
		} else {
			pending = slices.DeleteFunc(pending, func(c string) bool {
				return !slices.Contains(now, c)
			})
		}

		if len(pending) == 0 {
			return
		}

		select {
		case <-again:
			return
		case err := <-ended:
			ended <- err
			return
		case <-tick.C:
		}
	}
}

// tell accepts connections to a port until the function that it returns is called. If it cannot,
// new requests come as long as the server answers.
func tell(port int) (stop func()) {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		return func() {}
	}

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()

	return func() { l.Close() }
}

// established returns the peers of the connections to a port of this container whose clients have
// not gone, as the kernel writes them (see proc_net_tcp in its documentation).
func established(port int) []string {
	const state = "01" // TCP_ESTABLISHED
	local := fmt.Sprintf(":%04X", port)
	var out []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // no IPv6, or not Linux: nothing is waited for
		}

		for s := bufio.NewScanner(f); s.Scan(); {
			// sl local_address rem_address st ...
			if c := strings.Fields(s.Text()); len(c) > 3 && strings.HasSuffix(c[1], local) &&
				c[3] == state {
				out = append(out, c[2])
			}
		}

		f.Close()
	}

	return out
}
