package parsetest

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Packages of programs that read documents as `PROGRAM parse TYPE`.
const (
	Service = "github.com/codexcontinue/codexcontinue/services/knowledge"
	Child   = Service + "/internal/parse/parsetest/child"
)

// Main is the TestMain of a package whose tests have documents read by their own binary, which is
// replaced by the program of the package then. That is built without the race detector: with it a
// child takes several times the memory and the time that a document may take.
func Main(m *testing.M, program string) {
	code, err := run(m, program)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M, program string) (code int, err error) {
	file := beside("parse")
	if len(os.Args) == 3 && os.Args[1] == "parse" {
		return 0, syscall.Exec(file, os.Args, os.Environ())
	}

	if out, err := exec.Command("go", "build", "-o", file, program).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build what reads documents: %w\n%s", err, out)
	}
	defer os.Remove(file)
	defer os.RemoveAll(Cache())

	return m.Run(), nil
}

// Cache returns a directory for all tests of the package: to fill it takes seconds.
func Cache() string { return beside("cache") }

func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return self + "-" + name
}
