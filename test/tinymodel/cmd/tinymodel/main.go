// Command tinymodel writes the test model and its Modelfile into a directory,
// for `ollama create -f`.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tinymodel DIRECTORY")
		os.Exit(2)
	}

	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "tinymodel:", err)
		os.Exit(1)
	}
}

// run writes dir/tiny.gguf and dir/Modelfile.
func run(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}

	f, err := os.Create(filepath.Join(dir, "tiny.gguf"))
	if err != nil {
		return err
	}

	if err := tinymodel.Write(f); err != nil {
		f.Close()
		return err
	}

	if err := f.Close(); err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(dir, "Modelfile"),
		[]byte(tinymodel.Modelfile("./tiny.gguf", "")), 0o644)
}
