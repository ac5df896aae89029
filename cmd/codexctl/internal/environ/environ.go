// Package environ reads an environment that is passed along instead of the process's own.
package environ

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Vars are variables in the form of os.Environ.
type Vars []string

// Lookup returns the last value of the variable, which is the one that counts, and reports whether
// there is one, as os.LookupEnv does.
func (v Vars) Lookup(name string) (string, bool) {
	for _, e := range slices.Backward(v) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// Get returns the value of the variable, or "", as os.Getenv does.
func (v Vars) Get(name string) string { value, _ := v.Lookup(name); return value }

// LookPath returns the path of a program on PATH, as exec.LookPath does.
func (v Vars) LookPath(program string) (string, error) {
	if path := Find(filepath.SplitList(v.Get("PATH")), program); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s: %w", program, exec.ErrNotFound)
}

// Command returns a command for a program on PATH, in the folder dir and with these variables.
func (v Vars) Command(
	ctx context.Context, dir, program string, args ...string,
) (*exec.Cmd, error) {
	path, err := v.LookPath(program)
	if err != nil {
		return nil, err
	}

	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, v
	return cmd, nil
}

// Find returns the path of the program in the first of the folders that has it, or "".
func Find(dirs []string, program string) string {
	for _, dir := range dirs {
		path, err := exec.LookPath(filepath.Join(dir, program))
		if err == nil && filepath.IsAbs(path) {
			return path
		}
	}
	return ""
}
