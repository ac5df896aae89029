package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/fs/ggml"
)

// upload sends the local files that the Modelfile names, and names them in the request as the server wants it: by
// their base names.
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
	if err := checkGGUF(f); err != nil {
		return err
	}
	if has, err := b.client.HasBlob(ctx, digest); err != nil || has {
		return err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return b.client.CreateBlob(ctx, digest, f)
}

// checkGGUF refuses a weights file that would crash Ollama when it loads it. Files of other formats pass: Ollama
// itself refuses those it does not know.
func checkGGUF(f *os.File) error {
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n < 4 || string(magic[:]) != "GGUF" {
		return nil
	}
	g, err := ggml.Decode(f, 0)
	if err != nil {
		return fmt.Errorf("this GGUF file cannot be read: %w", err)
	}
	kv := g.KV()
	if kv.Kind() == "adapter" {
		return nil
	}
	if arch := kv.Architecture(); arch == "" || arch == "unknown" {
		return fmt.Errorf("this GGUF file names no general.architecture")
	}
	if kv.BlockCount() == 0 {
		return fmt.Errorf("this GGUF file has no %s.block_count: Ollama would crash when it loads it", kv.Architecture())
	}
	return nil
}

// unaltered says that the version is there and is what the request would make. Digests of two stores differ for the
// same model, so what is compared is what the Modelfile says.
func (b *Builder) unaltered(ctx context.Context, version string, have map[string]string, req *api.CreateRequest) (bool, error) {
	if have[version] == "" {
		return false, nil
	}
	show, err := b.client.Show(ctx, version)
	if err != nil {
		return false, err
	}
	if req.System != "" && show.System != req.System || req.Template != "" && show.Template != req.Template {
		return false, nil
	}
	shown := parameters(show.Parameters)
	for name, value := range req.Parameters {
		var want []string
		switch v := value.(type) {
		case []string:
			want = v
		default:
			want = []string{fmt.Sprint(v)}
		}
		if !slices.EqualFunc(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(shown[name])), sameValue) {
			return false, nil
		}
	}
	return true, nil
}

// sameValue compares two parameters as numbers where both are: 0.7 comes back as a float32 of other digits.
func sameValue(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 32)
	y, errY := strconv.ParseFloat(b, 32)
	if errX == nil && errY == nil {
		return float32(x) == float32(y)
	}
	return a == b
}

// parameters reads what Show says: a name and a value a line, text in quotes, in random order.
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
