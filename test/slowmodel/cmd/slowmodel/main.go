//go:build unix

// Command slowmodel takes the place of the ollama program: `slowmodel serve` runs the real one
// behind it and answers conversations itself (see the package slowmodel), every other command is
// the real one's. The real program is the one that OLLAMA_REAL names, or ollama-real beside this
// one. `slowmodel modelfile GGUF` prints a Modelfile whose model can go on with a cut answer.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

// startTimeout bounds the wait for the real server.
const startTimeout = time.Minute

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "slowmodel:", err)
	}
	os.Exit(code)
}

// run returns the exit code.
func run(args []string) (int, error) {
	if len(args) == 2 && args[0] == "modelfile" {
		fmt.Print(slowmodel.Modelfile(args[1]))
		return 0, nil
	}

	real, err := realOllama()
	if err != nil {
		return 127, err
	}
	if len(args) == 0 || args[0] != "serve" && args[0] != "start" {
		return 126, syscall.Exec(real, append([]string{"ollama"}, args...), os.Environ())
	}

	return serve(real)
}

// realOllama finds the program that this one stands in front of.
func realOllama() (string, error) {
	if path := os.Getenv("OLLAMA_REAL"); path != "" {
		return path, nil
	}

	self, err := os.Executable()
	if err != nil {
		return "", err
	}

	path := filepath.Join(filepath.Dir(self), "ollama-real")
	_, err = os.Stat(path)
	return path, err
}

// serve runs the real server on a port of its own, and listens where it would have when it answers.
// As Ollama does, it ends at once when it is told to: what is being written is cut.
func serve(real string) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	port, err := freePort()
	if err != nil {
		return 1, err
	}

	behind := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port)}
	cmd := exec.Command(real, "serve")
	cmd.Env = append(os.Environ(), "OLLAMA_HOST="+behind.Host)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, err
	}

	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	kill := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}

	if err := answers(ctx, behind.String()+"/api/version", ended); err != nil {
		kill()
		return 1, err
	}

	l, err := net.Listen("tcp", listenAddress())
	if err != nil {
		kill()
		return 1, err
	}

	srv := &http.Server{Handler: slowmodel.New(behind)}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
		_ = srv.Close()
		kill()
		return 0, nil
	case <-ended:
		return max(cmd.ProcessState.ExitCode(), 1), errors.New("the real server has ended")
	case err := <-served:
		kill()
		return 1, err
	}
}

// listenAddress is where Ollama listens, by OLLAMA_HOST.
func listenAddress() string {
	host := os.Getenv("OLLAMA_HOST")
	if _, after, ok := strings.Cut(host, "://"); ok {
		host = after
	}

	host = strings.TrimRight(host, "/")
	if host == "" {
		host = "127.0.0.1"
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, "11434")
	}

	return host
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// answers returns when the server does.
func answers(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}

		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			return nil
		}

		select {
		case <-ended:
			return errors.New("the real server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("the real server does not answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
