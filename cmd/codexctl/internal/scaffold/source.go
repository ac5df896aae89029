package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strings"
	"text/template"
)

// templates holds a folder for each kind of thing. A file in it becomes one of the checkout at the
// same path, without .tmpl. The name takes the place of NAME there, and as that of a package the
// place of PACKAGE.
//
//go:embed all:templates
var templates embed.FS

// expand returns the files that the templates of a kind make of data for the name. Those of Go come
// out as gofmt writes them.
func expand(kind string, name Name, data any) ([]File, error) {
	dir, err := fs.Sub(templates, "templates/"+kind)
	if err != nil {
		return nil, err
	}

	names := strings.NewReplacer("NAME", string(name), "PACKAGE", name.Package(), ".tmpl", "")
	var files []File
	err = fs.WalkDir(dir, ".", func(source string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}

		t, err := template.New(source).ParseFS(dir, source)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.ExecuteTemplate(&text, d.Name(), data); err != nil {
			return err
		}

		f := File{Path: names.Replace(source)}
		if f.Text, err = formatted(f.Path, text.Bytes()); err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func formatted(path string, text []byte) (string, error) {
	if !strings.HasSuffix(path, ".go") {
		return string(text), nil
	}

	text, err := format.Source(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(text), nil
}

// addEntry returns an edit that adds an entry at the end of the composite literal which the
// variable of the package holds. The literal has one entry a line.
func addEntry(path, variable, entry string) Edit {
	return Edit{Path: path, Apply: func(text []byte) ([]byte, error) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}

		literal, err := literalOf(file, variable)
		if err != nil {
			return nil, err
		}

		end := fset.Position(literal.Rbrace)
		if n := len(literal.Elts); n > 0 && fset.Position(literal.Elts[n-1].End()).Line == end.Line {
			return nil, fmt.Errorf("the entries of %s are not one a line", variable)
		}
		return format.Source(slices.Concat(text[:end.Offset], []byte(entry+",\n"), text[end.Offset:]))
	}}
}

// literalOf returns the composite literal that the variable of the package holds.
func literalOf(file *ast.File, variable string) (*ast.CompositeLit, error) {
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}

		for _, s := range group.Specs {
			v := s.(*ast.ValueSpec)
			if len(v.Names) != 1 || v.Names[0].Name != variable || len(v.Values) != 1 {
				continue
			}
			if literal, ok := v.Values[0].(*ast.CompositeLit); ok {
				return literal, nil
			}
		}
	}

	return nil, fmt.Errorf("has no variable %s that holds a composite literal", variable)
}
