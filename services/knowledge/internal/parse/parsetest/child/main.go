// Child is the child process of the tests of package parse. The types that it knows beside those of
// documents do what a document should not make it do.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
)

func main() {
	if err := run(os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kind string) error {
	if err := parse.Child(parse.Type(kind), os.Stdin, os.Stdout, os.Getenv); err != nil {
		return err
	}

	switch kind {
	case "confined":
		return confined()
	case "memory":
		for all := []byte{1}; len(all) > 0; time.Sleep(time.Millisecond) {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20)...)
		}
	case "loop":
		for start := time.Now(); time.Since(start) < time.Hour; {
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "output":
		for {
			os.Stdout.WriteString(strings.Repeat("x", 1000))
		}
	}

	return nil
}

// confined returns an error if it can read a file, write one, or reach the network.
func confined() error {
	_, read := os.ReadFile("/proc/version")
	write := os.WriteFile(filepath.Join(os.TempDir(), "confined"), []byte("x"), 0o600)
	_, dial := net.Dial("tcp", "127.0.0.1:1")
	for _, err := range []error{read, write, dial} {
		if !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("it may do too much: %w", err)
		}
	}
	return nil
}
