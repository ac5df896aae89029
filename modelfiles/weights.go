package modelfiles

import (
	"errors"
	"fmt"
	"io"

	"github.com/ollama/ollama/fs/ggml"
)

// IsGGUF reports whether the file begins as a GGUF file does.
func IsGGUF(f io.ReaderAt) bool {
	var magic [4]byte
	n, _ := f.ReadAt(magic[:], 0)
	return n == len(magic) && string(magic[:]) == "GGUF"
}

// Weights is a file of weights.
type Weights interface {
	io.ReadSeeker
	io.ReaderAt
}

// CheckWeights refuses a file that would crash Ollama when it loads it. Files of other formats
// pass: Ollama itself refuses those it does not know.
func CheckWeights(f Weights) error {
	if !IsGGUF(f) {
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
		return errors.New("this GGUF file names no general.architecture")
	}

	if kv.BlockCount() == 0 {
		return fmt.Errorf("this GGUF file has no %s.block_count: Ollama would crash when it loads it",
			kv.Architecture())
	}

	return nil
}

// IsAdapter reports whether the file is a GGUF of an adapter, which changes a base model and answers
// nothing by itself.
func IsAdapter(f Weights) bool {
	if _, err := f.Seek(0, io.SeekStart); err != nil || !IsGGUF(f) {
		return false
	}

	g, err := ggml.Decode(f, 0)
	return err == nil && g.KV().Kind() == "adapter"
}
