package scaffold

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// The files that know every service: the base lists what makes them, and dev the ports of their
// debuggers.
const (
	baseFile = "stacks/base.go"
	devFile  = "stacks/dev.go"
)

// service is what the templates of a service are made of.
type service struct {
	Name

	// Port is the HTTP port, Debugger the one of the debugger in development.
	Port, Debugger int
}

// reserved are the names that no service can have. Its binary /NAME would be in the way of its link
// /service, of a folder of its image, or of what is mounted; and Go passes over its folder
// services/NAME.
var reserved = []string{
	"service",
	"etc", "usr",
	"dev", "proc", "run", "sys", "tmp",
	"testdata", "vendor",
}

// Service returns what a new service adds to the checkout at root: its folder, what bounds the
// context of its image, and its description for the stacks.
func Service(root string, name Name) (Change, error) {
	taken := []string{stacks.Edge, stacks.Redis, stacks.Ollama, stacks.ModelJob, stacks.Resolver}
	if slices.Contains(taken, string(name)) {
		return Change{}, fmt.Errorf("name %q: a stack has that already: choose another name", name)
	}
	if slices.Contains(reserved, string(name)) {
		return Change{}, fmt.Errorf("name %q: means something else in an image or to Go: "+
			"choose another name", name)
	}
	folder := filepath.Join(root, "services", string(name))
	if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
		return Change{}, fmt.Errorf("services/%s: exists already: choose another name", name)
	}

	s := service{Name: name}
	var err error
	if s.Debugger, err = nextDebugger(root); err != nil {
		return Change{}, fmt.Errorf("%s: %w", devFile, err)
	}
	// New services count up from 8003, with their debuggers.
	s.Port = s.Debugger - firstDebugger + 8000

	files, err := expand("service", name, s)
	if err != nil {
		return Change{}, err
	}
	link := File{Path: fmt.Sprintf("services/%s.Dockerfile", name), Link: "Dockerfile"}
	files = append(files, link)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })

	return Change{
		Files: files,
		Edits: []Edit{
			addEntry(baseFile, "ownServices", name.Identifier()+"Service"),
			addEntry(devFile, "debuggers", fmt.Sprintf("%q: %d", string(name), s.Debugger)),
		},
		Next: []string{
			fmt.Sprintf("edit what it answers in services/%s, and whom it calls in stacks/%[1]s.go",
				name),
			"make update-goldens test",
			"make build",
			"bin/codexctl up dev",
			fmt.Sprintf("curl http://127.0.0.1:%d/greeting", s.Port),
		},
	}, nil
}

// firstDebugger is the port of the backend's debugger.
const firstDebugger = 2345

// nextDebugger returns the port after those that dev gives to debuggers.
func nextDebugger(root string) (int, error) {
	text, err := os.ReadFile(filepath.Join(root, devFile))
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution)
	if err != nil {
		return 0, err
	}
	literal, err := literalOf(file, "debuggers")
	if err != nil {
		return 0, err
	}

	next := firstDebugger
	for _, e := range literal.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if port, ok := pair.Value.(*ast.BasicLit); ok {
			if n, err := strconv.Atoi(port.Value); err == nil {
				next = max(next, n+1)
			}
		}
	}
	return next, nil
}
