// Package sbom lists what an image is made of, as CycloneDX (ECMA-424).
package sbom

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Image is what a list is made of.
type Image struct {
	v1.Image

	// Ref is the reference with the tag, Platform what it is for.
	Ref, Platform string

	// Bases are the references of the images that it is built from.
	Bases []string
}

// Of lists the programs of Go in the image with the modules that they say they are built of, and
// the packages of Debian that it says it has. It is the same for the same image, so it has no time
// and no number of its own.
func Of(x Image) (*cyclonedx.BOM, error) {
	id, err := x.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", x.Ref, err)
	}

	name, tag := stacks.SplitTag(x.Ref)
	l := &list{seen: map[string]bool{}, needs: map[string][]string{}}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{
		BOMRef:  x.Ref,
		Type:    cyclonedx.ComponentTypeContainer,
		Name:    name,
		Version: tag,
		Properties: &[]cyclonedx.Property{
			{Name: "dev.codexcontinue:image-id", Value: id.String()},
			{Name: "dev.codexcontinue:platform", Value: x.Platform},
		},
	}}

	for _, ref := range x.Bases {
		l.add(x.Ref, cyclonedx.Component{
			BOMRef: ref, Type: cyclonedx.ComponentTypeContainer, Name: ref,
		})
	}
	if err := l.read(x); err != nil {
		return nil, fmt.Errorf("image %s: %w", x.Ref, err)
	}

	bom.Components = &l.components
	var dependencies []cyclonedx.Dependency
	for _, ref := range append([]string{x.Ref}, refs(l.components)...) {
		d := cyclonedx.Dependency{Ref: ref}
		if needs := l.needs[ref]; len(needs) > 0 {
			d.Dependencies = &needs
		}
		dependencies = append(dependencies, d)
	}
	bom.Dependencies = &dependencies
	return bom, nil
}

// Write writes the list as JSON.
func Write(to io.Writer, bom *cyclonedx.BOM) error {
	return cyclonedx.NewBOMEncoder(to, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

func refs(components []cyclonedx.Component) []string {
	var out []string
	for _, c := range components {
		out = append(out, c.BOMRef)
	}
	return out
}

// list is a list that is being made.
type list struct {
	components []cyclonedx.Component
	seen       map[string]bool
	needs      map[string][]string
}

// add adds a component that another one needs.
func (l *list) add(of string, c cyclonedx.Component) {
	if !slices.Contains(l.needs[of], c.BOMRef) {
		l.needs[of] = append(l.needs[of], c.BOMRef)
	}
	if !l.seen[c.BOMRef] {
		l.seen[c.BOMRef] = true
		l.components = append(l.components, c)
	}
}

// read looks at every file of the image.
func (l *list) read(x Image) error {
	files := mutate.Extract(x)
	defer files.Close()
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}

		switch name := path.Clean("/" + h.Name); {
		case name == "/var/lib/dpkg/status", path.Dir(name) == "/var/lib/dpkg/status.d":
			if err := l.addPackages(x.Ref, r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			if err := l.addProgram(x.Ref, name, r); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
}

// addProgram adds the file if it is a program of Go, and its modules.
func (l *list) addProgram(image, name string, content io.Reader) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(content, head); err != nil || string(head) != "\x7fELF" {
		return nil
	}

	f, err := os.CreateTemp("", "codexctl-sbom-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, io.MultiReader(bytes.NewReader(head), content)); err != nil {
		return err
	}

	info, err := buildinfo.Read(f)
	if err != nil {
		return nil // not of Go
	}

	program := image + name
	l.add(image, cyclonedx.Component{
		BOMRef:     program,
		Type:       cyclonedx.ComponentTypeApplication,
		Name:       name,
		Version:    info.Main.Version,
		PackageURL: goURL(info.Main),
	})

	goItself := debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	l.addModule(program, goItself)
	for _, m := range info.Deps {
		if m.Replace != nil && m.Replace.Version != "" { // otherwise it is a folder
			m = m.Replace
		}
		l.addModule(program, *m)
	}
	return nil
}

func (l *list) addModule(program string, m debug.Module) {
	at := goURL(m)
	l.add(program, cyclonedx.Component{
		BOMRef:     at,
		Type:       cyclonedx.ComponentTypeLibrary,
		Name:       m.Path,
		Version:    m.Version,
		PackageURL: at,
	})
}

// goURL returns the package URL of a module.
func goURL(m debug.Module) string {
	if m.Path == "" {
		return ""
	}
	if m.Version == "" || m.Version == "(devel)" {
		return "pkg:golang/" + m.Path
	}
	return "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
}

// addPackages adds the packages of dpkg's list that are installed.
func (l *list) addPackages(image string, status io.Reader) error {
	fields := map[string]string{}
	done := func() {
		// A list in status.d has no Status: what is there is installed.
		if s := fields["Status"]; fields["Package"] != "" &&
			(s == "" || strings.HasSuffix(s, " installed")) {
			at := fmt.Sprintf("pkg:deb/%s@%s?arch=%s", fields["Package"],
				strings.NewReplacer("+", "%2B", ":", "%3A", "~", "~").Replace(fields["Version"]),
				fields["Architecture"])
			l.add(image, cyclonedx.Component{
				BOMRef:     at,
				Type:       cyclonedx.ComponentTypeLibrary,
				Name:       fields["Package"],
				Version:    fields["Version"],
				PackageURL: at,
			})
		}
		clear(fields)
	}

	lines := bufio.NewScanner(status)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		key, value, ok := strings.Cut(line, ":")
		switch {
		case line == "":
			done()
		case ok && !strings.HasPrefix(line, " "):
			fields[key] = strings.TrimSpace(value)
		}
	}
	done()
	return lines.Err()
}
