package tinymodel

import (
	"fmt"
	"io"
)

// WriteAdapter writes a LoRA adapter, as a GGUF file, with which the model of Write answers
// AltAnswer.
func WriteAdapter(w io.Writer) error {
	const prompt, alt = 0, 1 // classes
	v := newVocabulary()
	n := uint64(len(v.tokens))
	from, to := make([]float32, dim), make([]float32, n)
	from[prompt] = 1
	to[v.next[alt]] = 32 // twice what the model itself gives the word that follows

	err := writeGGUF(w, map[string]any{
		"general.architecture": "llama",
		"general.type":         "adapter",
		"general.alignment":    uint32(alignment),
		"adapter.type":         "lora",
		"adapter.lora.alpha":   float32(1),
	}, []tensor{
		{"output.weight.lora_a", []uint64{dim, 1}, from},
		{"output.weight.lora_b", []uint64{1, n}, to},
	})
	if err != nil {
		return fmt.Errorf("tinymodel: write GGUF: %w", err)
	}

	return nil
}
