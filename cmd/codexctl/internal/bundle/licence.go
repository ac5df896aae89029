package bundle

import (
	"archive/tar"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// Program is a program whose modules have licences.
type Program struct {
	// Name is what the list calls it.
	Name    string
	Modules []module.Version
}

// ReadProgram returns the program with the modules that it says it is built of.
func ReadProgram(name, file string) (Program, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return Program{}, fmt.Errorf("bundle: %s: %w", file, err)
	}

	return Program{Name: name, Modules: modulesOf(info)}, nil
}

// modulesOf returns Go itself and the modules of a program, its own the last.
func modulesOf(info *debug.BuildInfo) []module.Version {
	out := []module.Version{{Path: goModule, Version: info.GoVersion}}
	for _, m := range append(slices.Clone(info.Deps), &info.Main) {
		if m.Replace != nil && m.Replace.Version != "" { // otherwise it is a folder
			m = m.Replace
		}
		if m.Path != "" {
			out = append(out, module.Version{Path: m.Path, Version: m.Version})
		}
	}

	return out
}

// goModule stands for Go's own library, which is no module.
const goModule = "go"

// licenceFile are the names under which modules have their licences.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// Licences are the licences of programs.
type Licences struct {
	Programs []Program

	// ModCache is the folder of Go's modules, GoRoot that of Go itself, Root the project's.
	ModCache, GoRoot, Root string

	// Own is the project's module.
	Own string
}

// Write writes an archive of the licences, and a table of what program has what module. Where a
// module's files are not at hand the table says where to read its licence.
func (l Licences) Write(to io.Writer) error {
	w := tar.NewWriter(to)
	written := map[module.Version]int{}
	var table strings.Builder
	fmt.Fprintf(&table, "program\tmodule\tversion\tlicence\n")
	for _, p := range l.Programs {
		for _, m := range p.Modules {
			n, ok := written[m]
			if !ok {
				var err error
				if n, err = l.writeModule(w, m); err != nil {
					return err
				}
				written[m] = n
			}

			where := folderOf(m)
			if n == 0 {
				where = "https://pkg.go.dev/" + m.Path + "?tab=licenses"
			}
			fmt.Fprintf(&table, "%s\t%s\t%s\t%s\n", p.Name, m.Path, m.Version, where)
		}
	}

	if err := writeText(w, "modules.tsv", []byte(table.String())); err != nil {
		return err
	}
	return w.Close()
}

// folderOf returns the folder of the archive with the licences of a module.
func folderOf(m module.Version) string {
	if m.Version == "" {
		return m.Path
	}
	return m.Path + "@" + m.Version
}

// writeModule writes the licences of a module and returns how many it has at hand.
func (l Licences) writeModule(w *tar.Writer, m module.Version) (int, error) {
	dir, err := l.dir(m)
	if err != nil {
		return 0, nil // of no form that the cache has, such as (devel)
	}

	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}

	n := 0
	for _, f := range files {
		if !f.Type().IsRegular() || !licenceFile.MatchString(f.Name()) {
			continue
		}

		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return 0, err
		}
		if err := writeText(w, path.Join(folderOf(m), f.Name()), text); err != nil {
			return 0, err
		}
		n++
	}

	return n, nil
}

// dir returns the folder that has the files of a module.
func (l Licences) dir(m module.Version) (string, error) {
	switch m.Path {
	case goModule:
		return l.GoRoot, nil
	case l.Own:
		return l.Root, nil
	}

	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}

	return filepath.Join(l.ModCache, filepath.FromSlash(escaped)+"@"+version), nil
}

func writeText(w *tar.Writer, name string, text []byte) error {
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}
