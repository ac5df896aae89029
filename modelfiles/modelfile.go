// Package modelfiles reads the Modelfiles of the custom models. The plan and the ml service use the
// same code, so both see the same digest. It changes with the prompt, the parameters, the base
// model and the adapters, and with nothing else.
package modelfiles

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ollama/ollama/parser"
)

// Model is a Modelfile as it will be built.
type Model struct {
	// Digest is the sha256 (hex) of the parsed commands, with the FROM that will be used, and of
	// every local file they name. Comments and layout of the Modelfile do not count.
	Digest string

	// Parsed holds the commands; FROM is replaced if a base was given.
	Parsed *parser.Modelfile

	// Base is what FROM names: a model, or a local file of Files.
	Base string

	// Files are the local files that FROM and ADAPTER name, relative to the
	// Modelfile's folder, sorted. Sums are the sha256 (hex) of each.
	Files []string
	Sums  map[string]string
}

// Load reads the Modelfile at name in fsys. A base that is not empty replaces its FROM. A
// path in FROM or ADAPTER has to be in the Modelfile's folder: anything else would let a
// Modelfile read the machine.
func Load(fsys fs.FS, name, base string) (Model, error) {
	f, err := fsys.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Model{}, fmt.Errorf("%s: there is no such Modelfile", name)
		}
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()

	parsed, err := parser.ParseFile(f)
	if err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}

	m := Model{Parsed: parsed, Sums: map[string]string{}}
	if n := froms(parsed); base != "" && n > 1 {
		return Model{}, fmt.Errorf("%s: it has %d FROM, and a base model replaces one: leave one "+
			"FROM, or do not set a base",
			name, n)
	}

	dir := path.Dir(name)
	h := sha256.New()
	for i, c := range parsed.Commands {
		if c.Name == "model" { // the parser's name of FROM
			if base != "" {
				c.Args = base
				parsed.Commands[i] = c
			}
			m.Base = c.Args
		}

		fmt.Fprintf(h, "%s %d\n%s\n", c.Name, len(c.Args), c.Args)
		if c.Name != "model" && c.Name != "adapter" {
			continue
		}

		local, err := localFile(fsys, dir, c.Args)
		if err != nil {
			return Model{}, fmt.Errorf("%s: %s %s: %w", name, commandName(c.Name), c.Args, err)
		}

		if local == "" {
			if c.Name == "adapter" {
				return Model{}, fmt.Errorf("%s: ADAPTER %s: there is no such file in the "+
					"Modelfile's folder",
					name, c.Args)
			}
			continue
		}

		sum, err := digestFile(fsys, path.Join(dir, local))
		if err != nil {
			return Model{}, fmt.Errorf("%s: %w", name, err)
		}

		fmt.Fprintf(h, "file %s\n", sum)
		m.Files = append(m.Files, local)
		m.Sums[local] = sum
	}

	if m.Base == "" {
		return Model{}, fmt.Errorf("%s: it has no FROM: name the base model", name)
	}

	slices.Sort(m.Files)
	m.Files = slices.Compact(m.Files)
	m.Digest = hex.EncodeToString(h.Sum(nil))
	return m, nil
}

// localFile returns the path within dir of the file that arg names, or "" if arg names a
// model of a registry. As in Ollama, what looks like a path is one, and a bare name is a file
// only if the file exists.
func localFile(fsys fs.FS, dir, arg string) (string, error) {
	looksLocal := strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "/") ||
		strings.HasPrefix(arg, "~")
	clean := path.Clean(arg)
	if path.IsAbs(clean) || strings.HasPrefix(clean, "~") || clean == ".." ||
		strings.HasPrefix(clean, "../") {
		return "", errors.New("the path leads out of the Modelfile's folder: put the file there " +
			"and name it relative to it")
	}

	if !fs.ValidPath(clean) {
		if looksLocal {
			return "", errors.New("not a valid path")
		}
		return "", nil
	}

	err := refuseLinks(fsys, dir, clean)
	var info fs.FileInfo
	if err == nil {
		info, err = fs.Stat(fsys, path.Join(dir, clean))
	}

	switch {
	case err == nil && info.Mode().IsRegular():
		return clean, nil
	case err == nil:
		// Ollama would read a folder as a model in safetensors, even one that
		// merely has a model's name.
		return "", errors.New("this is not a file: the digest covers single files only")
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid):
		return "", err
	case looksLocal:
		return "", errors.New("there is no such file in the Modelfile's folder")
	}

	return "", nil
}

// refuseLinks returns an error if an element of the path within dir is a symbolic link,
// which could lead anywhere.
func refuseLinks(fsys fs.FS, dir, clean string) error {
	at := dir
	for element := range strings.SplitSeq(clean, "/") {
		at = path.Join(at, element)
		info, err := fs.Lstat(fsys, at)
		if err != nil {
			return err
		}

		if info.Mode()&fs.ModeSymlink != 0 {
			return errors.New("a symbolic link could lead out of the Modelfile's folder: put the " +
				"file itself there")
		}
	}

	return nil
}

func froms(f *parser.Modelfile) int {
	n := 0
	for _, c := range f.Commands {
		if c.Name == "model" {
			n++
		}
	}
	return n
}

// digestFile returns the sha256 (hex) of a file.
func digestFile(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()

	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func commandName(parsed string) string {
	if parsed == "model" {
		return "FROM"
	}
	return strings.ToUpper(parsed)
}
