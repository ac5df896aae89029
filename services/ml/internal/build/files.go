package build

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/parser"
)

// upload sends the local files that the Modelfile names, and names them in the request as the
// server wants it: by their base names.
func (b *Builder) upload(ctx context.Context, root *os.Root, req *api.CreateRequest) error {
	for _, files := range []*map[string]string{&req.Files, &req.Adapters} {
		byBase := make(map[string]string, len(*files))
		for path, digest := range *files {
			rel, err := filepath.Rel(filepath.Dir(b.opts.Modelfile), path)
			if err != nil {
				return err
			}
			if err := b.uploadFile(ctx, root, rel, digest); err != nil {
				return fmt.Errorf("%s: %w", rel, err)
			}

			byBase[filepath.Base(path)] = digest
		}

		if len(byBase) > 0 {
			*files = byBase
		}
	}

	return nil
}

func (b *Builder) uploadFile(ctx context.Context, root *os.Root, name, digest string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()

	if err := modelfiles.CheckWeights(f); err != nil {
		return err
	}
	if has, err := b.client.HasBlob(ctx, digest); err != nil || has {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}

	b.set(mlapi.BuildCreating, "uploading "+name, nil)
	return b.client.CreateBlob(ctx, digest, f)
}

// unaltered reports whether the version is there and is what the request would make. It compares
// what the models are made of, as the digests of one model differ between two stores. If the base
// is not there any more, the version only has to hold what the Modelfile says.
func (b *Builder) unaltered(
	ctx context.Context, version string, have map[string]string, req *api.CreateRequest,
) (bool, error) {
	if have[version] == "" {
		return false, nil
	}

	show, err := b.client.Show(ctx, version)
	if ollama.NotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the model %s: %w", version, err)
	}

	base := &api.ShowResponse{}
	if req.From != "" {
		if base, err = b.client.Show(ctx, req.From); err != nil && !ollama.NotFound(err) {
			return false, fmt.Errorf("look at the base model %s: %w", req.From, err)
		}
	}

	want := parameters(base.Parameters)
	for name, value := range req.Parameters {
		if list, ok := value.([]string); ok {
			want[name] = list
		} else {
			want[name] = []string{fmt.Sprint(value)}
		}
	}

	// Of a file, Ollama may guess a template and parameters that go with it; of a lost
	// base, nothing is known.
	inherits := req.From == "" || base.Modelfile == ""
	same := sameParameters(want, parameters(show.Parameters), inherits) &&
		(req.Template == "" && inherits || show.Template == cmp.Or(req.Template, base.Template)) &&
		(req.System == "" && req.From != "" && inherits ||
			show.System == cmp.Or(req.System, base.System))
	if !same {
		return false, nil
	}
	if req.From != "" && inherits {
		return true, nil
	}

	made, err := weights(show.Modelfile)
	if err != nil {
		return false, err
	}

	from, err := weights(base.Modelfile)
	if err != nil {
		return false, err
	}

	for _, files := range []map[string]string{req.Files, req.Adapters} {
		for _, digest := range files {
			from = append(from, strings.Replace(digest, ":", "-", 1))
		}
	}

	slices.Sort(from)
	return slices.Equal(slices.Compact(from), made), nil
}

// weights returns the blobs that a shown Modelfile names in FROM and ADAPTER (sha256-...), sorted.
func weights(shown string) ([]string, error) {
	if shown == "" {
		return nil, nil
	}

	m, err := parser.ParseFile(strings.NewReader(shown))
	if err != nil {
		return nil, fmt.Errorf("read the Modelfile that Ollama shows: %w", err)
	}

	var out []string
	for _, c := range m.Commands {
		if c.Name == "model" || c.Name == "adapter" {
			out = append(out, path.Base(filepath.ToSlash(c.Args)))
		}
	}

	slices.Sort(out)
	return slices.Compact(out), nil
}

// sameParameters reports whether each parameter has the values that it should, in any order. Unless
// more are allowed there must be no others.
func sameParameters(want, got map[string][]string, more bool) bool {
	for name, values := range want {
		if !slices.EqualFunc(slices.Sorted(slices.Values(values)), slices.Sorted(slices.Values(got[name])), sameValue) {
			return false
		}
	}
	return more || len(got) == len(want)
}

// sameValue reports whether two parameters are equal, as numbers if both are: Ollama returns 0.7 as
// a float32 with other digits.
func sameValue(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 32)
	y, errY := strconv.ParseFloat(b, 32)
	if errX == nil && errY == nil {
		return float32(x) == float32(y)
	}
	return a == b
}

// parameters reads the parameters that Show returns: a name and a value a line, text in quotes, in
// random order.
func parameters(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}

		value = strings.TrimSpace(value)
		if s, err := strconv.Unquote(value); err == nil {
			value = s
		}

		out[name] = append(out[name], value)
	}

	return out
}
